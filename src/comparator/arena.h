/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bounded memory for held frames: one mapping made at start, cut into blocks of powers of two
 * (buddy system, Knuth TAOCP 1, 2.5), so that frames may be given back in any order and neighbours
 * join again. A few blocks of each size that were given back last wait whole for the next one who
 * wants that size: they are in the processor's cache, and nothing is cut and joined for a frame
 * that comes and goes. No call but colo_arena_init() asks the system for memory, and no page is
 * touched before it is needed. Not thread safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A pure ACK with a vnet header takes 66-100 bytes: the smallest block. */
#define COLO_ARENA_MIN_SHIFT 7u
/* A GSO frame (COLO_COMPARE_FRAME_MAX, 64 KiB and headers) must fit: the largest block. */
#define COLO_ARENA_MAX_SHIFT 17u
#define COLO_ARENA_ORDERS (COLO_ARENA_MAX_SHIFT - COLO_ARENA_MIN_SHIFT + 1)

/* Blocks of one size that wait whole: a batch of frames that a socket brings in one go. */
#define COLO_ARENA_READY 64u

typedef struct ColoArenaNode ColoArenaNode;

typedef struct {
    uint8_t *base;
    size_t size;   /* bytes, a multiple of the largest block */
    size_t used;   /* bytes in blocks handed out */
    size_t fresh;  /* bytes from the start that were ever handed out, in largest blocks */
    uint8_t *tags; /* one a smallest block: order, and whether it is free */
    ColoArenaNode *free[COLO_ARENA_ORDERS];
    ColoArenaNode *ready[COLO_ARENA_ORDERS];
    uint8_t n_ready[COLO_ARENA_ORDERS];
} ColoArena;

/* @bytes is rounded up to whole largest blocks. False when memory is missing. */
bool colo_arena_init(ColoArena *arena, size_t bytes);
void colo_arena_clear(ColoArena *arena);

/* log2 of the block that @len bytes take, counted from the smallest. */
static inline unsigned colo_arena_order(size_t len)
{
    return len <= (1u << COLO_ARENA_MIN_SHIFT)
               ? 0
               : 64u - (unsigned)__builtin_clzll(len - 1) - COLO_ARENA_MIN_SHIFT;
}

/* Bytes of that block. */
static inline size_t colo_arena_block(size_t len)
{
    return (size_t)1 << (COLO_ARENA_MIN_SHIFT + colo_arena_order(len));
}

/* @len bytes (1 to 1 << COLO_ARENA_MAX_SHIFT), aligned to a smallest block; NULL when no block of
 * that size is left. The work is bounded: at most all that wait whole are joined. */
uint8_t *colo_arena_alloc(ColoArena *arena, size_t len);
void colo_arena_release(ColoArena *arena, uint8_t *block);
