/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/tls.h"

#include "util/error.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/*
 * NORMAL's ciphers, groups and MACs, one version, one key exchange (gnutls_priority_init(3)). Under
 * TLS 1.3 ECDHE-PSK stands for the mode psk_dhe_ke (RFC 8446, 4.2.9): forward secrecy is kept.
 * Suites of AES-128-GCM come first: they are the fastest with AES-NI, and the key's strength does
 * not exceed that of the ECDHE group.
 */
static const char priority_text[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:"
                                    "-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305";

static gnutls_priority_t priority;
static gnutls_psk_server_credentials_t server_credentials;
static ColoTlsKeyFunc find_key;

/* gnutls_psk_server_credentials_function: 0 and the key, or -1. */
static int server_key(gnutls_session_t session, const char *identity, gnutls_datum_t *key)
{
    uint8_t bytes[COLO_CMP_PSK_BYTES];

    if (!find_key(gnutls_session_get_ptr(session), identity, bytes))
        return -1;
    key->data = gnutls_malloc(sizeof(bytes));
    if (!key->data)
        return -1;
    memcpy(key->data, bytes, sizeof(bytes));
    key->size = sizeof(bytes);
    gnutls_memset(bytes, 0, sizeof(bytes));
    return 0;
}

gboolean colo_tls_init(ColoTlsKeyFunc key, GError **error)
{
    int code;

    find_key = key;
    code = gnutls_global_init();
    if (code >= 0)
        code = gnutls_priority_init(&priority, priority_text, NULL);
    if (code >= 0)
        code = gnutls_psk_allocate_server_credentials(&server_credentials);
    if (code < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM, "GnuTLS: %s", gnutls_strerror(code));
        return FALSE;
    }
    gnutls_psk_set_server_credentials_function(server_credentials, server_key);
    return TRUE;
}

void colo_tls_deinit(void)
{
    gnutls_psk_free_server_credentials(server_credentials);
    gnutls_priority_deinit(priority);
    gnutls_global_deinit();
}

/* gnutls_pull_func.
 * #syscalls recvfrom */
static ssize_t pull(gnutls_transport_ptr_t opaque, void *data, size_t len)
{
    ColoTlsInput *input = opaque;
    size_t n;

    if (input->at == input->end) {
        ssize_t got = -1;

        if (!input->dry)
            got = recv(input->fd, input->bytes, sizeof(input->bytes), MSG_DONTWAIT);
        else
            errno = EAGAIN;
        if (got <= 0) {
            gnutls_transport_set_errno(input->session, errno);
            return got;
        }
        input->at = 0;
        input->end = (size_t)got;
        input->dry = input->end < sizeof(input->bytes);
    }
    n = input->end - input->at < len ? input->end - input->at : len;
    memcpy(data, input->bytes + input->at, n);
    input->at += n;
    return (ssize_t)n;
}

/* What both sides have in common; @session is freed and NULL on failure. GnuTLS writes a record
 * with sendmsg() (gnutls_transport_set_int(3)), and takes its random bytes from the kernel.
 * #syscalls sendmsg getrandom */
static gnutls_session_t new_session(int fd, ColoTlsInput *input, unsigned flags, void *credentials,
                                    int *code)
{
    gnutls_session_t session = NULL;

    *code = gnutls_init(&session, flags | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);
    if (*code < 0)
        return NULL;
    *code = gnutls_priority_set(session, priority);
    if (*code >= 0)
        *code = gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials);
    if (*code < 0) {
        gnutls_deinit(session);
        return NULL;
    }
    gnutls_transport_set_int(session, fd); /* sets how records are written, too */
    gnutls_transport_set_ptr2(session, input, (gnutls_transport_ptr_t)(intptr_t)fd);
    gnutls_transport_set_pull_function(session, pull);
    input->fd = fd;
    input->session = session;
    /* The caller has a time limit of its own on a timer. */
    gnutls_handshake_set_timeout(session, GNUTLS_INDEFINITE_TIMEOUT);
    return session;
}

gnutls_session_t colo_tls_server(int fd, ColoTlsInput *input, void *opaque, int *code)
{
    gnutls_session_t session = new_session(fd, input, GNUTLS_SERVER, server_credentials, code);

    if (session)
        gnutls_session_set_ptr(session, opaque);
    return session;
}

bool colo_tls_client(ColoTlsClient *client, int fd, ColoTlsInput *input, const char *identity,
                     const uint8_t key[COLO_CMP_PSK_BYTES], int *code)
{
    gnutls_datum_t datum = {.data = (unsigned char *)key, .size = COLO_CMP_PSK_BYTES};

    memset(client, 0, sizeof(*client));
    *code = gnutls_psk_allocate_client_credentials(&client->credentials);
    if (*code < 0)
        return false;
    *code = gnutls_psk_set_client_credentials(client->credentials, identity, &datum,
                                              GNUTLS_PSK_KEY_RAW);
    if (*code >= 0)
        client->session = new_session(fd, input, GNUTLS_CLIENT, client->credentials, code);
    if (!client->session) {
        gnutls_psk_free_client_credentials(client->credentials);
        client->credentials = NULL;
        return false;
    }
    return true;
}
