/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/stream.h"

#include "comparator/record.h"
#include "comparator/tls.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct ColoStream {
    ColoLoop *loop;
    ColoSource source;
    ColoTimer limit;    /* of handshake and preface */
    ColoDeferred flush; /* sends what was put in this round */
    ColoDeferred input; /* reads what the socket does not tell of */
    const ColoStreamOps *ops;
    void *owner;

    gnutls_session_t tls;
    gnutls_psk_client_credentials_t credentials; /* connecting side */
    bool server, handshaken, paused, mute, want_out;
    const char *finish; /* reason of a close that waits for the ring to drain, or NULL */
    ColoStreamState state;
    ColoDeferred reap; /* frees the memory when no code of ours is on the stack */

    ColoRing out;
    size_t retry; /* length of the gnutls_record_send() to be repeated, or 0 */
    ColoDataPreface preface;
    char uuid[40], name[40];
    uint64_t generation;
    ColoTlsInput in;
};

static void really_free(void *opaque)
{
    ColoStream *stream = opaque;

    colo_ring_clear(&stream->out);
    free(stream);
}

/* What epoll should watch for in the present state. */
static void watch(ColoStream *stream)
{
    uint32_t events = 0;

    if (stream->state == COLO_STREAM_DOWN)
        return;
    if (!stream->handshaken)
        events = gnutls_record_get_direction(stream->tls) ? EPOLLOUT : EPOLLIN;
    else
        events = (stream->paused ? 0 : EPOLLIN) | (stream->want_out ? EPOLLOUT : 0);
    colo_loop_set(stream->loop, &stream->source, events);
}

static void release_connection(ColoStream *stream)
{
    int fd = stream->source.fd;

    colo_loop_disarm(stream->loop, &stream->limit);
    colo_loop_cancel(stream->loop, &stream->flush);
    colo_loop_cancel(stream->loop, &stream->input);
    colo_loop_remove(stream->loop, &stream->source);
    if (stream->tls)
        gnutls_deinit(stream->tls);
    if (stream->credentials)
        gnutls_psk_free_client_credentials(stream->credentials);
    stream->tls = NULL;
    stream->credentials = NULL;
    if (fd >= 0)
        close(fd);
}

void colo_stream_close(ColoStream *stream, const char *reason)
{
    if (stream->state == COLO_STREAM_DOWN)
        return;
    /* close_notify tells the peer that this is an end and no cut; if it does not fit into the
     * socket's buffer the peer sees a cut, which it must bear anyway. */
    if (stream->handshaken && !stream->mute && stream->retry == 0)
        (void)gnutls_bye(stream->tls, GNUTLS_SHUT_WR);
    stream->state = COLO_STREAM_DOWN;
    release_connection(stream);
    stream->ops->down(stream->owner, stream, reason);
}

/* Sends from the ring until it is empty or the socket is full. */
static void flush(void *opaque)
{
    ColoStream *stream = opaque;
    bool sent = false;

    if (stream->state != COLO_STREAM_UP)
        return;
    stream->want_out = false;
    while (stream->state == COLO_STREAM_UP && colo_ring_used(&stream->out) > 0) {
        size_t len;
        const uint8_t *data = colo_ring_peek(&stream->out, &len);
        ssize_t n;

        if (len > COLO_STREAM_CHUNK)
            len = COLO_STREAM_CHUNK;
        /* After GNUTLS_E_AGAIN the record lies in GnuTLS and is sent on with (NULL, 0). */
        n = gnutls_record_send(stream->tls, stream->retry ? NULL : data, stream->retry ? 0 : len);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
            if (!stream->retry)
                stream->retry = len;
            stream->want_out = true;
            break;
        }
        if (n < 0) {
            colo_stream_close(stream, gnutls_strerror((int)n));
            break;
        }
        stream->retry = 0;
        colo_ring_take(&stream->out, (size_t)n);
        sent = true;
    }
    watch(stream);
    if (sent && stream->state == COLO_STREAM_UP && stream->ops->space)
        stream->ops->space(stream->owner, stream);
    if (stream->finish && stream->state == COLO_STREAM_UP && colo_ring_used(&stream->out) == 0)
        colo_stream_close(stream, stream->finish);
}

void colo_stream_finish(ColoStream *stream, const char *reason)
{
    if (colo_ring_used(&stream->out) == 0 || stream->state != COLO_STREAM_UP) {
        colo_stream_close(stream, reason);
        return;
    }
    stream->finish = reason;
    colo_loop_defer(stream->loop, &stream->flush);
}

static void nothing(void *owner, ColoStream *stream, const char *reason)
{
    (void)owner;
    (void)stream;
    (void)reason;
}

/* While a stream is being freed its owner hears nothing of it. */
static const ColoStreamOps no_ops = {.down = nothing};

