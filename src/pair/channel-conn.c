/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pair/channel-conn.h"

#include "pair/channel-hello.h"
#include "pair/channel-io.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/framing.h"
#include "util/log.h"

#include <errno.h>
#include <string.h>

/* After an error was sent, the peer gets so long to read it: closing earlier with unread bytes
 * would make the kernel send RST, which discards it there. */
#define LINGER_MS 1000u
/* Bytes read in one go before others get their turn. */
#define READ_TURN (256u * 1024u)

typedef enum {
    STATE_HANDSHAKE,
    STATE_HELLO, /* TLS is up and the certificate verified, the peer's hello is awaited */
    STATE_READY,
    STATE_LINGER, /* closed for the owner; an error is on its way */
    STATE_CLOSED,
} State;

struct ColoConn {
    gint refs;
    State state;
    ColoPkiSide side;
    GSocket *socket;
    ColoIoWatch *watch;
    ColoIoTimer *deadline;
    ColoPki *pki;
    ColoPkiCreds *creds;
    gnutls_session_t session;
    char *host;
    char *address;
    char *dn;
    const ColoPeerInfo *self;
    ColoPeerInfo *peer;
    const ColoConnEvents *events;
    void *opaque;
    ColoFrameReader *reader;
    bool lingering; /* holds a reference on itself until gone */
    bool bye_sent;
    GQueue out;    /* GBytes, sent in order */
    size_t sent;   /* bytes of the first that are sent */
    size_t unsent; /* bytes in out */
    uint64_t heard_ns;
};

/* What broke a connection, for people. */
static const char *broken_text(ssize_t rc, int errnum)
{
    if (rc == GNUTLS_E_PREMATURE_TERMINATION)
        return "it was cut off without a TLS close";
    if ((rc == GNUTLS_E_PULL_ERROR || rc == GNUTLS_E_PUSH_ERROR) && errnum != 0)
        return g_strerror(errnum);
    return gnutls_strerror((int)rc);
}

static void conn_gone(ColoConn *conn)
{
    if (conn->state == STATE_CLOSED)
        return;
    conn->state = STATE_CLOSED;
    colo_io_timer_free(g_steal_pointer(&conn->deadline));
    colo_io_watch_free(g_steal_pointer(&conn->watch));
    gnutls_deinit(conn->session);
    conn->session = NULL;
    colo_pki_creds_unref(g_steal_pointer(&conn->creds));
    g_socket_close(conn->socket, NULL);
    if (conn->events->gone)
        conn->events->gone(conn, conn->opaque);
    if (conn->lingering) {
        conn->lingering = false;
        colo_conn_unref(conn);
    }
}

/* Tells the owner once; the connection lives on to deliver what is queued, or ends. */
static void conn_lost(ColoConn *conn, const GError *reason, bool linger)
{
    bool first = conn->state < STATE_LINGER;

    if (conn->state == STATE_CLOSED)
        return;
    colo_conn_ref(conn);
    if (linger && first) {
        conn->state = STATE_LINGER;
        conn->lingering = true;
        colo_conn_ref(conn);
        colo_io_timer_arm(conn->deadline, colo_clock_ns() + LINGER_MS * COLO_NS_PER_MS);
    }
    if (first && conn->events->closed)
        conn->events->closed(conn, reason, conn->opaque);
    if (!linger)
        conn_gone(conn);
    colo_conn_unref(conn);
}

static void conn_lostf(ColoConn *conn, ColoErrorCode code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void conn_lostf(ColoConn *conn, ColoErrorCode code, const char *format, ...)
{
    va_list args;
    GError *reason;

    va_start(args, format);
    reason = g_error_new_valist(COLO_ERROR, (gint)code, format, args);
    va_end(args);
    conn_lost(conn, reason, false);
    g_error_free(reason);
}

static void watch_socket(ColoConn *conn)
{
    GIOCondition condition = G_IO_IN | G_IO_HUP | G_IO_ERR;
    bool blocked_on_write = conn->state == STATE_HANDSHAKE
                                ? gnutls_record_get_direction(conn->session) == 1
                                : !g_queue_is_empty(&conn->out);

    if (blocked_on_write)
        condition |= G_IO_OUT;
    colo_io_watch_set(conn->watch, condition);
}

/* Writes what the socket takes. False when the connection was lost by it. */
static bool flush(ColoConn *conn)
{
    while (conn->state != STATE_CLOSED && !g_queue_is_empty(&conn->out)) {
        GBytes *frame = g_queue_peek_head(&conn->out);
        size_t size;
        const char *data = g_bytes_get_data(frame, &size);
        ssize_t n = gnutls_record_send(conn->session, data + conn->sent, size - conn->sent);

        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n == GNUTLS_E_AGAIN)
            break;
        if (n < 0) {
            conn_lostf(conn, COLO_ERROR_PEER, "connection with %s broke: %s", conn->address,
                       broken_text(n, errno));
            return false;
        }
        conn->sent += (size_t)n;
        conn->unsent -= (size_t)n;
        if (conn->sent == size) {
            g_bytes_unref(g_queue_pop_head(&conn->out));
            conn->sent = 0;
        }
    }
    if (conn->state == STATE_CLOSED)
        return false;
    if (conn->state == STATE_LINGER && g_queue_is_empty(&conn->out) && !conn->bye_sent) {
        conn->bye_sent = true;
        gnutls_bye(conn->session, GNUTLS_SHUT_WR);
    }
    watch_socket(conn);
    return true;
}

