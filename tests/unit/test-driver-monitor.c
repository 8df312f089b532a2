/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Door 2: QEMU monitor commands that are ours, and those that are not. */
#include "driver-fixture.h"
#include "util/bytes.h"

#include <string.h>

static uint32_t asked; /* the procedure by which libvirt was asked whether the client may */

/* Of the domain with DRIVER_UUID, by that name or another. */
static ColoRpcFrame *monitor_call_named(const char *name, const char *text, uint32_t flags)
{
    GByteArray *body = g_byte_array_new();

    driver_put_text(body, name);
    g_byte_array_append(body, driver_uuid, sizeof(driver_uuid));
    driver_put_word(body, 3);
    driver_put_text(body, text);
    driver_put_word(body, flags);
    return driver_frame(COLO_REMOTE_QEMU_PROGRAM, COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND,
                        COLO_RPC_CALL, body);
}

static ColoRpcFrame *monitor_call(const char *text, uint32_t flags)
{
    return monitor_call_named("ft", text, flags);
}

static char *ask_named(DriverFixture *f, const char *name, const char *text, uint32_t flags)
{
    g_autoptr(ColoRpcFrame) call = monitor_call_named(name, text, flags);
    g_autoptr(GByteArray) none = NULL, answer = NULL;

    g_assert_cmpint(driver_calls(f, call, NULL, &none), ==, COLO_RELAY_WORK);
    g_assert_cmpuint(colo_get32(none->data), ==, none->len); /* what libvirt is asked */
    asked = colo_get32(none->data + 12);
    answer = f->relay->work(call, f->relay->opaque);
    g_assert_cmpuint(colo_get32(answer->data + 24), ==, COLO_RPC_OK);
    return g_strndup((const char *)answer->data + COLO_RPC_HEADER_BYTES + 4,
                     colo_get32(answer->data + COLO_RPC_HEADER_BYTES));
}

static char *ask(DriverFixture *f, const char *text, uint32_t flags)
{
    return ask_named(f, "ft", text, flags);
}

static void test_qmp(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *status = ask(f, " {\"execute\": \"colo-status\", \"id\": 9}", 0);
    g_autoptr(JsonObject) answer = colo_json_parse(status, strlen(status), NULL);
    g_autofree char *refused = NULL, *unknown = NULL, *wrong = NULL, *events = NULL;
    g_autofree char *other = NULL, *pairs = NULL;

    g_assert_cmpstr(colo_json_peek_string(colo_json_peek(answer, "return"), "state", ""), ==,
                    "protected");
    g_assert_cmpuint(colo_json_peek_uint(answer, "id", 0), ==, 9);
    g_assert_nonnull(strstr(f->host.command, "colo-status"));
    g_assert_nonnull(strstr(f->host.command, "\"" DRIVER_UUID "\""));
    refused = ask(
        f, "{\"execute\":\"colo-checkpoint\",\"arguments\":{\"domain\":\"" DRIVER_UUID "\"}}", 0);
    g_assert_nonnull(strstr(refused, "not now"));
    g_assert_cmpuint(asked, ==, COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME); /* domain:write */
    g_clear_pointer(&f->host.command, g_free);
    other = ask(f, "{\"execute\":\"colo-checkpoint\",\"arguments\":{\"domain\":\"other\"}}", 0);
    g_assert_nonnull(strstr(other, "about domain 'other'"));
    g_assert_null(f->host.command);
    pairs = ask(f, "{\"execute\":\"colo-pair-list\"}", 0);
    /* connect:write */
    g_assert_cmpuint(asked, ==, COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES);
    unknown = ask(f, "{\"execute\":\"colo-nonsense\"}", 0);
    g_assert_nonnull(strstr(unknown, "there is no command 'colo-nonsense'"));
    wrong = ask(f, "{\"execute\":\"colo-status\",\"arguments\":[1]}", 0);
    g_assert_nonnull(strstr(wrong, "is no object"));
    events = ask(f, "{\"execute\":\"colo-events\"}", 0);
    g_assert_nonnull(strstr(events, "GenericError"));
}

