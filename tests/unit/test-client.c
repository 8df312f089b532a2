/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client library against the real server with a fake dispatcher. */
#include "test-client-common.h"

#include <string.h>
#include <unistd.h>

static void test_command_and_result(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = rpc_fixture_open(f);
    ColoError error = COLO_ERROR_INIT;
    char *result = NULL;

    g_assert_true(g_str_has_prefix(colo_connect_get_server(conn), "virtcolod "));
    g_assert_cmpint(
        colo_connect_command(conn, "colo-unprotect", "{\"domain\":\"w\xc3\xa4\"}", &result, &error),
        ==, 0);
    g_assert_cmpstr(result, ==,
                    "{\"command\":\"colo-unprotect\",\"args\":{\"domain\":\"w\xc3\xa4\"}}");
    g_assert_cmpint(f->caller.pid, ==, getpid());
    g_assert_cmpint(f->caller.uid, ==, geteuid());
    colo_free(result);
    colo_connect_close(conn);
}

static void test_errors_reach_the_client(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = rpc_fixture_open(f);
    ColoError error = COLO_ERROR_INIT;

    g_assert_null(colo_domain_get_status(conn, "none", &error));
    g_assert_cmpint(error.number, ==, COLO_ERR_NO_DOMAIN);
    g_assert_cmpint(error.libvirt_code, ==, 42);
    g_assert_cmpstr(error.message, ==, "no domain 'none'");
    /* Refused before it is sent. */
    g_assert_cmpint(colo_connect_command(conn, "colo-status", "{}", NULL, &error), ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_INVALID_ARG);
    g_assert_cmpint(colo_connect_command(conn, "colo-status", "[", NULL, &error), ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_INVALID_ARG);
    /* Faults of the dispatcher. */
    g_assert_cmpint(
        colo_connect_command(conn, "colo-switchover", "{\"domain\":\"x\"}", NULL, &error), ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_INTERNAL);
    g_assert_cmpint(colo_connect_command(conn, "colo-stats", "{\"domain\":\"x\"}", NULL, &error),
                    ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_RESOURCE);
    /* And the connection goes on. */
    g_assert_cmpint(colo_connect_command(conn, "colo-list", NULL, NULL, &error), ==, 0);
    colo_error_reset(&error);
    colo_connect_close(conn);
}

static void test_typed_status(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = rpc_fixture_open(f);
    ColoDomainStatus *status = colo_domain_get_status(conn, "web1", NULL);

    g_assert_nonnull(status);
    g_assert_cmpstr(status->name, ==, "web1");
    g_assert_cmpstr(status->error, ==, "");
    g_assert_cmpstr(status->checkpoint_mode, ==, "periodic");
    g_assert_cmpstr(status->checkpoint_mode_reason, ==, "set by colo-tune");
    g_assert_cmpint(status->state, ==, COLO_STATE_PREPARING);
    g_assert_cmpuint(status->generation, ==, 5);
    g_assert_cmpuint(status->disk_total, ==, 160);
    g_assert_cmpuint(status->disk_copied, ==, 110);
    g_assert_cmpuint(status->memory_copied, ==, 750);
    colo_domain_status_free(status);
    colo_connect_close(conn);
}

static int count_progress(const ColoDomainStatus *status G_GNUC_UNUSED, void *opaque)
{
    return ++*(int *)opaque == 100;
}

static int stop_at_once(const ColoDomainStatus *status G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    return 1;
}

static void test_wait_for_protection(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = rpc_fixture_open(f);
    ColoError error = COLO_ERROR_INIT;
    int seen = 0;

    g_assert_cmpint(colo_domain_protect(conn, "web1", "ab", &error), ==, 0);
    g_assert_cmpint(
        colo_domain_protect_wait(conn, "web1", DEADLINE_MS, count_progress, &seen, &error), ==, 0);
    g_assert_cmpint(seen, ==, 4);

    f->status_calls = 0;
    g_assert_cmpint(colo_domain_protect_wait(conn, "broken", 0, NULL, NULL, &error), ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_OPERATION_FAILED);
    g_assert_cmpstr(error.message, ==, "disk vda cannot be replicated");
    g_assert_cmpint(colo_domain_protect_wait(conn, "slow", 250, NULL, NULL, &error), ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_TIMEOUT);
    g_assert_cmpint(colo_domain_protect_wait(conn, "slow", 0, stop_at_once, NULL, &error), ==, 1);
    g_assert_cmpint(colo_domain_protect_wait(conn, "none", 0, NULL, NULL, &error), ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_NO_DOMAIN);
    colo_error_reset(&error);
    colo_connect_close(conn);
}

