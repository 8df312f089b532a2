/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disks and NICs of a protected domain on this host: read from libvirt's live XML and QEMU,
 * kept in the store, and lent to the steps.
 */
#include "domain/actor.h"

#include "domain/qmp.h"
#include "domain/steps-bridge.h"
#include "util/error.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Where libvirt keeps the process ids of its guests (its driver's state directory). */
#define PID_FILE "/run/libvirt/qemu/%s.pid"

static void disk_free(gpointer data)
{
    ColoProtectedDisk *disk = data;

    g_free(disk->alias);
    g_free(disk->node);
    g_free(disk->copy);
    g_free(disk->format);
    g_free(disk->target);
    g_free(disk);
}

static void nic_free(gpointer data)
{
    ColoProtectedNic *nic = data;

    g_free(nic->alias);
    g_free(nic->mac);
    g_free(nic->bridge);
    g_free(nic->network);
    g_free(nic->quarantine);
    g_free(nic);
}

void colo_domain_devices_init(ColoDomain *d)
{
    d->disks = g_ptr_array_new_with_free_func(disk_free);
    d->nics = g_ptr_array_new_with_free_func(nic_free);
}

void colo_domain_detach(ColoDomain *d)
{
    g_clear_pointer(&d->dom, virDomainFree);
    d->qemu_pid = 0;
    g_clear_pointer(&d->feature_stats, json_object_put);
    g_ptr_array_set_size(d->disks, 0);
    g_ptr_array_set_size(d->nics, 0);
}

static gboolean add_disk(ColoDomain *d, const ColoDiskInfo *info, GError **error)
{
    g_autofree char *node = NULL;
    uint64_t size = 0;
    ColoProtectedDisk *disk;

    if (!info->alias || !info->source) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "domain '%s': disk %s has no alias or source file: start the domain first",
                    d->record->name, info->target);
        return FALSE;
    }
    if (!colo_steps_disk_probe(d->dom, info->alias, &node, &size, error))
        return FALSE;
    disk = g_new0(ColoProtectedDisk, 1);
    disk->alias = g_strdup(info->alias);
    disk->target = g_strdup(info->target);
    disk->node = g_steal_pointer(&node);
    disk->copy = g_strdup(info->source);
    disk->format = g_strdup(info->format ? info->format : "raw");
    disk->size = size;
    g_ptr_array_add(d->disks, disk);
    return TRUE;
}

static void add_nic(ColoDomain *d, const ColoNicInfo *info)
{
    ColoProtectedNic *nic = g_new0(ColoProtectedNic, 1);

    nic->alias = g_strdup(info->alias);
    nic->mac = g_strdup(info->mac);
    nic->bridge = g_strdup(info->network ? NULL : info->bridge);
    nic->network = g_strdup(info->network);
    nic->quarantine = colo_bridge_quarantine_name(d->record->uuid, info->alias);
    nic->vnet_hdr = info->vnet_hdr;
    g_ptr_array_add(d->nics, nic);
}

/* 0 when libvirt keeps it elsewhere. */
static pid_t read_pid(const char *name)
{
    g_autofree char *path = g_strdup_printf(PID_FILE, name);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? (pid_t)strtol(text, NULL, 10) : 0;
}

pid_t colo_domain_qemu_pid(const ColoDomain *d)
{
    return d->qemu_pid ? d->qemu_pid : read_pid(d->record->name);
}

gboolean colo_domain_qemu_is_dead(const ColoDomain *d)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/exe", (int)d->qemu_pid);
    char target[1];

    return d->qemu_pid > 0 && readlink(path, target, sizeof(target)) < 0 &&
           (errno == ENOENT || errno == ESRCH);
}

gboolean colo_domain_attach(ColoDomain *d, GError **error)
{
    g_autoptr(ColoDomainInfo) info = NULL;
    char *xml;

    colo_domain_detach(d);
    d->dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, error);
    if (!d->dom)
        return FALSE;
    d->qemu_pid = read_pid(virDomainGetName(d->dom));
    xml = virDomainGetXMLDesc(d->dom, VIR_DOMAIN_XML_SECURE);
    if (!xml) {
        colo_virconn_set_error(error, "reading the domain's XML");
        return FALSE;
    }
    info = colo_domain_info_parse(xml, error);
    free(xml);
    if (!info)
        return FALSE;
    for (guint i = 0; i < info->disks->len; i++) {
        const ColoDiskInfo *disk = g_ptr_array_index(info->disks, i);

        if (disk->replicated && !add_disk(d, disk, error))
            return FALSE;
    }
    for (guint i = 0; i < info->nics->len; i++)
        add_nic(d, g_ptr_array_index(info->nics, i));
    return TRUE;
}

