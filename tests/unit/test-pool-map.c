/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool map of a pair: its text, its inverse, and where it leads on two hosts, each of which is
 * one of libvirt's test drivers here. */
#include "domain/pool-map.h"

#include "util/error.h"

#include <glib/gstdio.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <unistd.h>

static void test_a_map_is_parsed_and_printed(void)
{
    g_autoptr(JsonObject) map = colo_pool_map_parse("default=fast,vms=vms 2", NULL);
    g_autofree char *text = colo_pool_map_to_text(map, FALSE);

    g_assert_cmpint(json_object_object_length(map), ==, 2);
    g_assert_cmpstr(colo_json_peek_string(map, "default", NULL), ==, "fast");
    g_assert_cmpstr(colo_json_peek_string(map, "vms", NULL), ==, "vms 2");
    g_assert_cmpstr(text, ==, "default=fast,vms=vms 2");
}

static void test_no_text_is_an_empty_map(void)
{
    g_autoptr(JsonObject) map = colo_pool_map_parse(NULL, NULL);

    g_assert_cmpint(json_object_object_length(map), ==, 0);
    g_assert_null(colo_pool_map_to_text(map, FALSE));
    g_assert_null(colo_pool_map_to_text(map, TRUE));
}

static void test_the_peers_map_is_the_inverse(void)
{
    g_autoptr(JsonObject) map = colo_pool_map_parse("a=b,b=a,c=d", NULL);
    g_autofree char *theirs = colo_pool_map_to_text(map, TRUE);
    g_autoptr(JsonObject) inverse = colo_pool_map_parse(theirs, NULL);
    g_autofree char *back = colo_pool_map_to_text(inverse, TRUE);

    g_assert_cmpstr(colo_json_peek_string(inverse, "d", NULL), ==, "c");
    g_assert_cmpstr(colo_json_peek_string(inverse, "a", NULL), ==, "b");
    g_assert_cmpstr(back, ==, "a=b,b=a,c=d");
}

