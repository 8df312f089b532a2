/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/steps-disk-internal.h"

#include "util/clock.h"
#include "util/error.h"

#include <string.h>

#define NODE_NAME_MAX 31u
#define POLL_US 1000u /* of waits that happen with the guest stopped */
#define DELETE_TIMEOUT_MS 5000u

char *colo_disk_node(const char *kind, const char *alias)
{
    g_autofree char *name = g_strdup_printf("%s-%s", kind, alias);
    g_autofree char *hash = NULL;

    if (strlen(name) <= NODE_NAME_MAX)
        return g_steal_pointer(&name);
    hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, alias, -1);
    return g_strdup_printf("%s-%.16s", kind, hash);
}

GHashTable *colo_disk_nodes(virDomainPtr dom, GError **error)
{
    g_autoptr(JsonObject) list = colo_qmp(dom, "query-named-block-nodes",
                                          colo_json_build("flat", "b", TRUE, NULL), -1, error);
    GHashTable *nodes;

    if (!list)
        return NULL;
    nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (size_t i = 0;
         json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++)
        g_hash_table_add(nodes, g_strdup(colo_json_peek_string(json_object_array_get_idx(list, i),
                                                               "node-name", "")));
    return nodes;
}

gboolean colo_disk_is_device(const char *qdev, const char *alias)
{
    /* Its id, or a QOM path through it: "/machine/peripheral/virtio-disk0/virtio-backend". */
    g_auto(GStrv) parts = g_strsplit(qdev, "/", -1);

    return g_strv_contains((const char *const *)parts, alias);
}

const char *colo_disk_top_in(JsonObject *blocks, const char *alias, uint64_t *size)
{
    for (size_t i = 0;
         json_object_is_type(blocks, json_type_array) && i < json_object_array_length(blocks);
         i++) {
        JsonObject *one = json_object_array_get_idx(blocks, i);
        JsonObject *inserted = colo_json_peek(one, "inserted");

        if (!colo_disk_is_device(colo_json_peek_string(one, "qdev", ""), alias) || !inserted)
            continue;
        if (size)
            *size = colo_json_peek_uint(colo_json_peek(inserted, "image"), "virtual-size", 0);
        return colo_json_peek_string(inserted, "node-name", "");
    }
    return NULL;
}

char *colo_disk_top(virDomainPtr dom, const char *alias, uint64_t *size, GError **error)
{
    g_autoptr(JsonObject) blocks = colo_qmp(dom, "query-block", NULL, -1, error);
    const char *top;

    if (!blocks)
        return NULL;
    top = colo_disk_top_in(blocks, alias, size);
    if (!top)
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "domain '%s': QEMU has no device '%s' with a medium", virDomainGetName(dom),
                    alias);
    return g_strdup(top);
}

const char *colo_disk_child_of(JsonObject *stats, const char *name)
{
    for (size_t i = 0;
         json_object_is_type(stats, json_type_array) && i < json_object_array_length(stats); i++) {
        JsonObject *one = json_object_array_get_idx(stats, i);

        if (strcmp(colo_json_peek_string(one, "node-name", ""), name) == 0)
            return colo_json_peek_string(colo_json_peek(one, "parent"), "node-name", "");
    }
    return NULL;
}

gboolean colo_disk_set_drive(virDomainPtr dom, const char *alias, const char *node, GError **error)
{
    g_autofree char *path = g_strconcat("/machine/peripheral/", alias, NULL);

    /* hw/core/qdev-properties-system.c: set_drive_helper() may be called on a realized device. */
    return colo_qmp_run(
        dom, "qom-set",
        colo_json_build("path", "s", path, "property", "s", "drive", "value", "s", node, NULL),
        error);
}

JsonObject *colo_disk_job(virDomainPtr dom, const char *id, GError **error)
{
    g_autoptr(JsonObject) list = colo_qmp(dom, "query-block-jobs", NULL, -1, error);

    for (size_t i = 0;
         list && json_object_is_type(list, json_type_array) && i < json_object_array_length(list);
         i++) {
        JsonObject *one = json_object_array_get_idx(list, i);

        if (strcmp(colo_json_peek_string(one, "device", ""), id) == 0)
            return json_object_get(one);
    }
    return NULL;
}

