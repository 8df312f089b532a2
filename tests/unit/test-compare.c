/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The compare core on TCP streams, over epochs: what may leave, what waits, what diverges. */
#include "test-compare-frames.h"

#include <time.h>

static void test_equal_secondary_first(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_cmpint(S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpuint(sink->left->len, ==, 1);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_EQUAL), ==, 1);
}

static void test_equal_primary_first(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint64_t frames, bytes;

    g_assert_cmpuint(colo_compare_oldest_ns(sink->compare), ==, 0);
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==, COLO_VERDICT_HELD);
    g_assert_cmpuint(colo_compare_oldest_ns(sink->compare), ==, 1);
    colo_compare_held(sink->compare, &frames, &bytes);
    g_assert_cmpuint(frames, ==, 1);
    g_assert_cmpuint(bytes, ==, TCP_AT + 20 + 3);
    g_assert_cmpuint(sink->left->len, ==, 0);
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(sink->left->len, ==, 1);
    g_assert_cmpuint(colo_compare_oldest_ns(sink->compare), ==, 0);
    g_assert_cmpuint(held(sink), ==, 0);
}

static void test_segmentation_differs(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    P(sink, .seq = 7, .ack = 9, .flags = ACK | PSH, TEXT("ghi"));
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("ab"));
    S(sink, .seq = 3, .ack = 9, .flags = ACK | PSH, TEXT("cdefg"));
    g_assert_cmpuint(sink->left->len, ==, 1);
    S(sink, .seq = 8, .ack = 9, .flags = ACK, TEXT("hijkl"));
    g_assert_cmpuint(sink->left->len, ==, 2);
    g_assert_cmpint(P(sink, .seq = 10, .ack = 9, .flags = ACK, TEXT("jkl")), ==,
                    COLO_VERDICT_RELEASED);
}

static void test_secondary_out_of_order(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 5, .ack = 9, .flags = ACK, TEXT("efgh"));
    S(sink, .seq = 9, .ack = 9, .flags = ACK, TEXT("ij"));
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdefghij"));
    g_assert_cmpuint(sink->left->len, ==, 0);
    S(sink, .seq = 3, .ack = 9, .flags = ACK, TEXT("cdef"));
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_sequence_numbers_wrap(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 0xfffffffe, .ack = 9, .flags = ACK, TEXT("abcd"));
    S(sink, .seq = 2, .ack = 9, .flags = ACK, TEXT("ef"));
    g_assert_cmpint(P(sink, .seq = 0xfffffffe, .ack = 9, .flags = ACK, TEXT("abcde")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 3, .ack = 9, .flags = ACK, TEXT("f")), ==,
                    COLO_VERDICT_RELEASED);
}

static void test_gso_against_segments(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree uint8_t *stream = g_malloc(65000);

    for (unsigned i = 0; i < 65000; i++)
        stream[i] = (uint8_t)(i * 7 + i / 251);
    g_assert_cmpint(
        P(sink, .seq = 1, .ack = 9, .flags = ACK, .data = stream, .len = 65000, .partial = true),
        ==, COLO_VERDICT_HELD);
    for (unsigned at = 0; at < 65000; at += 1460)
        S(sink, .seq = 1 + at, .ack = 9, .flags = ACK, .data = stream + at,
          .len = MIN(1460, 65000 - at));
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_i1_different_bytes_wait_for_commit(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpint(S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abd")), ==,
                    COLO_VERDICT_DIVERGED);
    g_assert_true(colo_compare_diverged(sink->compare));
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_PAYLOAD), ==, 1);
    g_assert_cmpint(P(sink, .seq = 4, .ack = 9, .flags = ACK, TEXT("def")), ==,
                    COLO_VERDICT_DIVERGED);
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    g_assert_cmpuint(sink->left->len, ==, 0);
    /* Another flow goes on. */
    S(sink, .port = 81, .seq = 1, .ack = 9, .flags = ACK, TEXT("x"));
    g_assert_cmpint(P(sink, .port = 81, .seq = 1, .ack = 9, .flags = ACK, TEXT("x")), ==,
                    COLO_VERDICT_RELEASED);
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 3);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_COMMIT), ==, 2);
    g_assert_false(colo_compare_diverged(sink->compare));
}

static void test_release_keeps_order(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    size_t len;

    for (unsigned i = 0; i < 5; i++)
        P(sink, .seq = 1 + i, .ack = 9, .flags = ACK, .data = "abcde" + i, .len = 1);
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 5);
    for (unsigned i = 0; i < 5; i++)
        g_assert_cmpuint(get32(sink_frame(sink, i, &len) + TCP_AT + 4), ==, 1 + i);
}

static void test_retransmission_after_release(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    g_assert_cmpint(P(sink, .seq = 3, .ack = 9, .flags = ACK, TEXT("cd")), ==,
                    COLO_VERDICT_RELEASED);
    /* Old bytes with new ones behind them still need the secondary for the new ones. */
    g_assert_cmpint(P(sink, .seq = 5, .ack = 9, .flags = ACK, TEXT("efg")), ==, COLO_VERDICT_HELD);
    S(sink, .seq = 5, .ack = 9, .flags = ACK, TEXT("efgh"));
    g_assert_cmpuint(sink->left->len, ==, 3);
}

