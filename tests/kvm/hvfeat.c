// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hvfeat.h"

/* Of QEMU with -icount shift=2, and of Bochs with ips=100000000 (run.sh). */
#define QEMU_NS 4
#define BOCHS_NS 10

static int count, failed, device = -1;
static unsigned seed = 1;

void some_begin(unsigned first)
{
    seed = first;
}

unsigned some(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % n;
}

static void result(bool good, const char *format, va_list args)
{
    printf("%s %d - ", good ? "ok" : "not ok", ++count);
    vprintf(format, args);
    failed += !good;
}

void ok(bool good, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    result(good, format, args);
    va_end(args);
    printf("\n");
}

void is(long long found, long long expected, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    result(found == expected, format, args);
    va_end(args);
    printf("\n");
    if (found != expected)
        printf("# found %lld, expected %lld\n", found, expected);
}

void skip(const char *name, const char *why)
{
    printf("ok %d - %s # SKIP %s\n", ++count, name, why);
}

int request(unsigned long number, void *argument)
{
    if (device < 0)
        device = open(KVM_HVFEAT_DEVICE, O_RDWR | O_CLOEXEC);
    if (device < 0)
        die(KVM_HVFEAT_DEVICE);
    return ioctl(device, number, argument) ? errno : 0;
}

int enable(int vm_fd, unsigned feature, uint64_t param)
{
    struct kvm_hvfeat_control c = {{KVM_HVFEAT_ABI, feature, vm_fd, 0}, {param}};

    return request(KVM_HVFEAT_ENABLE, &c);
}

int disable(int vm_fd, unsigned feature)
{
    struct kvm_hvfeat_control c = {{KVM_HVFEAT_ABI, feature, vm_fd, 0}, {0}};

    return request(KVM_HVFEAT_DISABLE, &c);
}

int info(int vm_fd, unsigned feature, struct kvm_hvfeat_info *info)
{
    memset(info, 0xff, sizeof(*info));
    info->target = (struct kvm_hvfeat_target){KVM_HVFEAT_ABI, feature, vm_fd, 0};
    return request(KVM_HVFEAT_GET_INFO, info);
}

int get_state(int vm_fd, unsigned feature, void *data, uint32_t *size)
{
    struct kvm_hvfeat_state s = {{KVM_HVFEAT_ABI, feature, vm_fd, 0}, 0, *size, (uintptr_t)data};
    int r = request(KVM_HVFEAT_GET_STATE, &s);

    *size = s.size;
    return r;
}

int set_state(int vm_fd, unsigned feature, const void *data, uint32_t size, uint32_t version)
{
    struct kvm_hvfeat_state s = {
        {KVM_HVFEAT_ABI, feature, vm_fd, 0}, version, size, (uintptr_t)data};

    return request(KVM_HVFEAT_SET_STATE, &s);
}

long long counter(int vm_fd, unsigned feature, const char *name)
{
    struct kvm_hvfeat_stats s = {{KVM_HVFEAT_ABI, feature, vm_fd, 0}, 0, 0, {{"", 0}}};
    int r = request(KVM_HVFEAT_GET_STATS, &s);

    if (r)
        return -r;
    for (unsigned i = 0; i < s.count; i++)
        if (!strcmp(s.stat[i].name, name))
            return (long long)s.stat[i].value;
    return -ENOENT;
}

void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        printf("# cannot write %s\n", path);
    close(fd);
}

static struct nlattr *next(struct nlattr *a)
{
    return (struct nlattr *)((char *)a + NLA_ALIGN(a->nla_len));
}

/* Attribute of a type among those from first to end; NULL: none. */
static struct nlattr *find(void *first, void *end, int type)
{
    for (struct nlattr *a = first; (void *)(a + 1) <= end && a->nla_len >= NLA_HDRLEN; a = next(a))
        if ((a->nla_type & NLA_TYPE_MASK) == type)
            return a;
    return NULL;
}

static void *payload(struct nlattr *a)
{
    return (char *)a + NLA_HDRLEN;
}

static void *end(struct nlattr *a)
{
    return (char *)a + a->nla_len;
}

