/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/policy.h"

#include "util/clock.h"

#include <stdio.h>

static void enter(ColoPolicy *policy, bool periodic, uint64_t now_ns)
{
    policy->periodic = periodic;
    policy->since_ns = now_ns;
    policy->n_window = policy->at = 0;
    policy->differed_ns = now_ns;
}

static void tuned(ColoPolicy *policy)
{
    if (policy->tuning.mode == COLO_TUNING_AUTO)
        snprintf(policy->reason, sizeof(policy->reason), "output is not known to differ");
    else
        snprintf(policy->reason, sizeof(policy->reason), "set by colo-tune");
}

void colo_policy_init(ColoPolicy *policy, const ColoTuning *tuning, uint64_t now_ns)
{
    *policy = (ColoPolicy){.tuning = *tuning, .agree_ns = COLO_POLICY_AGREE_NS};
    enter(policy, tuning->mode == COLO_TUNING_PERIODIC, now_ns);
    tuned(policy);
}

bool colo_policy_tune(ColoPolicy *policy, const ColoTuning *tuning, uint64_t now_ns)
{
    ColoTuningMode before = policy->tuning.mode;
    bool was = policy->periodic;

    policy->tuning = *tuning;
    if (tuning->mode == before)
        return false;
    policy->agree_ns = COLO_POLICY_AGREE_NS;
    policy->went_back_ns = 0;
    enter(policy, tuning->mode == COLO_TUNING_PERIODIC, now_ns);
    tuned(policy);
    return policy->periodic != was;
}

void colo_policy_differs(ColoPolicy *policy, uint64_t now_ns)
{
    policy->differs = true;
    policy->differed_ns = now_ns;
}

unsigned colo_policy_share(const ColoPolicy *policy)
{
    uint64_t first = 0, pauses = 0, span;

    if (policy->n_window == 0)
        return 0;
    first = policy->window[policy->n_window < COLO_POLICY_WINDOW ? 0 : policy->at].begun_ns;
    for (unsigned i = 0; i < policy->n_window; i++)
        pauses += policy->window[i].loaded_ns - policy->window[i].begun_ns;
    span = policy->loaded_ns - first;
    return span ? (unsigned)(pauses * 100 / span) : 100;
}

uint64_t colo_policy_period_ns(const ColoPolicy *policy)
{
    uint64_t period = policy->pause_ns * 100 / policy->tuning.pause_share;
    uint64_t min = policy->tuning.period_min_ms * COLO_NS_PER_MS;
    uint64_t max = policy->tuning.period_max_ms * COLO_NS_PER_MS;

    if (period < min)
        return min;
    return period > max ? max : period;
}

uint64_t colo_policy_not_before(const ColoPolicy *policy)
{
    uint64_t period = colo_policy_period_ns(policy);

    if (!policy->periodic || !policy->loaded_ns)
        return 0;
    return policy->loaded_ns + (period > policy->pause_ns ? period - policy->pause_ns : 0);
}

/* Most checkpoints are forced, and their pauses take too much. */
static bool go_periodic(ColoPolicy *policy, uint64_t now_ns)
{
    unsigned forced = 0, share = colo_policy_share(policy);

    for (unsigned i = 0; i < policy->n_window; i++)
        forced += policy->window[i].forced;
    if (policy->n_window < COLO_POLICY_WINDOW || forced < COLO_POLICY_FORCED ||
        share <= policy->tuning.pause_share)
        return false;
    if (policy->went_back_ns &&
        now_ns - policy->went_back_ns < COLO_POLICY_SOON * policy->agree_ns) {
        policy->agree_ns *= 2;
        if (policy->agree_ns > COLO_POLICY_AGREE_MAX_NS)
            policy->agree_ns = COLO_POLICY_AGREE_MAX_NS;
    } else {
        policy->agree_ns = COLO_POLICY_AGREE_NS;
    }
    enter(policy, true, now_ns);
    policy->switches++;
    snprintf(policy->reason, sizeof(policy->reason),
             "output differed in %u of %u checkpoints, whose pauses took %u %% of the time", forced,
             COLO_POLICY_WINDOW, share);
    return true;
}

bool colo_policy_look(ColoPolicy *policy, uint64_t now_ns)
{
    uint64_t needed = COLO_POLICY_AGREE_PERIODS * colo_policy_period_ns(policy);

    if (!policy->periodic || policy->tuning.mode != COLO_TUNING_AUTO)
        return false;
    if (needed < policy->agree_ns)
        needed = policy->agree_ns;
    if (now_ns < policy->differed_ns || now_ns - policy->differed_ns < needed)
        return false;
    enter(policy, false, now_ns);
    policy->went_back_ns = now_ns;
    policy->switches++;
    snprintf(policy->reason, sizeof(policy->reason), "output agreed for %u ms",
             (unsigned)(needed / COLO_NS_PER_MS));
    return true;
}

bool colo_policy_checkpoint(ColoPolicy *policy, uint64_t begun_ns, uint64_t loaded_ns)
{
    uint64_t pause = loaded_ns > begun_ns ? loaded_ns - begun_ns : 0;

    policy->window[policy->at] = (ColoPolicyCheckpoint){
        .begun_ns = begun_ns, .loaded_ns = begun_ns + pause, .forced = policy->differs};
    policy->at = (policy->at + 1) % COLO_POLICY_WINDOW;
    if (policy->n_window < COLO_POLICY_WINDOW)
        policy->n_window++;
    policy->loaded_ns = begun_ns + pause;
    policy->differs = false;
    /* The gain of RFC 6298. */
    if (policy->pause_ns)
        policy->pause_ns = (policy->pause_ns * 7 + pause) / 8;
    else
        policy->pause_ns = pause;
    if (policy->periodic)
        return colo_policy_look(policy, policy->loaded_ns);
    return policy->tuning.mode == COLO_TUNING_AUTO && go_periodic(policy, policy->loaded_ns);
}
