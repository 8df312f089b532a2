/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may only look hears of door 1 what libvirt would let him see: the test is libvirt. */
#include "relay-fixture.h"
#include "rpc/judge.h"
#include "rpc/xdr-put.h"
#include "util/bytes.h"
#include "util/error.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UUID_A "c0100000-0000-4000-8000-0000000000aa"
#define UUID_B "c0100000-0000-4000-8000-0000000000bb"
#define ACCESS_DENIED 88u
#define OPERATION_DENIED 29u
#define NO_DOMAIN 42u

/* What a worker of the server does for a client's command. */
typedef struct {
    ColoRpcServer *server;
    const char *command, *domain; /* NULL: about none */
    JsonObject *args, *result;    /* args NULL: it may not be run */
    GError *error;
    GThread *thread;
} Asking;

static gpointer ask(gpointer data)
{
    Asking *asking = data;
    const ColoRpcCaller caller = {.pid = getpid(), .uid = 12345, .gid = 12345, .looks = TRUE};
    g_autoptr(JsonObject) args = json_object_new_object();
    g_autoptr(ColoRpcJudge) judge = NULL;

    g_assert_true(colo_rpc_judge_is_needed(&caller));
    if (asking->domain)
        colo_json_add(args, "domain", "s", asking->domain, NULL);
    judge = colo_rpc_judge_new(asking->server, &caller, &asking->error);
    if (!judge)
        return NULL;
    asking->args = colo_rpc_judge_command(judge, asking->command, args, &asking->error);
    if (asking->args && asking->result)
        colo_rpc_judge_result(judge, asking->result);
    return NULL;
}

static void begin(RelayFixture *f, Asking *asking)
{
    asking->server = f->server;
    asking->thread = g_thread_new("asking", ask, asking);
    g_assert_true(relay_readable(f->libvirt, RELAY_WAIT_MS));
    f->upstream = accept(f->libvirt, NULL, NULL);
}

/* libvirt's answer to the next call: @body (freed), or with @code an error. Returns the call. */
static ColoRpcFrame *answer(RelayFixture *f, uint32_t procedure, GByteArray *body, uint32_t code)
{
    ColoRpcFrame *call = relay_hear(f->upstream, f->upstream_reader);
    g_autoptr(GByteArray) reply = NULL;

    g_assert_cmpuint(call->header.procedure, ==, procedure);
    reply = code ? colo_remote_error(&call->header, (int)code, "libvirt says no")
                 : colo_remote_reply(&call->header, body ? body->data : NULL, body ? body->len : 0);
    relay_send_all(f->upstream, reply->data, reply->len);
    if (body)
        g_byte_array_unref(body);
    return call;
}

static void let_open(RelayFixture *f, gboolean denied)
{
    g_autoptr(ColoRpcFrame) identity = NULL, list = NULL, open = NULL;
    GByteArray *none = g_byte_array_new();

    colo_xdr_put32(none, 0);
    list = answer(f, COLO_REMOTE_PROC_AUTH_LIST, none, 0);
    open = answer(f, COLO_REMOTE_PROC_CONNECT_OPEN, NULL, 0);
    g_assert_true(relay_holds(open, "qemu:///system"));
    identity = relay_hear(f->upstream, f->upstream_reader);
    g_assert_true(relay_holds(identity, "unix-user-id"));
    relay_take_identity(f, identity, denied);
}

static JsonObject *two_domains(void)
{
    JsonObject *list = json_object_new_array();

    json_object_array_add(list, colo_json_build("uuid", "s", UUID_A, NULL));
    json_object_array_add(list, colo_json_build("uuid", "s", UUID_B, NULL));
    return colo_json_build("domains", "o", list, NULL);
}

/* By the UUID that libvirt has for the name, whoever else has that name here. */
static void test_domain(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    Asking asking = {.command = "colo-status", .domain = "ft"};
    GByteArray *domain = g_byte_array_new();
    g_autoptr(ColoRpcFrame) lookup = NULL, state = NULL;

    begin(f, &asking);
    let_open(f, FALSE);
    colo_remote_put_domain(domain, "ft", UUID_A, 3);
    lookup = answer(f, COLO_REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME, domain, 0);
    g_assert_true(relay_holds(lookup, "ft"));
    state = answer(f, COLO_REMOTE_PROC_DOMAIN_GET_STATE, NULL, 0);
    g_thread_join(asking.thread);
    g_assert_no_error(asking.error);
    g_assert_cmpstr(colo_json_peek_string(asking.args, "domain", ""), ==, UUID_A);
    json_object_put(asking.args);
}

