/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What colo:/// changes in libvirt's calls: refusals, door 2, what is hidden; and that all else
 * passes. */
#include "domain/declaration.h"
#include "driver/driver.h"
#include "driver/policy.h"
#include "rpc/remote-calls.h"
#include "util/bytes.h"
#include "util/error.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

/* Procedures of libvirt 9.0's remote program; later ones are appended. */
#define REMOTE_PROCEDURES 443u

#define UUID "c0100000-0000-4000-8000-0000000000f7"
static const uint8_t uuid_bytes[16] = {0xc0, 0x10, 0, 0, 0, 0, 0x40, 0,
                                       0x80, 0,    0, 0, 0, 0, 0,    0xf7};

typedef struct {
    const char *state, *role; /* of domain "ft"; NULL: nothing is known of it */
    ColoDriver *driver;
    const ColoRelayDriver *relay;
    char *command; /* that ran last, with its arguments */
    char *asked;   /* the procedure by which libvirt was asked whether the client may */
    gboolean auto_reprotect, autostart, hold_fails;
    char *held; /* for which call; NULL: nothing */
} Fixture;

static JsonObject *view(const char *uuid_or_name, void *opaque)
{
    const Fixture *f = opaque;

    if (!f->state || (strcmp(uuid_or_name, UUID) != 0 && strcmp(uuid_or_name, "ft") != 0))
        return NULL;
    return colo_json_build("name", "s", "ft", "uuid", "s", UUID, "state", "s", f->state, "role",
                           "s", f->role, "peer", "s", "192.0.2.2", "peer-host", "s", "host2",
                           "pair", "s", "ab", "auto-reprotect", "b", f->auto_reprotect, "autostart",
                           "b", f->autostart, NULL);
}

static JsonObject *command(const char *name, JsonObject *args, void *opaque, GError **error)
{
    Fixture *f = opaque;
    g_autofree char *text = colo_json_to_string(args);

    g_free(f->command);
    f->command = g_strconcat(name, " ", text, NULL);
    if (strcmp(name, "colo-checkpoint") == 0) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID, "not now");
        return NULL;
    }
    if (strcmp(name, "colo-list") == 0) {
        JsonObject *list = json_object_new_array();

        json_object_array_add(list, colo_json_build("uuid", "s", UUID, NULL));
        return colo_json_build("domains", "o", list, NULL);
    }
    if (strcmp(name, "colo-stats") == 0)
        return colo_json_build(
            "stats", "o",
            colo_json_build("held-bytes", "u", (uint64_t)4096, "gate", "s", "paired",
                            "pause-histogram", "o",
                            colo_json_build("le-8-ms", "u", (uint64_t)5, NULL), "counters", "o",
                            colo_json_build("diverged-syn", "u", (uint64_t)12, NULL), NULL),
            NULL);
    return colo_json_build("state", "s", "protected", "pause-ms", "o",
                           colo_json_build("max", "u", (uint64_t)7, NULL), NULL);
}

static JsonObject *pairs(void *opaque G_GNUC_UNUSED)
{
    JsonObject *list = json_object_new_array();

    json_object_array_add(
        list, colo_json_build("name", "s", "ab", "peer", "s", "<host2>", "state", "s", "up", NULL));
    return colo_json_build("pairs", "o", list, NULL);
}

static gboolean hold(const char *uuid, const char *call, void *opaque, GError **error)
{
    Fixture *f = opaque;

    g_assert_cmpstr(uuid, ==, UUID);
    g_assert_null(f->held);
    if (f->hold_fails) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID, "not interrupted");
        return FALSE;
    }
    f->held = g_strdup(call);
    f->state = "alone";
    return TRUE;
}

static void release(const char *uuid, void *opaque)
{
    Fixture *f = opaque;

    g_assert_cmpstr(uuid, ==, UUID);
    g_assert_nonnull(f->held);
    g_clear_pointer(&f->held, g_free);
}

static gboolean set_autostart(const char *uuid, gboolean on, void *opaque,
                              GError **error G_GNUC_UNUSED)
{
    Fixture *f = opaque;

    g_assert_cmpstr(uuid, ==, UUID);
    f->autostart = on;
    return TRUE;
}

static char *migratable_xml(const char *uuid, void *opaque G_GNUC_UNUSED,
                            GError **error G_GNUC_UNUSED)
{
    g_assert_cmpstr(uuid, ==, UUID);
    return g_strdup("<domain><name>ft</name></domain>");
}

static int domain_id(const char *uuid G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    return 7;
}

static void setup(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    *f = (Fixture){.state = "protected", .role = "primary"};
    f->driver = colo_driver_new("host1", &(ColoDriverHost){.view = view,
                                                           .pairs = pairs,
                                                           .command = command,
                                                           .hold = hold,
                                                           .release = release,
                                                           .set_autostart = set_autostart,
                                                           .migratable_xml = migratable_xml,
                                                           .domain_id = domain_id,
                                                           .opaque = f});
    f->relay = colo_driver_relay(f->driver);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    colo_driver_free(f->driver);
    g_free(f->command);
    g_free(f->asked);
    g_free(f->held);
}

/* ---- frames ---- */

static void put_word(GByteArray *body, uint32_t word)
{
    uint8_t bytes[4];

    colo_put32(bytes, word);
    g_byte_array_append(body, bytes, sizeof(bytes));
}

