/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bounded byte queue (I8). Offsets count bytes since the ring was made and never wrap (64 bits),
 * so that a caller can remember "everything up to here" and ask later whether it has gone. One
 * thread. Allocation only in colo_ring_init().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *data;
    size_t size;   /* bytes, a power of two */
    uint64_t head; /* offset of the next byte to put */
    uint64_t tail; /* offset of the next byte to take */
    uint64_t base; /* the offset that lies at data[0] */
} ColoRing;

/* False when memory is missing or @size is no power of two. */
bool colo_ring_init(ColoRing *ring, size_t size);
void colo_ring_clear(ColoRing *ring); /* frees the memory; the ring is then one of size 0 */

static inline size_t colo_ring_used(const ColoRing *ring)
{
    return (size_t)(ring->head - ring->tail);
}

static inline size_t colo_ring_space(const ColoRing *ring)
{
    return ring->size - colo_ring_used(ring);
}

/* Puts all of @data, or nothing and returns false when there is no room. */
bool colo_ring_put(ColoRing *ring, const void *data, size_t len);

/* The oldest bytes that lie in one piece; @len is their number, 0 when the ring is empty. */
const uint8_t *colo_ring_peek(const ColoRing *ring, size_t *len);

/* Copies @len bytes from offset @at; they must lie between the oldest byte still unspoilt and
 * head, which the caller knows. */
void colo_ring_read_at(const ColoRing *ring, uint64_t at, void *data, size_t len);

/* Drops the oldest @len bytes. */
void colo_ring_take(ColoRing *ring, size_t len);
