/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a segment carries in sequence space. Rules in tcp.h. */
#include "comparator/tcp.h"

#include <string.h>

/* A retransmission is compared with at most this many segments that left before it, newest first:
 * a window of 64 KiB full segments at 16 each is well inside, and the work stays bounded. */
#define HISTORY_SCAN 256u

/* Segments of the secondary that are looked at for one frame: the guest chooses their order, and a
 * long way for each would hold up every domain of the host. A sender's own order needs one or two
 * steps; a retransmission, from the other end, no more than what it repeats. */
#define STREAM_SCAN 1024u

void colo_tcp_catch_up(ColoFlow *flow, uint64_t committed)
{
    flow->base_committed = committed;
    if (flow->newest.valid && flow->newest.epoch < committed)
        flow->base = flow->newest;
    else if (flow->before.valid && flow->before.epoch < committed)
        flow->base = flow->before;
}

void colo_tcp_note_primary(ColoFlow *flow, ColoSlot *slot)
{
    ColoTcpPrimary *newest = &flow->newest;
    const ColoFrameInfo *info = &slot->info;

    if (newest->valid && newest->epoch != slot->epoch) {
        flow->before = *newest;
        newest->incarnation = 0;
    }
    newest->valid = true;
    newest->epoch = slot->epoch;
    if ((info->flags & COLO_TCP_SYN) && !(newest->syn_valid && newest->syn == info->seq)) {
        newest->syn_valid = true;
        newest->syn = info->seq;
        newest->ack_valid = false;
        newest->edge_valid = false;
        newest->incarnation++;
        slot->new_connection = true;
    }
    slot->incarnation = newest->incarnation;
    if ((info->flags & (COLO_TCP_ACK | COLO_TCP_RST)) == COLO_TCP_ACK &&
        (!newest->ack_valid || colo_tcp_ack_grows(newest->ack, info->ack))) {
        newest->ack_valid = true;
        newest->ack = info->ack;
    }
    if ((info->flags & (COLO_TCP_ACK | COLO_TCP_RST | COLO_TCP_SYN)) == COLO_TCP_ACK)
        colo_tcp_note_primary_offer(flow, info->ack, info->window);
}

/* Payload of the secondary goes in by sequence; almost always it is the newest, else it is looked
 * for from both ends. False when its place is too far from either. */
static bool insert_stream(ColoStore *store, ColoFlow *flow, ColoSlot *slot)
{
    ColoSlot *after = flow->stream.last, *before = flow->stream.first;
    uint32_t seq = slot->info.seq;

    for (unsigned i = 0; i < STREAM_SCAN; i++, after = after->prev, before = before->next) {
        if (after && colo_seq_before(seq, after->info.seq)) {
            if (!colo_seq_before(seq, before->info.seq))
                continue;
            after = before->prev;
        }
        colo_slot_insert(store, flow, slot, COLO_SLOT_STREAM, after);
        return true;
    }
    return false;
}

static void note_span(ColoTcpSecondary *secondary, const ColoFrameInfo *info)
{
    uint32_t end = colo_tcp_end(info);

    if (!secondary->span_valid) {
        secondary->low = info->seq;
        secondary->high = end;
        secondary->span_valid = true;
    }
    if (colo_seq_before(info->seq, secondary->low))
        secondary->low = info->seq;
    if (colo_seq_before(secondary->high, end))
        secondary->high = end;
    if (info->flags & COLO_TCP_FIN) {
        secondary->fin = true;
        secondary->fin_at = end;
    }
}

