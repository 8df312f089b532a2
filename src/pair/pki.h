/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * X.509 of the control channel: libvirt's file layout (https://libvirt.org/kbase/tlscerts.html),
 * loading, verification with reasons for people, and what doctor shows of a certificate.
 *
 * Threads: ColoTlsConfig is plain data of its owner. ColoPki may be used from any thread.
 */
#pragma once

#include <glib.h>
#include <gnutls/gnutls.h>
#include <stdint.h>

/* libvirt's names, so that a host set up for libvirt's own TLS needs nothing more. */
#define COLO_PKI_CA_FILE "/etc/pki/CA/cacert.pem"
#define COLO_PKI_CRL_FILE "/etc/pki/CA/cacrl.pem"
#define COLO_PKI_SERVER_CERT_FILE "/etc/pki/libvirt/servercert.pem"
#define COLO_PKI_SERVER_KEY_FILE "/etc/pki/libvirt/private/serverkey.pem"
#define COLO_PKI_CLIENT_CERT_FILE "/etc/pki/libvirt/clientcert.pem"
#define COLO_PKI_CLIENT_KEY_FILE "/etc/pki/libvirt/private/clientkey.pem"

/* TLS 1.3 and nothing else (I6). */
#define COLO_PKI_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3"

/* Where a host's certificates are and whom it admits. NULL strings: libvirt's names above. The
 * structure and its strings are the owner's; colo_pki_new() copies what it needs. */
typedef struct {
    char *ca_file;
    char *crl_file;         /* NULL: the default name, which may be absent; one that is set must
                             * exist */
    char *server_cert_file; /* what the listener shows */
    char *server_key_file;
    char *client_cert_file; /* what the dialler shows */
    char *client_key_file;
    char **allowed_dn_list; /* fnmatch(3) patterns on the client's DN in RFC 4514 form, as libvirt's
                             * tls_allowed_dn_list; NULL: any certificate of the CA; an empty list
                             * counts as NULL */
} ColoTlsConfig;

void colo_tls_config_clear(ColoTlsConfig *config);

typedef enum {
    COLO_PKI_LISTENER, /* server certificate and key */
    COLO_PKI_DIALLER,  /* client certificate and key */
} ColoPkiSide;

/* Credentials of one side; read again by themselves when a file changes on disk (a renewed
 * certificate or CRL needs no restart). */
typedef struct ColoPki ColoPki;

/* Loads; NULL and @error (COLO_ERROR_AUTH) that names the file and the remedy. */
ColoPki *colo_pki_new(const ColoTlsConfig *config, ColoPkiSide side, GError **error);
void colo_pki_free(ColoPki *pki);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoPki, colo_pki_free)

/* Opaque and reference counted, because a session must keep the credentials that it started with.
 */
typedef struct ColoPkiCreds ColoPkiCreds;

/* The credentials as the files are now; when they cannot be read any more, the last good ones (and
 * a warning). The caller unrefs after gnutls_deinit() of the session that uses them. */
ColoPkiCreds *colo_pki_get(ColoPki *pki);
void colo_pki_creds_unref(ColoPkiCreds *creds);
gnutls_certificate_credentials_t colo_pki_creds_gnutls(ColoPkiCreds *creds);

/*
 * Verifies the peer of @session after its handshake: chain to the CA, dates, CRL, purpose and, when
 * @host is given (the dialler), the host name or address in SAN or CN. The listener checks the DN
 * list instead. FALSE and COLO_ERROR_AUTH with the certificate's DN, what is wrong with it and the
 * remedy. @address names the peer in messages. @dn (when not NULL): the peer's DN, for g_free().
 */
gboolean colo_pki_verify_peer(ColoPki *pki, gnutls_session_t session, const char *address,
                              const char *host, char **dn, GError **error);

/* True when the verified certificate of @session's peer is for @host (SAN or CN). */
gboolean colo_pki_peer_has_name(gnutls_session_t session, const char *host);

/* What doctor shows of a certificate file. */
typedef struct {
    char *file;
    char *subject;      /* DN, RFC 4514 */
    char *issuer;       /* DN, RFC 4514 */
    char **names;       /* DNS names and IP addresses of the SAN, else the CN; never NULL */
    int64_t activation; /* seconds since the epoch, from here on it is valid */
    int64_t expiry;     /* seconds since the epoch */
} ColoCertInfo;

/* Reads the first certificate of PEM @file; NULL and @error (COLO_ERROR_AUTH) names file and cause.
 */
ColoCertInfo *colo_pki_read_cert(const char *file, GError **error);
void colo_cert_info_free(ColoCertInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoCertInfo, colo_cert_info_free)

/* True when certificate and key of @config's @side belong together, were issued by the CA and are
 * valid now; else @error (COLO_ERROR_AUTH) with the remedy. For doctor. */
gboolean colo_pki_check(const ColoTlsConfig *config, ColoPkiSide side, GError **error);
