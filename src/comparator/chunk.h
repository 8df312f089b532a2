/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that frames were read into and that whoever wants one of them longer keeps from being
 * written again: a count of references. A frame is held and sent from where it was read to. One
 * thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct ColoChunk ColoChunk;

struct ColoChunk {
    uint32_t refs;
    /* The last reference has gone; NULL when the owner looks at @refs himself. */
    void (*unused)(ColoChunk *chunk);
};

static inline void colo_chunk_ref(ColoChunk *chunk)
{
    chunk->refs++;
}

static inline void colo_chunk_unref(ColoChunk *chunk)
{
    if (--chunk->refs == 0 && chunk->unused)
        chunk->unused(chunk);
}
