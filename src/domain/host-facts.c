/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/host-facts.h"

#include "domain/domxml.h"
#include "domain/xml-compat.h"
#include "util/error.h"

/* A secondary holds the guest's RAM and COLO's cache of it (QEMU migration/ram.c, colo_cache). */
#define RAM_COPIES 2

/* libvirt's number of this host's QEMU (major * 1000000 + minor * 1000 + micro); 0: not known. */
static unsigned long qemu_version(ColoHost *host)
{
    virConnectPtr conn = colo_virconn_get(host->virconn, 5000, NULL);
    unsigned long version = 0;

    if (!conn)
        return 0;
    virConnectGetVersion(conn, &version);
    virConnectClose(conn);
    return version;
}

static unsigned long libvirt_version(virConnectPtr conn)
{
    unsigned long version = 0;

    virConnectGetLibVersion(conn, &version);
    return version;
}

void colo_host_facts_warm_up(ColoHost *host)
{
    virConnectPtr conn = colo_virconn_get(host->virconn, 5000, NULL);

    if (!conn)
        return;
    free(virConnectGetCapabilities(conn));
    virConnectClose(conn);
}

void colo_host_facts_add(ColoHost *host, JsonObject *params)
{
    virConnectPtr conn = colo_virconn_get(host->virconn, 5000, NULL);
    char *caps_xml = conn ? virConnectGetCapabilities(conn) : NULL;
    g_autoptr(ColoHostCaps) caps =
        caps_xml ? colo_host_caps_parse(caps_xml, "x86_64", "kvm", NULL) : NULL;

    colo_json_add(params, "facts", "o",
                  colo_json_build("qemu", "u", (uint64_t)qemu_version(host), "libvirt", "u",
                                  conn ? (uint64_t)libvirt_version(conn) : (uint64_t)0, "arch", "s",
                                  caps ? caps->arch : NULL, "cpu", "s", caps ? caps->cpu : NULL,
                                  "cpu-vendor", "s", caps ? caps->cpu_vendor : NULL, NULL),
                  NULL);
    free(caps_xml);
    if (conn)
        virConnectClose(conn);
}

static gboolean check_memory(ColoHost *host, virConnectPtr conn, const ColoDomainInfo *info,
                             GError **error)
{
    uint64_t need = info->memory_kib * RAM_COPIES / 1024;
    virNodeMemoryStatsPtr stats;
    uint64_t free_kib = 0;
    int n = 0;

    if (virNodeGetMemoryStats(conn, VIR_NODE_MEMORY_STATS_ALL_CELLS, NULL, &n, 0) < 0 || n == 0)
        return TRUE; /* the host does not say: QEMU's own start will tell */
    stats = g_new0(virNodeMemoryStats, n);
    if (virNodeGetMemoryStats(conn, VIR_NODE_MEMORY_STATS_ALL_CELLS, stats, &n, 0) == 0) {
        for (int i = 0; i < n; i++) {
            if (g_strcmp0(stats[i].field, VIR_NODE_MEMORY_STATS_TOTAL) != 0)
                free_kib += stats[i].value; /* free, buffers, cached */
        }
    }
    g_free(stats);
    if (free_kib / 1024 >= need)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                "its copy needs %" G_GUINT64_FORMAT " MiB of memory (twice the guest's), "
                "%s has %" G_GUINT64_FORMAT " MiB free: free memory there, or protect it on a "
                "larger host",
                need, host->config->host_name, free_kib / 1024);
    return FALSE;
}

gboolean colo_host_facts_check(ColoHost *host, JsonObject *params, GError **error)
{
    JsonObject *facts = colo_json_peek(params, "facts");
    virConnectPtr conn;
    const char *live;
    char *caps_xml;
    g_autoptr(ColoDomainInfo) info = NULL;
    g_autoptr(ColoHostCaps) caps = NULL;
    gboolean ok;

    if (!colo_json_get_string(params, "live-xml", &live, error))
        return FALSE;
    info = colo_domain_info_parse(live, error);
    if (!info)
        return FALSE;
    conn = colo_virconn_get(host->virconn, 5000, error);
    if (!conn)
        return FALSE;
    caps_xml = virConnectGetCapabilities(conn);
    caps = caps_xml ? colo_host_caps_parse(caps_xml, info->arch, info->virt_type, NULL) : NULL;
    free(caps_xml);

    const ColoHostFacts theirs = {
        .name = colo_json_peek_string(params, "host", "the primary"),
        .arch = colo_json_peek_string(facts, "arch", NULL),
        .cpu = colo_json_peek_string(facts, "cpu", NULL),
        .cpu_vendor = colo_json_peek_string(facts, "cpu-vendor", NULL),
        .qemu_version = (unsigned long)colo_json_peek_uint(facts, "qemu", 0),
        .libvirt_version = (unsigned long)colo_json_peek_uint(facts, "libvirt", 0),
    };
    const ColoHostFacts ours = {
        .name = host->config->host_name,
        .arch = caps ? caps->arch : NULL,
        .cpu = caps ? caps->cpu : NULL,
        .cpu_vendor = caps ? caps->cpu_vendor : NULL,
        .qemu_version = qemu_version(host),
        .libvirt_version = libvirt_version(conn),
        .machines = caps ? (const char *const *)caps->machines : NULL,
    };
    ok = colo_compat_check(&theirs, &ours, info->machine, info->cpu_mode, error) &&
         check_memory(host, conn, info, error);
    if (!ok)
        g_prefix_error(error, "domain '%s': ", info->name);
    virConnectClose(conn);
    return ok;
}
