/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Features' state at each checkpoint: two real helpers, the carriers of two virtcolods, and a
 * made-up module on each side.
 */
#include "domain/carry.h"
#include "test-comparator-lab.h"
#include "test-hvfeat-fake.h"
#include "util/clock.h"

#include <errno.h>
#include <string.h>

#define DESC KVM_HVFEAT_DESC_TABLE
#define GENERATION 7 /* of lab_create() */
#define ROUNDS 40

/* virtcolod, as far as it carries. */
typedef struct {
    FakeHvfeat fake;
    ColoComparatorClient *client;
    ColoCarrier *carrier;
} Side;

typedef struct {
    Lab lab;
    Side alpha, beta;
} Pair;

static void on_event(const char *name, const char *uuid, JsonObject *event, void *opaque)
{
    if (strcmp(name, "state-wanted") == 0 || strcmp(name, "state") == 0)
        colo_carrier_event(((Side *)opaque)->carrier, name, uuid, event);
}

static void ignore(void *opaque)
{
    (void)opaque;
}

static ColoFeaturePlan plan(void)
{
    ColoFeaturePlan p = {0};

    p.setting[DESC] = COLO_SETTING_ON;
    p.param[DESC] = KVM_HVFEAT_DESC_COUNT;
    p.carried[DESC] = TRUE;
    return p;
}

static void side_up(Side *s, const char *socket_path)
{
    static const ColoComparatorEvents events = {on_event, ignore, ignore};
    const ColoFeaturePlan p = plan();

    fake_hvfeat_init(&s->fake, "amd");
    s->fake.on[DESC] = TRUE;
    s->fake.param[DESC] = KVM_HVFEAT_DESC_COUNT;
    s->carrier = colo_carrier_new(&s->client, &s->fake.ops);
    s->client = colo_comparator_client_new(socket_path, &events, s);
    g_assert_true(colo_comparator_wait_up(s->client, LAB_WAIT_MS));
    colo_carrier_watch(s->carrier, LAB_UUID, GENERATION, s->fake.qemu, &p);
}

static void side_down(Side *s)
{
    colo_carrier_stop(s->carrier);
    colo_comparator_client_free(s->client);
    colo_carrier_free(s->carrier);
}

static void pair_up(Pair *p)
{
    memset(p, 0, sizeof(*p));
    lab_up(&p->lab);
    lab_protect(&p->lab);
    for (int i = 0; i < 2; i++)
        json_object_put(lab_request(i ? &p->lab.s : &p->lab.p, "carry",
                                    colo_json_build("uuid", "s", LAB_UUID, "on", "b", TRUE, NULL),
                                    -1));
    side_up(&p->alpha, p->lab.p.socket);
    side_up(&p->beta, p->lab.s.socket);
}

static void pair_down(Pair *p)
{
    side_down(&p->alpha);
    side_down(&p->beta);
    lab_down(&p->lab);
}

/* Up to the moment in which the secondary's QEMU has the whole of it; how long since the stop. */
static uint64_t checkpoint_ns(Pair *p)
{
    uint64_t begin, end;

    lab_request_checkpoint(&p->lab);
    lab_word_back(&p->lab, COLO_MSG_CHECKPOINT_REPLY);
    begin = colo_clock_ns();
    lab_word_there(&p->lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&p->lab);
    end = colo_clock_ns();
    return end - begin;
}

