/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* I8: what the compare core needs of memory, and when. */
#include "comparator/session.h"
#include "test-compare-frames.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#define FLOWS 100000u
#define BOUND ((size_t)64 << 20)

static const ColoCompareLimits limits = {.arena_bytes = COLO_SESSION_HELD_BYTES,
                                         .frames = COLO_SESSION_HELD_FRAMES,
                                         .flows = COLO_SESSION_FLOWS};

static void count_left(void *opaque, uint8_t nic G_GNUC_UNUSED, const uint8_t *frame G_GNUC_UNUSED,
                       size_t len G_GNUC_UNUSED, size_t vnet G_GNUC_UNUSED,
                       ColoChunk *chunk G_GNUC_UNUSED)
{
    (*(unsigned *)opaque)++;
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

/* Memory that malloc() has given out. */
static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* A full segment of both copies in each of the connections. */
static void feed_flows(ColoCompare *compare, uint32_t seq)
{
    static const uint8_t text[1460];
    uint8_t frame[MAX_FRAME];
    Segment segment = {
        .seq = seq, .ack = 9, .flags = ACK, .window = 500, .data = text, .len = sizeof(text)};
    size_t len = put_tcp(frame, &segment);

    for (uint32_t i = 0; i < FLOWS; i++) {
        put16(frame + TCP_AT, 1024 + (i & 0x7fff));
        put16(frame + TCP_AT + 2, 80 + (i >> 15));
        put32(frame + TCP_AT + 4, seq);
        colo_compare_primary(compare, 0, frame, len, VNET, 0, 1);
        colo_compare_secondary(compare, 0, frame, len, VNET, 0, 1);
    }
}

static void test_100000_flows(void)
{
    unsigned left = 0;
    size_t before = resident(), used, heap, heap_after;
    ColoCompare *compare = colo_compare_new(&limits, count_left, &left);

    g_assert_nonnull(compare);
    heap = allocated();
    for (unsigned round = 0; round < 3; round++)
        feed_flows(compare, 100 + round * 1460);
    used = resident() - before;
    heap_after = allocated();
    g_test_message("%.1f MiB", (double)used / (1 << 20));
    g_assert_cmpuint(left, ==, 3 * FLOWS);
    g_assert_cmpuint(colo_compare_counter(compare, COLO_COUNT_EVICTED_FLOWS), ==, 0);
#ifndef __SANITIZE_ADDRESS__ /* has an allocator of its own */
    g_assert_cmpuint(used, <, BOUND);
    g_assert_cmpuint(heap_after, ==, heap);
#endif
    colo_compare_free(compare);
}

/* A table of flows that were never seen costs next to nothing: there is one for each domain. */
static void test_unused_is_untouched(void)
{
    unsigned left = 0;
    size_t before = resident();
    ColoCompare *compare = colo_compare_new(&limits, count_left, &left);

    g_assert_nonnull(compare);
#ifndef __SANITIZE_ADDRESS__
    g_assert_cmpuint(resident() - before, <, (size_t)1 << 20);
#endif
    colo_compare_free(compare);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare-memory/I8/unused-is-untouched", test_unused_is_untouched);
    g_test_add_func("/compare-memory/I8/100000-flows", test_100000_flows);
    return g_test_run();
}
