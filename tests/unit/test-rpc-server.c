/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The server on virtcolod-sock: hostile and slow clients, limits, who may connect. */
#include <config.h>

#include "test-client-common.h"

#include "rpc/closed.h"
#include "util/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void ignore_event(ColoConnect *conn G_GNUC_UNUSED, const char *event G_GNUC_UNUSED,
                         void *opaque G_GNUC_UNUSED)
{
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
static char *capture_log(void (*func)(RpcFixture *), RpcFixture *f)
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

static void send_malformed(RpcFixture *f)
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
        int fd = rpc_raw_connect(f->path);

        send_header(fd, bad[i].length, bad[i].program, bad[i].procedure, bad[i].type);
        g_assert_null(rpc_raw_read(fd, reader));
        close(fd);
        colo_rpc_server_get_stats(f->server, &stats);
        g_assert_cmpuint(stats.malformed, ==, i + 1);
        rpc_assert_server_lives(f);
    }
}

static void test_malformed_frames_close_with_a_log_line(RpcFixture *f,
                                                        gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *log = capture_log(send_malformed, f);
    int lines = 0;

    for (const char *p = log; (p = strstr(p, " closed: RPC ")); p++)
        lines++;
    g_assert_cmpint(lines, ==, 10);
    g_assert_nonnull(strstr(log, "34603008 bytes is above the limit of"));
}

static void test_unknown_program_is_answered(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    ColoRpcServerStats stats;
    int fd = rpc_raw_connect(f->path);

    for (int i = 0; i < 2; i++) {
        g_autoptr(ColoRpcFrame) frame = NULL;

        send_header(fd, COLO_RPC_HEADER_BYTES, 0x20008086, 66, COLO_RPC_CALL);
        frame = rpc_raw_read(fd, reader);
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

static void test_bad_requests_are_answered(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name, *args;
        size_t len;
    } bad[] = {
        {"colo-list", "{", 1},         {"colo-list", "[]", 2},    {"colo-list", "{}\0{}", 5},
        {"colo-list", "{\"a\":1}", 7}, {"colo-nothing", "{}", 2}, {"", "", 0},
        {"colo-events", "{}", 2},      {"colo-status", "", 0},
    };
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    int fd = rpc_raw_connect(f->path);

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(ColoRpcFrame) frame = NULL;
        g_autoptr(GError) error = NULL;

        send_command(fd, (uint32_t)i, bad[i].name, bad[i].args, bad[i].len);
        frame = rpc_raw_read(fd, reader);
        g_assert_nonnull(frame);
        g_assert_cmpuint(frame->header.serial, ==, i);
        g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
        colo_rpc_error_decode(frame, &error);
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    send_header(fd, COLO_RPC_HEADER_BYTES, COLO_RPC_PROGRAM, 999, COLO_RPC_CALL);
    g_autoptr(ColoRpcFrame) frame = rpc_raw_read(fd, reader);
    g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
    close(fd);
}

static void wait_running(RpcFixture *f, int n)
{
    gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;

    g_mutex_lock(&f->lock);
    while (f->running < n)
        g_assert_true(g_cond_wait_until(&f->changed, &f->lock, end));
    g_mutex_unlock(&f->lock);
}

/* I8: neither more workers nor more requests of one client than the limits, and none is lost. */
static void test_requests_are_bounded_and_all_answered(RpcFixture *f,
                                                       gconstpointer data G_GNUC_UNUSED)
{
    enum { REQUESTS = COLO_RPC_MAX_PENDING + COLO_RPC_WORKERS };
    static const char args[] = "{\"domain\":\"x\"}";
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    gboolean answered[REQUESTS] = {FALSE};
    ColoRpcServerStats stats;
    int fd = rpc_raw_connect(f->path);

    for (uint32_t i = 0; i < REQUESTS; i++)
        send_command(fd, i, "colo-checkpoint", args, strlen(args));
    wait_running(f, COLO_RPC_WORKERS);
    g_usleep(50000); /* time in which more could start, were there no limit */
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.commands, ==, COLO_RPC_MAX_PENDING);
    rpc_fixture_release(f);
    for (int i = 0; i < REQUESTS; i++) {
        g_autoptr(ColoRpcFrame) frame = rpc_raw_read(fd, reader);

        g_assert_nonnull(frame);
        g_assert_cmpuint(frame->header.serial, <, REQUESTS);
        g_assert_false(answered[frame->header.serial]);
        answered[frame->header.serial] = TRUE;
    }
    g_assert_cmpint(f->most_running, ==, COLO_RPC_WORKERS);
    close(fd);
}

