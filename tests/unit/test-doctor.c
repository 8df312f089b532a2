/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-doctor's judgements on files made here, and the peer's side of colo-prepare against
 * libvirt's own test driver (storage pool "default-pool" at /default-pool, kept in memory).
 */
#include "domain/commands.h"
#include "domain/doctor-probe.h"
#include "domain/prepare-copy.h"
#include "test-channel-common.h"
#include "util/error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1024 * 1024)

static char *folder; /* removed at the end */

static char *in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void write_file(const char *name, const char *text)
{
    g_autofree char *path = in_folder(name);
    g_autofree char *dir = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* ---- findings ---- */

static void begin(ColoFindings *f)
{
    *f = (ColoFindings){.host = "alpha", .array = json_object_new_array()};
}

/* The finding about @check whose text holds @text, or NULL; every finding must be well formed. */
static JsonObject *find(JsonObject *array, const char *check, const char *text)
{
    JsonObject *match = NULL;

    for (size_t i = 0; i < json_object_array_length(array); i++) {
        JsonObject *o = json_object_array_get_idx(array, i);
        const char *severity = colo_json_peek_string(o, "severity", "");
        const char *found = colo_json_peek_string(o, "found", "");

        g_assert_cmpstr(colo_json_peek_string(o, "host", ""), ==, "alpha");
        g_assert_true(g_str_equal(severity, "ok") || g_str_equal(severity, "warning") ||
                      g_str_equal(severity, "error"));
        g_assert_cmpstr(found, !=, "");
        if (!g_str_equal(severity, "ok"))
            g_assert_cmpstr(colo_json_peek_string(o, "fix", ""), !=, "");
        if (g_str_equal(colo_json_peek_string(o, "check", ""), check) && strstr(found, text))
            match = o;
    }
    return match;
}

#define assert_finding(array, severity_, check, text)                              \
    do {                                                                           \
        JsonObject *o_ = find(array, check, text);                                 \
        if (!o_)                                                                   \
            g_test_message("%s", json_object_to_json_string(array));               \
        g_assert_nonnull(o_);                                                      \
        g_assert_cmpstr(colo_json_peek_string(o_, "severity", ""), ==, severity_); \
    } while (0)

/* ---- certificates ---- */

static int64_t days_from_now(int days)
{
    return g_get_real_time() / G_USEC_PER_SEC + (int64_t)days * 24 * 60 * 60;
}

static void judge_certificates_by_their_dates(void)
{
    ColoTlsConfig tls = pki_config("alpha-server", "alpha-client");
    ColoFindings f;

    pki_issue("ca", "long-server",
              "cn = alpha\ndns_name = alpha\ntls_www_server\nexpiration_days = 300\n");
    g_free(tls.server_cert_file);
    g_free(tls.server_key_file);
    tls.server_cert_file = pki_path("long-server-cert.pem");
    tls.server_key_file = pki_path("long-server-key.pem");
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(1));
    assert_finding(f.array, "ok", "server certificate", "valid until");
    assert_finding(f.array, "warning", "client certificate", "expires on");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(31));
    assert_finding(f.array, "error", "client certificate", "expired on");
    assert_finding(f.array, "error", "CA certificate", "expired on");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(-2));
    assert_finding(f.array, "error", "client certificate", "not valid yet");
    json_object_put(f.array);
    colo_tls_config_clear(&tls);
}

static void judge_certificate_of_another_key_or_ca(void)
{
    ColoTlsConfig tls = pki_config("alpha-server", "alpha-client");
    ColoFindings f;

    g_free(tls.server_key_file);
    tls.server_key_file = pki_path("beta-server-key.pem");
    pki_issue("ca2", "alien-client", "cn = alpha\ntls_www_client\nexpiration_days = 300\n");
    g_free(tls.client_cert_file);
    g_free(tls.client_key_file);
    tls.client_cert_file = pki_path("alien-client-cert.pem");
    tls.client_key_file = pki_path("alien-client-key.pem");
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(0));
    assert_finding(f.array, "error", "server certificate", "");
    assert_finding(f.array, "error", "client certificate", "alien-client-cert.pem");
    json_object_put(f.array);
    g_free(tls.client_cert_file);
    tls.client_cert_file = pki_path("nowhere.pem");
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(0));
    assert_finding(f.array, "error", "client certificate", "nowhere.pem");
    json_object_put(f.array);
    colo_tls_config_clear(&tls);
}

