/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A peer with the right key that says what no peer of ours says, after a good handshake: its stream
 * is dropped by name and reason, QEMU never waits (I4), and other sessions go on. */
#include "test-comparator-lab.h"

#include "comparator/record.h"

#include <endian.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GENERATION 7 /* of lab_create() */
#define OTHER_UUID "6c1d9a52-1a4e-4f0e-9a3e-0d7f7c1b5a11"

/* This process as the other end of one stream. */
typedef struct {
    int fd;
    gnutls_session_t tls;
    gnutls_psk_client_credentials_t client;
    gnutls_psk_server_credentials_t server;
} Peer;

static void right_key(uint8_t key[COLO_CMP_PSK_BYTES])
{
    for (size_t i = 0; i < COLO_CMP_PSK_BYTES; i++)
        key[i] = (uint8_t)i; /* LAB_PSK */
}

static int give_key(gnutls_session_t session G_GNUC_UNUSED, const char *user G_GNUC_UNUSED,
                    gnutls_datum_t *key)
{
    key->data = gnutls_malloc(COLO_CMP_PSK_BYTES);
    key->size = COLO_CMP_PSK_BYTES;
    right_key(key->data);
    return 0;
}

static void handshake(Peer *peer)
{
    struct timeval limit = {.tv_sec = LAB_WAIT_MS / 1000};
    int code;

    (void)setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    g_assert_cmpint(gnutls_priority_set_direct(
                        peer->tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK", NULL),
                    ==, 0);
    gnutls_transport_set_int(peer->tls, peer->fd);
    do
        code = gnutls_handshake(peer->tls);
    while (code < 0 && !gnutls_error_is_fatal(code));
    g_assert_cmpint(code, ==, 0);
}

/* False when the other side has closed. */
static bool say(Peer *peer, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = gnutls_record_send(peer->tls, (const uint8_t *)data + at, len - at);

        if (n < 0 && n != GNUTLS_E_INTERRUPTED)
            return false;
        at += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static void peer_close(Peer *peer)
{
    gnutls_deinit(peer->tls);
    close(peer->fd);
    if (peer->client)
        gnutls_psk_free_client_credentials(peer->client);
    if (peer->server)
        gnutls_psk_free_server_credentials(peer->server);
}

/* To a secondary: the side that connects, and says who it is. */
static void peer_of_secondary(Peer *peer, int port, const char *stream)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    g_autofree char *identity = g_strdup_printf("%s/%d/%s", lab_uuid, GENERATION, stream);
    uint8_t key[COLO_CMP_PSK_BYTES];
    gnutls_datum_t datum = {key, sizeof(key)};
    ColoDataPreface preface;

    memset(peer, 0, sizeof(*peer));
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(peer->fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    right_key(key);
    gnutls_psk_allocate_client_credentials(&peer->client);
    gnutls_psk_set_client_credentials(peer->client, identity, &datum, GNUTLS_PSK_KEY_RAW);
    gnutls_init(&peer->tls, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    gnutls_credentials_set(peer->tls, GNUTLS_CRD_PSK, peer->client);
    handshake(peer);
    colo_preface_build(&preface, lab_uuid, GENERATION, stream);
    g_assert_true(say(peer, &preface, sizeof(preface)));
}

/* To a primary, which connects to us. */
static void peer_of_primary(Peer *peer, Lab *lab, const char *stream)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t preface[sizeof(ColoDataPreface)];

    memset(peer, 0, sizeof(*peer));
    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, len), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &len), ==, 0);
    lab->via_port = ntohs(address.sin_port);
    lab_connect_peer(lab, stream);
    peer->fd = accept(listener, NULL, NULL);
    close(listener);
    gnutls_psk_allocate_server_credentials(&peer->server);
    gnutls_psk_set_server_credentials_function(peer->server, give_key);
    gnutls_init(&peer->tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);
    gnutls_credentials_set(peer->tls, GNUTLS_CRD_PSK, peer->server);
    handshake(peer);
    g_assert_cmpint(gnutls_record_recv(peer->tls, preface, sizeof(preface)), ==, sizeof(preface));
}

/* What it says. */

static void random_bytes(uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)g_test_rand_int();
}

static void say_noise(Peer *peer)
{
    static uint8_t noise[100000];

    random_bytes(noise, sizeof(noise));
    /* The length of a record, far too much, whatever comes after. */
    noise[0] |= 0x80;
    (void)say(peer, noise, sizeof(noise));
}

static size_t put_record(uint8_t *to, unsigned type, size_t len)
{
    ColoRecordHeader header;

    colo_record_header(&header, (ColoRecordType)type, 0, 0, (uint32_t)len, 0);
    memcpy(to, &header, sizeof(header));
    random_bytes(to + sizeof(header), len);
    return sizeof(header) + len;
}

