/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sequence numbers and timestamps of connections that were opened since the newest checkpoint, at
 * the secondary (RFC 9293, 2018, 7323). Its copy of the guest chooses initial numbers of its own;
 * here they become the primary's, so that its output is comparable, and what the other end says to
 * the primary's numbers becomes what this copy understands.
 *
 * - The primary's helper tells each SYN and SYN-ACK of its guest (COLO_RECORD_SYN) before that may
 *   leave. With the SYN of the guest here, whichever comes first, it gives the connection's delta.
 *   Until then the guest's SYN waits here: it is never confirmed without its delta, so no SYN has
 *   left that a takeover could not go on with (I1).
 * - From then on seq += delta and TSval += ts_delta in the guest's output, ack, SACK blocks -=
 * delta and TSecr -= ts_delta in its input; so does the number that an ICMP error quotes.
 * - A map is made once for a SYN of the guest and stays until the guest sends another one: what has
 *   been told to the other end holds.
 * - A checkpoint brings the primary's own numbers: colo_rewrite_loaded() forgets all maps. They are
 *   those of one epoch always.
 * - After a takeover (colo_rewrite_alone()) the maps stay as long as their connections live; see
 *   colo_rewrite_expire(). TSval is raised once, if need be, so that none is lower than the primary
 *   can have sent; echoes of older ones are still taken back by the old difference.
 * - A survivor that is protected again gives its maps to the new secondary (colo_rewrite_export(),
 *   import): in force there once it is alone too. Both copies have the numbers of the survivor's
 *   guest till then. Such a row ends with the next SYN of its connection: when this guest has sent
 *   it, or goes on from a checkpoint taken after the primary's did.
 *
 * Whatever does not fit (no place, two initial numbers for one SYN of the other end as SYN cookies
 * can give, signed segments) is passed on unchanged: it equals nothing of the primary's, and a
 * checkpoint lets the primary's SYN go.
 *
 * Pure functions on frames: no clock, no sockets, no allocation after colo_rewrite_new(). Nothing
 * trusts a frame. One thread.
 */
#pragma once

#include "comparator/rewrite-table.h"

/* TSval grows by one each ms with Linux, Windows and the BSDs. What the primary sent last lies
 * within the comparison's bound (20 ms) and some pauses of what was seen here; a second is far more
 * than both, and a leap forward is legal (RFC 7323 5.4: 2^31). */
#define COLO_REWRITE_TS_MARGIN 1000u
/* What the other end echoes is what the primary sent, or nonsense when it is further ahead of what
 * was seen here than a minute. */
#define COLO_REWRITE_TS_AHEAD 60000u
/* After this long without a segment a connection counts as ended: no NAT keeps it longer either,
 * and both numbers are the least that RFC 5382 (REQ-5) lets one keep it. The second is for what is
 * not established yet, or closed: it covers the TIME-WAIT of RFC 9293 3.6.1 (two MSL, 4 min), in
 * which a lost last ACK is asked for again. */
#define COLO_REWRITE_IDLE_NS (UINT64_C(124) * 60 * 1000000000u)
#define COLO_REWRITE_TRANSITORY_NS (UINT64_C(4) * 60 * 1000000000u)
/* The frame that may be changed is copied before. */
#define COLO_REWRITE_FRAME_MAX (65536u + 256u)

/* Names in rewrite.c. */
typedef enum {
    COLO_REWRITE_MAPPED,   /* connections */
    COLO_REWRITE_WAITED,   /* SYNs of the guest that came before the primary's */
    COLO_REWRITE_UNMAPPED, /* SYNs that did not fit: a checkpoint helps */
    COLO_REWRITE_OUTPUT,   /* frames changed */
    COLO_REWRITE_INPUT,
    COLO_REWRITE_TS_RAISED, /* connections whose TSval would have gone back */
    COLO_REWRITE_ENDED,     /* while alone: by RST, or a new connection in its place */
    COLO_REWRITE_EXPIRED,   /* while alone: by time */
    COLO_REWRITE_COUNTERS,
} ColoRewriteCounter;

/* A map as it goes to another helper. */
typedef struct {
    ColoConnection connection;
    uint32_t isn; /* of the guest */
    uint32_t delta;
    bool ts_valid;
    uint32_t ts_delta;
    uint32_t ts_high;
} ColoRewriteRow;

typedef struct ColoRewrite ColoRewrite;

/* Called out of colo_rewrite_primary_syn() with a SYN that has waited; not to call back. */
typedef void (*ColoRewriteSend)(void *opaque, uint8_t nic, const uint8_t *frame, size_t len,
                                size_t vnet);

/* NULL when memory is missing. */
ColoRewrite *colo_rewrite_new(ColoRewriteSend send, void *opaque);
void colo_rewrite_free(ColoRewrite *rewrite);

/* True when @frame is a SYN or SYN-ACK of a guest, of which the secondary is to be told. */
bool colo_rewrite_is_syn(const uint8_t *frame, size_t len, size_t vnet);

/* The primary's guest has sent this SYN in the epoch that runs here. */
void colo_rewrite_primary_syn(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame, size_t len,
                              size_t vnet);

/* The same of an epoch that has ended here. @loaded: the guest here goes on from a checkpoint that
 * was taken after it, else it is about to (colo_rewrite_loaded() is still to come). */
void colo_rewrite_late_syn(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame, size_t len,
                           size_t vnet, bool loaded);

/* What the guest here has sent, for the other end: @frame itself, or a changed copy that is valid
 * until the next call. NULL: it waits. @now_ns: monotonic. */
const uint8_t *colo_rewrite_output(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame,
                                   size_t len, size_t vnet, uint64_t now_ns);
/* What the other end has sent, for the guest here. */
const uint8_t *colo_rewrite_input(ColoRewrite *rewrite, uint8_t nic, const uint8_t *frame,
                                  size_t len, size_t vnet, uint64_t now_ns);

/* The guest here is about to go on from the primary's state, or cannot go on from its own any more.
 */
void colo_rewrite_loaded(ColoRewrite *rewrite);

/* Sole ownership: the guest here goes on with what it has. For good. */
void colo_rewrite_alone(ColoRewrite *rewrite);

/* Forgets connections that have been silent for too long. */
void colo_rewrite_expire(ColoRewrite *rewrite, uint64_t now_ns);

/* Connections whose numbers are changed now, or would be if it were alone now. */
uint32_t colo_rewrite_live(const ColoRewrite *rewrite);

/* Fills at most @max rows with those; their number. */
uint32_t colo_rewrite_export(const ColoRewrite *rewrite, ColoRewriteRow *rows, uint32_t max);
/* Forgets the imported rows that are not among these later ones: their connections have ended. */
void colo_rewrite_keep(ColoRewrite *rewrite, const ColoRewriteRow *rows, uint32_t n);
/* Before anything else is done with @rewrite. False when there is no place or it is there twice. */
bool colo_rewrite_import(ColoRewrite *rewrite, const ColoRewriteRow *row, uint64_t now_ns);

uint64_t colo_rewrite_counter(const ColoRewrite *rewrite, ColoRewriteCounter which);
const char *colo_rewrite_counter_name(ColoRewriteCounter which);
