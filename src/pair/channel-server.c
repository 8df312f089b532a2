/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accepted side of the control channel: listener, requests of peers, worker threads. */
#include "pair/channel-hello.h"
#include "pair/channel-io.h"
#include "pair/channel-private.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A line about refused connections at most this often. */
#define REFUSED_LOG_NS COLO_NS_PER_SEC
#define LISTEN_BACKLOG 32

struct ColoChannelServer {
    ColoPki *pki;
    ColoPeerInfo *self;
    GSocket *listener;
    GSource *accept_source;
    ColoIoTimer *sweep;  /* looks for silent connections once a second */
    GPtrArray *conns;    /* ColoConn, each with a reference, until gone */
    GPtrArray *channels; /* attached, borrowed */
    uint64_t refused;    /* connections over the limit since the last line about them */
    uint64_t refused_log_ns;
    ColoChannelHandler handler;
    void *opaque;
    GThreadPool *pool;
    gint requests; /* running or queued; atomic */
    gint stopping; /* atomic */
};

typedef struct {
    ColoChannelServer *server;
    ColoConn *conn; /* a reference */
    ColoPeerInfo *from;
    char *method;
    JsonObject *params;
    uint64_t id;
    GBytes *reply;
} Request;

static void request_free(Request *request)
{
    colo_conn_unref(request->conn);
    colo_peer_info_free(request->from);
    g_free(request->method);
    json_object_put(request->params);
    g_clear_pointer(&request->reply, g_bytes_unref);
    g_free(request);
}

/* A reply with the result (taken over), or the error when there is one. */
static GBytes *build_reply(uint64_t id, JsonObject *result, const GError *error)
{
    JsonObject *message = colo_json_build("type", "s", "reply", "id", "u", id, NULL);

    if (error) {
        ColoErrorCode code =
            error->domain == COLO_ERROR ? (ColoErrorCode)error->code : COLO_ERROR_INTERNAL;

        json_object_put(result);
        colo_json_add(message, "error", "o",
                      colo_json_build("code", "s", colo_error_code_name(code), "message", "s",
                                      error->message, NULL),
                      NULL);
    } else {
        colo_json_add(message, "result", "o", result ? result : json_object_new_object(), NULL);
    }

    g_autoptr(GError) too_long = NULL;
    GBytes *frame = colo_conn_frame(message, &too_long);

    if (!frame && error) { /* a message text of a megabyte: the code is what counts */
        g_autoptr(GError) brief =
            g_error_new_literal(error->domain, error->code, "(the error text is over the limit)");
        return build_reply(id, NULL, brief);
    }
    if (!frame) {
        g_prefix_error(&too_long, "the answer cannot be sent: ");
        return build_reply(id, NULL, too_long);
    }
    return frame;
}

static void send_reply(void *opaque)
{
    Request *request = opaque;

    if (request->reply)
        colo_conn_send(request->conn, request->reply);
    request_free(request);
}

static void run_request(gpointer data, gpointer user_data)
{
    Request *request = data;
    ColoChannelServer *server = user_data;

    if (!g_atomic_int_get(&server->stopping)) {
        g_autoptr(GError) error = NULL;
        JsonObject *result = server->handler(request->from, request->method, request->params,
                                             server->opaque, &error);

        request->reply = build_reply(request->id, result, error);
    }
    g_atomic_int_add(&server->requests, -1);
    colo_io_post(send_reply, request);
}

static void take_request(ColoChannelServer *server, ColoConn *conn, JsonObject *message)
{
    const ColoPeerInfo *peer = colo_conn_peer(conn);
    g_autoptr(GError) error = NULL;
    JsonObject *params;
    const char *method;
    uint64_t id;

    if (!colo_json_get_uint(message, "id", &id, &error) ||
        !colo_json_get_string(message, "method", &method, &error) ||
        !colo_json_get_object(message, "params", &params, &error)) {
        g_prefix_error(&error, "%s broke the control protocol: request: ", peer->host);
        error->code = COLO_ERROR_PEER;
        colo_conn_fail(conn, error);
        return;
    }
    if (g_atomic_int_get(&server->requests) >= (gint)COLO_CHANNEL_MAX_REQUESTS) {
        g_set_error(&error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "%s has %u requests running or waiting, its limit; try again later",
                    server->self->host, COLO_CHANNEL_MAX_REQUESTS);
        colo_warn("request '%s' of %s refused: %s", method, peer->host, error->message);

        g_autoptr(GBytes) reply = build_reply(id, NULL, error);
        colo_conn_send(conn, reply);
        return;
    }

    Request *request = g_new0(Request, 1);
    request->conn = colo_conn_ref(conn);
    request->from = colo_peer_info_copy(peer);
    request->method = g_strdup(method);
    request->params = json_object_get(params);
    request->id = id;
    /* The message goes with this turn of the I/O thread; json-c's reference counts are not atomic,
     * so the worker must be the only one that knows of params. */
    json_object_object_del(message, "params");
    g_atomic_int_inc(&server->requests);
    g_thread_pool_push(server->pool, request, NULL);
}

