/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How many frame pairs a second of processor time the compare core takes, next to what memcmp()
 * alone needs for the same payloads: the floor for any comparison. One thread, no sockets.
 *
 * A pair is one frame of each copy, fed, compared and let go: two frames that come in and one
 * packet that the client gets. Where a figure says packets, it counts pairs.
 *
 * The frames lie in a ring for each side as large as the session's packet ring, so payloads come
 * from beyond the second-level cache, as from a socket; memcmp() goes through the same rings. A
 * batch of the primary's frames comes first, then the secondary's of the same place: the one is
 * local, and stays where it was read to while it is held; the other crosses the link. Sequence
 * numbers and ports are put in between the rounds, outside of the time that is measured.
 *
 * Prints a table on standard error and rows of README.md on standard output. With --case NAME
 * --rounds N it feeds N rounds of one case and prints the pairs: for valgrind
 * (core-instructions.sh). Other arguments are the names of the cases to measure.
 */
#include "comparator/compare.h"

#include <glib.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define VNET 12
#define ETH_AT VNET
#define IP_AT (ETH_AT + 14)
#define L4_AT (IP_AT + 20)
#define TCP_HEADER 32 /* with timestamps */
#define UDP_HEADER 8
#define RECORD_HEADER 24       /* between the frames of a ring, as on the packet stream */
#define RING_BYTES (4u << 20)  /* COLO_SESSION_PACKETS_RING */
#define HELD_BYTES (64u << 20) /* COLO_SESSION_HELD_BYTES */
#define HELD_FRAMES 65536u     /* COLO_SESSION_HELD_FRAMES */
#define FLOWS_MAX 100000u
#define BATCH 32u                        /* pairs */
#define BATCH_FRAMES_MAX (BATCH / 2 * 3) /* of the side that is cut into more */
#define SAMPLES 7
#define SAMPLE_NS 150000000.0
#define FIRST_SEQ 1000u

typedef enum { PRIMARY_FIRST, SECONDARY_FIRST, OTHER_CUTS, COMMIT_ONLY } Order;

typedef struct {
    const char *name;
    size_t payload; /* bytes a frame */
    unsigned flows;
    Order order;
    bool udp;
} Case;

static const Case cases[] = {
    {"1460B-1-flow", 1460, 1, PRIMARY_FIRST, false},
    {"1460B-64-flows", 1460, 64, PRIMARY_FIRST, false},
    {"1460B-10000-flows", 1460, 10000, PRIMARY_FIRST, false},
    {"64B-1-flow", 64, 1, PRIMARY_FIRST, false},
    {"64B-64-flows", 64, 64, PRIMARY_FIRST, false},
    {"64B-10000-flows", 64, 10000, PRIMARY_FIRST, false},
    {"1B-1-flow", 1, 1, PRIMARY_FIRST, false},
    {"1B-64-flows", 1, 64, PRIMARY_FIRST, false},
    {"1B-10000-flows", 1, 10000, PRIMARY_FIRST, false},
    {"1460B-secondary-first", 1460, 1, SECONDARY_FIRST, false},
    {"64B-secondary-first", 64, 1, SECONDARY_FIRST, false},
    {"1460B-other-cuts", 1460, 1, OTHER_CUTS, false},
    {"1460B-commit-only", 1460, 1, COMMIT_ONLY, false},
    {"64B-udp-64-flows", 64, 64, PRIMARY_FIRST, true},
};

static const Case memory_case = {"100000-flows", 1460, FLOWS_MAX, PRIMARY_FIRST, false};

typedef struct {
    uint8_t *ring;
    ColoChunk chunk; /* what the session reads its guest's frames into; the ring here */
    unsigned frames; /* in the ring */
    unsigned batch;  /* fed in one go */
    size_t *at;      /* where each starts, and one past the last's record header */
} Side;

typedef struct {
    const Case *c;
    Side side[2]; /* primary, secondary */
    unsigned pairs;
    size_t headers;
    uint32_t seq[2][FLOWS_MAX]; /* next of each side's flows */
    unsigned flow[2];           /* of the next frame */
    uint64_t left;
    uint64_t epoch;
} Bench;

