/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rows of the rewriter that go from a survivor to its new secondary, and what ends them there. */
#include "comparator/rewrite-private.h"

/* The connection of an earlier session is over, also in every state that can still come. */
static void drop_base(ColoRewrite *rewrite, ColoRewriteEntry *entry)
{
    entry->base.valid = false;
    if (!entry->map.valid && !entry->primary.valid && !entry->waiting)
        colo_rewrite_table_remove(&rewrite->table, entry);
}

void colo_rewrite_late_syn(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame, size_t len,
                           size_t vnet, bool loaded)
{
    ColoRewriteEntry *entry;
    ColoSegment segment;
    ColoRewriteSyn syn;

    if (rewrite->alone || !colo_segment_read(frame, len, vnet, nic, false, &segment) ||
        !(segment.flags & COLO_TCP_SYN))
        return;
    syn = colo_rewrite_syn_of(&segment, frame);
    entry = colo_rewrite_table_find(&rewrite->table, &segment.connection);
    if (!entry || !entry->base.valid || colo_rewrite_is_within(&entry->base, &syn))
        return;
    if (loaded)
        drop_base(rewrite, entry);
    else
        entry->announced = true;
}

uint32_t colo_rewrite_export(const ColoRewrite *rewrite, ColoRewriteRow *rows, uint32_t max)
{
    const ColoRewriteEntry *entry = NULL;
    uint32_t n = 0;

    while (n < max && (entry = colo_rewrite_table_next(&rewrite->table, entry))) {
        const ColoRewriteMap *map = colo_rewrite_map_if_alone(entry);
        uint32_t margin;

        if (!map || entry->reset)
            continue;
        margin = map->ts_raised ? 0 : COLO_REWRITE_TS_MARGIN; /* it will be */
        rows[n++] = (ColoRewriteRow){
            .connection = entry->connection,
            .isn = map->syn.seq,
            .delta = map->delta,
            .ts_valid = map->ts_valid,
            .ts_delta = map->ts_valid ? map->ts_delta + margin : 0,
            .ts_high = map->ts_valid ? map->ts_high + margin : 0,
        };
    }
    return n;
}

bool colo_rewrite_import(ColoRewrite *rewrite, const ColoRewriteRow *row, uint64_t now_ns)
{
    ColoRewriteEntry *entry;

    if (rewrite->alone || colo_rewrite_table_find(&rewrite->table, &row->connection))
        return false;
    entry = colo_rewrite_table_get(&rewrite->table, &row->connection);
    if (!entry)
        return false;
    entry->established = true;
    entry->seen_ns = now_ns;
    entry->base = (ColoRewriteMap){
        .valid = true,
        .syn = {.valid = true, .seq = row->isn},
        .delta = row->delta,
        .ts_valid = row->ts_valid,
        .ts_delta = row->ts_delta,
        .ts_high = row->ts_high,
    };
    return true;
}

void colo_rewrite_keep(ColoRewrite *rewrite, const ColoRewriteRow *rows, uint32_t n)
{
    ColoRewriteEntry *entry = NULL;

    for (uint32_t i = 0; i < n; i++) {
        entry = colo_rewrite_table_find(&rewrite->table, &rows[i].connection);
        if (entry && entry->base.valid && entry->base.syn.seq == rows[i].isn)
            entry->base_kept = true;
    }
    entry = NULL;
    while (rewrite->table.count > 0 && (entry = colo_rewrite_table_next(&rewrite->table, entry))) {
        if (entry->base.valid && !entry->base_kept)
            drop_base(rewrite, entry);
        else
            entry->base_kept = false;
    }
}
