/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The peer's side of colo-prepare, against libvirt's test driver and files made here. */
#include "domain/prepare-copy.h"
#include "test-host-common.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static JsonObject *copy_args(const char *path, const char *format, uint64_t size, gboolean check)
{
    return colo_json_build("target", "s", "vda", "format", "s", format, "size", "u", size, "check",
                           "b", check, "path", "s", path, NULL);
}

/* The same by pool and volume: the test driver does not look pools up by their path. */
static JsonObject *volume_args(const char *volume, const char *format, uint64_t size,
                               gboolean check)
{
    return colo_json_build("target", "s", "vda", "format", "s", format, "size", "u", size, "check",
                           "b", check, "pool", "s", "default-pool", "volume", "s", volume, NULL);
}

/* Runs it and frees @args. */
static JsonObject *prepare(Host *h, JsonObject *args, GError **error)
{
    JsonObject *result = colo_prepare_copy(&h->m, args, error);

    json_object_put(args);
    return result;
}

static int volumes(Host *h)
{
    virConnectPtr conn = colo_virconn_get(h->m.host.virconn, 1000, NULL);
    virStoragePoolPtr pool = virStoragePoolLookupByName(conn, "default-pool");
    int n = virStoragePoolNumOfVolumes(pool);

    virStoragePoolFree(pool);
    virConnectClose(conn);
    return n;
}

