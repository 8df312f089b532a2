/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The I/O thread of the control channels: one for the process, started when first needed, there
 * until the process ends. Private to the channel.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef void (*ColoIoFunc)(void *opaque);

GMainContext *colo_io_context(void);

/* Runs @func in the I/O thread, in the order of the calls: later, or before it returns. */
void colo_io_post(ColoIoFunc func, void *opaque);
void colo_io_run(ColoIoFunc func, void *opaque); /* in the I/O thread itself: at once */

/* A timer of the I/O thread, first unarmed; fires once for each arming. Used in that thread only.
 */
typedef struct ColoIoTimer ColoIoTimer;
ColoIoTimer *colo_io_timer_new(ColoIoFunc func, void *opaque);
void colo_io_timer_arm(ColoIoTimer *timer, uint64_t due_ns); /* of colo_clock_ns() */
void colo_io_timer_free(ColoIoTimer *timer);

/*
 * A watch of @fd: @func runs in the I/O thread whenever a condition holds that is watched, and
 * again while "more" is set. Used in that thread only.
 */
typedef struct ColoIoWatch ColoIoWatch;
ColoIoWatch *colo_io_watch_new(int fd, GIOCondition condition, ColoIoFunc func, void *opaque);
void colo_io_watch_set(ColoIoWatch *watch, GIOCondition condition);
void colo_io_watch_set_more(ColoIoWatch *watch, bool more);
void colo_io_watch_free(ColoIoWatch *watch); /* stops it; from @func too */
