/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/secondary-xml.h"
#include "domain/xml-strip.h"
#include "util/error.h"

#include <string.h>

#define INCOMING_OPTION "-incoming"
#define INCOMING_VALUE "defer"

static gboolean is_qemu(const xmlNode *node, const char *name)
{
    return node->ns != NULL && strcmp((const char *)node->ns->href, COLO_XML_QEMU_NS) == 0 &&
           strcmp((const char *)node->name, name) == 0;
}

/* The <qemu:commandline> of @domain or NULL. */
static xmlNode *find_commandline(const xmlNode *domain)
{
    for (xmlNode *node = colo_xml_first(domain); node; node = colo_xml_next(node)) {
        if (is_qemu(node, "commandline"))
            return node;
    }
    return NULL;
}

/* Takes out the two arguments that colo_secondary_xml added; an empty command line goes too. */
static void drop_incoming(xmlNode *domain)
{
    xmlNode *commandline = find_commandline(domain);
    if (commandline == NULL)
        return;
    for (xmlNode *arg = colo_xml_first(commandline), *next; arg; arg = next) {
        next = colo_xml_next(arg);
        if (next != NULL && is_qemu(arg, "arg") && is_qemu(next, "arg") &&
            colo_xml_attr_is(arg, "value", INCOMING_OPTION) &&
            colo_xml_attr_is(next, "value", INCOMING_VALUE)) {
            xmlNode *after = colo_xml_next(next);
            colo_xml_drop(arg);
            colo_xml_drop(next);
            next = after;
        }
    }
    if (colo_xml_first(commandline) == NULL)
        colo_xml_drop(commandline);
}

static void add_arg(xmlNode *commandline, const char *value)
{
    colo_xml_set_attr(colo_xml_add(commandline, commandline->ns, "arg"), "value", value);
}

static void add_incoming(xmlNode *domain)
{
    xmlNode *commandline = find_commandline(domain);
    if (commandline == NULL) {
        const xmlChar *href = (const xmlChar *)COLO_XML_QEMU_NS;
        xmlNs *ns = xmlSearchNsByHref(domain->doc, domain, href);
        if (ns == NULL)
            ns = xmlNewNs(domain, href, (const xmlChar *)"qemu");
        if (ns == NULL) /* the prefix stands for something else */
            ns = xmlNewNs(domain, href, (const xmlChar *)"colo-qemu");
        commandline = colo_xml_add(domain, ns, "commandline");
    }
    add_arg(commandline, INCOMING_OPTION);
    add_arg(commandline, INCOMING_VALUE);
}

/* Child @name of @parent, made if it is absent. */
static xmlNode *need_child(xmlNode *parent, const char *name)
{
    xmlNode *child = colo_xml_child(parent, name);
    return child ? child : colo_xml_add(parent, NULL, name);
}

/* Points @disk at @path of another host: a block device below /dev/, else a file. */
static void set_disk_source(xmlNode *disk, const char *path)
{
    static const char *const of_other_types[] = {"file", "dev",      "dir",  "pool", "volume",
                                                 "mode", "protocol", "name", "index"};
    gboolean block = g_str_has_prefix(path, "/dev/");
    xmlNode *source = need_child(disk, "source");
    for (size_t i = 0; i < G_N_ELEMENTS(of_other_types); i++)
        colo_xml_set_attr(source, of_other_types[i], NULL);
    colo_xml_set_attr(source, block ? "dev" : "file", path);
    colo_xml_set_attr(disk, "type", block ? "block" : "file");
}

/* Plugs @nic into @to. */
static void set_nic_source(xmlNode *nic, const ColoNicSource *to)
{
    xmlNode *source = need_child(nic, "source");
    while (source->properties != NULL)
        xmlRemoveProp(source->properties);
    colo_xml_set_attr(nic, "type", to->network ? "network" : "bridge");
    if (to->network != NULL)
        colo_xml_set_attr(source, "network", to->network);
    else
        colo_xml_set_attr(source, "bridge", to->bridge);
    if (to->virtualport != NULL && colo_xml_child(nic, "virtualport") == NULL)
        colo_xml_set_attr(colo_xml_add(nic, NULL, "virtualport"), "type", to->virtualport);
}

/* The lower-case MAC of @nic or NULL; the caller frees it. */
static char *nic_mac(const xmlNode *nic)
{
    g_autofree char *mac = colo_xml_attr(colo_xml_child(nic, "mac"), "address");
    return mac ? g_ascii_strdown(mac, -1) : NULL;
}

/* Value for @key in @table; NULL if either is NULL. */
static gconstpointer look_up(GHashTable *table, const char *key)
{
    return table && key ? g_hash_table_lookup(table, key) : NULL;
}

