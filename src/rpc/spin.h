/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Waiting that looks for a moment before it sleeps: a call through the relay wakes it twice more
 * than a direct one, and to be woken costs as much as all that it does. After it has handed
 * something on, the answer, or the client's next call, comes within some tens of microseconds, if
 * at all; until then it looks again and again. Who is idle costs nothing.
 */
#pragma once

#include <glib.h>

/* How long it looks: of what libvirt's small calls take, most. */
#define COLO_SPIN_US 60

/* Something is about to come, to the thread that calls. */
void colo_spin_expect(void);
/* For g_main_context_set_poll_func(). */
gint colo_spin_poll(GPollFD *fds, guint n, gint timeout_ms);
