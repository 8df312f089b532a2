/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What becomes of each of libvirt's calls when its domain is under COLO: the one table of it, and
 * the refusals in words that name the domain, the reason and the command that helps. Pure; any
 * thread.
 */
#pragma once

#include "util/json.h"

#include <stddef.h>
#include <stdint.h>

/* How a call names its domain. */
typedef enum {
    COLO_OBJECT_NONE,   /* it is about none */
    COLO_OBJECT_DOMAIN, /* remote_nonnull_domain comes first */
    COLO_OBJECT_CHILD,  /* a snapshot or checkpoint: its name, then the domain */
    COLO_OBJECT_XML,    /* the domain's XML comes first */
} ColoPolicyObject;

typedef enum {
    COLO_ACTION_PASS,  /* as at qemu:/// */
    COLO_ACTION_STATE, /* the same, but a checkpoint's pause is no pause */
    COLO_ACTION_TOUCH, /* passes where the guest runs, not at its copy */
    COLO_ACTION_START,
    COLO_ACTION_END, /* passes where the guest runs: the copy ends with it (domain/evidence.c) */
    COLO_ACTION_RESET,
    COLO_ACTION_AUTOSTART,     /* virtcolod's business as long as it has the domain, ... */
    COLO_ACTION_GET_AUTOSTART, /* ... and its answer */
    /* Refused while a protection is on. */
    COLO_ACTION_RESUME, /* it runs */
    COLO_ACTION_JOB,    /* libvirt's jobs: its migration is COLO's */
    /* Interrupts the protection that is on: it is restored when the guest runs again. */
    COLO_ACTION_PAUSE,
    COLO_ACTION_SAVE,
    /* The same with auto-reprotect='yes' (declaration.h), else refused. */
    COLO_ACTION_CHANGE,
    COLO_ACTION_SNAPSHOT,
    COLO_ACTION_BLOCK_JOB,
    COLO_ACTION_DEFINE,
    COLO_ACTION_MIGRATE,
} ColoPolicyAction;

/* TRUE when libvirt's call is done to the guest without its copy, and the protection of the domain
 * that @view shows is interrupted for it. */
gboolean colo_policy_interrupts(ColoPolicyAction action, JsonObject *view);
/* TRUE while the host starts the domain by virtcolod's word and not by libvirt's. */
gboolean colo_policy_has_autostart(JsonObject *view);

typedef struct {
    uint32_t procedure;
    const char *name;
    ColoPolicyObject object;
    ColoPolicyAction action;
} ColoPolicyRow;

/* Of the remote program, by rising numbers from 1 without a gap (policy-table.c). */
extern const ColoPolicyRow colo_policy_rows[];
extern const size_t colo_policy_n_rows;

/* NULL: a procedure of a later libvirt. It passes (I7). */
const ColoPolicyRow *colo_policy_find(uint32_t procedure);

/* Why @action may not be done on @host to the domain that @view shows (colo_domain_view(): "name",
 * "state", "role", "peer", "pair"); the caller's. NULL: it may. */
char *colo_policy_refusal(ColoPolicyAction action, JsonObject *view, const char *host);

/* Why @host may not run the domain that @view shows, be it started or resumed by anybody but
 * virtcolod itself; the caller's. NULL: it may. */
char *colo_policy_may_run(JsonObject *view, const char *host);

/* TRUE while the guest's vCPUs stop and start with checkpoints, on either host. */
gboolean colo_policy_is_replicated(JsonObject *view);

/* TRUE when what runs on this host is the copy of a guest that runs on the peer. */
gboolean colo_policy_is_copy(JsonObject *view);
