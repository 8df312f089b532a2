/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The control channel against peers that are refused, hostile or broken; I6: no plaintext. */
#include "test-channel-common.h"

#include "util/error.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Dials as @host_name with @client: it must never be up, and its error hold @text. */
static void assert_refused(Server *server, const char *host_name, const char *client,
                           const char *text, const char *text2)
{
    Events events;
    ColoChannel *channel;

    events_init(&events);
    channel = dial_local(host_name, client, "localhost", server->port, &events);
    g_autofree char *error = wait_for_error(channel, text, 3000);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, text2));
    g_assert_true(log_wait(text, "127.0.0.1:", 2000));
    g_assert_cmpuint(events.up, ==, 0);
    colo_channel_free(channel);
    events_clear(&events);
}

/* The revocation list is read again while the server runs. */
static void test_revoked_certificate(void)
{
    static const char *const none[] = {NULL};
    static const char *const alpha[] = {"mole-client", NULL};
    Server server = {.tls = pki_config("beta-server", "beta-client")};

    pki_issue("ca", "mole-client",
              "cn = \"mole\"\ntls_www_client\nsigning_key\nexpiration_days = 30\n");
    pki_write_crl("crl.pem", none);
    server.tls.crl_file = pki_path("crl.pem");
    server_start(&server);
    assert_serves(&server);
    pki_write_crl("crl.pem", alpha);
    assert_refused(&server, "mole", "mole-client", "CN=mole", "is revoked by the list");
    assert_serves(&server);
    server_end(&server);
}

static void test_dn_not_allowed(void)
{
    static const char *const allowed[] = {"O=Lab,CN=al*", "CN=nobody", NULL};
    Server server = {.tls = pki_config("beta-server", "beta-client")};

    server.tls.allowed_dn_list = g_strdupv((char **)allowed);
    server_start(&server);
    assert_serves(&server);
    assert_refused(&server, "beta", "beta-client", "O=Lab,CN=beta", "tls_allowed_dn_list");
    server_end(&server);
}

static void test_unknown_ca(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};

    pki_issue("ca2", "other-client",
              "cn = \"alpha\"\ntls_www_client\nsigning_key\nexpiration_days = 30\n");
    server_start(&server);
    assert_refused(&server, "alpha", "other-client", "issued by 'CN=Test ca2'", "same CA");
    server_end(&server);
}

static void test_expired_certificate(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};

    pki_issue("ca", "old-client",
              "cn = \"old\"\ntls_www_client\nsigning_key\n"
              "activation_date = \"2004-02-29 16:21:42\"\n"
              "expiration_date = \"2005-03-01 16:24:41\"\n");
    server_start(&server);
    assert_refused(&server, "old", "old-client", "CN=old", "has expired");
    server_end(&server);
}

static void test_server_certificate_used_as_client(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};

    server_start(&server);
    assert_refused(&server, "alpha", "alpha-server", "tls_www_client", "CN=alpha");
    server_end(&server);
}

/* A certificate of another host must not speak for the peer: it could give consent for it. */
static void test_name_of_another_host(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};

    server_start(&server);
    assert_refused(&server, "gamma", "alpha-client", "calls itself 'gamma'", "host_name");
    server_end(&server);
}

static void test_dialled_name_is_not_in_the_certificate(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    Events events;
    ColoChannel *channel;

    server_start(&server);
    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "127.0.0.1", server.port, &events);
    g_autofree char *error = wait_for_error(channel, "is not for host '127.0.0.1'", 3000);
    g_assert_nonnull(strstr(error, "beta, localhost"));
    g_assert_cmpuint(events.up, ==, 0);
    colo_channel_free(channel);
    events_clear(&events);
    server_end(&server);
}

static void test_other_version(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    ColoTlsConfig tls = pki_config("alpha-server", "alpha-client");
    ColoPeerInfo self = host_info("alpha");
    g_autoptr(GError) error = NULL;
    Events events;

    server_start(&server);
    events_init(&events);
    self.version = 7;
    self.software = (char *)"libvirt-colo 9.9";
    g_autoptr(ColoChannel) channel = colo_channel_new(&tls, &self, "localhost", server.port, NULL,
                                                      &counting_events, &events, &error);
    g_assert_no_error(error);
    g_autofree char *text = wait_for_error(channel, "version 7", 3000);
    g_assert_nonnull(strstr(text, "version 1"));
    g_assert_nonnull(strstr(text, "libvirt-colo 9.9"));
    g_assert_true(log_wait("version 7", "version 1", 2000));
    g_assert_cmpuint(events.up, ==, 0);
    g_assert_null(colo_channel_call(channel, "echo", NULL, 1000, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_nonnull(strstr(error->message, "version"));
    g_clear_pointer(&channel, colo_channel_free);
    events_clear(&events);
    colo_tls_config_clear(&tls);
    server_end(&server);
}

/* A proxy that records both directions. */
typedef struct {
    int listen_fd;
    uint16_t to;
    GByteArray *seen;
} Wiretap;

static gboolean pass(int from, int to, GByteArray *seen)
{
    char buffer[4096];
    ssize_t n = read(from, buffer, sizeof(buffer));

    if (n <= 0)
        return FALSE;
    g_byte_array_append(seen, (guint8 *)buffer, (guint)n);
    return write(to, buffer, (size_t)n) == n;
}

static gpointer tap(gpointer data)
{
    Wiretap *wiretap = data;
    struct pollfd p = {.fd = wiretap->listen_fd, .events = POLLIN};
    int near, far;

    g_assert_cmpint(poll(&p, 1, 5000), ==, 1);
    near = accept(wiretap->listen_fd, NULL, NULL);
    far = connect_to(wiretap->to);
    for (;;) {
        struct pollfd both[2] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN}};

        poll(both, 2, 5000);
        if ((both[0].revents && !pass(near, far, wiretap->seen)) ||
            (both[1].revents && !pass(far, near, wiretap->seen)))
            break;
    }
    close(near);
    close(far);
    return NULL;
}

