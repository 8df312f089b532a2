/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Protecting, of steps-disk.h: the secondary's chain and NBD server, the primary's mirror. */
#include "domain/steps-disk-internal.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NBD_LISTENER_FD "colo-nbd-listener"
#define CANCEL_TIMEOUT_MS 10000u /* forced cancel waits for writes in flight only */

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoOverlayPaths, colo_overlay_paths_clear)

/* TRUE when @node is one that these steps make for @alias. */
static gboolean is_ours(const char *node, const char *alias)
{
    static const char *const kinds[] = {COLO_NODE_TAIL, COLO_NODE_CHILDS, COLO_NODE_ACTIVE,
                                        COLO_NODE_HIDDEN};

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *name = colo_disk_node(kinds[i], alias);

        if (strcmp(node, name) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean colo_steps_disk_probe(virDomainPtr dom, const char *alias, char **node, uint64_t *size,
                               GError **error)
{
    g_autofree char *top = colo_disk_top(dom, alias, size, error);
    g_autoptr(JsonObject) stats = top ? colo_qmp(dom, "query-blockstats", NULL, -1, error) : NULL;
    const char *plain = NULL;

    if (!stats)
        return FALSE;
    /* Without query-nodes an entry holds the chain of what it filters or overlays as "backing" in
     * "backing", implicit filters of jobs left out (block/qapi.c, bdrv_query_bds_stats()). */
    for (size_t i = 0; i < json_object_array_length(stats); i++) {
        JsonObject *one = json_object_array_get_idx(stats, i);

        if (!colo_disk_is_device(colo_json_peek_string(one, "qdev", ""), alias))
            continue;
        for (; one; one = colo_json_peek(one, "backing")) {
            plain = colo_json_peek_string(one, "node-name", "");
            if (!is_ours(plain, alias))
                break;
        }
    }
    if (!plain || !*plain || is_ours(plain, alias)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': disk '%s' is on node '%s', and no node of libvirt's below it was "
                    "found",
                    virDomainGetName(dom), alias, top);
        return FALSE;
    }
    *node = g_strdup(plain);
    return TRUE;
}

/* Removes the three chain nodes, top first; errors are the caller's to ignore. */
static gboolean delete_chain(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    return colo_disk_delete_node(dom, COLO_NODE_CHILDS, disk->alias, error) &&
           colo_disk_delete_node(dom, COLO_NODE_ACTIVE, disk->alias, error) &&
           colo_disk_delete_node(dom, COLO_NODE_HIDDEN, disk->alias, error) &&
           colo_disk_delete_node(dom, COLO_NODE_NULL, disk->alias, error);
}

static gboolean add_replication(virDomainPtr dom, const char *childs, const char *active,
                                GHashTable *present, GError **error)
{
    if (g_hash_table_contains(present, childs))
        return TRUE;
    /* block/replication.c: top-id names the node to block operations on; it may be itself. */
    return colo_qmp_run(dom, "blockdev-add",
                        colo_json_build("driver", "s", "replication", "mode", "s", "secondary",
                                        "node-name", "s", childs, "top-id", "s", childs, "file",
                                        "s", active, NULL),
                        error);
}

gboolean colo_steps_disk_insert(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *hidden = colo_disk_node(COLO_NODE_HIDDEN, disk->alias);
    g_autofree char *active = colo_disk_node(COLO_NODE_ACTIVE, disk->alias);
    g_autofree char *childs = colo_disk_node(COLO_NODE_CHILDS, disk->alias);
    g_autofree char *top = colo_disk_top(dom, disk->alias, NULL, error);
    g_autoptr(GHashTable) present = top ? colo_disk_nodes(dom, error) : NULL;
    g_auto(ColoOverlayPaths) paths = {0};

    if (!present)
        return FALSE;
    if (strcmp(top, childs) == 0)
        return TRUE;
    if (strcmp(top, disk->node) != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': disk '%s' is on node '%s', expected '%s'", virDomainGetName(dom),
                    disk->alias, top, disk->node);
        return FALSE;
    }
    colo_overlay_paths_init(&paths, disk->copy);
    if (colo_disk_add_overlay(dom, COLO_NODE_HIDDEN, disk, paths.hidden, disk->node, present,
                              error) &&
        colo_disk_add_overlay(dom, COLO_NODE_ACTIVE, disk, paths.active, hidden, present, error) &&
        add_replication(dom, childs, active, present, error) &&
        colo_disk_set_drive(dom, disk->alias, childs, error))
        return TRUE;
    delete_chain(dom, disk, NULL);
    return FALSE;
}

