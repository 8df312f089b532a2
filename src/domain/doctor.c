/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-doctor on one host: a table of checks, each a function that adds its findings.
 *
 * A finding is {"host", "severity": "ok"|"warning"|"error", "check", "found", "fix"}: error is what
 * makes protection or a failover fail, warning what makes it worse or soon fail. "fix" is a command
 * or setting, empty when nothing is to be done. All checks together stay below the 4 s that a peer
 * waits for them: each has its own limit.
 */
#include "domain/eligibility.h"

#include "domain/commands.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#define CONN_TIMEOUT_MS 800u
#define HELLO_TIMEOUT_MS 500u
/* Overlays, cores and logs need room; below this a host is about to fail for other reasons. */
#define MIN_STATE_BYTES (256ull << 20)
#define MIN_MEMORY_BYTES (512ull << 20)

#define CONNECT_TIMEOUT_MS 500
#define EXPIRY_WARNING_DAYS 30
#define DAY_SECONDS (24 * 60 * 60)

typedef struct {
    const char *host;  /* borrowed */
    JsonObject *array; /* the owner's */
} ColoFindings;

/* Adds one finding; @severity "ok", "warning" or "error". */
static void colo_doctor_add(ColoFindings *findings, const char *severity, const char *check,
                     const char *fix, const char *format, ...) G_GNUC_PRINTF(5, 6);
#define colo_doctor_ok(findings, check, ...) \
    colo_doctor_add(findings, "ok", check, "", __VA_ARGS__)
#define colo_doctor_bad(findings, severity, check, fix, ...) \
    colo_doctor_add(findings, severity, check, fix, __VA_ARGS__)

/* CA, both certificates and the CRL at @now (seconds since the epoch). */
static void colo_doctor_judge_pki(ColoFindings *findings, const ColoTlsConfig *tls, int64_t now);

/* Forward delay, STP and MTU of @bridge below @sys, normally "/sys". */
static void colo_doctor_judge_bridge(ColoFindings *findings, const char *sys, const char *bridge);

/* Free bytes of the file system of @folder. */
static void colo_doctor_judge_space(ColoFindings *findings, const char *folder, uint64_t least);

/* MemAvailable of @meminfo, a file like proc_meminfo(5). */
static void colo_doctor_judge_memory(ColoFindings *findings, const char *meminfo, uint64_t least);

/* TRUE if a TCP connection to @port of this host is accepted within 500 ms. */
static gboolean colo_doctor_port_answers(uint16_t port);

static void colo_doctor_add(ColoFindings *findings, const char *severity, const char *check,
                     const char *fix, const char *format, ...)
{
    g_autofree char *found = NULL;
    va_list ap;

    va_start(ap, format);
    found = g_strdup_vprintf(format, ap);
    va_end(ap);
    json_object_array_add(findings->array,
                          colo_json_build("host", "s", findings->host, "severity", "s", severity,
                                          "check", "s", check, "found", "s", found, "fix", "s",
                                          fix, NULL));
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
        colo_doctor_bad(f, "error", check, "correct the clock of this host",
                        "%s is not valid yet", file);
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

static void colo_doctor_judge_pki(ColoFindings *f, const ColoTlsConfig *tls, int64_t now)
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

static void colo_doctor_judge_bridge(ColoFindings *f, const char *sys, const char *bridge)
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

static void colo_doctor_judge_space(ColoFindings *f, const char *folder, uint64_t least)
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

static void colo_doctor_judge_memory(ColoFindings *f, const char *meminfo, uint64_t least)
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
                        "%llu MiB available; a copy of a domain needs twice its memory",
                        kib >> 10);
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

static gboolean colo_doctor_port_answers(uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port),
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    return connects((const struct sockaddr *)&in, sizeof(in)) ||
           connects((const struct sockaddr *)&in6, sizeof(in6));
}

typedef struct {
    ColoManager *m;
    virConnectPtr conn; /* NULL: libvirtd does not answer */
    ColoFindings findings;
} Doctor;