bool colo_tcp_note_secondary(ColoStore *store, ColoFlow *flow, ColoSlot *slot)
{
    ColoTcpSecondary *secondary = &flow->secondary;
    const ColoTcpReleased *released = &flow->released;
    const ColoFrameInfo *info = &slot->info;

    if (!secondary->valid || secondary->epoch != slot->epoch) {
        memset(secondary, 0, sizeof(*secondary));
        secondary->valid = true;
        secondary->epoch = slot->epoch;
    }
    if ((info->flags & COLO_TCP_SYN) &&
        !(flow->secondary_syn_valid && flow->secondary_syn == info->seq) &&
        !(flow->base.syn_valid && flow->base.syn == info->seq)) {
        uint32_t incarnation = secondary->incarnation + 1;

        memset(secondary, 0, sizeof(*secondary));
        secondary->valid = true;
        secondary->epoch = slot->epoch;
        secondary->incarnation = incarnation;
        flow->secondary_syn_valid = true;
        flow->secondary_syn = info->seq;
    }
    slot->incarnation = secondary->incarnation;
    secondary->envelope = info->envelope;
    if ((info->flags & (COLO_TCP_ACK | COLO_TCP_RST)) == COLO_TCP_ACK) {
        colo_tcp_note_offer(secondary, info->ack, info->window, info->flags & COLO_TCP_SYN);
        colo_tcp_note_sack(flow, slot);
    }
    if (info->flags & COLO_TCP_RST)
        secondary->reset = true;
    else if (!(info->flags & COLO_TCP_SYN))
        note_span(secondary, info);

    if (info->twin) {
        if (flow->n_twins >= COLO_TWINS_MAX) {
            ColoSlot *oldest = flow->twins.first;

            colo_slot_remove(store, oldest);
            colo_slot_free(store, oldest);
        }
        colo_slot_insert(store, flow, slot, COLO_SLOT_TWIN, flow->twins.last);
    } else if (info->payload_len > 0) {
        /* Retransmitted after the primary's left: nothing waits for it. */
        if (!flow->primary.first && released->valid && flow->newest.epoch == slot->epoch &&
            flow->newest.incarnation == slot->incarnation &&
            colo_seq_beq(released->low, info->seq) &&
            colo_seq_beq(colo_tcp_end(info), released->high))
            return true;
        return insert_stream(store, flow, slot);
    }
    return true;
}

/* False when [@from, @to) of @slot differs from what left at these positions, as far as the
 * history knows. */
static bool history_agrees(const ColoFlow *flow, const ColoSlot *slot, uint32_t from, uint32_t to)
{
    const ColoSlot *old = flow->history.last;

    for (unsigned i = 0; old && i < HISTORY_SCAN; i++, old = old->prev) {
        uint32_t start = old->info.seq, end = colo_tcp_end(&old->info);

        if (colo_seq_beq(end, from) || colo_seq_beq(to, start))
            continue;
        if (colo_seq_before(start, from))
            start = from;
        if (colo_seq_before(to, end))
            end = to;
        if (memcmp(old->data + old->info.payload_at + (start - old->info.seq),
                   slot->data + slot->info.payload_at + (start - slot->info.seq), end - start) != 0)
            return false;
    }
    return true;
}

/* The secondary's payload that covers @cursor, or NULL. */
static ColoSlot *find_cover(ColoFlow *flow, const ColoSlot *slot, uint32_t cursor)
{
    ColoSlot *cover = flow->scan ? flow->scan : flow->stream.first;

    for (unsigned i = 0; cover && i < STREAM_SCAN; i++, cover = cover->next) {
        flow->scan = cover;
        if (cover->epoch != slot->epoch || cover->incarnation != slot->incarnation ||
            colo_seq_beq(colo_tcp_end(&cover->info), cursor))
            continue;
        return colo_seq_beq(cover->info.seq, cursor) ? cover : NULL;
    }
    return NULL;
}

/* Goes on comparing the payload where the last call stopped. @by_position: some of it is allowed by
 * position, not by a segment of the secondary. */
static ColoTcpAnswer check_payload(ColoFlow *flow, ColoSlot *slot, bool *by_position)
{
    const ColoTcpReleased *released = &flow->released;
    const ColoFrameInfo *info = &slot->info;
    uint32_t end = colo_tcp_end(info), cursor = info->seq + slot->matched;

    if (released->valid && colo_seq_before(info->seq, released->high) &&
        colo_seq_before(released->low, end))
        *by_position = true;
    while (cursor != end) {
        uint32_t stop = end;
        bool has_left = released->valid && colo_seq_within(cursor, released->low, released->high);
        ColoSlot *cover = find_cover(flow, slot, cursor);

        if (has_left && colo_seq_before(released->high, stop))
            stop = released->high;
        if (cover) {
            if (!has_left && !colo_envelope_equal(&cover->info.envelope, &info->envelope))
                return COLO_TCP_DIVERGED_FLAGS;
            if (colo_seq_before(colo_tcp_end(&cover->info), stop))
                stop = colo_tcp_end(&cover->info);
            if (memcmp(cover->data + cover->info.payload_at + (cursor - cover->info.seq),
                       slot->data + info->payload_at + (cursor - info->seq), stop - cursor) != 0)
                return COLO_TCP_DIVERGED_PAYLOAD;
        } else if (has_left) {
            /* The scan has stopped at the next that the secondary produced, if there is any. */
            if (flow->scan && colo_seq_before(cursor, flow->scan->info.seq) &&
                colo_seq_before(flow->scan->info.seq, stop))
                stop = flow->scan->info.seq;
            if (!history_agrees(flow, slot, cursor, stop))
                return COLO_TCP_DIVERGED_PAYLOAD;
        } else {
            return COLO_TCP_WAIT;
        }
        cursor = stop;
        slot->matched = cursor - info->seq;
    }
    return COLO_TCP_LEAVE;
}

