/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-client-common.h"

#include "util/error.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A running protection: each look at it finds it further. */
static JsonObject *fake_status(RpcFixture *f, const char *domain, GError **error)
{
    static const char *const states[] = {"preparing", "syncing", "syncing", "protected"};
    int n = MIN(f->status_calls, 3);

    f->status_calls++;
    if (strcmp(domain, "broken") == 0 && n == 2)
        return colo_json_build("name", "s", domain, "state", "s", "unprotected", "error", "s",
                               "disk vda cannot be replicated", NULL);
    if (strcmp(domain, "slow") == 0)
        n = 1;
    if (strcmp(domain, "none") == 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN, "no domain 'none'");
        return NULL;
    }
    return colo_json_build(
        "name", "s", domain, "state", "s", states[n], "role", "s", "primary", "generation", "u",
        UINT64_C(5), "checkpoint-mode", "s", "periodic", "checkpoint-mode-reason", "s",
        "set by colo-tune", "disks", "o",
        json_tokener_parse("[{\"size\":100,\"copied\":50},{\"size\":60,\"copied\":60}]"), "memory",
        "o", json_tokener_parse("{\"total\":1000,\"remaining\":250}"), NULL);
}

JsonObject *rpc_fixture_dispatch(const ColoRpcCaller *caller, const char *command, JsonObject *args,
                                 void *opaque, GError **error)
{
    RpcFixture *f = opaque;
    const char *domain = colo_json_peek_string(args, "domain", "");

    f->caller = *caller;
    if (strcmp(command, "colo-status") == 0)
        return fake_status(f, domain, error);
    if (strcmp(command, "colo-checkpoint") == 0) {
        g_mutex_lock(&f->lock);
        f->running++;
        f->most_running = MAX(f->most_running, f->running);
        g_cond_broadcast(&f->changed);
        while (!f->released)
            g_cond_wait(&f->changed, &f->lock);
        f->running--;
        g_mutex_unlock(&f->lock);
    }
    if (strcmp(command, "colo-switchover") == 0) /* a broken dispatcher */
        return NULL;
    if (strcmp(command, "colo-stats") == 0) {
        g_autofree char *huge = g_strnfill(COLO_RPC_JSON_MAX, 'x');

        return colo_json_build("name", "s", huge, NULL);
    }
    return colo_json_build("command", "s", command, "args", "o", json_object_get(args), NULL);
}

void rpc_fixture_setup(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    int fd;

    g_mutex_init(&f->lock);
    g_cond_init(&f->changed);
    f->dir = g_dir_make_tmp("colo-rpc-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "sock", NULL);
    f->uri = g_strdup_printf("colo:///system?socket=%s", f->path);
    fd = colo_rpc_listen(f->path, NULL, &error);
    g_assert_no_error(error);
    f->server = colo_rpc_server_new(fd, rpc_fixture_dispatch, f, &error);
    g_assert_no_error(error);
}

void rpc_fixture_release(RpcFixture *f)
{
    g_mutex_lock(&f->lock);
    f->released = TRUE;
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
}

void rpc_fixture_teardown(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    rpc_fixture_release(f);
    colo_rpc_server_free(f->server);
    g_unlink(f->path);
    g_rmdir(f->dir);
    g_free(f->dir);
    g_free(f->path);
    g_free(f->uri);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->changed);
}

ColoConnect *rpc_fixture_open(RpcFixture *f)
{
    ColoError error = COLO_ERROR_INIT;
    ColoConnect *conn = colo_connect_open(f->uri, &error);

    g_assert_cmpstr(error.message, ==, NULL);
    g_assert_nonnull(conn);
    return conn;
}

int rpc_raw_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

/* The next frame from @fd; NULL when the server closed it. Fails after DEADLINE_MS. */
ColoRpcFrame *rpc_raw_read(int fd, ColoRpcReader *reader)
{
    for (;;) {
        ColoRpcFrame *frame = colo_rpc_reader_next(reader, NULL);
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        uint8_t buffer[4096];
        ssize_t n;

        if (frame)
            return frame;
        g_assert_cmpint(poll(&waiting, 1, DEADLINE_MS), ==, 1);
        n = recv(fd, buffer, sizeof(buffer), 0);
        if (n <= 0)
            return NULL;
        colo_rpc_reader_feed(reader, buffer, (size_t)n);
    }
}

/* The server still serves new and old clients. */
void rpc_assert_server_lives(RpcFixture *f)
{
    ColoConnect *conn = rpc_fixture_open(f);
    char *result = NULL;

    g_assert_cmpint(colo_connect_command(conn, "colo-list", NULL, &result, NULL), ==, 0);
    g_assert_nonnull(strstr(result, "colo-list"));
    colo_free(result);
    colo_connect_close(conn);
}
