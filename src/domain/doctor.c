/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-doctor on one host: a table of checks, each a function that adds its findings.
 *
 * A finding is {"host", "severity": "ok"|"warning"|"error", "check", "found", "fix"}: error is what
 * makes protection or a failover fail, warning what makes it worse or soon fail. "fix" is a command
 * or setting, empty when nothing is to be done. All checks together stay below the 4 s that a peer
 * waits for them: each has its own limit.
 */
#include "domain/doctor-probe.h"
#include "domain/eligibility.h"

#include "domain/commands.h"
#include "domain/pool-map.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

#define CONN_TIMEOUT_MS 500u
#define PING_TIMEOUT_MS 1000u
#define HELLO_TIMEOUT_MS 500u
/* Overlays, cores and logs need room; below this a host is about to fail for other reasons. */
#define MIN_STATE_BYTES (256ull << 20)
#define MIN_MEMORY_BYTES (512ull << 20)

typedef struct {
    ColoManager *m;
    virConnectPtr conn;  /* NULL: libvirtd does not answer */
    const char *no_conn; /* why, for people */
    ColoFindings findings;
} Doctor;

/* ---- libvirtd that hangs ---- */

/* One question to libvirtd, asked on a thread of its own that may outlive the asking. */
typedef struct {
    GMutex lock;
    GCond done;
    virConnectPtr conn;
    gboolean answered;
} Ping;

static void ping_clear(gpointer data)
{
    Ping *ping = data;

    virConnectClose(ping->conn);
    g_mutex_clear(&ping->lock);
    g_cond_clear(&ping->done);
}

static gpointer ping_thread(gpointer data)
{
    Ping *ping = data;
    unsigned long version;
    gboolean ok = virConnectGetLibVersion(ping->conn, &version) == 0;

    g_mutex_lock(&ping->lock);
    ping->answered = ok;
    g_cond_signal(&ping->done);
    g_mutex_unlock(&ping->lock);
    g_atomic_rc_box_release_full(ping, ping_clear);
    return NULL;
}

/* TRUE if libvirtd answers within PING_TIMEOUT_MS: libvirt's own calls wait for ever. */
static gboolean libvirtd_answers(virConnectPtr conn)
{
    gint64 end = g_get_monotonic_time() + PING_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    Ping *ping = g_atomic_rc_box_new0(Ping);
    gboolean answered;

    g_mutex_init(&ping->lock);
    g_cond_init(&ping->done);
    virConnectRef(conn);
    ping->conn = conn;
    g_thread_unref(g_thread_new("doctor-ping", ping_thread, g_atomic_rc_box_acquire(ping)));
    g_mutex_lock(&ping->lock);
    while (!ping->answered && g_cond_wait_until(&ping->done, &ping->lock, end))
        ;
    answered = ping->answered;
    g_mutex_unlock(&ping->lock);
    g_atomic_rc_box_release_full(ping, ping_clear);
    return answered;
}

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
        colo_doctor_ok(
            &d->findings, "comparator",
            "colo-comparator runs (pid %" G_GUINT64_FORMAT ", protocol %" G_GUINT64_FORMAT ")",
            colo_json_peek_uint(hello, "pid", 0), colo_json_peek_uint(hello, "version", 0));
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
        colo_doctor_bad(&d->findings, "error", "libvirtd",
                        "systemctl restart libvirtd (domains go on)", "%s", d->no_conn);
        return;
    }
    virConnectGetLibVersion(d->conn, &lib);
    virConnectGetVersion(d->conn, &qemu);
    colo_doctor_ok(&d->findings, "libvirtd", "libvirt %lu.%lu.%lu with QEMU %lu.%lu.%lu",
                   lib / 1000000, lib / 1000 % 1000, lib % 1000, qemu / 1000000, qemu / 1000 % 1000,
                   qemu % 1000);
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

