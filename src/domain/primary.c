/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens to the primary of a protected domain: its peer or its guest is lost, it is fenced,
 * or somebody ends the protection or swaps the roles.
 */
#include "domain/actor.h"

#include "domain/qmp.h"
#include "domain/steps-bridge.h"
#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <libvirt/virterror.h>

/* How long mail is let in between two looks at a checkpoint that was asked for. */
#define POLL_MS 50u

/* I4: ownership is undecided and the bound of held output is reached: the vCPUs stop until it is
 * decided, instead of a guest whose output is lost. Stored before: a virtcolod that is started
 * meanwhile must let the guest go on. */
void colo_primary_hold_output(ColoDomain *d)
{
    g_autofree ColoStepDisk *disks = NULL;
    size_t n;

    if (d->record->state != COLO_STATE_DEGRADED || d->record->role != COLO_ROLE_PRIMARY ||
        colo_json_peek_bool(d->record->details, "output-hold", FALSE) || !d->dom)
        return;
    /* A mirrored write that waits for the peer would hold up `stop`, and QEMU's main loop with it.
     */
    disks = colo_domain_step_disks(d, &n);
    for (size_t i = 0; i < n; i++)
        colo_steps_mirror_yank(d->dom, &disks[i], NULL);
    colo_json_add(d->record->details, "output-hold", "b", TRUE, NULL);
    colo_domain_set_state(d, COLO_STATE_DEGRADED, "paused: output-hold");
    if (!colo_steps_stop(d->dom, NULL))
        colo_json_add(d->record->details, "output-hold", "b", FALSE, NULL);
}

gboolean colo_primary_pause(ColoDomain *d, GError **error)
{
    gboolean running;

    if (!colo_steps_is_running(d->dom, &running, error))
        return FALSE;
    if (!running) /* by us, or by somebody who will let it run again */
        return TRUE;
    colo_json_add(d->record->details, "output-hold", "b", TRUE, NULL);
    if (!colo_store_save_domain(d->host->store, d->record, error)) {
        colo_json_add(d->record->details, "output-hold", "b", FALSE, NULL);
        return FALSE;
    }
    return colo_steps_stop(d->dom, error);
}

void colo_primary_resume_output(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (!colo_json_peek_bool(d->record->details, "output-hold", FALSE))
        return;
    if (colo_domain_renew(d, &error) && colo_steps_cont(d->dom, &error))
        colo_json_add(d->record->details, "output-hold", "b", FALSE, NULL);
    else
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
}

void colo_primary_go_alone(ColoDomain *d, const char *reason)
{
    /* Stored with the state: a virtcolod that dies in between finishes it after its restart. */
    colo_json_add(d->record->details, "unclean", "b", TRUE, NULL);
    colo_domain_set_state(d, COLO_STATE_ALONE, reason);
    colo_primary_clean_up(d);
}

/* The secondary is a candidate since its first LOADED; what it is told here is the state to show. A
 * peer that has given its copy up meanwhile says so, and the primary goes on alone. */
void colo_primary_tell_paired(ColoDomain *d)
{
    g_autoptr(JsonObject) told = NULL;
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    colo_json_add(d->record->details, "paired-told", "b", FALSE, NULL);
    if (d->control_silent || !colo_domain_control_is_up(d))
        return; /* again when the channel comes back (recover.c) */
    told = colo_domain_ask_peer(d, "domain-paired",
                                colo_json_build("generation", "u", d->record->generation, NULL),
                                COLO_RELINQUISH_TIMEOUT_MS, &error);
    if (told) {
        colo_json_add(d->record->details, "paired-told", "b", TRUE, NULL);
        return;
    }
    colo_log_full(&log, LOG_WARNING, __func__, "telling the secondary: %s", error->message);
    if (g_error_matches(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID))
        colo_primary_peer_failed(d, "the peer has given its copy up");
}

void colo_primary_peer_failed(ColoDomain *d, const char *reason)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    uint64_t n = d->record->generation;
    g_autofree char *text = g_strdup(reason);
    ColoLogContext log = colo_domain_log(d);

    /* While control is up the primary decides, with the peer's consent (design section 3). */
    colo_domain_gate(d, "hold", NULL);
    if (colo_primary_ask_relinquish(d, FALSE, &error) &&
        colo_ownership_accept_consent(&ctx, d->record, n, &error)) {
        d->next_register_ns = colo_clock_ns();
        colo_primary_go_alone(d, text);
        return;
    }
    colo_log_full(&log, LOG_WARNING, __func__, "%s; the peer gave no consent: %s", text,
                  error->message);
    colo_takeover_by_arbiter(d);
}

