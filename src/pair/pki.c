/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pair/pki.h"

#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <fnmatch.h>
#include <gio/gio.h>
#include <gnutls/x509.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

struct ColoPkiCreds {
    gint refs;
    gnutls_certificate_credentials_t creds;
};

/* What tells one version of a file from the next. */
typedef struct {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
} FileStamp;

enum { FILE_CA, FILE_CRL, FILE_CERT, FILE_KEY, N_FILES };

struct ColoPki {
    ColoPkiSide side;
    char *files[N_FILES];
    bool crl_optional;
    char **allowed_dn_list;
    GMutex lock; /* protects what follows */
    FileStamp stamps[N_FILES];
    ColoPkiCreds *current;
};

void colo_tls_config_clear(ColoTlsConfig *config)
{
    g_clear_pointer(&config->ca_file, g_free);
    g_clear_pointer(&config->crl_file, g_free);
    g_clear_pointer(&config->server_cert_file, g_free);
    g_clear_pointer(&config->server_key_file, g_free);
    g_clear_pointer(&config->client_cert_file, g_free);
    g_clear_pointer(&config->client_key_file, g_free);
    g_clear_pointer(&config->allowed_dn_list, g_strfreev);
}

/* All zero when @file is not there. */
static FileStamp stamp_of(const char *file)
{
    FileStamp stamp;
    struct stat st;

    memset(&stamp, 0, sizeof(stamp));
    if (stat(file, &st) == 0) {
        stamp.dev = st.st_dev;
        stamp.ino = st.st_ino;
        stamp.size = st.st_size;
        stamp.mtime = st.st_mtim;
    }
    return stamp;
}

static bool stamps_equal(const FileStamp *a, const FileStamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static gboolean load_error(GError **error, const char *what, const char *file, int rc)
{
    const char *remedy = g_file_test(file, G_FILE_TEST_EXISTS)
                             ? "it must be readable PEM"
                             : "create it with virtcolod-setup, or name another in virtcolod.conf";

    g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH, "cannot load the %s '%s': %s; %s", what, file,
                rc == GNUTLS_E_FILE_ERROR ? g_strerror(errno ? errno : ENOENT)
                                          : gnutls_strerror(rc),
                remedy);
    return FALSE;
}

static gboolean fill_creds(ColoPki *pki, gnutls_certificate_credentials_t creds, GError **error)
{
    int rc;

    errno = 0;
    rc = gnutls_certificate_set_x509_trust_file(creds, pki->files[FILE_CA], GNUTLS_X509_FMT_PEM);
    if (rc <= 0)
        return load_error(error, "CA certificate", pki->files[FILE_CA],
                          rc ? rc : GNUTLS_E_NO_CERTIFICATE_FOUND);
    if (!pki->crl_optional || g_file_test(pki->files[FILE_CRL], G_FILE_TEST_EXISTS)) {
        errno = 0;
        rc = gnutls_certificate_set_x509_crl_file(creds, pki->files[FILE_CRL], GNUTLS_X509_FMT_PEM);
        if (rc < 0)
            return load_error(error, "certificate revocation list", pki->files[FILE_CRL], rc);
    }
    errno = 0;
    rc = gnutls_certificate_set_x509_key_file(creds, pki->files[FILE_CERT], pki->files[FILE_KEY],
                                              GNUTLS_X509_FMT_PEM);
    if (rc < 0) {
        bool cert_there = g_file_test(pki->files[FILE_CERT], G_FILE_TEST_EXISTS);

        return load_error(error, cert_there ? "private key of the certificate" : "certificate",
                          pki->files[cert_there ? FILE_KEY : FILE_CERT], rc);
    }
    return TRUE;
}

/* Reads the files into new credentials; NULL and @error. */
static ColoPkiCreds *load(ColoPki *pki, GError **error)
{
    ColoPkiCreds *creds = g_new0(ColoPkiCreds, 1);

    creds->refs = 1;
    gnutls_certificate_allocate_credentials(&creds->creds);
    if (!fill_creds(pki, creds->creds, error)) {
        colo_pki_creds_unref(creds);
        return NULL;
    }
    return creds;
}

