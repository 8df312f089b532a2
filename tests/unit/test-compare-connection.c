/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The compare core on what a TCP connection is made of: ACKs, windows, SACK, SYN, FIN and RST. */
#include "test-compare-frames.h"

#define SACK(l, r) "\1\1\5\xa\0\0" l "\0\0" r

static void test_pure_ack_leaves_up_to_the_secondarys(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 2001, .flags = ACK, .window = 500);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2001, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_RELEASED);
    /* A duplicate, a window update, a keep-alive. */
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2001, .flags = ACK, .window = 600), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 100, .ack = 2001, .flags = ACK, .window = 600), ==,
                    COLO_VERDICT_RELEASED);
}

static void test_i1_pure_ack_beyond_the_secondarys_waits(Sink *sink,
                                                         gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1502, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_HELD);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500);
    g_assert_cmpuint(sink->left->len, ==, 1);
    S(sink, .seq = 101, .ack = 1600, .flags = ACK, .window = 500);
    g_assert_cmpuint(sink->left->len, ==, 2);
}

static void test_pure_ack_at_an_unknown_place_waits(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    g_assert_cmpint(P(sink, .seq = 5101, .ack = 1001, .flags = ACK), ==, COLO_VERDICT_HELD);
}

static void test_i1_ack_with_data_is_clamped(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const uint8_t *frame;
    size_t len;

    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 505, TEXT("abc"));
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2141, .flags = ACK, .window = 500, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpuint(count(sink, COLO_COUNT_CLAMPED_ACK), ==, 1);
    frame = sink_frame(sink, 1, &len);
    g_assert_cmpuint(get32(frame + TCP_AT + 8), ==, 1501);
    g_assert_cmphex(tcp_sum(frame), ==, 0xffff);
    /* Right edge: 2141 + 500 * 128 = 1501 + 505 * 128. */
    g_assert_cmpuint(get16(frame + TCP_AT + 14), ==, 505);
}

static void test_clamp_leaves_a_partial_checksum(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t before[2000];
    const uint8_t *frame;
    Segment segment = {
        .seq = 101, .ack = 2141, .flags = ACK, .window = 500, TEXT("abc"), .partial = true};
    size_t len;

    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("abc"));
    put_tcp(before, &segment);
    feed_tcp(sink, true, &segment);
    frame = sink_frame(sink, 1, &len);
    g_assert_cmpuint(get32(frame + TCP_AT + 8), ==, 1501);
    g_assert_cmpmem(frame + TCP_AT + 16, 2, before + TCP_AT + 16, 2);
}

static void test_clamped_ack_is_owed_and_follows(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const uint8_t *frame;
    size_t len;

    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("abc"));
    P(sink, .seq = 101, .ack = 2141, .flags = ACK, .window = 500, TEXT("abc"), .options = TS("\3"),
      .options_len = 12);
    g_assert_cmpuint(held(sink), ==, 1);
    S(sink, .seq = 104, .ack = 2141, .flags = ACK, .window = 500);
    g_assert_cmpuint(held(sink), ==, 0);
    frame = sink_frame(sink, 2, &len);
    g_assert_cmpuint(len, ==, TCP_AT + 32);
    g_assert_cmpuint(get32(frame + TCP_AT + 4), ==, 104);
    g_assert_cmpuint(get32(frame + TCP_AT + 8), ==, 2141);
    g_assert_cmpuint(get16(frame + TCP_AT + 14), ==, 500);
    g_assert_cmphex(tcp_sum(frame), ==, 0xffff);
    g_assert_cmphex(internet_sum(0, frame + IP_AT, 20), ==, 0xffff);
}

