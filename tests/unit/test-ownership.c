/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may let a domain's output out (I3): the rules of tests/model/README.md, by number, as
 * ownership.c implements them, against a real etcd. Requests and replies that get lost are in
 * test-ownership-unknown.c.
 */
#include "test-ownership-host.h"

#include "util/error.h"

#include <string.h>

static void test_rule1_a_fresh_host_creates_the_register(Pair *p)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(OWN(begin, &p->a, &error));
    g_assert_no_error(error);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 1, TRUE, FALSE);
    /* Again is the same. */
    g_assert_true(OWN(begin, &p->a, &error));
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_ALONE);

    g_assert_false(OWN(begin, &p->b, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_assert_nonnull(strstr(error->message, "owner alpha"));
    assert_host(&p->b, 0, FALSE, FALSE);
}

/* Removes the register behind the hosts' backs. */
static void lose_register(const char *uuid, const char *owner, uint64_t n)
{
    g_autoptr(ColoArbiter) arbiter = direct();

    g_assert_cmpint(colo_arbiter_remove(arbiter, uuid, owner, n, NULL), ==, COLO_TAKE_WON);
}

static void test_rule1_an_owner_creates_a_lost_register_at_its_generation(Pair *p)
{
    p->a.record->generation = 5;
    p->a.record->owner = TRUE;
    g_assert_true(colo_store_save_domain(p->a.store, p->a.record, NULL));
    g_assert_true(OWN(begin, &p->a, NULL));
    assert_register(p->uuid, 5, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 5, TRUE, FALSE);
}

static void test_rule1_not_out_of_a_consent_that_was_never_written(Pair *p)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(OWN(consent, &p->b, NULL));
    g_assert_true(OWN(accept_consent, &p->a, 1, NULL));
    lose_register(p->uuid, "alpha", 1);
    host_restart(&p->a);
    g_assert_false(OWN(begin, &p->a, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_ARBITER);
    g_assert_nonnull(strstr(error->message, "--i-am-sure"));
    assert_no_register(p->uuid);
}

static void test_rule1_a_creation_that_failed_can_be_tried_again(Pair *p)
{
    Proxy proxy;

    proxy_start(&proxy, p->uuid, 0);
    {
        ColoArbiter *through = arbiter_at(proxy.port, "alpha-client", "ca", 500);
        ColoRegister *reg = NULL;

        g_assert_cmpint(colo_arbiter_read(through, p->uuid, &reg, NULL), ==, COLO_ARBITER_ABSENT);
        g_atomic_int_set(&proxy.fault, LOSE_REQUEST);
        host_use(&p->a, through);
    }
    g_assert_false(OWN(begin, &p->a, NULL));
    g_assert_cmpint(g_atomic_int_get(&proxy.hit), ==, 1);
    assert_host(&p->a, 0, FALSE, FALSE);
    host_use(&p->a, direct());
    g_assert_true(OWN(begin, &p->a, NULL));
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 1, TRUE, FALSE);
    proxy_end(&proxy);
}

static void test_rule3_no_session_while_an_attempt_is_unresolved(Pair *p)
{
    g_autoptr(GError) error = NULL;

    p->a.record->attempt = g_strdup("x");
    g_assert_false(OWN(begin, &p->a, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_ARBITER);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
}

static void test_rule3_only_the_lone_owner_begins(Pair *p)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(OWN(begin, &p->a, &error)); /* paired */
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_clear_error(&error);
    g_assert_cmpint(OWN(lost_peer, &p->b, &error), ==, COLO_OWNERSHIP_WON);
    g_assert_false(OWN(begin, &p->a, &error)); /* beta's */
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_clear_error(&error);
    g_assert_true(OWN(begin, &p->b, &error));
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
}

static void test_rule4_pairing_ends_sole_ownership(Pair *p)
{
    /* pair_new() has paired them. */
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    assert_host(&p->a, 1, FALSE, FALSE);
    host_restart(&p->a);
    assert_host(&p->a, 1, FALSE, FALSE);
}

static void test_rule6_the_primary_takes(Pair *p)
{
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
    assert_register(p->uuid, 2, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 2, TRUE, FALSE);
    host_restart(&p->a);
    assert_host(&p->a, 2, TRUE, FALSE);
    /* The other comes too late, and knows it over a restart. */
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_LOST);
    assert_host(&p->b, 2, FALSE, FALSE);
    host_restart(&p->b);
    g_assert_cmpint(p->b.record->state, ==, COLO_STATE_FENCED);
    g_assert_false(p->b.record->loaded);
}