static void queue_frame(ColoConn *conn, GBytes *frame)
{
    g_queue_push_tail(&conn->out, g_bytes_ref(frame));
    conn->unsent += g_bytes_get_size(frame);
}

void colo_conn_send(ColoConn *conn, GBytes *frame)
{
    if (conn->state != STATE_READY)
        return;
    queue_frame(conn, frame);
    if (flush(conn) && conn->unsent > COLO_CHANNEL_MAX_UNSENT)
        conn_lostf(conn, COLO_ERROR_PEER, "%s does not read: %zu bytes wait to be sent",
                   conn->address, conn->unsent);
}

void colo_conn_fail(ColoConn *conn, const GError *reason)
{
    if (conn->state >= STATE_LINGER)
        return;
    if (conn->state == STATE_HANDSHAKE) {
        conn_lost(conn, reason, false);
        return;
    }
    colo_conn_ref(conn);
    ColoErrorCode code =
        reason->domain == COLO_ERROR ? (ColoErrorCode)reason->code : COLO_ERROR_INTERNAL;
    g_autoptr(GBytes) frame = colo_conn_frame(colo_json_build("type", "s", "error", "code", "s",
                                                              colo_error_code_name(code), "message",
                                                              "s", reason->message, NULL),
                                              NULL);
    if (frame)
        queue_frame(conn, frame);
    conn_lost(conn, reason, true);
    flush(conn);
    colo_conn_unref(conn);
}

void colo_conn_close(ColoConn *conn)
{
    static const ColoConnEvents none = {0};

    conn->events = &none;
    if ((conn->state == STATE_HELLO || conn->state == STATE_READY) && g_queue_is_empty(&conn->out))
        gnutls_bye(conn->session, GNUTLS_SHUT_WR);
    conn_gone(conn);
}

GBytes *colo_conn_frame(JsonObject *message, GError **error)
{
    g_autofree char *text = colo_json_to_string(message);
    size_t len = strlen(text);

    json_object_put(message);
    if (len > COLO_FRAME_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "control message of %zu bytes is over the limit of %u bytes", len,
                    COLO_FRAME_MAX);
        return NULL;
    }
    return colo_frame_build(text, len, error);
}

static void say_hello(ColoConn *conn)
{
    g_autoptr(GBytes) frame = colo_conn_frame(colo_hello_build(conn->self), NULL);

    queue_frame(conn, frame);
}

/* What @message says of the peer, if its certificate is for the name that it gives itself. */
static ColoPeerInfo *take_hello(ColoConn *conn, const char *type, JsonObject *message,
                                GError **error)
{
    g_autoptr(ColoPeerInfo) peer =
        colo_hello_parse(conn->self, conn->address, type, message, error);

    if (!peer)
        return NULL;
    if (!colo_pki_peer_has_name(conn->session, peer->host)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH,
                    "%s calls itself '%s', but its certificate '%s' is not for that name; set "
                    "host_name in its virtcolod.conf to a name of the certificate",
                    conn->address, peer->host, conn->dn);
        return NULL;
    }
    peer->dn = g_strdup(conn->dn);
    return g_steal_pointer(&peer);
}

/* An error message of the peer ends the connection; its text is the reason. */
static void take_error(ColoConn *conn, JsonObject *message)
{
    ColoErrorCode code =
        colo_error_code_from_name(colo_json_peek_string(message, "code", "internal"));

    conn_lostf(conn, code, "%s refused the connection: %s", conn->address,
               colo_json_peek_string(message, "message", "no reason given"));
}

