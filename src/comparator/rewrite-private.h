/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Within the rewriter: rewrite.c and rewrite-base.c. */
#pragma once

#include "comparator/rewrite.h"

struct ColoRewrite {
    ColoRewriteTable table;
    ColoRewriteSend send;
    void *opaque;
    bool alone;
    uint64_t counters[COLO_REWRITE_COUNTERS];
    uint8_t scratch[COLO_REWRITE_FRAME_MAX];
};

/* What counts of the SYN in @segment of @frame. */
static inline ColoRewriteSyn colo_rewrite_syn_of(const ColoSegment *segment, const uint8_t *frame)
{
    return (ColoRewriteSyn){
        .valid = true,
        .is_answer = segment->flags & COLO_TCP_ACK,
        .ts_valid = segment->ts_at,
        .seq = segment->seq,
        .ack = segment->ack,
        .ts = segment->ts_at ? colo_get32(frame + segment->ts_at) : 0,
    };
}

/* A SYN that @map, made for another one, holds for too: it is repeated; or it is another answer to
 * the same SYN of the other end (a SYN cookie changes with time, RFC 4987 3.6), and the guest takes
 * an ACK of either. */
static inline bool colo_rewrite_is_within(const ColoRewriteMap *map, const ColoRewriteSyn *syn)
{
    return map->valid && (map->syn.seq == syn->seq ||
                          (map->syn.is_answer && syn->is_answer && map->syn.ack == syn->ack));
}

/* The map that would be in force if the guest here went on now, or NULL. */
static inline const ColoRewriteMap *colo_rewrite_map_if_alone(const ColoRewriteEntry *entry)
{
    if (entry->waiting) /* the guest has left the connection before it */
        return NULL;
    if (entry->map.valid)
        return &entry->map;
    return entry->base.valid && !entry->base_over ? &entry->base : NULL;
}
