/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Features of a protected domain on two hosts: alpha, the primary, over a real control channel to
 * beta; each with a made-up module, a store, and libvirt's test driver. The actors' threads are not
 * there: their functions are called as the actors would.
 */
#include "domain/features.h"
#include "test-channel-common.h"
#include "test-hvfeat-fake.h"
#include "util/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define TEST_UUID "6695eb01-f6a4-8304-79aa-97f2502e193f" /* of libvirt's test driver */
#define DESC KVM_HVFEAT_DESC_TABLE
#define QUANTUM KVM_HVFEAT_QUANTUM
#define LOCKED "descriptor-table-exiting=require:count+lock,preemption-quantum=require:10000"
#define UP_MS 5000u

typedef struct {
    ColoHost host;
    ColoConfig config;
    ColoPeerInfo self;
    FakeHvfeat fake;
    char *folder;
    ColoDomain d;
    GPtrArray *events; /* JSON */
} Side;

typedef struct {
    Side alpha, beta;
    ColoChannelServer *server;
    GMutex lock; /* beta is asked in another thread */
} Hosts;

static void keep_event(JsonObject *event, void *opaque)
{
    g_ptr_array_add(((Side *)opaque)->events, event);
}

static void nothing(void *opaque)
{
    (void)opaque;
}

static void no_event(const char *name, const char *uuid, JsonObject *event, void *opaque)
{
    (void)name, (void)uuid, (void)event, (void)opaque;
}

static void no_pair(const char *pair, ColoPairEvent event, void *opaque)
{
    (void)pair, (void)event, (void)opaque;
}

static void put_json(gpointer object)
{
    json_object_put(object);
}

static void side_up(Side *s, const char *name, ColoRole role)
{
    static const ColoComparatorEvents no_events = {no_event, nothing, nothing};
    g_autofree char *server = g_strconcat(name, "-server", NULL);
    g_autofree char *client = g_strconcat(name, "-client", NULL);
    g_autoptr(GError) error = NULL;

    fake_hvfeat_init(&s->fake, "amd");
    s->events = g_ptr_array_new_with_free_func(put_json);
    s->folder = g_dir_make_tmp("colo-features-XXXXXX", NULL);
    s->self = host_info(name);
    s->config.host_name = (char *)name;
    s->config.state_dir = s->folder;
    s->config.tls = pki_config(server, client);
    s->config.heartbeat = COLO_HEARTBEAT_DEFAULT;
    s->host.config = &s->config;
    s->host.hvfeat = &s->fake.ops;
    s->host.sysroot = "/nonexistent";
    s->host.emit = keep_event;
    s->host.emit_opaque = s;
    s->host.store = colo_store_open(s->folder, &error);
    g_assert_no_error(error);
    s->host.virconn = colo_virconn_new("test:///default", &(ColoVirConnEvents){0}, NULL);
    s->host.comparator = colo_comparator_client_new("/nonexistent", &no_events, NULL);
    s->host.pairs =
        colo_pairs_new(&s->config, &s->self, s->host.store, NULL, no_pair, NULL, &error);
    g_assert_no_error(error);
    s->d.host = &s->host;
    s->d.record = colo_domain_record_new(TEST_UUID, "test");
    s->d.record->pair = g_strdup("ab");
    s->d.record->role = role;
    s->d.qemu_pid = s->fake.qemu;
    s->d.dom = colo_virconn_lookup(s->host.virconn, TEST_UUID, &error);
    g_assert_no_error(error);
    g_mutex_init(&s->d.view_lock);
}

static void side_down(Side *s)
{
    g_autofree char *db = g_build_filename(s->folder, "state.db", NULL);

    virDomainFree(s->d.dom);
    json_object_put(s->d.view);
    json_object_put(s->d.feature_stats);
    g_mutex_clear(&s->d.view_lock);
    colo_domain_record_free(s->d.record);
    colo_pairs_free(s->host.pairs);
    colo_comparator_client_free(s->host.comparator);
    colo_virconn_free(s->host.virconn);
    colo_store_close(s->host.store);
    colo_tls_config_clear(&s->config.tls);
    g_remove(db);
    g_rmdir(s->folder);
    g_free(s->folder);
    g_ptr_array_unref(s->events);
}