void colo_primary_quiesce(ColoDomain *d, const char *reason)
{
    ColoLogContext log = colo_domain_log(d);
    g_autoptr(GError) error = NULL;

    colo_domain_unwatch(d);
    colo_domain_gate(d, "closed", NULL);
    if (colo_domain_renew(d, NULL)) {
        for (guint i = 0; i < d->nics->len; i++) {
            const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
            g_autofree char *tap = colo_steps_net_tap(d->dom, nic->alias, NULL);

            if (tap)
                colo_bridge_set_master(tap, NULL, NULL);
        }
        /* The copy is worthless from here on: its disk is resynchronized before it is used again.
         * Destroying it frees the memory that the peer's next protection needs. */
        d->must_end = virDomainDestroy(d->dom) < 0;
        if (d->must_end)
            colo_log_full(&log, LOG_WARNING, __func__, "stopping the fenced guest: %s",
                          virGetLastErrorMessage());
    } else {
        d->must_end = !colo_domain_is_gone(d);
    }
    colo_domain_end_session(d);
    if (!d->must_end)
        colo_remap_forget(d);
    colo_domain_detach(d);
    colo_json_add(d->record->details, "output-hold", "b", FALSE, NULL);
    colo_domain_set_state(d, COLO_STATE_FENCED, reason);
}

void colo_primary_tell_consent(ColoDomain *d, unsigned timeout_ms)
{
    uint64_t n = d->record->relinquished;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) told = colo_domain_call_peer(
        d, "domain-consent", colo_json_build("generation", "u", n, NULL), timeout_ms, &error);
    ColoLogContext log = colo_domain_log(d);

    if (!told) {
        colo_log_full(&log, LOG_WARNING, __func__, "telling the peer: %s", error->message);
        if (g_error_matches(error, COLO_ERROR, COLO_ERROR_PEER) ||
            g_error_matches(error, COLO_ERROR, COLO_ERROR_TIMEOUT) ||
            g_error_matches(error, COLO_ERROR, COLO_ERROR_RESOURCE))
            return; /* it may not have heard it: said again (recover.c) */
    }
    colo_json_add(d->record->details, "consent-told", "u", n, NULL);
    colo_domain_set_state(d, COLO_STATE_FENCED, d->reason);
}

void colo_primary_guest_gone(ColoDomain *d, gboolean on_purpose)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    uint64_t n = d->record->generation;
    ColoLogContext log = colo_domain_log(d);

    d->qemu_closed_ns = 0;
    colo_remap_forget(d);
    if (d->record->state == COLO_STATE_ALONE || d->record->state == COLO_STATE_COMMITTING) {
        d->ended = TRUE; /* an ordinary end of a guest that nobody else runs */
        colo_domain_publish(d);
        return;
    }
    if (d->record->state != COLO_STATE_PROTECTED && d->record->state != COLO_STATE_DEGRADED)
        return;
    colo_domain_unwatch(d);
    colo_json_add(d->record->details, "output-hold", "b", FALSE, NULL);
    colo_domain_gate(d, "closed", NULL);
    if (d->record->attempt) {
        /* No consent and no new CAS until the register has said what became of the last one. */
        d->qemu_died = TRUE;
        return;
    }
    if (on_purpose) {
        /* The service was ended: the other copy ends too, and this host keeps the domain. */
        if (colo_primary_ask_relinquish(d, TRUE, &error) &&
            colo_ownership_accept_consent(&ctx, d->record, n, &error)) {
            colo_domain_end_session(d);
            d->next_register_ns = colo_clock_ns();
            colo_domain_detach(d);
            colo_domain_set_state(d, COLO_STATE_ALONE, "the guest was shut down");
            return;
        }
        colo_log_full(&log, LOG_WARNING, __func__, "the guest ended, but the peer said: %s",
                      error->message);
    }
    /* QEMU died: consent settles it at once (design section 3). Stored first, then said. */
    g_clear_error(&error);
    if (!colo_ownership_consent(&ctx, d->record, &error)) {
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
        return;
    }
    colo_domain_set_state(d, COLO_STATE_FENCED, "QEMU of this host died");
    colo_primary_tell_consent(d, COLO_RELINQUISH_TIMEOUT_MS);
    colo_domain_end_session(d);
    colo_domain_detach(d);
}

/* The consent is stored: said, and the copy here ends. */
static void hand_over(ColoDomain *d, const char *reason)
{
    colo_primary_tell_consent(d, COLO_RELINQUISH_TIMEOUT_MS);
    colo_primary_quiesce(d, reason);
}

