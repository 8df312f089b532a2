/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A domain's actor with what it stands on: store and register are real, libvirt is its test driver
 * (its QEMU understands no monitor command), the helper and the peer are not there.
 */
#include "domain/actor.h"

#include "test-channel-common.h"
#include "test-ownership-host.h"
#include "util/clock.h"
#include "util/error.h"

#include <libvirt/virterror.h>
#include <string.h>

#define URI "test:///default"
#define TEST_UUID                                                                   \
    "6695eb01-f6a4-8304-79aa-97f2502e193f" /* libvirt, test_driver.c: domain "test" \
                                            */
#define LONG_MS 20000u
#define ASK_MS 15000u

typedef struct {
    Host store;
    ColoConfig config;
    ColoPeerInfo self;
    ColoHost host;
    ColoDomain *domain;
} Fixture;

/* Who hears of a state looks at the domain then, and finds it so. */
static void told(JsonObject *event, void *opaque)
{
    Fixture *f = opaque;
    ColoDomain *domain = g_atomic_pointer_get(&f->domain); /* NULL while it is made */
    g_autoptr(JsonObject) view = domain ? colo_domain_view(domain) : NULL;

    if (view && strcmp(colo_json_peek_string(event, "event", ""), "state") == 0)
        g_assert_cmpstr(colo_json_peek_string(view, "state", ""), ==,
                        colo_json_peek_string(event, "state", ""));
    json_object_put(event);
}

static void on_pair(const char *pair, ColoPairEvent event, void *opaque)
{
    (void)pair;
    (void)event;
    (void)opaque;
}

/* Everything but the actor; f->store.record is what the store will have of "test". */
static void fixture_open(Fixture *f, const char *uri, ColoArbiter *arbiter)
{
    static const ColoComparatorEvents none = {0};

    memset(f, 0, sizeof(*f));
    host_new(&f->store, "alpha", "beta", TEST_UUID, arbiter);
    f->store.record->boot_id = g_strdup("this boot");
    colo_json_add(f->store.record->details, "peer-host", "s", "beta", NULL);
    f->config.host_name = (char *)"alpha";
    f->config.heartbeat = COLO_HEARTBEAT_DEFAULT;
    f->config.checkpoint_period_ms = 1000;
    f->self.host = (char *)"alpha";
    f->host.config = &f->config;
    f->host.store = f->store.store;
    f->host.arbiter = f->store.arbiter;
    f->host.boot_id = (char *)"this boot";
    f->host.emit = told;
    f->host.emit_opaque = f;
    f->host.virconn = colo_virconn_new(uri, &(ColoVirConnEvents){0}, NULL);
    f->host.kicker = colo_kicker_new(uri, NULL, NULL);
    f->host.comparator = colo_comparator_client_new("/nonexistent/comparator", &none, NULL);
    f->host.pairs = colo_pairs_new(&f->config, &f->self, f->store.store, NULL, on_pair, NULL, NULL);
    g_assert_nonnull(f->host.pairs);
}

static ColoArbiter *manual(void)
{
    const ColoArbiterConfig config = {.kind = COLO_ARBITER_MANUAL};

    return colo_arbiter_new(&config, NULL);
}

/* virtcolod is started: the actor finds what the store has. */
static void fixture_start(Fixture *f)
{
    g_assert_true(colo_store_save_domain(f->store.store, f->store.record, NULL));
    g_atomic_pointer_set(&f->domain,
                         colo_domain_new(&f->host, colo_domain_record_copy(f->store.record)));
}

static void fixture_close(Fixture *f)
{
    colo_domain_free(f->domain);
    colo_comparator_client_free(f->host.comparator);
    colo_kicker_free(f->host.kicker);
    colo_virconn_free(f->host.virconn);
    colo_pairs_free(f->host.pairs);
    host_clear(&f->store);
}

static JsonObject *ask_peer(Fixture *f, const char *name, uint64_t generation, GError **error)
{
    g_autoptr(JsonObject) body = colo_json_build("generation", "u", generation, NULL);

    return colo_mailbox_ask(f->domain->mailbox, COLO_MAIL_PEER, name, body, ASK_MS, error);
}

