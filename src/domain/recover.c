/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a starting virtcolod finds, and what it makes of it (I5): the store says what was, libvirt
 * and the helper say what is. Runs at the actor's start and each time that libvirt, the helper or
 * the peer comes back; every branch is safe to run again.
 */
#include "domain/actor.h"

#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <libvirt/virterror.h>
#include <string.h>

/* A helper that is not there when virtcolod starts gets this long to come up. */
#define COMPARATOR_START_MS 3000u
/* A consent is said again each second; its peer may be waiting for this actor in the meantime. */
#define REPEAT_TIMEOUT_MS 1000u
/* And the control channel, when the peer must be asked. */
#define CONTROL_START_MS 2000u

static gboolean rebooted(ColoDomain *d)
{
    return g_strcmp0(d->record->boot_id, d->host->boot_id) != 0;
}

/* libvirt reports a killed QEMU after 25 to 250 ms (evidence.c). */
#define QEMU_END_MS 500u

/* TRUE when the helper still has all that this copy needs of its QEMU (comparator/protocol.h). A
 * secondary is a candidate without its NBD connections. */
static gboolean channels_whole(const ColoDomain *d, JsonObject *channels)
{
    gboolean primary = d->record->role == COLO_ROLE_PRIMARY;
    guint each = colo_domain_session_rewrites(d) ? 4 : 2;
    guint all = primary ? 1 + 3 * d->nics->len + d->disks->len : 1 + each * d->nics->len;
    guint found = 0;

    if (!json_object_is_type(channels, json_type_array))
        return FALSE;
    for (size_t i = 0; i < json_object_array_length(channels); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(channels, i));

        found += primary || !g_str_has_prefix(name, "nbd:");
    }
    return found >= all;
}

/*
 * Takes over what the helper knows of the session, and what it said while nobody listened. FALSE
 * when it has none of this generation. @broken: this side of it is. Streams to the peer are the
 * primary's business: without one the secondary waits for its word, or suspects it, as ever
 * (evidence.c).
 */
static gboolean adopt_session(ColoDomain *d, gboolean *broken)
{
    const ColoHeartbeat *beat = &d->host->config->heartbeat;
    g_autoptr(JsonObject) stats =
        colo_domain_comparator(d, "stats", NULL, -1, COLO_COMPARATOR_TIMEOUT_MS, NULL);
    JsonObject *streams = colo_json_peek(stats, "streams");
    uint64_t silent_ms = colo_json_peek_uint(stats, "peer-silent-ms", 0);

    if (!stats || colo_json_peek_uint(stats, "generation", 0) != d->record->generation)
        return FALSE;
    d->loaded = colo_json_peek_uint(stats, "loaded", 0);
    d->committed = colo_json_peek_uint(stats, "committed", 0);
    d->checkpoints = d->committed;
    d->packets_silent = silent_ms > (uint64_t)beat->interval_ms * beat->missed;
    d->packets_silent_ns = colo_clock_ns() - silent_ms * COLO_NS_PER_MS;
    d->last_commit_ns = colo_clock_ns(); /* a peer that completes none from now on is found */
    d->overflow_ns = 0;
    g_hash_table_remove_all(d->streams_up);
    if (streams && json_object_is_type(streams, json_type_object)) {
        json_object_object_foreach(streams, name, value)
        {
            if (g_strcmp0(json_object_get_string(value), "up") == 0)
                g_hash_table_add(d->streams_up, g_strdup(name));
        }
    }
    *broken = !channels_whole(d, colo_json_peek(stats, "channels")) ||
              (d->record->role == COLO_ROLE_PRIMARY &&
               g_hash_table_size(d->streams_up) < 2 + d->disks->len);
    return TRUE;
}

/* TRUE when QEMU has closed every channel and libvirt agrees within a moment that it is gone: not
 * the session broke, this copy died. */
static gboolean copy_just_died(ColoDomain *d)
{
    g_autoptr(JsonObject) stats =
        colo_domain_comparator(d, "stats", NULL, -1, COLO_COMPARATOR_TIMEOUT_MS, NULL);
    JsonObject *channels = colo_json_peek(stats, "channels");
    uint64_t end = colo_clock_ns() + QEMU_END_MS * COLO_NS_PER_MS;

    if (!json_object_is_type(channels, json_type_array) || json_object_array_length(channels) > 0)
        return FALSE;
    while (!colo_domain_is_gone(d)) {
        if (colo_clock_ns() > end)
            return FALSE;
        g_usleep(10 * 1000);
    }
    return TRUE;
}

