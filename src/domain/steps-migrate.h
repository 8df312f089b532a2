/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The migration side of a COLO pair: capability, parameters, the stream by FD, entering COLO,
 * forced checkpoints and the end. Every function acts on one domain of this host and blocks; any
 * thread. Sources: QEMU 7.2 migration/colo.c, migration/migration.c, qapi/migration.json.
 *
 * Order on the whole: x-colo and parameters on both; secondary migrate_incoming, its FD to the
 * comparator; primary migrate_start, its FD to the comparator; when it is in COLO and its guest
 * runs, kick, because the first checkpoint comes only when the period is over and nothing is LOADED
 * before.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <stdint.h>

/* Names under which the stream's FD is given to QEMU. */
#define COLO_STEPS_MIGRATION_FD "colo-migration"

/* Least value: QEMU accepts 0, which would checkpoint back to back (about 390 a second). */
#define COLO_STEPS_DELAY_MIN_MS 10u

/* `migrate-set-capabilities` x-colo. Idempotent. Off is refused by QEMU while a migration or COLO
 * runs; without it `virsh save` hangs for good after a failover (facts: under libvirt 9.0). */
gboolean colo_steps_set_xcolo(virDomainPtr dom, gboolean on, GError **error);

/* Time between checkpoints in ms and the stream's bandwidth in bytes/s (QEMU's default of 128 MiB/s
 * would stretch the pauses). Primary. Idempotent, valid in any state. */
gboolean colo_steps_set_parameters(virDomainPtr dom, uint64_t delay_ms, uint64_t bandwidth,
                                   GError **error);

/* How long entering COLO may stop the guest, in ms; colo_steps_set_parameters() sets a small one. A
 * guest that dirties memory faster than that lets it converge needs more. Primary, any time. */
gboolean colo_steps_set_downtime(virDomainPtr dom, uint64_t ms, GError **error);

/* Secondary, started with `-incoming defer`: makes QEMU listen on a passed socket. Returns the
 * other end, for the comparator's channel "migration", or -1. A second call while the first one's
 * migration waits is an error of QEMU's: undo is colo_steps_migrate_cancel() or destroying it. */
int colo_steps_migrate_incoming(virDomainPtr dom, GError **error);

/* Primary: starts the migration into a passed socket. Returns the other end, for the comparator's
 * channel "migration", or -1. Undo: colo_steps_migrate_cancel(). */
int colo_steps_migrate_start(virDomainPtr dom, GError **error);

typedef enum {
    COLO_MIGRATE_NONE,      /* no migration yet, or QEMU has forgotten it */
    COLO_MIGRATE_RUNNING,   /* setup, active, device, ...: on its way into COLO */
    COLO_MIGRATE_COLO,      /* in COLO */
    COLO_MIGRATE_COMPLETED, /* ended: COLO was left by failover, or the migration was not COLO */
    COLO_MIGRATE_FAILED,    /* text in ColoMigrateState.error */
    COLO_MIGRATE_CANCELLED, /* cancelled, or about to be */
} ColoMigrateStatus;

typedef struct {
    ColoMigrateStatus status;
    char status_text[24];     /* QEMU's word, "colo" */
    char colo_mode[12];       /* query-colo-status "mode": none, primary, secondary */
    char last_exit[16];       /* query-colo-status "reason": none, request, error, processing */
    char error[256];          /* QEMU's error-desc, or empty */
    uint64_t ram_total;       /* bytes, first pass */
    uint64_t ram_remaining;   /* bytes */
    uint64_t ram_transferred; /* bytes since the start */
} ColoMigrateState;

/* query-migrate and query-colo-status in one value. */
gboolean colo_steps_migrate_state(virDomainPtr dom, ColoMigrateState *state, GError **error);

/* Primary in COLO: asks for a checkpoint now, and leaves @delay_ms as the period (facts: force one;
 * harmless outside COLO). A kick during a running checkpoint may be swallowed: repeat it. Not
 * between the status "colo" and the guest's running again: QEMU 7.2 has no event yet that it could
 * post (qemu_event_set(): Assertion `ev->initialized'). */
gboolean colo_steps_kick(virDomainPtr dom, uint64_t delay_ms, GError **error);

/*
 * `x-colo-lost-heartbeat`: this side goes on alone, the guest runs. On the secondary the caller has
 * cut the stream and knows LOADED(k) (facts/checkpoint-stream.md rule 2), and has done
 * colo_steps_disk_takeover() before. Idempotent: success when this side is not in COLO any more.
 * Returns before QEMU has left COLO; see colo_steps_wait_colo_left().
 */
gboolean colo_steps_lost_heartbeat(virDomainPtr dom, GError **error);

/* Waits until query-colo-status says none and the guest runs, or has been stopped for 2 s after
 * that (by the user, or by an interrupted return of the disks). */
gboolean colo_steps_wait_colo_left(virDomainPtr dom, unsigned timeout_ms, GError **error);

/* Primary before COLO: cancels the migration and waits up to @timeout_ms for its end. Nothing to do
 * is success. In COLO it is colo_steps_lost_heartbeat() that ends. */
gboolean colo_steps_migrate_cancel(virDomainPtr dom, unsigned timeout_ms, GError **error);

/* `stop`, `cont` of QEMU, and whether the guest runs. These go by QMP and not by
 * virDomainSuspend(): libvirt would refuse or wait on a job in COLO; it follows the events. */
gboolean colo_steps_stop(virDomainPtr dom, GError **error);
gboolean colo_steps_cont(virDomainPtr dom, GError **error);
gboolean colo_steps_is_running(virDomainPtr dom, gboolean *running, GError **error);
