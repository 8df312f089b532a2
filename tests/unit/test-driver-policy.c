/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What becomes of each of libvirt's calls about a domain under COLO: it passes, is refused, or
 * interrupts the protection. */
#include "domain/declaration.h"
#include "driver-fixture.h"
#include "driver/policy.h"
#include "util/bytes.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

/* Procedures of libvirt 9.0's remote program; later ones are appended. */
#define REMOTE_PROCEDURES 443u

/* ---- the table ---- */

static void test_every_procedure_is_listed(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    g_assert_cmpuint(colo_policy_n_rows, ==, REMOTE_PROCEDURES);
    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        const ColoPolicyRow *row = &colo_policy_rows[i];

        g_assert_cmpuint(row->procedure, ==, i + 1);
        g_assert_true(colo_policy_find(row->procedure) == row);
        g_assert_true(g_hash_table_add(names, (gpointer)row->name));
        if (row->action != COLO_ACTION_PASS)
            g_assert_cmpint(row->object, !=, COLO_OBJECT_NONE);
    }
    g_assert_null(colo_policy_find(0));
    g_assert_null(colo_policy_find(REMOTE_PROCEDURES + 1));
    /* Numbers that libvirt's protocol fixes, from all over it. */
    g_assert_cmpuint(driver_number_of("CONNECT_OPEN"), ==, 1);
    g_assert_cmpuint(driver_number_of("DOMAIN_DESTROY"), ==, 12);
    g_assert_cmpuint(driver_number_of("CONNECT_GET_URI"), ==, 110);
    g_assert_cmpuint(driver_number_of("CONNECT_LIST_ALL_DOMAINS"), ==, 273);
    g_assert_cmpuint(driver_number_of("CONNECT_GET_ALL_DOMAIN_STATS"), ==, 344);
    g_assert_cmpuint(driver_number_of("CONNECT_SET_IDENTITY"), ==, 419);
    g_assert_cmpuint(driver_number_of("DOMAIN_FD_ASSOCIATE"), ==, 443);
}

/* What reads passes in every state and on both hosts. */
static void test_reading_passes(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const states[] = {"preparing",  "syncing", "protected", "degraded",
                                         "committing", "fenced",  "alone",     "unprotected"};

    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        if (colo_policy_rows[i].action != COLO_ACTION_PASS ||
            colo_policy_rows[i].procedure == COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS)
            continue;
        for (size_t j = 0; j < 2 * G_N_ELEMENTS(states); j++) {
            f->host.state = states[j / 2];
            f->host.role = j % 2 ? "primary" : "secondary";
            driver_assert_passes(f, driver_domain_call(colo_policy_rows[i].procedure, "ft"));
        }
    }
}

/* ---- refusals ---- */

static void test_protected(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const passing[] = {"DOMAIN_DESTROY", "DOMAIN_SHUTDOWN", "DOMAIN_RESET",
                                          "DOMAIN_OPEN_CONSOLE", "DOMAIN_PIN_VCPU"};

    REFUSED(driver_domain_call(driver_number_of("DOMAIN_ATTACH_DEVICE_FLAGS"), "ft"),
            "domain 'ft' is protected", "virsh-colo colo-unprotect ft",
            "virsh-colo colo-protect ft --pair ab");
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_RESUME"), "ft"), "it runs");
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_MIGRATE_SET_MAX_SPEED"), "ft"), "its jobs");
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_BLOCK_JOB_ABORT"), "ft"), "block jobs");
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_UNDEFINE_FLAGS"), "ft"), "undefined");
    f->host.state = "syncing"; /* an interruption would end what has not begun */
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_SUSPEND"), "ft"), "cannot be paused",
            "colo-unprotect");
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_MIGRATE_PERFORM3"), "ft"),
            "cannot be migrated", "virsh-colo colo-switchover ft");
    f->host.state = "protected";
    for (size_t i = 0; i < G_N_ELEMENTS(passing); i++)
        driver_assert_passes(f, driver_domain_call(driver_number_of(passing[i]), "ft"));
    /* Another domain is none of ours. */
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_SUSPEND"), "other"));
    f->host.state = "unprotected";
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_SUSPEND"), "ft"));
    f->host.state = "alone";
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_ATTACH_DEVICE"), "ft"));
    f->host.state = NULL;
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_ATTACH_DEVICE"), "ft"));
}

