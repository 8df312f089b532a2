/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Properties of the compare core over random traffic. GLib prints the seed; --seed repeats a run.
 * A reference stream has no two equal neighbours, so that each inserted or lost byte shows.
 */
#include "test-compare-frames.h"

#include <stdlib.h>

#define BASE 0xffffff00u /* of the guest's sequence numbers, so that they wrap */
#define STREAM 1200
#define ACKED 5000u
#define SPAN 100000u /* of acknowledgements in the test of their bounds */

/* Small, so that thousands of instances take little time. */
static const ColoCompareLimits limits = {.arena_bytes = 1 << 20, .frames = 2048, .flows = 16};

typedef struct {
    uint32_t at; /* from BASE */
    size_t len;
} Cut;

static unsigned rnd(unsigned below)
{
    return (unsigned)g_test_rand_int_range(0, (gint32)below);
}

static void make_stream(uint8_t *stream, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        do
            stream[i] = (uint8_t)(1 + rnd(255));
        while (i && stream[i] == stream[i - 1]);
    }
}

/* [0, @len) in order, cut anywhere into pieces of at most @most bytes; with @again, pieces of what
 * came before (cut anew) in between. */
static GArray *cut_stream(size_t len, unsigned most, bool again)
{
    GArray *cuts = g_array_new(FALSE, FALSE, sizeof(Cut));

    for (size_t at = 0; at < len;) {
        size_t want = 1 + rnd(most);
        Cut cut = {.at = (uint32_t)at, .len = MIN(want, len - at)};

        g_array_append_val(cuts, cut);
        at += cut.len;
        if (again && rnd(4) == 0) {
            cut.at = rnd((unsigned)at);
            cut.len = 1 + rnd(MIN(most, (unsigned)at - cut.at));
            g_array_append_val(cuts, cut);
        }
    }
    return cuts;
}

static void shuffle_nearby(GArray *cuts)
{
    for (unsigned i = 0; i + 1 < cuts->len; i++) {
        unsigned ahead = rnd(4), j = MIN(i + ahead, cuts->len - 1);
        Cut swap = g_array_index(cuts, Cut, i);

        g_array_index(cuts, Cut, i) = g_array_index(cuts, Cut, j);
        g_array_index(cuts, Cut, j) = swap;
    }
}

static size_t make_frame(uint8_t *frame, const uint8_t *stream, const Cut *cut)
{
    return put_tcp(frame, &(Segment){.seq = BASE + cut->at,
                                     .ack = ACKED,
                                     .flags = ACK | (rnd(2) ? PSH : 0),
                                     .window = rnd(65536),
                                     .data = stream + cut->at,
                                     .len = cut->len,
                                     .ip_id = rnd(65536)});
}

/* Feeds both sides at random until both are through. The frames of the primary go to @fed. */
static void feed_both(Sink *sink, const uint8_t *primary, GArray *primary_cuts,
                      const uint8_t *secondary, GArray *secondary_cuts, GPtrArray *fed)
{
    uint8_t frame[2000];
    unsigned p = 0, s = 0;

    while (p < primary_cuts->len || s < secondary_cuts->len) {
        bool first = s == secondary_cuts->len || (p < primary_cuts->len && rnd(2));
        size_t len;

        if (first) {
            len = make_frame(frame, primary, &g_array_index(primary_cuts, Cut, p++));
            if (fed)
                g_ptr_array_add(fed, g_bytes_new(frame, len));
        } else {
            len = make_frame(frame, secondary, &g_array_index(secondary_cuts, Cut, s++));
        }
        g_assert_cmpint(feed(sink, first, frame, len), !=, COLO_VERDICT_FULL);
    }
}

