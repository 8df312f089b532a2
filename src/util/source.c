/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/source.h"

GSource *colo_source_watch(GMainContext *context, int fd, GIOCondition condition,
                           GUnixFDSourceFunc func, gpointer data)
{
    GSource *source = g_unix_fd_source_new(fd, condition);

    /* It does not, but else GLib takes the FD out of its set for each callback, and wakes itself
     * for that: four system calls more, and a poll. */
    g_source_set_can_recurse(source, TRUE);
    g_source_set_callback(source, G_SOURCE_FUNC(func), data, NULL);
    g_source_attach(source, context);
    return source;
}

void colo_source_drop(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}