/* beta's virtcolod. */
static JsonObject *serve(const ColoPeerInfo *from, const char *method, JsonObject *params,
                         void *opaque, GError **error)
{
    Hosts *h = opaque;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&h->lock);

    (void)from, (void)locker;
    if (strcmp(method, "host-command") == 0)
        return colo_features_command(&h->beta.host);
    if (strcmp(method, "domain-features") == 0)
        return colo_features_told(&h->beta.d, params, error);
    g_assert_not_reached();
}

static void hosts_up(Hosts *h)
{
    ColoPeerInfo self = host_info("beta");
    g_autoptr(GError) error = NULL;
    uint16_t port;
    int fd;

    memset(h, 0, sizeof(*h));
    g_mutex_init(&h->lock);
    side_up(&h->alpha, "alpha", COLO_ROLE_PRIMARY);
    side_up(&h->beta, "beta", COLO_ROLE_SECONDARY);
    fd = listen_loopback(&port);
    h->server = colo_channel_server_new(&h->beta.config.tls, &self, fd, serve, h, &error);
    g_assert_no_error(error);
    g_assert_true(colo_pairs_define(h->alpha.host.pairs, "ab", "localhost", port, NULL, &error));
    g_assert_true(colo_pairs_wait_up(h->alpha.host.pairs, "ab", UP_MS, &error));
}

static void hosts_down(Hosts *h)
{
    colo_pairs_undefine(h->alpha.host.pairs, "ab", NULL);
    colo_channel_server_free(h->server);
    side_down(&h->alpha);
    side_down(&h->beta);
    g_mutex_clear(&h->lock);
}

static void say(Side *s, const char *features)
{
    g_autoptr(JsonObject) args = colo_json_build("features", "s", features, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(colo_features_set_policy(&s->d, args, &error));
    g_assert_no_error(error);
}

/* The part of "domain-prepare" that is about features, on beta. */
static gboolean prepare(Hosts *h, JsonObject *told, GError **error)
{
    char *xml = virDomainGetXMLDesc(h->alpha.d.dom, 0);
    g_autoptr(JsonObject) params =
        colo_json_build("features", "o", json_object_get(told), "live-xml", "s", xml, NULL);

    free(xml);
    return colo_features_accept(&h->beta.d, params,
                                colo_json_peek(h->alpha.d.record->details, "features"), error) &&
           colo_features_apply(&h->beta.d, colo_json_peek(told, "states"), error);
}

/* A protection, as far as features are concerned. */
static void protect(Hosts *h)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) told = colo_features_offer(&h->alpha.d, &error);

    g_assert_no_error(error);
    prepare(h, told, &error);
    g_assert_no_error(error);
    g_assert_true(colo_features_apply(&h->alpha.d, NULL, &error));
    g_assert_no_error(error);
    h->alpha.d.record->state = h->beta.d.record->state = COLO_STATE_PROTECTED;
}

static gboolean tune(Hosts *h, const char *features, gboolean *live, GError **error)
{
    g_autoptr(JsonObject) args = colo_json_build("features", "s", features, NULL);

    *live = FALSE;
    return colo_features_tune(&h->alpha.d, args, live, error);
}

static void assert_says(const GError *error, const char *words)
{
    g_assert_nonnull(error);
    if (!strstr(error->message, words))
        g_test_message("'%s' is not in: %s", words, error->message);
    g_assert_nonnull(strstr(error->message, words));
}

/* ---- protection ---- */

