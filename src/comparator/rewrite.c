/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/rewrite-private.h"

#include <stdlib.h>
#include <string.h>

/* Within the timestamp option's data. */
#define TS_ECHO 4u

static const char *const counter_names[COLO_REWRITE_COUNTERS] = {
    [COLO_REWRITE_MAPPED] = "rewrite-mapped",     [COLO_REWRITE_WAITED] = "rewrite-waited",
    [COLO_REWRITE_UNMAPPED] = "rewrite-unmapped", [COLO_REWRITE_OUTPUT] = "rewrite-output",
    [COLO_REWRITE_INPUT] = "rewrite-input",       [COLO_REWRITE_TS_RAISED] = "rewrite-ts-raised",
    [COLO_REWRITE_ENDED] = "rewrite-ended",       [COLO_REWRITE_EXPIRED] = "rewrite-expired",
};

ColoRewrite *colo_rewrite_new(ColoRewriteSend send, void *opaque)
{
    ColoRewrite *rewrite = calloc(1, sizeof(*rewrite));

    if (!rewrite)
        return NULL;
    if (!colo_rewrite_table_init(&rewrite->table)) {
        free(rewrite);
        return NULL;
    }
    rewrite->send = send;
    rewrite->opaque = opaque;
    return rewrite;
}

void colo_rewrite_free(ColoRewrite *rewrite)
{
    if (!rewrite)
        return;
    colo_rewrite_table_clear(&rewrite->table);
    free(rewrite);
}

bool colo_rewrite_is_syn(const uint8_t *frame, size_t len, size_t vnet)
{
    ColoSegment segment;

    return colo_segment_may_be_syn(frame, len, vnet) &&
           colo_segment_read(frame, len, vnet, 0, false, &segment) &&
           (segment.flags & COLO_TCP_SYN);
}

/* The two copies' SYNs of one connection. */
static bool are_counterparts(const ColoRewriteSyn *a, const ColoRewriteSyn *b)
{
    return a->valid && b->valid && a->is_answer == b->is_answer && a->ack == b->ack &&
           a->ts_valid == b->ts_valid;
}

/* What is known of the connection's end belongs to the one before. */
static void begin(ColoRewriteEntry *entry)
{
    entry->established = entry->reset = false;
    entry->next_valid = entry->ack_valid = false;
    entry->fin_out = entry->fin_in = entry->fin_out_acked = entry->fin_in_acked = false;
}

/* The SYNs of both copies are there. */
static void make_map(ColoRewrite *rewrite, ColoRewriteEntry *entry, const ColoRewriteSyn *syn)
{
    const ColoRewriteSyn *primary = &entry->primary;

    entry->map = (ColoRewriteMap){
        .valid = true,
        .syn = *syn,
        .delta = primary->seq - syn->seq,
        .ts_valid = primary->ts_valid,
        .ts_delta = primary->ts - syn->ts,
        .ts_high = primary->ts,
    };
    entry->primary.valid = false;
    begin(entry);
    rewrite->counters[COLO_REWRITE_MAPPED]++;
}

static void note_high(ColoRewriteMap *map, uint32_t ts)
{
    if (map->ts_valid && colo_seq_before(map->ts_high, ts))
        map->ts_high = ts;
}

static void note_echo(ColoRewriteMap *map, uint32_t ts)
{
    if (ts - map->ts_high < COLO_REWRITE_TS_AHEAD)
        note_high(map, ts);
}

/* Copies the frame to where it may be changed. */
static uint8_t *make_copy(ColoRewrite *rewrite, const uint8_t *frame, size_t len)
{
    memcpy(rewrite->scratch, frame, len);
    return rewrite->scratch;
}

static void change_output(uint8_t *frame, const ColoSegment *segment, const ColoRewriteMap *map)
{
    /* A RST with ACK and number 0 answers a segment that had no ACK (RFC 9293 3.5.2): it is no
     * number of the connection. */
    bool bare =
        (segment->flags & COLO_TCP_RST) && (segment->flags & COLO_TCP_ACK) && segment->seq == 0;

    if (!bare)
        colo_segment_add(frame, segment, segment->tcp_at + 4, map->delta);
    if (segment->ts_at && map->ts_valid)
        colo_segment_add(frame, segment, segment->ts_at, map->ts_delta);
}

