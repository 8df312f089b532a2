/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The compare core on everything but TCP, its limits, its gates and its arena. */
#include "comparator/arena.h"
#include "test-compare-frames.h"

static ColoVerdict udp(Sink *sink, bool primary, unsigned port, const char *text)
{
    uint8_t frame[2000];

    return feed(sink, primary, frame, put_udp(frame, port, text, strlen(text)));
}

/* @len bytes of payload under an Ethernet header of @type. */
static size_t put_ethernet(uint8_t *frame, unsigned type, const void *payload, size_t len)
{
    put_ipv4(frame, 0, 0, 0);
    put16(frame + VNET + 12, type);
    memcpy(frame + IP_AT, payload, len);
    return IP_AT + len;
}

/* The frame leaves with its twin, and not with one bit changed at @at. */
static void check_twin(Sink *sink, uint8_t *frame, size_t len, size_t at)
{
    unsigned before = sink->left->len;

    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(feed(sink, false, frame, len), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink->left->len, ==, before + 1);
    feed(sink, true, frame, len);
    frame[at] ^= 1;
    feed(sink, false, frame, len);
    g_assert_cmpuint(sink->left->len, ==, before + 1);
    colo_compare_commit(sink->compare, ++sink->epoch);
    g_assert_cmpuint(sink->left->len, ==, before + 2);
}

static void test_udp_equal(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_cmpint(udp(sink, true, 53, "answer"), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(udp(sink, false, 53, "answer"), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink->left->len, ==, 1);
}

static void test_i1_udp_differs(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "answer");
    g_assert_cmpint(udp(sink, false, 53, "answes"), ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_CONTENT), ==, 1);
    g_assert_cmpint(udp(sink, true, 53, "more"), ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpint(udp(sink, true, 54, "else"), ==, COLO_VERDICT_HELD);
    g_assert_cmpuint(sink->left->len, ==, 0);
}

static void test_i1_udp_of_another_length(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "answer");
    g_assert_cmpint(udp(sink, false, 53, "answer!"), ==, COLO_VERDICT_DIVERGED);
}

static void test_udp_in_another_order(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, false, 53, "one");
    udp(sink, false, 53, "two");
    g_assert_cmpint(udp(sink, true, 53, "two"), ==, COLO_VERDICT_RELEASED);
    g_assert_cmpint(udp(sink, true, 53, "one"), ==, COLO_VERDICT_RELEASED);
}

static void test_udp_in_another_order_primary_first(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "one");
    udp(sink, true, 53, "two");
    udp(sink, true, 53, "three");
    g_assert_cmpint(udp(sink, false, 53, "three"), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpint(udp(sink, false, 53, "two"), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_cmpint(udp(sink, false, 53, "one"), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink->left->len, ==, 3);
}

static void test_i1_udp_differs_behind_another_order(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "one");
    udp(sink, true, 53, "two");
    g_assert_cmpint(udp(sink, false, 53, "two"), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpint(udp(sink, false, 53, "ones"), ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(sink->left->len, ==, 0);
}

static void test_i1_each_twin_counts_once(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, false, 53, "one");
    g_assert_cmpint(udp(sink, true, 53, "one"), ==, COLO_VERDICT_RELEASED);
    g_assert_cmpint(udp(sink, true, 53, "one"), ==, COLO_VERDICT_HELD);
}

static void test_i1_udp_epochs_are_not_mixed(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "one");
    sink->epoch = 1;
    udp(sink, false, 53, "one");
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_false(colo_compare_diverged(sink->compare));
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpint(udp(sink, true, 53, "one"), ==, COLO_VERDICT_RELEASED);
}

static void test_udp_checksum_and_id_are_ignored(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[200];
    size_t len = put_udp(frame, 53, "abc", 3);

    feed(sink, false, frame, len);
    put16(frame + IP_AT + 4, 77);
    put16(frame + IP_AT + 10, 78);
    put16(frame + TCP_AT + 6, 79);
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_RELEASED);
}

static void test_i1_udp_segment_size_counts(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[2000];
    char text[1200];
    size_t len;

    memset(text, 'x', sizeof(text));
    len = put_udp(frame, 53, text, sizeof(text));
    frame[1] = 5; /* VIRTIO_NET_HDR_GSO_UDP_L4 */
    frame[4] = 100;
    feed(sink, false, frame, len);
    frame[4] = 200;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_DIVERGED);
}

static void test_icmp(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[200];

    put_ipv4(frame, 1, 16, 0);
    memcpy(frame + TCP_AT, "\0\0\x12\x34\0\1\0\2payload.", 16);
    check_twin(sink, frame, TCP_AT + 16, TCP_AT + 12);
}