/* ---- this host's programs ---- */

static void check_certificates(Doctor *d)
{
    colo_doctor_judge_pki(&d->findings, &d->m->host.config->tls,
                          g_get_real_time() / G_USEC_PER_SEC);
}

static void check_ports(Doctor *d)
{
    const ColoConfig *config = d->m->host.config;

    if (d->m->server)
        colo_doctor_ok(&d->findings, "control port", "virtcolod listens on TCP port %u",
                       config->control_port);
    else
        colo_doctor_bad(&d->findings, "error", "control port",
                        "correct the certificates, then 'systemctl restart virtcolod'",
                        "virtcolod does not listen on TCP port %u: no peer can connect",
                        config->control_port);
    if (colo_doctor_port_answers(config->data_port))
        colo_doctor_ok(&d->findings, "data port", "TCP port %u is open", config->data_port);
    else
        colo_doctor_bad(&d->findings, "error", "data port",
                        "systemctl enable --now colo-comparator-data.socket",
                        "nobody listens on TCP port %u", config->data_port);
}

static void check_comparator(Doctor *d)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) hello = colo_comparator_call(
        d->m->host.comparator, "hello", colo_json_build("version", "u", (uint64_t)1, NULL), -1,
        HELLO_TIMEOUT_MS, &error);

    if (hello)
        colo_doctor_ok(&d->findings, "comparator",
                       "colo-comparator runs (pid %" G_GUINT64_FORMAT
                       ", protocol %" G_GUINT64_FORMAT ")",
                       colo_json_peek_uint(hello, "pid", 0),
                       colo_json_peek_uint(hello, "version", 0));
    else
        colo_doctor_bad(&d->findings, "error", "comparator",
                        "systemctl start colo-comparator; then see 'journalctl -u "
                        "colo-comparator'",
                        "colo-comparator does not answer: %s", error->message);
}

static void check_versions(Doctor *d)
{
    unsigned long lib = 0, qemu = 0;

    if (!d->conn) {
        colo_doctor_bad(&d->findings, "error", "libvirtd", "systemctl start libvirtd",
                        "libvirtd does not answer");
        return;
    }
    virConnectGetLibVersion(d->conn, &lib);
    virConnectGetVersion(d->conn, &qemu);
    colo_doctor_ok(&d->findings, "libvirtd", "libvirt %lu.%lu.%lu with QEMU %lu.%lu.%lu",
                   lib / 1000000, lib / 1000 % 1000, lib % 1000, qemu / 1000000,
                   qemu / 1000 % 1000, qemu % 1000);
}

static void check_kvm(Doctor *d)
{
    gboolean emulation = d->m->host.config->allow_emulation;
    char *caps = d->conn ? virConnectGetCapabilities(d->conn) : NULL;
    gboolean kvm = caps && strstr(caps, "<domain type='kvm'") != NULL;

    if (kvm)
        colo_doctor_ok(&d->findings, "kvm", "libvirt offers KVM");
    else if (caps)
        colo_doctor_bad(&d->findings, emulation ? "warning" : "error", "kvm",
                        "switch virtualization on in the firmware, 'modprobe kvm_intel' or "
                        "'modprobe kvm_amd', then 'systemctl restart libvirtd'",
                        "libvirt offers no KVM (%s)%s",
                        access("/dev/kvm", F_OK) == 0 ? "/dev/kvm is there but not usable"
                                                      : "there is no /dev/kvm",
                        emulation ? "; allow_emulation is set" : "");
    free(caps);
}

/* ---- network ---- */