static void test_any_cut_any_order_leaves_once(void)
{
    for (unsigned round = 0; round < 400; round++) {
        uint8_t stream[STREAM];
        size_t len = 1 + rnd(STREAM);
        g_autoptr(GArray) p = cut_stream(len, 1 + rnd(300), true);
        g_autoptr(GArray) s = cut_stream(len, 1 + rnd(300), true);
        g_autoptr(GPtrArray) fed = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        Sink sink;

        make_stream(stream, len);
        shuffle_nearby(s);
        sink_init(&sink, &limits);
        feed_both(&sink, stream, p, stream, s, fed);
        g_assert_cmpuint(sink.left->len, ==, fed->len);
        for (unsigned i = 0; i < fed->len; i++)
            g_assert_true(
                g_bytes_equal(g_ptr_array_index(fed, i), g_ptr_array_index(sink.left, i)));
        g_assert_false(colo_compare_diverged(sink.compare));
        sink_clear(&sink);
    }
}

/* One byte of one copy's stream is changed, lost or added at @at; or the stream ends there. */
static size_t edit(uint8_t *edited, const uint8_t *stream, size_t len, size_t at, unsigned how)
{
    memcpy(edited, stream, at);
    switch (how) {
    case 0:
        memcpy(edited + at, stream + at, len - at);
        edited[at] ^= (uint8_t)(1 + rnd(255));
        return len;
    case 1:
        memcpy(edited + at, stream + at + 1, len - at - 1);
        return len - 1;
    case 2:
        edited[at] = (uint8_t)(stream[at] ^ (1 + rnd(255)));
        memcpy(edited + at + 1, stream + at, len - at);
        return len + 1;
    default:
        return at;
    }
}

static void test_i1_no_edited_byte_leaves(void)
{
    enum { LEN = 300 };
    uint8_t stream[LEN], edited[LEN + 1], frame[2000];

    make_stream(stream, LEN);
    for (size_t at = 0; at < LEN; at++) {
        for (unsigned how = 0; how < 8; how++) {
            size_t edited_len = edit(edited, stream, LEN, at, how / 2);
            bool primary = how % 2;
            const uint8_t *ps = primary ? edited : stream, *ss = primary ? stream : edited;
            size_t p_len = primary ? edited_len : LEN, s_len = primary ? LEN : edited_len;
            g_autoptr(GArray) p = cut_stream(p_len, 1 + rnd(60), true);
            g_autoptr(GArray) s = cut_stream(s_len, 1 + rnd(60), true);
            Sink sink;

            shuffle_nearby(s);
            sink_init(&sink, &limits);
            feed_both(&sink, ps, p, ss, s, NULL);
            /* Both close where their stream ends. */
            for (unsigned i = 0; i < 2; i++) {
                Segment fin = {
                    .seq = BASE + (uint32_t)(i ? p_len : s_len), .ack = ACKED, .flags = ACK | FIN};

                feed(&sink, i, frame, put_tcp(frame, &fin));
            }
            for (unsigned i = 0; i < sink.left->len; i++) {
                size_t len;
                const uint8_t *left = sink_frame(&sink, i, &len);
                uint32_t end = get32(left + TCP_AT + 4) - BASE + (uint32_t)(len - TCP_AT - 20);

                g_assert_cmpuint(end, <=, at);
                g_assert_false(left[TCP_AT + 13] & FIN);
            }
            g_assert_cmpuint(colo_compare_oldest_ns(sink.compare), !=, 0);
            sink_clear(&sink);
        }
    }
}

/* What a frame that left says, beside the reference: nothing that the secondary did not say. The
 * reference is a connection with payload [0, LEN) and a FIN, acknowledged up to ACKED. */
