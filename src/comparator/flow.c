/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/flow.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* History takes at most this part of arena and slots: retransmissions are of what left last, and a
 * small working set stays in the processor's cache. */
#define HISTORY_SHARE 8u

bool colo_store_init(ColoStore *store, size_t arena_bytes, uint32_t frames, uint32_t flows)
{
    uint32_t buckets = 1;

    memset(store, 0, sizeof(*store));
    while (buckets < flows && buckets < (1u << 30))
        buckets <<= 1;
    store->bucket_mask = buckets - 1;
    store->slots = calloc(frames, sizeof(*store->slots));
    store->flows = calloc(flows, sizeof(*store->flows));
    store->buckets = calloc(buckets, sizeof(ColoFlow *)); /* NOLINT(bugprone-sizeof-expression) */
    if (!store->slots || !store->flows || !store->buckets ||
        !colo_arena_init(&store->arena, arena_bytes)) {
        colo_store_clear(store);
        return false;
    }
    store->history_bytes_max = store->arena.size / HISTORY_SHARE;
    store->history_frames_max = frames / HISTORY_SHARE;
    for (uint32_t i = frames; i > 0; i--) {
        store->slots[i - 1].next = store->free_slots;
        store->free_slots = &store->slots[i - 1];
    }
    for (uint32_t i = flows; i > 0; i--) {
        store->flows[i - 1].chain = store->free_flows;
        store->free_flows = &store->flows[i - 1];
    }
    /* Without entropy this early in boot the table is only easier to crowd. */
    if (getrandom(&store->secret, sizeof(store->secret), GRND_NONBLOCK) < 0)
        store->secret.k0 = (uint64_t)(uintptr_t)store->slots;
    return true;
}

void colo_store_clear(ColoStore *store)
{
    colo_arena_clear(&store->arena);
    free(store->slots);
    free(store->flows);
    free(store->buckets);
    memset(store, 0, sizeof(*store));
}

static ColoSlotQueue *queue_of(ColoFlow *flow, ColoSlotList list)
{
    switch (list) {
    case COLO_SLOT_HELD:
        return &flow->primary;
    case COLO_SLOT_STREAM:
        return &flow->stream;
    case COLO_SLOT_TWIN:
        return &flow->twins;
    case COLO_SLOT_HISTORY:
        break;
    }
    return &flow->history;
}

static ColoSlotQueue *store_queue(ColoStore *store, ColoSlotList list)
{
    if (list == COLO_SLOT_HELD)
        return &store->held;
    return list == COLO_SLOT_HISTORY ? &store->history : &store->secondary;
}

void colo_slot_insert(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoSlotList list,
                      ColoSlot *after)
{
    ColoSlotQueue *queue = queue_of(flow, list);
    ColoSlotQueue *all = store_queue(store, list);

    slot->flow = flow;
    slot->list = (uint8_t)list;
    slot->prev = after;
    slot->next = after ? after->next : queue->first;
    *(slot->prev ? &slot->prev->next : &queue->first) = slot;
    *(slot->next ? &slot->next->prev : &queue->last) = slot;
    queue->count++;

    slot->older = all->last;
    slot->newer = NULL;
    *(all->last ? &all->last->newer : &all->first) = slot;
    all->last = slot;
    all->count++;

    if (list == COLO_SLOT_HELD)
        store->held_bytes += slot->len;
    else if (list == COLO_SLOT_HISTORY)
        store->history_bytes += slot->len;
    else if (list == COLO_SLOT_STREAM && slot->next)
        flow->scan = NULL; /* it may cover what the scan has passed */
}

void colo_slot_remove(ColoStore *store, ColoSlot *slot)
{
    ColoSlotQueue *queue = queue_of(slot->flow, slot->list);
    ColoSlotQueue *all = store_queue(store, slot->list);

    *(slot->prev ? &slot->prev->next : &queue->first) = slot->next;
    *(slot->next ? &slot->next->prev : &queue->last) = slot->prev;
    queue->count--;
    *(slot->older ? &slot->older->newer : &all->first) = slot->newer;
    *(slot->newer ? &slot->newer->older : &all->last) = slot->older;
    all->count--;
    if (slot->list == COLO_SLOT_HELD)
        store->held_bytes -= slot->len;
    else if (slot->list == COLO_SLOT_HISTORY)
        store->history_bytes -= slot->len;
    if (slot->flow->scan == slot)
        slot->flow->scan = NULL;
    slot->flow = NULL;
}

void colo_slot_free(ColoStore *store, ColoSlot *slot)
{
    if (!slot->stored)
        return;
    colo_arena_release(&store->arena, slot->data);
    slot->next = store->free_slots;
    store->free_slots = slot;
}

