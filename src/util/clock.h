/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Time: CLOCK_MONOTONIC in nanoseconds inside, milliseconds at the surface. Any thread. */
#pragma once

#include <stdint.h>

#define COLO_NS_PER_MS UINT64_C(1000000)
#define COLO_NS_PER_SEC UINT64_C(1000000000)

uint64_t colo_clock_ns(void);      /* CLOCK_MONOTONIC */
uint64_t colo_clock_real_ns(void); /* CLOCK_REALTIME: for people only, nothing is decided by it */
