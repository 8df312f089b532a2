/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server on a socket of its own, with a fake dispatcher, and the client library against it. */
#include <config.h>

#include "libvirt-colo/libvirt-colo.h"
#include "rpc/message.h"
#include "rpc/server.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS 10000

typedef struct {
    char *dir, *path, *uri;
    ColoRpcServer *server;
    GMutex lock;
    GCond changed;
    int running;       /* dispatches inside "colo-checkpoint" */
    int most_running;
    gboolean released; /* they may go on */
    int status_calls;
    ColoRpcCaller caller;
} Fixture;

/* A running protection: each look at it finds it further. */
static JsonObject *fake_status(Fixture *f, const char *domain, GError **error)
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
        UINT64_C(5), "disks", "o",
        json_tokener_parse("[{\"size\":100,\"copied\":50},{\"size\":60,\"copied\":60}]"), "memory",
        "o", json_tokener_parse("{\"total\":1000,\"remaining\":250}"), NULL);
}

static JsonObject *dispatch(const ColoRpcCaller *caller, const char *command, JsonObject *args,
                            void *opaque, GError **error)
{
    Fixture *f = opaque;
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

static void setup(Fixture *f, gconstpointer data G_GNUC_UNUSED)
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
    f->server = colo_rpc_server_new(fd, dispatch, f, &error);
    g_assert_no_error(error);
}

static void release_all(Fixture *f)
{
    g_mutex_lock(&f->lock);
    f->released = TRUE;
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    release_all(f);
    colo_rpc_server_free(f->server);
    g_unlink(f->path);
    g_rmdir(f->dir);
    g_free(f->dir);
    g_free(f->path);
    g_free(f->uri);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->changed);
}

static ColoConnect *open_client(Fixture *f)
{
    ColoError error = COLO_ERROR_INIT;
    ColoConnect *conn = colo_connect_open(f->uri, &error);

    g_assert_cmpstr(error.message, ==, NULL);
    g_assert_nonnull(conn);
    return conn;
}

static int raw_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

/* The next frame from @fd; NULL when the server closed it. Fails after DEADLINE_MS. */
static ColoRpcFrame *raw_read(int fd, ColoRpcReader *reader)
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
static void assert_server_lives(Fixture *f)
{
    ColoConnect *conn = open_client(f);
    char *result = NULL;

    g_assert_cmpint(colo_connect_command(conn, "colo-list", NULL, &result, NULL), ==, 0);
    g_assert_nonnull(strstr(result, "colo-list"));
    colo_free(result);
    colo_connect_close(conn);
}

static void test_command_and_result(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = open_client(f);
    ColoError error = COLO_ERROR_INIT;
    char *result = NULL;

    g_assert_true(g_str_has_prefix(colo_connect_get_server(conn), "virtcolod "));
    g_assert_cmpint(colo_connect_command(conn, "colo-unprotect", "{\"domain\":\"w\xc3\xa4\"}",
                                         &result, &error),
                    ==, 0);
    g_assert_cmpstr(result, ==,
                    "{\"command\":\"colo-unprotect\",\"args\":{\"domain\":\"w\xc3\xa4\"}}");
    g_assert_cmpint(f->caller.pid, ==, getpid());
    g_assert_cmpint(f->caller.uid, ==, geteuid());
    colo_free(result);
    colo_connect_close(conn);
}

static void test_errors_reach_the_client(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = open_client(f);
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
    g_assert_cmpint(colo_connect_command(conn, "colo-switchover", "{\"domain\":\"x\"}", NULL,
                                         &error),
                    ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_INTERNAL);
    g_assert_cmpint(colo_connect_command(conn, "colo-stats", "{\"domain\":\"x\"}", NULL, &error),
                    ==, -1);
    g_assert_cmpint(error.number, ==, COLO_ERR_RESOURCE);
    /* And the connection goes on. */
    g_assert_cmpint(colo_connect_command(conn, "colo-list", NULL, NULL, &error), ==, 0);
    colo_error_reset(&error);
    colo_connect_close(conn);
}

