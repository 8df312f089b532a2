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

static void beat(void *opaque)
{
    ColoSession *session = opaque;
    uint64_t now = colo_clock_ns();
    uint64_t limit =
        session->config.heartbeat_ms * session->config.heartbeat_missed * COLO_NS_PER_MS;

    send_beat(session);
    if (!session->silent && now - session->heard_ns > limit) {
        session->silent = true;
        colo_session_event(session, "peer-silent", "silent-ms", "u",
                           (now - session->heard_ns) / COLO_NS_PER_MS, NULL);
    }
    colo_loop_arm(session->host->loop, &session->beat,
                  now + session->config.heartbeat_ms * COLO_NS_PER_MS);
}

void colo_heartbeat_start(ColoSession *session)
{
    session->beat.due = beat;
    session->beat.opaque = session;
    colo_heartbeat_heard(session);
    send_beat(session);
    colo_loop_arm(session->host->loop, &session->beat,
                  session->heard_ns + session->config.heartbeat_ms * COLO_NS_PER_MS);
}

void colo_heartbeat_heard(ColoSession *session)
{
    session->heard_ns = colo_clock_ns();
    if (!session->silent)
        return;
    session->silent = false;
    colo_session_event(session, "peer-heard", NULL);
}
