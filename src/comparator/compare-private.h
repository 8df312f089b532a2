/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the compare core share: compare.c (feeding), compare-commit.c (what frees
 * frames without a twin), compare-report.c (what it tells). */
#pragma once

#include "comparator/compare.h"
#include "comparator/tcp.h"

struct ColoCompare {
    ColoStore store;
    ColoReleaseFunc release;
    void *opaque;
    bool comparing;
    bool long_way;            /* of tests: see tcp.h */
    uint64_t committed;       /* newest epoch of colo_compare_commit() */
    uint64_t primary_epoch;   /* newest seen */
    uint64_t secondary_epoch; /* newest seen */
    uint32_t diverged;        /* flows */
    uint64_t now_ns;          /* of the frame that is being fed */
    uint64_t counters[COLO_COUNT_LAST];
    uint8_t scratch[COLO_COMPARE_FRAME_MAX]; /* a copy to change, of a frame that is not stored */
};

/* The first held frame of @flow leaves, for the reason that @why counts, changed as @plan (NULL:
 * not at all) says. */
void colo_compare_let_go(ColoCompare *c, ColoFlow *flow, ColoCompareCounter why,
                         const ColoAckPlan *plan);

/* Lets go of as many frames of @flow as may leave. */
void colo_compare_advance(ColoCompare *c, ColoFlow *flow);

/* The contradiction is gone: the frame that it was about leaves or is dropped. */
static inline void colo_compare_undiverge(ColoCompare *c, ColoFlow *flow)
{
    if (flow->diverged) {
        flow->diverged = false;
        c->diverged--;
    }
}

/* A frame of @flow has waited so long for its twin. */
static inline void colo_compare_learn(ColoCompare *c, ColoFlow *flow, uint64_t waited_ns)
{
    ColoSkewDomain *domain = &c->store.skew;

    colo_skew_sample(&flow->skew, waited_ns);
    flow->rank = colo_skew_class(domain, &flow->skew);
    colo_skew_sample(&domain->skew, waited_ns);
    domain->rank = colo_skew_class(domain, &domain->skew);
}

static inline void colo_compare_discard(ColoCompare *c, ColoSlot *slot)
{
    colo_slot_remove(&c->store, slot);
    colo_slot_free(&c->store, slot);
}