/* Adds the bridges to which a takeover would plug the copies that this host keeps. */
static void add_bridges_of_copies(Doctor *d, GHashTable *names)
{
    g_autoptr(GPtrArray) records = colo_store_domains(d->m->host.store, NULL);

    for (guint i = 0; records && i < records->len; i++) {
        const ColoDomainRecord *record = g_ptr_array_index(records, i);
        JsonObject *nics = colo_json_peek(record->details, "nics");

        for (size_t k = 0;
             record->role == COLO_ROLE_SECONDARY && nics && k < json_object_array_length(nics);
             k++) {
            const char *bridge =
                colo_json_peek_string(json_object_array_get_idx(nics, k), "bridge", NULL);

            if (bridge && !g_str_has_prefix(bridge, "colo-q"))
                g_hash_table_add(names, g_strdup(bridge));
        }
    }
}

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
            virNetworkPtr net =
                !nic->bridge && nic->network ? virNetworkLookupByName(d->conn, nic->network) : NULL;
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

    add_bridges_of_copies(d, names);
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
                colo_doctor_bad(
                    &d->findings, "warning", check,
                    "free space there, or lower checkpoint_max_overlay_bytes in "
                    "virtcolod.conf",
                    "%llu MiB free, the overlays of one disk may need %" G_GUINT64_FORMAT " MiB",
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

/* Adds a finding about a domain under protection; FALSE if it is not. */
static gboolean judge_protected(Doctor *d, const char *uuid, const char *check)
{
    ColoDomain *domain = colo_manager_find(d->m, uuid, NULL);
    g_autoptr(JsonObject) view = domain ? colo_domain_view(domain) : NULL;
    const char *role = colo_json_peek_string(view, "role", "none");
    const char *reason = colo_json_peek_string(view, "reason", NULL);
    ColoState state = colo_state_from_name(colo_json_peek_string(view, "state", ""));
    g_autofree char *fix = NULL;

    if (state == COLO_STATE_UNPROTECTED)
        return FALSE;
    if (state == COLO_STATE_DEGRADED || state == COLO_STATE_MANUAL || state == COLO_STATE_FENCED) {
        fix = g_strdup_printf("see 'virsh-colo colo-status %s'; 'virsh-colo colo-failover %s "
                              "--i-am-sure' only when the other host does not run it",
                              uuid, uuid);
        colo_doctor_bad(&d->findings, "error", check, fix, "%s (%s)%s%s", colo_state_name(state),
                        role, reason ? ": " : "", reason ? reason : "");
    } else {
        colo_doctor_ok(&d->findings, check, "%s (%s)%s%s", colo_state_name(state), role,
                       reason ? ": " : "", reason ? reason : "");
    }
    return TRUE;
}

static void check_domain(Doctor *d, virDomainPtr dom)
{
    ColoEligibilityPolicy policy = {.allow_emulation = d->m->host.config->allow_emulation};
    g_autofree char *check = g_strdup_printf("domain %s", virDomainGetName(dom));
    g_autoptr(GString) found = g_string_new(NULL);
    g_autoptr(GString) fix = g_string_new(NULL);
    g_autoptr(GPtrArray) list = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    char *xml;

    virDomainGetUUIDString(dom, uuid);
    if (judge_protected(d, uuid, check))
        return;
    xml = virDomainGetXMLDesc(dom, 0);
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
    int n =
        d->conn ? virConnectListAllDomains(d->conn, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE) : 0;

    for (int i = 0; i < n; i++) {
        check_domain(d, domains[i]);
        virDomainFree(domains[i]);
    }
    free(domains);
}

static void check_pool_map(Doctor *d, const char *check, JsonObject *map)
{
    g_autoptr(GError) error = NULL;

    if (d->conn && map && !colo_pool_map_check(d->conn, map, d->findings.host, &error))
        colo_doctor_bad(&d->findings, "error", check, "virsh pool-define-as, virsh pool-start",
                        "%s", error->message);
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
        const char *why = colo_json_peek_string(info, "last-error", NULL);

        if (strcmp(state, "up") == 0)
            colo_doctor_ok(&d->findings, check, "the control channel to %s is up (%s)", peer,
                           colo_json_peek_string(info, "peer-version", "version not known"));
        else
            colo_doctor_bad(&d->findings, "error", check,
                            "start virtcolod there, open its control port, check name and "
                            "certificate ('virsh-colo colo-pair-info')",
                            "the control channel to %s is %s%s%s", peer, state, why ? ": " : "",
                            why ? why : "");
        check_pool_map(d, check, colo_json_peek(info, "pool-map"));
    }
}

static void (*const checks[])(Doctor *) = {
    check_certificates, check_ports,     check_comparator, check_versions, check_kvm,
    check_bridges,      check_state_dir, check_pools,      check_memory,   check_arbiter,
    check_clock,        check_domains,   check_pairs,
};

JsonObject *colo_doctor_local(ColoManager *m)
{
    Doctor d = {.m = m,
                .findings = {.host = m->host.config->host_name, .array = json_object_new_array()}};

    d.conn = colo_virconn_get(m->host.virconn, CONN_TIMEOUT_MS, NULL);
    d.no_conn = d.conn ? "libvirtd is connected but does not answer" : "libvirtd does not answer";
    if (d.conn && !libvirtd_answers(d.conn)) {
        virConnectClose(d.conn);
        d.conn = NULL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(checks); i++)
        checks[i](&d);
    if (d.conn)
        virConnectClose(d.conn);
    return colo_json_build("findings", "o", d.findings.array, NULL);
}
