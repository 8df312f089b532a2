/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An epoch ends by divergence and by an unanswered packet (the helper), by time (QEMU's
 * x-checkpoint-delay), and by the two bounds here, so that its checkpoint stays small and its
 * overlays fit their disk even when the copies agree for hours: bytes that the guest is estimated
 * to have dirtied (primary), and bytes that the overlays occupy (secondary, which asks the
 * primary).
 */
#include "domain/actor.h"

#include "util/clock.h"

/* Between two looks at the bounds: the overlays are stat()ed, which is cheap but not free. */
#define BOUND_INTERVAL_MS 200u
/* A request that only asks for a kick: nothing depends on its answer, and the next look asks again.
 * What the actor must hear meanwhile (the peer's silence) waits for it. */
#define ASK_TIMEOUT_MS 50u

void colo_epoch_committed(ColoDomain *d, JsonObject *event)
{
    uint64_t now = colo_clock_ns();
    uint64_t bytes = colo_json_peek_uint(event, "bytes", 0);

    if (d->last_commit_ns && bytes >= d->stream_bytes && now > d->last_commit_ns)
        d->dirty_per_sec = (uint64_t)((double)(bytes - d->stream_bytes) * COLO_NS_PER_SEC /
                                      (double)(now - d->last_commit_ns));
    d->stream_bytes = bytes;
    d->last_commit_ns = now;
}

static gboolean dirtied_too_much(const ColoDomain *d, uint64_t now)
{
    uint64_t limit = d->host->config->checkpoint_max_dirty_bytes;
    double seconds = (double)(now - d->last_commit_ns) / COLO_NS_PER_SEC;

    return limit > 0 && d->last_commit_ns && seconds * (double)d->dirty_per_sec > (double)limit;
}

static gboolean overlays_too_large(ColoDomain *d)
{
    uint64_t limit = d->host->config->checkpoint_max_overlay_bytes;
    size_t n;
    g_autofree ColoStepDisk *disks = colo_domain_step_disks(d, &n);

    return limit > 0 && n > 0 && colo_steps_overlay_bytes(disks, n) > limit;
}

void colo_epoch_missed_input(ColoDomain *d)
{
    g_autoptr(JsonObject) asked = NULL;

    if (d->record->state == COLO_STATE_PROTECTED && d->record->role == COLO_ROLE_SECONDARY &&
        !d->control_silent)
        asked = colo_domain_ask_peer(d, "domain-checkpoint", NULL, ASK_TIMEOUT_MS, NULL);
}

void colo_epoch_tick(ColoDomain *d, uint64_t now)
{
    g_autoptr(JsonObject) asked = NULL;

    if (d->record->state != COLO_STATE_PROTECTED || now < d->next_bound_ns)
        return;
    d->next_bound_ns = now + BOUND_INTERVAL_MS * COLO_NS_PER_MS;
    if (d->record->role == COLO_ROLE_PRIMARY) {
        if (dirtied_too_much(d, now))
            colo_kicker_kick(d->host->kicker, d->record->uuid);
    } else if (overlays_too_large(d) && !d->control_silent) {
        asked = colo_domain_ask_peer(d, "domain-checkpoint", NULL, ASK_TIMEOUT_MS, NULL);
    }
}