ColoPki *colo_pki_new(const ColoTlsConfig *config, ColoPkiSide side, GError **error)
{
    ColoPki *pki = g_new0(ColoPki, 1);
    bool server = side == COLO_PKI_LISTENER;
    const char *cert = server ? config->server_cert_file : config->client_cert_file;
    const char *key = server ? config->server_key_file : config->client_key_file;

    g_mutex_init(&pki->lock);
    pki->side = side;
    pki->files[FILE_CA] = g_strdup(config->ca_file ? config->ca_file : COLO_PKI_CA_FILE);
    pki->files[FILE_CRL] = g_strdup(config->crl_file ? config->crl_file : COLO_PKI_CRL_FILE);
    pki->crl_optional = !config->crl_file;
    if (!cert)
        cert = server ? COLO_PKI_SERVER_CERT_FILE : COLO_PKI_CLIENT_CERT_FILE;
    if (!key)
        key = server ? COLO_PKI_SERVER_KEY_FILE : COLO_PKI_CLIENT_KEY_FILE;
    pki->files[FILE_CERT] = g_strdup(cert);
    pki->files[FILE_KEY] = g_strdup(key);
    pki->allowed_dn_list = g_strdupv(config->allowed_dn_list);

    for (int i = 0; i < N_FILES; i++)
        pki->stamps[i] = stamp_of(pki->files[i]);
    pki->current = load(pki, error);
    if (!pki->current) {
        colo_pki_free(pki);
        return NULL;
    }
    return pki;
}

void colo_pki_free(ColoPki *pki)
{
    if (!pki)
        return;
    if (pki->current)
        colo_pki_creds_unref(pki->current);
    for (int i = 0; i < N_FILES; i++)
        g_free(pki->files[i]);
    g_strfreev(pki->allowed_dn_list);
    g_mutex_clear(&pki->lock);
    g_free(pki);
}

ColoPkiCreds *colo_pki_get(ColoPki *pki)
{
    FileStamp now[N_FILES];
    bool changed = false;
    ColoPkiCreds *creds;

    for (int i = 0; i < N_FILES; i++)
        now[i] = stamp_of(pki->files[i]);

    g_mutex_lock(&pki->lock);
    for (int i = 0; i < N_FILES; i++)
        changed = changed || !stamps_equal(&now[i], &pki->stamps[i]);
    if (changed) {
        g_autoptr(GError) error = NULL;
        ColoPkiCreds *fresh = load(pki, &error);

        memcpy(pki->stamps, now, sizeof(now));
        if (fresh) {
            colo_pki_creds_unref(pki->current);
            pki->current = fresh;
            colo_info("certificates were read again: '%s' or a file beside it changed",
                      pki->files[FILE_CERT]);
        } else {
            colo_warn("%s; the certificates read before stay in use", error->message);
        }
    }
    creds = pki->current;
    g_atomic_int_inc(&creds->refs);
    g_mutex_unlock(&pki->lock);
    return creds;
}

void colo_pki_creds_unref(ColoPkiCreds *creds)
{
    if (!g_atomic_int_dec_and_test(&creds->refs))
        return;
    gnutls_certificate_free_credentials(creds->creds);
    g_free(creds);
}

gnutls_certificate_credentials_t colo_pki_creds_gnutls(ColoPkiCreds *creds)
{
    return creds->creds;
}