static void put_text(GByteArray *body, const char *text)
{
    static const uint8_t zeros[4];
    guint len = (guint)strlen(text);

    put_word(body, len);
    g_byte_array_append(body, (const guint8 *)text, len);
    g_byte_array_append(body, zeros, (4 - len % 4) % 4);
}

static void put_domain(GByteArray *body, const char *name)
{
    uint8_t uuid[16];

    memcpy(uuid, uuid_bytes, sizeof(uuid));
    if (strcmp(name, "ft") != 0)
        uuid[0] = 1;
    put_text(body, name);
    g_byte_array_append(body, uuid, sizeof(uuid));
    put_word(body, 3);
}

/* @body is freed. */
static ColoRpcFrame *frame_of(uint32_t program, uint32_t procedure, uint32_t type, GByteArray *body)
{
    ColoRpcFrame *frame = g_malloc0(sizeof(*frame) + body->len);

    frame->header = (ColoRpcHeader){
        .program = program, .version = 1, .procedure = procedure, .type = type, .serial = 5};
    frame->len = body->len;
    memcpy(frame->body, body->data, body->len);
    g_byte_array_unref(body);
    return frame;
}

static ColoRpcFrame *domain_call(uint32_t procedure, const char *name)
{
    GByteArray *body = g_byte_array_new();

    put_domain(body, name);
    put_text(body, "<disk/>");
    return frame_of(COLO_REMOTE_PROGRAM, procedure, COLO_RPC_CALL, body);
}

/* Of the domain with UUID, by that name or another. */
static ColoRpcFrame *monitor_call_named(const char *name, const char *text, uint32_t flags)
{
    GByteArray *body = g_byte_array_new();

    put_text(body, name);
    g_byte_array_append(body, uuid_bytes, sizeof(uuid_bytes));
    put_word(body, 3);
    put_text(body, text);
    put_word(body, flags);
    return frame_of(COLO_REMOTE_QEMU_PROGRAM, COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND, COLO_RPC_CALL,
                    body);
}

static ColoRpcFrame *monitor_call(const char *text, uint32_t flags)
{
    return monitor_call_named("ft", text, flags);
}

static gboolean says(const GByteArray *answer, const char *text)
{
    return memmem(answer->data, answer->len, text, strlen(text)) != NULL;
}

/* The call is answered with an error that holds each of the texts. */
static void assert_refused(Fixture *f, ColoRpcFrame *call, const char *const *texts)
{
    g_autoptr(GByteArray) answer = NULL;
    g_autoptr(ColoRpcFrame) frame = call;

    g_assert_cmpint(f->relay->call(frame, &answer, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data), ==, answer->len);
    g_assert_cmpuint(colo_get32(answer->data + 16), ==, COLO_RPC_REPLY);
    g_assert_cmpuint(colo_get32(answer->data + 20), ==, 5); /* serial */
    g_assert_cmpuint(colo_get32(answer->data + 24), ==, COLO_RPC_ERROR);
    g_assert_cmpuint(colo_get32(answer->data + 28), ==, VIR_ERR_OPERATION_INVALID);
    for (; *texts; texts++)
        g_assert_true(says(answer, *texts));
}

#define REFUSED(call, ...) assert_refused(f, call, (const char *const[]){__VA_ARGS__, NULL})

static void assert_passes(Fixture *f, ColoRpcFrame *call)
{
    g_autoptr(GByteArray) answer = NULL;
    g_autoptr(ColoRpcFrame) frame = call;

    g_assert_cmpint(f->relay->call(frame, &answer, f->relay->opaque), ==, COLO_RELAY_PASS);
    g_assert_null(answer);
}

/* ---- the table ---- */

static uint32_t number_of(const char *name)
{
    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        if (strcmp(colo_policy_rows[i].name, name) == 0)
            return colo_policy_rows[i].procedure;
    }
    g_assert_not_reached();
}

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
    g_assert_cmpuint(number_of("CONNECT_OPEN"), ==, 1);
    g_assert_cmpuint(number_of("DOMAIN_DESTROY"), ==, 12);
    g_assert_cmpuint(number_of("CONNECT_GET_URI"), ==, 110);
    g_assert_cmpuint(number_of("CONNECT_LIST_ALL_DOMAINS"), ==, 273);
    g_assert_cmpuint(number_of("CONNECT_GET_ALL_DOMAIN_STATS"), ==, 344);
    g_assert_cmpuint(number_of("CONNECT_SET_IDENTITY"), ==, 419);
    g_assert_cmpuint(number_of("DOMAIN_FD_ASSOCIATE"), ==, 443);
}

/* What reads passes in every state and on both hosts. */
static void test_reading_passes(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const states[] = {"preparing",  "syncing", "protected", "degraded",
                                         "committing", "fenced",  "alone",     "unprotected"};

    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        if (colo_policy_rows[i].action != COLO_ACTION_PASS ||
            colo_policy_rows[i].procedure == COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS)
            continue;
        for (size_t j = 0; j < 2 * G_N_ELEMENTS(states); j++) {
            f->state = states[j / 2];
            f->role = j % 2 ? "primary" : "secondary";
            assert_passes(f, domain_call(colo_policy_rows[i].procedure, "ft"));
        }
    }
}

/* ---- refusals ---- */

