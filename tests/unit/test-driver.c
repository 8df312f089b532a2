/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What colo:/// changes in libvirt's calls: refusals, door 2, what is hidden; and that all else
 * passes. */
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
} Fixture;

static JsonObject *view(const char *uuid_or_name, void *opaque)
{
    const Fixture *f = opaque;

    if (!f->state || (strcmp(uuid_or_name, UUID) != 0 && strcmp(uuid_or_name, "ft") != 0))
        return NULL;
    return colo_json_build("name", "s", "ft", "state", "s", f->state, "role", "s", f->role, "peer",
                           "s", "host2", "pair", "s", "ab", NULL);
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
    return colo_json_build("state", "s", "protected", "pause-ms", "o",
                           colo_json_build("max", "u", (uint64_t)7, NULL), NULL);
}

static void setup(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    *f = (Fixture){.state = "protected", .role = "primary"};
    f->driver =
        colo_driver_new("host1", &(ColoDriverHost){.view = view, .command = command, .opaque = f});
    f->relay = colo_driver_relay(f->driver);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    colo_driver_free(f->driver);
    g_free(f->command);
    g_free(f->asked);
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
        if (colo_policy_rows[i].action != COLO_ACTION_PASS)
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
    REFUSED(domain_call(number_of("DOMAIN_SUSPEND"), "ft"), "cannot be paused", "colo-unprotect");
    REFUSED(domain_call(number_of("DOMAIN_MIGRATE_PERFORM3_PARAMS"), "ft"), "cannot be migrated",
            "virsh-colo colo-switchover ft");
    REFUSED(domain_call(number_of("DOMAIN_BLOCK_JOB_ABORT"), "ft"), "block jobs");
    REFUSED(domain_call(number_of("DOMAIN_UNDEFINE_FLAGS"), "ft"), "undefined");
    REFUSED(domain_call(number_of("DOMAIN_SET_AUTOSTART"), "ft"), "autostart");
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

static void test_copy(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->role = "secondary";
    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        const ColoPolicyRow *row = &colo_policy_rows[i];

        if (row->action != COLO_ACTION_PASS && row->object == COLO_OBJECT_DOMAIN)
            REFUSED(domain_call(row->procedure, "ft"), "the copy of the guest that runs on host2",
                    "colo+ssh://host2/system");
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

    if (procedure == COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE)
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
    g_autoptr(GByteArray) answer = NULL, none = NULL, later = NULL;
    g_autoptr(ColoRpcFrame) said = stats_frame(FALSE);
    const size_t domain = 4 + 4 + 16 + 4; /* "ft" */

    g_assert_cmpint(f->relay->heard(said, &answer, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data), ==, answer->len);
    /* state, role, pair, peer and three numbers; the fixture says nothing of control. */
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES + 4 + domain), ==, 3 + 7);
    g_assert_true(says(answer, "colo.state"));
    g_assert_true(says(answer, "colo.checkpoints"));
    g_assert_true(says(answer, "block.0.name"));
    f->state = "unprotected";
    g_assert_cmpint(hears(f, stats_frame(FALSE), &none), ==, COLO_RELAY_PASS);
    f->state = "protected";
    g_assert_cmpint(hears(f, stats_frame(TRUE), &later), ==, COLO_RELAY_PASS);
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
    ADD("refused/truncated", test_truncated);
    ADD("door-2/qmp", test_qmp);
    ADD("door-2/uuid-decides", test_uuid_decides);
    ADD("door-2/hmp", test_hmp);
    ADD("door-2/qemus-own", test_qemus_own_commands_pass);
    ADD("heard/checkpoints", test_checkpoints_are_not_told);
    ADD("heard/copy-not-listed", test_copy_is_not_listed);
    ADD("heard/domstats", test_domstats);
    return g_test_run();
}
