/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/eligibility.h"
#include "domain/xml-eligibility-table.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <string.h>

typedef struct {
    xmlXPathContext *xpath;
    GPtrArray *findings;
} Check;

void colo_finding_free(ColoFinding *finding)
{
    if (finding == NULL)
        return;
    g_free(finding->device);
    g_free(finding->found);
    g_free(finding->remedy);
    g_free(finding);
}

static void finding_free(gpointer finding)
{
    colo_finding_free(finding);
}

/* Truth of @expression at @node; an expression that fails counts as @on_error. */
static gboolean xpath_true(Check *check, xmlNode *node, const char *expression, gboolean on_error)
{
    xmlXPathObject *value = xmlXPathNodeEval(node, (const xmlChar *)expression, check->xpath);
    if (value == NULL)
        return on_error;
    gboolean truth = xmlXPathCastToBoolean(value) != 0;
    xmlXPathFreeObject(value);
    return truth;
}

/* String value of @expression at @node, blanks normalized; the caller frees it. */
static char *xpath_string(Check *check, xmlNode *node, const char *expression)
{
    xmlXPathObject *value = xmlXPathNodeEval(node, (const xmlChar *)expression, check->xpath);
    xmlChar *text = value ? xmlXPathCastToString(value) : NULL;
    char *copy = g_strstrip(g_strdup(text ? (const char *)text : ""));
    xmlFree(text);
    xmlXPathFreeObject(value);
    return copy;
}

/* Name of @node as the table writes it: "disk", "qemu:commandline", "{namespace}name". */
static char *element_name(const xmlNode *node)
{
    if (node->ns == NULL)
        return g_strdup((const char *)node->name);
    if (strcmp((const char *)node->ns->href, COLO_XML_QEMU_NS) == 0)
        return g_strdup_printf("qemu:%s", (const char *)node->name);
    return g_strdup_printf("{%s}%s", (const char *)node->ns->href, (const char *)node->name);
}

/* How an operator knows the object: its element, and its target, alias, model or type. */
static char *label_of(Check *check, xmlNode *node, const char *section, const char *element)
{
    if (*section == '\0') {
        g_autofree char *name = xpath_string(check, node, "name");
        return g_strdup_printf("domain %s", name);
    }
    g_autofree char *alias = xpath_string(check, node, "alias/@name");
    if (strcmp(element, "disk") == 0) {
        g_autofree char *target = xpath_string(check, node, "target/@dev");
        return g_strdup_printf("disk %s", target);
    }
    if (strcmp(element, "interface") == 0) {
        g_autofree char *mac = xpath_string(check, node, "mac/@address");
        return *alias ? g_strdup_printf("interface %s (%s)", alias, mac)
                      : g_strdup_printf("interface %s", mac);
    }
    if (strcmp(section, "devices") != 0)
        return g_strdup(element);
    g_autofree char *kind = xpath_string(check, node, "(@model | model/@type | @type)[1]");
    const char *by = *alias ? alias : kind;
    return *by ? g_strdup_printf("%s %s", element, by) : g_strdup(element);
}

static void add_finding(Check *check, ColoFindingSeverity severity, char *device, char *found,
                        const char *remedy, gboolean fixable)
{
    ColoFinding *finding = g_new0(ColoFinding, 1);
    finding->severity = severity;
    finding->device = device;
    finding->found = found;
    finding->remedy = g_strdup(remedy ? remedy : "");
    finding->fixable = fixable;
    g_ptr_array_add(check->findings, finding);
}

/* The text of @row with "{}" replaced by what it shows. */
static char *row_text(Check *check, xmlNode *node, const ColoEligibilityRow *row)
{
    if (row->show == NULL)
        return g_strdup(row->found);
    g_autofree char *value = xpath_string(check, node, row->show);
    g_auto(GStrv) parts = g_strsplit(row->found, "{}", 2);
    return g_strjoinv(*value ? value : "none", parts);
}