static void test_protected(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const passing[] = {"DOMAIN_DESTROY", "DOMAIN_SHUTDOWN", "DOMAIN_RESET",
                                          "DOMAIN_OPEN_CONSOLE", "DOMAIN_PIN_VCPU"};

    REFUSED(domain_call(number_of("DOMAIN_ATTACH_DEVICE_FLAGS"), "ft"), "domain 'ft' is protected",
            "virsh-colo colo-unprotect ft", "virsh-colo colo-protect ft --pair ab");
    REFUSED(domain_call(number_of("DOMAIN_RESUME"), "ft"), "it runs");
    REFUSED(domain_call(number_of("DOMAIN_MIGRATE_SET_MAX_SPEED"), "ft"), "its jobs");
    REFUSED(domain_call(number_of("DOMAIN_BLOCK_JOB_ABORT"), "ft"), "block jobs");
    REFUSED(domain_call(number_of("DOMAIN_UNDEFINE_FLAGS"), "ft"), "undefined");
    f->state = "syncing"; /* an interruption would end what has not begun */
    REFUSED(domain_call(number_of("DOMAIN_SUSPEND"), "ft"), "cannot be paused", "colo-unprotect");
    REFUSED(domain_call(number_of("DOMAIN_MIGRATE_PERFORM3"), "ft"), "cannot be migrated",
            "virsh-colo colo-switchover ft");
    f->state = "protected";
    for (size_t i = 0; i < G_N_ELEMENTS(passing); i++)
        assert_passes(f, domain_call(number_of(passing[i]), "ft"));
    /* Another domain is none of ours. */
    assert_passes(f, domain_call(number_of("DOMAIN_SUSPEND"), "other"));
    f->state = "unprotected";
    assert_passes(f, domain_call(number_of("DOMAIN_SUSPEND"), "ft"));
    f->state = "alone";
    assert_passes(f, domain_call(number_of("DOMAIN_ATTACH_DEVICE"), "ft"));
    f->state = NULL;
    assert_passes(f, domain_call(number_of("DOMAIN_ATTACH_DEVICE"), "ft"));
}

/* ---- interruptions ---- */

/* libvirt is asked for the right; the protection is interrupted; libvirt has the call; it is over.
 */
static void assert_interrupts(Fixture *f, ColoRpcFrame *owned, const char *call)
{
    g_autoptr(ColoRpcFrame) frame = owned;
    g_autoptr(GByteArray) question = NULL;

    f->state = "protected";
    g_assert_cmpint(f->relay->call(frame, &question, f->relay->opaque), ==, COLO_RELAY_WORK);
    g_assert_cmpuint(colo_get32(question->data + 12), ==, COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME);
    g_assert_nonnull(memmem(question->data, question->len, uuid_bytes, sizeof(uuid_bytes)));
    g_assert_null(f->held);
    g_assert_null(f->relay->work(frame, f->relay->opaque));
    g_assert_cmpstr(f->held, ==, call);
    f->relay->after(frame, f->relay->opaque);
    g_assert_null(f->held);
}

static void test_interrupts(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) save = domain_call(number_of("DOMAIN_SAVE"), "ft");
    g_autoptr(GByteArray) answer = NULL;
    GByteArray *child = g_byte_array_new();

    assert_interrupts(f, domain_call(number_of("DOMAIN_SUSPEND"), "ft"), "suspend");
    assert_interrupts(f, domain_call(number_of("DOMAIN_MANAGED_SAVE"), "ft"), "managed-save");
    assert_interrupts(f, domain_call(number_of("DOMAIN_CORE_DUMP"), "ft"), "core-dump");
    assert_interrupts(f, domain_call(number_of("DOMAIN_MIGRATE_PERFORM3"), "ft"),
                      "migrate-perform3");
    f->auto_reprotect = TRUE;
    assert_interrupts(f, domain_call(number_of("DOMAIN_ATTACH_DEVICE"), "ft"), "attach-device");
    put_text(child, "snap1");
    put_domain(child, "ft");
    assert_interrupts(
        f, frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_SNAPSHOT_DELETE"), COLO_RPC_CALL, child),
        "snapshot-delete");
    /* What cannot be interrupted is not done. */
    f->state = "protected";
    f->hold_fails = TRUE;
    answer = f->relay->work(save, f->relay->opaque);
    g_assert_true(says(answer, "not interrupted"));
}

