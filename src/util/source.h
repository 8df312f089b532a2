/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GLib sources of a context that one thread runs (GMainContext): what all our users of them need.
 */
#pragma once

#include <glib-unix.h>
#include <glib.h>

/*
 * Calls @func for @fd, which stays the caller's, on the thread of @context whenever @condition is
 * there. @func must not run the context itself.
 */
GSource *colo_source_watch(GMainContext *context, int fd, GIOCondition condition,
                           GUnixFDSourceFunc func, gpointer data);

/* Ends *@source and forgets it; NULL is allowed. */
void colo_source_drop(GSource **source);
