/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One side of a relayed connection (relay.h): the bytes that come from a socket, and those that
 * wait to be written to it, with the FDs that go with them. It knows frames, and nothing of what is
 * in them. All functions are on the thread of the context.
 */
#pragma once

#include "rpc/frame.h"

#include <glib-unix.h>
#include <sys/types.h>

typedef struct {
    GMainContext *context;
    const char *name; /* for people */
    int fd;           /* -1: there is no connection */
    GSource *in, *out;
    ColoRpcReader *reader;
    ColoRpcFrame *frame; /* whole, but not all of its FDs have come */
    unsigned n_fds;      /* that it has */
    GArray *fds;         /* int: that have come */
    GQueue output;       /* pieces of it */
    size_t sent;         /* bytes of the head of @output that are gone */
    size_t queued;       /* bytes in @output that are not */
    unsigned queued_fds; /* that wait in @output */
    gint64 moved;        /* when @output did last, us */
    gint64 begun;        /* when it began what is not whole yet, us; 0: there is no such thing */
    size_t come;         /* bytes since then */
    gboolean ended;      /* nothing more comes from it */
    gboolean deaf;       /* it takes nothing more */
} ColoRelaySide;

void colo_relay_side_init(ColoRelaySide *side, GMainContext *context, const char *name, int fd);
/* Closes the connection; what was read stays. */
void colo_relay_side_close(ColoRelaySide *side);
void colo_relay_side_clear(ColoRelaySide *side);

/* Queues @bytes, taken over, and with their first one @fd (-1: none), taken over too. */
void colo_relay_side_put(ColoRelaySide *to, GByteArray *bytes, int fd);
/* Queues @frame, taken over, which goes on as it came: most bytes are those of volumes in streams.
 */
void colo_relay_side_put_frame(ColoRelaySide *to, ColoRpcFrame *frame);
/* Queues the FDs of the frame that @from has just said, each with a byte of its own. */
void colo_relay_side_put_fds(ColoRelaySide *to, ColoRelaySide *from);
/* Those of a frame that goes no further. */
void colo_relay_side_drop_fds(ColoRelaySide *side);
/* Writes what the socket takes. */
void colo_relay_side_flush(ColoRelaySide *side);

/* One recvmsg(): bytes to the reader, FDs to @fds. Its value; -1 with EMSGSIZE: there were more FDs
 * than libvirt allows. */
ssize_t colo_relay_side_receive(ColoRelaySide *side);
/* The next frame that has come whole, with its FDs; the caller's. NULL: none yet, or with @error
 * the side has broken the framing. */
ColoRpcFrame *colo_relay_side_next(ColoRelaySide *side, GError **error);

/* TRUE while it is to be looked at now and then by colo_relay_side_stalls(). */
gboolean colo_relay_side_is_unfinished(const ColoRelaySide *side);
/* Why it is not to be waited for any longer; NULL: it is. A frame, with its FDs, is begun and does
 * not go on, or FDs are not taken: one of them may be the other end of the connection
 * that brought it, whose end nobody would ever see then. */
const char *colo_relay_side_stalls(const ColoRelaySide *side);

/* Waits for input if @in, and for room whenever output is queued. */
void colo_relay_side_watch(ColoRelaySide *side, gboolean in, GUnixFDSourceFunc readable,
                           GUnixFDSourceFunc writable, gpointer data);
