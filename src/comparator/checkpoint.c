/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Carries QEMU's migration stream in transparent mode: bytes go on as they come, and their
 * messages are read on the way. Everything before CHECKPOINT_READY is the initial migration: the
 * primary's QEMU writes nothing between its end and READY (QEMU 7.2, migration/colo.c
 * colo_process_checkpoint()), so the forward parser begins with the first byte after READY.
 *
 * The migration socket has real back-pressure: only QEMU's migration thread waits on it.
 *
 * Once a disk has failed (disk.c) nothing of a checkpoint goes on but what follows the VMSTATE_SEND
 * of one that was seen before. What is withheld is read all the same, and counted. The primary's
 * QEMU waits for an answer then: with its guest running before VMSTATE_SEND, with the vCPUs stopped
 * behind it; in both cases until virtcolod gives the peer up, as when the peer had died there.
 */
#include "comparator/session.h"

#include "util/clock.h"

static void mark_unknown(ColoSession *session, const char *direction)
{
    if (session->unknown)
        return;
    session->unknown = true;
    colo_session_log(session, LOG_ERR,
                     "unknown checkpoint stream (%s): no commit can be read from it any more",
                     direction);
    colo_session_event(session, "stream-down", "stream", "s", "checkpoint", "reason", "s",
                       "unknown checkpoint stream", NULL);
    colo_takeover_update(session);
}

/* The whole forward part of the running checkpoint has been seen. */
static void complete(ColoSession *session)
{
    session->sending = false;
    session->sent = true;
    colo_carry_whole(session);
    colo_session_rewrite_loaded(session);
}

static void forward_event(ColoSession *session, ColoForwardEvent event)
{
    switch (event) {
    case COLO_FORWARD_NOTHING:
        break;
    case COLO_FORWARD_REQUEST:
        session->running = true;
        session->sending = session->sent = session->received = false;
        break;
    case COLO_FORWARD_SEND:
        session->sending = true;
        if (!session->config.primary)
            break;
        colo_disk_stopping(session, false);
        /* The vCPUs stand and all that they sent lies in the sockets: it belongs to the epoch
         * that ends here. */
        colo_packets_drain(session);
        session->taken_ns = colo_clock_ns();
        session->epoch++;
        colo_packets_tell(session, COLO_RECORD_EPOCH);
        colo_carry_stopped(session);
        break;
    case COLO_FORWARD_COMPLETE:
        complete(session);
        break;
    case COLO_FORWARD_UNKNOWN:
        mark_unknown(session, "forward");
        break;
    }
}

/* Rule 2: what comes now belongs to a checkpoint whose disk writes may be missing. */
static bool withholds(const ColoSession *session)
{
    return session->disk_failed && (!session->sending || session->unknown);
}

/* The secondary has no use for what comes: it is read and forgotten, "migration" or not. */
static bool forgets(const ColoSession *session)
{
    return !session->config.primary && withholds(session);
}

/* Returns how many of the bytes may go on. */
static size_t read_forward(ColoSession *session, const uint8_t *data, size_t len)
{
    size_t at = 0;

    while (at < len && !withholds(session)) {
        ColoForwardEvent event;
        size_t n;

        if (!session->ready || session->unknown)
            return len;
        n = colo_forward_feed(&session->forward, data + at, len - at, &event);
        /* The end of a disk may lie in its socket, written before what has just been read. */
        if (event == COLO_FORWARD_SEND && !colo_disk_check(session))
            break;
        /* QEMU sends nothing behind it before LOADED; a peer that does gets no special care. */
        if (event == COLO_FORWARD_COMPLETE && at + n == len &&
            colo_carry_keep(session, data[len - 1]))
            return len - 1;
        forward_event(session, event);
        at += n;
    }
    session->stats[COLO_STAT_CHECKPOINT_WITHHELD] += len - at;
    return at;
}

/* I1 (b): the secondary holds checkpoint session->epoch. */
void colo_checkpoint_commit(ColoSession *session)
{
    if (!session->received || session->committed == session->epoch)
        return;
    if (session->config.primary && !colo_carry_counts(session))
        return;
    session->committed = session->epoch;
    if (!session->config.primary)
        return;
    /* Before anything is released, so that what this commit releases leaves after its time. */
    session->commits[session->n_commits++ % COLO_SESSION_COMMITS] = (ColoCommit){
        .epoch = session->epoch, .taken_ns = session->taken_ns, .committed_ns = colo_clock_ns()};
    if (session->gate == COLO_GATE_HOLD) {
        session->commit_due = session->epoch;
    } else {
        if (session->gate == COLO_GATE_PAIRED) {
            session->comparing = true;
            colo_compare_set_comparing(session->compare, true);
        }
        colo_compare_commit(session->compare, session->epoch);
    }
    colo_session_event(session, "committed", "epoch", "u", session->epoch, "pause-ns", "u",
                       colo_clock_ns() - session->reply_ns, "bytes", "u",
                       session->stats[COLO_STAT_CHECKPOINT_BYTES], NULL);
}

static void count_pause(ColoSession *session, uint64_t pause)
{
    session->pauses[session->n_pauses++ % COLO_SESSION_PAUSES] = pause;
    session->pauses_ns += pause;
    for (unsigned i = 0; i < COLO_SESSION_PAUSE_BUCKETS - 1; i++)
        session->pauses_upto[i] += pause <= (COLO_NS_PER_MS << i);
    session->pauses_upto[COLO_SESSION_PAUSE_BUCKETS - 1]++;
}

