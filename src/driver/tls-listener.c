/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/tls-listener.h"

#include "rpc/closed.h"
#include "util/error.h"
#include "util/log.h"
#include "util/source.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of the largest TLS record, several. */
#define CHUNK (64u * 1024u)
#define ACCEPT_PAUSE_MS 200

/* libvirt's client stumbles over session tickets of TLS 1.3: they come before its first byte. */
#define INIT_FLAGS (GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS)
/* libvirt's default is "NORMAL"; what is older than TLS 1.2 is broken. */
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Bytes that have come from one side and wait for the other. */
typedef struct {
    uint8_t data[CHUNK];
    size_t at, len;
    gboolean ended; /* no more come */
} Buffer;

typedef enum { HANDSHAKE, GREETING, OPEN } Stage;

typedef struct {
    ColoTlsListener *listener;
    char address[INET6_ADDRSTRLEN];
    int tcp, inner; /* inner: our end of the pair; -1 before the greeting */
    ColoPkiCreds *creds;
    gnutls_session_t session;
    Stage stage;
    char *dn;
    GSource *tcp_source, *inner_source, *deadline;
    GIOCondition tcp_wanted, inner_wanted;
    Buffer in, out; /* from TLS, to TLS */
    gboolean out_shut, in_shut;
} Client;

struct ColoTlsListener {
    ColoRpcServer *server;
    ColoPki *pki;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    int fd;
    GSource *source;
    GPtrArray *clients;
};

static void client_free(gpointer data)
{
    Client *client = data;

    colo_source_drop(&client->tcp_source);
    colo_source_drop(&client->inner_source);
    colo_source_drop(&client->deadline);
    gnutls_deinit(client->session);
    colo_pki_creds_unref(client->creds);
    close(client->tcp);
    if (client->inner >= 0)
        close(client->inner);
    g_free(client->dn);
    g_free(client);
}

static void client_close(Client *client, const char *why)
{
    if (why) {
        g_autofree char *who =
            g_strdup_printf("TLS client at %s%s%s", client->address, client->dn ? ", " : "",
                            client->dn ? client->dn : "");

        colo_rpc_log_stranger_closed(who, "%s", why);
    }
    g_ptr_array_remove_fast(client->listener->clients, client);
}

/* ---- bytes; each returns FALSE when the connection has failed ---- */

