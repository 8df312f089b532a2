/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Space for copies and overlays: what they do not hold yet counts, added up a file system. */
#include "domain/room.h"

#include "util/error.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static char *dir;

/* A file of @size bytes of which @content are written. g_free() */
static char *make_file(const char *name, uint64_t size, size_t content)
{
    char *path = g_build_filename(dir, name, NULL);
    g_autofree char *bytes = g_malloc(content + 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    memset(bytes, 'x', content + 1);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    g_assert_cmpint(write(fd, bytes, content), ==, (ssize_t)content);
    g_assert_cmpint(fsync(fd), ==, 0);
    close(fd);
    return path;
}

static uint64_t available(void)
{
    struct statvfs fs;

    g_assert_cmpint(statvfs(dir, &fs), ==, 0);
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static void add_disk(JsonObject *disks, const char *target, const char *path)
{
    json_object_array_add(disks, colo_json_build("target", "s", target, "copy", "s", path, NULL));
}

static void test_allocated_is_what_is_written(void)
{
    g_autofree char *empty = make_file("empty", 8 * MIB, 0);
    g_autofree char *some = make_file("some", 8 * MIB, 2 * MIB);

    g_assert_cmpuint(colo_room_allocated(empty), <, MIB / 4);
    g_assert_cmpuint(colo_room_allocated(some), >=, 2 * MIB);
    g_assert_cmpuint(colo_room_allocated(some), <, 3 * MIB);
    g_assert_cmpuint(colo_room_allocated("/nonexistent/disk"), ==, 0);
    g_unlink(empty);
    g_unlink(some);
}

static void test_disks_of_one_file_system_are_added_up(void)
{
    g_autofree char *a = make_file("a", MIB, 0);
    g_autofree char *b = make_file("b", MIB, 0);
    g_autoptr(JsonObject) disks = json_object_new_array();
    /* Each alone fits, both do not. */
    uint64_t most = available() / 4 * 3;
    g_autoptr(JsonObject) allocated =
        colo_json_build("vda", "u", most, "vdb", "u", (uint64_t)0, NULL);
    g_autoptr(GError) error = NULL;

    add_disk(disks, "vda", a);
    add_disk(disks, "vdb", b);
    g_assert_true(colo_room_check("beta", disks, allocated, 0, &error));
    g_assert_no_error(error);
    colo_json_add(allocated, "vdb", "u", most, NULL);
    g_assert_false(colo_room_check("beta", disks, allocated, 0, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_RESOURCE);
    g_assert_nonnull(strstr(error->message, dir));
    g_assert_nonnull(strstr(error->message, "on beta has"));
    g_assert_nonnull(strstr(error->message, "the copy of vda, vdb"));
    g_assert_null(strstr(error->message, "lower"));
    g_unlink(a);
    g_unlink(b);
}

static void test_overlays_need_room_too(void)
{
    g_autofree char *a = make_file("a", MIB, MIB);
    g_autoptr(JsonObject) disks = json_object_new_array();
    g_autoptr(JsonObject) allocated = colo_json_build("vda", "u", MIB, NULL);
    g_autoptr(GError) error = NULL;

    add_disk(disks, "vda", a);
    g_assert_true(colo_room_check("beta", disks, allocated, available() / 2, &error));
    g_assert_false(colo_room_check("beta", disks, allocated, available() * 2, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_RESOURCE);
    g_assert_nonnull(strstr(error->message, "lower checkpoint_max_overlay_bytes"));
    g_clear_error(&error);
    /* No word of what the primary holds: overlays alone. */
    g_assert_true(colo_room_check("beta", disks, NULL, available() / 2, &error));
    g_unlink(a);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("test-room-XXXXXX", NULL);
    g_assert_nonnull(dir);
    g_test_add_func("/domain/room/allocated", test_allocated_is_what_is_written);
    g_test_add_func("/domain/room/added-up", test_disks_of_one_file_system_are_added_up);
    g_test_add_func("/domain/room/overlays", test_overlays_need_room_too);
    rc = g_test_run();
    g_rmdir(dir);
    g_free(dir);
    return rc;
}
