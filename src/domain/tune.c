/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-tune: hardware features (protect-features.c), and the numbers that say when checkpoints are
 * forced (util/tuning.h). Those that were changed are kept with the domain, here and at the peer,
 * so that the one that owns it after a takeover protects it again with the same; the helper is told
 * all of them.
 */
#include "domain/actor.h"

#include "util/error.h"

#include <string.h>

/* The peer's answer changes nothing: it gets the numbers again with the next protection. */
#define PEER_TIMEOUT_MS 1000u

static ColoTuning in_force(const ColoDomain *d)
{
    ColoTuning tuning = COLO_TUNING_DEFAULT;

    /* A store that was edited by hand: what is out of bounds is left at the default. */
    (void)colo_tuning_update(&tuning, colo_json_peek(d->record->details, "tuning"), NULL);
    return tuning;
}

JsonObject *colo_domain_tuning(const ColoDomain *d)
{
    ColoTuning tuning = in_force(d);

    return colo_tuning_to_json(&tuning);
}

/* The members of @all that have been changed, by now or by @args. */
static JsonObject *changed_members(const ColoDomain *d, JsonObject *all, JsonObject *args)
{
    JsonObject *before = colo_json_peek(d->record->details, "tuning");
    JsonObject *changed = json_object_new_object();

    json_object_object_foreach(all, name, value)
    {
        if (colo_json_peek(before, name) || colo_json_peek(args, name))
            json_object_object_add(changed, name, json_object_get(value));
    }
    return changed;
}

/* Tells the session that runs. FALSE: there is none. */
static gboolean apply(ColoDomain *d, JsonObject *all)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) done = NULL;

    if (d->record->state == COLO_STATE_UNPROTECTED)
        return FALSE;
    done = colo_domain_comparator(d, "tune",
                                  colo_json_build("tuning", "o", json_object_get(all), NULL), -1,
                                  COLO_COMPARATOR_TIMEOUT_MS, &error);

    if (!done && !g_error_matches(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN)) {
        ColoLogContext log = colo_domain_log(d);

        colo_log_full(&log, LOG_WARNING, __func__, "new tuning is not in force yet: %s",
                      error->message);
    }
    return done != NULL;
}

static gboolean keep(ColoDomain *d, JsonObject *changed, GError **error)
{
    json_object_object_add(d->record->details, "tuning", changed);
    return colo_store_save_domain(d->host->store, d->record, error);
}

static gboolean change(ColoDomain *d, ColoTuning *tuning, JsonObject *args, gboolean *live,
                       GError **error)
{
    g_autoptr(JsonObject) all = NULL;
    g_autoptr(JsonObject) told = NULL;

    if (d->record->role == COLO_ROLE_SECONDARY &&
        (d->record->state == COLO_STATE_PROTECTED || d->record->state == COLO_STATE_SYNCING)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is protected from host '%s': tune it there", d->record->name,
                    d->peer_host);
        return FALSE;
    }
    if (!colo_tuning_update(tuning, args, error)) {
        g_prefix_error(error, "domain '%s': ", d->record->name);
        return FALSE;
    }
    all = colo_tuning_to_json(tuning);
    if (!keep(d, changed_members(d, all, args), error))
        return FALSE;
    *live = apply(d, all);
    if (*live && d->record->role == COLO_ROLE_PRIMARY && d->record->state == COLO_STATE_PROTECTED)
        told = colo_domain_ask_peer(
            d, "domain-tune",
            colo_json_build("tuning", "o",
                            json_object_get(colo_json_peek(d->record->details, "tuning")), NULL),
            PEER_TIMEOUT_MS, NULL);
    return TRUE;
}

JsonObject *colo_domain_tune(ColoDomain *d, JsonObject *args, GError **error)
{
    const ColoTuning defaults = COLO_TUNING_DEFAULT;
    ColoTuning tuning = in_force(d), copy = tuning;
    g_autofree char *features = NULL;
    gboolean live = FALSE;

    /* What is bad in one of the two changes nothing of the other. */
    if (!colo_tuning_update(&copy, args, error)) {
        g_prefix_error(error, "domain '%s': ", d->record->name);
        return NULL;
    }
    if ((colo_json_peek(args, "features") && (!colo_features_tune(d, args, &live, error) ||
                                              (live && !colo_features_settle(d, error)))) ||
        (colo_tuning_is_named(args) && !change(d, &tuning, args, &live, error)))
        return NULL;
    colo_domain_publish(d);
    features = colo_features_policy_text(d);
    return colo_json_build(
        "name", "s", d->record->name, "tuning", "o", colo_tuning_to_json(&tuning), "defaults", "o",
        colo_tuning_to_json(&defaults), "features", "s", features, "live", "b", live, NULL);
}

gboolean colo_domain_take_tuning(ColoDomain *d, JsonObject *changed, GError **error)
{
    ColoTuning tuning = COLO_TUNING_DEFAULT;

    if (!changed) {
        json_object_object_del(d->record->details, "tuning");
        return TRUE;
    }
    if (!json_object_is_type(changed, json_type_object)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "domain '%s': member 'tuning' must be an object", d->record->name);
        return FALSE;
    }
    if (!colo_tuning_update(&tuning, changed, error)) {
        g_prefix_error(error, "domain '%s': ", d->record->name);
        return FALSE;
    }
    json_object_object_add(d->record->details, "tuning", json_object_get(changed));
    return TRUE;
}

void colo_domain_tell_policy(ColoDomain *d, JsonObject *event)
{
    ColoLogContext log = colo_domain_log(d);
    const char *mode = colo_json_peek_string(event, "mode", "");
    const char *reason = colo_json_peek_string(event, "reason", "");

    colo_log_full(&log, LOG_NOTICE, __func__, "checkpoint mode %s: %s", mode, reason);
    d->host->emit(colo_json_build("event", "s", "policy", "domain", "s", d->record->name, "uuid",
                                  "s", d->record->uuid, "pair", "s", d->record->pair, "mode", "s",
                                  mode, "reason", "s", reason, NULL),
                  d->host->emit_opaque);
}

JsonObject *colo_secondary_tune(ColoDomain *d, JsonObject *params, GError **error)
{
    if (d->record->role != COLO_ROLE_SECONDARY) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is not secondary on %s", d->record->name,
                    d->host->config->host_name);
        return NULL;
    }
    if (!colo_domain_take_tuning(d, colo_json_peek(params, "tuning"), error) ||
        !colo_store_save_domain(d->host->store, d->record, error))
        return NULL;
    return json_object_new_object();
}
