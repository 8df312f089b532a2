/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fixture.h"

#include "util/clock.h"
#include "util/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "ft"
#define MEMORY "262152" /* KiB: no multiple of 256 (lab/README: bug B of TCG) */
#define READY_WAIT_S 60

static const char *const alias[DISKS] = {"virtio-disk0", "virtio-disk1"};
static int home_ns = -1;

double lab_now_ms(void)
{
    return (double)colo_clock_ns() / 1e6;
}

void lab_enter(Host *host)
{
    int ns;

    if (home_ns < 0)
        home_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ns = host ? open(host->netns, O_RDONLY | O_CLOEXEC) : home_ns;
    g_assert_cmpint(setns(ns, CLONE_NEWNET), ==, 0);
    if (host)
        close(ns);
}

static char *domain_xml(Host *host, const char *serial, const char *bridge, gboolean incoming)
{
    const char *dir = g_getenv("COLO_STEPS_DIR"), *guest = g_getenv("COLO_STEPS_GUEST");

    return g_strdup_printf(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<name>" NAME "</name><uuid>" UUID "</uuid><memory unit='KiB'>" MEMORY "</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>"
        "<kernel>%s/vmlinuz</kernel><initrd>%s/initrd</initrd>"
        "<cmdline>console=ttyS0 quiet panic=-1 disk=20</cmdline></os><features><acpi/></features>"
        "<cpu mode='custom' match='exact'><model>qemu64</model></cpu>"
        "<on_reboot>destroy</on_reboot><on_crash>destroy</on_crash><devices>"
        "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
        "<interface type='bridge'><mac address='52:54:00:77:00:10'/><source bridge='%s'/>"
        "<model type='virtio'/><driver name='qemu'/></interface>"
        "<serial type='file'><source path='%s'/><target port='0'/></serial>"
        "<memballoon model='none'/></devices><qemu:commandline>"
        "<qemu:arg value='-m'/><qemu:arg value='" MEMORY "K'/><qemu:arg value='-object'/>"
        "<qemu:arg value='memory-backend-ram,id=xram,size=" MEMORY "K'/>"
        "<qemu:arg value='-machine'/><qemu:arg value='memory-backend=xram'/>%s"
        "<qemu:env name='LD_PRELOAD' value='%s/bqlfix.so'/></qemu:commandline></domain>",
        guest, guest, host->copy[0], host->copy[1], bridge, serial,
        incoming ? "<qemu:arg value='-incoming'/><qemu:arg value='defer'/>" : "", dir);
}

static pid_t qemu_pid(const char *name)
{
    g_autofree char *path =
        g_strdup_printf("%s/%s/run/libvirt/qemu/" NAME ".pid", g_getenv("COLO_STEPS_DIR"), name);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return (pid_t)atoi(text);
}

/* Starts the domain on the host in folder @name. */
static void host_start(Host *host, const char *name, gboolean incoming)
{
    const char *dir = g_getenv("COLO_STEPS_DIR"), *net = g_getenv("COLO_STEPS_NET");
    g_autofree char *uri =
        g_strdup_printf("qemu+unix:///system?socket=%s/%s/run/libvirt/libvirt-sock", dir, name);
    g_autofree char *serial = g_strdup_printf("%s/%s/serial.log", dir, name);
    g_autofree char *bridge = g_strdup("br0");
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;

    host->netns = g_strdup_printf("/var/run/netns/%s%s", net, name);
    host->conn = virConnectOpen(uri);
    g_assert_nonnull(host->conn);
    for (int i = 0; i < DISKS; i++) {
        const char *format = i == 0 ? "raw" : "qcow2";
        g_autofree char *command = NULL;

        host->copy[i] = g_strdup_printf("%s/%s/disk%d.%s", dir, name, i, format);
        command =
            g_strdup_printf("qemu-img create -q -f %s %s %dM", format, host->copy[i], DISK_MIB);
        g_assert_true(g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL));
    }
    if (incoming) {
        g_free(bridge);
        bridge = colo_bridge_quarantine_name(UUID, QUARANTINE_ALIAS);
        lab_enter(host);
        colo_bridge_create(bridge, &error);
        g_assert_no_error(error);
        colo_bridge_create(bridge, &error); /* again: the same */
        g_assert_no_error(error);
        lab_enter(NULL);
    }
    unlink(serial);
    xml = domain_xml(host, serial, bridge, incoming);
    host->dom = virDomainCreateXML(host->conn, xml, incoming ? VIR_DOMAIN_START_PAUSED : 0);
    g_assert_nonnull(host->dom);
    host->pid = qemu_pid(name);
    for (int i = 0; i < DISKS; i++) {
        char *node;
        uint64_t size;

        colo_steps_disk_probe(host->dom, alias[i], &node, &size, &error);
        g_assert_no_error(error);
        host->disk[i] = (ColoStepDisk){.alias = alias[i],
                                       .node = node,
                                       .copy = host->copy[i],
                                       .format = i == 0 ? "raw" : "qcow2",
                                       .size = size};
        g_assert_cmpuint(size, ==, (uint64_t)DISK_MIB << 20);
    }
}