static void judge_revocation_list(void)
{
    static const char *const revoked[] = {"beta-client", NULL};
    ColoTlsConfig tls = pki_config("alpha-server", "alpha-client");
    ColoFindings f;

    tls.crl_file = pki_path("crl.pem");
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(0));
    assert_finding(f.array, "error", "revocation list", "crl.pem"); /* named, but not there */
    json_object_put(f.array);
    g_assert_true(g_file_set_contents(tls.crl_file, "garbage", -1, NULL));
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(0));
    assert_finding(f.array, "error", "revocation list", "cannot be read");
    json_object_put(f.array);
    pki_write_crl("crl.pem", revoked); /* to be replaced within 30 days */
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(-1));
    assert_finding(f.array, "ok", "revocation list", "revokes 1 certificate");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(1));
    assert_finding(f.array, "warning", "revocation list", "is to be replaced by");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_pki(&f, &tls, days_from_now(31));
    assert_finding(f.array, "error", "revocation list", "was to be replaced by");
    json_object_put(f.array);
    colo_tls_config_clear(&tls);
}

/* ---- bridges, room, ports ---- */

static void bridge_files(const char *stp, const char *delay, const char *mtu)
{
    write_file("sys/class/net/br0/bridge/stp_state", stp);
    write_file("sys/class/net/br0/bridge/forward_delay", delay);
    write_file("sys/class/net/br0/mtu", mtu);
    write_file("sys/class/net/br0/brif/eth1/state", "3\n");
    write_file("sys/class/net/br0/brif/vnet0/state", "3\n");
    write_file("sys/class/net/eth1/mtu", "1500\n");
    write_file("sys/class/net/vnet0/mtu", "9000\n");
    write_file("sys/class/net/vnet0/tun_flags", "0x1002\n");
}

static void judge_bridges(void)
{
    static const struct {
        const char *stp, *delay, *mtu, *severity, *text;
        unsigned findings;
    } rows[] = {
        {"0\n", "0\n", "1500\n", "ok", "STP off", 1},
        {"0\n", "1500\n", "1500\n", "warning", "forward delay is 15.00 s", 1},
        {"1\n", "200\n", "1500\n", "warning", "STP is on", 1},
        {"0\n", "0\n", "1400\n", "warning", "differs from 1500 of its port eth1", 2},
    };
    g_autofree char *sys = in_folder("sys");
    ColoFindings f;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        bridge_files(rows[i].stp, rows[i].delay, rows[i].mtu);
        begin(&f);
        colo_doctor_judge_bridge(&f, sys, "br0");
        assert_finding(f.array, rows[i].severity, "bridge br0", rows[i].text);
        g_assert_cmpuint(json_object_array_length(f.array), ==, rows[i].findings);
        json_object_put(f.array);
    }
    begin(&f);
    colo_doctor_judge_bridge(&f, sys, "br1");
    assert_finding(f.array, "warning", "bridge br1", "no such device");
    colo_doctor_judge_bridge(&f, sys, "eth1");
    assert_finding(f.array, "warning", "bridge eth1", "no Linux bridge");
    json_object_put(f.array);
}

static void judge_room(void)
{
    g_autofree char *meminfo = in_folder("meminfo");
    ColoFindings f;

    write_file("meminfo", "MemTotal:  4000000 kB\nMemAvailable:  1048576 kB\n");
    begin(&f);
    colo_doctor_judge_memory(&f, meminfo, 1024ull * MIB);
    assert_finding(f.array, "ok", "memory", "1024 MiB");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_memory(&f, meminfo, 1025ull * MIB);
    assert_finding(f.array, "warning", "memory", "1024 MiB");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_space(&f, folder, 0);
    assert_finding(f.array, "ok", "state directory", "MiB free");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_space(&f, folder, UINT64_MAX);
    assert_finding(f.array, "warning", "state directory", "MiB free");
    json_object_put(f.array);
    begin(&f);
    colo_doctor_judge_space(&f, "/nonexistent", 0);
    assert_finding(f.array, "error", "state directory", "/nonexistent");
    json_object_put(f.array);
}

static void a_port_answers_while_somebody_listens(void)
{
    uint16_t port = 0;
    int fd = listen_loopback(&port);

    g_assert_true(colo_doctor_port_answers(port));
    close(fd);
    g_assert_false(colo_doctor_port_answers(port));
}

/* ---- a host ---- */

static void ignore_lifecycle(const char *uuid, int event, int detail, void *opaque)
{
    (void)uuid, (void)event, (void)detail, (void)opaque;
}

static void ignore(void *opaque)
{
    (void)opaque;
}

static void ignore_event(const char *name, const char *uuid, JsonObject *event, void *opaque)
{
    (void)name, (void)uuid, (void)event, (void)opaque;
}