void colo_rewrite_primary_syn(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame, size_t len,
                              size_t vnet)
{
    ColoRewriteEntry *entry;
    ColoRewriteWaiting *waiting;
    ColoSegment segment;
    ColoRewriteSyn syn;

    if (rewrite->alone || !colo_segment_read(frame, len, vnet, nic, false, &segment) ||
        !(segment.flags & COLO_TCP_SYN))
        return;
    syn = colo_rewrite_syn_of(&segment, frame);
    entry = segment.is_signed ? colo_rewrite_table_find(&rewrite->table, &segment.connection)
                              : colo_rewrite_table_get(&rewrite->table, &segment.connection);
    if (entry && colo_rewrite_is_within(&entry->base, &syn))
        return; /* both copies have that connection */
    if (entry)
        entry->announced = true;
    if (!entry || segment.is_signed) {
        rewrite->counters[COLO_REWRITE_UNMAPPED]++;
        return;
    }
    if (entry->map.valid && entry->map.syn.seq + entry->map.delta == syn.seq) {
        if (syn.ts_valid)
            note_high(&entry->map, syn.ts);
        return;
    }
    if (entry->map.valid && entry->map.syn.is_answer && syn.is_answer &&
        entry->map.syn.ack == syn.ack)
        return; /* a SYN cookie; the map for the first one has been told */
    entry->primary = syn;
    waiting = entry->waiting;
    if (waiting && are_counterparts(&syn, &waiting->syn)) {
        make_map(rewrite, entry, &waiting->syn);
        if (colo_segment_read(waiting->frame, waiting->len, waiting->vnet, nic, false, &segment))
            change_output(waiting->frame, &segment, &entry->map);
        rewrite->send(rewrite->opaque, nic, waiting->frame, waiting->len, waiting->vnet);
        colo_rewrite_table_unwait(&rewrite->table, entry);
    }
}

/* Keeps the guest's SYN until the primary's comes. False when it cannot. */
static bool keep_syn(ColoRewrite *rewrite, ColoRewriteEntry *entry, const ColoRewriteSyn *syn,
                     const uint8_t *frame, size_t len, size_t vnet)
{
    ColoRewriteWaiting *waiting;

    if (len > COLO_REWRITE_SYN_BYTES)
        return false;
    waiting = colo_rewrite_table_wait(&rewrite->table, entry);
    if (!waiting)
        return false;
    waiting->syn = *syn;
    waiting->len = len;
    waiting->vnet = vnet;
    memcpy(waiting->frame, frame, len);
    rewrite->counters[COLO_REWRITE_WAITED]++;
    return true;
}

static void forget(ColoRewrite *rewrite, ColoRewriteEntry *entry, ColoRewriteCounter why)
{
    rewrite->counters[why]++;
    colo_rewrite_table_remove(&rewrite->table, entry);
}

/* A SYN of the guest here. False: it waits. */
static bool guest_syn(ColoRewrite *rewrite, const ColoSegment *segment, const uint8_t *frame,
                      size_t len, size_t vnet)
{
    ColoRewriteEntry *entry = colo_rewrite_table_find(&rewrite->table, &segment->connection);
    ColoRewriteSyn syn = colo_rewrite_syn_of(segment, frame);

    if (entry &&
        (colo_rewrite_is_within(&entry->map, &syn) || colo_rewrite_is_within(&entry->base, &syn)))
        return true;
    if (rewrite->alone) { /* its own number is what the other end learns */
        if (entry)
            forget(rewrite, entry, COLO_REWRITE_ENDED);
        return true;
    }
    if (!entry && !segment->is_signed)
        entry = colo_rewrite_table_get(&rewrite->table, &segment->connection);
    if (entry) {
        entry->base_over = true;
        if (!segment->is_signed && are_counterparts(&entry->primary, &syn)) {
            colo_rewrite_table_unwait(&rewrite->table, entry);
            make_map(rewrite, entry, &syn);
            return true;
        }
        if (!segment->is_signed && keep_syn(rewrite, entry, &syn, frame, len, vnet))
            return false;
        colo_rewrite_table_unwait(&rewrite->table, entry);
        entry->map.valid = false; /* the guest has left that connection */
    }
    rewrite->counters[COLO_REWRITE_UNMAPPED]++;
    return true;
}

/* What the guest's segment tells about the end of its connection. True: it ended just now. */
static bool track_output(ColoRewriteEntry *entry, const ColoSegment *segment, uint64_t now_ns)
{
    uint32_t end = segment->seq + segment->length;

    entry->seen_ns = now_ns;
    if (segment->flags & COLO_TCP_RST) {
        /* A RST elsewhere answers a segment that fits nothing; the connection may live. */
        entry->reset = entry->next_valid && entry->next == segment->seq;
        return entry->reset;
    }
    if (!entry->next_valid || colo_seq_before(entry->next, end))
        entry->next = end;
    entry->next_valid = true;
    if (segment->flags & COLO_TCP_ACK) {
        if (!entry->ack_valid || colo_seq_before(entry->ack, segment->ack))
            entry->ack = segment->ack;
        entry->ack_valid = true;
    }
    if (segment->flags & COLO_TCP_FIN) {
        entry->fin_out = true;
        entry->fin_out_end = end;
    }
    if (entry->fin_in && entry->ack_valid && colo_seq_beq(entry->fin_in_end, entry->ack))
        entry->fin_in_acked = true;
    return false;
}