static void test_owed_ack_holds_up_nothing(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("abcdef"));
    P(sink, .seq = 101, .ack = 2141, .flags = ACK, .window = 500, TEXT("abc"));
    g_assert_cmpint(P(sink, .seq = 104, .ack = 2141, .flags = ACK, .window = 500, TEXT("def")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpuint(held(sink), ==, 1); /* one is owed, not two */
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(held(sink), ==, 0);
    g_assert_cmpuint(sink->left->len, ==, 4);
}

static void test_window_edge_never_shrinks(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    size_t len;

    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 65535, TEXT("abcdef"));
    P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 65535, TEXT("abc"));
    /* Edge 1501 + 65535 * 128; the full window cannot be had from a lower ACK, but the edge that
     * left can. */
    g_assert_cmpint(P(sink, .seq = 104, .ack = 1701, .flags = ACK, .window = 65535, TEXT("d")), ==,
                    COLO_VERDICT_RELEASED);
    /* What was offered later reaches further than this ACK and a full window can. */
    S(sink, .seq = 107, .ack = 1701, .flags = ACK, .window = 65535, TEXT("g"));
    g_assert_cmpuint(held(sink), ==, 0);
    g_assert_cmpuint(sink->left->len, ==, 4);
    g_assert_cmpint(P(sink, .seq = 105, .ack = 1801, .flags = ACK, .window = 65535, TEXT("e")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpuint(get16(sink_frame(sink, 4, &len) + TCP_AT + 14), ==, 65535);
    g_assert_cmpuint(get32(sink_frame(sink, 4, &len) + TCP_AT + 8), ==, 1701);
}

static void test_clamp_keeps_the_edge_to_the_byte(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const uint8_t *tcp;
    size_t len;

    handshake(sink);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 510, TEXT("abc"));
    P(sink, .seq = 101, .ack = 1600, .flags = ACK, .window = 500, TEXT("abc"));
    tcp = sink_frame(sink, 1, &len) + TCP_AT;
    g_assert_cmpuint(get32(tcp + 8), ==, 1600 - 128); /* less than a unit below 1501 */
    g_assert_cmpuint(get32(tcp + 8) + get16(tcp + 14) * 128, ==, 1600 + 500 * 128);
}

static void test_clamped_ack_does_not_go_back(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const uint8_t *tcp;
    size_t len;

    handshake(sink);
    P(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500);
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 510, TEXT("abcdef"));
    g_assert_cmpuint(sink->left->len, ==, 2);
    /* Less than a unit below 1501 would be 1472, which is before what left. */
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1600, .flags = ACK, .window = 500, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    tcp = sink_frame(sink, 2, &len) + TCP_AT;
    g_assert_cmpuint(get32(tcp + 8), ==, 1501);
    g_assert_cmpuint(get16(tcp + 14), ==, 500); /* 1600 + 500 * 128, rounded down: no shrinking */
    /* Rounded down this edge would be before the one that left. */
    P(sink, .seq = 104, .ack = 1501, .flags = ACK, .window = 501);
    g_assert_cmpint(P(sink, .seq = 104, .ack = 1600, .flags = ACK, .window = 500, TEXT("def")), ==,
                    COLO_VERDICT_HELD);
}

static uint32_t edge_of(Sink *sink, unsigned i)
{
    size_t len;
    const uint8_t *tcp = sink_frame(sink, i, &len) + TCP_AT;

    g_assert_cmphex(tcp_sum(tcp - TCP_AT), ==, 0xffff);
    return get32(tcp + 8) + ((uint32_t)get16(tcp + 14) << 7);
}

/* The peer must not learn of a right edge that the survivor would take back. */
static void test_window_is_narrowed_to_the_secondarys(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink); /* edge 1001 + 64000 */
    S(sink, .seq = 101, .ack = 2025, .flags = ACK, .window = 510, TEXT("abc"));
    P(sink, .seq = 101, .ack = 2025, .flags = ACK, .window = 2000, TEXT("abc"));
    g_assert_cmpuint(edge_of(sink, 1), ==, 2025 + (510 << 7));
    g_assert_cmpuint(count(sink, COLO_COUNT_NARROWED_WINDOW), ==, 1);
    /* It is large enough: nothing is owed, and a pure ACK leaves with it too. */
    g_assert_cmpuint(held(sink), ==, 0);
    S(sink, .seq = 104, .ack = 2153, .flags = ACK, .window = 520);
    P(sink, .seq = 104, .ack = 2153, .flags = ACK, .window = 2000);
    g_assert_cmpuint(edge_of(sink, 2), ==, 2153 + (520 << 7));
    g_assert_cmpuint(held(sink), ==, 0);
    /* The secondary's grows: so may the primary's. */
    S(sink, .seq = 104, .ack = 2153, .flags = ACK, .window = 2500);
    P(sink, .seq = 104, .ack = 2153, .flags = ACK, .window = 2000);
    g_assert_cmpuint(edge_of(sink, 3), ==, 2153 + (2000 << 7));
}