static void what_is_required_is_on_in_both(void)
{
    g_autoptr(JsonObject) view = NULL;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, LOCKED ",avic=off");
    protect(&h);
    for (int i = 0; i < 2; i++) {
        FakeHvfeat *fake = i ? &h.beta.fake : &h.alpha.fake;

        g_assert_true(fake->on[DESC] && fake->on[QUANTUM] && !fake->on[KVM_HVFEAT_AVIC]);
        g_assert_cmpuint(fake->param[DESC], ==, KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK);
        g_assert_cmpuint(fake->param[QUANTUM], ==, 10000);
    }
    /* The next owner goes by the same. */
    g_assert_true(json_object_equal(colo_json_peek(h.alpha.d.record->details, "features"),
                                    colo_json_peek(h.beta.d.record->details, "features")));
    view = colo_features_in_force(&h.beta.d);
    g_assert_cmpint(json_object_object_length(view), ==, 3);
    hosts_down(&h);
}

static void nothing_said_changes_nothing(void)
{
    Hosts h;

    hosts_up(&h);
    h.alpha.fake.absent = h.beta.fake.absent = TRUE; /* no module is needed either */
    protect(&h);
    g_assert_cmpuint(h.alpha.fake.changes + h.beta.fake.changes, ==, 0);
    hosts_down(&h);
}

static void a_refusal_says_host_feature_and_reason(void)
{
    g_autoptr(GError) error = NULL;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, LOCKED);
    fake_hvfeat_take(&h.beta.fake, QUANTUM, "the loaded kvm has no patch for it");
    g_assert_null(colo_features_offer(&h.alpha.d, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_cmpstr(error->message, ==,
                    "domain 'test': feature 'preemption-quantum': host beta: the loaded kvm has no "
                    "patch for it");
    g_assert_cmpuint(h.alpha.fake.changes + h.beta.fake.changes, ==, 0);
    hosts_down(&h);
}

static void a_peer_that_comes_to_something_else_refuses(void)
{
    g_autoptr(GError) gone = NULL, differs = NULL, missing = NULL;
    g_autoptr(JsonObject) told = NULL;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "descriptor-table-exiting=prefer:count");
    told = colo_features_offer(&h.alpha.d, NULL);
    g_assert_nonnull(told);
    fake_hvfeat_take(&h.beta.fake, DESC, "reloaded without its patch"); /* since it reported */
    g_assert_false(prepare(&h, told, &differs));
    assert_says(differs, "comes to another outcome");
    say(&h.alpha, "descriptor-table-exiting=require:count");
    g_assert_false(prepare(&h, told, &gone));
    assert_says(gone, "host beta: reloaded without its patch");
    json_object_object_del(told, "report");
    g_assert_false(prepare(&h, told, &missing));
    assert_says(missing, "'report'");
    g_assert_cmpuint(h.beta.fake.changes, ==, 0);
    hosts_down(&h);
}

static void a_lock_of_the_life_so_far_goes_along(void)
{
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "descriptor-table-exiting=require:count");
    h.alpha.fake.on[DESC] = TRUE;
    h.alpha.fake.param[DESC] = KVM_HVFEAT_DESC_LOCK;
    h.alpha.fake.counter[DESC] = 7000;
    protect(&h);
    for (int i = 0; i < 2; i++) {
        FakeHvfeat *fake = i ? &h.beta.fake : &h.alpha.fake;

        g_assert_cmpuint(fake->param[DESC], ==, KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK);
        g_assert_cmpuint(fake->counter[DESC], ==, 7000);
    }
    hosts_down(&h);
}

static void each_protection_negotiates_anew(void)
{
    g_autoptr(GError) error = NULL;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "preemption-quantum=prefer:500,descriptor-table-exiting=prefer:count");
    protect(&h);
    g_assert_true(h.alpha.fake.on[QUANTUM] && h.beta.fake.on[QUANTUM]);
    /* The peer comes back with a kernel that has less: off here as well. */
    fake_hvfeat_init(&h.beta.fake, "amd");
    fake_hvfeat_take(&h.beta.fake, QUANTUM, "another kernel");
    protect(&h);
    g_assert_true(!h.alpha.fake.on[QUANTUM] && !h.beta.fake.on[QUANTUM]);
    g_assert_true(h.alpha.fake.on[DESC] && h.beta.fake.on[DESC]);
    /* And what is required now is not there. */
    say(&h.alpha, "preemption-quantum=require:500");
    g_assert_null(colo_features_offer(&h.alpha.d, &error));
    assert_says(error, "host beta: another kernel");
    hosts_down(&h);
}

