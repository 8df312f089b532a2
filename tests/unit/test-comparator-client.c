/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtcolod's client of the helper, against a helper that is played here: answers, errors, FDs,
 * events during a call, a helper that dies with a call in flight, hangs, or speaks nonsense.
 */
#include "domain/comparator-client.h"

#include "util/error.h"
#include "util/fdpass.h"
#include "util/framing.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LONG_MS 10000u
#define BACKLOG 256

/* What the client told its user. */
typedef struct {
    GMutex lock;
    GCond changed;
    unsigned up, down, events;
    char *name, *uuid; /* of the last event */
    uint64_t epoch;
} Seen;

static char *dir, *path;
static int listener = -1;
static Seen seen;
static ColoComparatorClient *client;

static void on_event(const char *name, const char *uuid, JsonObject *event, void *opaque)
{
    Seen *s = opaque;

    g_mutex_lock(&s->lock);
    s->events++;
    g_free(s->name);
    g_free(s->uuid);
    s->name = g_strdup(name);
    s->uuid = g_strdup(uuid);
    s->epoch = colo_json_peek_uint(event, "epoch", 0);
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
}

static void count(Seen *s, unsigned *counter)
{
    g_mutex_lock(&s->lock);
    (*counter)++;
    g_cond_broadcast(&s->changed);
    g_mutex_unlock(&s->lock);
}

static void on_up(void *opaque)
{
    count(opaque, &((Seen *)opaque)->up);
}

static void on_down(void *opaque)
{
    count(opaque, &((Seen *)opaque)->down);
}

static gboolean wait_for(const unsigned *counter, unsigned value)
{
    gint64 end = g_get_monotonic_time() + LONG_MS * 1000;
    gboolean reached;

    g_mutex_lock(&seen.lock);
    while (*counter < value && g_cond_wait_until(&seen.changed, &seen.lock, end))
        ;
    reached = *counter >= value;
    g_mutex_unlock(&seen.lock);
    return reached;
}

/* ---- the helper's side ---- */

