/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of the compare core: held frames (slots over an arena), flows (a table with a keyed hash),
 * and the lists that join them. All of it is made by colo_store_init(); afterwards nothing is
 * allocated. One thread an instance.
 *
 * A slot lies in one list of its flow and in one list of the store:
 *   flow->primary    held frames of the primary, in its order      store->held
 *   flow->stream     TCP payload of the secondary, by sequence     store->secondary
 *   flow->twins      frames of the secondary that want an equal    store->secondary
 *                    one, in its order
 *   flow->history    TCP payload that has left, oldest first       store->history
 * History is kept as long as there is room, so that a retransmission of the primary can be compared
 * with what left before; it is the first thing to go when room is wanted.
 */
#pragma once

#include "comparator/arena.h"
#include "comparator/frame.h"

typedef struct ColoSlot ColoSlot;
typedef struct ColoFlow ColoFlow;

typedef enum { COLO_SLOT_HELD, COLO_SLOT_STREAM, COLO_SLOT_TWIN, COLO_SLOT_HISTORY } ColoSlotList;

typedef struct {
    ColoSlot *first;
    ColoSlot *last;
    uint32_t count;
} ColoSlotQueue;

struct ColoSlot {
    ColoSlot *prev; /* in the flow's list */
    ColoSlot *next;
    ColoSlot *older; /* in the store's list */
    ColoSlot *newer;
    ColoFlow *flow;
    uint8_t *data; /* the store's block; the caller's bytes while the frame is being fed */
    size_t len;
    size_t vnet;
    uint64_t epoch;
    uint64_t now_ns;
    uint32_t incarnation; /* of the connection within its epoch, see tcp.h */
    uint32_t matched;     /* payload bytes from the start that the secondary has produced too */
    uint8_t list;         /* ColoSlotList */
    bool stored;          /* data is the store's, else the caller's */
    bool uncompared;      /* only a commit frees it */
    bool synthetic;       /* an ACK that is owed after a clamped one, see tcp.h */
    bool new_connection;  /* a SYN that begins one */
    ColoFrameInfo info;
};

/* Ranges of the peer's sequence space that the secondary acknowledged selectively. Linux and others
 * show three or four at a time; twice that keeps the older ones too. */
#define COLO_SACK_RANGES 8u

/* What the secondary has said in one epoch and one incarnation of a connection. */
typedef struct {
    bool valid;
    bool ack_valid;
    bool span_valid;
    bool fin;
    bool reset;
    uint8_t sacks;
    uint32_t incarnation;
    uint64_t epoch;
    uint32_t ack;  /* highest */
    uint32_t low;  /* lowest sequence number of its segments */
    uint32_t high; /* end of its payload */
    uint32_t fin_at;
    uint32_t sack[COLO_SACK_RANGES][2];
    ColoEnvelope envelope; /* of its newest segment */
} ColoTcpSecondary;

/* What the primary has said up to and with one epoch. */
typedef struct {
    bool valid;
    bool ack_valid;
    bool syn_valid;
    uint64_t epoch;
    uint32_t incarnation; /* in that epoch */
    uint32_t ack;         /* highest */
    uint32_t syn;         /* its newest SYN's sequence number */
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
    ColoEnvelope envelope;
} ColoTcpReleased;

typedef struct {
    ColoTcpPrimary newest; /* as of the newest frame */
    ColoTcpPrimary before; /* as of the newest frame of an older epoch than that */
    ColoTcpPrimary base;   /* as of the newest commit: the secondary holds this */
    ColoTcpSecondary secondary;
    bool secondary_syn_valid;
    uint32_t secondary_syn;
    ColoTcpReleased released;
} ColoTcpFlow;

struct ColoFlow {
    ColoFlow *chain; /* of the hash bucket, or of the free list */
    ColoFlow *older; /* of the idle list */
    ColoFlow *newer;
    ColoFlowKey key;
    ColoFlow *todo; /* of a pass over all flows with held frames */
    uint32_t bucket;
    bool idle;     /* in the idle list: holds no frame but history */
    bool diverged; /* its first held frame contradicts the secondary */
    ColoSlotQueue primary;
    ColoSlotQueue stream;
    ColoSlotQueue twins;
    ColoSlotQueue history;
    ColoSlot *scan;          /* of stream: where the comparison of the first held frame stopped */
    uint64_t base_committed; /* the commit that tcp.base is up to date with */
    ColoTcpFlow tcp;
};

typedef struct {
    ColoArena arena;
    ColoSlot *slots;
    ColoSlot *free_slots;
    ColoFlow *flows;
    ColoFlow *free_flows;
    ColoFlow **buckets;
    uint32_t bucket_mask;
    uint32_t history_frames_max;
    size_t history_bytes_max;
    size_t history_bytes;
    uint64_t held_bytes;
    ColoFlow *idle_oldest;
    ColoFlow *idle_newest;
    ColoSlotQueue held;
    ColoSlotQueue secondary;
    ColoSlotQueue history;
    ColoHashKey secret;
} ColoStore;

/* False when memory is missing; the store is cleared then. */
bool colo_store_init(ColoStore *store, size_t arena_bytes, uint32_t frames, uint32_t flows);
void colo_store_clear(ColoStore *store);

/* The flow of @key, made when there is none; the longest idle one gives way. NULL when every flow
 * holds frames. A flow that stays without frames is handed back by colo_flow_settle(). */
ColoFlow *colo_flow_get(ColoStore *store, const ColoFlowKey *key);

/* Puts @flow into the idle list, as its newest, when it holds no frames, else takes it out. */
void colo_flow_settle(ColoStore *store, ColoFlow *flow);

/* A stored copy of @slot, which it replaces in its lists. NULL when no room is left even without
 * history; @slot stays then. */
ColoSlot *colo_slot_keep(ColoStore *store, ColoSlot *slot);

/* A stored slot with room for @len bytes, in no list; NULL when no room is left. */
ColoSlot *colo_slot_new(ColoStore *store, size_t len);

/* Puts @slot into @list of @flow after @after (NULL: at its start) and into the store's. */
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
