/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/domxml.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <string.h>

static void disk_free(gpointer data)
{
    ColoDiskInfo *disk = data;
    g_free(disk->device);
    g_free(disk->type);
    g_free(disk->target);
    g_free(disk->bus);
    g_free(disk->alias);
    g_free(disk->qom_path);
    g_free(disk->source);
    g_free(disk->pool);
    g_free(disk->volume);
    g_free(disk->format);
    g_free(disk->cache);
    g_free(disk->node_format);
    g_free(disk->node_storage);
    g_free(disk);
}

static void nic_free(gpointer data)
{
    ColoNicInfo *nic = data;
    g_free(nic->alias);
    g_free(nic->netdev);
    g_free(nic->qom_path);
    g_free(nic->mac);
    g_free(nic->type);
    g_free(nic->bridge);
    g_free(nic->network);
    g_free(nic->virtualport);
    g_free(nic->target);
    g_free(nic->model);
    g_free(nic->driver);
    g_free(nic);
}

void colo_domain_info_free(ColoDomainInfo *info)
{
    if (info == NULL)
        return;
    g_free(info->name);
    g_free(info->uuid);
    g_free(info->virt_type);
    g_free(info->machine);
    g_free(info->arch);
    g_free(info->emulator);
    g_free(info->loader);
    g_free(info->nvram);
    g_free(info->cpu_mode);
    g_ptr_array_unref(info->disks);
    g_ptr_array_unref(info->nics);
    g_free(info);
}

/* Decimal @text up to @max into @value; FALSE if it is NULL or anything else. */
static gboolean to_uint(const char *text, uint64_t max, uint64_t *value)
{
    return text != NULL && g_ascii_string_to_unsigned(text, 10, 0, max, value, NULL);
}

/* Attribute @name of @node as a number up to @max, or @fallback. */
static uint64_t attr_uint(const xmlNode *node, const char *name, uint64_t max, uint64_t fallback)
{
    g_autofree char *text = colo_xml_attr(node, name);
    uint64_t value;
    return to_uint(text, max, &value) ? value : fallback;
}

/* A size element in KiB; the unit attribute as in libvirt's scaled integers, KiB if absent.
 * 0 if it is absent, nonsense, or not representable. */
static uint64_t scaled_kib(const xmlNode *node)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {
        {"b", 1},
        {"bytes", 1},
        {"KB", 1000},
        {"k", 1024},
        {"KiB", 1024},
        {"MB", 1000000},
        {"M", 1 << 20},
        {"MiB", 1 << 20},
        {"GB", 1000000000},
        {"G", 1ull << 30},
        {"GiB", 1ull << 30},
        {"T", 1ull << 40},
        {"TiB", 1ull << 40},
    };
    g_autofree char *text = colo_xml_text(node);
    g_autofree char *unit = colo_xml_attr(node, "unit");
    uint64_t value;
    if (!to_uint(text, UINT64_MAX, &value))
        return 0;
    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        if (strcmp(unit ? unit : "KiB", units[i].unit) != 0)
            continue;
        guint64 bytes;
        return g_uint64_checked_mul(&bytes, value, units[i].bytes) ? bytes / 1024 : 0;
    }
    return 0;
}

/* Name that libvirt gave to the device of @node, or NULL. */
static char *alias_of(const xmlNode *node)
{
    return colo_xml_attr(colo_xml_child(node, "alias"), "name");
}

static ColoDiskInfo *parse_disk(const xmlNode *node)
{
    ColoDiskInfo *disk = g_new0(ColoDiskInfo, 1);
    const xmlNode *source = colo_xml_child(node, "source");
    const xmlNode *driver = colo_xml_child(node, "driver");
    const xmlNode *target = colo_xml_child(node, "target");

    disk->device = colo_xml_attr(node, "device");
    if (disk->device == NULL)
        disk->device = g_strdup("disk");
    disk->type = colo_xml_attr(node, "type");
    if (disk->type == NULL)
        disk->type = g_strdup("file");
    disk->target = colo_xml_attr(target, "dev");
    disk->bus = colo_xml_attr(target, "bus");
    disk->format = colo_xml_attr(driver, "type");
    disk->cache = colo_xml_attr(driver, "cache");
    disk->pool = colo_xml_attr(source, "pool");
    disk->volume = colo_xml_attr(source, "volume");
    disk->source = colo_xml_attr(source, strcmp(disk->type, "block") == 0 ? "dev" : "file");

    disk->index = (unsigned)attr_uint(source, "index", G_MAXINT, 0);
    if (disk->index != 0) {
        /* Names of qemuBlockStorageSourceSetFormatNodename and its sibling, libvirt 9.0. */
        disk->node_format = g_strdup_printf("libvirt-%u-format", disk->index);
        disk->node_storage = g_strdup_printf("libvirt-%u-storage", disk->index);
    }
    disk->alias = alias_of(node);
    if (disk->alias != NULL)
        disk->qom_path = g_strdup_printf("/machine/peripheral/%s", disk->alias);

    disk->readonly = colo_xml_child(node, "readonly") != NULL || strcmp(disk->device, "cdrom") == 0;
    disk->shareable = colo_xml_child(node, "shareable") != NULL;
    disk->has_backing = colo_xml_find(node, "backingStore/source") != NULL;
    disk->replicated = !disk->readonly && strcmp(disk->device, "disk") == 0;
    return disk;
}

