/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * False divergences: traces of two Linux stacks that said the same (tests/bench/traces/record.py)
 * through the compare core, and through QEMU's standalone colo-compare.
 *
 *   bench-diverge [--qemu PROGRAM] TRACE.pcap...
 *
 * Both get the frames in the order in which they were recorded, in one epoch. A connection that has
 * diverged counts once; its later frames do not go to QEMU any more, since without a real
 * checkpoint they would diverge again and again. QEMU's comparator is asked through its notify_dev
 * (as Xen does: net/colo-compare.c, notify_remote_frame()), and after each frame a pair of equal
 * datagrams shows that it has dealt with the frame. IPv6 it lets go unseen: "-".
 *
 * Prints a table on standard error and rows of design section 11 on standard output:
 *   BENCH diverge <trace> <ours> <peer> <ratio> connections n=<frames of the primary> ...
 * Exit code: 0, or 1 when a trace cannot be read or its copies did not say the same.
 */
#include "comparator/compare.h"

#include "../unit/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU_ANSWER_MS 20000 /* to start, and for a pair of frames: else it hangs or has died */
#define RECORD_MAX (8u + COLO_COMPARE_FRAME_MAX)

typedef struct {
    unsigned frames;   /* of the primary */
    unsigned released; /* without a checkpoint */
    unsigned diverged; /* connections */
} Figures;

/* ---- ours ---- */

static void count_left(void *opaque, uint8_t nic G_GNUC_UNUSED, const uint8_t *frame G_GNUC_UNUSED,
                       size_t len G_GNUC_UNUSED, size_t vnet G_GNUC_UNUSED,
                       ColoChunk *chunk G_GNUC_UNUSED)
{
    (*(unsigned *)opaque)++;
}

static Figures run_ours(const Trace *trace, uint64_t *held)
{
    Figures figures = {.frames = trace->count[1]};
    unsigned left = 0;
    ColoCompare *compare = colo_compare_new(NULL, count_left, &left);

    if (!compare)
        g_error("no memory");
    for (unsigned i = 0; i < trace->frames->len; i++) {
        const TraceFrame *f = trace_frame(trace, i);

        if (f->primary)
            colo_compare_primary(compare, 0, f->data, f->len, TRACE_VNET, 0, f->ns);
        else
            colo_compare_secondary(compare, 0, f->data, f->len, TRACE_VNET, 0, f->ns);
    }
    colo_compare_held(compare, held, NULL);
    figures.released = (unsigned)(colo_compare_counter(compare, COLO_COUNT_RELEASED_EQUAL) -
                                  colo_compare_counter(compare, COLO_COUNT_OWED_ACK));
    for (unsigned c = COLO_COUNT_DIVERGED_PAYLOAD; c <= COLO_COUNT_DIVERGED_FRAGMENT; c++)
        figures.diverged += (unsigned)colo_compare_counter(compare, c);
    colo_compare_free(compare);
    return figures;
}

/* Frames of the primary that the secondary never says, by the oracle: a checkpoint has to free them
 * whoever compares. */
static unsigned count_unsaid(const Trace *trace)
{
    g_autofree Said *said = g_new(Said, trace->count[0] + 1);
    unsigned n = 0, unsaid = 0;

    for (unsigned i = 0; i < trace->frames->len; i++) {
        const TraceFrame *f = trace_frame(trace, i);

        if (!f->primary)
            said_parse(&said[n++], f->data, f->len);
    }
    for (unsigned i = 0; i < trace->frames->len; i++) {
        const TraceFrame *f = trace_frame(trace, i);
        Said left;
        const char *why;

        if (!f->primary)
            continue;
        said_parse(&left, f->data, f->len);
        why = oracle_objects(&left, said, n);
        if (why && g_getenv("BENCH_DIVERGE_VERBOSE"))
            fprintf(stderr, "#   frame %u, %zu bytes: %s\n", i, f->len, why);
        unsaid += why != NULL;
    }
    return unsaid;
}

/* ---- QEMU's ---- */

enum { PRIMARY_IN, SECONDARY_IN, OUT, NOTIFY }; /* ends of QEMU's sockets */

typedef struct {
    GPid pid;
    int fd[4];
    GByteArray *input;
    unsigned marks;
    unsigned left;
} Qemu;

