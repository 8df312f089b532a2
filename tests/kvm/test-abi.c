// SPDX-License-Identifier: LGPL-2.1-or-later
/* Requests and their errors, and the report: with a patched kvm and with the stock one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "hvfeat.h"

static bool amd(void)
{
    return access("/sys/module/kvm_amd", F_OK) == 0;
}

static void version(bool patched)
{
    struct kvm_hvfeat_version v;
    struct utsname u;

    memset(&v, 0xff, sizeof(v));
    uname(&u);
    is(request(KVM_HVFEAT_GET_VERSION, &v), 0, "GET_VERSION");
    ok(v.abi == KVM_HVFEAT_ABI && v.abi_min <= v.abi, "the module speaks this ABI");
    is(v.nr_features, KVM_HVFEAT_NR_FEATURES, "it knows all features");
    is(v.flags, patched ? 3 : 1, "kvm is loaded and %s", patched ? "patched" : "stock");
    ok(!strcmp(v.kernel, u.release), "its kernel is this one");
}

/* The words that the report must say on this emulated CPU. */
static void reports(bool patched)
{
    static const char *const files[] = {"hw", "firmware", "kernel", "per_vm"};
    struct kvm_hvfeat_info i;
    char path[128], line[256];
    FILE *f;

    for (unsigned n = 0; n < KVM_HVFEAT_NR_FEATURES; n++) {
        bool same = true;

        is(info(-1, n, &i), 0, "report of feature %u", n);
        printf("# %s: hw %d firmware %d kernel %d per_vm %d: %s\n", i.name, !!(i.flags & 1),
               !!(i.flags & 2), !!(i.flags & 4), !!(i.flags & 8), i.reason_text);
        for (int bit = 0; bit < 4; bit++) {
            snprintf(path, sizeof(path), "/sys/class/misc/kvm_hvfeat/%s/%s", i.name, files[bit]);
            f = fopen(path, "r");
            same = same && f && fgets(line, sizeof(line), f) &&
                   line[0] == (i.flags >> bit & 1 ? '1' : '0');
            if (f)
                fclose(f);
        }
        snprintf(path, sizeof(path), "/sys/class/misc/kvm_hvfeat/%s/reason", i.name);
        f = fopen(path, "r");
        same = same && f && fgets(line, sizeof(line), f);
        line[strcspn(line, "\n")] = 0;
        ok(same && !strcmp(line, i.reason_text), "sysfs says the same of %s", i.name);
        if (f)
            fclose(f);
        ok((i.flags & KVM_HVFEAT_PER_VM) ? !i.reason : i.reason && i.reason_text[0],
           "%s works or has a reason not to", i.name);
    }
    info(-1, KVM_HVFEAT_DESC_TABLE, &i);
    is(i.flags & 0xf, patched ? 0xf : 3, "descriptor-table exiting: %s",
       patched ? "all there" : "the kernel lacks it");
    is(i.reason, patched ? KVM_HVFEAT_REASON_NONE : KVM_HVFEAT_REASON_UNPATCHED, "and says why");
    info(-1, amd() ? KVM_HVFEAT_POSTED_INTERRUPTS : KVM_HVFEAT_AVIC, &i);
    is(i.reason, KVM_HVFEAT_REASON_OTHER_VENDOR, "%s is the other vendor's", i.name);
}

static int raw(unsigned abi, unsigned feature, int fd, unsigned flags, uint64_t a, uint64_t b)
{
    struct kvm_hvfeat_control c = {{abi, feature, fd, flags}, {a, b}};

    return request(KVM_HVFEAT_ENABLE, &c);
}

