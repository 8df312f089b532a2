/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What stays between guest and network after a takeover: the session and the filters that map the
 * sequence numbers of connections which the two copies began with different ones
 * (comparator/rewrite.h). They stay until the helper says "rewrite-ended", beside those of the next
 * protection, which come to lie between them and the guest (steps-net.h). Connections that need no
 * mapping pass through unchanged, so taking it out early costs only those that do.
 *
 * "remap" of the stored details is the generation of that session; 0 when none stays.
 */
#include "domain/actor.h"

#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

/* Between attempts to take it out. */
#define RETRY_NS COLO_NS_PER_SEC
/* A connection to the helper that broke is open again within this time if the helper lives. */
#define HELPER_BACK_MS 100u

uint64_t colo_remap_generation(const ColoDomain *d)
{
    return colo_json_peek_uint(d->record->details, "remap", 0);
}

static void set_generation(ColoDomain *d, uint64_t generation)
{
    colo_json_add(d->record->details, "remap", "u", generation, NULL);
}

void colo_remap_keep(ColoDomain *d)
{
    set_generation(d, colo_domain_session(d));
}

static JsonObject *request(ColoDomain *d, const char *execute, GError **error)
{
    return colo_domain_comparator(
        d, execute, colo_json_build("generation", "u", colo_remap_generation(d), NULL), -1,
        COLO_COMPARATOR_TIMEOUT_MS, error);
}

void colo_remap_forget(ColoDomain *d)
{
    g_autoptr(JsonObject) gone = NULL;
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (colo_remap_generation(d) == 0)
        return;
    gone = request(d, "session-destroy", NULL);
    set_generation(d, 0);
    d->next_remap_ns = 0;
    if (!colo_store_save_domain(d->host->store, d->record, &error))
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
}

gboolean colo_remap_remove(ColoDomain *d, GError **error)
{
    ColoLogContext log = colo_domain_log(d);

    if (colo_remap_generation(d) == 0)
        return TRUE;
    d->next_remap_ns = colo_clock_ns() + RETRY_NS;
    if (!colo_domain_is_gone(d) &&
        (!colo_domain_renew(d, error) ||
         !colo_steps_net_remove_of(d->dom, colo_remap_generation(d), error)))
        return FALSE;
    colo_log_full(&log, LOG_INFO, __func__, "no sequence numbers are mapped any more");
    colo_remap_forget(d);
    return TRUE;
}

void colo_remap_check(ColoDomain *d)
{
    ColoLogContext log = colo_domain_log(d);
    g_autoptr(JsonObject) stats = NULL;
    g_autoptr(GError) error = NULL;

    if (colo_remap_generation(d) == 0)
        return;
    if (colo_domain_is_gone(d)) {
        colo_remap_forget(d);
        return;
    }
    if (colo_comparator_wait_up(d->host->comparator, HELPER_BACK_MS)) {
        stats = request(d, "stats", &error);
        if (colo_json_peek_uint(stats, "rewritten", 0) > 0)
            return;
        if (!stats && !g_error_matches(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN)) {
            d->next_remap_ns = colo_clock_ns() + RETRY_NS; /* it does not answer yet */
            return;
        }
    }
    if (!stats)
        colo_log_full(&log, LOG_WARNING, __func__,
                      "colo-comparator has lost the sequence numbers that it mapped: connections "
                      "opened just before the takeover break");
    g_clear_error(&error);
    if (!colo_remap_remove(d, &error))
        colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
}

void colo_remap_tick(ColoDomain *d, uint64_t now)
{
    if (d->next_remap_ns && now >= d->next_remap_ns)
        colo_remap_check(d);
}

JsonObject *colo_remap_table(ColoDomain *d, GError **error)
{
    g_autoptr(JsonObject) table = NULL;

    if (colo_remap_generation(d) == 0)
        return json_object_new_array();
    table = request(d, "rewrite-table", error);
    return table ? json_object_get(colo_json_peek(table, "rows")) : NULL;
}

gboolean colo_remap_tell(ColoDomain *d, GError **error)
{
    g_autoptr(JsonObject) told = NULL;
    JsonObject *rows;

    if (colo_remap_generation(d) == 0)
        return TRUE;
    rows = colo_remap_table(d, error);
    if (!rows)
        return FALSE;
    told = colo_domain_call_peer(d, "domain-remap", colo_json_build("rows", "o", rows, NULL),
                                 COLO_PEER_TIMEOUT_MS, error);
    return told != NULL;
}

JsonObject *colo_remap_told(ColoDomain *d, JsonObject *params, GError **error)
{
    JsonObject *rows, *nics = json_object_new_array();

    for (guint i = 0; i < d->nics->len; i++)
        json_object_array_add(
            nics,
            json_object_new_string(((ColoProtectedNic *)g_ptr_array_index(d->nics, i))->alias));
    if (!colo_json_get_array(params, "rows", &rows, error)) {
        json_object_put(nics);
        return NULL;
    }
    return colo_domain_comparator(
        d, "rewrite-keep",
        colo_json_build("nics", "o", nics, "rows", "o", json_object_get(rows), NULL), -1,
        COLO_COMPARATOR_TIMEOUT_MS, error);
}
