/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The control channel between hosts that agree: calls, limits, heartbeats, silence, reconnecting.
 */
#include "test-channel-common.h"

#include "util/error.h"
#include "util/log.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;

/* The child: serves as beta at @port until its standard input ends. */
static int serve(const char *dir, const char *port_text)
{
    g_autoptr(GError) error = NULL;
    ColoPeerInfo self = host_info("beta");
    uint16_t port = (uint16_t)atoi(port_text);
    ColoTlsConfig tls;
    ColoChannelServer *server;
    char byte;
    int fd;

    pki_dir = g_strdup(dir);
    tls = pki_config("beta-server", "beta-client");
    fd = listen_loopback(&port);
    server = colo_channel_server_new(&tls, &self, fd, test_handler, NULL, &error);
    g_assert_no_error(error);
    printf("%u\n", port);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    colo_channel_server_free(server);
    return 0;
}

typedef struct {
    GPid pid;
    uint16_t port;
    int input; /* closing it ends the child */
} Child;

static Child start_child(uint16_t port)
{
    g_autofree char *port_text = g_strdup_printf("%u", port);
    const char *argv[] = {program, "--serve", pki_dir, port_text, NULL};
    g_autoptr(GError) error = NULL;
    char line[16] = "";
    Child child;
    int output;

    g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                             &child.pid, &child.input, &output, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpint(read(output, line, sizeof(line) - 1), >, 0);
    child.port = (uint16_t)atoi(line);
    close(output);
    return child;
}

static void kill_child(Child *child)
{
    kill(child->pid, SIGKILL);
    waitpid(child->pid, NULL, 0);
    close(child->input);
}

/* A server as beta and a channel of alpha to it, in this process. */
typedef struct {
    ColoChannelServer *server;
    ColoChannel *channel;
    Events events;
} Pair;

static void pair_up(Pair *pair)
{
    ColoTlsConfig tls = pki_config("beta-server", "beta-client");
    ColoPeerInfo self = host_info("beta");
    g_autoptr(GError) error = NULL;
    uint16_t port = 0;
    int fd = listen_loopback(&port);

    events_init(&pair->events);
    pair->server = colo_channel_server_new(&tls, &self, fd, test_handler, NULL, &error);
    g_assert_no_error(error);
    pair->channel = dial_local("alpha", "alpha-client", "localhost", port, &pair->events);
    g_assert_true(events_wait(&pair->events, &pair->events.up, 1, 3000));
    colo_tls_config_clear(&tls);
}

static void pair_end(Pair *pair)
{
    colo_channel_free(pair->channel);
    colo_channel_server_free(pair->server);
    events_clear(&pair->events);
}