gboolean colo_steps_disk_extract(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    return colo_disk_swap_to_plain(dom, disk, error) && delete_chain(dom, disk, error);
}

/*
 * A listening unix socket with @n connections to it in its backlog, @fds, and no name any more: the
 * path was in a private folder and is unlinked. The listener, or -1.
 */
static int listen_connected(size_t n, int *fds, GError **error)
{
    g_autofree char *folder = g_dir_make_tmp("colo-nbd-XXXXXX", error);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener;
    gboolean ok;

    if (!folder)
        return -1;
    for (size_t i = 0; i < n; i++)
        fds[i] = -1;
    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok = listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
         listen(listener, (int)n) == 0;
    for (size_t i = 0; i < n && ok; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ok = fds[i] >= 0 && connect(fds[i], (struct sockaddr *)&address, sizeof(address)) == 0;
    }
    if (!ok) {
        colo_error_set_errno(error, errno, "cannot make the NBD listener '%s'", address.sun_path);
        for (size_t i = 0; i < n; i++) {
            if (fds[i] >= 0)
                close(fds[i]);
            fds[i] = -1;
        }
        if (listener >= 0)
            close(listener);
        listener = -1;
    }
    g_unlink(address.sun_path);
    g_rmdir(folder);
    return listener;
}

static gboolean start_server(virDomainPtr dom, int listener, size_t n, GError **error)
{
    JsonObject *addr;

    if (!colo_qmp_send_fd(dom, listener, NBD_LISTENER_FD, error))
        return FALSE;
    addr = colo_json_build("type", "s", "fd", "data", "o",
                           colo_json_build("str", "s", NBD_LISTENER_FD, NULL), NULL);
    if (colo_qmp_run(dom, "nbd-server-start",
                     colo_json_build("addr", "o", addr, "max-connections", "u", (uint64_t)n, NULL),
                     error))
        return TRUE;
    colo_qmp_drop_fd(dom, NBD_LISTENER_FD);
    return FALSE;
}

static gboolean export_disk(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *id = g_strdup_printf("colo-export-%s", disk->alias);

    return colo_qmp_run(dom, "block-export-add",
                        colo_json_build("type", "s", "nbd", "id", "s", id, "node-name", "s",
                                        disk->node, "name", "s", disk->alias, "writable", "b", TRUE,
                                        NULL),
                        error);
}

gboolean colo_steps_nbd_start(virDomainPtr dom, const ColoStepDisk *disks, size_t n, int *fds,
                              GError **error)
{
    int listener;
    gboolean ok;

    for (size_t i = 0; i < n; i++)
        fds[i] = -1;
    if (n == 0 || !colo_steps_nbd_stop(dom, error))
        return n == 0;
    listener = listen_connected(n, fds, error);
    if (listener < 0)
        return FALSE;
    ok = start_server(dom, listener, n, error);
    close(listener);
    for (size_t i = 0; i < n && ok; i++)
        ok = export_disk(dom, &disks[i], error);
    if (ok)
        return TRUE;
    colo_steps_nbd_stop(dom, NULL);
    for (size_t i = 0; i < n; i++) {
        close(fds[i]);
        fds[i] = -1;
    }
    return FALSE;
}