static void test_rule6_a_secondary_that_loaded_takes(Pair *p)
{
    g_autoptr(ColoDomainRecord) stored = NULL;

    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_WON);
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
    assert_host(&p->b, 2, TRUE, FALSE);
    /* In the same write: an owner that was not going on would give itself up after a reboot. */
    stored = host_stored(&p->b);
    g_assert_cmpint(stored->state, ==, COLO_STATE_FAILING_OVER);
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_LOST);
}

static void test_rule6_who_is_no_candidate_sends_nothing(Pair *p)
{
    g_autofree char *never = g_uuid_string_random();
    g_autoptr(GError) error = NULL;
    Host fresh;

    p->b.record->loaded = FALSE; /* a secondary without a checkpoint */
    g_assert_cmpint(OWN(lost_peer, &p->b, &error), ==, COLO_OWNERSHIP_LOST);
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_assert_nonnull(strstr(error->message, "never loaded"));
    g_assert_null(p->b.record->attempt);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);

    /* A domain that never was protected has nobody to lose to: its guest must not be stopped. */
    g_clear_error(&error);
    host_new(&fresh, "alpha", "beta", never, NULL);
    g_assert_cmpint(OWN(lost_peer, &fresh, &error), ==, COLO_OWNERSHIP_MANUAL);
    assert_host(&fresh, 0, FALSE, FALSE);
    assert_no_register(never);
    host_clear(&fresh);
}

static void test_rule6_a_secondary_cannot_take_what_is_alone(Pair *p)
{
    g_assert_true(OWN(begin, &p->a, NULL));
    join_as_secondary(&p->a, &p->b); /* LOADED, but the pairing never came */
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_LOST);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_ALONE);
}

static void test_rule9_a_missing_register_is_manual(Pair *p)
{
    g_autoptr(GError) error = NULL;

    lose_register(p->uuid, "alpha", 1);
    g_assert_cmpint(OWN(lost_peer, &p->b, &error), ==, COLO_OWNERSHIP_MANUAL);
    g_assert_nonnull(strstr(error->message, "--i-am-sure"));
    assert_host(&p->b, 1, FALSE, FALSE);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_MANUAL);
    g_assert_false(OWN(begin, &p->a, NULL));
    assert_no_register(p->uuid);
    /* Consent works all the same. */
    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_true(OWN(accept_consent, &p->b, 1, NULL));
    assert_host(&p->b, 2, TRUE, FALSE);
}

static void test_rule9_a_lower_register_is_manual(Pair *p)
{
    g_autoptr(ColoArbiter) arbiter = direct();

    p->a.record->generation = p->b.record->generation = 4; /* seen; etcd was restored to 1 */
    g_assert_true(colo_store_save_domain(p->a.store, p->a.record, NULL));
    g_assert_true(colo_store_save_domain(p->b.store, p->b.record, NULL));
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_MANUAL);
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_MANUAL);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_MANUAL);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    assert_host(&p->a, 4, FALSE, FALSE);
    assert_host(&p->b, 4, FALSE, FALSE);
}

static void test_rule10_who_gave_up_never_takes(Pair *p)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(OWN(consent, &p->a, &error));
    host_restart(&p->a); /* it was on disk when the call returned */
    g_assert_cmpuint(p->a.record->relinquished, ==, 1);
    g_assert_cmpint(p->a.record->state, ==, COLO_STATE_FENCED);
    g_assert_cmpint(OWN(lost_peer, &p->a, &error), ==, COLO_OWNERSHIP_LOST);
    g_assert_nonnull(strstr(error->message, "gave the domain up"));
    g_assert_cmpint(OWN(resolve_unknown, &p->a, NULL), ==, COLO_OWNERSHIP_LOST);
    g_assert_null(p->a.record->attempt);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    /* Said again it is the same. */
    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_cmpuint(p->a.record->relinquished, ==, 1);
}

static void test_rule10_no_consent_while_an_attempt_is_unresolved(Pair *p)
{
    g_autoptr(GError) error = NULL;

    p->a.record->attempt = g_strdup("x");
    g_assert_false(OWN(consent, &p->a, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_ARBITER);
    g_assert_cmpuint(p->a.record->relinquished, ==, 0);
}

static void test_rule11_consent_gives_the_next_generation(Pair *p)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_true(OWN(accept_consent, &p->b, 1, &error));
    g_assert_true(OWN(accept_consent, &p->b, 1, &error)); /* twice */
    assert_host(&p->b, 2, TRUE, FALSE);
    /* The register follows, also after a restart, and says so when asked again. */
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    host_restart(&p->b);
    g_assert_cmpint(OWN(update_register, &p->b, &error), ==, COLO_OWNERSHIP_WON);
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
    g_assert_cmpint(OWN(update_register, &p->b, &error), ==, COLO_OWNERSHIP_WON);
    g_assert_no_error(error);
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
}