/* A connection to the guest's @port, or -1. */
static int guest_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = 5};
    int one = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, GUEST, &address.sin_addr);
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0)
        return sock;
    close(sock);
    return -1;
}

char *lab_guest_ask(const char *line)
{
    g_autofree char *text = g_strconcat(line, "\n", NULL);
    char answer[512];
    int sock = guest_connect(11);
    ssize_t n;

    if (sock < 0)
        return NULL;
    n = write(sock, text, strlen(text)) > 0 ? read(sock, answer, sizeof(answer) - 1) : -1;
    close(sock);
    if (n <= 0)
        return NULL;
    answer[n] = '\0';
    return g_strdup(g_strchomp(answer));
}

/* Value of "KEY=" in @text. */
static unsigned long long value_of(const char *text, const char *key)
{
    g_autofree char *pattern = g_strconcat(key, "=", NULL);
    const char *at = text ? strstr(text, pattern) : NULL;

    g_assert_nonnull(at);
    return strtoull(at + strlen(pattern), NULL, 10);
}

void lab_disk_good(void)
{
    g_autofree char *first = lab_guest_ask("disk"), *later = NULL;

    g_usleep(600000);
    later = lab_guest_ask("disk");
    g_assert_nonnull(first);
    g_assert_nonnull(later);
    g_test_message("guest disk: %s", later);
    g_assert_cmpuint(value_of(later, "errors"), ==, 0);
    g_assert_cmpuint(value_of(later, "durable"), >, value_of(first, "durable"));
}

void lab_tick(Lab *lab, unsigned timeout_ms)
{
    double end = lab_now_ms() + timeout_ms;
    g_autofree char *expected = NULL;
    char answer[64] = "";
    size_t have = 0;

    if (lab->tick < 0)
        lab->tick = guest_connect(8);
    g_assert_cmpint(lab->tick, >=, 0);
    g_assert_cmpint(write(lab->tick, "x\n", 2), ==, 2);
    expected = g_strdup_printf("%u x\n", ++lab->ticks);
    while (have < strlen(expected)) {
        struct pollfd p = {.fd = lab->tick, .events = POLLIN};
        double left = end - lab_now_ms();
        ssize_t n;

        g_assert_cmpfloat(left, >, 0);
        if (poll(&p, 1, (int)left + 1) <= 0)
            continue;
        n = read(lab->tick, answer + have, strlen(expected) - have);
        g_assert_cmpint(n, >, 0);
        have += (size_t)n;
    }
    g_assert_cmpstr(answer, ==, expected);
}

Lab *lab_start(const char *p_name, const char *s_name)
{
    Lab *lab = g_new0(Lab, 1);
    double end;
    int sock = -1;

    lab->tick = -1;
    lab->nic = (ColoStepNic){.alias = "net0", .vnet_hdr = TRUE, .generation = 7, .rewrite = TRUE};
    lab->relay = relay_new();
    lab_enter(NULL);
    host_start(&lab->p, p_name, FALSE);
    host_start(&lab->s, s_name, TRUE);
    end = lab_now_ms() + READY_WAIT_S * 1000;
    while (sock < 0 && lab_now_ms() < end) {
        g_usleep(100000);
        sock = guest_connect(11);
    }
    g_assert_cmpint(sock, >=, 0);
    close(sock);
    g_usleep(300000);
    return lab;
}

static void host_end(Host *host)
{
    if (host->dom) {
        kill(host->pid, SIGCONT);
        virDomainDestroy(host->dom);
        virDomainFree(host->dom);
    }
    if (host->conn)
        virConnectClose(host->conn);
    for (int i = 0; i < DISKS; i++) {
        colo_steps_overlays_remove(&host->disk[i], NULL);
        g_free((char *)host->disk[i].node);
        unlink(host->copy[i]);
        g_free(host->copy[i]);
    }
    g_free(host->netns);
}

void lab_end(Lab *lab)
{
    if (lab->tick >= 0)
        close(lab->tick);
    host_end(&lab->p);
    host_end(&lab->s);
    relay_free(lab->relay);
    g_free(lab);
}

void lab_kill(Host *host, int signal)
{
    g_assert_cmpint(kill(host->pid, signal), ==, 0);
}

/* The plain node is found below our chain too. */
static void assert_probes(Host *host, int index)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *node = NULL;
    uint64_t size;

    colo_steps_disk_probe(host->dom, alias[index], &node, &size, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(node, ==, host->disk[index].node);
    g_assert_cmpuint(size, ==, host->disk[index].size);
}