static void test_nobody_listens(void)
{
    ColoError error = COLO_ERROR_INIT;

    g_assert_null(colo_connect_open("colo:///system?socket=/nonexistent/sock", &error));
    g_assert_cmpint(error.number, ==, COLO_ERR_PEER);
    g_assert_nonnull(strstr(error.message, "/nonexistent/sock"));
    colo_error_reset(&error);
}

static void test_uris_that_are_not_ours(void)
{
    static const char *const bad[] = {
        "qemu:///system",  "colo:///session", "colo://host/system", "colo+ssh://host/system", "::",
        "colo:///system/x"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        ColoError error = COLO_ERROR_INIT;

        g_assert_null(colo_connect_open(bad[i], &error));
        g_assert_cmpint(error.number, ==, COLO_ERR_INVALID_ARG);
        g_assert_nonnull(strstr(error.message, bad[i]));
        colo_error_reset(&error);
    }
}

static void test_socket_from_environment(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn;

    /* The server's threads read no environment. */
    g_setenv("COLO_SOCKET", f->path, TRUE);
    conn = colo_connect_open(NULL, NULL);
    g_assert_nonnull(conn);
    colo_connect_close(conn);
    conn = colo_connect_open("colo:///system", NULL);
    g_assert_nonnull(conn);
    colo_connect_close(conn);
    g_unsetenv("COLO_SOCKET");
}

typedef struct {
    int n;
    char last[64];
} Seen;

static void on_event(ColoConnect *conn G_GNUC_UNUSED, const char *event, void *opaque)
{
    Seen *seen = opaque;

    seen->n++;
    g_strlcpy(seen->last, event, sizeof(seen->last));
}

static void test_events_reach_subscribers_only(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(JsonObject) event = colo_json_build("event", "s", "state", NULL);
    ColoConnect *listener = rpc_fixture_open(f);
    ColoConnect *other = rpc_fixture_open(f);
    Seen seen = {0}, none = {0};

    g_assert_cmpint(colo_connect_event_set_callback(listener, on_event, &seen, NULL), ==, 0);
    g_assert_cmpint(colo_connect_event_set_callback(other, on_event, &none, NULL), ==, 0);
    g_assert_cmpint(colo_connect_event_set_callback(other, NULL, NULL, NULL), ==, 0);
    for (int i = 0; i < 3; i++)
        colo_rpc_server_emit(f->server, event);
    while (seen.n < 3)
        g_assert_cmpint(colo_connect_event_dispatch(listener, DEADLINE_MS, NULL), >, 0);
    g_assert_cmpint(seen.n, ==, 3);
    g_assert_cmpstr(seen.last, ==, "{\"event\":\"state\"}");
    /* Events before a reply wait until they are asked for. */
    colo_rpc_server_emit(f->server, event);
    g_assert_cmpint(colo_connect_command(listener, "colo-list", NULL, NULL, NULL), ==, 0);
    g_assert_cmpint(colo_connect_event_dispatch(listener, DEADLINE_MS, NULL), ==, 1);
    g_assert_cmpint(seen.n, ==, 4);
    /* The other's answer comes after whatever was sent before it. */
    g_assert_cmpint(colo_connect_command(other, "colo-list", NULL, NULL, NULL), ==, 0);
    g_assert_cmpint(colo_connect_event_dispatch(other, 0, NULL), ==, 0);
    g_assert_cmpint(none.n, ==, 0);
    colo_connect_close(listener);
    colo_connect_close(other);
}

#define ADD(name, func) \
    g_test_add("/client/" name, RpcFixture, NULL, rpc_fixture_setup, func, rpc_fixture_teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("command-and-result", test_command_and_result);
    ADD("errors", test_errors_reach_the_client);
    ADD("typed-status", test_typed_status);
    ADD("wait-for-protection", test_wait_for_protection);
    g_test_add_func("/client/nobody-listens", test_nobody_listens);
    g_test_add_func("/client/foreign-uris", test_uris_that_are_not_ours);
    ADD("socket-from-environment", test_socket_from_environment);
    ADD("events", test_events_reach_subscribers_only);
    return g_test_run();
}