/* What left does not shrink, wherever the acknowledgement lies in a unit of the scale. */
static void test_narrowed_edge_does_not_shrink(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t edge = 1001 + 64000;

    handshake(sink);
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t ack = 1001 + 7 * i;

        S(sink, .seq = 101 + i, .ack = ack, .flags = ACK, .window = 0, TEXT("x"));
        P(sink, .seq = 101 + i, .ack = ack, .flags = ACK, .window = 2000, TEXT("x"));
    }
    g_assert_cmpuint(sink->left->len, >=, 601);
    for (unsigned i = 1; i < sink->left->len; i++) {
        g_assert_cmpuint(edge_of(sink, i), >=, edge);
        edge = edge_of(sink, i);
    }
    /* Nor does it creep on. */
    g_assert_cmpuint(edge, <, 1001 + 64000 + 128);
}

/* The peer could stall with so little: the pure ACK waits until it can offer more. */
static void test_low_window_waits(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 0);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_HELD);
    S(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 100);
    g_assert_cmpuint(held(sink), ==, 0);
    g_assert_cmpuint(edge_of(sink, 1), ==, 65001 + (100 << 7));
}

/* With payload it leaves, and the full one is owed. */
static void test_low_window_is_owed(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 0, TEXT("abc"));
    g_assert_cmpint(P(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 500, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpuint(edge_of(sink, 1), ==, 65001);
    g_assert_cmpuint(held(sink), ==, 1);
    S(sink, .seq = 104, .ack = 65001, .flags = ACK, .window = 500);
    g_assert_cmpuint(held(sink), ==, 0);
    g_assert_cmpuint(edge_of(sink, 2), ==, 65001 + 64000);
}

/* After a commit the secondary has the primary's state, and with it the primary's offer. */
static void test_commit_frees_the_window(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 0);
    P(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 500);
    colo_compare_commit(sink->compare, ++sink->epoch);
    g_assert_cmpuint(edge_of(sink, 1), ==, 65001 + 64000);
    S(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 400, TEXT("abc"));
    P(sink, .seq = 101, .ack = 65001, .flags = ACK, .window = 500, TEXT("abc"));
    g_assert_cmpuint(edge_of(sink, 2), ==, 65001 + 64000);
}

/* 2^31 away is before and behind at once (RFC 9293 3.4): neither counts. */
static void test_half_the_space_away(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500);
    P(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500);
    g_assert_cmpint(
        P(sink, .seq = 101 + 0x80000000u, .ack = 1001, .flags = ACK, .window = 500, TEXT("abc")),
        ==, COLO_VERDICT_HELD);
}

static void test_half_the_space_away_empty(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500);
    P(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500);
    g_assert_cmpint(P(sink, .seq = 101 + 0x80000000u, .ack = 1001, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_HELD);
}

static void test_no_ack_beyond_the_fin(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1001, .flags = ACK | FIN, .window = 500);
    S(sink, .seq = 102, .ack = 1001, .flags = ACK, .window = 500);
    P(sink, .seq = 101, .ack = 1001, .flags = ACK | FIN, .window = 500);
    g_assert_cmpint(P(sink, .seq = 103, .ack = 1001, .flags = ACK, .window = 500), ==,
                    COLO_VERDICT_HELD);
}

static void test_unknown_scale_holds(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    /* No handshake seen: how far 500 units reach is unknown until something left. */
    S(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 500, TEXT("abcdefgh"));
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1601, .flags = ACK, .window = 500, TEXT("ab")), ==,
                    COLO_VERDICT_HELD);
    S(sink, .seq = 109, .ack = 1601, .flags = ACK, .window = 500);
    g_assert_cmpuint(sink->left->len, ==, 1);
    g_assert_cmpint(P(sink, .seq = 103, .ack = 1701, .flags = ACK, .window = 500, TEXT("cd")), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 105, .ack = 1701, .flags = ACK, .window = 499, TEXT("ef")), ==,
                    COLO_VERDICT_HELD);
}

