/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How many frame pairs a second the compare core takes, next to what memcmp() alone needs for the
 * same payloads: the floor for any comparison. One core, no sockets. A pair is one frame of each
 * copy, fed, compared and let go.
 *
 * Prints a table on standard error and rows of design section 11 on standard output:
 *   BENCH core <case> <ours> <peer> <ratio> pairs/s n=<samples> min=<ours> max=<ours>
 */
#include "comparator/compare.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ETH 14
#define HEADERS (ETH + 20 + 32) /* Ethernet, IPv4, TCP with timestamps */
#define FRAMES 256              /* of each side, distinct: more than a first-level cache */
#define FLOWS_MAX 64
#define SAMPLES 7
#define SAMPLE_NS 200000000.0

typedef enum { SECONDARY_FIRST, PRIMARY_FIRST, OTHER_CUTS, COMMIT_ONLY } Order;

typedef struct {
    const char *name;
    size_t payload; /* bytes a frame */
    unsigned flows;
    Order order;
} Case;

static const Case cases[] = {
    {"64B", 64, 1, SECONDARY_FIRST},
    {"64B-64-flows", 64, 64, SECONDARY_FIRST},
    {"64B-primary-first", 64, 1, PRIMARY_FIRST},
    {"1460B", 1460, 1, SECONDARY_FIRST},
    {"1460B-64-flows", 1460, 64, SECONDARY_FIRST},
    {"1460B-primary-first", 1460, 1, PRIMARY_FIRST},
    {"1460B-other-cuts", 1460, 1, OTHER_CUTS},
    {"1460B-commit-only", 1460, 1, COMMIT_ONLY},
};

typedef struct {
    uint8_t *frames[2]; /* FRAMES of each side */
    size_t len;         /* of a frame */
    uint32_t seq[FLOWS_MAX];
    uint64_t left;
    uint64_t epoch;
} Bench;

static void count_left(void *opaque, uint8_t nic G_GNUC_UNUSED, const uint8_t *frame G_GNUC_UNUSED,
                       size_t len G_GNUC_UNUSED, size_t vnet G_GNUC_UNUSED)
{
    ((Bench *)opaque)->left++;
}

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void make_frames(Bench *b, const Case *c)
{
    static const uint8_t head[ETH + 20] = {
        0x52, 0x54, 0, 0,    0, 1,  0x52, 0x54, 0, 0,  0, 2, 8, 0,  0x45, 0, 0,
        0,    0,    0, 0x40, 0, 64, 6,    0,    0, 10, 0, 0, 1, 10, 0,    0, 2,
    };

    b->len = HEADERS + c->payload;
    for (unsigned side = 0; side < 2; side++) {
        b->frames[side] = g_malloc(b->len * FRAMES);
        for (unsigned i = 0; i < FRAMES; i++) {
            uint8_t *frame = b->frames[side] + i * b->len, *tcp = frame + ETH + 20;

            memset(frame, 0, HEADERS);
            memcpy(frame, head, sizeof(head));
            frame[ETH + 2] = (uint8_t)((b->len - ETH) >> 8);
            frame[ETH + 3] = (uint8_t)(b->len - ETH);
            frame[ETH + 5] = (uint8_t)(side + i); /* identification */
            tcp[1] = 80;
            tcp[3] = (uint8_t)(i % c->flows);
            put32(tcp + 8, 1000);
            tcp[12] = 0x80;
            tcp[13] = 0x10;
            tcp[14] = 1;
            memcpy(tcp + 20, "\1\1\x8\xa", 4);
            tcp[27] = (uint8_t)side;
            for (size_t at = 0; at < c->payload; at++)
                tcp[32 + at] = (uint8_t)(i * 31 + at * 7 + at / 251);
        }
    }
}

static uint8_t *frame_at(Bench *b, unsigned side, unsigned i, uint32_t seq)
{
    uint8_t *frame = b->frames[side] + i * b->len;

    put32(frame + ETH + 20 + 4, seq);
    return frame;
}

/* The secondary's second frame of two is a third shorter, its first one longer: the stream is the
 * same, the cuts are not. Returns the pairs fed. */