static void test_typed_status(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = open_client(f);
    ColoDomainStatus *status = colo_domain_get_status(conn, "web1", NULL);

    g_assert_nonnull(status);
    g_assert_cmpstr(status->name, ==, "web1");
    g_assert_cmpstr(status->error, ==, "");
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

static void test_wait_for_protection(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoConnect *conn = open_client(f);
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
    static const char *const bad[] = {"qemu:///system", "colo:///session", "colo://host/system",
                                      "colo+ssh://host/system", "::", "colo:///system/x"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        ColoError error = COLO_ERROR_INIT;

        g_assert_null(colo_connect_open(bad[i], &error));
        g_assert_cmpint(error.number, ==, COLO_ERR_INVALID_ARG);
        g_assert_nonnull(strstr(error.message, bad[i]));
        colo_error_reset(&error);
    }
}

static void test_socket_from_environment(Fixture *f, gconstpointer data G_GNUC_UNUSED)
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

static void test_events_reach_subscribers_only(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(JsonObject) event = colo_json_build("event", "s", "state", NULL);
    ColoConnect *listener = open_client(f);
    ColoConnect *other = open_client(f);
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

static void send_header(int fd, uint32_t length, uint32_t program, uint32_t procedure,
                        uint32_t type)
{
    ColoRpcHeader header = {.program = program,
                            .version = COLO_RPC_VERSION,
                            .procedure = procedure,
                            .type = type,
                            .serial = 9};
    uint8_t bytes[COLO_RPC_HEADER_BYTES];

    colo_rpc_header_encode(&header, length - COLO_RPC_HEADER_BYTES, bytes);
    g_assert_cmpint(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), ==, sizeof(bytes));
}

/* What is written to standard error while @func runs, to be freed. */
static char *capture_log(void (*func)(Fixture *), Fixture *f)
{
    g_autofree char *name = g_build_filename(f->dir, "log", NULL);
    int saved = dup(STDERR_FILENO);
    int file = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    char *text = NULL;

    dup2(file, STDERR_FILENO);
    func(f);
    dup2(saved, STDERR_FILENO);
    close(file);
    close(saved);
    g_assert_true(g_file_get_contents(name, &text, NULL, NULL));
    g_unlink(name);
    return text;
}

static void send_malformed(Fixture *f)
{
    static const struct {
        uint32_t length, program, procedure, type;
    } bad[] = {
        {33u * 1024 * 1024, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_CALL},
        {33u * 1024 * 1024, 0x20008086, 1, COLO_RPC_CALL},
        {UINT32_MAX, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_CALL},
        {0, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_CALL},
        {27, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_CALL},
        /* No body where one must be: bad XDR. */
        {COLO_RPC_HEADER_BYTES, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_CALL},
        {COLO_RPC_HEADER_BYTES, COLO_RPC_PROGRAM, COLO_RPC_PROC_HELLO, COLO_RPC_CALL},
        /* Not calls. */
        {COLO_RPC_HEADER_BYTES, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_REPLY},
        {COLO_RPC_HEADER_BYTES, 0x20008086, 1, COLO_RPC_CALL_WITH_FDS},
        {COLO_RPC_HEADER_BYTES, 0x20008086, 1, COLO_RPC_STREAM},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
        ColoRpcServerStats stats;
        int fd = raw_connect(f->path);

        send_header(fd, bad[i].length, bad[i].program, bad[i].procedure, bad[i].type);
        g_assert_null(raw_read(fd, reader));
        close(fd);
        colo_rpc_server_get_stats(f->server, &stats);
        g_assert_cmpuint(stats.malformed, ==, i + 1);
        assert_server_lives(f);
    }
}

static void test_malformed_frames_close_with_a_log_line(Fixture *f,
                                                        gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *log = capture_log(send_malformed, f);
    int lines = 0;

    for (const char *p = log; (p = strstr(p, " closed: RPC ")); p++)
        lines++;
    g_assert_cmpint(lines, ==, 10);
    g_assert_nonnull(strstr(log, "34603008 bytes is above the limit of"));
}

static void test_unknown_program_is_answered(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    ColoRpcServerStats stats;
    int fd = raw_connect(f->path);

    for (int i = 0; i < 2; i++) {
        g_autoptr(ColoRpcFrame) frame = NULL;

        send_header(fd, COLO_RPC_HEADER_BYTES, 0x20008086, 66, COLO_RPC_CALL);
        frame = raw_read(fd, reader);
        g_assert_nonnull(frame);
        g_assert_cmpuint(frame->header.program, ==, 0x20008086);
        g_assert_cmpuint(frame->header.serial, ==, 9);
        g_assert_cmpuint(frame->header.type, ==, COLO_RPC_REPLY);
        g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
    }
    close(fd);
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.unknown_program, ==, 2);
}

