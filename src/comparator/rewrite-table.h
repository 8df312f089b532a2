/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rewriter's connections: a bounded hash table with a secret, because guests and their peers
 * choose addresses and ports. All memory is taken at the start. One thread.
 */
#pragma once

#include "comparator/frame.h"
#include "comparator/segment.h"

/* Connections that one epoch may open before a checkpoint has to (it empties the table): as many
 * as the rows of "rewrite-table" that one control message of 1 MiB carries. */
#define COLO_REWRITE_CONNECTIONS 4096u
/* SYNs of the guest that wait for the primary's: the copies are less than a round trip apart, and
 * 256 new connections in 1 ms are a flood. */
#define COLO_REWRITE_WAITING 256u
/* As a rule a SYN has headers and options only: vnet 64, Ethernet with two tags 22, IP 60 or IPv6
 * with options 100, TCP 60. One with much data is not kept. */
#define COLO_REWRITE_SYN_BYTES 512u

/* A SYN of either copy. */
typedef struct {
    bool valid;
    bool is_answer; /* SYN-ACK */
    bool ts_valid;
    uint32_t seq;
    uint32_t ack; /* of a SYN-ACK */
    uint32_t ts;  /* TSval */
} ColoRewriteSyn;

/* How the guest's numbers become those that the other end knows, and back. */
typedef struct {
    bool valid;
    ColoRewriteSyn syn; /* the guest's, in its own numbers */
    uint32_t delta;     /* to be added to a sequence number of the guest */
    bool ts_valid;
    bool ts_raised;     /* a takeover has raised ts_delta */
    uint32_t ts_delta;  /* to be added to a TSval of the guest */
    uint32_t ts_high;   /* highest TSval that the other end may know */
    uint32_t ts_split;  /* raised: what is echoed from before this one... */
    uint32_t ts_before; /* ...was made with this */
} ColoRewriteMap;

/* The guest's SYN whose counterpart has not come. */
typedef struct ColoRewriteWaiting ColoRewriteWaiting;
struct ColoRewriteWaiting {
    ColoRewriteWaiting *next; /* of the free list */
    ColoRewriteSyn syn;
    size_t len, vnet;
    uint8_t frame[COLO_REWRITE_SYN_BYTES];
};

typedef struct ColoRewriteEntry ColoRewriteEntry;
struct ColoRewriteEntry {
    ColoRewriteEntry *chain; /* of the hash bucket, or of the free list */
    ColoConnection connection;
    ColoRewriteMap map;          /* of the running epoch */
    ColoRewriteMap base;         /* of an earlier session: in force while alone */
    bool base_kept;              /* within colo_rewrite_keep() */
    bool base_over;              /* the guest has opened another connection in the running epoch */
    bool announced;              /* and so has the primary */
    ColoRewriteSyn primary;      /* its newest SYN that has met none of the guest's */
    ColoRewriteWaiting *waiting; /* or NULL */

    /* Has the connection ended? In the guest's numbers. */
    uint64_t seen_ns;
    bool established;
    bool reset;
    bool next_valid, ack_valid;
    bool fin_out, fin_in;             /* seen */
    bool fin_out_acked, fin_in_acked; /* and acknowledged */
    uint32_t next;                    /* of the guest: the number after its newest */
    uint32_t ack;                     /* the guest's newest */
    uint32_t fin_out_end, fin_in_end; /* the number after it */
};

typedef struct {
    ColoHashKey secret;
    ColoRewriteEntry *entries;
    ColoRewriteEntry *free_entries;
    ColoRewriteEntry **buckets;
    ColoRewriteWaiting *waiting;
    ColoRewriteWaiting *free_waiting;
    uint32_t count; /* entries in use */
    uint32_t used;  /* of entries, ever: the rest has not been touched */
    uint32_t waiting_used;
} ColoRewriteTable;

/* False when memory is missing; the table is cleared then. */
bool colo_rewrite_table_init(ColoRewriteTable *table);
void colo_rewrite_table_clear(ColoRewriteTable *table);

ColoRewriteEntry *colo_rewrite_table_find(const ColoRewriteTable *table,
                                          const ColoConnection *connection);
/* Finds or makes it, zeroed; NULL when the table is full. */
ColoRewriteEntry *colo_rewrite_table_get(ColoRewriteTable *table, const ColoConnection *connection);
void colo_rewrite_table_remove(ColoRewriteTable *table, ColoRewriteEntry *entry);

/* The entry after @entry (NULL: the first) in no particular order, or NULL. @entry may have been
 * removed since, others not. */
ColoRewriteEntry *colo_rewrite_table_next(const ColoRewriteTable *table,
                                          const ColoRewriteEntry *entry);

/* Gives @entry a place to keep a SYN (the one it has); NULL when none is left. */
ColoRewriteWaiting *colo_rewrite_table_wait(ColoRewriteTable *table, ColoRewriteEntry *entry);
void colo_rewrite_table_unwait(ColoRewriteTable *table, ColoRewriteEntry *entry);
