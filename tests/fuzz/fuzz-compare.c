/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target of the compare core: both sides' frames, commits and gates from the input.
 *   clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/fuzz-compare.c \
 *       src/comparator/{compare{,-commit,-report},tcp-{stream,ack,usual}}.c \
 *       src/comparator/{flow,skew,frame{,-usual},arena}.c -o fuzz-compare
 *   tests/fuzz/fuzz-compare-seeds.py SEEDS && ./fuzz-compare -max_total_time=120 SEEDS
 *
 * Input: one byte (vnet header of 0, 10 or 12 bytes), then records that begin with one byte:
 * operation in the low 4 bits, the rest is an argument.
 *   0, 1  a TCP segment of the primary, of the secondary: 10 bytes (struct below)
 *   2, 3  a raw frame of the primary, of the secondary: be16 length, bytes
 *   4, 5  the primary, the secondary enters its next epoch
 *   6     commit of the primary's epoch minus argument % 2
 *   7     release all    8  drop all    9  comparing on or off (argument % 2)
 *   10    both produce the same TCP segment
 *
 * Beside memory errors this finds: a frame that leaves while the secondary has said nothing and
 * nothing was committed (I1), a frame that was not fed, limits that are passed (I8), a TCP
 * acknowledgement beyond both the secondary's and the committed ones (I1).
 */
#include "comparator/compare.h"

#include <stdlib.h>
#include <string.h>

#define FRAMES 64u
#define ETH_IP_TCP (14 + 20 + 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    uint8_t seq, ack, flags, len, fill, port, window, options, ip, spare;
} Segment;

typedef struct {
    ColoCompare *compare;
    bool may_leave; /* the secondary spoke, or there was a commit or sole ownership */
    bool any_ack;   /* frames may carry any acknowledgement: raw ones, commits */
    uint8_t secondary_ack;
    uint64_t left;
} Run;

#define CHECK(condition)      \
    do {                      \
        if (!(condition))     \
            __builtin_trap(); \
    } while (0)

/* A frame in memory of its own, which goes with the last reference. */
typedef struct {
    ColoChunk chunk;
    uint8_t data[];
} Fed;

static void free_fed(ColoChunk *chunk)
{
    free(chunk);
}

static void left(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet,
                 ColoChunk *chunk)
{
    Run *run = opaque;
    const uint8_t *tcp = frame + vnet + 34;

    CHECK(nic < 2);
    CHECK(len >= vnet + 14 && len <= COLO_COMPARE_FRAME_MAX);
    CHECK(run->may_leave);
    CHECK(!chunk || (chunk->refs > 0 && ((Fed *)chunk)->data == frame));
    run->left++;
    /* A clamped one may lie below 0. */
    if (!run->any_ack && len >= vnet + ETH_IP_TCP && (tcp[13] & 0x10))
        CHECK((int32_t)(((uint32_t)tcp[8] << 24 | tcp[9] << 16 | tcp[10] << 8 | tcp[11]) -
                        run->secondary_ack) <= 0);
}