static void take_message(ColoConn *conn, const char *text, size_t len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) message = colo_json_parse(text, len, &error);
    const char *type;

    if (!message || !colo_json_get_string(message, "type", &type, &error)) {
        g_prefix_error(&error, "%s broke the control protocol: ", conn->address);
        error->code = COLO_ERROR_PEER;
        colo_conn_fail(conn, error);
        return;
    }
    conn->heard_ns = colo_clock_ns();
    if (strcmp(type, "error") == 0) {
        take_error(conn, message);
    } else if (conn->state == STATE_READY) {
        conn->events->message(conn, type, message, conn->opaque);
    } else {
        conn->peer = take_hello(conn, type, message, &error);
        if (!conn->peer) {
            colo_conn_fail(conn, error);
            return;
        }
        /* The listener greets last: once greeted, the dialler knows that it is accepted. */
        if (conn->side == COLO_PKI_LISTENER)
            say_hello(conn);
        conn->state = STATE_READY;
        if (!flush(conn))
            return;
        colo_io_timer_arm(conn->deadline, UINT64_MAX / 2);
        conn->events->ready(conn, conn->opaque);
    }
}

static void take_bytes(ColoConn *conn, const char *data, size_t len)
{
    colo_frame_reader_feed(conn->reader, data, len);
    while (conn->state == STATE_HELLO || conn->state == STATE_READY) {
        g_autoptr(GError) error = NULL;
        size_t size;
        g_autofree char *text = colo_frame_reader_next(conn->reader, &size, &error);

        if (error) {
            g_prefix_error(&error, "%s: ", conn->address);
            colo_conn_fail(conn, error);
            return;
        }
        if (!text)
            return;
        take_message(conn, text, size);
    }
}

static void read_turn(ColoConn *conn)
{
    size_t total = 0;

    colo_io_watch_set_more(conn->watch, false);
    while (conn->state != STATE_CLOSED) {
        char buffer[16384]; /* a TLS record */
        ssize_t n = gnutls_record_recv(conn->session, buffer, sizeof(buffer));

        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n == GNUTLS_E_AGAIN)
            return;
        if (n == GNUTLS_E_FATAL_ALERT_RECEIVED || n == GNUTLS_E_WARNING_ALERT_RECEIVED) {
            conn_lostf(conn, COLO_ERROR_AUTH, "%s sent the TLS alert '%s'", conn->address,
                       gnutls_alert_get_name(gnutls_alert_get(conn->session)));
            return;
        }
        if (n < 0) {
            conn_lostf(conn, COLO_ERROR_PEER, "connection with %s broke: %s", conn->address,
                       broken_text(n, errno));
            return;
        }
        if (n == 0) {
            conn_lostf(conn, COLO_ERROR_PEER, "%s closed the connection", conn->address);
            return;
        }
        /* While lingering, thrown away until the peer closes or LINGER_MS are over. */
        if (conn->state != STATE_LINGER)
            take_bytes(conn, buffer, (size_t)n);
        total += (size_t)n;
        if (total >= READ_TURN) {
            colo_io_watch_set_more(conn->watch, true);
            return;
        }
    }
}

/* Certificate first, then hello: nothing is said to, or read from, one that is not verified. */
static void handshake_done(ColoConn *conn)
{
    g_autoptr(GError) error = NULL;

    if (gnutls_protocol_get_version(conn->session) != GNUTLS_TLS1_3) {
        conn_lostf(conn, COLO_ERROR_AUTH, "%s does not speak TLS 1.3", conn->address);
        return;
    }
    conn->state = STATE_HELLO;
    if (!colo_pki_verify_peer(conn->pki, conn->session, conn->address, conn->host, &conn->dn,
                              &error)) {
        colo_conn_fail(conn, error);
        return;
    }
    if (conn->side == COLO_PKI_DIALLER)
        say_hello(conn);
    if (flush(conn))
        read_turn(conn);
}