int events_open(void)
{
    struct {
        struct nlmsghdr n;
        struct genlmsghdr g;
        struct nlattr a;
        char name[16];
    } ask = {{0, GENL_ID_CTRL, NLM_F_REQUEST, 1, 0},
             {CTRL_CMD_GETFAMILY, 1, 0},
             {0, CTRL_ATTR_FAMILY_NAME},
             KVM_HVFEAT_GENL_NAME};
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    char buffer[4096];
    struct nlmsghdr *n = (void *)buffer;
    struct nlattr *groups, *group, *id;
    ssize_t size;

    ask.a.nla_len = NLA_HDRLEN + sizeof(KVM_HVFEAT_GENL_NAME);
    ask.n.nlmsg_len = (uint32_t)(NLMSG_LENGTH(GENL_HDRLEN) + NLA_ALIGN(ask.a.nla_len));
    if (send(s, &ask, ask.n.nlmsg_len, 0) < 0 || (size = recv(s, buffer, sizeof(buffer), 0)) < 0)
        die("generic netlink");
    groups = n->nlmsg_type == GENL_ID_CTRL
                 ? find((char *)NLMSG_DATA(n) + GENL_HDRLEN, buffer + size, CTRL_ATTR_MCAST_GROUPS)
                 : NULL;
    group = groups ? payload(groups) : NULL;
    id = group ? find(payload(group), end(group), CTRL_ATTR_MCAST_GRP_ID) : NULL;
    if (!id || setsockopt(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, payload(id), 4)) {
        close(s);
        return -1;
    }
    return s;
}

struct event events_next(int socket, int ms)
{
    struct pollfd p = {socket, POLLIN, 0};
    struct event e = {0};
    char buffer[4096];
    struct nlmsghdr *n = (void *)buffer;
    struct nlattr *a;
    char *first;
    ssize_t size;

    if (poll(&p, 1, ms) <= 0 || (size = recv(socket, buffer, sizeof(buffer), 0)) < 0)
        return e;
    first = (char *)NLMSG_DATA(n) + GENL_HDRLEN;
    e.event = ((struct genlmsghdr *)NLMSG_DATA(n))->cmd;
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_FEATURE)))
        memcpy(&e.feature, payload(a), 4);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_VM_PID)))
        memcpy(&e.pid, payload(a), 4);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_VCPU)))
        memcpy(&e.vcpu, payload(a), 4);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_COUNT)))
        memcpy(&e.count, payload(a), 8);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_RIP)))
        memcpy(&e.rip, payload(a), 8);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_VIEW)))
        memcpy(&e.view, payload(a), 4);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_GFN)))
        memcpy(&e.gfn, payload(a), 8);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_ACCESS)))
        memcpy(&e.access, payload(a), 4);
    if ((a = find(first, buffer + size, KVM_HVFEAT_ATTR_REGISTER)))
        memcpy(e.reg, payload(a), a->nla_len - NLA_HDRLEN < 8 ? a->nla_len - NLA_HDRLEN : 7);
    return e;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "patched";
    int seconds = argc > 2 ? atoi(argv[2]) : 2;

    setvbuf(stdout, NULL, _IOLBF, 0);
    some_begin(argc > 3 ? (unsigned)atoi(argv[3]) : 1);
    if (!strcmp(what, "stock")) {
        test_cost(false, QEMU_NS);
        test_abi(false);
        test_apicv_off();
        test_eptp_refused();
    } else if (!strcmp(what, "vmx-stock")) {
        test_cost(false, BOCHS_NS);
    } else if (!strcmp(what, "patched") || !strcmp(what, "vmx")) {
        test_cost(true, !strcmp(what, "vmx") ? BOCHS_NS : QEMU_NS);
        test_abi(true);
        test_desc();
        test_lock();
        test_smm();
        test_state();
        test_quantum();
        test_apicv_off();
        if (!strcmp(what, "patched"))
            test_eptp_refused();
        test_events();
        if (!strcmp(what, "vmx")) {
            test_eptp();
            test_eptp_hostile(seconds);
        }
    } else if (!strcmp(what, "eptp")) {
        test_eptp();
        test_eptp_hostile(seconds);
    } else if (!strcmp(what, "eptp-hostile")) {
        test_eptp_hostile(seconds);
    } else if (!strcmp(what, "hostile")) {
        test_hostile(seconds);
    } else if (!strcmp(what, "avic")) {
        test_apicv_forced(true);
    } else if (!strcmp(what, "avic-stock")) {
        test_apicv_forced(false);
    } else {
        fprintf(stderr,
                "usage: %s [patched|stock|vmx-stock|avic|avic-stock|"
                "{vmx|eptp|eptp-hostile|hostile} [SECONDS [SEED]]]\n",
                argv[0]);
        return 2;
    }
    printf("1..%d\n", count);
    return failed != 0;
}