static void ignore_pair(const char *pair, ColoPairEvent event, void *opaque)
{
    (void)pair, (void)event, (void)opaque;
}

typedef struct {
    ColoManager m;
    ColoConfig config;
    ColoPeerInfo self;
} Host;

static void host_up(Host *h)
{
    static const ColoComparatorEvents no_events = {ignore_event, ignore, ignore};
    g_autoptr(GError) error = NULL;
    g_autofree char *socket_path = in_folder("no-comparator");

    memset(h, 0, sizeof(*h));
    h->self = host_info("alpha");
    h->config.host_name = (char *)"alpha";
    h->config.state_dir = folder;
    h->config.tls = pki_config("alpha-server", "alpha-client");
    h->config.control_port = 16516;
    h->config.data_port = 1; /* tcpmux: nobody */
    h->config.checkpoint_max_overlay_bytes = MIB;
    h->config.heartbeat = COLO_HEARTBEAT_DEFAULT;
    h->m.host.config = &h->config;
    h->m.domains = g_hash_table_new(g_str_hash, g_str_equal);
    g_mutex_init(&h->m.lock);
    h->m.host.store = colo_store_open(folder, &error);
    g_assert_no_error(error);
    h->m.host.arbiter = colo_arbiter_new(&h->config.arbiter, &error);
    g_assert_no_error(error);
    h->m.host.virconn = colo_virconn_new("test:///default", ignore_lifecycle, ignore, NULL);
    h->m.host.comparator = colo_comparator_client_new(socket_path, &no_events, NULL);
    h->m.host.pairs =
        colo_pairs_new(&h->config, &h->self, h->m.host.store, NULL, ignore_pair, NULL, &error);
    g_assert_no_error(error);
}

static void host_down(Host *h)
{
    colo_pairs_free(h->m.host.pairs);
    colo_comparator_client_free(h->m.host.comparator);
    colo_virconn_free(h->m.host.virconn);
    colo_arbiter_free(h->m.host.arbiter);
    colo_store_close(h->m.host.store);
    g_hash_table_unref(h->m.domains);
    g_mutex_clear(&h->m.lock);
    colo_tls_config_clear(&h->config.tls);
}

static void doctor_finds_what_is_down(void)
{
    g_autoptr(JsonObject) result = NULL;
    JsonObject *array;
    Host h;

    host_up(&h);
    result = colo_doctor_local(&h.m);
    array = colo_json_peek(result, "findings");
    assert_finding(array, "error", "control port", "16516");
    assert_finding(array, "error", "data port", "TCP port 1");
    assert_finding(array, "error", "comparator", "does not answer");
    assert_finding(array, "ok", "libvirtd", "libvirt ");
    assert_finding(array, "error", "kvm", "no KVM"); /* the test driver has none */
    assert_finding(array, "warning", "arbiter", "manual");
    assert_finding(array, "ok", "storage pool default-pool", "MiB free");
    assert_finding(array, "ok", "state directory", "MiB free");
    assert_finding(array, "ok", "domain test", "");
    host_down(&h);
}

static void doctor_says_that_libvirtd_is_down(void)
{
    g_autoptr(JsonObject) result = NULL;
    Host h;

    host_up(&h);
    colo_virconn_free(h.m.host.virconn);
    h.m.host.virconn = colo_virconn_new("test:///nonexistent.xml", ignore_lifecycle, ignore, NULL);
    result = colo_doctor_local(&h.m);
    assert_finding(colo_json_peek(result, "findings"), "error", "libvirtd", "does not answer");
    host_down(&h);
}

/* ---- prepare-copy ---- */

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

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_remove(path);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/doctor/certificates-by-their-dates", judge_certificates_by_their_dates);
    g_test_add_func("/doctor/certificate-of-another-key-or-ca",
                    judge_certificate_of_another_key_or_ca);
    g_test_add_func("/doctor/revocation-list", judge_revocation_list);
    g_test_add_func("/doctor/bridges", judge_bridges);
    g_test_add_func("/doctor/room", judge_room);
    g_test_add_func("/doctor/port", a_port_answers_while_somebody_listens);
    g_test_add_func("/doctor/finds-what-is-down", doctor_finds_what_is_down);
    g_test_add_func("/doctor/libvirtd-is-down", doctor_says_that_libvirtd_is_down);
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
    folder = g_dir_make_tmp("colo-doctor-XXXXXX", NULL);
    g_assert_nonnull(folder);
    pki_create();
    rc = g_test_run();
    pki_remove();
    remove_tree(folder);
    g_free(folder);
    return rc;
}