/* Applies every row to @node; refuses it if none accepts it. */
static void judge(Check *check, xmlNode *node, const char *section)
{
    g_autofree char *element = element_name(node);
    gboolean accepted = FALSE, refused = FALSE;

    for (gsize i = 0; i < colo_eligibility_table_len; i++) {
        const ColoEligibilityRow *row = &colo_eligibility_table[i];
        if (strcmp(row->section, section) != 0 || strcmp(row->element, element) != 0)
            continue;
        gboolean refuses = row->verdict == COLO_ROW_REFUSED;
        if (row->when != NULL && !xpath_true(check, node, row->when, refuses))
            continue;
        if (row->verdict == COLO_ROW_SUPPORTED || row->verdict == COLO_ROW_HANDLED) {
            accepted = TRUE;
            continue;
        }
        refused |= refuses;
        add_finding(check, refuses ? COLO_FINDING_REFUSED : COLO_FINDING_NOTE,
                    label_of(check, node, section, element), row_text(check, node, row),
                    row->remedy, row->fixable);
    }
    if (accepted || refused)
        return;
    gboolean known = colo_eligibility_lists(section, element);
    add_finding(check, COLO_FINDING_REFUSED, label_of(check, node, section, element),
                g_strdup_printf("<%s>%s is not known to work and is not in the table", element,
                                known ? " of this kind" : ""),
                "remove it, or ask for its support", FALSE);
}

/* Judges every child of @parent; nothing if @parent is NULL. */
static void judge_children(Check *check, xmlNode *parent, const char *section)
{
    for (xmlNode *node = colo_xml_first(parent); node; node = colo_xml_next(node))
        judge(check, node, section);
}

/* Refusals before notes, each in the order in which they were found. */
static GPtrArray *refusals_first(GPtrArray *findings)
{
    GPtrArray *sorted = g_ptr_array_new_with_free_func(finding_free);
    for (int severity = COLO_FINDING_REFUSED; severity >= COLO_FINDING_NOTE; severity--) {
        for (guint i = 0; i < findings->len; i++) {
            ColoFinding *finding = g_ptr_array_index(findings, i);
            if ((int)finding->severity == severity)
                g_ptr_array_add(sorted, finding);
        }
    }
    g_ptr_array_set_free_func(findings, NULL);
    g_ptr_array_unref(findings);
    return sorted;
}

GPtrArray *colo_eligibility_check(const char *xml, const ColoEligibilityPolicy *policy,
                                  GError **error)
{
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(xml, "domain", error);
    if (doc == NULL)
        return NULL;
    xmlNode *domain = xmlDocGetRootElement(doc);

    Check check = {
        .xpath = xmlXPathNewContext(doc),
        .findings = g_ptr_array_new_with_free_func(finding_free),
    };
    if (check.xpath == NULL)
        g_error("out of memory");
    xmlXPathRegisterNs(check.xpath, (const xmlChar *)"qemu", (const xmlChar *)COLO_XML_QEMU_NS);
    xmlXPathRegisterVariable(check.xpath, (const xmlChar *)"emulation",
                             xmlXPathNewBoolean(policy != NULL && policy->allow_emulation));

    judge(&check, domain, "");
    judge_children(&check, domain, "domain");
    judge_children(&check, colo_xml_child(domain, "features"), "features");
    judge_children(&check, colo_xml_child(domain, "devices"), "devices");

    xmlXPathFreeContext(check.xpath);
    return refusals_first(check.findings);
}

gboolean colo_eligibility_require(const GPtrArray *findings, const char *domain, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);
    guint count = 0;
    for (guint i = 0; i < findings->len; i++) {
        const ColoFinding *finding = g_ptr_array_index(findings, i);
        if (finding->severity != COLO_FINDING_REFUSED)
            continue;
        count++;
        g_string_append_printf(list, "%s%s: %s", list->len ? "; " : "", finding->device,
                               finding->found);
        if (*finding->remedy)
            g_string_append_printf(list, " (remedy: %s)", finding->remedy);
    }
    if (count == 0)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED, "domain '%s' cannot be protected: %s",
                domain, list->str);
    return FALSE;
}

gboolean colo_eligibility_lists(const char *section, const char *element)
{
    for (gsize i = 0; i < colo_eligibility_table_len; i++) {
        if (strcmp(colo_eligibility_table[i].section, section) == 0 &&
            strcmp(colo_eligibility_table[i].element, element) == 0)
            return TRUE;
    }
    return FALSE;
}
