/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* When checkpoints are forced: at once, or periodically, and how that changes. Simulated time. */
#include "comparator/patience.h"
#include "comparator/policy.h"

#include <glib.h>

#define MS UINT64_C(1000000)
#define SEC (1000 * MS)

typedef struct {
    ColoPolicy policy;
    uint64_t now;
} Domain;

static void setup(Domain *d, const void *data G_GNUC_UNUSED)
{
    const ColoTuning tuning = COLO_TUNING_DEFAULT;

    d->now = 5 * SEC;
    colo_policy_init(&d->policy, &tuning, d->now);
}

static void teardown(Domain *d G_GNUC_UNUSED, const void *data G_GNUC_UNUSED)
{
}

/* The guest runs for @run ns, then a pause of @pause ns, because output @differs. */
static bool checkpoint(Domain *d, uint64_t run, uint64_t pause, bool differs)
{
    d->now += run;
    if (differs)
        colo_policy_differs(&d->policy, d->now);
    d->now += pause;
    return colo_policy_checkpoint(&d->policy, d->now - pause, d->now);
}

static void make_periodic(Domain *d)
{
    for (unsigned i = 0; i < COLO_POLICY_WINDOW; i++)
        g_assert_cmpint(checkpoint(d, MS, 4 * MS, true), ==, i + 1 == COLO_POLICY_WINDOW);
    g_assert_true(d->policy.periodic);
}

static void test_starts_comparing(Domain *d, const void *data G_GNUC_UNUSED)
{
    g_assert_cmpstr(colo_policy_mode_name(&d->policy), ==, "compare");
    g_assert_cmpuint(colo_policy_not_before(&d->policy), ==, 0);
    checkpoint(d, MS, 4 * MS, true);
    g_assert_cmpuint(colo_policy_not_before(&d->policy), ==, 0);
}

static void test_constant_divergence_goes_periodic(Domain *d, const void *data G_GNUC_UNUSED)
{
    make_periodic(d);
    g_assert_cmpstr(d->policy.reason, ==,
                    "output differed in 16 of 16 checkpoints, whose pauses took 81 % of the time");
    g_assert_cmpuint(d->policy.switches, ==, 1);
}

static void test_rare_divergence_stays(Domain *d, const void *data G_GNUC_UNUSED)
{
    for (unsigned i = 0; i < 10 * COLO_POLICY_WINDOW; i++)
        g_assert_false(checkpoint(d, 100 * MS, 4 * MS, true));
    g_assert_cmpuint(colo_policy_share(&d->policy), <, 5);
}

/* Checkpoints that time or the operator asks for are no divergence. */
static void test_other_checkpoints_stay(Domain *d, const void *data G_GNUC_UNUSED)
{
    for (unsigned i = 0; i < 10 * COLO_POLICY_WINDOW; i++)
        g_assert_false(checkpoint(d, MS, 4 * MS, i % 2));
}

static void test_agreement_goes_back(Domain *d, const void *data G_GNUC_UNUSED)
{
    uint64_t since;

    make_periodic(d);
    since = d->now;
    colo_policy_differs(&d->policy, since);
    g_assert_false(colo_policy_look(&d->policy, since + COLO_POLICY_AGREE_NS - 1));
    g_assert_true(colo_policy_look(&d->policy, since + COLO_POLICY_AGREE_NS));
    g_assert_cmpstr(colo_policy_mode_name(&d->policy), ==, "compare");
    g_assert_cmpstr(d->policy.reason, ==, "output agreed for 1000 ms");
    g_assert_cmpuint(colo_policy_not_before(&d->policy), ==, 0);
}

static void test_long_periods_need_longer(Domain *d, const void *data G_GNUC_UNUSED)
{
    uint64_t period;

    for (unsigned i = 0; i < COLO_POLICY_WINDOW; i++)
        checkpoint(d, MS, 200 * MS, true);
    g_assert_true(d->policy.periodic);
    period = colo_policy_period_ns(&d->policy);
    g_assert_cmpuint(period, ==, 400 * MS);
    colo_policy_differs(&d->policy, d->now);
    g_assert_false(colo_policy_look(&d->policy, d->now + COLO_POLICY_AGREE_PERIODS * period - 1));
    g_assert_true(colo_policy_look(&d->policy, d->now + COLO_POLICY_AGREE_PERIODS * period));
}