static unsigned feed_other_cuts(ColoCompare *compare, Bench *b, const Case *c, uint8_t *scratch,
                                unsigned i, uint64_t now)
{
    uint32_t seq = b->seq[0];
    size_t first = c->payload * 2 / 3;
    uint8_t *a = frame_at(b, 1, i, seq), *z = frame_at(b, 1, i + 1, seq + (uint32_t)c->payload);
    size_t starts[3] = {0, first, c->payload + first}, ends[3];

    memcpy(scratch + HEADERS, a + HEADERS, c->payload);
    memcpy(scratch + HEADERS + c->payload, z + HEADERS, c->payload);
    ends[0] = starts[1];
    ends[1] = starts[2];
    ends[2] = 2 * c->payload;
    for (unsigned k = 0; k < 3; k++) {
        size_t len = ends[k] - starts[k], total = HEADERS - ETH + len;
        uint8_t *frame = scratch + starts[k];

        memmove(frame, a, HEADERS);
        frame[ETH + 2] = (uint8_t)(total >> 8);
        frame[ETH + 3] = (uint8_t)total;
        put32(frame + ETH + 20 + 4, seq + (uint32_t)starts[k]);
        /* The header lies over bytes that the frame before it has brought already. */
        colo_compare_secondary(compare, 0, frame, HEADERS + len, 0, b->epoch, now);
    }
    colo_compare_primary(compare, 0, frame_at(b, 0, i, seq), b->len, 0, b->epoch, now);
    colo_compare_primary(compare, 0, frame_at(b, 0, i + 1, seq + (uint32_t)c->payload), b->len, 0,
                         b->epoch, now);
    b->seq[0] += (uint32_t)(2 * c->payload);
    return 2;
}

/* All frames once. Returns the pairs fed. */
static unsigned pass_ours(ColoCompare *compare, Bench *b, const Case *c, uint8_t *scratch)
{
    unsigned pairs = 0;

    for (unsigned i = 0; i < FRAMES;) {
        unsigned flow = i % c->flows;
        uint64_t now = i + 1;

        if (c->order == OTHER_CUTS) {
            unsigned fed = feed_other_cuts(compare, b, c, scratch, i, now);

            i += fed;
            pairs += fed;
            continue;
        }
        if (c->order == SECONDARY_FIRST)
            colo_compare_secondary(compare, 0, frame_at(b, 1, i, b->seq[flow]), b->len, 0, b->epoch,
                                   now);
        colo_compare_primary(compare, 0, frame_at(b, 0, i, b->seq[flow]), b->len, 0, b->epoch, now);
        if (c->order == PRIMARY_FIRST)
            colo_compare_secondary(compare, 0, frame_at(b, 1, i, b->seq[flow]), b->len, 0, b->epoch,
                                   now);
        b->seq[flow] += (uint32_t)c->payload;
        i++;
        pairs++;
    }
    if (c->order == COMMIT_ONLY)
        colo_compare_commit(compare, ++b->epoch);
    return pairs;
}

static unsigned pass_memcmp(const Bench *b, const Case *c)
{
    unsigned differ = 0;

    for (unsigned i = 0; i < FRAMES; i++)
        differ += memcmp(b->frames[0] + i * b->len + HEADERS, b->frames[1] + i * b->len + HEADERS,
                         c->payload) != 0;
    g_assert_cmpuint(differ, ==, 0);
    return FRAMES;
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Pairs a second over one sample. */
static double sample(ColoCompare *compare, Bench *b, const Case *c, uint8_t *scratch)
{
    double start = now_ns(), end;
    uint64_t pairs = 0, left = b->left;

    do {
        for (unsigned i = 0; i < 16; i++)
            pairs += compare ? pass_ours(compare, b, c, scratch) : pass_memcmp(b, c);
        end = now_ns();
    } while (end - start < SAMPLE_NS);
    if (compare)
        g_assert_cmpuint(b->left - left, ==, pairs); /* nothing was held or lost */
    return (double)pairs * 1e9 / (end - start);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int main(void)
{
    g_printerr("%-22s %14s %14s %8s\n", "case", "pairs/s", "memcmp/s", "ratio");
    for (unsigned k = 0; k < G_N_ELEMENTS(cases); k++) {
        const Case *c = &cases[k];
        double ours[SAMPLES], peer[SAMPLES];
        g_autofree uint8_t *scratch = g_malloc(HEADERS + 2 * c->payload + 4096);
        Bench b = {0};
        ColoCompare *compare = colo_compare_new(NULL, count_left, &b);

        g_assert_nonnull(compare);
        make_frames(&b, c);
        pass_ours(compare, &b, c, scratch);
        for (unsigned i = 0; i < SAMPLES; i++) {
            ours[i] = sample(compare, &b, c, scratch);
            peer[i] = sample(NULL, &b, c, scratch);
        }
        qsort(ours, SAMPLES, sizeof(*ours), by_value);
        qsort(peer, SAMPLES, sizeof(*peer), by_value);
        g_printerr("%-22s %14.0f %14.0f %8.3f\n", c->name, ours[SAMPLES / 2], peer[SAMPLES / 2],
                   ours[SAMPLES / 2] / peer[SAMPLES / 2]);
        g_print("BENCH\tcore\t%s\t%.0f\t%.0f\t%.4f\tpairs/s\tn=%d\tmin=%.0f\tmax=%.0f\n", c->name,
                ours[SAMPLES / 2], peer[SAMPLES / 2], ours[SAMPLES / 2] / peer[SAMPLES / 2],
                SAMPLES, ours[0], ours[SAMPLES - 1]);
        colo_compare_free(compare);
        g_free(b.frames[0]);
        g_free(b.frames[1]);
    }
    return 0;
}