static void loaded(ColoSession *session)
{
    uint64_t now = colo_clock_ns(), pause = now - session->reply_ns;

    session->loaded = session->epoch;
    session->running = false;
    count_pause(session, pause);
    if (session->config.primary) {
        colo_wanted_loaded(session, now);
    } else {
        colo_packets_open_input(session);
        for (unsigned i = 0; i < session->config.n_disks; i++)
            colo_disk_space(session, i);
        colo_packets_tell(session, COLO_RECORD_LOADED);
    }
    colo_session_event(session, "loaded", "epoch", "u", session->loaded, "pause-ns", "u", pause,
                       NULL);
    colo_takeover_update(session);
}

/* True when @event may come in the present state of the forward stream. */
static bool answer_fits(const ColoSession *session, ColoReturnEvent event)
{
    switch (event) {
    case COLO_RETURN_REPLY:
        return session->running && !session->sent;
    case COLO_RETURN_RECEIVED:
        return session->running && session->sent;
    case COLO_RETURN_LOADED:
        return session->running && session->received;
    default:
        return true;
    }
}

static void return_event(ColoSession *session, ColoReturnEvent event)
{
    if (!answer_fits(session, event))
        event = COLO_RETURN_UNKNOWN;
    switch (event) {
    case COLO_RETURN_NOTHING:
        break;
    case COLO_RETURN_READY:
        /* What was mirrored until now is in the initial migration. */
        if (session->config.primary)
            colo_packets_drain(session);
        session->ready = true;
        colo_session_rewrite_loaded(session);
        (void)colo_disk_check(session);
        colo_session_event(session, "colo-ready", NULL);
        if (session->config.primary)
            colo_wanted_update(session);
        break;
    case COLO_RETURN_REPLY:
        session->reply_ns = colo_clock_ns();
        if (session->config.primary) {
            colo_disk_stopping(session, true);
            break;
        }
        /* The secondary's vCPUs stand: rule 6. */
        colo_packets_drain(session);
        session->epoch++;
        colo_packets_tell(session, COLO_RECORD_EPOCH);
        colo_carry_replied(session);
        break;
    case COLO_RETURN_RECEIVED:
        session->received = true;
        colo_checkpoint_commit(session);
        break;
    case COLO_RETURN_LOADED:
        loaded(session);
        break;
    case COLO_RETURN_UNKNOWN:
        mark_unknown(session, "return path");
        break;
    }
}

static void read_return(ColoSession *session, const uint8_t *data, size_t len)
{
    size_t at = 0;

    while (at < len && !session->unknown) {
        ColoReturnEvent event;

        at += colo_return_feed(&session->back, data + at, len - at, &event);
        return_event(session, event);
    }
}

void colo_checkpoint_from_qemu(ColoSession *session, const uint8_t *data, size_t len)
{
    ColoStream *stream;

    if (session->config.primary) {
        len = read_forward(session, data, len);
        session->stats[COLO_STAT_CHECKPOINT_BYTES] += len;
    } else {
        read_return(session, data, len);
    }
    stream = colo_session_stream(session, COLO_STREAM_CHECKPOINT);
    /* Fails only when the stream has just gone, or the gate is shut: checkpoint_space() keeps
     * room for a whole read. */
    if (stream && len > 0)
        (void)colo_stream_put(stream, data, len);
    colo_checkpoint_space(session);
}

void colo_checkpoint_from_peer(ColoSession *session, const uint8_t *data, size_t len)
{
    ColoChannel *migration = session->channels[COLO_CHANNEL_MIGRATION][0];

    if (session->frozen || (!migration && !forgets(session)))
        return;
    colo_carry_release(session); /* nothing may overtake the byte that is kept */
    if (session->config.primary) {
        read_return(session, data, len);
    } else {
        len = read_forward(session, data, len);
        session->stats[COLO_STAT_CHECKPOINT_BYTES] += len;
    }
    /* An event above may have ended the channel. */
    migration = session->channels[COLO_CHANNEL_MIGRATION][0];
    if (migration && len > 0)
        (void)colo_channel_put(migration, data, len);
    colo_checkpoint_space(session);
}

void colo_checkpoint_end(ColoSession *session, uint8_t last)
{
    ColoChannel *migration = session->channels[COLO_CHANNEL_MIGRATION][0];

    if (session->frozen || !migration) /* cut off: it never was complete */
        return;
    complete(session);
    session->stats[COLO_STAT_CHECKPOINT_BYTES]++;
    (void)colo_channel_put(migration, &last, sizeof(last)); /* there was room for all of them */
    colo_checkpoint_space(session);
}

/* The stream takes no more of what QEMU writes. */
static bool is_full(const ColoSession *session, const ColoStream *stream)
{
    size_t used = COLO_SESSION_CHECKPOINT_RING - colo_stream_space(stream);

    return used + COLO_CHANNEL_CHUNK > (session->config.primary && session->ready
                                            ? COLO_SESSION_CHECKPOINT_RING
                                            : COLO_SESSION_STREAM_RING);
}

void colo_checkpoint_space(ColoSession *session)
{
    ColoStream *any = session->streams[COLO_STREAM_CHECKPOINT];
    ColoStream *stream = colo_session_stream(session, COLO_STREAM_CHECKPOINT);
    ColoChannel *migration = session->channels[COLO_CHANNEL_MIGRATION][0];

    if (migration && session->config.primary)
        colo_channel_pause(migration, !stream || is_full(session, stream));
    /* The secondary's words are always read: a takeover waits for LOADED without any stream. */
    else if (migration)
        colo_channel_pause(migration, stream && !session->shut && is_full(session, stream));
    if (any)
        colo_stream_pause(any, session->frozen || (!forgets(session) &&
                                                   (!migration || colo_channel_space(migration) <
                                                                      COLO_STREAM_CHUNK)));
}
