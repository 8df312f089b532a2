/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLS of the data streams (I6): version 1.3 only, ECDHE with a pre-shared key of 32 random bytes
 * per session, no certificates, no session tickets, no fallback. A
 * session is used by one thread at a time.
 */
#pragma once

#include "comparator/protocol.h"

#include <glib.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>

/* Finds the key of @identity for an incoming connection; false refuses it. @opaque is the one
 * given to colo_tls_server(). */
typedef bool (*ColoTlsKeyFunc)(void *opaque, const char *identity, uint8_t key[COLO_CMP_PSK_BYTES]);

/* Sets up GnuTLS and its credentials once for the process. FALSE and @error when GnuTLS refuses. */
gboolean colo_tls_init(ColoTlsKeyFunc key, GError **error);
void colo_tls_deinit(void);

/* What was read from the socket and GnuTLS has not asked for yet: it asks for 5 bytes of a record
 * and then for the rest, which would be two system calls each. */
#define COLO_TLS_INPUT_BYTES 65536u
typedef struct {
    int fd;
    gnutls_session_t session;
    size_t at, end;
    bool dry; /* the last read emptied the socket: it is not asked again until it says so */
    uint8_t bytes[COLO_TLS_INPUT_BYTES];
} ColoTlsInput;

/* Bytes are left that the socket will not tell of. */
static inline bool colo_tls_input_waits(const ColoTlsInput *input)
{
    return input->at < input->end;
}

/* A non-blocking session over @fd that reads through @input. NULL with *code (gnutls_strerror)
 * otherwise. The FD and @input stay the caller's. */
gnutls_session_t colo_tls_server(int fd, ColoTlsInput *input, void *opaque, int *code);

/* As above, for the connecting side. */
typedef struct {
    gnutls_session_t session;
    gnutls_psk_client_credentials_t credentials;
} ColoTlsClient;
bool colo_tls_client(ColoTlsClient *client, int fd, ColoTlsInput *input, const char *identity,
                     const uint8_t key[COLO_CMP_PSK_BYTES], int *code);
