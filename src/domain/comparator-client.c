/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/comparator-client.h"

#include "comparator/protocol.h"
#include "util/error.h"
#include "util/fdpass.h"
#include "util/framing.h"
#include "util/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* How often a connection is tried while the helper is away: it is restarted by its manager. */
#define RECONNECT_US (50 * G_TIME_SPAN_MILLISECOND)
/* A helper that does not read for so long (s) is taken for hung: the frame is broken off, and the
 * connection with it. */
#define SEND_TIMEOUT_S 2

/* A request that waits for its answer; lives on the caller's stack. */
typedef struct {
    gboolean done;
    JsonObject *answer; /* the whole answer; NULL: the connection ended */
} Pending;

struct ColoComparatorClient {
    char *path;
    ColoComparatorEvents events;
    void *opaque;
    GThread *reader;
    gboolean complained; /* the reader's */
    GMutex lock;         /* guards what follows */
    GCond changed;
    GHashTable *pending; /* id -> Pending * */
    uint64_t next_id;
    int conn; /* -1: none; before hello is answered only the reader uses it */
    int sock; /* conn once hello was answered; else -1 */
    gboolean stopping;
    GMutex send_lock; /* keeps frames whole; taken alone or under nothing */
};

static int connect_unix(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = SEND_TIMEOUT_S};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    if (sock >= 0 && connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(sock);
        sock = -1;
    }
    if (sock >= 0)
        setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return sock;
}

/* Takes @message over: json-c's counts are not atomic, so that an answer is handed on whole. */
static void dispatch(ColoComparatorClient *client, JsonObject *message)
{
    g_autoptr(JsonObject) owned = message;
    const char *event = colo_json_peek_string(message, "event", NULL);
    uint64_t id = colo_json_peek_uint(message, "id", 0);
    Pending *pending;

    if (event) {
        client->events.event(event, colo_json_peek_string(message, "uuid", ""), message,
                             client->opaque);
        return;
    }
    g_mutex_lock(&client->lock);
    pending = g_hash_table_lookup(client->pending, &id);
    if (pending) {
        g_hash_table_remove(client->pending, &id);
        pending->answer = g_steal_pointer(&owned);
        pending->done = TRUE;
        g_cond_broadcast(&client->changed);
    }
    g_mutex_unlock(&client->lock);
}

/* Requests of callers count from 1. */
#define HELLO_ID UINT64_C(0)

static gboolean send_hello(int sock, GError **error)
{
    g_autoptr(JsonObject) hello =
        colo_json_build("id", "u", HELLO_ID, "execute", "s", "hello", "arguments", "o",
                        colo_json_build("version", "u", (uint64_t)COLO_CMP_VERSION, NULL), NULL);
    g_autofree char *text = colo_json_to_string(hello);

    return colo_fdpass_send(sock, text, strlen(text), NULL, 0, error);
}

static void set_conn(ColoComparatorClient *client, int conn)
{
    g_mutex_lock(&client->lock);
    client->conn = conn;
    g_mutex_unlock(&client->lock);
}

static void set_socket(ColoComparatorClient *client, int sock)
{
    GHashTableIter iter;
    gpointer value;

    g_mutex_lock(&client->lock);
    client->sock = sock;
    if (sock < 0) {
        g_hash_table_iter_init(&iter, client->pending);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            ((Pending *)value)->done = TRUE;
            g_hash_table_iter_remove(&iter);
        }
    }
    g_cond_broadcast(&client->changed);
    g_mutex_unlock(&client->lock);
}

/* One message of the helper, taken over. Its answer to hello makes the connection usable. */
static gboolean take_message(ColoComparatorClient *client, int sock, JsonObject *message,
                             gboolean *greeted, GError **error)
{
    g_autoptr(JsonObject) owned = message;

    if (*greeted || colo_json_peek(message, "event") ||
        colo_json_peek_uint(message, "id", UINT64_MAX) != HELLO_ID) {
        dispatch(client, g_steal_pointer(&owned));
        return TRUE;
    }
    if (!colo_json_peek(message, "return")) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED, "it refused hello: %s",
                    colo_json_peek_string(colo_json_peek(message, "error"), "message", "?"));
        return FALSE;
    }
    *greeted = TRUE;
    set_socket(client, sock);
    if (!g_atomic_int_get(&client->stopping)) /* else: before _free() saw the connection */
        client->events.up(client->opaque);
    return TRUE;
}

/* Reads until the connection ends or breaks the protocol; TRUE if it was usable. */
static gboolean read_connection(ColoComparatorClient *client, int sock)
{
    g_autoptr(ColoFrameReader) reader = colo_frame_reader_new();
    g_autoptr(GError) error = NULL;
    gboolean greeted = FALSE;
    char buffer[16384];
    ssize_t n;

    send_hello(sock, &error);
    while (!error && (n = TEMP_FAILURE_RETRY(read(sock, buffer, sizeof(buffer)))) > 0) {
        size_t len;
        char *text;

        colo_frame_reader_feed(reader, buffer, (size_t)n);
        while (!error && (text = colo_frame_reader_next(reader, &len, &error))) {
            JsonObject *message = colo_json_parse(text, len, &error);

            g_free(text);
            if (message)
                take_message(client, sock, message, &greeted, &error);
        }
    }
    if (error && !client->complained)
        colo_warn("comparator: %s", error->message);
    client->complained = error != NULL; /* not each time that it is tried again */
    return greeted;
}