void colo_stream_free(ColoStream *stream)
{
    if (!stream)
        return;
    if (stream->state == COLO_STREAM_UP) {
        stream->ops = &no_ops;
        flush(stream);
    }
    if (stream->state != COLO_STREAM_DOWN) {
        if (stream->handshaken && !stream->mute && stream->retry == 0)
            (void)gnutls_bye(stream->tls, GNUTLS_SHUT_WR);
        stream->state = COLO_STREAM_DOWN;
        release_connection(stream);
    }
    colo_loop_defer(stream->loop, &stream->reap);
}

static void come_up(ColoStream *stream)
{
    colo_loop_disarm(stream->loop, &stream->limit);
    stream->state = COLO_STREAM_UP;
    if (!stream->server) {
        colo_preface_build(&stream->preface, stream->uuid, stream->generation, stream->name);
        colo_stream_put(stream, &stream->preface, sizeof(stream->preface));
        /* A TLS record of its own: its receiver may not be ready for more yet. */
        flush(stream);
    }
    if (stream->state == COLO_STREAM_UP)
        stream->ops->up(stream->owner, stream);
}

/* Accepting side: the first record is the preface, and nothing else. */
static void take_preface(ColoStream *stream, const uint8_t *data, size_t len)
{
    if (len != sizeof(stream->preface)) {
        colo_stream_close(stream, "the first record is no preface");
        return;
    }
    memcpy(&stream->preface, data, len);
    if (colo_preface_matches(&stream->preface, stream->uuid, stream->generation, stream->name))
        come_up(stream);
    else
        colo_stream_close(stream, "the preface differs from the TLS identity, or its version "
                                  "is not ours");
}

/* Reads until the socket is empty or the others shall have their turn; never leaves anything in the
 * input unless it is paused. */
static void receive(void *opaque)
{
    ColoStream *stream = opaque;
    static _Thread_local uint8_t buffer[COLO_STREAM_CHUNK];

    for (int i = 0; i < COLO_STREAM_BUDGET || colo_tls_input_waits(&stream->in); i++) {
        ssize_t n;

        if (stream->state == COLO_STREAM_DOWN || stream->paused)
            return;
        n = gnutls_record_recv(stream->tls, buffer, sizeof(buffer));
        /* Also when a message of TLS itself was taken in, such as new keys (which GnuTLS takes
         * after 2^24 records): epoll says nothing of what has been read behind it. */
        if (n == GNUTLS_E_AGAIN && !colo_tls_input_waits(&stream->in))
            return;
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n <= 0) {
            colo_stream_close(stream, n == 0 ? "closed by the peer" : gnutls_strerror((int)n));
            return;
        }
        if (stream->state == COLO_STREAM_CONNECTING)
            take_preface(stream, buffer, (size_t)n);
        else
            stream->ops->data(stream->owner, stream, buffer, (size_t)n);
    }
}

static void handshake(ColoStream *stream)
{
    int code = gnutls_handshake(stream->tls);

    if (code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED)
        return;
    if (code < 0) {
        if (gnutls_error_is_fatal(code)) {
            (void)gnutls_alert_send_appropriate(stream->tls, code);
            colo_stream_close(stream, gnutls_strerror(code));
        }
        return;
    }
    if (gnutls_protocol_get_version(stream->tls) != GNUTLS_TLS1_3) {
        colo_stream_close(stream, "not TLS 1.3");
        return;
    }
    stream->handshaken = true;
    if (!stream->server)
        come_up(stream);
}

static void ready(void *opaque, uint32_t events)
{
    ColoStream *stream = opaque;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        stream->in.dry = false;
    if (!stream->handshaken)
        handshake(stream);
    if (stream->handshaken && (events & EPOLLOUT))
        flush(stream);
    if (stream->handshaken && (!stream->in.dry || colo_tls_input_waits(&stream->in)))
        receive(stream);
    watch(stream);
}

static void too_slow(void *opaque)
{
    colo_stream_close(opaque, "no handshake and preface within 5 s");
}

/* #syscalls fcntl[1==F_GETFL] fcntl[1==F_SETFL] setsockopt[1==IPPROTO_TCP,2==TCP_NODELAY] */
static ColoStream *new_stream(ColoLoop *loop, int fd, const ColoStreamOps *ops, void *owner)
{
    ColoStream *stream = calloc(1, sizeof(*stream));
    int one = 1;

    if (!stream)
        return NULL;
    stream->loop = loop;
    stream->ops = ops;
    stream->owner = owner;
    stream->source = (ColoSource){.fd = fd, .ready = ready, .opaque = stream};
    stream->limit = (ColoTimer){.due = too_slow, .opaque = stream};
    stream->flush = (ColoDeferred){.run = flush, .opaque = stream};
    stream->input = (ColoDeferred){.run = receive, .opaque = stream};
    stream->reap = (ColoDeferred){.run = really_free, .opaque = stream};
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    /* A checkpoint is a dialogue of small words: Nagle makes 40 ms out of 2. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return stream;
}

/* Starts the handshake, or frees the stream and reports @code. */
static ColoStream *start(ColoStream *stream, int fd, int code, GError **error)
{
    if (!stream || !stream->tls) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM, "setting up TLS: %s",
                    stream ? gnutls_strerror(code) : strerror(ENOMEM));
        close(fd);
        if (stream)
            really_free(stream);
        return NULL;
    }
    colo_loop_add(stream->loop, &stream->source, fd, stream->server ? EPOLLIN : EPOLLIN | EPOLLOUT);
    colo_loop_arm(stream->loop, &stream->limit, colo_clock_ns() + COLO_STREAM_HANDSHAKE_NS);
    return stream;
}