/* Names of the bridges under the NICs of all domains. */
static GHashTable *bridges_of_domains(Doctor *d)
{
    GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    virDomainPtr *domains = NULL;
    int n = d->conn ? virConnectListAllDomains(d->conn, &domains, 0) : 0;

    for (int i = 0; i < n; i++) {
        char *xml = virDomainGetXMLDesc(domains[i], 0);
        g_autoptr(ColoDomainInfo) info = xml ? colo_domain_info_parse(xml, NULL) : NULL;

        for (guint k = 0; info && k < info->nics->len; k++) {
            const ColoNicInfo *nic = g_ptr_array_index(info->nics, k);
            virNetworkPtr net = !nic->bridge && nic->network
                                    ? virNetworkLookupByName(d->conn, nic->network)
                                    : NULL;
            char *bridge = net ? virNetworkGetBridgeName(net) : NULL;
            const char *name = nic->bridge ? nic->bridge : bridge;

            if (name && !g_str_has_prefix(name, "colo-q"))
                g_hash_table_add(names, g_strdup(name));
            free(bridge);
            if (net)
                virNetworkFree(net);
        }
        free(xml);
        virDomainFree(domains[i]);
    }
    free(domains);
    return names;
}

static void check_bridges(Doctor *d)
{
    g_autoptr(GHashTable) names = bridges_of_domains(d);
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, names);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        colo_doctor_judge_bridge(&d->findings, "/sys", name);
}

/* ---- room ---- */

static void check_state_dir(Doctor *d)
{
    colo_doctor_judge_space(&d->findings, d->m->host.config->state_dir, MIN_STATE_BYTES);
}

