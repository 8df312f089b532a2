/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a segment acknowledges: I1's second half. Rules in tcp.h. */
#include "comparator/tcp.h"

#include <string.h>

#define TCP_ACK_AT 8u
#define TCP_FLAGS_AT 13u
#define TCP_WINDOW_AT 14u
#define TCP_CHECKSUM_AT 16u
#define TCP_URGENT_AT 18u
#define OPT_NOP 1u
#define WINDOW_MAX 65535u
#define IP_PROTO_TCP 6u
#define IPV6_HEADER 40u

/* The highest acknowledgement that @slot may carry; false when none is known. What left already
 * may leave again. */
static bool ack_limit(const ColoFlow *flow, const ColoSlot *slot, uint32_t *limit)
{
    bool valid = flow->base.ack_valid;

    if (valid)
        *limit = flow->base.ack;
    if (colo_tcp_same_time(&flow->secondary, slot) && flow->secondary.ack_valid &&
        (!valid || colo_tcp_ack_grows(*limit, flow->secondary.ack))) {
        *limit = flow->secondary.ack;
        valid = true;
    }
    if (flow->released.ack_valid && (!valid || colo_tcp_ack_grows(*limit, flow->released.ack))) {
        *limit = flow->released.ack;
        valid = true;
    }
    return valid;
}

/* Every SACK block of @slot lies below @limit or in what the secondary acknowledged selectively. */
static bool sacks_covered(const ColoFlow *flow, const ColoSlot *slot, uint32_t limit)
{
    const ColoTcpSecondary *secondary = &flow->secondary;
    bool usable = colo_tcp_same_time(secondary, slot);

    for (unsigned i = 0; i < slot->info.sacks; i++) {
        const uint8_t *block = slot->data + slot->info.sack_at + 2 + (size_t)i * 8;
        uint32_t left = colo_get32(block), right = colo_get32(block + 4);
        bool covered = colo_seq_beq(left, right) && colo_seq_beq(right, limit);

        for (unsigned j = 0; usable && !covered && j < secondary->sacks; j++)
            covered = colo_seq_beq(flow->sack[j][0], left) && colo_seq_beq(left, right) &&
                      colo_seq_beq(right, flow->sack[j][1]);
        if (!covered)
            return false;
    }
    return true;
}

/*
 * Clamps @plan to @limit. The acknowledgement goes down by whole units of the window's scale and
 * the window up by as many, which leaves the right edge where the primary put it, without rounding.
 * Below what left before it does not go: then it stays there, and the edge is rounded down. False
 * when what left before reached further than the edge can.
 */
static bool clamp(const ColoTcpReleased *released, const ColoFrameInfo *info, uint32_t limit,
                  ColoAckPlan *plan)
{
    uint32_t unit = 1u << released->scale, units;

    plan->clamp = true;
    plan->owe = true;
    if (!released->scale_known) {
        /* Whatever the scale, no fewer units from no earlier a start end no earlier. */
        plan->ack = limit;
        return released->ack_valid && colo_seq_beq(released->ack, limit) &&
               info->window >= released->window;
    }
    units = (info->ack - limit + unit - 1) >> released->scale;
    plan->ack = info->ack - (units << released->scale);
    if (released->ack_valid && colo_seq_before(plan->ack, released->ack)) {
        units--;
    } else if (units + info->window <= WINDOW_MAX) {
        plan->window = (uint16_t)(units + info->window);
        return true;
    }
    plan->ack = limit;
    plan->window =
        units + info->window < WINDOW_MAX ? (uint16_t)(units + info->window) : (uint16_t)WINDOW_MAX;
    return released->edge_valid &&
           !colo_seq_before(plan->ack + ((uint32_t)plan->window << released->scale),
                            released->edge);
}

/*
 * Narrows the window of @plan to the furthest right edge that the secondary has, or that left
 * before, never below the latter. Where the field is too coarse for that the acknowledgement goes
 * down by less than a unit; where not even that can be had the edge is rounded up, once, for the
 * next segments find it aligned. False when a pure ACK (not @carries) would leave the peer too
 * little, or say nothing new.
 */