static void protect_disks(Lab *lab)
{
    g_autoptr(GError) error = NULL;
    ColoMirrorState state;
    int server[DISKS];

    for (int i = 0; i < DISKS; i++) {
        colo_steps_overlays_create(&lab->s.disk[i], FALSE, &error);
        g_assert_no_error(error);
        g_assert_false(colo_steps_overlays_create(&lab->s.disk[i], FALSE, NULL));
        colo_steps_disk_insert(lab->s.dom, &lab->s.disk[i], &error);
        g_assert_no_error(error);
        colo_steps_disk_insert(lab->s.dom, &lab->s.disk[i], &error); /* again: the same */
        g_assert_no_error(error);
        assert_probes(&lab->s, i);
    }
    colo_steps_nbd_start(lab->s.dom, lab->s.disk, DISKS, server, &error);
    g_assert_no_error(error);
    for (int i = 0; i < DISKS; i++) {
        int client = colo_steps_mirror_prepare(lab->p.dom, &lab->p.disk[i], &error);

        g_assert_no_error(error);
        relay_pair(lab->relay, RELAY_NBD, client, server[i]);
        colo_steps_mirror_start(lab->p.dom, &lab->p.disk[i], &error);
        g_assert_no_error(error);
    }
    for (int i = 0; i < DISKS; i++) {
        do {
            colo_steps_mirror_state(lab->p.dom, &lab->p.disk[i], &state, &error);
            g_assert_no_error(error);
            g_assert_true(state.present);
            g_assert_false(state.failed);
            g_usleep(5000);
        } while (!state.ready);
    }
}

static void protect_net(Lab *lab)
{
    g_autoptr(GError) error = NULL;
    ColoNicFds p, s;

    colo_steps_net_channels(lab->p.dom, &lab->nic, COLO_STEPS_PRIMARY, &p, &error);
    g_assert_no_error(error);
    colo_steps_net_channels(lab->s.dom, &lab->nic, COLO_STEPS_SECONDARY, &s, &error);
    g_assert_no_error(error);
    relay_pair(lab->relay, RELAY_NET, p.out, p.release);
    relay_pair(lab->relay, RELAY_NET, p.mirror, s.in);
    relay_pair(lab->relay, RELAY_NET, s.out, -1);
    relay_pair(lab->relay, RELAY_NET, s.take, -1);
    relay_pair(lab->relay, RELAY_NET, s.release, -1);
    colo_steps_net_filters(lab->s.dom, &lab->nic, COLO_STEPS_SECONDARY, &error);
    g_assert_no_error(error);
    colo_steps_net_filters(lab->p.dom, &lab->nic, COLO_STEPS_PRIMARY, &error);
    g_assert_no_error(error);
}

static void wait_colo(virDomainPtr dom)
{
    double start = lab_now_ms();
    g_autoptr(GError) error = NULL;
    ColoMigrateState state;

    do {
        g_assert_cmpfloat(lab_now_ms() - start, <, 30000);
        g_usleep(50000);
        colo_steps_migrate_state(dom, &state, &error);
        g_assert_no_error(error);
        g_assert_cmpint(state.status, !=, COLO_MIGRATE_FAILED);
    } while (state.status != COLO_MIGRATE_COLO || strcmp(state.colo_mode, "none") == 0);
}

void lab_protect(Lab *lab, uint64_t delay_ms)
{
    double start = lab_now_ms();
    g_autoptr(GError) error = NULL;
    gboolean running = FALSE;
    int p, s;

    protect_disks(lab);
    g_test_message("disks mirrored after %.0f ms", lab_now_ms() - start);
    protect_net(lab);
    colo_steps_set_xcolo(lab->p.dom, TRUE, &error);
    g_assert_no_error(error);
    colo_steps_set_xcolo(lab->s.dom, TRUE, &error);
    g_assert_no_error(error);
    colo_steps_set_parameters(lab->p.dom, delay_ms, UINT64_C(1) << 34, &error);
    g_assert_no_error(error);
    s = colo_steps_migrate_incoming(lab->s.dom, &error);
    g_assert_no_error(error);
    p = colo_steps_migrate_start(lab->p.dom, &error);
    g_assert_no_error(error);
    relay_pair(lab->relay, RELAY_MIGRATION, p, s);
    wait_colo(lab->p.dom);
    wait_colo(lab->s.dom);
    g_test_message("both in COLO after %.0f ms", lab_now_ms() - start);
    while (!running) { /* QEMU cannot take a kick before */
        colo_steps_is_running(lab->p.dom, &running, &error);
        g_assert_no_error(error);
        g_usleep(1000);
    }
    colo_steps_kick(lab->p.dom, delay_ms, &error);
    g_assert_no_error(error);
    while (relay_loaded(lab->relay) < 1)
        g_usleep(1000);
    lab->enable_ms = lab_now_ms() - start;
    g_test_message("first checkpoint LOADED after %.0f ms", lab->enable_ms);
}

