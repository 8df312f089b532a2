/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of the QMP steps that need no QEMU: errors, names, overlay files, bridges. */
#include "domain/qmp.h"
#include "domain/steps-bridge.h"
#include "domain/steps-disk-internal.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static void test_error_class(void)
{
    g_autoptr(GError) qemu = g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                                         "domain 'a': 'x' failed: [DeviceNotFound] no [libvirt]");
    g_autoptr(GError) prefixed = g_error_copy(qemu);
    g_autoptr(GError) other = g_error_new(COLO_ERROR, COLO_ERROR_INTERNAL, "[DeviceNotFound]");

    g_prefix_error(&prefixed, "NIC 'net0': ");
    g_assert_true(colo_qmp_is_error_class(qemu, "DeviceNotFound"));
    g_assert_true(colo_qmp_is_error_class(prefixed, "DeviceNotFound"));
    g_assert_false(colo_qmp_is_error_class(qemu, "Device"));
    g_assert_false(colo_qmp_is_error_class(qemu, "libvirt"));
    g_assert_false(colo_qmp_is_error_class(other, "DeviceNotFound"));
    g_assert_false(colo_qmp_is_error_class(NULL, "DeviceNotFound"));
    g_assert_true(colo_qmp_error_has(qemu, "no "));
    g_assert_false(colo_qmp_error_has(qemu, "domain"));
}

/* A driver without QMP: the error names domain and command, and holds libvirt's text unharmed. */
static void test_libvirt_error(void)
{
    virConnectPtr conn = virConnectOpen("test:///default");
    g_autoptr(virDomain) dom = conn ? virDomainLookupByName(conn, "test") : NULL;
    g_autoptr(GError) error = NULL;

    if (!dom) {
        g_test_skip("libvirt has no test driver");
        return;
    }
    g_assert_false(colo_qmp_run(dom, "query-status", NULL, &error));
    g_assert_true(colo_qmp_is_error_class(error, "libvirt"));
    g_assert_true(
        g_str_has_prefix(error->message, "domain 'test': 'query-status' failed: [libvirt] "));
    g_assert_nonnull(strstr(error->message, "not supported"));
    g_clear_error(&error);
    g_assert_cmpint(colo_qmp_pass_socket(dom, "name", &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "'getfd'"));
    virConnectClose(conn);
}

static void test_node_names(void)
{
    g_autofree char *plain = colo_disk_node("active", "virtio-disk0");
    g_autofree char *fits = colo_disk_node("childs", "ua-012345678901234567890");
    g_autofree char *a = colo_disk_node("childs", "ua-11111111-2222-3333-4444-555555555555");
    g_autofree char *b = colo_disk_node("childs", "ua-11111111-2222-3333-4444-555555555556");

    g_assert_cmpstr(plain, ==, "active-virtio-disk0");
    g_assert_cmpuint(strlen(fits), ==, 31);
    g_assert_true(g_str_has_suffix(fits, "890"));
    g_assert_cmpuint(strlen(a), <=, 31);
    g_assert_true(g_str_has_prefix(a, "childs-"));
    g_assert_cmpstr(a, !=, b);
}

static void test_devices(void)
{
    g_assert_true(
        colo_disk_is_device("/machine/peripheral/virtio-disk0/virtio-backend", "virtio-disk0"));
    g_assert_true(colo_disk_is_device("ide0-0-0", "ide0-0-0"));
    g_assert_false(colo_disk_is_device("/machine/peripheral/virtio-disk01", "virtio-disk0"));
    g_assert_false(colo_disk_is_device("", "virtio-disk0"));
}