/* The test driver's domain, running or not, with autostart off. */
static virDomainPtr the_domain(virConnectPtr conn, gboolean running)
{
    virDomainPtr dom = virDomainLookupByUUIDString(conn, TEST_UUID);

    g_assert_nonnull(dom);
    if ((virDomainIsActive(dom) == 1) != running)
        g_assert_cmpint(running ? virDomainCreate(dom) : virDomainDestroy(dom), ==, 0);
    g_assert_cmpint(virDomainSetAutostart(dom, 0), ==, 0);
    return dom;
}

static gboolean becomes_active(virDomainPtr dom)
{
    for (unsigned ms = 0; ms < LONG_MS && virDomainIsActive(dom) != 1; ms += 20)
        g_usleep(20 * 1000);
    return virDomainIsActive(dom) == 1;
}

/* What virsh-colo shows as the domain's error, when it holds @text within a while; g_free(). */
static char *wait_for_error_with(Fixture *f, const char *text)
{
    for (unsigned ms = 0; ms < LONG_MS; ms += 50) {
        g_autoptr(JsonObject) view = colo_domain_view(f->domain);
        const char *shown = colo_json_peek_string(view, "error", "");

        if (strstr(shown, text))
            return g_strdup(shown);
        g_usleep(50 * 1000);
    }
    return NULL;
}

/* It gave 3 up once, and owns 5 by the operator's word: a "yes" to 3 would make the asker owner of
 * 4. */
static void test_i3_an_owner_does_not_repeat_an_old_consent(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer = NULL;
    Fixture f;

    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_ALONE;
    f.store.record->generation = 5;
    f.store.record->relinquished = 3;
    f.store.record->owner = TRUE;
    fixture_start(&f);
    answer = ask_peer(&f, "domain-relinquish", 3, &error);
    g_assert_null(answer);
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_assert_nonnull(strstr(error->message, "owns"));
    fixture_close(&f);
}

static void test_i3_a_consent_is_repeated_to_who_asks_again(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer = NULL;
    Fixture f;

    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_SECONDARY;
    f.store.record->state = COLO_STATE_UNPROTECTED;
    f.store.record->generation = 3;
    f.store.record->relinquished = 3;
    fixture_start(&f);
    answer = ask_peer(&f, "domain-relinquish", 3, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(colo_json_peek_uint(answer, "relinquished", 0), ==, 3);
    fixture_close(&f);
}

/* Asked before a switchover and about broken devices, a host says what it lacks: that is not the
 * error of one that does not know the question, which lets a switchover go on. */
static void test_questions_about_the_copy(void)
{
    static const struct {
        const char *name, *says;
        int code;
    } questions[] = {
        {"domain-check", "has no copy on alpha", COLO_ERROR_OPERATION_INVALID},
        {"domain-devices", "did not answer", COLO_ERROR_TIMEOUT},
        {"domain-nonsense", "unknown request", COLO_ERROR_INVALID_ARG},
    };
    Fixture f;

    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_ALONE;
    f.store.record->generation = 5;
    f.store.record->owner = TRUE;
    fixture_start(&f);
    for (size_t i = 0; i < G_N_ELEMENTS(questions); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject) answer = ask_peer(&f, questions[i].name, 5, &error);

        g_assert_null(answer);
        g_assert_error(error, COLO_ERROR, questions[i].code);
        g_assert_nonnull(strstr(error->message, questions[i].says));
    }
    fixture_close(&f);
}

/* libvirtd does not answer: whether QEMU writes the disk is not known, and its files are left. */
static void test_i5_no_repair_while_libvirtd_is_away(void)
{
    JsonObject *disks = json_object_new_array();
    g_autofree char *error = NULL;
    Fixture f;

    fixture_open(&f, "nonexistent:///system", manual());
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_COMMITTING;
    f.store.record->generation = 2;
    f.store.record->owner = TRUE;
    json_object_array_add(disks, colo_json_build("alias", "s", "virtio-disk0", "copy", "s",
                                                 "/nonexistent/disk", NULL));
    colo_json_add(f.store.record->details, "chain", "s", "taken", "disks", "o", disks, NULL);
    fixture_start(&f);
    error = wait_for_error_with(&f, " ");
    g_assert_nonnull(error);
    g_assert_null(strstr(error, "repair"));
    g_assert_nonnull(strstr(error, "libvirtd does not answer"));
    fixture_close(&f);
}