static void test_i1_changed_retransmission_diverges(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    g_assert_cmpint(P(sink, .seq = 3, .ack = 9, .flags = ACK, TEXT("cX")), ==,
                    COLO_VERDICT_DIVERGED);
}

static void test_secondary_ahead_is_no_divergence(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abcdef"));
    g_assert_false(colo_compare_diverged(sink->compare));
    g_assert_cmpuint(colo_compare_oldest_ns(sink->compare), ==, 0);
}

static void test_fields_without_meaning(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[2000];
    size_t len;

    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"), .ip_id = 7, .window = 500,
      .options = TS("\1"), .options_len = 12);
    len = put_tcp(frame, &(Segment){.seq = 1,
                                    .ack = 9,
                                    .flags = ACK | PSH,
                                    TEXT("abc"),
                                    .ip_id = 9,
                                    .window = 600,
                                    .options = TS("\2"),
                                    .options_len = 12,
                                    .partial = true});
    frame[IP_AT + 1] = 2;              /* ECN-capable */
    frame[TCP_AT + 13] |= 0x40;        /* ECE */
    frame[3] = 99;                     /* vnet hdr_len */
    put16(frame + IP_AT + 10, 0x1234); /* header checksum */
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_RELEASED);
}

/* Headers that have meaning: one bit of each is changed in an otherwise equal frame. */
static void test_i1_headers_with_meaning(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    static const unsigned at[] = {VNET,       VNET + 6, IP_AT + 1,  IP_AT + 6,  IP_AT + 8,
                                  IP_AT + 15, TCP_AT,   TCP_AT + 2, TCP_AT + 7, TCP_AT + 12};

    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        uint8_t frame[2000];
        size_t len = put_tcp(
            frame, &(Segment){.seq = 1, .ack = 9, .flags = ACK, TEXT("abc"), .port = 90 + i});

        feed(sink, false, frame, len);
        frame[at[i]] ^= 0x10;
        g_assert_cmpint(feed(sink, true, frame, len), !=, COLO_VERDICT_RELEASED);
    }
    g_assert_cmpuint(sink->left->len, ==, 0);
}

static void test_i1_reserved_bits_are_compared(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[2000];
    size_t len = put_tcp(frame, &(Segment){.seq = 1, .ack = 9, .flags = ACK, TEXT("abc")});

    feed(sink, false, frame, len);
    frame[TCP_AT + 12] |= 2;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_HELD);
}

static void test_urgent_data_wants_the_same_segment(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[2000];
    size_t len = put_tcp(frame, &(Segment){.seq = 1, .ack = 9, .flags = ACK | URG, TEXT("abc")});

    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    frame[TCP_AT + 19] = 3;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_HELD);
    feed(sink, false, frame, len);
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_i1_bytes_behind_the_packet_are_compared(Sink *sink,
                                                         gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[2000];
    size_t len = put_tcp(frame, &(Segment){.seq = 1, .ack = 9, .flags = ACK, TEXT("abc")});

    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    memcpy(frame + len, "leak", 4);
    g_assert_cmpint(feed(sink, true, frame, len + 4), ==, COLO_VERDICT_HELD);
}

static void test_epochs_are_not_mixed(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    sink->epoch = 1;
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(sink->left->len, ==, 0);
    /* The primary enters the epoch: what the secondary produced in it is there. */
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(sink->left->len, ==, 0);
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 2);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_COMMIT), ==, 1);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_EQUAL), ==, 1);
}

static void test_stale_secondary_frames_are_dropped(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    colo_compare_commit(sink->compare, 1);
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(count(sink, COLO_COUNT_DROPPED_STALE), ==, 1);
    sink->epoch = 1;
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==, COLO_VERDICT_HELD);
}

static void test_primary_frame_older_than_the_commit(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    colo_compare_commit(sink->compare, 3);
    sink->epoch = 2;
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_COMMIT), ==, 1);
}

static void test_commit_moves_the_secondarys_positions(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("abc"));
    colo_compare_commit(sink->compare, 1);
    sink->epoch = 1;
    g_assert_cmpint(P(sink, .seq = 104, .ack = 1501, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 104, .ack = 1502, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_HELD);
}

static void test_i1_commit_moves_positions_of_its_epochs_only(Sink *sink,
                                                              gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500);
    sink->epoch = 1;
    P(sink, .seq = 101, .ack = 1601, .flags = ACK, .window = 500);
    P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("a"));
    g_assert_cmpuint(sink->left->len, ==, 1);
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 2);
    S(sink, .seq = 101, .ack = 1600, .flags = ACK, .window = 500);
    g_assert_cmpuint(sink->left->len, ==, 2);
    S(sink, .seq = 101, .ack = 1601, .flags = ACK, .window = 500, TEXT("a"));
    g_assert_cmpuint(sink->left->len, ==, 4);
}

