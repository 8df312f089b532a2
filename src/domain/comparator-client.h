/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtcolod's side of comparator/protocol.h: one connection to this host's colo-comparator. A
 * thread of its own reads answers and events and connects again after the helper was restarted. A
 * connection counts once hello is answered on it: systemd's socket takes connections while nobody
 * serves them.
 *
 * Calls block and may come from any thread but the callbacks'. Callbacks run on the reader thread
 * and must only post to a mailbox.
 */
#pragma once

#include <glib.h>

#include "util/json.h"

typedef struct ColoComparatorClient ColoComparatorClient;

typedef struct {
    /* @event is borrowed; its members are protocol.h's. */
    void (*event)(const char *name, const char *uuid, JsonObject *event, void *opaque);
    /* Connected and greeted: ask for the inventory; every session that is not there is gone. */
    void (*up)(void *opaque);
    /* The connection ended: the helper died or was stopped. */
    void (*down)(void *opaque);
} ColoComparatorEvents;

/* Starts connecting to @path at once and for ever. */
ColoComparatorClient *colo_comparator_client_new(const char *path,
                                                 const ColoComparatorEvents *events, void *opaque);
void colo_comparator_client_free(ColoComparatorClient *client);

gboolean colo_comparator_is_up(ColoComparatorClient *client);

/* Waits at most @timeout_ms for the connection. */
gboolean colo_comparator_wait_up(ColoComparatorClient *client, unsigned timeout_ms);

/*
 * Sends request @execute with @arguments (taken over; NULL: none) and, if not -1, @fd, which stays
 * the caller's. Returns "return", owned by the caller, or NULL with the helper's error,
 * COLO_ERROR_TIMEOUT after @timeout_ms or COLO_ERROR_SYSTEM when the helper is not running.
 */
JsonObject *colo_comparator_call(ColoComparatorClient *client, const char *execute,
                                 JsonObject *arguments, int fd, unsigned timeout_ms,
                                 GError **error);
