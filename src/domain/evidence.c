/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What comes in about the peer, the helper and QEMU, and what it means. Evidence, not ownership
 * (design section 3): it starts a job that asks for ownership, or ends one that runs.
 */
#include "domain/actor.h"

#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <string.h>

/* A connection to the helper that broke is open again within this time if the helper lives: the
 * client tries every 50 ms. */
#define HELPER_BACK_MS 100u
/* A primary's QEMU has closed channels. One that was killed was dead before the kernel closed the
 * first; libvirt gets the first time to say that the guest was shut down nevertheless. One that was
 * alive ends in order (libvirt says so when it has ended), or COLO has failed: after the second
 * time it is asked. Without a word of either the third time decides. Measured here: libvirt reports
 * a killed QEMU after 25 to 250 ms, one that it ended itself (virsh destroy) after 200 ms. */
#define QEMU_END_MS 50u
#define QEMU_ASK_MS 150u
#define QEMU_CLOSE_MS 2000u
/* libvirt ends a QEMU whose guest has powered off at once (SIGKILL follows SIGTERM after 10 s), or
 * resets the guest (virsh reboot): what happens to that one later is no shutdown. */
#define SHUTDOWN_END_MS 20000u
/* A peer that stalls with its control channel up is given up after so many heartbeat limits of
 * silence; one whose checkpoints do not end after this long more: loading a large one takes time.
 */
#define STALL_LIMITS 4u
#define COMMIT_STALL_MS 30000u
/* Held output at its limit asks for a checkpoint. While one runs the guest stands and sends
 * nothing, so output that is still dropped after this long means that none comes; a restart of
 * libvirtd, which hears of no kick meanwhile, takes 2 to 4 s. */
#define OVERFLOW_STALL_MS 5000u
/* A QEMU of this host that answers nothing (kick.h) is given up when no checkpoint was completed
 * for this long either: libvirtd may hang, not QEMU. */
#define HANG_MS 10000u

#define MIRROR_LOST                                                                                \
    "a disk is not copied to the peer any more: see the QEMU log of both hosts, and the space on " \
    "the peer"

/* Ends the job that runs; FALSE when none does. */
gboolean colo_domain_abort_job(ColoDomain *d, const char *format, ...)
{
    va_list args;

    if (!d->busy)
        return FALSE;
    if (!d->abort_reason) {
        va_start(args, format);
        d->abort_reason = g_strdup_vprintf(format, args);
        va_end(args);
    }
    return TRUE;
}

/* Both ways to the peer are silent: it is suspected, and ownership must be decided. */
void colo_evidence_consider(ColoDomain *d)
{
    gboolean packets_lost = d->packets_silent || !g_hash_table_contains(d->streams_up, "packets");

    gboolean running = d->record->state == COLO_STATE_PROTECTED ||
                       (d->record->state == COLO_STATE_SYNCING && d->record->loaded);

    /* Without dom the session is not adopted yet: that no stream is known says nothing. */
    if (d->busy || !running || !d->dom || !d->control_silent || !packets_lost)
        return;
    colo_takeover_by_arbiter(d);
}

static void peer_side_failed(ColoDomain *d, const char *reason)
{
    if (d->record->state != COLO_STATE_PROTECTED || d->qemu_closed_ns)
        return;
    if (d->control_silent || !colo_domain_control_is_up(d))
        colo_evidence_consider(d);
    else if (d->record->role == COLO_ROLE_PRIMARY)
        colo_primary_peer_failed(d, reason);
    /* A secondary whose control channel is up waits for the primary's decision. */
}

static void on_stream(ColoDomain *d, ColoMail *mail)
{
    const char *stream = colo_json_peek_string(mail->body, "stream", "");
    const char *reason = colo_json_peek_string(mail->body, "reason", "");

    if (strcmp(mail->name, "stream-up") == 0) {
        g_hash_table_add(d->streams_up, g_strdup(stream));
        return;
    }
    g_hash_table_remove(d->streams_up, stream);
    if (colo_domain_abort_job(d, "data stream '%s' to the peer: %s", stream, reason))
        return;
    g_autofree char *text = g_strdup_printf("data stream '%s' is down: %s", stream, reason);
    peer_side_failed(d, text);
}

