/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The helper's figures for all who ask: one question at a time, and nobody waits for a helper that
 * stands still. */
#include "domain/figures.h"
#include "util/error.h"

#define WAIT_US (5 * G_USEC_PER_SEC)

typedef struct {
    ColoFigures *figures;
    GMutex lock;
    GCond changed;
    unsigned questions, running;
    gboolean stands;  /* the helper does not answer ... */
    gboolean answers; /* ... with figures, but with an error */
} Fixture;

static JsonObject *ask(const char *uuid, void *opaque, GError **error)
{
    Fixture *f = opaque;
    gboolean answers;
    unsigned n;

    g_mutex_lock(&f->lock);
    n = ++f->questions;
    f->running++;
    g_cond_broadcast(&f->changed);
    while (f->stands)
        g_cond_wait(&f->changed, &f->lock);
    f->running--;
    answers = f->answers;
    g_mutex_unlock(&f->lock);
    if (answers)
        return colo_json_build("uuid", "s", uuid, "n", "u", (uint64_t)n, NULL);
    g_set_error_literal(error, COLO_ERROR, COLO_ERROR_SYSTEM, "no session");
    return NULL;
}

static void stand(Fixture *f, gboolean stands)
{
    g_mutex_lock(&f->lock);
    f->stands = stands;
    g_cond_broadcast(&f->changed);
    g_mutex_unlock(&f->lock);
}

static void setup(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_mutex_init(&f->lock);
    g_cond_init(&f->changed);
    f->answers = TRUE;
    f->figures = colo_figures_new(ask, f);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    stand(f, FALSE);
    colo_figures_free(f->figures);
    g_mutex_clear(&f->lock);
    g_cond_clear(&f->changed);
}

static void test_fresh(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(JsonObject) a = colo_figures_get(f->figures, "a", COLO_FIGURES_LONG_MS);
    g_autoptr(JsonObject) again = colo_figures_get(f->figures, "a", COLO_FIGURES_LONG_MS);

    g_assert_cmpstr(colo_json_peek_string(a, "uuid", ""), ==, "a");
    g_assert_cmpuint(colo_json_peek_uint(again, "n", 0), ==, 2);
    g_assert_null(colo_json_peek(again, "age-ms"));
}

static void test_stands_still(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(JsonObject) before = colo_figures_get(f->figures, "a", COLO_FIGURES_LONG_MS);
    gint64 begin = g_get_monotonic_time();

    stand(f, TRUE);
    /* Of a hundred domains, twice: the first waits, and only two are asked about at a time. */
    for (unsigned i = 0; i < 200; i++) {
        g_autofree char *uuid = g_strdup_printf("d%u", i % 100);
        g_autoptr(JsonObject) none = colo_figures_get(f->figures, uuid, COLO_FIGURES_SHORT_MS);

        g_assert_null(none);
    }
    {
        g_autoptr(JsonObject) last = colo_figures_get(f->figures, "a", COLO_FIGURES_SHORT_MS);

        g_assert_cmpuint(colo_json_peek_uint(last, "n", 0), ==, 1);
        g_assert_nonnull(colo_json_peek(last, "age-ms"));
    }
    g_assert_cmpint(g_get_monotonic_time() - begin, <, WAIT_US);
    g_mutex_lock(&f->lock);
    g_assert_cmpuint(f->running, <=, 2);
    g_mutex_unlock(&f->lock);
    stand(f, FALSE);
    {
        g_autoptr(JsonObject) fresh = colo_figures_get(f->figures, "a", COLO_FIGURES_LONG_MS);

        g_assert_cmpuint(colo_json_peek_uint(fresh, "n", 0), >, 1);
        g_assert_null(colo_json_peek(fresh, "age-ms"));
    }
}

typedef struct {
    Fixture *f;
    JsonObject *got;
} Asker;

static gpointer asker(gpointer data)
{
    Asker *a = data;

    a->got = colo_figures_get(a->f->figures, "a", COLO_FIGURES_LONG_MS);
    return NULL;
}

static void test_shared(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GThread *threads[8];
    Asker askers[G_N_ELEMENTS(threads)];

    stand(f, TRUE);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        askers[i] = (Asker){f, NULL};
        threads[i] = g_thread_new("asker", asker, &askers[i]);
    }
    g_usleep(100000);
    stand(f, FALSE);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
        g_assert_nonnull(askers[i].got);
        json_object_put(askers[i].got);
    }
    /* Those that came before the answer have it; a late one has asked anew. */
    g_assert_cmpuint(f->questions, <, G_N_ELEMENTS(threads));
}

/* The session has ended: old figures would be wrong. */
static void test_no_session(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(JsonObject) before = colo_figures_get(f->figures, "a", COLO_FIGURES_LONG_MS);
    g_autoptr(JsonObject) after = NULL;

    g_assert_nonnull(before);
    f->answers = FALSE;
    after = colo_figures_get(f->figures, "a", COLO_FIGURES_LONG_MS);
    g_assert_null(after);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/figures/" name, Fixture, NULL, setup, function, teardown)
    ADD("fresh", test_fresh);
    ADD("stands-still", test_stands_still);
    ADD("shared", test_shared);
    ADD("no-session", test_no_session);
    return g_test_run();
}
