/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The part of steps-net.h that goes through libvirt's XML: a NIC's source on the host.
 */
#include "domain/qmp.h"
#include "domain/steps-bridge.h"
#include "domain/steps-net.h"
#include "domain/xml-util.h"
#include "util/clock.h"
#include "util/error.h"

#include <stdlib.h>

/* The <interface> of @alias in the live XML; @doc keeps it alive. NULL with @error. */
static xmlNode *find_interface(virDomainPtr dom, const char *alias, ColoXmlDoc **doc,
                               GError **error)
{
    char *text = virDomainGetXMLDesc(dom, 0);

    if (!text) {
        colo_qmp_set_libvirt_error(dom, "reading its XML", error);
        return NULL;
    }
    *doc = colo_xml_parse(text, "domain", error);
    free(text);
    if (!*doc)
        return NULL;
    for (xmlNode *c = colo_xml_first(colo_xml_child(xmlDocGetRootElement(*doc), "devices")); c;
         c = colo_xml_next(c)) {
        if (colo_xml_is(c, "interface") &&
            colo_xml_attr_is(colo_xml_child(c, "alias"), "name", alias))
            return c;
    }
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "domain '%s': no <interface> with alias '%s' in its live XML",
                virDomainGetName(dom), alias);
    return NULL;
}

char *colo_steps_net_tap(virDomainPtr dom, const char *alias, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = NULL;
    xmlNode *node = find_interface(dom, alias, &doc, error);
    char *tap;

    if (!node)
        return NULL;
    tap = colo_xml_attr(colo_xml_child(node, "target"), "dev");
    if (!tap)
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': NIC '%s' has no host interface", virDomainGetName(dom), alias);
    return tap;
}

/* @node's XML with the source replaced, for the caller to xmlFree(). */
static xmlChar *with_source(ColoXmlDoc *doc, xmlNode *node, const char *bridge, const char *network)
{
    xmlBufferPtr buffer = xmlBufferCreate();
    xmlNode *source = colo_xml_child(node, "source");
    xmlChar *text;

    if (source)
        colo_xml_drop(source);
    colo_xml_set_attr(node, "type", bridge ? "bridge" : "network");
    source = xmlNewChild(node, NULL, BAD_CAST "source", NULL);
    colo_xml_set_attr(source, bridge ? "bridge" : "network", bridge ? bridge : network);
    xmlNodeDump(buffer, doc, node, 0, 0);
    text = xmlBufferDetach(buffer);
    xmlBufferFree(buffer);
    return text;
}

gboolean colo_steps_net_set_source(virDomainPtr dom, const char *alias, const char *bridge,
                                   const char *network, uint64_t *elapsed_ns, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = NULL;
    xmlNode *node = find_interface(dom, alias, &doc, error);
    g_autofree char *tap = NULL, *here = NULL, *old = NULL;
    g_autoptr(GError) local = NULL;
    xmlChar *text;
    uint64_t start;
    int rc;

    if (!node)
        return FALSE;
    tap = colo_xml_attr(colo_xml_child(node, "target"), "dev");
    old = colo_xml_attr(colo_xml_child(node, "source"), "bridge");
    here = tap ? colo_bridge_get_master(tap, NULL) : NULL;
    text = with_source(doc, node, bridge, network);
    start = colo_clock_ns();
    /* qemuDomainChangeNetBridge() takes the tap off the bridge of the XML and adds it to the new
     * one; a tap that sits on the new one already makes it fail half way. */
    if (here && g_strcmp0(here, old) != 0)
        colo_bridge_set_master(tap, NULL, NULL);
    rc = virDomainUpdateDeviceFlags(dom, (const char *)text, VIR_DOMAIN_AFFECT_LIVE);
    if (rc < 0)
        colo_qmp_set_libvirt_error(dom, "updating the NIC's source", &local);
    if (elapsed_ns)
        *elapsed_ns = colo_clock_ns() - start;
    xmlFree(text);
    if (rc < 0) {
        if (here && g_strcmp0(here, old) != 0)
            colo_bridge_set_master(tap, here, NULL);
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "NIC '%s': ", alias);
        return FALSE;
    }
    return TRUE;
}