static void test_copy(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->host.role = "secondary";
    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        const ColoPolicyRow *row = &colo_policy_rows[i];

        if (row->action != COLO_ACTION_PASS && row->action != COLO_ACTION_GET_AUTOSTART &&
            row->action != COLO_ACTION_STATE && row->object == COLO_OBJECT_DOMAIN)
            REFUSED(driver_domain_call(row->procedure, "ft"),
                    "the copy of the guest that runs on 192.0.2.2", "colo+ssh://192.0.2.2/system");
    }
}

static void test_after_a_takeover(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->host.state = "committing";
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_DESTROY"), "ft"), "disks are being merged",
            "colo-status ft");
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_OPEN_CONSOLE"), "ft"));
    f->host.state = "fenced";
    REFUSED(driver_domain_call(driver_number_of("DOMAIN_CREATE_WITH_FLAGS"), "ft"),
            "may not run here", "colo-status ft", "colo-failover ft --i-am-sure --discard");
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_UNDEFINE"), "ft"));
}

static void test_other_ways_to_name_it(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GByteArray *child = g_byte_array_new(), *xml = g_byte_array_new(), *fds = g_byte_array_new();
    GByteArray *other = g_byte_array_new(), *nonsense = g_byte_array_new();

    driver_put_text(child, "snap1");
    driver_put_domain(child, "ft");
    REFUSED(driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_REVERT_TO_SNAPSHOT"),
                         COLO_RPC_CALL, child),
            "snapshotted");
    driver_put_text(xml, "<domain type='kvm'><name>ft</name><memory>1</memory></domain>");
    REFUSED(driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL,
                         xml),
            "redefined");
    driver_put_text(other, "<domain type='kvm'><name>x</name></domain>");
    driver_assert_passes(f, driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_DEFINE_XML"),
                                         COLO_RPC_CALL, other));
    driver_put_text(nonsense, "<domain <name>ft");
    driver_assert_passes(f, driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_DEFINE_XML"),
                                         COLO_RPC_CALL, nonsense));
    /* libvirtd takes a call with FDs for a call. */
    driver_put_word(fds, 0);
    driver_put_domain(fds, "ft");
    REFUSED(driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_SUSPEND"),
                         COLO_RPC_CALL_WITH_FDS, fds),
            "cannot be paused");
}

/* libvirt reads entities: the name may be in one. What they make of a few bytes is no work for a
 * thread that serves everybody, and no name. */
static void test_entities(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GByteArray *named = g_byte_array_new(), *large = g_byte_array_new();
    g_autofree char *letters = g_strnfill(20000, 'a');
    g_autoptr(GString) text = g_string_new(NULL);
    gint64 begin;

    driver_put_text(named, "<!DOCTYPE domain [<!ENTITY n 'f'>]><domain><name>&n;t</name></domain>");
    REFUSED(driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL,
                         named),
            "redefined");
    g_string_printf(text, "<!DOCTYPE domain [<!ENTITY n '%s'>]><domain><name>", letters);
    for (int i = 0; i < 200000; i++)
        g_string_append(text, "&n;");
    g_string_append(text, "</name></domain>");
    driver_put_text(large, text->str);
    begin = g_get_monotonic_time();
    driver_assert_passes(f, driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_DEFINE_XML"),
                                         COLO_RPC_CALL, large));
    /* 4 GB of it took half a minute. */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 5 * G_USEC_PER_SEC);
}

/* Every prefix of a body: libvirt driver_says what is wrong with it. */
static void test_truncated(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) whole = driver_domain_call(driver_number_of("DOMAIN_SUSPEND"), "ft");
    size_t domain_ends = 4 + 4 + 16 + 4;

    for (size_t len = 0; len < domain_ends; len++) {
        GByteArray *body = g_byte_array_new();

        g_byte_array_append(body, whole->body, (guint)len);
        driver_assert_passes(
            f, driver_frame(COLO_REMOTE_PROGRAM, whole->header.procedure, COLO_RPC_CALL, body));
    }
}

/* ---- interruptions ---- */