static void a_guest_without_kvm(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) told = NULL;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "avic=off"); /* it has none anyhow */
    h.alpha.fake.without_vm = h.beta.fake.without_vm = TRUE;
    protect(&h);
    say(&h.alpha, "avic=require");
    told = colo_features_offer(&h.alpha.d, NULL);
    g_assert_false(prepare(&h, told, &error));
    assert_says(error, "domain 'test': host beta: it runs without KVM");
    hosts_down(&h);
}

/* ---- while it is protected ---- */

static void a_lost_feature_is_an_event(void)
{
    uint64_t now = 1;
    JsonObject *event;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, LOCKED);
    protect(&h);
    colo_features_tick(&h.beta.d, now);
    g_assert_cmpuint(h.beta.events->len, ==, 0);
    h.beta.fake.on[QUANTUM] = FALSE;
    for (int i = 0; i < 3; i++) {
        now += 2 * G_GUINT64_CONSTANT(1000000000);
        colo_features_tick(&h.beta.d, now);
    }
    g_assert_cmpuint(h.beta.events->len, ==, 1); /* once */
    event = g_ptr_array_index(h.beta.events, 0);
    g_assert_cmpstr(colo_json_peek_string(event, "event", ""), ==, "feature");
    g_assert_cmpstr(colo_json_peek_string(event, "feature", ""), ==, "preemption-quantum");
    g_assert_cmpstr(colo_json_peek_string(event, "state", ""), ==, "lost");
    g_assert_cmpstr(colo_json_peek_string(event, "host", ""), ==, "beta");
    h.beta.fake.on[QUANTUM] = TRUE; /* back, and lost again with the module */
    now += 2 * G_GUINT64_CONSTANT(1000000000);
    colo_features_tick(&h.beta.d, now);
    h.beta.d.qemu_pid = 1; /* one that lives */
    h.beta.fake.absent = TRUE;
    now += 2 * G_GUINT64_CONSTANT(1000000000);
    colo_features_tick(&h.beta.d, now);
    g_assert_cmpuint(h.beta.events->len, ==, 3); /* both */
    hosts_down(&h);
}

/* The helper has a state that this host's virtcolod did not set in time. */
static void who_takes_over_sets_what_came_last(void)
{
    const ColoFeaturePlan carried = {.carried = {[DESC] = TRUE}};
    g_autoptr(JsonObject) states = NULL;
    g_autofree char *text = NULL;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "descriptor-table-exiting=require:count");
    protect(&h);
    h.alpha.fake.param[DESC] |= KVM_HVFEAT_DESC_LOCK;
    h.alpha.fake.counter[DESC] = 77;
    {
        g_auto(ColoFeatureVm) vm = {0};

        g_assert_true(colo_feature_vm_open(&vm, &h.alpha.fake.ops, h.alpha.fake.qemu, NULL));
        states = colo_feature_vm_get_states(&vm, &carried, FALSE, NULL);
    }
    text = colo_json_to_string(states);
    colo_features_catch_up(&h.beta.d, NULL);
    g_assert_cmpuint(h.beta.fake.counter[DESC], ==, 0);
    colo_features_catch_up(&h.beta.d, text);
    g_assert_cmpuint(h.beta.fake.counter[DESC], ==, 77);
    g_assert_true(h.beta.fake.param[DESC] & KVM_HVFEAT_DESC_LOCK);
    g_assert_cmpuint(h.beta.events->len, ==, 0);
    h.beta.fake.fails[DESC] = ENODEV;
    colo_features_catch_up(&h.beta.d, text);
    colo_features_catch_up(&h.beta.d, "no JSON");
    g_assert_cmpuint(h.beta.events->len, ==, 1); /* lost, said once */
    hosts_down(&h);
}

