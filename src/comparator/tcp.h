/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TCP in the compare core (RFC 9293, 7323, 2018): what the two copies of a guest say on one
 * connection, compared as streams in sequence space.
 *
 * Each copy chooses an initial sequence number of its own (RFC 9293 3.4.1, by the clock). So a SYN
 * or SYN-ACK leaves after a checkpoint as a rule: from then on both copies hold the connection with
 * the very number that the other end learns, through any takeover. QEMU's net/filter-rewriter.c
 * maps numbers instead, and loses a connection when a checkpoint falls into its handshake, or at
 * the second takeover.
 *
 * tcp-stream.c: may a segment's sequence space leave?
 *   - Payload: each byte is in [released.low, released.high), or the secondary produced it in the
 *     same epoch. What left before must be the same again as far as the secondary's payload and the
 *     history know it; bytes older than that leave by position alone, since TCP may not change them
 *     (RFC 9293 3.8.1).
 *   - FIN: the secondary's is at the same place. SYN, RST and unusual segments (urgent data,
 * unknown options, ...): the secondary produced one that is the same.
 *   - A pure ACK carries no content; it must lie where the stream is.
 *   - Not content: IPv4 identification, checksums, window, PSH, timestamps, ECN bits, segmentation,
 *     and when and how often something is acknowledged.
 *
 * tcp-ack.c: may its acknowledgement leave? (I1: never beyond the secondary's own.)
 *   - A segment with payload or FIN that may leave otherwise has its ACK clamped to the
 * secondary's, or less than one unit of the window's scale below it, and the window grown by as
 * many units: so its right edge stays the very one that the primary offered and never shrinks.
 * Where that cannot be had the segment waits. SACK blocks that the secondary has not got are taken
 * out.
 *   - A pure ACK waits. Clamped, it would be a duplicate ACK, and three of them make the peer
 *     retransmit (RFC 5681 3.2); and the secondary's own ACK, which frees it, is on its way.
 *   - The window is narrowed to the furthest right edge that the secondary has offered in this
 *     epoch, that the primary had at the newest commit, or that left before: so the survivor's edge
 * is not behind the one that the peer knows (RFC 9293 3.8.6), and what left never shrinks either. A
 * pure ACK whose narrowed window is so low that the peer could stall waits for the secondary's. Not
 * known, and so not narrowed, is the edge where the handshake was not seen, for want of the scale.
 *   - After a clamped ACK, or a low window, the full one is owed: a pure ACK is made and held like
 * one of the primary's, unless later segments carry it. Else the peer would wait for its timer.
 *
 * tcp-usual.c: the short way of the segments that nearly all traffic consists of.
 *
 * A connection's incarnation is the number of SYNs with a new sequence number in an epoch so far,
 * counted on both sides: frames of unlike incarnations are no twins.
 */
#pragma once

#include "comparator/flow.h"

typedef enum {
    COLO_TCP_LEAVE,
    COLO_TCP_WAIT,
    COLO_TCP_DIVERGED_PAYLOAD,
    COLO_TCP_DIVERGED_FLAGS,
    COLO_TCP_DIVERGED_SYN,
} ColoTcpAnswer;

/* How a segment is to be changed before it leaves. */
typedef struct {
    bool clamp;  /* @ack and @window replace the segment's */
    bool narrow; /* @window does */
    bool owe;    /* the full acknowledgement is owed */
    bool strip_sack;
    uint32_t ack;
    uint16_t window;
} ColoAckPlan;

/* Bytes of window that a sender gets along with until it hears more: two full segments. With less
 * it may wait for an update (RFC 9293 3.8.6.2.1), and probes only after its timer. */
#define COLO_TCP_WINDOW_LOW 2920u

/* Frames of the secondary that wait for an equal one of the primary: handshakes and resets come one
 * by one, and what piles up here (retransmitted SYNs) is never asked for. The oldest gives way. */
#define COLO_TWINS_MAX 64u

/* Brings @flow up to date with the newest commit; call it before anything else here. */
void colo_tcp_catch_up(ColoFlow *flow, uint64_t committed);
static inline void colo_tcp_committed(ColoFlow *flow, uint64_t committed)
{
    if (flow->base_committed != committed)
        colo_tcp_catch_up(flow, committed);
}

/* Takes note of a frame as it comes in, and sets its incarnation. */
void colo_tcp_note_primary(ColoFlow *flow, ColoSlot *slot);
/* Inserts @slot where it is wanted; nowhere (slot->flow stays NULL) when it holds no content or
 * only what has left. False, and nowhere, when its place is too far to look for: then a checkpoint
 * frees what would have matched it. */
bool colo_tcp_note_secondary(ColoStore *store, ColoFlow *flow, ColoSlot *slot);

/* The first held frame of @flow (or the one after an owed ACK). On LEAVE @plan is filled in, and
 * the twin of a SYN, RST or unusual segment is used up. */
ColoTcpAnswer colo_tcp_check(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoAckPlan *plan);

/* Takes note that @slot left, changed as @plan (NULL: not at all) says. */
void colo_tcp_released(ColoStore *store, ColoFlow *flow, const ColoSlot *slot,
                       const ColoAckPlan *plan);

/* True when the acknowledgements of @slot may leave, as @plan says. */
bool colo_tcp_plan_ack(const ColoFlow *flow, const ColoSlot *slot, ColoAckPlan *plan);

/* Changes @frame as @plan says, checksum included (RFC 1624; a partial one covers addresses only
 * and stays). */
void colo_tcp_apply_plan(uint8_t *frame, size_t vnet, const ColoFrameInfo *info,
                         const ColoAckPlan *plan);

/* Makes @ack, a stored slot with room for all headers, the pure ACK owed after @slot (whose frame
 * is @frame as it left). */
void colo_tcp_make_owed_ack(ColoSlot *ack, const ColoSlot *slot, const uint8_t *frame);

/* Takes note of the secondary's SACK blocks. */
void colo_tcp_note_sack(ColoFlow *flow, const ColoSlot *slot);

/* The largest window (RFC 7323 2.3). What lies further away is no retransmission and acknowledges
 * nothing that was sent: numbers 2^31 apart would be before and behind one another at once. */
#define COLO_TCP_WINDOW_MAX (1u << 30)

/* Acknowledgement @b says more than @a. */
static inline bool colo_tcp_ack_grows(uint32_t a, uint32_t b)
{
    return b - a - 1 < COLO_TCP_WINDOW_MAX;
}

/* The short way that nearly all frames go: a usual segment of the primary with payload, next in
 * order, and then the very same of the secondary. Each says what the long way would say; false
 * means only that the long way is to be gone. test-compare-usual.c compares the two. */

/* @slot, the first held frame of @flow, waits. */
static inline bool colo_tcp_waits(const ColoFlow *flow, const ColoSlot *slot)
{
    return slot->usual && slot->info.payload_len > 0 && !flow->stream.first &&
           flow->released.valid && flow->released.high == slot->info.seq && !flow->secondary.fin &&
           !flow->secondary.reset;
}

/* A usual segment of the primary, about to be held, waits; it is noted then. */
bool colo_tcp_usual_primary(ColoFlow *flow, const ColoFrameUsual *usual, uint64_t epoch);

/* The usual segment at @frame of the secondary lets the first held frame of @flow leave, unchanged;
 * both are noted then, and the secondary's is wanted no more. */
bool colo_tcp_usual_twin(ColoFlow *flow, const uint8_t *frame, size_t vnet,
                         const ColoFrameUsual *usual, uint64_t epoch);

/* Takes note of what a segment of the secondary acknowledges and offers. Its right edge is the one
 * that goes with its highest acknowledgement, for it may not shrink; the scale may be known later
 * only. */
static inline void colo_tcp_note_offer(ColoTcpSecondary *secondary, uint32_t ack, uint16_t window,
                                       bool syn)
{
    if (!secondary->ack_valid || colo_tcp_ack_grows(secondary->ack, ack)) {
        secondary->ack_valid = true;
        secondary->ack = ack;
        secondary->window_valid = !syn; /* that of a SYN is not scaled */
        secondary->window = window;
    } else if (secondary->ack == ack && !syn &&
               (!secondary->window_valid || secondary->window < window)) {
        secondary->window_valid = true;
        secondary->window = window;
    }
}

/* Takes note of a right edge that the primary offers, whether or not it leaves. It has the scale of
 * the newest connection once that one's SYN has left. */
static inline void colo_tcp_note_primary_offer(ColoFlow *flow, uint32_t ack, uint16_t window)
{
    ColoTcpPrimary *newest = &flow->newest;
    uint32_t edge = ack + ((uint32_t)window << flow->released.scale);

    if (!flow->released.scale_known || flow->released.syn != newest->syn)
        return;
    if (!newest->edge_valid || colo_tcp_ack_grows(newest->edge, edge))
        newest->edge = edge;
    newest->edge_valid = true;
}

/* Takes note of the acknowledgement, window and its right edge of what left. */
static inline void colo_tcp_note_edge(ColoTcpReleased *released, uint32_t ack, uint16_t window,
                                      uint32_t edge)
{
    if (!released->ack_valid || colo_tcp_ack_grows(released->ack, ack))
        released->ack = ack;
    released->ack_valid = true;
    released->window = window;
    if (released->scale_known) {
        if (!released->edge_valid || colo_seq_before(released->edge, edge))
            released->edge = edge;
        released->edge_valid = true;
    }
}

/* The secondary's word counts for @slot. */
static inline bool colo_tcp_same_time(const ColoTcpSecondary *secondary, const ColoSlot *slot)
{
    return secondary->valid && secondary->epoch == slot->epoch &&
           secondary->incarnation == slot->incarnation;
}

/* End of the payload in sequence space. */
static inline uint32_t colo_tcp_end(const ColoFrameInfo *info)
{
    return info->seq + info->payload_len;
}
