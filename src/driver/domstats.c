/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/domstats.h"

#include "rpc/remote-calls.h"

#include <string.h>

/* VIR_TYPED_PARAM_FIELD_LENGTH of libvirt, with its NUL. */
#define NAME_SIZE 80

struct ColoDomstats {
    GMutex lock;
    GHashTable *figures; /* uuid -> JsonObject */
};

static void put_figures(gpointer figures)
{
    json_object_put(figures);
}

ColoDomstats *colo_domstats_new(void)
{
    ColoDomstats *stats = g_new0(ColoDomstats, 1);

    g_mutex_init(&stats->lock);
    stats->figures = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, put_figures);
    return stats;
}

void colo_domstats_free(ColoDomstats *stats)
{
    if (!stats)
        return;
    g_hash_table_unref(stats->figures);
    g_mutex_clear(&stats->lock);
    g_free(stats);
}

void colo_domstats_keep(ColoDomstats *stats, const char *uuid, JsonObject *figures)
{
    g_mutex_lock(&stats->lock);
    if (figures)
        g_hash_table_insert(stats->figures, g_strdup(uuid), json_object_get(figures));
    else
        g_hash_table_remove(stats->figures, uuid);
    g_mutex_unlock(&stats->lock);
}

/* A number or a text of @object as colo.@prefix@name. */
static unsigned add_member(GByteArray *params, const char *prefix, const char *key,
                           JsonObject *value)
{
    char name[NAME_SIZE];

    g_snprintf(name, sizeof(name), "colo.%s%s", prefix, key);
    if (json_object_is_type(value, json_type_string))
        colo_remote_put_text_param(params, name, json_object_get_string(value));
    else if (json_object_is_type(value, json_type_int))
        colo_remote_put_number_param(params, name, json_object_get_uint64(value));
    else
        return 0;
    return 1;
}

static unsigned add_named(GByteArray *params, const char *prefix, JsonObject *from,
                          const char *const *keys)
{
    unsigned added = 0;

    for (; *keys; keys++)
        added += add_member(params, prefix, *keys, colo_json_peek(from, *keys));
    return added;
}

/* All members of an object that are numbers or texts. */
static unsigned add_all(GByteArray *params, const char *prefix, JsonObject *from)
{
    unsigned added = 0;

    if (!from || !json_object_is_type(from, json_type_object))
        return 0;
    json_object_object_foreach(from, key, value)
    {
        added += add_member(params, prefix, key, value);
    }
    return added;
}

static unsigned add_figures(GByteArray *params, JsonObject *figures)
{
    static const char *const own[] = {"gate",           "epoch",     "held-frames", "held-bytes",
                                      "peer-silent-ms", "rewritten", "age-ms",      NULL};
    unsigned added = add_named(params, "", figures, own);

    added += add_all(params, "pause-ns.", colo_json_peek(figures, "pause-ns"));
    added += add_all(params, "pause-histogram.", colo_json_peek(figures, "pause-histogram"));
    added += add_all(params, "lag-ns.", colo_json_peek(figures, "skew-ns"));
    added += add_all(params, "policy.", colo_json_peek(figures, "policy"));
    return added + add_all(params, "count.", colo_json_peek(figures, "counters"));
}

unsigned colo_domstats_add(ColoDomstats *stats, const char *uuid, JsonObject *view,
                           GByteArray *params)
{
    static const char *const known[] = {
        "state",   "role",       "pair",        "peer",
        "control", "generation", "checkpoints", "last-checkpoint-ms",
        NULL};
    unsigned added = add_named(params, "", view, known);
    JsonObject *figures;

    g_mutex_lock(&stats->lock);
    figures = json_object_get(g_hash_table_lookup(stats->figures, uuid));
    g_mutex_unlock(&stats->lock);
    added += add_figures(params, figures);
    json_object_put(figures);
    return added;
}