static void test_autostart(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) get = domain_call(number_of("DOMAIN_GET_AUTOSTART"), "ft");
    g_autoptr(GByteArray) off = NULL, on = NULL, question = NULL, done = NULL;
    g_autoptr(ColoRpcFrame) set = NULL;
    GByteArray *body = g_byte_array_new();

    put_domain(body, "ft");
    put_word(body, 1);
    set = frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_SET_AUTOSTART"), COLO_RPC_CALL, body);
    g_assert_cmpint(f->relay->call(get, &off, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(off->data + COLO_RPC_HEADER_BYTES), ==, 0);
    g_assert_cmpint(f->relay->call(set, &question, f->relay->opaque), ==, COLO_RELAY_WORK);
    done = f->relay->work(set, f->relay->opaque);
    g_assert_cmpuint(done->len, ==, COLO_RPC_HEADER_BYTES);
    g_assert_cmpuint(colo_get32(done->data + 24), ==, COLO_RPC_OK);
    g_assert_true(f->autostart);
    g_assert_cmpint(f->relay->call(get, &on, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(on->data + COLO_RPC_HEADER_BYTES), ==, 1);
    f->state = "unprotected"; /* libvirt's again */
    assert_passes(f, domain_call(number_of("DOMAIN_GET_AUTOSTART"), "ft"));
    assert_passes(f, domain_call(number_of("DOMAIN_SET_AUTOSTART"), "ft"));
}

/* ---- the state ---- */

/* State and reason of what a client hears when libvirt says @state. */
static void assert_state(Fixture *f, const char *procedure, uint32_t said, uint32_t heard)
{
    g_autoptr(ColoRpcFrame) call = domain_call(number_of(procedure), "ft"), reply = NULL;
    GByteArray *body = g_byte_array_new();
    g_autoptr(GByteArray) none = NULL, answer = NULL;

    put_word(body, said);
    put_word(body, 99);
    put_word(body, 98);
    reply = frame_of(COLO_REMOTE_PROGRAM, call->header.procedure, COLO_RPC_REPLY, body);
    g_assert_cmpint(f->relay->call(call, &none, f->relay->opaque), ==, COLO_RELAY_REVISE);
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

static void test_state(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    assert_state(f, "DOMAIN_GET_STATE", VIR_DOMAIN_PAUSED, VIR_DOMAIN_RUNNING);
    assert_state(f, "DOMAIN_GET_INFO", VIR_DOMAIN_PAUSED, VIR_DOMAIN_RUNNING);
    assert_state(f, "DOMAIN_GET_STATE", VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED);
    f->state = "degraded"; /* its output is held: that is a pause */
    assert_passes(f, domain_call(number_of("DOMAIN_GET_STATE"), "ft"));
    f->state = "alone";
    assert_passes(f, domain_call(number_of("DOMAIN_GET_STATE"), "ft"));
}

/* ---- declarations ---- */

static ColoRpcFrame *define_call(const char *element)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain type='kvm'><name>x</name><metadata>%s</metadata></domain>", element);
    GByteArray *body = g_byte_array_new();

    put_text(body, xml);
    return frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_DEFINE_XML_FLAGS"), COLO_RPC_CALL, body);
}

static ColoRpcFrame *metadata_call(const char *element, const char *ns)
{
    GByteArray *body = g_byte_array_new();

    put_domain(body, "other");
    put_word(body, 2); /* VIR_DOMAIN_METADATA_ELEMENT */
    put_word(body, 1);
    put_text(body, element);
    put_word(body, 1);
    put_text(body, "colo");
    put_word(body, 1);
    put_text(body, ns);
    put_word(body, 0);
    return frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_SET_METADATA"), COLO_RPC_CALL, body);
}

static void assert_xml_error(Fixture *f, ColoRpcFrame *owned, const char *text)
{
    g_autoptr(ColoRpcFrame) frame = owned;
    g_autoptr(GByteArray) answer = NULL;

    g_assert_cmpint(f->relay->call(frame, &answer, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES), ==, VIR_ERR_XML_ERROR);
    g_assert_true(says(answer, text));
}

static void test_declarations(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    assert_passes(f, define_call("<c:protection xmlns:c='" COLO_DECLARATION_NS "' pair='ab'/>"));
    assert_xml_error(f, define_call("<c:protection xmlns:c='" COLO_DECLARATION_NS "'/>"),
                     "takes pair=");
    assert_passes(f, metadata_call("<protection pair='ab'/>", COLO_DECLARATION_NS));
    assert_xml_error(f, metadata_call("<protection/>", COLO_DECLARATION_NS), "takes pair=");
    assert_passes(f, metadata_call("<protection/>", "http://example.org/"));
}

/* ---- migration to the peer ---- */

/* Asks and works; the body of the answer. */
static GByteArray *migrate(Fixture *f, uint32_t procedure, GByteArray *body, uint32_t right)
{
    g_autoptr(ColoRpcFrame) call = frame_of(COLO_REMOTE_PROGRAM, procedure, COLO_RPC_CALL, body);
    g_autoptr(GByteArray) question = NULL;
    GByteArray *answer;

    g_assert_cmpint(f->relay->call(call, &question, f->relay->opaque), ==, COLO_RELAY_WORK);
    g_assert_cmpuint(colo_get32(question->data + 12), ==, right);
    answer = f->relay->work(call, f->relay->opaque);
    g_assert_nonnull(answer);
    return answer;
}

static GByteArray *perform_args(const char *uri, const char *cookie, uint32_t flags)
{
    GByteArray *body = g_byte_array_new();

    put_domain(body, "ft");
    put_word(body, uri != NULL);
    if (uri)
        put_text(body, uri);
    put_word(body, 0); /* no params */
    put_text(body, cookie);
    put_word(body, flags);
    return body;
}

static void test_migrate_peer_to_peer(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const uint32_t p2p = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER;
    uint32_t perform = number_of("DOMAIN_MIGRATE_PERFORM3_PARAMS");
    g_autoptr(GByteArray) done =
        migrate(f, perform, perform_args("colo+tls://HOST2/system", "", p2p),
                COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME);

    g_assert_cmpuint(colo_get32(done->data + 24), ==, COLO_RPC_OK);
    g_assert_true(g_str_has_prefix(f->command, "colo-switchover"));
    g_assert_nonnull(strstr(f->command, UUID));
    /* Elsewhere: libvirt's, without protection. */
    g_clear_pointer(&f->command, g_free);
    assert_interrupts(f,
                      frame_of(COLO_REMOTE_PROGRAM, perform, COLO_RPC_CALL,
                               perform_args("qemu+tls://host3/system", "", p2p)),
                      "migrate-perform3-params");
    g_assert_null(f->command);
}

static void test_migrate_by_the_client(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GByteArray *begin = g_byte_array_new(), *prepare = g_byte_array_new();
    GByteArray *finish = g_byte_array_new(), *elsewhere = g_byte_array_new();
    const uint32_t write = COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME;
    g_autoptr(GByteArray) begun = NULL, prepared = NULL, performed = NULL, finished = NULL;
    g_autoptr(GByteArray) refused = NULL;
    g_autofree char *cookie = NULL;

    put_domain(begin, "ft");
    put_word(begin, 0);
    put_word(begin, VIR_MIGRATE_LIVE);
    begun = migrate(f, number_of("DOMAIN_MIGRATE_BEGIN3_PARAMS"), begin, write);
    cookie = g_strndup((char *)begun->data + COLO_RPC_HEADER_BYTES + 4,
                       colo_get32(begun->data + COLO_RPC_HEADER_BYTES));
    g_assert_nonnull(strstr(cookie, UUID));
    g_assert_true(says(begun, "<domain><name>ft</name></domain>"));

    f->role = "secondary"; /* the peer */
    put_word(prepare, 0);
    put_text(prepare, cookie);
    put_word(prepare, VIR_MIGRATE_LIVE);
    prepared = migrate(f, number_of("DOMAIN_MIGRATE_PREPARE3_PARAMS"), prepare,
                       COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES);
    g_assert_true(says(prepared, "colo:switchover"));

    f->role = "primary";
    performed = migrate(f, number_of("DOMAIN_MIGRATE_PERFORM3_PARAMS"),
                        perform_args(NULL, cookie, VIR_MIGRATE_LIVE), write);
    g_assert_true(g_str_has_prefix(f->command, "colo-switchover"));

    f->state = "committing"; /* the peer again */
    put_word(finish, 0);
    put_text(finish, cookie);
    put_word(finish, VIR_MIGRATE_LIVE);
    put_word(finish, 0);
    finished = migrate(f, number_of("DOMAIN_MIGRATE_FINISH3_PARAMS"), finish, write);
    g_assert_cmpuint(colo_get32(finished->data + 24), ==, COLO_RPC_OK);
    g_assert_nonnull(memmem(finished->data, finished->len, uuid_bytes, sizeof(uuid_bytes)));

    f->state = NULL; /* a host that is not its peer */
    put_word(elsewhere, 0);
    put_text(elsewhere, cookie);
    put_word(elsewhere, VIR_MIGRATE_LIVE);
    refused = migrate(f, number_of("DOMAIN_MIGRATE_PREPARE3_PARAMS"), elsewhere,
                      COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES);
    g_assert_true(says(refused, "is not its peer"));
}

static void test_copy(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->role = "secondary";
    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        const ColoPolicyRow *row = &colo_policy_rows[i];

        if (row->action != COLO_ACTION_PASS && row->action != COLO_ACTION_GET_AUTOSTART &&
            row->action != COLO_ACTION_STATE && row->object == COLO_OBJECT_DOMAIN)
            REFUSED(domain_call(row->procedure, "ft"),
                    "the copy of the guest that runs on 192.0.2.2", "colo+ssh://192.0.2.2/system");
    }
    REFUSED(monitor_call("{\"execute\":\"quit\"}", 0), "the copy");
}

