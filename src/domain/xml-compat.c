/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/xml-compat.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <string.h>

static gboolean differ(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) != 0;
}

/* "7.2.22" of libvirt's version number, 0 being unknown; the caller frees it. */
static char *version_text(unsigned long version)
{
    if (version == 0)
        return g_strdup("an unknown version");
    return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000);
}

/* Sets @error to one sentence that names both hosts with what each has; returns FALSE. */
static gboolean refuse(const ColoHostFacts *local, const ColoHostFacts *peer, const char *what,
                       const char *here, const char *there, const char *remedy, GError **error)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED, "%s: host %s has %s, host %s has %s; %s",
                what, local->name, here, peer->name, there, remedy);
    return FALSE;
}

static gboolean same_version(const ColoHostFacts *local, const ColoHostFacts *peer,
                             const char *what, unsigned long here, unsigned long there,
                             GError **error)
{
    if (here == there && here != 0)
        return TRUE;
    g_autofree char *a = version_text(here);
    g_autofree char *b = version_text(there);
    g_autofree char *remedy = g_strdup_printf("install the same version of %s on both", what);
    return refuse(local, peer, what, a, b, remedy, error);
}

static gboolean has_machine(const ColoHostFacts *host, const char *machine, GError **error)
{
    if (machine == NULL || host->machines == NULL || g_strv_contains(host->machines, machine))
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                "machine type %s: host %s does not have it; install the same QEMU on both hosts",
                machine, host->name);
    return FALSE;
}

gboolean colo_compat_check(const ColoHostFacts *local, const ColoHostFacts *peer,
                           const char *machine, const char *cpu_mode, GError **error)
{
    const char *no_cpu = "choose hosts of one kind";
    if (differ(local->arch, peer->arch))
        return refuse(local, peer, "architecture", local->arch, peer->arch, no_cpu, error);
    if (!same_version(local, peer, "QEMU", local->qemu_version, peer->qemu_version, error) ||
        !same_version(local, peer, "libvirt", local->libvirt_version, peer->libvirt_version, error))
        return FALSE;
    if (local->machines != NULL && peer->machines != NULL && machine != NULL &&
        g_strv_contains(local->machines, machine) != g_strv_contains(peer->machines, machine)) {
        gboolean here = g_strv_contains(local->machines, machine);
        return refuse(local, peer, "machine type", here ? machine : "no such type",
                      here ? "no such type" : machine, "install the same QEMU on both", error);
    }
    if (!has_machine(local, machine, error) || !has_machine(peer, machine, error))
        return FALSE;
    if (differ(local->cpu_vendor, peer->cpu_vendor))
        return refuse(local, peer, "CPU vendor", local->cpu_vendor, peer->cpu_vendor, no_cpu,
                      error);
    gboolean raw_cpu = cpu_mode != NULL && (strcmp(cpu_mode, "host-passthrough") == 0 ||
                                            strcmp(cpu_mode, "maximum") == 0);
    if (raw_cpu && differ(local->cpu, peer->cpu))
        return refuse(local, peer, "CPU of a host-passthrough domain", local->cpu, peer->cpu,
                      "use host-model or a named model that both have", error);
    return TRUE;
}

void colo_host_caps_free(ColoHostCaps *caps)
{
    if (caps == NULL)
        return;
    g_free(caps->arch);
    g_free(caps->cpu);
    g_free(caps->cpu_vendor);
    g_strfreev(caps->machines);
    g_free(caps);
}

/* Adds every <machine> child of @node to @machines: its text and its canonical name. */
static void add_machines(GPtrArray *machines, const xmlNode *node)
{
    for (const xmlNode *child = colo_xml_first(node); child; child = colo_xml_next(child)) {
        if (!colo_xml_is(child, "machine"))
            continue;
        char *names[] = {colo_xml_text(child), colo_xml_attr(child, "canonical")};
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
            if (names[i] != NULL)
                g_ptr_array_add(machines, names[i]);
        }
    }
}

ColoHostCaps *colo_host_caps_parse(const char *caps_xml, const char *arch, const char *virt_type,
                                   GError **error)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(caps_xml, "capabilities", error);
    if (doc == NULL)
        return NULL;
    const xmlNode *root = xmlDocGetRootElement(doc);
    const xmlNode *cpu = colo_xml_find(root, "host/cpu");

    ColoHostCaps *caps = g_new0(ColoHostCaps, 1);
    caps->arch = colo_xml_text(colo_xml_child(cpu, "arch"));
    caps->cpu = colo_xml_text(colo_xml_child(cpu, "model"));
    caps->cpu_vendor = colo_xml_text(colo_xml_child(cpu, "vendor"));

    /* Machines of the architecture, and those that this type of domain adds or has of its own. */
    GPtrArray *machines = g_ptr_array_new();
    for (const xmlNode *guest = colo_xml_first(root); guest; guest = colo_xml_next(guest)) {
        const xmlNode *node = colo_xml_child(guest, "arch");
        if (!colo_xml_is(guest, "guest") || !colo_xml_attr_is(node, "name", arch))
            continue;
        add_machines(machines, node);
        for (const xmlNode *type = colo_xml_first(node); type; type = colo_xml_next(type)) {
            if (colo_xml_is(type, "domain") && colo_xml_attr_is(type, "type", virt_type))
                add_machines(machines, type);
        }
    }
    g_ptr_array_add(machines, NULL);
    caps->machines = (char **)g_ptr_array_free(machines, FALSE);
    return caps;
}
