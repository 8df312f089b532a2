/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ownership when requests, replies or the store's writes are lost, over restarts of virtcolod, and
 * when both hosts want the domain at once: rules 4, 5, 7 and I3.
 */
#include "test-ownership-host.h"

#include <signal.h>
#include <string.h>

/* @host's next CAS goes through @proxy, which does @fault to it. */
static void fault_in_the_cas(Host *host, Proxy *proxy, Fault fault, const char *uuid)
{
    g_autoptr(ColoArbiter) arbiter = direct();
    g_autoptr(ColoRegister) reg = must_read(arbiter, uuid);

    proxy_start(proxy, uuid, reg->generation);
    host_use(host, armed(proxy, fault, uuid));
}

/* The fault came; @host reaches etcd directly again, and etcd goes on. */
static void mend(Host *host, Proxy *proxy)
{
    g_assert_cmpint(g_atomic_int_get(&proxy->hit), ==, 1);
    if (g_atomic_int_get(&proxy->fault) == STOP_SERVER) {
        kill(etcd_pid, SIGCONT);
        wait_for_etcd();
    }
    host_use(host, direct());
    proxy_end(proxy);
}

static void test_rule7_an_unknown_take_is_won_in_the_end(Pair *p)
{
    g_autoptr(ColoArbiter) arbiter = direct();
    g_autofree char *attempt = NULL;
    Proxy proxy;

    fault_in_the_cas(&p->b, &proxy, STOP_SERVER, p->uuid);
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    /* Neither lost nor won, and on disk before the request was sent. */
    assert_host(&p->b, 1, FALSE, TRUE);
    g_assert_false(p->b.record->attempt_pair);
    attempt = g_strdup(p->b.record->attempt);
    /* It consents to nothing and joins no session. */
    g_assert_false(OWN(consent, &p->b, NULL));
    g_assert_false(OWN(begin, &p->b, NULL));
    host_restart(&p->b);
    assert_host(&p->b, 1, FALSE, TRUE);
    g_assert_cmpstr(p->b.record->attempt, ==, attempt);

    mend(&p->b, &proxy);
    g_assert_cmpint(resolve(&p->b), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->b, 2, TRUE, FALSE);
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
    /* By the same attempt, not by a second CAS. */
    g_autoptr(ColoRegister) reg = must_read(arbiter, p->uuid);
    g_assert_cmpstr(reg->attempt, ==, attempt);
}

static void test_rule7_a_lost_reply_is_found_out_after_a_restart(Pair *p)
{
    Proxy proxy;

    fault_in_the_cas(&p->b, &proxy, LOSE_REPLY, p->uuid);
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE); /* applied, but it does not know */
    assert_host(&p->b, 1, FALSE, TRUE);
    host_restart(&p->b);
    mend(&p->b, &proxy);
    g_assert_cmpint(OWN(resolve_unknown, &p->b, NULL), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->b, 2, TRUE, FALSE);
}

static void test_rule7_paired_decides_nothing_and_the_attempt_is_repeated(Pair *p)
{
    Proxy proxy;

    fault_in_the_cas(&p->b, &proxy, LOSE_REQUEST, p->uuid);
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    /* A suspicion again is the same attempt, not a new one. */
    {
        g_autofree char *attempt = g_strdup(p->b.record->attempt);

        g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
        g_assert_cmpstr(p->b.record->attempt, ==, attempt);
    }
    mend(&p->b, &proxy);
    g_assert_cmpint(resolve(&p->b), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->b, 2, TRUE, FALSE);
}

static void test_rule7_an_unknown_take_is_lost_when_the_other_won(Pair *p)
{
    Proxy proxy;

    fault_in_the_cas(&p->b, &proxy, LOSE_REQUEST, p->uuid);
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
    host_restart(&p->b);
    mend(&p->b, &proxy);
    g_assert_cmpint(resolve(&p->b), ==, COLO_OWNERSHIP_LOST);
    assert_host(&p->b, 2, FALSE, FALSE);
    g_assert_cmpint(p->b.record->state, ==, COLO_STATE_FENCED);
    assert_register(p->uuid, 2, "alpha", COLO_REGISTER_ALONE);
}

