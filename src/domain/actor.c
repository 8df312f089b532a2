/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The actor's thread. Mail comes in three sorts: commands and requests, which are answered;
 * events, which are evidence and may start a job; and the passing of time, which retries what
 * waits (re-protection, a register whose answer is unknown).
 *
 * A job (protect, takeover) runs on this thread and lets mail in by colo_domain_pump(); what comes
 * in then only sets flags, or ends the job by abort_reason, so that no job starts inside another.
 */
#include "domain/actor.h"

#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <string.h>

/* How often an idle actor looks at what waits; shorter while the end of a QEMU is being judged. */
#define TICK_MS 100u
#define TICK_ENDING_MS 10u

ColoLogContext colo_domain_log(const ColoDomain *d)
{
    return (ColoLogContext){d->record->name, d->record->uuid, d->record->generation};
}

ColoOwnershipContext colo_domain_ownership(const ColoDomain *d)
{
    return (ColoOwnershipContext){d->host->store, d->host->arbiter, d->host->config->host_name,
                                  d->peer_host};
}

/* ---- what others see ---- */

static const char *owner_name(const ColoDomain *d)
{
    if (d->record->owner)
        return d->host->config->host_name;
    if (d->record->role == COLO_ROLE_PRIMARY && d->record->state == COLO_STATE_PROTECTED)
        return d->host->config->host_name;
    return d->peer_host;
}

void colo_domain_publish(ColoDomain *d)
{
    const ColoDomainRecord *r = d->record;
    g_autofree char *peer = r->pair ? colo_pairs_peer_address(d->host->pairs, r->pair) : NULL;
    uint64_t since = d->last_commit_ns ? (colo_clock_ns() - d->last_commit_ns) / COLO_NS_PER_MS : 0;
    JsonObject *view = colo_json_build(
        "name", "s", r->name, "uuid", "s", r->uuid, "pair", "s", r->pair, "peer", "s", peer,
        "peer-host", "s", d->peer_host, "role", "s", colo_role_name(r->role), "state", "s",
        colo_state_name(r->state), "reason", "s", d->reason, "generation", "u", r->generation,
        "owner", "s", owner_name(d), "control", "s",
        d->control_silent || !colo_domain_control_is_up(d) ? "control-lost" : "up", "checkpoints",
        "u", d->checkpoints, "last-checkpoint-ms", "u", since, "disks", "o",
        json_object_get(d->disk_progress), "memory", "o",
        colo_json_build("total", "u", d->memory_total, "remaining", "u", d->memory_remaining, NULL),
        "progress-percent", "i", (int)d->progress, "features", "o", colo_features_in_force(d),
        "feature-policy", "o", json_object_get(colo_json_peek(r->details, "features")),
        "feature-stats", "o", json_object_get(d->feature_stats), "error", "s", d->error,
        "auto-reprotect", "b", d->auto_reprotect, "autostart", "b",
        colo_json_peek_bool(r->details, "autostart", FALSE), NULL);

    g_mutex_lock(&d->view_lock);
    json_object_put(d->view);
    d->view = view;
    g_mutex_unlock(&d->view_lock);
}

JsonObject *colo_domain_view(ColoDomain *d)
{
    JsonObject *copy = NULL;

    g_mutex_lock(&d->view_lock);
    json_object_deep_copy(d->view, &copy, NULL);
    g_mutex_unlock(&d->view_lock);
    return copy;
}

static void set_reason(ColoDomain *d, const char *reason)
{
    char *copy = g_strdup(reason); /* @reason may be d->reason itself */

    g_free(d->reason);
    d->reason = copy;
}

void colo_domain_announce(ColoDomain *d, const char *reason)
{
    ColoLogContext log = colo_domain_log(d);
    const char *state = colo_state_name(d->record->state);

    set_reason(d, reason);
    colo_log_full(&log, LOG_NOTICE, __func__, "%s: %s%s%s", colo_role_name(d->record->role), state,
                  d->reason ? ": " : "", d->reason ? d->reason : "");
    colo_domain_publish(d); /* who hears of it may look */
    d->host->emit(colo_json_build("event", "s", "state", "domain", "s", d->record->name, "uuid",
                                  "s", d->record->uuid, "pair", "s", d->record->pair, "state", "s",
                                  state, "role", "s", colo_role_name(d->record->role), "generation",
                                  "u", d->record->generation, "reason", "s", d->reason, NULL),
                  d->host->emit_opaque);
}

