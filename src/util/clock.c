/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * COLO_NS_PER_SEC + (uint64_t)t.tv_nsec;
}

uint64_t colo_clock_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t colo_clock_real_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}