static void test_client_may_leave_before_the_answer(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char args[] = "{\"domain\":\"x\"}";
    int fd = rpc_raw_connect(f->path);

    send_command(fd, 1, "colo-checkpoint", args, strlen(args));
    wait_running(f, 1);
    close(fd);
    rpc_assert_server_lives(f);
    rpc_fixture_release(f);
    rpc_assert_server_lives(f);
}

static void test_clients_are_bounded(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    int fds[COLO_RPC_MAX_CLIENTS + 1];
    ColoRpcServerStats stats;

    for (int i = 0; i <= COLO_RPC_MAX_CLIENTS; i++)
        fds[i] = rpc_raw_connect(f->path);
    g_assert_null(rpc_raw_read(fds[COLO_RPC_MAX_CLIENTS], reader));
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.refused_limit, ==, 1);
    g_assert_cmpuint(stats.clients, ==, COLO_RPC_MAX_CLIENTS);
    for (int i = 0; i <= COLO_RPC_MAX_CLIENTS; i++)
        close(fds[i]);
    do {
        g_usleep(1000);
        colo_rpc_server_get_stats(f->server, &stats);
    } while (stats.clients > 0);
    rpc_assert_server_lives(f);
}

/* I8: a subscriber that never reads costs COLO_RPC_MAX_OUTPUT, then its connection. */
static void test_client_that_does_not_read_is_closed(RpcFixture *f,
                                                     gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *text = g_strnfill(512 * 1024, 'x');
    g_autoptr(JsonObject) event = colo_json_build("event", "s", text, NULL);
    ColoConnect *conn = rpc_fixture_open(f);
    ColoRpcServerStats stats;

    g_assert_cmpint(colo_connect_event_set_callback(conn, ignore_event, NULL, NULL), ==, 0);
    for (unsigned i = 0; i < COLO_RPC_MAX_OUTPUT / (512 * 1024) + 4; i++)
        colo_rpc_server_emit(f->server, event);
    rpc_assert_server_lives(f);
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.slow, ==, 1);
    g_assert_cmpuint(stats.clients, <=, 1); /* the one just closed by rpc_assert_server_lives() */
    while (colo_connect_event_dispatch(conn, DEADLINE_MS, NULL) >= 0)
        ;
    colo_connect_close(conn);
}

static void test_stop_while_commands_run(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char args[] = "{\"domain\":\"x\"}";
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    int fd = rpc_raw_connect(f->path);
    g_autoptr(GError) error = NULL;
    int listener;

    for (uint32_t i = 0; i < COLO_RPC_MAX_PENDING; i++)
        send_command(fd, i, "colo-checkpoint", args, strlen(args));
    wait_running(f, COLO_RPC_WORKERS);
    rpc_fixture_release(f);
    colo_rpc_server_free(f->server);
    while (TRUE) {
        g_autoptr(ColoRpcFrame) frame = rpc_raw_read(fd, reader);

        if (!frame)
            break;
    }
    g_assert_cmpint(f->running, ==, 0);
    close(fd);
    listener = colo_rpc_listen(f->path, NULL, &error); /* over the stale file */
    g_assert_no_error(error);
    f->server = colo_rpc_server_new(listener, rpc_fixture_dispatch, f, &error);
    g_assert_no_error(error);
    rpc_assert_server_lives(f);
}

/* In a child of another uid: 0 when the server answered HELLO, 1 when it refused. */
static int open_as(RpcFixture *f, uid_t uid, gid_t gid, gid_t extra)
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

static void test_only_root_and_the_group_may_connect(RpcFixture *f,
                                                     gconstpointer data G_GNUC_UNUSED)
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