ColoStream *colo_stream_connect(ColoLoop *loop, int fd, const char *uuid, uint64_t generation,
                                const char *name, const uint8_t key[COLO_CMP_PSK_BYTES],
                                size_t ring, const ColoStreamOps *ops, void *owner, GError **error)
{
    g_autofree char *identity =
        g_strdup_printf("%s/%" G_GUINT64_FORMAT "/%s", uuid, generation, name);
    ColoStream *stream = new_stream(loop, fd, ops, owner);
    ColoTlsClient client;
    int code = GNUTLS_E_MEMORY_ERROR;

    if (stream && colo_ring_init(&stream->out, ring) &&
        colo_tls_client(&client, fd, &stream->in, identity, key, &code)) {
        stream->tls = client.session;
        stream->credentials = client.credentials;
        colo_stream_set_identity(stream, uuid, generation, name);
    }
    return start(stream, fd, code, error);
}

ColoStream *colo_stream_accept(ColoLoop *loop, int fd, const ColoStreamOps *ops, void *owner,
                               GError **error)
{
    ColoStream *stream = new_stream(loop, fd, ops, owner);
    int code = GNUTLS_E_MEMORY_ERROR;

    if (stream) {
        stream->server = true;
        stream->tls = colo_tls_server(fd, &stream->in, stream, &code);
    }
    return start(stream, fd, code, error);
}

void colo_stream_set_identity(ColoStream *stream, const char *uuid, uint64_t generation,
                              const char *name)
{
    g_strlcpy(stream->uuid, uuid, sizeof(stream->uuid));
    g_strlcpy(stream->name, name, sizeof(stream->name));
    stream->generation = generation;
}

const char *colo_stream_uuid(const ColoStream *stream)
{
    return stream->uuid;
}

uint64_t colo_stream_generation(const ColoStream *stream)
{
    return stream->generation;
}

const char *colo_stream_name(const ColoStream *stream)
{
    return stream->name;
}

void colo_stream_detach(ColoStream *stream)
{
    int fd = stream->source.fd;

    stream->ops = &no_ops;
    stream->paused = true;
    colo_loop_cancel(stream->loop, &stream->flush);
    colo_loop_cancel(stream->loop, &stream->input);
    colo_loop_remove(stream->loop, &stream->source);
    stream->source.fd = fd;
    stream->loop = NULL;
}

void colo_stream_attach(ColoStream *stream, ColoLoop *loop)
{
    stream->loop = loop;
    colo_loop_add(loop, &stream->source, stream->source.fd, 0);
}

bool colo_stream_adopt(ColoStream *stream, size_t ring, const ColoStreamOps *ops, void *owner)
{
    if (!colo_ring_init(&stream->out, ring))
        return false;
    stream->ops = ops;
    stream->owner = owner;
    colo_stream_pause(stream, false);
    return true;
}

ColoStreamState colo_stream_state(const ColoStream *stream)
{
    return stream->state;
}

size_t colo_stream_space(const ColoStream *stream)
{
    return colo_ring_space(&stream->out);
}

bool colo_stream_put(ColoStream *stream, const void *data, size_t len)
{
    return colo_stream_put2(stream, data, len, NULL, 0);
}

bool colo_stream_put2(ColoStream *stream, const void *head, size_t head_len, const void *data,
                      size_t len)
{
    if (stream->state != COLO_STREAM_UP || stream->mute || stream->finish ||
        colo_ring_space(&stream->out) < head_len + len)
        return false;
    (void)colo_ring_put(&stream->out, head, head_len);
    (void)colo_ring_put(&stream->out, data, len);
    colo_loop_defer(stream->loop, &stream->flush);
    return true;
}

void colo_stream_pause(ColoStream *stream, bool pause)
{
    if (stream->paused == pause)
        return;
    stream->paused = pause;
    if (!pause && colo_tls_input_waits(&stream->in))
        colo_loop_defer(stream->loop, &stream->input);
    watch(stream);
}

/* #syscalls shutdown */
void colo_stream_mute(ColoStream *stream)
{
    if (stream->mute || stream->state != COLO_STREAM_UP)
        return;
    stream->mute = true;
    stream->retry = 0;
    colo_ring_take(&stream->out, colo_ring_used(&stream->out));
    /* What the kernel holds was sent before; the peer then sees our end. */
    (void)shutdown(stream->source.fd, SHUT_WR);
    stream->want_out = false;
    watch(stream);
}
