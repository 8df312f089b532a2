/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets inherited from systemd, by FileDescriptorName= (sd_listen_fds_with_names(3)). Called
 * once, at start, before threads. */
#pragma once

#include <glib.h>

/* The inherited FD called @name, close-on-exec and non-blocking, or -1 when there is none.
 * Exactly one is expected; of several of one name the first is taken. */
int colo_activation_take(const char *name);