static void say_unknown_type(Peer *peer)
{
    uint8_t record[200];

    (void)say(peer, record, put_record(record, 77, 100));
}

static void say_wrong_length(Peer *peer)
{
    uint8_t record[200];

    (void)say(peer, record, put_record(record, COLO_RECORD_EPOCH, 100));
}

static void say_of_no_nic(Peer *peer)
{
    uint8_t record[200];
    size_t len = put_record(record, COLO_RECORD_OUTPUT, 100);

    record[5] = COLO_CMP_MAX_NICS - 1;
    (void)say(peer, record, len);
}

/* Records of the other role. */
static void say_input(Peer *peer)
{
    uint8_t record[200];

    (void)say(peer, record, put_record(record, COLO_RECORD_INPUT, 100));
}

static void say_output(Peer *peer)
{
    uint8_t record[200];

    (void)say(peer, record, put_record(record, COLO_RECORD_OUTPUT, 100));
}

typedef struct {
    const char *name;
    bool primary; /* what it is said to */
    void (*say)(Peer *peer);
} Case;

static const Case cases[] = {
    {"primary/noise", true, say_noise},
    {"primary/unknown-type", true, say_unknown_type},
    {"primary/wrong-length", true, say_wrong_length},
    {"primary/of-no-nic", true, say_of_no_nic},
    {"primary/input", true, say_input},
    {"secondary/noise", false, say_noise},
    {"secondary/unknown-type", false, say_unknown_type},
    {"secondary/wrong-length", false, say_wrong_length},
    {"secondary/of-no-nic", false, say_of_no_nic},
    {"secondary/output", false, say_output},
};

static void expect_down(LabHelper *helper, const char *stream)
{
    g_autoptr(JsonObject) down = lab_event(helper, "stream-down");
    g_autofree char *line = NULL;

    g_assert_cmpstr(colo_json_peek_string(down, "stream", ""), ==, stream);
    g_assert_cmpstr(colo_json_peek_string(down, "reason", ""), ==,
                    "a record that is none of the protocol's");
    line = g_strdup_printf("stream %s is down: a record that is none of the protocol's", stream);
    g_assert_true(lab_helper_logged(helper, line));
}

/* 2 MB: lab_write() fails the test when QEMU's end stays full. */
static void qemu_is_read(int fd)
{
    uint8_t frame[1500];
    size_t len = lab_udp(frame, 4000, "never waits");

    for (unsigned i = 0; i < (2u << 20) / len; i++)
        lab_write_frame(fd, frame, len);
}

static void test_broken_record(gconstpointer data)
{
    const Case *c = data;
    LabHelper *helper;
    Peer peer, again;
    Lab lab;
    int out;

    lab_start(&lab);
    helper = c->primary ? &lab.p : &lab.s;
    lab_create(helper, c->primary ? "primary" : "secondary", LAB_PSK);
    out = lab_attach(helper, "out:net0");
    if (c->primary)
        peer_of_primary(&peer, &lab, "packets");
    else
        peer_of_secondary(&peer, helper->port, "packets");
    json_object_put(lab_event(helper, "stream-up"));
    c->say(&peer);
    expect_down(helper, "packets");
    qemu_is_read(out);
    peer_close(&peer);
    /* A peer that behaves is welcome. */
    if (c->primary)
        peer_of_primary(&again, &lab, "packets");
    else
        peer_of_secondary(&again, helper->port, "packets");
    json_object_put(lab_event(helper, "stream-up"));
    peer_close(&again);
    close(out);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
}

/* Confirmations of random bytes are records of the protocol: nothing that the guest said leaves for
 * them, and the session goes on. */
static void test_i1_random_confirmations(void)
{
    static uint8_t record[COLO_RECORD_MAX + 100];
    int out, release;
    Peer peer;
    Lab lab;

    lab_start(&lab);
    lab_create(&lab.p, "primary", LAB_PSK);
    out = lab_attach(&lab.p, "out:net0");
    release = lab_attach(&lab.p, "release:net0");
    peer_of_primary(&peer, &lab, "packets");
    json_object_put(lab_event(&lab.p, "stream-up"));
    json_object_put(lab_gate(&lab.p, "paired"));
    lab_say(out, "held");
    for (unsigned i = 0; i < 1000; i++)
        g_assert_true(say(&peer, record,
                          put_record(record, COLO_RECORD_OUTPUT,
                                     (size_t)g_test_rand_int_range(0, i % 100 ? 200 : 20000))));
    qemu_is_read(out);
    lab_silent(release);
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), >, 0);
    peer_close(&peer);
    close(out);
    close(release);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
}