static void test_a_map_that_is_none_is_refused_and_quoted(void)
{
    static const struct {
        const char *text, *named;
    } bad[] = {
        {"default", "'default'"},
        {"a=b=c", "'a=b=c'"},
        {"a=b,", "''"},
        {"=b", "''"},
        {"a=", "''"},
        {"a=../b", "'../b'"},
        {"..=b", "'..'"},
        {"a=b\n", "'b\\n'"},
        {"a=b,a=c", "'a' is named twice"},
        {"a=x,b=x", "'a' and 'b' both go to storage pool 'x'"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(colo_pool_map_parse(bad[i].text, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
        g_assert_nonnull(strstr(error->message, bad[i].named));
    }
}

static void test_I8_the_number_of_pools_is_bounded(void)
{
    g_autoptr(GString) text = g_string_new("p0=q0");
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) map = NULL;

    for (unsigned i = 1; i < COLO_POOL_MAP_MAX; i++)
        g_string_append_printf(text, ",p%u=q%u", i, i);
    map = colo_pool_map_parse(text->str, NULL);
    g_assert_nonnull(map);
    g_string_append(text, ",one=more");
    g_assert_null(colo_pool_map_parse(text->str, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
}

/* ---- two hosts ---- */

typedef struct {
    virConnectPtr alpha, beta;
    JsonObject *of_alpha, *of_beta; /* the map as each of them keeps it */
} Hosts;

static void quiet(void *data, virErrorPtr error)
{
    (void)data;
    (void)error;
}

/* A connection to a node of its own: libvirt's test driver makes one for each time a file is
 * opened. */
static virConnectPtr open_node(void)
{
    g_autofree char *path = NULL, *uri = NULL;
    int fd = g_file_open_tmp("colo-node-XXXXXX", &path, NULL);
    virConnectPtr conn;

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_true(g_file_set_contents(path, "<node/>", -1, NULL));
    uri = g_strconcat("test://", path, NULL);
    conn = virConnectOpen(uri);
    g_assert_nonnull(conn);
    g_unlink(path);
    return conn;
}

/* Not active: what is mapped must not depend on that. */
static void add_pool(virConnectPtr conn, const char *name, const char *directory)
{
    g_autofree char *xml = g_strdup_printf(
        "<pool type='dir'><name>%s</name><target><path>%s</path></target></pool>", name, directory);
    virStoragePoolPtr pool = virStoragePoolDefineXML(conn, xml, 0);

    g_assert_nonnull(pool);
    virStoragePoolFree(pool);
}

/* alpha: default, vms; beta: default (the same directory), fast. */
static void setup(Hosts *h, const char *map)
{
    g_autofree char *inverse = NULL;

    virSetErrorFunc(NULL, quiet);
    h->alpha = open_node();
    h->beta = open_node();
    add_pool(h->alpha, "default", "/images");
    add_pool(h->alpha, "vms", "/srv/vms");
    add_pool(h->beta, "default", "/images");
    add_pool(h->beta, "fast", "/srv/fast");
    h->of_alpha = colo_pool_map_parse(map, NULL);
    inverse = colo_pool_map_to_text(h->of_alpha, TRUE);
    h->of_beta = colo_pool_map_parse(inverse, NULL);
    g_assert_nonnull(h->of_beta);
}

static void teardown(Hosts *h)
{
    virConnectClose(h->alpha);
    virConnectClose(h->beta);
    json_object_put(h->of_alpha);
    json_object_put(h->of_beta);
}

/* Where the copy of a disk at @path of one host lies on the other. */
static char *carry(Hosts *h, gboolean to_beta, const char *path, GError **error)
{
    g_autoptr(JsonObject) disk = colo_json_build("target", "s", "vda", "copy", "s", path, NULL);

    colo_pool_map_add_place(to_beta ? h->alpha : h->beta, to_beta ? h->of_alpha : h->of_beta, path,
                            disk);
    return colo_pool_map_resolve(to_beta ? h->beta : h->alpha, to_beta ? h->of_beta : h->of_alpha,
                                 to_beta ? "beta" : "alpha", disk, error);
}

static void test_a_copy_lies_in_the_mapped_pool_and_leads_back(void)
{
    g_autofree char *there = NULL, *back = NULL;
    Hosts h;

    setup(&h, "vms=fast");
    there = carry(&h, TRUE, "/srv/vms/web1.qcow2", NULL);
    g_assert_cmpstr(there, ==, "/srv/fast/web1.qcow2");
    back = carry(&h, FALSE, there, NULL);
    g_assert_cmpstr(back, ==, "/srv/vms/web1.qcow2");
    teardown(&h);
}

static void test_without_an_entry_the_path_stays(void)
{
    static const char *const paths[] = {"/images/web1.raw", "/srv/vms/deeper/web1.raw",
                                        "/elsewhere/web1.raw"};
    Hosts h;

    setup(&h, "vms=fast");
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *there = carry(&h, TRUE, paths[i], NULL);
        g_autofree char *back = carry(&h, FALSE, paths[i], NULL);

        g_assert_cmpstr(there, ==, paths[i]);
        g_assert_cmpstr(back, ==, paths[i]);
    }
    teardown(&h);
}

static void test_a_pool_that_the_peer_lacks_is_refused_with_its_host(void)
{
    g_autoptr(GError) error = NULL;
    Hosts h;

    setup(&h, "vms=nopool");
    g_assert_null(carry(&h, TRUE, "/srv/vms/web1.raw", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "no storage pool 'nopool' on beta"));
    g_assert_nonnull(strstr(error->message, "pool-define-as"));
    teardown(&h);
}

static void test_a_pool_of_the_map_that_is_not_here_is_refused(void)
{
    g_autoptr(GError) error = NULL;
    Hosts h;

    setup(&h, "vms=fast,typo=other");
    g_assert_false(colo_pool_map_check(h.alpha, h.of_alpha, "alpha", &error));
    g_assert_nonnull(strstr(error->message, "no storage pool 'typo' on alpha"));
    teardown(&h);
    setup(&h, "vms=fast");
    g_assert_true(colo_pool_map_check(h.alpha, h.of_alpha, "alpha", NULL));
    teardown(&h);
}

/* An unmapped disk of alpha has its path inside beta's pool of copies: with the roles swapped it
 * would go to alpha's "vms", over another disk. */
static void test_a_copy_that_would_not_lead_back_is_refused(void)
{
    g_autoptr(GError) error = NULL;
    Hosts h;

    setup(&h, "vms=fast");
    g_assert_null(carry(&h, TRUE, "/srv/fast/web1.raw", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "/srv/fast/web1.raw"));
    teardown(&h);
}

static void test_hosts_whose_maps_differ_are_refused(void)
{
    g_autoptr(GError) error = NULL;
    Hosts h;

    setup(&h, "vms=fast");
    json_object_put(h.of_beta);
    h.of_beta = json_object_new_object();
    g_assert_null(carry(&h, TRUE, "/srv/vms/web1.raw", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    teardown(&h);
}

static void test_a_peer_cannot_leave_the_pool(void)
{
    static const char *const volumes[] = {"../passwd", "a/b", "..", ""};
    Hosts h;

    setup(&h, "vms=fast");
    for (size_t i = 0; i < G_N_ELEMENTS(volumes); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject) disk =
            colo_json_build("target", "s", "vda", "copy", "s", "/x", "from", "s", "vms", "pool",
                            "s", "fast", "volume", "s", volumes[i], NULL);

        g_assert_null(colo_pool_map_resolve(h.beta, h.of_beta, "beta", disk, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    teardown(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/pool-map/text", test_a_map_is_parsed_and_printed);
    g_test_add_func("/domain/pool-map/empty", test_no_text_is_an_empty_map);
    g_test_add_func("/domain/pool-map/inverse", test_the_peers_map_is_the_inverse);
    g_test_add_func("/domain/pool-map/refused", test_a_map_that_is_none_is_refused_and_quoted);
    g_test_add_func("/domain/pool-map/I8-bounded", test_I8_the_number_of_pools_is_bounded);
    g_test_add_func("/domain/pool-map/there-and-back",
                    test_a_copy_lies_in_the_mapped_pool_and_leads_back);
    g_test_add_func("/domain/pool-map/unmapped", test_without_an_entry_the_path_stays);
    g_test_add_func("/domain/pool-map/peer-lacks",
                    test_a_pool_that_the_peer_lacks_is_refused_with_its_host);
    g_test_add_func("/domain/pool-map/host-lacks",
                    test_a_pool_of_the_map_that_is_not_here_is_refused);
    g_test_add_func("/domain/pool-map/not-back", test_a_copy_that_would_not_lead_back_is_refused);
    g_test_add_func("/domain/pool-map/maps-differ", test_hosts_whose_maps_differ_are_refused);
    g_test_add_func("/domain/pool-map/escape", test_a_peer_cannot_leave_the_pool);
    return g_test_run();
}