/* libvirt opens taps with IFF_VNET_HDR for every virtio model (virDomainNetIsVirtioModel). */
static gboolean model_is_virtio(const char *model)
{
    return model != NULL && g_str_has_prefix(model, "virtio");
}

static ColoNicInfo *parse_nic(const xmlNode *node, gboolean kvm)
{
    ColoNicInfo *nic = g_new0(ColoNicInfo, 1);
    const xmlNode *source = colo_xml_child(node, "source");
    const xmlNode *driver = colo_xml_child(node, "driver");
    g_autofree char *mac = colo_xml_attr(colo_xml_child(node, "mac"), "address");

    nic->mac = mac ? g_ascii_strdown(mac, -1) : NULL;
    nic->type = colo_xml_attr(node, "type");
    if (nic->type == NULL)
        nic->type = g_strdup("");
    nic->bridge = colo_xml_attr(source, "bridge");
    nic->network = colo_xml_attr(source, "network");
    nic->virtualport = colo_xml_attr(colo_xml_child(node, "virtualport"), "type");
    nic->target = colo_xml_attr(colo_xml_child(node, "target"), "dev");
    nic->model = colo_xml_attr(colo_xml_child(node, "model"), "type");
    nic->driver = colo_xml_attr(driver, "name");
    nic->queues = (unsigned)attr_uint(driver, "queues", G_MAXINT, 1);
    if (nic->queues == 0)
        nic->queues = 1;
    nic->mtu = (unsigned)attr_uint(colo_xml_child(node, "mtu"), "size", G_MAXINT, 0);

    nic->alias = alias_of(node);
    if (nic->alias != NULL) {
        nic->netdev = g_strdup_printf("host%s", nic->alias);
        nic->qom_path = g_strdup_printf("/machine/peripheral/%s", nic->alias);
    }
    nic->vnet_hdr = model_is_virtio(nic->model);
    /* qemuInterfaceOpenVhostNet: only on KVM, only virtio, and not if told to use QEMU. */
    nic->vhost = kvm && nic->vnet_hdr && g_strcmp0(nic->driver, "qemu") != 0;
    return nic;
}

static gboolean has_incoming(const xmlNode *domain)
{
    for (const xmlNode *node = colo_xml_first(domain); node; node = colo_xml_next(node)) {
        if (node->ns == NULL || strcmp((const char *)node->ns->href, COLO_XML_QEMU_NS) != 0 ||
            strcmp((const char *)node->name, "commandline") != 0)
            continue;
        for (const xmlNode *arg = colo_xml_first(node); arg; arg = colo_xml_next(arg)) {
            if (colo_xml_attr_is(arg, "value", "-incoming"))
                return TRUE;
        }
    }
    return FALSE;
}