/* The right is asked for the DRIVER_UUID: a call that driver_says another name beside it gets no
 * other domain. */
static void test_uuid_decides(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *answer = ask_named(f, "other", "{\"execute\":\"colo-status\"}", 0);
    g_autofree char *given = NULL;

    g_assert_nonnull(answer);
    g_assert_null(strstr(f->host.command, "other"));
    g_assert_nonnull(strstr(f->host.command, "\"" DRIVER_UUID "\""));
    given = ask_named(f, "other",
                      "{\"execute\":\"colo-status\",\"arguments\":{\"domain\":\"other\"}}", 0);
    g_assert_null(strstr(f->host.command, "other"));
}

static void test_hmp(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const uint32_t hmp = 1; /* VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP */
    g_autofree char *status = ask(f, "colo-status", hmp), *wrong = NULL, *discard = NULL;

    g_assert_cmpstr(status, ==, "state: protected\r\npause-ms.max: 7\r\n");
    wrong = ask(f, "colo-status speed=3", hmp);
    g_assert_true(g_str_has_prefix(wrong, "Error: colo-status: 'speed=3'"));
    discard = ask(f, "colo-failover  i-am-sure discard=true", hmp);
    g_assert_nonnull(strstr(f->host.command, "\"i-am-sure\":true"));
    g_assert_nonnull(strstr(f->host.command, "\"discard\":true"));
}

static void test_qemus_own_commands_pass(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    driver_assert_passes(f, monitor_call("{\"execute\":\"query-status\"}", 0));
    driver_assert_passes(
        f, monitor_call("{\"execute\":\"x\",\"arguments\":{\"a\":\"colo-status\"}}", 0));
    driver_assert_passes(f, monitor_call("colo-status", 0)); /* no JSON: QEMU driver_says so */
    driver_assert_passes(f, monitor_call("info status", 1));
}

/* The QEMU of a copy is nobody's but COLO's. */
static void test_copys_qemu(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->host.role = "secondary";
    REFUSED(monitor_call("{\"execute\":\"quit\"}", 0), "the copy");
}

/* Nothing is protected in a session: its QEMUs do not hear of us. */
static void test_session(DriverFixture *f G_GNUC_UNUSED, gconstpointer data G_GNUC_UNUSED)
{
    const ColoRelayDriver *session = colo_driver_of_session();
    g_autoptr(ColoRpcFrame) ours = monitor_call("{\"execute\":\"colo-status\",\"id\":4}", 0);
    g_autoptr(ColoRpcFrame) hmp = monitor_call("colo-status", 1);
    g_autoptr(ColoRpcFrame) qemus = monitor_call("{\"execute\":\"query-status\"}", 0);
    g_autoptr(ColoRpcFrame) suspend = driver_domain_call(driver_number_of("DOMAIN_SUSPEND"), "ft");
    g_autoptr(GByteArray) answer = NULL, line = NULL, question = NULL;

    g_assert_cmpint(session->call(ours, &answer, &question, NULL), ==, COLO_RELAY_ANSWER);
    g_assert_true(driver_says(answer, "use colo:///system"));
    g_assert_true(driver_says(answer, "\"id\":4"));
    g_assert_cmpint(session->call(hmp, &line, &question, NULL), ==, COLO_RELAY_ANSWER);
    g_assert_true(driver_says(line, "Error: colo-status: domains of a session"));
    g_assert_cmpint(session->call(qemus, NULL, &question, NULL), ==, COLO_RELAY_PASS);
    g_assert_cmpint(session->call(suspend, NULL, &question, NULL), ==, COLO_RELAY_PASS);
    g_assert_null(question);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/driver/" name, DriverFixture, NULL, driver_setup, function, driver_teardown)
    ADD("door-2/qmp", test_qmp);
    ADD("door-2/uuid-decides", test_uuid_decides);
    ADD("door-2/hmp", test_hmp);
    ADD("door-2/qemus-own", test_qemus_own_commands_pass);
    ADD("door-2/copys-qemu", test_copys_qemu);
    ADD("door-2/session", test_session);
    return g_test_run();
}
