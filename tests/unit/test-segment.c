/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where TCP's numbers are in a frame, and that a change of one leaves the checksum right. */
#include "test-rewrite-frames.h"

static const Seg segment = {
    .flags = ACK,
    .seq = 0xfffffff0,
    .ack = 77,
    .ts = TRUE,
    .ts_val = 0x01020304,
    .ts_echo = 0x0a0b0c0d,
    .sacks = 2,
    .sack = {{100, 200}, {0xffffff00, 5}},
    RW_TEXT("hello"),
};

/* Calls @check with every shape that a frame can have. */
static void each_shape(void (*check)(const Shape *shape))
{
    for (unsigned bits = 0; bits < 48; bits++) {
        Shape shape = {.v6 = bits & 1,
                       .partial = bits >> 1 & 1,
                       .odd_options = bits >> 2 & 1,
                       .extensions = bits & 8 ? 16 : 0,
                       .tags = bits / 16};

        check(&shape);
    }
}

static void check_read(const Shape *shape)
{
    g_autofree uint8_t *frame = g_malloc(RW_MAX);
    size_t len = rw_put(frame, shape, &segment);
    /* In a buffer of its own size a sanitizer sees each overrun. */
    g_autofree uint8_t *copy = g_memdup2(frame, len);
    ColoSegment out, in;
    Seg back = segment;

    rw_assert_sum(copy, len, shape);
    g_assert_true(colo_segment_read(copy, len, RW_VNET, 3, false, &out));
    g_assert_cmpuint(out.tcp_at, ==, rw_tcp_at(shape));
    g_assert_cmpuint(out.seq, ==, segment.seq);
    g_assert_cmpuint(out.ack, ==, 77);
    g_assert_cmpuint(out.length, ==, 5);
    g_assert_cmpuint(out.partial, ==, shape->partial);
    g_assert_cmpuint(colo_get32(copy + out.ts_at), ==, segment.ts_val);
    g_assert_cmpuint(out.sacks, ==, 2);
    g_assert_cmpuint(colo_get32(copy + out.sack_at), ==, 100);
    g_assert_cmpuint(out.connection.nic, ==, 3);
    /* The other direction belongs to the same connection. */
    back.to_guest = TRUE;
    len = rw_put(frame, shape, &back);
    g_assert_true(colo_segment_read(frame, len, RW_VNET, 3, true, &in));
    g_assert_cmpmem(&in.connection, sizeof(in.connection), &out.connection, sizeof(out.connection));
    g_assert_true(colo_segment_read(frame, len, RW_VNET, 3, false, &in));
    g_assert_true(memcmp(&in.connection, &out.connection, sizeof(in.connection)) != 0);
}

static void test_reads_every_shape(void)
{
    each_shape(check_read);
}

static void check_add(const Shape *shape)
{
    static const uint32_t deltas[] = {1, 0xffff, 0x10000, 0x80000000, 0xffffffff, 0x12345678};
    g_autofree uint8_t *frame = g_malloc(RW_MAX);

    for (size_t i = 0; i < G_N_ELEMENTS(deltas); i++) {
        size_t len = rw_put(frame, shape, &segment);
        ColoSegment s;

        g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
        colo_segment_add(frame, &s, s.tcp_at + 4, deltas[i]);
        rw_assert_sum(frame, len, shape);
        colo_segment_add(frame, &s, s.ts_at + 4, deltas[i]);
        rw_assert_sum(frame, len, shape);
        colo_segment_add(frame, &s, s.sack_at + 12, deltas[i]);
        rw_assert_sum(frame, len, shape);
        g_assert_cmpuint(colo_get32(frame + s.tcp_at + 4), ==, segment.seq + deltas[i]);
        g_assert_cmpuint(colo_get32(frame + s.ts_at + 4), ==, segment.ts_echo + deltas[i]);
        g_assert_cmpuint(colo_get32(frame + s.sack_at + 12), ==, 5 + deltas[i]);
    }
}

static void test_sum_is_right_after_a_change(void)
{
    each_shape(check_add);
}

