/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Takeover, of steps-disk.h. */
#include "domain/steps-disk-internal.h"

#include "domain/steps-migrate.h"
#include "util/log.h"

#include <string.h>

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoOverlayPaths, colo_overlay_paths_clear)

/* blockdev-add; a node of that name that is there already is success. */
static gboolean add_node(virDomainPtr dom, JsonObject *options, GError **error)
{
    g_autoptr(GError) local = NULL;

    /* block.c, bdrv_assign_node_name(): "Duplicate nodes with node-name='...'". */
    if (colo_qmp_run(dom, "blockdev-add", options, &local) ||
        colo_qmp_error_has(local, "Duplicate node"))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Adds the tail node of @disk above its replication node; nothing uses it yet. Its file has a node
 * name of its own, because blockdev-reopen takes children by name only. */
static gboolean add_tail(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, disk->alias);
    g_autofree char *file = colo_disk_node(COLO_NODE_TAIL_FILE, disk->alias);
    g_autofree char *childs = colo_disk_node(COLO_NODE_CHILDS, disk->alias);
    g_auto(ColoOverlayPaths) paths = {0};

    colo_overlay_paths_init(&paths, disk->copy);
    return add_node(dom,
                    colo_json_build("driver", "s", "file", "node-name", "s", file, "filename", "s",
                                    paths.tail, NULL),
                    error) &&
           add_node(dom,
                    colo_json_build("driver", "s", "qcow2", "node-name", "s", tail, "file", "s",
                                    file, "backing", "s", childs, NULL),
                    error);
}

/* Takes away tails that no device is on, after an insertion that failed. */
static void drop_unused_tails(virDomainPtr dom, const ColoStepDisk *disks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, disks[i].alias);
        g_autofree char *top = colo_disk_top(dom, disks[i].alias, NULL, NULL);

        if (!top || strcmp(top, tail) == 0)
            continue;
        colo_disk_delete_node(dom, COLO_NODE_TAIL, disks[i].alias, NULL);
        colo_disk_delete_node(dom, COLO_NODE_TAIL_FILE, disks[i].alias, NULL);
    }
}

/*
 * Gives the tails to the devices with the guest stopped. Devices that have them already are left,
 * and so is the guest when all have: it may run again. The stop also flushes all nodes
 * (softmmu/cpus.c, do_vm_stop()), HIDDEN's metadata with them, which a repair needs to roll the
 * primary's writes back.
 */
static gboolean insert_tails(virDomainPtr dom, const ColoStepDisk *disks, size_t n, GError **error)
{
    g_autoptr(JsonObject) blocks = colo_qmp(dom, "query-block", NULL, -1, error);
    gboolean stopped = FALSE;

    if (!blocks)
        return FALSE;
    for (size_t i = 0; i < n; i++) {
        g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, disks[i].alias);
        const char *top = colo_disk_top_in(blocks, disks[i].alias, NULL);

        if (top && strcmp(top, tail) == 0)
            continue;
        if (!stopped && !colo_steps_stop(dom, error))
            return FALSE;
        stopped = TRUE;
        if (!add_tail(dom, &disks[i], error) ||
            !colo_disk_set_drive(dom, disks[i].alias, tail, error))
            return FALSE;
    }
    return TRUE;
}

gboolean colo_steps_disk_takeover(virDomainPtr dom, const ColoStepDisk *disks, size_t n,
                                  gboolean with_tail, gboolean *tails, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean done = FALSE;

    if (tails)
        *tails = FALSE;
    if (n == 0)
        return TRUE;
    if (!colo_steps_nbd_stop(dom, error))
        return FALSE;
    if (with_tail) {
        done = insert_tails(dom, disks, n, &local);
        if (!done) {
            colo_warn("takeover without third overlay: %s", local->message);
            drop_unused_tails(dom, disks, n);
        }
    }
    if (tails)
        *tails = done;
    return TRUE;
}

gboolean colo_steps_merge_done(virDomainPtr dom, const ColoStepDisk *disks, size_t n,
                               gboolean *done, GError **error)
{
    g_autoptr(JsonObject) stats = colo_qmp(
        dom, "query-blockstats", colo_json_build("query-nodes", "b", TRUE, NULL), -1, error);

    if (!stats)
        return FALSE;
    *done = TRUE;
    for (size_t i = 0; i < n; i++) {
        g_autofree char *childs = colo_disk_node(COLO_NODE_CHILDS, disks[i].alias);
        /* "#block..." (the job's filter) or active while merging, COPY's node after it. */
        const char *child = colo_disk_child_of(stats, childs);

        /* No replication node: its disk has been returned already. */
        if (child && strcmp(child, disks[i].node) != 0)
            *done = FALSE;
    }
    return TRUE;
}
