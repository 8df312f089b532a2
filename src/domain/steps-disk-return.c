/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Return to the plain graph after a takeover, of steps-disk.h. */
#include "domain/steps-disk-internal.h"

#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"

#include <string.h>
#include <sys/stat.h>

#define LEFT_TIMEOUT_MS 10000u
#define MERGE_POLL_US 10000u
#define TAIL_POLL_US 5000u
/* A guest that writes faster than the commit is stopped after this, so that it ends. */
#define TAIL_READY_NS (30 * COLO_NS_PER_SEC)
#define COMPLETE_TIMEOUT_MS 30000u
/* Tails up to this are committed in the pause that moves them, which saves a second pause. */
#define COMMIT_STOPPED_MAX (4u * 1024 * 1024)

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoOverlayPaths, colo_overlay_paths_clear)

/* Nodes of ours, in the order in which they can be deleted. */
static const char *const node_order[] = {COLO_NODE_NULL,   COLO_NODE_TAIL,   COLO_NODE_TAIL_FILE,
                                         COLO_NODE_CHILDS, COLO_NODE_ACTIVE, COLO_NODE_HIDDEN};

/* What a return works with; the disks with a tail are told by @tail. */
typedef struct {
    virDomainPtr dom;
    const ColoStepDisk *disks;
    size_t n;
    gboolean *tail;
    const ColoReturnOptions *options;
    ColoReturnReport *report;
    gboolean was_running; /* at entry, or before an earlier call that was interrupted */
    gboolean marker;      /* MARKER is there */
    gboolean nothing;     /* no node of ours is there: returned before */
    gboolean stopped;     /* by us */
    gboolean begun; /* a disk may have left its chain: the guest must not go on before the end */
    uint64_t stopped_at;
} Return;

/*
 * A node of this name in QEMU says that we have stopped a guest that ran: it lives as long as the
 * stop and tells a restarted virtcolod to continue the guest, which the user may also have stopped.
 */
#define MARKER "colo-stopped-by-us"

/* Takes the marker away. */
static void clear_marker(Return *r)
{
    colo_qmp_run(r->dom, "blockdev-del", colo_json_build("node-name", "s", MARKER, NULL), NULL);
    r->marker = FALSE;
}

static gboolean stop_guest(Return *r, GError **error)
{
    if (r->stopped)
        return TRUE;
    if (r->was_running && !r->marker &&
        !colo_qmp_run(r->dom, "blockdev-add",
                      colo_json_build("driver", "s", "null-co", "node-name", "s", MARKER,
                                      "read-zeroes", "b", TRUE, NULL),
                      error))
        return FALSE;
    r->marker |= r->was_running;
    r->stopped_at = colo_clock_ns();
    if (!colo_steps_stop(r->dom, error))
        return FALSE;
    r->stopped = TRUE;
    return TRUE;
}

static gboolean cont_guest(Return *r, GError **error)
{
    if (!r->stopped)
        return TRUE;
    if ((r->was_running || r->options->force_cont) && !colo_steps_cont(r->dom, error))
        return FALSE;
    r->stopped = FALSE;
    r->report->pause_ns += colo_clock_ns() - r->stopped_at;
    if (r->marker)
        clear_marker(r);
    return TRUE;
}

static gboolean is_cancelled(Return *r, GError **error)
{
    if (!r->options->cancelled || !g_atomic_int_get(r->options->cancelled))
        return FALSE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                "domain '%s': returning its disks was cancelled", virDomainGetName(r->dom));
    return TRUE;
}

static gboolean wait_merge(Return *r, GError **error)
{
    uint64_t start = colo_clock_ns();
    uint64_t limit = r->options->merge_timeout_ms * COLO_NS_PER_MS;

    for (;;) {
        gboolean done;

        if (!colo_steps_merge_done(r->dom, r->disks, r->n, &done, error))
            return FALSE;
        r->report->merge_ns = colo_clock_ns() - start;
        if (done)
            return TRUE;
        if (is_cancelled(r, error))
            return FALSE;
        if (limit && r->report->merge_ns >= limit) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "domain '%s': QEMU's merge of the overlays did not end within %u ms; the "
                        "guest goes on, do not stop it without a repair",
                        virDomainGetName(r->dom), r->options->merge_timeout_ms);
            return FALSE;
        }
        g_usleep(r->stopped ? MERGE_POLL_US / 5 : MERGE_POLL_US);
    }
}

/*
 * Puts the tail of @disk directly above COPY, with the guest stopped and the merge ended, and
 * removes the replication node. That one has write permission on COPY as long as it lives, and QEMU
 * aborts when the commit's end meets it ("Unexpected error in bdrv_a_allow_b", QEMU 7.2). The tail
 * can only be moved while no device is on it.
 */