static void count_left(void *opaque, uint8_t nic G_GNUC_UNUSED, const uint8_t *frame G_GNUC_UNUSED,
                       size_t len G_GNUC_UNUSED, size_t vnet G_GNUC_UNUSED,
                       ColoChunk *chunk G_GNUC_UNUSED)
{
    ((Bench *)opaque)->left++;
}

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

static size_t frame_len(const Side *s, unsigned i)
{
    return s->at[i + 1] - s->at[i] - RECORD_HEADER;
}

/* A frame of @payload bytes at @frame; @stream: where its bytes are in the ring's stream. */
static void make_frame(const Bench *b, unsigned side, unsigned i, uint8_t *frame, size_t payload,
                       size_t stream)
{
    static const uint8_t head[L4_AT - ETH_AT] = {
        0x52, 0x54, 0, 0,    0, 1,  0x52, 0x54, 0, 0,  0, 2, 8, 0,  0x45, 0, 0,
        0,    0,    0, 0x40, 0, 64, 6,    0,    0, 10, 0, 0, 1, 10, 0,    0, 2,
    };
    uint8_t *l4 = frame + L4_AT;

    memset(frame, 0, b->headers);
    memcpy(frame + ETH_AT, head, sizeof(head));
    put16(frame + IP_AT + 2, (unsigned)(b->headers - IP_AT + payload));
    put16(frame + IP_AT + 4, side + i); /* identification */
    if (b->c->udp) {
        frame[IP_AT + 9] = 17;
        put16(l4 + 4, (unsigned)(UDP_HEADER + payload));
    } else {
        put32(l4 + 8, FIRST_SEQ);
        l4[12] = TCP_HEADER / 4 << 4;
        l4[13] = 0x10;
        l4[14] = 1;
        memcpy(l4 + 20, "\1\1\x8\xa", 4);
        put32(l4 + 24, 77 + side);
    }
    for (size_t k = 0; k < payload; k++, stream++)
        frame[b->headers + k] = (uint8_t)(stream * 7 + stream / 251);
}

/* @frames of @b's side, of the lengths that repeat in @cuts. */
static void make_side(Bench *b, unsigned side, unsigned frames, const size_t *cuts, unsigned n_cuts)
{
    Side *s = &b->side[side];
    size_t at = 0, stream = 0;

    s->frames = frames;
    s->at = g_new(size_t, frames + 1);
    for (unsigned i = 0; i < frames; i++) {
        s->at[i] = at;
        at += b->headers + cuts[i % n_cuts] + RECORD_HEADER;
    }
    s->at[frames] = at;
    s->ring = g_malloc(at);
    for (unsigned i = 0; i < frames; i++) {
        make_frame(b, side, i, s->ring + s->at[i], cuts[i % n_cuts], stream);
        stream += cuts[i % n_cuts];
    }
}

static Bench *bench_new(const Case *c)
{
    Bench *b = g_new0(Bench, 1);
    const size_t other[3] = {c->payload * 2 / 3, c->payload, c->payload - c->payload * 2 / 3};
    bool cut = c->order == OTHER_CUTS;

    b->c = c;
    b->headers = L4_AT + (c->udp ? UDP_HEADER : TCP_HEADER);
    b->pairs = RING_BYTES / (unsigned)(b->headers + c->payload + RECORD_HEADER) / BATCH * BATCH;
    make_side(b, 0, b->pairs, &c->payload, 1);
    make_side(b, 1, cut ? b->pairs / 2 * 3 : b->pairs, cut ? other : &c->payload, cut ? 3 : 1);
    b->side[0].batch = BATCH;
    b->side[1].batch = cut ? BATCH / 2 * 3 : BATCH;
    for (unsigned i = 0; i < c->flows; i++)
        b->seq[0][i] = b->seq[1][i] = FIRST_SEQ;
    return b;
}