static void test_i1_sack_beyond_the_secondarys(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const uint8_t *frame;
    size_t len;

    handshake(sink);
    S(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abcdef"));
    /* With data the blocks are taken out. */
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abc"),
                      .options = SACK("\5\1", "\6\1"), .options_len = 12),
                    ==, COLO_VERDICT_RELEASED);
    g_assert_cmpuint(count(sink, COLO_COUNT_STRIPPED_SACK), ==, 1);
    frame = sink_frame(sink, 1, &len);
    g_assert_cmpmem(frame + TCP_AT + 20, 12, "\1\1\1\1\1\1\1\1\1\1\1\1", 12);
    g_assert_cmphex(tcp_sum(frame), ==, 0xffff);
    /* A pure ACK waits for the secondary's blocks. */
    g_assert_cmpint(P(sink, .seq = 104, .ack = 1001, .flags = ACK, .window = 500,
                      .options = SACK("\5\1", "\6\1"), .options_len = 12),
                    ==, COLO_VERDICT_HELD);
    S(sink, .seq = 107, .ack = 1001, .flags = ACK, .window = 500, .options = SACK("\5\1", "\5\x81"),
      .options_len = 12);
    g_assert_cmpuint(held(sink), ==, 1);
    S(sink, .seq = 107, .ack = 1001, .flags = ACK, .window = 500, .options = SACK("\5\x81", "\6\2"),
      .options_len = 12);
    g_assert_cmpuint(held(sink), ==, 0);
    frame = sink_frame(sink, 2, &len);
    g_assert_cmpmem(frame + TCP_AT + 20, 12, SACK("\5\1", "\6\1"), 12);
}

/* Half the sequence space away it would be both before and behind the secondary's. */
static void test_i1_far_acknowledgement_waits(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 2001, .flags = ACK, .window = 100);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2003 + (1u << 31), .flags = ACK, .window = 100), ==,
                    COLO_VERDICT_HELD);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2002, .flags = ACK, .window = 100), ==,
                    COLO_VERDICT_HELD);
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_i1_far_acknowledgement_of_the_secondary(Sink *sink,
                                                         gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1000 + (1u << 31), .flags = ACK, .window = 100);
    S(sink, .seq = 101, .ack = 2001, .flags = ACK, .window = 100);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2001, .flags = ACK, .window = 100), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 101, .ack = 2002, .flags = ACK, .window = 100), ==,
                    COLO_VERDICT_HELD);
}

/* The secondary's segment has left in part only: nothing of it is history yet. */
static void test_i1_retransmission_with_other_bytes(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 100, TEXT("abcdefgh"));
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 100, TEXT("abcdef")),
                    ==, COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 103, .ack = 1001, .flags = ACK, .window = 100, TEXT("cdXf")), ==,
                    COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_PAYLOAD), ==, 1);
}

static void test_fin_at_the_same_place(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    P(sink, .seq = 1, .ack = 9, .flags = ACK | FIN, TEXT("abc"));
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpuint(sink->left->len, ==, 0);
    S(sink, .seq = 4, .ack = 9, .flags = ACK | FIN);
    g_assert_cmpuint(sink->left->len, ==, 1);
    /* Again, and the last ACK after it. */
    g_assert_cmpint(P(sink, .seq = 4, .ack = 9, .flags = ACK | FIN), ==, COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(sink, .seq = 5, .ack = 9, .flags = ACK), ==, COLO_VERDICT_RELEASED);
}

static void test_i1_fin_at_another_place_diverges(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK | FIN, TEXT("ab"));
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==,
                    COLO_VERDICT_DIVERGED);
    S(sink, .port = 81, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    g_assert_cmpint(P(sink, .port = 81, .seq = 1, .ack = 9, .flags = ACK | FIN, TEXT("ab")), ==,
                    COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_FLAGS), ==, 2);
}

