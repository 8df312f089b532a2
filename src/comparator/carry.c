/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What QEMU's checkpoint does not hold: the state of hardware features in the primary's VM
 * ("carry" in protocol.h). Their owner, virtcolod, is told when the primary's vCPUs stand and gives
 * us the state, which goes to the peer as a record; there virtcolod sets it. Until it has, the last
 * byte of the checkpoint is kept from the secondary's QEMU: so its vCPUs run with it, and a
 * checkpoint whose state has not come is not complete. QEMU says RECEIVED only behind that byte;
 * until then nothing is committed, and a takeover goes on from the checkpoint before.
 *
 * QEMU cannot take a checkpoint back, and its guest stands until it is loaded. So what is late is
 * waited for no longer than a limit, and then:
 *  - here, but not set: the checkpoint goes on. We remember the state, and the answer to
 *    "takeover-prepare" has it: whoever takes over sets it before the guest goes on alone.
 *  - not here: QEMU loads the checkpoint, but at the primary it does not count: for that the peer
 * must have said that the state has come. Nothing is released before one that has its state. A
 * virtcolod that is away (I5) must not hold a guest's output for ever: after a second without any
 * state checkpoints count again, and "states-missed" says how many did so. Only virtcolod and
 * whoever else has the module's device can change what they miss.
 */
#include "comparator/session.h"

#include "util/clock.h"
#include "util/error.h"

#include <string.h>

/* The way to both virtcolods and back takes a millisecond; the primary's guest stands for it. Where
 * everything is slow, nested under emulation, no longer than the checkpoint itself took. */
#define LIMIT_NS (UINT64_C(200) * COLO_NS_PER_MS)
/* So long no checkpoint counts without a state: of virtcolods that are slow, not away. */
#define AWAY_NS (UINT64_C(1000) * COLO_NS_PER_MS)

void colo_carry_set_on(ColoSession *session, bool on)
{
    session->config.carry = on;
    session->carry_trusted = session->carry_set_trusted = on;
    session->carry_missing_ns = 0;
    if (on)
        return;
    colo_carry_release(session);
    g_clear_pointer(&session->carry_due, g_bytes_unref);
}

/* ---- primary ---- */

void colo_carry_stopped(ColoSession *session)
{
    session->carry_there = false;
    if (session->config.carry)
        colo_session_event(session, "state-wanted", "epoch", "u", session->epoch, NULL);
}

gboolean colo_carry_send(ColoSession *session, uint64_t epoch, GBytes *state, GError **error)
{
    size_t len;
    const uint8_t *data = g_bytes_get_data(state, &len);
    const char *why = !session->config.primary || !session->config.carry ? "it carries no state"
                      : epoch != session->epoch || !session->running
                          ? "its vCPUs do not stand for that checkpoint any more"
                      : !colo_packets_send(session, COLO_RECORD_STATE, 0, data, len, 0)
                          ? "the packet stream takes no more"
                          : NULL;

    if (!why)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                "session %s, state of epoch %" G_GUINT64_FORMAT ": %s", session->config.uuid, epoch,
                why);
    return FALSE;
}

static void arrived(ColoSession *session, const ColoRecord *record)
{
    if (!session->config.carry || record->epoch != session->epoch)
        return;
    session->carry_there = session->carry_trusted = true;
    session->carry_missing_ns = 0;
    colo_checkpoint_commit(session); /* RECEIVED may have been there first */
}

bool colo_carry_counts(ColoSession *session)
{
    uint64_t now;

    if (!session->config.carry || session->carry_there)
        return true;
    now = colo_clock_ns();
    if (session->carry_missing_ns == 0)
        session->carry_missing_ns = now;
    if (session->carry_trusted && now - session->carry_missing_ns < AWAY_NS) {
        session->stats[COLO_STAT_STATES_AWAITED]++;
        return false;
    }
    if (session->carry_trusted)
        colo_session_log(
            session, LOG_WARNING,
            "checkpoints count without the state of hardware features from %" G_GUINT64_FORMAT
            " on: is virtcolod running on this host?",
            session->epoch);
    session->carry_trusted = false;
    session->stats[COLO_STAT_STATES_MISSED]++;
    return true;
}