void colo_domain_set_state(ColoDomain *d, ColoState state, const char *reason)
{
    g_autoptr(GError) error = NULL;
    gboolean changed = d->record->state != state;
    ColoLogContext log;

    set_reason(d, reason);
    d->record->state = state;
    log = colo_domain_log(d);
    if (!colo_store_save_domain(d->host->store, d->record, &error))
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
    if (changed)
        colo_domain_announce(d, d->reason);
    else
        colo_domain_publish(d);
}

/* ---- the helper and the peer ---- */

JsonObject *colo_domain_comparator(ColoDomain *d, const char *execute, JsonObject *arguments,
                                   int fd, unsigned timeout_ms, GError **error)
{
    if (!arguments)
        arguments = json_object_new_object();
    colo_json_add(arguments, "uuid", "s", d->record->uuid, NULL);
    if (colo_domain_session(d) && !colo_json_peek(arguments, "generation"))
        colo_json_add(arguments, "generation", "u", colo_domain_session(d), NULL);
    return colo_comparator_call(d->host->comparator, execute, arguments, fd, timeout_ms, error);
}

uint64_t colo_domain_session(const ColoDomain *d)
{
    return colo_json_peek_uint(d->record->details, "session", 0);
}

void colo_domain_set_session(ColoDomain *d, uint64_t generation, gboolean rewrite)
{
    colo_json_add(d->record->details, "session", "u", generation, "rewrite", "b", rewrite, NULL);
}

gboolean colo_domain_session_rewrites(const ColoDomain *d)
{
    return colo_json_peek_bool(d->record->details, "rewrite", FALSE);
}

void colo_domain_end_session(ColoDomain *d)
{
    g_autoptr(JsonObject) gone = NULL;

    if (colo_domain_session(d) == 0 || colo_domain_session(d) != colo_remap_generation(d))
        gone = colo_domain_comparator(d, "session-destroy", NULL, -1, COLO_COMPARATOR_TIMEOUT_MS,
                                      NULL);
    colo_carrier_unwatch(d->host->carrier, d->record->uuid);
}

gboolean colo_domain_gate(ColoDomain *d, const char *mode, GError **error)
{
    g_autoptr(GError) own = NULL;
    g_autoptr(JsonObject) answer = colo_domain_comparator(
        d, "gate", colo_json_build("mode", "s", mode, NULL), -1, COLO_COMPARATOR_TIMEOUT_MS, &own);

    /* The helper's own "timeout" says that a closing gate is in force, but that QEMU has not read
     * yet what was released before: that was released by right. */
    if (answer || g_str_has_prefix(own->message, "comparator refused gate: ")) {
        if (answer || g_error_matches(own, COLO_ERROR, COLO_ERROR_TIMEOUT))
            return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&own));
    return FALSE;
}

gboolean colo_domain_attach_local(ColoDomain *d, const char *kind, const char *alias, int fd,
                                  GError **error)
{
    g_autofree char *channel = alias ? g_strconcat(kind, ":", alias, NULL) : g_strdup(kind);
    g_autoptr(JsonObject) done =
        colo_domain_comparator(d, "local-attach", colo_json_build("channel", "s", channel, NULL),
                               fd, COLO_COMPARATOR_TIMEOUT_MS, error);

    return done != NULL;
}

/* How often an idle QEMU is asked for its status, and how long it may take to answer. */
#define PROBE_INTERVAL_MS 1000u
#define PROBE_LIMIT_MS 5000u
/* No checkpoint for so long, nor will one come at once: a primary asks about its peer only then. */
#define NO_CHECKPOINT_MS 5000u

gboolean colo_domain_watch(ColoDomain *d, GError **error)
{
    const ColoKickWatch watch = {
        .delay_ms = d->host->config->checkpoint_period_ms,
        .interval_ms = PROBE_INTERVAL_MS,
        .limit_ms = PROBE_LIMIT_MS,
        .mirrors = d->record->role == COLO_ROLE_PRIMARY ? d->disks->len : 0,
    };

    if (!colo_kicker_watch(d->host->kicker, d->record->uuid, &watch, error)) {
        d->watched_ns = 0;
        return FALSE;
    }
    if (!d->watched_ns) { /* else the kicker does not say again what it has said */
        d->qemu_silent = FALSE;
        d->watched_ns = colo_clock_ns();
    }
    return TRUE;
}