/* Rule 7: the peer's consent ends an unknown take; whatever becomes of the CAS, it is ours. */
static void test_rule7_consent_ends_an_unknown_take(Pair *p)
{
    Proxy proxy;

    fault_in_the_cas(&p->b, &proxy, STOP_SERVER, p->uuid);
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_true(OWN(accept_consent, &p->b, 1, NULL));
    assert_host(&p->b, 2, TRUE, FALSE);
    mend(&p->b, &proxy);
    for (unsigned i = 0; i < 100; i++) {
        if (OWN(update_register, &p->b, NULL) == COLO_OWNERSHIP_WON)
            break;
        g_usleep(20 * 1000);
    }
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
    assert_host(&p->b, 2, TRUE, FALSE);
}

static void test_rule4_an_unknown_pairing_never_goes_back_to_alone(Pair *p)
{
    g_autofree char *attempt = NULL;
    Proxy proxy;

    g_assert_true(OWN(begin, &p->a, NULL));
    fault_in_the_cas(&p->a, &proxy, STOP_SERVER, p->uuid);
    g_assert_cmpint(OWN(pair, &p->a, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    assert_host(&p->a, 1, FALSE, TRUE);
    g_assert_true(p->a.record->attempt_pair);
    attempt = g_strdup(p->a.record->attempt);
    host_restart(&p->a);
    /* The peer is lost meanwhile: it may be able to take, so this host does not own it. */
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    g_assert_cmpstr(p->a.record->attempt, ==, attempt);
    assert_host(&p->a, 1, FALSE, TRUE);
    mend(&p->a, &proxy);
    g_assert_cmpint(resolve(&p->a), ==, COLO_OWNERSHIP_PAIRED);
    assert_host(&p->a, 1, FALSE, FALSE);
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    /* Paired for sure: now rule 6 decides. */
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->a, 2, TRUE, FALSE);
}

static void test_rule4_the_peer_took_over_while_the_pairing_was_unknown(Pair *p)
{
    Proxy proxy;

    g_assert_true(OWN(begin, &p->a, NULL));
    join_as_secondary(&p->a, &p->b);
    fault_in_the_cas(&p->a, &proxy, STOP_SERVER, p->uuid);
    g_assert_cmpint(OWN(pair, &p->a, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    mend(&p->a, &proxy);
    for (unsigned i = 0; i < 100; i++) { /* until the request has arrived */
        g_autoptr(ColoRegister) reg = must_read(p->a.arbiter, p->uuid);

        if (reg->mode == COLO_REGISTER_PAIRED)
            break;
        g_usleep(20 * 1000);
    }
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_WON);
    host_restart(&p->a);
    g_assert_cmpint(resolve(&p->a), ==, COLO_OWNERSHIP_LOST);
    assert_host(&p->a, 2, FALSE, FALSE);
    g_assert_cmpint(p->a.record->state, ==, COLO_STATE_FENCED);
}

static void test_rule11_a_lost_reply_of_the_update(Pair *p)
{
    Proxy proxy;

    g_assert_true(OWN(consent, &p->a, NULL));
    g_assert_true(OWN(accept_consent, &p->b, 1, NULL));
    fault_in_the_cas(&p->b, &proxy, LOSE_REPLY, p->uuid);
    g_assert_cmpint(OWN(update_register, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    mend(&p->b, &proxy);
    g_assert_cmpint(OWN(update_register, &p->b, NULL), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->b, 2, TRUE, FALSE);
    assert_register(p->uuid, 2, "beta", COLO_REGISTER_ALONE);
}

/* Rule 5: nothing stands on what could not be stored. */
static void test_rule5_what_is_not_stored_is_not_believed(Pair *p)
{
    Proxy proxy;

    store_break(&p->a);
    g_assert_cmpint(OWN(lost_peer, &p->a, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    g_assert_null(p->a.record->attempt); /* and nothing was sent */
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_PAIRED);
    g_assert_false(OWN(accept_consent, &p->a, 1, NULL));
    g_assert_false(p->a.record->owner);
    g_assert_false(OWN(accept_consent, &p->a, 1, NULL)); /* nor twice */
    g_assert_false(colo_json_peek_bool(p->a.record->details, "register-behind", FALSE));
    g_assert_false(OWN(consent, &p->a, NULL));
    g_assert_cmpuint(p->a.record->relinquished, ==, 0);
    store_mend(&p->a);
    assert_host(&p->a, 1, FALSE, FALSE);

    /* The CAS wins, but that cannot be stored: not the owner until it is. */
    fault_in_the_cas(&p->b, &proxy, LOSE_REPLY, p->uuid);
    g_assert_cmpint(OWN(lost_peer, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    mend(&p->b, &proxy);
    store_break(&p->b);
    g_assert_cmpint(OWN(resolve_unknown, &p->b, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    g_assert_false(p->b.record->owner);
    g_assert_cmpuint(p->b.record->generation, ==, 1);
    g_assert_nonnull(p->b.record->attempt);
    store_mend(&p->b);
    g_assert_cmpint(OWN(resolve_unknown, &p->b, NULL), ==, COLO_OWNERSHIP_WON);
    assert_host(&p->b, 2, TRUE, FALSE);
}

/* The register has followed a consent; a host that cannot store that has not seen it. */
static void test_rule11_a_register_that_followed_is_stored(Pair *p)
{
    g_assert_true(OWN(accept_consent, &p->a, 1, NULL));
    store_break(&p->a);
    for (int i = 0; i < 2; i++)
        g_assert_cmpint(OWN(update_register, &p->a, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    store_mend(&p->a);
    g_assert_cmpint(OWN(update_register, &p->a, NULL), ==, COLO_OWNERSHIP_WON);
}

static void test_rule5_a_pairing_that_cannot_be_stored_is_not_sent(Pair *p)
{
    g_assert_true(OWN(begin, &p->a, NULL));
    store_break(&p->a);
    g_assert_cmpint(OWN(pair, &p->a, NULL), ==, COLO_OWNERSHIP_UNKNOWN);
    store_mend(&p->a);
    assert_host(&p->a, 1, TRUE, FALSE); /* as before */
    assert_register(p->uuid, 1, "alpha", COLO_REGISTER_ALONE);
}

/* ---- both at once ---- */

#define ROUNDS 40u

typedef struct {
    Host *host;
    gint *go; /* atomic */
    unsigned delay_us;
    ColoOwnership outcome;
} Racer;

static gpointer race(gpointer data)
{
    Racer *racer = data;

    while (!g_atomic_int_get(racer->go))
        ;
    g_usleep(racer->delay_us);
    racer->outcome = OWN(lost_peer, racer->host, NULL);
    return NULL;
}

static void test_I3_one_of_two_that_suspect_each_other_wins(Pair *p)
{
    unsigned wins[2] = {0}, unknown = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t n = p->a.record->generation;
        gint go = 0;
        Racer racers[2] = {{&p->a, &go, (unsigned)g_test_rand_int_range(0, 1500), 0},
                           {&p->b, &go, (unsigned)g_test_rand_int_range(0, 1500), 0}};
        GThread *threads[2];
        Host *winner, *loser;
        Proxy proxy = {0};
        gboolean faulty = round % 5 == 4;

        g_assert_cmpuint(p->b.record->generation, ==, n);
        if (faulty) { /* now and then a reply gets lost */
            proxy_start(&proxy, p->uuid, n);
            host_use(&p->b, armed(&proxy, LOSE_REPLY, p->uuid));
        }
        for (unsigned i = 0; i < 2; i++)
            threads[i] = g_thread_new("racer", race, &racers[i]);
        g_atomic_int_set(&go, 1);
        for (unsigned i = 0; i < 2; i++)
            g_thread_join(threads[i]);
        if (faulty) {
            host_use(&p->b, direct());
            proxy_end(&proxy);
        }
        for (unsigned i = 0; i < 2; i++) {
            unknown += racers[i].outcome == COLO_OWNERSHIP_UNKNOWN;
            if (racers[i].outcome == COLO_OWNERSHIP_UNKNOWN)
                racers[i].outcome = resolve(racers[i].host);
        }

        g_assert_cmpint((racers[0].outcome == COLO_OWNERSHIP_WON) +
                            (racers[1].outcome == COLO_OWNERSHIP_WON),
                        ==, 1);
        winner = racers[racers[0].outcome == COLO_OWNERSHIP_WON ? 0 : 1].host;
        loser = winner == &p->a ? &p->b : &p->a;
        wins[winner == &p->a ? 0 : 1]++;
        g_assert_cmpint(racers[winner == &p->a ? 1 : 0].outcome, ==, COLO_OWNERSHIP_LOST);
        assert_host(winner, n + 1, TRUE, FALSE);
        assert_host(loser, n + 1, FALSE, FALSE);
        assert_register(p->uuid, n + 1, winner->name, COLO_REGISTER_ALONE);
        host_restart(loser);
        g_assert_cmpint(loser->record->state, ==, COLO_STATE_FENCED);
        g_assert_cmpint(OWN(lost_peer, loser, NULL), ==, COLO_OWNERSHIP_LOST);
        g_assert_false(OWN(begin, loser, NULL));

        /* The winner protects it again, to the loser. */
        g_assert_true(OWN(begin, winner, NULL));
        join_as_secondary(winner, loser);
        g_assert_cmpint(OWN(pair, winner, NULL), ==, COLO_OWNERSHIP_PAIRED);
    }
    g_test_message("of %u rounds alpha won %u, beta %u; %u answers were unknown at first", ROUNDS,
                   wins[0], wins[1], unknown);
    g_assert_cmpuint(unknown, >, 0);
}

/* A consent and a suspicion cross each other: still one owner, and never both gave up and took. */
typedef struct {
    Pair *pair;
    gint *go;
    unsigned delay_us;
    gboolean accepted;
} Giver;

static gpointer give(gpointer data)
{
    Giver *giver = data;
    Host *a = &giver->pair->a;

    while (!g_atomic_int_get(giver->go))
        ;
    g_usleep(giver->delay_us);
    giver->accepted = OWN(consent, a, NULL);
    return NULL;
}

static void test_I3_consent_while_the_other_takes(void)
{
    if (!have_etcd())
        return;
    for (unsigned round = 0; round < 10; round++) {
        gint go = 0;
        Pair p;
        Racer racer = {&p.b, &go, (unsigned)g_test_rand_int_range(0, 1500), 0};
        Giver giver = {&p, &go, (unsigned)g_test_rand_int_range(0, 1500), FALSE};
        GThread *taking, *giving;

        pair_new(&p);
        taking = g_thread_new("taking", race, &racer);
        giving = g_thread_new("giving", give, &giver);
        g_atomic_int_set(&go, 1);
        g_thread_join(taking);
        g_thread_join(giving);
        g_assert_true(giver.accepted);
        g_assert_cmpint(racer.outcome, ==, COLO_OWNERSHIP_WON);
        g_assert_true(OWN(accept_consent, &p.b, 1, NULL));
        assert_host(&p.b, 2, TRUE, FALSE);
        g_assert_cmpint(OWN(lost_peer, &p.a, NULL), ==, COLO_OWNERSHIP_LOST);
        assert_register(p.uuid, 2, "beta", COLO_REGISTER_ALONE);
        pair_clear(&p);
    }
}

void add_unknown_tests(void)
{
#define ADD(path, begin, f) add_test("/domain/ownership/" path, begin, f)
    ADD("rule4-unknown", hosts_new, test_rule4_an_unknown_pairing_never_goes_back_to_alone);
    ADD("rule4-peer-took", hosts_new, test_rule4_the_peer_took_over_while_the_pairing_was_unknown);
    ADD("rule5-not-stored", pair_new, test_rule5_what_is_not_stored_is_not_believed);
    ADD("rule5-pair-not-stored", hosts_new, test_rule5_a_pairing_that_cannot_be_stored_is_not_sent);
    ADD("rule11-followed", pair_new, test_rule11_a_register_that_followed_is_stored);
    ADD("rule7-server-stopped", pair_new, test_rule7_an_unknown_take_is_won_in_the_end);
    ADD("rule7-lost-reply", pair_new, test_rule7_a_lost_reply_is_found_out_after_a_restart);
    ADD("rule7-repeated", pair_new, test_rule7_paired_decides_nothing_and_the_attempt_is_repeated);
    ADD("rule7-other-won", pair_new, test_rule7_an_unknown_take_is_lost_when_the_other_won);
    ADD("rule7-consent", pair_new, test_rule7_consent_ends_an_unknown_take);
    ADD("rule11-lost-reply", pair_new, test_rule11_a_lost_reply_of_the_update);
    ADD("I3-race", pair_new, test_I3_one_of_two_that_suspect_each_other_wins);
    g_test_add_func("/domain/ownership/I3-consent-race", test_I3_consent_while_the_other_takes);
}
