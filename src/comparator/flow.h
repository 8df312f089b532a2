/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of the compare core: held frames (slots over an arena), flows (a table with a keyed hash),
 * and the lists that join them. All of it is made by colo_store_init(); afterwards nothing is
 * allocated. One thread an instance.
 *
 * A slot lies in one list of its flow and, when it is stored, in one list of the store:
 *   flow->primary    held frames of the primary, in its order      store->held[], by their limit
 *   flow->stream     TCP payload of the secondary, by sequence     store->secondary
 *   flow->twins      frames of the secondary that want an equal    store->secondary
 *                    one, in its order
 *   flow->history    TCP payload that has left, oldest first       store->history
 * History is kept as long as there is room, so that a retransmission of the primary can be compared
 * with what left before; it is the first thing to go when room is wanted.
 *
 * The frame that is being fed lies in the store's slot "incoming", which points at the caller's
 * bytes. It is stored only when it is still wanted after all that it lets happen has happened: its
 * bytes are copied into the arena then, or a reference to the caller's chunk is taken.
 *
 * Records are laid out in cache lines by what a segment in order needs: with many flows their lines
 * come from far away, and that is most of the time a frame takes.
 */
#pragma once

#include "comparator/arena.h"
#include "comparator/chunk.h"
#include "comparator/frame.h"
#include "comparator/skew.h"

typedef struct ColoSlot ColoSlot;
typedef struct ColoFlow ColoFlow;

typedef enum { COLO_SLOT_HELD, COLO_SLOT_STREAM, COLO_SLOT_TWIN, COLO_SLOT_HISTORY } ColoSlotList;

#define COLO_CACHE_LINE 64

typedef struct {
    ColoSlot *first;
    ColoSlot *last;
} ColoSlotQueue;

struct ColoSlot {
    ColoSlot *prev; /* in the flow's list */
    ColoSlot *next;
    ColoSlot *older; /* in the store's list */
    ColoSlot *newer;
    ColoFlow *flow;
    uint8_t *data; /* the store's block, or in @chunk; the caller's while the frame is being fed */
    uint64_t epoch;
    uint64_t now_ns;
    uint32_t len;
    uint32_t vnet;
    uint32_t incarnation; /* of the connection within its epoch, see tcp.h */
    uint32_t matched;     /* payload bytes from the start that the secondary has produced too */
    uint8_t list;         /* ColoSlotList */
    uint8_t rank;         /* held and stored: class of its limit (skew.h) */
    bool stored;          /* not the frame that is being fed */
    bool uncompared;      /* only a commit frees it */
    bool synthetic;       /* an ACK that is owed after a clamped one, see tcp.h */
    bool new_connection;  /* a SYN that begins one */
    bool usual;           /* colo_frame_usual() took it */
    ColoChunk *chunk;     /* where data lies, with a reference when stored; NULL: the arena */
    ColoFrameInfo info;
} __attribute__((aligned(COLO_CACHE_LINE)));

/* Ranges of the peer's sequence space that the secondary acknowledged selectively. Linux and others
 * show three or four at a time; twice that keeps the older ones too. */
#define COLO_SACK_RANGES 8u

/* What the secondary has said in one epoch and one incarnation of a connection; with sack[] of the
 * flow. */
typedef struct {
    uint64_t epoch;
    uint32_t incarnation;
    uint32_t ack;  /* highest */
    uint32_t low;  /* lowest sequence number of its segments */
    uint32_t high; /* end of its payload */
    uint32_t fin_at;
    bool valid;
    bool ack_valid;
    bool span_valid;
    bool fin;
    bool reset;
    uint8_t sacks;
    bool window_valid;
    uint16_t window;       /* largest with that acknowledgement, as in the segment */
    ColoEnvelope envelope; /* of its newest segment */
} ColoTcpSecondary;

/* What the primary has said up to and with one epoch. */
typedef struct {
    uint64_t epoch;
    uint32_t ack;              /* highest */
    uint32_t syn;              /* its newest SYN's sequence number */
    uint32_t edge;             /* right edge of its window, highest */
    uint32_t incarnation : 28; /* in that epoch */
    bool valid : 1;
    bool ack_valid : 1;
    bool syn_valid : 1;
    bool edge_valid : 1;
} ColoTcpPrimary;

/* What has left. */
typedef struct {
    bool valid; /* low and high are */
    bool fin;   /* a FIN left, at high */
    bool envelope_valid;
    bool ack_valid;
    bool edge_valid;  /* edge is; it needs the scale */
    bool scale_known; /* the handshake was seen */
    uint8_t scale;    /* of the window */
    uint16_t window;  /* as in the newest segment */
    uint32_t low;     /* payload [low, high) left, without a gap */
    uint32_t high;
    uint32_t ack;  /* highest */
    uint32_t edge; /* right edge of the window, highest */
    uint32_t syn;  /* of the connection whose scale is known */
    ColoEnvelope envelope;
} ColoTcpReleased;

struct ColoFlow {
    /* To find it. */
    ColoFlowKey key;
    uint32_t chain; /* of the hash bucket: index of the next one and 1, or 0 */
    bool recent;    /* seen again since colo_flow_get() last looked for one to give way */
    bool diverged;  /* its first held frame contradicts the secondary */
    uint8_t rank;   /* class of its limit, or COLO_SKEW_CLASS_NONE */

