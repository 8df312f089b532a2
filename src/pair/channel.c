/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dialled side of the control channel: connects for ever, calls, heartbeats, silence. */
#include "pair/channel.h"

#include "pair/channel-io.h"
#include "pair/channel-private.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* Unacknowledged bytes for so long mean that the peer's kernel or the link is gone: dial anew
 * instead of waiting for TCP's backed-off retransmission once the link is back. */
#define USER_TIMEOUT_MS 3000
/* A connection that stayed up for so long was good: the next backoff starts small again. */
#define GOOD_NS COLO_NS_PER_SEC

/* A caller that waits. Owned by the caller's stack; listed in pending until it is answered. */
typedef struct {
    bool done;
    JsonObject *result;
    GError *error;
} Call;

struct ColoChannel {
    /* Set once. */
    char *host;
    uint16_t port;
    ColoHeartbeat heartbeat;
    ColoChannelEvents events;
    void *opaque;
    ColoPki *pki;
    ColoPeerInfo *self;
    GBytes *ping;

    /* Of the I/O thread. */
    ColoConn *conn;
    GCancellable *dialling; /* NULL: no attempt runs */
    ColoIoTimer *redial;
    ColoIoTimer *beat;
    uint64_t beat_due_ns; /* when beat should have fired */
    uint64_t ping_due_ns;
    uint64_t dial_limit_ns;
    uint64_t up_since_ns;
    unsigned backoff_ms;
    bool silent;
    bool grace;         /* our own stall was found; silence is judged one interval later */
    GPtrArray *servers; /* borrowed: attached to them */
    bool freed;

    /* Shared. */
    GMutex lock;
    GCond answered;
    bool up;
    char *last_error;
    ColoPeerInfo *peer;
    uint64_t heard_ns;
    uint64_t next_id;
    GHashTable *pending; /* id (uint64_t *) -> Call, borrowed */
    gint refs;           /* atomic: the owner, an attempt to connect and posts under way */
};

ColoPeerInfo *colo_peer_info_copy(const ColoPeerInfo *info)
{
    ColoPeerInfo *copy;

    if (!info)
        return NULL;
    copy = g_new0(ColoPeerInfo, 1);
    copy->version = info->version;
    copy->software = g_strdup(info->software);
    copy->host = g_strdup(info->host);
    copy->host_uuid = g_strdup(info->host_uuid);
    copy->boot_id = g_strdup(info->boot_id);
    copy->qemu = g_strdup(info->qemu);
    copy->address = g_strdup(info->address);
    copy->dn = g_strdup(info->dn);
    return copy;
}

void colo_peer_info_free(ColoPeerInfo *info)
{
    if (!info)
        return;
    g_free(info->software);
    g_free(info->host);
    g_free(info->host_uuid);
    g_free(info->boot_id);
    g_free(info->qemu);
    g_free(info->address);
    g_free(info->dn);
    g_free(info);
}

static void default_text(char **text)
{
    if (!*text)
        *text = g_strdup("");
}

ColoPeerInfo *colo_channel_self(const ColoPeerInfo *self)
{
    ColoPeerInfo *copy = colo_peer_info_copy(self);

    if (copy->version == 0)
        copy->version = COLO_CHANNEL_VERSION;
    default_text(&copy->software);
    default_text(&copy->host);
    default_text(&copy->host_uuid);
    default_text(&copy->boot_id);
    return copy;
}

static void channel_unref(ColoChannel *channel)
{
    if (!g_atomic_int_dec_and_test(&channel->refs))
        return;
    colo_pki_free(channel->pki);
    colo_peer_info_free(channel->self);
    colo_peer_info_free(channel->peer);
    g_bytes_unref(channel->ping);
    g_hash_table_unref(channel->pending);
    g_ptr_array_unref(channel->servers);
    g_mutex_clear(&channel->lock);
    g_cond_clear(&channel->answered);
    g_free(channel->last_error);
    g_free(channel->host);
    g_free(channel);
}

static uint64_t silence_limit_ns(const ColoChannel *channel)
{
    return (uint64_t)channel->heartbeat.interval_ms * channel->heartbeat.missed * COLO_NS_PER_MS;
}

