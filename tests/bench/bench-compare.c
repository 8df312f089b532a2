/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The running comparator beside QEMU's own (net/colo-compare.c, standalone with an iothread), fed
 * with the same frames by the same generator, one after the other in one run.
 *
 * Ours is the primary's helper as in production: its guest's frames from a socket pair, the
 * secondary's through TLS from a second helper that plays the peer, released ones to a socket pair.
 * The processor time is that of the primary's helper alone. QEMU reads both sides from unix sockets
 * in the clear. The floor is a process that reads both sides like that and writes what one said.
 *
 * A packet is a pair: one frame of each copy, compared and released. TCP, IPv4, in sequence, equal.
 * The latency is from the moment when the second copy's frame arrives at the one who compares, just
 * before it is written to that socket, to the read of the released one: for ours this is the TLS
 * record of the peer's helper, which a relay between the two hands on (the first of a burst's). The
 * whole way, peer's helper and its TLS included, is printed beside it.
 */
#include "../unit/test-comparator-lab.h"

#include "util/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEADERS 54u      /* Ethernet, IPv4, TCP */
#define PREFIX 4u        /* be32 length */
#define FRAME_MAX 1600u  /* with prefix */
#define BATCH 64u        /* frames a write */
#define WINDOW 512u      /* pairs under way: QEMU's queue holds 1024 frames */
#define ROUNDS 5         /* of each target */
#define PINGS 2048u      /* pairs for the latency */
#define STALL_MS 5000    /* a target that gives nothing for so long has lost frames */
#define PORT_FIRST 1024u /* of the client */
#define PORTS 60000u

#define RELAYED 8u /* connections of the relay: more than the streams of a session */

static const size_t sizes[] = {1460, 64, 1};
static const unsigned flow_counts[] = {1, 64, 10000};

/* Hands on what two helpers say to one another. */
typedef struct {
    int listener, port, to;
    GThread *thread;
    atomic_bool end;
    _Atomic uint64_t arrived_ns; /* when it did first for the primary's since this was 0 */
} Relay;

/* Something that compares. */
typedef struct {
    const char *name;
    int side[2]; /* primary, secondary */
    int out;
    pid_t pid;
    unsigned serial; /* cases so far: each has connections of its own */
    char *folder;    /* QEMU's sockets */
    Lab lab;         /* ours */
    Relay *relay;    /* ours, for the latency */
} Target;

typedef enum { OURS, QEMU, FLOOR, TARGETS, OURS_RELAYED } TargetKind;

/* One stream of equal frames to both sides of a target. */
typedef struct {
    Target *target;
    size_t payload, whole; /* of one frame with its prefix */
    unsigned flows;
    uint64_t sent[2], got;
    size_t got_bytes;
    struct {
        uint8_t *data;
        size_t len, done;
    } buffer[2];
} Load;

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