static void helper_listen(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    g_unlink(path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    g_assert_cmpint(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(listener, BACKLOG), ==, 0);
}

/* The next request; its FD in @fd, -1 when it has none. */
static JsonObject *helper_take(int conn, int *fd)
{
    g_autoptr(ColoFrameReader) reader = colo_frame_reader_new();
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    char buffer[4096];
    size_t len = 0;

    while (!text) {
        /* A byte at a time: what follows belongs to the next request. */
        ssize_t n = colo_fdpass_recv(conn, buffer, 1, fds);

        if (n <= 0)
            return NULL;
        colo_frame_reader_feed(reader, buffer, (size_t)n);
        text = colo_frame_reader_next(reader, &len, &error);
        g_assert_no_error(error);
    }
    if (fd)
        *fd = fds->len ? g_array_index(fds, int, 0) : -1;
    return colo_json_parse(text, len, NULL);
}

static void helper_send(int conn, JsonObject *message)
{
    g_autofree char *text = colo_json_to_string(message);

    g_assert_true(colo_fdpass_send(conn, text, strlen(text), NULL, 0, NULL));
    json_object_put(message);
}

static void helper_return(int conn, JsonObject *request, JsonObject *result)
{
    helper_send(conn, colo_json_build("id", "u", colo_json_peek_uint(request, "id", 0), "return",
                                      "o", result, NULL));
}

/* Takes a connection and answers its hello. */
static int helper_accept(void)
{
    int conn = accept(listener, NULL, NULL);
    g_autoptr(JsonObject) hello = NULL;

    g_assert_cmpint(conn, >=, 0);
    hello = helper_take(conn, NULL);
    g_assert_cmpstr(colo_json_peek_string(hello, "execute", NULL), ==, "hello");
    helper_return(conn, hello, colo_json_build("version", "u", UINT64_C(1), NULL));
    return conn;
}

/* ---- the caller's side, on a thread ---- */

typedef struct {
    const char *execute;
    int fd;
    unsigned timeout_ms;
    JsonObject *result;
    GError *error;
    GThread *thread;
} Call;

static gpointer call_main(gpointer data)
{
    Call *call = data;

    call->result =
        colo_comparator_call(client, call->execute, colo_json_build("uuid", "s", "U-1", NULL),
                             call->fd, call->timeout_ms ? call->timeout_ms : LONG_MS, &call->error);
    return NULL;
}

static void call_begin(Call *call)
{
    call->thread = g_thread_new("call", call_main, call);
}

static void call_end(Call *call)
{
    g_thread_join(call->thread);
    json_object_put(call->result);
    g_clear_error(&call->error);
}

/* A client that is connected; the helper's end. */
static int setup(void)
{
    static const ColoComparatorEvents events = {.event = on_event, .up = on_up, .down = on_down};
    int conn;

    memset(&seen, 0, sizeof(seen));
    g_mutex_init(&seen.lock);
    g_cond_init(&seen.changed);
    dir = g_dir_make_tmp("colo-helper-XXXXXX", NULL);
    path = g_build_filename(dir, "sock", NULL);
    helper_listen();
    client = colo_comparator_client_new(path, &events, &seen);
    conn = helper_accept();
    g_assert_true(wait_for(&seen.up, 1));
    g_assert_true(colo_comparator_is_up(client));
    return conn;
}

static void teardown(int conn)
{
    colo_comparator_client_free(client);
    if (conn >= 0)
        close(conn);
    close(listener);
    g_unlink(path);
    g_rmdir(dir);
    g_clear_pointer(&path, g_free);
    g_clear_pointer(&dir, g_free);
    g_clear_pointer(&seen.name, g_free);
    g_clear_pointer(&seen.uuid, g_free);
    g_mutex_clear(&seen.lock);
    g_cond_clear(&seen.changed);
}

/* ---- tests ---- */

static void test_a_request_is_answered(void)
{
    int conn = setup();
    Call call = {.execute = "stats", .fd = -1};

    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, NULL);
    JsonObject *arguments = colo_json_peek(request, "arguments");
    g_assert_cmpstr(colo_json_peek_string(request, "execute", NULL), ==, "stats");
    g_assert_cmpstr(colo_json_peek_string(arguments, "uuid", NULL), ==, "U-1");
    helper_return(conn, request, colo_json_build("committed", "u", (uint64_t)9, NULL));
    g_thread_join(g_steal_pointer(&call.thread));
    g_assert_no_error(call.error);
    g_assert_cmpuint(colo_json_peek_uint(call.result, "committed", 0), ==, 9);
    json_object_put(call.result);
    teardown(conn);
}

static void test_a_refusal_keeps_the_helpers_code_and_reason(void)
{
    int conn = setup();
    Call call = {.execute = "gate", .fd = -1};

    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, NULL);
    helper_send(conn,
                colo_json_build("id", "u", colo_json_peek_uint(request, "id", 0), "error", "o",
                                colo_json_build("code", "s", "no-domain", "message", "s",
                                                "there is no session U-1", NULL),
                                NULL));
    g_thread_join(g_steal_pointer(&call.thread));
    g_assert_null(call.result);
    g_assert_error(call.error, COLO_ERROR, COLO_ERROR_NO_DOMAIN);
    g_assert_nonnull(strstr(call.error->message, "there is no session U-1"));
    g_assert_nonnull(strstr(call.error->message, "gate"));
    g_clear_error(&call.error);
    teardown(conn);
}

static void test_an_fd_goes_along_and_stays_the_callers(void)
{
    int conn = setup(), pipe_fds[2], got = -1;
    struct stat sent, received;
    Call call = {.execute = "local-attach"};

    g_assert_cmpint(pipe(pipe_fds), ==, 0);
    call.fd = pipe_fds[0];
    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, &got);
    g_assert_cmpint(got, >=, 0);
    g_assert_cmpint(fstat(pipe_fds[0], &sent), ==, 0);
    g_assert_cmpint(fstat(got, &received), ==, 0);
    g_assert_cmpuint(sent.st_ino, ==, received.st_ino);
    helper_return(conn, request, json_object_new_object());
    call_end(&call);
    close(got);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    teardown(conn);
}