static void test_call_is_answered(void)
{
    Pair pair;
    g_autoptr(GError) error = NULL;

    pair_up(&pair);
    g_autoptr(JsonObject) echo = colo_channel_call(
        pair.channel, "echo", colo_json_build("n", "u", UINT64_MAX / 2, NULL), 3000, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(colo_json_peek_uint(echo, "n", 0), ==, UINT64_MAX / 2);
    g_autoptr(JsonObject) who = colo_channel_call(pair.channel, "who", NULL, 3000, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(colo_json_peek_string(who, "host", ""), ==, "alpha");
    g_assert_cmpstr(colo_json_peek_string(who, "dn", ""), ==, "O=Lab,CN=alpha");
    g_assert_cmpstr(colo_json_peek_string(who, "boot-id", ""), ==,
                    "b007b007-0000-4000-8000-000000000002");

    g_autoptr(ColoPeerInfo) peer = colo_channel_peer(pair.channel);
    g_assert_cmpstr(peer->host, ==, "beta");
    g_assert_cmpstr(peer->qemu, ==, "7.2.0");
    g_assert_cmpuint(peer->version, ==, COLO_CHANNEL_VERSION);
    g_assert_true(colo_channel_is_up(pair.channel));
    g_assert_null(colo_channel_last_error(pair.channel));
    pair_end(&pair);
}

static void test_error_is_carried_back(void)
{
    Pair pair;
    g_autoptr(GError) ours = NULL;
    g_autoptr(GError) alien = NULL;

    pair_up(&pair);
    g_assert_null(colo_channel_call(pair.channel, "fail", NULL, 3000, &ours));
    g_assert_error(ours, COLO_ERROR, COLO_ERROR_NO_DOMAIN);
    g_assert_cmpstr(ours->message, ==, "no domain 'x'");
    g_assert_null(colo_channel_call(pair.channel, "alien", NULL, 3000, &alien));
    g_assert_error(alien, COLO_ERROR, COLO_ERROR_INTERNAL);
    g_assert_cmpstr(alien->message, ==, "no such file");
    pair_end(&pair);
}

static JsonObject *text_of(size_t len)
{
    g_autofree char *text = g_strnfill(len, 'y');

    return colo_json_build("text", "s", text, NULL);
}

static void test_one_mib_is_the_limit(void)
{
    Pair pair;
    g_autoptr(GError) fits = NULL;
    g_autoptr(GError) request = NULL;
    g_autoptr(GError) answer = NULL;

    pair_up(&pair);
    g_autoptr(JsonObject) echo =
        colo_channel_call(pair.channel, "echo", text_of(1024 * 1024 - 200), 5000, &fits);
    g_assert_no_error(fits);
    g_assert_cmpuint(strlen(colo_json_peek_string(echo, "text", "")), ==, 1024 * 1024 - 200);
    g_assert_null(colo_channel_call(pair.channel, "echo", text_of(1024 * 1024), 5000, &request));
    g_assert_error(request, COLO_ERROR, COLO_ERROR_RESOURCE);
    g_assert_null(colo_channel_call(pair.channel, "big",
                                    colo_json_build("bytes", "u", UINT64_C(1048576), NULL), 5000,
                                    &answer));
    g_assert_error(answer, COLO_ERROR, COLO_ERROR_RESOURCE);
    g_assert_nonnull(strstr(answer->message, "1048576"));
    /* Neither broke the connection. */
    g_assert_cmpuint(pair.events.down, ==, 0);
    pair_end(&pair);
}

static void test_late_answer_is_a_timeout(void)
{
    Pair pair;
    g_autoptr(GError) late = NULL;
    g_autoptr(GError) error = NULL;

    pair_up(&pair);
    block_again();
    gint64 start = g_get_monotonic_time();
    g_assert_null(colo_channel_call(pair.channel, "block", NULL, 150, &late));
    g_assert_error(late, COLO_ERROR, COLO_ERROR_TIMEOUT);
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 150 * 1000);
    unblock_all();
    g_autoptr(JsonObject) echo = colo_channel_call(pair.channel, "echo", NULL, 3000, &error);
    g_assert_no_error(error);
    pair_end(&pair);
}

typedef struct {
    ColoChannel *channel;
    gint answered, refused, other; /* atomic */
} Crowd;

static gpointer call_block(gpointer data)
{
    Crowd *crowd = data;
    g_autoptr(GError) error = NULL;
    JsonObject *result = colo_channel_call(crowd->channel, "block", NULL, 20000, &error);

    if (result)
        g_atomic_int_inc(&crowd->answered);
    else if (g_error_matches(error, COLO_ERROR, COLO_ERROR_RESOURCE))
        g_atomic_int_inc(&crowd->refused);
    else
        g_atomic_int_inc(&crowd->other);
    json_object_put(result);
    return NULL;
}

/* With every worker busy and the queue full: further requests are refused, and heartbeats go on. */
static void test_full_queue_refuses_and_heartbeats_go_on(void)
{
    enum { EXTRA = 5, N = COLO_CHANNEL_MAX_REQUESTS + EXTRA };
    GThread *threads[N];
    Crowd crowd = {0};
    Pair pair;

    pair_up(&pair);
    block_again();
    crowd.channel = pair.channel;
    for (int i = 0; i < N; i++)
        threads[i] = g_thread_new("caller", call_block, &crowd);
    for (int i = 0; g_atomic_int_get(&crowd.refused) < EXTRA && i < 5000; i++)
        g_usleep(1000);
    g_assert_cmpint(g_atomic_int_get(&crowd.refused), ==, EXTRA);
    g_usleep(800 * 1000);
    g_assert_cmpuint(pair.events.silent, ==, 0);
    unblock_all();
    for (int i = 0; i < N; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(crowd.answered, ==, COLO_CHANNEL_MAX_REQUESTS);
    g_assert_cmpint(crowd.refused, ==, EXTRA);
    g_assert_cmpint(crowd.other, ==, 0);
    pair_end(&pair);
}

/* A call that waits while its channel is freed fails; nothing is touched afterwards. */
static void test_free_fails_waiting_calls(void)
{
    Crowd crowd = {0};
    GThread *thread;
    Pair pair;

    pair_up(&pair);
    block_again();
    crowd.channel = pair.channel;
    thread = g_thread_new("caller", call_block, &crowd);
    g_usleep(100 * 1000);
    colo_channel_free(pair.channel);
    g_thread_join(thread);
    g_assert_cmpint(crowd.other, ==, 1);
    unblock_all();
    colo_channel_server_free(pair.server);
    events_clear(&pair.events);
}

/* Whoever holds a reference finds a channel that its owner freed down. */
static void test_a_reference_outlives_the_free(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoPeerInfo) peer = NULL;
    ColoChannel *channel;
    Pair pair;

    pair_up(&pair);
    channel = colo_channel_ref(pair.channel);
    g_assert_true(colo_channel_is_up(channel));
    colo_channel_free(pair.channel);
    g_assert_false(colo_channel_is_up(channel));
    g_assert_null(colo_channel_call(channel, "echo", NULL, 5000, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
    peer = colo_channel_peer(channel);
    g_assert_nonnull(peer);
    colo_channel_unref(channel);
    colo_channel_server_free(pair.server);
    events_clear(&pair.events);
}

static void test_call_without_connection_fails_at_once(void)
{
    g_autoptr(GError) error = NULL;
    uint16_t port = 0;
    Events events;
    ColoChannel *channel;
    gint64 start;

    close(listen_loopback(&port));
    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "localhost", port, &events);
    g_free(wait_for_error(channel, "refused", 2000));
    start = g_get_monotonic_time();
    g_assert_null(colo_channel_call(channel, "echo", NULL, 5000, &error));
    g_assert_cmpint(g_get_monotonic_time() - start, <, 1000 * 1000);
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_nonnull(strstr(error->message, "localhost"));
    g_assert_nonnull(strstr(error->message, "refused"));
    colo_channel_free(channel);
    events_clear(&events);
}

static void test_stopped_peer_is_silent_and_heard_again(void)
{
    Child child = start_child(0);
    Events events;
    ColoChannel *channel;
    gint64 stopped;

    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "localhost", child.port, &events);
    g_assert_true(events_wait(&events, &events.up, 1, 3000));
    g_usleep(700 * 1000);
    g_assert_cmpuint(events.silent, ==, 0);

    stopped = g_get_monotonic_time();
    kill(child.pid, SIGSTOP);
    g_assert_true(events_wait(&events, &events.silent, 1, 5000));
    /* 5 x 100 ms after the last message, which came at most one interval before the stop. */
    g_assert_cmpuint(events.silent_ms, >=, 500);
    g_assert_cmpint(events.silent_at_us - stopped, >=, 350 * 1000);
    g_assert_cmpuint(colo_channel_silent_ms(channel), >=, 500);
    g_assert_true(colo_channel_is_up(channel));

    kill(child.pid, SIGCONT);
    g_assert_true(events_wait(&events, &events.heard, 1, 3000));
    g_assert_cmpuint(events.down, ==, 0);
    colo_channel_free(channel);
    kill_child(&child);
    events_clear(&events);
}

static void test_hasty_call_ends_with_silence(void)
{
    Child child = start_child(0);
    g_autoptr(GError) asked = NULL;
    g_autoptr(GError) again = NULL;
    g_autoptr(JsonObject) answer = NULL;
    Events events;
    ColoChannel *channel;
    gint64 start;

    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "localhost", child.port, &events);
    g_assert_true(events_wait(&events, &events.up, 1, 3000));
    kill(child.pid, SIGSTOP);
    start = g_get_monotonic_time();
    g_assert_null(colo_channel_call_hasty(channel, "echo", NULL, 20000, &asked));
    g_assert_error(asked, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_nonnull(strstr(asked->message, "localhost"));
    g_assert_nonnull(strstr(asked->message, "echo"));
    g_assert_cmpint(g_get_monotonic_time() - start, <, 5000 * 1000);
    /* Silent already: at once. */
    start = g_get_monotonic_time();
    g_assert_null(colo_channel_call_hasty(channel, "echo", NULL, 20000, &again));
    g_assert_error(again, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 400 * 1000);

    kill(child.pid, SIGCONT);
    g_assert_true(events_wait(&events, &events.heard, 1, 3000));
    answer = colo_channel_call_hasty(channel, "echo", NULL, 5000, NULL);
    g_assert_nonnull(answer);
    colo_channel_free(channel);
    kill_child(&child);
    events_clear(&events);
}

static void test_killed_peer_is_down_and_comes_back(void)
{
    Child child = start_child(0);
    g_autoptr(GError) error = NULL;
    Events events;
    ColoChannel *channel;
    uint16_t port = child.port;

    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "localhost", port, &events);
    g_assert_true(events_wait(&events, &events.up, 1, 3000));
    kill_child(&child);
    g_assert_true(events_wait(&events, &events.down, 1, 3000));
    g_assert_nonnull(events.reason);
    g_assert_true(events_wait(&events, &events.silent, 1, 3000));

    child = start_child(port);
    g_assert_true(events_wait(&events, &events.up, 2, 5000));
    g_assert_true(events_wait(&events, &events.heard, 1, 1000));
    g_autoptr(JsonObject) echo = colo_channel_call(channel, "echo", NULL, 3000, &error);
    g_assert_no_error(error);
    colo_channel_free(channel);
    kill_child(&child);
    events_clear(&events);
}