static gpointer reader_main(gpointer data)
{
    ColoComparatorClient *client = data;

    while (!g_atomic_int_get(&client->stopping)) {
        int sock = connect_unix(client->path);
        gboolean used = FALSE;

        if (sock >= 0) {
            set_conn(client, sock);
            if (!g_atomic_int_get(&client->stopping)) /* else: before _free() saw it */
                used = read_connection(client, sock);
            /* Nobody may be sending on the number when it is closed. */
            g_mutex_lock(&client->send_lock);
            set_socket(client, -1);
            set_conn(client, -1);
            close(sock);
            g_mutex_unlock(&client->send_lock);
        }
        if (g_atomic_int_get(&client->stopping))
            break;
        if (used)
            client->events.down(client->opaque);
        else
            g_usleep(RECONNECT_US);
    }
    return NULL;
}

ColoComparatorClient *colo_comparator_client_new(const char *path,
                                                 const ColoComparatorEvents *events, void *opaque)
{
    ColoComparatorClient *client = g_new0(ColoComparatorClient, 1);

    client->path = g_strdup(path);
    client->events = *events;
    client->opaque = opaque;
    client->conn = client->sock = -1;
    client->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_mutex_init(&client->lock);
    g_mutex_init(&client->send_lock);
    g_cond_init(&client->changed);
    client->reader = g_thread_new("comparator", reader_main, client);
    return client;
}

void colo_comparator_client_free(ColoComparatorClient *client)
{
    if (!client)
        return;
    g_atomic_int_set(&client->stopping, TRUE);
    g_mutex_lock(&client->lock);
    if (client->conn >= 0)
        shutdown(client->conn, SHUT_RDWR);
    g_mutex_unlock(&client->lock);
    g_thread_join(client->reader);
    g_hash_table_unref(client->pending);
    g_mutex_clear(&client->lock);
    g_mutex_clear(&client->send_lock);
    g_cond_clear(&client->changed);
    g_free(client->path);
    g_free(client);
}

gboolean colo_comparator_is_up(ColoComparatorClient *client)
{
    gboolean up;

    g_mutex_lock(&client->lock);
    up = client->sock >= 0;
    g_mutex_unlock(&client->lock);
    return up;
}

gboolean colo_comparator_wait_up(ColoComparatorClient *client, unsigned timeout_ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    gboolean up;

    g_mutex_lock(&client->lock);
    while (client->sock < 0 && g_cond_wait_until(&client->changed, &client->lock, end))
        ;
    up = client->sock >= 0;
    g_mutex_unlock(&client->lock);
    return up;
}

static gboolean send_request(ColoComparatorClient *client, const char *text, int fd, GError **error)
{
    gboolean sent = FALSE;
    int sock;

    g_mutex_lock(&client->send_lock);
    g_mutex_lock(&client->lock);
    sock = client->sock;
    g_mutex_unlock(&client->lock);
    if (sock < 0)
        g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM,
                    "colo-comparator is not running on this host (%s): start "
                    "colo-comparator.service",
                    client->path);
    else
        sent = colo_fdpass_send(sock, text, strlen(text), &fd, fd >= 0 ? 1 : 0, error);
    if (sock >= 0 && !sent && strlen(text) <= COLO_FRAME_MAX)
        shutdown(sock, SHUT_RDWR); /* perhaps in the middle of a frame */
    g_mutex_unlock(&client->send_lock);
    return sent;
}

/* "return" of @answer, or its "error" as a GError. */
static JsonObject *unpack(JsonObject *answer, const char *execute, GError **error)
{
    JsonObject *result = colo_json_peek(answer, "return");
    JsonObject *failure = colo_json_peek(answer, "error");

    if (result)
        return json_object_get(result);
    g_set_error(error, COLO_ERROR,
                (gint)colo_error_code_from_name(colo_json_peek_string(failure, "code", "internal")),
                "comparator refused %s: %s", execute,
                colo_json_peek_string(failure, "message", "an answer without a reason"));
    return NULL;
}

JsonObject *colo_comparator_call(ColoComparatorClient *client, const char *execute,
                                 JsonObject *arguments, int fd, unsigned timeout_ms, GError **error)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    g_autoptr(JsonObject) request = NULL;
    g_autoptr(JsonObject) answer = NULL;
    g_autofree char *text = NULL;
    Pending pending = {0};
    uint64_t id;

    g_mutex_lock(&client->lock);
    id = ++client->next_id;
    g_hash_table_insert(client->pending, g_memdup2(&id, sizeof(id)), &pending);
    g_mutex_unlock(&client->lock);

    request = colo_json_build("id", "u", id, "execute", "s", execute, "arguments", "o",
                              arguments ? arguments : json_object_new_object(), NULL);
    text = colo_json_to_string(request);
    if (!send_request(client, text, fd, error)) {
        g_mutex_lock(&client->lock);
        g_hash_table_remove(client->pending, &id);
        g_mutex_unlock(&client->lock);
        json_object_put(pending.answer);
        return NULL;
    }
    g_mutex_lock(&client->lock);
    while (!pending.done && g_cond_wait_until(&client->changed, &client->lock, end))
        ;
    g_hash_table_remove(client->pending, &id);
    answer = pending.answer;
    g_mutex_unlock(&client->lock);

    if (answer)
        return unpack(answer, execute, error);
    if (pending.done)
        g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM,
                    "colo-comparator went away while it was asked for %s", execute);
    else
        g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                    "colo-comparator did not answer %s within %u ms", execute, timeout_ms);
    return NULL;
}