static void bench_free(Bench *b)
{
    for (unsigned side = 0; side < 2; side++) {
        g_free(b->side[side].ring);
        g_free(b->side[side].at);
    }
    g_free(b);
}

/* The next round's flows and sequence numbers: flows take turns, frame by frame. @advance: false
 * when the core does not get them; the same memory is touched. */
static void prepare(Bench *b, bool advance)
{
    for (unsigned side = 0; side < 2; side++) {
        const Side *s = &b->side[side];

        for (unsigned i = 0; i < s->frames; i++) {
            unsigned flow = b->flow[side];
            uint8_t *l4 = s->ring + s->at[i] + L4_AT;

            put16(l4, 1024 + (flow & 0x7fff));
            put16(l4 + 2, 80 + (flow >> 15));
            if (!b->c->udp)
                put32(l4 + 4, b->seq[side][flow]);
            if (!advance)
                continue;
            b->seq[side][flow] += (uint32_t)(frame_len(s, i) - b->headers);
            b->flow[side] = (flow + 1) % b->c->flows;
        }
    }
}

static void feed(ColoCompare *compare, Bench *b, unsigned side, unsigned batch, uint64_t now)
{
    const Side *s = &b->side[side];
    ColoCompareInput inputs[BATCH_FRAMES_MAX];
    ColoVerdict verdicts[BATCH_FRAMES_MAX];

    for (unsigned k = 0; k < s->batch; k++) {
        unsigned i = batch * s->batch + k;

        inputs[k] = (ColoCompareInput){.frame = s->ring + s->at[i],
                                       .len = frame_len(s, i),
                                       .vnet = VNET,
                                       .epoch = b->epoch,
                                       .now_ns = now,
                                       .chunk = side == 0 ? &b->side[0].chunk : NULL,
                                       .secondary = side == 1};
    }
    colo_compare_batch(compare, inputs, s->batch, verdicts);
}

/* The rings once. */
static void round_ours(ColoCompare *compare, Bench *b)
{
    unsigned first = b->c->order == SECONDARY_FIRST;

    for (unsigned batch = 0; batch < b->pairs / BATCH; batch++) {
        feed(compare, b, first, batch, batch + 1);
        if (b->c->order != COMMIT_ONLY)
            feed(compare, b, !first, batch, batch + 1);
        else if (batch % 8 == 7 || batch == b->pairs / BATCH - 1)
            colo_compare_commit(compare, ++b->epoch);
    }
}

/* Compares the payloads, piece by piece where the sides are cut at other places. */
static void round_memcmp(const Bench *b)
{
    const Side *p = &b->side[0], *s = &b->side[1];
    unsigned differ = 0;
    size_t p_at = 0, s_at = 0; /* in the payload */

    for (unsigned i = 0, k = 0; i < p->frames && k < s->frames;) {
        size_t p_left = frame_len(p, i) - b->headers - p_at;
        size_t s_left = frame_len(s, k) - b->headers - s_at;
        size_t n = p_left < s_left ? p_left : s_left;

        differ += memcmp(p->ring + p->at[i] + b->headers + p_at,
                         s->ring + s->at[k] + b->headers + s_at, n) != 0;
        p_at = p_left == n ? 0 : p_at + n;
        s_at = s_left == n ? 0 : s_at + n;
        i += p_left == n;
        k += s_left == n;
    }
    g_assert_cmpuint(differ, ==, 0);
}