static void test_rule11_stale_consent_is_refused(Pair *p)
{
    for (uint64_t n = 0; n < 4; n++) {
        g_autoptr(GError) error = NULL;

        if (n == 1)
            continue;
        g_assert_false(OWN(accept_consent, &p->b, n, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    }
    /* Both gave it up: nobody owns it. */
    g_assert_true(OWN(consent, &p->b, NULL));
    g_assert_false(OWN(accept_consent, &p->b, 1, NULL));
    assert_host(&p->b, 1, FALSE, FALSE);
}

static void test_rule11_no_session_before_the_register_has_followed(Pair *p)
{
    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_true(OWN(accept_consent, &p->b, 1, NULL));
    host_use(&p->b, arbiter_at(free_port(), "beta-client", "ca", 300));
    g_assert_false(OWN(begin, &p->b, NULL));
    assert_host(&p->b, 2, TRUE, FALSE);
    host_use(&p->b, direct());
    g_assert_true(OWN(begin, &p->b, NULL));
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
}

static void test_rule12_a_restarted_owner_renews_first(Pair *p)
{
    g_assert_true(OWN(begin, &p->a, NULL));
    host_restart(&p->a);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
    assert_register(p->uuid, 2, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 2, TRUE, FALSE);
}

static void test_rule12_out_of_paired_nobody_restarts(Pair *p)
{
    host_restart(&p->a);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_PAIRED);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    assert_host(&p->a, 1, FALSE, FALSE);
    /* The peer has gone on meanwhile. */
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_WON);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_LOST);
    assert_host(&p->a, 2, FALSE, FALSE);
    g_assert_cmpint(p->a.record->state, ==, COLO_STATE_FENCED);
}

static void test_rule12_a_take_that_had_won_before_the_reboot(Pair *p)
{
    g_autoptr(ColoArbiter) arbiter = direct();

    /* Stored, sent and applied; the host died before the reply. */
    p->a.record->attempt = g_uuid_string_random();
    p->a.record->attempt_pair = FALSE;
    g_assert_true(colo_store_save_domain(p->a.store, p->a.record, NULL));
    g_assert_cmpint(
        colo_arbiter_take(arbiter, p->uuid, "alpha", 1, p->a.record->attempt, NULL, NULL), ==,
        COLO_TAKE_WON);
    host_restart(&p->a);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
    assert_register(p->uuid, 3, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 3, TRUE, FALSE);
}

/* The pairing of the last boot may still be on its way; the renewal kills it. */
static void test_rule12_renewal_kills_a_pairing_under_way(Pair *p)
{
    g_autoptr(ColoArbiter) arbiter = direct();
    g_autofree char *old = NULL;

    g_assert_true(OWN(begin, &p->a, NULL));
    p->a.record->owner = FALSE;
    p->a.record->attempt = old = g_uuid_string_random();
    p->a.record->attempt_pair = TRUE;
    g_assert_true(colo_store_save_domain(p->a.store, p->a.record, NULL));
    p->a.record->attempt = NULL;
    host_restart(&p->a);
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->a, 2, TRUE, FALSE);
    g_assert_cmpint(colo_arbiter_pair(arbiter, p->uuid, "alpha", "beta", 1, old, NULL, NULL), ==,
                    COLO_TAKE_LOST);
    assert_register(p->uuid, 2, "alpha", COLO_REGISTER_ALONE);
}

static void test_rule12_never_where_the_register_went_back(Pair *p)
{
    g_assert_true(OWN(begin, &p->a, NULL));
    p->a.record->owner = FALSE; /* stored as paired, the register says alone */
    g_assert_true(colo_store_save_domain(p->a.store, p->a.record, NULL));
    g_assert_cmpint(OWN(restart, &p->a, NULL), ==, COLO_OWNERSHIP_MANUAL);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_ALONE);
}

static void test_rule13_the_operator_goes_two_up(Pair *p)
{
    g_autoptr(GError) error = NULL;

    /* alpha gave up, beta has accepted generation 2, not written it, and died. */
    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_true(OWN(accept_consent, &p->b, 1, NULL));
    g_assert_cmpint(OWN(force, &p->a, &error), ==, COLO_OWNERSHIP_WON);
    assert_register(p->uuid, 3, "alpha", COLO_REGISTER_ALONE);
    assert_host(&p->a, 3, TRUE, FALSE);
    /* beta, back, learns that it lost. */
    g_assert_cmpint(OWN(update_register, &p->b, &error), ==, COLO_OWNERSHIP_LOST);
    g_assert_nonnull(strstr(error->message, "owner alpha"));
}

