/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Linux bridges and their ports by rtnetlink (rtnetlink(7)), in the network namespace of the
 * calling thread: the quarantine bridge of a secondary's NIC, and the move of its tap to the real
 * bridge at takeover, which must not wait for libvirt. Needs CAP_NET_ADMIN. Blocking, microseconds;
 * any thread.
 *
 * The quarantine bridge has no uplink, no address and its device stays down: a bridge that is down
 * forwards nothing, and the host's own IPv6 on it would otherwise send frames into the secondary.
 */
#pragma once

#include <glib.h>

/* "colo-q" and 8 hex digits of a hash of @uuid and @alias: 14 characters, the kernel's limit is 15.
 * For the caller to g_free(). */
char *colo_bridge_quarantine_name(const char *uuid, const char *alias);

/* Creates the bridge (STP off, forward delay 0, down). An existing bridge of that name is success,
 * another kind of link of that name an error. */
gboolean colo_bridge_create(const char *name, GError **error);

/* Deletes it; its ports are released. One that is absent is success. Refuses a name that does not
 * begin with "colo-q": never deletes what is not ours. */
gboolean colo_bridge_delete(const char *name, GError **error);

/* Makes @bridge the master of @port; NULL takes it off any bridge. Idempotent. */
gboolean colo_bridge_set_master(const char *port, const char *bridge, GError **error);

/* The bridge that @port belongs to, for the caller to g_free(); NULL without @error when none. */
char *colo_bridge_get_master(const char *port, GError **error);
