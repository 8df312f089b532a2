/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What may leave (I1, I3). A mode is answered when no older decision can act any more: at the
 * primary that includes frames released before which QEMU has not read yet; at the secondary what
 * waits for the peer is dropped, and what the kernel has was sent before.
 */
#include "comparator/session.h"

#include "util/clock.h"
#include "util/error.h"

/* QEMU's main loop reads a frame in some 10 us; one that does not for this long hangs. */
#define GATE_LIMIT_NS (UINT64_C(200) * COLO_NS_PER_MS)
#define GATE_POLL_NS (UINT64_C(1) * COLO_NS_PER_MS)

static JsonObject *held(ColoSession *session)
{
    uint64_t frames = 0, bytes = 0;

    if (session->compare)
        colo_compare_held(session->compare, &frames, &bytes);
    return colo_json_build("held-frames", "u", frames, "held-bytes", "u", bytes, "rewritten", "u",
                           (uint64_t)colo_session_rewrite_live(session), NULL);
}

static void hold_release(ColoSession *session, bool hold)
{
    for (unsigned i = 0; i < session->config.n_nics; i++) {
        if (session->channels[COLO_CHANNEL_RELEASE][i])
            colo_channel_hold(session->channels[COLO_CHANNEL_RELEASE][i], hold);
    }
}

static void drop_release(ColoSession *session)
{
    for (unsigned i = 0; i < session->config.n_nics; i++) {
        if (session->channels[COLO_CHANNEL_RELEASE][i])
            session->stats[COLO_STAT_OUTPUT_DROPPED_CLOSED] +=
                colo_channel_drop_frames(session->channels[COLO_CHANNEL_RELEASE][i]);
    }
}

static gboolean set_secondary(ColoSession *session, ColoGate mode, GError **error)
{
    if (mode == COLO_GATE_HOLD) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "a secondary has the gates 'paired', 'closed' and 'alone', not '%s'",
                    colo_gate_name(mode));
        return FALSE;
    }
    if (mode == COLO_GATE_ALONE && !colo_session_rewrite_alone(session, error))
        return FALSE;
    if (mode == COLO_GATE_PAIRED && session->shut) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "the gate of session %s was closed for good: words to the primary have been "
                    "withheld; make a new session",
                    session->config.uuid);
        return FALSE;
    }
    session->gate = mode;
    hold_release(session, mode != COLO_GATE_ALONE);
    if (mode == COLO_GATE_CLOSED) {
        drop_release(session);
        session->shut = true;
        for (unsigned i = 0; i < COLO_SESSION_STREAMS; i++) {
            if (session->streams[i])
                colo_stream_mute(session->streams[i]);
        }
        colo_checkpoint_space(session);
    }
    return TRUE;
}

static void set_primary(ColoSession *session, ColoGate mode)
{
    if (session->gate == mode)
        return;
    session->gate = mode;
    session->comparing = false;
    colo_compare_set_comparing(session->compare, false);
    switch (mode) {
    case COLO_GATE_ALONE:
        hold_release(session, false);
        colo_compare_release_all(session->compare);
        if (session->was_paired) /* its disks must not hang QEMU's drain (rule 8) */
            colo_disk_let_go(session, "alone");
        session->was_paired = false;
        break;
    case COLO_GATE_PAIRED:
        hold_release(session, false);
        session->was_paired = true;
        if (session->commit_due)
            colo_compare_commit(session->compare, session->commit_due);
        break;
    case COLO_GATE_HOLD:
        hold_release(session, true);
        break;
    case COLO_GATE_CLOSED:
        hold_release(session, true);
        (void)colo_compare_drop_all(session->compare);
        drop_release(session);
        break;
    }
    if (mode != COLO_GATE_HOLD)
        session->commit_due = 0;
    session->wanted = COLO_WANTED_NONE;
    colo_wanted_update(session);
}

/* Bytes of released frames that QEMU has not read. */
static size_t unread(ColoSession *session)
{
    size_t sum = 0;

    for (unsigned i = 0; i < session->config.n_nics; i++) {
        if (session->channels[COLO_CHANNEL_RELEASE][i])
            sum += colo_channel_unread(session->channels[COLO_CHANNEL_RELEASE][i]);
    }
    return sum;
}

static void poll_unread(void *opaque)
{
    ColoSession *session = opaque;
    uint64_t now = colo_clock_ns();
    size_t left = unread(session);
    GError *error = NULL;

    if (left > 0 && now < session->gate_limit_ns) {
        colo_loop_arm(session->host->loop, &session->gate_timer, now + GATE_POLL_NS);
        return;
    }
    session->gate_pending = false;
    if (left > 0)
        g_set_error(&error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                    "gate '%s' of session %s is in force, but QEMU has not read %zu bytes that "
                    "were released before",
                    colo_gate_name(session->gate), session->config.uuid, left);
    session->host->answer(session->host->opaque, session->gate_token, error ? NULL : held(session),
                          error);
}

gboolean colo_gate_set(ColoSession *session, ColoGate mode, uint64_t token, JsonObject **result,
                       GError **error)
{
    *result = NULL;
    /* An answer that is still due belongs to a controller that has gone. */
    session->gate_pending = false;
    colo_loop_disarm(session->host->loop, &session->gate_timer);
    colo_session_log(session, LOG_INFO, "gate %s -> %s", colo_gate_name(session->gate),
                     colo_gate_name(mode));
    if (!session->config.primary) {
        if (!set_secondary(session, mode, error))
            return FALSE;
    } else {
        set_primary(session, mode);
    }
    if ((mode == COLO_GATE_HOLD || mode == COLO_GATE_CLOSED) && unread(session) > 0) {
        session->gate_pending = true;
        session->gate_token = token;
        session->gate_limit_ns = colo_clock_ns() + GATE_LIMIT_NS;
        session->gate_timer.due = poll_unread;
        session->gate_timer.opaque = session;
        colo_loop_arm(session->host->loop, &session->gate_timer, colo_clock_ns() + GATE_POLL_NS);
        return TRUE;
    }
    *result = held(session);
    return TRUE;
}