static void die_with_parent(gpointer data G_GNUC_UNUSED)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* Four connected sockets are handed over: nothing to listen on, nothing to wait for. */
static void qemu_start(Qemu *q, const char *program)
{
    static const char *const names[] = {"pri", "sec", "out", "note"};
    static const char *const words[] = {
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-no-user-config",
        "-S",
        "-object",
        "iothread,id=io",
        "-object",
        "colo-compare,id=compare,primary_in=pri,secondary_in=sec,outdev=out,notify_dev=note,"
        "iothread=io,vnet_hdr_support=on",
    };
    g_autoptr(GPtrArray) args = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    int fds[4][2];

    memset(q, 0, sizeof(*q));
    g_ptr_array_add(args, g_strdup(program));
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]) != 0)
            g_error("socketpair: %s", g_strerror(errno));
        fcntl(fds[i][0], F_SETFD, FD_CLOEXEC);
        g_ptr_array_add(args, g_strdup("-chardev"));
        g_ptr_array_add(args, g_strdup_printf("socket,id=%s,fd=%d", names[i], fds[i][1]));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
        g_ptr_array_add(args, g_strdup(words[i]));
    g_ptr_array_add(args, NULL);
    if (!g_spawn_async(NULL, (char **)args->pdata, NULL,
                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                           G_SPAWN_LEAVE_DESCRIPTORS_OPEN,
                       die_with_parent, NULL, &q->pid, &error))
        g_error("%s", error->message);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        q->fd[i] = fds[i][0];
        close(fds[i][1]);
    }
    q->input = g_byte_array_new();
}

static void qemu_stop(Qemu *q)
{
    kill(q->pid, SIGKILL);
    waitpid(q->pid, NULL, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(q->fd); i++)
        close(q->fd[i]);
    g_byte_array_unref(q->input);
}

/* be32 length, be32 length of the virtio-net header, bytes (net/net.c, net_fill_rstate()). */
static void qemu_send(int fd, const void *data, size_t len, uint32_t vnet)
{
    static uint8_t record[RECORD_MAX];
    uint32_t head[2] = {htonl((uint32_t)len), htonl(vnet)};

    memcpy(record, head, 8);
    memcpy(record + 8, data, len);
    for (size_t at = 0; at < len + 8;) {
        ssize_t n = send(fd, record + at, len + 8 - at, MSG_NOSIGNAL);

        if (n <= 0)
            g_error("QEMU does not take a frame: %s", g_strerror(errno));
        at += (size_t)n;
    }
}

/* Reads what has left until the mark @number comes. */
static void qemu_wait(Qemu *q, uint32_t number)
{
    for (;;) {
        uint8_t bytes[65536];
        struct pollfd fd = {.fd = q->fd[OUT], .events = POLLIN};
        ssize_t n;

        while (q->input->len >= 8) {
            uint32_t len = trace_get32(q->input->data);
            const uint8_t *frame = q->input->data + 8;
            bool mark;

            if (q->input->len < 8 + len)
                break;
            mark = len == TRACE_VNET + 14 + 28 + 4 && trace_get16(frame + TRACE_IP_AT + 20) == 4791;
            if (mark && trace_get32(frame + TRACE_IP_AT + 28) == number) {
                g_byte_array_remove_range(q->input, 0, 8 + len);
                return;
            }
            q->left += !mark;
            g_byte_array_remove_range(q->input, 0, 8 + len);
        }
        if (poll(&fd, 1, QEMU_ANSWER_MS) <= 0)
            g_error("QEMU does not answer");
        n = recv(q->fd[OUT], bytes, sizeof(bytes), 0);
        if (n <= 0)
            g_error("QEMU has closed its output");
        g_byte_array_append(q->input, bytes, (guint)n);
    }
}

