/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the primary may force a checkpoint because the copies' output differs or is missing. A pure
 * state machine: the caller tells the time (monotonic ns) and what happens.
 *
 * "compare": at once. Right as long as the output agrees mostly: what differs leaves after one
 * pause. When it differs all the time each packet costs a pause and the guest hardly runs. So after
 * a window of checkpoints of which most were forced by output, with pauses that took more of the
 * time than the operator allows, the domain goes
 *
 * "periodic": at most one forced checkpoint a period, which frees all that waits (as Remus does;
 * Cully et al., Remus, NSDI 2008); when nothing agrees any more (patience.h), without waiting for a
 * difference. Output is compared all the same, and
 * what agrees leaves at once; a period that has nothing to free is not begun, so a single packet
 * after a quiet time waits for one pause only. The period is the smoothed pause divided by the
 * share that pauses may take, within bounds. A packet that always differs waits for the rest of a
 * period and for the pause at the beginning of the next: with a share of one half that is two
 * pauses, with a third three.
 *
 * When nothing has differed for some periods and a second, it goes back. A domain that comes again
 * soon after it went back stays longer each time, so that it does not go to and fro.
 */
#pragma once

#include "util/tuning.h"

#include <stdbool.h>

/* Checkpoints that are looked back on: enough that a burst of some connections is none. */
#define COLO_POLICY_WINDOW 16u
/* Of these so many were forced by output: three quarters, the rest by time or by a full queue. */
#define COLO_POLICY_FORCED 12u
/* Without a difference for so many periods, and for this time at least: it agrees again. */
#define COLO_POLICY_AGREE_PERIODS 8u
#define COLO_POLICY_AGREE_NS UINT64_C(1000000000)
/* The longest that the time above becomes by coming again. */
#define COLO_POLICY_AGREE_MAX_NS (UINT64_C(60) * COLO_POLICY_AGREE_NS)
/* Again within so many times that time: soon. */
#define COLO_POLICY_SOON 4u

typedef struct {
    uint64_t begun_ns, loaded_ns;
    bool forced;
} ColoPolicyCheckpoint;

typedef struct {
    ColoTuning tuning;
    bool periodic;
    char reason[128];  /* of the mode, for people */
    uint64_t since_ns; /* it went into this mode */
    uint64_t switches; /* made by itself */

    ColoPolicyCheckpoint window[COLO_POLICY_WINDOW]; /* since then */
    unsigned n_window, at;
    bool differs;          /* since the last checkpoint */
    uint64_t differed_ns;  /* last */
    uint64_t pause_ns;     /* smoothed; 0: none yet */
    uint64_t loaded_ns;    /* last checkpoint */
    uint64_t agree_ns;     /* how long without a difference is agreement */
    uint64_t went_back_ns; /* 0: never */
} ColoPolicy;

void colo_policy_init(ColoPolicy *policy, const ColoTuning *tuning, uint64_t now_ns);

/* The calls below return true when the mode has changed. */
bool colo_policy_tune(ColoPolicy *policy, const ColoTuning *tuning, uint64_t now_ns);

/* Output differs, or is missing for too long. */
void colo_policy_differs(ColoPolicy *policy, uint64_t now_ns);

/* A checkpoint has been loaded whose pause began at @begun_ns. */
bool colo_policy_checkpoint(ColoPolicy *policy, uint64_t begun_ns, uint64_t loaded_ns);

/* Time has passed: does the output agree again? Cheap. */
bool colo_policy_look(ColoPolicy *policy, uint64_t now_ns);

/* Before this no checkpoint is to be forced by output; 0: at any time. */
uint64_t colo_policy_not_before(const ColoPolicy *policy);

/* From the beginning of a pause to that of the next in periodic mode. */
uint64_t colo_policy_period_ns(const ColoPolicy *policy);

/* Share of the time that pauses took over the window, percent. */
unsigned colo_policy_share(const ColoPolicy *policy);

static inline const char *colo_policy_mode_name(const ColoPolicy *policy)
{
    return policy->periodic ? "periodic" : "compare";
}
