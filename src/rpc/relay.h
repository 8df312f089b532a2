/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Passes libvirt's own programs on: a client that opened colo:///system or colo:///session gets a
 * connection of its own to libvirt's QEMU driver, and every frame goes through with its FDs,
 * streams and keepalives included, known to us or not. Changed are (libvirt 9.0, src/remote/
 * remote_protocol.x):
 * - CONNECT_OPEN: "colo:" in the URI becomes "qemu:". What the client says behind it waits until
 *   libvirt has been told who the client is (CONNECT_SET_IDENTITY), and so does the reply: its
 *   access control judges the client, never us, who are root.
 * - CONNECT_GET_URI: back again, the client sees the URI that it opened.
 *
 * When one side ends, the other still gets what was said before. A client that breaks the framing
 * or sends FDs where none belong is closed with a log line; one that does not read is not read
 * either, nor is libvirt for it. All functions, and all work, are on the thread of the context
 * given to colo_relay_new().
 */
#pragma once

#include "rpc/server.h"

#include <glib.h>

/* Bytes that wait for one side; above it the other is not read. Two of the largest frames: fewer
 * would stop a frame that is under way. */
#define COLO_RELAY_QUEUE_MAX (2u * 32u * 1024u * 1024u)
/* Clients at a time; one more is closed at once. libvirtd has its own limits behind it. */
#define COLO_RELAY_CLIENTS_MAX 1000u
/* FDs of a frame: VIR_NET_MESSAGE_NUM_FDS_MAX. */
#define COLO_RELAY_FDS_MAX 32u

typedef struct ColoRelay ColoRelay;

/* @upstreams: paths of sockets, tried in order for each client; NULL at the end; copied. */
ColoRelay *colo_relay_new(GMainContext *context, const char *const *upstreams);
/* Takes @fd over (-1: it could not be had), a connection of which @len bytes at @data have been
 * read. */
void colo_relay_adopt(ColoRelay *relay, int fd, const ColoRpcCaller *caller, const uint8_t *data,
                      size_t len);
/* Closes all connections. NULL is allowed. */
void colo_relay_free(ColoRelay *relay);