static unsigned ip_sum(const uint8_t *ip)
{
    uint32_t sum = 0;

    for (int i = 0; i < 20; i += 2)
        sum += (unsigned)ip[i] << 8 | ip[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

/* Frame @n of the load: the flows take turns. Checksums of TCP are not looked at by either. */
static void put_frame(const Load *load, uint64_t n, uint8_t *to)
{
    uint8_t *frame = to + PREFIX, *ip = frame + 14, *tcp = ip + 20;
    uint32_t turn = (uint32_t)(n / load->flows);

    put32(to, (uint32_t)(HEADERS + load->payload));
    memcpy(frame, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2\x08\0", 14);
    memset(ip, 0, 40);
    ip[0] = 0x45;
    put16(ip + 2, (unsigned)(40 + load->payload));
    put16(ip + 4, (unsigned)n & 0xffff);
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, "\x0a\0\0\1\x0a\1", 6);
    put16(ip + 18, load->target->serial);
    put16(ip + 10, ip_sum(ip));
    put16(tcp, 80);
    put16(tcp + 2, PORT_FIRST + (unsigned)(n % load->flows) % PORTS);
    put32(tcp + 4, 1000 + turn * (uint32_t)load->payload);
    put32(tcp + 8, 5000);
    tcp[12] = 0x50;
    tcp[13] = 0x18;
    put16(tcp + 14, 65535);
    memset(tcp + 20, (int)(turn + 1), load->payload);
}

static void load_begin(Load *load, Target *target, size_t payload, unsigned flows)
{
    memset(load, 0, sizeof(*load));
    load->target = target;
    load->payload = payload;
    load->whole = PREFIX + HEADERS + payload;
    load->flows = flows;
    target->serial++;
    for (int i = 0; i < 2; i++)
        load->buffer[i].data = g_malloc(BATCH * FRAME_MAX);
}

static void load_end(Load *load)
{
    g_free(load->buffer[0].data);
    g_free(load->buffer[1].data);
}

static void fill(Load *load, int side, uint64_t n)
{
    load->buffer[side].len = load->buffer[side].done = 0;
    for (unsigned i = 0; i < BATCH && load->sent[side] < n && load->sent[side] - load->got < WINDOW;
         i++) {
        put_frame(load, load->sent[side]++, load->buffer[side].data + load->buffer[side].len);
        load->buffer[side].len += load->whole;
    }
}

static bool push(Load *load, int side)
{
    ssize_t n = send(load->target->side[side], load->buffer[side].data + load->buffer[side].done,
                     load->buffer[side].len - load->buffer[side].done, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        return false;
    load->buffer[side].done += n > 0 ? (size_t)n : 0;
    return true;
}

/* Sends until @n pairs have been sent and released. False when the target has stopped. */
static bool load_run(Load *load, uint64_t n)
{
    static uint8_t heard[1 << 20];
    Target *target = load->target;

    while (load->got < n) {
        struct pollfd polls[3] = {{target->out, POLLIN, 0}};

        for (int i = 0; i < 2; i++) {
            if (load->buffer[i].done == load->buffer[i].len)
                fill(load, i, n);
            polls[1 + i].fd = target->side[i];
            polls[1 + i].events = load->buffer[i].done < load->buffer[i].len ? POLLOUT : 0;
        }
        if (poll(polls, 3, STALL_MS) <= 0)
            return false;
        for (int i = 0; i < 2; i++) {
            if ((polls[1 + i].revents & POLLOUT) && !push(load, i))
                return false;
        }
        if (polls[0].revents) {
            ssize_t got = recv(target->out, heard, sizeof(heard), MSG_DONTWAIT);

            if (got == 0 || (got < 0 && errno != EAGAIN))
                return false;
            load->got_bytes += got > 0 ? (size_t)got : 0;
            load->got = load->got_bytes / load->whole;
        }
    }
    return true;
}

/* ---- the targets ---- */

/* The helper may say much in a run: it cuts a controller off that does not listen. */
static void listen_to(Target *target)
{
    if (target->lab.p.pid) {
        lab_forget(&target->lab.p, NULL);
        lab_forget(&target->lab.s, NULL);
    }
}

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), ==, 0);
    return fd;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* One piece from @from to @to; false at the end of the connection. */
static bool hand_on(Relay *relay, int from, int to, bool to_primary)
{
    static uint8_t data[1 << 16];
    ssize_t n = recv(from, data, sizeof(data), 0);

    if (n > 0 && to_primary && !relay->arrived_ns)
        relay->arrived_ns = colo_clock_ns();
    for (ssize_t at = 0, sent; at < n; at += sent) {
        sent = send(to, data + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
    }
    return n > 0;
}

/* The primary's helper connects; the other end of each pair is the secondary's. */
static void *run_relay(void *opaque)
{
    Relay *relay = opaque;
    struct pollfd polls[1 + 2 * RELAYED] = {{relay->listener, POLLIN, 0}};
    unsigned n = 1;

    while (!relay->end) {
        if (poll(polls, n, 100) <= 0)
            continue;
        for (unsigned i = 1; i < n; i++) {
            unsigned other = ((i - 1) ^ 1) + 1;

            if (polls[i].revents && !hand_on(relay, polls[i].fd, polls[other].fd, i % 2 == 0)) {
                (void)shutdown(polls[other].fd, SHUT_WR);
                polls[i].events = 0;
                polls[i].fd = ~polls[i].fd; /* poll() passes it over */
            }
        }
        if (polls[0].revents && n + 2 <= G_N_ELEMENTS(polls)) {
            struct sockaddr_in address = loopback(relay->to);
            int in = accept(relay->listener, NULL, NULL), out = tcp_socket(), one = 1;

            g_assert_cmpint(connect(out, (struct sockaddr *)&address, sizeof(address)), ==, 0);
            (void)setsockopt(in, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            polls[n++] = (struct pollfd){in, POLLIN, 0};
            polls[n++] = (struct pollfd){out, POLLIN, 0};
        }
    }
    for (unsigned i = 0; i < n; i++)
        close(polls[i].fd < 0 ? ~polls[i].fd : polls[i].fd);
    return NULL;
}

static Relay *relay_start(int to)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof(address);
    Relay *relay = g_new0(Relay, 1);

    relay->to = to;
    relay->listener = tcp_socket();
    g_assert_cmpint(bind(relay->listener, (struct sockaddr *)&address, len), ==, 0);
    g_assert_cmpint(listen(relay->listener, RELAYED), ==, 0);
    g_assert_cmpint(getsockname(relay->listener, (struct sockaddr *)&address, &len), ==, 0);
    relay->port = ntohs(address.sin_port);
    relay->thread = g_thread_new("relay", run_relay, relay);
    return relay;
}

static void relay_stop(Relay *relay)
{
    relay->end = true;
    g_thread_join(relay->thread);
    g_free(relay);
}

static void start_ours(Target *target, bool relayed)
{
    lab_lenient = TRUE; /* as in production */
    lab_start(&target->lab);
    if (relayed) {
        target->relay = relay_start(target->lab.s.port);
        target->lab.via_port = target->relay->port;
    }
    lab_open(&target->lab);
    lab_protect(&target->lab);
    target->side[0] = target->lab.p_out;
    target->side[1] = target->lab.s_out;
    target->out = target->lab.p_release;
    target->pid = target->lab.p.pid;
}

static int connect_to(const char *folder, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *path = g_build_filename(folder, name, NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    for (int i = 0; i < 200; i++) {
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
            return fd;
        g_usleep(50000);
    }
    g_error("QEMU did not open %s", path);
}

static void run_qemu(const char *folder)
{
    static const char *const names[] = {"pri", "sec", "out"};
    g_autoptr(GPtrArray) args = g_ptr_array_new();

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    g_ptr_array_add(args, (char *)"qemu-system-x86_64");
    for (const char *const *arg =
             (const char *const[]){"-machine", "none", "-nodefaults", "-display", "none",
                                   "-no-user-config", "-S", NULL};
         *arg; arg++)
        g_ptr_array_add(args, (char *)*arg);
    for (int i = 0; i < 3; i++) {
        g_ptr_array_add(args, (char *)"-chardev");
        g_ptr_array_add(args, g_strdup_printf("socket,id=%s,path=%s/%s,server=on,wait=off",
                                              names[i], folder, names[i]));
    }
    for (const char *const *arg =
             (const char *const[]){"-object", "iothread,id=iot", "-object",
                                   "colo-compare,id=comp0,primary_in=pri,secondary_in=sec,"
                                   "outdev=out,iothread=iot",
                                   NULL};
         *arg; arg++)
        g_ptr_array_add(args, (char *)*arg);
    g_ptr_array_add(args, NULL);
    execvp(args->pdata[0], (char **)args->pdata);
    _exit(127);
}

static void start_qemu(Target *target)
{
    target->folder = g_dir_make_tmp("colo-bench-XXXXXX", NULL);
    target->pid = fork();
    if (target->pid == 0)
        run_qemu(target->folder);
    target->side[0] = connect_to(target->folder, "pri");
    target->side[1] = connect_to(target->folder, "sec");
    target->out = connect_to(target->folder, "out");
    g_usleep(300000); /* its iothread takes the connections over */
}

static void run_floor(int primary, int secondary, int out)
{
    static uint8_t data[1 << 18];
    struct pollfd polls[2] = {{primary, POLLIN, 0}, {secondary, POLLIN, 0}};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (poll(polls, 2, -1) > 0) {
        for (int i = 0; i < 2; i++) {
            ssize_t n = polls[i].revents ? recv(polls[i].fd, data, sizeof(data), MSG_DONTWAIT) : 0;

            if (n == 0 && polls[i].revents)
                _exit(0);
            for (ssize_t at = 0; i == 1 && at < n;) {
                ssize_t sent = send(out, data + at, (size_t)(n - at), MSG_NOSIGNAL);

                if (sent <= 0)
                    _exit(1);
                at += sent;
            }
        }
    }
    _exit(0);
}

static void start_floor(Target *target)
{
    int pairs[3][2];

    for (int i = 0; i < 3; i++)
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), ==, 0);
    target->pid = fork();
    if (target->pid == 0) {
        for (int i = 0; i < 3; i++)
            close(pairs[i][0]);
        run_floor(pairs[0][1], pairs[1][1], pairs[2][1]);
    }
    for (int i = 0; i < 3; i++)
        close(pairs[i][1]);
    target->side[0] = pairs[0][0];
    target->side[1] = pairs[1][0];
    target->out = pairs[2][0];
}

static void target_start(Target *target, TargetKind kind)
{
    static const char *const names[] = {"ours", "QEMU", "floor", "", "ours"};
    unsigned serial = target->serial;

    memset(target, 0, sizeof(*target));
    target->serial = serial;
    target->name = names[kind];
    if (kind == OURS || kind == OURS_RELAYED)
        start_ours(target, kind == OURS_RELAYED);
    else if (kind == QEMU)
        start_qemu(target);
    else
        start_floor(target);
}

static void target_stop(Target *target)
{
    if (target->lab.p.pid) {
        lab_down(&target->lab);
        if (target->relay)
            relay_stop(target->relay);
        return;
    }
    kill(target->pid, SIGKILL);
    waitpid(target->pid, NULL, 0);
    close(target->side[0]);
    close(target->side[1]);
    close(target->out);
    if (target->folder) {
        for (int i = 0; i < 3; i++) {
            g_autofree char *path = g_build_filename(
                target->folder, ((const char *const[]){"pri", "sec", "out"})[i], NULL);

            unlink(path);
        }
        rmdir(target->folder);
        g_free(target->folder);
    }
}

/* Processor time of all threads, ns. */
static uint64_t cpu_ns(pid_t pid)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    const char *name;
    uint64_t sum = 0;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(tasks, name, "schedstat", NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL))
            sum += strtoull(text, NULL, 10);
    }
    return sum;
}