/* The same for what the other end sent; @segment is in the guest's numbers. */
static bool track_input(ColoRewriteEntry *entry, const ColoSegment *segment, uint64_t now_ns)
{
    entry->seen_ns = now_ns;
    if (segment->flags & COLO_TCP_RST) {
        /* Only this one is obeyed at once (RFC 5961 3.2). */
        entry->reset = entry->ack_valid && entry->ack == segment->seq;
        return entry->reset;
    }
    if (!(segment->flags & COLO_TCP_ACK))
        return false;
    if (!(segment->flags & COLO_TCP_SYN))
        entry->established = true;
    if (segment->flags & COLO_TCP_FIN) {
        entry->fin_in = true;
        entry->fin_in_end = segment->seq + segment->length;
    }
    if (entry->fin_out && colo_seq_beq(entry->fin_out_end, segment->ack))
        entry->fin_out_acked = true;
    return false;
}

/* The TSval @ts of the guest's segment leaves: not lower than what may have left before. */
static void note_ts(ColoRewrite *rewrite, ColoRewriteMap *map, uint32_t ts)
{
    uint32_t least = map->ts_high + COLO_REWRITE_TS_MARGIN, now = ts + map->ts_delta;

    if (!map->ts_valid)
        return;
    if (rewrite->alone && !map->ts_raised) {
        map->ts_raised = true;
        map->ts_before = map->ts_delta;
        map->ts_split = now;
        if (colo_seq_before(now, least)) {
            map->ts_delta = least - ts;
            map->ts_split = least;
            rewrite->counters[COLO_REWRITE_TS_RAISED]++;
        }
        now = ts + map->ts_delta;
    }
    note_high(map, now);
}

const uint8_t *colo_rewrite_output(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame,
                                   size_t len, size_t vnet, uint64_t now_ns)
{
    ColoRewriteEntry *entry;
    ColoRewriteMap *map;
    ColoSegment segment;
    uint8_t *copy;
    bool ended;

    if (rewrite->table.count == 0 && !colo_segment_may_be_syn(frame, len, vnet))
        return frame;
    if (len > COLO_REWRITE_FRAME_MAX || !colo_segment_read(frame, len, vnet, nic, false, &segment))
        return frame;
    if ((segment.flags & COLO_TCP_SYN) && !guest_syn(rewrite, &segment, frame, len, vnet))
        return NULL;
    entry = colo_rewrite_table_find(&rewrite->table, &segment.connection);
    if (!entry)
        return frame;
    ended = track_output(entry, &segment, now_ns);
    map = entry->map.valid ? &entry->map : NULL;
    if (!map) {
        if (entry->base.valid && segment.ts_at)
            note_high(&entry->base, colo_get32(frame + segment.ts_at) + entry->base.ts_delta);
        return frame;
    }
    if (segment.ts_at)
        note_ts(rewrite, map, colo_get32(frame + segment.ts_at));
    copy = make_copy(rewrite, frame, len);
    change_output(copy, &segment, map);
    rewrite->counters[COLO_REWRITE_OUTPUT]++;
    if (rewrite->alone && ended)
        forget(rewrite, entry, COLO_REWRITE_ENDED);
    return copy;
}

/* The numbers of @frame that speak of what the guest sent. */
static void change_input(uint8_t *frame, const ColoSegment *segment, const ColoRewriteMap *map)
{
    colo_segment_add(frame, segment, segment->tcp_at + 8, -map->delta);
    for (uint32_t i = 0; i < segment->sacks * 2u; i++)
        colo_segment_add(frame, segment, segment->sack_at + i * 4, -map->delta);
    if (segment->ts_at && map->ts_valid) {
        uint32_t echo = colo_get32(frame + segment->ts_at + TS_ECHO);
        bool old = map->ts_raised && colo_seq_before(echo, map->ts_split);

        colo_segment_add(frame, segment, segment->ts_at + TS_ECHO,
                         -(old ? map->ts_before : map->ts_delta));
    }
}

/* The guest believes an ICMP error only when it quotes a number that it sent (RFC 5927 4.1): path
 * MTU discovery needs them. */
