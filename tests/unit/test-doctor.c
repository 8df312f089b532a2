/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-doctor's judgements, on files made here and of a host on which most is down. */
#include "domain/doctor-probe.h"
#include "test-host-common.h"

#include <string.h>
#include <unistd.h>

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
    host_libvirt(&h, "test:///nonexistent.xml");
    result = colo_doctor_local(&h.m);
    assert_finding(colo_json_peek(result, "findings"), "error", "libvirtd", "does not answer");
    host_down(&h);
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
    folder_create();
    pki_create();
    rc = g_test_run();
    pki_remove();
    folder_remove();
    return rc;
}