static gboolean move_tail(Return *r, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, disk->alias);
    g_autofree char *file = colo_disk_node(COLO_NODE_TAIL_FILE, disk->alias);
    gboolean begun = r->begun;
    JsonObject *list = json_object_new_array();

    json_object_array_add(list,
                          colo_json_build("driver", "s", "qcow2", "node-name", "s", tail, "file",
                                          "s", file, "backing", "s", disk->node, NULL));
    r->begun = TRUE; /* on the null node writes would be lost */
    if (!colo_disk_park(r->dom, disk, error)) {
        json_object_put(list);
        return FALSE;
    }
    if (!colo_qmp_run(r->dom, "blockdev-reopen", colo_json_build("options", "o", list, NULL),
                      error)) {
        if (colo_disk_set_drive(r->dom, disk->alias, tail, NULL))
            r->begun = begun;
        return FALSE;
    }
    if (!colo_disk_delete_node(r->dom, COLO_NODE_CHILDS, disk->alias, error) ||
        !colo_disk_set_drive(r->dom, disk->alias, tail, error))
        return FALSE;
    r->begun = begun;
    return TRUE;
}

/* Bytes that the tails occupy. */
static uint64_t tail_bytes(const Return *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->n; i++) {
        g_auto(ColoOverlayPaths) paths = {0};
        struct stat st;

        colo_overlay_paths_init(&paths, r->disks[i].copy);
        if (r->tail[i] && stat(paths.tail, &st) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    }
    return bytes;
}

/* move_tail() for every tail that still hangs on its chain. With much in the tails the guest goes
 * on afterwards, while they are committed. */
static gboolean move_tails(Return *r, GError **error)
{
    g_autoptr(GHashTable) nodes = colo_disk_nodes(r->dom, error);

    if (!nodes)
        return FALSE;
    for (size_t i = 0; i < r->n; i++) {
        g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, r->disks[i].alias);
        g_autofree char *childs = colo_disk_node(COLO_NODE_CHILDS, r->disks[i].alias);
        g_autofree char *top = NULL;

        if (!r->tail[i])
            continue;
        top = colo_disk_top(r->dom, r->disks[i].alias, NULL, error);
        if (!top)
            return FALSE;
        if (strcmp(top, tail) == 0 && !g_hash_table_contains(nodes, childs))
            continue;
        if (!stop_guest(r, error) || !move_tail(r, &r->disks[i], error))
            return FALSE;
    }
    return r->begun || tail_bytes(r) <= COMMIT_STOPPED_MAX || cont_guest(r, error);
}

/* Starts the commit of the tail of @disk into COPY unless it runs. */
static gboolean start_commit(Return *r, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *id = colo_disk_node(COLO_JOB_COMMIT, disk->alias);
    g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, disk->alias);
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonObject) job = colo_disk_job(r->dom, id, &local);

    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (job)
        return TRUE;
    /* Active commit (block/mirror.c, commit_active_start()): ready, then completed by hand. */
    return colo_qmp_run(r->dom, "block-commit",
                        colo_json_build("job-id", "s", id, "device", "s", tail, "top-node", "s",
                                        tail, "base-node", "s", disk->node, NULL),
                        error);
}

/* Waits until the commit of @disk is ready; stops the guest when it does not converge. */
static gboolean wait_ready(Return *r, const ColoStepDisk *disk, uint64_t give_up, GError **error)
{
    g_autofree char *id = colo_disk_node(COLO_JOB_COMMIT, disk->alias);

    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autoptr(JsonObject) job = colo_disk_job(r->dom, id, &local);

        if (!job) {
            if (local)
                g_propagate_error(error, g_steal_pointer(&local));
            else
                g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                            "domain '%s': the commit of disk '%s' ended before it was ready",
                            virDomainGetName(r->dom), disk->alias);
            return FALSE;
        }
        if (is_cancelled(r, error))
            return FALSE;
        if (colo_json_peek_bool(job, "ready", FALSE))
            return TRUE;
        if (colo_clock_ns() >= give_up && !stop_guest(r, error))
            return FALSE;
        g_usleep(TAIL_POLL_US);
    }
}

