/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control channel between the virtcolods of two hosts: requests, answers and heartbeats as framed
 * JSON (util/framing.h) over TLS 1.3 with X.509 on both sides. docs/control-channel.md describes
 * what goes over the wire.
 *
 * Each host listens (ColoChannelServer) and dials its peer (ColoChannel): its own requests and
 * heartbeats go over the connection it dialled, the peer's come over the one it accepted.
 *
 * Threads: one I/O thread for the whole process owns every socket, so that a heartbeat never waits
 * for anything else. Event callbacks run in it: they must not block and must not call
 * colo_channel_call() or the free functions. Requests of the peer run in worker threads. Every
 * function here may be called from any thread but the I/O thread, if not said otherwise.
 */
#pragma once

#include "pair/pki.h"
#include "util/json.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define COLO_CHANNEL_VERSION 1u
#define COLO_CHANNEL_PORT 16516

/* Limits (I8). Reaching one closes the connection or refuses the request, with a log line that
 * names address and reason. */
#define COLO_CHANNEL_HANDSHAKE_MS 5000u /* connect + TLS + hello */
#define COLO_CHANNEL_DEAD_MS 10000u     /* a connection silent for so long is given up */
#define COLO_CHANNEL_BACKOFF_MIN_MS 100u
#define COLO_CHANNEL_BACKOFF_MAX_MS 2000u
#define COLO_CHANNEL_MAX_ACCEPTED 16u /* connections of a server, handshakes included */
#define COLO_CHANNEL_MAX_WORKERS 8u   /* requests of peers that run at once */
#define COLO_CHANNEL_MAX_REQUESTS 64u /* running or queued, all peers of a server */
#define COLO_CHANNEL_MAX_CALLS 256u   /* unanswered calls of one channel */
#define COLO_CHANNEL_MAX_UNSENT                                       \
    (4u * 1024u * 1024u) /* bytes queued to a peer that does not read \
                          */

/* What a host says of itself in hello, and what is known of it from its connection. */
typedef struct {
    unsigned version; /* of the control protocol; of ourselves, 0: COLO_CHANNEL_VERSION */
    char *software;   /* "libvirt-colo 0.1.0" */
    char *host;       /* host name as used in pairs and registers */
    char *host_uuid;  /* libvirt's host uuid */
    char *boot_id;    /* /proc/sys/kernel/random/boot_id */
    char *qemu;       /* version of the emulator, may be NULL */
    char *address;    /* "192.0.2.1:16516" of the connection; NULL for ourselves */
    char *dn;         /* verified certificate's DN; NULL for ourselves */
} ColoPeerInfo;

ColoPeerInfo *colo_peer_info_copy(const ColoPeerInfo *info); /* NULL gives NULL */
void colo_peer_info_free(ColoPeerInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoPeerInfo, colo_peer_info_free)

/*
 * Answers a request of the peer, in a worker thread; several run at once. @params is never NULL and
 * stays the caller's. Returns the result (taken over; NULL without @error is an empty object), or
 * NULL with @error: a COLO_ERROR goes to the peer with its code and message, another domain as
 * COLO_ERROR_INTERNAL with its message.
 */
typedef JsonObject *(*ColoChannelHandler)(const ColoPeerInfo *from, const char *method,
                                          JsonObject *params, void *opaque, GError **error);

typedef struct ColoChannelServer ColoChannelServer;
typedef struct ColoChannel ColoChannel;

/*
 * Serves connections of @listen_fd (a listening TCP socket, taken over also on failure). @self is
 * what we say of ourselves (copied; address and dn are ignored). NULL and @error when the
 * certificates cannot be loaded.
 */
ColoChannelServer *colo_channel_server_new(const ColoTlsConfig *tls, const ColoPeerInfo *self,
                                           int listen_fd, ColoChannelHandler handler, void *opaque,
                                           GError **error);

/* Closes the listener and all accepted connections, waits for the requests that run. */
void colo_channel_server_free(ColoChannelServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoChannelServer, colo_channel_server_free)

