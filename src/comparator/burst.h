/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames that are to be written next from where they lie, with QEMU's framing in front of each. One
 * thread.
 */
#pragma once

#include "comparator/chunk.h"

#include <stdbool.h>
#include <sys/uio.h>

/* Pieces of one write; frames that lie one behind the other are one piece. */
#define COLO_BURST_PIECES 64u

typedef struct {
    struct iovec piece[COLO_BURST_PIECES];
    ColoChunk *chunk[COLO_BURST_PIECES]; /* a reference each */
    unsigned n;
    size_t bytes;
} ColoBurst;

/* @len bytes at @data, which lies in @chunk; false when the pieces are used up. */
bool colo_burst_add(ColoBurst *burst, const uint8_t *data, size_t len, ColoChunk *chunk);
void colo_burst_clear(ColoBurst *burst);

/* The end of the frame of which byte @at, counted over all pieces, is one, or @at where a frame
 * begins there. */
size_t colo_burst_frame_end(const ColoBurst *burst, size_t at, size_t head);