/* The session of a copy that runs is lost or broken. */
static void session_failed(ColoDomain *d, const char *reason)
{
    if (d->record->role == COLO_ROLE_SECONDARY) {
        colo_secondary_failed(d, reason);
        return;
    }
    /* Consent is better than the arbiter: the channel was opened a moment ago. */
    colo_pairs_wait_up(d->host->pairs, d->record->pair, CONTROL_START_MS, NULL);
    colo_primary_peer_failed(d, reason);
}

/* A copy that ran when virtcolod went away. */
static void recover_protected(ColoDomain *d)
{
    gboolean primary = d->record->role == COLO_ROLE_PRIMARY;
    /* Later on its coming back is told. */
    virConnectPtr conn = colo_virconn_get(d->host->virconn, d->last_tick_ns ? 0 : 10000, NULL);
    gboolean broken = FALSE;

    if (!conn)
        return; /* again when libvirtd is there */
    virConnectClose(conn);
    if (colo_domain_is_gone(d)) { /* its end may have been missed while libvirtd was away */
        if (primary)
            colo_primary_guest_gone(d, FALSE);
        else
            colo_secondary_failed(d, "the copy's QEMU is gone");
        return;
    }
    if (d->dom) { /* nothing was lost */
        if (primary && !colo_json_peek_bool(d->record->details, "paired-told", TRUE))
            colo_primary_tell_paired(d);
        return;
    }
    if (!colo_domain_renew(d, NULL))
        return;
    if (!colo_comparator_wait_up(d->host->comparator, COMPARATOR_START_MS) ||
        !adopt_session(d, &broken)) {
        session_failed(d, "colo-comparator of this host lost its sessions");
        return;
    }
    /* By the store both run (rule 14). A secondary's gate that was closed stays so: then the peer
     * was suspected, and is suspected again. */
    colo_domain_gate(d, "paired", NULL);
    if (broken && primary && copy_just_died(d)) {
        colo_primary_guest_gone(d, FALSE);
        return;
    }
    if (broken && !d->packets_silent) {
        session_failed(d, "a data stream or channel ended while virtcolod was away");
        return;
    }
    if (primary)
        colo_domain_watch(d, NULL);
    colo_domain_publish(d);
}

/* This host owns the generation, but went away before it acted on that. FALSE: it does not. */
static gboolean recover_owner(ColoDomain *d)
{
    if (!d->record->owner || d->record->attempt)
        return FALSE;
    d->next_register_ns = colo_clock_ns();
    if (d->record->role == COLO_ROLE_PRIMARY)
        colo_primary_go_alone(d, "virtcolod was restarted while the peer was given up");
    else
        colo_takeover_run(d);
    return TRUE;
}

/* This host gave the domain up; the peer may not have heard it. */
static void repeat_consent(ColoDomain *d)
{
    uint64_t n = d->record->relinquished;

    if (d->record->role == COLO_ROLE_PRIMARY && colo_domain_control_is_up(d) &&
        n == d->record->generation &&
        colo_json_peek_uint(d->record->details, "consent-told", 0) != n)
        colo_primary_tell_consent(d, REPEAT_TIMEOUT_MS);
}

/* Fenced in the store, but virtcolod went away before the guest was stopped (rule 8), or libvirtd
 * was not there for it. */
static void finish_quiesce(ColoDomain *d)
{
    if ((d->last_tick_ns && !d->must_end) || rebooted(d))
        return;
    if (colo_domain_is_gone(d)) {
        d->must_end = FALSE;
        return;
    }
    if (!colo_domain_is_running(d)) { /* libvirtd does not answer */
        d->must_end = TRUE;
        return;
    }
    if (d->record->role == COLO_ROLE_PRIMARY)
        colo_primary_quiesce(d, "the peer owns the domain");
    else if (d->record->role == COLO_ROLE_SECONDARY)
        colo_secondary_teardown(d);
}

/* libvirt's autostart is off for a protected domain, because the register must be read first: now
 * that it names this host, what the operator had set is done. */
