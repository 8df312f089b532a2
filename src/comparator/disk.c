/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * NBD connections carried byte for byte, with back-pressure both ways; the replies are read on the
 * way.
 *
 * Rule 4: disk bytes of epoch k reach the secondary's NBD server only after LOADED(k). In
 * transparent mode the primary does not run in epoch k before LOADED(k) has come back to it, so
 * bytes belong to the epoch that is loaded when they arrive, and the gate below is open for them.
 * Early acknowledgement will tag them with the sender's epoch.
 *
 * Rule 2: a checkpoint is worth something only with all disk writes before it. QEMU goes on without
 * a mirror that has failed, and so do its checkpoints; so the helpers see to it, whether a
 * virtcolod is there or not. A disk has failed when the secondary's NBD server told an error, or
 * when its stream or channel ended after CHECKPOINT_READY.
 *
 * What has its VMSTATE_SEND behind it at that moment is whole all the same: the primary's QEMU
 * drains its disks between stopping the vCPUs and VMSTATE_SEND (migration/colo.c,
 * colo_do_checkpoint_transaction(): vm_stop_force_state()), so every reply to a write of the guest
 * before passed here, and every end was seen there, before it. Any other checkpoint is withheld
 * (checkpoint.c): by the secondary's helper from its QEMU, and by the primary's from the peer,
 * which may learn of the end of a disk's connection later than of what went over another.
 *
 * I4: that drain, and the flush behind it, hold QEMU's big lock. A peer that stalls just then would
 * hold it for as long: between REPLY and VMSTATE_SEND the requests that wait are watched.
 */
#include "comparator/session.h"

#include "util/clock.h"

/* A healthy peer answers in some ms, one with a slow disk, which flushes, within a second. */
#define STALL_NS (UINT64_C(2000) * COLO_NS_PER_MS)
#define STALL_POLL_NS (UINT64_C(100) * COLO_NS_PER_MS)

/* The epoch of bytes that arrive from the primary now. */
static uint64_t epoch_of_arrival(const ColoSession *session)
{
    return session->loaded;
}

static bool gate_open(const ColoSession *session, uint64_t epoch)
{
    return !session->frozen && (session->config.primary || epoch <= session->loaded);
}

void colo_disk_begin(ColoSession *session, unsigned disk)
{
    colo_nbd_replies_init(&session->replies[disk]);
    colo_nbd_requests_init(&session->requests[disk]);
    colo_disk_space(session, disk);
}

/* The newest checkpoint whose VMSTATE_SEND has been seen. */
static uint64_t last_sent(const ColoSession *session)
{
    /* The secondary enters an epoch with REPLY already. */
    bool sent = session->config.primary || session->sending || session->sent;

    return session->running && !sent ? session->loaded : session->epoch;
}

void colo_disk_failed(ColoSession *session, unsigned disk, const char *reason)
{
    if (session->disk_failed || session->frozen)
        return;
    session->disk_failed = true;
    session->stats[COLO_STAT_DISK_FAILURES]++;
    colo_session_log(session, LOG_ERR,
                     "disk %s: %s: no checkpoint after %" G_GUINT64_FORMAT " counts any more",
                     session->config.disks[disk], reason, last_sent(session));
    /* As in takeover.c: REQUEST has reached QEMU, and nothing can follow it. */
    if (!session->config.primary && session->running && !session->sending && !session->sent)
        colo_session_drop_channel(session, COLO_CHANNEL_MIGRATION, 0);
    colo_checkpoint_space(session);
}

void colo_disk_let_go(ColoSession *session, const char *reason)
{
    for (unsigned i = 0; i < session->config.n_disks; i++) {
        session->disk_failed = true; /* on purpose: neither logged nor counted */
        colo_session_drop_channel(session, COLO_CHANNEL_NBD, i);
        colo_session_drop_stream(session, COLO_STREAM_DISK + i, reason);
    }
}

/* Primary: QEMU waits for the peer's NBD server, and since when not a request was answered. */
static bool stalls(const ColoSession *session, unsigned disk, uint64_t now)
{
    uint64_t since = MAX(session->reply_ns, session->answered_ns[disk]);

    return session->requests[disk].whole > session->replies[disk].answered &&
           now - since >= STALL_NS;
}

static void look_at_stop(void *opaque)
{
    static const char reason[] = "the peer answers no request while the guest is being stopped";
    ColoSession *session = opaque;
    uint64_t now = colo_clock_ns();

    for (unsigned i = 0; i < session->config.n_disks; i++) {
        if (!stalls(session, i, now))
            continue;
        colo_disk_failed(session, i, reason);
        colo_disk_let_go(session, reason);
        return;
    }
    colo_loop_arm(session->host->loop, &session->stop_timer, now + STALL_POLL_NS);
}

