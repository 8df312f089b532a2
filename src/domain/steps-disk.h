/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk side of a COLO pair: continuous replication of each disk onto a copy at the peer, on
 * libvirt's own block node. Every function acts on one domain of this host (the repair: on files)
 * and blocks; any thread. Sources: facts/disk-replication, QEMU 7.2 block/replication.c,
 * block/mirror.c, docs/block-replication.txt.
 *
 * Secondary while protected      drive -> childs-A (replication) -> active-A -> hidden-A -> COPY
 *                                 NBD export of COPY's node, writable, written by the primary's
 * mirror After colo_steps_disk_takeover drive -> tail-A -> childs-A -> active-A -> hidden-A -> COPY
 *                                 QEMU merges active-A and hidden-A into COPY by itself
 * At the end                     drive -> COPY, the plain graph that libvirt knows
 * A is the disk's libvirt alias; a node name over QEMU's 31 characters is replaced by a hash.
 *
 * The crash hole and how it is closed. QEMU's merge ends unseen and leaves ACTIVE full: a crash
 * after the end cannot be told from one before it, and repairing a finished merge rolls newer guest
 * writes back. So from the takeover on the guest writes to a third overlay (tail), put in before
 * QEMU lets it run. While nobody writes below it, merging ACTIVE, or ACTIVE and TAIL, into COPY is
 * right at any time, once or twice, before or after the merge's end. After that end the tail is
 * moved directly above COPY (guest stopped for a few ms; up to 4 MiB of tail are committed in the
 * same pause), committed into COPY by a job of our own while the guest runs, and the job is
 * completed with the guest stopped. Only then, COPY flushed and the guest still stopped,
 * `mark_dead` is made durable, and the guest goes on, on COPY alone. Offline the truth is thus COPY
 * + HIDDEN + ACTIVE + TAIL until they are marked dead and COPY afterwards; colo_steps_repair()
 * computes it.
 *
 * What remains unsafe: a takeover without tail (@with_tail FALSE, or its insertion failed) leaves
 * the window from the merge's end to the mark. A loss of power of the survivor in the ms between
 * the takeover and colo_steps_overlays_sync() is a second fault, and not covered. When the
 * overlays are below COLO_STEPS_MERGE_STOPPED_MAX the window is the few ms between QEMU's resume
 * and our stop; else the time that colo_steps_disk_return() needs to notice the end (polled every
 * 10 ms) and to stop. What the guest did not flush may be missing after a crash, as on any disk.
 *
 * Confined QEMU: the overlays get owner, mode and SELinux label of the copy, so create them when
 * libvirt has given the copy to QEMU (secondary started). AppArmor needs a rule for "*.colo-*"
 * beside the copies (local/abstractions/libvirt-qemu): its profile of a domain names libvirt's
 * files only.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <stdint.h>

/* Without a tail, overlays up to this many bytes are merged with the guest stopped (0.2 s for
 * 192 MB, 1.3 s for 1.5 GB were measured; 64 MiB stays under 100 ms). */
#define COLO_STEPS_MERGE_STOPPED_MAX (64u * 1024 * 1024)

/* Strings stay the caller's. */
typedef struct {
    const char *alias; /* libvirt's alias, also the qdev id: "virtio-disk0" */
    const char *node;  /* libvirt's format node: "libvirt-1-format"; NULL where only files matter */
    const char *copy;  /* path of the image file on this host */
    const char *format; /* "raw" or "qcow2" */
    uint64_t size;      /* guest-visible bytes; equal on both hosts */
} ColoStepDisk;

/* Finds node name and size (bytes) of @alias in QEMU (query-block): the node the guest's device is
 * on, or while the chain is in, the plain one below. @node: for the caller to g_free(). */
gboolean colo_steps_disk_probe(virDomainPtr dom, const char *alias, char **node, uint64_t *size,
                               GError **error);

/* ---- files (secondary) ---- */

typedef struct {
    char *hidden; /* COPY.colo-hidden */
    char *active; /* COPY.colo-active */
    char *tail;   /* COPY.colo-tail */
} ColoOverlayPaths;
void colo_overlay_paths_init(ColoOverlayPaths *paths, const char *copy);
void colo_overlay_paths_clear(ColoOverlayPaths *paths);

