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

#include <string.h>

/* A helper that is not there when virtcolod starts gets this long to come up. */
#define COMPARATOR_START_MS 3000u

static gboolean rebooted(ColoDomain *d)
{
    return g_strcmp0(d->record->boot_id, d->host->boot_id) != 0;
}

/* Takes over what the helper knows of the session; FALSE when it has none of this generation. */
static gboolean adopt_session(ColoDomain *d)
{
    g_autoptr(JsonObject) stats =
        colo_domain_comparator(d, "stats", NULL, -1, COLO_COMPARATOR_TIMEOUT_MS, NULL);
    JsonObject *streams = colo_json_peek(stats, "streams");

    if (!stats || colo_json_peek_uint(stats, "generation", 0) != d->record->generation)
        return FALSE;
    d->loaded = colo_json_peek_uint(stats, "loaded", 0);
    d->committed = colo_json_peek_uint(stats, "committed", 0);
    d->checkpoints = d->committed;
    g_hash_table_remove_all(d->streams_up);
    if (streams && json_object_is_type(streams, json_type_object)) {
        json_object_object_foreach(streams, name, value)
        {
            if (g_strcmp0(json_object_get_string(value), "up") == 0)
                g_hash_table_add(d->streams_up, g_strdup(name));
        }
    }
    return TRUE;
}

/* A copy that ran when virtcolod went away. */
static void recover_protected(ColoDomain *d)
{
    gboolean primary = d->record->role == COLO_ROLE_PRIMARY;
    virConnectPtr conn = colo_virconn_get(d->host->virconn, 10000, NULL);

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
    if (d->dom)
        return; /* nothing was lost */
    if (!colo_domain_attach(d, NULL))
        return;
    colo_domain_load_devices(d);
    if (!colo_comparator_wait_up(d->host->comparator, COMPARATOR_START_MS) || !adopt_session(d)) {
        if (primary)
            colo_primary_peer_failed(d, "colo-comparator of the primary host lost its sessions");
        else
            colo_secondary_failed(d, "colo-comparator of the secondary host lost its sessions");
        return;
    }
    if (primary)
        colo_kicker_watch(d->host->kicker, d->record->uuid,
                          d->host->config->checkpoint_period_ms, 1000, 5000, NULL);
    colo_domain_publish(d);
}

/* This host gave the domain up; the peer may not have heard it. */
static void repeat_consent(ColoDomain *d)
{
    g_autoptr(JsonObject) told = NULL;

    if (d->record->role != COLO_ROLE_PRIMARY || !colo_domain_control_is_up(d) ||
        d->record->relinquished != d->record->generation)
        return;
    told = colo_domain_call_peer(d, "domain-consent",
                                 colo_json_build("generation", "u", d->record->relinquished, NULL),
                                 COLO_RELINQUISH_TIMEOUT_MS, NULL);
}

/* The host was booted anew: its QEMU is dead, it is no candidate for anything (design section 3). */
static void recover_rebooted(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;

    if (d->record->role == COLO_ROLE_SECONDARY) {
        colo_secondary_failed(d, "the secondary host was booted anew");
        return;
    }
    switch (colo_ownership_restart(&ctx, d->record, &error)) {
    case COLO_OWNERSHIP_WON:
        colo_domain_set_state(d, COLO_STATE_ALONE, "booted anew; this host owns the domain");
        return;
    case COLO_OWNERSHIP_LOST:
        colo_domain_set_state(d, COLO_STATE_FENCED, "booted anew; the peer owns the domain");
        return;
    case COLO_OWNERSHIP_PAIRED:
    case COLO_OWNERSHIP_UNKNOWN:
    case COLO_OWNERSHIP_MANUAL:
        break;
    }
    /* Still paired: the peer's copy may live, ours does not. Give it up as soon as the peer hears. */
    if (colo_domain_control_is_up(d) && colo_ownership_consent(&ctx, d->record, NULL)) {
        colo_domain_set_state(d, COLO_STATE_FENCED, "booted anew; given up to the peer");
        repeat_consent(d);
        return;
    }
    colo_domain_set_state(d, COLO_STATE_MANUAL,
                          "booted anew: waiting for the peer, the arbiter or the operator");
}

void colo_recover(ColoDomain *d)
{
    ColoRole role = d->record->role;

    switch (d->record->state) {
    case COLO_STATE_PREPARING:
    case COLO_STATE_SYNCING:
        if (role == COLO_ROLE_SECONDARY && !d->dom) {
            /* Our part of the job is gone with the old virtcolod: the primary tries again. */
            colo_secondary_teardown(d);
            colo_domain_set_state(d, COLO_STATE_FENCED, "virtcolod was restarted while preparing");
        } else if (role == COLO_ROLE_PRIMARY && !d->dom) {
            colo_primary_roll_back(d, "virtcolod was restarted while the domain was being "
                                      "protected");
        }
        break;
    case COLO_STATE_PROTECTED:
        if (rebooted(d))
            recover_rebooted(d);
        else
            recover_protected(d);
        break;
    case COLO_STATE_FAILING_OVER:
        if (!rebooted(d) && d->record->owner)
            colo_takeover_run(d);
        else if (rebooted(d))
            colo_takeover_finish(d); /* the disks at least are put together */
        break;
    case COLO_STATE_COMMITTING:
        colo_takeover_finish(d);
        break;
    case COLO_STATE_DEGRADED:
    case COLO_STATE_MANUAL:
        if (rebooted(d))
            recover_rebooted(d);
        break;
    case COLO_STATE_FENCED:
        repeat_consent(d);
        break;
    case COLO_STATE_ALONE:
    case COLO_STATE_UNPROTECTED:
    case COLO_STATE_LAST:
        break;
    }
}
