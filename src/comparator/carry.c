/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What QEMU's checkpoint does not hold: the state of hardware features in the primary's VM
 * ("carry" in protocol.h). Their owner, virtcolod, is told when the primary's vCPUs stand and gives
 * us the state, which goes to the peer as a record; there virtcolod sets it. Until it has, the last
 * byte of the checkpoint is kept from the secondary's QEMU: so its vCPUs run with it, and a
 * checkpoint whose state has not come is not complete. QEMU says RECEIVED only behind that byte;
 * until then nothing is committed, and a takeover goes on from the checkpoint before.
 *
 * A virtcolod that is away must not hold the guest up: what does not come within the limit is
 * missed, and from then on nothing is kept until it answers again.
 */
#include "comparator/session.h"

#include "util/clock.h"
#include "util/error.h"

#include <string.h>

/* The way to both virtcolods and back takes a millisecond; the primary's guest stands for it. Where
 * everything is slow, nested under emulation, no longer than the checkpoint itself took. */
#define LIMIT_NS (UINT64_C(200) * COLO_NS_PER_MS)

void colo_carry_set_on(ColoSession *session, bool on)
{
    session->config.carry = on;
    session->carry_trusted = on;
    if (!on)
        colo_carry_release(session);
}

void colo_carry_stopped(ColoSession *session)
{
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

/* ---- secondary ---- */

void colo_carry_replied(ColoSession *session)
{
    session->carry_set = false;
}

void colo_carry_heard(ColoSession *session, const ColoRecord *record)
{
    g_autofree char *text = NULL;

    if (!session->config.carry || record->epoch != session->epoch || !session->running)
        return; /* late: it has been counted as missed */
    text = g_strndup((const char *)record->payload, record->length);
    if (strlen(text) == record->length && g_utf8_validate(text, -1, NULL))
        colo_session_event(session, "state", "epoch", "u", record->epoch, "state", "s", text, NULL);
}

gboolean colo_carry_done(ColoSession *session, uint64_t epoch, GError **error)
{
    if (session->config.primary || !session->config.carry || epoch != session->epoch) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "session %s waits for no state of epoch %" G_GUINT64_FORMAT,
                    session->config.uuid, epoch);
        return FALSE;
    }
    session->carry_set = true;
    session->carry_trusted = true;
    colo_carry_release(session);
    return TRUE;
}

static void missed(void *opaque)
{
    ColoSession *session = opaque;

    session->carry_trusted = false;
    session->stats[COLO_STAT_STATES_MISSED]++;
    colo_session_log(
        session, LOG_WARNING,
        "the state of hardware features did not come with checkpoint %" G_GUINT64_FORMAT
        ": is virtcolod running on both hosts?",
        session->epoch);
    colo_carry_release(session);
}

bool colo_carry_keep(ColoSession *session, uint8_t last)
{
    uint64_t now, took;

    if (session->config.primary || !session->config.carry || session->carry_set)
        return false;
    if (!session->carry_trusted) {
        session->stats[COLO_STAT_STATES_MISSED]++;
        return false;
    }
    now = colo_clock_ns();
    took = now - session->reply_ns;
    session->carry_kept = true;
    session->carry_byte = last;
    session->carry_timer.due = missed;
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
