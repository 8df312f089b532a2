/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A question that may stay unanswered holds nobody. */
#include "domain/aside.h"

static GMutex lock;
static GCond changed;
static gboolean hangs, says;
static unsigned asked, answered;

static gboolean ask(virDomainPtr dom)
{
    gboolean answer;

    g_assert_null(dom);
    g_mutex_lock(&lock);
    asked++;
    while (hangs)
        g_cond_wait(&changed, &lock);
    answered++;
    answer = says;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
    return answer;
}

static void set(gboolean now_hangs, gboolean now_says)
{
    g_mutex_lock(&lock);
    hangs = now_hangs;
    says = now_says;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

/* Waits until all that was asked has been answered. */
static void settle(void)
{
    g_mutex_lock(&lock);
    while (answered < asked)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
    g_usleep(50000); /* the thread notes it */
}

static void test_answers(void)
{
    ColoAside *aside = NULL;
    gboolean answer = FALSE;

    set(FALSE, TRUE);
    g_assert_true(colo_aside_ask(&aside, NULL, ask, 5000, &answer));
    g_assert_true(answer);
    set(FALSE, FALSE);
    g_assert_true(colo_aside_ask(&aside, NULL, ask, 5000, &answer));
    g_assert_false(answer);
    g_assert_null(aside);
}

static void test_hangs(void)
{
    ColoAside *aside = NULL;
    gboolean answer = FALSE;
    unsigned before = asked;
    gint64 begin = g_get_monotonic_time();

    set(TRUE, TRUE);
    for (unsigned i = 0; i < 20; i++)
        g_assert_false(colo_aside_ask(&aside, NULL, ask, 50, &answer));
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 2 * G_USEC_PER_SEC);
    g_assert_cmpuint(asked, ==, before + 1);
    set(FALSE, TRUE);
    settle();
    /* What it said then may not be so any more. */
    set(FALSE, FALSE);
    g_assert_true(colo_aside_ask(&aside, NULL, ask, 5000, &answer));
    g_assert_false(answer);
    g_assert_cmpuint(asked, ==, before + 2);
}

static void test_poll(void)
{
    ColoAside *aside = NULL;
    gboolean answer = FALSE;
    unsigned before = asked;

    set(TRUE, TRUE);
    for (unsigned i = 0; i < 20; i++)
        g_assert_false(colo_aside_poll(&aside, NULL, ask, &answer)); /* does not wait */
    set(FALSE, TRUE);
    settle();
    g_assert_cmpuint(asked, ==, before + 1);
    g_assert_true(colo_aside_poll(&aside, NULL, ask, &answer)); /* what was asked then */
    g_assert_true(answer);
    g_assert_null(aside);
    set(FALSE, FALSE);
    g_assert_false(colo_aside_poll(&aside, NULL, ask, &answer));
    settle();
    g_assert_true(colo_aside_poll(&aside, NULL, ask, &answer));
    g_assert_false(answer);
    g_assert_cmpuint(asked, ==, before + 2);
}

static void test_dropped(void)
{
    ColoAside *aside = NULL;
    gboolean answer;

    set(TRUE, TRUE);
    g_assert_false(colo_aside_ask(&aside, NULL, ask, 50, &answer));
    colo_aside_drop(&aside);
    g_assert_null(aside);
    set(FALSE, TRUE);
    settle();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/aside/answers", test_answers);
    g_test_add_func("/aside/hangs", test_hangs);
    g_test_add_func("/aside/poll", test_poll);
    g_test_add_func("/aside/dropped", test_dropped);
    return g_test_run();
}
