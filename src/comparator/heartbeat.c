/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Heartbeats on the packet stream. Silence is evidence for virtcolod, it decides nothing here
 * (design section 3).
 */
#include "comparator/session.h"

#include "util/clock.h"

#include <endian.h>

static void send_beat(ColoSession *session)
{
    ColoStream *stream = colo_session_stream(session, COLO_STREAM_PACKETS);
    uint64_t now = htobe64(colo_clock_ns());
    ColoRecordHeader header;

    if (!stream)
        return;
    colo_record_header(&header, COLO_RECORD_HEARTBEAT, 0, 0, sizeof(now), session->epoch);
    if (colo_stream_put2(stream, &header, sizeof(header), &now, sizeof(now)))
        session->stats[COLO_STAT_HEARTBEATS_SENT]++;
}

/* Wakes for the next beat or for the moment of silence, whichever is first: judged at beats alone,
 * silence would be seen up to a whole interval after its limit. */
static void arm(ColoSession *session, uint64_t limit)
{
    uint64_t due = session->beat_due_ns;

    if (!session->silent)
        due = MIN(due, session->heard_ns + limit);
    colo_loop_arm(session->host->loop, &session->beat, due);
}

static void beat(void *opaque)
{
    ColoSession *session = opaque;
    uint64_t now = colo_clock_ns();
    uint64_t interval = session->config.heartbeat_ms * COLO_NS_PER_MS;
    uint64_t limit = interval * session->config.heartbeat_missed;

    if (now >= session->beat_due_ns) {
        send_beat(session);
        session->beat_due_ns = now + interval;
    }
    if (!session->silent && now - session->heard_ns >= limit) {
        session->silent = true;
        colo_session_event(session, "peer-silent", "silent-ms", "u",
                           (now - session->heard_ns) / COLO_NS_PER_MS, NULL);
    }
    arm(session, limit);
}

void colo_heartbeat_start(ColoSession *session)
{
    session->beat.due = beat;
    session->beat.opaque = session;
    colo_heartbeat_heard(session);
    session->beat_due_ns = session->heard_ns;
    beat(session);
}

void colo_heartbeat_heard(ColoSession *session)
{
    session->heard_ns = colo_clock_ns();
    if (!session->silent)
        return;
    session->silent = false;
    colo_session_event(session, "peer-heard", NULL);
}
