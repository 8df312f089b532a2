/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The control channel's listener against clients that break the protocol or TLS, or say nothing. */
#include "test-channel-common.h"

#include "util/framing.h"

#include <gnutls/gnutls.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Waits until the other end closes; what it sent before is thrown away. FALSE after @ms. */
static gboolean closed_within(int fd, int ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;
    char buffer[4096];

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        gint64 left = (end - g_get_monotonic_time()) / 1000;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return FALSE;
        if (read(fd, buffer, sizeof(buffer)) <= 0)
            return TRUE;
    }
}

static void test_garbage_instead_of_tls(void)
{
    static const char http[] = "GET / HTTP/1.0\r\n\r\n";
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    int fd;

    server_start(&server);
    fd = connect_to(server.port);
    g_assert_cmpint(write(fd, http, strlen(http)), ==, strlen(http));
    g_assert_true(closed_within(fd, 2000));
    close(fd);
    g_assert_true(log_wait("TLS handshake with 127.0.0.1:", "failed", 2000));

    /* A TLS record header that announces more than one may hold. */
    fd = connect_to(server.port);
    g_assert_cmpint(write(fd, "\x16\x03\x01\xff\xff\xff\xff\xff\xff", 9), ==, 9);
    g_assert_true(closed_within(fd, 2000));
    close(fd);
    assert_serves(&server);
    server_end(&server);
}

/* A TLS client of our own, as alpha unless @client is NULL. */
typedef struct {
    int fd;
    gnutls_session_t session;
    gnutls_certificate_credentials_t creds;
} Client;

static int client_start(Client *client, uint16_t port, const char *name, const char *priority)
{
    gnutls_certificate_allocate_credentials(&client->creds);
    if (name) {
        g_autofree char *cert = g_strdup_printf("%s/%s-cert.pem", pki_dir, name);
        g_autofree char *key = g_strdup_printf("%s/%s-key.pem", pki_dir, name);

        g_assert_cmpint(
            gnutls_certificate_set_x509_key_file(client->creds, cert, key, GNUTLS_X509_FMT_PEM), ==,
            0);
    }
    client->fd = connect_to(port);
    gnutls_init(&client->session, GNUTLS_CLIENT);
    g_assert_cmpint(gnutls_priority_set_direct(client->session, priority, NULL), ==, 0);
    gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, client->creds);
    gnutls_transport_set_int(client->session, client->fd);
    gnutls_handshake_set_timeout(client->session, 3000);
    return gnutls_handshake(client->session);
}

static void client_end(Client *client)
{
    gnutls_deinit(client->session);
    gnutls_certificate_free_credentials(client->creds);
    close(client->fd);
}

static void client_send(Client *client, const char *text)
{
    g_autoptr(GBytes) frame = colo_frame_build(text, strlen(text), NULL);
    gsize size;
    const void *data = g_bytes_get_data(frame, &size);

    g_assert_cmpint(gnutls_record_send(client->session, data, size), ==, (ssize_t)size);
}

/* The next message, or NULL when the connection ended. */
static char *client_receive(Client *client)
{
    g_autoptr(ColoFrameReader) reader = colo_frame_reader_new();
    char buffer[4096];
    size_t len;

    gnutls_record_set_timeout(client->session, 3000);
    for (;;) {
        char *text = colo_frame_reader_next(reader, &len, NULL);
        ssize_t n;

        if (text)
            return text;
        n = gnutls_record_recv(client->session, buffer, sizeof(buffer));
        if (n <= 0)
            return NULL;
        colo_frame_reader_feed(reader, buffer, (size_t)n);
    }
}

#define TLS13 "NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define HELLO(version, host)                                                            \
    "{\"type\":\"hello\",\"version\":" version ",\"software\":\"raw\",\"host\":\"" host \
    "\",\"host-uuid\":\"u\",\"boot-id\":\"b\"}"

/* @text as a frame after a good hello: answered by an error that holds @reason, then closed. */
static void assert_message_ends_it(Server *server, const char *first, const char *text,
                                   const char *reason)
{
    Client client;

    g_assert_cmpint(client_start(&client, server->port, "alpha-client", TLS13), ==, 0);
    if (first) {
        client_send(&client, first);
        g_autofree char *hello = client_receive(&client);
        g_assert_nonnull(strstr(hello, "\"beta\""));
    }
    client_send(&client, text);
    g_autofree char *answer = client_receive(&client);
    g_assert_nonnull(answer);
    g_assert_nonnull(strstr(answer, "\"error\""));
    if (!strstr(answer, reason))
        g_error("expected '%s' in: %s", reason, answer);
    g_autofree char *end = client_receive(&client);
    g_assert_null(end);
    client_end(&client);
}