static void send_command(int fd, uint32_t serial, const char *name, const char *args, size_t len)
{
    ColoRpcHeader header = {.program = COLO_RPC_PROGRAM,
                            .version = COLO_RPC_VERSION,
                            .procedure = COLO_RPC_PROC_COMMAND,
                            .type = COLO_RPC_CALL,
                            .serial = serial};
    struct colo_rpc_command_args body = {.name = (char *)name};
    g_autoptr(GBytes) frame = NULL;
    size_t size;
    const char *bytes;

    body.args.args_val = (char *)args;
    body.args.args_len = (u_int)len;
    frame = colo_rpc_message_build(&header, (xdrproc_t)xdr_colo_rpc_command_args, &body, NULL);
    bytes = g_bytes_get_data(frame, &size);
    g_assert_cmpint(send(fd, bytes, size, MSG_NOSIGNAL), ==, size);
}

static void test_bad_requests_are_answered(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name, *args;
        size_t len;
    } bad[] = {
        {"colo-list", "{", 1},
        {"colo-list", "[]", 2},
        {"colo-list", "{}\0{}", 5},
        {"colo-list", "{\"a\":1}", 7},
        {"colo-nothing", "{}", 2},
        {"", "", 0},
        {"colo-events", "{}", 2},
        {"colo-status", "", 0},
    };
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    int fd = raw_connect(f->path);

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(ColoRpcFrame) frame = NULL;
        g_autoptr(GError) error = NULL;

        send_command(fd, (uint32_t)i, bad[i].name, bad[i].args, bad[i].len);
        frame = raw_read(fd, reader);
        g_assert_nonnull(frame);
        g_assert_cmpuint(frame->header.serial, ==, i);
        g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
        colo_rpc_error_decode(frame, &error);
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    send_header(fd, COLO_RPC_HEADER_BYTES, COLO_RPC_PROGRAM, 999, COLO_RPC_CALL);
    g_autoptr(ColoRpcFrame) frame = raw_read(fd, reader);
    g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
    close(fd);
}

static void wait_running(Fixture *f, int n)
{
    gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;

    g_mutex_lock(&f->lock);
    while (f->running < n)
        g_assert_true(g_cond_wait_until(&f->changed, &f->lock, end));
    g_mutex_unlock(&f->lock);
}

/* I8: neither more workers nor more requests of one client than the limits, and none is lost. */
static void test_requests_are_bounded_and_all_answered(Fixture *f,
                                                       gconstpointer data G_GNUC_UNUSED)
{
    enum { REQUESTS = COLO_RPC_MAX_PENDING + COLO_RPC_WORKERS };
    static const char args[] = "{\"domain\":\"x\"}";
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    gboolean answered[REQUESTS] = {FALSE};
    ColoRpcServerStats stats;
    int fd = raw_connect(f->path);

    for (uint32_t i = 0; i < REQUESTS; i++)
        send_command(fd, i, "colo-checkpoint", args, strlen(args));
    wait_running(f, COLO_RPC_WORKERS);
    g_usleep(50000); /* time in which more could start, were there no limit */
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.commands, ==, COLO_RPC_MAX_PENDING);
    release_all(f);
    for (int i = 0; i < REQUESTS; i++) {
        g_autoptr(ColoRpcFrame) frame = raw_read(fd, reader);

        g_assert_nonnull(frame);
        g_assert_cmpuint(frame->header.serial, <, REQUESTS);
        g_assert_false(answered[frame->header.serial]);
        answered[frame->header.serial] = TRUE;
    }
    g_assert_cmpint(f->most_running, ==, COLO_RPC_WORKERS);
    close(fd);
}

static void test_client_may_leave_before_the_answer(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char args[] = "{\"domain\":\"x\"}";
    int fd = raw_connect(f->path);

    send_command(fd, 1, "colo-checkpoint", args, strlen(args));
    wait_running(f, 1);
    close(fd);
    assert_server_lives(f);
    release_all(f);
    assert_server_lives(f);
}

static void test_clients_are_bounded(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    int fds[COLO_RPC_MAX_CLIENTS + 1];
    ColoRpcServerStats stats;

    for (int i = 0; i <= COLO_RPC_MAX_CLIENTS; i++)
        fds[i] = raw_connect(f->path);
    g_assert_null(raw_read(fds[COLO_RPC_MAX_CLIENTS], reader));
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.refused_limit, ==, 1);
    g_assert_cmpuint(stats.clients, ==, COLO_RPC_MAX_CLIENTS);
    for (int i = 0; i <= COLO_RPC_MAX_CLIENTS; i++)
        close(fds[i]);
    do {
        g_usleep(1000);
        colo_rpc_server_get_stats(f->server, &stats);
    } while (stats.clients > 0);
    assert_server_lives(f);
}