static bool narrow(const ColoFlow *flow, const ColoSlot *slot, bool carries, ColoAckPlan *plan)
{
    const ColoTcpReleased *released = &flow->released;
    const ColoTcpSecondary *secondary = &flow->secondary;
    uint32_t edge = released->edge, left = 0, unit = 1u << released->scale, down;

    if (!released->scale_known || !released->edge_valid)
        return true;
    if (colo_tcp_same_time(secondary, slot) && secondary->window_valid &&
        colo_seq_before(edge, secondary->ack + ((uint32_t)secondary->window << released->scale)))
        edge = secondary->ack + ((uint32_t)secondary->window << released->scale);
    if (flow->base.edge_valid && colo_seq_before(edge, flow->base.edge))
        edge = flow->base.edge;
    if (!colo_seq_before(edge, plan->ack + ((uint32_t)plan->window << released->scale)))
        return true;
    if (colo_seq_before(plan->ack, edge))
        left = edge - plan->ack;
    plan->narrow = true;
    plan->window = (uint16_t)(left >> released->scale);
    plan->owe = plan->owe || left < COLO_TCP_WINDOW_LOW;
    if (!carries && left < COLO_TCP_WINDOW_LOW)
        return false;
    if (!colo_seq_before(plan->ack + ((uint32_t)plan->window << released->scale), released->edge))
        return true;
    down = unit - (left & (unit - 1));
    if (colo_seq_before(plan->ack - down, released->ack))
        down = plan->ack - released->ack;
    if ((left + down) & (unit - 1)) {
        plan->window++;
        return true;
    }
    plan->clamp = true;
    plan->owe = true;
    plan->ack -= down;
    plan->window = (uint16_t)((left + down) >> released->scale);
    return carries || plan->ack != released->ack;
}

bool colo_tcp_plan_ack(const ColoFlow *flow, const ColoSlot *slot, ColoAckPlan *plan)
{
    const ColoFrameInfo *info = &slot->info;
    bool carries = info->payload_len > 0 || (info->flags & COLO_TCP_FIN);
    uint32_t limit = 0;

    memset(plan, 0, sizeof(*plan));
    plan->ack = info->ack;
    plan->window = info->window;
    if (!(info->flags & COLO_TCP_ACK))
        return true;
    if (!ack_limit(flow, slot, &limit))
        return false;
    if (!colo_tcp_ack_grows(info->ack - 1, limit) && !colo_tcp_ack_grows(limit, info->ack))
        return false;
    if (!colo_seq_beq(info->ack, limit)) {
        /* An unusual segment may be signed (RFC 5925): it is never changed. */
        if (!carries || info->twin)
            return false;
        if (!clamp(&flow->released, info, limit, plan))
            return false;
    }
    if (info->twin)
        return true;
    if (!narrow(flow, slot, carries, plan))
        return false;
    if (!sacks_covered(flow, slot, limit)) {
        if (!carries)
            return false;
        plan->strip_sack = true;
    }
    return true;
}

void colo_tcp_note_sack(ColoFlow *flow, const ColoSlot *slot)
{
    ColoTcpSecondary *secondary = &flow->secondary;

    for (unsigned i = 0; i < slot->info.sacks; i++) {
        const uint8_t *block = slot->data + slot->info.sack_at + 2 + (size_t)i * 8;
        uint32_t left = colo_get32(block), right = colo_get32(block + 4);
        unsigned kept = 0;

        if (!colo_seq_before(left, right) ||
            (secondary->ack_valid && colo_seq_beq(right, secondary->ack)))
            continue;
        /* Joins every range that it touches; those that are acknowledged by now go. */
        for (unsigned j = 0; j < secondary->sacks; j++) {
            uint32_t l = flow->sack[j][0], r = flow->sack[j][1];

            if (secondary->ack_valid && colo_seq_beq(r, secondary->ack))
                continue;
            if (colo_seq_beq(l, right) && colo_seq_beq(left, r)) {
                left = colo_seq_before(l, left) ? l : left;
                right = colo_seq_before(right, r) ? r : right;
                continue;
            }
            flow->sack[kept][0] = l;
            flow->sack[kept++][1] = r;
        }
        if (kept == COLO_SACK_RANGES) { /* the oldest gives way */
            memmove(flow->sack[0], flow->sack[1], (COLO_SACK_RANGES - 1) * sizeof(flow->sack[0]));
            kept--;
        }
        flow->sack[kept][0] = left;
        flow->sack[kept++][1] = right;
        secondary->sacks = (uint8_t)kept;
    }
}