/* "takeover-prepare" is answered when it is done, other requests meanwhile. */
static void test_answers_in_another_order_find_their_callers(void)
{
    int conn = setup();
    Call slow = {.execute = "takeover-prepare", .fd = -1};
    Call fast = {.execute = "gate", .fd = -1};

    call_begin(&slow);
    g_autoptr(JsonObject) first = helper_take(conn, NULL);
    call_begin(&fast);
    g_autoptr(JsonObject) second = helper_take(conn, NULL);
    g_assert_cmpuint(colo_json_peek_uint(first, "id", 0), !=, colo_json_peek_uint(second, "id", 0));
    helper_return(conn, second, colo_json_build("who", "s", "fast", NULL));
    g_thread_join(g_steal_pointer(&fast.thread));
    g_assert_cmpstr(colo_json_peek_string(fast.result, "who", NULL), ==, "fast");
    helper_return(conn, first, colo_json_build("who", "s", "slow", NULL));
    g_thread_join(g_steal_pointer(&slow.thread));
    g_assert_cmpstr(colo_json_peek_string(slow.result, "who", NULL), ==, "slow");
    json_object_put(fast.result);
    json_object_put(slow.result);
    teardown(conn);
}

static void test_an_event_during_a_call_is_told_and_the_call_goes_on(void)
{
    int conn = setup();
    Call call = {.execute = "stats", .fd = -1};

    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, NULL);
    helper_send(conn, colo_json_build("event", "s", "committed", "uuid", "s", "U-1", "epoch", "u",
                                      (uint64_t)3, NULL));
    g_assert_true(wait_for(&seen.events, 1));
    g_assert_cmpstr(seen.name, ==, "committed");
    g_assert_cmpstr(seen.uuid, ==, "U-1");
    g_assert_cmpuint(seen.epoch, ==, 3);
    helper_return(conn, request, json_object_new_object());
    g_thread_join(g_steal_pointer(&call.thread));
    g_assert_no_error(call.error);
    json_object_put(call.result);
    teardown(conn);
}

static void test_a_helper_that_dies_ends_the_call_at_once(void)
{
    int conn = setup();
    Call call = {.execute = "gate", .fd = -1, .timeout_ms = 60000};
    gint64 start = g_get_monotonic_time();

    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, NULL);
    g_assert_nonnull(request);
    close(conn);
    g_thread_join(g_steal_pointer(&call.thread));
    g_assert_null(call.result);
    g_assert_error(call.error, COLO_ERROR, COLO_ERROR_SYSTEM);
    g_assert_nonnull(strstr(call.error->message, "went away"));
    g_assert_cmpint(g_get_monotonic_time() - start, <, 20 * G_USEC_PER_SEC);
    g_assert_true(wait_for(&seen.down, 1));
    g_clear_error(&call.error);
    teardown(-1);
}

static void test_a_helper_that_comes_back_is_connected_again(void)
{
    int conn = setup();
    Call call = {.execute = "inventory", .fd = -1};
    g_autoptr(GError) error = NULL;

    close(listener);
    g_unlink(path);
    close(conn);
    g_assert_true(wait_for(&seen.down, 1));
    g_assert_false(colo_comparator_is_up(client));
    g_assert_false(colo_comparator_wait_up(client, 120));
    g_assert_null(colo_comparator_call(client, "inventory", NULL, -1, LONG_MS, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_SYSTEM);
    g_assert_nonnull(strstr(error->message, "start colo-comparator.service"));

    helper_listen();
    conn = helper_accept();
    g_assert_true(wait_for(&seen.up, 2));
    g_assert_true(colo_comparator_wait_up(client, LONG_MS));
    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, NULL);
    helper_return(conn, request, json_object_new_object());
    g_thread_join(g_steal_pointer(&call.thread));
    g_assert_no_error(call.error);
    json_object_put(call.result);
    teardown(conn);
}

