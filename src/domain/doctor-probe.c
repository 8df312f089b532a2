/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/doctor-probe.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 500
#define EXPIRY_WARNING_DAYS 30
#define DAY_SECONDS (24 * 60 * 60)

void colo_doctor_add(ColoFindings *findings, const char *severity, const char *check,
                     const char *fix, const char *format, ...)
{
    g_autofree char *found = NULL;
    va_list ap;

    va_start(ap, format);
    found = g_strdup_vprintf(format, ap);
    va_end(ap);
    json_object_array_add(findings->array,
                          colo_json_build("host", "s", findings->host, "severity", "s", severity,
                                          "check", "s", check, "found", "s", found, "fix", "s", fix,
                                          NULL));
}

/* ---- certificates ---- */

static char *date_of(int64_t seconds)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(seconds);

    return when ? g_date_time_format(when, "%Y-%m-%d") : g_strdup("?");
}

/* Dates of @file. */
static void judge_cert(ColoFindings *f, const char *check, const char *file, const char *fix,
                       int64_t now)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoCertInfo) info = colo_pki_read_cert(file, &error);
    g_autofree char *date = info ? date_of(info->expiry) : NULL;

    if (!info)
        colo_doctor_bad(f, "error", check, fix, "%s", error->message);
    else if (info->expiry <= now)
        colo_doctor_bad(f, "error", check, fix, "%s expired on %s", file, date);
    else if (info->activation > now)
        colo_doctor_bad(f, "error", check, "correct the clock of this host", "%s is not valid yet",
                        file);
    else if (info->expiry - now < EXPIRY_WARNING_DAYS * DAY_SECONDS)
        colo_doctor_bad(f, "warning", check, fix, "%s expires on %s, in %d days", file, date,
                        (int)((info->expiry - now) / DAY_SECONDS));
    else
        colo_doctor_ok(f, check, "%s (%s) is valid until %s", file, info->subject, date);
}

static void judge_side(ColoFindings *f, const ColoTlsConfig *tls, ColoPkiSide side, int64_t now)
{
    gboolean server = side == COLO_PKI_LISTENER;
    const char *check = server ? "server certificate" : "client certificate";
    const char *file = server ? tls->server_cert_file : tls->client_cert_file;
    const char *fix = "have the CA issue a new one ('virtcolod-setup'); it is read without a "
                      "restart";
    g_autoptr(GError) error = NULL;

    if (!file)
        file = server ? COLO_PKI_SERVER_CERT_FILE : COLO_PKI_CLIENT_CERT_FILE;
    if (colo_pki_check(tls, side, &error))
        judge_cert(f, check, file, fix, now); /* key and CA fit; what remains are the dates */
    else
        colo_doctor_bad(f, "error", check, fix, "%s", error->message);
}

