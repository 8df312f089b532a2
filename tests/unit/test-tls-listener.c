/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo+tls://: who is admitted, what libvirt is told of him, and that bytes go both ways. */
#include "driver/tls-listener.h"
#include "relay-fixture.h"
#include "test-channel-common.h"
#include "util/bytes.h"
#include "util/error.h"

#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    RelayFixture relay;
    ColoTlsConfig config;
    ColoTlsListener *listener;
    uint16_t port;
    gnutls_certificate_credentials_t creds;
    gnutls_session_t session;
    int tcp;
} Fixture;

static void setup(Fixture *f, gconstpointer dn)
{
    const char *const list[] = {dn, NULL};
    g_autoptr(GError) error = NULL;

    memset(f, 0, sizeof(*f));
    f->tcp = -1;
    relay_setup(&f->relay, NULL, TRUE);
    f->config = pki_config("beta", "alpha");
    if (dn)
        f->config.allowed_dn_list = g_strdupv((char **)list);
    f->listener =
        colo_tls_listener_new(listen_loopback(&f->port), &f->config, f->relay.server, &error);
    g_assert_no_error(error);
}

static void hang_up(Fixture *f)
{
    if (f->tcp < 0)
        return;
    gnutls_deinit(f->session);
    gnutls_certificate_free_credentials(f->creds);
    close(f->tcp);
    f->tcp = -1;
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    hang_up(f);
    colo_tls_listener_free(f->listener);
    colo_tls_config_clear(&f->config);
    relay_teardown(&f->relay, NULL);
}

/* A client that shows @cert (NULL: none); whether it hears that it is admitted. */
static gboolean dial(Fixture *f, const char *cert)
{
    g_autofree char *cert_name = cert ? g_strconcat(cert, "-cert.pem", NULL) : NULL;
    g_autofree char *key_name = cert ? g_strconcat(cert, "-key.pem", NULL) : NULL;
    g_autofree char *cert_file = cert ? pki_path(cert_name) : NULL;
    g_autofree char *key_file = cert ? pki_path(key_name) : NULL;
    uint8_t byte = 0;
    ssize_t n;
    int rc;

    f->tcp = connect_to(f->port);
    gnutls_certificate_allocate_credentials(&f->creds);
    if (cert)
        g_assert_cmpint(gnutls_certificate_set_x509_key_file(f->creds, cert_file, key_file,
                                                             GNUTLS_X509_FMT_PEM),
                        >=, 0);
    gnutls_init(&f->session, GNUTLS_CLIENT);
    gnutls_set_default_priority(f->session);
    gnutls_credentials_set(f->session, GNUTLS_CRD_CERTIFICATE, f->creds);
    gnutls_transport_set_int(f->session, f->tcp);
    gnutls_handshake_set_timeout(f->session, RELAY_WAIT_MS);
    gnutls_record_set_timeout(f->session, RELAY_WAIT_MS);
    do
        rc = gnutls_handshake(f->session);
    while (rc < 0 && !gnutls_error_is_fatal(rc));
    if (rc < 0)
        return FALSE;
    do
        n = gnutls_record_recv(f->session, &byte, 1);
    while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    return n == 1 && byte == 1;
}

static void say(Fixture *f, uint32_t procedure, uint32_t type, uint32_t serial, const void *body,
                size_t len)
{
    const ColoRpcHeader header = {.program = COLO_REMOTE_PROGRAM,
                                  .version = 1,
                                  .procedure = procedure,
                                  .type = type,
                                  .serial = serial};
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, body, len);

    for (size_t at = 0; at < frame->len;) {
        ssize_t n = gnutls_record_send(f->session, frame->data + at, frame->len - at);

        g_assert_cmpint(n, >, 0);
        at += (size_t)n;
    }
}

static ColoRpcFrame *hear(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    ColoRpcFrame *frame;

    while (!(frame = colo_rpc_reader_next(f->relay.client_reader, &error))) {
        uint8_t data[16384];
        ssize_t n = gnutls_record_recv(f->session, data, sizeof(data));

        g_assert_no_error(error);
        g_assert_cmpint(n, >, 0);
        colo_rpc_reader_feed(f->relay.client_reader, data, (size_t)n);
    }
    return frame;
}

/* The server closes. */
static void assert_ended(Fixture *f)
{
    uint8_t byte;
    ssize_t n;

    do
        n = gnutls_record_recv(f->session, &byte, 1);
    while (n > 0);
    g_assert_true(n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION || n == GNUTLS_E_PULL_ERROR);
}

static void accept_libvirt(Fixture *f)
{
    g_assert_true(relay_readable(f->relay.libvirt, RELAY_WAIT_MS));
    f->relay.upstream = accept(f->relay.libvirt, NULL, NULL);
}