static const uint8_t *change_quote(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame,
                                   size_t len, size_t vnet)
{
    ColoRewriteEntry *entry;
    ColoQuote quote;
    uint8_t *copy;

    if (!colo_segment_read_quote(frame, len, vnet, nic, &quote))
        return frame;
    entry = colo_rewrite_table_find(&rewrite->table, &quote.connection);
    if (!entry || !entry->map.valid)
        return frame;
    copy = make_copy(rewrite, frame, len);
    colo_segment_add_quote(copy, &quote, -entry->map.delta);
    rewrite->counters[COLO_REWRITE_INPUT]++;
    return copy;
}

const uint8_t *colo_rewrite_input(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame,
                                  size_t len, size_t vnet, uint64_t now_ns)
{
    ColoRewriteEntry *entry;
    ColoRewriteMap *map;
    ColoSegment segment;
    uint8_t *copy;
    bool ended;

    if (rewrite->table.count == 0 || len > COLO_REWRITE_FRAME_MAX)
        return frame;
    if (!colo_segment_read(frame, len, vnet, nic, true, &segment))
        return change_quote(rewrite, nic, frame, len, vnet);
    entry = colo_rewrite_table_find(&rewrite->table, &segment.connection);
    if (!entry)
        return frame;
    map = entry->map.valid ? &entry->map : NULL;
    if (map && (segment.flags & COLO_TCP_ACK))
        segment.ack -= map->delta;
    ended = track_input(entry, &segment, now_ns);
    if (!map || !(segment.flags & COLO_TCP_ACK)) {
        if (map && rewrite->alone && ended)
            forget(rewrite, entry, COLO_REWRITE_ENDED);
        return frame;
    }
    if (segment.ts_at)
        note_echo(map, colo_get32(frame + segment.ts_at + TS_ECHO));
    copy = make_copy(rewrite, frame, len);
    change_input(copy, &segment, map);
    rewrite->counters[COLO_REWRITE_INPUT]++;
    if (rewrite->alone && ended)
        forget(rewrite, entry, COLO_REWRITE_ENDED);
    return copy;
}

void colo_rewrite_loaded(ColoRewrite *rewrite)
{
    ColoRewriteEntry *entry = NULL;

    while (rewrite->table.count > 0 && (entry = colo_rewrite_table_next(&rewrite->table, entry))) {
        if (entry->announced) /* that is what the checkpoint holds */
            entry->base.valid = false;
        if (!entry->base.valid) {
            colo_rewrite_table_remove(&rewrite->table, entry);
            continue;
        }
        colo_rewrite_table_unwait(&rewrite->table, entry);
        entry->map.valid = entry->primary.valid = entry->base_over = false;
    }
}

void colo_rewrite_alone(ColoRewrite *rewrite)
{
    ColoRewriteEntry *entry = NULL;

    rewrite->alone = true;
    while (rewrite->table.count > 0 && (entry = colo_rewrite_table_next(&rewrite->table, entry))) {
        const ColoRewriteMap *map = colo_rewrite_map_if_alone(entry);

        /* What answers after a RST takes its number from what it answers. */
        if (!map || entry->reset) {
            colo_rewrite_table_remove(&rewrite->table, entry);
            continue;
        }
        if (map == &entry->base)
            entry->map = entry->base;
        entry->base.valid = false;
    }
}

void colo_rewrite_expire(ColoRewrite *rewrite, uint64_t now_ns)
{
    ColoRewriteEntry *entry = NULL;

    while (rewrite->table.count > 0 && (entry = colo_rewrite_table_next(&rewrite->table, entry))) {
        bool open = entry->established && !(entry->fin_out_acked && entry->fin_in_acked);
        uint64_t limit = open ? COLO_REWRITE_IDLE_NS : COLO_REWRITE_TRANSITORY_NS;

        /* Before it is alone, only what an earlier session left can get old. */
        if ((rewrite->alone || (entry->base.valid && !entry->announced)) &&
            now_ns > entry->seen_ns && now_ns - entry->seen_ns > limit)
            forget(rewrite, entry, COLO_REWRITE_EXPIRED);
    }
}

uint32_t colo_rewrite_live(const ColoRewrite *rewrite)
{
    const ColoRewriteEntry *entry = NULL;
    uint32_t live = 0;

    if (rewrite->alone)
        return rewrite->table.count;
    while ((entry = colo_rewrite_table_next(&rewrite->table, entry)))
        live += colo_rewrite_map_if_alone(entry) && !entry->reset;
    return live;
}

uint64_t colo_rewrite_counter(const ColoRewrite *rewrite, ColoRewriteCounter which)
{
    return which < COLO_REWRITE_COUNTERS ? rewrite->counters[which] : 0;
}

const char *colo_rewrite_counter_name(ColoRewriteCounter which)
{
    return which < COLO_REWRITE_COUNTERS ? counter_names[which] : NULL;
}
