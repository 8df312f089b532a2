/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames. Primary: what the guest receives is mirrored to the peer, what it sends goes through the
 * gate (I1). Secondary: mirrored input is fed to QEMU in its epoch (rule 5), output goes to the
 * peer as a confirmation, tagged with the epoch that produced it (rule 6). After a takeover with
 * connections whose numbers are rewritten the survivor's frames go through here both ways.
 */
#include "comparator/session.h"

#include "util/bytes.h"
#include "util/clock.h"

#include <endian.h>
#include <string.h>

/* What QEMU's announcements are (net/announce.c), and the longest vnet header of a NIC. */
#define ANNOUNCE_BYTES 60u
#define ANNOUNCE_VNET_MAX 32u
#define ETHERTYPE_RARP 0x8035u

void colo_packets_release(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet,
                          ColoChunk *chunk)
{
    ColoSession *session = opaque;
    ColoChannel *channel = session->channels[COLO_CHANNEL_RELEASE][nic];

    if (channel && colo_channel_put_frame(channel, frame, len, vnet)) {
        session->stats[COLO_STAT_RELEASED]++;
        return;
    }
    /* Lost like a frame on a full wire: legal, and TCP repeats it. */
    session->stats[COLO_STAT_OUTPUT_DROPPED_FULL]++;
    if (channel)
        colo_session_overflow(session, COLO_QUEUE_RELEASE);
}

bool colo_packets_send(ColoSession *session, ColoRecordType type, unsigned nic,
                       const uint8_t *frame, size_t len, size_t vnet)
{
    ColoStream *stream = colo_session_stream(session, COLO_STREAM_PACKETS);
    ColoRecordHeader header;

    if (!stream)
        return false;
    colo_record_header(&header, type, (uint8_t)nic, (uint16_t)vnet, (uint32_t)len, session->epoch);
    return colo_stream_put2(stream, &header, sizeof(header), frame, len);
}

static void mirror_input(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                         size_t vnet)
{
    /* Before CHECKPOINT_READY the frame's effect is part of the initial migration. */
    if (!session->ready || !colo_session_stream(session, COLO_STREAM_PACKETS)) {
        session->stats[COLO_STAT_INPUT_DROPPED_NO_PEER]++;
        return;
    }
    if (colo_packets_send(session, COLO_RECORD_INPUT, nic, frame, len, vnet)) {
        session->stats[COLO_STAT_INPUT_FRAMES]++;
        return;
    }
    /* The secondary misses a frame and will differ: the next checkpoint heals that. */
    session->stats[COLO_STAT_INPUT_DROPPED_FULL]++;
    session->queue_pressed = true;
    colo_session_overflow(session, COLO_QUEUE_PACKETS);
    colo_wanted_update(session);
}

static void compare_output(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                           size_t vnet)
{
    ColoVerdict verdict = colo_compare_primary(session->compare, (uint8_t)nic, frame, len, vnet,
                                               session->epoch, colo_clock_ns());

    if (verdict == COLO_VERDICT_FULL) {
        session->stats[COLO_STAT_OUTPUT_DROPPED_FULL]++;
        session->queue_pressed = true;
        colo_session_overflow(session, COLO_QUEUE_HELD);
    }
    /* A frame that left may have left one behind: the ACK that is owed after a clamped one. */
    if (verdict != COLO_VERDICT_RELEASED || colo_compare_oldest_ns(session->compare))
        colo_wanted_update(session);
}

static void primary_output(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                           size_t vnet)
{
    if (session->gate != COLO_GATE_CLOSED &&
        !colo_session_rewrite_tell(session, nic, frame, len, vnet))
        return;
    switch (session->gate) {
    case COLO_GATE_ALONE:
        session->stats[COLO_STAT_OUTPUT_PASSED]++;
        colo_packets_release(session, (uint8_t)nic, frame, len, vnet);
        break;
    case COLO_GATE_PAIRED:
    case COLO_GATE_HOLD:
        compare_output(session, nic, frame, len, vnet);
        break;
    case COLO_GATE_CLOSED:
        session->stats[COLO_STAT_OUTPUT_DROPPED_CLOSED]++;
        break;
    }
}

void colo_packets_confirm(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                          size_t vnet)
{
    if (session->gate != COLO_GATE_PAIRED ||
        !colo_packets_send(session, COLO_RECORD_OUTPUT, nic, frame, len, vnet))
        session->stats[COLO_STAT_CONFIRM_DROPPED]++;
}