static void counters_are_shown(void)
{
    g_autoptr(JsonObject) view = NULL;
    JsonObject *desc;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, LOCKED);
    protect(&h);
    h.beta.fake.counter[DESC] = 77;
    colo_features_tick(&h.beta.d, 1);
    view = colo_domain_view(&h.beta.d);
    desc = colo_json_peek(colo_json_peek(view, "feature-stats"), "descriptor-table-exiting");
    g_assert_true(colo_json_peek_bool(desc, "on", FALSE));
    g_assert_cmpuint(colo_json_peek_uint(desc, "param", 0), ==,
                     KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK);
    g_assert_cmpuint(colo_json_peek_uint(desc, "counter", 0), ==, 77);
    hosts_down(&h);
}

static void only_a_secondary_is_told(void)
{
    g_autoptr(JsonObject) params = json_object_new_object();
    g_autoptr(GError) features = NULL;
    Hosts h;

    hosts_up(&h);
    h.beta.d.record->role = COLO_ROLE_PRIMARY;
    g_assert_null(colo_features_told(&h.beta.d, params, &features));
    g_assert_error(features, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    hosts_down(&h);
}

/* ---- colo-tune ---- */

static void tuning_changes_both_at_once(void)
{
    g_autoptr(GPtrArray) stored = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gboolean live;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "descriptor-table-exiting=require:count");
    protect(&h);
    g_assert_true(tune(&h, "descriptor-table-exiting=require:count+lock", &live, &error));
    g_assert_no_error(error);
    g_assert_true(live);
    g_assert_cmpuint(h.alpha.fake.param[DESC], ==, KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK);
    g_assert_cmpuint(h.beta.fake.param[DESC], ==, KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK);
    g_assert_true(tune(&h, "descriptor-table-exiting=off", &live, &error));
    g_assert_true(!h.alpha.fake.on[DESC] && !h.beta.fake.on[DESC]);
    /* Kept on both. */
    text = colo_features_policy_text(&h.beta.d);
    g_assert_cmpstr(text, ==, "descriptor-table-exiting=off");
    stored = colo_store_domains(h.beta.host.store, &error);
    g_assert_cmpuint(stored->len, ==, 1);
    g_assert_nonnull(
        colo_json_peek(((ColoDomainRecord *)g_ptr_array_index(stored, 0))->details, "features"));
    hosts_down(&h);
}

/* The helper is not there: nobody would take the lock along. */
static void tuning_needs_the_helper_for_what_is_carried(void)
{
    g_autoptr(GError) error = NULL;
    gboolean live;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "avic=off");
    protect(&h);
    g_assert_false(tune(&h, "descriptor-table-exiting=require:lock", &live, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_SYSTEM);
    g_assert_true(!h.alpha.fake.on[DESC] && !h.beta.fake.on[DESC]);
    hosts_down(&h);
}