static void test_interrupts(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) save = driver_domain_call(driver_number_of("DOMAIN_SAVE"), "ft");
    g_autoptr(GByteArray) answer = NULL;
    GByteArray *child = g_byte_array_new();

    driver_assert_interrupts(f, driver_domain_call(driver_number_of("DOMAIN_SUSPEND"), "ft"),
                             "suspend");
    driver_assert_interrupts(f, driver_domain_call(driver_number_of("DOMAIN_MANAGED_SAVE"), "ft"),
                             "managed-save");
    driver_assert_interrupts(f, driver_domain_call(driver_number_of("DOMAIN_CORE_DUMP"), "ft"),
                             "core-dump");
    driver_assert_interrupts(f,
                             driver_domain_call(driver_number_of("DOMAIN_MIGRATE_PERFORM3"), "ft"),
                             "migrate-perform3");
    f->host.auto_reprotect = TRUE;
    driver_assert_interrupts(f, driver_domain_call(driver_number_of("DOMAIN_ATTACH_DEVICE"), "ft"),
                             "attach-device");
    driver_put_text(child, "snap1");
    driver_put_domain(child, "ft");
    driver_assert_interrupts(f,
                             driver_frame(COLO_REMOTE_PROGRAM,
                                          driver_number_of("DOMAIN_SNAPSHOT_DELETE"), COLO_RPC_CALL,
                                          child),
                             "snapshot-delete");
    /* What cannot be interrupted is not done. */
    f->host.state = "protected";
    f->host.hold_fails = TRUE;
    answer = f->relay->work(save, f->relay->opaque);
    g_assert_true(driver_says(answer, "not interrupted"));
}

/* What a client hears when libvirt says that it does not start the domain by itself; libvirt has
 * judged it by then. */
static void assert_autostart(DriverFixture *f, uint32_t heard)
{
    g_autoptr(ColoRpcFrame) get =
        driver_domain_call(driver_number_of("DOMAIN_GET_AUTOSTART"), "ft");
    g_autoptr(ColoRpcFrame) reply = NULL;
    g_autoptr(GByteArray) answer = NULL, denied = NULL;
    GByteArray *body = g_byte_array_new();

    driver_put_word(body, 0);
    reply = driver_frame(COLO_REMOTE_PROGRAM, get->header.procedure, COLO_RPC_REPLY, body);
    g_assert_cmpint(driver_calls(f, get, NULL, NULL), ==, COLO_RELAY_REVISE);
    g_assert_cmpint(f->relay->revise(get, reply, &answer, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES), ==, heard);
    reply->header.status = COLO_RPC_ERROR;
    g_assert_cmpint(f->relay->revise(get, reply, &denied, f->relay->opaque), ==, COLO_RELAY_PASS);
}

static void test_autostart(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GByteArray) question = NULL, done = NULL;
    g_autoptr(ColoRpcFrame) set = NULL;
    GByteArray *body = g_byte_array_new();

    driver_put_domain(body, "ft");
    driver_put_word(body, 1);
    set = driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_SET_AUTOSTART"), COLO_RPC_CALL,
                       body);
    assert_autostart(f, 0);
    g_assert_cmpint(driver_calls(f, set, NULL, &question), ==, COLO_RELAY_WORK);
    done = f->relay->work(set, f->relay->opaque);
    g_assert_cmpuint(done->len, ==, COLO_RPC_HEADER_BYTES);
    g_assert_cmpuint(colo_get32(done->data + 24), ==, COLO_RPC_OK);
    g_assert_true(f->host.autostart);
    assert_autostart(f, 1);
    f->host.state = "unprotected"; /* libvirt's again */
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_GET_AUTOSTART"), "ft"));
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_SET_AUTOSTART"), "ft"));
}

/* ---- the state ---- */