void lab_takeover(Lab *lab, gboolean with_tail, gboolean whole, gboolean *tails)
{
    double start = lab_now_ms(), t[6];
    g_autoptr(GError) error = NULL;
    g_autofree char *tap = NULL;
    gboolean running;

    tap = colo_steps_net_tap(lab->s.dom, QUARANTINE_ALIAS, &error);
    g_assert_no_error(error);
    start = lab_now_ms();
    relay_close(lab->relay, RELAY_MIGRATION);
    relay_close(lab->relay, RELAY_NBD);
    relay_close(lab->relay, RELAY_NET);
    colo_steps_disk_takeover(lab->s.dom, lab->s.disk, DISKS, with_tail, tails, &error);
    g_assert_no_error(error);
    t[0] = lab_now_ms();
    colo_steps_net_cut(lab->s.dom, &lab->nic, &error);
    g_assert_no_error(error);
    t[1] = lab_now_ms();
    lab_enter(&lab->s);
    colo_bridge_set_master(tap, "br0", &error);
    g_assert_no_error(error);
    lab_enter(NULL);
    t[2] = lab_now_ms();
    colo_steps_lost_heartbeat(lab->s.dom, &error);
    g_assert_no_error(error);
    t[3] = lab_now_ms();
    if (!whole)
        return;
    colo_steps_announce_self(lab->s.dom, &error);
    g_assert_no_error(error);
    t[4] = lab_now_ms();
    colo_steps_wait_colo_left(lab->s.dom, 10000, &error);
    g_assert_no_error(error);
    t[5] = lab_now_ms();
    colo_steps_net_remove(lab->s.dom, 0, &error);
    g_assert_no_error(error);
    g_test_message("takeover ms: disks %.1f, redirectors %.1f, tap %.1f, lost-heartbeat %.1f, "
                   "announce %.1f, running %.1f",
                   t[0] - start, t[1] - start, t[2] - start, t[3] - start, t[4] - start,
                   t[5] - start);
    /* A restarted virtcolod repeats it: the running guest is not touched. */
    colo_steps_disk_takeover(lab->s.dom, lab->s.disk, DISKS, with_tail, NULL, &error);
    g_assert_no_error(error);
    colo_steps_lost_heartbeat(lab->s.dom, &error);
    g_assert_no_error(error);
    colo_steps_net_cut(lab->s.dom, &lab->nic, &error);
    g_assert_no_error(error);
    colo_steps_is_running(lab->s.dom, &running, &error);
    g_assert_no_error(error);
    g_assert_true(running);
    for (int i = 0; i < DISKS; i++)
        assert_probes(&lab->s, i);
}

static gboolean mark_dead(ColoOverlays which, void *data, GError **error)
{
    Lab *lab = data;

    if (lab->refuse_mark) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE, "the store refuses");
        return FALSE;
    }
    g_assert_cmpint(which, ==, COLO_OVERLAY_CHAIN | COLO_OVERLAY_TAIL);
    lab->marked++;
    return TRUE;
}

const ColoReturnOptions *lab_return_options(Lab *lab)
{
    static ColoReturnOptions options;

    options = (ColoReturnOptions){.mark_dead = mark_dead, .data = lab, .merge_timeout_ms = 60000};
    return &options;
}

void lab_io(Host *host, int index, const char *command)
{
    g_autofree char *line = g_strdup_printf(
        "qemu-io -d /machine/peripheral/%s/virtio-backend \"%s\"", alias[index], command);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) text =
        colo_qmp(host->dom, "human-monitor-command",
                 colo_json_build("command-line", "s", line, NULL), -1, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(json_object_get_string(text), ==,
                    ""); /* qemu-io prints to QEMU's own output, errors come here */
}

void lab_check_file(const char *path, unsigned pattern, unsigned from, unsigned to)
{
    g_autofree char *command = g_strdup_printf("read -P %u %uM %uM", pattern, from, to - from);
    const char *argv[] = {"qemu-io", "-r",    "-f", g_str_has_suffix(path, "raw") ? "raw" : "qcow2",
                          "-c",      command, path, NULL};
    g_autofree char *out = NULL;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                               NULL, NULL, NULL));
    if (strstr(out, "Pattern") || !strstr(out, "read "))
        g_test_message("%s: %s: %s", path, command, out);
    g_assert_null(strstr(out, "Pattern"));
    g_assert_nonnull(strstr(out, "read "));
}
