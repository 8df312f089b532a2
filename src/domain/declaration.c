/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/declaration.h"

#include "domain/colo-protection-rng.h"
#include "util/error.h"
#include "util/tuning.h"

#include <libxml/relaxng.h>
#include <string.h>

void colo_declaration_free(ColoDeclaration *declaration)
{
    if (!declaration)
        return;
    g_free(declaration->pair);
    json_object_put(declaration->tuning);
    g_free(declaration->features);
    g_free(declaration);
}

/* Of an element and of what is wrong in it, in an error: enough to find it by. */
#define WORDS_MAX 400u

static gboolean is_ours(const xmlNode *node, const char *name)
{
    return node->ns && strcmp((const char *)node->ns->href, COLO_DECLARATION_NS) == 0 &&
           strcmp((const char *)node->name, name) == 0;
}

/* What is wrong, in libxml2's words: alone they seldom name it. */
static void on_invalid(void *opaque, const xmlError *xml_error)
{
    GString *words = opaque;
    g_autofree char *text = g_strdup(xml_error->message ? xml_error->message : "");

    if (words->len < WORDS_MAX)
        g_string_append_printf(words, "%s%s", words->len ? "; " : "", g_strchomp(text));
}

static void ignore(void *opaque G_GNUC_UNUSED, const xmlError *error G_GNUC_UNUSED)
{
}

/* One parse of the schema for the process. */
static gpointer parse_schema(gpointer data G_GNUC_UNUSED)
{
    xmlRelaxNGParserCtxt *parser =
        xmlRelaxNGNewMemParserCtxt(colo_protection_rng, (int)strlen(colo_protection_rng));
    xmlRelaxNG *schema;

    xmlRelaxNGSetParserStructuredErrors(parser, (xmlStructuredErrorFunc)ignore, NULL);
    schema = xmlRelaxNGParse(parser);
    xmlRelaxNGFreeParserCtxt(parser);
    return schema;
}

/* @doc's root is <protection> of our namespace. */
static gboolean is_valid(ColoXmlDoc *doc, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    xmlRelaxNG *schema = g_once(&once, parse_schema, NULL);
    xmlRelaxNGValidCtxt *context = xmlRelaxNGNewValidCtxt(schema);
    g_autoptr(GString) words = g_string_new(NULL);
    g_autofree char *found = NULL;
    int outcome;

    xmlRelaxNGSetValidStructuredErrors(context, (xmlStructuredErrorFunc)on_invalid, words);
    outcome = xmlRelaxNGValidateDoc(context, doc);
    xmlRelaxNGFreeValidCtxt(context);
    if (outcome == 0)
        return TRUE;
    found = colo_xml_to_string(doc);
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "<colo:protection> takes pair='NAME', auto-reprotect='yes' or 'no', "
                "<colo:checkpoint> and <colo:feature name='NAME' policy='require', 'prefer' or "
                "'off'> (colo-protection.rng); found %.*s (%.*s)",
                (int)WORDS_MAX, g_strchomp(found), (int)WORDS_MAX, words->str);
    return FALSE;
}

static JsonObject *read_tuning(const xmlNode *checkpoint)
{
    JsonObject *tuning = json_object_new_object();

    for (const xmlAttr *attr = checkpoint->properties; attr; attr = attr->next) {
        const char *name = (const char *)attr->name;
        g_autofree char *value = colo_xml_attr(checkpoint, name);

        if (strcmp(name, "mode") == 0)
            colo_json_add(tuning, name, "s", value, NULL);
        else
            colo_json_add(tuning, name, "u", g_ascii_strtoull(value, NULL, 10), NULL);
    }
    return tuning;
}

static ColoDeclaration *read_element(ColoXmlDoc *doc, GError **error)
{
    const xmlNode *element = xmlDocGetRootElement(doc);
    g_autoptr(ColoDeclaration) declaration = g_new0(ColoDeclaration, 1);
    g_autoptr(GString) features = g_string_new(NULL);
    ColoTuning tuning = COLO_TUNING_DEFAULT;

    if (!is_valid(doc, error))
        return NULL;
    declaration->pair = colo_xml_attr(element, "pair");
    declaration->declared = !colo_xml_attr_is(element, "declared", "no");
    declaration->auto_reprotect = colo_xml_attr_is(element, "auto-reprotect", "yes");
    for (const xmlNode *child = colo_xml_first(element); child; child = colo_xml_next(child)) {
        if (is_ours(child, "checkpoint")) {
            declaration->tuning = read_tuning(child);
        } else if (is_ours(child, "feature")) {
            g_autofree char *name = colo_xml_attr(child, "name");
            g_autofree char *policy = colo_xml_attr(child, "policy");
            g_autofree char *param = colo_xml_attr(child, "param");

            g_string_append_printf(features, "%s%s=%s%s%s", features->len ? "," : "", name, policy,
                                   param ? ":" : "", param ? param : "");
        }
    }
    if (features->len)
        declaration->features = g_strdup(features->str);
    if (declaration->tuning && !colo_tuning_update(&tuning, declaration->tuning, error)) {
        g_prefix_error(error, "<colo:checkpoint>: ");
        return NULL;
    }
    return g_steal_pointer(&declaration);
}