static gpointer kill_soon(gpointer data)
{
    Child *child = data;

    g_usleep(200 * 1000);
    kill_child(child);
    return NULL;
}

static void test_waiting_call_fails_when_the_peer_dies(void)
{
    Child child = start_child(0);
    g_autoptr(GError) error = NULL;
    Events events;
    ColoChannel *channel;
    GThread *killer;

    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "localhost", child.port, &events);
    g_assert_true(events_wait(&events, &events.up, 1, 3000));
    /* Stopped, so that it cannot answer; its kernel takes the request all the same. */
    kill(child.pid, SIGSTOP);
    killer = g_thread_new("killer", kill_soon, &child);
    g_assert_null(colo_channel_call(channel, "echo", NULL, 20000, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_nonnull(strstr(error->message, "localhost"));
    g_thread_join(killer);
    colo_channel_free(channel);
    events_clear(&events);
}

/* alpha cannot dial beta, but beta's own connection keeps it heard: no silence. */
static void test_accepted_connection_counts_as_heard(void)
{
    ColoTlsConfig tls = pki_config("alpha-server", "alpha-client");
    ColoPeerInfo self = host_info("alpha");
    g_autoptr(GError) error = NULL;
    Events to_beta, to_alpha;
    uint16_t port = 0, dead_port = 0;
    int fd = listen_loopback(&port);
    ColoChannelServer *server;
    ColoChannel *channel, *back;

    events_init(&to_beta);
    events_init(&to_alpha);
    close(listen_loopback(&dead_port));
    server = colo_channel_server_new(&tls, &self, fd, test_handler, NULL, &error);
    g_assert_no_error(error);
    back = dial_local("beta", "beta-client", "localhost", port, &to_alpha);
    g_assert_true(events_wait(&to_alpha, &to_alpha.up, 1, 3000));
    channel = dial_local("alpha", "alpha-client", "beta", dead_port, &to_beta);
    colo_channel_server_attach(server, channel);
    g_usleep(1200 * 1000);
    g_assert_false(colo_channel_is_up(channel));
    g_assert_cmpuint(to_beta.silent, ==, 0);

    colo_channel_free(back);
    g_assert_true(events_wait(&to_beta, &to_beta.silent, 1, 3000));
    colo_channel_free(channel);
    colo_channel_server_free(server);
    colo_tls_config_clear(&tls);
    events_clear(&to_beta);
    events_clear(&to_alpha);
}

int main(int argc, char **argv)
{
    int rc;

    if (argc == 4 && strcmp(argv[1], "--serve") == 0)
        return serve(argv[2], argv[3]);
    program = argv[0];
    g_test_init(&argc, &argv, NULL);
    pki_create();
    g_test_add_func("/pair/channel/call", test_call_is_answered);
    g_test_add_func("/pair/channel/error", test_error_is_carried_back);
    g_test_add_func("/pair/channel/1-mib", test_one_mib_is_the_limit);
    g_test_add_func("/pair/channel/timeout", test_late_answer_is_a_timeout);
    g_test_add_func("/pair/channel/full-queue", test_full_queue_refuses_and_heartbeats_go_on);
    g_test_add_func("/pair/channel/free", test_free_fails_waiting_calls);
    g_test_add_func("/pair/channel/reference", test_a_reference_outlives_the_free);
    g_test_add_func("/pair/channel/not-connected", test_call_without_connection_fails_at_once);
    g_test_add_func("/pair/channel/silence", test_stopped_peer_is_silent_and_heard_again);
    g_test_add_func("/pair/channel/hasty", test_hasty_call_ends_with_silence);
    g_test_add_func("/pair/channel/reconnect", test_killed_peer_is_down_and_comes_back);
    g_test_add_func("/pair/channel/broken-call", test_waiting_call_fails_when_the_peer_dies);
    g_test_add_func("/pair/channel/heard-accepted", test_accepted_connection_counts_as_heard);
    rc = g_test_run();
    pki_remove();
    return rc;
}
