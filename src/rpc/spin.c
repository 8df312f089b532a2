/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/spin.h"

/* A poll function has no data of its own, and a context belongs to one thread. */
static __thread gint64 expected_until; /* us; 0: nothing is */

void colo_spin_expect(void)
{
    expected_until = g_get_monotonic_time() + COLO_SPIN_US;
}

gint colo_spin_poll(GPollFD *fds, guint n, gint timeout_ms)
{
    while (expected_until && timeout_ms != 0) {
        gint ready = g_poll(fds, n, 0);

        if (ready != 0)
            return ready;
        if (g_get_monotonic_time() > expected_until)
            expected_until = 0;
    }
    return g_poll(fds, n, timeout_ms);
}