/* Commits the tails into their copies; at the end the guest is stopped and on the copies. */
static gboolean commit_tails(Return *r, GError **error)
{
    uint64_t start = colo_clock_ns();

    if (!move_tails(r, error))
        return FALSE;
    for (size_t i = 0; i < r->n; i++) {
        if (r->tail[i] && !start_commit(r, &r->disks[i], error))
            return FALSE;
    }
    for (size_t i = 0; i < r->n; i++) {
        if (r->tail[i] && !wait_ready(r, &r->disks[i], start + TAIL_READY_NS, error))
            return FALSE;
    }
    r->report->tail_ns = colo_clock_ns() - start;
    if (!stop_guest(r, error))
        return FALSE;
    for (size_t i = 0; i < r->n; i++) {
        g_autofree char *id = colo_disk_node(COLO_JOB_COMMIT, r->disks[i].alias);

        /* The job's progress is up to 100 ms old (block/mirror.c, mirror_run()): only its
         * completion proves that COPY has everything. */
        r->begun |= r->tail[i];
        if (r->tail[i] && (!colo_qmp_run(r->dom, "block-job-complete",
                                         colo_json_build("device", "s", id, NULL), error) ||
                           !colo_disk_wait_job_gone(r->dom, id, COMPLETE_TIMEOUT_MS, error)))
            return FALSE;
    }
    for (size_t i = 0; i < r->n; i++) {
        g_autofree char *top = colo_disk_top(r->dom, r->disks[i].alias, NULL, error);

        if (!top)
            return FALSE;
        if (r->tail[i] && strcmp(top, r->disks[i].node) != 0) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                        "domain '%s': the commit of disk '%s' failed, it is still on '%s'",
                        virDomainGetName(r->dom), r->disks[i].alias, top);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean delete_nodes(Return *r, GError **error)
{
    for (size_t i = 0; i < r->n; i++) {
        for (size_t k = 0; k < G_N_ELEMENTS(node_order); k++) {
            if (!colo_disk_delete_node(r->dom, node_order[k], r->disks[i].alias, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* With the guest stopped by us or before: everything between the merge's end and cont. */
static gboolean finish_stopped(Return *r, GError **error)
{
    gboolean done;

    if (!stop_guest(r, error) || !colo_steps_merge_done(r->dom, r->disks, r->n, &done, error))
        return FALSE;
    if (!done) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL,
                    "domain '%s': the merge is not at its end, its disks were not returned",
                    virDomainGetName(r->dom));
        return FALSE;
    }
    /* softmmu/cpus.c, do_vm_stop(): flushes all nodes also when the guest is stopped already; COPY
     * must be on its medium before the overlays are declared dead. */
    if (!colo_steps_stop(r->dom, error) ||
        !r->options->mark_dead(COLO_OVERLAY_CHAIN | COLO_OVERLAY_TAIL, r->options->data, error))
        return FALSE;
    r->begun = TRUE;
    for (size_t i = 0; i < r->n; i++) {
        if (!colo_disk_swap_to_plain(r->dom, &r->disks[i], error))
            return FALSE;
    }
    return cont_guest(r, error);
}

/* TRUE when any node of ours for @disk is in @nodes. */
static gboolean has_ours(GHashTable *nodes, const ColoStepDisk *disk)
{
    for (size_t k = 0; k < G_N_ELEMENTS(node_order); k++) {
        g_autofree char *name = colo_disk_node(node_order[k], disk->alias);

        if (g_hash_table_contains(nodes, name))
            return TRUE;
    }
    return FALSE;
}

/* Finds where the disks are, from QEMU alone, and whether the guest runs or ran before an earlier
 * call stopped it. */
static gboolean look(Return *r, gboolean *any_tail, gboolean *any_without, GError **error)
{
    g_autoptr(GHashTable) nodes = colo_disk_nodes(r->dom, error);

    if (!nodes || !colo_steps_is_running(r->dom, &r->was_running, error))
        return FALSE;
    r->nothing = TRUE;
    for (size_t i = 0; i < r->n; i++) {
        g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, r->disks[i].alias);
        g_autofree char *childs = colo_disk_node(COLO_NODE_CHILDS, r->disks[i].alias);
        g_autofree char *null_node = colo_disk_node(COLO_NODE_NULL, r->disks[i].alias);
        g_autofree char *top = colo_disk_top(r->dom, r->disks[i].alias, NULL, error);

        if (!top)
            return FALSE;
        /* On the null node with a tail there: interrupted in move_tail(). */
        r->tail[i] = strcmp(top, tail) == 0 ||
                     (strcmp(top, null_node) == 0 && g_hash_table_contains(nodes, tail));
        *any_tail |= r->tail[i];
        *any_without |= !r->tail[i];
        if (has_ours(nodes, &r->disks[i])) {
            r->nothing = FALSE;
            r->begun |= strcmp(top, tail) != 0 && strcmp(top, childs) != 0;
        }
    }
    r->marker = g_hash_table_contains(nodes, MARKER);
    r->was_running |= r->marker;
    return TRUE;
}

gboolean colo_steps_disk_return(virDomainPtr dom, const ColoStepDisk *disks, size_t n,
                                const ColoReturnOptions *options, ColoReturnReport *report,
                                GError **error)
{
    g_autofree gboolean *tail = g_new0(gboolean, n + 1);
    ColoReturnReport unused;
    Return r = {.dom = dom,
                .disks = disks,
                .n = n,
                .tail = tail,
                .options = options,
                .report = report ? report : &unused};
    gboolean any_tail = FALSE, any_without = FALSE;

    memset(r.report, 0, sizeof(*r.report));
    if (n == 0)
        return TRUE;
    if (!colo_steps_wait_colo_left(dom, LEFT_TIMEOUT_MS, error) ||
        !look(&r, &any_tail, &any_without, error))
        return FALSE;
    if (r.nothing)
        return TRUE;
    if (any_without && colo_steps_overlay_bytes(disks, n) <= COLO_STEPS_MERGE_STOPPED_MAX &&
        !stop_guest(&r, error))
        return FALSE;
    if (!wait_merge(&r, error) || (any_tail && !commit_tails(&r, error)) ||
        !finish_stopped(&r, error)) {
        if (!r.begun)
            cont_guest(&r, NULL);
        else if (r.stopped)
            g_prefix_error(error, "the guest stays stopped, or it could lose writes; repeat: ");
        return FALSE;
    }
    return delete_nodes(&r, error);
}
