/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/arena.h"

#include <stdlib.h>
#include <string.h>

/* A free block's own first bytes link it into the list of its order. */
struct ColoArenaNode {
    ColoArenaNode *prev;
    ColoArenaNode *next;
};

/* tags[]: valid at the first smallest block of each block. */
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
    for (size_t at = size; at > 0; at -= MAX_BLOCK)
        arena_push(arena, arena->base + at - MAX_BLOCK, COLO_ARENA_ORDERS - 1);
    return true;
}

void colo_arena_clear(ColoArena *arena)
{
    free(arena->base);
    free(arena->tags);
    memset(arena, 0, sizeof(*arena));
}

uint8_t *colo_arena_alloc(ColoArena *arena, size_t len)
{
    unsigned want = 0, order;
    ColoArenaNode *node;
    uint8_t *block;

    if (len > MAX_BLOCK)
        return NULL;
    while (((size_t)1 << (COLO_ARENA_MIN_SHIFT + want)) < len)
        want++;
    for (order = want; order < COLO_ARENA_ORDERS && !arena->free[order]; order++)
        ;
    if (order == COLO_ARENA_ORDERS)
        return NULL;
    node = arena->free[order];
    arena_unlink(arena, node, order);
    block = (uint8_t *)(void *)node;
    while (order > want) {
        order--;
        arena_push(arena, block + ((size_t)1 << (COLO_ARENA_MIN_SHIFT + order)), order);
    }
    arena->tags[arena_index(arena, block)] = (uint8_t)want;
    arena->used += (size_t)1 << (COLO_ARENA_MIN_SHIFT + want);
    return block;
}

void colo_arena_release(ColoArena *arena, uint8_t *block)
{
    unsigned order = arena->tags[arena_index(arena, block)] & TAG_ORDER;

    arena->used -= (size_t)1 << (COLO_ARENA_MIN_SHIFT + order);
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
