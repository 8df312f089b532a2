/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a back-end of the arbiter implements. The rules of each CAS are in arbiter.c, the same for
 * all; a back-end reads and swaps. */
#pragma once

#include "pair/arbiter.h"

/* What a CAS wants, and what its caller told. */
typedef struct {
    ColoArbiterOp op;
    const char *uuid;
    const char *me;
    const char *secondary; /* PAIR only */
    uint64_t n;
    const char *attempt;
} ColoCas;

/* The register that @cas writes; colo_register_free(). */
ColoRegister *colo_cas_wanted(const ColoCas *cas);

/* Back-end manual: there is no register. As the CASes of arbiter.h. */
ColoTake colo_arbiter_manual_cas(const ColoCas *cas, ColoRegister **current, GError **error);

/* Outcome of one compare-and-swap. */
typedef enum {
    COLO_SWAP_DONE,
    COLO_SWAP_MISMATCH, /* surely not applied: the register is no longer what was expected */
    COLO_SWAP_UNKNOWN,  /* may have been, or may yet be, applied */
} ColoSwap;

typedef struct {
    /* As colo_arbiter_read(), with the deadline (colo_clock_ns()). */
    ColoArbiterRead (*read)(void *backend, const char *uuid, uint64_t deadline_ns,
                            ColoRegister **reg, GError **error);
    /* @expected NULL: absent. @wanted NULL: remove. @current is set with MISMATCH when there is a
     * register. @error with every outcome but DONE. */
    ColoSwap (*swap)(void *backend, const char *uuid, const ColoRegister *expected,
                     const ColoRegister *wanted, uint64_t deadline_ns, ColoRegister **current,
                     GError **error);
    void (*keep_warm)(void *backend);
    void (*free)(void *backend);
} ColoArbiterBackend;

extern const ColoArbiterBackend colo_arbiter_etcd;
void *colo_arbiter_etcd_new(const ColoArbiterConfig *config, GError **error);
