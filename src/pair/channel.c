/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Dialled side of the control channel: connects for ever, calls, heartbeats, silence. */
#include "pair/channel.h"

#include "pair/channel-calls.h"
#include "pair/channel-hello.h"
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
    bool up;
    bool silent;
    bool grace;         /* our own stall was found; silence is judged one interval later */
    GPtrArray *servers; /* borrowed: attached to them */
    bool freed;

    /* Shared. */
    ColoCalls *calls;
    GMutex lock; /* protects what follows; peer and heard_ns are written by the I/O thread only */
    ColoPeerInfo *peer;
    uint64_t heard_ns;
    gint refs; /* atomic: the owner, users, an attempt to connect and posts under way */
};

ColoChannel *colo_channel_ref(ColoChannel *channel)
{
    g_atomic_int_inc(&channel->refs);
    return channel;
}

void colo_channel_unref(ColoChannel *channel)
{
    if (!g_atomic_int_dec_and_test(&channel->refs))
        return;
    colo_pki_free(channel->pki);
    colo_peer_info_free(channel->self);
    colo_peer_info_free(channel->peer);
    g_bytes_unref(channel->ping);
    colo_calls_free(channel->calls);
    g_ptr_array_unref(channel->servers);
    g_mutex_clear(&channel->lock);
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
    colo_calls_set_silent(channel->calls, false);
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

/* No connection (any more): waits, then dials again. */
static void go_down(ColoChannel *channel, const char *reason)
{
    bool was_up = channel->up;
    uint64_t now = colo_clock_ns();

    channel->up = false;
    /* Said when it is news, not at every attempt. */
    if (colo_calls_close(channel->calls, reason))
        colo_warn("control channel to %s is down: %s", channel->host, reason);
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
    g_mutex_unlock(&channel->lock);
    channel->up = true;
    colo_calls_open(channel->calls);
    channel->up_since_ns = colo_clock_ns();
    channel->ping_due_ns = channel->up_since_ns;
    colo_io_timer_arm(channel->beat, channel->up_since_ns);
    channel->beat_due_ns = channel->up_since_ns;

    colo_info("control channel to %s (%s, %s) is up", peer->host, peer->address, peer->software);
    note_heard(channel, colo_conn_heard_ns(conn));
    if (channel->events.up)
        channel->events.up(channel, peer, channel->opaque);
}

static void conn_message(ColoConn *conn, const char *type, JsonObject *message, void *opaque)
{
    ColoChannel *channel = opaque;

    note_heard(channel, colo_conn_heard_ns(conn));
    if (strcmp(type, "pong") == 0)
        return;

    g_autoptr(GError) error = NULL;
    if (strcmp(type, "reply") != 0)
        g_set_error(&error, COLO_ERROR, COLO_ERROR_PEER,
                    "%s broke the control protocol: message '%s' is not known here", channel->host,
                    type);
    else if (colo_calls_answer(channel->calls, message, &error))
        return;
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
        colo_channel_unref(channel);
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
    colo_channel_unref(channel);
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
    colo_calls_set_silent(channel->calls, true);
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
    channel->self = colo_hello_self(self);
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
    channel->calls = colo_calls_new(host);
    channel->heard_ns = colo_clock_ns();
    channel->refs = 1;
    g_mutex_init(&channel->lock);
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
    channel->up = false;
    colo_calls_close(channel->calls, "the channel was closed here");
}

void colo_channel_free(ColoChannel *channel)
{
    if (!channel)
        return;
    colo_io_run(channel_stop, channel);
    colo_channel_unref(channel);
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

    /* A call whose connection broke meanwhile is answered already: it must not go out on the next
     * one. */
    if (colo_calls_is_waiting(channel->calls, post->id) && channel->conn)
        colo_conn_send(channel->conn, post->frame);
    g_bytes_unref(post->frame);
    colo_channel_unref(channel);
    g_free(post);
}

static JsonObject *run_call(ColoChannel *channel, const char *method, JsonObject *params,
                            unsigned timeout_ms, bool hasty, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    ColoCall call = {.hasty = hasty};
    uint64_t id = colo_calls_begin(channel->calls, &call, error);
    JsonObject *result;
    GBytes *frame;
    Post *post;

    if (id == 0) {
        json_object_put(params);
        return NULL;
    }
    frame = colo_conn_frame(colo_json_build("type", "s", "request", "id", "u", id, "method", "s",
                                            method, "params", "o",
                                            params ? params : json_object_new_object(), NULL),
                            error);
    if (!frame) {
        colo_calls_drop(channel->calls, id);
        g_clear_error(&call.error); /* the connection may have broken meanwhile */
        return NULL;
    }
    post = g_new0(Post, 1);
    post->channel = channel;
    post->frame = frame;
    post->id = id;
    g_atomic_int_add(&channel->refs, 2); /* the post's, and ours: it may be freed while we wait */
    colo_io_post(send_call, post);
    result = colo_calls_wait(channel->calls, &call, id, method, end_us, error);
    colo_channel_unref(channel);
    return result;
}

JsonObject *colo_channel_call(ColoChannel *channel, const char *method, JsonObject *params,
                              unsigned timeout_ms, GError **error)
{
    return run_call(channel, method, params, timeout_ms, false, error);
}

JsonObject *colo_channel_call_hasty(ColoChannel *channel, const char *method, JsonObject *params,
                                    unsigned timeout_ms, GError **error)
{
    return run_call(channel, method, params, timeout_ms, true, error);
}

bool colo_channel_is_up(ColoChannel *channel)
{
    return colo_calls_are_open(channel->calls);
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
    return colo_calls_reason(channel->calls);
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
