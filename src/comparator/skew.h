/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How far the secondary runs behind: the time from a held frame of the primary to its twin,
 * smoothed as TCP smooths its round-trip time (RFC 6298, 2.2 and 2.3: mean + 4 deviations, gains
 * 1/8 and 1/4, scaled as V. Jacobson's "Congestion avoidance and control", 1988, appendix A), and
 * the limit that follows from it: how long a frame may wait before its twin counts as missing.
 *
 * Only frames that waited are measured. Those whose twin was there first would make the mean of two
 * kinds of copies, of which neither waits so long.
 *
 * Limits are rounded up to one of a few classes, so that frames of one class fall due in the order
 * in which they came, and the next to fall due is at the head of one of a few lists. Pure; a few
 * instructions a frame.
 */
#pragma once

#include <stdint.h>

/* A power of two of the lower bound each: 2, 4, 8, 16, 32 and 50 ms by default, so a limit is
 * rounded up to less than twice. The last class is always the upper bound. */
#define COLO_SKEW_CLASSES 8u
/* Class of a flow that has not been measured: the domain's. */
#define COLO_SKEW_CLASS_NONE 255u

/* Bounds by default of the limit. Under 2 ms lies the scheduling of a busy host; after 50 ms the
 * client of a fast network notices, and a checkpoint costs less than that. */
#define COLO_SKEW_MIN_NS (UINT64_C(2) * 1000000u)
#define COLO_SKEW_MAX_NS (UINT64_C(50) * 1000000u)

/* Time inside, so that 32 bits hold it scaled: units of 1024 ns. */
#define COLO_SKEW_SHIFT 10
/* Longest sample, a second: far over any limit. */
#define COLO_SKEW_SAMPLE_MAX (UINT64_C(1000000000) >> COLO_SKEW_SHIFT)

typedef struct {
    uint32_t mean; /* times 8; 0: not measured */
    uint32_t dev;  /* times 4 */
} ColoSkew;

typedef struct {
    ColoSkew skew; /* of all flows */
    uint8_t rank;  /* class of flows that have not been measured */
    uint32_t bounds[COLO_SKEW_CLASSES];
    uint64_t limits_ns[COLO_SKEW_CLASSES];
} ColoSkewDomain;

/* 0 < @min_ns <= @max_ns. What was measured stays. */
void colo_skew_set_bounds(ColoSkewDomain *domain, uint64_t min_ns, uint64_t max_ns);

static inline void colo_skew_sample(ColoSkew *skew, uint64_t waited_ns)
{
    uint64_t units = waited_ns >> COLO_SKEW_SHIFT;
    /* At least 1, so that the mean never becomes 0 again. */
    int32_t sample =
        (int32_t)(units > COLO_SKEW_SAMPLE_MAX ? COLO_SKEW_SAMPLE_MAX : units | !units);
    int32_t error = sample - (int32_t)(skew->mean >> 3);

    if (skew->mean == 0) {
        skew->mean = (uint32_t)sample << 3;
        skew->dev = (uint32_t)sample << 1;
        return;
    }
    skew->mean += (uint32_t)error;
    error = error < 0 ? -error : error;
    skew->dev += (uint32_t)error - (skew->dev >> 2);
}

/* The class of a flow or domain that was measured. */
static inline uint8_t colo_skew_class(const ColoSkewDomain *domain, const ColoSkew *skew)
{
    uint32_t limit = (skew->mean >> 3) + skew->dev;
    uint8_t rank = 0;

    while (rank < COLO_SKEW_CLASSES - 1 && domain->bounds[rank] < limit)
        rank++;
    return rank;
}

static inline uint64_t colo_skew_mean_ns(const ColoSkew *skew)
{
    return (uint64_t)skew->mean << COLO_SKEW_SHIFT >> 3;
}

static inline uint64_t colo_skew_dev_ns(const ColoSkew *skew)
{
    return (uint64_t)skew->dev << COLO_SKEW_SHIFT >> 2;
}