gboolean colo_steps_nbd_stop(virDomainPtr dom, GError **error)
{
    g_autoptr(GError) local = NULL;

    /* blockdev-nbd.c: stops the exports too; "NBD server not running". */
    if (colo_qmp_run(dom, "nbd-server-stop", NULL, &local) ||
        colo_qmp_error_has(local, "not running"))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

int colo_steps_mirror_prepare(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *name = colo_disk_node(COLO_NODE_NBD, disk->alias);

    return colo_qmp_pass_socket(dom, name, error);
}

gboolean colo_steps_mirror_start(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *nbd = colo_disk_node(COLO_NODE_NBD, disk->alias);
    g_autofree char *job = colo_disk_node(COLO_JOB_MIRROR, disk->alias);
    ColoMirrorState state;
    JsonObject *server;

    if (!colo_steps_mirror_state(dom, disk, &state, error))
        return FALSE;
    if (state.present)
        return TRUE;
    server = colo_json_build("type", "s", "fd", "str", "s", nbd, NULL);
    if (!colo_qmp_run(dom, "blockdev-add",
                      colo_json_build("driver", "s", "nbd", "node-name", "s", nbd, "server", "o",
                                      server, "export", "s", disk->alias, NULL),
                      error)) {
        colo_qmp_drop_fd(dom, nbd);
        return FALSE;
    }
    /* A mirror that meets an error stops and stays, so that it ends only when it is cancelled:
     * ending by itself while the guest writes would damage QEMU's heap (colo_steps_mirror_stop()).
     */
    if (colo_qmp_run(dom, "blockdev-mirror",
                     colo_json_build("job-id", "s", job, "device", "s", disk->node, "target", "s",
                                     nbd, "sync", "s", "full", "copy-mode", "s", "write-blocking",
                                     "on-target-error", "s", "stop", NULL),
                     error))
        return TRUE;
    colo_disk_delete_node(dom, COLO_NODE_NBD, disk->alias, NULL);
    return FALSE;
}

static gboolean has_failed(JsonObject *job)
{
    return strcmp(colo_json_peek_string(job, "io-status", "ok"), "ok") != 0 ||
           colo_json_peek_string(job, "error", NULL) != NULL;
}

gboolean colo_steps_mirrors_copying(virDomainPtr dom, unsigned *copying, GError **error)
{
    g_autoptr(JsonObject) list = colo_qmp(dom, "query-block-jobs", NULL, -1, error);

    if (!list)
        return FALSE;
    *copying = 0;
    for (size_t i = 0;
         json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
        JsonObject *job = json_object_array_get_idx(list, i);

        if (g_str_has_prefix(colo_json_peek_string(job, "device", ""), COLO_JOB_MIRROR "-") &&
            !has_failed(job))
            (*copying)++;
    }
    return TRUE;
}

gboolean colo_steps_mirror_state(virDomainPtr dom, const ColoStepDisk *disk, ColoMirrorState *state,
                                 GError **error)
{
    g_autofree char *id = colo_disk_node(COLO_JOB_MIRROR, disk->alias);
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonObject) job = colo_disk_job(dom, id, &local);

    memset(state, 0, sizeof(*state));
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (!job)
        return TRUE;
    state->present = TRUE;
    state->ready = colo_json_peek_bool(job, "ready", FALSE);
    state->failed = has_failed(job);
    state->offset = colo_json_peek_uint(job, "offset", 0);
    state->length = colo_json_peek_uint(job, "len", 0);
    return TRUE;
}

gboolean colo_steps_mirror_stop(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *id = colo_disk_node(COLO_JOB_MIRROR, disk->alias);
    g_autoptr(GError) local = NULL;

    /* blockdev.c, find_block_job(): class DeviceNotActive when it is gone. */
    if (!colo_qmp_run(dom, "block-job-cancel",
                      colo_json_build("device", "s", id, "force", "b", TRUE, NULL), &local) &&
        !colo_qmp_is_error_class(local, "DeviceNotActive")) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return colo_disk_wait_job_gone(dom, id, CANCEL_TIMEOUT_MS, error) &&
           colo_disk_delete_node(dom, COLO_NODE_NBD, disk->alias, error);
}

gboolean colo_steps_mirror_yank(virDomainPtr dom, const ColoStepDisk *disk, GError **error)
{
    g_autofree char *nbd = colo_disk_node(COLO_NODE_NBD, disk->alias);
    JsonObject *instances = json_object_new_array();

    json_object_array_add(instances,
                          colo_json_build("type", "s", "block-node", "node-name", "s", nbd, NULL));
    return colo_qmp_run(dom, "yank", colo_json_build("instances", "o", instances, NULL), error);
}
