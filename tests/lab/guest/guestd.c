/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The guest's server, one thread and one epoll loop:
 *
 *   port 7   echo: every byte comes back
 *   port 8   count: each line is answered by its number in the connection, a blank, and itself
 *   port 9   random: each line is answered by a fresh UUID, different on both copies of the VM
 *   port 10  time: each line is answered by "MONOTONIC_NS REALTIME_NS"
 *   port 11  control: "disk [INDEX]", "mem", "dirty MBPS", "rate BLOCKS", "have UUID" (is it
 *            among the last ones that port 9 gave since boot?), "ldt" (has the kernel load LDTR:
 *            "ok", or "killed" when the processor refuses that), "poweroff", "reboot"
 *
 * Kernel command line: dirty=MBPS, disk=BLOCKS_PER_SECOND (default 10).  The power button powers
 * off.  `guestd --make BYTES` writes deterministic bytes to standard output (content for HTTP).
 */
#define _GNU_SOURCE
#include "guestd.h"

#include <asm/ldt.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096 /* a longer line closes the connection */
#define OUT_MAX_BYTES 32768 /* unread answers of one connection; more pauses its reading */
#define INPUTS_MAX 8
/* A SYN-ACK waits for a checkpoint at worst: no SYN cookie is to be needed until then, and no
 * half-open connection to be given up, at some hundred new ones a second. */
#define BACKLOG 1024
#define UUID_LEN 36
#define GIVEN_MAX 16384 /* answers of port 9 that are remembered */

enum { PORT_ECHO = 7, PORT_COUNT, PORT_RANDOM, PORT_TIME, PORT_CONTROL, PORT_END };
enum { KIND_LISTENER, KIND_CONN, KIND_INPUT };

struct conn {
    int kind, fd, port;
    uint64_t lines;
    size_t in_len, out_len;
    char in[LINE_MAX_BYTES];
    char out[OUT_MAX_BYTES];
};

static struct shared *shared;
static int epfd;
static pid_t disk_pids[DISKS_MAX];
static char given[GIVEN_MAX][UUID_LEN];
static uint64_t n_given;

void say(const char *fmt, ...)
{
    char buf[512];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n > 0 && write(STDOUT_FILENO, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf)) < 0)
        return;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

/* 64 bits that differ between two copies of this machine: after a checkpoint both have the same
 * kernel generator, so the processor's counter is mixed in.  Never waits for entropy. */
static uint64_t fresh(void)
{
    uint64_t r = 0;

    if (getrandom(&r, sizeof(r), GRND_INSECURE) != sizeof(r))
        r = 0;
    r ^= __builtin_ia32_rdtsc() * 0x9e3779b97f4a7c15ULL;
    r = (r ^ (r >> 30)) * 0xbf58476d1ce4e5b9ULL;
    r = (r ^ (r >> 27)) * 0x94d049bb133111ebULL;
    return r ^ (r >> 31);
}

/* RB_POWER_OFF or RB_AUTOBOOT, with the disks at rest. */
static void end(const char *word, int how)
{
    say(word);
    for (unsigned i = 0; i < DISKS_MAX; i++)
        if (disk_pids[i] > 0)
            kill(disk_pids[i], SIGKILL);
    sync();
    reboot(how);
}

/* True when port 9 gave this UUID as one of its last GIVEN_MAX answers. */
static int have(const char *uuid)
{
    uint64_t oldest = n_given > GIVEN_MAX ? n_given - GIVEN_MAX : 0;

    if (strlen(uuid) != UUID_LEN)
        return 0;
    for (uint64_t i = n_given; i > oldest; i--)
        if (memcmp(given[(i - 1) % GIVEN_MAX], uuid, UUID_LEN) == 0)
            return 1;
    return 0;
}

/* A process of its own writes an LDT entry: the kernel loads LDTR (arch/x86/kernel/ldt.c), and is
 * killed in it by a #GP, mostly with all of the guest. Its word tells, since SIGCHLD is ignored. */
static const char *load_ldt(void)
{
    struct user_desc entry = {
        .entry_number = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1};
    char word = 0;
    int ends[2];
    pid_t child;

    if (pipe(ends) < 0)
        return "error";
    child = fork();
    if (child == 0) {
        word = syscall(SYS_modify_ldt, 0x11, &entry, sizeof(entry)) == 0 ? 'y' : 'n';
        _exit(write(ends[1], &word, 1) != 1);
    }
    close(ends[1]);
    if (child < 0 || read(ends[0], &word, 1) != 1)
        word = child < 0 ? 'n' : 'k';
    close(ends[0]);
    return word == 'y' ? "ok" : word == 'k' ? "killed" : "error";
}