static void test_going_to_and_fro_is_damped(Domain *d, const void *data G_GNUC_UNUSED)
{
    uint64_t before = 0;

    for (unsigned i = 0; i < 4; i++) {
        uint64_t stay = 0;

        make_periodic(d);
        while (!colo_policy_look(&d->policy, d->now += 10 * MS))
            stay += 10 * MS;
        g_assert_cmpuint(stay, >, before);
        before = stay;
    }
    /* After a long time without, it begins anew. */
    d->now += 1000 * SEC;
    make_periodic(d);
    g_assert_cmpuint(d->policy.agree_ns, ==, COLO_POLICY_AGREE_NS);
}

static void test_damping_is_bounded(Domain *d, const void *data G_GNUC_UNUSED)
{
    for (unsigned i = 0; i < 20; i++) {
        make_periodic(d);
        while (!colo_policy_look(&d->policy, d->now += 100 * MS))
            g_assert_cmpuint(d->now - d->policy.differed_ns, <=, COLO_POLICY_AGREE_MAX_NS);
    }
    g_assert_cmpuint(d->policy.agree_ns, ==, COLO_POLICY_AGREE_MAX_NS);
}

/* Whatever the pause, within the bounds: the pauses take what they may, and what differs at any
 * moment of a period has left three pauses later. */
static void test_random_answers_leave_within_three_pauses(Domain *d, const void *data G_GNUC_UNUSED)
{
    for (uint64_t pause = 2 * MS; pause <= 400 * MS; pause = pause * 3 / 2) {
        uint64_t begun, run;

        setup(d, NULL);
        for (unsigned i = 0; i < COLO_POLICY_WINDOW; i++)
            checkpoint(d, MS / 10, pause, true);
        g_assert_true(d->policy.periodic);
        begun = d->now;
        for (unsigned i = 0; i < 100; i++) {
            run = colo_policy_not_before(&d->policy) - d->now;
            /* It differs right after the last checkpoint. */
            g_assert_cmpuint(run + pause, <=, 3 * pause);
            checkpoint(d, run, pause, true);
        }
        g_assert_true(d->policy.periodic);
        g_assert_cmpuint(100 * pause * 100, <=, (d->now - begun) * 51);
    }
}

static void test_period_is_bounded(Domain *d, const void *data G_GNUC_UNUSED)
{
    ColoTuning tuning = COLO_TUNING_DEFAULT;

    tuning.mode = COLO_TUNING_PERIODIC;
    tuning.period_min_ms = 20;
    tuning.period_max_ms = 100;
    g_assert_true(colo_policy_tune(&d->policy, &tuning, d->now));
    checkpoint(d, MS, MS, true);
    g_assert_cmpuint(colo_policy_not_before(&d->policy), ==, d->now + 19 * MS);
    for (unsigned i = 0; i < 50; i++)
        checkpoint(d, MS, 90 * MS, true);
    g_assert_cmpuint(colo_policy_period_ns(&d->policy), ==, 100 * MS);
    for (unsigned i = 0; i < 50; i++)
        checkpoint(d, MS, 300 * MS, true);
    g_assert_cmpuint(colo_policy_not_before(&d->policy), ==, d->now); /* a pause is longer */
}

/* A packet after a quiet time is not made to wait for a period's end. */
static void test_quiet_then_one_packet(Domain *d, const void *data G_GNUC_UNUSED)
{
    make_periodic(d);
    d->now += 500 * MS;
    g_assert_false(colo_policy_look(&d->policy, d->now));
    colo_policy_differs(&d->policy, d->now);
    g_assert_cmpuint(colo_policy_not_before(&d->policy), <, d->now);
    g_assert_true(d->policy.periodic);
}

