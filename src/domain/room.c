/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/room.h"

#include "util/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BLOCK_BYTES 512u /* unit of st_blocks (stat(2)) */

uint64_t colo_room_allocated(const char *path)
{
    struct stat st;
    off_t size;
    int fd;

    if (!path || stat(path, &st) < 0)
        return 0;
    if (S_ISREG(st.st_mode))
        return (uint64_t)st.st_blocks * BLOCK_BYTES;
    if (!S_ISBLK(st.st_mode))
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    if (fd >= 0)
        close(fd);
    return size > 0 ? (uint64_t)size : 0;
}

/* Bytes that the copy @disk still takes of its file system, or 0: a device has its space. */
static uint64_t still_needed(JsonObject *disk, JsonObject *allocated)
{
    uint64_t theirs = colo_json_peek_uint(allocated, colo_json_peek_string(disk, "target", ""), 0);
    const char *path = colo_json_peek_string(disk, "copy", "");
    uint64_t ours = colo_room_allocated(path);
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || theirs <= ours)
        return 0;
    return theirs - ours;
}

/* The same for all of @disks on the file system of @dev; their names are added to @targets. */
static uint64_t needed_on(dev_t dev, JsonObject *disks, JsonObject *allocated, GString *targets)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < json_object_array_length(disks); i++) {
        JsonObject *disk = json_object_array_get_idx(disks, i);
        g_autofree char *folder = g_path_get_dirname(colo_json_peek_string(disk, "copy", ""));
        struct stat st;

        if (stat(folder, &st) < 0 || st.st_dev != dev)
            continue;
        sum += still_needed(disk, allocated);
        g_string_append_printf(targets, "%s%s", targets->len ? ", " : "",
                               colo_json_peek_string(disk, "target", ""));
    }
    return sum;
}

static uint64_t mib(uint64_t bytes)
{
    return (bytes >> 20) + ((bytes & ((1u << 20) - 1)) != 0);
}

gboolean colo_room_check(const char *host, JsonObject *disks, JsonObject *allocated,
                         uint64_t overlays, GError **error)
{
    for (size_t i = 0; i < json_object_array_length(disks); i++) {
        const char *path = colo_json_peek_string(json_object_array_get_idx(disks, i), "copy", "");
        g_autofree char *folder = g_path_get_dirname(path);
        g_autoptr(GString) targets = g_string_new(NULL);
        uint64_t available, copies;
        struct statvfs fs;
        struct stat st;

        if (stat(folder, &st) < 0 || statvfs(folder, &fs) < 0)
            continue;
        available = (uint64_t)fs.f_bavail * fs.f_frsize;
        copies = needed_on(st.st_dev, disks, allocated, targets);
        if (copies <= available && overlays <= available - copies)
            continue;
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "%s on %s has %" G_GUINT64_FORMAT
                    " MiB free, the copy of %s may need %" G_GUINT64_FORMAT
                    " MiB: %" G_GUINT64_FORMAT " for its content, %" G_GUINT64_FORMAT
                    " for overlays: free space there%s",
                    folder, host, available >> 20, targets->str, mib(copies) + mib(overlays),
                    mib(copies), mib(overlays),
                    copies < available ? ", or lower checkpoint_max_overlay_bytes in its "
                                         "virtcolod.conf"
                                       : "");
        return FALSE;
    }
    return TRUE;
}