/* SHUTDOWN comes before a reset by `virsh reboot` too. */
static void test_i2_a_reboot_is_no_end(void)
{
    g_autoptr(JsonObject) answer = NULL;
    ColoMail *mail = colo_mail_new(COLO_MAIL_LIFECYCLE, NULL, NULL);
    Fixture f;

    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_ALONE;
    f.store.record->owner = TRUE;
    fixture_start(&f);
    mail->number = VIR_DOMAIN_EVENT_SHUTDOWN;
    colo_mailbox_post(f.domain->mailbox, mail);
    answer = ask_peer(&f, "domain-state", 0, NULL); /* what was posted before is done */
    g_assert_nonnull(answer);
    g_assert_false(f.domain->ended);
    fixture_close(&f);
}

static void test_unprotecting_an_alone_domain_gives_autostart_back(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer = NULL;
    virConnectPtr conn = virConnectOpen(URI);
    virDomainPtr dom = the_domain(conn, TRUE);
    int autostart = 0;
    Fixture f;

    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_ALONE;
    f.store.record->generation = 1;
    f.store.record->owner = TRUE;
    colo_json_add(f.store.record->details, "autostart", "b", TRUE, NULL);
    fixture_start(&f);
    answer = colo_mailbox_ask(f.domain->mailbox, COLO_MAIL_COMMAND, "colo-unprotect", NULL, ASK_MS,
                              &error);
    g_assert_no_error(error);
    g_assert_cmpint(virDomainGetAutostart(dom, &autostart), ==, 0);
    g_assert_cmpint(autostart, ==, 1);
    fixture_close(&f);
    virDomainFree(dom);
    virConnectClose(conn);
}

/* libvirt has moved it while its protection was interrupted. Another host can protect it then, and
 * so can this one when it comes back. */
static void test_rule15_a_migrated_domain_leaves_no_register(void)
{
    g_autoptr(JsonObject) answer = NULL, view = NULL;
    ColoMail *mail = colo_mail_new(COLO_MAIL_LIFECYCLE, NULL, NULL);
    virConnectPtr conn;
    virDomainPtr dom;
    uint64_t n;
    Fixture f;

    if (!have_etcd())
        return;
    conn = virConnectOpen(URI);
    dom = the_domain(conn, TRUE);
    fixture_open(&f, URI, NULL);
    g_assert_true(colo_ownership_begin(&f.store.ctx, f.store.record, NULL));
    n = f.store.record->generation;
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_ALONE;
    colo_json_add(f.store.record->details, "wanted", "b", TRUE, NULL);
    fixture_start(&f);
    answer = ask_peer(&f, "domain-state", 0, NULL);
    assert_register(TEST_UUID, n, "alpha", COLO_REGISTER_ALONE);
    g_assert_cmpint(virDomainDestroy(dom), ==, 0);
    mail->number = VIR_DOMAIN_EVENT_STOPPED;
    mail->detail = VIR_DOMAIN_EVENT_STOPPED_MIGRATED;
    colo_mailbox_post(f.domain->mailbox, mail);
    json_object_put(answer);
    answer = ask_peer(&f, "domain-state", 0, NULL); /* what was posted before is done */
    assert_no_register(TEST_UUID);
    view = colo_domain_view(f.domain);
    g_assert_cmpstr(colo_json_peek_string(view, "state", ""), ==, "unprotected");
    g_assert_false(colo_json_peek_bool(f.domain->record->details, "wanted", TRUE));
    g_assert_true(colo_ownership_begin(&f.store.ctx, f.domain->record, NULL));
    assert_register(TEST_UUID, n, "alpha", COLO_REGISTER_ALONE);
    fixture_close(&f);
    g_assert_cmpint(virDomainCreate(dom), ==, 0);
    virDomainFree(dom);
    virConnectClose(conn);
}

