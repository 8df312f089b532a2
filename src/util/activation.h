/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sockets inherited from systemd, by FileDescriptorName= (sd_listen_fds_with_names(3)), and what
 * is told to it. Called at start, before threads. */
#pragma once

#include <glib.h>

/* The inherited FD called @name, close-on-exec and non-blocking, or -1 when there is none.
 * Exactly one is expected; of several of one name the first is taken. */
int colo_activation_take(const char *name);

/* Connects to the socket of sd_notify(3), which cannot do it for a program that will see no file
 * and may make no socket when it has something to tell. Nothing when the service manager has not
 * asked for it. */
void colo_activation_open_notify(void);
/* Tells it @state ("READY=1"); nothing without the above. */
void colo_activation_notify(const char *state);
