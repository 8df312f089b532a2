/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Speaks libvirt's protocol, and ours, to a running virtcolod by many connections at once, mostly
 * wrongly: frames that are cut, too long, too short or of the wrong type, FDs that nobody announced
 * and announced ones that never come, clients that send a byte now and then, that never read, that
 * say half of it and go. Unlike the libFuzzer targets of this folder it sees the whole daemon: its
 * sockets, threads, queues and the libvirt behind it.
 *   fuzz-daemon [--seconds N] [--seed N] [--connections N] [--readonly] [--no-events] SOCKET NAME
 * UUID SOCKET-ro is used too, with --readonly (for a user who may not do more) alone. NAME and
 * UUID: a domain that is there.
 *
 * It judges what can be seen from here: whatever comes back is framed as libvirt frames it, and a
 * new client that behaves is served all the time. What has become of the daemon is for the caller
 * to look at. The last line has the figures; exit 1 and a line that begins with "fuzz-daemon:" when
 * something was wrong.
 */
#define _GNU_SOURCE
#include "daemon-frames.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
/* Read-only ones are few for a daemon: others are to be let in too. */
#define READONLY_OF 8
#define FDS_AT_ONCE_MAX 64
#define PROBE_MS 1000
#define PROBE_LIMIT_S 30

typedef struct {
    int fd; /* -1: none */
    bool readonly, ours;
    bool unread;  /* what comes is left in the socket */
    size_t chunk; /* bytes of output a turn */
    uint32_t serial;
    uint8_t *out;
    size_t out_len, out_at;
    unsigned fds; /* that go out behind it, each with a byte */
    uint8_t header[FRAME_HEADER];
    size_t header_len, body_left;
} Connection;

typedef struct {
    unsigned long connects, frames, mutated, replies, bytes_in, bytes_out, closed, probes;
    double worst_probe_ms;
} Figures;

static Random dice;
static Domain domain;
static const char *socket_path;
static bool readonly_only, events = true;
static Connection connections[CONNECTIONS_MAX];
static unsigned n_connections = 40;
static Figures figures;
static Frame frame;

static void failed(const char *what, const char *detail)
{
    printf("fuzz-daemon: %s: %s\n", what, detail);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int connect_to(bool readonly)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s%s", socket_path,
             readonly ? "-ro" : "");
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        failed("cannot connect", strerror(errno));
    return fd;
}

/* ---- one connection ---- */

static void drop(Connection *c)
{
    close(c->fd);
    c->fd = -1;
    free(c->out);
    c->out = NULL;
}

static void queue_output(Connection *c, const void *data, size_t len)
{
    /* It is nobody's aim to exhaust the fuzzer's own memory. */
    if (c->out_len - c->out_at > FRAME_MAX + (8u << 20))
        return;
    if (c->out_at > 0) {
        memmove(c->out, c->out + c->out_at, c->out_len - c->out_at);
        c->out_len -= c->out_at;
        c->out_at = 0;
    }
    c->out = realloc(c->out, c->out_len + len);
    if (!c->out)
        abort();
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
}

/* Sends @len bytes, with @n FDs when that is not 0; they are of all sorts. 0: no room now. */
static ssize_t send_with(const Connection *c, const void *data, size_t len, unsigned n)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(FDS_AT_ONCE_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)data, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int fds[FDS_AT_ONCE_MAX], pipes[2] = {-1, -1};
    ssize_t sent;

    if (n > 0) {
        if (pipe2(pipes, O_CLOEXEC) < 0)
            failed("no pipe", strerror(errno));
        for (unsigned i = 0; i < n; i++)
            fds[i] = i % 3 == 2 ? c->fd : pipes[i % 2];
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
    }
    sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        close(pipes[0]);
        close(pipes[1]);
    }
    if (sent < 0 && errno != EAGAIN && errno != ETOOMANYREFS)
        return -1;
    return sent < 0 ? 0 : sent;
}

/* FALSE: the daemon has closed it. */
static bool flush_some(Connection *c)
{
    size_t len = c->out_len - c->out_at;
    ssize_t n;

    if (len > 0) {
        n = send_with(c, c->out + c->out_at, len < c->chunk ? len : c->chunk, 0);
        if (n < 0)
            return false;
        figures.bytes_out += (unsigned long)n;
        c->out_at += (size_t)n;
    }
    while (c->out_at == c->out_len && c->fds > 0) {
        n = send_with(c, "", 1, 1);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        c->fds--;
    }
    return true;
}