/* ---- figures ---- */

typedef struct {
    double value[ROUNDS];
    unsigned n;
} Samples;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(Samples *samples)
{
    qsort(samples->value, samples->n, sizeof(double), by_value);
    return samples->n ? samples->value[samples->n / 2] : 0;
}

static void row(const char *name, Samples *ours, Samples *peer, const char *unit)
{
    double o = median(ours), p = peer ? median(peer) : 0;

    if (ours->n == 0)
        return;
    fprintf(stderr, "%-28s %12.0f %12.0f %8.2f  %s\n", name, o, p, p > 0 ? o / p : 0, unit);
    printf("BENCH\tcompare\t%s\t%.0f\t", name, o);
    if (p > 0)
        printf("%.0f\t%.2f\t", p, o / p);
    else
        printf("-\t-\t");
    printf("%s\tn=%u\tmin=%.0f\tp95=%.0f\tmax=%.0f\n", unit, ours->n, ours->value[0],
           ours->value[ours->n - 1], ours->value[ours->n - 1]);
    fflush(stdout);
}

/* One run of @target; false when it stalled. */
static bool measure(Target *target, size_t payload, unsigned flows, uint64_t n, Samples *cpu,
                    Samples *wall)
{
    uint64_t warm = MAX((uint64_t)flows * 2, 2000), from, begin;
    Load load;
    bool done;

    load_begin(&load, target, payload, flows);
    done = load_run(&load, warm);
    listen_to(target);
    begin = cpu_ns(target->pid);
    from = colo_clock_ns();
    done = done && load_run(&load, warm + n);
    if (done) {
        wall->value[wall->n++] = (double)n * 1e9 / (double)(colo_clock_ns() - from);
        cpu->value[cpu->n++] = (double)n * 1e9 / (double)(cpu_ns(target->pid) - begin);
    } else {
        fprintf(stderr, "%s stalled: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " pairs\n",
                target->name, load.got, warm + n);
    }
    load_end(&load);
    listen_to(target);
    return done;
}