static void check_said(const uint8_t *frame, size_t len, const uint8_t *stream, size_t stream_len,
                       const uint8_t *udp, size_t udp_len)
{
    const uint8_t *ip = frame + IP_AT, *tcp = frame + TCP_AT;
    uint8_t expected[TCP_AT];
    size_t header, payload;
    uint32_t at;

    put_ipv4(expected, ip[9], get16(ip + 2) - 20, get16(ip + 4));
    expected[IP_AT + 1] = ip[1] & 3;
    memcpy(expected + IP_AT + 10, ip + 10, 2);
    g_assert_cmpmem(frame + VNET, ETH + 20, expected + VNET, ETH + 20);
    if (ip[9] == 17) {
        g_assert_cmpuint(len, ==, udp_len);
        g_assert_cmpmem(tcp, 6, udp + TCP_AT, 6);
        g_assert_cmpmem(tcp + 8, len - TCP_AT - 8, udp + TCP_AT + 8, udp_len - TCP_AT - 8);
        return;
    }
    g_assert_cmpuint(get16(tcp), ==, 80);
    g_assert_cmpuint(get16(tcp + 2), ==, 5000);
    header = (size_t)(tcp[12] >> 4) * 4;
    payload = get16(ip + 2) - 20 - header;
    for (size_t i = TCP_AT + header + payload; i < len; i++)
        g_assert_cmpuint(frame[i], ==, 0);
    g_assert_cmphex(tcp[13] & (SYN | RST | URG | ACK), ==, ACK);
    g_assert_cmpuint(get16(tcp + 18), ==, 0);
    at = get32(tcp + 4) - BASE;
    g_assert_cmpint((int32_t)(get32(tcp + 8) - ACKED), <=, 0);
    if (payload == 0 && !(tcp[13] & FIN)) {
        g_assert_cmpint((int32_t)at, >=, -1);
        g_assert_cmpint((int32_t)at, <=, (int32_t)stream_len + 1);
        return;
    }
    g_assert_cmpuint(at + payload, <=, stream_len);
    g_assert_cmpmem(tcp + header, payload, stream + at, payload);
    if (tcp[13] & FIN)
        g_assert_cmpuint(at + payload, ==, stream_len);
}

/* Every byte of every frame of a trace, with each bit flipped and some other values. */
static void test_i1_no_changed_frame_leaves(void)
{
    enum { LEN = 90, FRAMES = 7 };
    uint8_t stream[LEN], frames[FRAMES][400];
    size_t lens[FRAMES];
    /* A timestamp option. */
    static const char ts[] = "\1\1\x8\xa\0\1\2\3\4\5\6\7";
    uint64_t left = 0;

    make_stream(stream, LEN);
#define MAKE(i, ...)   \
    lens[i] = put_tcp( \
        frames[i],     \
        &(Segment){.ack = ACKED, .options = ts, .options_len = 12, .window = 1000, __VA_ARGS__})
    MAKE(0, .seq = BASE, .flags = ACK | PSH, .data = stream, .len = 40);
    MAKE(1, .seq = BASE + 40, .flags = ACK);
    MAKE(2, .seq = BASE + 40, .flags = ACK, .data = stream + 40, .len = 30);
    MAKE(3, .seq = BASE + 30, .flags = ACK, .data = stream + 30, .len = 20);
    MAKE(4, .seq = BASE + 70, .flags = ACK | FIN, .data = stream + 70, .len = 20);
    MAKE(5, .seq = BASE + LEN + 1, .flags = ACK);
    lens[6] = put_udp(frames[6], 53, stream, 20);
    for (unsigned f = 0; f < FRAMES; f++) {
        for (size_t at = VNET; at < lens[f]; at++) {
            for (unsigned change = 0; change < 12; change++) {
                uint8_t mask = change < 8 ? (uint8_t)(1u << change) : (uint8_t)(1 + rnd(255));
                bool ahead = change & 1;
                Sink sink;

                sink_init(&sink, &limits);
                for (unsigned i = 0; ahead && i < FRAMES; i++)
                    feed(&sink, false, frames[i], lens[i]);
                for (unsigned i = 0; i < FRAMES; i++) {
                    frames[i][at] ^= i == f ? mask : 0;
                    feed(&sink, true, frames[i], lens[i]);
                    frames[i][at] ^= i == f ? mask : 0;
                    if (!ahead)
                        feed(&sink, false, frames[i], lens[i]);
                }
                for (unsigned i = 0; i < sink.left->len; i++) {
                    size_t len;
                    const uint8_t *frame = sink_frame(&sink, i, &len);

                    check_said(frame, len, stream, LEN, frames[6], lens[6]);
                    left++;
                }
                sink_clear(&sink);
            }
        }
    }
    g_assert_cmpuint(left, >, 0);
}

/* Random acknowledgements, windows and SACK blocks on both sides: what leaves never says more than
 * the secondary did, its checksum is right, and the window's right edge never shrinks. */
