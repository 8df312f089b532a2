/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The data port: connections that have not proved yet that they hold a session's key. There are
 * few of them at a time, each has 5 s; anything else than our handshake closes it with a line in
 * the log. Nothing of a session is touched before the handshake is over; then the stream goes to
 * the thread of its session.
 */
#include "comparator/daemon.h"
#include "comparator/record.h"
#include "util/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REST_NS (UINT64_C(100) * COLO_NS_PER_MS)

typedef struct {
    ColoAccept *accept;
    ColoStream *stream; /* NULL: free slot */
    ColoDeferred handover;
    uint64_t serial;
    char peer[INET6_ADDRSTRLEN + 8];
} Candidate;

struct ColoAccept {
    ColoDaemon *daemon;
    ColoSource listener;
    ColoTimer rest; /* after an accept() that failed for want of descriptors or memory */
    uint64_t serial;
    Candidate candidates[COLO_ACCEPT_MAX];
};

/* The only one: GnuTLS's callback knows nothing but the stream. */
static ColoAccept *instance;

bool colo_accept_key(void *opaque, const char *identity, uint8_t key[COLO_CMP_PSK_BYTES])
{
    ColoStream *stream = opaque;
    char uuid[40], name[40];
    uint64_t generation;
    ColoMember *member;

    if (!colo_identity_parse(identity, uuid, &generation, name))
        return false;
    member = generation ? colo_daemon_find(instance->daemon, uuid, generation) : NULL;
    if (!member || member->config.primary || member->shut ||
        colo_session_stream_number(&member->config, name) < 0)
        return false;
    colo_stream_set_identity(stream, uuid, generation, name);
    memcpy(key, member->config.psk, COLO_CMP_PSK_BYTES);
    return true;
}

/* The session takes over, unless it was destroyed between handshake and preface. */
static void hand_over(void *opaque)
{
    Candidate *candidate = opaque;
    ColoDaemon *daemon = candidate->accept->daemon;
    ColoStream *stream = candidate->stream;
    ColoMember *member =
        colo_daemon_find(daemon, colo_stream_uuid(stream), colo_stream_generation(stream));

    candidate->stream = NULL;
    if (!member) {
        colo_stream_free(stream);
        return;
    }
    colo_stream_detach(stream);
    if (colo_worker_adopt(member, stream))
        return;
    colo_warn("data connection from %s closed: the thread of its session does not keep up",
              candidate->peer);
    colo_stream_attach(stream, daemon->loop);
    colo_stream_free(stream);
}

/* Authenticated, and the preface agrees. We are called by the stream, which cannot be given away
 * before it has returned; what follows the preface is its new owner's. */
static void candidate_up(void *owner, ColoStream *stream)
{
    Candidate *candidate = owner;

    colo_stream_pause(stream, true);
    colo_loop_defer(candidate->accept->daemon->loop, &candidate->handover);
}

static void candidate_data(void *owner, ColoStream *stream, const uint8_t *data, size_t len)
{
    (void)owner;
    (void)stream;
    (void)data;
    (void)len;
}

static void candidate_down(void *owner, ColoStream *stream, const char *reason)
{
    Candidate *candidate = owner;

    colo_warn("data connection from %s closed before it was authenticated: %s", candidate->peer,
              reason);
    candidate->stream = NULL;
    colo_loop_cancel(candidate->accept->daemon->loop, &candidate->handover);
    colo_stream_free(stream);
}

static const ColoStreamOps candidate_ops = {candidate_up, candidate_data, NULL, candidate_down};

/* A free slot; when there is none the oldest candidate makes room, so that silent connections
 * cannot lock the peer out. */
static Candidate *take_slot(ColoAccept *self)
{
    Candidate *oldest = &self->candidates[0];

    for (int i = 0; i < COLO_ACCEPT_MAX; i++) {
        if (!self->candidates[i].stream)
            return &self->candidates[i];
        if (self->candidates[i].serial < oldest->serial)
            oldest = &self->candidates[i];
    }
    colo_stream_close(oldest->stream, "too many unauthenticated connections");
    return oldest;
}

static void name_peer(Candidate *candidate, const struct sockaddr_storage *address)
{
    char text[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;

    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;

        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        port = ntohs(in->sin_port);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        port = ntohs(in6->sin6_port);
    }
    g_snprintf(candidate->peer, sizeof(candidate->peer), "%s:%u", text, port);
}

static void rested(void *opaque)
{
    ColoAccept *self = opaque;

    colo_loop_set(self->daemon->loop, &self->listener, EPOLLIN);
}

/* #syscalls accept4 */
static void listener_ready(void *opaque, uint32_t events)
{
    ColoAccept *self = opaque;
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    int fd =
        accept4(self->listener.fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    g_autoptr(GError) error = NULL;
    Candidate *candidate;

    (void)events;
    if (fd < 0) {
        /* The connection stays in the backlog and would wake us at once. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            colo_loop_set(self->daemon->loop, &self->listener, 0);
            colo_loop_arm(self->daemon->loop, &self->rest, colo_clock_ns() + REST_NS);
        }
        return;
    }
    candidate = take_slot(self);
    candidate->accept = self;
    candidate->serial = self->serial++;
    candidate->handover = (ColoDeferred){.run = hand_over, .opaque = candidate};
    name_peer(candidate, &address);
    candidate->stream =
        colo_stream_accept(self->daemon->loop, fd, &candidate_ops, candidate, &error);
    if (!candidate->stream)
        colo_warn("data connection from %s: %s", candidate->peer, error->message);
}

ColoAccept *colo_accept_new(ColoDaemon *self, int fd)
{
    ColoAccept *acceptor = g_new0(ColoAccept, 1);

    acceptor->daemon = self;
    acceptor->rest = (ColoTimer){.due = rested, .opaque = acceptor};
    acceptor->listener = (ColoSource){.ready = listener_ready, .opaque = acceptor};
    colo_loop_add(self->loop, &acceptor->listener, fd, EPOLLIN);
    instance = acceptor;
    return acceptor;
}

void colo_accept_free(ColoAccept *self)
{
    if (!self)
        return;
    colo_loop_disarm(self->daemon->loop, &self->rest);
    colo_loop_remove(self->daemon->loop, &self->listener);
    for (int i = 0; i < COLO_ACCEPT_MAX; i++) {
        colo_loop_cancel(self->daemon->loop, &self->candidates[i].handover);
        colo_stream_free(self->candidates[i].stream);
    }
    instance = NULL;
    g_free(self);
}
