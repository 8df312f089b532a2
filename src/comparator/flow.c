/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/flow.h"
#include "comparator/compare.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* History takes at most this part of arena and slots... */
#define HISTORY_SHARE 8u
/* ... and no more than this: retransmissions are of what left last, and each frame that is stored
 * takes the block that was history longest. So this much has to stay in the second-level cache, or
 * storing a frame of 1460 bytes takes several times as long. */
#define HISTORY_BYTES_MAX ((size_t)256 << 10)
/* Flows that are looked at for one to give way: a bound for the time of a frame. */
#define EVICT_SCAN 1024u

bool colo_store_init(ColoStore *store, size_t arena_bytes, uint32_t frames, uint32_t flows)
{
    unsigned bits = 1;

    memset(store, 0, sizeof(*store));
    while (bits < 31 && (1u << bits) < flows)
        bits++;
    store->bucket_shift = 64 - bits;
    store->slots_max = frames + 1; /* and the incoming one */
    store->flows_max = flows;
    /* Neither is touched before it is needed. */
    store->slots = aligned_alloc(COLO_CACHE_LINE, store->slots_max * sizeof(*store->slots));
    store->flows = aligned_alloc(COLO_CACHE_LINE, flows * sizeof(*store->flows));
    store->buckets = calloc((size_t)1 << bits, sizeof(*store->buckets));
    if (!store->slots || !store->flows || !store->buckets ||
        !colo_arena_init(&store->arena, arena_bytes)) {
        colo_store_clear(store);
        return false;
    }
    store->history_bytes_max = store->arena.size / HISTORY_SHARE;
    if (store->history_bytes_max > HISTORY_BYTES_MAX)
        store->history_bytes_max = HISTORY_BYTES_MAX;
    store->history_frames_max = frames / HISTORY_SHARE;
    /* At least the largest frame. */
    store->flow_bytes_max = (uint32_t)(store->arena.size / COLO_COMPARE_FLOW_SHARE);
    if (store->flow_bytes_max < 1u << COLO_ARENA_MAX_SHIFT)
        store->flow_bytes_max = 1u << COLO_ARENA_MAX_SHIFT;
    store->flow_frames_max =
        frames / COLO_COMPARE_FLOW_SHARE > 0 ? frames / COLO_COMPARE_FLOW_SHARE : 1;
    colo_skew_set_bounds(&store->skew, COLO_SKEW_MIN_NS, COLO_SKEW_MAX_NS);
    store->incoming = &store->slots[store->slots_fresh++];
    /* Without entropy this early in boot the table is only easier to crowd. */
    if (getrandom(&store->secret, sizeof(store->secret), GRND_NONBLOCK) < 0)
        store->secret.k0 = (uint64_t)(uintptr_t)store->slots;
    for (unsigned i = 0; i < sizeof(store->hash_keys) / sizeof(store->hash_keys[0]); i++)
        store->hash_keys[i] = colo_frame_hash(&store->secret, &i, sizeof(i));
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

static inline ColoSlotQueue *queue_of(ColoFlow *flow, ColoSlotList list)
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

static inline ColoSlotQueue *store_queue(ColoStore *store, const ColoSlot *slot, ColoSlotList list)
{
    if (list == COLO_SLOT_HELD)
        return &store->held[slot->rank];
    return list == COLO_SLOT_HISTORY ? &store->history : &store->secondary;
}

/* A slot that is stored counts, and lies in the store's list. */
static inline void store_link(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoSlotList list)
{
    ColoSlotQueue *all;

    if (list == COLO_SLOT_HELD) {
        slot->rank = flow->rank < COLO_SKEW_CLASSES ? flow->rank : store->skew.rank;
        store->held_ranks |= 1u << slot->rank;
    }
    all = store_queue(store, slot, list);
    slot->older = all->last;
    slot->newer = NULL;
    *(all->last ? &all->last->newer : &all->first) = slot;
    all->last = slot;
    if (list == COLO_SLOT_HISTORY) {
        store->history_bytes += slot->len;
        store->history_frames++;
        return;
    }
    flow->held_bytes += (uint32_t)colo_arena_block(slot->len);
    flow->held_frames++;
    if (list == COLO_SLOT_HELD) {
        store->held_bytes += slot->len;
        store->held_frames++;
    }
}

static inline void store_unlink(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoSlotList list)
{
    ColoSlotQueue *all = store_queue(store, slot, list);

    *(slot->older ? &slot->older->newer : &all->first) = slot->newer;
    *(slot->newer ? &slot->newer->older : &all->last) = slot->older;
    if (list == COLO_SLOT_HISTORY) {
        store->history_bytes -= slot->len;
        store->history_frames--;
        return;
    }
    flow->held_bytes -= (uint32_t)colo_arena_block(slot->len);
    flow->held_frames--;
    if (list == COLO_SLOT_HELD) {
        store->held_bytes -= slot->len;
        store->held_frames--;
        if (!all->first)
            store->held_ranks &= ~(1u << slot->rank);
    }
}

static inline void slot_link(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoSlotList list,
                             ColoSlot *after)
{
    ColoSlotQueue *queue = queue_of(flow, list);

    slot->flow = flow;
    slot->list = (uint8_t)list;
    slot->prev = after;
    slot->next = after ? after->next : queue->first;
    *(slot->prev ? &slot->prev->next : &queue->first) = slot;
    *(slot->next ? &slot->next->prev : &queue->last) = slot;
    if (slot->stored)
        store_link(store, flow, slot, list);
    if (list == COLO_SLOT_TWIN)
        flow->n_twins++;
    else if (list == COLO_SLOT_STREAM && slot->next)
        flow->scan = NULL; /* it may cover what the scan has passed */
}

static inline void slot_unlink(ColoStore *store, ColoSlot *slot, ColoSlotList list)
{
    ColoFlow *flow = slot->flow;
    ColoSlotQueue *queue = queue_of(flow, list);

    *(slot->prev ? &slot->prev->next : &queue->first) = slot->next;
    *(slot->next ? &slot->next->prev : &queue->last) = slot->prev;
    if (slot->stored)
        store_unlink(store, flow, slot, list);
    if (list == COLO_SLOT_TWIN)
        flow->n_twins--;
    if (list == COLO_SLOT_STREAM && flow->scan == slot)
        flow->scan = NULL;
    slot->flow = NULL;
}

void colo_slot_insert(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoSlotList list,
                      ColoSlot *after)
{
    slot_link(store, flow, slot, list, after);
}

void colo_slot_remove(ColoStore *store, ColoSlot *slot)
{
    slot_unlink(store, slot, slot->list);
}

void colo_slot_free(ColoStore *store, ColoSlot *slot)
{
    if (!slot->stored)
        return;
    if (slot->chunk)
        colo_chunk_unref(slot->chunk);
    else
        colo_arena_release(&store->arena, slot->data);
    slot->next = store->free_slots;
    store->free_slots = slot;
}

/* The store's oldest history is its flow's oldest too. */
static void history_drop_oldest(ColoStore *store)
{
    ColoSlot *slot = store->history.first;
    ColoFlow *flow = slot->flow;

    flow->history.first = slot->next;
    *(slot->next ? &slot->next->prev : &flow->history.last) = NULL;
    store->history.first = slot->newer;
    *(slot->newer ? &slot->newer->older : &store->history.last) = NULL;
    store->history_bytes -= slot->len;
    store->history_frames--;
    slot->flow = NULL;
    colo_slot_free(store, slot);
}

void colo_flow_forget(ColoStore *store, ColoFlow *flow)
{
    while (flow->history.first) {
        ColoSlot *slot = flow->history.first;

        slot_unlink(store, slot, COLO_SLOT_HISTORY);
        colo_slot_free(store, slot);
    }
}

void colo_slot_retire(ColoStore *store, ColoSlot *slot)
{
    ColoFlow *flow = slot->flow;

    if (slot->list == COLO_SLOT_HELD)
        slot_unlink(store, slot, COLO_SLOT_HELD);
    else
        slot_unlink(store, slot, slot->list);
    if (!slot->stored || !slot->info.tcp || slot->info.payload_len == 0) {
        colo_slot_free(store, slot);
        return;
    }
    slot_link(store, flow, slot, COLO_SLOT_HISTORY, flow->history.last);
    while (store->history_bytes > store->history_bytes_max ||
           store->history_frames > store->history_frames_max)
        history_drop_oldest(store);
}

/* A slot for the store to use; NULL when there is none even without history. */
static ColoSlot *slot_take(ColoStore *store)
{
    ColoSlot *slot;

    if (!store->free_slots && store->slots_fresh < store->slots_max)
        return &store->slots[store->slots_fresh++];
    if (!store->free_slots && store->history.first)
        history_drop_oldest(store);
    slot = store->free_slots;
    if (slot)
        store->free_slots = slot->next;
    return slot;
}

static uint8_t *block_take(ColoStore *store, size_t len)
{
    uint8_t *data;

    while (!(data = colo_arena_alloc(&store->arena, len)) && store->history.first)
        history_drop_oldest(store);
    return data;
}

ColoSlot *colo_slot_new(ColoStore *store, size_t len)
{
    ColoSlot *slot = slot_take(store);

    if (!slot)
        return NULL;
    slot->data = block_take(store, len);
    if (!slot->data) {
        slot->next = store->free_slots;
        store->free_slots = slot;
        return NULL;
    }
    slot->chunk = NULL;
    slot->stored = true;
    return slot;
}

/* A stored slot for the frame at @data: in @chunk, or copied. NULL when no room is left. */
static ColoSlot *slot_of(ColoStore *store, const uint8_t *data, size_t len, ColoChunk *chunk)
{
    ColoSlot *slot = chunk ? slot_take(store) : colo_slot_new(store, len);

    if (!slot)
        return NULL;
    if (!chunk) {
        memcpy(slot->data, data, len);
        return slot;
    }
    colo_chunk_ref(chunk);
    slot->data = (uint8_t *)(uintptr_t)data; /* read only */
    slot->chunk = chunk;
    slot->stored = true;
    return slot;
}

/* @flow may store @len bytes more. */
static bool in_share(const ColoStore *store, const ColoFlow *flow, size_t len)
{
    return flow->held_bytes + colo_arena_block(len) <= store->flow_bytes_max &&
           flow->held_frames < store->flow_frames_max;
}

ColoSlot *colo_slot_hold(ColoStore *store, ColoFlow *flow, const uint8_t *frame, size_t len,
                         ColoChunk *chunk)
{
    ColoSlot *slot = in_share(store, flow, len) ? slot_of(store, frame, len, chunk) : NULL;

    if (!slot)
        return NULL;
    slot->len = (uint32_t)len;
    slot_link(store, flow, slot, COLO_SLOT_HELD, flow->primary.last);
    return slot;
}

ColoKeep colo_slot_keep(ColoStore *store, ColoSlot *slot)
{
    ColoFlow *flow = slot->flow;
    ColoSlot *other;

    if (!in_share(store, flow, slot->len))
        return COLO_KEEP_FLOW_FULL;
    other = slot_of(store, slot->data, slot->len, slot->chunk);
    if (!other)
        return COLO_KEEP_NO_ROOM;
    slot->data = other->data;
    slot->stored = true;
    other->stored = false;
    store->incoming = other;
    store_link(store, flow, slot, slot->list);
    return COLO_KEPT;
}

/* Strongly universal over the secret keys in its upper half (Lemire, Kaser: Strongly universal
 * string hashing is fast, 2014, Multilinear), so a guest that chooses addresses and ports cannot
 * crowd a bucket; much cheaper than SipHash for a key of this size, of which much is zero. */
uint64_t colo_flow_hash(const ColoStore *store, const ColoFlowKey *key)
{
    const uint64_t *k = store->hash_keys;
    uint64_t sum = k[0];

#pragma GCC unroll 8
    for (unsigned i = 0; i < sizeof(*key) / 8; i++) {
        uint64_t word;

        memcpy(&word, (const uint8_t *)key + (size_t)8 * i, 8);
        if (word)
            sum += k[1 + 2 * i] * (uint32_t)word + k[2 + 2 * i] * (word >> 32);
    }
    return sum;
}

static inline bool key_equal(const ColoFlowKey *a, const ColoFlowKey *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

void colo_flow_prefetch_bucket(const ColoStore *store, uint64_t hash)
{
    __builtin_prefetch(&store->buckets[hash >> store->bucket_shift]);
}

void colo_flow_prefetch(const ColoStore *store, uint64_t hash)
{
    uint32_t at = store->buckets[hash >> store->bucket_shift];
    const char *flow = (const char *)&store->flows[at - 1];

    if (at == 0)
        return;
#pragma GCC unroll 8
    for (size_t line = 0; line < offsetof(ColoFlow, twins); line += COLO_CACHE_LINE)
        __builtin_prefetch(flow + line);
}

static bool holds_frames(const ColoFlow *flow)
{
    return flow->primary.first || flow->stream.first || flow->twins.first;
}

/* The clock algorithm (Corbato 1968): the hand passes over flows that were seen since it last came
 * by. NULL when all that it passes hold frames. */
static ColoFlow *flow_evict(ColoStore *store)
{
    ColoFlow *victim = NULL;
    uint32_t *link;

    for (unsigned i = 0; i < EVICT_SCAN && i < store->flows_max; i++) {
        ColoFlow *flow = &store->flows[store->hand];

        store->hand = store->hand + 1 < store->flows_max ? store->hand + 1 : 0;
        if (holds_frames(flow))
            continue;
        if (!victim || !flow->recent)
            victim = flow;
        if (!flow->recent)
            break;
        flow->recent = false;
    }
    if (!victim)
        return NULL;
    colo_flow_forget(store, victim);
    link = &store->buckets[colo_flow_hash(store, &victim->key) >> store->bucket_shift];
    while (&store->flows[*link - 1] != victim)
        link = &store->flows[*link - 1].chain;
    *link = victim->chain;
    store->evicted++;
    return victim;
}

void colo_store_forget(ColoStore *store)
{
    while (store->history.first)
        history_drop_oldest(store);
    memset(store->buckets, 0, sizeof(*store->buckets) << (64 - store->bucket_shift));
    store->flows_fresh = 0;
    store->hand = 0;
}

ColoFlow *colo_flow_get(ColoStore *store, const ColoFlowKey *key, uint64_t hash)
{
    uint32_t *bucket = &store->buckets[hash >> store->bucket_shift];
    ColoFlow *flow;

    for (uint32_t at = *bucket; at; at = flow->chain) {
        flow = &store->flows[at - 1];
        if (!key_equal(&flow->key, key))
            continue;
        if (!flow->recent)
            flow->recent = true;
        return flow;
    }
    flow = store->flows_fresh < store->flows_max ? &store->flows[store->flows_fresh++]
                                                 : flow_evict(store);
    if (!flow)
        return NULL;
    memset(flow, 0, sizeof(*flow));
    flow->key = *key;
    flow->rank = COLO_SKEW_CLASS_NONE;
    flow->chain = *bucket;
    *bucket = (uint32_t)(flow - store->flows) + 1;
    return flow;
}
