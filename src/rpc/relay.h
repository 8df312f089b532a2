/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Passes libvirt's own programs on: a client that opened colo:///system or colo:///session gets a
 * connection of its own to libvirt's QEMU driver, and every frame goes through with its FDs,
 * streams and keepalives included, known to us or not. Changed are (libvirt 9.0, src/remote/
 * remote_protocol.x):
 *   CONNECT_OPEN     "colo:" in the URI becomes "qemu:"
 *   its reply        is held until libvirt has been told who the client is (CONNECT_SET_IDENTITY),
 * so that its access control judges the client and not us CONNECT_GET_URI  back again: the client
 * sees the URI that it opened
 *
 * A client that breaks the framing, sends FDs where none belong, or does not read what libvirt says
 * is closed with a log line. All functions, and all work, are on the thread of the context given to
 * colo_relay_new().
 */
#pragma once

#include "rpc/server.h"

#include <glib.h>

/* Bytes that wait for one side; above it the other is not read. Two of the largest frames: fewer
 * would stop a frame that is under way. */
#define COLO_RELAY_QUEUE_MAX (2u * 32u * 1024u * 1024u)
/* FDs of a frame: VIR_NET_MESSAGE_NUM_FDS_MAX. */
#define COLO_RELAY_FDS_MAX 32u

typedef struct ColoRelay ColoRelay;

typedef struct {
    uint64_t clients; /* now connected */
    uint64_t relayed; /* ever */
    uint64_t refused; /* closed: no libvirt to connect to */
    uint64_t broken;  /* closed: framing, FDs */
} ColoRelayStats;

/* @upstreams: paths of sockets, tried in order for each client; NULL at the end; copied. */
ColoRelay *colo_relay_new(GMainContext *context, const char *const *upstreams);
/* Takes @fd over, a connection of which @len bytes at @data have been read. */
void colo_relay_adopt(ColoRelay *relay, int fd, const ColoRpcCaller *caller, const uint8_t *data,
                      size_t len);
void colo_relay_get_stats(const ColoRelay *relay, ColoRelayStats *stats);
/* Closes all connections. NULL is allowed. */
void colo_relay_free(ColoRelay *relay);