void colo_domain_unwatch(ColoDomain *d)
{
    d->watched_ns = 0;
    d->qemu_silent = FALSE;
    colo_kicker_unwatch(d->host->kicker, d->record->uuid);
}

gboolean colo_domain_qemu_answers(ColoDomain *d, uint64_t now)
{
    if (!d->watched_ns && d->record->role == COLO_ROLE_SECONDARY && d->last_commit_ns &&
        now - d->last_commit_ns > NO_CHECKPOINT_MS * COLO_NS_PER_MS)
        colo_domain_watch(d, NULL);
    /* One probe has begun and would be overdue. */
    return d->watched_ns && !d->qemu_silent &&
           now - d->watched_ns > (PROBE_INTERVAL_MS + PROBE_LIMIT_MS) * COLO_NS_PER_MS;
}

static JsonObject *to_peer(ColoDomain *d, const char *method, JsonObject *params,
                           unsigned timeout_ms, gboolean hasty, GError **error)
{
    g_autoptr(ColoChannelRef) channel = colo_pairs_channel(d->host->pairs, d->record->pair, error);

    if (!params)
        params = json_object_new_object();
    if (!channel) {
        json_object_put(params);
        return NULL;
    }
    colo_json_add(params, "uuid", "s", d->record->uuid, NULL);
    return hasty ? colo_channel_call_hasty(channel, method, params, timeout_ms, error)
                 : colo_channel_call(channel, method, params, timeout_ms, error);
}

JsonObject *colo_domain_call_peer(ColoDomain *d, const char *method, JsonObject *params,
                                  unsigned timeout_ms, GError **error)
{
    return to_peer(d, method, params, timeout_ms, FALSE, error);
}

JsonObject *colo_domain_ask_peer(ColoDomain *d, const char *method, JsonObject *params,
                                 unsigned timeout_ms, GError **error)
{
    return to_peer(d, method, params, timeout_ms, TRUE, error);
}

gboolean colo_domain_control_is_up(ColoDomain *d)
{
    g_autoptr(ColoChannelRef) channel =
        d->record->pair ? colo_pairs_channel(d->host->pairs, d->record->pair, NULL) : NULL;

    return channel && colo_channel_is_up(channel);
}

/* ---- mail ---- */

/* libvirt's own is off while we have the domain: recover.c starts it. */
static JsonObject *set_autostart(ColoDomain *d, gboolean on, GError **error)
{
    colo_json_add(d->record->details, "autostart", "b", on, NULL);
    if (!colo_store_save_domain(d->host->store, d->record, error))
        return NULL;
    colo_domain_publish(d);
    return json_object_new_object();
}

static JsonObject *handle_command(ColoDomain *d, ColoMail *mail, GError **error)
{
    const char *name = mail->name;

    if (strcmp(name, "colo-tune") == 0)
        return colo_domain_tune(d, mail->body, error);
    if (strcmp(name, "autostart") == 0)
        return set_autostart(d, colo_json_peek_bool(mail->body, "on", FALSE), error);
    if (strcmp(name, "release") == 0) {
        colo_primary_release(d);
        return json_object_new_object();
    }
    if (d->busy) {
        if (strcmp(name, "colo-unprotect") == 0 &&
            (d->record->state == COLO_STATE_PREPARING || d->record->state == COLO_STATE_SYNCING)) {
            colo_domain_abort_job(d, "ended by colo-unprotect");
            return colo_json_build("name", "s", d->record->name, NULL);
        }
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is %s: wait until that has ended (virsh-colo colo-status %s)",
                    d->record->name, colo_state_name(d->record->state), d->record->name);
        return NULL;
    }
    if (strcmp(name, "colo-unprotect") == 0)
        return colo_primary_unprotect(d, error);
    if (strcmp(name, "hold") == 0)
        return colo_primary_hold(d, colo_json_peek_string(mail->body, "call", "a call"), error);
    if (strcmp(name, "colo-switchover") == 0)
        return colo_primary_switchover(d, error);
    if (strcmp(name, "colo-failover") == 0)
        return colo_takeover_force(d, colo_json_peek_bool(mail->body, "discard", FALSE), error);
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown command '%s'", name);
    return NULL;
}