void colo_primary_guest_hangs(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    colo_log_full(&log, LOG_WARNING, __func__,
                  "QEMU of this host hangs, the copy at %s answers: given up to it", d->peer_host);
    colo_domain_gate(d, "closed", NULL);
    if (colo_ownership_consent(&ctx, d->record, &error))
        hand_over(d, "QEMU of this host hangs");
    else
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
}

/*
 * Roles swap on purpose (design section 3): a fresh checkpoint, then this host gives the domain up
 * by consent, and the peer goes on with it. What this copy still says after the gate is closed is
 * lost as a frame may be; nothing that left is.
 */
JsonObject *colo_primary_switchover(ColoDomain *d, GError **error)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    uint64_t n = d->record->generation, before = d->committed;

    if (d->record->state != COLO_STATE_PROTECTED || d->record->role != COLO_ROLE_PRIMARY) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is not protected from this host",
                    d->record->name);
        return NULL;
    }
    if (d->control_silent || !colo_domain_control_is_up(d)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "domain '%s': the control channel to %s is lost: a switchover needs it",
                    d->record->name, d->peer_host);
        return NULL;
    }
    d->busy = TRUE;
    for (unsigned waited = 0; d->committed == before && waited < 2000; waited += POLL_MS) {
        colo_kicker_kick(d->host->kicker, d->record->uuid);
        if (!colo_domain_pump(d, POLL_MS, error))
            break;
    }
    d->busy = FALSE;
    g_clear_pointer(&d->abort_reason, g_free);
    if (error && *error) {
        colo_evidence_after_job(d);
        return NULL;
    }
    if (!colo_copy_may_serve(d, error) || !colo_domain_gate(d, "closed", error))
        return NULL;
    if (!colo_ownership_consent(&ctx, d->record, error)) {
        colo_domain_gate(d, "paired", NULL);
        return NULL;
    }
    hand_over(d, "switched over to the peer");
    return colo_json_build("name", "s", d->record->name, "generation", "u", n + 1, NULL);
}

/* What the operator had set for the domain, before its protection took it over. */
static void give_autostart_back(ColoDomain *d)
{
    ColoLogContext log = colo_domain_log(d);
    g_autoptr(GError) error = NULL;
    virDomainPtr dom;

    if (!colo_json_peek_bool(d->record->details, "autostart", FALSE))
        return;
    dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, &error);
    if (dom && virDomainSetAutostart(dom, 1) == 0)
        colo_json_add(d->record->details, "autostart", "b", FALSE, NULL);
    else
        colo_log_full(&log, LOG_WARNING, __func__, "setting autostart again: %s",
                      error ? error->message : virGetLastErrorMessage());
    if (dom)
        virDomainFree(dom);
}

gboolean colo_primary_give_copy_up(ColoDomain *d, const char *reason, GError **error)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    uint64_t n = d->record->generation;

    if (!colo_primary_ask_relinquish(d, TRUE, error)) {
        g_prefix_error(error, "domain '%s' stays protected: the peer did not give its copy up: ",
                       d->record->name);
        return FALSE;
    }
    if (!colo_ownership_accept_consent(&ctx, d->record, n, error))
        return FALSE;
    d->next_register_ns = colo_clock_ns();
    colo_primary_go_alone(d, reason);
    if (colo_ownership_update_register(&ctx, d->record, NULL) == COLO_OWNERSHIP_WON)
        d->next_register_ns = 0;
    return TRUE;
}

/* By the operator; what the metadata declares counts again from the next start on. */
static JsonObject *unprotected(ColoDomain *d)
{
    d->declared = FALSE;
    colo_json_add(d->record->details, "wanted", "b", FALSE, "declined", "b", TRUE, NULL);
    give_autostart_back(d);
    colo_domain_set_state(d, COLO_STATE_UNPROTECTED, NULL);
    return colo_json_build("name", "s", d->record->name, NULL);
}

JsonObject *colo_primary_unprotect(ColoDomain *d, GError **error)
{
    switch (d->record->state) {
    case COLO_STATE_PROTECTED:
        if (d->record->role == COLO_ROLE_PRIMARY)
            break;
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' runs on the peer %s: end its protection there", d->record->name,
                    d->peer_host);
        return NULL;
    case COLO_STATE_ALONE:
        return unprotected(d);
    default:
        if (d->record->state == COLO_STATE_UNPROTECTED && d->declared) /* it would be */
            return unprotected(d);
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is %s, not protected",
                    d->record->name, colo_state_name(d->record->state));
        return NULL;
    }
    return colo_primary_give_copy_up(d, "protection was ended", error) ? unprotected(d) : NULL;
}