static void test_after_a_takeover(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->state = "committing";
    REFUSED(domain_call(number_of("DOMAIN_DESTROY"), "ft"), "disks are being merged",
            "colo-status ft");
    assert_passes(f, domain_call(number_of("DOMAIN_OPEN_CONSOLE"), "ft"));
    f->state = "fenced";
    REFUSED(domain_call(number_of("DOMAIN_CREATE_WITH_FLAGS"), "ft"), "may not run here",
            "colo-status ft", "colo-failover ft --i-am-sure --discard");
    assert_passes(f, domain_call(number_of("DOMAIN_UNDEFINE"), "ft"));
}

static void test_other_ways_to_name_it(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GByteArray *child = g_byte_array_new(), *xml = g_byte_array_new(), *fds = g_byte_array_new();
    GByteArray *other = g_byte_array_new(), *nonsense = g_byte_array_new();

    put_text(child, "snap1");
    put_domain(child, "ft");
    REFUSED(
        frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_REVERT_TO_SNAPSHOT"), COLO_RPC_CALL, child),
        "snapshotted");
    put_text(xml, "<domain type='kvm'><name>ft</name><memory>1</memory></domain>");
    REFUSED(frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL, xml),
            "redefined");
    put_text(other, "<domain type='kvm'><name>x</name></domain>");
    assert_passes(
        f, frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL, other));
    put_text(nonsense, "<domain <name>ft");
    assert_passes(
        f, frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL, nonsense));
    /* libvirtd takes a call with FDs for a call. */
    put_word(fds, 0);
    put_domain(fds, "ft");
    REFUSED(frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_SUSPEND"), COLO_RPC_CALL_WITH_FDS, fds),
            "cannot be paused");
}