/* One's complement sum of @len bytes (RFC 1071) added to @sum, not folded. */
static uint32_t sum_bytes(uint32_t sum, const uint8_t *p, size_t len)
{
    for (; len > 1; len -= 2, p += 2)
        sum += colo_get16(p);
    return len ? sum + ((uint32_t)p[0] << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Overwrites @len bytes at @at of the TCP header; @adjust: with the checksum, by RFC 1624
 * equation 3, over the 16-bit words that the bytes touch. */
static void rewrite(uint8_t *tcp, size_t at, const uint8_t *bytes, size_t len, bool adjust)
{
    size_t from = at & ~(size_t)1, to = (at + len + 1) & ~(size_t)1;
    uint32_t sum = (uint16_t)~colo_get16(tcp + TCP_CHECKSUM_AT);

    for (size_t i = from; i < to; i += 2)
        sum += (uint16_t)~colo_get16(tcp + i);
    memcpy(tcp + at, bytes, len);
    if (!adjust)
        return;
    sum = sum_bytes(sum, tcp + from, to - from);
    colo_put16(tcp + TCP_CHECKSUM_AT, (uint16_t)~fold(sum));
}

void colo_tcp_apply_plan(uint8_t *frame, size_t vnet, const ColoFrameInfo *info,
                         const ColoAckPlan *plan)
{
    bool adjust = !(vnet >= COLO_VNET_MIN && (frame[COLO_VNET_FLAGS] & COLO_VNET_NEEDS_CSUM));
    uint8_t *tcp = frame + info->tcp_at;
    uint8_t field[40];

    if (plan->clamp) {
        colo_put32(field, plan->ack);
        rewrite(tcp, TCP_ACK_AT, field, 4, adjust);
    }
    if (plan->clamp || plan->narrow) {
        colo_put16(field, plan->window);
        rewrite(tcp, TCP_WINDOW_AT, field, 2, adjust);
    }
    if (plan->strip_sack) {
        memset(field, OPT_NOP, sizeof(field));
        rewrite(tcp, info->sack_at - info->tcp_at, field, 2 + (size_t)info->sacks * 8, adjust);
    }
}

void colo_tcp_make_owed_ack(ColoSlot *ack, const ColoSlot *slot, const uint8_t *frame)
{
    const ColoFrameInfo *info = &slot->info;
    size_t ihl = info->envelope.ihl;
    uint8_t *data = ack->data, *ip = data + info->tcp_at - ihl, *tcp = data + info->tcp_at;
    uint32_t sum;

    memcpy(data, frame, info->payload_at);
    memset(data, 0, slot->vnet); /* no offload */
    ack->len = info->payload_at;
    ack->vnet = slot->vnet;
    ack->epoch = slot->epoch;
    ack->now_ns = slot->now_ns;
    ack->incarnation = slot->incarnation;
    ack->matched = 0;
    ack->uncompared = false;
    ack->synthetic = true;
    ack->usual = false;
    ack->new_connection = false;
    ack->info = *info;
    ack->info.payload_len = 0;
    ack->info.seq = colo_tcp_end(info) + (info->flags & COLO_TCP_FIN ? 1 : 0);
    ack->info.flags = COLO_TCP_ACK;
    if (info->sack_at)
        memset(data + info->sack_at, OPT_NOP, 2 + (size_t)info->sacks * 8);
    ack->info.sack_at = 0;
    ack->info.sacks = 0;

    /* Pseudo-headers (RFC 9293 3.1, RFC 8200 8.1): addresses, protocol, length. */
    sum = IP_PROTO_TCP + info->header_len;
    if (info->envelope.flags == COLO_ENVELOPE_IPV6) {
        colo_put16(ip + 4, (uint16_t)(ihl - IPV6_HEADER + info->header_len));
        sum = sum_bytes(sum, ip + 8, 32);
    } else {
        colo_put16(ip + 2, (uint16_t)(ihl + info->header_len));
        colo_put16(ip + 10, 0);
        colo_put16(ip + 10, (uint16_t)~fold(sum_bytes(0, ip, ihl)));
        sum = sum_bytes(sum, ip + 12, 8);
    }
    colo_put32(tcp + 4, ack->info.seq);
    colo_put32(tcp + TCP_ACK_AT, info->ack);
    tcp[TCP_FLAGS_AT] = COLO_TCP_ACK;
    colo_put16(tcp + TCP_WINDOW_AT, info->window);
    colo_put16(tcp + TCP_CHECKSUM_AT, 0);
    colo_put16(tcp + TCP_URGENT_AT, 0);
    colo_put16(tcp + TCP_CHECKSUM_AT, (uint16_t)~fold(sum_bytes(sum, tcp, info->header_len)));
}