static void note_heard(ColoChannel *channel, uint64_t now)
{
    g_mutex_lock(&channel->lock);
    channel->heard_ns = MAX(channel->heard_ns, now);
    g_mutex_unlock(&channel->lock);
    channel->grace = false;
    if (!channel->silent)
        return;
    channel->silent = false;
    if (channel->events.heard)
        channel->events.heard(channel, channel->opaque);
}

void colo_channel_heard_elsewhere(ColoChannel *channel, const ColoPeerInfo *peer, uint64_t now)
{
    bool same = g_ascii_strcasecmp(peer->host, channel->host) == 0;

    /* Only the I/O thread writes channel->peer, so that it may read without the lock. */
    if (!same && channel->peer)
        same = strcmp(peer->host, channel->peer->host) == 0 &&
               strcmp(peer->host_uuid, channel->peer->host_uuid) == 0;
    if (same)
        note_heard(channel, now);
}

void colo_channel_remember_server(ColoChannel *channel, ColoChannelServer *server)
{
    g_ptr_array_add(channel->servers, server);
}

void colo_channel_forget_server(ColoChannel *channel, ColoChannelServer *server)
{
    g_ptr_array_remove_fast(channel->servers, server);
}

/* Remembers why the channel is down; says so in the log when it is news. */
static void set_last_error(ColoChannel *channel, const char *reason)
{
    bool news;

    g_mutex_lock(&channel->lock);
    news = g_strcmp0(channel->last_error, reason) != 0;
    if (news) {
        g_free(channel->last_error);
        channel->last_error = g_strdup(reason);
    }
    g_mutex_unlock(&channel->lock);
    if (news)
        colo_warn("control channel to %s is down: %s", channel->host, reason);
}

/* Answers every waiting call with COLO_ERROR_PEER; the lock is held. */
static void fail_pending(ColoChannel *channel, const char *reason)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, channel->pending);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Call *call = value;

        g_set_error(&call->error, COLO_ERROR, COLO_ERROR_PEER,
                    "connection to peer %s broke before the answer, it may have done what it was "
                    "asked: %s",
                    channel->host, reason);
        call->done = true;
    }
    g_hash_table_remove_all(channel->pending);
    g_cond_broadcast(&channel->answered);
}

/* No connection (any more): waits, then dials again. */
static void go_down(ColoChannel *channel, const char *reason)
{
    bool was_up;
    uint64_t now = colo_clock_ns();

    set_last_error(channel, reason);
    g_mutex_lock(&channel->lock);
    was_up = channel->up;
    channel->up = false;
    fail_pending(channel, reason);
    g_mutex_unlock(&channel->lock);

    if (was_up && now - channel->up_since_ns > GOOD_NS)
        channel->backoff_ms = COLO_CHANNEL_BACKOFF_MIN_MS;
    colo_io_timer_arm(channel->redial, now + channel->backoff_ms * COLO_NS_PER_MS);
    channel->backoff_ms = MIN(channel->backoff_ms * 2, COLO_CHANNEL_BACKOFF_MAX_MS);
    if (was_up && channel->events.down)
        channel->events.down(channel, reason, channel->opaque);
}

static void conn_ready(ColoConn *conn, void *opaque)
{
    ColoChannel *channel = opaque;
    const ColoPeerInfo *peer = colo_conn_peer(conn);

    g_mutex_lock(&channel->lock);
    colo_peer_info_free(channel->peer);
    channel->peer = colo_peer_info_copy(peer);
    channel->up = true;
    g_clear_pointer(&channel->last_error, g_free);
    g_mutex_unlock(&channel->lock);
    channel->up_since_ns = colo_clock_ns();
    channel->ping_due_ns = channel->up_since_ns;
    colo_io_timer_arm(channel->beat, channel->up_since_ns);
    channel->beat_due_ns = channel->up_since_ns;

    colo_info("control channel to %s (%s, %s) is up", peer->host, peer->address, peer->software);
    note_heard(channel, colo_conn_heard_ns(conn));
    if (channel->events.up)
        channel->events.up(channel, peer, channel->opaque);
}