static JsonObject *handle_peer(ColoDomain *d, ColoMail *mail, GError **error)
{
    const char *name = mail->name;
    uint64_t generation = 0;

    if (strcmp(name, "domain-failed") == 0) { /* the secondary says that its copy is gone */
        const char *reason = colo_json_peek_string(mail->body, "reason", "the secondary failed");

        if (!colo_domain_abort_job(d, "%s", reason) && d->record->role == COLO_ROLE_PRIMARY &&
            d->record->state == COLO_STATE_PROTECTED)
            colo_primary_peer_failed(d, reason);
        return json_object_new_object();
    }
    if (strcmp(name, "domain-forget") == 0 && !d->busy)
        return colo_domain_forget(d, error);
    if (strcmp(name, "domain-tune") == 0)
        return colo_secondary_tune(d, mail->body, error);
    if (d->busy) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE, "domain '%s' is %s on this host",
                    d->record->name, colo_state_name(d->record->state));
        return NULL;
    }
    if (strcmp(name, "domain-prepare") == 0)
        return colo_secondary_prepare(d, mail->body, error);
    if (strcmp(name, "domain-features") == 0)
        return colo_features_told(d, mail->body, error);
    if (strcmp(name, "domain-remap") == 0)
        return colo_remap_told(d, mail->body, error);
    if (strcmp(name, "domain-incoming") == 0)
        return colo_secondary_incoming(d, error);
    if (strcmp(name, "domain-paired") == 0)
        return colo_secondary_paired(d, mail->body, error);
    if (strcmp(name, "domain-relinquish") == 0)
        return colo_secondary_relinquish(d, mail, error);
    if (strcmp(name, "domain-consent") == 0) {
        if (!colo_json_get_uint(mail->body, "generation", &generation, error))
            return NULL;
        return colo_takeover_by_consent(d, generation, error);
    }
    if (strcmp(name, "domain-checkpoint") == 0) { /* the secondary's overlays are full */
        colo_kicker_kick(d->host->kicker, d->record->uuid);
        return json_object_new_object();
    }
    if (strcmp(name, "domain-check") == 0) /* may it take over? */
        return colo_copy_check(d, error);
    if (strcmp(name, "domain-devices") == 0)
        return colo_copy_compared(d, error);
    if (strcmp(name, "domain-state") == 0)
        return colo_json_build("state", "s", colo_state_name(d->record->state), "role", "s",
                               colo_role_name(d->record->role), "generation", "u",
                               d->record->generation, "relinquished", "u", d->record->relinquished,
                               "owner", "b", d->record->owner, "qemu-answers", "b",
                               colo_domain_qemu_answers(d, colo_clock_ns()), NULL);
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown request '%s' about domain '%s'",
                name, d->record->name);
    return NULL;
}

static void handle_mail(ColoDomain *d, ColoMail *mail)
{
    g_autoptr(GError) error = NULL;
    JsonObject *result = NULL;

    switch (mail->kind) {
    case COLO_MAIL_COMMAND:
        if (strcmp(mail->name, "colo-protect") == 0 && !d->busy) {
            if (!colo_features_set_policy(d, mail->body, &error)) {
                colo_mail_answer(mail, NULL, error);
                return;
            }
            /* Answered at once; the job reports through the view, which shows it by then. */
            colo_primary_begin(d, colo_json_peek_string(mail->body, "pair", ""));
            colo_mail_answer(mail, colo_json_build("job", "s", "started", NULL), NULL);
            colo_primary_protect(d);
            return;
        }
        result = handle_command(d, mail, &error);
        colo_mail_answer(mail, result, error);
        break;
    case COLO_MAIL_PEER:
        result = handle_peer(d, mail, &error);
        colo_mail_answer(mail, result, error);
        /* The consent is answered first; one that was said twice changes nothing. */
        if (!error && strcmp(mail->name, "domain-consent") == 0 &&
            d->record->state == COLO_STATE_FAILING_OVER)
            colo_takeover_run(d);
        break;
    case COLO_MAIL_COMPARATOR:
        colo_evidence_comparator(d, mail);
        break;
    case COLO_MAIL_COMPARATOR_DOWN:
        colo_evidence_comparator_down(d);
        break;
    case COLO_MAIL_LIFECYCLE:
        colo_evidence_lifecycle(d, mail);
        if (mail->number == VIR_DOMAIN_EVENT_STARTED)
            json_object_object_del(d->record->details, "declined");
        else if (mail->number == VIR_DOMAIN_EVENT_STOPPED &&
                 mail->detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED)
            colo_domain_migrated(d);
        else if (mail->number == VIR_DOMAIN_EVENT_UNDEFINED)
            colo_domain_undefined(d);
        break;
    case COLO_MAIL_DECLARED:
        colo_domain_take_declaration(d);
        break;
    case COLO_MAIL_METADATA:
        colo_domain_look_at_declaration(d);
        break;
    case COLO_MAIL_CONTROL_SILENT:
        d->control_silent = TRUE;
        if (d->packets_silent)
            colo_domain_abort_job(d, "the peer is silent");
        colo_evidence_consider(d);
        colo_domain_publish(d);
        break;
    case COLO_MAIL_CONTROL_HEARD:
        d->control_silent = FALSE;
        colo_domain_publish(d);
        break;
    case COLO_MAIL_LIBVIRT_UP:
        if (d->dom && !colo_domain_renew(d, &error)) {
            ColoLogContext log = colo_domain_log(d);

            colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
        }
        if (!d->busy)
            colo_recover(d);
        colo_domain_look_at_declaration(d);
        break;
    case COLO_MAIL_CONTROL_UP:
    case COLO_MAIL_COMPARATOR_UP:
        if (!d->busy)
            colo_recover(d);
        break;
    case COLO_MAIL_QUIT:
        break;
    }
}