static void check_pools(Doctor *d)
{
    uint64_t need = d->m->host.config->checkpoint_max_overlay_bytes;
    virStoragePoolPtr *pools = NULL;
    int n = d->conn ? virConnectListAllStoragePools(d->conn, &pools,
                                                    VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
                    : 0;

    for (int i = 0; i < n; i++) {
        const char *name = virStoragePoolGetName(pools[i]);
        g_autofree char *check = g_strdup_printf("storage pool %s", name);
        virStoragePoolInfo info;

        if (virStoragePoolGetInfo(pools[i], &info) == 0) {
            if (info.available >= need)
                colo_doctor_ok(&d->findings, check, "%llu MiB free", info.available >> 20);
            else
                colo_doctor_bad(&d->findings, "warning", check,
                                "free space there, or lower checkpoint_max_overlay_bytes in "
                                "virtcolod.conf",
                                "%llu MiB free, the overlays of one disk may need %" G_GUINT64_FORMAT
                                " MiB",
                                info.available >> 20, need >> 20);
        }
        virStoragePoolFree(pools[i]);
    }
    free(pools);
}

static void check_memory(Doctor *d)
{
    colo_doctor_judge_memory(&d->findings, "/proc/meminfo", MIN_MEMORY_BYTES);
}

/* ---- arbiter, clock ---- */

static void check_arbiter(Doctor *d)
{
    ColoArbiterKind kind = colo_arbiter_kind(d->m->host.arbiter);
    const ColoArbiterConfig *config = &d->m->host.config->arbiter;
    g_autofree char *endpoints = config->endpoints ? g_strjoinv(", ", config->endpoints) : NULL;
    g_autoptr(GError) error = NULL;

    if (kind == COLO_ARBITER_MANUAL)
        colo_doctor_bad(&d->findings, "warning", "arbiter",
                        "arbiter = \"etcd\" and its endpoints in virtcolod.conf",
                        "manual: when a whole host or the link is lost, output is held until the "
                        "operator says 'virsh-colo colo-failover DOMAIN --i-am-sure'");
    else if (colo_arbiter_probe(d->m->host.arbiter, &error))
        colo_doctor_ok(&d->findings, "arbiter", "%s answers (%s)", colo_arbiter_kind_name(kind),
                       endpoints ? endpoints : "");
    else
        colo_doctor_bad(&d->findings, "error", "arbiter",
                        "start the arbiter, open its port to this host, check its certificates in "
                        "virtcolod.conf",
                        "%s does not answer (%s): %s", colo_arbiter_kind_name(kind),
                        endpoints ? endpoints : "", error->message);
}

static void check_clock(Doctor *d)
{
    struct timex timex = {0};

    if (adjtimex(&timex) < 0)
        return;
    if (timex.status & STA_UNSYNC)
        colo_doctor_bad(&d->findings, "warning", "clock", "apt install chrony",
                        "the clock is not synchronized: certificates and logs of the two hosts "
                        "may disagree");
    else
        colo_doctor_ok(&d->findings, "clock", "synchronized, at most %ld ms off",
                       timex.maxerror / 1000);
}

/* ---- domains and pairs ---- */

static void check_domain(Doctor *d, virDomainPtr dom)
{
    ColoEligibilityPolicy policy = {.allow_emulation = d->m->host.config->allow_emulation};
    g_autofree char *check = g_strdup_printf("domain %s", virDomainGetName(dom));
    g_autoptr(GString) found = g_string_new(NULL);
    g_autoptr(GString) fix = g_string_new(NULL);
    g_autoptr(GPtrArray) list = NULL;
    char *xml = virDomainGetXMLDesc(dom, 0);

    list = xml ? colo_eligibility_check(xml, &policy, NULL) : NULL;
    free(xml);
    for (guint i = 0; list && i < list->len; i++) {
        const ColoFinding *f = g_ptr_array_index(list, i);

        if (f->severity != COLO_FINDING_REFUSED)
            continue;
        g_string_append_printf(found, "%s%s: %s", found->len ? "; " : "", f->device, f->found);
        g_string_append_printf(fix, "%s%s: %s", fix->len ? "; " : "", f->device, f->remedy);
    }
    if (list && found->len)
        colo_doctor_add(&d->findings, "ok", check, fix->str, "cannot be protected as it runs: %s",
                        found->str);
    else if (list)
        colo_doctor_ok(&d->findings, check, "can be protected");
}

static void check_domains(Doctor *d)
{
    virDomainPtr *domains = NULL;
    int n = d->conn ? virConnectListAllDomains(d->conn, &domains,
                                               VIR_CONNECT_LIST_DOMAINS_ACTIVE)
                    : 0;

    for (int i = 0; i < n; i++) {
        check_domain(d, domains[i]);
        virDomainFree(domains[i]);
    }
    free(domains);
}

static void check_pairs(Doctor *d)
{
    g_autoptr(JsonObject) list = colo_pairs_list(d->m->host.pairs);
    JsonObject *pairs = colo_json_peek(list, "pairs");

    for (size_t i = 0; pairs && i < json_object_array_length(pairs); i++) {
        JsonObject *pair = json_object_array_get_idx(pairs, i);
        const char *name = colo_json_peek_string(pair, "name", "");
        const char *state = colo_json_peek_string(pair, "state", "down");
        const char *peer = colo_json_peek_string(pair, "peer", "");
        g_autofree char *check = g_strdup_printf("pair %s", name);
        g_autoptr(JsonObject) info = colo_pairs_info(d->m->host.pairs, name, NULL);

        if (strcmp(state, "up") == 0)
            colo_doctor_ok(&d->findings, check, "the control channel to %s is up (%s)", peer,
                           colo_json_peek_string(info, "peer-version", "version not known"));
        else
            colo_doctor_bad(&d->findings, "error", check,
                            "start virtcolod there, open its control port, check name and "
                            "certificate ('virsh-colo colo-pair-info')",
                            "the control channel to %s is %s: %s", peer, state,
                            colo_json_peek_string(info, "last-error", "no message"));
    }
}

static void (*const checks[])(Doctor *) = {
    check_certificates, check_ports,   check_comparator, check_versions, check_kvm,
    check_bridges,      check_state_dir, check_pools,    check_memory,   check_arbiter,
    check_clock,        check_domains, check_pairs,
};

JsonObject *colo_doctor_local(ColoManager *m)
{
    Doctor d = {.m = m,
                .findings = {.host = m->host.config->host_name,
                             .array = json_object_new_array()}};

    d.conn = colo_virconn_get(m->host.virconn, CONN_TIMEOUT_MS, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(checks); i++)
        checks[i](&d);
    if (d.conn)
        virConnectClose(d.conn);
    return colo_json_build("findings", "o", d.findings.array, NULL);
}
