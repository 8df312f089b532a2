/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * NBD connections carried byte for byte, with back-pressure both ways.
 *
 * Rule 4: disk bytes of epoch k reach the secondary's NBD server only after LOADED(k). In
 * transparent mode the primary does not run in epoch k before LOADED(k) has come back to it, so
 * bytes belong to the epoch that is loaded when they arrive, and the gate below is open for them.
 * Early acknowledgement will tag them with the sender's epoch.
 */
#include "comparator/session.h"

/* The epoch of bytes that arrive from the primary now. */
static uint64_t epoch_of_arrival(const ColoSession *session)
{
    return session->loaded;
}

static bool gate_open(const ColoSession *session, uint64_t epoch)
{
    return !session->frozen && (session->config.primary || epoch <= session->loaded);
}

void colo_disk_from_qemu(ColoSession *session, unsigned disk, const uint8_t *data, size_t len)
{
    ColoStream *stream = colo_session_stream(session, COLO_STREAM_DISK + disk);

    if (stream && colo_stream_put(stream, data, len))
        session->stats[COLO_STAT_DISK_BYTES_TO_PEER] += len;
    colo_disk_space(session, disk);
}

void colo_disk_from_peer(ColoSession *session, unsigned disk, const uint8_t *data, size_t len)
{
    ColoChannel *nbd = session->channels[COLO_CHANNEL_NBD][disk];

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
