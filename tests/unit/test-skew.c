/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long a frame may wait for its twin: the arithmetic, and the compare core's deadlines. */
#include "comparator/skew.h"
#include "test-compare-frames.h"

#define MS UINT64_C(1000000)

static void test_first_measure(void)
{
    ColoSkew skew = {0};

    colo_skew_sample(&skew, 8 * 1024);
    /* RFC 6298, 2.2: mean = R, deviation = R / 2. */
    g_assert_cmpuint(colo_skew_mean_ns(&skew), ==, 8 * 1024);
    g_assert_cmpuint(colo_skew_dev_ns(&skew), ==, 4 * 1024);
}

static void test_gains(void)
{
    ColoSkew skew = {0};

    colo_skew_sample(&skew, 800 * 1024);
    colo_skew_sample(&skew, 1600 * 1024);
    /* 2.3: mean += (R - mean) / 8, deviation += (|R - mean| - deviation) / 4. */
    g_assert_cmpuint(colo_skew_mean_ns(&skew), ==, 900 * 1024);
    g_assert_cmpuint(colo_skew_dev_ns(&skew), ==, 500 * 1024);
}

static void test_extremes_stay_in_range(void)
{
    ColoSkew skew = {0};

    for (unsigned i = 0; i < 1000; i++)
        colo_skew_sample(&skew, UINT64_MAX);
    g_assert_cmpuint(colo_skew_mean_ns(&skew), <=, 1000 * MS);
    for (unsigned i = 0; i < 1000; i++)
        colo_skew_sample(&skew, 0);
    g_assert_cmpuint(skew.mean, >, 0);
    g_assert_cmpuint(colo_skew_mean_ns(&skew), <, 10 * 1024);
    g_assert_cmpuint(colo_skew_dev_ns(&skew), <, 10 * 1024);
    for (unsigned i = 0; i < 1000; i++) {
        colo_skew_sample(&skew, i & 1 ? UINT64_MAX : 0);
        g_assert_cmpuint(colo_skew_mean_ns(&skew) + 4 * colo_skew_dev_ns(&skew), <, 6000 * MS);
    }
}

static void test_classes_round_up_within_bounds(void)
{
    ColoSkewDomain domain = {.skew = {0}};

    colo_skew_set_bounds(&domain, 2 * MS, 50 * MS);
    g_assert_cmpuint(domain.limits_ns[domain.rank], ==, 50 * MS); /* not measured */
    for (uint64_t ns = 1024; ns < 200 * MS; ns += ns / 3) {
        ColoSkew skew = {.mean = (uint32_t)(ns >> COLO_SKEW_SHIFT) << 3};
        uint64_t limit = domain.limits_ns[colo_skew_class(&domain, &skew)];

        g_assert_cmpuint(limit, >=, 2 * MS);
        g_assert_cmpuint(limit, <=, 50 * MS);
        g_assert_cmpuint(limit + 1024, >=, MIN(ns, 50 * MS));
        g_assert_cmpuint(limit, <=, MAX(2 * ns, 2 * MS));
    }
}

static void test_equal_bounds_are_a_fixed_limit(void)
{
    ColoSkewDomain domain = {.skew = {0}};

    colo_skew_set_bounds(&domain, 7 * MS, 7 * MS);
    colo_skew_sample(&domain.skew, 1024);
    g_assert_cmpuint(domain.limits_ns[colo_skew_class(&domain, &domain.skew)], ==, 7 * MS);
    colo_skew_sample(&domain.skew, 900 * MS);
    g_assert_cmpuint(domain.limits_ns[colo_skew_class(&domain, &domain.skew)], ==, 7 * MS);
}

/* @n answers on @port, whose twins come @skew ns later. */
static void answers(Sink *sink, unsigned port, unsigned n, uint64_t skew)
{
    static uint32_t seq = 1;

    for (unsigned i = 0; i < n; i++, seq++) {
        P(sink, .port = port, .seq = seq, .ack = 9, .flags = ACK, TEXT("x"));
        sink->now += skew;
        S(sink, .port = port, .seq = seq, .ack = 9, .flags = ACK, TEXT("x"));
    }
    g_assert_cmpuint(held(sink), ==, 0);
}

static uint64_t limit(Sink *sink)
{
    uint64_t mean, dev, ns;

    colo_compare_skew(sink->compare, &mean, &dev, &ns);
    return ns;
}

static void test_limit_follows_the_skew(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_cmpuint(limit(sink), ==, COLO_SKEW_MAX_NS);
    answers(sink, 80, 40, 100 * 1000);
    g_assert_cmpuint(limit(sink), ==, COLO_SKEW_MIN_NS);
    answers(sink, 80, 40, 10 * MS);
    g_assert_cmpuint(limit(sink), >=, 10 * MS);
    g_assert_cmpuint(limit(sink), <, COLO_SKEW_MAX_NS);
    answers(sink, 80, 40, 300 * MS);
    g_assert_cmpuint(limit(sink), ==, COLO_SKEW_MAX_NS);
}

static void test_twins_that_came_first_are_no_measure(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint64_t mean, dev, ns;

    for (uint32_t seq = 1; seq < 20; seq++) {
        S(sink, .seq = seq, .ack = 9, .flags = ACK, TEXT("x"));
        P(sink, .seq = seq, .ack = 9, .flags = ACK, TEXT("x"));
    }
    colo_compare_skew(sink->compare, &mean, &dev, &ns);
    g_assert_cmpuint(mean, ==, 0);
}

