/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * IP fragments in the compare core (RFC 791, RFC 8200 4.5): compared as the datagrams that a
 * receiver puts together from them. The copies may choose another identification, cut at other
 * places and send the pieces in another order.
 *
 * The fragments between two hosts (of one protocol, IPv4) are a flow. A datagram is what has one
 * identification there, said by one copy in one epoch. None of its fragments leaves before all of
 * them are here and the secondary has said a datagram with the same content; then each leaves when
 * its turn comes. What the first fragment's header says counts: MACs, TTL, DSCP, DF, options or
 * extension headers, the protocol. Nothing is copied together: the pieces are compared where they
 * lie.
 *
 * Overlapping fragments, others after the last one, and more than COLO_FRAGMENTS_MAX are none that
 * a guest's stack sends: they are a way to show two readers two contents (RFC 1858, RFC 5722). Such
 * a datagram is a divergence, and so is a whole one of the secondary that the primary has not said.
 * One that stays incomplete waits as any frame without a twin does, until the checkpoint that its
 * limit asks for.
 */
#pragma once

#include "comparator/flow.h"

/* Of one datagram: 64 KiB over a link of 576 bytes (RFC 791 3.1) are 119. */
#define COLO_FRAGMENTS_MAX 128u
/* Held frames of a side that are looked through for those of one datagram: a bound for the time a
 * fragment takes, and room for two datagrams of the most fragments between which others lie. */
#define COLO_FRAGMENT_SCAN 256u
/* Datagrams of a side that may lie between the two twins: senders on several processors. */
#define COLO_FRAGMENT_REORDER 4u

typedef enum {
    COLO_FRAGMENT_LEAVE,
    COLO_FRAGMENT_WAIT,
    COLO_FRAGMENT_DIVERGED,
} ColoFragmentAnswer;

/* May @slot, the first held frame of @flow, leave? The twins of its datagram are used up then. */
ColoFragmentAnswer colo_fragment_check(ColoStore *store, ColoFlow *flow, ColoSlot *slot);

/* @slot, the newest held frame of @flow, may let its first one go. */
static inline bool colo_fragment_completes(const ColoFlow *flow, const ColoSlot *slot)
{
    return slot->info.fragment && flow->primary.first->info.fragment &&
           flow->primary.first->info.frag_id == slot->info.frag_id;
}
