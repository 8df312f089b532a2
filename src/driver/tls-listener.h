/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo+tls://host/system: libvirt's TLS transport (libvirt 9.0, src/rpc/virnettlscontext.c). A
 * client shows a certificate of the CA whose DN the list admits, hears one byte 1, and is libvirt's
 * from there on: each connection goes to the relay through a socket pair. It has no FDs, no door 1
 * and no read-only form, as with libvirt. On a thread of its own.
 */
#pragma once

#include "pair/pki.h"
#include "rpc/server.h"

typedef struct ColoTlsListener ColoTlsListener;

/* A client that has not shown its certificate by then is closed. */
#define COLO_TLS_HANDSHAKE_MS 10000u
/* Connections at a time; one more is closed at once. */
#define COLO_TLS_CLIENTS_MAX 500u

/* @listen_fd: listening TCP, taken over also on failure. @allowed: as ColoTlsConfig has it;
 * @server outlives the listener. NULL with @error. */
ColoTlsListener *colo_tls_listener_new(int listen_fd, const ColoTlsConfig *config,
                                       ColoRpcServer *server, GError **error);
/* Closes all connections. NULL is allowed. */
void colo_tls_listener_free(ColoTlsListener *listener);
