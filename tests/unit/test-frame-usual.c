/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fast parse of the usual frame says the same as the parse of any frame, or nothing. */
#include "comparator/frame.h"
#include "test-compare-frames.h"

#define ROUNDS 400000
#define HEAD_MAX (TCP_AT + 32)

static const ColoHashKey secret = {1, 2};

/* Whether it is usual; then both parses agree. */
static bool check_frame(const uint8_t *frame, size_t len, size_t vnet)
{
    g_autofree uint8_t *copy = g_memdup2(frame, len); /* of its own size, for a sanitizer */
    ColoFlowKey key, usual_key;
    ColoFrameInfo info, usual_info;
    ColoFrameUsual usual;

    if (!colo_frame_usual(copy, len, vnet, 3, &usual_key, &usual))
        return false;
    colo_frame_usual_info(copy, vnet, &usual, &usual_info);
    g_assert_true(colo_frame_parse(copy, len, vnet, 3, &secret, &key, &info));
    g_assert_cmpmem(&key, sizeof(key), &usual_key, sizeof(usual_key));
    g_assert_cmpmem(&info, sizeof(info), &usual_info, sizeof(usual_info));
    return true;
}

static size_t put_usual(uint8_t *frame, bool timestamps, size_t payload)
{
    static const uint8_t zeros[64];

    return put_tcp(frame, &(Segment){.seq = 0x12345678,
                                     .ack = 0x9abcdef0,
                                     .flags = ACK | (payload & 1 ? COLO_TCP_PSH : 0),
                                     .window = 500,
                                     .options = timestamps ? TS("\1") : NULL,
                                     .options_len = timestamps ? 12 : 0,
                                     .data = zeros,
                                     .len = payload});
}

static void test_usual(void)
{
    uint8_t frame[MAX_FRAME];

    for (size_t payload = 0; payload < 64; payload++) {
        g_assert_true(check_frame(frame, put_usual(frame, true, payload), VNET));
        g_assert_true(check_frame(frame, put_usual(frame, false, payload), VNET));
        g_assert_true(check_frame(frame + VNET, put_usual(frame, true, payload) - VNET, 0));
    }
}

static void test_other_flags_are_not(void)
{
    uint8_t frame[MAX_FRAME];
    size_t len = put_usual(frame, true, 5);

    for (unsigned flags = 0; flags < 256; flags++) {
        frame[TCP_AT + 13] = (uint8_t)flags;
        g_assert_cmpint(check_frame(frame, len, VNET), ==, (flags & ~COLO_TCP_PSH) == COLO_TCP_ACK);
    }
}

/* Any bytes, any length: what is taken for usual is read as colo_frame_parse() reads it. */
static void test_same_for_any_bytes(void)
{
    unsigned usual = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t frame[MAX_FRAME] = {0};
        size_t len = put_usual(frame, g_test_rand_bit(), (size_t)g_test_rand_int_range(0, 8));

        for (int n = g_test_rand_int_range(0, 4); n > 0; n--)
            frame[g_test_rand_int_range(0, HEAD_MAX)] = (uint8_t)g_test_rand_int();
        if (g_test_rand_int_range(0, 4) == 0)
            len = (size_t)g_test_rand_int_range(0, HEAD_MAX + 16);
        usual += check_frame(frame, len, VNET);
    }
    g_assert_cmpuint(usual, >, ROUNDS / 10);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/frame-usual/usual", test_usual);
    g_test_add_func("/frame-usual/other-flags-are-not", test_other_flags_are_not);
    g_test_add_func("/frame-usual/same-for-any-bytes", test_same_for_any_bytes);
    return g_test_run();
}
