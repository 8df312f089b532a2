/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The store: what this host must remember over a crash. SQLite, one file in the state directory,
 * every write a transaction that is on disk (fsync) when the call returns; ownership stands on
 * that (tests/model/README.md says what is stored before which message).
 *
 * Any thread; calls are serialized inside.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "util/json.h"

typedef struct ColoStore ColoStore;

typedef enum {
    COLO_ROLE_NONE,
    COLO_ROLE_PRIMARY,
    COLO_ROLE_SECONDARY,
} ColoRole;

/* Design section 3. Kept in the store by name. */
typedef enum {
    COLO_STATE_UNPROTECTED,
    COLO_STATE_PREPARING,
    COLO_STATE_SYNCING,
    COLO_STATE_PROTECTED,
    COLO_STATE_DEGRADED,     /* peer lost, ownership undecided: output is held */
    COLO_STATE_FAILING_OVER, /* secondary: takeover in progress */
    COLO_STATE_COMMITTING,   /* survivor: overlays are being merged */
    COLO_STATE_ALONE,        /* sole owner, runs without a peer */
    COLO_STATE_FENCED,       /* gave ownership up or lost it: may not run here */
    COLO_STATE_MANUAL,       /* nobody may decide but the operator */
    COLO_STATE_LAST
} ColoState;

const char *colo_state_name(ColoState state);
ColoState colo_state_from_name(const char *name); /* COLO_STATE_UNPROTECTED when unknown */
const char *colo_role_name(ColoRole role);
ColoRole colo_role_from_name(const char *name);

/* What is remembered of a domain. Strings are owned by the record. */
typedef struct {
    char uuid[37];
    char *name;
    char *pair;
    ColoRole role;
    ColoState state;
    uint64_t generation;   /* highest that this host has seen */
    uint64_t relinquished; /* highest that this host gave up for good; 0: none */
    gboolean owner;        /* this host held sole ownership (mode alone) of `generation` */
    gboolean loaded;       /* secondary: a checkpoint of `generation` was LOADED */
    char *attempt;         /* CAS that is not resolved yet, or NULL */
    gboolean attempt_pair; /* it was alone -> paired; else it was a take */
    char *boot_id;         /* of the boot in which the copy ran */
    JsonObject *details;   /* what the steps need to find things again; never NULL */
} ColoDomainRecord;

ColoDomainRecord *colo_domain_record_new(const char *uuid, const char *name);
ColoDomainRecord *colo_domain_record_copy(const ColoDomainRecord *record);
void colo_domain_record_free(ColoDomainRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoDomainRecord, colo_domain_record_free)

typedef struct {
    char *name;
    char *peer;           /* host name or address */
    uint16_t port;        /* peer's control port */
    JsonObject *pool_map; /* {local pool: peer's pool}; never NULL */
} ColoPairRecord;

ColoPairRecord *colo_pair_record_new(const char *name, const char *peer, uint16_t port);
void colo_pair_record_free(ColoPairRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoPairRecord, colo_pair_record_free)

/* Opens or creates @directory/state.db (mode 0600). A store written by a newer version is refused.
 */
ColoStore *colo_store_open(const char *directory, GError **error);
void colo_store_close(ColoStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoStore, colo_store_close)

/* TRUE: durable. Refuses (COLO_ERROR_INTERNAL) to lower `generation` or `relinquished`. */
gboolean colo_store_save_domain(ColoStore *store, const ColoDomainRecord *record, GError **error);
GPtrArray *colo_store_domains(ColoStore *store, GError **error); /* of ColoDomainRecord */

gboolean colo_store_save_pair(ColoStore *store, const ColoPairRecord *record, GError **error);
gboolean colo_store_delete_pair(ColoStore *store, const char *name, GError **error);
GPtrArray *colo_store_pairs(ColoStore *store, GError **error); /* of ColoPairRecord */