static void prepare_refuses_hostile_arguments(void)
{
    static const char *const paths[] = {
        "",       "/",     "x",     "default-pool/x", "/default-pool/../etc/x",
        "/a/./x", "/a//x", "/a/x/", "/a/x\n",         "/a/\xff",
    };
    static const char *const names[] = {"", ".", "..", "a/b", "../x", "a\nb", "\xff"};
    Host h;

    host_up(&h);
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(prepare(&h, copy_args(paths[i], "raw", MIB, FALSE), &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        for (int which = 0; which < 3; which++) {
            g_autoptr(GError) error = NULL;

            g_assert_null(
                prepare(&h,
                        colo_json_build("target", "s", which == 0 ? names[i] : "vda", "format", "s",
                                        "raw", "size", "u", (uint64_t)MIB, "pool", "s",
                                        which == 1 ? names[i] : "default-pool", "volume", "s",
                                        which == 2 ? names[i] : "x", NULL),
                        &error));
            g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
        }
    }
    g_assert_cmpint(volumes(&h), ==, 0);
    host_down(&h);
}

static void prepare_refuses_formats_and_sizes(void)
{
    static const struct {
        const char *format;
        uint64_t size;
    } rows[] = {
        {"vmdk", MIB},       {"", MIB}, {"raw'/>", MIB}, {"raw", 0}, {"raw", (1ull << 60) + 1},
        {"qcow2", INT64_MAX}};
    g_autoptr(GError) missing = NULL;
    Host h;

    host_up(&h);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(
            prepare(&h, copy_args("/default-pool/x", rows[i].format, rows[i].size, FALSE), &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    g_assert_null(prepare(&h, json_object_new_object(), &missing));
    g_assert_error(missing, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_cmpint(volumes(&h), ==, 0);
    host_down(&h);
}

static void prepare_names_pool_and_remedy(void)
{
    g_autoptr(GError) no_pool = NULL;
    g_autoptr(GError) no_name = NULL;
    g_autoptr(GError) full = NULL;
    Host h;

    host_up(&h);
    g_assert_null(prepare(&h, copy_args("/nowhere/x.raw", "raw", MIB, FALSE), &no_pool));
    g_assert_error(no_pool, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(no_pool->message, "virsh pool-create-as NAME dir --target /nowhere"));
    g_assert_nonnull(strstr(no_pool->message, "alpha"));
    g_assert_null(
        prepare(&h,
                colo_json_build("target", "s", "vda", "format", "s", "raw", "size", "u",
                                (uint64_t)MIB, "pool", "s", "fast", "volume", "s", "x", NULL),
                &no_name));
    g_assert_error(no_name, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(no_name->message, "'fast'"));
    g_assert_null(prepare(&h, volume_args("x", "raw", 1ull << 50, FALSE), &full));
    g_assert_error(full, COLO_ERROR, COLO_ERROR_RESOURCE);
    g_assert_nonnull(strstr(full->message, "'default-pool'"));
    g_assert_cmpint(volumes(&h), ==, 0);
    host_down(&h);
}

static void prepare_checks_first_and_makes_then(void)
{
    g_autoptr(JsonObject) check = NULL;
    g_autoptr(JsonObject) made = NULL;
    g_autoptr(GError) error = NULL;
    virStorageVolInfo info;
    virStorageVolPtr vol;
    virConnectPtr conn;
    char *xml;
    Host h;

    host_up(&h);
    check = prepare(&h, volume_args("d.qcow2", "qcow2", 3 * MIB, TRUE), &error);
    g_assert_no_error(error);
    g_assert_false(colo_json_peek_bool(check, "created", TRUE));
    g_assert_cmpint(volumes(&h), ==, 0);
    made = prepare(&h, volume_args("d.qcow2", "qcow2", 3 * MIB, FALSE), &error);
    g_assert_no_error(error);
    g_assert_true(colo_json_peek_bool(made, "created", FALSE));
    g_assert_cmpstr(colo_json_peek_string(made, "path", ""), ==, "/default-pool/d.qcow2");
    conn = colo_virconn_get(h.m.host.virconn, 1000, NULL);
    vol = virStorageVolLookupByPath(conn, "/default-pool/d.qcow2");
    g_assert_nonnull(vol);
    g_assert_cmpint(virStorageVolGetInfo(vol, &info), ==, 0);
    g_assert_cmpuint(info.capacity, ==, 3 * MIB);
    xml = virStorageVolGetXMLDesc(vol, 0);
    g_assert_nonnull(strstr(xml, "<format type='qcow2'/>"));
    free(xml);
    virStorageVolFree(vol);
    virConnectClose(conn);
    host_down(&h);
}

/* A file at NAME with @len bytes that begins with @head (at most 32 bytes). */
static char *image(const char *name, off_t len, const void *head, size_t head_len)
{
    char *path = in_folder(name);
    FILE *file = fopen(path, "w");

    g_assert_nonnull(file);
    g_assert_cmpuint(fwrite(head, 1, head_len, file), ==, head_len);
    g_assert_cmpint(fflush(file), ==, 0);
    g_assert_cmpint(ftruncate(fileno(file), len), ==, 0);
    fclose(file);
    return path;
}

static void prepare_keeps_a_copy_that_fits(void)
{
    /* docs/interop/qcow2.txt: magic, version, backing file offset and size, cluster bits, size */
    static const guint8 head[32] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, [23] = 16, [29] = 0x30};
    g_autofree char *raw = image("c.raw", MIB, "payload", 7);
    g_autofree char *qcow2 = image("c.qcow2", 65536, head, sizeof(head));
    g_autofree char *content = NULL;
    g_autoptr(GError) error = NULL;
    Host h;

    host_up(&h);
    for (int i = 0; i < 3; i++) { /* the last: a size that QEMU rounds up to the same sectors */
        g_autoptr(JsonObject) result =
            prepare(&h,
                    i == 1 ? copy_args(qcow2, "qcow2", 3 * MIB, FALSE)
                           : copy_args(raw, "raw", i == 0 ? MIB : MIB - 100, FALSE),
                    &error);

        g_assert_no_error(error);
        g_assert_false(colo_json_peek_bool(result, "created", TRUE));
        g_assert_nonnull(strstr(colo_json_peek_string(result, "action", ""), "done already"));
    }
    g_assert_true(g_file_get_contents(raw, &content, NULL, NULL));
    g_assert_cmpstr(content, ==, "payload");
    host_down(&h);
}

static void prepare_refuses_a_copy_that_does_not_fit(void)
{
    static const guint8 backed[32] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, [15] = 1, [29] = 0x30};
    g_autofree char *raw = image("e.raw", MIB, "payload", 7);
    g_autofree char *qcow2 = image("e.qcow2", 65536, backed, sizeof(backed));
    g_autofree char *fifo = in_folder("fifo");
    const struct {
        const char *path, *format;
        uint64_t size;
        const char *text;
    } rows[] = {
        {raw, "raw", 2 * MIB, "exists with 1048576 bytes, the primary's disk has 2097152"},
        {raw, "qcow2", MIB, "no qcow2 file"},
        {qcow2, "qcow2", 3 * MIB, "with a backing file"},
        {qcow2, "raw", 3 * MIB, "looks like qcow2"},
        {fifo, "raw", MIB, "neither a file nor a block device"},
    };
    Host h;

    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    host_up(&h);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(
            prepare(&h, copy_args(rows[i].path, rows[i].format, rows[i].size, FALSE), &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
        if (!strstr(error->message, rows[i].text))
            g_error("'%s' lacks '%s'", error->message, rows[i].text);
    }
    host_down(&h);
}

static void prepare_refuses_the_primarys_own_file(void)
{
    g_autofree char *raw = image("shared.raw", MIB, "x", 1);
    g_autofree char *other = image("other.raw", MIB, "x", 1);
    g_autofree char *identity = colo_prepare_identity(raw);
    g_autofree char *others = colo_prepare_identity(other);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) kept = NULL;
    JsonObject *args;
    Host h;

    if (!identity) {
        g_test_skip("the file system of the temporary folder keeps no time of birth");
        return;
    }
    host_up(&h);
    g_assert_cmpstr(identity, !=, others);
    args = copy_args(raw, "raw", MIB, FALSE);
    colo_json_add(args, "identity", "s", identity, NULL);
    g_assert_null(prepare(&h, args, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "primary's own disk"));
    g_clear_error(&error);
    args = copy_args(raw, "raw", MIB, FALSE);
    colo_json_add(args, "identity", "s", others, NULL);
    kept = prepare(&h, args, &error);
    g_assert_no_error(error);
    g_assert_nonnull(kept);
    host_down(&h);
}

static JsonObject *strings(const char *first, const char *second)
{
    JsonObject *array = json_object_new_array();

    if (first)
        json_object_array_add(array, json_object_new_string(first));
    if (second)
        json_object_array_add(array, json_object_new_string(second));
    return array;
}

static void prepare_says_what_is_missing(void)
{
    g_autofree char *there = image("kernel", 1, "k", 1);
    g_autoptr(JsonObject) result = NULL;
    g_autoptr(GError) error = NULL;
    JsonObject *missing;
    Host h;

    host_up(&h);
    result = prepare(&h,
                     colo_json_build("files", "o", strings(there, "/nonexistent/initrd"), "bridges",
                                     "o", strings("lo", "no-such-br"), "networks", "o",
                                     strings("default", "no-such-net"), NULL),
                     &error);
    g_assert_no_error(error);
    missing = colo_json_peek(result, "missing");
    g_assert_cmpstr(json_object_to_json_string_ext(missing, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE),
                    ==, "[\"/nonexistent/initrd\",\"no-such-br\",\"no-such-net\"]");
    g_assert_null(
        prepare(&h,
                colo_json_build("files", "o", strings("/a/../x", NULL), "bridges", "o",
                                strings(NULL, NULL), "networks", "o", strings(NULL, NULL), NULL),
                &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_clear_error(&error);
    g_assert_null(prepare(&h,
                          colo_json_build("files", "o", strings(NULL, NULL), "bridges", "o",
                                          strings("../../x", NULL), "networks", "o",
                                          strings(NULL, NULL), NULL),
                          &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    host_down(&h);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/prepare/hostile-arguments", prepare_refuses_hostile_arguments);
    g_test_add_func("/prepare/formats-and-sizes", prepare_refuses_formats_and_sizes);
    g_test_add_func("/prepare/names-pool-and-remedy", prepare_names_pool_and_remedy);
    g_test_add_func("/prepare/checks-first-and-makes-then", prepare_checks_first_and_makes_then);
    g_test_add_func("/prepare/keeps-a-copy-that-fits", prepare_keeps_a_copy_that_fits);
    g_test_add_func("/prepare/refuses-a-copy-that-does-not-fit",
                    prepare_refuses_a_copy_that_does_not_fit);
    g_test_add_func("/prepare/refuses-the-primarys-own-file",
                    prepare_refuses_the_primarys_own_file);
    g_test_add_func("/prepare/says-what-is-missing", prepare_says_what_is_missing);
    folder_create();
    pki_create();
    rc = g_test_run();
    pki_remove();
    folder_remove();
    return rc;
}