/* FALSE and @error if the map says nothing of a disk that the guest can write. */
static gboolean map_disk(xmlNode *disk, GHashTable *map, gboolean required, const char *domain,
                         GError **error)
{
    g_autofree char *target = colo_xml_attr(colo_xml_child(disk, "target"), "dev");
    const char *path = look_up(map, target);
    if (path != NULL) {
        if (*path != '/') {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "domain '%s': disk %s: expected an absolute path on the peer, got '%s'",
                        domain, target, path);
            return FALSE;
        }
        set_disk_source(disk, path);
        return TRUE;
    }
    gboolean writable =
        colo_xml_child(disk, "readonly") == NULL && !colo_xml_attr_is(disk, "device", "cdrom");
    if (required && writable) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "domain '%s': disk %s has no copy on the peer; virsh colo-prepare makes one",
                    domain, target ? target : "?");
        return FALSE;
    }
    return TRUE;
}

/* Puts @nic on its quarantine bridge: nothing of the real network may be left on it. */
static gboolean quarantine_nic(xmlNode *nic, GHashTable *map, const char *domain, GError **error)
{
    g_autofree char *mac = nic_mac(nic);
    const char *bridge = look_up(map, mac);
    if (bridge == NULL || *bridge == '\0') {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "domain '%s': interface %s has no quarantine bridge on the peer", domain,
                    mac ? mac : "?");
        return FALSE;
    }
    colo_xml_drop_children(nic, "virtualport");
    colo_xml_drop_children(nic, "vlan");
    set_nic_source(nic, &(ColoNicSource){.bridge = bridge});
    return TRUE;
}

char *colo_secondary_xml(const char *live_xml, const ColoSecondaryMap *map, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(live_xml, "domain", error);
    if (doc == NULL)
        return NULL;
    xmlNode *domain = xmlDocGetRootElement(doc);
    g_autofree char *name = colo_xml_text(colo_xml_child(domain, "name"));
    const char *label = name ? name : "?";

    colo_xml_strip_runtime(domain);
    /* COLO keeps a second copy of the guest's RAM: a limit made for one would kill the process. */
    xmlNode *memtune = colo_xml_child(domain, "memtune");
    colo_xml_drop_children(memtune, "hard_limit");
    if (memtune != NULL && colo_xml_first(memtune) == NULL)
        colo_xml_drop(memtune);

    xmlNode *devices = colo_xml_child(domain, "devices");
    for (xmlNode *device = colo_xml_first(devices); device; device = colo_xml_next(device)) {
        if (colo_xml_is(device, "disk")) {
            if (!map_disk(device, map->disks, TRUE, label, error))
                return NULL;
        } else if (colo_xml_is(device, "interface")) {
            if (!quarantine_nic(device, map->nics, label, error))
                return NULL;
        }
    }
    drop_incoming(domain);
    add_incoming(domain);
    return colo_xml_to_string(doc);
}

char *colo_survivor_xml(const char *xml, const ColoSurvivorMap *map, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(xml, "domain", error);
    if (doc == NULL)
        return NULL;
    xmlNode *domain = xmlDocGetRootElement(doc);
    g_autofree char *name = colo_xml_text(colo_xml_child(domain, "name"));

    colo_xml_strip_runtime(domain);
    xmlNode *devices = colo_xml_child(domain, "devices");
    for (xmlNode *device = colo_xml_first(devices); device; device = colo_xml_next(device)) {
        if (colo_xml_is(device, "disk")) {
            if (!map_disk(device, map ? map->disks : NULL, FALSE, name ? name : "?", error))
                return NULL;
        } else if (colo_xml_is(device, "interface")) {
            g_autofree char *mac = nic_mac(device);
            const ColoNicSource *source = look_up(map ? map->nics : NULL, mac);
            if (source != NULL)
                set_nic_source(device, source);
        }
    }
    drop_incoming(domain);
    return colo_xml_to_string(doc);
}

/* TRUE for a NIC that libvirt would put on vhost when it can. */
static gboolean may_use_vhost(const xmlNode *nic)
{
    g_autofree char *model = colo_xml_attr(colo_xml_child(nic, "model"), "type");
    return (colo_xml_attr_is(nic, "type", "bridge") || colo_xml_attr_is(nic, "type", "network")) &&
           model != NULL && g_str_has_prefix(model, "virtio") &&
           !colo_xml_attr_is(colo_xml_child(nic, "driver"), "name", "qemu");
}

char *colo_fix_vhost_xml(const char *xml, unsigned *changed, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(xml, "domain", error);
    if (doc == NULL)
        return NULL;
    unsigned count = 0;
    xmlNode *devices = colo_xml_child(xmlDocGetRootElement(doc), "devices");
    for (xmlNode *nic = colo_xml_first(devices); nic; nic = colo_xml_next(nic)) {
        if (!colo_xml_is(nic, "interface") || !may_use_vhost(nic))
            continue;
        colo_xml_set_attr(need_child(nic, "driver"), "name", "qemu");
        count++;
    }
    if (changed != NULL)
        *changed = count;
    return colo_xml_to_string(doc);
}