/* ---- secondary ---- */

void colo_carry_replied(ColoSession *session)
{
    session->carry_set = false;
    g_clear_pointer(&session->carry_next, g_bytes_unref);
}

void colo_carry_heard(ColoSession *session, const ColoRecord *record)
{
    g_autofree char *text = NULL;

    if (session->config.primary) {
        arrived(session, record);
        return;
    }
    if (!session->config.carry || record->epoch != session->epoch || session->epoch == 0)
        return; /* of a checkpoint that another has followed */
    text = g_strndup((const char *)record->payload, record->length);
    if (strlen(text) != record->length || !g_utf8_validate(text, -1, NULL))
        return;
    g_clear_pointer(&session->carry_next, g_bytes_unref);
    session->carry_next = g_bytes_new(text, record->length);
    session->carry_trusted = true;
    if (session->carry_whole == session->epoch) /* for a while */
        colo_carry_whole(session);
    colo_packets_tell(session, COLO_RECORD_STATE);
    colo_session_event(session, "state", "epoch", "u", record->epoch, "state", "s", text, NULL);
    if (!session->carry_set_trusted)
        colo_carry_release(session);
}

gboolean colo_carry_done(ColoSession *session, uint64_t epoch, GError **error)
{
    bool due = session->carry_due && epoch == session->carry_due_epoch;

    if (session->config.primary || !session->config.carry || (epoch != session->epoch && !due)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "session %s waits for no state of epoch %" G_GUINT64_FORMAT,
                    session->config.uuid, epoch);
        return FALSE;
    }
    session->carry_set_trusted = true;
    if (due)
        g_clear_pointer(&session->carry_due, g_bytes_unref);
    if (epoch == session->epoch) {
        session->carry_set = true;
        colo_carry_release(session);
    }
    return TRUE;
}

static void late(void *opaque)
{
    ColoSession *session = opaque;
    bool heard = session->carry_next != NULL;

    if (heard)
        session->carry_set_trusted = false;
    else
        session->carry_trusted = false;
    colo_session_log(session, LOG_WARNING,
                     "the state of hardware features %s checkpoint %" G_GUINT64_FORMAT
                     ": is virtcolod running on %s?",
                     heard ? "was not set in time for" : "did not come with", session->epoch,
                     heard ? "this host" : "the primary's host");
    colo_carry_release(session);
}

bool colo_carry_keep(ColoSession *session, uint8_t last)
{
    uint64_t now, took;

    if (session->config.primary || !session->config.carry || session->carry_set ||
        !(session->carry_next ? session->carry_set_trusted : session->carry_trusted))
        return false;
    now = colo_clock_ns();
    took = now - session->reply_ns;
    session->carry_kept = true;
    session->carry_byte = last;
    session->carry_timer.due = late;
    session->carry_timer.opaque = session;
    colo_loop_arm(session->host->loop, &session->carry_timer,
                  now + (took > LIMIT_NS ? took : LIMIT_NS));
    return true;
}

void colo_carry_release(ColoSession *session)
{
    if (!session->carry_kept)
        return;
    session->carry_kept = false;
    colo_loop_disarm(session->host->loop, &session->carry_timer);
    colo_checkpoint_end(session, session->carry_byte);
}

void colo_carry_whole(ColoSession *session)
{
    if (session->config.primary || !session->config.carry)
        return;
    session->carry_whole = session->epoch;
    if (!session->carry_set && !session->carry_next) {
        session->stats[COLO_STAT_STATES_MISSED]++;
        return; /* one that is due still is of an earlier checkpoint, and the newest there is */
    }
    g_clear_pointer(&session->carry_due, g_bytes_unref);
    if (session->carry_set)
        return;
    session->carry_due = g_steal_pointer(&session->carry_next);
    session->carry_due_epoch = session->epoch;
    session->stats[COLO_STAT_STATES_LATE]++;
}

char *colo_carry_due(const ColoSession *session)
{
    size_t len;
    const char *text;

    if (!session->carry_due)
        return NULL;
    text = g_bytes_get_data(session->carry_due, &len);
    return g_strndup(text, len);
}
