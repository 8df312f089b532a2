/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/ring.h"

#include <stdlib.h>
#include <string.h>

bool colo_ring_init(ColoRing *ring, size_t size)
{
    memset(ring, 0, sizeof(*ring));
    if (size == 0 || (size & (size - 1)) != 0)
        return false;
    ring->data = malloc(size);
    if (!ring->data)
        return false;
    ring->size = size;
    return true;
}

void colo_ring_clear(ColoRing *ring)
{
    free(ring->data);
    memset(ring, 0, sizeof(*ring));
}

/* Where the byte of an offset lies. */
static inline size_t place(const ColoRing *ring, uint64_t offset)
{
    return (size_t)(offset - ring->base) & (ring->size - 1);
}

bool colo_ring_put(ColoRing *ring, const void *data, size_t len)
{
    size_t at, first;

    if (len > colo_ring_space(ring))
        return false;
    if (len == 0)
        return true;
    /* An empty ring begins anew at its first byte: it uses as much memory, and cache, as it ever
     * held at once, not all of it in turn. */
    if (ring->head == ring->tail)
        ring->base = ring->head;
    at = place(ring, ring->head);
    first = ring->size - at < len ? ring->size - at : len;
    memcpy(ring->data + at, data, first);
    memcpy(ring->data, (const uint8_t *)data + first, len - first);
    ring->head += len;
    return true;
}

const uint8_t *colo_ring_peek(const ColoRing *ring, size_t *len)
{
    size_t at, used = colo_ring_used(ring);

    if (used == 0) {
        *len = 0;
        return NULL;
    }
    at = place(ring, ring->tail);
    *len = ring->size - at < used ? ring->size - at : used;
    return ring->data + at;
}

void colo_ring_read_at(const ColoRing *ring, uint64_t at, void *data, size_t len)
{
    size_t from = place(ring, at);
    size_t first = ring->size - from < len ? ring->size - from : len;

    memcpy(data, ring->data + from, first);
    memcpy((uint8_t *)data + first, ring->data, len - first);
}

void colo_ring_take(ColoRing *ring, size_t len)
{
    ring->tail += len;
}
