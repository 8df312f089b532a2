/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/arena.h"

#include <stdlib.h>
#include <string.h>

/* A free block's own first bytes link it into the list of its order. */
struct ColoArenaNode {
    ColoArenaNode *prev;
    ColoArenaNode *next;
};

/* tags[]: valid at the first smallest block of each block. One that waits whole is not free. */
#define TAG_FREE 0x80u
#define TAG_ORDER 0x1fu
#define MAX_BLOCK ((size_t)1 << COLO_ARENA_MAX_SHIFT)

/* Index of the smallest block at @block. */
static size_t arena_index(const ColoArena *arena, const void *block)
{
    return (size_t)((const uint8_t *)block - arena->base) >> COLO_ARENA_MIN_SHIFT;
}

static void arena_push(ColoArena *arena, uint8_t *block, unsigned order)
{
    ColoArenaNode *node = (ColoArenaNode *)(void *)block;

    node->prev = NULL;
    node->next = arena->free[order];
    if (node->next)
        node->next->prev = node;
    arena->free[order] = node;
    arena->tags[arena_index(arena, block)] = (uint8_t)(TAG_FREE | order);
}

static void arena_unlink(ColoArena *arena, ColoArenaNode *node, unsigned order)
{
    if (node->prev)
        node->prev->next = node->next;
    else
        arena->free[order] = node->next;
    if (node->next)
        node->next->prev = node->prev;
}

bool colo_arena_init(ColoArena *arena, size_t bytes)
{
    size_t size = (bytes + MAX_BLOCK - 1) & ~(MAX_BLOCK - 1);

    memset(arena, 0, sizeof(*arena));
    if (size < bytes || size == 0)
        return false;
    arena->base = aligned_alloc((size_t)1 << COLO_ARENA_MIN_SHIFT, size);
    arena->tags = calloc(size >> COLO_ARENA_MIN_SHIFT, 1);
    if (!arena->base || !arena->tags) {
        colo_arena_clear(arena);
        return false;
    }
    arena->size = size;
    return true;
}

void colo_arena_clear(ColoArena *arena)
{
    free(arena->base);
    free(arena->tags);
    memset(arena, 0, sizeof(*arena));
}

/* A free block of @order or more is cut down to it. */
static uint8_t *arena_cut(ColoArena *arena, unsigned want)
{
    unsigned order = want;
    uint8_t *block;

    while (order < COLO_ARENA_ORDERS && !arena->free[order])
        order++;
    if (order < COLO_ARENA_ORDERS) {
        block = (uint8_t *)(void *)arena->free[order];
        arena_unlink(arena, arena->free[order], order);
    } else if (arena->fresh < arena->size) {
        block = arena->base + arena->fresh;
        arena->fresh += MAX_BLOCK;
        order = COLO_ARENA_ORDERS - 1;
    } else {
        return NULL;
    }
    while (order > want) {
        order--;
        arena_push(arena, block + ((size_t)1 << (COLO_ARENA_MIN_SHIFT + order)), order);
    }
    arena->tags[arena_index(arena, block)] = (uint8_t)want;
    return block;
}

/* The block joins with its free neighbours. */
static void arena_join(ColoArena *arena, uint8_t *block, unsigned order)
{
    while (order < COLO_ARENA_ORDERS - 1) {
        size_t size = (size_t)1 << (COLO_ARENA_MIN_SHIFT + order);
        size_t offset = (size_t)(block - arena->base);
        uint8_t *buddy = arena->base + (offset ^ size);

        if (arena->tags[arena_index(arena, buddy)] != (TAG_FREE | order))
            break;
        arena_unlink(arena, (ColoArenaNode *)(void *)buddy, order);
        /* The upper half is inside a block from now on: its tag must not look free. */
        arena->tags[arena_index(arena, buddy > block ? buddy : block)] = 0;
        if (buddy < block)
            block = buddy;
        order++;
    }
    arena_push(arena, block, order);
}

static uint8_t *arena_pop_ready(ColoArena *arena, unsigned order)
{
    ColoArenaNode *node = arena->ready[order];

    if (!node)
        return NULL;
    arena->ready[order] = node->next;
    arena->n_ready[order]--;
    return (uint8_t *)(void *)node;
}

uint8_t *colo_arena_alloc(ColoArena *arena, size_t len)
{
    unsigned want = colo_arena_order(len);
    uint8_t *block, *waiting;

    if (len > MAX_BLOCK)
        return NULL;
    block = arena_pop_ready(arena, want);
    if (!block)
        block = arena_cut(arena, want);
    if (!block) {
        for (unsigned order = 0; order < COLO_ARENA_ORDERS; order++) {
            while ((waiting = arena_pop_ready(arena, order)))
                arena_join(arena, waiting, order);
        }
        block = arena_cut(arena, want);
    }
    if (block)
        arena->used += (size_t)1 << (COLO_ARENA_MIN_SHIFT + want);
    return block;
}

void colo_arena_release(ColoArena *arena, uint8_t *block)
{
    unsigned order = arena->tags[arena_index(arena, block)] & TAG_ORDER;

    arena->used -= (size_t)1 << (COLO_ARENA_MIN_SHIFT + order);
    if (arena->n_ready[order] < COLO_ARENA_READY) {
        ColoArenaNode *node = (ColoArenaNode *)(void *)block;

        /* Its tag says that it is not free: no neighbour joins with it. */
        node->next = arena->ready[order];
        arena->ready[order] = node;
        arena->n_ready[order]++;
        return;
    }
    arena_join(arena, block, order);
}