static void test_arp(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[200];
    static const uint8_t arp[28] = {0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54};
    size_t len = put_ethernet(frame, 0x0806, arp, sizeof(arp));

    check_twin(sink, frame, len, len - 1);
}

static void test_ipv6(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[200];
    static const uint8_t ipv6[52] = {0x60, 0, 0, 0, 0, 12, 17, 64, 0xfe, 0x80};
    size_t len = put_ethernet(frame, 0x86dd, ipv6, sizeof(ipv6));

    check_twin(sink, frame, len, len - 1);
}

static void test_vlan(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t plain[200], frame[200];
    size_t len = put_tcp(plain, &(Segment){.seq = 1, .ack = 9, .flags = ACK, TEXT("abc")});

    memcpy(frame, plain, VNET + 12);
    memcpy(frame + VNET + 12, "\x81\0\0\7", 4);
    memcpy(frame + VNET + 16, plain + VNET + 12, len - VNET - 12);
    len += 4;
    feed(sink, false, frame, len);
    frame[VNET + 15] = 8; /* another VLAN is another flow */
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_HELD);
    frame[VNET + 15] = 7;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_RELEASED);
}

static void test_ip_options(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t plain[200], frame[200];
    size_t len = put_tcp(plain, &(Segment){.seq = 1, .ack = 9, .flags = ACK, TEXT("abc")});

    memcpy(frame, plain, TCP_AT);
    memcpy(frame + TCP_AT, "\x94\4\0\0", 4); /* router alert */
    memcpy(frame + TCP_AT + 4, plain + TCP_AT, len - TCP_AT);
    len += 4;
    frame[IP_AT] = 0x46;
    put16(frame + IP_AT + 2, get16(frame + IP_AT + 2) + 4);
    feed(sink, false, frame, len);
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_RELEASED);
    put32(frame + TCP_AT + 4 + 4, 4);
    feed(sink, false, frame, len);
    frame[TCP_AT + 3] = 1;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_DIVERGED);
}

static void test_malformed_is_counted(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree uint8_t *frame = g_malloc0(COLO_COMPARE_FRAME_MAX + 1);

    g_assert_cmpint(feed(sink, true, frame, VNET + 13), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpint(feed(sink, true, frame, 3), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpint(feed(sink, false, frame, COLO_COMPARE_FRAME_MAX + 1), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(count(sink, COLO_COUNT_DROPPED_MALFORMED), ==, 3);
    g_assert_cmpint(feed(sink, true, frame, VNET + 14), ==, COLO_VERDICT_HELD);
}

static void test_release_all(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "one");
    udp(sink, true, 54, "two");
    udp(sink, false, 54, "three");
    udp(sink, false, 55, "four");
    g_assert_true(colo_compare_diverged(sink->compare));
    colo_compare_release_all(sink->compare);
    g_assert_cmpuint(sink->left->len, ==, 2);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_ALONE), ==, 2);
    g_assert_false(colo_compare_diverged(sink->compare));
    g_assert_cmpint(udp(sink, true, 55, "four"), ==, COLO_VERDICT_HELD);
}

