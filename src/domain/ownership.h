/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ownership of a domain's output (I3): the rules of tests/model/README.md, and the only place that
 * changes `generation`, `relinquished`, `owner` and `attempt` of a record; with them it stores the
 * state of who gave up (fenced) and of a secondary that owns (failing-over). What each function
 * promises it stores (fsync) before it returns; the caller closes the comparator's gates BEFORE it
 * calls, and opens them only after.
 *
 * Called by the domain's actor only; the calls block for the arbiter's deadline.
 */
#pragma once

#include "domain/store.h"
#include "pair/arbiter.h"

typedef enum {
    COLO_OWNERSHIP_WON,     /* this host is sole owner of record->generation */
    COLO_OWNERSHIP_PAIRED,  /* the register says paired: output needs both (rule 4) */
    COLO_OWNERSHIP_LOST,    /* the peer is: quiesce */
    COLO_OWNERSHIP_UNKNOWN, /* not decided: output stays held, call resolve_unknown again */
    COLO_OWNERSHIP_MANUAL,  /* only consent or the operator can decide */
} ColoOwnership;

/* What the functions stand on. @me: this host's name; @peer: the other's, as in the register. */
typedef struct {
    ColoStore *store;
    ColoArbiter *arbiter;
    const char *me;
    const char *peer;
} ColoOwnershipContext;

/* Rule 1 and 3: makes sure that the register says {generation, me, alone}, creating it when it is
 * absent and this host may. Sets record->generation and owner. FALSE with @error otherwise. */
gboolean colo_ownership_begin(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                              GError **error);

/* Rule 4: primary, the secondary has LOADED, and a checkpoint cut under gate "paired" is committed.
 * CAS alone -> paired. PAIRED, or UNKNOWN: never alone again in this generation by itself. */
ColoOwnership colo_ownership_pair(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                  GError **error);

/* Rule 10: gives up record->generation for good, stored before it returns TRUE; only then may the
 * peer be told. The guest here is stopped and its gates are closed by the caller before. FALSE
 * while an attempt of this host is unresolved. */
gboolean colo_ownership_consent(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                GError **error);

/* Rule 11: the peer has durably given up @n, this host's copy lives: it owns n + 1. FALSE with
 * @error when that is stale or this host gave it up itself. */
gboolean colo_ownership_accept_consent(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                       uint64_t n, GError **error);

/* Brings the register to {generation, me, alone} after a consent. Nothing depends on it at once,
 * but no new session begins before. UNKNOWN: try again later. */
ColoOwnership colo_ownership_update_register(const ColoOwnershipContext *ctx,
                                             ColoDomainRecord *record, GError **error);

/* Rule 6: the peer is suspected: CAS (n, paired) -> (n+1, me, alone). Only a candidate may call:
 * the primary whose QEMU lives, a secondary with record->loaded; a host that relinquished is
 * refused. With an attempt unresolved it is colo_ownership_resolve_unknown(). */
ColoOwnership colo_ownership_lost_peer(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                       GError **error);

/* Rule 7, and rule 4 for a pairing: reads, and repeats the same attempt while it may be applied. */
ColoOwnership colo_ownership_resolve_unknown(const ColoOwnershipContext *ctx,
                                             ColoDomainRecord *record, GError **error);

/* Rule 8: this host is not the owner. Stores the state `fenced` and the generation that was seen.
 */
gboolean colo_ownership_quiesce(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                uint64_t seen_generation, GError **error);

/* Rule 13: the operator's word (colo-failover --i-am-sure). */
ColoOwnership colo_ownership_force(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                   GError **error);

/* Rule 12: a copy that does not run any more (reboot, the lone owner's QEMU died). WON only after a
 * CAS of its own: the guest may be started from its disk then. PAIRED: still paired. */
ColoOwnership colo_ownership_restart(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                     GError **error);

/* Rule 15: the domain has gone to a host that has nothing to do with this one, and is not
 * protected: its register goes, if it is {generation, me, alone}, so that it can be protected
 * there. WON: none of this host is left. This host stays the owner of its generation: it makes the
 * register again if the domain comes back (rule 1). UNKNOWN: try again later. */
ColoOwnership colo_ownership_leave(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                   GError **error);
