/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pairs that this host belongs to: each a name, the peer, and a control channel that is kept
 * open. Any thread. A pair is defined on both hosts under one name.
 */
#pragma once

#include "domain/store.h"
#include "pair/channel.h"
#include "pair/config.h"

typedef struct ColoPairs ColoPairs;

typedef enum {
    COLO_PAIR_EVENT_UP,     /* connected */
    COLO_PAIR_EVENT_DOWN,   /* the dialled connection ended */
    COLO_PAIR_EVENT_SILENT, /* nothing heard for the heartbeat limit */
    COLO_PAIR_EVENT_HEARD,
} ColoPairEvent;

/* In the channel's I/O thread: only post. */
typedef void (*ColoPairEventFunc)(const char *pair, ColoPairEvent event, void *opaque);

/* Opens the channels of all stored pairs. @server: its connections count as heard. */
ColoPairs *colo_pairs_new(const ColoConfig *config, const ColoPeerInfo *self, ColoStore *store,
                          ColoChannelServer *server, ColoPairEventFunc event, void *opaque,
                          GError **error);
void colo_pairs_free(ColoPairs *pairs);

/* Stores and connects; a pair of the same name must be the same in all. @pool_map: pool-map.h's
 * text, or NULL. Does not ask the peer. */
gboolean colo_pairs_define(ColoPairs *pairs, const char *name, const char *peer, uint16_t port,
                           const char *pool_map, GError **error);
gboolean colo_pairs_undefine(ColoPairs *pairs, const char *name, GError **error);

/* FALSE with COLO_ERROR_NO_PAIR when there is none. */
gboolean colo_pairs_has(ColoPairs *pairs, const char *name, GError **error);

/* A reference for the caller: the pair may be undefined while it is used, then the channel is down.
 * NULL with COLO_ERROR_NO_PAIR when there is none. */
ColoChannel *colo_pairs_channel(ColoPairs *pairs, const char *name, GError **error);

/* Waits at most @timeout_ms until the channel of @name is up; FALSE with its last error. */
gboolean colo_pairs_wait_up(ColoPairs *pairs, const char *name, unsigned timeout_ms,
                            GError **error);

/* The peer's name in the register: what its hello says. NULL and @error when never connected. */
char *colo_pairs_peer_host(ColoPairs *pairs, const char *name, GError **error);

/* The address dialled. g_free(). */
char *colo_pairs_peer_address(ColoPairs *pairs, const char *name);

/* The pool map (pool-map.h), empty when there is no such pair. json_object_put(). */
JsonObject *colo_pairs_pool_map(ColoPairs *pairs, const char *name);

/* Results of colo-pair-list and colo-pair-info (rpc/command-table.c names the members). */
JsonObject *colo_pairs_list(ColoPairs *pairs);
JsonObject *colo_pairs_info(ColoPairs *pairs, const char *name, GError **error);