static gboolean parse_devices(ColoDomainInfo *info, const xmlNode *devices, GError **error)
{
    for (const xmlNode *node = colo_xml_first(devices); node; node = colo_xml_next(node)) {
        if (colo_xml_is(node, "disk")) {
            ColoDiskInfo *disk = parse_disk(node);
            g_ptr_array_add(info->disks, disk);
            if (disk->target == NULL) {
                g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "domain '%s': disk %u has no <target dev=>", info->name,
                            info->disks->len);
                return FALSE;
            }
        } else if (colo_xml_is(node, "interface")) {
            ColoNicInfo *nic = parse_nic(node, strcmp(info->virt_type, "kvm") == 0);
            g_ptr_array_add(info->nics, nic);
            if (nic->mac == NULL) {
                g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "domain '%s': interface %u has no <mac address=>", info->name,
                            info->nics->len);
                return FALSE;
            }
        } else if (colo_xml_is(node, "emulator") && info->emulator == NULL) {
            info->emulator = colo_xml_text(node);
        } else if (colo_xml_is(node, "tpm")) {
            info->has_tpm = TRUE;
        }
        if (info->disks->len > COLO_DOMAIN_MAX_DEVICES ||
            info->nics->len > COLO_DOMAIN_MAX_DEVICES) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "domain '%s': more than %d disks or interfaces", info->name,
                        COLO_DOMAIN_MAX_DEVICES);
            return FALSE;
        }
    }
    return TRUE;
}

/* Lower-case uuid with dashes of @text, or NULL if it is none. */
static char *canonical_uuid(const char *text)
{
    if (text == NULL || !g_uuid_string_is_valid(text))
        return NULL;
    return g_ascii_strdown(text, -1);
}

static ColoDomainInfo *info_new(void)
{
    ColoDomainInfo *info = g_new0(ColoDomainInfo, 1);
    info->disks = g_ptr_array_new_with_free_func(disk_free);
    info->nics = g_ptr_array_new_with_free_func(nic_free);
    return info;
}

/* Name and uuid; FALSE and @error without either. */
static gboolean parse_identity(ColoDomainInfo *info, const xmlNode *root, GError **error)
{
    info->name = colo_xml_text(colo_xml_child(root, "name"));
    if (info->name == NULL) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "XML of <domain>: no <name>");
        return FALSE;
    }
    g_autofree char *uuid = colo_xml_text(colo_xml_child(root, "uuid"));
    info->uuid = canonical_uuid(uuid);
    if (info->uuid == NULL) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "domain '%s': expected a <uuid>, found '%s'", info->name, uuid ? uuid : "");
        return FALSE;
    }
    return TRUE;
}

/* What the domain says of itself outside <devices>. */
static void parse_head(ColoDomainInfo *info, const xmlNode *root)
{
    const xmlNode *os = colo_xml_child(root, "os");
    const xmlNode *vcpu = colo_xml_child(root, "vcpu");

    info->virt_type = colo_xml_attr(root, "type");
    if (info->virt_type == NULL)
        info->virt_type = g_strdup("");
    info->id = (int)attr_uint(root, "id", G_MAXINT, G_MAXUINT64);
    info->machine = colo_xml_attr(colo_xml_child(os, "type"), "machine");
    info->arch = colo_xml_attr(colo_xml_child(os, "type"), "arch");
    info->loader = colo_xml_text(colo_xml_child(os, "loader"));
    info->nvram = colo_xml_text(colo_xml_child(os, "nvram"));
    info->cpu_mode = colo_xml_attr(colo_xml_child(root, "cpu"), "mode");
    info->memory_kib = scaled_kib(colo_xml_child(root, "memory"));

    g_autofree char *vcpus = colo_xml_text(vcpu);
    uint64_t count;
    info->vcpus = to_uint(vcpus, G_MAXINT, &count) ? (unsigned)count : 1;
    info->vcpus_current = (unsigned)attr_uint(vcpu, "current", info->vcpus, info->vcpus);
    info->incoming = has_incoming(root);
}

ColoDomainInfo *colo_domain_info_parse(const char *xml, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(xml, "domain", error);
    if (doc == NULL)
        return NULL;
    const xmlNode *root = xmlDocGetRootElement(doc);
    ColoDomainInfo *info = info_new();
    if (!parse_identity(info, root, error)) {
        colo_domain_info_free(info);
        return NULL;
    }
    parse_head(info, root);
    if (!parse_devices(info, colo_xml_child(root, "devices"), error)) {
        colo_domain_info_free(info);
        return NULL;
    }
    return info;
}

const ColoDiskInfo *colo_domain_info_disk(const ColoDomainInfo *info, const char *target)
{
    for (guint i = 0; i < info->disks->len; i++) {
        const ColoDiskInfo *disk = g_ptr_array_index(info->disks, i);
        if (g_strcmp0(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

const ColoNicInfo *colo_domain_info_nic(const ColoDomainInfo *info, const char *mac)
{
    for (guint i = 0; mac != NULL && i < info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(info->nics, i);
        if (g_ascii_strcasecmp(nic->mac, mac) == 0)
            return nic;
    }
    return NULL;
}