/* Libvirt's framing is all that is judged: what the bodies say is libvirt's. */
static void judge(Connection *c, const uint8_t *data, size_t len)
{
    figures.bytes_in += len;
    while (len > 0) {
        size_t n = c->body_left < len ? c->body_left : len;
        const Frame header = {.data = c->header};
        uint32_t length;

        c->body_left -= n;
        data += n;
        len -= n;
        if (len == 0)
            return;
        n = FRAME_HEADER - c->header_len < len ? FRAME_HEADER - c->header_len : len;
        memcpy(c->header + c->header_len, data, n);
        c->header_len += n;
        data += n;
        len -= n;
        if (c->header_len < FRAME_HEADER)
            return;
        length = frame_word(&header, 0);
        if (length < FRAME_HEADER || length > FRAME_MAX || frame_word(&header, 16) > 6 ||
            frame_word(&header, 24) > 2)
            failed("the daemon sent what is no frame", "see the seed");
        c->header_len = 0;
        c->body_left = length - FRAME_HEADER;
        figures.replies++;
    }
}

/* FALSE: the daemon has closed it. */
static bool read_some(Connection *c)
{
    static uint8_t buffer[256 * 1024];

    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(c->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        judge(c, buffer, (size_t)n);
    }
    return true;
}

static void queue_frame(Connection *c)
{
    figures.frames++;
    queue_output(c, frame.data, frame.len);
    /* Sound ones of other frames are not told apart: FDs go when all is out. */
    c->fds += frame.fds;
    if (c->fds > 200)
        c->fds = 200;
}

static void begin(Connection *c)
{
    static const size_t chunks[] = {1, 3, 27, 28, 1000, 65536, 1u << 30, 1u << 30, 1u << 30};

    *c = (Connection){.fd = -1, .serial = 1};
    c->readonly = readonly_only || c - connections < READONLY_OF;
    c->ours = random_one_in(&dice, 4);
    c->unread = random_one_in(&dice, 6);
    c->chunk = chunks[random_below(&dice, sizeof(chunks) / sizeof(chunks[0]))];
    c->fd = connect_to(c->readonly);
    figures.connects++;
    if (c->ours || random_one_in(&dice, 10))
        return;
    /* Most get behind the door. */
    frame_auth_list(&frame, c->serial++);
    queue_frame(c);
    frame_open(&frame, random_one_in(&dice, 5) ? "qemu:///system" : "colo:///system", c->serial++);
    queue_frame(c);
}

/* One thing that a client does. FALSE: the connection is at its end. */
static bool act(Connection *c)
{
    uint32_t what = random_below(&dice, 1000);

    if (what < 500) { /* one or some frames, half of them sound */
        for (uint32_t n = random_one_in(&dice, 8) ? random_below(&dice, 200) : 1; n > 0; n--) {
            frame_sound(&frame, &dice, &domain, c->ours, c->serial++);
            if (random_one_in(&dice, 8)) {
                frame_mutate(&frame, &dice);
                figures.mutated++;
            }
            frame_tame(&frame, c->readonly, events);
            queue_frame(c);
        }
    } else if (what < 510) { /* FDs in the middle of something */
        return send_with(c, "\0\0\0\34", 1 + random_below(&dice, 4),
                         1 + random_below(&dice, FDS_AT_ONCE_MAX)) >= 0;
    } else if (what < 515) {
        shutdown(c->fd, random_one_in(&dice, 3) ? SHUT_RDWR : SHUT_WR);
    } else if (what < 518) {
        shutdown(c->fd, SHUT_RD);
    } else if (what < 530) {
        return false;
    } else if (what < 532) { /* as large as a frame may be, about */
        static const size_t sizes[] = {FRAME_MAX - FRAME_HEADER, FRAME_MAX - FRAME_HEADER + 1,
                                       33u << 20, 4u << 20, 1u << 20};

        frame_large(&frame, &dice, sizes[random_below(&dice, 5)], c->serial++);
        queue_frame(c);
    } else if (what < 540) { /* bytes */
        uint32_t words[16];

        for (int i = 0; i < 16; i++)
            words[i] = random_edge(&dice);
        queue_output(c, words, sizeof(words));
    } else if (what < 800 && !c->unread) {
        return read_some(c);
    }
    return flush_some(c);
}

