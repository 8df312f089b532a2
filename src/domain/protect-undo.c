/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking a protection away from a primary, half made or whole: the guest goes on running with its
 * own NICs and disks. Looks at what is there instead of remembering how far the making came.
 */
#include "domain/actor.h"

#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define ROLL_BACK_WAIT_MS 3000u

/* With the vCPUs stopped for milliseconds (steps-disk.h tells why). */
static void end_mirrors(ColoDomain *d, const ColoStepDisk *disks, size_t n)
{
    ColoLogContext log = colo_domain_log(d);
    g_autoptr(GError) error = NULL;
    gboolean any = FALSE;

    for (size_t i = 0; i < n; i++) {
        ColoMirrorState state;

        any = any || !colo_steps_mirror_state(d->dom, &disks[i], &state, NULL) || state.present;
    }
    if (any && !colo_primary_pause(d, &error)) {
        /* It stays as it is, harmless, and is ended with the next attempt. */
        colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
        colo_primary_resume_output(d);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!colo_steps_mirror_stop(d->dom, &disks[i], &error)) {
            colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
            g_clear_error(&error);
        }
    }
    colo_primary_resume_output(d);
}

/*
 * Takes everything of a protection away from the guest, which goes on running with its own NICs and
 * disks. The helper closes its ends first: a mirror or migration would otherwise wait for a
 * peer that may be dead (facts/checkpoint-stream.md rule 8). FALSE when libvirtd did not answer:
 * something is left, call again.
 */
gboolean colo_primary_remove_protection(ColoDomain *d)
{
    size_t n;
    g_autofree ColoStepDisk *disks = NULL;
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);
    ColoMigrateState state;
    gboolean left = TRUE;

    colo_domain_unwatch(d);
    /* Held output leaves while the filters are still there (I1 (c): we are the owner). */
    colo_domain_gate(d, "alone", NULL);
    if (!colo_domain_renew(d, &error)) {
        /* The helper stays between the guest and the network until the filters can go. */
        colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
        return colo_domain_is_gone(d);
    }
    colo_primary_resume_output(d);
    if (!colo_steps_net_remove(d->dom, colo_remap_generation(d), &error)) {
        colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
        g_clear_error(&error);
    }
    colo_domain_end_session(d);
    g_hash_table_remove_all(d->streams_up);
    if (colo_steps_migrate_state(d->dom, &state, NULL)) {
        if (state.status == COLO_MIGRATE_COLO)
            colo_steps_lost_heartbeat(d->dom, &error);
        else if (state.status == COLO_MIGRATE_RUNNING)
            colo_steps_migrate_cancel(d->dom, 5000, &error);
        if (error)
            colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
        g_clear_error(&error);
        left = colo_steps_wait_colo_left(d->dom, 5000, &error);
        if (!left)
            colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
        g_clear_error(&error);
    }
    disks = colo_domain_step_disks(d, &n);
    if (left) /* else a checkpoint could start the vCPUs again in the midst of it */
        end_mirrors(d, disks, n);
    if (!colo_steps_set_xcolo(d->dom, FALSE, &error))
        colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
    return virConnectIsAlive(virDomainGetConnect(d->dom)) == 1;
}

/* The peer's copy must not run any more, durably, before this host releases alone. */
gboolean colo_primary_ask_relinquish(ColoDomain *d, gboolean forget, GError **error)
{
    g_autoptr(JsonObject) answer = colo_domain_ask_peer(
        d, "domain-relinquish",
        colo_json_build("generation", "u", d->record->generation, "forget", "b", forget, NULL),
        COLO_RELINQUISH_TIMEOUT_MS, error);

    return answer != NULL;
}

/* The guest runs here as before; a protection that was there once is tried again later. */
static void finish_undo(ColoDomain *d)
{
    gboolean wanted = colo_json_peek_bool(d->record->details, "wanted", FALSE);

    colo_domain_detach(d);
    d->reprotect_ms = MIN(d->reprotect_ms * 2, COLO_REPROTECT_MAX_MS);
    d->next_attempt_ns = colo_clock_ns() + d->reprotect_ms * COLO_NS_PER_MS;
    colo_domain_set_state(d, wanted ? COLO_STATE_ALONE : COLO_STATE_UNPROTECTED,
                          "protection could not be established");
}

/* A protection that did not come to be: the guest goes on as before, the error is kept. */
void colo_primary_undo(ColoDomain *d, GError *why)
{
    g_autoptr(GError) peer_error = NULL;
    ColoLogContext log = colo_domain_log(d);
    gboolean alone = d->record->owner;
    gboolean begun = colo_json_peek_bool(d->record->details, "begun", TRUE);

    colo_log_full(&log, LOG_WARNING, __func__, "not protected: %s", why->message);
    g_free(d->error);
    d->error = g_strdup(why->message);
    if (d->qemu_died) {
        colo_domain_end_session(d);
        colo_remap_forget(d);
    }
    if (!begun) {
        /* Nothing of this attempt reached the peer, the register or the guest. A new generation now
         * could outrun a register that has not followed a consent yet. */
        alone = TRUE;
    } else if (!alone) {
        /* The CAS to `paired` may have happened: releasing alone needs the peer's word. */
        ColoOwnershipContext ctx = colo_domain_ownership(d);
        uint64_t n = d->record->generation;

        alone = colo_primary_ask_relinquish(d, TRUE, &peer_error) &&
                colo_ownership_accept_consent(&ctx, d->record, n, &peer_error);
        if (!alone) {
            colo_domain_gate(d, "hold", NULL);
            colo_domain_set_state(d, COLO_STATE_DEGRADED, peer_error->message);
            return;
        }
        d->next_register_ns = colo_clock_ns();
    } else if (colo_primary_ask_relinquish(d, TRUE, &peer_error)) {
        /* The peer can never serve this generation again: the next attempt needs a new one. */
        ColoOwnershipContext ctx = colo_domain_ownership(d);

        colo_ownership_accept_consent(&ctx, d->record, d->record->generation, NULL);
    }
    if (begun && !d->qemu_died && !colo_primary_remove_protection(d))
        colo_json_add(d->record->details, "unclean", "b", TRUE, NULL);
    finish_undo(d);
}

void colo_primary_roll_back(ColoDomain *d, const char *reason)
{
    g_autoptr(GError) error = g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_FAILED, "%s", reason);

    d->qemu_died = colo_domain_is_gone(d);
    /* virtcolod has just started: the peer's copy goes too, if the peer is heard soon. */
    if (d->record->pair)
        colo_pairs_wait_up(d->host->pairs, d->record->pair, ROLL_BACK_WAIT_MS, NULL);
    colo_primary_undo(d, error);
}

void colo_primary_clean_up(ColoDomain *d)
{
    gboolean clean = colo_primary_remove_protection(d);

    colo_domain_detach(d);
    d->next_attempt_ns =
        colo_clock_ns() + (clean ? d->reprotect_ms : COLO_REPROTECT_MIN_MS) * COLO_NS_PER_MS;
    if (clean) {
        g_autofree char *reason = g_strdup(d->reason);

        colo_json_add(d->record->details, "unclean", "b", FALSE, NULL);
        colo_domain_set_state(d, d->record->state, reason);
    }
}