static void autostart(ColoDomain *d)
{
    ColoLogContext log = colo_domain_log(d);
    virDomainPtr dom;

    if (!colo_json_peek_bool(d->record->details, "autostart", FALSE))
        return;
    dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, NULL);
    if (dom && virDomainIsActive(dom) == 0 && virDomainCreate(dom) < 0)
        colo_log_full(&log, LOG_ERR, __func__, "starting the domain: %s", virGetLastErrorMessage());
    if (dom)
        virDomainFree(dom);
}

/* What the arbiter says of a host that was booted anew; FALSE when that decides nothing. */
static gboolean register_decides(ColoDomain *d, ColoOwnership outcome)
{
    switch (outcome) {
    case COLO_OWNERSHIP_WON:
        colo_domain_set_state(d, COLO_STATE_ALONE, "booted anew; this host owns the domain");
        autostart(d);
        return TRUE;
    case COLO_OWNERSHIP_LOST:
        colo_domain_set_state(d, COLO_STATE_FENCED, "booted anew; the peer owns the domain");
        return TRUE;
    case COLO_OWNERSHIP_PAIRED:
    case COLO_OWNERSHIP_UNKNOWN:
    case COLO_OWNERSHIP_MANUAL:
        break;
    }
    return FALSE;
}

/* The host was booted anew: its QEMU is dead, it is no candidate for anything (design section 3).
 */
static void recover_rebooted(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    ColoOwnership outcome;

    if (d->record->role == COLO_ROLE_SECONDARY && d->record->attempt) {
        /* Its CAS may have been applied: the register is read, nothing is repeated (rule 7). */
        d->qemu_died = TRUE;
        colo_domain_set_state(d, COLO_STATE_DEGRADED,
                              "booted anew while a request to the arbiter was under way");
        return;
    }
    if (d->record->role == COLO_ROLE_SECONDARY) {
        colo_secondary_failed(d, "the secondary host was booted anew");
        return;
    }
    outcome = colo_ownership_restart(&ctx, d->record, &error);
    if (register_decides(d, outcome))
        return;
    /* Paired by the register, or by the store (neither owner nor a request under way): the peer's
     * copy may live, ours does not. Given up as soon as the peer hears. A generation that this host
     * owns is not: the peer gave that up. */
    if ((outcome == COLO_OWNERSHIP_PAIRED || !d->record->owner) && colo_domain_control_is_up(d) &&
        colo_ownership_consent(&ctx, d->record, NULL)) {
        colo_domain_set_state(d, COLO_STATE_FENCED, "booted anew; given up to the peer");
        repeat_consent(d);
        return;
    }
    if (d->record->state != COLO_STATE_MANUAL)
        colo_domain_set_state(d, COLO_STATE_MANUAL,
                              "booted anew: waiting for the peer, the arbiter or the operator");
}

/*
 * The lone owner's host was booted anew: its guest starts from its disk, when the operator had set
 * that, after a CAS of this host's own (rule 12). Once a boot: a guest that was shut down since
 * stays so.
 */
static void recover_alone(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    ColoLogContext log = colo_domain_log(d);
    g_autoptr(GError) error = NULL;
    ColoOwnership outcome = COLO_OWNERSHIP_WON;

    d->unstarted = FALSE;
    if (!rebooted(d) || !colo_json_peek_bool(d->record->details, "autostart", FALSE))
        return;
    if (colo_domain_is_gone(d))
        outcome = colo_ownership_restart(&ctx, d->record, &error);
    else if (!colo_domain_is_running(d))
        outcome = COLO_OWNERSHIP_UNKNOWN; /* libvirtd does not answer */
    if (outcome == COLO_OWNERSHIP_WON) {
        g_free(d->record->boot_id);
        d->record->boot_id = g_strdup(d->host->boot_id);
    }
    if (register_decides(d, outcome))
        return;
    if (outcome == COLO_OWNERSHIP_UNKNOWN) {
        d->unstarted = TRUE;
        d->next_attempt_ns = colo_clock_ns() + COLO_MANUAL_INTERVAL_MS * COLO_NS_PER_MS;
        return;
    }
    colo_log_full(
        &log, LOG_WARNING, __func__,
        "booted anew; no register says that this host owns it: when it does not run at %s, "
        "start it with 'virsh start %s'",
        d->peer_host ? d->peer_host : "the peer", d->record->name);
}