/* libvirt learns the DN, and nothing of root, who we are. */
static void test_open(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, answer = NULL;
    uint8_t body[64];
    size_t len;

    g_assert_true(dial(f, "alpha"));
    accept_libvirt(f);
    colo_put32(body, 1);
    len = 4 + relay_put_string(body + 4, "colo:///system");
    colo_put32(body + len, 0);
    say(f, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_CALL, 2, body, len + 4);
    open = relay_hear(f->relay.upstream, f->relay.upstream_reader);
    g_assert_true(relay_holds(open, "qemu:///system"));
    relay_reply(&f->relay, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_OK);
    identity = relay_hear(f->relay.upstream, f->relay.upstream_reader);
    g_assert_true(relay_holds(identity, "x509-distinguished-name"));
    g_assert_true(relay_holds(identity, "CN=alpha"));
    g_assert_false(relay_holds(identity, "unix-user-id"));
    relay_take_identity(&f->relay, identity, FALSE);
    answer = hear(f);
    g_assert_cmpuint(answer->header.serial, ==, 2);
}

/* Large frames, both ways. */
static void test_bytes(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const size_t size = 3u << 20;
    g_autofree uint8_t *body = g_malloc(size);

    for (size_t i = 0; i < size; i++)
        body[i] = (uint8_t)(i * 31 + i / 997);
    g_assert_true(dial(f, "alpha"));
    accept_libvirt(f);
    for (uint32_t i = 0; i < 3; i++) {
        g_autoptr(ColoRpcFrame) there = NULL, back = NULL;

        say(f, 9999, COLO_RPC_CALL, i, body, size);
        there = relay_hear(f->relay.upstream, f->relay.upstream_reader);
        g_assert_cmpmem(there->body, there->len, body, size);
        relay_say(f->relay.upstream, COLO_REMOTE_PROGRAM, 9999, COLO_RPC_REPLY, i, body, size);
        back = hear(f);
        g_assert_cmpmem(back->body, back->len, body, size);
    }
    /* libvirt's last words are heard. */
    relay_say(f->relay.upstream, COLO_REMOTE_PROGRAM, 9998, COLO_RPC_MESSAGE, 0, "bye", 3);
    close(f->relay.upstream);
    f->relay.upstream = -1;
    g_autoptr(ColoRpcFrame) last = hear(f);
    g_assert_true(relay_holds(last, "bye"));
    assert_ended(f);
}

static void test_client_leaves(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_true(dial(f, "alpha"));
    accept_libvirt(f);
    hang_up(f);
    relay_assert_closed(f->relay.upstream);
}

static void test_not_admitted(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_false(dial(f, NULL));
    hang_up(f);
    g_assert_false(dial(f, "stranger")); /* of another CA */
    hang_up(f);
    g_assert_false(relay_readable(f->relay.libvirt, RELAY_QUIET_MS));
}

static void test_list(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_false(dial(f, "alpha"));
    hang_up(f);
    g_assert_true(dial(f, "admin"));
}

/* FDs cannot come this way; one that says so would wait for ever. */
static void test_fds(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t body[4];

    g_assert_true(dial(f, "alpha"));
    accept_libvirt(f);
    colo_put32(body, 1);
    say(f, 9999, COLO_RPC_CALL_WITH_FDS, 5, body, sizeof(body));
    assert_ended(f);
}

/* Bytes that are no TLS, and none at all: others are served meanwhile. */
static void test_strangers(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    int silent = connect_to(f->port), loud = connect_to(f->port);
    char byte;

    g_assert_cmpint(send(loud, "GET / HTTP/1.1\r\n\r\n", 18, 0), ==, 18);
    g_assert_true(dial(f, "alpha"));
    while (recv(loud, &byte, 1, 0) > 0)
        ;
    close(silent);
    close(loud);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pki_create();
    pki_issue("ca", "beta", "cn = \"beta\"\ndns_name = \"beta\"\ntls_www_server\n");
    pki_issue("ca", "alpha", "cn = \"alpha\"\ntls_www_client\n");
    pki_issue("ca", "admin", "organization = \"Test\"\ncn = \"admin\"\ntls_www_client\n");
    pki_issue("ca2", "stranger", "cn = \"stranger\"\ntls_www_client\n");
#define ADD(name, dn, function) \
    g_test_add("/tls-listener/" name, Fixture, dn, setup, function, teardown)
    ADD("open", NULL, test_open);
    ADD("bytes", NULL, test_bytes);
    ADD("client-leaves", NULL, test_client_leaves);
    ADD("not-admitted", NULL, test_not_admitted);
    ADD("list", "*CN=admin*", test_list);
    ADD("fds", NULL, test_fds);
    ADD("strangers", NULL, test_strangers);
    rc = g_test_run();
    pki_remove();
    return rc;
}