/* Small numbers only, so that both sides meet often. */
static size_t build(uint8_t *frame, size_t vnet, const Segment *s)
{
    static const uint8_t head[34] = {
        0x52, 0x54, 0, 0,    0, 1,  0x52, 0x54, 0, 0,  0, 2, 8, 0,  0x45, 0, 0,
        0,    0,    0, 0x40, 0, 64, 6,    0,    0, 10, 0, 0, 1, 10, 0,    0, 2,
    };
    static const uint8_t options[4][12] = {
        {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2},
        {1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 12},
        {2, 4, 5, 0xb4, 1, 3, 3, 2, 4, 2, 1, 1},
        {30, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
    };
    size_t header = s->options & 4 ? 32 : 20, payload = s->len % 64, total;
    uint8_t *ip = frame + vnet + 14, *tcp = ip + 20;

    memset(frame, 0, vnet);
    memcpy(frame + vnet, head, sizeof(head));
    total = 20 + header + payload;
    ip[2] = (uint8_t)(total >> 8);
    ip[3] = (uint8_t)total;
    ip[5] = s->ip;
    memset(tcp, 0, header);
    tcp[1] = 80 + s->port % 4;
    tcp[3] = 99;
    tcp[7] = s->seq;
    tcp[11] = s->ack;
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = s->flags;
    tcp[15] = s->window;
    if (header > 20)
        memcpy(tcp + 20, options[s->options & 3], 12);
    /* A byte depends on its position, and in some segments on the fill too. */
    for (size_t i = 0; i < payload; i++)
        tcp[header + i] = (uint8_t)(s->seq + i + (s->fill > 250 ? s->fill : 0));
    return vnet + 14 + total;
}

static void feed(Run *run, bool primary, const uint8_t *frame, size_t len, size_t vnet,
                 const uint64_t epoch[2], uint64_t now)
{
    Fed *fed = malloc(sizeof(*fed) + len);
    ColoCompareInput in = {.frame = fed->data,
                           .len = len,
                           .vnet = vnet,
                           .epoch = epoch[!primary],
                           .now_ns = now,
                           .chunk = now % 3 == 0 ? &fed->chunk : NULL,
                           .nic = now & 1,
                           .secondary = !primary};
    ColoVerdict verdict;
    uint64_t frames;

    fed->chunk = (ColoChunk){.refs = 1, .unused = free_fed};
    memcpy(fed->data, frame, len);
    run->may_leave = run->may_leave || !primary;
    colo_compare_batch(run->compare, &in, 1, &verdict);
    colo_chunk_unref(&fed->chunk);
    colo_compare_held(run->compare, &frames, NULL);
    CHECK(frames <= FRAMES);
    CHECK((frames == 0) == (colo_compare_oldest_ns(run->compare) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t vnets[] = {0, 10, 12};
    static uint8_t frame[COLO_COMPARE_FRAME_MAX + 2];
    ColoCompareLimits limits = {.arena_bytes = 1 << 17, .frames = FRAMES, .flows = 6};
    Run run = {0};
    uint64_t epoch[2] = {0, 0}, now = 2;
    size_t at = 1, len, vnet;

    if (size < 1)
        return 0;
    vnet = vnets[data[0] % 3];
    run.compare = colo_compare_new(&limits, left, &run);
    CHECK(run.compare);
    while (at < size) {
        uint8_t op = data[at] & 15, argument = data[at] >> 4;
        Segment s;

        at++;
        now += 2;
        switch (op) {
        case 0:
        case 1:
        case 10:
            if (size - at < sizeof(s))
                goto out;
            memcpy(&s, data + at, sizeof(s));
            at += sizeof(s);
            len = build(frame, vnet, &s);
            if (op != 0) {
                if ((s.flags & 0x10) && s.ack > run.secondary_ack)
                    run.secondary_ack = s.ack;
                feed(&run, false, frame, len, vnet, epoch, now);
            }
            if (op != 1)
                feed(&run, true, frame, len, vnet, epoch, now);
            break;
        case 2:
        case 3:
            if (size - at < 2)
                goto out;
            len = (size_t)data[at] << 8 | data[at + 1];
            at += 2;
            if (len > size - at)
                len = size - at;
            run.any_ack = true;
            feed(&run, op == 2, data + at, len, vnet, epoch, now + (argument & 1));
            at += len;
            break;
        case 4:
        case 5:
            epoch[op - 4]++;
            break;
        case 6:
            run.may_leave = run.any_ack = true;
            colo_compare_commit(run.compare, epoch[0] - (epoch[0] ? argument % 2 : 0));
            break;
        case 7:
            run.may_leave = run.any_ack = true;
            colo_compare_release_all(run.compare);
            break;
        case 8:
            colo_compare_drop_all(run.compare);
            break;
        case 9:
            colo_compare_set_comparing(run.compare, argument % 2);
            break;
        default:
            break;
        }
    }
out:
    CHECK(run.left <= colo_compare_counter(run.compare, COLO_COUNT_PRIMARY_FRAMES) +
                          colo_compare_counter(run.compare, COLO_COUNT_OWED_ACK));
    CHECK(run.left == colo_compare_counter(run.compare, COLO_COUNT_RELEASED_EQUAL) +
                          colo_compare_counter(run.compare, COLO_COUNT_RELEASED_COMMIT) +
                          colo_compare_counter(run.compare, COLO_COUNT_RELEASED_ALONE));
    run.may_leave = run.any_ack = true;
    colo_compare_release_all(run.compare);
    CHECK(colo_compare_oldest_ns(run.compare) == 0);
    CHECK(!colo_compare_diverged(run.compare));
    colo_compare_free(run.compare);
    return 0;
}