static void test_i1_ack_of_the_peers_fin_waits(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK);
    g_assert_cmpint(P(sink, .seq = 1, .ack = 10, .flags = ACK), ==, COLO_VERDICT_HELD);
    S(sink, .seq = 1, .ack = 10, .flags = ACK);
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_reset(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK | RST), ==, COLO_VERDICT_HELD);
    S(sink, .seq = 1, .ack = 9, .flags = ACK | RST);
    g_assert_cmpuint(sink->left->len, ==, 1);
    g_assert_cmpint(P(sink, .port = 81, .seq = 1, .flags = RST), ==, COLO_VERDICT_HELD);
    S(sink, .port = 81, .seq = 2, .flags = RST);
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_data_after_the_secondarys_reset_diverges(Sink *sink,
                                                          gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK | RST);
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==,
                    COLO_VERDICT_DIVERGED);
}

static void test_i1_syn_ack_with_another_isn(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 77777, .ack = 1001, .flags = SYN | ACK, .window = 64000,
      .options = SYN_OPTIONS("\1", "\7"), .options_len = 20);
    g_assert_cmpint(P(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK, .window = 64000,
                      .options = SYN_OPTIONS("\2", "\7"), .options_len = 20),
                    ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_cmpuint(colo_compare_counter(sink->compare, COLO_COUNT_DIVERGED_SYN), ==, 1);
    /* The checkpoint gives the secondary the connection as the client will know it. */
    colo_compare_commit(sink->compare, ++sink->epoch);
    g_assert_cmpuint(sink->left->len, ==, 1);
    S(sink, .seq = 101, .ack = 1002, .flags = ACK, .window = 500, TEXT("abc"));
    g_assert_cmpint(P(sink, .seq = 101, .ack = 1002, .flags = ACK, .window = 500, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
}

static void test_i1_syn_that_differs_diverges(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK, .options = SYN_OPTIONS("\1", "\7"),
      .options_len = 20);
    g_assert_cmpint(P(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK,
                      .options = SYN_OPTIONS("\1", "\6"), .options_len = 20),
                    ==, COLO_VERDICT_DIVERGED);
    /* The guest's own connection. */
    S(sink, .port = 81, .seq = 100, .flags = SYN);
    g_assert_cmpint(P(sink, .port = 81, .seq = 101, .flags = SYN), ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(sink->left->len, ==, 0);
}

static void test_new_connection_on_the_same_ports(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 9, TEXT("abc"));
    P(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 9, TEXT("abc"));
    /* The secondary is a connection ahead: its acknowledgement there says nothing here. */
    S(sink, .seq = 50, .ack = 9001, .flags = SYN | ACK, .window = 9);
    S(sink, .seq = 51, .ack = 9002, .flags = ACK, .window = 9, TEXT("xyz"));
    g_assert_cmpint(P(sink, .seq = 104, .ack = 1002, .flags = ACK, .window = 9), ==,
                    COLO_VERDICT_HELD);
    colo_compare_commit(sink->compare, 1);
    sink->epoch = 1;
    S(sink, .seq = 60, .ack = 19001, .flags = SYN | ACK, .window = 9);
    g_assert_cmpint(P(sink, .seq = 60, .ack = 19001, .flags = SYN | ACK, .window = 9), ==,
                    COLO_VERDICT_RELEASED);
    /* Positions of the old connection allow nothing in the new one. */
    g_assert_cmpint(P(sink, .seq = 101, .ack = 19001, .flags = ACK, .window = 9, TEXT("abc")), ==,
                    COLO_VERDICT_HELD);
}

/* Numbers of the connection before allow nothing in the new one: neither what left of it, nor what
 * a commit covered, nor what the secondary is ahead with. */
static void test_i1_new_connection_starts_afresh(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake(sink);
    S(sink, .seq = 101, .ack = 5001, .flags = ACK, .window = 9);
    P(sink, .seq = 101, .ack = 5001, .flags = ACK, .window = 9);
    S(sink, .seq = 60, .ack = 2001, .flags = SYN | ACK, .window = 9);
    P(sink, .seq = 60, .ack = 2001, .flags = SYN | ACK, .window = 9);
    g_assert_cmpuint(sink->left->len, ==, 3);
    g_assert_cmpint(P(sink, .seq = 61, .ack = 3001, .flags = ACK, .window = 9), ==,
                    COLO_VERDICT_HELD);
    colo_compare_commit(sink->compare, ++sink->epoch);
    g_assert_cmpuint(sink->left->len, ==, 4);
    S(sink, .seq = 70, .ack = 1001, .flags = SYN | ACK, .window = 9);
    P(sink, .seq = 70, .ack = 1001, .flags = SYN | ACK, .window = 9);
    g_assert_cmpuint(sink->left->len, ==, 5);
    g_assert_cmpint(P(sink, .seq = 71, .ack = 2501, .flags = ACK, .window = 9), ==,
                    COLO_VERDICT_HELD);
    S(sink, .seq = 71, .ack = 2501, .flags = ACK, .window = 9);
    S(sink, .seq = 80, .ack = 1001, .flags = SYN | ACK, .window = 9);
    S(sink, .seq = 81, .ack = 1001, .flags = ACK, .window = 9, TEXT("next"));
    g_assert_cmpint(P(sink, .seq = 81, .ack = 1001, .flags = ACK, .window = 9, TEXT("next")), ==,
                    COLO_VERDICT_HELD);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/compare/" name, Sink, NULL, setup, function, teardown)
    ADD("I1/new-connection-starts-afresh", test_i1_new_connection_starts_afresh);
    ADD("ack/pure-up-to-the-secondarys", test_pure_ack_leaves_up_to_the_secondarys);
    ADD("ack/unknown-place-waits", test_pure_ack_at_an_unknown_place_waits);
    ADD("I1/pure-ack-beyond-waits", test_i1_pure_ack_beyond_the_secondarys_waits);
    ADD("I1/ack-with-data-is-clamped", test_i1_ack_with_data_is_clamped);
    ADD("I1/sack-beyond", test_i1_sack_beyond_the_secondarys);
    ADD("I1/ack-of-the-peers-fin-waits", test_i1_ack_of_the_peers_fin_waits);
    ADD("I1/far-acknowledgement-waits", test_i1_far_acknowledgement_waits);
    ADD("I1/far-acknowledgement-of-the-secondary", test_i1_far_acknowledgement_of_the_secondary);
    ADD("I1/retransmission-with-other-bytes", test_i1_retransmission_with_other_bytes);
    ADD("ack/partial-checksum-stays", test_clamp_leaves_a_partial_checksum);
    ADD("ack/owed-follows", test_clamped_ack_is_owed_and_follows);
    ADD("ack/owed-holds-up-nothing", test_owed_ack_holds_up_nothing);
    ADD("ack/window-edge-never-shrinks", test_window_edge_never_shrinks);
    ADD("ack/clamp-keeps-the-edge", test_clamp_keeps_the_edge_to_the_byte);
    ADD("I1/half-the-space-away", test_half_the_space_away);
    ADD("I1/half-the-space-away-empty", test_half_the_space_away_empty);
    ADD("ack/none-beyond-the-fin", test_no_ack_beyond_the_fin);
    ADD("ack/clamp-does-not-go-back", test_clamped_ack_does_not_go_back);
    ADD("window/narrowed-to-the-secondarys", test_window_is_narrowed_to_the_secondarys);
    ADD("window/does-not-shrink", test_narrowed_edge_does_not_shrink);
    ADD("window/low-waits", test_low_window_waits);
    ADD("window/low-is-owed", test_low_window_is_owed);
    ADD("window/commit-frees", test_commit_frees_the_window);
    ADD("ack/unknown-scale-holds", test_unknown_scale_holds);
    ADD("fin/same-place", test_fin_at_the_same_place);
    ADD("I1/fin-at-another-place", test_i1_fin_at_another_place_diverges);
    ADD("reset/equal-leaves", test_reset);
    ADD("reset/data-after-the-secondarys", test_data_after_the_secondarys_reset_diverges);
    ADD("syn/another-isn", test_i1_syn_ack_with_another_isn);
    ADD("I1/syn-that-differs", test_i1_syn_that_differs_diverges);
    ADD("syn/new-connection-same-ports", test_new_connection_on_the_same_ports);
    return g_test_run();
}