static void test_i1_release_all_forgets_positions(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    colo_compare_release_all(sink->compare);
    g_assert_cmpint(P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc")), ==, COLO_VERDICT_HELD);
}

static void test_drop_all(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    udp(sink, true, 53, "one");
    udp(sink, true, 54, "two");
    udp(sink, false, 54, "three");
    g_assert_cmpuint(colo_compare_drop_all(sink->compare), ==, 2);
    g_assert_cmpuint(count(sink, COLO_COUNT_DROPPED_QUIESCED), ==, 2);
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_cmpuint(colo_compare_oldest_ns(sink->compare), ==, 0);
    g_assert_false(colo_compare_diverged(sink->compare));
}

static void test_counters_have_names(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    for (unsigned i = 0; i < COLO_COUNT_LAST; i++)
        g_assert_nonnull(colo_compare_counter_name(i));
    g_assert_null(colo_compare_counter_name(COLO_COUNT_LAST));
    g_assert_cmpuint(colo_compare_counter(sink->compare, COLO_COUNT_LAST), ==, 0);
}

/* I8: at each limit the frame is refused, counted, and taken after a commit. */
static void check_limit(const ColoCompareLimits *limits, unsigned fits, ColoCompareCounter counter)
{
    Sink sink;

    sink_init(&sink, limits);
    for (unsigned i = 0; i < fits; i++)
        g_assert_cmpint(udp(&sink, true, 53 + i, "one"), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(udp(&sink, true, 53 + fits, "one"), ==, COLO_VERDICT_FULL);
    g_assert_cmpint(udp(&sink, false, 53 + fits, "one"), ==, COLO_VERDICT_FULL);
    g_assert_cmpuint(count(&sink, counter), ==, 2);
    colo_compare_commit(sink.compare, ++sink.epoch);
    g_assert_cmpuint(sink.left->len, ==, fits);
    g_assert_cmpint(udp(&sink, true, 53, "one"), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(udp(&sink, false, 53, "one"), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink.left->len, ==, fits + 1);
    sink_clear(&sink);
}

static void test_i8_frames(void)
{
    check_limit(&(ColoCompareLimits){.frames = 4}, 4, COLO_COUNT_FULL_FRAMES);
}

static void test_i8_arena(void)
{
    check_limit(&(ColoCompareLimits){.arena_bytes = 1}, 1024, COLO_COUNT_FULL_FRAMES);
}

static void test_i8_flows(void)
{
    check_limit(&(ColoCompareLimits){.flows = 4}, 4, COLO_COUNT_FULL_FLOWS);
}

/* One flow that meets no answer leaves half of the room to the others, and goes on after a commit.
 */
static void check_flow_share(const ColoCompareLimits *limits, size_t len, unsigned fits)
{
    g_autofree char *text = g_strnfill(len, 'x');
    Sink sink;

    sink_init(&sink, limits);
    for (unsigned i = 0; i < fits; i++)
        g_assert_cmpint(udp(&sink, true, 53, text), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(udp(&sink, true, 53, text), ==, COLO_VERDICT_FULL);
    g_assert_cmpint(udp(&sink, false, 53, text), ==, COLO_VERDICT_TAKEN); /* and frees the first */
    g_assert_cmpint(udp(&sink, true, 53, text), ==, COLO_VERDICT_HELD);
    g_assert_cmpuint(count(&sink, COLO_COUNT_FULL_FLOW), ==, 1);
    for (unsigned i = 0; i < fits; i++)
        g_assert_cmpint(udp(&sink, true, 54, text), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(udp(&sink, true, 55, text), ==, COLO_VERDICT_FULL);
    g_assert_cmpuint(count(&sink, COLO_COUNT_FULL_FRAMES), ==, 1);
    colo_compare_commit(sink.compare, ++sink.epoch);
    g_assert_cmpuint(sink.left->len, ==, 2 * fits + 1);
    g_assert_cmpint(udp(&sink, true, 53, text), ==, COLO_VERDICT_HELD);
    sink_clear(&sink);
}

static void test_i8_flow_frames(void)
{
    check_flow_share(&(ColoCompareLimits){.frames = 8}, 3, 4);
}

static void test_i8_flow_bytes(void)
{
    check_flow_share(&(ColoCompareLimits){.arena_bytes = 1u << 20}, 1400, (1u << 19) / 2048);
}

/* A full arena must not undo what the flow knows: the refused frame is as if never seen. */
static void test_refused_frame_leaves_no_trace(void)
{
    Sink sink;

    sink_init(&sink, &(ColoCompareLimits){.frames = 1});
    S(&sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    P(&sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    udp(&sink, true, 53, "one");
    g_assert_cmpint(P(&sink, .seq = 4, .ack = 99, .flags = ACK, TEXT("def")), ==,
                    COLO_VERDICT_FULL);
    colo_compare_commit(sink.compare, ++sink.epoch);
    /* The commit does not cover it, so neither does it cover its acknowledgement. */
    g_assert_cmpint(P(&sink, .seq = 4, .ack = 9, .flags = ACK), ==, COLO_VERDICT_RELEASED);
    g_assert_cmpint(P(&sink, .seq = 4, .ack = 99, .flags = ACK), ==, COLO_VERDICT_HELD);
    sink_clear(&sink);
}

static void test_idle_flows_give_way(void)
{
    Sink sink;

    sink_init(&sink, &(ColoCompareLimits){.flows = 4});
    udp(&sink, true, 1, "held");
    for (unsigned i = 2; i < 1000; i++) {
        g_assert_cmpint(udp(&sink, false, i, "one"), ==, COLO_VERDICT_TAKEN);
        g_assert_cmpint(udp(&sink, true, i, "one"), ==, COLO_VERDICT_RELEASED);
    }
    udp(&sink, false, 1, "held");
    g_assert_cmpuint(sink.left->len, ==, 999);
    g_assert_cmpuint(count(&sink, COLO_COUNT_EVICTED_FLOWS), ==, 999 - 4);
    sink_clear(&sink);
}

/* What left is only kept while there is room: held frames come first. */
static void test_history_gives_way(void)
{
    Sink sink;

    sink_init(&sink, &(ColoCompareLimits){.frames = 16, .flows = 64});
    for (unsigned i = 0; i < 100; i++) {
        S(&sink, .seq = 1 + 3 * i, .ack = 9, .flags = ACK, TEXT("abc"));
        g_assert_cmpint(P(&sink, .seq = 1 + 3 * i, .ack = 9, .flags = ACK, TEXT("abc")), ==,
                        COLO_VERDICT_RELEASED);
    }
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmpint(udp(&sink, true, 53 + i, "one"), ==, COLO_VERDICT_HELD);
    sink_clear(&sink);
}

static void test_arena_joins_what_comes_back(void)
{
    enum { BLOCKS = 4096 };
    g_autofree uint8_t **blocks = g_new0(uint8_t *, BLOCKS);
    g_autofree size_t *sizes = g_new0(size_t, BLOCKS);
    ColoArena arena;

    g_assert_true(colo_arena_init(&arena, 1 << 20));
    for (unsigned step = 0; step < 200000; step++) {
        unsigned i = (unsigned)g_test_rand_int_range(0, BLOCKS);

        if (blocks[i]) {
            g_assert_cmpuint(blocks[i][0], ==, i & 0xff);
            g_assert_cmpuint(blocks[i][sizes[i] - 1], ==, i & 0xff);
            colo_arena_release(&arena, blocks[i]);
            blocks[i] = NULL;
            continue;
        }
        sizes[i] = 1u << g_test_rand_int_range(0, 15);
        blocks[i] = colo_arena_alloc(&arena, sizes[i]);
        if (blocks[i])
            memset(blocks[i], (int)(i & 0xff), sizes[i]);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (blocks[i])
            colo_arena_release(&arena, blocks[i]);
    }
    g_assert_cmpuint(arena.used, ==, 0);
    for (unsigned i = 0; i < 8; i++)
        g_assert_nonnull(colo_arena_alloc(&arena, 1 << COLO_ARENA_MAX_SHIFT));
    g_assert_null(colo_arena_alloc(&arena, 1));
    colo_arena_clear(&arena);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/compare/" name, Sink, NULL, setup, function, teardown)
    ADD("udp/equal", test_udp_equal);
    ADD("I1/udp-differs", test_i1_udp_differs);
    ADD("I1/udp-of-another-length", test_i1_udp_of_another_length);
    ADD("udp/another-order", test_udp_in_another_order);
    ADD("udp/another-order-primary-first", test_udp_in_another_order_primary_first);
    ADD("I1/udp-differs-behind-another-order", test_i1_udp_differs_behind_another_order);
    ADD("I1/each-twin-counts-once", test_i1_each_twin_counts_once);
    ADD("I1/udp-epochs-are-not-mixed", test_i1_udp_epochs_are_not_mixed);
    ADD("udp/checksum-and-id-are-ignored", test_udp_checksum_and_id_are_ignored);
    ADD("I1/udp-segment-size-counts", test_i1_udp_segment_size_counts);
    ADD("content/icmp", test_icmp);
    ADD("content/arp", test_arp);
    ADD("content/ipv6", test_ipv6);
    ADD("content/vlan", test_vlan);
    ADD("content/ip-options", test_ip_options);
    ADD("content/malformed-is-counted", test_malformed_is_counted);
    ADD("gate/release-all", test_release_all);
    ADD("I1/release-all-forgets-positions", test_i1_release_all_forgets_positions);
    ADD("gate/drop-all", test_drop_all);
    ADD("counters/have-names", test_counters_have_names);
    g_test_add_func("/compare/I8/frames", test_i8_frames);
    g_test_add_func("/compare/I8/arena", test_i8_arena);
    g_test_add_func("/compare/I8/flows", test_i8_flows);
    g_test_add_func("/compare/I8/flow-frames", test_i8_flow_frames);
    g_test_add_func("/compare/I8/flow-bytes", test_i8_flow_bytes);
    g_test_add_func("/compare/I8/refused-frame-leaves-no-trace",
                    test_refused_frame_leaves_no_trace);
    g_test_add_func("/compare/I8/idle-flows-give-way", test_idle_flows_give_way);
    g_test_add_func("/compare/I8/history-gives-way", test_history_gives_way);
    g_test_add_func("/compare/arena/joins-what-comes-back", test_arena_joins_what_comes_back);
    return g_test_run();
}