gboolean colo_domain_pump(ColoDomain *d, unsigned ms, GError **error)
{
    uint64_t end = colo_clock_ns() + (uint64_t)ms * COLO_NS_PER_MS;

    do {
        uint64_t now = colo_clock_ns();
        unsigned left = now < end ? (unsigned)((end - now) / COLO_NS_PER_MS) + 1 : 0;
        g_autoptr(ColoMail) mail = colo_mailbox_take(d->mailbox, MIN(left, ms));

        if (mail && mail->kind == COLO_MAIL_QUIT) {
            colo_domain_abort_job(d, "virtcolod is shutting down");
            colo_mailbox_post(d->mailbox, g_steal_pointer(&mail));
        } else if (mail) {
            handle_mail(d, mail);
        }
        if (d->abort_reason) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED, "%s", d->abort_reason);
            return FALSE;
        }
    } while (colo_clock_ns() < end);
    return TRUE;
}

/* Looking for the session and the guest failed: again, or nobody watches over them. */
static void adopt(ColoDomain *d, uint64_t now)
{
    if (d->dom || now < d->next_attempt_ns)
        return;
    d->next_attempt_ns = now + COLO_NS_PER_SEC;
    colo_recover(d);
}

/* Protects it, or looks again later. */
static void protect_again(ColoDomain *d, uint64_t now)
{
    g_autofree char *pair = NULL;

    if (!colo_primary_may_protect(d)) {
        d->next_attempt_ns = now + COLO_NS_PER_SEC;
        return;
    }
    pair = g_strdup(d->record->pair);
    colo_primary_begin(d, pair);
    colo_primary_protect(d);
}