static void conn_message(ColoConn *conn, const char *type, JsonObject *message, void *opaque)
{
    static GBytes *pong;
    ColoChannelServer *server = opaque;

    for (guint i = 0; i < server->channels->len; i++)
        colo_channel_heard_elsewhere(g_ptr_array_index(server->channels, i), colo_conn_peer(conn),
                                     colo_conn_heard_ns(conn));
    if (strcmp(type, "ping") == 0) {
        if (!pong)
            pong = colo_conn_frame(colo_json_build("type", "s", "pong", NULL), NULL);
        colo_conn_send(conn, pong);
    } else if (strcmp(type, "request") == 0) {
        take_request(server, conn, message);
    } else {
        g_autoptr(GError) error = g_error_new(COLO_ERROR, COLO_ERROR_PEER,
                                              "%s broke the control protocol: message '%s' is not "
                                              "known here",
                                              colo_conn_peer(conn)->host, type);

        colo_conn_fail(conn, error);
    }
}

static void conn_ready(ColoConn *conn, void *opaque)
{
    ColoChannelServer *server = opaque;
    const ColoPeerInfo *peer = colo_conn_peer(conn);

    colo_info("control connection from %s (%s, '%s')", peer->host, peer->address, peer->dn);
    for (guint i = 0; i < server->channels->len; i++)
        colo_channel_heard_elsewhere(g_ptr_array_index(server->channels, i), peer,
                                     colo_conn_heard_ns(conn));
}

static void conn_closed(ColoConn *conn, const GError *reason, void *opaque)
{
    (void)opaque;
    colo_warn("control connection from %s ended: %s", colo_conn_address(conn), reason->message);
}

static void conn_gone(ColoConn *conn, void *opaque)
{
    ColoChannelServer *server = opaque;

    if (g_ptr_array_remove_fast(server->conns, conn))
        colo_conn_unref(conn);
}

static const ColoConnEvents conn_events = {
    .ready = conn_ready,
    .message = conn_message,
    .closed = conn_closed,
    .gone = conn_gone,
};

static char *address_text(GSocketAddress *address)
{
    g_autofree char *host = NULL;
    GInetSocketAddress *inet;

    if (!address || !G_IS_INET_SOCKET_ADDRESS(address))
        return g_strdup("(unknown address)");
    inet = G_INET_SOCKET_ADDRESS(address);
    host = g_inet_address_to_string(g_inet_socket_address_get_address(inet));
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
                           g_inet_socket_address_get_port(inet));
}

static void refuse(ColoChannelServer *server, const char *address)
{
    uint64_t now = colo_clock_ns();

    server->refused++;
    if (now - server->refused_log_ns < REFUSED_LOG_NS)
        return;
    colo_warn("control connection from %s closed: %u connections are the limit (%" G_GUINT64_FORMAT
              " refused)",
              address, COLO_CHANNEL_MAX_ACCEPTED, server->refused);
    server->refused = 0;
    server->refused_log_ns = now;
}

static gboolean accept_ready(GSocket *listener, GIOCondition condition, gpointer data)
{
    ColoChannelServer *server = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocket) socket = g_socket_accept(listener, NULL, &error);

    (void)condition;
    if (!socket) {
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
            colo_warn("control channel: accept: %s", error->message);
        return G_SOURCE_CONTINUE;
    }

    g_autoptr(GSocketAddress) remote = g_socket_get_remote_address(socket, NULL);
    g_autofree char *address = address_text(remote);

    if (server->conns->len >= COLO_CHANNEL_MAX_ACCEPTED) {
        refuse(server, address);
        return G_SOURCE_CONTINUE;
    }
    g_socket_set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, NULL);
    g_ptr_array_add(server->conns, colo_conn_new(socket, server->pki, COLO_PKI_LISTENER, NULL,
                                                 address, server->self, &conn_events, server));
    return G_SOURCE_CONTINUE;
}

/* Ends connections of which nothing was heard for too long: the peer's dialler has given up too. */
static void sweep(void *opaque)
{
    ColoChannelServer *server = opaque;
    uint64_t now = colo_clock_ns();
    guint i = server->conns->len;

    while (i-- > 0) {
        ColoConn *conn = g_ptr_array_index(server->conns, i);

        if (now - colo_conn_heard_ns(conn) > COLO_CHANNEL_DEAD_MS * COLO_NS_PER_MS) {
            g_autoptr(GError) error =
                g_error_new(COLO_ERROR, COLO_ERROR_PEER, "nothing heard from %s for %u ms",
                            colo_conn_address(conn), COLO_CHANNEL_DEAD_MS);
            colo_conn_fail(conn, error);
        }
        i = MIN(i, server->conns->len);
    }
    colo_io_timer_arm(server->sweep, now + COLO_NS_PER_SEC);
}