/* Fills @call from a reply; @message stays the caller's, so the result is moved out of it. */
static void fill_call(Call *call, JsonObject *message)
{
    JsonObject *error = colo_json_peek(message, "error");
    JsonObject *result = colo_json_peek(message, "result");

    if (json_object_is_type(error, json_type_object)) {
        g_set_error_literal(
            &call->error, COLO_ERROR,
            (gint)colo_error_code_from_name(colo_json_peek_string(error, "code", "internal")),
            colo_json_peek_string(error, "message", "the peer gave no reason"));
    } else if (json_object_is_type(result, json_type_object)) {
        call->result = json_object_get(result);
        json_object_object_del(message, "result");
    } else {
        g_set_error_literal(&call->error, COLO_ERROR, COLO_ERROR_PEER,
                            "the peer answered with neither a result nor an error");
    }
    call->done = true;
}

static void take_reply(ColoChannel *channel, JsonObject *message)
{
    g_autoptr(GError) error = NULL;
    uint64_t id;
    Call *call;

    if (!colo_json_get_uint(message, "id", &id, &error)) {
        g_prefix_error(&error, "%s broke the control protocol: reply: ", channel->host);
        error->code = COLO_ERROR_PEER;
        colo_conn_fail(channel->conn, error);
        return;
    }
    g_mutex_lock(&channel->lock);
    call = g_hash_table_lookup(channel->pending, &id);
    if (call) { /* else its caller has given up */
        fill_call(call, message);
        g_hash_table_remove(channel->pending, &id);
        g_cond_broadcast(&channel->answered);
    }
    g_mutex_unlock(&channel->lock);
}

static void conn_message(ColoConn *conn, const char *type, JsonObject *message, void *opaque)
{
    ColoChannel *channel = opaque;

    note_heard(channel, colo_conn_heard_ns(conn));
    if (strcmp(type, "pong") == 0)
        return;
    if (strcmp(type, "reply") == 0) {
        take_reply(channel, message);
        return;
    }

    g_autoptr(GError) error = g_error_new(COLO_ERROR, COLO_ERROR_PEER,
                                          "%s broke the control protocol: message '%s' is not "
                                          "known here",
                                          channel->host, type);
    colo_conn_fail(conn, error);
}

static void conn_closed(ColoConn *conn, const GError *reason, void *opaque)
{
    ColoChannel *channel = opaque;

    channel->conn = NULL;
    colo_conn_unref(conn);
    go_down(channel, reason->message);
}

static const ColoConnEvents conn_events = {
    .ready = conn_ready,
    .message = conn_message,
    .closed = conn_closed,
};

static void connected(GObject *source, GAsyncResult *result, gpointer data)
{
    ColoChannel *channel = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketConnection) stream =
        g_socket_client_connect_to_host_finish(G_SOCKET_CLIENT(source), result, &error);

    g_clear_object(&channel->dialling);
    if (channel->freed) {
        channel_unref(channel);
        return;
    }
    if (!stream) {
        g_autofree char *reason = NULL;

        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            reason = g_strdup_printf("no connection to %s port %u within %u ms", channel->host,
                                     channel->port, COLO_CHANNEL_HANDSHAKE_MS);
        else
            reason = g_strdup_printf("cannot connect to %s port %u: %s; is virtcolod running "
                                     "there?",
                                     channel->host, channel->port, error->message);
        go_down(channel, reason);
    } else {
        /* The stream closes its socket with itself: the connection gets a duplicate. */
        int fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(stream)), F_DUPFD_CLOEXEC, 0);
        g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);
        g_autofree char *address = g_strdup_printf("%s:%u", channel->host, channel->port);

        g_socket_set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, NULL);
        g_socket_set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS, NULL);
        channel->conn = colo_conn_new(socket, channel->pki, COLO_PKI_DIALLER, channel->host,
                                      address, channel->self, &conn_events, channel);
    }
    channel_unref(channel);
}

static void dial(void *opaque)
{
    ColoChannel *channel = opaque;
    g_autoptr(GSocketClient) client = g_socket_client_new();

    g_socket_client_set_enable_proxy(client, FALSE);
    channel->dialling = g_cancellable_new();
    channel->dial_limit_ns = colo_clock_ns() + COLO_CHANNEL_HANDSHAKE_MS * COLO_NS_PER_MS;
    g_atomic_int_inc(&channel->refs);
    g_socket_client_connect_to_host_async(client, channel->host, channel->port, channel->dialling,
                                          connected, channel);
}

/* Judges silence. A beat that comes late means that this process, not the peer, stood still: what
 * the peer sent meanwhile is still unread, so one more interval decides. */
