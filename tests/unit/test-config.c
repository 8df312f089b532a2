/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtcolod.conf: defaults, every key, and errors that name file:line, key, expected and found. */
#include "pair/config.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <string.h>
#include <syslog.h>

static char *path;

/* libconfig's parser leaks the text of a string that a syntax error follows; with sanitizers on,
 * that is not ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

static ColoConfig *load(const char *text, GError **error)
{
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    return colo_config_load(path, error);
}

/* The shipped example and an empty file give the same: the defaults. */
static void test_defaults(void)
{
    g_autofree char *example =
        g_build_filename(g_getenv("abs_top_srcdir"), "src", "pair", "virtcolod.conf", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoConfig) empty = load("", &error);
    g_autoptr(ColoConfig) shipped = colo_config_load(example, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(empty->control_port, ==, 16516);
    g_assert_cmpuint(empty->data_port, ==, 16515);
    g_assert_cmpuint(empty->heartbeat.interval_ms, ==, 100);
    g_assert_cmpuint(empty->heartbeat.missed, ==, 5);
    g_assert_cmpint(empty->arbiter.kind, ==, COLO_ARBITER_MANUAL);
    g_assert_false(empty->allow_emulation);
    g_assert_true(empty->tcp_rewrite);
    g_assert_cmpint(shipped->tcp_rewrite, ==, empty->tcp_rewrite);
    g_assert_cmpuint(empty->checkpoint_period_ms, ==, 500);
    g_assert_cmpstr(empty->host_name, ==, g_get_host_name());
    g_assert_cmpint(empty->log_level, ==, LOG_INFO);
    g_assert_cmpstr(shipped->state_dir, ==, empty->state_dir);
    g_assert_cmpuint(shipped->checkpoint_max_overlay_bytes, ==,
                     empty->checkpoint_max_overlay_bytes);
}

/* Each line of the example that looks like "#key = value" is accepted once uncommented, and shows
 * the default: nothing there is a name that the code does not know. */
static void test_example_uncommented(void)
{
    g_autofree char *example =
        g_build_filename(g_getenv("abs_top_srcdir"), "src", "pair", "virtcolod.conf", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GString) active = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    unsigned n = 0;

    g_assert_true(g_file_get_contents(example, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if ((*line)[0] == '#' && g_ascii_islower((*line)[1]) && strstr(*line, " = ")) {
            g_string_append_printf(active, "%s\n", *line + 1);
            n++;
        }
    }
    g_autoptr(ColoConfig) config = load(active->str, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(n, ==, 34); /* all keys */
    g_assert_cmpuint(config->checkpoint_max_dirty_bytes, ==, UINT64_C(256) << 20);
    g_assert_cmpuint(config->heartbeat.interval_ms, ==, 100);
}

static void test_values(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoConfig) config =
        load("host_name = \"a.example\"\n"
             "listen_addr = \"192.0.2.1\"\n"
             "control_port = 1000\n"
             "data_port = 1001\n"
             "key_file = \"/k\"\ncert_file = \"/c\"\nclient_key_file = \"/ck\"\n"
             "client_cert_file = \"/cc\"\nca_file = \"/ca\"\ncrl_file = \"/crl\"\n"
             "tls_allowed_dn_list = [ \"CN=a\", \"CN=b\" ]\n"
             "heartbeat_interval_ms = 20\nheartbeat_missed = 3\n"
             "arbiter = \"etcd\"\netcd_endpoints = [ \"https://w:2379\" ]\n"
             "etcd_ca = \"/eca\"\netcd_cert = \"/ec\"\netcd_key = \"/ek\"\netcd_timeout_ms = 700\n"
             "allow_emulation = 1\n"
             "tcp_rewrite = 0\n"
             "checkpoint_period_ms = 50\n"
             "checkpoint_max_dirty_bytes = 8589934592\n"
             "checkpoint_max_overlay_bytes = \"3G\"\n"
             "/* 99999999999 \" */ state_dir = \"/s 12345678901\" // 99999999999\nlog_level = "
             "\"debug\"\nunix_sock_group = \"libvirt\"\n"
             "metrics_addr = \"::1\"\nmetrics_port = 0\n"
             "auth_unix_rw = \"polkit\"\nauth_unix_ro = \"none\"\n"
             "listen_tls = 1\ntls_port = 1002\ntls_client_dn_list = [ \"CN=c\" ]\n",
             &error);

    g_assert_no_error(error);
    g_assert_cmpstr(config->host_name, ==, "a.example");
    g_assert_cmpstr(config->listen_addr, ==, "192.0.2.1");
    g_assert_cmpuint(config->control_port, ==, 1000);
    g_assert_cmpuint(config->data_port, ==, 1001);
    g_assert_cmpstr(config->tls.server_key_file, ==, "/k");
    g_assert_cmpstr(config->tls.server_cert_file, ==, "/c");
    g_assert_cmpstr(config->tls.client_key_file, ==, "/ck");
    g_assert_cmpstr(config->tls.client_cert_file, ==, "/cc");
    g_assert_cmpstr(config->tls.ca_file, ==, "/ca");
    g_assert_cmpstr(config->tls.crl_file, ==, "/crl");
    g_assert_cmpstr(config->tls.allowed_dn_list[1], ==, "CN=b");
    g_assert_cmpuint(config->heartbeat.interval_ms, ==, 20);
    g_assert_cmpint(config->arbiter.kind, ==, COLO_ARBITER_ETCD);
    g_assert_cmpstr(config->arbiter.endpoints[0], ==, "https://w:2379");
    g_assert_cmpuint(config->arbiter.timeout_ms, ==, 700);
    g_assert_true(config->allow_emulation);
    g_assert_false(config->tcp_rewrite);
    g_assert_cmpuint(config->checkpoint_max_dirty_bytes, ==, UINT64_C(8) << 30);
    g_assert_cmpuint(config->checkpoint_max_overlay_bytes, ==, UINT64_C(3) << 30);
    g_assert_cmpstr(config->state_dir, ==, "/s 12345678901");
    g_assert_cmpint(config->log_level, ==, LOG_DEBUG);
    g_assert_cmpstr(config->unix_sock_group, ==, "libvirt");
    g_assert_cmpstr(config->metrics_addr, ==, "::1");
    g_assert_cmpuint(config->metrics_port, ==, 0);
    g_assert_true(config->polkit_rw);
    g_assert_false(config->polkit_ro);
    g_assert_true(config->listen_tls);
    g_assert_cmpuint(config->tls_port, ==, 1002);
    g_assert_cmpstr(config->tls_clients[0], ==, "CN=c");
}

static void test_bad_input_is_named(void)
{
    static const struct {
        const char *text;
        const char *line; /* ":N:" that the message must hold, and two more texts */
        const char *key;
        const char *found;
    } bad[] = {
        {"\ncontroll_port = 1\n", ":2:", "controll_port", "unknown key"},
        {"control_port = \"1\"\n", ":1:", "control_port", "found the string \"1\""},
        {"control_port = 0\n", ":1:", "1 to 65535", "found the integer 0"},
        {"control_port = 65536\n", ":1:", "1 to 65535", "found the integer 65536"},
        {"control_port = -1\n", ":1:", "1 to 65535", "found the integer -1"},
        {"control_port = 16515\n", "", "data_port", "must differ"},
        {"control_port = 1.5\n", ":1:", "control_port", "found the number 1.5"},
        {"heartbeat_missed = 1\n", ":1:", "2 to 1000", "found the integer 1"},
        {"heartbeat_interval_ms = 3000\n", ":1:", "10 to 2000", "3000"},
        {"ca_file = 5\n", ":1:", "ca_file", "found the integer 5"},
        {"ca_file = [ \"a\" ]\n", ":1:", "ca_file", "found a list"},
        {"auth_unix_rw = \"sasl\"\n", ":1:", "\"none\" or \"polkit\"", "\"sasl\""},
        {"tls_allowed_dn_list = \"x\"\n", ":1:", "a list of strings", "found the string"},
        {"tls_allowed_dn_list = [ 1 ]\n", ":1:", "tls_allowed_dn_list", "found the integer 1"},
        {"allow_emulation = \"yes\"\n", ":1:", "true or false", "found the string \"yes\""},
        {"allow_emulation = 2\n", ":1:", "true or false", "found the integer 2"},
        {"arbiter = \"raft\"\n", ":1:", "\"manual\" or \"etcd\"", "\"raft\""},
        {"arbiter = true\n", ":1:", "\"manual\" or \"etcd\"", "found true"},
        {"arbiter = \"etcd\"\n", "", "etcd_endpoints", "not set"},
        {"arbiter = \"etcd\"\netcd_endpoints = [ \"https://w\" ]\n", "", "etcd_ca", "not set"},
        {"checkpoint_max_dirty_bytes = \"12Q\"\n", ":1:", "a number of bytes", "\"12Q\""},
        {"checkpoint_max_dirty_bytes = \"-1\"\n", ":1:", "a number of bytes", "\"-1\""},
        {"checkpoint_max_dirty_bytes = -5\n", ":1:", "a number of bytes", "-5"},
        {"checkpoint_max_dirty_bytes = \"99999999999G\"\n", ":1:", "a number of bytes", "9G\""},
        {"control_port = 4294967297\n", ":1:", "control_port", "found the integer 4294967297"},
        {"# x\nstate_dir = \"/a\"; data_port=99999999999999999999999;", ":2:", "data_port", "99"},
        {"\n checkpoint_period_ms : 99999999999999999999999;", ":2:", "1 to 600000", "9999999"},
        {"log_level = \"loud\"\n", ":1:", "\"debug\", \"info\"", "\"loud\""},
        {"host_name = \"\"\n", "", "host_name", "found \"\""},
        {"host_name = { }\n", ":1:", "host_name", "found a group"},
        {"host_name = \"a\"\nhost_name = \"b\"\n", ":2:", "", "duplicate"},
        {"ca_file \"a\"\n", ":1:", "", "syntax error"},
        {"]]", ":1:", "", "syntax error"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(load(bad[i].text, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
        g_test_message("%s", error->message);
        if (!strstr(error->message, path) || !strstr(error->message, bad[i].line) ||
            !strstr(error->message, bad[i].key) || !strstr(error->message, bad[i].found))
            g_error("of '%s': %s", bad[i].text, error->message);
    }
}

static void test_named_file_must_exist(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_config_load("/nonexistent/virtcolod.conf", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_nonnull(strstr(error->message, "/nonexistent/virtcolod.conf"));
}

int main(int argc, char **argv)
{
    g_autofree char *dir = g_dir_make_tmp("colo-config-XXXXXX", NULL);
    int rc;

    path = g_build_filename(dir, "virtcolod.conf", NULL);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pair/config/defaults", test_defaults);
    g_test_add_func("/pair/config/example", test_example_uncommented);
    g_test_add_func("/pair/config/values", test_values);
    g_test_add_func("/pair/config/bad-input", test_bad_input_is_named);
    g_test_add_func("/pair/config/missing-file", test_named_file_must_exist);
    rc = g_test_run();
    g_unlink(path);
    g_rmdir(dir);
    g_free(path);
    return rc;
}