/*
 * Creates the three overlays beside the copy, with the owner, group and mode of the copy and the
 * backing chain in their headers (qemu-img create -u): TAIL on ACTIVE on HIDDEN on the copy. Files
 * of these names that exist are refused (COLO_ERROR_OPERATION_INVALID): they may hold the only copy
 * of what a guest wrote; with
 * @replace_dead, when the store says that they are marked dead or were never taken over, they are
 * replaced. On failure nothing new is left.
 */
gboolean colo_steps_overlays_create(const ColoStepDisk *disk, gboolean replace_dead,
                                    GError **error);

/* Deletes the three. Only when dead, repaired, or never taken over. Absent ones are success. */
gboolean colo_steps_overlays_remove(const ColoStepDisk *disk, GError **error);

/* Makes hidden and active durable (fsync of the files): right after a takeover, when they hold what
 * no other host has. QEMU does not flush them while protected. */
gboolean colo_steps_overlays_sync(const ColoStepDisk *disks, size_t n, GError **error);

/* Bytes that the overlays occupy on this host (st_blocks of active and hidden): the bound of an
 * epoch by overlay bytes, and the choice at a takeover without tail. 0 when absent. */
uint64_t colo_steps_overlay_bytes(const ColoStepDisk *disks, size_t n);

/* ---- secondary: protect ---- */

/* Inserts hidden, active and replication and gives the chain to the device. Before
 * colo_steps_migrate_incoming(). Idempotent; on failure what was added is taken out again. */