static void test_domain_denied(RelayFixture *f, gconstpointer data)
{
    gboolean unknown = data != NULL;
    int code = unknown ? COLO_ERROR_NO_DOMAIN : COLO_ERROR_AUTH;
    Asking asking = {.command = "colo-status", .domain = unknown ? "ft" : UUID_A};
    g_autoptr(ColoRpcFrame) call = NULL;

    begin(f, &asking);
    let_open(f, FALSE);
    call = unknown ? answer(f, COLO_REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME, NULL, NO_DOMAIN)
                   : answer(f, COLO_REMOTE_PROC_DOMAIN_GET_STATE, NULL, ACCESS_DENIED);
    g_thread_join(asking.thread);
    g_assert_error(asking.error, COLO_ERROR, code);
    g_assert_nonnull(strstr(asking.error->message, "libvirt says no"));
    g_assert_null(asking.args);
    g_clear_error(&asking.error);
}

static void test_list(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    Asking asking = {.command = "colo-list", .result = two_domains()};
    g_autoptr(ColoRpcFrame) second = NULL, first = NULL;
    JsonObject *rows;

    begin(f, &asking);
    let_open(f, FALSE);
    second = answer(f, COLO_REMOTE_PROC_DOMAIN_GET_STATE, NULL, ACCESS_DENIED);
    first = answer(f, COLO_REMOTE_PROC_DOMAIN_GET_STATE, NULL, 0);
    g_thread_join(asking.thread);
    g_assert_no_error(asking.error);
    rows = colo_json_peek(asking.result, "domains");
    g_assert_cmpuint(json_object_array_length(rows), ==, 1);
    g_assert_cmpstr(colo_json_peek_string(json_object_array_get_idx(rows, 0), "uuid", ""), ==,
                    UUID_A);
    json_object_put(asking.args);
    json_object_put(asking.result);
}

/* Of the whole host hears who may change it. */
static void test_host(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    Asking asking = {.command = "colo-doctor"};
    g_autoptr(ColoRpcFrame) call = NULL;

    begin(f, &asking);
    let_open(f, FALSE);
    call = answer(f, COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES, NULL, OPERATION_DENIED);
    g_thread_join(asking.thread);
    g_assert_error(asking.error, COLO_ERROR, COLO_ERROR_AUTH);
    g_assert_null(asking.args);
    g_clear_error(&asking.error);
}

static void test_not_let_in(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    Asking asking = {.command = "colo-pair-list"};

    begin(f, &asking);
    let_open(f, TRUE);
    g_thread_join(asking.thread);
    g_assert_error(asking.error, COLO_ERROR, COLO_ERROR_AUTH);
    g_assert_null(asking.args);
    g_clear_error(&asking.error);
}

/* Nobody is there who could say yes. */
static void test_libvirt_goes(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    Asking asking = {.command = "colo-pair-list"};

    begin(f, &asking);
    close(f->upstream);
    f->upstream = -1;
    g_thread_join(asking.thread);
    g_assert_error(asking.error, COLO_ERROR, COLO_ERROR_AUTH);
    g_assert_nonnull(strstr(asking.error->message, "does not answer"));
    g_clear_error(&asking.error);
}

static void setup(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_setup(f, NULL, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function, data) \
    g_test_add("/judge/" name, RelayFixture, data, setup, function, relay_teardown)
    ADD("domain", test_domain, NULL);
    ADD("domain-denied", test_domain_denied, NULL);
    ADD("domain-unknown", test_domain_denied, "unknown");
    ADD("list", test_list, NULL);
    ADD("host", test_host, NULL);
    ADD("not-let-in", test_not_let_in, NULL);
    ADD("libvirt-goes", test_libvirt_goes, NULL);
    return g_test_run();
}