/* Half a record, and then nothing: the silence is told, and QEMU is read. */
static void test_i4_half_a_record(void)
{
    uint8_t record[200];
    Peer peer;
    Lab lab;
    int out;

    lab_start(&lab);
    lab_create(&lab.p, "primary", LAB_PSK);
    out = lab_attach(&lab.p, "out:net0");
    peer_of_primary(&peer, &lab, "packets");
    json_object_put(lab_event(&lab.p, "stream-up"));
    g_assert_true(say(&peer, record, put_record(record, COLO_RECORD_OUTPUT, 100) - 50));
    json_object_put(lab_event(&lab.p, "peer-silent"));
    qemu_is_read(out);
    peer_close(&peer);
    json_object_put(lab_event(&lab.p, "stream-down"));
    close(out);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
}

/* New keys (RFC 8446, 4.6.3), as GnuTLS takes them by itself after 2^24 records, and what follows
 * with them in the same segment, all that is said: it arrives. Each side may be the one that takes
 * them. */
static void test_new_keys(gconstpointer data)
{
    static const char word[] = "what comes behind the new keys";
    const bool primary = data != NULL;
    LabHelper *helper;
    int qemu, on = 1, off = 0;
    Peer peer;
    Lab lab;

    lab_start(&lab);
    helper = primary ? &lab.p : &lab.s;
    lab_create(helper, primary ? "primary" : "secondary", LAB_PSK);
    qemu = lab_attach(helper, "migration");
    if (primary)
        peer_of_primary(&peer, &lab, "checkpoint");
    else
        peer_of_secondary(&peer, helper->port, "checkpoint");
    json_object_put(lab_event(helper, "stream-up"));
    for (int i = 0; i < 6; i++) { /* GnuTLS bears 8 a second */
        char got[sizeof(word)];

        setsockopt(peer.fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
        /* Every other time the helper shall take new keys as well. */
        g_assert_cmpint(gnutls_session_key_update(peer.tls, i % 2 ? GNUTLS_KU_PEER : 0), ==, 0);
        g_assert_true(say(&peer, word, sizeof(word)));
        setsockopt(peer.fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
        lab_read(qemu, got, sizeof(got));
        g_assert_cmpmem(got, sizeof(got), word, sizeof(word));
        /* And the other way, with the keys that it has taken. */
        lab_write(qemu, word, sizeof(word));
        for (size_t at = 0; at < sizeof(got);) {
            ssize_t n = gnutls_record_recv(peer.tls, got + at, sizeof(got) - at);

            if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
                continue;
            g_assert_cmpint(n, >, 0);
            at += (size_t)n;
        }
        g_assert_cmpmem(got, sizeof(got), word, sizeof(word));
    }
    peer_close(&peer);
    close(qemu);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
}

/* Two sessions of one helper: one peer floods with records that count, the other's session goes on.
 */
static void test_i4_flood(void)
{
    static uint8_t records[1 << 20];
    size_t len = 0;
    int in, other_out;
    Peer peer;
    Lab lab;

    lab_start(&lab);
    lab_create(&lab.s, "secondary", LAB_PSK);
    in = lab_attach(&lab.s, "in:net0");
    lab_uuid = OTHER_UUID;
    lab_create(&lab.s, "secondary", LAB_PSK);
    other_out = lab_attach(&lab.s, "out:net0");
    lab_uuid = LAB_UUID;
    peer_of_secondary(&peer, lab.s.port, "packets");
    json_object_put(lab_event(&lab.s, "stream-up"));
    while (len < sizeof(records) - 2000)
        len += put_record(records + len, COLO_RECORD_INPUT, 1400);
    for (unsigned i = 0; i < 16; i++)
        g_assert_true(say(&peer, records, len));
    qemu_is_read(other_out);
    json_object_put(lab_request(&lab.s, "stats", lab_about(), -1));
    peer_close(&peer);
    close(in);
    close(other_out);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strdup_printf("/right-key/I4/%s", cases[i].name);

        g_test_add_data_func(name, &cases[i], test_broken_record);
    }
    g_test_add_func("/right-key/I1/random-confirmations", test_i1_random_confirmations);
    g_test_add_func("/right-key/I4/half-a-record", test_i4_half_a_record);
    g_test_add_func("/right-key/I4/flood", test_i4_flood);
    g_test_add_data_func("/right-key/new-keys/secondary", NULL, test_new_keys);
    g_test_add_data_func("/right-key/new-keys/primary", "", test_new_keys);
    return g_test_run();
}
