/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/loop.h"

#include "util/clock.h"
#include "util/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct ColoLoop {
    int epoll;
    bool quit;
    struct epoll_event batch[COLO_LOOP_BATCH];
    int batch_at, batch_len;
    ColoTimer *timers; /* by due time */
    ColoDeferred *deferred, **deferred_end;
};

ColoLoop *colo_loop_new(void)
{
    ColoLoop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return NULL;
    loop->deferred_end = &loop->deferred;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0) {
        free(loop);
        return NULL;
    }
    return loop;
}

void colo_loop_quit(ColoLoop *loop)
{
    loop->quit = true;
}

/* EPOLL_CTL_ADD and MOD fail only for want of memory or by a bug of ours: an FD that is not
 * watched would hang a guest silently, so it is said aloud.
 * #syscalls epoll_ctl */
static void control(ColoLoop *loop, int op, ColoSource *source)
{
    struct epoll_event event = {.events = source->events, .data.ptr = source};

    if (epoll_ctl(loop->epoll, op, source->fd, &event) < 0)
        colo_err("epoll_ctl %d on descriptor %d: %s", op, source->fd, strerror(errno));
}

void colo_loop_add(ColoLoop *loop, ColoSource *source, int fd, uint32_t events)
{
    source->fd = fd;
    source->events = events;
    if (events)
        control(loop, EPOLL_CTL_ADD, source);
}

void colo_loop_set(ColoLoop *loop, ColoSource *source, uint32_t events)
{
    uint32_t old = source->events;

    if (old == events || source->fd < 0)
        return;
    source->events = events;
    control(loop, !events ? EPOLL_CTL_DEL : old ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, source);
}

void colo_loop_remove(ColoLoop *loop, ColoSource *source)
{
    if (source->fd < 0)
        return;
    colo_loop_set(loop, source, 0);
    source->fd = -1;
    for (int i = loop->batch_at; i < loop->batch_len; i++) {
        if (loop->batch[i].data.ptr == source)
            loop->batch[i].data.ptr = NULL;
    }
}

void colo_loop_arm(ColoLoop *loop, ColoTimer *timer, uint64_t due_ns)
{
    ColoTimer **at = &loop->timers;

    colo_loop_disarm(loop, timer);
    while (*at && (*at)->due_ns <= due_ns)
        at = &(*at)->next;
    timer->due_ns = due_ns;
    timer->next = *at;
    timer->armed = true;
    *at = timer;
}

void colo_loop_disarm(ColoLoop *loop, ColoTimer *timer)
{
    if (!timer->armed)
        return;
    for (ColoTimer **at = &loop->timers; *at; at = &(*at)->next) {
        if (*at == timer) {
            *at = timer->next;
            break;
        }
    }
    timer->armed = false;
}

void colo_loop_defer(ColoLoop *loop, ColoDeferred *deferred)
{
    if (deferred->queued)
        return;
    deferred->queued = true;
    deferred->next = NULL;
    *loop->deferred_end = deferred;
    loop->deferred_end = &deferred->next;
}

void colo_loop_cancel(ColoLoop *loop, ColoDeferred *deferred)
{
    ColoDeferred **at = &loop->deferred;

    if (!deferred->queued)
        return;
    while (*at && *at != deferred)
        at = &(*at)->next;
    if (*at) {
        *at = deferred->next;
        if (loop->deferred_end == &deferred->next)
            loop->deferred_end = at;
    }
    deferred->queued = false;
}

static void run_deferred(ColoLoop *loop)
{
    ColoDeferred *first;

    while ((first = loop->deferred)) {
        loop->deferred = first->next;
        if (!loop->deferred)
            loop->deferred_end = &loop->deferred;
        first->queued = false;
        first->run(first->opaque);
    }
}

void colo_loop_free(ColoLoop *loop)
{
    if (!loop)
        return;
    run_deferred(loop);
    close(loop->epoll);
    free(loop);
}

static void run_timers(ColoLoop *loop, uint64_t asked_ns)
{
    while (loop->timers && loop->timers->due_ns <= asked_ns) {
        ColoTimer *timer = loop->timers;

        loop->timers = timer->next;
        timer->armed = false;
        timer->due(timer->opaque);
    }
    run_deferred(loop);
}

/* Milliseconds until the first timer, rounded up; -1: none. */
static int wait_ms(const ColoLoop *loop, uint64_t now)
{
    if (!loop->timers)
        return -1;
    if (loop->timers->due_ns <= now)
        return 0;
    return (int)((loop->timers->due_ns - now + COLO_NS_PER_MS - 1) / COLO_NS_PER_MS);
}

/* #syscalls epoll_wait epoll_pwait */
void colo_loop_run(ColoLoop *loop)
{
    while (!loop->quit) {
        /* A thread that was stopped behind the call, or worked for long, has not seen what came
         * meanwhile: timers that became due since then wait for the next call. */
        uint64_t asked_ns = colo_clock_ns();
        int n = epoll_wait(loop->epoll, loop->batch, COLO_LOOP_BATCH, wait_ms(loop, asked_ns));

        loop->batch_len = n > 0 ? n : 0;
        for (loop->batch_at = 0; loop->batch_at < loop->batch_len;) {
            struct epoll_event *event = &loop->batch[loop->batch_at++];
            ColoSource *source = event->data.ptr;

            if (source)
                source->ready(source->opaque, event->events);
        }
        run_deferred(loop);
        run_timers(loop, asked_ns);
    }
}
