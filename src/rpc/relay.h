/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Passes libvirt's own programs on: a client that opened colo:///system or colo:///session gets a
 * connection of its own to libvirt's QEMU driver, and every frame goes through with its FDs,
 * streams and keepalives included, known to us or not. Changed are (libvirt 9.0, src/remote/
 * remote_protocol.x):
 * - CONNECT_OPEN: "colo:" in the URI becomes "qemu:". What the client says behind it waits until
 *   libvirt has been told who the client is (CONNECT_SET_IDENTITY) and has said that it may open
 *   (CONNECT_SUPPORTS_FEATURE wants the same right), and so does the reply: its access control
 * judges the client, never us, who are root.
 * - CONNECT_GET_URI: back again, the client sees the URI that it opened.
 *
 * When one side ends, the other still gets what was said before. A client that breaks the framing
 * or sends FDs where none belong is closed with a log line; one that does not read is not read
 * either, nor is libvirt for it. All functions, and all work, are on the thread of the context
 * given to colo_relay_new().
 */
#pragma once

#include "rpc/frame.h"
#include "rpc/server.h"

#include <glib.h>

/* Bytes that wait for one side; above it the other is not read. Two of the largest frames: fewer
 * would stop a frame that is under way. */
#define COLO_RELAY_QUEUE_MAX (2u * 32u * 1024u * 1024u)
/* Clients at a time; one more is closed at once. libvirtd has its own limits behind it. */
#define COLO_RELAY_CLIENTS_MAX 1000u
/* Of them read-only ones, which anybody may be. */
#define COLO_RELAY_RO_CLIENTS_MAX 200u
/* FDs of a frame: VIR_NET_MESSAGE_NUM_FDS_MAX. */
#define COLO_RELAY_FDS_MAX 32u

/* Calls of one client that a worker answers; above it its next frames wait. */
#define COLO_RELAY_PENDING_MAX 16u
/* Calls of one client whose replies are to be revised; those above it pass as they are. */
#define COLO_RELAY_REVISE_MAX 64u
/* Of all clients at the same time. */
#define COLO_RELAY_WORKERS 8

typedef struct ColoRelay ColoRelay;

typedef enum {
    COLO_RELAY_PASS,   /* to libvirt */
    COLO_RELAY_ANSWER, /* the client hears @answer, libvirt nothing but @question */
    COLO_RELAY_WORK,   /* the same with the answer that work() will have made. A call with FDs has
                        * lost them. */
    COLO_RELAY_REVISE, /* a call goes to libvirt, and its reply to revise() */
    COLO_RELAY_DROP,   /* nobody hears of it */
} ColoRelayVerdict;

/* What the driver makes of the frames of a client that has opened its connection. Answers and
 * questions are whole frames and given over. */
typedef struct ColoRelayDriver {
    /* A call. *question, of ANSWER and WORK: calls, one behind the other, for which libvirt wants
     * the rights that the client must have to be answered so: what it is denied, it hears from
     * libvirt. They are of those who may change something: libvirt itself has the call of a
     * read-only client, and refuses it in its own words. NULL: nothing is to be asked, or libvirt
     * will judge the call itself. On the relay's thread: never blocks. */
    ColoRelayVerdict (*call)(const ColoRpcFrame *frame, GByteArray **answer, GByteArray **question,
                             void *opaque);
    /* The answer to a call that takes its time; on a thread of its own. NULL: libvirt shall have
     * the call now, and ... */
    GByteArray *(*work)(const ColoRpcFrame *frame, void *opaque);
    /* ... has answered it, or the client is gone: what follows; on a thread of its own. */
    void (*after)(const ColoRpcFrame *frame, void *opaque);
    /* A reply or an event of libvirt's: PASS, DROP, or ANSWER with what is to be said instead. On
     * the relay's thread: never blocks. */
    ColoRelayVerdict (*heard)(const ColoRpcFrame *frame, GByteArray **answer, void *opaque);
    /* The reply to a call of REVISE: PASS, or ANSWER with what is to be said instead. On the
     * relay's thread: never blocks. */
    ColoRelayVerdict (*revise)(const ColoRpcFrame *call, const ColoRpcFrame *reply,
                               GByteArray **answer, void *opaque);
    void *opaque;
} ColoRelayDriver;

/* @upstreams: paths of sockets, tried in order for each client, with "-ro" behind them for a
 * read-only one; NULL at the end; copied. @driver:
 * NULL, or outlives the relay. */
ColoRelay *colo_relay_new(GMainContext *context, const char *const *upstreams,
                          const ColoRelayDriver *driver);
/* Takes @fd over (-1: it could not be had), a connection of which @len bytes at @data have been
 * read. */
void colo_relay_adopt(ColoRelay *relay, int fd, const ColoRpcCaller *caller, const uint8_t *data,
                      size_t len);
/* Now connected. Any thread. */
unsigned colo_relay_n_clients(const ColoRelay *relay);
/* Waits for work under way and closes all connections. NULL is allowed. */
void colo_relay_free(ColoRelay *relay);