static void test_messages_that_break_the_protocol(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    g_autofree char *deep = g_strnfill(5000, '[');
    g_autofree char *nested = g_strconcat("{\"type\":", deep, NULL);

    server_start(&server);
    assert_message_ends_it(&server, NULL, "{\"type\":\"ping\"}", "expected hello, found 'ping'");
    assert_message_ends_it(&server, NULL, "no json", "not a JSON object");
    assert_message_ends_it(&server, NULL, "{\"type\":\"hello\"}", "'version'");
    assert_message_ends_it(&server, NULL, "{\"type\":\"hello\",\"version\":\"1\"}", "'version'");
    assert_message_ends_it(&server, NULL, HELLO("2", "alpha"), "version 2");
    assert_message_ends_it(&server, NULL, HELLO("1", "beta"), "calls itself 'beta'");
    assert_message_ends_it(&server, HELLO("1", "alpha"), "", "not a JSON object");
    assert_message_ends_it(&server, HELLO("1", "alpha"), nested, "not a JSON object");
    assert_message_ends_it(&server, HELLO("1", "alpha"), "{\"type\":\"dance\"}", "'dance'");
    assert_message_ends_it(&server, HELLO("1", "alpha"), "{\"type\":\"request\",\"id\":1}",
                           "'method'");
    assert_message_ends_it(&server, HELLO("1", "alpha"),
                           "{\"type\":\"request\",\"id\":-1,\"method\":\"echo\",\"params\":{}}",
                           "'id'");
    assert_serves(&server);
    server_end(&server);
}

static void test_length_of_4_gib(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    Client client;

    server_start(&server);
    g_assert_cmpint(client_start(&client, server.port, "alpha-client", TLS13), ==, 0);
    g_assert_cmpint(gnutls_record_send(client.session, "\xff\xff\xff\xff{", 5), ==, 5);
    g_autofree char *answer = client_receive(&client);
    g_assert_nonnull(strstr(answer, "4294967295"));
    g_autofree char *end = client_receive(&client);
    g_assert_null(end);
    client_end(&client);
    g_assert_true(log_wait("127.0.0.1:", "4294967295", 2000));
    assert_serves(&server);
    server_end(&server);
}

static void test_tls_1_2_is_refused(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    Client client;

    server_start(&server);
    g_assert_cmpint(
        client_start(&client, server.port, "alpha-client", "NORMAL:-VERS-ALL:+VERS-TLS1.2"), <, 0);
    client_end(&client);
    /* The same client gets through with 1.3: it was the version. */
    g_assert_cmpint(client_start(&client, server.port, "alpha-client", TLS13), ==, 0);
    client_end(&client);
    server_end(&server);
}

static void test_no_client_certificate(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    Client client;

    server_start(&server);
    g_assert_cmpint(client_start(&client, server.port, NULL, TLS13), ==, 0);
    g_autofree char *answer = client_receive(&client);
    g_assert_nonnull(strstr(answer, "showed no certificate"));
    g_autofree char *end = client_receive(&client);
    g_assert_null(end);
    client_end(&client);
    server_end(&server);
}

/* A peer that sends requests and reads none of the answers is closed at a bound. */
static void test_peer_that_does_not_read(void)
{
    static const char request[] =
        "{\"type\":\"request\",\"id\":1,\"method\":\"big\",\"params\":{\"bytes\":1000000}}";
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    Client client;

    server_start(&server);
    g_assert_cmpint(client_start(&client, server.port, "alpha-client", TLS13), ==, 0);
    client_send(&client, HELLO("1", "alpha"));
    for (int i = 0; i < 40; i++)
        client_send(&client, request);
    g_assert_true(log_wait("127.0.0.1:", "does not read", 10000));
    client_end(&client);
    assert_serves(&server);
    server_end(&server);
}

/* Connections that say nothing: bounded in number, closed in time, others are served. */
static void test_silent_connections(void)
{
    Server server = {.tls = pki_config("beta-server", "beta-client")};
    int fds[COLO_CHANNEL_MAX_ACCEPTED + 1];
    gint64 start = g_get_monotonic_time();

    server_start(&server);
    for (guint i = 0; i < COLO_CHANNEL_MAX_ACCEPTED - 1; i++)
        fds[i] = connect_to(server.port);
    assert_serves(&server);
    /* Two more: whether the good client's place is free again by then or not, one is too many. */
    fds[COLO_CHANNEL_MAX_ACCEPTED - 1] = connect_to(server.port);
    fds[COLO_CHANNEL_MAX_ACCEPTED] = connect_to(server.port);
    g_assert_true(log_wait("127.0.0.1:", "16 connections are the limit", 2000));
    g_assert_cmpint(g_get_monotonic_time() - start, <, 4500 * 1000);
    for (guint i = 0; i <= COLO_CHANNEL_MAX_ACCEPTED; i++) {
        g_assert_true(closed_within(fds[i], 8000));
        close(fds[i]);
    }
    g_assert_true(log_wait("127.0.0.1:", "did not complete the TLS handshake", 1000));
    assert_serves(&server);
    server_end(&server);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pki_create();
    log_capture();
    g_test_add_func("/pair/hostile/garbage", test_garbage_instead_of_tls);
    g_test_add_func("/pair/hostile/messages", test_messages_that_break_the_protocol);
    g_test_add_func("/pair/hostile/4-gib", test_length_of_4_gib);
    g_test_add_func("/pair/hostile/tls-1.2", test_tls_1_2_is_refused);
    g_test_add_func("/pair/hostile/no-certificate", test_no_client_certificate);
    g_test_add_func("/pair/hostile/not-reading", test_peer_that_does_not_read);
    g_test_add_func("/pair/hostile/silent", test_silent_connections);
    rc = g_test_run();
    pki_remove();
    return rc;
}