static void test_set_by_hand_stays(Domain *d, const void *data G_GNUC_UNUSED)
{
    ColoTuning tuning = COLO_TUNING_DEFAULT;

    tuning.mode = COLO_TUNING_COMPARE;
    g_assert_false(colo_policy_tune(&d->policy, &tuning, d->now));
    for (unsigned i = 0; i < 100; i++)
        g_assert_false(checkpoint(d, MS, 4 * MS, true));
    g_assert_cmpstr(d->policy.reason, ==, "set by colo-tune");
    tuning.mode = COLO_TUNING_PERIODIC;
    g_assert_true(colo_policy_tune(&d->policy, &tuning, d->now));
    g_assert_false(colo_policy_look(&d->policy, d->now + 1000 * SEC));
    g_assert_true(d->policy.periodic);
    tuning.mode = COLO_TUNING_AUTO;
    g_assert_true(colo_policy_tune(&d->policy, &tuning, d->now));
    g_assert_false(d->policy.periodic);
}

/* New numbers without a new mode do not end a periodic time. */
static void test_new_numbers_keep_the_mode(Domain *d, const void *data G_GNUC_UNUSED)
{
    ColoTuning tuning = COLO_TUNING_DEFAULT;

    make_periodic(d);
    tuning.pause_share = 10;
    g_assert_false(colo_policy_tune(&d->policy, &tuning, d->now));
    g_assert_true(d->policy.periodic);
    g_assert_cmpuint(colo_policy_period_ns(&d->policy), ==, 40 * MS);
}

/* ---- patience ---- */

#define PAUSE_NS 8000000u
#define MIN_NS 2000000u

static void test_patience_is_lost(void)
{
    ColoPatience patience = {0};

    colo_patience_checkpoint(&patience, true, 7); /* some frames agreed */
    for (unsigned i = 0; i < COLO_PATIENCE_FRUITLESS; i++) {
        g_assert_cmpuint(colo_patience_longest_ns(&patience, PAUSE_NS, MIN_NS), ==, UINT64_MAX);
        colo_patience_checkpoint(&patience, false, 7); /* of time or of a queue: says nothing */
        colo_patience_checkpoint(&patience, true, 7);
    }
    g_assert_cmpuint(colo_patience_longest_ns(&patience, PAUSE_NS, MIN_NS), ==, PAUSE_NS);
    g_assert_cmpuint(colo_patience_longest_ns(&patience, MIN_NS / 2, MIN_NS), ==, MIN_NS);
    g_assert_cmpuint(colo_patience_longest_ns(&patience, 0, MIN_NS), ==, UINT64_MAX);
}

static void test_patience_comes_back(void)
{
    ColoPatience patience = {0};
    unsigned probes = 0;

    for (unsigned i = 0; i < 10 * COLO_PATIENCE_PROBE; i++) {
        colo_patience_checkpoint(&patience, true, 0);
        probes += i >= COLO_PATIENCE_FRUITLESS && !colo_patience_is_lost(&patience);
    }
    g_assert_cmpuint(probes, ==, 10); /* one is waited for now and then */
    colo_patience_checkpoint(&patience, true, 1);
    g_assert_false(colo_patience_is_lost(&patience));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/policy/" name, Domain, NULL, setup, function, teardown)
    ADD("starts-comparing", test_starts_comparing);
    ADD("constant-divergence", test_constant_divergence_goes_periodic);
    ADD("rare-divergence", test_rare_divergence_stays);
    ADD("other-checkpoints", test_other_checkpoints_stay);
    ADD("agreement", test_agreement_goes_back);
    ADD("agreement/long-periods", test_long_periods_need_longer);
    ADD("damped", test_going_to_and_fro_is_damped);
    ADD("damped/bounded", test_damping_is_bounded);
    ADD("three-pauses", test_random_answers_leave_within_three_pauses);
    ADD("period-is-bounded", test_period_is_bounded);
    ADD("quiet-then-one", test_quiet_then_one_packet);
    ADD("by-hand", test_set_by_hand_stays);
    ADD("new-numbers", test_new_numbers_keep_the_mode);
    g_test_add_func("/patience/is-lost", test_patience_is_lost);
    g_test_add_func("/patience/comes-back", test_patience_comes_back);
    return g_test_run();
}