static void judge_silence(ColoChannel *channel, uint64_t now, bool late)
{
    uint64_t silent_ns = now - channel->heard_ns;

    if (channel->silent || silent_ns < silence_limit_ns(channel))
        return;
    if (late && !channel->grace) {
        channel->grace = true;
        return;
    }
    channel->grace = false;
    channel->silent = true;
    if (channel->events.silent)
        channel->events.silent(channel, silent_ns / COLO_NS_PER_MS, channel->opaque);
}

static void beat(void *opaque)
{
    ColoChannel *channel = opaque;
    uint64_t now = colo_clock_ns();
    uint64_t interval = channel->heartbeat.interval_ms * COLO_NS_PER_MS;
    bool late = now - channel->beat_due_ns > interval;
    uint64_t limit;

    if (channel->dialling && now > channel->dial_limit_ns)
        g_cancellable_cancel(channel->dialling);
    if (channel->conn && channel->up && now >= channel->ping_due_ns) {
        channel->ping_due_ns = MAX(channel->ping_due_ns + interval, now);
        colo_conn_send(channel->conn, channel->ping);
    }
    if (channel->conn && channel->up &&
        now - colo_conn_heard_ns(channel->conn) > COLO_CHANNEL_DEAD_MS * COLO_NS_PER_MS) {
        g_autoptr(GError) error =
            g_error_new(COLO_ERROR, COLO_ERROR_PEER, "nothing heard from %s for %u ms",
                        channel->host, COLO_CHANNEL_DEAD_MS);
        colo_conn_fail(channel->conn, error);
    }
    judge_silence(channel, now, late);

    /* The next ping or the moment of silence, whichever is first. */
    limit = channel->heard_ns + silence_limit_ns(channel);
    channel->beat_due_ns = now + interval;
    if (!channel->silent && limit > now && limit < channel->beat_due_ns)
        channel->beat_due_ns = limit;
    colo_io_timer_arm(channel->beat, channel->beat_due_ns);
}

static void channel_start(void *opaque)
{
    ColoChannel *channel = opaque;

    channel->redial = colo_io_timer_new(dial, channel);
    channel->beat = colo_io_timer_new(beat, channel);
    channel->beat_due_ns = colo_clock_ns();
    colo_io_timer_arm(channel->beat, channel->beat_due_ns);
    dial(channel);
}

ColoChannel *colo_channel_new(const ColoTlsConfig *tls, const ColoPeerInfo *self, const char *host,
                              uint16_t port, const ColoHeartbeat *heartbeat,
                              const ColoChannelEvents *events, void *opaque, GError **error)
{
    ColoPki *pki = colo_pki_new(tls, COLO_PKI_DIALLER, error);
    ColoChannel *channel;

    if (!pki)
        return NULL;
    channel = g_new0(ColoChannel, 1);
    channel->pki = pki;
    channel->self = colo_channel_self(self);
    channel->host = g_strdup(host);
    channel->port = port;
    channel->heartbeat = heartbeat ? *heartbeat : COLO_HEARTBEAT_DEFAULT;
    channel->heartbeat.interval_ms = MAX(channel->heartbeat.interval_ms, 1);
    channel->heartbeat.missed = MAX(channel->heartbeat.missed, 1);
    if (events)
        channel->events = *events;
    channel->opaque = opaque;
    channel->ping = colo_conn_frame(colo_json_build("type", "s", "ping", NULL), NULL);
    channel->backoff_ms = COLO_CHANNEL_BACKOFF_MIN_MS;
    channel->servers = g_ptr_array_new();
    channel->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    channel->heard_ns = colo_clock_ns();
    channel->last_error = g_strdup("not connected yet");
    channel->refs = 1;
    g_mutex_init(&channel->lock);
    g_cond_init(&channel->answered);
    colo_io_run(channel_start, channel);
    return channel;
}

static void channel_stop(void *opaque)
{
    ColoChannel *channel = opaque;

    channel->freed = true;
    while (channel->servers->len > 0) {
        colo_channel_server_forget(g_ptr_array_index(channel->servers, 0), channel);
        g_ptr_array_remove_index_fast(channel->servers, 0);
    }
    if (channel->dialling)
        g_cancellable_cancel(channel->dialling);
    colo_io_timer_free(channel->redial);
    colo_io_timer_free(channel->beat);
    if (channel->conn) {
        colo_conn_close(channel->conn);
        colo_conn_unref(g_steal_pointer(&channel->conn));
    }
    g_mutex_lock(&channel->lock);
    channel->up = false;
    fail_pending(channel, "the channel was closed here");
    g_mutex_unlock(&channel->lock);
}