gboolean colo_domain_renew(ColoDomain *d, GError **error)
{
    virDomainPtr dom;

    if (d->dom && virConnectIsAlive(virDomainGetConnect(d->dom)) == 1)
        return TRUE;
    dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, error);
    if (!dom)
        return FALSE;
    if (!d->dom)
        colo_domain_load_devices(d);
    else
        virDomainFree(d->dom);
    d->dom = dom;
    d->qemu_pid = read_pid(virDomainGetName(dom));
    return TRUE;
}

gboolean colo_domain_is_gone(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    virDomainPtr dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, &error);
    gboolean gone;

    if (!dom)
        return g_error_matches(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN);
    gone = virDomainIsActive(dom) == 0;
    virDomainFree(dom);
    return gone;
}

gboolean colo_domain_is_running(ColoDomain *d)
{
    virDomainPtr dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, NULL);
    gboolean active = dom && virDomainIsActive(dom) == 1;

    if (dom)
        virDomainFree(dom);
    return active;
}

ColoStepDisk *colo_domain_step_disks(ColoDomain *d, size_t *n)
{
    ColoStepDisk *steps = g_new0(ColoStepDisk, d->disks->len + 1);

    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);

        steps[i] = (ColoStepDisk){disk->alias, disk->node, disk->copy, disk->format, disk->size};
    }
    *n = d->disks->len;
    return steps;
}

ColoStepNic colo_domain_step_nic(const ColoDomain *d, const ColoProtectedNic *nic)
{
    return (ColoStepNic){.alias = nic->alias,
                         .netdev = NULL,
                         .vnet_hdr = nic->vnet_hdr,
                         .generation = colo_domain_session(d),
                         .rewrite = colo_domain_session_rewrites(d)};
}

void colo_domain_store_devices(ColoDomain *d)
{
    JsonObject *disks = json_object_new_array();
    JsonObject *nics = json_object_new_array();

    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);

        json_object_array_add(disks, colo_json_build("alias", "s", disk->alias, "node", "s",
                                                     disk->node, "copy", "s", disk->copy, "format",
                                                     "s", disk->format, "target", "s", disk->target,
                                                     "size", "u", disk->size, NULL));
    }
    for (guint i = 0; i < d->nics->len; i++) {
        const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);

        json_object_array_add(
            nics, colo_json_build("alias", "s", nic->alias, "mac", "s", nic->mac, "bridge", "s",
                                  nic->bridge, "network", "s", nic->network, "quarantine", "s",
                                  nic->quarantine, "vnet-hdr", "b", nic->vnet_hdr, NULL));
    }
    colo_json_add(d->record->details, "disks", "o", disks, "nics", "o", nics, NULL);
}

void colo_domain_load_devices(ColoDomain *d)
{
    JsonObject *disks = colo_json_peek(d->record->details, "disks");
    JsonObject *nics = colo_json_peek(d->record->details, "nics");

    g_ptr_array_set_size(d->disks, 0);
    g_ptr_array_set_size(d->nics, 0);
    for (size_t i = 0; disks && i < json_object_array_length(disks); i++) {
        JsonObject *o = json_object_array_get_idx(disks, i);
        ColoProtectedDisk *disk = g_new0(ColoProtectedDisk, 1);

        disk->alias = g_strdup(colo_json_peek_string(o, "alias", ""));
        disk->node = g_strdup(colo_json_peek_string(o, "node", ""));
        disk->copy = g_strdup(colo_json_peek_string(o, "copy", ""));
        disk->format = g_strdup(colo_json_peek_string(o, "format", "raw"));
        disk->target = g_strdup(colo_json_peek_string(o, "target", ""));
        disk->size = colo_json_peek_uint(o, "size", 0);
        g_ptr_array_add(d->disks, disk);
    }
    for (size_t i = 0; nics && i < json_object_array_length(nics); i++) {
        JsonObject *o = json_object_array_get_idx(nics, i);
        ColoProtectedNic *nic = g_new0(ColoProtectedNic, 1);

        nic->alias = g_strdup(colo_json_peek_string(o, "alias", ""));
        nic->mac = g_strdup(colo_json_peek_string(o, "mac", ""));
        nic->bridge = g_strdup(colo_json_peek_string(o, "bridge", NULL));
        nic->network = g_strdup(colo_json_peek_string(o, "network", NULL));
        nic->quarantine = g_strdup(colo_json_peek_string(o, "quarantine", ""));
        nic->vnet_hdr = colo_json_peek_bool(o, "vnet-hdr", FALSE);
        g_ptr_array_add(d->nics, nic);
    }
}
