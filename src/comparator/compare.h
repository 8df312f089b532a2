/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compare core: decides which frames of the primary may leave (I1). Pure functions on frames and
 * flow state: no sockets, no clock of its own, no allocation after colo_compare_new() (held frames
 * lie in an arena that is made then, or stay in the chunk that they were read into). One thread an
 * instance.
 *
 * TCP is compared as two byte streams in sequence space, whatever the segmentation; fragments as
 * the datagrams that they make up; everything else frame by frame within its flow. A primary frame
 * is held until (a) the secondary produced the same bytes in the same epoch (and, for TCP, has
 * itself acknowledged at least what the frame acknowledges: ACK, SACK and FIN-ACK are clamped or
 *       held), or
 *   (b) colo_compare_commit() says that a checkpoint taken after the frame was produced is
 *       complete at the secondary.
 * Frames of one flow leave in the order in which the primary produced them.
 *
 * Epoch k is the execution between RESUME(k) and STOP(k+1) (docs of the checkpoint stream); frames
 * carry the epoch of their producer, and only frames of one epoch are twins.
 */
#pragma once

#include "comparator/chunk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ColoCompare ColoCompare;

/* What the core says after each frame. */
typedef enum {
    COLO_VERDICT_RELEASED, /* the frame just fed left, possibly with held ones before it */
    COLO_VERDICT_HELD,     /* it waits for its twin or a commit */
    COLO_VERDICT_DIVERGED, /* held, and the copies differ: only a checkpoint can free the flow */
    COLO_VERDICT_TAKEN,    /* a frame of the secondary was taken in (or dropped as not needed), or
                              a malformed frame of either side was dropped and counted */
    COLO_VERDICT_FULL,     /* a limit is reached: the frame was NOT taken; ask for a checkpoint and
                              feed it again after the commit, or drop it and count it */
} ColoVerdict;

/* Why a checkpoint is wanted, and what happened: counted one by one. Keep names in step with
 * colo_compare_counter_name(). */
typedef enum {
    COLO_COUNT_PRIMARY_FRAMES,
    COLO_COUNT_SECONDARY_FRAMES,
    COLO_COUNT_RELEASED_EQUAL,    /* I1 (a) */
    COLO_COUNT_RELEASED_COMMIT,   /* I1 (b) */
    COLO_COUNT_RELEASED_ALONE,    /* I1 (c) */
    COLO_COUNT_DIVERGED_PAYLOAD,  /* TCP stream bytes differ */
    COLO_COUNT_DIVERGED_FLAGS,    /* FIN, RST or headers differ, or are at another place */
    COLO_COUNT_DIVERGED_SYN,      /* a new connection: initial sequence numbers differ */
    COLO_COUNT_DIVERGED_CONTENT,  /* other protocols: bytes differ */
    COLO_COUNT_DIVERGED_FRAGMENT, /* datagrams in fragments differ, or overlap: fragment.h */
    COLO_COUNT_DROPPED_STALE,     /* secondary frame of an older epoch (rule 6) */
    COLO_COUNT_DROPPED_MALFORMED,
    COLO_COUNT_DROPPED_FAR,      /* secondary's segment far out of order */
    COLO_COUNT_FULL_FRAMES,      /* COLO_VERDICT_FULL for want of arena or slots */
    COLO_COUNT_FULL_FLOWS,       /* ... of flows that hold nothing */
    COLO_COUNT_FULL_FLOW,        /* ... since one flow has its share of the arena or slots */
    COLO_COUNT_EVICTED_FLOWS,    /* forgotten for others: what left in them is not known any more */
    COLO_COUNT_DROPPED_QUIESCED, /* held frames that colo_compare_drop_all() dropped */
    COLO_COUNT_CLAMPED_ACK,      /* left with the secondary's lower ACK */
    COLO_COUNT_NARROWED_WINDOW,  /* left with the secondary's lower right edge */
    COLO_COUNT_STRIPPED_SACK,    /* left without SACK blocks that the secondary has not got */
    COLO_COUNT_OWED_ACK,         /* pure ACKs made to follow a clamped one */
    COLO_COUNT_LAST
} ColoCompareCounter;

/* Longest frame with its vnet header: a GSO segment of 64 KiB and headers. Longer ones are
 * malformed. */
#define COLO_COMPARE_FRAME_MAX (65536u + 256u)

/* One flow holds at most this part of arena and slots: a guest's bulk transfer that meets no answer
 * must not take the room from all its other connections. */
#define COLO_COMPARE_FLOW_SHARE 2u

/* Bounds (I8); 0 takes the default that compare.c names with its reason. */
typedef struct {
    size_t arena_bytes; /* held frames of both sides, each in a block of a power of two */
    uint32_t frames;    /* held frames of both sides */
    uint32_t flows;
} ColoCompareLimits;