/* The element in a domain's XML as a document of its own; NULL: there is none. */
static ColoXmlDoc *extract(const char *domain_xml, GError **error)
{
    g_autoptr(ColoXmlDoc) doc = NULL, element = NULL;
    xmlNode *node;

    if (!strstr(domain_xml, COLO_DECLARATION_NS)) /* mostly: not parsed */
        return NULL;
    doc = colo_xml_parse(domain_xml, "domain", error);
    if (!doc)
        return NULL;
    node = colo_xml_first(colo_xml_child(xmlDocGetRootElement(doc), "metadata"));
    while (node && !is_ours(node, "protection"))
        node = colo_xml_next(node);
    if (!node)
        return NULL;
    element = xmlNewDoc((const xmlChar *)"1.0");
    xmlDocSetRootElement(element, xmlDocCopyNode(node, element, 1));
    xmlReconciliateNs(element, xmlDocGetRootElement(element));
    return g_steal_pointer(&element);
}

ColoDeclaration *colo_declaration_of_domain(const char *domain_xml, GError **error)
{
    GError *own = NULL;
    g_autoptr(ColoXmlDoc) doc = extract(domain_xml, &own);

    if (!doc) {
        if (own)
            g_propagate_error(error, own);
        return NULL;
    }
    return read_element(doc, error);
}

/* What has no namespace gets ours, as libvirt does it (virXMLInjectNamespace()). */
static void inject_namespace(xmlNode *node, xmlNs *ns)
{
    for (; node; node = colo_xml_next(node)) {
        if (!node->ns)
            xmlSetNs(node, ns);
        inject_namespace(colo_xml_first(node), ns);
    }
}

ColoDeclaration *colo_declaration_of_element(const char *xml, GError **error)
{
    g_autofree char *wrapped = g_strdup_printf(
        "<metadata xmlns:" COLO_DECLARATION_KEY "='" COLO_DECLARATION_NS "'>%s</metadata>", xml);
    g_autoptr(ColoXmlDoc) doc = colo_xml_parse(wrapped, "metadata", error), element = NULL;
    xmlNode *node;

    if (!doc)
        return NULL;
    node = colo_xml_first(xmlDocGetRootElement(doc));
    if (!node || colo_xml_next(node)) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "<colo:protection> is expected, and nothing beside it");
        return NULL;
    }
    inject_namespace(node, xmlDocGetRootElement(doc)->nsDef);
    element = xmlNewDoc((const xmlChar *)"1.0");
    xmlDocSetRootElement(element, xmlDocCopyNode(node, element, 1));
    xmlReconciliateNs(element, xmlDocGetRootElement(element));
    return read_element(element, error);
}

/* ---- the state ---- */

static void drop_state(xmlNode *element)
{
    for (xmlNode *child = colo_xml_first(element), *next; child; child = next) {
        next = colo_xml_next(child);
        if (is_ours(child, "state"))
            colo_xml_drop(child);
    }
}

void colo_declaration_strip(xmlNode *domain)
{
    xmlNode *metadata = colo_xml_child(domain, "metadata");

    for (xmlNode *child = colo_xml_first(metadata), *next; child; child = next) {
        next = colo_xml_next(child);
        if (!is_ours(child, "protection"))
            continue;
        drop_state(child);
        if (colo_xml_attr_is(child, "declared", "no"))
            colo_xml_drop(child);
    }
    if (metadata && !colo_xml_first(metadata))
        colo_xml_drop(metadata);
}

static void add_state(xmlNode *element, JsonObject *view)
{
    static const char *const texts[] = {"state", "role", "reason"};
    xmlNode *state = xmlNewChild(element, element->ns, (const xmlChar *)"state", NULL);
    g_autofree char *generation =
        g_strdup_printf("%" G_GUINT64_FORMAT, colo_json_peek_uint(view, "generation", 0));

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *text = colo_json_peek_string(view, texts[i], NULL);

        if (text)
            colo_xml_set_attr(state, texts[i], text);
    }
    colo_xml_set_attr(state, "generation", generation);
}

/* Of an element that the schema allows: all in it is ours. */
static void drop_namespace(xmlNode *element)
{
    xmlSetNs(element, NULL);
    for (xmlNode *child = colo_xml_first(element); child; child = colo_xml_next(child))
        drop_namespace(child);
    xmlFreeNsList(element->nsDef);
    element->nsDef = NULL;
}

char *colo_declaration_with_state(const char *domain_xml, JsonObject *view)
{
    const char *state = colo_json_peek_string(view, "state", "unprotected");
    gboolean off = strcmp(state, "unprotected") == 0;
    g_autoptr(ColoXmlDoc) doc = extract(domain_xml, NULL);
    g_autofree char *text = NULL;
    xmlNode *element;

    if (!doc) {
        const char *pair = colo_json_peek_string(view, "pair", NULL);

        if (off || !pair)
            return NULL;
        doc = xmlNewDoc((const xmlChar *)"1.0");
        element = xmlNewDocNode(doc, NULL, (const xmlChar *)"protection", NULL);
        xmlDocSetRootElement(doc, element);
        xmlSetNs(element, xmlNewNs(element, (const xmlChar *)COLO_DECLARATION_NS,
                                   (const xmlChar *)COLO_DECLARATION_KEY));
        colo_xml_set_attr(element, "pair", pair);
        colo_xml_set_attr(element, "declared", "no");
    }
    element = xmlDocGetRootElement(doc);
    if (off && colo_xml_attr_is(element, "declared", "no"))
        return NULL;
    drop_state(element);
    add_state(element, view);
    drop_namespace(element);
    text = colo_xml_to_string(doc);
    return g_strdup(g_strchomp(text));
}