static void bench_throughput(Target *ours, size_t payload, unsigned flows)
{
    uint64_t n = payload > 1000 ? 60000 : 150000;
    Samples cpu[TARGETS] = {0}, wall[TARGETS] = {0};

    for (int round = 0; round < ROUNDS; round++) {
        Target other = {0};

        if (!measure(ours, payload, flows, n, &cpu[OURS], &wall[OURS])) {
            target_stop(ours);
            target_start(ours, OURS);
        }
        for (TargetKind kind = QEMU; kind < TARGETS; kind++) {
            target_start(&other, kind);
            measure(&other, payload, flows, n, &cpu[kind], &wall[kind]);
            target_stop(&other);
        }
    }
    for (int i = 0; i < 3; i++) {
        g_autofree char *name =
            g_strdup_printf("%zuB-%u-flow%s-%s", payload, flows, flows > 1 ? "s" : "",
                            ((const char *const[]){"cpu", "wall", "cpu-vs-floor"})[i]);

        row(name, i == 1 ? &wall[OURS] : &cpu[OURS],
            i == 1 ? &wall[QEMU] : &cpu[i == 0 ? QEMU : FLOOR], i == 1 ? "pairs/s" : "pairs/cpu-s");
    }
}

/* A time's median and 99th percentile in each round. */
typedef struct {
    Samples middle, high;
} Latency;