/* The peer's own certificate, for gnutls_x509_crt_deinit(); NULL: it showed none. */
static gnutls_x509_crt_t peer_cert(gnutls_session_t session)
{
    unsigned n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
    gnutls_x509_crt_t cert;

    if (!chain || n == 0)
        return NULL;
    gnutls_x509_crt_init(&cert);
    if (gnutls_x509_crt_import(cert, &chain[0], GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(cert);
        return NULL;
    }
    return cert;
}

typedef int (*DnFunc)(gnutls_x509_crt_t, char *, size_t *);

static char *dn_text(gnutls_x509_crt_t cert, DnFunc get)
{
    size_t size = 0;
    char *text;

    if (get(cert, NULL, &size) != GNUTLS_E_SHORT_MEMORY_BUFFER)
        return g_strdup("(no name)");
    text = g_malloc0(size + 1);
    if (get(cert, text, &size) < 0)
        text[0] = '\0';
    return text;
}

/* DNS names and addresses of @cert's SAN, else its CN; never NULL. */
static char **cert_names(gnutls_x509_crt_t cert)
{
    GPtrArray *names = g_ptr_array_new();

    for (unsigned i = 0;; i++) {
        char buffer[256];
        size_t size = sizeof(buffer) - 1;
        int type = gnutls_x509_crt_get_subject_alt_name(cert, i, buffer, &size, NULL);

        if (type == GNUTLS_E_SHORT_MEMORY_BUFFER)
            continue;
        if (type < 0)
            break;
        if (type == GNUTLS_SAN_DNSNAME) {
            g_ptr_array_add(names, g_strndup(buffer, size));
        } else if (type == GNUTLS_SAN_IPADDRESS && (size == 4 || size == 16)) {
            g_autoptr(GInetAddress) address = g_inet_address_new_from_bytes(
                (const guint8 *)buffer, size == 4 ? G_SOCKET_FAMILY_IPV4 : G_SOCKET_FAMILY_IPV6);

            g_ptr_array_add(names, g_inet_address_to_string(address));
        }
    }
    if (names->len == 0) {
        char cn[256];
        size_t size = sizeof(cn);

        if (gnutls_x509_crt_get_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &size) == 0)
            g_ptr_array_add(names, g_strdup(cn));
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

/* What @status of the verification means and what to do about it. */
static char *explain(ColoPki *pki, gnutls_x509_crt_t cert, unsigned status, const char *host)
{
    if (status & GNUTLS_CERT_REVOKED)
        return g_strdup_printf("is revoked by the list '%s'; issue a new certificate for that host",
                               pki->files[FILE_CRL]);
    if (status & (GNUTLS_CERT_SIGNER_NOT_FOUND | GNUTLS_CERT_SIGNER_NOT_CA |
                  GNUTLS_CERT_SIGNATURE_FAILURE)) {
        g_autofree char *issuer = dn_text(cert, gnutls_x509_crt_get_issuer_dn);

        return g_strdup_printf("was issued by '%s', which is not the CA in '%s'; both hosts need "
                               "certificates of the same CA",
                               issuer, pki->files[FILE_CA]);
    }
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return g_strdup("is not valid yet; compare the clocks of both hosts");
    if (status & GNUTLS_CERT_EXPIRED)
        return g_strdup("has expired; renew it");
    if (status & GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED)
        return g_strdup_printf("cannot be checked, the revocation list '%s' has expired; install "
                               "a new one",
                               pki->files[FILE_CRL]);
    if (status & GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE)
        return g_strdup_printf("cannot be checked, the revocation list '%s' is from the future; "
                               "compare the clocks of both hosts",
                               pki->files[FILE_CRL]);
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
        g_auto(GStrv) names = cert_names(cert);
        g_autofree char *list = g_strjoinv(", ", names);

        return g_strdup_printf("is not for host '%s' but for: %s; define the pair with one of "
                               "these names or issue a certificate for '%s'",
                               host, *list ? list : "no name", host);
    }
    if (status & GNUTLS_CERT_PURPOSE_MISMATCH)
        return g_strdup_printf("is not meant for a TLS %s; issue it with that purpose",
                               pki->side == COLO_PKI_LISTENER ? "client (tls_www_client)"
                                                              : "server (tls_www_server)");
    gnutls_datum_t text = {NULL, 0};
    char *copy;

    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    copy = g_strdup_printf("was refused: %s", text.data ? (char *)text.data : "unknown reason");
    gnutls_free(text.data);
    return copy;
}

static bool dn_is_allowed(ColoPki *pki, const char *dn)
{
    if (!pki->allowed_dn_list || !pki->allowed_dn_list[0])
        return true;
    for (char **pattern = pki->allowed_dn_list; *pattern; pattern++) {
        if (fnmatch(*pattern, dn, 0) == 0)
            return true;
    }
    return false;
}

gboolean colo_pki_verify_peer(ColoPki *pki, gnutls_session_t session, const char *address,
                              const char *host, char **dn, GError **error)
{
    bool listener = pki->side == COLO_PKI_LISTENER;
    const char *purpose = listener ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
    gnutls_typed_vdata_st data[2] = {
        {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (unsigned char *)(uintptr_t)purpose},
        {.type = GNUTLS_DT_DNS_HOSTNAME, .data = (unsigned char *)(uintptr_t)host},
    };
    gnutls_x509_crt_t cert = peer_cert(session);
    g_autofree char *name = NULL;
    unsigned status = 0;
    int rc;

    if (!cert) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH,
                    "%s showed no certificate; a %s certificate is needed there (libvirt's PKI "
                    "layout)",
                    address, listener ? "client" : "server");
        return FALSE;
    }
    name = dn_text(cert, gnutls_x509_crt_get_dn);
    rc = gnutls_certificate_verify_peers(session, data, host ? 2 : 1, &status);
    if (rc < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH,
                    "certificate '%s' of %s cannot be verified: %s", name, address,
                    gnutls_strerror(rc));
    } else if (status != 0) {
        g_autofree char *why = explain(pki, cert, status, host);

        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH, "certificate '%s' of %s %s", name, address,
                    why);
    } else if (listener && !dn_is_allowed(pki, name)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH,
                    "certificate '%s' of %s is not in the list of virtcolod.conf of the host that "
                    "refused it: add it to tls_allowed_dn_list (hosts) or tls_client_dn_list "
                    "(clients)",
                    name, address);
    } else {
        if (dn)
            *dn = g_steal_pointer(&name);
        gnutls_x509_crt_deinit(cert);
        return TRUE;
    }
    gnutls_x509_crt_deinit(cert);
    return FALSE;
}