static ColoTcpAnswer check_fin(const ColoFlow *flow, const ColoSlot *slot)
{
    const ColoTcpReleased *released = &flow->released;
    const ColoTcpSecondary *secondary = &flow->secondary;
    uint32_t end = colo_tcp_end(&slot->info);

    if (released->valid && released->fin && released->high == end)
        return COLO_TCP_LEAVE;
    if (!colo_tcp_same_time(secondary, slot))
        return COLO_TCP_WAIT;
    if (secondary->fin)
        return secondary->fin_at == end ? COLO_TCP_LEAVE : COLO_TCP_DIVERGED_FLAGS;
    if (secondary->span_valid && colo_seq_before(end, secondary->high))
        return COLO_TCP_DIVERGED_FLAGS;
    return COLO_TCP_WAIT;
}

/* An empty segment lies within the stream, or one before it as a probe does (RFC 9293 3.8.4). */
static bool position_known(const ColoFlow *flow, const ColoSlot *slot)
{
    const ColoTcpReleased *released = &flow->released;
    const ColoTcpSecondary *secondary = &flow->secondary;
    uint32_t seq = slot->info.seq;

    if (released->valid &&
        colo_seq_within(seq, released->low - 1, released->high + (released->fin ? 2 : 1)))
        return true;
    return colo_tcp_same_time(secondary, slot) && secondary->span_valid &&
           /* Its empty segments after the FIN lie behind that already. */
           colo_seq_within(seq, secondary->low - 1,
                           (secondary->fin ? secondary->fin_at + 1 : secondary->high) + 1);
}

static bool envelope_known(const ColoFlow *flow, const ColoSlot *slot)
{

    return (flow->released.envelope_valid &&
            colo_envelope_equal(&flow->released.envelope, &slot->info.envelope)) ||
           (colo_tcp_same_time(&flow->secondary, slot) &&
            colo_envelope_equal(&flow->secondary.envelope, &slot->info.envelope));
}

static ColoTcpAnswer check_segment(ColoFlow *flow, ColoSlot *slot)
{
    const ColoTcpSecondary *secondary = &flow->secondary;
    const ColoFrameInfo *info = &slot->info;
    bool fin = info->flags & COLO_TCP_FIN, by_position = fin || info->payload_len == 0;
    ColoTcpAnswer answer = COLO_TCP_LEAVE;

    if (!fin && info->payload_len == 0) {
        if (!position_known(flow, slot))
            return COLO_TCP_WAIT;
    } else {
        bool heard = colo_tcp_same_time(secondary, slot);

        if (heard && secondary->fin && colo_seq_before(secondary->fin_at, colo_tcp_end(info)))
            return COLO_TCP_DIVERGED_FLAGS;
        answer = check_payload(flow, slot, &by_position);
        if (answer == COLO_TCP_LEAVE && fin)
            answer = check_fin(flow, slot);
        if (answer == COLO_TCP_WAIT && heard && secondary->reset)
            answer = COLO_TCP_DIVERGED_FLAGS; /* the secondary has no such connection any more */
    }
    if (answer == COLO_TCP_LEAVE && by_position && !envelope_known(flow, slot))
        answer = COLO_TCP_WAIT;
    return answer;
}