/* libvirt reads entities: the name may be in one. What they make of a few bytes is no work for a
 * thread that serves everybody, and no name. */
static void test_entities(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GByteArray *named = g_byte_array_new(), *large = g_byte_array_new();
    g_autofree char *letters = g_strnfill(20000, 'a');
    g_autoptr(GString) text = g_string_new(NULL);
    gint64 begin;

    put_text(named, "<!DOCTYPE domain [<!ENTITY n 'f'>]><domain><name>&n;t</name></domain>");
    REFUSED(frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL, named),
            "redefined");
    g_string_printf(text, "<!DOCTYPE domain [<!ENTITY n '%s'>]><domain><name>", letters);
    for (int i = 0; i < 200000; i++)
        g_string_append(text, "&n;");
    g_string_append(text, "</name></domain>");
    put_text(large, text->str);
    begin = g_get_monotonic_time();
    assert_passes(
        f, frame_of(COLO_REMOTE_PROGRAM, number_of("DOMAIN_DEFINE_XML"), COLO_RPC_CALL, large));
    /* 4 GB of it took half a minute. */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 5 * G_USEC_PER_SEC);
}

/* Every prefix of a body: libvirt says what is wrong with it. */
static void test_truncated(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) whole = domain_call(number_of("DOMAIN_SUSPEND"), "ft");
    size_t domain_ends = 4 + 4 + 16 + 4;

    for (size_t len = 0; len < domain_ends; len++) {
        GByteArray *body = g_byte_array_new();

        g_byte_array_append(body, whole->body, (guint)len);
        assert_passes(f,
                      frame_of(COLO_REMOTE_PROGRAM, whole->header.procedure, COLO_RPC_CALL, body));
    }
}

/* ---- door 2 ---- */

static char *ask_named(Fixture *f, const char *name, const char *text, uint32_t flags)
{
    g_autoptr(ColoRpcFrame) call = monitor_call_named(name, text, flags);
    g_autoptr(GByteArray) none = NULL, answer = NULL;

    g_assert_cmpint(f->relay->call(call, &none, f->relay->opaque), ==, COLO_RELAY_WORK);
    g_assert_cmpuint(colo_get32(none->data), ==, none->len); /* what libvirt is asked */
    g_free(f->asked);
    f->asked = g_strdup_printf("%u", colo_get32(none->data + 12));
    answer = f->relay->work(call, f->relay->opaque);
    g_assert_cmpuint(colo_get32(answer->data + 24), ==, COLO_RPC_OK);
    return g_strndup((const char *)answer->data + COLO_RPC_HEADER_BYTES + 4,
                     colo_get32(answer->data + COLO_RPC_HEADER_BYTES));
}

static char *ask(Fixture *f, const char *text, uint32_t flags)
{
    return ask_named(f, "ft", text, flags);
}

static void test_qmp(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *status = ask(f, " {\"execute\": \"colo-status\", \"id\": 9}", 0);
    g_autoptr(JsonObject) answer = colo_json_parse(status, strlen(status), NULL);
    g_autofree char *refused = NULL, *unknown = NULL, *wrong = NULL, *events = NULL;
    g_autofree char *other = NULL, *pairs = NULL;

    g_assert_cmpstr(colo_json_peek_string(colo_json_peek(answer, "return"), "state", ""), ==,
                    "protected");
    g_assert_cmpuint(colo_json_peek_uint(answer, "id", 0), ==, 9);
    g_assert_nonnull(strstr(f->command, "colo-status"));
    g_assert_nonnull(strstr(f->command, "\"" UUID "\""));
    refused =
        ask(f, "{\"execute\":\"colo-checkpoint\",\"arguments\":{\"domain\":\"" UUID "\"}}", 0);
    g_assert_nonnull(strstr(refused, "not now"));
    g_assert_cmpstr(f->asked, ==, "277"); /* DOMAIN_GET_HOSTNAME: domain:write */
    g_clear_pointer(&f->command, g_free);
    other = ask(f, "{\"execute\":\"colo-checkpoint\",\"arguments\":{\"domain\":\"other\"}}", 0);
    g_assert_nonnull(strstr(other, "about domain 'other'"));
    g_assert_null(f->command);
    pairs = ask(f, "{\"execute\":\"colo-pair-list\"}", 0);
    g_assert_cmpstr(f->asked, ==, "342"); /* CONNECT_GET_DOMAIN_CAPABILITIES: connect:write */
    unknown = ask(f, "{\"execute\":\"colo-nonsense\"}", 0);
    g_assert_nonnull(strstr(unknown, "there is no command 'colo-nonsense'"));
    wrong = ask(f, "{\"execute\":\"colo-status\",\"arguments\":[1]}", 0);
    g_assert_nonnull(strstr(wrong, "is no object"));
    events = ask(f, "{\"execute\":\"colo-events\"}", 0);
    g_assert_nonnull(strstr(events, "GenericError"));
}