/* A job of the virtcolod before. */
static void recover_preparing(ColoDomain *d)
{
    gboolean booted = rebooted(d);

    if (d->dom)
        return; /* of this one */
    if (d->record->role == COLO_ROLE_PRIMARY) {
        /* The CAS to paired may have been applied, and this copy is dead: the peer's may live. */
        if (booted && d->record->state == COLO_STATE_SYNCING && !d->record->owner)
            recover_rebooted(d);
        else
            colo_primary_roll_back(d, "virtcolod was restarted while the domain was being "
                                      "protected");
    } else if (d->record->role == COLO_ROLE_SECONDARY) {
        if (booted && d->record->loaded) {
            recover_rebooted(d);
        } else if (d->record->loaded) {
            recover_protected(d); /* the register may say paired: this copy counts */
        } else {
            /* Our part of the job is gone with the old virtcolod: the primary tries again. */
            colo_secondary_teardown(d);
            colo_domain_set_state(d, COLO_STATE_FENCED, "virtcolod was restarted while preparing");
        }
    }
}

/*
 * A copy of an older boot that runs again without ownership: libvirt's autostart (set while the
 * domain was protected), or somebody's `virsh start`. Its disk is stale and the peer may serve: it
 * ends at once (I3). Autostart is off from then on and remembered.
 */
static void stop_stale_copy(ColoDomain *d)
{
    ColoLogContext log = colo_domain_log(d);
    virDomainPtr dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, NULL);
    int autostart_set = 0;

    if (!dom)
        return;
    if (virDomainIsActive(dom) == 1) {
        colo_log_full(&log, LOG_WARNING, __func__,
                      "it was started here without owning the domain: ended");
        if (virDomainDestroy(dom) < 0)
            colo_log_full(&log, LOG_ERR, __func__, "ending it: %s", virGetLastErrorMessage());
    }
    if (virDomainGetAutostart(dom, &autostart_set) == 0 && autostart_set &&
        virDomainSetAutostart(dom, 0) == 0)
        colo_json_add(d->record->details, "autostart", "b", TRUE, NULL);
    virDomainFree(dom);
}

/* TRUE when nothing that runs here under this UUID can be ours by right. */
static gboolean must_not_run(ColoDomain *d)
{
    if (!rebooted(d) || d->record->owner)
        return FALSE;
    switch (d->record->state) {
    case COLO_STATE_PROTECTED:
    case COLO_STATE_DEGRADED:
    case COLO_STATE_MANUAL:
    case COLO_STATE_FENCED:
        return TRUE;
    default:
        return FALSE;
    }
}

void colo_recover(ColoDomain *d)
{
    ColoRole role = d->record->role;

    if (must_not_run(d))
        stop_stale_copy(d);
    colo_remap_check(d);
    switch (d->record->state) {
    case COLO_STATE_PREPARING:
    case COLO_STATE_SYNCING:
        if (role == COLO_ROLE_SECONDARY && !rebooted(d) && recover_owner(d))
            break;
        recover_preparing(d);
        break;
    case COLO_STATE_PROTECTED:
        if (rebooted(d))
            recover_rebooted(d);
        else if (recover_owner(d))
            break;
        else if (d->record->attempt) /* rule 14: a take; rule 7 goes on with the next tick */
            colo_domain_set_state(d, COLO_STATE_DEGRADED, "the arbiter has not answered yet");
        else
            recover_protected(d);
        break;
    case COLO_STATE_FAILING_OVER:
        if (rebooted(d) || colo_domain_is_gone(d)) {
            /* Without a QEMU the disks at least are put together. */
            d->record->role = COLO_ROLE_PRIMARY;
            colo_domain_set_state(d, COLO_STATE_COMMITTING, "the copy's QEMU is gone");
            colo_takeover_finish(d);
        } else if (d->record->owner) {
            colo_takeover_run(d);
        }
        break;
    case COLO_STATE_COMMITTING:
        colo_takeover_finish(d);
        break;
    case COLO_STATE_DEGRADED:
    case COLO_STATE_MANUAL:
        if (rebooted(d))
            recover_rebooted(d);
        else if (d->record->state == COLO_STATE_DEGRADED)
            recover_owner(d);
        break;
    case COLO_STATE_FENCED:
        finish_quiesce(d);
        repeat_consent(d);
        break;
    case COLO_STATE_ALONE:
        if (colo_json_peek_bool(d->record->details, "register-behind", FALSE))
            d->next_register_ns = colo_clock_ns();
        recover_alone(d);
        break;
    case COLO_STATE_UNPROTECTED:
    case COLO_STATE_LAST:
        break;
    }
}