static gboolean is_again(ssize_t rc)
{
    return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

static gboolean read_tls(Client *c)
{
    while (c->in.len == 0 && !c->in.ended) {
        uint8_t byte;
        ssize_t n = gnutls_record_recv(c->session, c->in.data, sizeof(c->in.data));

        if (n > 0) {
            c->in.at = 0;
            c->in.len = (size_t)n;
        } else if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION) {
            c->in.ended = TRUE;
        } else if (is_again(n)) {
            /* GnuTLS says so when it has taken in new keys, too: what lies behind them is read now,
             * for no event will tell of it. */
            if (recv(c->tcp, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
                return TRUE;
        } else if (gnutls_error_is_fatal((int)n)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean write_tls(Client *c)
{
    while (c->out.len > 0) {
        ssize_t n = gnutls_record_send(c->session, c->out.data + c->out.at, c->out.len);

        if (is_again(n))
            return TRUE;
        if (n < 0)
            return FALSE;
        c->out.at += (size_t)n;
        c->out.len -= (size_t)n;
    }
    if (c->out.ended && !c->out_shut) {
        if (is_again(gnutls_bye(c->session, GNUTLS_SHUT_WR)))
            return TRUE;
        c->out_shut = TRUE;
    }
    return TRUE;
}

static gboolean read_inner(Client *c)
{
    ssize_t n;

    if (c->out.len > 0 || c->out.ended)
        return TRUE;
    n = recv(c->inner, c->out.data, sizeof(c->out.data), MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    c->out.at = 0;
    c->out.len = (size_t)n;
    c->out.ended = n == 0;
    return TRUE;
}

static gboolean write_inner(Client *c)
{
    while (c->in.len > 0) {
        ssize_t n = send(c->inner, c->in.data + c->in.at, c->in.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        c->in.at += (size_t)n;
        c->in.len -= (size_t)n;
    }
    if (c->in.ended && !c->in_shut) {
        shutdown(c->inner, SHUT_WR);
        c->in_shut = TRUE;
    }
    return TRUE;
}

/* ---- stages ---- */

/* The relay gets the other end of a pair. */
static gboolean hand_over(Client *c)
{
    ColoRpcCaller caller = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
        colo_err("TLS client at %s: %s", c->address, g_strerror(errno));
        return FALSE;
    }
    g_strlcpy(caller.dn, c->dn, sizeof(caller.dn));
    c->inner = pair[0];
    colo_rpc_server_adopt(c->listener->server, pair[1], &caller);
    return TRUE;
}

/* FALSE: it was closed. */
static gboolean handshake(Client *c)
{
    g_autoptr(GError) error = NULL;
    int rc = gnutls_handshake(c->session);

    if (rc < 0) {
        if (!gnutls_error_is_fatal(rc))
            return TRUE;
        client_close(c, gnutls_strerror(rc));
        return FALSE;
    }
    if (!colo_pki_verify_peer(c->listener->pki, c->session, c->address, NULL, &c->dn, &error)) {
        client_close(c, error->message);
        return FALSE;
    }
    if (strlen(c->dn) >= sizeof(((ColoRpcCaller *)NULL)->dn)) {
        client_close(c, "its distinguished name is too long");
        return FALSE;
    }
    c->stage = GREETING;
    c->out.data[0] = 1;
    c->out.at = 0;
    c->out.len = 1;
    return TRUE;
}

static gboolean on_tcp(gint fd, GIOCondition condition, gpointer data);
static gboolean on_inner(gint fd, GIOCondition condition, gpointer data);

static void watch(Client *c, GSource **source, int fd, GIOCondition *now, GIOCondition wanted,
                  GUnixFDSourceFunc func)
{
    if (*source && *now == wanted)
        return;
    colo_source_drop(source);
    *now = wanted;
    if (!wanted)
        return;
    *source = colo_source_watch(c->listener->context, fd, wanted | G_IO_HUP | G_IO_ERR, func, c);
}

/* Waits for what would let it go on. */
static void watch_all(Client *c)
{
    GIOCondition tcp = 0, inner = 0;

    if (c->stage == HANDSHAKE) {
        tcp = gnutls_record_get_direction(c->session) ? G_IO_OUT : G_IO_IN;
    } else {
        if (c->in.len == 0 && !c->in.ended)
            tcp |= G_IO_IN;
        if (c->out.len > 0 || (c->out.ended && !c->out_shut))
            tcp |= G_IO_OUT;
    }
    if (c->stage == OPEN) {
        if (c->out.len == 0 && !c->out.ended)
            inner |= G_IO_IN;
        if (c->in.len > 0)
            inner |= G_IO_OUT;
    }
    watch(c, &c->tcp_source, c->tcp, &c->tcp_wanted, tcp, on_tcp);
    watch(c, &c->inner_source, c->inner, &c->inner_wanted, inner, on_inner);
}

/* One round; TRUE: bytes have moved, another may move more. */
static gboolean move(Client *c, gboolean *ok)
{
    size_t in = c->in.len, out = c->out.len;
    gboolean in_ended = c->in.ended, out_ended = c->out.ended;

    *ok = read_tls(c) && write_inner(c) && read_inner(c) && write_tls(c);
    return *ok && (c->in.len < in || c->out.len < out || c->in.ended != in_ended ||
                   c->out.ended != out_ended);
}

/* Goes on as far as it can; @c may be gone then. */
static void go_on(Client *c)
{
    gboolean ok = TRUE;

    if (c->stage == HANDSHAKE && !handshake(c))
        return;
    if (c->stage == GREETING) {
        ok = write_tls(c);
        if (ok && c->out.len == 0) {
            ok = hand_over(c);
            c->stage = OPEN;
            colo_source_drop(&c->deadline);
        }
    }
    while (ok && c->stage == OPEN && move(c, &ok))
        ;
    /* libvirt has ended it, or the client has and libvirt's last words are said. */
    if (!ok || (c->out.ended && c->out_shut))
        client_close(c, NULL);
    else
        watch_all(c);
}

static gboolean on_tcp(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    go_on(data);
    return G_SOURCE_CONTINUE;
}

static gboolean on_inner(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    go_on(data);
    return G_SOURCE_CONTINUE;
}

static gboolean on_deadline(gpointer data)
{
    client_close(data, "no certificate was shown in time");
    return G_SOURCE_REMOVE;
}

/* ---- connections ---- */

static void watch_listener(ColoTlsListener *listener);

static gboolean accept_again(gpointer data)
{
    watch_listener(data);
    return G_SOURCE_REMOVE;
}

static void client_new(ColoTlsListener *listener, int tcp, const struct sockaddr *address,
                       socklen_t len)
{
    Client *c = g_new0(Client, 1);
    int on = 1;

    c->listener = listener;
    c->tcp = tcp;
    c->inner = -1;
    if (getnameinfo(address, len, c->address, sizeof(c->address), NULL, 0, NI_NUMERICHOST) != 0)
        g_strlcpy(c->address, "?", sizeof(c->address));
    setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    c->creds = colo_pki_get(listener->pki);
    gnutls_init(&c->session, INIT_FLAGS);
    gnutls_priority_set_direct(c->session, PRIORITY, NULL);
    gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, colo_pki_creds_gnutls(c->creds));
    gnutls_certificate_server_set_request(c->session, GNUTLS_CERT_REQUIRE);
    gnutls_transport_set_int(c->session, tcp);
    c->deadline = g_timeout_source_new(COLO_TLS_HANDSHAKE_MS);
    g_source_set_callback(c->deadline, on_deadline, c, NULL);
    g_source_attach(c->deadline, listener->context);
    g_ptr_array_add(listener->clients, c);
    go_on(c);
}

static gboolean on_listener(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    ColoTlsListener *listener = data;
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    int tcp = accept4(fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (tcp < 0) {
        g_autoptr(GSource) timer = NULL;

        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return G_SOURCE_CONTINUE;
        colo_err("cannot accept a TLS client: %s", g_strerror(errno));
        timer = g_timeout_source_new(ACCEPT_PAUSE_MS);
        g_source_set_callback(timer, accept_again, listener, NULL);
        g_source_attach(timer, listener->context);
        g_clear_pointer(&listener->source, g_source_unref);
        return G_SOURCE_REMOVE;
    }
    if (listener->clients->len >= COLO_TLS_CLIENTS_MAX) {
        colo_rpc_log_stranger_closed("TLS client", "%u are connected, the limit",
                                     COLO_TLS_CLIENTS_MAX);
        close(tcp);
    } else {
        client_new(listener, tcp, (struct sockaddr *)&address, len);
    }
    return G_SOURCE_CONTINUE;
}

static void watch_listener(ColoTlsListener *listener)
{
    listener->source =
        colo_source_watch(listener->context, listener->fd, G_IO_IN, on_listener, listener);
}

static gpointer io_thread(gpointer data)
{
    ColoTlsListener *listener = data;

    g_main_context_push_thread_default(listener->context);
    g_main_loop_run(listener->loop);
    g_main_context_pop_thread_default(listener->context);
    return NULL;
}

ColoTlsListener *colo_tls_listener_new(int listen_fd, const ColoTlsConfig *config,
                                       ColoRpcServer *server, GError **error)
{
    ColoPki *pki = colo_pki_new(config, COLO_PKI_LISTENER, error);
    ColoTlsListener *listener;

    if (!pki || !g_unix_set_fd_nonblocking(listen_fd, TRUE, error)) {
        colo_pki_free(pki);
        close(listen_fd);
        return NULL;
    }
    listener = g_new0(ColoTlsListener, 1);
    listener->server = server;
    listener->pki = pki;
    listener->fd = listen_fd;
    listener->context = g_main_context_new();
    listener->loop = g_main_loop_new(listener->context, FALSE);
    listener->clients = g_ptr_array_new_with_free_func(client_free);
    watch_listener(listener);
    listener->thread = g_thread_new("tls-clients", io_thread, listener);
    return listener;
}

static gboolean quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

void colo_tls_listener_free(ColoTlsListener *listener)
{
    g_autoptr(GSource) source = NULL;

    if (!listener)
        return;
    source = g_idle_source_new();
    g_source_set_callback(source, quit, listener->loop, NULL);
    g_source_attach(source, listener->context);
    g_thread_join(listener->thread);
    g_ptr_array_unref(listener->clients);
    colo_source_drop(&listener->source);
    close(listener->fd);
    g_main_loop_unref(listener->loop);
    g_main_context_unref(listener->context);
    colo_pki_free(listener->pki);
    g_free(listener);
}