/* QEMU announces a guest (net/announce.c) with RARP frames that have no vnet header, whatever the
 * NIC has; its filters do not tell. Where the header would be stand the frame's addresses. */
static bool is_announcement(const uint8_t *frame, size_t len, size_t vnet)
{
    static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    return vnet > 0 && vnet <= ANNOUNCE_VNET_MAX && len == ANNOUNCE_BYTES &&
           memcmp(frame, everyone, sizeof(everyone)) == 0 &&
           colo_get16(frame + 12) == ETHERTYPE_RARP;
}

static void pass_announcement(ColoSession *session, unsigned nic, const uint8_t *frame, size_t vnet)
{
    uint8_t whole[ANNOUNCE_VNET_MAX + ANNOUNCE_BYTES] = {0};

    memcpy(whole + vnet, frame, ANNOUNCE_BYTES);
    colo_packets_release(session, (uint8_t)nic, whole, vnet + ANNOUNCE_BYTES, vnet);
}

static void secondary_output(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                             size_t vnet)
{
    if (session->gate == COLO_GATE_ALONE && is_announcement(frame, len, vnet)) {
        pass_announcement(session, nic, frame, vnet);
        return;
    }
    frame = colo_session_rewrite_output(session, nic, frame, len, vnet);
    if (!frame)
        return;
    if (session->gate == COLO_GATE_ALONE) {
        session->stats[COLO_STAT_OUTPUT_PASSED]++;
        colo_packets_release(session, (uint8_t)nic, frame, len, vnet);
    } else {
        colo_packets_confirm(session, nic, frame, len, vnet);
    }
}

/* Gives one frame to the secondary's QEMU. */
static void feed_input(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                       size_t vnet)
{
    ColoChannel *channel = session->channels[COLO_CHANNEL_IN][nic];

    frame = colo_session_rewrite_input(session, nic, frame, len, vnet);
    if (channel && colo_channel_put_frame(channel, frame, len, vnet)) {
        session->stats[COLO_STAT_INPUT_FRAMES]++;
        return;
    }
    session->stats[COLO_STAT_INPUT_DROPPED_FULL]++;
    if (channel)
        colo_session_overflow(session, COLO_QUEUE_IN);
}

/* From the network, after a takeover. */
static void take_input(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                       size_t vnet)
{
    session->stats[COLO_STAT_TAKEN]++;
    feed_input(session, nic, frame, len, vnet);
}

void colo_packets_frame(ColoSession *session, ColoChannel *channel, const uint8_t *frame,
                        size_t len, size_t vnet)
{
    unsigned nic = colo_channel_index(channel);

    switch (colo_channel_kind(channel)) {
    case COLO_CHANNEL_MIRROR:
        mirror_input(session, nic, frame, len, vnet);
        break;
    case COLO_CHANNEL_OUT:
        session->stats[COLO_STAT_OUTPUT_FRAMES]++;
        session->stats[COLO_STAT_OUTPUT_BYTES] += len;
        if (session->config.primary)
            primary_output(session, nic, frame, len, vnet);
        else
            secondary_output(session, nic, frame, len, vnet);
        break;
    case COLO_CHANNEL_TAKE:
        take_input(session, nic, frame, len, vnet);
        break;
    default: /* QEMU writes nothing on "release" and "in" */
        break;
    }
}

void colo_packets_drain(ColoSession *session)
{
    for (unsigned nic = 0; nic < session->config.n_nics; nic++) {
        if (session->channels[COLO_CHANNEL_MIRROR][nic])
            colo_channel_drain(session->channels[COLO_CHANNEL_MIRROR][nic]);
        if (session->channels[COLO_CHANNEL_OUT][nic])
            colo_channel_drain(session->channels[COLO_CHANNEL_OUT][nic]);
    }
}

void colo_packets_tell(ColoSession *session, ColoRecordType type)
{
    (void)colo_packets_send(session, type, 0, NULL, 0, 0);
}

/* What counts in the epoch that runs here. */
static void open_record(ColoSession *session, const ColoRecord *record)
{
    if (record->type == COLO_RECORD_SYN)
        colo_session_rewrite_heard(session, record);
    else
        feed_input(session, record->nic, record->payload, record->length, record->vnet);
}