/* A pair of equal datagrams, and waits until it has left. */
static void qemu_mark(Qemu *q)
{
    uint8_t frame[TRACE_VNET + 14 + 28 + 4] = {0}, *ip = frame + TRACE_IP_AT;
    uint32_t number = htonl(++q->marks);

    memcpy(frame + TRACE_VNET, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2\x08\0", 14);
    memcpy(ip, "\x45\0\0\x20\0\0\0\0\x40\x11\0\0\xc0\0\2\1\xc0\0\2\2\x12\xb7\x12\xb7\0\x0c\0\0",
           28);
    memcpy(ip + 28, &number, 4);
    qemu_send(q->fd[PRIMARY_IN], frame, sizeof(frame), TRACE_VNET);
    qemu_send(q->fd[SECONDARY_IN], frame, sizeof(frame), TRACE_VNET);
    qemu_wait(q, q->marks);
}

/* Whether the comparator has asked for a checkpoint; it is told that there was one. */
static bool qemu_asked(Qemu *q)
{
    uint8_t bytes[4096];

    if (recv(q->fd[NOTIFY], bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
        return false;
    qemu_send(q->fd[NOTIFY], "COLO_CHECKPOINT", 15, 0);
    return true;
}

/* Frames of one connection have the same name, whichever side's. */
static char *flow_name(const TraceFrame *f)
{
    Said said;

    said_parse(&said, f->data, f->len);
    if (said.tcp) {
        GString *name = g_string_new("tcp");

        for (unsigned i = 0; i < sizeof(said.key); i++)
            g_string_append_printf(name, "%02x", said.key[i]);
        return g_string_free(name, FALSE);
    }
    return g_strdup(trace_get16(f->data + TRACE_VNET + 12) == 0x0800 ? "ipv4" : "other");
}

static Figures run_qemu(const Trace *trace, const char *program)
{
    g_autoptr(GHashTable) gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Figures figures = {.frames = trace->count[1]};
    unsigned freed = 0; /* by checkpoints */
    Qemu q;

    qemu_start(&q, program);
    for (unsigned i = 0; i < trace->frames->len; i++) {
        const TraceFrame *f = trace_frame(trace, i);
        g_autofree char *name = flow_name(f);
        unsigned before;

        if (g_hash_table_contains(gone, name))
            continue;
        qemu_send(q.fd[f->primary ? PRIMARY_IN : SECONDARY_IN], f->data, f->len, TRACE_VNET);
        qemu_mark(&q);
        if (!qemu_asked(&q))
            continue;
        before = q.left;
        qemu_mark(&q);
        freed += q.left - before;
        g_hash_table_add(gone, g_steal_pointer(&name));
    }
    figures.diverged = g_hash_table_size(gone);
    figures.released = q.left - freed;
    qemu_stop(&q);
    return figures;
}

int main(int argc, char **argv)
{
    const char *program = NULL;
    unsigned sum[2] = {0, 0}, frames = 0;
    int first = 1, rc = 0;

    if (argc > 2 && strcmp(argv[1], "--qemu") == 0) {
        program = argv[2];
        first = 3;
    }
    fprintf(stderr, "%-18s %7s %7s | %8s %8s %6s | %8s %8s\n", "trace", "frames", "unsaid",
            "released", "diverged", "held", "released", "diverged");
    for (int i = first; i < argc; i++) {
        g_autofree char *name = g_path_get_basename(argv[i]);
        g_autoptr(GError) error = NULL;
        Figures ours, peer = {0};
        uint64_t held;
        bool asked = program && !strstr(name, "-6-");
        Trace trace;

        if (!trace_load(&trace, argv[i], &error)) {
            fprintf(stderr, "%s\n", error->message);
            rc = 1;
            continue;
        }
        *strchrnul(name, '.') = '\0';
        ours = run_ours(&trace, &held);
        fprintf(stderr, "%-18s %7u %7u | %8u %8u %6" G_GUINT64_FORMAT " | ", name, ours.frames,
                count_unsaid(&trace), ours.released, ours.diverged, held);
        printf("BENCH\tdiverge\t%s\t%u", name, ours.diverged);
        if (asked) {
            peer = run_qemu(&trace, program);
            fprintf(stderr, "%8u %8u\n", peer.released, peer.diverged);
            printf("\t%u\t", peer.diverged);
            if (peer.diverged)
                printf("%.3f", (double)ours.diverged / peer.diverged);
            else
                printf("-");
        } else {
            fprintf(stderr, "%8s %8s\n", "-", "-");
            printf("\t-\t-");
        }
        printf("\tconnections\tn=%u\treleased=%u", ours.frames, ours.released);
        printf(asked ? "\tpeer-released=%u\n" : "\n", peer.released);
        sum[0] += ours.diverged;
        sum[1] += peer.diverged;
        frames += ours.frames;
        trace_clear(&trace);
    }
    printf("BENCH\tdiverge\tall\t%u\t%u\t-\tconnections\tn=%u\n", sum[0], sum[1], frames);
    return rc;
}
