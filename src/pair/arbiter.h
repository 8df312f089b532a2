/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The arbiter: decides by a compare-and-swap on one register per protected domain which host may go
 * on alone (I3). Design section 3; the protocol is modelled in tests/model/.
 *
 * Back-ends: etcd (v3, JSON gateway, TLS with client certificates) and manual (no register: the
 * operator decides).
 *
 * Threads: all functions block, each for at most its own deadline (the configuration's timeout_ms),
 * and may be called from any thread at once. No clock decides ownership here: a deadline only turns
 * an answer into "unknown".
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    COLO_REGISTER_ALONE,  /* owner runs the only copy: nobody may take it over */
    COLO_REGISTER_PAIRED, /* primary and secondary both hold a viable copy */
} ColoRegisterMode;

/* Register of a domain. Strings belong to the structure. */
typedef struct {
    char *uuid;
    uint64_t generation;
    char *primary;   /* host name */
    char *secondary; /* host name; NULL when alone */
    char *owner;     /* host name */
    ColoRegisterMode mode;
    char *attempt;    /* uuid of the CAS that wrote it */
    int64_t revision; /* the back-end's: version of the value */
    char *raw;        /* the back-end's: the value as it was read; else NULL */
} ColoRegister;

void colo_register_free(ColoRegister *reg);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoRegister, colo_register_free)

const char *colo_register_mode_name(ColoRegisterMode mode); /* "alone", "paired" */
char *colo_register_describe(const ColoRegister *reg);      /* one line for people; g_free() */

typedef enum {
    COLO_ARBITER_FOUND,
    COLO_ARBITER_ABSENT,  /* there is surely no register (manual: never one) */
    COLO_ARBITER_UNKNOWN, /* no clear answer; @error says why */
} ColoArbiterRead;

/* Outcome of a CAS. */
typedef enum {
    COLO_TAKE_WON,     /* it was applied by this attempt */
    COLO_TAKE_LOST,    /* it was not and never will be; @current says what stands instead */
    COLO_TAKE_UNKNOWN, /* it may have been applied, or may yet be: keep output held and
                        * colo_arbiter_resolve(), or repeat it with the same attempt */
    COLO_TAKE_MANUAL,  /* it was not applied: no register, or one lower than this host has seen,
                        * or the back-end has none. Only consent or the operator can decide */
} ColoTake;

typedef enum {
    COLO_ARBITER_MANUAL,
    COLO_ARBITER_ETCD,
} ColoArbiterKind;

typedef struct {
    ColoArbiterKind kind;
    char **endpoints; /* etcd: "https://host:2379", NULL-terminated */
    char *ca_file;    /* etcd: PEM files; all three are needed */
    char *cert_file;
    char *key_file;
    unsigned timeout_ms; /* of one function call, all its requests together; 0: 2000 */
    bool
        allow_plaintext; /* etcd: http:// endpoints, for unit tests; no configuration key sets it */
} ColoArbiterConfig;
#define COLO_ARBITER_TIMEOUT_MS 2000u

void colo_arbiter_config_clear(ColoArbiterConfig *config);

typedef struct ColoArbiter ColoArbiter;

/* Does not connect. NULL and @error (COLO_ERROR_INVALID_ARG) when @config is incomplete; it is
 * copied. */
ColoArbiter *colo_arbiter_new(const ColoArbiterConfig *config, GError **error);
void colo_arbiter_free(ColoArbiter *arbiter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoArbiter, colo_arbiter_free)

ColoArbiterKind colo_arbiter_kind(const ColoArbiter *arbiter);
const char *colo_arbiter_kind_name(ColoArbiterKind kind); /* "manual", "etcd" */

/* From now on a connection to the back-end is kept ready, by a small read every 30 s: a takeover
 * would have to wait for its TLS handshake otherwise. */
void colo_arbiter_keep_warm(ColoArbiter *arbiter);

/* Asks whether the back-end answers (a linearizable read); FALSE and @error. For doctor and status.
 */
gboolean colo_arbiter_probe(ColoArbiter *arbiter, GError **error);

/* Reads linearizably. @reg is set, for colo_register_free(), only with FOUND; @error only with
 * UNKNOWN. */
ColoArbiterRead colo_arbiter_read(ColoArbiter *arbiter, const char *uuid, ColoRegister **reg,
                                  GError **error);

/*
 * The CASes. Common to all:
 *   @me       this host's name
 *   @n        generation the caller stands at; the highest it has ever seen for the domain
 *   @attempt  a fresh uuid, chosen and stored by the caller before the call; the same again only to
 *             repeat exactly the same CAS
 *   @current  the register after the call as far as known, for colo_register_free(); may be set to
 *             NULL with any outcome; @current itself may be NULL
 *   @error    set with every outcome but WON, says why
 */

/* absent -> {n, me, alone}. LOST when there is one. */
ColoTake colo_arbiter_create(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                             const char *attempt, ColoRegister **current, GError **error);

/* {n, owner me, alone} -> {n, primary me, @secondary, owner me, paired}. */
ColoTake colo_arbiter_pair(ColoArbiter *arbiter, const char *uuid, const char *me,
                           const char *secondary, uint64_t n, const char *attempt,
                           ColoRegister **current, GError **error);

/* {n, paired, me one of the two} -> {n+1, primary and owner me, alone}. At most one WON per n. */
ColoTake colo_arbiter_take(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                           const char *attempt, ColoRegister **current, GError **error);

/* After the owner's consent, by the host that it was given to:
 * {n, me one of the hosts named, or alone} -> {n+1, primary and owner me, alone}. */
ColoTake colo_arbiter_update(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                             const char *attempt, ColoRegister **current, GError **error);

/* The operator's word (colo-failover --i-am-sure): whatever stands, or nothing -> {n+1, me, alone}.
 * @n must be at least the register's generation (LOST otherwise). Manual: WON. */
ColoTake colo_arbiter_force(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                            const char *attempt, ColoRegister **current, GError **error);

/* Removes the register if it is {n, owner me}; WON too when there is none. */
ColoTake colo_arbiter_remove(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                             GError **error);

typedef enum {
    COLO_ARBITER_OP_CREATE,
    COLO_ARBITER_OP_PAIR,
    COLO_ARBITER_OP_TAKE,
    COLO_ARBITER_OP_UPDATE,
    COLO_ARBITER_OP_FORCE,
} ColoArbiterOp;

/*
 * After UNKNOWN of @op with these arguments: a linearizable read. WON when the register carries
 * @attempt, LOST when it shows that the CAS can no longer succeed, UNKNOWN while it still may (it
 * may be on its way) or no answer came; the caller asks again or repeats the CAS with the same
 * attempt. MANUAL when the register is missing or lower than @n.
 */
ColoTake colo_arbiter_resolve(ColoArbiter *arbiter, ColoArbiterOp op, const char *uuid, uint64_t n,
                              const char *attempt, ColoRegister **current, GError **error);
