/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether it is worth while to wait for twins. A frame waits as long as twins usually take
 * (skew.h); but when checkpoint after checkpoint is forced by output and no frame between them gets
 * its twin, none is expected any more, and to wait longer than a checkpoint's pause costs more than
 * the checkpoint (the ski rental problem). It takes some of them in a row: a secondary is slow
 * right after each checkpoint, for it has to fill its caches anew, and would never get faster if
 * that made the next one come sooner. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Such checkpoints in a row after which twins are not expected any more. */
#define COLO_PATIENCE_FRUITLESS 4u
/* After as many more a frame waits its whole limit once, so that output which agrees again is
 * seen. */
#define COLO_PATIENCE_PROBE 16u

typedef struct {
    unsigned fruitless;    /* checkpoints in a row */
    uint64_t equal_before; /* frames that had got their twins until the last one */
} ColoPatience;

/* A checkpoint is loaded; @forced: output asked for it. @equal: frames that have got their twins,
 * ever. */
static inline void colo_patience_checkpoint(ColoPatience *patience, bool forced, uint64_t equal)
{
    if (equal != patience->equal_before)
        patience->fruitless = 0;
    else if (forced)
        patience->fruitless++;
    patience->equal_before = equal;
}

/* Twins are not expected. */
static inline bool colo_patience_is_lost(const ColoPatience *patience)
{
    return patience->fruitless >= COLO_PATIENCE_FRUITLESS &&
           patience->fruitless % COLO_PATIENCE_PROBE != 0;
}

/* How long a frame waits for its twin at most. @pause_ns: of a checkpoint, 0: not known. */
static inline uint64_t colo_patience_longest_ns(const ColoPatience *patience, uint64_t pause_ns,
                                                uint64_t min_ns)
{
    if (!pause_ns || !colo_patience_is_lost(patience))
        return UINT64_MAX;
    return pause_ns > min_ns ? pause_ns : min_ns;
}
