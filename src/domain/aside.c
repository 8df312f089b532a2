/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/aside.h"

/* Of the one who asks and of the thread, a reference each. */
struct ColoAside {
    ColoAsideAsk ask;
    virDomainPtr dom;
    GMutex lock;
    GCond changed;
    gboolean done, answer; /* under @lock */
};

static void clear(gpointer data)
{
    ColoAside *aside = data;

    if (aside->dom)
        virDomainFree(aside->dom);
    g_mutex_clear(&aside->lock);
    g_cond_clear(&aside->changed);
}

static void unref(ColoAside *aside)
{
    g_atomic_rc_box_release_full(aside, clear);
}

static gpointer run(gpointer data)
{
    ColoAside *aside = data;
    gboolean answer = aside->ask(aside->dom);

    g_mutex_lock(&aside->lock);
    aside->answer = answer;
    aside->done = TRUE;
    g_cond_signal(&aside->changed);
    g_mutex_unlock(&aside->lock);
    unref(aside);
    return NULL;
}

/* NULL: no thread can be made. */
static ColoAside *begin(virDomainPtr dom, ColoAsideAsk ask)
{
    ColoAside *aside = g_atomic_rc_box_new0(ColoAside);
    GThread *thread;

    g_mutex_init(&aside->lock);
    g_cond_init(&aside->changed);
    aside->ask = ask;
    if (dom) {
        virDomainRef(dom);
        aside->dom = dom;
    }
    thread = g_thread_try_new("aside", run, g_atomic_rc_box_acquire(aside), NULL);
    if (!thread) {
        unref(aside); /* the thread's */
        unref(aside);
        return NULL;
    }
    g_thread_unref(thread);
    return aside;
}

static gboolean wait_for(ColoAside *aside, unsigned wait_ms, gboolean *answer)
{
    gint64 end = g_get_monotonic_time() + wait_ms * G_TIME_SPAN_MILLISECOND;
    gboolean done;

    g_mutex_lock(&aside->lock);
    while (!aside->done && g_cond_wait_until(&aside->changed, &aside->lock, end))
        ;
    done = aside->done;
    *answer = aside->answer;
    g_mutex_unlock(&aside->lock);
    return done;
}

gboolean colo_aside_ask(ColoAside **aside, virDomainPtr dom, ColoAsideAsk ask, unsigned wait_ms,
                        gboolean *answer)
{
    gboolean done;

    if (*aside && !wait_for(*aside, 0, answer))
        return FALSE;
    colo_aside_drop(aside); /* it came late */
    *aside = begin(dom, ask);
    done = *aside && wait_for(*aside, wait_ms, answer);
    if (done)
        colo_aside_drop(aside);
    return done;
}

gboolean colo_aside_poll(ColoAside **aside, virDomainPtr dom, ColoAsideAsk ask, gboolean *answer)
{
    if (!*aside) {
        *aside = begin(dom, ask);
        return FALSE;
    }
    if (!wait_for(*aside, 0, answer))
        return FALSE;
    colo_aside_drop(aside);
    return TRUE;
}

void colo_aside_drop(ColoAside **aside)
{
    g_clear_pointer(aside, unref);
}
