/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reactor's order: what has arrived is read before a timer judges that nothing did. */
#include "comparator/loop.h"

#include "util/clock.h"

#include <glib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LIMIT_MS 20u

typedef struct {
    ColoLoop *loop;
    ColoSource source;
    ColoTimer timer;
    ColoDeferred busy;
    int peer;
    gboolean heard, heard_before_timer;
} Listener;

static void hear(void *opaque, uint32_t events)
{
    Listener *l = opaque;
    char byte;

    g_assert_cmpuint(events & EPOLLIN, !=, 0);
    g_assert_cmpint(read(l->source.fd, &byte, 1), ==, 1);
    l->heard = TRUE;
}

static void judge(void *opaque)
{
    Listener *l = opaque;

    l->heard_before_timer = l->heard;
    colo_loop_quit(l->loop);
}

/* Stands for a process that is stopped behind epoll_wait(): the peer speaks meanwhile, and the
 * timer becomes due. */
static void stand_still(void *opaque)
{
    Listener *l = opaque;

    g_assert_cmpint(write(l->peer, "x", 1), ==, 1);
    g_usleep(3 * LIMIT_MS * 1000);
}

static void run(Listener *l, void (*busy)(void *opaque))
{
    int ends[2];

    g_assert_cmpint(pipe(ends), ==, 0);
    *l = (Listener){.loop = colo_loop_new(), .peer = ends[1]};
    l->source = (ColoSource){.ready = hear, .opaque = l};
    l->timer = (ColoTimer){.due = judge, .opaque = l};
    l->busy = (ColoDeferred){.run = busy, .opaque = l};
    colo_loop_add(l->loop, &l->source, ends[0], EPOLLIN);
    colo_loop_arm(l->loop, &l->timer, colo_clock_ns() + LIMIT_MS * COLO_NS_PER_MS);
    if (busy)
        colo_loop_defer(l->loop, &l->busy);
    colo_loop_run(l->loop);
    colo_loop_remove(l->loop, &l->source);
    colo_loop_free(l->loop);
    close(ends[0]);
    close(ends[1]);
}

static void test_late_by_own_fault(void)
{
    Listener l;

    run(&l, stand_still);
    g_assert_true(l.heard_before_timer);
}

static void test_timer_of_a_silent_peer(void)
{
    Listener l;
    uint64_t start = colo_clock_ns();

    run(&l, NULL);
    g_assert_false(l.heard);
    g_assert_cmpuint(colo_clock_ns() - start, >=, LIMIT_MS * COLO_NS_PER_MS);
}

/* A timer is not starved by a source that always has something to say. */
static void speak_again(void *opaque, uint32_t events)
{
    Listener *l = opaque;

    hear(opaque, events);
    g_assert_cmpint(write(l->peer, "x", 1), ==, 1);
}

static void first_word(void *opaque)
{
    Listener *l = opaque;

    l->source.ready = speak_again;
    g_assert_cmpint(write(l->peer, "x", 1), ==, 1);
}

static void test_timer_beside_a_busy_source(void)
{
    Listener l;

    run(&l, first_word);
    g_assert_true(l.heard);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/loop/late-by-own-fault", test_late_by_own_fault);
    g_test_add_func("/loop/silent", test_timer_of_a_silent_peer);
    g_test_add_func("/loop/busy-source", test_timer_beside_a_busy_source);
    return g_test_run();
}
