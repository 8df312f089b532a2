/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One connection of the control channel, either side: TLS handshake, verification, hello, then
 * framed JSON both ways. Private to the channel; everything in the I/O thread, but for the two
 * reference functions.
 */
#pragma once

#include "pair/channel.h"

#include <gio/gio.h>

typedef struct ColoConn ColoConn;

/* closed comes exactly once, when the connection is of no more use (but not from
 * colo_conn_close()); gone when its socket is closed too: until then it counts against limits. */
typedef struct {
    void (*ready)(ColoConn *conn, void *opaque); /* greeted: may send */
    void (*message)(ColoConn *conn, const char *type, JsonObject *message, void *opaque);
    void (*closed)(ColoConn *conn, const GError *reason, void *opaque);
    void (*gone)(ColoConn *conn, void *opaque);
} ColoConnEvents;

/*
 * Starts TLS on connected @socket (a reference is taken). @pki, @self and @events outlive the
 * connection. @host: as dialled, NULL on the accepted side. The caller owns one reference.
 */
ColoConn *colo_conn_new(GSocket *socket, ColoPki *pki, ColoPkiSide side, const char *host,
                        const char *address, const ColoPeerInfo *self, const ColoConnEvents *events,
                        void *opaque);

ColoConn *colo_conn_ref(ColoConn *conn); /* any thread */
void colo_conn_unref(ColoConn *conn);    /* any thread; the last one must be the I/O thread's */

/* Queues a frame; dropped without a word once closed. */
void colo_conn_send(ColoConn *conn, GBytes *frame);

/* Ends it with @reason, which the peer is told when it is verified; closed is called. */
void colo_conn_fail(ColoConn *conn, const GError *reason);

/* Ends it now; no event comes any more. */
void colo_conn_close(ColoConn *conn);

const ColoPeerInfo *colo_conn_peer(ColoConn *conn); /* NULL before ready */
const char *colo_conn_address(ColoConn *conn);
uint64_t colo_conn_heard_ns(ColoConn *conn); /* when the last message came; creation: never */

/* A frame of @message, which is taken over; NULL and @error (COLO_ERROR_RESOURCE) over the limit.
 * Any thread. */
GBytes *colo_conn_frame(JsonObject *message, GError **error);