/* A primary's QEMU has closed channels: judged with the next ticks, but whether it lives now. */
static void channels_closed(ColoDomain *d)
{
    d->qemu_killed = colo_domain_qemu_is_dead(d);
    d->qemu_closed_ns = colo_clock_ns();
}

static void on_channel_down(ColoDomain *d, ColoMail *mail)
{
    const char *channel = colo_json_peek_string(mail->body, "channel", "");
    const char *reason = colo_json_peek_string(mail->body, "reason", "");
    g_autofree char *text = NULL;

    g_hash_table_add(d->channels_down, g_strdup(channel));
    if (colo_domain_abort_job(d, "QEMU closed its channel '%s': %s", channel, reason))
        return;
    if (d->record->state != COLO_STATE_PROTECTED || d->qemu_closed_ns)
        return;
    text = g_strdup_printf("QEMU closed '%s': %s", channel, reason);
    if (d->record->role == COLO_ROLE_SECONDARY)
        colo_secondary_failed(d, text);
    else
        channels_closed(d);
}

/* TRUE when the end of this host's QEMU is what somebody wanted. */
static gboolean ends_on_purpose(const ColoDomain *d)
{
    return d->ended ||
           (d->shutdown_ns && colo_clock_ns() - d->shutdown_ns < SHUTDOWN_END_MS * COLO_NS_PER_MS);
}

/* Called while qemu_closed_ns is set: what did the closed channels mean? */
static void judge_closed_channels(ColoDomain *d, uint64_t now)
{
    guint all = 1 + 3 * d->nics->len + d->disks->len; /* migration; mirror, out, release; nbd */
    uint64_t since = now - d->qemu_closed_ns;
    gboolean ended = g_hash_table_size(d->channels_down) >= all;
    gboolean late = since >= QEMU_CLOSE_MS * COLO_NS_PER_MS;
    ColoMigrateState state;

    if (d->qemu_killed || ended) {
        if (late || (d->qemu_killed && since >= QEMU_END_MS * COLO_NS_PER_MS))
            colo_primary_guest_gone(d, ends_on_purpose(d));
        return;
    }
    if (since < QEMU_ASK_MS * COLO_NS_PER_MS)
        return;
    /* The peer's consent would end its copy: only a QEMU that answers may ask for it (I2). */
    if (late || (d->dom && colo_steps_migrate_state(d->dom, &state, NULL))) {
        d->qemu_closed_ns = 0;
        peer_side_failed(d, "QEMU left COLO by itself");
    }
}

/* The secondary's first LOADED makes it a candidate (rule 6), before the primary's CAS can count.
 */
static void note_first_loaded(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (d->record->role != COLO_ROLE_SECONDARY || d->record->loaded ||
        d->record->state != COLO_STATE_SYNCING)
        return;
    d->record->loaded = TRUE;
    if (!colo_store_save_domain(d->host->store, d->record, &error))
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
}

/*
 * I4: the limit of held output is reached. The helper has asked for a checkpoint; when none comes
 * the peer is given up, and with it the waiting for it. Without its consent that is DEGRADED until
 * the arbiter has decided, where the same limit stops the vCPUs.
 */
static void held_overflow(ColoDomain *d)
{
    uint64_t now = colo_clock_ns();

    if (d->record->state != COLO_STATE_PROTECTED || d->record->role != COLO_ROLE_PRIMARY) {
        colo_primary_hold_output(d);
        return;
    }
    if (!d->overflow_ns)
        d->overflow_ns = now;
    if (d->busy || now - d->overflow_ns < OVERFLOW_STALL_MS * COLO_NS_PER_MS)
        return;
    d->overflow_ns = 0;
    if (d->control_silent || !colo_domain_control_is_up(d))
        colo_takeover_by_arbiter(d);
    else
        colo_primary_peer_failed(d, "held output is at its limit and no checkpoint comes");
}

