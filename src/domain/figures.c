/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/figures.h"

#include "util/clock.h"
#include "util/error.h"

#include <string.h>

/* Questions at a time, over all domains: the helper answers them one after the other anyhow. */
#define THREADS 2

typedef struct {
    char *uuid;
    gboolean asked;  /* a question is under way */
    char *text;      /* the newest answer; NULL: there is none */
    uint64_t got_ns; /* when */
} Entry;

struct ColoFigures {
    ColoFiguresAsk ask;
    void *opaque;
    GThreadPool *pool; /* of Entry */
    GMutex lock;       /* all below */
    GCond answered;
    GHashTable *entries; /* uuid -> Entry; they stay, as the domains of a host do */
    gboolean silent;     /* somebody has waited in vain since the last answer */
};

static void entry_free(gpointer data)
{
    Entry *entry = data;

    g_free(entry->uuid);
    g_free(entry->text);
    g_free(entry);
}

static void ask(gpointer data, gpointer opaque)
{
    ColoFigures *figures = opaque;
    Entry *entry = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer = figures->ask(entry->uuid, figures->opaque, &error);

    g_mutex_lock(&figures->lock);
    if (answer || !g_error_matches(error, COLO_ERROR, COLO_ERROR_TIMEOUT)) {
        g_free(entry->text);
        /* Not the object: json-c's references are not counted atomically. */
        entry->text = answer ? colo_json_to_string(answer) : NULL;
        entry->got_ns = colo_clock_ns();
        figures->silent = FALSE;
    }
    entry->asked = FALSE;
    g_cond_broadcast(&figures->answered);
    g_mutex_unlock(&figures->lock);
}

ColoFigures *colo_figures_new(ColoFiguresAsk func, void *opaque)
{
    ColoFigures *figures = g_new0(ColoFigures, 1);

    figures->ask = func;
    figures->opaque = opaque;
    figures->pool = g_thread_pool_new(ask, figures, THREADS, FALSE, NULL);
    figures->entries = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
    g_mutex_init(&figures->lock);
    g_cond_init(&figures->answered);
    return figures;
}

void colo_figures_free(ColoFigures *figures)
{
    if (!figures)
        return;
    g_thread_pool_free(figures->pool, FALSE, TRUE);
    g_hash_table_unref(figures->entries);
    g_mutex_clear(&figures->lock);
    g_cond_clear(&figures->answered);
    g_free(figures);
}

static Entry *entry_of(ColoFigures *figures, const char *uuid)
{
    Entry *entry = g_hash_table_lookup(figures->entries, uuid);

    if (!entry) {
        entry = g_new0(Entry, 1);
        entry->uuid = g_strdup(uuid);
        g_hash_table_insert(figures->entries, entry->uuid, entry);
    }
    return entry;
}

/* FALSE: the time is over. */
static gboolean wait_for(ColoFigures *figures, const Entry *entry, unsigned wait_ms)
{
    gint64 end = g_get_monotonic_time() + wait_ms * G_TIME_SPAN_MILLISECOND;

    while (entry->asked) {
        if (figures->silent && wait_ms <= COLO_FIGURES_SHORT_MS)
            return FALSE;
        if (!g_cond_wait_until(&figures->answered, &figures->lock, end) && entry->asked) {
            figures->silent = TRUE;
            return FALSE;
        }
    }
    return TRUE;
}

JsonObject *colo_figures_get(ColoFigures *figures, const char *uuid, unsigned wait_ms)
{
    g_autofree char *text = NULL;
    JsonObject *got;
    uint64_t got_ns;
    gboolean fresh;
    Entry *entry;

    g_mutex_lock(&figures->lock);
    entry = entry_of(figures, uuid);
    if (!entry->asked) {
        entry->asked = TRUE;
        /* Fails only when no thread can be made at all; then it stays queued. */
        g_thread_pool_push(figures->pool, entry, NULL);
    }
    fresh = wait_for(figures, entry, wait_ms);
    text = g_strdup(entry->text);
    got_ns = entry->got_ns;
    g_mutex_unlock(&figures->lock);
    got = text ? colo_json_parse(text, strlen(text), NULL) : NULL;
    if (got && !fresh)
        colo_json_add(got, "age-ms", "u", (colo_clock_ns() - got_ns) / COLO_NS_PER_MS, NULL);
    return got;
}