/* The read-only socket: everybody may look, nobody changes anything. */
static void test_readonly(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name, *args;
        gboolean allowed;
    } commands[] = {{"colo-list", "{}", TRUE},
                    {"colo-checkpoint", "{\"domain\":\"x\"}", FALSE},
                    {"colo-unprotect", "{\"domain\":\"x\"}", FALSE},
                    {"colo-pair-list", "{}", TRUE}};
    g_autofree char *path = g_strconcat(f->path, "-ro", NULL);
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    g_autoptr(GError) error = NULL;
    int fds[COLO_RPC_MAX_RO_CLIENTS + 1];
    GStatBuf st;
    int listener = colo_rpc_listen_public(path, &error);

    g_assert_no_error(error);
    g_assert_cmpint(g_stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0666);
    g_assert_true(colo_rpc_server_add_readonly(f->server, listener, &error));
    fds[0] = rpc_raw_connect(path);
    for (uint32_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autoptr(ColoRpcFrame) frame = NULL;
        g_autoptr(GError) refused = NULL;

        send_command(fds[0], i, commands[i].name, commands[i].args, strlen(commands[i].args));
        frame = rpc_raw_read(fds[0], reader);
        g_assert_cmpuint(frame->header.status, ==,
                         commands[i].allowed ? COLO_RPC_OK : COLO_RPC_ERROR);
        if (commands[i].allowed)
            continue;
        colo_rpc_error_decode(frame, &refused);
        g_assert_error(refused, COLO_ERROR, COLO_ERROR_AUTH);
        g_assert_nonnull(strstr(refused->message, "read only"));
    }
    /* As many as there may be do not lock the others out. */
    for (int i = 1; i <= COLO_RPC_MAX_RO_CLIENTS; i++)
        fds[i] = rpc_raw_connect(path);
    g_assert_null(rpc_raw_read(fds[COLO_RPC_MAX_RO_CLIENTS], reader));
    rpc_assert_server_lives(f);
    for (int i = 0; i <= COLO_RPC_MAX_RO_CLIENTS; i++)
        close(fds[i]);
    g_unlink(path);
}

static void test_socket_file_is_not_open_to_all(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GStatBuf st;

    g_assert_cmpint(g_stat(f->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
}

static void connect_in_vain(RpcFixture *f)
{
    for (unsigned i = 0; i < 4 * COLO_RPC_CLOSED_LINES; i++) {
        g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
        int fd = rpc_raw_connect(f->path);

        send_header(fd, 27 + 1, COLO_RPC_PROGRAM, COLO_RPC_PROC_COMMAND, COLO_RPC_REPLY);
        g_assert_null(rpc_raw_read(fd, reader));
        close(fd);
    }
}

/* A client that comes again and again does not fill the log. */
static void test_i8_lines_are_bounded(RpcFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *log = capture_log(connect_in_vain, f);
    ColoRpcServerStats stats;
    unsigned lines = 0;

    for (const char *p = log; (p = strstr(p, " closed: ")); p++)
        lines++;
    g_assert_cmpuint(lines, <=, 2 * COLO_RPC_CLOSED_LINES); /* a new window may have begun */
    colo_rpc_server_get_stats(f->server, &stats);
    g_assert_cmpuint(stats.malformed, ==, 4 * COLO_RPC_CLOSED_LINES);
}

#define ADD(name, func) \
    g_test_add("/rpc-server/" name, RpcFixture, NULL, rpc_fixture_setup, func, rpc_fixture_teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("malformed-frames", test_malformed_frames_close_with_a_log_line);
    ADD("unknown-program", test_unknown_program_is_answered);
    ADD("bad-requests", test_bad_requests_are_answered);
    ADD("I8-requests-bounded", test_requests_are_bounded_and_all_answered);
    ADD("client-leaves", test_client_may_leave_before_the_answer);
    ADD("I8-clients-bounded", test_clients_are_bounded);
    ADD("I8-output-bounded", test_client_that_does_not_read_is_closed);
    ADD("stop-while-running", test_stop_while_commands_run);
    ADD("who-may-connect", test_only_root_and_the_group_may_connect);
    ADD("readonly", test_readonly);
    ADD("I8-lines-bounded", test_i8_lines_are_bounded); /* keeps quiet what follows it */
    ADD("socket-mode", test_socket_file_is_not_open_to_all);
    return g_test_run();
}