void colo_channel_free(ColoChannel *channel)
{
    if (!channel)
        return;
    colo_io_run(channel_stop, channel);
    channel_unref(channel);
}

typedef struct {
    ColoChannel *channel;
    GBytes *frame;
    uint64_t id;
} Post;

static void send_call(void *opaque)
{
    Post *post = opaque;
    ColoChannel *channel = post->channel;
    bool waited;

    /* A call whose connection broke meanwhile is answered already: it must not go out on the next
     * one. */
    g_mutex_lock(&channel->lock);
    waited = g_hash_table_contains(channel->pending, &post->id);
    g_mutex_unlock(&channel->lock);
    if (waited && channel->conn)
        colo_conn_send(channel->conn, post->frame);
    g_bytes_unref(post->frame);
    channel_unref(channel);
    g_free(post);
}

/* Takes @call into pending; 0 and @error when that cannot be. The lock is held. */
static uint64_t enlist(ColoChannel *channel, Call *call, GError **error)
{
    gint64 *key;

    if (!channel->up) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, "peer %s is not connected: %s",
                    channel->host, channel->last_error ? channel->last_error : "closed");
        return 0;
    }
    if (g_hash_table_size(channel->pending) >= COLO_CHANNEL_MAX_CALLS) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "%u calls to peer %s wait already, the limit; try again later",
                    COLO_CHANNEL_MAX_CALLS, channel->host);
        return 0;
    }
    key = g_new(gint64, 1);
    *key = (gint64)++channel->next_id;
    g_hash_table_insert(channel->pending, key, call);
    return channel->next_id;
}

JsonObject *colo_channel_call(ColoChannel *channel, const char *method, JsonObject *params,
                              unsigned timeout_ms, GError **error)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    Call call = {0};
    GBytes *frame;
    uint64_t id;

    g_mutex_lock(&channel->lock);
    id = enlist(channel, &call, error);
    g_mutex_unlock(&channel->lock);
    if (id == 0) {
        json_object_put(params);
        return NULL;
    }
    frame = colo_conn_frame(colo_json_build("type", "s", "request", "id", "u", id, "method", "s",
                                            method, "params", "o",
                                            params ? params : json_object_new_object(), NULL),
                            error);
    if (frame) {
        Post *post = g_new0(Post, 1);

        post->channel = channel;
        post->frame = frame;
        post->id = id;
        g_atomic_int_inc(&channel->refs);
        colo_io_post(send_call, post);
    }

    g_mutex_lock(&channel->lock);
    while (frame && !call.done) {
        if (!g_cond_wait_until(&channel->answered, &channel->lock, end) && !call.done) {
            g_set_error(&call.error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "peer %s did not answer '%s' within %u ms; it may still do it",
                        channel->host, method, timeout_ms);
            break;
        }
    }
    g_hash_table_remove(channel->pending, &id);
    g_mutex_unlock(&channel->lock);
    if (frame && call.error)
        g_propagate_error(error, call.error);
    else
        g_clear_error(&call.error);
    return call.result;
}

bool colo_channel_is_up(ColoChannel *channel)
{
    bool up;

    g_mutex_lock(&channel->lock);
    up = channel->up;
    g_mutex_unlock(&channel->lock);
    return up;
}

uint64_t colo_channel_silent_ms(ColoChannel *channel)
{
    uint64_t heard;

    g_mutex_lock(&channel->lock);
    heard = channel->heard_ns;
    g_mutex_unlock(&channel->lock);
    return (colo_clock_ns() - heard) / COLO_NS_PER_MS;
}

char *colo_channel_last_error(ColoChannel *channel)
{
    char *text;

    g_mutex_lock(&channel->lock);
    text = channel->up ? NULL : g_strdup(channel->last_error);
    g_mutex_unlock(&channel->lock);
    return text;
}

ColoPeerInfo *colo_channel_peer(ColoChannel *channel)
{
    ColoPeerInfo *copy;

    g_mutex_lock(&channel->lock);
    copy = colo_peer_info_copy(channel->peer);
    g_mutex_unlock(&channel->lock);
    return copy;
}

const char *colo_channel_host(const ColoChannel *channel)
{
    return channel->host;
}