static void handshake(ColoConn *conn)
{
    int rc;

    do {
        rc = gnutls_handshake(conn->session);
    } while (rc < 0 && rc != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(rc));
    if (rc == 0) {
        handshake_done(conn);
    } else if (rc == GNUTLS_E_AGAIN) {
        watch_socket(conn);
    } else if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        conn_lostf(conn, COLO_ERROR_AUTH, "TLS handshake with %s: it sent the alert '%s'",
                   conn->address, gnutls_alert_get_name(gnutls_alert_get(conn->session)));
    } else {
        int errnum = errno;

        /* Tells the peer why (protocol_version, decode_error, ...) before closing. */
        gnutls_alert_send_appropriate(conn->session, rc);
        conn_lostf(conn, COLO_ERROR_PEER, "TLS handshake with %s failed: %s", conn->address,
                   broken_text(rc, errnum));
    }
}

static void socket_ready(void *opaque)
{
    ColoConn *conn = colo_conn_ref(opaque);

    if (conn->state == STATE_HANDSHAKE)
        handshake(conn);
    else if (conn->state != STATE_CLOSED && flush(conn))
        read_turn(conn);
    colo_conn_unref(conn);
}

static void deadline_over(void *opaque)
{
    ColoConn *conn = opaque;

    if (conn->state == STATE_LINGER)
        conn_gone(conn);
    else
        conn_lostf(conn, COLO_ERROR_PEER, "%s did not complete the %s within %u ms", conn->address,
                   conn->state == STATE_HANDSHAKE ? "TLS handshake" : "hello",
                   COLO_CHANNEL_HANDSHAKE_MS);
}

static void start_tls(ColoConn *conn)
{
    bool server = conn->side == COLO_PKI_LISTENER;

    gnutls_init(&conn->session, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK |
                                    GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS |
                                    GNUTLS_FORCE_CLIENT_CERT);
    gnutls_priority_set_direct(conn->session, COLO_PKI_PRIORITY, NULL);
    gnutls_credentials_set(conn->session, GNUTLS_CRD_CERTIFICATE,
                           colo_pki_creds_gnutls(conn->creds));
    /* REQUEST: a missing certificate is refused after the handshake, with words instead of an
     * alert. */
    if (server)
        gnutls_certificate_server_set_request(conn->session, GNUTLS_CERT_REQUEST);
    else if (conn->host && !g_hostname_is_ip_address(conn->host))
        gnutls_server_name_set(conn->session, GNUTLS_NAME_DNS, conn->host, strlen(conn->host));
    gnutls_transport_set_int(conn->session, g_socket_get_fd(conn->socket));
}

ColoConn *colo_conn_new(GSocket *socket, ColoPki *pki, ColoPkiSide side, const char *host,
                        const char *address, const ColoPeerInfo *self, const ColoConnEvents *events,
                        void *opaque)
{
    ColoConn *conn = g_new0(ColoConn, 1);

    conn->refs = 1;
    conn->side = side;
    conn->socket = g_object_ref(socket);
    conn->pki = pki;
    conn->creds = colo_pki_get(pki);
    conn->host = g_strdup(host);
    conn->address = g_strdup(address);
    conn->self = self;
    conn->events = events;
    conn->opaque = opaque;
    conn->reader = colo_frame_reader_new();
    conn->heard_ns = colo_clock_ns();
    g_queue_init(&conn->out);
    g_socket_set_blocking(socket, FALSE);
    start_tls(conn);

    conn->deadline = colo_io_timer_new(deadline_over, conn);
    colo_io_timer_arm(conn->deadline, conn->heard_ns + COLO_CHANNEL_HANDSHAKE_MS * COLO_NS_PER_MS);
    conn->watch = colo_io_watch_new(g_socket_get_fd(socket),
                                    side == COLO_PKI_LISTENER ? G_IO_IN : G_IO_IN | G_IO_OUT,
                                    socket_ready, conn);
    return conn;
}

ColoConn *colo_conn_ref(ColoConn *conn)
{
    g_atomic_int_inc(&conn->refs);
    return conn;
}

void colo_conn_unref(ColoConn *conn)
{
    if (!g_atomic_int_dec_and_test(&conn->refs))
        return;
    conn_gone(conn);
    g_queue_clear_full(&conn->out, (GDestroyNotify)g_bytes_unref);
    colo_frame_reader_free(conn->reader);
    colo_peer_info_free(conn->peer);
    g_object_unref(conn->socket);
    g_free(conn->host);
    g_free(conn->address);
    g_free(conn->dn);
    g_free(conn);
}

const ColoPeerInfo *colo_conn_peer(ColoConn *conn)
{
    return conn->peer;
}

const char *colo_conn_address(ColoConn *conn)
{
    return conn->address;
}

uint64_t colo_conn_heard_ns(ColoConn *conn)
{
    return conn->heard_ns;
}