static void errors(bool patched)
{
    const unsigned desc = KVM_HVFEAT_DESC_TABLE, abi = KVM_HVFEAT_ABI;
    struct kvm_hvfeat_control c = {{abi, desc, 0, 0}, {1}};
    struct kvm_hvfeat_info i;
    char data[KVM_HVFEAT_STATE_MAX];
    uint32_t size = sizeof(data);
    int pipes[2], works = patched ? 0 : EOPNOTSUPP;
    Vm vm;

    vm_make(&vm, 1, false);
    if (pipe(pipes))
        die("pipe");
    is(raw(abi, desc, vm.fd, 0, 1, 0), works, "ENABLE");
    is(raw(abi + 1, desc, vm.fd, 0, 1, 0), EPROTO, "a newer ABI");
    is(raw(0, desc, vm.fd, 0, 1, 0), EPROTO, "an older ABI");
    is(raw(abi, KVM_HVFEAT_NR_FEATURES, vm.fd, 0, 1, 0), EINVAL, "an unknown feature");
    is(raw(abi, ~0u, vm.fd, 0, 1, 0), EINVAL, "feature 4294967295");
    is(raw(abi, desc, vm.fd, 1, 1, 0), EINVAL, "an unknown flag");
    is(raw(abi, desc, -1, 0, 1, 0), EBADF, "no VM");
    is(raw(abi, desc, 1000, 0, 1, 0), EBADF, "a descriptor that is not open");
    is(raw(abi, desc, pipes[0], 0, 1, 0), EBADF, "a pipe for a VM");
    is(raw(abi, desc, vm.kvm, 0, 1, 0), EBADF, "/dev/kvm for a VM");
    is(raw(abi, desc, vm.vcpu[0], 0, 1, 0), EBADF, "a vCPU for a VM");
    is(info(pipes[0], desc, &i), EBADF, "GET_INFO of a pipe");
    is(request(_IOW(0xd7, 0x7f, struct kvm_hvfeat_control), &c), ENOTTY, "an unknown request");
    is(request(KVM_CREATE_VM, &c), ENOTTY, "a request for /dev/kvm");
    is(request(KVM_HVFEAT_ENABLE, NULL), EFAULT, "a bad pointer");
    is(disable(vm.fd, desc), works, "DISABLE");
    c.target.vm_fd = vm.fd;
    is(request(KVM_HVFEAT_DISABLE, &c), EINVAL, "DISABLE with a parameter");
    is(get_state(vm.fd, desc, data, &size), works, "GET_STATE");
    if (!patched)
        size = 100;
    is(set_state(vm.fd, desc, data, size, 99), EPROTO, "a state of another version");
    is(set_state(vm.fd, desc, data, 0, 1), EINVAL, "a state of no bytes");
    is(set_state(vm.fd, desc, NULL, size, 1), EFAULT, "a state at a bad pointer");
    is(counter(vm.fd, desc, "lidt"), -works, "GET_STATS");
    is(enable(vm.fd, amd() ? KVM_HVFEAT_POSTED_INTERRUPTS : KVM_HVFEAT_AVIC, 0), ENXIO,
       "a feature of the other vendor");
    if (patched) {
        is(raw(abi, desc, vm.fd, 0, 0, 0), EINVAL, "no mode");
        is(raw(abi, desc, vm.fd, 0, 8, 0), EINVAL, "an unknown mode");
        is(raw(abi, desc, vm.fd, 0, 1ULL << 32 | 1, 0), EINVAL, "an unknown mode in the high half");
        is(raw(abi, desc, vm.fd, 0, 1, 1), EINVAL, "a second parameter");
        is(set_state(vm.fd, desc, data, size - 1, 1), EINVAL, "a state that is cut short");
        data[0] = 77;
        is(set_state(vm.fd, desc, data, size, 1), EINVAL, "a state of another feature");
        size = 10;
        is(get_state(vm.fd, desc, data, &size), ENOSPC, "no room for the state");
        ok(size > 10 && size <= KVM_HVFEAT_STATE_MAX, "and how much it needs");
        is(info(vm.fd, desc, &i), 0, "GET_INFO of the VM");
        ok(!(i.flags & (KVM_HVFEAT_VM_ON | KVM_HVFEAT_VM_WANTED)) && !i.param[0],
           "all those errors have changed nothing");
    }
    close(pipes[0]);
    close(pipes[1]);
    vm_free(&vm);
}

/* QEMU's VM is another process's, where KVM's own ioctls are refused. */
static void foreign(bool patched)
{
    int status, error = 255, to_parent[2];
    pid_t parent = getpid();
    Vm vm;

    vm_make(&vm, 1, false);
    if (pipe(to_parent))
        die("pipe");
    fflush(stdout);
    if (fork() == 0) {
        int pidfd = (int)syscall(SYS_pidfd_open, parent, 0);
        int fd = (int)syscall(SYS_pidfd_getfd, pidfd, vm.fd, 0);

        close(vm.fd);
        error = fd < 0 ? 254 : enable(fd, KVM_HVFEAT_DESC_TABLE, KVM_HVFEAT_DESC_COUNT);
        _exit(error);
    }
    wait(&status);
    is(WEXITSTATUS(status), patched ? 0 : EOPNOTSUPP, "another process acts on our VM");
    if (patched) {
        struct kvm_hvfeat_info i;

        info(vm.fd, KVM_HVFEAT_DESC_TABLE, &i);
        is((long long)i.param[0], KVM_HVFEAT_DESC_COUNT, "and it has acted");
    }
    vm_free(&vm);
    fflush(stdout);
    if (fork() == 0) {
        if (setuid(65534))
            _exit(255);
        _exit(disable(0, KVM_HVFEAT_DESC_TABLE));
    }
    wait(&status);
    is(WEXITSTATUS(status), EPERM, "a process without CAP_SYS_ADMIN");
}

void test_abi(bool patched)
{
    version(patched);
    reports(patched);
    errors(patched);
    foreign(patched);
}
