/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Protection of a domain, with types; what is not here is in the JSON of colo_connect_command(). */
#ifndef LIBVIRT_COLO_DOMAIN_H
#define LIBVIRT_COLO_DOMAIN_H

#include <libvirt-colo/connect.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    COLO_STATE_UNKNOWN = 0, /* of a newer daemon */
    COLO_STATE_UNPROTECTED = 1,
    COLO_STATE_PREPARING = 2,
    COLO_STATE_SYNCING = 3,
    COLO_STATE_PROTECTED = 4,
    COLO_STATE_DEGRADED = 5, /* peer lost, ownership undecided: output is held */
    COLO_STATE_FAILING_OVER = 6,
    COLO_STATE_COMMITTING = 7, /* survivor: the disks are being merged */
    COLO_STATE_ALONE = 8,      /* sole owner, without a peer */
    COLO_STATE_FENCED = 9,     /* gave the domain up, or lost it: may not run here */
    COLO_STATE_MANUAL = 10,    /* only the peer's return or the operator can decide */
} ColoDomainState;

/* Made by the library alone; members are added at the end. */
typedef struct {
    char *name;
    char *uuid;
    char *pair;   /* "" when unprotected */
    char *peer;   /* host name */
    char *role;   /* "primary" or "secondary" */
    char *reason; /* why it is in this state, or "" */
    char *error;  /* what ended the last job, or "" */
    ColoDomainState state;
    uint64_t generation;
    uint64_t checkpoints;
    uint64_t divergences;
    uint64_t disk_total, disk_copied;     /* bytes, over all disks */
    uint64_t memory_total, memory_copied; /* bytes of the copy of memory */
    unsigned progress_percent;            /* of the job under way, 0 to 100 */
    char *checkpoint_mode; /* "compare" or "periodic", "" without a session: colo-tune */
    char *checkpoint_mode_reason;
} ColoDomainStatus;

/* Status of @domain (name, id or uuid) for colo_domain_status_free(); NULL with @error. */
ColoDomainStatus *colo_domain_get_status(ColoConnect *conn, const char *domain, ColoError *error);
void colo_domain_status_free(ColoDomainStatus *status);

/* The word of virsh-colo for @state: "protected". Never NULL. */
const char *colo_domain_state_to_string(ColoDomainState state);

/* Starts to protect the running @domain on the hosts of @pair and returns at once. 0, or -1. */
int colo_domain_protect(ColoConnect *conn, const char *domain, const char *pair, ColoError *error);

/* Called about every 100 ms while it waits; anything but 0 ends the wait. */
typedef int (*ColoProgressCallback)(const ColoDomainStatus *status, void *opaque);

/*
 * Waits until @domain, whose protection was started, is protected. @timeout_ms 0: no limit.
 * @progress may be NULL. 0: protected. 1: @progress ended the wait. -1 with @error: the daemon's
 * own when protection failed, COLO_ERR_TIMEOUT when time ran out (the job goes on).
 */
int colo_domain_protect_wait(ColoConnect *conn, const char *domain, uint64_t timeout_ms,
                             ColoProgressCallback progress, void *opaque, ColoError *error);

/* Ends protection; the domain goes on running on its primary. 0, or -1 with @error. */
int colo_domain_unprotect(ColoConnect *conn, const char *domain, ColoError *error);

#ifdef __cplusplus
}
#endif

#endif