/* I8: a subscriber that never reads costs COLO_RPC_MAX_OUTPUT, then its connection. */
static void test_client_that_does_not_read_is_closed(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *text = g_strnfill(512 * 1024, 'x');
    g_autoptr(JsonObject) event = colo_json_build("event", "s", text, NULL);
    ColoConnect *conn = open_client(f);
    ColoRpcServerStats stats;
    Seen seen = {0};

    g_assert_cmpint(colo_connect_event_set_callback(conn, on_event, &seen, NULL), ==, 0);
    for (unsigned i = 0; i < COLO_RPC_MAX_OUTPUT / (512 * 1024) + 4; i++)
        colo_rpc_server_emit(f->server, event);
    assert_server_lives(f);
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.slow, ==, 1);
    g_assert_cmpuint(stats.clients, <=, 1); /* the one just closed by assert_server_lives() */
    while (colo_connect_event_dispatch(conn, DEADLINE_MS, NULL) >= 0)
        ;
    colo_connect_close(conn);
}

static void test_stop_while_commands_run(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char args[] = "{\"domain\":\"x\"}";
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    int fd = raw_connect(f->path);
    g_autoptr(GError) error = NULL;
    int listener;

    for (uint32_t i = 0; i < COLO_RPC_MAX_PENDING; i++)
        send_command(fd, i, "colo-checkpoint", args, strlen(args));
    wait_running(f, COLO_RPC_WORKERS);
    release_all(f);
    colo_rpc_server_free(f->server);
    while (TRUE) {
        g_autoptr(ColoRpcFrame) frame = raw_read(fd, reader);

        if (!frame)
            break;
    }
    g_assert_cmpint(f->running, ==, 0);
    close(fd);
    listener = colo_rpc_listen(f->path, NULL, &error); /* over the stale file */
    g_assert_no_error(error);
    f->server = colo_rpc_server_new(listener, dispatch, f, &error);
    g_assert_no_error(error);
    assert_server_lives(f);
}

/* In a child of another uid: 0 when the server answered HELLO, 1 when it refused. */
static int open_as(Fixture *f, uid_t uid, gid_t gid, gid_t extra)
{
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        ColoConnect *conn;
        ColoError error = COLO_ERROR_INIT;

        if (setgroups(1, &extra) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
            _exit(9);
        conn = colo_connect_open(f->uri, &error);
        _exit(conn ? 0 : error.number == COLO_ERR_AUTH ? 1 : 2);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void test_only_root_and_the_group_may_connect(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const struct group *users = getgrnam("users");
    ColoRpcServerStats stats;
    g_autoptr(GError) error = NULL;

    if (geteuid() != 0 || !users) {
        g_test_skip("needs root and a group 'users'");
        return;
    }
    g_assert_cmpint(chmod(f->dir, 0755), ==, 0);
    g_assert_cmpint(chmod(f->path, 0666), ==, 0); /* the mode alone is not what keeps them out */
    g_assert_cmpint(open_as(f, 65534, 65534, 65534), ==, 1);
    g_assert_cmpint(open_as(f, 65534, 65534, users->gr_gid), ==, 1);
    g_assert_true(colo_rpc_server_set_group(f->server, "users", &error));
    g_assert_cmpint(open_as(f, 65534, 65534, 65534), ==, 1);
    g_assert_cmpint(open_as(f, 65534, 65534, users->gr_gid), ==, 0);
    g_assert_cmpint(open_as(f, 65534, users->gr_gid, 65534), ==, 0);
    g_assert_true(colo_rpc_server_set_group(f->server, NULL, &error));
    g_assert_cmpint(open_as(f, 65534, 65534, users->gr_gid), ==, 1);
    g_assert_cmpint(open_as(f, 0, 0, 0), ==, 0);
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.refused_auth, ==, 4);
    g_assert_false(colo_rpc_server_set_group(f->server, "no-such-group-here", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
}

static void test_socket_file_is_not_open_to_all(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GStatBuf st;

    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
}

#define ADD(name, func) g_test_add("/client/" name, Fixture, NULL, setup, func, teardown)

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
    ADD("malformed-frames", test_malformed_frames_close_with_a_log_line);
    ADD("unknown-program", test_unknown_program_is_answered);
    ADD("bad-requests", test_bad_requests_are_answered);
    ADD("I8-requests-bounded", test_requests_are_bounded_and_all_answered);
    ADD("client-leaves", test_client_may_leave_before_the_answer);
    ADD("I8-clients-bounded", test_clients_are_bounded);
    ADD("I8-output-bounded", test_client_that_does_not_read_is_closed);
    ADD("stop-while-running", test_stop_while_commands_run);
    ADD("who-may-connect", test_only_root_and_the_group_may_connect);
    ADD("socket-mode", test_socket_file_is_not_open_to_all);
    return g_test_run();
}
