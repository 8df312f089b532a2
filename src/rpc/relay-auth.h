/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Authentication of a local client by polkit, where the configuration wants it (auth_unix_rw,
 * auth_unix_ro): the relay answers AUTH_LIST and AUTH_POLKIT itself, and nothing else of the client
 * reaches libvirt before (libvirt 9.0, src/remote/remote_daemon_dispatch.c). libvirt itself is
 * asked by root, who we are, and would let everybody in.
 */
#pragma once

#include "rpc/frame.h"
#include "rpc/server.h"

typedef struct ColoRelayAuth ColoRelayAuth;

/* @done is told, on the thread of the context, when an answer is to be written, or the client is
 * in: colo_relay_auth_take(). */
ColoRelayAuth *colo_relay_auth_new(const ColoRpcCaller *caller, void (*done)(void *opaque),
                                   void *opaque);
/* Also while polkit is asked. NULL is allowed. */
void colo_relay_auth_free(ColoRelayAuth *auth);

/* Deals with a frame of a client that is not in; its answer is to be taken, now or when @done says
 * so. FALSE: the client has broken the order and is to be closed. */
gboolean colo_relay_auth_hear(ColoRelayAuth *auth, const ColoRpcFrame *frame);
/* What the client is to hear, the caller's; NULL: nothing. */
GByteArray *colo_relay_auth_take(ColoRelayAuth *auth);
/* polkit is being asked: the client's next frames wait. */
gboolean colo_relay_auth_is_asking(const ColoRelayAuth *auth);
gboolean colo_relay_auth_is_in(const ColoRelayAuth *auth);