/* Any bytes and numbers: the incremental sum is the full one. */
static void test_sum_is_right_for_random_numbers(void)
{
    g_autofree uint8_t *frame = g_malloc(RW_MAX);

    for (int i = 0; i < 20000; i++) {
        Shape shape = {.v6 = g_test_rand_bit(), .odd_options = g_test_rand_bit()};
        Seg s = segment;
        ColoSegment read;
        size_t len;

        s.seq = (uint32_t)g_test_rand_int();
        s.ts_val = g_test_rand_bit() ? 0 : 0xffffffff;
        len = rw_put(frame, &shape, &s);
        g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, false, &read));
        colo_segment_add(frame, &read, read.tcp_at + 4, (uint32_t)g_test_rand_int());
        colo_segment_add(frame, &read, read.ts_at, (uint32_t)g_test_rand_int());
        rw_assert_sum(frame, len, &shape);
    }
}

static void check_cut(const Shape *shape)
{
    g_autofree uint8_t *frame = g_malloc(RW_MAX);
    size_t len = rw_put(frame, shape, &segment);
    ColoSegment s;

    for (size_t cut = 0; cut < len; cut++) {
        g_autofree uint8_t *copy = g_memdup2(frame, cut ? cut : 1);

        g_assert_false(colo_segment_read(copy, cut, RW_VNET, 0, false, &s));
        (void)colo_segment_may_be_syn(copy, cut, RW_VNET);
    }
}

static void test_truncated_is_none(void)
{
    each_shape(check_cut);
}

static void test_fragments_are_none(void)
{
    const Shape v4 = {.v6 = FALSE}, v6 = {.v6 = TRUE, .extensions = 8};
    g_autofree uint8_t *frame = g_malloc(RW_MAX);
    ColoSegment s;
    size_t len = rw_put(frame, &v4, &segment);

    frame[rw_ip_at(&v4) + 6] = 0x20;
    g_assert_false(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
    len = rw_put(frame, &v6, &segment);
    frame[rw_ip_at(&v6) + 6] = 44;
    memset(frame + rw_ip_at(&v6) + 41, 0, 7);
    g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
    frame[rw_ip_at(&v6) + 43] = 1; /* more follow */
    g_assert_false(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
}

static void check_syn(const Shape *shape)
{
    g_autofree uint8_t *frame = g_malloc(RW_MAX);
    Seg syn = {.flags = SYN, .seq = 1};
    size_t len = rw_put(frame, shape, &syn);

    g_assert_true(colo_segment_may_be_syn(frame, len, RW_VNET));
    g_assert_true(colo_rewrite_is_syn(frame, len, RW_VNET));
    syn.flags = ACK | PSH;
    len = rw_put(frame, shape, &syn);
    g_assert_false(colo_rewrite_is_syn(frame, len, RW_VNET));
    if (!shape->tags && !(shape->v6 && shape->extensions))
        g_assert_false(colo_segment_may_be_syn(frame, len, RW_VNET));
}

static void test_syn_is_seen(void)
{
    each_shape(check_syn);
}

static void test_signed_is_seen(void)
{
    const Shape shape = {.v6 = FALSE};
    g_autofree uint8_t *frame = g_malloc(RW_MAX);
    Seg syn = {.flags = SYN, .seq = 1, .is_signed = TRUE};
    size_t len = rw_put(frame, &shape, &syn);
    ColoSegment s;

    g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
    g_assert_true(s.is_signed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/segment/reads-every-shape", test_reads_every_shape);
    g_test_add_func("/segment/sum/right-after-a-change", test_sum_is_right_after_a_change);
    g_test_add_func("/segment/sum/random", test_sum_is_right_for_random_numbers);
    g_test_add_func("/segment/truncated-is-none", test_truncated_is_none);
    g_test_add_func("/segment/fragments-are-none", test_fragments_are_none);
    g_test_add_func("/segment/syn-is-seen", test_syn_is_seen);
    g_test_add_func("/segment/signed-is-seen", test_signed_is_seen);
    return g_test_run();
}