/*
 * From now on a message on a connection that @server accepted from @channel's peer counts as heard
 * from it. The peer is the same when its hello names the host of @channel (the host dialled, or the
 * one that its hello gave there) and its certificate is for that name. Detached by either free.
 */
void colo_channel_server_attach(ColoChannelServer *server, ColoChannel *channel);

/* A listening socket at @address (NULL or "": all, IPv6 and IPv4) and @port (0: any free one);
 * -1 and @error. For hosts without socket activation. */
int colo_channel_listen(const char *address, uint16_t port, GError **error);

typedef struct {
    unsigned interval_ms; /* between heartbeats, > 0 */
    unsigned missed;      /* so many intervals without any message: silent, > 0 */
} ColoHeartbeat;
#define COLO_HEARTBEAT_DEFAULT ((ColoHeartbeat){.interval_ms = 100, .missed = 5})

/*
 * Events, all in the I/O thread; any may be NULL. silent and heard alternate and are about the
 * peer, whichever connection it is heard on; up and down alternate and are about the dialled
 * connection. A new channel starts down and, for the first interval * missed, not silent.
 */
typedef struct {
    void (*up)(ColoChannel *channel, const ColoPeerInfo *peer, void *opaque);
    void (*silent)(ColoChannel *channel, uint64_t silent_ms, void *opaque);
    void (*heard)(ColoChannel *channel, void *opaque);
    void (*down)(ColoChannel *channel, const char *reason, void *opaque);
} ColoChannelEvents;

/*
 * Dials @host:@port and keeps doing so for ever, 100 ms to 2 s between attempts. The certificate of
 * the peer must be for @host. NULL and @error when our own certificates cannot be loaded.
 */
ColoChannel *colo_channel_new(const ColoTlsConfig *tls, const ColoPeerInfo *self, const char *host,
                              uint16_t port, const ColoHeartbeat *heartbeat,
                              const ColoChannelEvents *events, void *opaque, GError **error);

/* Fails the calls that wait, closes; no event comes after it returns. Other threads must not use
 * the channel any more, except by a reference. */
void colo_channel_free(ColoChannel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoChannel, colo_channel_free)

/* Keeps the memory for a thread that must not know when the owner frees the channel: from then on
 * it is down for good, and calls fail with COLO_ERROR_PEER. */
ColoChannel *colo_channel_ref(ColoChannel *channel);
void colo_channel_unref(ColoChannel *channel);
typedef ColoChannel ColoChannelRef;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoChannelRef, colo_channel_unref)

/*
 * Runs @method at the peer and waits for the answer, at most @timeout_ms (> 0). @params is taken
 * over (NULL: empty). Returns the result for json_object_put(), or NULL with
 *   COLO_ERROR_PEER     not connected, at once; or the connection broke before the answer (the peer
 *                       may have run the request); names the peer and the reason
 *   COLO_ERROR_TIMEOUT  no answer in time (the peer may have run it, or will)
 *   COLO_ERROR_RESOURCE a limit here or at the peer
 *   any other           what the peer's handler returned
 */
JsonObject *colo_channel_call(ColoChannel *channel, const char *method, JsonObject *params,
                              unsigned timeout_ms, GError **error);

/* The same, but fails with COLO_ERROR_PEER as soon as the peer is silent, or if it is already: for
 * what need not wait for a peer that may be dead. */
JsonObject *colo_channel_call_hasty(ColoChannel *channel, const char *method, JsonObject *params,
                                    unsigned timeout_ms, GError **error);

/* These never block; callable from the I/O thread too. */
bool colo_channel_is_up(ColoChannel *channel);         /* connected and greeted */
uint64_t colo_channel_silent_ms(ColoChannel *channel); /* since anything was heard of the peer */
char *colo_channel_last_error(ColoChannel *channel);   /* why it is down, for g_free(); NULL: up */
ColoPeerInfo *colo_channel_peer(ColoChannel *channel); /* of the last hello, a copy; NULL: never
                                                        * connected */
const char *colo_channel_host(const ColoChannel *channel); /* as dialled */
