/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The arbiter against a real etcd on loopback, TLS with client certificates on both sides: at most
 * one winner a generation (I3), and what becomes of lost requests and lost replies. Without etcd
 * these tests are skipped; the manual back-end is tested always.
 */
#include "test-arbiter-etcd.h"

#include "util/error.h"

#include <signal.h>
#include <string.h>

/* A register {1, alpha, beta, paired} of a fresh domain; its uuid. */
static char *paired_domain(ColoArbiter *arbiter)
{
    char *uuid = g_uuid_string_random();
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(colo_arbiter_create(arbiter, uuid, "alpha", 1, "a1", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_assert_cmpint(colo_arbiter_pair(arbiter, uuid, "alpha", "beta", 1, "a2", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_assert_no_error(error);
    return uuid;
}

static void test_create_once(void)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoRegister) current = NULL;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arbiter = direct();
    g_assert_cmpint(colo_arbiter_create(arbiter, uuid, "alpha", 4, "a1", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_autoptr(ColoRegister) reg = must_read(arbiter, uuid);
    g_assert_cmpuint(reg->generation, ==, 4);
    g_assert_cmpint(reg->mode, ==, COLO_REGISTER_ALONE);
    g_assert_cmpstr(reg->owner, ==, "alpha");
    g_assert_cmpstr(reg->primary, ==, "alpha");
    g_assert_null(reg->secondary);
    g_assert_cmpstr(reg->attempt, ==, "a1");
    /* The same attempt again is the same CAS. */
    g_assert_cmpint(colo_arbiter_create(arbiter, uuid, "alpha", 4, "a1", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_assert_no_error(error);
    g_assert_cmpint(colo_arbiter_create(arbiter, uuid, "beta", 4, "b1", &current, &error), ==,
                    COLO_TAKE_LOST);
    g_assert_cmpstr(current->owner, ==, "alpha");
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED);
}

/* Who may swap what: every CAS from every wrong start. */
static void test_only_the_right_start_wins(void)
{
    g_autoptr(GError) e = NULL;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = direct();
    g_autofree char *uuid = paired_domain(arb);

    g_assert_cmpint(colo_arbiter_take(arb, uuid, "gamma", 1, "x", NULL, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_update(arb, uuid, "gamma", 1, "x", NULL, NULL), ==,
                    COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_pair(arb, uuid, "alpha", "beta", 1, "x", NULL, NULL), ==,
                    COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_remove(arb, uuid, "beta", 1, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "beta", 1, "b1", NULL, &e), ==, COLO_TAKE_WON);
    g_assert_no_error(e);

    /* Now {2, beta alone}: nobody takes it over; only beta pairs, renews or removes. */
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "alpha", 2, "x", NULL, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "beta", 2, "x", NULL, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "alpha", 1, "x", NULL, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_pair(arb, uuid, "alpha", "beta", 2, "x", NULL, NULL), ==,
                    COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_update(arb, uuid, "alpha", 2, "x", NULL, NULL), ==,
                    COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_force(arb, uuid, "alpha", 1, "x", NULL, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_update(arb, uuid, "beta", 2, "b2", NULL, &e), ==, COLO_TAKE_WON);
    g_assert_cmpint(colo_arbiter_pair(arb, uuid, "beta", "alpha", 3, "b3", NULL, &e), ==,
                    COLO_TAKE_WON);
    /* Consent of beta to alpha. */
    g_assert_cmpint(colo_arbiter_update(arb, uuid, "alpha", 3, "a3", NULL, &e), ==, COLO_TAKE_WON);
    g_autoptr(ColoRegister) reg = must_read(arb, uuid);
    g_assert_cmpuint(reg->generation, ==, 4);
    g_assert_cmpstr(reg->owner, ==, "alpha");
    g_assert_cmpint(colo_arbiter_remove(arb, uuid, "alpha", 4, &e), ==, COLO_TAKE_WON);
    g_assert_cmpint(colo_arbiter_remove(arb, uuid, "alpha", 4, &e), ==, COLO_TAKE_WON);
    g_assert_no_error(e);
}

static void test_absent_and_lower_are_manual(void)
{
    g_autofree char *none = g_uuid_string_random();
    g_autoptr(GError) absent = NULL;
    g_autoptr(GError) lower = NULL;
    g_autoptr(GError) resolved = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoRegister) reg = NULL;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = direct();
    g_assert_cmpint(colo_arbiter_read(arb, none, &reg, &error), ==, COLO_ARBITER_ABSENT);
    g_assert_cmpint(colo_arbiter_take(arb, none, "alpha", 3, "x", NULL, &absent), ==,
                    COLO_TAKE_MANUAL);
    g_assert_error(absent, COLO_ERROR, COLO_ERROR_ARBITER);
    g_assert_nonnull(strstr(absent->message, "--i-am-sure"));

    g_autofree char *uuid = paired_domain(arb);
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "alpha", 3, "x", NULL, &lower), ==,
                    COLO_TAKE_MANUAL);
    g_assert_nonnull(strstr(lower->message, "generation 1, lower than 3"));
    g_assert_cmpint(colo_arbiter_update(arb, uuid, "alpha", 3, "x", NULL, NULL), ==,
                    COLO_TAKE_MANUAL);
    g_assert_cmpint(colo_arbiter_resolve(arb, COLO_ARBITER_OP_TAKE, uuid, 3, "x", NULL, &resolved),
                    ==, COLO_TAKE_MANUAL);
    /* The operator's word writes it above everything seen, from both states. */
    g_assert_cmpint(colo_arbiter_force(arb, uuid, "beta", 3, "f1", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_assert_cmpint(colo_arbiter_force(arb, none, "beta", 3, "f2", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_assert_no_error(error);
    g_autoptr(ColoRegister) after = must_read(arb, uuid);
    g_assert_cmpuint(after->generation, ==, 4);
    g_assert_cmpstr(after->owner, ==, "beta");
}

typedef struct {
    ColoArbiter *arbiter;
    const char *uuid;
    const char *me;
    uint64_t n;
    gint *gate; /* atomic: both go when it is 2 */
    ColoTake take;
} Taker;

static gpointer take_at_once(gpointer data)
{
    Taker *taker = data;
    g_autofree char *attempt = g_uuid_string_random();

    g_atomic_int_inc(taker->gate);
    while (g_atomic_int_get(taker->gate) < 2)
        ;
    taker->take =
        colo_arbiter_take(taker->arbiter, taker->uuid, taker->me, taker->n, attempt, NULL, NULL);
    return NULL;
}

static void test_I3_one_winner_a_generation(void)
{
    enum { GENERATIONS = 100 };
    unsigned won_by_alpha = 0;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) a = direct();
    g_autoptr(ColoArbiter) b = direct();
    g_autofree char *uuid = paired_domain(a);

    for (uint64_t n = 1; n <= GENERATIONS; n++) {
        gint gate = 0;
        Taker alpha = {a, uuid, "alpha", n, &gate, COLO_TAKE_UNKNOWN};
        Taker beta = {b, uuid, "beta", n, &gate, COLO_TAKE_UNKNOWN};
        GThread *one = g_thread_new("alpha", take_at_once, &alpha);
        GThread *two = g_thread_new("beta", take_at_once, &beta);
        g_autofree char *attempt = g_uuid_string_random();
        g_autoptr(GError) error = NULL;

        g_thread_join(one);
        g_thread_join(two);
        g_assert_cmpint(alpha.take, !=, COLO_TAKE_UNKNOWN);
        g_assert_cmpint(beta.take, !=, COLO_TAKE_UNKNOWN);
        g_assert_cmpint((alpha.take == COLO_TAKE_WON) + (beta.take == COLO_TAKE_WON), ==, 1);

        bool alpha_won = alpha.take == COLO_TAKE_WON;
        g_autoptr(ColoRegister) reg = must_read(a, uuid);
        g_assert_cmpuint(reg->generation, ==, n + 1);
        g_assert_cmpstr(reg->owner, ==, alpha_won ? "alpha" : "beta");
        won_by_alpha += alpha_won;
        g_assert_cmpint(colo_arbiter_pair(a, uuid, reg->owner, alpha_won ? "beta" : "alpha", n + 1,
                                          attempt, NULL, &error),
                        ==, COLO_TAKE_WON);
    }
    g_test_message("alpha won %u of %u", won_by_alpha, GENERATIONS);
}

static void test_lost_reply_is_unknown_then_won(void)
{
    g_autoptr(GError) unknown = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoRegister) current = NULL;
    Proxy proxy;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = direct();
    g_autofree char *uuid = paired_domain(arb);
    proxy_start(&proxy, uuid, 1);
    g_autoptr(ColoArbiter) beta = armed(&proxy, LOSE_REPLY, uuid);
    g_assert_cmpint(colo_arbiter_take(beta, uuid, "beta", 1, "b1", NULL, &unknown), ==,
                    COLO_TAKE_UNKNOWN);
    g_assert_error(unknown, COLO_ERROR, COLO_ERROR_ARBITER);
    g_assert_cmpint(g_atomic_int_get(&proxy.hit), ==, 1);
    g_atomic_int_set(&proxy.fault, PASS);
    g_assert_cmpint(
        colo_arbiter_resolve(beta, COLO_ARBITER_OP_TAKE, uuid, 1, "b1", &current, &error), ==,
        COLO_TAKE_WON);
    g_assert_no_error(error);
    g_assert_cmpstr(current->owner, ==, "beta");
    /* The other one has lost, whichever way it asks. */
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "alpha", 1, "a9", NULL, NULL), ==, COLO_TAKE_LOST);
    g_assert_cmpint(colo_arbiter_resolve(arb, COLO_ARBITER_OP_TAKE, uuid, 1, "a9", NULL, NULL), ==,
                    COLO_TAKE_LOST);
    proxy_end(&proxy);
}

static void test_lost_request_stays_unknown_until_decided(void)
{
    g_autoptr(GError) error = NULL;
    Proxy proxy;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = direct();
    g_autofree char *uuid = paired_domain(arb);
    proxy_start(&proxy, uuid, 1);
    g_autoptr(ColoArbiter) beta = armed(&proxy, LOSE_REQUEST, uuid);
    g_assert_cmpint(colo_arbiter_take(beta, uuid, "beta", 1, "b1", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
    g_assert_cmpint(g_atomic_int_get(&proxy.hit), ==, 1);
    g_atomic_int_set(&proxy.fault, PASS);
    /* The register says nothing of it: that is no LOST, the request may be on its way. */
    g_assert_cmpint(colo_arbiter_resolve(beta, COLO_ARBITER_OP_TAKE, uuid, 1, "b1", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
    /* Repeated with the same attempt, it is decided. */
    g_assert_cmpint(colo_arbiter_take(beta, uuid, "beta", 1, "b1", NULL, &error), ==,
                    COLO_TAKE_WON);
    g_assert_no_error(error);
    proxy_end(&proxy);
}

static void test_server_stopped_during_the_cas(void)
{
    g_autoptr(GError) error = NULL;
    gint64 start, took;
    ColoTake take = COLO_TAKE_UNKNOWN;
    Proxy proxy;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = direct();
    g_autofree char *uuid = paired_domain(arb);
    proxy_start(&proxy, uuid, 1);
    g_autoptr(ColoArbiter) beta = armed(&proxy, STOP_SERVER, uuid);
    start = g_get_monotonic_time();
    g_assert_cmpint(colo_arbiter_take(beta, uuid, "beta", 1, "b1", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
    took = g_get_monotonic_time() - start;
    g_assert_cmpint(g_atomic_int_get(&proxy.hit), ==, 1);
    /* The call's own deadline of 1000 ms holds. */
    g_assert_cmpint(took, >=, 900 * 1000);
    g_assert_cmpint(took, <, 3000 * 1000);
    kill(etcd_pid, SIGCONT);
    for (int i = 0; take == COLO_TAKE_UNKNOWN && i < 100; i++) {
        g_clear_error(&error);
        take = colo_arbiter_resolve(arb, COLO_ARBITER_OP_TAKE, uuid, 1, "b1", NULL, &error);
        g_usleep(20 * 1000);
    }
    g_test_message("%s", error ? error->message : "");
    g_assert_cmpint(take, ==, COLO_TAKE_WON);
    proxy_end(&proxy);
}

static void test_endpoints_in_turn(void)
{
    g_autofree char *dead = g_strdup_printf("https://127.0.0.1:%u", free_port());
    g_autofree char *good = g_strdup_printf("https://127.0.0.1:%u", etcd_port);
    const char *endpoints[] = {dead, good, NULL};
    g_autofree char *ca = pki_path("ca-cert.pem");
    g_autofree char *cert = pki_path("alpha-client-cert.pem");
    g_autofree char *key = pki_path("alpha-client-key.pem");
    ColoArbiterConfig config = {COLO_ARBITER_ETCD, (char **)endpoints, ca, cert, key, 2000, false};

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = colo_arbiter_new(&config, NULL);
    g_autofree char *uuid = paired_domain(arb);
    g_autoptr(ColoRegister) reg = must_read(arb, uuid);
    g_assert_cmpint(reg->mode, ==, COLO_REGISTER_PAIRED);
}

static void test_certificates_are_needed_on_both_sides(void)
{
    g_autoptr(GError) none = NULL;
    g_autoptr(GError) foreign = NULL;
    g_autoptr(GError) server = NULL;

    if (!have_etcd())
        return;
    pki_issue("ca2", "foreign",
              "cn = \"alpha\"\ntls_www_client\nsigning_key\nexpiration_days = 30\n");
    g_autoptr(ColoArbiter) without = arbiter_at(etcd_port, NULL, "ca", 2000);
    g_assert_false(colo_arbiter_probe(without, &none));
    g_test_message("%s", none->message);
    g_autoptr(ColoArbiter) other = arbiter_at(etcd_port, "foreign", "ca", 2000);
    g_assert_false(colo_arbiter_probe(other, &foreign));
    g_test_message("%s", foreign->message);
    g_autoptr(ColoArbiter) doubting = arbiter_at(etcd_port, "alpha-client", "ca2", 2000);
    g_assert_false(colo_arbiter_probe(doubting, &server));
    g_test_message("%s", server->message);
    g_assert_nonnull(strstr(server->message, "certificate"));
}

static void test_unreadable_value_is_unknown(void)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *etcdctl = g_find_program_in_path("etcdctl");
    g_autofree char *line = NULL;
    g_autoptr(GError) error = NULL;
    ColoRegister *reg = NULL;

    if (!have_etcd())
        return;
    if (!etcdctl) {
        g_test_skip("etcdctl is not installed (Debian: etcd-client)");
        return;
    }
    g_autoptr(ColoArbiter) arb = direct();
    line = g_strdup_printf("env ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:%u --cacert "
                           "%s/ca-cert.pem --cert %s/alpha-client-cert.pem --key "
                           "%s/alpha-client-key.pem put /libvirt-colo/domains/%s '{\"version\":9}'",
                           etcd_port, pki_dir, pki_dir, pki_dir, uuid);
    int status = -1;
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    g_assert_true(g_spawn_command_line_sync(line, &out, &err, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpint(colo_arbiter_read(arb, uuid, &reg, &error), ==, COLO_ARBITER_UNKNOWN);
    g_assert_nonnull(strstr(error->message, uuid));
    /* Neither is it taken for absent. */
    g_assert_cmpint(colo_arbiter_create(arb, uuid, "alpha", 1, "x", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
}

/* Last of those with etcd: it is killed here. */
static void test_etcd_down_is_unknown(void)
{
    g_autoptr(GError) read_error = NULL;
    g_autoptr(GError) error = NULL;
    ColoRegister *reg = NULL;

    if (!have_etcd())
        return;
    g_autoptr(ColoArbiter) arb = direct();
    g_autofree char *uuid = paired_domain(arb);
    etcd_kill();
    g_assert_cmpint(colo_arbiter_read(arb, uuid, &reg, &read_error), ==, COLO_ARBITER_UNKNOWN);
    g_assert_error(read_error, COLO_ERROR, COLO_ERROR_ARBITER);
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "beta", 1, "b1", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
    g_assert_cmpint(colo_arbiter_create(arb, uuid, "beta", 1, "b1", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
    g_assert_cmpint(colo_arbiter_resolve(arb, COLO_ARBITER_OP_TAKE, uuid, 1, "b1", NULL, NULL), ==,
                    COLO_TAKE_UNKNOWN);
    g_assert_cmpint(colo_arbiter_remove(arb, uuid, "alpha", 1, NULL), ==, COLO_TAKE_UNKNOWN);
    /* Back with its data: what was decided before stands. */
    etcd_start();
    wait_for_etcd();
    g_assert_cmpint(colo_arbiter_take(arb, uuid, "beta", 1, "b1", NULL, &error), ==, COLO_TAKE_WON);
    g_assert_no_error(error);
}

static void test_manual_leaves_takes_to_the_operator(void)
{
    ColoArbiterConfig config = {.kind = COLO_ARBITER_MANUAL};
    g_autoptr(ColoArbiter) arb = colo_arbiter_new(&config, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoRegister) current = NULL;
    ColoRegister *reg = NULL;

    g_assert_cmpint(colo_arbiter_create(arb, "u", "alpha", 1, "x", NULL, NULL), ==, COLO_TAKE_WON);
    g_assert_cmpint(colo_arbiter_pair(arb, "u", "alpha", "beta", 1, "y", &current, NULL), ==,
                    COLO_TAKE_WON);
    g_assert_cmpint(current->mode, ==, COLO_REGISTER_PAIRED);
    g_assert_cmpint(colo_arbiter_take(arb, "u", "beta", 1, "z", NULL, &error), ==,
                    COLO_TAKE_MANUAL);
    g_assert_nonnull(strstr(error->message, "--i-am-sure"));
    g_assert_cmpint(colo_arbiter_resolve(arb, COLO_ARBITER_OP_TAKE, "u", 1, "z", NULL, NULL), ==,
                    COLO_TAKE_MANUAL);
    g_assert_cmpint(colo_arbiter_read(arb, "u", &reg, NULL), ==, COLO_ARBITER_ABSENT);
    g_assert_cmpint(colo_arbiter_update(arb, "u", "beta", 1, "z", NULL, NULL), ==, COLO_TAKE_WON);
    g_assert_cmpint(colo_arbiter_force(arb, "u", "beta", 1, "z", NULL, NULL), ==, COLO_TAKE_WON);
}

static void test_incomplete_configuration(void)
{
    const char *plain[] = {"http://127.0.0.1:2379", NULL};
    ColoArbiterConfig config = {.kind = COLO_ARBITER_ETCD};
    g_autoptr(GError) empty = NULL;
    g_autoptr(GError) plaintext = NULL;

    g_assert_null(colo_arbiter_new(&config, &empty));
    g_assert_error(empty, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    config.endpoints = (char **)plain;
    g_assert_null(colo_arbiter_new(&config, &plaintext));
    g_assert_nonnull(strstr(plaintext->message, "http://127.0.0.1:2379"));
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pki_create();
    etcd_setup();
    g_test_add_func("/pair/arbiter/create", test_create_once);
    g_test_add_func("/pair/arbiter/rules", test_only_the_right_start_wins);
    g_test_add_func("/pair/arbiter/absent-lower", test_absent_and_lower_are_manual);
    g_test_add_func("/pair/arbiter/I3-one-winner", test_I3_one_winner_a_generation);
    g_test_add_func("/pair/arbiter/lost-reply", test_lost_reply_is_unknown_then_won);
    g_test_add_func("/pair/arbiter/lost-request", test_lost_request_stays_unknown_until_decided);
    g_test_add_func("/pair/arbiter/server-stopped", test_server_stopped_during_the_cas);
    g_test_add_func("/pair/arbiter/endpoints", test_endpoints_in_turn);
    g_test_add_func("/pair/arbiter/certificates", test_certificates_are_needed_on_both_sides);
    g_test_add_func("/pair/arbiter/unreadable", test_unreadable_value_is_unknown);
    g_test_add_func("/pair/arbiter/etcd-down", test_etcd_down_is_unknown);
    g_test_add_func("/pair/arbiter/manual", test_manual_leaves_takes_to_the_operator);
    g_test_add_func("/pair/arbiter/configuration", test_incomplete_configuration);
    rc = g_test_run();
    etcd_teardown();
    pki_remove();
    return rc;
}
