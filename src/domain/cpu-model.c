/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/cpu-model.h"

#include "domain/virconn.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <libvirt/virterror.h>
#include <stdlib.h>

/* @node as a document of its own. */
static char *node_text(const xmlNode *node)
{
    xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
    char *text;

    xmlDocSetRootElement(doc, xmlDocCopyNode((xmlNode *)node, doc, 1));
    text = colo_xml_to_string(doc);
    xmlFreeDoc(doc);
    return text;
}

char *colo_cpu_model_parse_caps(const char *domain_caps)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(domain_caps, "domainCapabilities", NULL);
    const xmlNode *cpu = doc ? colo_xml_child(xmlDocGetRootElement(doc), "cpu") : NULL;

    for (xmlNode *mode = colo_xml_first(cpu); mode; mode = colo_xml_next(mode)) {
        if (!colo_xml_is(mode, "mode") || !colo_xml_attr_is(mode, "name", "host-model") ||
            !colo_xml_attr_is(mode, "supported", "yes"))
            continue;
        /* Its content is that of a <cpu> (libvirt, tools/virsh-host.c does the same). */
        xmlNodeSetName(mode, (const xmlChar *)"cpu");
        colo_xml_set_attr(mode, "name", NULL);
        colo_xml_set_attr(mode, "supported", NULL);
        return node_text(mode);
    }
    return NULL;
}

char *colo_cpu_model_of_host(virConnectPtr conn, const char *virt_type)
{
    char *caps = virConnectGetDomainCapabilities(conn, NULL, NULL, NULL, virt_type, 0);
    char *cpu = caps ? colo_cpu_model_parse_caps(caps) : NULL;

    free(caps);
    return cpu;
}

ColoCpuKind colo_cpu_model_of_domain(const char *domain_xml, char **cpu)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(domain_xml, "domain", NULL);
    const xmlNode *node = doc ? colo_xml_child(xmlDocGetRootElement(doc), "cpu") : NULL;

    *cpu = NULL;
    if (!node)
        return COLO_CPU_UNCHECKED;
    if (colo_xml_attr_is(node, "mode", "host-passthrough") ||
        colo_xml_attr_is(node, "mode", "maximum"))
        return COLO_CPU_RAW;
    /* check='none': libvirt starts it also where QEMU drops features; so it may here. */
    if (!colo_xml_child(node, "model") || colo_xml_attr_is(node, "check", "none"))
        return COLO_CPU_UNCHECKED;
    *cpu = node_text(node);
    return COLO_CPU_MODEL;
}

/* Asking was not possible: an older libvirt, another driver. QEMU's own check remains. */
static gboolean cannot_compare(const virError *said)
{
    return !said || said->code == VIR_ERR_NO_SUPPORT || said->code == VIR_ERR_CONFIG_UNSUPPORTED ||
           said->code == VIR_ERR_OPERATION_UNSUPPORTED;
}

gboolean colo_cpu_model_check(virConnectPtr conn, const char *here, const char *what,
                              const char *emulator, const char *arch, const char *machine,
                              const char *virt_type, const char *cpu, GError **error)
{
    int result = virConnectCompareHypervisorCPU(conn, emulator, arch, machine, virt_type, cpu,
                                                VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE);
    const virError *said = virGetLastError();

    if (result == VIR_CPU_COMPARE_IDENTICAL || result == VIR_CPU_COMPARE_SUPERSET)
        return TRUE;
    if (result == VIR_CPU_COMPARE_ERROR && cannot_compare(said))
        return TRUE;
    g_set_error(
        error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
        "%s: host %s does not have it: %s: give the domain a CPU model that both hosts have "
        "('virsh-colo colo-pair-features')",
        what, here,
        result == VIR_CPU_COMPARE_INCOMPATIBLE || !said->message ? "it is incompatible"
                                                                 : said->message);
    return FALSE;
}

char *colo_cpu_model_baseline(virConnectPtr conn, const char *virt_type, const char *a,
                              const char *b, GError **error)
{
    const char *both[] = {a, b};
    char *cpu = virConnectBaselineHypervisorCPU(conn, NULL, NULL, NULL, virt_type, both,
                                                G_N_ELEMENTS(both), 0);
    char *copy = g_strdup(cpu);

    if (!cpu)
        colo_virconn_set_error(error, "common CPU of both hosts");
    free(cpu);
    return copy;
}

char *colo_cpu_model_name(const char *cpu)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(cpu, "cpu", NULL);

    return doc ? colo_xml_text(colo_xml_child(xmlDocGetRootElement(doc), "model")) : NULL;
}
