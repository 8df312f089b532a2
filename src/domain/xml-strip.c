/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/xml-strip.h"

#include "domain/declaration.h"

#include <string.h>

/* Prefix of aliases that users chose (libvirt: USER_ALIAS_PREFIX). */
#define USER_ALIAS "ua-"
/* Prefix of taps that libvirt named (VIR_NET_GENERATED_VNET_PREFIX); it refuses it from users. */
#define GENERATED_TAP "vnet"
/* Default of <resource><partition> under systemd (virDomainCgroup). */
#define DEFAULT_PARTITION "/machine"

/* A path below a directory that libvirt made for the run: ".../domain-ID-NAME/...". */
static gboolean path_is_generated(const char *path)
{
    return path != NULL && strstr(path, "/domain-") != NULL;
}

static void strip_alias(xmlNode *device)
{
    xmlNode *alias = colo_xml_child(device, "alias");
    g_autofree char *name = colo_xml_attr(alias, "name");
    if (alias != NULL && (name == NULL || !g_str_has_prefix(name, USER_ALIAS)))
        colo_xml_drop(alias);
}

static void strip_disk(xmlNode *disk)
{
    xmlNode *source = colo_xml_child(disk, "source");
    if (source != NULL)
        colo_xml_set_attr(source, "index", NULL);
    /* The chain was detected from the image's own header and will be again. */
    colo_xml_drop_children(disk, "backingStore");
    colo_xml_drop_children(disk, "mirror");
}

/* Strips one <interface>: tap name and port id. */
static void strip_nic(xmlNode *nic)
{
    xmlNode *source = colo_xml_child(nic, "source");
    if (source != NULL) {
        colo_xml_set_attr(source, "portid", NULL);
        if (colo_xml_attr_is(nic, "type", "network"))
            colo_xml_set_attr(source, "bridge", NULL);
        else if (colo_xml_attr_is(nic, "type", "bridge"))
            colo_xml_set_attr(source, "network", NULL);
    }
    xmlNode *target = colo_xml_child(nic, "target");
    g_autofree char *tap = colo_xml_attr(target, "dev");
    if (tap != NULL && g_str_has_prefix(tap, GENERATED_TAP)) {
        colo_xml_set_attr(target, "dev", NULL);
        if (target->properties == NULL)
            colo_xml_drop(target);
    }
}

static void strip_chardev(xmlNode *chardev)
{
    colo_xml_set_attr(chardev, "tty", NULL);
    if (colo_xml_attr_is(chardev, "type", "pty"))
        colo_xml_drop_children(chardev, "source");

    xmlNode *source = colo_xml_child(chardev, "source");
    g_autofree char *path = colo_xml_attr(source, "path");
    if (path_is_generated(path))
        colo_xml_set_attr(source, "path", NULL);

    xmlNode *target = colo_xml_child(chardev, "target");
    if (target != NULL)
        colo_xml_set_attr(target, "state", NULL);
}

static void strip_graphics(xmlNode *graphics)
{
    if (colo_xml_attr_is(graphics, "autoport", "yes")) {
        g_autofree char *websocket = colo_xml_attr(graphics, "websocket");
        colo_xml_set_attr(graphics, "port", "-1");
        colo_xml_set_attr(graphics, "tlsPort", NULL);
        if (websocket != NULL)
            colo_xml_set_attr(graphics, "websocket", "-1");
    }
    g_autofree char *socket = colo_xml_attr(graphics, "socket");
    if (path_is_generated(socket))
        colo_xml_set_attr(graphics, "socket", NULL);

    for (xmlNode *listen = colo_xml_first(graphics); listen; listen = colo_xml_next(listen)) {
        if (!colo_xml_is(listen, "listen"))
            continue;
        g_autofree char *path = colo_xml_attr(listen, "socket");
        if (path_is_generated(path))
            colo_xml_set_attr(listen, "socket", NULL);
        if (colo_xml_attr_is(listen, "type", "network")) { /* its address is this host's */
            colo_xml_set_attr(listen, "address", NULL);
            colo_xml_set_attr(graphics, "listen", NULL);
        }
    }
}

static void strip_seclabel(xmlNode *seclabel)
{
    if (!colo_xml_attr_is(seclabel, "type", "dynamic"))
        return;
    colo_xml_drop_children(seclabel, "label");
    colo_xml_drop_children(seclabel, "imagelabel");
    if (colo_xml_child(seclabel, "baselabel") == NULL)
        colo_xml_drop(seclabel);
}

static void strip_resource(xmlNode *resource)
{
    xmlNode *partition = colo_xml_child(resource, "partition");
    g_autofree char *path = colo_xml_text(partition);
    if (g_strcmp0(path, DEFAULT_PARTITION) == 0)
        colo_xml_drop(partition);
    if (colo_xml_first(resource) == NULL)
        colo_xml_drop(resource);
}

static gboolean is_chardev(const xmlNode *device)
{
    return colo_xml_is(device, "serial") || colo_xml_is(device, "parallel") ||
           colo_xml_is(device, "console") || colo_xml_is(device, "channel");
}

static void strip_device(xmlNode *device)
{
    strip_alias(device);
    if (colo_xml_is(device, "disk"))
        strip_disk(device);
    else if (colo_xml_is(device, "interface"))
        strip_nic(device);
    else if (is_chardev(device))
        strip_chardev(device);
    else if (colo_xml_is(device, "graphics"))
        strip_graphics(device);
}

void colo_xml_strip_runtime(xmlNode *domain)
{
    colo_xml_set_attr(domain, "id", NULL);
    colo_declaration_strip(domain);
    for (xmlNode *node = colo_xml_first(domain), *next; node; node = next) {
        next = colo_xml_next(node);
        if (colo_xml_is(node, "seclabel"))
            strip_seclabel(node);
        else if (colo_xml_is(node, "resource"))
            strip_resource(node);
    }
    xmlNode *devices = colo_xml_child(domain, "devices");
    for (xmlNode *device = colo_xml_first(devices); device; device = colo_xml_next(device))
        strip_device(device);
}