static void test_flow_diverges_again_after_commit(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abd"));
    sink->epoch = 1;
    P(sink, .seq = 4, .ack = 9, .flags = ACK, TEXT("def"));
    S(sink, .seq = 4, .ack = 9, .flags = ACK, TEXT("deg"));
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 1);
    g_assert_true(colo_compare_diverged(sink->compare));
    colo_compare_commit(sink->compare, 2);
    g_assert_cmpuint(sink->left->len, ==, 2);
    g_assert_false(colo_compare_diverged(sink->compare));
}

static void test_comparing_off(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    colo_compare_set_comparing(sink->compare, false);
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==, COLO_VERDICT_HELD);
    colo_compare_set_comparing(sink->compare, true);
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(sink->left->len, ==, 0);
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 1);
}

/* CPU seconds of this process. */
static double cpu(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* The copies of a hostile guest need not agree: tiny segments of the one, at places of its choice,
 * must not make each next frame dearer, for all domains of the host share the thread. */
static void test_stream_work_is_bounded(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const ColoCompareLimits limits = {.arena_bytes = 64u << 20, .frames = 131072, .flows = 16};
    enum { SEGMENTS = 40000, MIDDLE = 1000000, ANSWERS = 5000 };
    double start = cpu();

    sink_clear(sink);
    sink_init(sink, &limits);
    /* From the ends to the middle: into the middle is too far. */
    for (uint32_t i = SEGMENTS; i > 0; i--)
        S(sink, .seq = i & 1 ? MIDDLE + i : MIDDLE - i, .ack = 9, .flags = ACK, TEXT("x"));
    g_assert_cmpuint(count(sink, COLO_COUNT_DROPPED_FAR), >, 0);
    sink_clear(sink);
    sink_init(sink, &limits);
    /* From the middle to the ends: both ends are near. */
    for (uint32_t i = 0; i < SEGMENTS; i++)
        S(sink, .seq = i & 1 ? MIDDLE + i : MIDDLE - i, .ack = 9, .flags = ACK, TEXT("x"));
    g_assert_cmpuint(count(sink, COLO_COUNT_DROPPED_FAR), ==, 0);
    g_assert_cmpint(P(sink, .seq = MIDDLE - SEGMENTS + 2, .ack = 9, .flags = ACK, TEXT("x")), ==,
                    COLO_VERDICT_RELEASED);
    /* Behind all of them, what both say. */
    for (uint32_t i = 0; i < ANSWERS; i++) {
        S(sink, .seq = 2 * MIDDLE + i, .ack = 9, .flags = ACK, TEXT("y"));
        P(sink, .seq = 2 * MIDDLE + i, .ack = 9, .flags = ACK, TEXT("y"));
    }
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 1 + ANSWERS);
    g_test_message("%.3f s", cpu() - start);
    g_assert_cmpfloat(cpu() - start, <, 3);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/compare/" name, Sink, NULL, setup, function, teardown)
    ADD("equal/secondary-first", test_equal_secondary_first);
    ADD("equal/primary-first", test_equal_primary_first);
    ADD("stream/segmentation-differs", test_segmentation_differs);
    ADD("stream/secondary-out-of-order", test_secondary_out_of_order);
    ADD("stream/sequence-numbers-wrap", test_sequence_numbers_wrap);
    ADD("stream/gso-against-segments", test_gso_against_segments);
    ADD("stream/retransmission-after-release", test_retransmission_after_release);
    ADD("stream/secondary-ahead-is-no-divergence", test_secondary_ahead_is_no_divergence);
    ADD("stream/fields-without-meaning", test_fields_without_meaning);
    ADD("stream/release-keeps-order", test_release_keeps_order);
    ADD("I1/different-bytes-wait-for-commit", test_i1_different_bytes_wait_for_commit);
    ADD("I1/changed-retransmission-diverges", test_i1_changed_retransmission_diverges);
    ADD("I1/headers-with-meaning", test_i1_headers_with_meaning);
    ADD("I1/reserved-bits", test_i1_reserved_bits_are_compared);
    ADD("I1/bytes-behind-the-packet", test_i1_bytes_behind_the_packet_are_compared);
    ADD("stream/urgent-data", test_urgent_data_wants_the_same_segment);
    ADD("epoch/not-mixed", test_epochs_are_not_mixed);
    ADD("epoch/stale-secondary", test_stale_secondary_frames_are_dropped);
    ADD("epoch/primary-older-than-commit", test_primary_frame_older_than_the_commit);
    ADD("epoch/commit-moves-positions", test_commit_moves_the_secondarys_positions);
    ADD("I1/commit-moves-its-epochs-only", test_i1_commit_moves_positions_of_its_epochs_only);
    ADD("epoch/diverges-again", test_flow_diverges_again_after_commit);
    ADD("epoch/comparing-off", test_comparing_off);
    ADD("stream/work-is-bounded", test_stream_work_is_bounded);
    return g_test_run();
}