static void add_latency(Latency *latency, double *times)
{
    qsort(times, PINGS, sizeof(double), by_value);
    latency->middle.value[latency->middle.n++] = times[PINGS / 2];
    latency->high.value[latency->high.n++] = times[PINGS * 99 / 100];
}

/* Reads what left of a burst of @n frames; the time of each. False when it stalled. */
static bool hear_burst(const Load *load, unsigned n, double *times)
{
    static uint8_t heard[BATCH * FRAME_MAX];
    size_t got = 0;

    for (unsigned left = 0; left < n;) {
        struct pollfd wait = {load->target->out, POLLIN, 0};
        ssize_t more = poll(&wait, 1, STALL_MS) > 0
                           ? recv(load->target->out, heard, n * load->whole - got, 0)
                           : -1;
        double now = (double)colo_clock_ns();

        if (more <= 0)
            return false;
        for (got += (size_t)more; left < got / load->whole; left++)
            times[left] = now;
    }
    return true;
}

/* Bursts of @n pairs one after the other: ns from arrival, and the whole way. */
static void ping(Target *target, size_t payload, unsigned n, Latency *latency, Latency *whole)
{
    static uint8_t frames[BATCH * FRAME_MAX];
    g_autofree double *times = g_new(double, PINGS), *all = g_new(double, PINGS);
    Load load;
    bool done = true;

    load_begin(&load, target, payload, 1);
    for (unsigned i = 0; done && i < PINGS; i += n) {
        uint64_t from;

        for (unsigned k = 0; k < n; k++)
            put_frame(&load, i + k, frames + k * load.whole);
        lab_write(target->side[0], frames, n * load.whole);
        g_usleep(n > 1 ? 500 : 50); /* it has been read by then */
        if (target->relay)
            target->relay->arrived_ns = 0;
        from = colo_clock_ns();
        lab_write(target->side[1], frames, n * load.whole);
        done = hear_burst(&load, n, times + i);
        for (unsigned k = i; k < i + n; k++) {
            all[k] = times[k] - (double)from;
            times[k] -= (double)(target->relay ? target->relay->arrived_ns : from);
        }
    }
    load_end(&load);
    listen_to(target);
    if (!done) {
        fprintf(stderr, "%s stalled\n", target->name);
        return;
    }
    add_latency(latency, times);
    add_latency(whole, all);
}

static void bench_latency(size_t payload, unsigned burst)
{
    Latency latency[2] = {0}, whole[2] = {0};
    Target target[2] = {0};

    target_start(&target[0], OURS_RELAYED);
    for (int round = 0; round < ROUNDS; round++) {
        target_start(&target[1], QEMU);
        for (int kind = 0; kind < 2; kind++)
            ping(&target[kind], payload, burst, &latency[kind], &whole[kind]);
        target_stop(&target[1]);
    }
    target_stop(&target[0]);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"latency-median", "latency-p99", "whole-way-median",
                                            "whole-way-p99"};
        g_autofree char *name = g_strdup_printf("%zuB-burst-%u-%s", payload, burst, names[i]);
        Latency *from = i < 2 ? latency : whole;

        row(name, i % 2 ? &from[0].high : &from[0].middle, i % 2 ? &from[1].high : &from[1].middle,
            "ns");
    }
}

static void bench_latencies(void)
{
    bench_latency(64, 1);
    bench_latency(64, BATCH);
    bench_latency(1460, BATCH);
}

int main(int argc, char **argv)
{
    Target ours = {0};

    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "latency") == 0) {
        bench_latencies();
        return 0;
    }
    target_start(&ours, OURS);
    fprintf(stderr, "%-28s %12s %12s %8s\n", "", "ours", "peer", "ratio");
    for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++) {
        for (size_t f = 0; f < G_N_ELEMENTS(flow_counts); f++)
            bench_throughput(&ours, sizes[s], flow_counts[f]);
    }
    target_stop(&ours);
    bench_latencies();
    return 0;
}