static void server_start(void *opaque)
{
    ColoChannelServer *server = opaque;

    server->accept_source = g_socket_create_source(server->listener, G_IO_IN, NULL);
    g_source_set_callback(server->accept_source, G_SOURCE_FUNC(accept_ready), server, NULL);
    g_source_attach(server->accept_source, colo_io_context());
    server->sweep = colo_io_timer_new(sweep, server);
    colo_io_timer_arm(server->sweep, colo_clock_ns() + COLO_NS_PER_SEC);
}

ColoChannelServer *colo_channel_server_new(const ColoTlsConfig *tls, const ColoPeerInfo *self,
                                           int listen_fd, ColoChannelHandler handler, void *opaque,
                                           GError **error)
{
    g_autoptr(ColoPki) pki = colo_pki_new(tls, COLO_PKI_LISTENER, error);
    g_autoptr(GSocket) listener = NULL;
    ColoChannelServer *server;

    if (!pki) {
        close(listen_fd);
        return NULL;
    }
    listener = g_socket_new_from_fd(listen_fd, error);
    if (!listener) {
        close(listen_fd);
        return NULL;
    }
    g_socket_set_blocking(listener, FALSE);

    server = g_new0(ColoChannelServer, 1);
    server->pki = g_steal_pointer(&pki);
    server->listener = g_steal_pointer(&listener);
    server->self = colo_hello_self(self);
    server->handler = handler;
    server->opaque = opaque;
    server->conns = g_ptr_array_new();
    server->channels = g_ptr_array_new();
    server->pool =
        g_thread_pool_new(run_request, server, (gint)COLO_CHANNEL_MAX_WORKERS, FALSE, NULL);
    colo_io_run(server_start, server);
    return server;
}

static void server_stop(void *opaque)
{
    ColoChannelServer *server = opaque;

    g_source_destroy(server->accept_source);
    g_source_unref(server->accept_source);
    colo_io_timer_free(server->sweep);
    for (guint i = 0; i < server->channels->len; i++)
        colo_channel_forget_server(g_ptr_array_index(server->channels, i), server);
    for (guint i = 0; i < server->conns->len; i++) {
        ColoConn *conn = g_ptr_array_index(server->conns, i);

        colo_conn_close(conn);
        colo_conn_unref(conn);
    }
    g_socket_close(server->listener, NULL);
}

static void nothing(void *opaque)
{
    (void)opaque;
}

void colo_channel_server_free(ColoChannelServer *server)
{
    if (!server)
        return;
    g_atomic_int_set(&server->stopping, 1);
    colo_io_run(server_stop, server);
    g_thread_pool_free(server->pool, FALSE, TRUE);
    colo_io_run(nothing, NULL); /* the replies that were posted are dropped now */
    g_ptr_array_unref(server->conns);
    g_ptr_array_unref(server->channels);
    g_object_unref(server->listener);
    colo_pki_free(server->pki);
    colo_peer_info_free(server->self);
    g_free(server);
}

typedef struct {
    ColoChannelServer *server;
    ColoChannel *channel;
} Pair;

static void attach(void *opaque)
{
    Pair *pair = opaque;

    g_ptr_array_add(pair->server->channels, pair->channel);
    colo_channel_remember_server(pair->channel, pair->server);
}

void colo_channel_server_attach(ColoChannelServer *server, ColoChannel *channel)
{
    Pair pair = {server, channel};

    colo_io_run(attach, &pair);
}

void colo_channel_server_forget(ColoChannelServer *server, ColoChannel *channel)
{
    g_ptr_array_remove_fast(server->channels, channel);
}

/* One address tried: the socket, or -1 with errno. */
static int listen_at(const struct addrinfo *ai)
{
    int one = 1, zero = 0;
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
        return fd;

    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int colo_channel_listen(const char *address, uint16_t port, GError **error)
{
    bool any = !address || !*address;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    int fd = -1;
    int rc;

    g_snprintf(service, sizeof(service), "%u", port);
    /* "::" takes IPv4 too; on a host without IPv6 the second round finds 0.0.0.0. */
    for (int round = 0; fd < 0 && round < (any ? 2 : 1); round++) {
        rc = getaddrinfo(any ? (round ? "0.0.0.0" : "::") : address, service, &hints, &list);
        if (rc != 0) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM, "cannot listen at '%s': %s", address,
                        gai_strerror(rc));
            return -1;
        }
        for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
            fd = listen_at(ai);
        rc = errno;
        freeaddrinfo(list);
    }
    if (fd < 0)
        colo_error_set_errno(error, rc, "cannot listen at '%s' port %u", any ? "::" : address,
                             port);
    return fd;
}