static void test_no_answer_in_time_is_a_timeout_and_a_late_one_is_ignored(void)
{
    int conn = setup();
    Call late = {.execute = "gate", .fd = -1, .timeout_ms = 50};
    Call next = {.execute = "stats", .fd = -1};

    call_begin(&late);
    g_autoptr(JsonObject) first = helper_take(conn, NULL);
    g_thread_join(g_steal_pointer(&late.thread));
    g_assert_error(late.error, COLO_ERROR, COLO_ERROR_TIMEOUT);
    g_clear_error(&late.error);
    call_begin(&next);
    g_autoptr(JsonObject) second = helper_take(conn, NULL);
    helper_return(conn, first, colo_json_build("who", "s", "late", NULL));
    helper_return(conn, second, colo_json_build("who", "s", "next", NULL));
    g_thread_join(g_steal_pointer(&next.thread));
    g_assert_cmpstr(colo_json_peek_string(next.result, "who", NULL), ==, "next");
    json_object_put(next.result);
    teardown(conn);
}

/* A helper that hangs: requests pile up until the socket is full. No call may block for ever. */
static void test_a_helper_that_does_not_read_blocks_nobody_for_ever(void)
{
    int conn = setup();
    g_autofree char *filler = g_strnfill(60000, 'x');
    gint64 start = g_get_monotonic_time();
    gboolean broken = FALSE;

    for (unsigned i = 0; i < 50 && !broken; i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(colo_comparator_call(
            client, "session-create", colo_json_build("x", "s", filler, NULL), -1, 10, &error));
        broken = g_error_matches(error, COLO_ERROR, COLO_ERROR_SYSTEM);
    }
    g_assert_true(broken);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 30 * G_USEC_PER_SEC);
    g_assert_true(wait_for(&seen.down, 1)); /* half a frame: the connection is of no use */
    teardown(conn);
}

static void test_nonsense_from_the_helper_ends_the_connection(void)
{
    static const unsigned char huge[] = {0xff, 0xff, 0xff, 0xff, 'x'};
    int conn = setup();

    g_assert_cmpint(write(conn, huge, sizeof(huge)), ==, sizeof(huge));
    g_assert_true(wait_for(&seen.down, 1));
    close(conn);
    conn = helper_accept();
    g_assert_true(wait_for(&seen.up, 2));
    g_assert_true(colo_fdpass_send(conn, "[1]", 3, NULL, 0, NULL)); /* JSON, but no object */
    g_assert_true(wait_for(&seen.down, 2));
    teardown(conn);
}

static void test_an_answer_to_nobody_is_ignored(void)
{
    int conn = setup();
    Call call = {.execute = "stats", .fd = -1};

    helper_send(conn, colo_json_build("id", "u", (uint64_t)4711, "return", "o",
                                      json_object_new_object(), NULL));
    helper_send(conn, colo_json_build("return", "o", json_object_new_object(), NULL));
    call_begin(&call);
    g_autoptr(JsonObject) request = helper_take(conn, NULL);
    helper_return(conn, request, json_object_new_object());
    g_thread_join(g_steal_pointer(&call.thread));
    g_assert_no_error(call.error);
    json_object_put(call.result);
    teardown(conn);
}

/* Many threads at once, each gets its own answer; run under a sanitizer this finds shared counts.
 */
#define CALLERS 8u
#define CALLS 50u