/* Called for each frame that may leave, in order; must not call back into the core. @frame (with
 * @vnet bytes of vnet header before it inside @len) is valid during the call only and may have been
 * rewritten (clamped ACK, checksum adjusted). With @chunk it is the very memory that was fed, and
 * stays valid as long as the callee has a reference. */
typedef void (*ColoReleaseFunc)(void *opaque, uint8_t nic, const uint8_t *frame, size_t len,
                                size_t vnet, ColoChunk *chunk);

/* NULL only when memory is missing. */
ColoCompare *colo_compare_new(const ColoCompareLimits *limits, ColoReleaseFunc release,
                              void *opaque);
void colo_compare_free(ColoCompare *compare);

/* @len bytes at @frame: @vnet bytes of virtio-net header, then an Ethernet frame. @now_ns:
 * monotonic, only compared with itself. */
ColoVerdict colo_compare_primary(ColoCompare *compare, uint8_t nic, const uint8_t *frame,
                                 size_t len, size_t vnet, uint64_t epoch, uint64_t now_ns);
ColoVerdict colo_compare_secondary(ColoCompare *compare, uint8_t nic, const uint8_t *frame,
                                   size_t len, size_t vnet, uint64_t epoch, uint64_t now_ns);

/* One of a batch; the fields are the arguments of the calls above, and where the frame lies. With
 * @chunk a frame that is held is not copied: a reference is taken. */
typedef struct {
    const uint8_t *frame;
    size_t len;
    size_t vnet;
    uint64_t epoch;
    uint64_t now_ns;
    ColoChunk *chunk; /* or NULL */
    uint8_t nic;
    bool secondary;
} ColoCompareInput;

/* The same as the calls above for each of the @n frames in turn, but what they need is fetched from
 * memory ahead: with many flows it takes half the time. All frames are valid until it returns. */
void colo_compare_batch(ColoCompare *compare, const ColoCompareInput *inputs, size_t n,
                        ColoVerdict *verdicts);

/* The secondary holds complete checkpoint @epoch: primary frames of epochs < @epoch leave, frames
 * of the secondary of epochs < @epoch are forgotten. */
void colo_compare_commit(ColoCompare *compare, uint64_t epoch);

/* Whether frames that come in from now on are compared (true after colo_compare_new()). With
 * false, as when pairing has just begun and the secondary runs no copy yet, a primary frame is
 * freed by a commit only and the secondary's are dropped. Frames held already keep their rule. */
void colo_compare_set_comparing(ColoCompare *compare, bool comparing);

/* Sole ownership: everything that is held leaves. All flows, epochs and commits are forgotten, so
 * that frames may go another way from now on and epochs may start again. */
void colo_compare_release_all(ColoCompare *compare);

/* Quiesced: everything that is held is dropped and counted, and all is forgotten as above. Returns
 * the number of frames. */
uint64_t colo_compare_drop_all(ColoCompare *compare);

/* A checkpoint is needed because a flow has diverged. */
bool colo_compare_diverged(const ColoCompare *compare);

/* When the oldest held primary frame came in (now_ns of its call), or 0 when none is held. */
uint64_t colo_compare_oldest_ns(const ColoCompare *compare);

/* When the first held frame will have waited as long as its flow's frames, or those of all flows
 * while its own is not measured, have to wait for their twins (skew.h), but no longer than
 * @most_ns; or 0. */
uint64_t colo_compare_due_ns(const ColoCompare *compare, uint64_t most_ns);

/* A checkpoint is asked for because of that. It may free the frame before its twin comes, so its
 * limit is a measure as well, or a secondary that has become slow would stay unnoticed
 * (RFC 6298, 5.5 doubles the timer). But no more than @most_ns, what a checkpoint costs: to wait
 * longer for a twin that may never come costs more than the checkpoint (the ski rental problem). */
void colo_compare_late(ColoCompare *compare, uint64_t now_ns, uint64_t most_ns);

/* Bounds of the limit, 0 < @min_ns <= @max_ns; COLO_SKEW_MIN_NS and _MAX_NS at first. Flows that
 * are measured already follow with their next measure. */
void colo_compare_set_unanswered(ColoCompare *compare, uint64_t min_ns, uint64_t max_ns);

/* Mean and deviation over all flows, 0 when nothing was measured, and the limit that follows. */
void colo_compare_skew(const ColoCompare *compare, uint64_t *mean_ns, uint64_t *dev_ns,
                       uint64_t *limit_ns);

/* Held primary frames and their bytes. */
void colo_compare_held(const ColoCompare *compare, uint64_t *frames, uint64_t *bytes);
uint64_t colo_compare_counter(const ColoCompare *compare, ColoCompareCounter which);
const char *colo_compare_counter_name(ColoCompareCounter which);