/* Control port: writes the answer to `line` into out. */
static int control(const char *line, char *out, size_t size)
{
    if (strncmp(line, "disk", 4) == 0 && (line[4] == '\0' || line[4] == ' ')) {
        unsigned long index = strtoul(line + 4, NULL, 10);
        const struct disk *d = &shared->disks[index < DISKS_MAX ? index : 0];

        return snprintf(out, size,
                        "ready=%u recovered=%llu durable=%llu verified=%llu errors=%llu\n",
                        d->ready, (unsigned long long)d->recovered, (unsigned long long)d->durable,
                        (unsigned long long)d->verified, (unsigned long long)d->errors);
    }
    if (strcmp(line, "mem") == 0)
        return snprintf(out, size, "mbps=%u pages=%llu errors=%llu\n", shared->dirty_mbps,
                        (unsigned long long)shared->dirty_pages,
                        (unsigned long long)shared->dirty_errors);
    if (strncmp(line, "dirty ", 6) == 0) {
        shared->dirty_mbps = (uint32_t)strtoul(line + 6, NULL, 10);
        return snprintf(out, size, "ok dirty=%u\n", shared->dirty_mbps);
    }
    if (strncmp(line, "rate ", 5) == 0) {
        shared->disk_rate = (uint32_t)strtoul(line + 5, NULL, 10);
        return snprintf(out, size, "ok rate=%u\n", shared->disk_rate);
    }
    if (strncmp(line, "have ", 5) == 0)
        return snprintf(out, size, "have=%d given=%llu\n", have(line + 5),
                        (unsigned long long)n_given);
    if (strcmp(line, "ldt") == 0)
        return snprintf(out, size, "ldt %s\n", load_ldt());
    if (strcmp(line, "poweroff") == 0)
        end("GUEST-POWEROFF\n", RB_POWER_OFF);
    if (strcmp(line, "reboot") == 0)
        end("GUEST-REBOOT\n", RB_AUTOBOOT);
    return snprintf(out, size,
                    "error: expected disk [INDEX], mem, dirty N, rate N, have UUID, "
                    "ldt, poweroff or reboot\n");
}

/* Appends the answer to one line (without its newline). */
static void answer(struct conn *c, const char *line)
{
    char *out = c->out + c->out_len;
    size_t size = sizeof(c->out) - c->out_len;
    int n = 0;

    c->lines++;
    switch (c->port) {
    case PORT_COUNT:
        n = snprintf(out, size, "%llu %s\n", (unsigned long long)c->lines, line);
        break;
    case PORT_RANDOM: {
        uint64_t a = fresh(), b = fresh();

        n = snprintf(out, size, "%08x-%04x-4%03x-%04x-%012llx\n", (unsigned)(a >> 32),
                     (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
                     ((unsigned)(b >> 48) & 0x3fff) | 0x8000,
                     (unsigned long long)(b & 0xffffffffffffULL));
        memcpy(given[n_given++ % GIVEN_MAX], out, UUID_LEN);
        break;
    }
    case PORT_TIME:
        n = snprintf(out, size, "%llu %llu\n", (unsigned long long)now_ns(CLOCK_MONOTONIC),
                     (unsigned long long)now_ns(CLOCK_REALTIME));
        break;
    default:
        n = control(line, out, size);
    }
    if (n > 0)
        c->out_len += (size_t)n < size ? (size_t)n : size - 1;
}

static void drop(struct conn *c)
{
    close(c->fd);
    free(c);
}

/* Turns complete lines (echo: all bytes) of c->in into answers.  Returns -1 on a line too long. */
static int consume(struct conn *c)
{
    size_t start = 0;

    if (c->port == PORT_ECHO) {
        size_t n =
            c->in_len < sizeof(c->out) - c->out_len ? c->in_len : sizeof(c->out) - c->out_len;

        memcpy(c->out + c->out_len, c->in, n);
        c->out_len += n;
        start = n;
    }
    while (c->port != PORT_ECHO && sizeof(c->out) - c->out_len > LINE_MAX_BYTES + 64) {
        char *nl = memchr(c->in + start, '\n', c->in_len - start);

        if (!nl)
            break;
        *nl = '\0';
        if (nl > c->in + start && nl[-1] == '\r')
            nl[-1] = '\0';
        answer(c, c->in + start);
        start = (size_t)(nl + 1 - c->in);
    }
    memmove(c->in, c->in + start, c->in_len - start);
    c->in_len -= start;
    return c->in_len == sizeof(c->in) && c->out_len == 0 ? -1 : 0;
}

/* Moves bytes both ways as far as they go.  Returns -1 when the connection is over. */
static int serve(struct conn *c)
{
    struct epoll_event ev = {.data.ptr = c};
    int eof = 0;

    for (;;) {
        ssize_t n = 0, m = 0;

        if (c->in_len < sizeof(c->in)) {
            n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);
            if (n == 0)
                eof = 1;
            else if (n < 0 && errno != EAGAIN)
                return -1;
            else if (n > 0)
                c->in_len += (size_t)n;
        }
        if (consume(c) < 0)
            return -1;
        if (c->out_len > 0) {
            m = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
            if (m < 0 && errno != EAGAIN)
                return -1;
            if (m > 0) {
                memmove(c->out, c->out + m, c->out_len - (size_t)m);
                c->out_len -= (size_t)m;
            }
        }
        if (eof && c->out_len == 0)
            return -1;
        /* What had no room in out has some now. */
        if ((n <= 0 && m <= 0) || c->out_len > 0)
            break;
    }
    ev.events = (c->in_len < sizeof(c->in) && !eof ? EPOLLIN : 0) | (c->out_len ? EPOLLOUT : 0);
    return epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &ev);
}