static ColoTcpAnswer check_twin(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoAckPlan *plan)
{
    bool syn = slot->info.flags & COLO_TCP_SYN, rst = slot->info.flags & COLO_TCP_RST;
    bool contradicted = false;

    for (ColoSlot *twin = flow->twins.first; twin; twin = twin->next) {
        if (twin->epoch != slot->epoch || twin->incarnation != slot->incarnation)
            continue;
        if (colo_frame_tcp_twin(slot->data, slot->len, &slot->info, twin->data, twin->len,
                                &twin->info)) {
            if (!syn && !rst && !colo_tcp_plan_ack(flow, slot, plan))
                return COLO_TCP_WAIT;
            colo_slot_remove(store, twin);
            colo_slot_free(store, twin);
            return COLO_TCP_LEAVE;
        }
        contradicted = contradicted || (twin->info.flags & COLO_TCP_SYN);
    }
    return syn && contradicted ? COLO_TCP_DIVERGED_SYN : COLO_TCP_WAIT;
}

ColoTcpAnswer colo_tcp_check(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoAckPlan *plan)
{
    ColoTcpAnswer answer;

    memset(plan, 0, sizeof(*plan));
    plan->ack = slot->info.ack;
    plan->window = slot->info.window;
    if (slot->info.twin)
        return check_twin(store, flow, slot, plan);
    answer = check_segment(flow, slot);
    if (answer == COLO_TCP_LEAVE && !colo_tcp_plan_ack(flow, slot, plan))
        answer = COLO_TCP_WAIT;
    return answer;
}

static void note_released_range(ColoTcpReleased *released, const ColoFrameInfo *info)
{
    uint32_t start = info->seq, end = colo_tcp_end(info);
    bool touches =
        released->valid && colo_seq_beq(start, released->high) && colo_seq_beq(released->low, end);

    if (info->payload_len > 0 || !released->valid) {
        if (!touches) {
            released->low = start;
            released->high = end;
            released->fin = false;
        }
        if (colo_seq_before(start, released->low))
            released->low = start;
        if (colo_seq_before(released->high, end)) {
            released->high = end;
            released->fin = false;
        }
        if (released->high - released->low > COLO_TCP_WINDOW_MAX)
            released->low = released->high - COLO_TCP_WINDOW_MAX;
        released->valid = true;
    }
    if ((info->flags & COLO_TCP_FIN) && end == released->high)
        released->fin = true;
}

/* Payload of the secondary that lies wholly in what has left is history. */
static void retire_stream(ColoStore *store, ColoFlow *flow, const ColoSlot *released_slot)
{
    const ColoTcpReleased *released = &flow->released;
    ColoSlot *slot = flow->stream.first, *next;
    unsigned left = STREAM_SCAN;

    for (; slot && colo_seq_beq(colo_tcp_end(&slot->info), released->high); slot = next) {
        next = slot->next;
        if (slot->epoch == released_slot->epoch &&
            slot->incarnation == released_slot->incarnation &&
            colo_seq_beq(released->low, slot->info.seq))
            colo_slot_retire(store, slot);
        else if (--left == 0)
            return;
    }
}

void colo_tcp_released(ColoStore *store, ColoFlow *flow, const ColoSlot *slot,
                       const ColoAckPlan *plan)
{
    ColoTcpReleased *released = &flow->released;
    const ColoFrameInfo *info = &slot->info;
    bool syn = info->flags & COLO_TCP_SYN;
    uint32_t ack = plan ? plan->ack : info->ack;
    uint16_t window = plan ? plan->window : info->window;

    flow->scan = NULL;
    if (info->flags & COLO_TCP_RST)
        return;
    if (slot->new_connection) {
        memset(released, 0, sizeof(*released));
        flow->base.ack_valid = false;
        flow->base.edge_valid = false;
        released->syn = info->seq;
        colo_flow_forget(store, flow);
        released->valid = true;
        released->low = info->seq + 1;
        released->high = info->seq + 1 + info->payload_len;
        /* Scaling needs both sides' offer (RFC 7323 2.2). A SYN-ACK shows it; of a SYN's answer
         * nothing is seen here. */
        released->scale_known = (info->flags & COLO_TCP_ACK) || info->wscale == COLO_TCP_NO_WSCALE;
        if (released->scale_known && info->wscale != COLO_TCP_NO_WSCALE)
            released->scale = info->wscale;
    } else if (!syn) {
        note_released_range(released, info);
        retire_stream(store, flow, slot);
    }
    released->envelope = info->envelope;
    released->envelope_valid = true;
    if (!(info->flags & COLO_TCP_ACK))
        return;
    colo_tcp_note_edge(released, ack, window,
                       ack + ((uint32_t)window << (syn ? 0 : released->scale)));
}