static void test_rule12_the_guest_of_a_lone_owner_starts_with_its_host(void)
{
    virConnectPtr conn;
    virDomainPtr dom;
    Fixture f;

    if (!have_etcd())
        return;
    conn = virConnectOpen(URI);
    dom = the_domain(conn, FALSE);
    fixture_open(&f, URI, NULL);
    g_assert_true(colo_ownership_begin(&f.store.ctx, f.store.record, NULL));
    f.store.record->role = COLO_ROLE_PRIMARY;
    f.store.record->state = COLO_STATE_ALONE;
    g_free(f.store.record->boot_id);
    f.store.record->boot_id = g_strdup("an older boot");
    colo_json_add(f.store.record->details, "autostart", "b", TRUE, NULL);
    fixture_start(&f);
    g_assert_true(becomes_active(dom));
    assert_register(TEST_UUID, 2, "alpha", COLO_REGISTER_ALONE); /* by a CAS of its own */
    fixture_close(&f);
    virDomainFree(dom);
    virConnectClose(conn);
}

/* The operator lets the copy's disks go on: libvirt has never had a definition of it here. */
static void test_rule13_a_secondary_without_a_copy_is_defined(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) body =
        colo_json_build("i-am-sure", "b", TRUE, "discard", "b", TRUE, NULL);
    g_autoptr(JsonObject) answer = NULL;
    virConnectPtr conn = virConnectOpen(URI);
    virDomainPtr dom = the_domain(conn, FALSE);
    Fixture f;

    g_assert_cmpint(virDomainUndefine(dom), ==, 0);
    virDomainFree(dom);
    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_SECONDARY;
    f.store.record->state = COLO_STATE_FENCED;
    f.store.record->generation = 3;
    f.store.record->relinquished = 3;
    colo_json_add(f.store.record->details, "inactive-xml", "s",
                  "<domain type='test'><name>test</name><uuid>" TEST_UUID
                  "</uuid><memory>8192</memory><os><type>hvm</type></os></domain>",
                  NULL);
    fixture_start(&f);
    answer = colo_mailbox_ask(f.domain->mailbox, COLO_MAIL_COMMAND, "colo-failover", body, ASK_MS,
                              &error);
    g_assert_no_error(error);
    g_assert_cmpstr(colo_json_peek_string(answer, "state", NULL), ==, "alone");
    dom = virDomainLookupByUUIDString(conn, TEST_UUID);
    g_assert_nonnull(dom);
    fixture_close(&f);
    virDomainFree(dom);
    virConnectClose(conn);
}

static JsonObject *tune(Fixture *f, const char *name, const char *value, GError **error)
{
    g_autoptr(JsonObject) args = colo_json_build("domain", "s", "test", NULL);

    if (name)
        json_object_object_add(args, name, json_tokener_parse(value));
    return colo_mailbox_ask(f->domain->mailbox, COLO_MAIL_COMMAND, "colo-tune", args, ASK_MS,
                            error);
}

static uint64_t tuned(JsonObject *answer, const char *name)
{
    return colo_json_peek_uint(colo_json_peek(answer, "tuning"), name, 0);
}

/* And what was not changed follows the defaults of a later version. */
static void test_tuning_outlives_virtcolod(void)
{
    g_autoptr(JsonObject) before = NULL;
    g_autoptr(JsonObject) changed = NULL;
    g_autoptr(JsonObject) after = NULL;
    g_autoptr(GPtrArray) records = NULL;
    const ColoDomainRecord *record;
    Fixture f;

    fixture_open(&f, URI, manual());
    fixture_start(&f);
    before = tune(&f, NULL, NULL, NULL);
    g_assert_cmpuint(tuned(before, "pause-share"), ==, 50);
    changed = tune(&f, "pause-share", "20", NULL);
    g_assert_cmpuint(tuned(changed, "pause-share"), ==, 20);
    g_assert_false(colo_json_peek_bool(changed, "live", TRUE)); /* nothing runs */
    colo_domain_free(f.domain);
    records = colo_store_domains(f.store.store, NULL);
    g_assert_cmpuint(records->len, ==, 1);
    record = g_ptr_array_index(records, 0);
    g_assert_cmpint(json_object_object_length(colo_json_peek(record->details, "tuning")), ==, 1);
    f.domain = colo_domain_new(&f.host, colo_domain_record_copy(record));
    after = tune(&f, NULL, NULL, NULL);
    g_assert_cmpuint(tuned(after, "pause-share"), ==, 20);
    g_assert_cmpuint(tuned(after, "unanswered-max-ms"), ==, 50);
    fixture_close(&f);
}