static void run(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void run(const char *format, ...)
{
    g_autofree char *line = NULL;
    va_list args;
    int status;

    va_start(args, format);
    line = g_strdup_vprintf(format, args);
    va_end(args);
    g_assert_true(g_spawn_command_line_sync(line, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
}

static gboolean no_qemu_img(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");
    g_autofree char *io = g_find_program_in_path("qemu-io");

    if (path && io)
        return FALSE;
    g_test_skip("qemu-img and qemu-io are missing");
    return TRUE;
}

typedef struct {
    char *dir, *copy;
    ColoStepDisk disk;
    ColoOverlayPaths paths;
} Files;

static Files *files_new(const char *format)
{
    Files *f = g_new0(Files, 1);

    f->dir = g_dir_make_tmp("test-qmp-XXXXXX", NULL);
    f->copy = g_build_filename(f->dir, "copy", NULL);
    f->disk =
        (ColoStepDisk){.alias = "virtio-disk0", .copy = f->copy, .format = format, .size = 8 * MIB};
    colo_overlay_paths_init(&f->paths, f->copy);
    run("qemu-img create -q -f %s %s 8M", format, f->copy);
    g_chmod(f->copy, 0640);
    return f;
}

static void files_free(Files *f)
{
    colo_steps_overlays_remove(&f->disk, NULL);
    unlink(f->copy);
    g_rmdir(f->dir);
    colo_overlay_paths_clear(&f->paths);
    g_free(f->copy);
    g_free(f->dir);
    g_free(f);
}

static void test_overlays(void)
{
    g_autoptr(GError) error = NULL;
    struct stat st;
    Files *f;

    if (no_qemu_img())
        return;
    f = files_new("raw");
    g_assert_cmpuint(colo_steps_overlay_bytes(&f->disk, 1), ==, 0);
    colo_steps_overlays_create(&f->disk, FALSE, &error);
    g_assert_no_error(error);
    g_assert_cmpint(stat(f->paths.tail, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0640);
    g_assert_cmpuint(colo_steps_overlay_bytes(&f->disk, 1), >, 0);

    unlink(f->paths.tail); /* the others alone are refused, too, and stay */
    g_assert_false(colo_steps_overlays_create(&f->disk, FALSE, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_assert_true(g_file_test(f->paths.active, G_FILE_TEST_EXISTS));
    g_clear_error(&error);
    colo_steps_overlays_create(&f->disk, TRUE, &error);
    g_assert_no_error(error);
    colo_steps_overlays_remove(&f->disk, &error);
    g_assert_no_error(error);
    colo_steps_overlays_remove(&f->disk, &error); /* none: success */
    g_assert_no_error(error);
    g_assert_false(g_file_test(f->paths.hidden, G_FILE_TEST_EXISTS));

    f->disk.format = "nonsense"; /* qemu-img's own words come through, and nothing is left */
    g_assert_false(colo_steps_overlays_create(&f->disk, FALSE, &error));
    g_assert_nonnull(strstr(error->message, "nonsense"));
    g_assert_false(g_file_test(f->paths.hidden, G_FILE_TEST_EXISTS));
    f->disk.format = "raw";
    files_free(f);
}

/*
 * What a crash may leave: COPY with writes of the dead primary (1 at [0,4) MiB), HIDDEN with what
 * was there before (0 at [0,2)), ACTIVE with the secondary's writes (2 at [1,3)), TAIL with the
 * survivor's (3 at [5,6)). Repaired: 0 2 2 1 0 3 0 0.
 */
static void repair(const char *format, ColoOverlays dead, const char *expected, gboolean tail)
{
    g_autoptr(GError) error = NULL;
    Files *f;

    if (no_qemu_img())
        return;
    f = files_new(format);
    colo_steps_overlays_create(&f->disk, FALSE, &error);
    g_assert_no_error(error);
    run("qemu-io -f %s -c 'write -P 1 0 4M' %s", format, f->copy);
    run("qemu-io -f qcow2 -c 'write -P 0 0 2M' %s", f->paths.hidden);
    run("qemu-io -f qcow2 -c 'write -P 2 1M 2M' %s", f->paths.active);
    if (tail)
        run("qemu-io -f qcow2 -c 'write -P 3 5M 1M' %s", f->paths.tail);
    else
        unlink(f->paths.tail);
    for (int times = 0; times < 2; times++) {
        colo_steps_repair(&f->disk, dead, &error);
        g_assert_no_error(error);
        for (int i = 0; i < 8; i++)
            run("sh -c \"qemu-io -r -f %s -c 'read -P %c %dM 1M' %s | (! grep -q Pattern)\"",
                format, expected[i], i, f->copy);
    }
    files_free(f);
}

static void test_repair_raw(void)
{
    repair("raw", 0, "02210300", TRUE);
}

static void test_repair_qcow2(void)
{
    repair("qcow2", 0, "02210300", TRUE);
}

static void test_repair_without_tail(void)
{
    repair("raw", 0, "02210000", FALSE);
}

static void test_repair_dead(void)
{
    repair("raw", COLO_OVERLAY_CHAIN | COLO_OVERLAY_TAIL, "11110000", TRUE);
}

static void test_bridge_name(void)
{
    g_autofree char *a = colo_bridge_quarantine_name("u", "net0");
    g_autofree char *b = colo_bridge_quarantine_name("u", "net1");

    g_assert_cmpuint(strlen(a), <, IF_NAMESIZE);
    g_assert_true(g_str_has_prefix(a, "colo-q"));
    g_assert_cmpstr(a, !=, b);
}

static void test_bridge(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *master = NULL;

    if (unshare(CLONE_NEWNET) < 0) {
        g_test_skip("needs the right to make a network namespace");
        return;
    }
    colo_bridge_create("colo-q1", &error);
    g_assert_no_error(error);
    colo_bridge_create("colo-q1", &error); /* again: the same */
    g_assert_no_error(error);
    colo_bridge_create("colo-q2", &error); /* bridges cannot be ports of bridges: ports below */
    g_assert_no_error(error);
    g_assert_false(colo_bridge_create("lo", &error));
    g_assert_nonnull(strstr(error->message, "no bridge"));
    g_clear_error(&error);

    run("ip link add p type veth peer name q");
    master = colo_bridge_get_master("p", &error);
    g_assert_no_error(error);
    g_assert_null(master);
    colo_bridge_set_master("p", "colo-q1", &error);
    g_assert_no_error(error);
    colo_bridge_set_master("p", "colo-q2", &error); /* straight from one to the other */
    g_assert_no_error(error);
    colo_bridge_set_master("p", "colo-q2", &error);
    g_assert_no_error(error);
    master = colo_bridge_get_master("p", &error);
    g_assert_cmpstr(master, ==, "colo-q2");
    colo_bridge_set_master("p", NULL, &error);
    g_assert_no_error(error);
    g_free(master);
    master = colo_bridge_get_master("p", &error);
    g_assert_null(master);
    run("sh -c \"ip -o link show colo-q1 | grep -q 'state DOWN'\"");

    g_assert_false(colo_bridge_set_master("absent", "colo-q1", &error));
    g_assert_nonnull(strstr(error->message, "absent"));
    g_clear_error(&error);
    g_assert_false(colo_bridge_delete("p", &error)); /* not ours */
    g_clear_error(&error);
    colo_bridge_delete("colo-q1", &error);
    g_assert_no_error(error);
    colo_bridge_delete("colo-q1", &error); /* absent: success */
    g_assert_no_error(error);
    g_assert_cmpuint(if_nametoindex("colo-q1"), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qmp/error-class", test_error_class);
    g_test_add_func("/qmp/libvirt-error", test_libvirt_error);
    g_test_add_func("/steps/node-names", test_node_names);
    g_test_add_func("/steps/devices", test_devices);
    g_test_add_func("/steps/overlays", test_overlays);
    g_test_add_func("/steps/repair-raw", test_repair_raw);
    g_test_add_func("/steps/repair-qcow2", test_repair_qcow2);
    g_test_add_func("/steps/repair-without-tail", test_repair_without_tail);
    g_test_add_func("/steps/repair-dead", test_repair_dead);
    g_test_add_func("/steps/bridge-name", test_bridge_name);
    g_test_add_func("/steps/bridge", test_bridge);
    return g_test_run();
}
