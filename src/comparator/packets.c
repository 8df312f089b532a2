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

    if (channel && colo_channel_put_frame(channel, frame, len, vnet, chunk)) {
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

/* Has the core look at @n frames of one side at once. */
static void compare_frames(ColoSession *session, ColoCompareInput *inputs, unsigned n)
{
    ColoVerdict verdicts[COLO_CHANNEL_FRAMES];
    uint64_t now = colo_clock_ns();
    bool full = false, waits = false;

    if (n == 0)
        return;
    for (unsigned i = 0; i < n; i++)
        inputs[i].now_ns = now;
    colo_compare_batch(session->compare, inputs, n, verdicts);
    for (unsigned i = 0; i < n; i++) {
        waits = waits || verdicts[i] == COLO_VERDICT_HELD || verdicts[i] == COLO_VERDICT_DIVERGED;
        if (verdicts[i] != COLO_VERDICT_FULL)
            continue;
        full = true;
        session->stats[COLO_STAT_OUTPUT_DROPPED_FULL] += !inputs[i].secondary;
        colo_session_overflow(session, inputs[i].secondary ? COLO_QUEUE_TWINS : COLO_QUEUE_HELD);
    }
    session->queue_pressed = session->queue_pressed || full;
    /* A frame that left may have left one behind: the ACK that is owed after a clamped one. */
    if (full || waits || (!inputs[0].secondary && colo_compare_oldest_ns(session->compare)))
        colo_wanted_update(session);
}

static void compare_output(ColoSession *session, unsigned nic, const ColoWireFrame *frames,
                           unsigned n, ColoChunk *chunk)
{
    ColoCompareInput inputs[COLO_CHANNEL_FRAMES];
    unsigned m = 0;

    for (unsigned i = 0; i < n; i++) {
        if (colo_session_rewrite_tell(session, nic, frames[i].data, frames[i].len, frames[i].vnet))
            inputs[m++] = (ColoCompareInput){.frame = frames[i].data,
                                             .len = frames[i].len,
                                             .vnet = frames[i].vnet,
                                             .epoch = session->epoch,
                                             .chunk = chunk,
                                             .nic = (uint8_t)nic};
    }
    compare_frames(session, inputs, m);
}

static void pass_output(ColoSession *session, unsigned nic, const ColoWireFrame *frames, unsigned n,
                        ColoChunk *chunk)
{
    for (unsigned i = 0; i < n; i++) {
        if (!colo_session_rewrite_tell(session, nic, frames[i].data, frames[i].len, frames[i].vnet))
            continue;
        session->stats[COLO_STAT_OUTPUT_PASSED]++;
        colo_packets_release(session, (uint8_t)nic, frames[i].data, frames[i].len, frames[i].vnet,
                             chunk);
    }
}

static void primary_output(ColoSession *session, unsigned nic, const ColoWireFrame *frames,
                           unsigned n, ColoChunk *chunk)
{
    switch (session->gate) {
    case COLO_GATE_ALONE:
        pass_output(session, nic, frames, n, chunk);
        break;
    case COLO_GATE_PAIRED:
    case COLO_GATE_HOLD:
        compare_output(session, nic, frames, n, chunk);
        break;
    case COLO_GATE_CLOSED:
        session->stats[COLO_STAT_OUTPUT_DROPPED_CLOSED] += n;
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
    colo_packets_release(session, (uint8_t)nic, whole, vnet + ANNOUNCE_BYTES, vnet, NULL);
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
        colo_packets_release(session, (uint8_t)nic, frame, len, vnet, NULL);
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
    if (channel && colo_channel_put_frame(channel, frame, len, vnet, NULL)) {
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

/* One frame of a channel whose frames go one by one. */
static void channel_frame(ColoSession *session, const ColoChannel *channel,
                          const ColoWireFrame *frame)
{
    unsigned nic = colo_channel_index(channel);

    switch (colo_channel_kind(channel)) {
    case COLO_CHANNEL_MIRROR:
        mirror_input(session, nic, frame->data, frame->len, frame->vnet);
        break;
    case COLO_CHANNEL_OUT:
        secondary_output(session, nic, frame->data, frame->len, frame->vnet);
        break;
    case COLO_CHANNEL_TAKE:
        take_input(session, nic, frame->data, frame->len, frame->vnet);
        break;
    default: /* QEMU writes nothing on "release" and "in" */
        break;
    }
}

void colo_packets_frames(ColoSession *session, ColoChannel *channel, const ColoWireFrame *frames,
                         unsigned n, ColoChunk *chunk)
{
    if (colo_channel_kind(channel) == COLO_CHANNEL_OUT) {
        session->stats[COLO_STAT_OUTPUT_FRAMES] += n;
        for (unsigned i = 0; i < n; i++)
            session->stats[COLO_STAT_OUTPUT_BYTES] += frames[i].len;
        if (session->config.primary) {
            primary_output(session, colo_channel_index(channel), frames, n, chunk);
            return;
        }
    }
    for (unsigned i = 0; i < n; i++)
        channel_frame(session, channel, &frames[i]);
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

/* Confirmations of the secondary's that the core has not seen yet. */
typedef struct {
    ColoCompareInput input[COLO_CHANNEL_FRAMES];
    unsigned n;
} Confirmations;

/* They count only while frames are compared. */
static void take_confirmations(ColoSession *session, Confirmations *batch)
{
    if (session->gate == COLO_GATE_PAIRED && session->comparing)
        compare_frames(session, batch->input, batch->n);
    else
        session->stats[COLO_STAT_CONFIRM_DROPPED] += batch->n;
    batch->n = 0;
}

static void add_confirmation(Confirmations *batch, const ColoRecord *record)
{
    batch->input[batch->n++] = (ColoCompareInput){.frame = record->payload,
                                                  .len = record->length,
                                                  .vnet = record->vnet,
                                                  .epoch = record->epoch,
                                                  .nic = record->nic,
                                                  .secondary = true};
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
    case COLO_RECORD_STATE:
        if (primary && record->length > 0)
            return false;
        colo_carry_heard(session, record);
        return true;
    case COLO_RECORD_OUTPUT: /* the secondary's; the primary's go by add_confirmation() */
        return false;
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

static bool is_confirmation(const ColoSession *session, const ColoRecord *record)
{
    return record->type == COLO_RECORD_OUTPUT && session->config.primary &&
           record->nic < session->config.n_nics;
}

/* Takes in one record. Confirmations wait for more of their kind as long as their bytes stay where
 * they are. */
static bool take_record(ColoSession *session, const ColoRecord *record, Confirmations *batch)
{
    if (is_confirmation(session, record)) {
        add_confirmation(batch, record);
        if (batch->n == COLO_CHANNEL_FRAMES || colo_record_is_copy(&session->records, record))
            take_confirmations(session, batch);
        return true;
    }
    take_confirmations(session, batch);
    return handle_record(session, record);
}

void colo_packets_stream(ColoSession *session, const uint8_t *data, size_t len)
{
    Confirmations batch;
    size_t at = 0;

    batch.n = 0;
    colo_heartbeat_heard(session);
    while (at < len && !session->records.broken) {
        ColoRecord record;
        bool got;

        at += colo_record_feed(&session->records, data + at, len - at, &record, &got);
        if (got && !take_record(session, &record, &batch))
            session->records.broken = true;
        if (!colo_session_stream(session, COLO_STREAM_PACKETS))
            return;
    }
    take_confirmations(session, &batch);
    if (session->records.broken)
        colo_stream_close(session->streams[COLO_STREAM_PACKETS],
                          "a record that is none of the protocol's");
}