/* State and reason of what a client hears when libvirt driver_says @state. */
static void assert_state(DriverFixture *f, const char *procedure, uint32_t said, uint32_t heard)
{
    g_autoptr(ColoRpcFrame) call = driver_domain_call(driver_number_of(procedure), "ft"),
                            reply = NULL;
    GByteArray *body = g_byte_array_new();
    g_autoptr(GByteArray) none = NULL, answer = NULL;

    driver_put_word(body, said);
    driver_put_word(body, 99);
    driver_put_word(body, 98);
    reply = driver_frame(COLO_REMOTE_PROGRAM, call->header.procedure, COLO_RPC_REPLY, body);
    g_assert_cmpint(driver_calls(f, call, &none, NULL), ==, COLO_RELAY_REVISE);
    if (said == heard) {
        g_assert_cmpint(f->relay->revise(call, reply, &answer, f->relay->opaque), ==,
                        COLO_RELAY_PASS);
        return;
    }
    g_assert_cmpint(f->relay->revise(call, reply, &answer, f->relay->opaque), ==,
                    COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES), ==, heard);
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES + 8), ==, 98);
}

static void test_state(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    assert_state(f, "DOMAIN_GET_STATE", VIR_DOMAIN_PAUSED, VIR_DOMAIN_RUNNING);
    assert_state(f, "DOMAIN_GET_INFO", VIR_DOMAIN_PAUSED, VIR_DOMAIN_RUNNING);
    assert_state(f, "DOMAIN_GET_STATE", VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED);
    f->host.state = "degraded"; /* its output is held: that is a pause */
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_GET_STATE"), "ft"));
    f->host.state = "alone";
    driver_assert_passes(f, driver_domain_call(driver_number_of("DOMAIN_GET_STATE"), "ft"));
}

/* ---- declarations ---- */

static ColoRpcFrame *define_call(const char *element)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain type='kvm'><name>x</name><metadata>%s</metadata></domain>", element);
    GByteArray *body = g_byte_array_new();

    driver_put_text(body, xml);
    return driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_DEFINE_XML_FLAGS"),
                        COLO_RPC_CALL, body);
}

static ColoRpcFrame *metadata_call(const char *element, const char *ns)
{
    GByteArray *body = g_byte_array_new();

    driver_put_domain(body, "other");
    driver_put_word(body, 2); /* VIR_DOMAIN_METADATA_ELEMENT */
    driver_put_word(body, 1);
    driver_put_text(body, element);
    driver_put_word(body, 1);
    driver_put_text(body, "colo");
    driver_put_word(body, 1);
    driver_put_text(body, ns);
    driver_put_word(body, 0);
    return driver_frame(COLO_REMOTE_PROGRAM, driver_number_of("DOMAIN_SET_METADATA"), COLO_RPC_CALL,
                        body);
}

static void assert_xml_error(DriverFixture *f, ColoRpcFrame *owned, const char *text)
{
    g_autoptr(ColoRpcFrame) frame = owned;
    g_autoptr(GByteArray) answer = NULL;

    g_assert_cmpint(driver_calls(f, frame, &answer, NULL), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES), ==, VIR_ERR_XML_ERROR);
    g_assert_true(driver_says(answer, text));
}

static void test_declarations(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    driver_assert_passes(
        f, define_call("<c:protection xmlns:c='" COLO_DECLARATION_NS "' pair='ab'/>"));
    assert_xml_error(f, define_call("<c:protection xmlns:c='" COLO_DECLARATION_NS "'/>"),
                     "takes pair=");
    driver_assert_passes(f, metadata_call("<protection pair='ab'/>", COLO_DECLARATION_NS));
    assert_xml_error(f, metadata_call("<protection/>", COLO_DECLARATION_NS), "takes pair=");
    driver_assert_passes(f, metadata_call("<protection/>", "http://example.org/"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/driver/policy/every-procedure", test_every_procedure_is_listed);
#define ADD(name, function) \
    g_test_add("/driver/" name, DriverFixture, NULL, driver_setup, function, driver_teardown)
    ADD("policy/reading-passes", test_reading_passes);
    ADD("refused/protected", test_protected);
    ADD("refused/copy", test_copy);
    ADD("refused/after-a-takeover", test_after_a_takeover);
    ADD("refused/other-names", test_other_ways_to_name_it);
    ADD("refused/entities", test_entities);
    ADD("refused/truncated", test_truncated);
    ADD("interrupts", test_interrupts);
    ADD("autostart", test_autostart);
    ADD("state", test_state);
    ADD("declarations", test_declarations);
    return g_test_run();
}