static void test_no_plaintext(void)
{
    static const char marker[] = "a-secret-that-stands-out";
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    Wiretap wiretap = {.seen = g_byte_array_new()};
    g_autoptr(GError) error = NULL;
    uint16_t port = 0;
    Events events;
    ColoChannel *channel;
    GThread *thread;

    server_start(&server);
    events_init(&events);
    wiretap.to = server.port;
    wiretap.listen_fd = listen_loopback(&port);
    thread = g_thread_new("tap", tap, &wiretap);
    channel = dial_local("alpha", "alpha-client", "localhost", port, &events);
    g_assert_true(events_wait(&events, &events.up, 1, 3000));
    g_autoptr(JsonObject) echo = colo_channel_call(
        channel, "echo", colo_json_build("text", "s", marker, NULL), 3000, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(colo_json_peek_string(echo, "text", ""), ==, marker);
    close(wiretap.listen_fd);
    colo_channel_free(channel);
    g_thread_join(thread);

    g_assert_cmpuint(wiretap.seen->len, >, 1000);
    g_assert_cmpuint(wiretap.seen->data[0], ==, 0x16); /* a TLS handshake record */
    g_assert_null(memmem(wiretap.seen->data, wiretap.seen->len, marker, strlen(marker)));
    g_assert_null(memmem(wiretap.seen->data, wiretap.seen->len, "hello", 5));
    g_assert_null(memmem(wiretap.seen->data, wiretap.seen->len, "CN=alpha", 8));
    g_byte_array_unref(wiretap.seen);
    events_clear(&events);
    server_end(&server);
}

static void test_missing_files_are_named(void)
{
    ColoTlsConfig tls = pki_config("beta-server", "beta-client");
    ColoPeerInfo self = host_info("alpha");
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) crl = NULL;

    tls.crl_file = pki_path("no-such-crl.pem");
    g_assert_null(colo_channel_new(&tls, &self, "localhost", 1, NULL, NULL, NULL, &crl));
    g_assert_error(crl, COLO_ERROR, COLO_ERROR_AUTH);
    g_assert_nonnull(strstr(crl->message, "no-such-crl.pem"));
    g_clear_pointer(&tls.crl_file, g_free);
    g_free(tls.client_key_file);
    tls.client_key_file = pki_path("no-such-key.pem");
    g_assert_null(colo_channel_new(&tls, &self, "localhost", 1, NULL, NULL, NULL, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_AUTH);
    g_assert_nonnull(strstr(error->message, "no-such-key.pem"));
    g_assert_nonnull(strstr(error->message, "No such file"));
    colo_tls_config_clear(&tls);
}

static void test_certificate_info(void)
{
    g_autofree char *path = pki_path("alpha-server-cert.pem");
    g_autofree char *key = pki_path("alpha-server-key.pem");
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoCertInfo) info = colo_pki_read_cert(path, &error);
    ColoTlsConfig tls = pki_config("alpha-server", "alpha-client");

    g_assert_no_error(error);
    g_assert_cmpstr(info->subject, ==, "O=Lab,CN=alpha");
    g_assert_cmpstr(info->issuer, ==, "CN=Test ca");
    g_assert_cmpstr(info->names[0], ==, "alpha");
    g_assert_cmpstr(info->names[1], ==, "localhost");
    g_assert_cmpint((info->expiry - g_get_real_time() / G_USEC_PER_SEC + 43200) / 86400, ==, 30);
    g_assert_null(colo_pki_read_cert(key, NULL));

    g_assert_true(colo_pki_check(&tls, COLO_PKI_DIALLER, &error));
    g_assert_no_error(error);
    g_free(tls.ca_file);
    tls.ca_file = pki_path("ca2-cert.pem");
    g_assert_false(colo_pki_check(&tls, COLO_PKI_DIALLER, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_AUTH);
    g_clear_error(&error);
    g_free(tls.client_key_file);
    tls.client_key_file = g_strdup(key);
    g_assert_false(colo_pki_check(&tls, COLO_PKI_DIALLER, &error));
    g_assert_nonnull(strstr(error->message, "alpha-server-key.pem"));
    colo_tls_config_clear(&tls);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pki_create();
    log_capture();
    g_test_add_func("/pair/refuse/revoked", test_revoked_certificate);
    g_test_add_func("/pair/refuse/dn", test_dn_not_allowed);
    g_test_add_func("/pair/refuse/unknown-ca", test_unknown_ca);
    g_test_add_func("/pair/refuse/expired", test_expired_certificate);
    g_test_add_func("/pair/refuse/purpose", test_server_certificate_used_as_client);
    g_test_add_func("/pair/refuse/name-of-another", test_name_of_another_host);
    g_test_add_func("/pair/refuse/dialled-name", test_dialled_name_is_not_in_the_certificate);
    g_test_add_func("/pair/refuse/version", test_other_version);
    g_test_add_func("/pair/refuse/I6-no-plaintext", test_no_plaintext);
    g_test_add_func("/pair/pki/missing-files", test_missing_files_are_named);
    g_test_add_func("/pair/pki/info", test_certificate_info);
    rc = g_test_run();
    pki_remove();
    return rc;
}