/* What waits for time to pass. */
static void tick(ColoDomain *d)
{
    uint64_t now = colo_clock_ns();

    d->last_tick_ns = now;
    colo_remap_tick(d, now);
    switch (d->record->state) {
    case COLO_STATE_DEGRADED:
        if (now >= d->next_attempt_ns)
            colo_takeover_resolve(d);
        break;
    case COLO_STATE_PROTECTED:
        adopt(d, now);
        colo_evidence_tick(d, now);
        colo_copy_tick(d, now);
        colo_epoch_tick(d, now);
        colo_features_tick(d, now);
        break;
    case COLO_STATE_SYNCING: /* a secondary; a primary is inside its job */
        adopt(d, now);
        colo_secondary_tick(d, now);
        colo_evidence_consider(d);
        break;
    case COLO_STATE_FAILING_OVER:
    case COLO_STATE_COMMITTING:
    case COLO_STATE_FENCED:
    case COLO_STATE_MANUAL:
        /* What did not succeed, or was not heard by the peer, is done again. */
        if (now >= d->next_attempt_ns) {
            d->next_attempt_ns = now + COLO_NS_PER_SEC;
            colo_recover(d);
            now = colo_clock_ns();
            if (d->next_attempt_ns <= now) /* it took longer: mail that waits comes first */
                d->next_attempt_ns = now + COLO_NS_PER_SEC;
        }
        break;
    case COLO_STATE_UNPROTECTED:
        if (now >= d->next_attempt_ns && colo_json_peek_bool(d->record->details, "unclean", FALSE))
            colo_primary_clean_up(d);
        else if (now >= d->next_attempt_ns &&
                 colo_json_peek_bool(d->record->details, "register-left", FALSE))
            colo_domain_leave_register(d);
        else if (now >= d->next_attempt_ns && d->declared && !d->ended)
            protect_again(d, now);
        break;
    case COLO_STATE_ALONE:
        colo_features_tick(d, now);
        if (now >= d->next_attempt_ns && d->unstarted)
            colo_recover(d);
        if (now >= d->next_attempt_ns &&
            colo_json_peek_bool(d->record->details, "unclean", FALSE)) {
            colo_primary_clean_up(d);
            break;
        }
        if (d->next_register_ns && now >= d->next_register_ns) {
            ColoOwnershipContext ctx = colo_domain_ownership(d);
            ColoOwnership outcome = colo_ownership_update_register(&ctx, d->record, NULL);

            d->next_register_ns = outcome == COLO_OWNERSHIP_UNKNOWN ? now + 2 * COLO_NS_PER_SEC : 0;
            if (outcome == COLO_OWNERSHIP_LOST &&
                colo_ownership_quiesce(&ctx, d->record, d->record->generation, NULL)) {
                /* Rule 8: the operator, or the peer after a consent that crossed ours. */
                colo_primary_quiesce(d, "the register says that the peer owns the domain");
                break;
            }
        }
        /* Not before the register has followed: the attempt could only fail, and wait longer. */
        if (now >= d->next_attempt_ns && !d->next_register_ns && d->record->pair &&
            d->record->owner && !d->ended &&
            colo_json_peek_bool(d->record->details, "wanted", FALSE) && !d->control_silent)
            protect_again(d, now);
        break;
    default:
        break;
    }
}

static gpointer actor_main(gpointer data)
{
    ColoDomain *d = data;

    colo_recover(d);
    colo_domain_look_at_declaration(d);
    for (;;) {
        g_autoptr(ColoMail) mail =
            colo_mailbox_take(d->mailbox, d->qemu_closed_ns ? TICK_ENDING_MS : TICK_MS);

        if (mail && mail->kind == COLO_MAIL_QUIT)
            return NULL;
        if (mail)
            handle_mail(d, mail);
        if (!mail || d->qemu_closed_ns ||
            colo_clock_ns() - d->last_tick_ns >= TICK_MS * COLO_NS_PER_MS)
            tick(d);
    }
}

ColoDomain *colo_domain_new(ColoHost *host, ColoDomainRecord *record)
{
    ColoDomain *d = g_new0(ColoDomain, 1);

    d->host = host;
    d->record = record;
    d->mailbox = colo_mailbox_new();
    colo_domain_devices_init(d);
    d->streams_up = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    d->channels_down = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    d->peer_host = g_strdup(colo_json_peek_string(record->details, "peer-host", NULL));
    d->reprotect_ms = COLO_REPROTECT_MIN_MS;
    d->unstarted = TRUE; /* looked at when it is ALONE */
    g_mutex_init(&d->view_lock);
    colo_domain_publish(d);
    d->thread = g_thread_new("domain", actor_main, d);
    return d;
}

void colo_domain_free(ColoDomain *d)
{
    if (!d)
        return;
    colo_mailbox_post(d->mailbox, colo_mail_new(COLO_MAIL_QUIT, NULL, NULL));
    g_thread_join(d->thread);
    colo_domain_detach(d);
    colo_aside_drop(&d->jobs_asked);
    colo_aside_drop(&d->devices_asked);
    colo_mailbox_free(d->mailbox);
    colo_domain_record_free(d->record);
    g_ptr_array_unref(d->disks);
    g_ptr_array_unref(d->nics);
    g_hash_table_unref(d->streams_up);
    g_hash_table_unref(d->channels_down);
    json_object_put(d->view);
    json_object_put(d->disk_progress);
    json_object_put(d->feature_stats);
    g_mutex_clear(&d->view_lock);
    g_free(d->peer_host);
    g_free(d->abort_reason);
    g_free(d->reason);
    g_free(d->error);
    g_free(d);
}