void colo_evidence_comparator(ColoDomain *d, ColoMail *mail)
{
    const char *name = mail->name;
    uint64_t generation = colo_json_peek_uint(mail->body, "generation", 0);

    if (generation && generation == colo_remap_generation(d)) {
        if (strcmp(name, "rewrite-ended") == 0)
            colo_remap_check(d);
        return; /* the rest concerns nobody: its peer is gone, a closed channel ends with QEMU */
    }
    if (strcmp(name, "stream-up") == 0 || strcmp(name, "stream-down") == 0) {
        on_stream(d, mail);
    } else if (strcmp(name, "channel-down") == 0) {
        on_channel_down(d, mail);
    } else if (strcmp(name, "colo-ready") == 0) {
        d->ready = TRUE;
    } else if (strcmp(name, "committed") == 0) {
        d->committed = colo_json_peek_uint(mail->body, "epoch", d->committed);
        d->checkpoints++;
        d->overflow_ns = 0;
        colo_epoch_committed(d, mail->body);
        colo_domain_publish(d);
    } else if (strcmp(name, "loaded") == 0) {
        d->loaded = colo_json_peek_uint(mail->body, "epoch", d->loaded);
        if (d->record->role == COLO_ROLE_SECONDARY) { /* it is told of no commit */
            d->last_commit_ns = colo_clock_ns();
            if (d->watched_ns)
                colo_domain_unwatch(d);
        }
        note_first_loaded(d);
    } else if (strcmp(name, "kick-done") == 0) {
        g_autoptr(JsonObject) done =
            colo_domain_comparator(d, "kick-done", NULL, -1, COLO_COMPARATOR_TIMEOUT_MS, NULL);
        (void)done;
    } else if (strcmp(name, "policy") == 0) {
        colo_domain_tell_policy(d, mail->body);
    } else if (strcmp(name, "mirror-lost") == 0) {
        /* What the guest writes goes to its own disk only, since when is not known (I2). */
        if (!colo_domain_abort_job(d, MIRROR_LOST) && d->record->role == COLO_ROLE_PRIMARY)
            peer_side_failed(d, MIRROR_LOST);
    } else if (strcmp(name, "qemu-silent") == 0 || strcmp(name, "qemu-heard") == 0) {
        d->qemu_silent = strcmp(name, "qemu-silent") == 0;
    } else if (strcmp(name, "peer-silent") == 0) {
        d->packets_silent = TRUE;
        d->packets_silent_ns = colo_clock_ns();
        if (d->control_silent)
            colo_domain_abort_job(d, "the peer is silent");
        colo_evidence_consider(d);
    } else if (strcmp(name, "peer-heard") == 0) {
        d->packets_silent = FALSE;
    } else if (strcmp(name, "overflow") == 0) { /* the helper has logged it */
        if (strcmp(colo_json_peek_string(mail->body, "queue", ""), "held") == 0)
            held_overflow(d);
        else
            colo_epoch_missed_input(d);
    }
}

void colo_evidence_comparator_down(ColoDomain *d)
{
    gboolean copy =
        d->record->role == COLO_ROLE_SECONDARY && d->record->state == COLO_STATE_SYNCING;

    colo_remap_check(d); /* at once: without a helper the guest is cut off */
    if (colo_domain_abort_job(d, "colo-comparator of this host died") ||
        (d->record->state != COLO_STATE_PROTECTED && !copy))
        return;
    /* A connection that broke is no dead helper: its sessions may live on. */
    if (colo_comparator_wait_up(d->host->comparator, HELPER_BACK_MS)) {
        colo_domain_detach(d);
        colo_recover(d);
        return;
    }
    g_hash_table_remove_all(d->streams_up);
    if (d->record->role == COLO_ROLE_SECONDARY)
        colo_secondary_failed(d, "colo-comparator of the secondary host died");
    else if (d->control_silent || !colo_domain_control_is_up(d))
        colo_takeover_by_arbiter(d);
    else
        colo_primary_peer_failed(d, "colo-comparator of the primary host died");
}

