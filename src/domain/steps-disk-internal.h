/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the steps-disk-*.c files only: names, and small questions about QEMU's block graph. */
#pragma once

#include "domain/qmp.h"
#include "domain/steps-disk.h"

/* "KIND-ALIAS", or when that is over QEMU's limit of 31 characters
 * (include/block/block_int-common.h, node_name[32]) "KIND-" and 16 hex digits of a hash. For the
 * caller to g_free(). */
char *colo_disk_node(const char *kind, const char *alias);

/* Kinds of nodes and jobs of ours. */
#define COLO_NODE_HIDDEN "hidden"
#define COLO_NODE_ACTIVE "active"
#define COLO_NODE_CHILDS "childs"
#define COLO_NODE_TAIL "tail"
#define COLO_NODE_TAIL_FILE "tail-file"
#define COLO_NODE_NULL "colo-null"
#define COLO_NODE_NBD "colo-nbd"
#define COLO_JOB_MIRROR "colo-mirror"
#define COLO_JOB_COMMIT "colo-commit"

/* Names of all block nodes as a set (char * -> itself), or NULL. */
GHashTable *colo_disk_nodes(virDomainPtr dom, GError **error);

/* TRUE when @qdev, as QEMU's block queries say it, is the device @alias. */
gboolean colo_disk_is_device(const char *qdev, const char *alias);

/* Node that the device @alias is on, for the caller to g_free(). NULL with @error; an empty drive
 * is an error. @size (may be NULL): its guest-visible bytes. */
char *colo_disk_top(virDomainPtr dom, const char *alias, uint64_t *size, GError **error);

/* The same in @blocks, an answer of query-block: borrowed from it, or NULL. */
const char *colo_disk_top_in(JsonObject *blocks, const char *alias, uint64_t *size);

/* File child (QEMU's word for it is "parent", block/qapi.c) of the node @name in @stats, an answer
 * of query-blockstats with query-nodes. NULL when the node is not there. Borrowed from @stats. */
const char *colo_disk_child_of(JsonObject *stats, const char *name);

/* Gives the device @alias the node @node (`qom-set drive`). */
gboolean colo_disk_set_drive(virDomainPtr dom, const char *alias, const char *node, GError **error);

/* The job @id of query-block-jobs, or NULL; without @error when there is none. */
JsonObject *colo_disk_job(virDomainPtr dom, const char *id, GError **error);

/* Waits until the job @id is gone; COLO_ERROR_TIMEOUT after @timeout_ms. */
gboolean colo_disk_wait_job_gone(virDomainPtr dom, const char *id, unsigned timeout_ms,
                                 GError **error);

/* Deletes the node KIND-ALIAS; absent is success. QEMU may still hold it for a moment after a job:
 * repeated for up to 5 s while it says "in use". */
gboolean colo_disk_delete_node(virDomainPtr dom, const char *kind, const char *alias,
                               GError **error);

/* The plain graph again: drive -> null node, childs deleted, drive -> COPY's node. The guest is
 * stopped, or has not run yet. Goes on where an earlier call was interrupted. */
gboolean colo_disk_swap_to_plain(virDomainPtr dom, const ColoStepDisk *disk, GError **error);

/* Adds a qcow2 node KIND-ALIAS on the file @path above the node @backing; present is success. */
gboolean colo_disk_add_overlay(virDomainPtr dom, const char *kind, const ColoStepDisk *disk,
                               const char *path, const char *backing, GHashTable *present,
                               GError **error);

/* The null node of @disk, added unless it is there, becomes its drive: nobody uses the chain then.
 * Only with the guest stopped. */
gboolean colo_disk_park(virDomainPtr dom, const ColoStepDisk *disk, GError **error);