static void test_i1_ack_window_sack_bounds(void)
{
    for (unsigned round = 0; round < 300; round++) {
        static const char syn_options[] = "\2\4\5\xb4\1\3\3\5";
        uint32_t ack[2] = {1001, 1001}, edge[2], seq[2] = {101, 101}, bound = 1001, left_edge = 0;
        g_autofree uint8_t *sacked = g_malloc0(SPAN); /* by the secondary, in this epoch */
        uint32_t committed_ack = 1001;
        uint8_t zeros[400] = {0};
        Sink sink;

        sink_init(&sink, &limits);
        for (unsigned i = 0; i < 2; i++) {
            Segment syn = {.seq = 100,
                           .ack = 1001,
                           .flags = SYN | ACK,
                           .window = 5000,
                           .options = syn_options,
                           .options_len = 8};

            edge[i] = 1001 + 5000;
            feed_tcp(&sink, i, &syn);
        }
        for (unsigned step = 0; step < 60; step++) {
            unsigned seen = sink.left->len, side = rnd(2);
            uint8_t options[12] = {1, 1, 5, 10};
            Segment s = {.flags = ACK, .ack = ack[side] += rnd(3) ? rnd(1500) : 0, .data = zeros};

            /* The receive window as Linux keeps it: rounded up to a unit, its edge never back. */
            uint32_t wish = s.ack + rnd(200000);

            edge[side] = MAX(edge[side], wish);
            s.window = MIN(65535, (edge[side] - s.ack + 31) >> 5);
            edge[side] = MAX(edge[side], s.ack + (s.window << 5));
            s.seq = seq[side];
            s.len = rnd(2) ? rnd(400) : 0;
            seq[side] += (uint32_t)s.len;
            if (rnd(3) == 0) {
                uint32_t from = s.ack + 1 + rnd(1000), to = from + 1 + rnd(1000);

                put32(options + 4, from);
                put32(options + 8, to);
                s.options = options;
                s.options_len = 12;
                if (side == 0)
                    memset(sacked + from, 1, to - from);
            }
            if (side == 0 && (int32_t)(ack[0] - bound) > 0)
                bound = ack[0];
            feed_tcp(&sink, side, &s);
            if (side == 1)
                committed_ack = ack[1];
            if (rnd(15) == 0) {
                /* The checkpoint brings the secondary to the primary's state. */
                colo_compare_commit(sink.compare, ++sink.epoch);
                ack[0] = ack[1];
                seq[0] = seq[1];
                edge[0] = edge[1];
                if ((int32_t)(committed_ack - bound) > 0)
                    bound = committed_ack;
                memset(sacked, 0, SPAN);
            } else {
                for (unsigned i = seen; i < sink.left->len; i++) {
                    size_t len;
                    const uint8_t *frame = sink_frame(&sink, i, &len), *tcp = frame + TCP_AT;
                    uint32_t a = get32(tcp + 8);

                    g_assert_cmpint((int32_t)(a - bound), <=, 0);
                    g_assert_cmphex(tcp_sum(frame), ==, 0xffff);
                    if (tcp[12] == 0x80 && tcp[22] == 5) {
                        for (uint32_t at = get32(tcp + 24); at != get32(tcp + 28); at++)
                            g_assert_true((int32_t)(at - bound) < 0 || sacked[at]);
                    }
                }
            }
            for (unsigned i = MAX(seen, 1); i < sink.left->len; i++) {
                size_t len;
                const uint8_t *tcp = sink_frame(&sink, i, &len) + TCP_AT;
                uint32_t e = get32(tcp + 8) + (get16(tcp + 14) << 5);

                g_assert_cmpint((int32_t)(e - left_edge), >=, 0);
                if ((int32_t)(e - left_edge) > 0)
                    left_edge = e;
            }
        }
        sink_clear(&sink);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare/property/any-cut-any-order-leaves-once",
                    test_any_cut_any_order_leaves_once);
    g_test_add_func("/compare/I1/no-edited-byte-leaves", test_i1_no_edited_byte_leaves);
    g_test_add_func("/compare/I1/no-changed-frame-leaves", test_i1_no_changed_frame_leaves);
    g_test_add_func("/compare/I1/ack-window-sack-bounds", test_i1_ack_window_sack_bounds);
    return g_test_run();
}