void colo_evidence_lifecycle(ColoDomain *d, ColoMail *mail)
{
    gboolean on_purpose = mail->detail == VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN ||
                          mail->detail == VIR_DOMAIN_EVENT_STOPPED_DESTROYED;

    if (mail->number == VIR_DOMAIN_EVENT_SHUTDOWN)
        d->shutdown_ns = colo_clock_ns();
    if (mail->number == VIR_DOMAIN_EVENT_STARTED) {
        d->ended = FALSE;
        d->shutdown_ns = 0;
    }
    if (mail->number != VIR_DOMAIN_EVENT_STOPPED)
        return;
    /* Late news of a copy that this host ended itself to make way for the one that runs now. */
    if (!colo_domain_is_gone(d))
        return;
    d->qemu_died = TRUE;
    d->ended = on_purpose || ends_on_purpose(d);
    if (colo_domain_abort_job(d, "the guest's QEMU on this host ended"))
        return;
    if (d->record->role == COLO_ROLE_PRIMARY)
        colo_primary_guest_gone(d, d->ended);
    else if (d->record->state == COLO_STATE_SYNCING || d->record->state == COLO_STATE_PROTECTED ||
             (d->record->state == COLO_STATE_DEGRADED && !d->record->attempt))
        colo_secondary_failed(d, "QEMU of the secondary died");
}

/*
 * This primary's QEMU hangs and the peer's copy does not: the peer goes on with it. Otherwise the
 * end of checkpoints would be held against the peer, and its good copy be given up. TRUE if so.
 */
static gboolean guest_hangs(ColoDomain *d, uint64_t now)
{
    uint64_t limit = (HANG_MS + d->host->config->checkpoint_period_ms) * COLO_NS_PER_MS;
    g_autoptr(JsonObject) peer = NULL;

    if (!d->qemu_silent || !d->last_commit_ns || now - d->last_commit_ns < limit ||
        now < d->next_attempt_ns)
        return FALSE;
    d->next_attempt_ns = now + COLO_NS_PER_SEC;
    peer = colo_domain_ask_peer(d, "domain-state", NULL, COLO_RELINQUISH_TIMEOUT_MS, NULL);
    if (!colo_json_peek_bool(peer, "qemu-answers", FALSE) ||
        colo_json_peek_uint(peer, "generation", 0) != d->record->generation)
        return FALSE;
    colo_primary_guest_hangs(d);
    return TRUE;
}

/*
 * The peer's virtcolod answers, but its helper or its QEMU has stopped: output waits for nothing.
 * While control is up the primary decides, and goes on alone with the peer's consent. TRUE if so.
 */
static gboolean peer_stalls(ColoDomain *d, uint64_t now)
{
    const ColoHeartbeat *beat = &d->host->config->heartbeat;
    uint64_t limit = (uint64_t)beat->interval_ms * beat->missed * STALL_LIMITS * COLO_NS_PER_MS;

    if (d->record->role != COLO_ROLE_PRIMARY || d->control_silent || !colo_domain_control_is_up(d))
        return FALSE;
    if (guest_hangs(d, now))
        return TRUE;
    if (d->packets_silent && now - d->packets_silent_ns > limit)
        colo_primary_peer_failed(d, "the peer's comparator is silent, its virtcolod is not");
    else if (d->last_commit_ns &&
             now - d->last_commit_ns > limit + COMMIT_STALL_MS * COLO_NS_PER_MS)
        colo_primary_peer_failed(d, "no checkpoint has been completed at the peer");
    else
        return FALSE;
    return TRUE;
}

/*
 * A job ended early and left the domain PROTECTED. The mail that ended it did nothing else: what it
 * said is looked at now.
 */
void colo_evidence_after_job(ColoDomain *d)
{
    if (d->qemu_died) {
        colo_primary_guest_gone(d, d->ended);
    } else if (g_hash_table_size(d->channels_down) > 0) {
        channels_closed(d);
    } else {
        colo_domain_detach(d);
        colo_recover(d);
        colo_evidence_consider(d);
    }
}

void colo_evidence_tick(ColoDomain *d, uint64_t now)
{
    if (d->qemu_closed_ns)
        judge_closed_channels(d, now);
    else if (!peer_stalls(d, now))
        colo_evidence_consider(d);
}
