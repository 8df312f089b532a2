/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reactor: epoll, timers and work put off to the end of a round, all in one thread. Nothing
 * here allocates; sources, timers and deferrals lie inside the objects that own them.
 *
 * A round: every ready source is called once, then the deferred work, then the timers that were
 * due when the kernel was asked for ready sources. So what had arrived by the time a timer was due
 * is always read before it judges silence, also after this process stood still.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COLO_LOOP_BATCH 64 /* events taken from the kernel at once */

typedef struct ColoLoop ColoLoop;

typedef struct {
    int fd;
    uint32_t events; /* EPOLLIN, EPOLLOUT; 0: not watched at all, not even for errors */
    void (*ready)(void *opaque, uint32_t events);
    void *opaque;
} ColoSource;

typedef struct ColoTimer {
    struct ColoTimer *next;
    uint64_t due_ns;
    void (*due)(void *opaque);
    void *opaque;
    bool armed;
} ColoTimer;

typedef struct ColoDeferred {
    struct ColoDeferred *next;
    void (*run)(void *opaque);
    void *opaque;
    bool queued;
} ColoDeferred;

ColoLoop *colo_loop_new(void); /* NULL with errno */
/* Runs what is still deferred: it frees memory. */
void colo_loop_free(ColoLoop *loop);
void colo_loop_run(ColoLoop *loop); /* until colo_loop_quit() */
void colo_loop_quit(ColoLoop *loop);

/* Watches @fd, level-triggered. @source->ready and ->opaque are set by the caller before. */
void colo_loop_add(ColoLoop *loop, ColoSource *source, int fd, uint32_t events);
void colo_loop_set(ColoLoop *loop, ColoSource *source, uint32_t events);
/* After it the source is not called any more, not even for an event already taken. */
void colo_loop_remove(ColoLoop *loop, ColoSource *source);

/* Calls @timer->due once, at or shortly after @due_ns (monotonic); moves an armed timer. */
void colo_loop_arm(ColoLoop *loop, ColoTimer *timer, uint64_t due_ns);
void colo_loop_disarm(ColoLoop *loop, ColoTimer *timer);

/* Calls @deferred->run once at the end of this round; queueing it twice is once. */
void colo_loop_defer(ColoLoop *loop, ColoDeferred *deferred);
void colo_loop_cancel(ColoLoop *loop, ColoDeferred *deferred);