gboolean colo_pki_peer_has_name(gnutls_session_t session, const char *host)
{
    gnutls_x509_crt_t cert = peer_cert(session);
    gboolean matches;

    if (!cert)
        return FALSE;
    matches = gnutls_x509_crt_check_hostname(cert, host) != 0;
    if (!matches) {
        /* GnuTLS looks at the CN of certificates for servers only; libvirt's client certificates
         * have the host's name there. */
        g_auto(GStrv) names = cert_names(cert);

        for (char **name = names; *name && !matches; name++)
            matches = g_ascii_strcasecmp(*name, host) == 0;
    }
    gnutls_x509_crt_deinit(cert);
    return matches;
}

/* The first certificate in PEM @file, for gnutls_x509_crt_deinit(); NULL and @error. */
static gnutls_x509_crt_t read_cert(const char *file, GError **error)
{
    gnutls_datum_t pem = {NULL, 0};
    gnutls_x509_crt_t cert = NULL;
    int rc;

    errno = 0;
    rc = gnutls_load_file(file, &pem);
    if (rc == 0) {
        gnutls_x509_crt_init(&cert);
        rc = gnutls_x509_crt_import(cert, &pem, GNUTLS_X509_FMT_PEM);
        gnutls_free(pem.data);
    }
    if (rc < 0) {
        load_error(error, "certificate", file, rc);
        g_clear_pointer(&cert, gnutls_x509_crt_deinit);
    }
    return cert;
}

ColoCertInfo *colo_pki_read_cert(const char *file, GError **error)
{
    gnutls_x509_crt_t cert = read_cert(file, error);
    ColoCertInfo *info;

    if (!cert)
        return NULL;
    info = g_new0(ColoCertInfo, 1);
    info->file = g_strdup(file);
    info->subject = dn_text(cert, gnutls_x509_crt_get_dn);
    info->issuer = dn_text(cert, gnutls_x509_crt_get_issuer_dn);
    info->names = cert_names(cert);
    info->activation = gnutls_x509_crt_get_activation_time(cert);
    info->expiry = gnutls_x509_crt_get_expiration_time(cert);
    gnutls_x509_crt_deinit(cert);
    return info;
}

void colo_cert_info_free(ColoCertInfo *info)
{
    if (!info)
        return;
    g_free(info->file);
    g_free(info->subject);
    g_free(info->issuer);
    g_strfreev(info->names);
    g_free(info);
}

gboolean colo_pki_check(const ColoTlsConfig *config, ColoPkiSide side, GError **error)
{
    g_autoptr(ColoPki) pki = colo_pki_new(config, side, error);
    gnutls_x509_trust_list_t trust;
    gnutls_x509_crt_t cert;
    unsigned status = 0;
    int rc;

    if (!pki)
        return FALSE;
    cert = read_cert(pki->files[FILE_CERT], error);
    if (!cert)
        return FALSE;
    gnutls_x509_trust_list_init(&trust, 0);
    rc = gnutls_x509_trust_list_add_trust_file(
        trust, pki->files[FILE_CA],
        g_file_test(pki->files[FILE_CRL], G_FILE_TEST_EXISTS) ? pki->files[FILE_CRL] : NULL,
        GNUTLS_X509_FMT_PEM, 0, 0);
    if (rc >= 0)
        rc = gnutls_x509_trust_list_verify_crt(trust, &cert, 1, 0, &status, NULL);
    if (rc < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH, "certificate '%s' cannot be verified: %s",
                    pki->files[FILE_CERT], gnutls_strerror(rc));
    } else if (status != 0) {
        g_autofree char *why = explain(pki, cert, status, "");

        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH, "certificate '%s' %s",
                    pki->files[FILE_CERT], why);
    }
    gnutls_x509_crt_deinit(cert);
    gnutls_x509_trust_list_deinit(trust, 1);
    return rc >= 0 && status == 0;
}