void colo_disk_stopping(ColoSession *session, bool stopping)
{
    session->stop_timer.due = look_at_stop;
    session->stop_timer.opaque = session;
    if (stopping && !session->disk_failed)
        colo_loop_arm(session->host->loop, &session->stop_timer, session->reply_ns + STALL_NS);
    else
        colo_loop_disarm(session->host->loop, &session->stop_timer);
}

/* Primary: counts what is asked and answered; of an unknown stream nothing is known to wait. */
static void count(ColoSession *session, unsigned disk, const uint8_t *data, size_t len)
{
    ColoNbdReplies *replies = &session->replies[disk];
    uint64_t before = replies->answered;
    ColoNbdEvent event = COLO_NBD_NOTHING;

    for (size_t at = 0; at < len;)
        at += colo_nbd_replies_feed(replies, data + at, len - at, &event);
    if (event == COLO_NBD_UNKNOWN)
        colo_nbd_requests_stop(&session->requests[disk]);
    if (replies->answered != before)
        session->answered_ns[disk] = colo_clock_ns();
}

bool colo_disk_check(ColoSession *session)
{
    for (unsigned i = 0; i < session->config.n_disks; i++) {
        const ColoChannel *nbd = session->channels[COLO_CHANNEL_NBD][i];

        if (!nbd || colo_channel_has_ended(nbd))
            colo_disk_failed(session, i, "QEMU has no NBD connection");
        else if (!colo_session_stream(session, COLO_STREAM_DISK + i))
            colo_disk_failed(session, i, "its data stream is not up");
    }
    return !session->disk_failed;
}

/* Secondary: why the writes of @disk cannot be relied upon after these bytes of its NBD server, or
 * NULL. A constant. */
static const char *failure_in(ColoSession *session, unsigned disk, const uint8_t *data, size_t len)
{
    ColoNbdReplies *replies = &session->replies[disk];
    const char *reason = NULL;
    size_t at = 0;

    while (at < len) {
        ColoNbdEvent event;

        at += colo_nbd_replies_feed(replies, data + at, len - at, &event);
        if (reason)
            continue;
        if (event == COLO_NBD_UNKNOWN)
            reason = "unknown NBD replies";
        else if (event == COLO_NBD_ERROR && colo_nbd_error_is_failure(replies->error))
            reason = colo_nbd_error_text(replies->error);
    }
    return reason;
}

/* Tells both virtcolods: by "stream-down" here, and at the peer when it sees the end. */
static void end_disk(ColoSession *session, unsigned disk, const char *reason)
{
    ColoStream *stream = session->streams[COLO_STREAM_DISK + disk];

    if (stream && colo_stream_state(stream) != COLO_STREAM_DOWN)
        colo_stream_finish(stream, reason);
    else
        colo_session_drop_channel(session, COLO_CHANNEL_NBD, disk);
}

void colo_disk_from_qemu(ColoSession *session, unsigned disk, const uint8_t *data, size_t len)
{
    ColoStream *stream = colo_session_stream(session, COLO_STREAM_DISK + disk);
    const char *failure = session->config.primary ? NULL : failure_in(session, disk, data, len);

    if (session->config.primary)
        (void)colo_nbd_requests_feed(&session->requests[disk], data, len);
    /* Before the reply leaves: what the primary does upon it comes after. */
    if (failure)
        colo_disk_failed(session, disk, failure);
    if (stream && colo_stream_put(stream, data, len))
        session->stats[COLO_STAT_DISK_BYTES_TO_PEER] += len;
    if (failure)
        end_disk(session, disk, failure);
    colo_disk_space(session, disk);
}

void colo_disk_from_peer(ColoSession *session, unsigned disk, const uint8_t *data, size_t len)
{
    ColoChannel *nbd = session->channels[COLO_CHANNEL_NBD][disk];

    if (session->config.primary)
        count(session, disk, data, len);
    if (nbd && !session->frozen && colo_channel_put(nbd, data, len))
        session->stats[COLO_STAT_DISK_BYTES_FROM_PEER] += len;
    colo_disk_space(session, disk);
}

void colo_disk_space(ColoSession *session, unsigned disk)
{
    ColoStream *any = session->streams[COLO_STREAM_DISK + disk];
    ColoStream *stream = colo_session_stream(session, COLO_STREAM_DISK + disk);
    ColoChannel *nbd = session->channels[COLO_CHANNEL_NBD][disk];

    if (nbd)
        colo_channel_pause(nbd, !stream || colo_stream_space(stream) < COLO_CHANNEL_CHUNK);
    if (any)
        colo_stream_pause(any, !nbd || colo_channel_space(nbd) < COLO_STREAM_CHUNK ||
                                   !gate_open(session, epoch_of_arrival(session)));
}
