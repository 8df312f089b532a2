/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What frees held frames without a twin: a commit, sole ownership, being quiesced. */
#include "comparator/compare-private.h"

/* The oldest of the held frames after those that @at, the heads of what is left of each class, has
 * passed; NULL at the end. */
static ColoSlot *next_held(ColoSlot *at[COLO_SKEW_CLASSES])
{
    ColoSlot *slot = NULL;
    unsigned rank = 0;

    for (unsigned i = 0; i < COLO_SKEW_CLASSES; i++) {
        if (at[i] && (!slot || at[i]->now_ns < slot->now_ns)) {
            slot = at[i];
            rank = i;
        }
    }
    if (slot)
        at[rank] = slot->newer;
    return slot;
}

/* Chains the flows that hold primary frames, in the order of their first ones. */
static ColoFlow *flows_with_held(ColoCompare *c)
{
    ColoFlow *first = NULL, **last = &first;
    ColoSlot *at[COLO_SKEW_CLASSES], *slot;

    for (unsigned i = 0; i < COLO_SKEW_CLASSES; i++)
        at[i] = c->store.held[i].first;
    while ((slot = next_held(at))) {
        if (slot->prev)
            continue;
        *last = slot->flow;
        last = &slot->flow->todo;
    }
    *last = NULL;
    return first;
}

/* Forgets the secondary's frames of epochs < @epoch. */
static void forget_secondary(ColoCompare *c, uint64_t epoch)
{
    ColoSlot *slot = c->store.secondary.first, *next;

    for (; slot; slot = next) {
        next = slot->newer;
        if (slot->epoch < epoch)
            colo_compare_discard(c, slot);
    }
}

void colo_compare_commit(ColoCompare *c, uint64_t epoch)
{
    ColoFlow *flow, *next;

    if (epoch <= c->committed)
        return;
    c->committed = epoch;
    forget_secondary(c, epoch);
    for (flow = flows_with_held(c); flow; flow = next) {
        next = flow->todo;
        while (flow->primary.first && flow->primary.first->epoch < epoch)
            colo_compare_let_go(c, flow, COLO_COUNT_RELEASED_COMMIT, NULL);
        colo_tcp_committed(flow, epoch);
        colo_compare_advance(c, flow);
    }
}

/* Every flow empty and unknown, as after colo_compare_new(). */
static void forget_all(ColoCompare *c)
{
    while (c->store.secondary.first)
        colo_compare_discard(c, c->store.secondary.first);
    colo_store_forget(&c->store);
    c->committed = 0;
    c->primary_epoch = 0;
    c->secondary_epoch = 0;
}

void colo_compare_release_all(ColoCompare *c)
{
    ColoFlow *flow, *next;

    for (flow = flows_with_held(c); flow; flow = next) {
        next = flow->todo;
        while (flow->primary.first)
            colo_compare_let_go(c, flow, COLO_COUNT_RELEASED_ALONE, NULL);
    }
    forget_all(c);
}

uint64_t colo_compare_drop_all(ColoCompare *c)
{
    uint64_t dropped = 0;

    for (unsigned i = 0; i < COLO_SKEW_CLASSES; i++) {
        for (ColoSlot *slot; (slot = c->store.held[i].first); dropped++) {
            colo_compare_undiverge(c, slot->flow);
            colo_compare_discard(c, slot);
        }
    }
    c->counters[COLO_COUNT_DROPPED_QUIESCED] += dropped;
    forget_all(c);
    return dropped;
}