/* Rule 5. Input of the epoch that runs here is fed; input of a later epoch waits for its LOADED;
 * input of an earlier one, or of one that has ended by REPLY, is in the checkpoint already. So it
 * is with the primary's SYNs. */
static void gate_input(ColoSession *session, const ColoRecord *record)
{
    ColoRecordHeader header;

    if (record->type == COLO_RECORD_SYN && record->epoch < session->epoch && !session->frozen)
        colo_session_rewrite_heard(session, record);
    if (session->frozen || record->epoch < session->epoch) {
        session->stats[COLO_STAT_INPUT_DROPPED_STALE]++;
        return;
    }
    if (record->epoch == session->loaded) {
        open_record(session, record);
        return;
    }
    colo_record_header(&header, record->type, record->nic, record->vnet, record->length,
                       record->epoch);
    if (colo_ring_space(&session->input) < sizeof(header) + record->length) {
        session->stats[COLO_STAT_INPUT_DROPPED_FULL]++;
        colo_session_overflow(session, COLO_QUEUE_INPUT);
        return;
    }
    (void)colo_ring_put(&session->input, &header, sizeof(header));
    (void)colo_ring_put(&session->input, record->payload, record->length);
}

void colo_packets_open_input(ColoSession *session)
{
    static _Thread_local uint8_t payload[COLO_RECORD_MAX];

    while (colo_ring_used(&session->input) > 0) {
        ColoRecordHeader header;
        ColoRecord record;

        colo_ring_read_at(&session->input, session->input.tail, &header, sizeof(header));
        record = (ColoRecord){.type = header.type,
                              .nic = header.nic,
                              .vnet = be16toh(header.vnet),
                              .length = be32toh(header.length),
                              .epoch = be64toh(header.epoch),
                              .payload = payload};
        if (record.epoch > session->loaded)
            break;
        colo_ring_read_at(&session->input, session->input.tail + sizeof(header), payload,
                          record.length);
        colo_ring_take(&session->input, sizeof(header) + record.length);
        gate_input(session, &record);
    }
}

/* A confirmation of the secondary's: counts only while frames are compared. */
static void take_output(ColoSession *session, const ColoRecord *record)
{
    ColoVerdict verdict;

    if (session->gate != COLO_GATE_PAIRED || !session->comparing) {
        session->stats[COLO_STAT_CONFIRM_DROPPED]++;
        return;
    }
    verdict = colo_compare_secondary(session->compare, record->nic, record->payload, record->length,
                                     record->vnet, record->epoch, colo_clock_ns());
    if (verdict == COLO_VERDICT_FULL) {
        session->queue_pressed = true;
        colo_session_overflow(session, COLO_QUEUE_HELD);
    }
    if (verdict == COLO_VERDICT_FULL || verdict == COLO_VERDICT_DIVERGED)
        colo_wanted_update(session);
}

/* False when the peer's role does not send such a record. */
static bool handle_record(ColoSession *session, const ColoRecord *record)
{
    bool primary = session->config.primary;

    switch (record->type) {
    case COLO_RECORD_INPUT:
    case COLO_RECORD_SYN:
        if (primary || record->nic >= session->config.n_nics)
            return false;
        gate_input(session, record);
        return true;
    case COLO_RECORD_OUTPUT:
        if (!primary || record->nic >= session->config.n_nics)
            return false;
        take_output(session, record);
        return true;
    case COLO_RECORD_HEARTBEAT:
        session->stats[COLO_STAT_HEARTBEATS_HEARD]++;
        return true;
    case COLO_RECORD_EPOCH:  /* for early acknowledgement: transparent mode takes it from the */
    case COLO_RECORD_LOADED: /* checkpoint stream's own words */
        return true;
    case COLO_RECORD_BYE:
        colo_stream_close(session->streams[COLO_STREAM_PACKETS],
                          "the peer has destroyed its session");
        return true;
    }
    return false;
}

void colo_packets_stream(ColoSession *session, const uint8_t *data, size_t len)
{
    size_t at = 0;

    colo_heartbeat_heard(session);
    while (at < len) {
        ColoRecord record;
        bool got;
        size_t n = colo_record_feed(&session->records, data + at, len - at, &record, &got);

        if (session->records.broken || (got && !handle_record(session, &record))) {
            colo_stream_close(session->streams[COLO_STREAM_PACKETS],
                              "a record that is none of the protocol's");
            return;
        }
        if (!colo_session_stream(session, COLO_STREAM_PACKETS))
            return;
        at += n;
    }
}