static void test_tuning_out_of_order_is_refused(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer = NULL;
    g_autoptr(JsonObject) after = NULL;
    Fixture f;

    fixture_open(&f, URI, manual());
    fixture_start(&f);
    answer = tune(&f, "unanswered-min-ms", "51", &error);
    g_assert_null(answer);
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_nonnull(strstr(error->message, "domain '"));
    g_assert_nonnull(
        strstr(error->message, "unanswered-min-ms 51 is greater than unanswered-max-ms 50"));
    after = tune(&f, NULL, NULL, NULL);
    g_assert_cmpuint(tuned(after, "unanswered-min-ms"), ==, 2);
    fixture_close(&f);
}

/* The primary's host says it; this one keeps it for the time after a takeover. */
static void test_a_secondary_is_tuned_by_its_peer(void)
{
    g_autoptr(JsonObject) told = NULL;
    g_autoptr(JsonObject) shown = NULL;
    g_autoptr(JsonObject) params =
        colo_json_build("tuning", "o", colo_json_build("mode", "s", "periodic", NULL), NULL);
    Fixture f;

    fixture_open(&f, URI, manual());
    f.store.record->role = COLO_ROLE_SECONDARY;
    f.store.record->state = COLO_STATE_UNPROTECTED;
    f.store.record->generation = 3;
    f.store.record->relinquished = 3;
    fixture_start(&f);
    told = colo_mailbox_ask(f.domain->mailbox, COLO_MAIL_PEER, "domain-tune", params, ASK_MS, NULL);
    g_assert_nonnull(told);
    shown = tune(&f, NULL, NULL, NULL);
    g_assert_cmpstr(colo_json_peek_string(colo_json_peek(shown, "tuning"), "mode", ""), ==,
                    "periodic");
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pki_create();
    etcd_setup();
    g_test_add_func("/domain/actor/i3-old-consent",
                    test_i3_an_owner_does_not_repeat_an_old_consent);
    g_test_add_func("/domain/actor/i3-asked-again",
                    test_i3_a_consent_is_repeated_to_who_asks_again);
    g_test_add_func("/domain/actor/about-the-copy", test_questions_about_the_copy);
    g_test_add_func("/domain/actor/i5-libvirtd-away", test_i5_no_repair_while_libvirtd_is_away);
    g_test_add_func("/domain/actor/i2-reboot", test_i2_a_reboot_is_no_end);
    g_test_add_func("/domain/actor/autostart-back",
                    test_unprotecting_an_alone_domain_gives_autostart_back);
    g_test_add_func("/domain/actor/rule12-autostart",
                    test_rule12_the_guest_of_a_lone_owner_starts_with_its_host);
    g_test_add_func("/domain/actor/rule15-migrated",
                    test_rule15_a_migrated_domain_leaves_no_register);
    g_test_add_func("/domain/actor/tune/outlives-virtcolod", test_tuning_outlives_virtcolod);
    g_test_add_func("/domain/actor/tune/out-of-order", test_tuning_out_of_order_is_refused);
    g_test_add_func("/domain/actor/tune/secondary", test_a_secondary_is_tuned_by_its_peer);
    g_test_add_func("/domain/actor/rule13-defined",
                    test_rule13_a_secondary_without_a_copy_is_defined);
    rc = g_test_run();
    etcd_teardown();
    pki_remove();
    return rc;
}
