/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of steps-disk.h: the overlays beside a copy, and the repair after a crash. */
#include "domain/steps-disk.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LABEL "security.selinux"
#define LABEL_MAX 256
#define BLOCK_BYTES 512u /* unit of st_blocks (stat(2)) */

void colo_overlay_paths_init(ColoOverlayPaths *paths, const char *copy)
{
    paths->hidden = g_strconcat(copy, ".colo-hidden", NULL);
    paths->active = g_strconcat(copy, ".colo-active", NULL);
    paths->tail = g_strconcat(copy, ".colo-tail", NULL);
}

void colo_overlay_paths_clear(ColoOverlayPaths *paths)
{
    g_clear_pointer(&paths->hidden, g_free);
    g_clear_pointer(&paths->active, g_free);
    g_clear_pointer(&paths->tail, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoOverlayPaths, colo_overlay_paths_clear)

/* Runs qemu-img with @argv (NULL-terminated, argv[0] "qemu-img"); an error holds what it printed.
 */
static gboolean qemu_img(const char *const *argv, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *err = NULL;
    int status = 0;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL,
                      NULL, NULL, NULL, &err, &status, &local) ||
        !g_spawn_check_wait_status(status, &local)) {
        g_autofree char *line = g_strjoinv(" ", (char **)argv);

        g_strchomp(err ? err : (err = g_strdup("")));
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED, "'%s' failed: %s", line,
                    *err ? err : local->message);
        return FALSE;
    }
    return TRUE;
}

/* Owner, mode and SELinux label of @from for @to: QEMU may open @to if it may open @from. */
static gboolean copy_access(const char *from, const char *to, GError **error)
{
    char label[LABEL_MAX];
    struct stat st;
    ssize_t n;

    if (stat(from, &st) < 0) {
        colo_error_set_errno(error, errno, "disk copy '%s'", from);
        return FALSE;
    }
    if (chown(to, st.st_uid, st.st_gid) < 0 || chmod(to, st.st_mode & 0777) < 0) {
        colo_error_set_errno(error, errno, "cannot give '%s' the owner and mode of '%s'", to, from);
        return FALSE;
    }
    n = getxattr(from, LABEL, label, sizeof(label));
    if (n > 0 && setxattr(to, LABEL, label, (size_t)n, 0) < 0) {
        colo_error_set_errno(error, errno, "cannot give '%s' the SELinux label of '%s'", to, from);
        return FALSE;
    }
    return TRUE;
}

static gboolean create_one(const ColoStepDisk *disk, const char *path, const char *backing,
                           const char *format, GError **error)
{
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, disk->size);
    const char *argv[] = {"qemu-img", "create", "-q",   "-u", "-f", "qcow2", "-b",
                          backing,    "-F",     format, path, size, NULL};

    return qemu_img(argv, error) && copy_access(disk->copy, path, error);
}

gboolean colo_steps_overlays_create(const ColoStepDisk *disk, gboolean replace_dead, GError **error)
{
    g_auto(ColoOverlayPaths) paths = {0};
    const char *all[3];

    colo_overlay_paths_init(&paths, disk->copy);
    all[0] = paths.hidden;
    all[1] = paths.active;
    all[2] = paths.tail;
    for (size_t i = 0; i < G_N_ELEMENTS(all) && !replace_dead; i++) {
        if (g_file_test(all[i], G_FILE_TEST_EXISTS)) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                        "overlay '%s' of disk '%s' exists and may hold the only copy of what the "
                        "guest wrote: repair the chain first",
                        all[i], disk->alias);
            return FALSE;
        }
    }
    if (!colo_steps_overlays_remove(disk, error))
        return FALSE;
    if (!create_one(disk, paths.hidden, disk->copy, disk->format, error) ||
        !create_one(disk, paths.active, paths.hidden, "qcow2", error) ||
        !create_one(disk, paths.tail, paths.active, "qcow2", error)) {
        colo_steps_overlays_remove(disk, NULL);
        return FALSE;
    }
    return TRUE;
}

gboolean colo_steps_overlays_remove(const ColoStepDisk *disk, GError **error)
{
    g_auto(ColoOverlayPaths) paths = {0};
    const char *all[3];

    colo_overlay_paths_init(&paths, disk->copy);
    all[0] = paths.tail;
    all[1] = paths.active;
    all[2] = paths.hidden;
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (unlink(all[i]) < 0 && errno != ENOENT) {
            colo_error_set_errno(error, errno, "cannot remove overlay '%s'", all[i]);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean sync_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gboolean ok = fd >= 0 && fsync(fd) == 0;

    if (!ok)
        colo_error_set_errno(error, errno, "making %s durable", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

gboolean colo_steps_overlays_sync(const ColoStepDisk *disks, size_t n, GError **error)
{
    for (size_t i = 0; i < n; i++) {
        g_auto(ColoOverlayPaths) paths = {0};

        colo_overlay_paths_init(&paths, disks[i].copy);
        if (!sync_file(paths.hidden, error) || !sync_file(paths.active, error))
            return FALSE;
    }
    return TRUE;
}

uint64_t colo_steps_overlay_bytes(const ColoStepDisk *disks, size_t n)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++) {
        g_auto(ColoOverlayPaths) paths = {0};
        struct stat st;

        colo_overlay_paths_init(&paths, disks[i].copy);
        if (stat(paths.hidden, &st) == 0)
            bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
        if (stat(paths.active, &st) == 0)
            bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
    }
    return bytes;
}

/* qcow2's own consistency after a crash. */
static gboolean check_one(const char *path, GError **error)
{
    const char *argv[] = {"qemu-img", "check", "-q", "-r", "all", "-f", "qcow2", path, NULL};

    return qemu_img(argv, error);
}

/* Commits @active, which may be the tail, into @copy; @hidden (may be NULL) is checked too. */
static gboolean repair_chain(const char *copy, const char *hidden, const char *active,
                             GError **error)
{
    /* -d keeps the overlay as it is, so that the repair can be repeated. */
    const char *argv[] = {"qemu-img", "commit", "-q",    "-d",   "-b",
                          copy,       "-f",     "qcow2", active, NULL};

    return (!hidden || check_one(hidden, error)) && check_one(active, error) &&
           qemu_img(argv, error);
}

gboolean colo_steps_repair(const ColoStepDisk *disk, ColoOverlays dead, GError **error)
{
    g_auto(ColoOverlayPaths) paths = {0};
    g_autoptr(GError) local = NULL;
    gboolean tail;

    if (dead & COLO_OVERLAY_CHAIN)
        return TRUE;
    colo_overlay_paths_init(&paths, disk->copy);
    tail = g_file_test(paths.tail, G_FILE_TEST_EXISTS);
    /* The tail's header has ACTIVE as backing file: one commit of it computes all three. */
    if ((tail && !check_one(paths.active, &local)) ||
        !repair_chain(disk->copy, paths.hidden, tail ? paths.tail : paths.active,
                      local ? NULL : &local)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "repairing disk '%s' (keep the files): ", disk->alias);
        return FALSE;
    }
    return TRUE;
}
