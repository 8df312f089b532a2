/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the compare core tells: counters, what is held, and until when it may wait. */
#include "comparator/compare-private.h"

static const char *const counter_names[COLO_COUNT_LAST] = {
    [COLO_COUNT_PRIMARY_FRAMES] = "primary-frames",
    [COLO_COUNT_SECONDARY_FRAMES] = "secondary-frames",
    [COLO_COUNT_RELEASED_EQUAL] = "released-equal",
    [COLO_COUNT_RELEASED_COMMIT] = "released-commit",
    [COLO_COUNT_RELEASED_ALONE] = "released-alone",
    [COLO_COUNT_DIVERGED_PAYLOAD] = "diverged-payload",
    [COLO_COUNT_DIVERGED_FLAGS] = "diverged-flags",
    [COLO_COUNT_DIVERGED_SYN] = "diverged-syn",
    [COLO_COUNT_DIVERGED_CONTENT] = "diverged-content",
    [COLO_COUNT_DIVERGED_FRAGMENT] = "diverged-fragment",
    [COLO_COUNT_DROPPED_STALE] = "dropped-stale",
    [COLO_COUNT_DROPPED_MALFORMED] = "dropped-malformed",
    [COLO_COUNT_DROPPED_FAR] = "dropped-far",
    [COLO_COUNT_FULL_FRAMES] = "full-frames",
    [COLO_COUNT_FULL_FLOWS] = "full-flows",
    [COLO_COUNT_FULL_FLOW] = "full-flow",
    [COLO_COUNT_EVICTED_FLOWS] = "evicted-flows",
    [COLO_COUNT_DROPPED_QUIESCED] = "dropped-quiesced",
    [COLO_COUNT_CLAMPED_ACK] = "clamped-ack",
    [COLO_COUNT_NARROWED_WINDOW] = "narrowed-window",
    [COLO_COUNT_STRIPPED_SACK] = "stripped-sack",
    [COLO_COUNT_OWED_ACK] = "owed-ack",
};

bool colo_compare_diverged(const ColoCompare *c)
{
    return c->diverged > 0;
}

uint64_t colo_compare_oldest_ns(const ColoCompare *c)
{
    uint64_t oldest = 0;

    for (uint32_t ranks = c->store.held_ranks; ranks; ranks &= ranks - 1) {
        uint64_t one = c->store.held[__builtin_ctz(ranks)].first->now_ns;

        if (!oldest || one < oldest)
            oldest = one;
    }
    return oldest;
}

uint64_t colo_compare_due_ns(const ColoCompare *c, uint64_t most_ns)
{
    uint64_t due = 0;

    for (uint32_t ranks = c->store.held_ranks; ranks; ranks &= ranks - 1) {
        unsigned rank = (unsigned)__builtin_ctz(ranks);
        uint64_t limit = c->store.skew.limits_ns[rank];
        uint64_t one = c->store.held[rank].first->now_ns + (limit < most_ns ? limit : most_ns);

        if (!due || one < due)
            due = one;
    }
    return due;
}

void colo_compare_late(ColoCompare *c, uint64_t now_ns, uint64_t most_ns)
{
    for (uint32_t ranks = c->store.held_ranks; ranks; ranks &= ranks - 1) {
        unsigned rank = (unsigned)__builtin_ctz(ranks);
        ColoSlot *slot = c->store.held[rank].first;
        uint64_t limit = c->store.skew.limits_ns[rank];

        /* What it waited beyond its limit, for a period's end, says nothing of its twin. */
        if (!slot->flow->diverged && now_ns >= slot->now_ns + limit)
            colo_compare_learn(c, slot->flow, limit < most_ns ? limit : most_ns);
    }
}

void colo_compare_set_unanswered(ColoCompare *c, uint64_t min_ns, uint64_t max_ns)
{
    colo_skew_set_bounds(&c->store.skew, min_ns, max_ns);
}

void colo_compare_skew(const ColoCompare *c, uint64_t *mean_ns, uint64_t *dev_ns,
                       uint64_t *limit_ns)
{
    const ColoSkewDomain *domain = &c->store.skew;

    *mean_ns = colo_skew_mean_ns(&domain->skew);
    *dev_ns = colo_skew_dev_ns(&domain->skew);
    *limit_ns = domain->limits_ns[domain->rank];
}

void colo_compare_held(const ColoCompare *c, uint64_t *frames, uint64_t *bytes)
{
    if (frames)
        *frames = c->store.held_frames;
    if (bytes)
        *bytes = c->store.held_bytes;
}

uint64_t colo_compare_counter(const ColoCompare *c, ColoCompareCounter which)
{
    if (which == COLO_COUNT_EVICTED_FLOWS)
        return c->store.evicted;
    return which < COLO_COUNT_LAST ? c->counters[which] : 0;
}

const char *colo_compare_counter_name(ColoCompareCounter which)
{
    return which < COLO_COUNT_LAST ? counter_names[which] : NULL;
}