static void test_manual_decides_nothing_by_suspicion(void)
{
    ColoArbiterConfig config = {.kind = COLO_ARBITER_MANUAL};
    g_autoptr(GError) error = NULL;
    Host a, b;

    host_new(&a, "alpha", "beta", "u", colo_arbiter_new(&config, NULL));
    host_new(&b, "beta", "alpha", "u", colo_arbiter_new(&config, NULL));
    g_assert_true(OWN(begin, &a, NULL));
    assert_host(&a, 1, TRUE, FALSE);
    join_as_secondary(&a, &b);
    g_assert_cmpint(OWN(pair, &a, NULL), ==, COLO_OWNERSHIP_PAIRED);
    assert_host(&a, 1, FALSE, FALSE);
    g_assert_cmpint(OWN(lost_peer, &a, &error), ==, COLO_OWNERSHIP_MANUAL);
    g_assert_nonnull(strstr(error->message, "--i-am-sure"));
    g_assert_cmpint(OWN(lost_peer, &b, NULL), ==, COLO_OWNERSHIP_MANUAL);
    assert_host(&a, 1, FALSE, FALSE);
    assert_host(&b, 1, FALSE, FALSE);
    /* A rebooted host waits. */
    g_assert_cmpint(OWN(restart, &a, NULL), ==, COLO_OWNERSHIP_MANUAL);
    /* Consent settles it, and the next session begins without a register. */
    g_assert_true(OWN(consent, &b, NULL));
    g_assert_true(OWN(accept_consent, &a, 1, NULL));
    g_assert_true(OWN(begin, &a, NULL));
    assert_host(&a, 2, TRUE, FALSE);
    /* And the operator. */
    g_assert_cmpint(OWN(force, &b, NULL), ==, COLO_OWNERSHIP_WON);
    assert_host(&b, 3, TRUE, FALSE);
    host_clear(&a);
    host_clear(&b);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pki_create();
    etcd_setup();
#define ADD(path, begin, f) add_test("/domain/ownership/" path, begin, f)
    ADD("rule1-create", hosts_new, test_rule1_a_fresh_host_creates_the_register);
    ADD("rule1-owner-recreates", hosts_new,
        test_rule1_an_owner_creates_a_lost_register_at_its_generation);
    ADD("rule1-unwritten-consent", pair_new,
        test_rule1_not_out_of_a_consent_that_was_never_written);
    ADD("rule1-failed-creation", hosts_new, test_rule1_a_creation_that_failed_can_be_tried_again);
    ADD("rule3-unresolved", pair_new, test_rule3_no_session_while_an_attempt_is_unresolved);
    ADD("rule3-lone-owner", pair_new, test_rule3_only_the_lone_owner_begins);
    ADD("rule4-pair", pair_new, test_rule4_pairing_ends_sole_ownership);
    ADD("rule6-primary", pair_new, test_rule6_the_primary_takes);
    ADD("rule6-secondary", pair_new, test_rule6_a_secondary_that_loaded_takes);
    ADD("rule6-no-candidate", pair_new, test_rule6_who_is_no_candidate_sends_nothing);
    ADD("rule6-alone", hosts_new, test_rule6_a_secondary_cannot_take_what_is_alone);
    ADD("rule9-missing", pair_new, test_rule9_a_missing_register_is_manual);
    ADD("rule9-lower", pair_new, test_rule9_a_lower_register_is_manual);
    ADD("rule10-never-takes", pair_new, test_rule10_who_gave_up_never_takes);
    ADD("rule10-unresolved", pair_new, test_rule10_no_consent_while_an_attempt_is_unresolved);
    ADD("rule11-accept", pair_new, test_rule11_consent_gives_the_next_generation);
    ADD("rule11-stale", pair_new, test_rule11_stale_consent_is_refused);
    ADD("rule11-register-first", pair_new, test_rule11_no_session_before_the_register_has_followed);
    ADD("rule12-renew", hosts_new, test_rule12_a_restarted_owner_renews_first);
    ADD("rule12-paired", pair_new, test_rule12_out_of_paired_nobody_restarts);
    ADD("rule12-take-had-won", pair_new, test_rule12_a_take_that_had_won_before_the_reboot);
    ADD("rule12-kills-pairing", hosts_new, test_rule12_renewal_kills_a_pairing_under_way);
    ADD("rule12-went-back", hosts_new, test_rule12_never_where_the_register_went_back);
    ADD("rule13-two-up", pair_new, test_rule13_the_operator_goes_two_up);
    g_test_add_func("/domain/ownership/manual", test_manual_decides_nothing_by_suspicion);
    add_unknown_tests();
    rc = g_test_run();
    etcd_teardown();
    pki_remove();
    return rc;
}
