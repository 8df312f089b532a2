/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the primary needs a checkpoint, and how it keeps asking. A kick that reaches QEMU before
 * the RECEIVED of a running checkpoint is swallowed (QEMU 7.2, colo_do_checkpoint_transaction()
 * resets its event after RECEIVED); so nothing is asked while one runs, and what is still wanted
 * after LOADED is asked anew. A kick after which no REQUEST comes counts as lost.
 */
#include "comparator/session.h"

#include "util/clock.h"

#define REPEAT_NS (UINT64_C(10) * COLO_NS_PER_MS)
/* From kick to REQUEST QEMU takes 0.4 to 2 ms under KVM, some 50 ms nested under emulation. */
#define KICK_LOST_NS (UINT64_C(200) * COLO_NS_PER_MS)

static const char *wanted_name(ColoWanted wanted)
{
    static const char *const names[] = {"", "diverged", "unanswered", "queue", "paired", "period"};

    return names[wanted];
}

static bool queue_is_half_full(const ColoSession *session)
{
    uint64_t frames, bytes;

    if (session->queue_pressed)
        return true;
    colo_compare_held(session->compare, &frames, &bytes);
    return bytes > COLO_SESSION_HELD_BYTES / 2 || frames > COLO_SESSION_HELD_FRAMES / 2;
}

static uint64_t unanswered_min_ns(const ColoSession *session)
{
    return session->policy.tuning.unanswered_min_ms * COLO_NS_PER_MS;
}

static bool is_of_output(ColoWanted wanted)
{
    return wanted == COLO_WANTED_DIVERGED || wanted == COLO_WANTED_UNANSWERED ||
           wanted == COLO_WANTED_PERIOD;
}

/* In periodic mode when twins do not come: when the next period may begin for what waits, be it
 * known to differ or not. 0: not before that is known. */
static uint64_t period_due_ns(const ColoSession *session)
{
    uint64_t oldest = colo_compare_oldest_ns(session->compare);
    uint64_t due = oldest + unanswered_min_ns(session);
    uint64_t not_before = colo_policy_not_before(&session->policy);

    if (!session->policy.periodic || !oldest || !colo_patience_is_lost(&session->patience))
        return 0;
    return due > not_before ? due : not_before;
}

/* Why a checkpoint is wanted now. *@look_ns: when to look again if none is, or 0. */
static ColoWanted reason_now(ColoSession *session, uint64_t now, uint64_t *look_ns)
{
    ColoWanted differs = COLO_WANTED_NONE;
    uint64_t due;

    *look_ns = 0;
    if (session->gate != COLO_GATE_PAIRED || !session->ready || session->unknown ||
        session->running || session->disk_failed)
        return COLO_WANTED_NONE;
    if (!session->comparing)
        return COLO_WANTED_PAIRED;
    due = colo_compare_due_ns(session->compare,
                              colo_patience_longest_ns(&session->patience, session->policy.pause_ns,
                                                       unanswered_min_ns(session)));
    *look_ns = due;
    if (colo_compare_diverged(session->compare))
        differs = COLO_WANTED_DIVERGED;
    else if (due && now >= due)
        differs = COLO_WANTED_UNANSWERED;
    if (differs != COLO_WANTED_NONE) {
        colo_policy_differs(&session->policy, now);
        *look_ns = colo_policy_not_before(&session->policy);
        if (now >= *look_ns)
            return session->policy.periodic ? COLO_WANTED_PERIOD : differs;
    } else if ((due = period_due_ns(session))) {
        if (now >= due) {
            colo_policy_differs(&session->policy, now);
            return COLO_WANTED_PERIOD;
        }
        if (due < *look_ns)
            *look_ns = due;
    }
    return queue_is_half_full(session) ? COLO_WANTED_QUEUE : COLO_WANTED_NONE;
}

static void timer_due(void *opaque)
{
    colo_wanted_update(opaque);
}

static void look_at(ColoSession *session, uint64_t due_ns)
{
    session->wanted_timer.due = timer_due;
    session->wanted_timer.opaque = session;
    colo_loop_arm(session->host->loop, &session->wanted_timer, due_ns);
}

static void tell(ColoSession *session, uint64_t now)
{
    colo_session_event(session, "checkpoint-wanted", "reason", "s", wanted_name(session->wanted),
                       NULL);
    look_at(session, now + REPEAT_NS);
}

static void tell_policy(ColoSession *session)
{
    const char *mode = colo_policy_mode_name(&session->policy);

    colo_session_log(session, LOG_NOTICE, "checkpoint mode %s: %s", mode, session->policy.reason);
    colo_session_event(session, "policy", "mode", "s", mode, "reason", "s", session->policy.reason,
                       NULL);
}

void colo_wanted_update(ColoSession *session)
{
    uint64_t now, look_ns;
    ColoWanted reason;

    if (!session->config.primary)
        return;
    now = colo_clock_ns();
    if (session->policy.periodic && colo_policy_look(&session->policy, now))
        tell_policy(session);
    reason = reason_now(session, now, &look_ns);
    if (reason == COLO_WANTED_NONE) {
        session->wanted = COLO_WANTED_NONE;
        if (!look_ns)
            colo_loop_disarm(session->host->loop, &session->wanted_timer);
        else if (!session->wanted_timer.armed || session->wanted_timer.due_ns > look_ns)
            look_at(session, look_ns);
        return;
    }
    if (session->wanted == COLO_WANTED_NONE) {
        session->wanted = reason;
        session->kicked = false;
        session->stats[COLO_STAT_WANTED_DIVERGED + (reason - COLO_WANTED_DIVERGED)]++;
        if (reason == COLO_WANTED_UNANSWERED || reason == COLO_WANTED_PERIOD)
            colo_compare_late(session->compare, now, session->policy.pause_ns);
        tell(session, now);
        return;
    }
    if (session->kicked && now - session->kicked_ns >= KICK_LOST_NS)
        session->kicked = false;
    /* The armed timer is the next moment to say something; frames that come before it change
     * nothing. */
    if (session->wanted_timer.armed)
        return;
    if (session->kicked)
        look_at(session, session->kicked_ns + KICK_LOST_NS);
    else
        tell(session, now);
}

void colo_wanted_tune(ColoSession *session, const ColoTuning *tuning)
{
    if (session->compare)
        colo_compare_set_unanswered(session->compare, tuning->unanswered_min_ms * COLO_NS_PER_MS,
                                    tuning->unanswered_max_ms * COLO_NS_PER_MS);
    if (colo_policy_tune(&session->policy, tuning, colo_clock_ns()))
        tell_policy(session);
    colo_wanted_update(session);
}

void colo_wanted_kicked(ColoSession *session)
{
    session->kicked = true;
    session->kicked_ns = colo_clock_ns();
}

void colo_wanted_loaded(ColoSession *session, uint64_t now)
{
    if (session->comparing && colo_policy_checkpoint(&session->policy, session->reply_ns, now))
        tell_policy(session);
    colo_patience_checkpoint(&session->patience, is_of_output(session->wanted),
                             colo_compare_counter(session->compare, COLO_COUNT_RELEASED_EQUAL));
    session->wanted = COLO_WANTED_NONE;
    session->kicked = false;
    session->queue_pressed = false;
    colo_wanted_update(session);
}