gboolean colo_disk_wait_job_gone(virDomainPtr dom, const char *id, unsigned timeout_ms,
                                 GError **error)
{
    uint64_t end = colo_clock_ns() + timeout_ms * COLO_NS_PER_MS;

    for (;;) {
        g_autoptr(GError) local = NULL;
        g_autoptr(JsonObject) job = colo_disk_job(dom, id, &local);

        if (local) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!job)
            return TRUE;
        if (colo_clock_ns() >= end) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "domain '%s': block job '%s' did not end within %u ms, status '%s'",
                        virDomainGetName(dom), id, timeout_ms,
                        colo_json_peek_string(job, "status", "unknown"));
            return FALSE;
        }
        g_usleep(POLL_US);
    }
}

gboolean colo_disk_delete_node(virDomainPtr dom, const char *kind, const char *alias,
                               GError **error)
{
    uint64_t end = colo_clock_ns() + DELETE_TIMEOUT_MS * COLO_NS_PER_MS;
    g_autofree char *name = colo_disk_node(kind, alias);

    for (;;) {
        g_autoptr(GError) local = NULL;

        /* blockdev.c, qmp_blockdev_del(): "Failed to find node with node-name='...'". */
        if (colo_qmp_run(dom, "blockdev-del", colo_json_build("node-name", "s", name, NULL),
                         &local) ||
            colo_qmp_error_has(local, "find node"))
            return TRUE;
        if (!colo_qmp_error_has(local, "in use") || colo_clock_ns() >= end) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        g_usleep(POLL_US * 10);
    }
}

gboolean colo_disk_add_overlay(virDomainPtr dom, const char *kind, const ColoStepDisk *disk,
                               const char *path, const char *backing, GHashTable *present,
                               GError **error)
{
    g_autofree char *name = colo_disk_node(kind, disk->alias);
    JsonObject *file;

    if (g_hash_table_contains(present, name))
        return TRUE;
    /* Each checkpoint empties hidden and active: a dozen fdatasync() in the guest's pause for what
     * is worthless if this host dies while protected. colo_steps_overlays_sync() makes them durable
     * when they begin to matter. The tail is the guest's disk and keeps its flushes. */
    file = colo_json_build("driver", "s", "file", "filename", "s", path, NULL);
    return colo_qmp_run(
        dom, "blockdev-add",
        colo_json_build("driver", "s", "qcow2", "node-name", "s", name, "file", "o", file,
                        "backing", "s", backing, "cache", "o",
                        colo_json_build("no-flush", "b", strcmp(kind, COLO_NODE_TAIL) != 0, NULL),
                        NULL),
        error);
}

gboolean colo_disk_park(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *null_node = colo_disk_node(COLO_NODE_NULL, disk->alias);
    g_autoptr(GHashTable) nodes = colo_disk_nodes(dom, error);

    if (!nodes)
        return FALSE;
    if (!g_hash_table_contains(nodes, null_node) &&
        !colo_qmp_run(dom, "blockdev-add",
                      colo_json_build("driver", "s", "null-co", "node-name", "s", null_node, "size",
                                      "u", disk->size, "read-zeroes", "b", TRUE, NULL),
                      error))
        return FALSE;
    return colo_disk_set_drive(dom, disk->alias, null_node, error);
}

gboolean colo_disk_swap_to_plain(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *top = colo_disk_top(dom, disk->alias, NULL, error);

    if (!top)
        return FALSE;
    /* The replication node holds write permission on COPY's node as long as it is there, so the
     * device cannot go from the one to the other directly. */
    return strcmp(top, disk->node) == 0 ||
           (colo_disk_park(dom, disk, error) &&
            colo_disk_delete_node(dom, COLO_NODE_CHILDS, disk->alias, error) &&
            colo_disk_set_drive(dom, disk->alias, disk->node, error));
}