/* ---- a client that behaves ---- */

static void receive_frame(int fd, uint8_t *data, size_t size)
{
    size_t have = 0, want = FRAME_HEADER;
    const Frame reply = {.data = data};

    while (have < want) {
        ssize_t n = recv(fd, data + have, want - have, 0);

        if (n <= 0)
            failed("a new client is not served",
                   n == 0 ? "its connection was closed" : strerror(errno));
        have += (size_t)n;
        if (have == FRAME_HEADER && want == FRAME_HEADER) {
            want = frame_word(&reply, 0);
            if (want < FRAME_HEADER || want > size)
                failed("a new client gets a wrong answer", "length");
        }
    }
    if (frame_word(&reply, 24) != 0)
        failed("a new client gets an error", "status");
}

static void probe(void)
{
    static const char uri[] = "colo:///system";
    struct timeval limit = {.tv_sec = PROBE_LIMIT_S};
    double begin_ms = now_ms(), took;
    uint8_t data[65536];
    int fd = connect_to(readonly_only);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    for (uint32_t serial = 1; serial <= 3; serial++) {
        if (serial == 1)
            frame_auth_list(&frame, serial);
        else if (serial == 2)
            frame_open(&frame, uri, serial);
        else
            frame_get_uri(&frame, serial);
        if (send(fd, frame.data, frame.len, MSG_NOSIGNAL) != (ssize_t)frame.len)
            failed("a new client cannot ask", strerror(errno));
        receive_frame(fd, data, sizeof(data));
    }
    if (memcmp(data + FRAME_HEADER + 4, uri, strlen(uri)) != 0)
        failed("a new client gets a wrong answer", "URI");
    close(fd);
    took = now_ms() - begin_ms;
    figures.probes++;
    if (took > figures.worst_probe_ms)
        figures.worst_probe_ms = took;
}

/* ---- all ---- */

static void run(double seconds)
{
    double end = now_ms() + seconds * 1e3, next_probe = 0;

    for (unsigned i = 0; i < n_connections; i++)
        connections[i].fd = -1;
    while (now_ms() < end) {
        Connection *c = &connections[random_below(&dice, n_connections)];

        if (now_ms() >= next_probe) {
            probe();
            next_probe = now_ms() + PROBE_MS;
        }
        if (c->fd < 0) {
            begin(c);
        } else if (!act(c)) {
            figures.closed++;
            drop(c);
        }
    }
    /* Those that are open now are left without a word. */
    for (unsigned i = 0; i < n_connections; i++) {
        if (connections[i].fd >= 0)
            drop(&connections[i]);
    }
    probe();
}

static bool parse_uuid(const char *text, uint8_t *uuid)
{
    for (int i = 0; i < 16; i++) {
        unsigned byte;

        text += *text == '-';
        if (sscanf(text, "%2x", &byte) != 1)
            return false;
        uuid[i] = (uint8_t)byte;
        text += 2;
    }
    return true;
}

static void usage(void)
{
    fputs("usage: fuzz-daemon [--seconds N] [--seed N] [--connections N] [--readonly] "
          "[--no-events] SOCKET NAME UUID\n",
          stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    uint64_t seed = (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
    double seconds = 10;
    int i;

    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--readonly") == 0)
            readonly_only = true;
        else if (strcmp(argv[i], "--no-events") == 0)
            events = false;
        else if (i + 1 == argc)
            usage();
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--connections") == 0)
            n_connections = (unsigned)atoi(argv[++i]);
        else
            usage();
    }
    if (argc - i != 3 || n_connections == 0 || n_connections > CONNECTIONS_MAX ||
        !parse_uuid(argv[i + 2], domain.uuid))
        usage();
    socket_path = argv[i];
    domain.name = argv[i + 1];
    dice.state = seed ? seed : 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("seed %llu\n", (unsigned long long)seed);
    run(seconds);
    printf("connections %lu closed %lu frames %lu mutated %lu replies %lu sent %lu received %lu "
           "probes %lu worst_probe_ms %.0f\n",
           figures.connects, figures.closed, figures.frames, figures.mutated, figures.replies,
           figures.bytes_out, figures.bytes_in, figures.probes, figures.worst_probe_ms);
    return 0;
}