static void judge_crl(ColoFindings *f, const char *configured, int64_t now)
{
    const char *file = configured ? configured : COLO_PKI_CRL_FILE;
    const char *fix = "have the CA issue a new list (certtool --generate-crl)";
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_autofree char *date = NULL;
    gnutls_x509_crl_t crl;
    gnutls_datum_t datum;
    time_t next;
    gsize len;
    int rc;

    if (!g_file_get_contents(file, &text, &len, &error)) {
        if (!configured && g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            colo_doctor_ok(f, "revocation list", "none (%s): no certificate is revoked", file);
        else
            colo_doctor_bad(f, "error", "revocation list", fix, "%s", error->message);
        return;
    }
    datum = (gnutls_datum_t){(unsigned char *)text, (unsigned)len};
    if (gnutls_x509_crl_init(&crl) < 0)
        return;
    rc = gnutls_x509_crl_import(crl, &datum, GNUTLS_X509_FMT_PEM);
    next = rc < 0 ? 0 : gnutls_x509_crl_get_next_update(crl);
    date = date_of(next);
    if (rc < 0)
        colo_doctor_bad(f, "error", "revocation list", fix, "%s cannot be read: %s", file,
                        gnutls_strerror(rc));
    else if (next != (time_t)-1 && next < now)
        colo_doctor_bad(f, "error", "revocation list", fix, "%s was to be replaced by %s", file,
                        date);
    else if (next != (time_t)-1 && next - now < EXPIRY_WARNING_DAYS * DAY_SECONDS)
        colo_doctor_bad(f, "warning", "revocation list", fix, "%s is to be replaced by %s", file,
                        date);
    else
        colo_doctor_ok(f, "revocation list", "%s revokes %d certificate(s)", file,
                       gnutls_x509_crl_get_crt_count(crl));
    gnutls_x509_crl_deinit(crl);
}

void colo_doctor_judge_pki(ColoFindings *f, const ColoTlsConfig *tls, int64_t now)
{
    judge_cert(f, "CA certificate", tls->ca_file ? tls->ca_file : COLO_PKI_CA_FILE,
               "make a new CA and new certificates on both hosts ('virtcolod-setup')", now);
    judge_side(f, tls, COLO_PKI_LISTENER, now);
    judge_side(f, tls, COLO_PKI_DIALLER, now);
    judge_crl(f, tls->crl_file, now);
}

/* ---- bridges ---- */

/* The number in file @sys/class/net/@dev/@name; -1 if there is none. */
static int64_t read_number(const char *sys, const char *dev, const char *name)
{
    g_autofree char *path = g_build_filename(sys, "class/net", dev, name, NULL);
    g_autofree char *text = NULL;
    gint64 value;

    if (!g_file_get_contents(path, &text, NULL, NULL) ||
        !g_ascii_string_to_signed(g_strstrip(text), 10, 0, G_MAXINT64, &value, NULL))
        return -1;
    return value;
}

static gboolean is_tap(const char *sys, const char *dev)
{
    g_autofree char *path = g_build_filename(sys, "class/net", dev, "tun_flags", NULL);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void judge_mtu(ColoFindings *f, const char *sys, const char *bridge, const char *check)
{
    g_autofree char *path = g_build_filename(sys, "class/net", bridge, "brif", NULL);
    g_autoptr(GDir) ports = g_dir_open(path, 0, NULL);
    int64_t mtu = read_number(sys, bridge, "mtu");
    unsigned uplinks = 0;
    const char *port;

    while (ports && (port = g_dir_read_name(ports))) {
        int64_t theirs = read_number(sys, port, "mtu");
        g_autofree char *fix = NULL;

        if (is_tap(sys, port))
            continue;
        uplinks++;
        if (theirs == mtu)
            continue;
        fix = g_strdup_printf("ip link set dev %s mtu %" G_GINT64_FORMAT, bridge, theirs);
        colo_doctor_bad(f, "warning", check, fix,
                        "MTU %" G_GINT64_FORMAT " differs from %" G_GINT64_FORMAT
                        " of its port %s: large frames are lost",
                        mtu, theirs, port);
    }
    if (ports && uplinks == 0)
        colo_doctor_ok(f, check, "has no uplink: its domains are reached from this host only");
}

void colo_doctor_judge_bridge(ColoFindings *f, const char *sys, const char *bridge)
{
    g_autofree char *check = g_strdup_printf("bridge %s", bridge);
    int64_t delay = read_number(sys, bridge, "bridge/forward_delay"); /* in 1/100 s */
    int64_t stp = read_number(sys, bridge, "bridge/stp_state");
    g_autofree char *fix = NULL;

    if (read_number(sys, bridge, "mtu") < 0) {
        colo_doctor_bad(f, "warning", check, "create it, or start its libvirt network",
                        "there is no such device on this host");
        return;
    }
    if (delay < 0 || stp < 0) {
        colo_doctor_bad(f, "warning", check, "use a Linux bridge",
                        "is no Linux bridge (Open vSwitch?): forward delay and STP are not "
                        "checked");
        return;
    }
    if (stp > 0) {
        fix = g_strdup_printf("ip link set dev %s type bridge stp_state 0 forward_delay 0 (in a "
                              "libvirt network: <bridge stp='off' delay='0'/>)",
                              bridge);
        colo_doctor_bad(f, "warning", check, fix,
                        "STP is on: after a takeover the tap stays silent for twice the forward "
                        "delay of %.2f s",
                        (double)delay / 100);
    } else if (delay > 0) {
        fix = g_strdup_printf("ip link set dev %s type bridge forward_delay 0 (in a libvirt "
                              "network: <bridge stp='off' delay='0'/>)",
                              bridge);
        colo_doctor_bad(f, "warning", check, fix,
                        "the forward delay is %.2f s; with STP switched on a takeover would wait "
                        "for it",
                        (double)delay / 100);
    } else {
        colo_doctor_ok(f, check, "STP off, forward delay 0");
    }
    judge_mtu(f, sys, bridge, check);
}

/* ---- room ---- */

void colo_doctor_judge_space(ColoFindings *f, const char *folder, uint64_t least)
{
    g_autofree char *fix = g_strdup_printf("free space below %s, or set state_dir in "
                                           "virtcolod.conf to a larger file system",
                                           folder);
    struct statvfs fs;
    uint64_t bytes;

    if (statvfs(folder, &fs) < 0) {
        colo_doctor_bad(f, "error", "state directory", fix, "%s: %s", folder, g_strerror(errno));
        return;
    }
    bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (bytes < least)
        colo_doctor_bad(f, "warning", "state directory", fix,
                        "%s has %" G_GUINT64_FORMAT " MiB free", folder, bytes >> 20);
    else
        colo_doctor_ok(f, "state directory", "%s has %" G_GUINT64_FORMAT " MiB free", folder,
                       bytes >> 20);
}

void colo_doctor_judge_memory(ColoFindings *f, const char *meminfo, uint64_t least)
{
    g_autofree char *text = NULL;
    unsigned long long kib;
    const char *line;

    if (!g_file_get_contents(meminfo, &text, NULL, NULL))
        return;
    line = strstr(text, "MemAvailable:");
    if (!line || sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        return;
    if (kib * 1024 < least)
        colo_doctor_bad(f, "warning", "memory", "stop other programs or add memory",
                        "%llu MiB available; a copy of a domain needs twice its memory", kib >> 10);
    else
        colo_doctor_ok(f, "memory", "%llu MiB available; a copy of a domain needs twice its memory",
                       kib >> 10);
}

/* ---- ports ---- */

static gboolean connects(const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err = 0;
    socklen_t size = sizeof(err);
    gboolean ok;

    if (fd < 0)
        return FALSE;
    ok = connect(fd, address, len) == 0;
    if (!ok && errno == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};

        ok = poll(&p, 1, CONNECT_TIMEOUT_MS) == 1 &&
             getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == 0 && err == 0;
    }
    close(fd);
    return ok;
}

gboolean colo_doctor_port_answers(uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    return connects((const struct sockaddr *)&in, sizeof(in)) ||
           connects((const struct sockaddr *)&in6, sizeof(in6));
}
