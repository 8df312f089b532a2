/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/xml-util.h"
#include "util/error.h"

#include <libxml/parser.h>
#include <string.h>

/* Never: entities substituted, DTDs loaded, the network asked, messages on stderr. */
#define PARSE_OPTIONS \
    (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA)

/* The element's name is @name, compared as libxml2's type. */
static gboolean name_is(const xmlChar *have, const char *name)
{
    return have != NULL && strcmp((const char *)have, name) == 0;
}

ColoXmlDoc *colo_xml_parse(const char *text, const char *root, GError **error)
{
    size_t length = text ? strnlen(text, (size_t)COLO_XML_MAX_BYTES + 1) : 0;
    if (length == 0 || length > COLO_XML_MAX_BYTES) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "XML of <%s>: expected 1 to %u bytes, got %s%zu", root, COLO_XML_MAX_BYTES,
                    length > COLO_XML_MAX_BYTES ? "at least " : "", length);
        return NULL;
    }

    xmlParserCtxt *context = xmlNewParserCtxt();
    if (context == NULL)
        g_error("out of memory");
    g_autoptr(ColoXmlDoc) doc =
        xmlCtxtReadMemory(context, text, (int)length, NULL, NULL, PARSE_OPTIONS);
    if (doc == NULL) {
        const xmlError *last = xmlCtxtGetLastError(context);
        g_autofree char *message = g_strdup(last && last->message ? last->message : "no document");
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "XML of <%s>: line %d: %s", root,
                    last ? last->line : 0, g_strchomp(message));
        xmlFreeParserCtxt(context);
        return NULL;
    }
    xmlFreeParserCtxt(context);

    if (doc->intSubset != NULL || doc->extSubset != NULL) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "XML of <%s>: a document type declaration is not accepted", root);
        return NULL;
    }
    xmlNode *top = xmlDocGetRootElement(doc);
    if (!colo_xml_is(top, root)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "XML: expected <%s>, found <%s>",
                    root, top ? (const char *)top->name : "");
        return NULL;
    }
    return g_steal_pointer(&doc);
}

char *colo_xml_to_string(ColoXmlDoc *doc)
{
    xmlBuffer *buffer = xmlBufferCreate();
    if (buffer == NULL)
        g_error("out of memory");
    xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 0);
    char *text = g_strdup_printf("%s\n", (const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

gboolean colo_xml_is(const xmlNode *node, const char *name)
{
    return node != NULL && node->type == XML_ELEMENT_NODE && node->ns == NULL &&
           name_is(node->name, name);
}

xmlNode *colo_xml_first(const xmlNode *node)
{
    return node ? xmlFirstElementChild((xmlNode *)node) : NULL;
}

xmlNode *colo_xml_next(const xmlNode *node)
{
    return node ? xmlNextElementSibling((xmlNode *)node) : NULL;
}

xmlNode *colo_xml_child(const xmlNode *node, const char *name)
{
    for (xmlNode *child = colo_xml_first(node); child; child = colo_xml_next(child)) {
        if (colo_xml_is(child, name))
            return child;
    }
    return NULL;
}

xmlNode *colo_xml_find(const xmlNode *node, const char *path)
{
    g_auto(GStrv) steps = g_strsplit(path, "/", -1);
    xmlNode *at = (xmlNode *)node;
    for (guint i = 0; at != NULL && steps[i] != NULL; i++)
        at = colo_xml_child(at, steps[i]);
    return at;
}

char *colo_xml_attr(const xmlNode *node, const char *name)
{
    if (node == NULL)
        return NULL;
    xmlChar *value = xmlGetNoNsProp(node, (const xmlChar *)name);
    char *copy = g_strdup((const char *)value);
    xmlFree(value);
    return copy;
}

gboolean colo_xml_attr_is(const xmlNode *node, const char *name, const char *value)
{
    g_autofree char *have = colo_xml_attr(node, name);
    return have != NULL && strcmp(have, value) == 0;
}

void colo_xml_set_attr(xmlNode *node, const char *name, const char *value)
{
    if (value != NULL)
        xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
    else
        xmlUnsetProp(node, (const xmlChar *)name);
}

char *colo_xml_text(const xmlNode *node)
{
    if (node == NULL)
        return NULL;
    xmlChar *content = xmlNodeGetContent(node);
    char *text = content ? g_strstrip(g_strdup((const char *)content)) : NULL;
    xmlFree(content);
    if (text != NULL && *text == '\0')
        g_clear_pointer(&text, g_free);
    return text;
}

void colo_xml_drop(xmlNode *node)
{
    xmlNode *parent = node->parent;
    xmlNode *before = node->prev;
    if (before != NULL && xmlIsBlankNode(before)) {
        xmlUnlinkNode(before);
        xmlFreeNode(before);
    }
    xmlUnlinkNode(node);
    xmlFreeNode(node);
    if (parent != NULL && parent->children != NULL && parent->children == parent->last &&
        xmlIsBlankNode(parent->children)) { /* nothing is left but a line break */
        xmlNode *blank = parent->children;
        xmlUnlinkNode(blank);
        xmlFreeNode(blank);
    }
}

void colo_xml_drop_children(xmlNode *node, const char *name)
{
    for (xmlNode *child = colo_xml_first(node), *next; child; child = next) {
        next = colo_xml_next(child);
        if (colo_xml_is(child, name))
            colo_xml_drop(child);
    }
}

xmlNode *colo_xml_add(xmlNode *parent, xmlNs *ns, const char *name)
{
    xmlNode *node = xmlNewDocNode(parent->doc, ns, (const xmlChar *)name, NULL);
    xmlNode *last = xmlGetLastChild(parent);
    if (last != NULL && !xmlIsBlankNode(last)) { /* not laid out in lines */
        xmlAddChild(parent, node);
        return node;
    }

    guint depth = 0;
    for (const xmlNode *up = parent->parent; up && up->type == XML_ELEMENT_NODE; up = up->parent)
        depth++;
    g_autofree char *inner = g_strnfill(2 * (depth + 1), ' ');
    g_autofree char *before = g_strdup_printf("\n%s", inner);
    g_autofree char *after = g_strdup_printf("\n%.*s", (int)(2 * depth), inner);
    if (last != NULL)
        xmlNodeSetContent(last, (const xmlChar *)before);
    else
        xmlNodeAddContent(parent, (const xmlChar *)before);
    xmlAddChild(parent, node);
    xmlNodeAddContent(parent, (const xmlChar *)after);
    return node;
}