/* The right is asked for the UUID: a call that says another name beside it gets no other domain. */
static void test_uuid_decides(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *answer = ask_named(f, "other", "{\"execute\":\"colo-status\"}", 0);
    g_autofree char *given = NULL;

    g_assert_nonnull(answer);
    g_assert_null(strstr(f->command, "other"));
    g_assert_nonnull(strstr(f->command, "\"" UUID "\""));
    given = ask_named(f, "other",
                      "{\"execute\":\"colo-status\",\"arguments\":{\"domain\":\"other\"}}", 0);
    g_assert_null(strstr(f->command, "other"));
}

static void test_hmp(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const uint32_t hmp = 1; /* VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP */
    g_autofree char *status = ask(f, "colo-status", hmp), *wrong = NULL, *discard = NULL;

    g_assert_cmpstr(status, ==, "state: protected\r\npause-ms.max: 7\r\n");
    wrong = ask(f, "colo-status speed=3", hmp);
    g_assert_true(g_str_has_prefix(wrong, "Error: colo-status: 'speed=3'"));
    discard = ask(f, "colo-failover  i-am-sure discard=true", hmp);
    g_assert_nonnull(strstr(f->command, "\"i-am-sure\":true"));
    g_assert_nonnull(strstr(f->command, "\"discard\":true"));
}

static void test_qemus_own_commands_pass(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    assert_passes(f, monitor_call("{\"execute\":\"query-status\"}", 0));
    assert_passes(f, monitor_call("{\"execute\":\"x\",\"arguments\":{\"a\":\"colo-status\"}}", 0));
    assert_passes(f, monitor_call("colo-status", 0)); /* no JSON: QEMU says so */
    assert_passes(f, monitor_call("info status", 1));
}

/* ---- what libvirt says ---- */

static ColoRpcFrame *event_frame(uint32_t procedure, const char *name, uint32_t event,
                                 uint32_t detail)
{
    GByteArray *body = g_byte_array_new();

    if (procedure != COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE) /* the callback's id */
        put_word(body, 1);
    put_domain(body, name);
    put_word(body, event);
    put_word(body, detail);
    return frame_of(COLO_REMOTE_PROGRAM, procedure, COLO_RPC_MESSAGE, body);
}

static ColoRelayVerdict hears(Fixture *f, ColoRpcFrame *said, GByteArray **instead)
{
    g_autoptr(ColoRpcFrame) frame = said;

    return f->relay->heard(frame, instead, f->relay->opaque);
}

static void test_checkpoints_are_not_told(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const uint32_t kinds[] = {COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE,
                                     COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE};

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        f->state = "protected";
        g_assert_cmpint(hears(f,
                              event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_SUSPENDED,
                                          VIR_DOMAIN_EVENT_SUSPENDED_PAUSED),
                              NULL),
                        ==, COLO_RELAY_DROP);
        g_assert_cmpint(hears(f,
                              event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_RESUMED,
                                          VIR_DOMAIN_EVENT_RESUMED_UNPAUSED),
                              NULL),
                        ==, COLO_RELAY_DROP);
        g_assert_cmpint(hears(f,
                              event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_SUSPENDED,
                                          VIR_DOMAIN_EVENT_SUSPENDED_IOERROR),
                              NULL),
                        ==, COLO_RELAY_PASS);
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_STOPPED, 0), NULL),
                        ==, COLO_RELAY_PASS);
        g_assert_cmpint(
            hears(f, event_frame(kinds[i], "other", VIR_DOMAIN_EVENT_SUSPENDED, 0), NULL), ==,
            COLO_RELAY_PASS);
        f->state = "degraded"; /* paused: output-hold is told */
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_SUSPENDED, 0), NULL),
                        ==, COLO_RELAY_PASS);
    }
}

/* Of a copy nobody hears anything, whatever it is. */
static void test_copy_is_silent(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const uint32_t started = VIR_DOMAIN_EVENT_STARTED;
    uint32_t rtc_change = number_of("DOMAIN_EVENT_CALLBACK_RTC_CHANGE");
    uint32_t threshold = number_of("DOMAIN_EVENT_BLOCK_THRESHOLD");
    const uint32_t kinds[] = {COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE,
                              COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE, rtc_change,
                              threshold};

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        f->state = "preparing";
        f->role = "secondary";
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", started, 0), NULL), ==,
                        COLO_RELAY_DROP);
        g_assert_cmpint(hears(f, event_frame(kinds[i], "other", started, 0), NULL), ==,
                        COLO_RELAY_PASS);
        f->state = "failing-over"; /* it is the guest from here on */
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_RESUMED, 0), NULL),
                        ==, COLO_RELAY_PASS);
        f->state = "protected";
        f->role = "primary";
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", started, 0), NULL), ==,
                        COLO_RELAY_PASS);
    }
}

static ColoRpcFrame *list_frame(void)
{
    GByteArray *body = g_byte_array_new();

    put_word(body, 3);
    put_domain(body, "a");
    put_domain(body, "ft");
    put_domain(body, "b");
    put_word(body, 3);
    return frame_of(COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS, COLO_RPC_REPLY,
                    body);
}

static void test_copy_is_not_listed(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GByteArray) same = NULL, without = NULL;

    g_assert_cmpint(hears(f, list_frame(), &same), ==, COLO_RELAY_PASS);
    f->role = "secondary";
    g_assert_cmpint(hears(f, list_frame(), &without), ==, COLO_RELAY_ANSWER);
    g_assert_false(says(without, "ft"));
    g_assert_cmpuint(colo_get32(without->data), ==, without->len);
    g_assert_cmpuint(colo_get32(without->data + COLO_RPC_HEADER_BYTES), ==, 2);
    g_assert_cmpuint(colo_get32(without->data + without->len - 4), ==, 2);
}