    /* A frame of the primary. */
    ColoSlotQueue primary __attribute__((aligned(COLO_CACHE_LINE)));
    ColoSlotQueue stream;
    ColoTcpPrimary newest;   /* as of the newest frame */
    uint64_t base_committed; /* the commit that base is up to date with */

    /* A frame of the secondary that lets one go. */
    ColoTcpSecondary secondary;
    ColoTcpReleased released;
    ColoSlot *scan; /* of stream: where the comparison of the first held frame stopped */
    ColoSlotQueue history;
    uint32_t held_bytes;  /* in blocks of the arena, without history */
    uint32_t held_frames; /* without history */
    ColoTcpPrimary base;  /* as of the newest commit: the secondary holds this */
    ColoSkew skew;

    /* Seldom. */
    ColoSlotQueue twins;
    uint32_t n_twins;
    bool secondary_syn_valid;
    uint32_t secondary_syn;
    ColoTcpPrimary before; /* as of the newest frame of an older epoch than newest's */
    uint32_t sack[COLO_SACK_RANGES][2];
    ColoFlow *todo; /* of a pass over all flows with held frames */
};

typedef struct {
    ColoArena arena;
    ColoSlot *slots;
    ColoSlot *free_slots;
    ColoSlot *incoming; /* the frame that is being fed */
    ColoFlow *flows;
    uint32_t *buckets; /* index of the first flow and 1, or 0 */
    unsigned bucket_shift;
    uint32_t slots_max;
    uint32_t slots_fresh; /* never used yet from here on */
    uint32_t flows_max;
    uint32_t flows_fresh;
    uint32_t hand; /* the flow that is next to be asked to give way */
    uint32_t flow_bytes_max;
    uint32_t flow_frames_max;
    uint32_t history_frames_max;
    size_t history_bytes_max;
    size_t history_bytes;
    uint32_t history_frames;
    uint32_t held_frames;
    uint64_t held_bytes;
    uint64_t evicted; /* flows */
    ColoSkewDomain skew;
    uint32_t held_ranks; /* bit i: held[i] is not empty */
    ColoSlotQueue held[COLO_SKEW_CLASSES];
    ColoSlotQueue secondary;
    ColoSlotQueue history;
    ColoHashKey secret;
    uint64_t hash_keys[sizeof(ColoFlowKey) / 4 + 1];
} ColoStore;

/* False when memory is missing; the store is cleared then. */
bool colo_store_init(ColoStore *store, size_t arena_bytes, uint32_t frames, uint32_t flows);
void colo_store_clear(ColoStore *store);

/* Hash of @key for the calls below. */
uint64_t colo_flow_hash(const ColoStore *store, const ColoFlowKey *key);

/* The flow of @key, made when there is none; one that holds no frames and was not seen lately gives
 * way. NULL when none is found. */
ColoFlow *colo_flow_get(ColoStore *store, const ColoFlowKey *key, uint64_t hash);

/* Brings what colo_flow_get() will look at towards the processor; the first call for a hash some
 * frames ahead, the second when the first has had time to arrive. */
void colo_flow_prefetch_bucket(const ColoStore *store, uint64_t hash);
void colo_flow_prefetch(const ColoStore *store, uint64_t hash);

/* Makes the incoming slot of @flow a stored one, and another slot the incoming one. False when no
 * room is left even without history, or when the flow has its share;
 * @slot stays as it was then. */
typedef enum { COLO_KEPT, COLO_KEEP_NO_ROOM, COLO_KEEP_FLOW_FULL } ColoKeep;
ColoKeep colo_slot_keep(ColoStore *store, ColoSlot *slot);

/* The @len bytes at @frame, in @chunk or to be copied, as the last held frame of @flow, to be
 * filled in; NULL when colo_slot_keep() would fail. */
ColoSlot *colo_slot_hold(ColoStore *store, ColoFlow *flow, const uint8_t *frame, size_t len,
                         ColoChunk *chunk);

/* A stored slot with room for @len bytes, in no list; NULL when no room is left. */
ColoSlot *colo_slot_new(ColoStore *store, size_t len);

/* Puts @slot into @list of @flow after @after (NULL: at its start) and a stored one into the
 * store's. */
void colo_slot_insert(ColoStore *store, ColoFlow *flow, ColoSlot *slot, ColoSlotList list,
                      ColoSlot *after);

/* Takes @slot out of its lists; its flow is NULL from then on. */
void colo_slot_remove(ColoStore *store, ColoSlot *slot);

/* Gives a removed slot back; of one that is not stored nothing is to be given back. */
void colo_slot_free(ColoStore *store, ColoSlot *slot);

/* Removes a slot whose payload has left and keeps it as history when it is stored and has any. */
void colo_slot_retire(ColoStore *store, ColoSlot *slot);

/* Forgets all flows; none may hold frames. */
void colo_store_forget(ColoStore *store);

/* Forgets the history of @flow. */
void colo_flow_forget(ColoStore *store, ColoFlow *flow);