/* A fast flow's frame falls due before a slow one's that came earlier. */
static void test_each_flow_has_its_limit(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint64_t slow, fast;

    g_assert_cmpuint(colo_compare_due_ns(sink->compare, UINT64_MAX), ==, 0);
    answers(sink, 80, 40, 12 * MS);
    answers(sink, 81, 40, MS / 10);
    P(sink, .port = 80, .seq = 1000, .ack = 9, .flags = ACK, TEXT("s"));
    slow = colo_compare_due_ns(sink->compare, UINT64_MAX);
    g_assert_cmpuint(slow, >=, sink->now + 12 * MS);
    P(sink, .port = 81, .seq = 1000, .ack = 9, .flags = ACK, TEXT("f"));
    fast = colo_compare_due_ns(sink->compare, UINT64_MAX);
    g_assert_cmpuint(fast, ==, sink->now + COLO_SKEW_MIN_NS);
    S(sink, .port = 81, .seq = 1000, .ack = 9, .flags = ACK, TEXT("f"));
    g_assert_cmpuint(colo_compare_due_ns(sink->compare, UINT64_MAX), ==, slow);
    sink->epoch = 1;
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(colo_compare_due_ns(sink->compare, UINT64_MAX), ==, 0);
    g_assert_cmpuint(held(sink), ==, 0);
}

static void test_a_new_flow_has_the_domains(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    answers(sink, 80, 40, MS / 10);
    P(sink, .port = 99, .seq = 1, .ack = 9, .flags = ACK, TEXT("n"));
    g_assert_cmpuint(colo_compare_due_ns(sink->compare, UINT64_MAX), ==,
                     sink->now + COLO_SKEW_MIN_NS);
}

/* A secondary that became slow: checkpoints free all frames before their twins come. */
static void test_late_frames_raise_the_limit(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint64_t due = 0;
    unsigned n = 0;

    answers(sink, 80, 40, MS / 10);
    for (; limit(sink) < 30 * MS; n++) {
        g_assert_cmpuint(n, <, 100);
        P(sink, .seq = 5000 + n, .ack = 9, .flags = ACK, TEXT("x"));
        due = colo_compare_due_ns(sink->compare, UINT64_MAX);
        colo_compare_late(sink->compare, due - 1, UINT64_MAX); /* nothing is */
        g_assert_cmpuint(colo_compare_due_ns(sink->compare, UINT64_MAX), ==, due);
        colo_compare_late(sink->compare, due, UINT64_MAX);
        sink->now = due + 5 * MS;
        colo_compare_commit(sink->compare, ++sink->epoch);
    }
    g_test_message("%u checkpoints until the limit is 32 ms", n);
    g_assert_cmpuint(n, >, 1);
}

/* Answers that the secondary never gives wait about as long as the checkpoint takes, no longer. */
static void test_missing_twins_cost_no_more_than_a_pause(Sink *sink,
                                                         gconstpointer data G_GNUC_UNUSED)
{
    for (unsigned n = 0; n < 100; n++) {
        P(sink, .seq = 5000 + n, .ack = 9, .flags = ACK, TEXT("x"));
        sink->now = colo_compare_due_ns(sink->compare, UINT64_MAX);
        colo_compare_late(sink->compare, sink->now, 5 * MS);
        colo_compare_commit(sink->compare, ++sink->epoch);
    }
    g_assert_cmpuint(limit(sink), ==, 8 * MS); /* rounded up */
    P(sink, .seq = 6000, .ack = 9, .flags = ACK, TEXT("x"));
    g_assert_cmpuint(colo_compare_due_ns(sink->compare, 5 * MS), ==, sink->now + 5 * MS);
}

static void test_new_bounds_hold_at_once(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("x"));
    colo_compare_set_unanswered(sink->compare, 5 * MS, 5 * MS);
    g_assert_cmpuint(colo_compare_due_ns(sink->compare, UINT64_MAX), ==, sink->now + 5 * MS);
}

/* Frames with different limits leave at a commit in the order of their flows' first ones. */
static void test_commit_keeps_the_order(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    static const unsigned ports[] = {80, 81, 82};
    size_t len;

    answers(sink, 80, 40, 12 * MS);
    answers(sink, 81, 40, MS / 10);
    answers(sink, 82, 40, 3 * MS);
    g_ptr_array_set_size(sink->left, 0);
    for (unsigned i = 0; i < 3; i++)
        P(sink, .port = ports[i], .seq = 9000, .ack = 9, .flags = ACK, TEXT("x"));
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 3);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpuint(get16(sink_frame(sink, i, &len) + TCP_AT), ==, ports[i]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/skew/first-measure", test_first_measure);
    g_test_add_func("/skew/gains", test_gains);
    g_test_add_func("/skew/extremes", test_extremes_stay_in_range);
    g_test_add_func("/skew/classes", test_classes_round_up_within_bounds);
    g_test_add_func("/skew/equal-bounds", test_equal_bounds_are_a_fixed_limit);
#define ADD(name, function) g_test_add("/skew/" name, Sink, NULL, setup, function, teardown)
    ADD("limit-follows", test_limit_follows_the_skew);
    ADD("secondary-first-is-no-measure", test_twins_that_came_first_are_no_measure);
    ADD("each-flow-its-limit", test_each_flow_has_its_limit);
    ADD("new-flow-has-the-domains", test_a_new_flow_has_the_domains);
    ADD("late-frames-raise-it", test_late_frames_raise_the_limit);
    ADD("missing-twins", test_missing_twins_cost_no_more_than_a_pause);
    ADD("new-bounds-at-once", test_new_bounds_hold_at_once);
    ADD("commit-keeps-the-order", test_commit_keeps_the_order);
    return g_test_run();
}
