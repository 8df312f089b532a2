/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TCP connections of the data channels: virtcolod makes them, the helper gets the FD. Any thread.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

/* Connects to @host:@port within @timeout_ms over all its addresses; close-on-exec, blocking,
 * TCP_NODELAY (facts: 42 ms a checkpoint without). -1 and @error that names host, port and cause.
 */
int colo_dial_tcp(const char *host, uint16_t port, unsigned timeout_ms, GError **error);