static void watch(int kind, int fd, int port)
{
    struct conn *c = calloc(1, sizeof(*c));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

    if (!c || fd < 0) {
        free(c);
        if (fd >= 0)
            close(fd);
        return;
    }
    c->kind = kind;
    c->fd = fd;
    c->port = port;
    epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
}

static void listen_on(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, BACKLOG) != 0)
        say("GUEST-FAIL port %d: %m\n", port);
    watch(KIND_LISTENER, fd, port);
}

static void accept_all(struct conn *l)
{
    int one = 1, fd;

    while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        watch(KIND_CONN, fd, l->port);
    }
}

static void read_input(struct conn *c)
{
    struct input_event ev;

    while (read(c->fd, &ev, sizeof(ev)) == sizeof(ev))
        if (ev.type == EV_KEY && ev.code == KEY_POWER && ev.value)
            end("GUEST-POWEROFF\n", RB_POWER_OFF);
}

/* Deterministic bytes for HTTP: the same everywhere, not compressible. */
static int make_bytes(size_t count)
{
    static uint64_t buf[8192];
    uint64_t x = 88172645463325252ULL;

    while (count > 0) {
        size_t n = count < sizeof(buf) ? count : sizeof(buf);

        for (size_t i = 0; i < sizeof(buf) / sizeof(buf[0]); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            buf[i] = x;
        }
        if (write(STDOUT_FILENO, buf, n) != (ssize_t)n)
            return 1;
        count -= n;
    }
    return 0;
}

/* Number after `key` on the kernel's command line, or `otherwise`. */
static uint32_t option(const char *key, uint32_t otherwise)
{
    char buf[2048] = " ", *p;
    FILE *f = fopen("/proc/cmdline", "r");

    if (f && fgets(buf + 1, sizeof(buf) - 1, f) && (p = strstr(buf, key)))
        otherwise = (uint32_t)strtoul(p + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return otherwise;
}

int main(int argc, char **argv)
{
    struct epoll_event events[64];
    char path[64];

    if (argc == 3 && strcmp(argv[1], "--make") == 0)
        return make_bytes(strtoull(argv[2], NULL, 10));

    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared->dirty_mbps = option(" dirty=", 0);
    shared->disk_rate = option(" disk=", 10);
    for (unsigned i = 0; i < DISKS_MAX; i++)
        if ((disk_pids[i] = fork()) == 0)
            disk_main(shared, i);
    if (fork() == 0)
        dirty_main(shared);

    epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int port = PORT_ECHO; port < PORT_END; port++)
        listen_on(port);
    for (int i = 0; i < INPUTS_MAX; i++) {
        snprintf(path, sizeof(path), "/dev/input/event%d", i);
        watch(KIND_INPUT, open(path, O_RDONLY | O_NONBLOCK), 0);
    }
    say("GUEST-READY uptime_ms=%llu\n", (unsigned long long)(now_ns(CLOCK_MONOTONIC) / 1000000));

    for (;;) {
        int n = epoll_wait(epfd, events, 64, -1);

        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (c->kind == KIND_LISTENER)
                accept_all(c);
            else if (c->kind == KIND_INPUT)
                read_input(c);
            else if (serve(c) < 0)
                drop(c);
        }
    }
}