gboolean colo_steps_disk_insert(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

/* Undo of insert before COLO was entered: back to the plain graph. Idempotent. */
gboolean colo_steps_disk_extract(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

/*
 * One NBD server for all disks on a listening socket that is passed to QEMU; each disk's node is
 * exported writable under its alias. @fds: n connections made by us, one a disk, non-blocking and
 * close-on-exec, for the comparator's channels "nbd:ALIAS". The listener's path lives in a private
 * folder and is unlinked before QEMU accepts: nobody else can connect, and there is no second
 * connection (after the loss of one: stop and start). A server of an earlier run is stopped first.
 * QEMU drops a client that does not negotiate within 10 s of this call (where it has the fix for
 * CVE-2024-7409): start the primary's mirror at once.
 */
gboolean colo_steps_nbd_start(virDomainPtr dom, const ColoStepDisk *disks, size_t n, int *fds,
                              GError **error);
gboolean colo_steps_nbd_stop(virDomainPtr dom, GError **error); /* none running is success */

/* ---- primary: protect ---- */

/* Passes a socket for the NBD client. Returns our end for the comparator's channel "nbd:ALIAS", or
 * -1. Give it to the comparator before colo_steps_mirror_start(). */
int colo_steps_mirror_prepare(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

/*
 * blockdev-add of the NBD client (node colo-nbd-A) and the mirror (job colo-mirror-A). QEMU
 * negotiates inside blockdev-add: while the peer is silent its main loop waits, until the
 * comparator closes our end. On failure nothing is left.
 */
gboolean colo_steps_mirror_start(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

typedef struct {
    gboolean present; /* the job exists; FALSE after it ended or was never started: DEGRADED */
    gboolean ready;   /* first copy done; writes are synchronous (write-blocking) */
    gboolean failed;  /* io-status is not ok: DEGRADED */
    uint64_t offset;  /* bytes done */
    uint64_t length;  /* bytes in all; grows with writes before ready */
} ColoMirrorState;

/* How many of our mirrors copy without an error. FALSE with @error when QEMU does not say. */
gboolean colo_steps_mirrors_copying(virDomainPtr dom, unsigned *copying, GError **error);

gboolean colo_steps_mirror_state(virDomainPtr dom, const ColoStepDisk *disk, ColoMirrorState *state,
                                 GError **error);

/*
 * Ends the mirror and removes the NBD node; nothing there is success. When the secondary is dead or
 * frozen the comparator must have closed our end of the channel before: QEMU's drain would wait
 * for answers otherwise. A leftover NBD node makes a later migration fail.
 *
 * With the vCPUs stopped only: QEMU 7.2 frees a mirror's bitmap of active writes while such writes
 * are still under way, and clears bits in it when they end (block/mirror.c: mirror_run() at
 * immediate_exit, active_write_settle()). Its heap is damaged then, and the guest dies. A guest
 * that was stopped has no write under way.
 */
gboolean colo_steps_mirror_stop(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

/* Cuts the mirror's NBD connection inside QEMU (yank): writes that wait for the peer go on, the
 * mirror fails. For a primary whose vCPUs are to be stopped while the peer is out of reach. */
gboolean colo_steps_mirror_yank(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

/* ---- secondary: takeover ---- */

/*
 * First half, before colo_steps_lost_heartbeat(): stops the NBD server and, @with_tail, stops the
 * guest and puts the tails on top of all disks. QEMU resumes the guest by itself in the failover;
 * what the takeover still needs (filters, tap) is best done before that, while QEMU is idle. A tail
 * that cannot be put in does not stop the takeover: *@tails (may be NULL) is FALSE then and the
 * reason is logged. @error only when the NBD server cannot be stopped. Idempotent. The tails are
 * not opened earlier: a secondary's QEMU answers nothing while it loads a checkpoint.
 */
gboolean colo_steps_disk_takeover(virDomainPtr dom, const ColoStepDisk *disks, size_t n,
                                  gboolean with_tail, gboolean *tails, GError **error);

/* Whether QEMU's merge has ended for every disk (query-blockstats: the child of childs-A is COPY's
 * node). After failover only. **Returning a disk before that destroys data silently**;
 * colo_steps_disk_return() waits for it itself. */
gboolean colo_steps_merge_done(virDomainPtr dom, const ColoStepDisk *disks, size_t n,
                               gboolean *done, GError **error);

typedef enum {
    COLO_OVERLAY_CHAIN = 1, /* hidden and active */
    COLO_OVERLAY_TAIL = 2,
} ColoOverlays; /* flags */

typedef struct {
    /*
     * Makes durable (fsync) that the overlays of all the disks are dead: @which is both flags.
     * Called once, in the calling thread, with the guest stopped, so it should take ms; a repeated
     * return calls it again. After FALSE the guest stays stopped when tails are in (it would write
     * to COPY under overlays that count as alive): repeat the return.
     */
    gboolean (*mark_dead)(ColoOverlays which, void *data, GError **error);
    void *data;
    unsigned merge_timeout_ms; /* 0: for ever. The merge shows no progress that could be watched */
    gboolean force_cont;   /* continue the guest at the end though it was stopped at entry and not
                              by an interrupted return, which is seen from QEMU itself */
    const gint *cancelled; /* may be NULL; looked at while waiting, before the last pause */
} ColoReturnOptions;

typedef struct {
    uint64_t merge_ns; /* from the call to the end of QEMU's merge */
    uint64_t tail_ns;  /* moving and committing the tails */
    uint64_t pause_ns; /* guest stopped by us, all pauses together */
} ColoReturnReport;

/*
 * Second half, after the failover: waits until QEMU has left COLO (10 s at most) and for the
 * merge's end, marks, commits the tails, returns every disk to the plain graph in one pause, and
 * removes all nodes of ours. Overlay files stay: colo_steps_overlays_remove(). Then
 * colo_steps_set_xcolo(FALSE). Can be repeated from any phase.
 */
gboolean colo_steps_disk_return(virDomainPtr dom, const ColoStepDisk *disks, size_t n,
                                const ColoReturnOptions *options, ColoReturnReport *report,
                                GError **error);

/* ---- offline ---- */

/*
 * After a crash between takeover and the end of the return, with no QEMU on the files: unless @dead
 * (from the store) has COLO_OVERLAY_CHAIN, checks the overlays and commits the top one, TAIL or
 * else ACTIVE, with all below it into the copy (qemu-img check -r all, commit -d -b). Can be
 * repeated, also after a crash of its own. Then mark them dead.
 */
gboolean colo_steps_repair(const ColoStepDisk *disk, ColoOverlays dead, GError **error);