static void tuning_that_is_refused_changes_nothing(void)
{
    g_autoptr(GError) bounds = NULL, peer_fails = NULL, own_fails = NULL, nonsense = NULL;
    gboolean live;
    Hosts h;

    hosts_up(&h);
    say(&h.alpha, "preemption-quantum=require:500");
    protect(&h);
    g_assert_false(tune(&h, "preemption-quantum=require:5", &live, &bounds));
    assert_says(bounds, "host alpha: it takes 100 to 1000000, not 5; host beta:");
    h.beta.fake.fails[QUANTUM] = EOPNOTSUPP;
    g_assert_false(tune(&h, "preemption-quantum=require:700", &live, &peer_fails));
    assert_says(peer_fails, "host beta: feature 'preemption-quantum'");
    h.beta.fake.fails[QUANTUM] = 0;
    h.alpha.fake.fails[QUANTUM] = EOPNOTSUPP;
    g_assert_false(tune(&h, "preemption-quantum=require:700", &live, &own_fails));
    assert_says(own_fails, "domain 'test': host alpha: feature 'preemption-quantum'");
    g_assert_false(tune(&h, "preemption-quantum=maybe", &live, &nonsense));
    g_assert_error(nonsense, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_cmpuint(h.alpha.fake.param[QUANTUM], ==, 500);
    g_assert_cmpuint(h.beta.fake.param[QUANTUM], ==, 500); /* taken back where it was done */
    {
        g_autofree char *here = colo_features_policy_text(&h.alpha.d);
        g_autofree char *there = colo_features_policy_text(&h.beta.d);

        g_assert_cmpstr(here, ==, "preemption-quantum=require:500");
        g_assert_cmpstr(there, ==, "preemption-quantum=require:500");
    }
    hosts_down(&h);
}

static void tuning_without_protection_is_kept(void)
{
    g_autoptr(GError) error = NULL, elsewhere = NULL, busy = NULL;
    g_autofree char *text = NULL;
    gboolean live;
    Hosts h;

    hosts_up(&h);
    g_assert_true(tune(&h, "avic=off", &live, &error));
    g_assert_false(live);
    g_assert_cmpuint(h.alpha.fake.changes, ==, 0);
    text = colo_features_policy_text(&h.alpha.d);
    g_assert_cmpstr(text, ==, "avic=off");
    g_assert_true(tune(&h, "avic=default", &live, &error));
    g_assert_null(colo_json_peek(h.alpha.d.record->details, "features"));
    h.alpha.d.busy = TRUE;
    g_assert_false(tune(&h, "avic=off", &live, &busy));
    g_assert_error(busy, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    h.alpha.d.busy = FALSE;
    h.alpha.d.record->role = COLO_ROLE_SECONDARY;
    h.alpha.d.record->state = COLO_STATE_PROTECTED;
    h.alpha.d.peer_host = (char *)"beta";
    g_assert_false(tune(&h, "avic=off", &live, &elsewhere));
    assert_says(elsewhere, "protected from host 'beta'");
    hosts_down(&h);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/protect-features/required-is-on-in-both", what_is_required_is_on_in_both);
    g_test_add_func("/protect-features/nothing-said-changes-nothing", nothing_said_changes_nothing);
    g_test_add_func("/protect-features/a-refusal-says-host-feature-and-reason",
                    a_refusal_says_host_feature_and_reason);
    g_test_add_func("/protect-features/a-peer-that-comes-to-something-else-refuses",
                    a_peer_that_comes_to_something_else_refuses);
    g_test_add_func("/protect-features/a-lock-of-the-life-so-far-goes-along",
                    a_lock_of_the_life_so_far_goes_along);
    g_test_add_func("/protect-features/each-protection-negotiates-anew",
                    each_protection_negotiates_anew);
    g_test_add_func("/protect-features/a-guest-without-kvm", a_guest_without_kvm);
    g_test_add_func("/protect-features/a-lost-feature-is-an-event", a_lost_feature_is_an_event);
    g_test_add_func("/protect-features/who-takes-over-sets-what-came-last",
                    who_takes_over_sets_what_came_last);
    g_test_add_func("/protect-features/counters-are-shown", counters_are_shown);
    g_test_add_func("/protect-features/only-a-secondary-is-told", only_a_secondary_is_told);
    g_test_add_func("/protect-features/tuning-changes-both-at-once", tuning_changes_both_at_once);
    g_test_add_func("/protect-features/tuning-needs-the-helper",
                    tuning_needs_the_helper_for_what_is_carried);
    g_test_add_func("/protect-features/tuning-that-is-refused-changes-nothing",
                    tuning_that_is_refused_changes_nothing);
    g_test_add_func("/protect-features/tuning-without-protection-is-kept",
                    tuning_without_protection_is_kept);
    pki_create();
    rc = g_test_run();
    pki_remove();
    return rc;
}