static double cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Pairs a second over one sample. */
static double sample(ColoCompare *compare, Bench *b)
{
    double spent = 0;
    uint64_t pairs = 0, left = b->left;

    while (spent < SAMPLE_NS) {
        double start;

        prepare(b, compare != NULL);
        start = cpu_ns();
        if (compare)
            round_ours(compare, b);
        else
            round_memcmp(b);
        spent += cpu_ns() - start;
        pairs += b->pairs;
    }
    if (compare)
        g_assert_cmpuint(b->left - left, ==, pairs); /* nothing was held or lost */
    return (double)pairs * 1e9 / spent;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static ColoCompare *compare_new(Bench *b)
{
    const ColoCompareLimits limits = {
        .arena_bytes = HELD_BYTES, .frames = HELD_FRAMES, .flows = FLOWS_MAX};
    ColoCompare *compare = colo_compare_new(&limits, count_left, b);

    g_assert_nonnull(compare);
    return compare;
}

static void measure(const Case *c)
{
    double ours[SAMPLES], peer[SAMPLES], ratio;
    Bench *b = bench_new(c);
    ColoCompare *compare = compare_new(b);

    for (unsigned fed = 0; fed < 2 * c->flows || fed < 2 * b->pairs; fed += b->pairs) {
        prepare(b, true);
        round_ours(compare, b);
    }
    for (unsigned i = 0; i < SAMPLES; i++) {
        ours[i] = sample(compare, b);
        peer[i] = sample(NULL, b);
    }
    qsort(ours, SAMPLES, sizeof(*ours), by_value);
    qsort(peer, SAMPLES, sizeof(*peer), by_value);
    ratio = ours[SAMPLES / 2] / peer[SAMPLES / 2];
    g_printerr("%-22s %12.0f %12.0f %12.0f %7.3f\n", c->name, ours[SAMPLES / 2],
               (c->order == COMMIT_ONLY ? 1 : 2) * ours[SAMPLES / 2], peer[SAMPLES / 2], ratio);
    g_print("BENCH\tcore\t%s\t%.0f\t%.0f\t%.4f\tpairs/s\tn=%d\tmin=%.0f\tmax=%.0f\n", c->name,
            ours[SAMPLES / 2], peer[SAMPLES / 2], ratio, SAMPLES, ours[0], ours[SAMPLES - 1]);
    colo_compare_free(compare);
    bench_free(b);
}

static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    g_assert_nonnull(file);
    g_assert_cmpint(fscanf(file, "%*u %lu", &pages), ==, 1);
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Resident memory of a core with the session's bounds that knows 100,000 connections, each of which
 * has had full segments. */
static void measure_memory(void)
{
    Bench *b = bench_new(&memory_case);
    ColoCompare *compare;
    size_t before, after;

    (void)malloc_trim(0);
    before = resident();
    compare = compare_new(b);
    for (unsigned fed = 0; fed < 3 * FLOWS_MAX; fed += b->pairs) {
        prepare(b, true);
        round_ours(compare, b);
    }
    after = resident();
    g_printerr("%-22s %12.1f MiB\n", memory_case.name, (double)(after - before) / (1 << 20));
    g_print("BENCH\tcore\t%s-memory\t%zu\t-\t-\tbytes\tn=1\tmin=%zu\tmax=%zu\n", memory_case.name,
            after - before, after - before, after - before);
    colo_compare_free(compare);
    bench_free(b);
}

static void feed_rounds(const char *name, unsigned rounds)
{
    for (unsigned k = 0; k < G_N_ELEMENTS(cases); k++) {
        Bench *b;
        ColoCompare *compare;

        if (strcmp(cases[k].name, name) != 0)
            continue;
        b = bench_new(&cases[k]);
        compare = compare_new(b);
        for (unsigned i = 0; i < rounds; i++) {
            prepare(b, true);
            round_ours(compare, b);
        }
        g_print("%u\n", rounds * b->pairs);
        colo_compare_free(compare);
        bench_free(b);
    }
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return argc == 1;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--case") == 0 && strcmp(argv[3], "--rounds") == 0) {
        feed_rounds(argv[2], (unsigned)atoi(argv[4]));
        return 0;
    }
    g_printerr("%-22s %12s %12s %12s %7s\n", "case", "pairs/s", "frames/s", "memcmp/s", "ratio");
    for (unsigned k = 0; k < G_N_ELEMENTS(cases); k++) {
        if (wanted(cases[k].name, argc, argv))
            measure(&cases[k]);
    }
    if (wanted(memory_case.name, argc, argv))
        measure_memory();
    return 0;
}