static void finish(Pair *p)
{
    lab_word_back(&p->lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_word_back(&p->lab, COLO_MSG_VMSTATE_LOADED);
}

static uint64_t counted(Side *s, const char *counter)
{
    g_autoptr(JsonObject) stats = colo_comparator_call(
        s->client, "stats", colo_json_build("uuid", "s", LAB_UUID, NULL), -1, LAB_WAIT_MS, NULL);

    g_assert_nonnull(stats);
    return colo_json_peek_uint(colo_json_peek(stats, "counters"), counter, UINT64_MAX);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Whatever the primary's VM counted until its stop is in the copy before its QEMU can go on. */
static void each_checkpoint_has_its_state(void)
{
    uint64_t ns[ROUNDS];
    Pair p;

    pair_up(&p);
    for (int i = 0; i < ROUNDS; i++) {
        p.alpha.fake.counter[DESC] += 7;
        if (i == ROUNDS / 2) /* by a security agent, past us */
            p.alpha.fake.param[DESC] |= KVM_HVFEAT_DESC_LOCK;
        p.beta.fake.counter[DESC] += 3; /* the copy's own life, until it is replaced */
        ns[i] = checkpoint_ns(&p);
        g_assert_cmpuint(p.beta.fake.counter[DESC], ==, p.alpha.fake.counter[DESC]);
        g_assert_cmpuint(p.beta.fake.param[DESC], ==, p.alpha.fake.param[DESC]);
        finish(&p);
    }
    g_assert_true(p.beta.fake.param[DESC] & KVM_HVFEAT_DESC_LOCK);
    g_assert_cmpuint(counted(&p.beta, "states-missed"), ==, 0);
    qsort(ns, ROUNDS, sizeof(ns[0]), by_value);
    g_test_message("from the stop to the last byte: median %.2f ms, longest %.2f ms",
                   (double)ns[ROUNDS / 2] / 1e6, (double)ns[ROUNDS - 1] / 1e6);
    pair_down(&p);
}

/* What cannot be set is not lost: the helper has it. */
static void a_module_that_fails_holds_nobody_up(void)
{
    Pair p;

    pair_up(&p);
    checkpoint_ns(&p);
    finish(&p);
    p.beta.fake.fails[DESC] = ENODEV;
    for (int i = 0; i < 3; i++) {
        p.alpha.fake.counter[DESC]++;
        checkpoint_ns(&p);
        finish(&p);
    }
    g_assert_cmpuint(counted(&p.beta, "states-late"), ==, 3);
    g_assert_cmpuint(counted(&p.alpha, "states-awaited"), ==, 0);
    p.beta.fake.fails[DESC] = 0;
    /* It answers again; it may be late for the first, which nothing waited for. */
    for (int i = 0; i < 100 && p.beta.fake.counter[DESC] != p.alpha.fake.counter[DESC]; i++) {
        checkpoint_ns(&p);
        g_usleep(20 * 1000);
        finish(&p);
    }
    p.alpha.fake.counter[DESC]++;
    checkpoint_ns(&p);
    g_assert_cmpuint(p.beta.fake.counter[DESC], ==, p.alpha.fake.counter[DESC]);
    finish(&p);
    g_assert_cmpuint(counted(&p.beta, "states-missed"), ==, 0);
    pair_down(&p);
}

/* The helper may ask before the domain has said what is to be carried. */
static void the_first_checkpoint_may_be_early(void)
{
    const ColoFeaturePlan what = plan();
    Pair p;

    pair_up(&p);
    for (int i = 0; i < 2; i++)
        colo_carrier_unwatch(i ? p.beta.carrier : p.alpha.carrier, LAB_UUID);
    p.alpha.fake.counter[DESC] = 9;
    lab_request_checkpoint(&p.lab);
    lab_word_back(&p.lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&p.lab, COLO_MSG_VMSTATE_SEND);
    g_usleep(20 * 1000); /* the events have come */
    colo_carrier_watch(p.alpha.carrier, LAB_UUID, GENERATION, p.alpha.fake.qemu, &what);
    g_usleep(20 * 1000);
    colo_carrier_watch(p.beta.carrier, LAB_UUID, GENERATION, p.beta.fake.qemu, &what);
    lab_pages(&p.lab);
    g_assert_cmpuint(p.beta.fake.counter[DESC], ==, 9);
    finish(&p);
    g_assert_cmpuint(counted(&p.beta, "states-missed"), ==, 0);
    pair_down(&p);
}

static void a_state_that_is_none_is_not_set(void)
{
    g_autoptr(JsonObject) event = colo_json_build("generation", "u", (uint64_t)GENERATION, "epoch",
                                                  "u", (uint64_t)1, "state", "s", "no JSON", NULL);
    g_autoptr(JsonObject) other =
        colo_json_build("generation", "u", (uint64_t)GENERATION + 1, "epoch", "u", (uint64_t)1,
                        "state", "s", "{}", NULL);
    Pair p;

    pair_up(&p);
    colo_carrier_event(p.beta.carrier, "state", LAB_UUID, event);
    colo_carrier_event(p.beta.carrier, "state", LAB_UUID, other);
    colo_carrier_event(p.beta.carrier, "state", "nobody", event);
    checkpoint_ns(&p);
    finish(&p);
    g_assert_cmpuint(p.beta.fake.changes, ==, 1); /* the checkpoint's own */
    pair_down(&p);
}

static void unwatched_it_does_nothing(void)
{
    Pair p;

    pair_up(&p);
    colo_carrier_unwatch(p.alpha.carrier, LAB_UUID);
    p.alpha.fake.counter[DESC] = 9;
    checkpoint_ns(&p);
    finish(&p);
    g_assert_cmpuint(p.beta.fake.changes, ==, 0);
    g_assert_cmpuint(counted(&p.beta, "states-missed"), ==, 1);
    pair_down(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/carry/each-checkpoint-has-its-state", each_checkpoint_has_its_state);
    g_test_add_func("/carry/a-module-that-fails-holds-nobody-up",
                    a_module_that_fails_holds_nobody_up);
    g_test_add_func("/carry/the-first-checkpoint-may-be-early", the_first_checkpoint_may_be_early);
    g_test_add_func("/carry/a-state-that-is-none-is-not-set", a_state_that_is_none_is_not_set);
    g_test_add_func("/carry/unwatched-it-does-nothing", unwatched_it_does_nothing);
    return g_test_run();
}
