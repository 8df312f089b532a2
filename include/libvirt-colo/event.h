/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events of the daemon: changes of state, pairs that come and go. */
#ifndef LIBVIRT_COLO_EVENT_H
#define LIBVIRT_COLO_EVENT_H

#include <libvirt-colo/connect.h>

#ifdef __cplusplus
extern "C" {
#endif

/* @event is a JSON object; valid during the call. Must not close the connection. */
typedef void (*ColoEventCallback)(ColoConnect *conn, const char *event, void *opaque);

/*
 * Has @callback called for each event from now on; NULL ends that. One callback a connection.
 * Called inside colo_connect_event_dispatch() only. 0, or -1 with @error.
 */
int colo_connect_event_set_callback(ColoConnect *conn, ColoEventCallback callback, void *opaque,
                                    ColoError *error);

/*
 * Delivers the events that have come, waiting up to @timeout_ms for the first (0: not at all, -1:
 * without limit). Returns how many were delivered, or -1 with @error: the connection is lost.
 */
int colo_connect_event_dispatch(ColoConnect *conn, int timeout_ms, ColoError *error);

/* Readable when colo_connect_event_dispatch() has something to do: for poll(2). The
 * connection's. */
int colo_connect_get_fd(ColoConnect *conn);

/* Events that came while other calls ran, and were dropped because too many waited. */
unsigned long long colo_connect_event_lost(ColoConnect *conn);

#ifdef __cplusplus
}
#endif

#endif