static gpointer many_calls(gpointer data)
{
    for (unsigned i = 0; i < CALLS; i++) {
        uint64_t x = (uint64_t)GPOINTER_TO_UINT(data) * CALLS + i;
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject) result = colo_comparator_call(
            client, "echo", colo_json_build("x", "u", x, NULL), -1, LONG_MS, &error);

        g_assert_no_error(error);
        g_assert_cmpuint(colo_json_peek_uint(result, "x", 0), ==, x);
    }
    return NULL;
}

static void test_many_callers_at_once(void)
{
    int conn = setup();
    GThread *threads[CALLERS];

    for (unsigned i = 0; i < CALLERS; i++)
        threads[i] = g_thread_new("caller", many_calls, GUINT_TO_POINTER(i));
    for (unsigned i = 0; i < CALLERS * CALLS; i++) {
        g_autoptr(JsonObject) request = helper_take(conn, NULL);

        helper_return(
            conn, request,
            colo_json_build(
                "x", "u", colo_json_peek_uint(colo_json_peek(request, "arguments"), "x", 0), NULL));
    }
    for (unsigned i = 0; i < CALLERS; i++)
        g_thread_join(threads[i]);
    teardown(conn);
}

/* Freed while it is connecting or waits for hello's answer: no socket must be left that its thread
 * waits on for ever. */
static void test_it_can_be_freed_at_any_moment(void)
{
    static const ColoComparatorEvents events = {.event = on_event, .up = on_up, .down = on_down};
    int conn = setup();

    for (int i = 0; i < BACKLOG / 2; i++) {
        colo_comparator_client_free(client);
        client = colo_comparator_client_new(path, &events, &seen);
        g_usleep(i % 2 ? (gulong)i : 1000);
    }
    teardown(conn);
}

/* systemd keeps the socket of a helper that died, and takes connections for the next one. */
static void test_a_socket_that_nobody_serves_is_no_helper(void)
{
    g_autoptr(GError) error = NULL;
    int conn = setup();

    close(conn);
    g_assert_true(wait_for(&seen.down, 1));
    g_assert_false(colo_comparator_wait_up(client, 300));
    g_assert_null(colo_comparator_call(client, "stats", NULL, -1, LONG_MS, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_SYSTEM);
    g_assert_cmpuint(seen.up, ==, 1);
    conn = helper_accept();
    g_assert_true(colo_comparator_wait_up(client, LONG_MS));
    g_assert_cmpuint(seen.down, ==, 1);
    teardown(conn);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/comparator-client/answer", test_a_request_is_answered);
    g_test_add_func("/domain/comparator-client/refusal",
                    test_a_refusal_keeps_the_helpers_code_and_reason);
    g_test_add_func("/domain/comparator-client/fd", test_an_fd_goes_along_and_stays_the_callers);
    g_test_add_func("/domain/comparator-client/order",
                    test_answers_in_another_order_find_their_callers);
    g_test_add_func("/domain/comparator-client/event",
                    test_an_event_during_a_call_is_told_and_the_call_goes_on);
    g_test_add_func("/domain/comparator-client/dies",
                    test_a_helper_that_dies_ends_the_call_at_once);
    g_test_add_func("/domain/comparator-client/comes-back",
                    test_a_helper_that_comes_back_is_connected_again);
    g_test_add_func("/domain/comparator-client/timeout",
                    test_no_answer_in_time_is_a_timeout_and_a_late_one_is_ignored);
    g_test_add_func("/domain/comparator-client/hangs",
                    test_a_helper_that_does_not_read_blocks_nobody_for_ever);
    g_test_add_func("/domain/comparator-client/nonsense",
                    test_nonsense_from_the_helper_ends_the_connection);
    g_test_add_func("/domain/comparator-client/stray", test_an_answer_to_nobody_is_ignored);
    g_test_add_func("/domain/comparator-client/many", test_many_callers_at_once);
    g_test_add_func("/domain/comparator-client/free", test_it_can_be_freed_at_any_moment);
    g_test_add_func("/domain/comparator-client/nobody-serves",
                    test_a_socket_that_nobody_serves_is_no_helper);
    return g_test_run();
}