static ColoRpcFrame *stats_frame(gboolean unknown_type)
{
    GByteArray *body = g_byte_array_new();

    put_word(body, 2);
    for (int i = 0; i < 2; i++) {
        put_domain(body, i ? "other" : "ft");
        put_word(body, 3);
        put_text(body, "state.state");
        put_word(body, 1);
        put_word(body, 1);
        put_text(body, "cpu.time");
        put_word(body, unknown_type ? 9 : 4);
        put_word(body, 0);
        put_word(body, 77);
        put_text(body, "block.0.name");
        put_word(body, 7);
        put_text(body, "vda");
    }
    return frame_of(COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS,
                    COLO_RPC_REPLY, body);
}

static void test_domstats(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GByteArray) answer = NULL, none = NULL, later = NULL, full = NULL, question = NULL;
    g_autoptr(ColoRpcFrame) said = stats_frame(FALSE);
    g_autoptr(ColoRpcFrame) call =
        frame_of(COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS, COLO_RPC_CALL,
                 g_byte_array_new());
    const size_t domain = 4 + 4 + 16 + 4; /* "ft" */

    g_assert_cmpint(f->relay->heard(said, &answer, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data), ==, answer->len);
    /* state, role, pair and peer: the fixture says nothing of the rest. */
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES + 4 + domain), ==, 3 + 4);
    g_assert_true(says(answer, "colo.state"));
    g_assert_true(says(answer, "block.0.name"));
    /* The figures are asked for when a client asks libvirt, which judges the client itself. */
    g_assert_cmpint(f->relay->call(call, &question, f->relay->opaque), ==, COLO_RELAY_WORK);
    g_assert_null(question);
    g_assert_null(f->relay->work(call, f->relay->opaque));
    g_assert_cmpint(f->relay->heard(said, &full, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    f->relay->after(call, f->relay->opaque);
    g_assert_cmpuint(colo_get32(full->data + COLO_RPC_HEADER_BYTES + 4 + domain), ==, 3 + 4 + 4);
    g_assert_true(says(full, "colo.held-bytes"));
    g_assert_true(says(full, "colo.gate"));
    g_assert_true(says(full, "colo.pause-histogram.le-8-ms"));
    g_assert_true(says(full, "colo.count.diverged-syn"));
    f->state = "unprotected";
    g_assert_cmpint(hears(f, stats_frame(FALSE), &none), ==, COLO_RELAY_PASS);
    f->state = "protected";
    g_assert_cmpint(hears(f, stats_frame(TRUE), &later), ==, COLO_RELAY_PASS);
}

static void test_capabilities(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const xmls[] = {"<capabilities>\n  <host/>\n</capabilities>\n",
                                       "<domainCapabilities>\n</domainCapabilities>\n",
                                       "something else"};
    const uint32_t procedures[] = {7, COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES, 7};

    for (size_t i = 0; i < G_N_ELEMENTS(xmls); i++) {
        GByteArray *body = g_byte_array_new();
        g_autoptr(ColoRpcFrame) frame = NULL;
        g_autoptr(GByteArray) answer = NULL;

        put_text(body, xmls[i]);
        frame = frame_of(COLO_REMOTE_PROGRAM, procedures[i], COLO_RPC_REPLY, body);
        f->relay->heard(frame, &answer, f->relay->opaque);
        g_assert_cmpint(answer != NULL, ==, i < 2);
        if (answer) {
            g_assert_true(says(answer, "supported='yes'"));
            g_assert_true(says(answer, "<colo:pair name='ab' peer='&lt;host2&gt;' state='up'/>"));
            g_assert_true(says(answer, i ? "</domainCapabilities>\n" : "</capabilities>\n"));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/driver/policy/every-procedure", test_every_procedure_is_listed);
#define ADD(name, function) g_test_add("/driver/" name, Fixture, NULL, setup, function, teardown)
    ADD("policy/reading-passes", test_reading_passes);
    ADD("refused/protected", test_protected);
    ADD("refused/copy", test_copy);
    ADD("refused/after-a-takeover", test_after_a_takeover);
    ADD("refused/other-names", test_other_ways_to_name_it);
    ADD("refused/entities", test_entities);
    ADD("refused/truncated", test_truncated);
    ADD("door-2/qmp", test_qmp);
    ADD("interrupts", test_interrupts);
    ADD("autostart", test_autostart);
    ADD("state", test_state);
    ADD("declarations", test_declarations);
    ADD("migrate/peer-to-peer", test_migrate_peer_to_peer);
    ADD("migrate/by-the-client", test_migrate_by_the_client);
    ADD("door-2/uuid-decides", test_uuid_decides);
    ADD("door-2/hmp", test_hmp);
    ADD("door-2/qemus-own", test_qemus_own_commands_pass);
    ADD("heard/checkpoints", test_checkpoints_are_not_told);
    ADD("heard/copy-is-silent", test_copy_is_silent);
    ADD("heard/copy-not-listed", test_copy_is_not_listed);
    ADD("heard/capabilities", test_capabilities);
    ADD("heard/domstats", test_domstats);
    return g_test_run();
}