static void history_drop_oldest(ColoStore *store)
{
    ColoSlot *slot = store->history.first;

    colo_slot_remove(store, slot);
    colo_slot_free(store, slot);
}

void colo_flow_forget(ColoStore *store, ColoFlow *flow)
{
    while (flow->history.first) {
        ColoSlot *slot = flow->history.first;

        colo_slot_remove(store, slot);
        colo_slot_free(store, slot);
    }
}

void colo_slot_retire(ColoStore *store, ColoSlot *slot)
{
    ColoFlow *flow = slot->flow;

    colo_slot_remove(store, slot);
    if (!slot->stored || !slot->info.tcp || slot->info.payload_len == 0) {
        colo_slot_free(store, slot);
        return;
    }
    colo_slot_insert(store, flow, slot, COLO_SLOT_HISTORY, flow->history.last);
    while (store->history_bytes > store->history_bytes_max ||
           store->history.count > store->history_frames_max)
        history_drop_oldest(store);
}

ColoSlot *colo_slot_new(ColoStore *store, size_t len)
{
    ColoSlot *slot;
    uint8_t *data;

    while (!store->free_slots && store->history.first)
        history_drop_oldest(store);
    slot = store->free_slots;
    if (!slot)
        return NULL;
    while (!(data = colo_arena_alloc(&store->arena, len)) && store->history.first)
        history_drop_oldest(store);
    if (!data)
        return NULL;
    store->free_slots = slot->next;
    slot->data = data;
    slot->stored = true;
    return slot;
}

ColoSlot *colo_slot_keep(ColoStore *store, ColoSlot *slot)
{
    ColoSlot *kept = colo_slot_new(store, slot->len);
    ColoSlotQueue *queue = queue_of(slot->flow, slot->list);
    ColoSlotQueue *all = store_queue(store, slot->list);
    uint8_t *data;

    if (!kept)
        return NULL;
    data = kept->data;
    *kept = *slot;
    kept->data = data;
    kept->stored = true;
    memcpy(data, slot->data, slot->len);
    *(kept->prev ? &kept->prev->next : &queue->first) = kept;
    *(kept->next ? &kept->next->prev : &queue->last) = kept;
    *(kept->older ? &kept->older->newer : &all->first) = kept;
    *(kept->newer ? &kept->newer->older : &all->last) = kept;
    if (slot->flow->scan == slot)
        slot->flow->scan = kept;
    return kept;
}

static void idle_unlink(ColoStore *store, ColoFlow *flow)
{
    *(flow->older ? &flow->older->newer : &store->idle_oldest) = flow->newer;
    *(flow->newer ? &flow->newer->older : &store->idle_newest) = flow->older;
    flow->idle = false;
}

void colo_flow_settle(ColoStore *store, ColoFlow *flow)
{
    if (flow->idle)
        idle_unlink(store, flow);
    if (flow->primary.first || flow->stream.first || flow->twins.first)
        return;
    flow->older = store->idle_newest;
    flow->newer = NULL;
    *(store->idle_newest ? &store->idle_newest->newer : &store->idle_oldest) = flow;
    store->idle_newest = flow;
    flow->idle = true;
}

/* Frees the longest idle flow, if any. */
static void flow_evict(ColoStore *store)
{
    ColoFlow *flow = store->idle_oldest;
    ColoFlow **link;

    if (!flow)
        return;
    idle_unlink(store, flow);
    colo_flow_forget(store, flow);
    for (link = &store->buckets[flow->bucket]; *link != flow; link = &(*link)->chain)
        ;
    *link = flow->chain;
    flow->chain = store->free_flows;
    store->free_flows = flow;
}

void colo_store_forget(ColoStore *store)
{
    while (store->idle_oldest)
        flow_evict(store);
}

ColoFlow *colo_flow_get(ColoStore *store, const ColoFlowKey *key)
{
    uint32_t bucket =
        (uint32_t)colo_frame_hash(&store->secret, key, sizeof(*key)) & store->bucket_mask;
    ColoFlow *flow;

    for (flow = store->buckets[bucket]; flow; flow = flow->chain) {
        if (memcmp(&flow->key, key, sizeof(*key)) == 0)
            return flow;
    }
    if (!store->free_flows)
        flow_evict(store);
    flow = store->free_flows;
    if (!flow)
        return NULL;
    store->free_flows = flow->chain;
    memset(flow, 0, sizeof(*flow));
    flow->key = *key;
    flow->bucket = bucket;
    flow->chain = store->buckets[bucket];
    store->buckets[bucket] = flow;
    return flow;
}
