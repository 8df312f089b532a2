/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The only door through which domain XML enters: libxml2 with entities, DTDs and the network off
 * and the size bounded, and a few accessors that do not need XPath.
 *
 * Nothing here keeps state; a document belongs to whoever parsed it and to one thread at a time.
 */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

/* libvirt's own limit on a string of its protocol (VIR_NET_MESSAGE_STRING_MAX, 4 MiB). */
#define COLO_XML_MAX_BYTES (4u * 1024 * 1024)

/* XML namespace of <qemu:commandline> and its siblings. */
#define COLO_XML_QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"

typedef xmlDoc ColoXmlDoc;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoXmlDoc, xmlFreeDoc)

/*
 * Parses @text (NUL-terminated) whose root must be <@root>. A document type declaration, a larger
 * text than COLO_XML_MAX_BYTES and anything not well formed are COLO_ERROR_INVALID_ARG; the message
 * has libxml2's own words and line. The caller owns the result.
 */
ColoXmlDoc *colo_xml_parse(const char *text, const char *root, GError **error);

/* The document as text without an XML declaration, indented as it came; the caller frees it. */
char *colo_xml_to_string(ColoXmlDoc *doc);

/* TRUE if @node is the element @name without a namespace. */
gboolean colo_xml_is(const xmlNode *node, const char *name);

/* First child element @name (no namespace) of @node, or NULL; @node may be NULL. */
xmlNode *colo_xml_child(const xmlNode *node, const char *name);

/* Follows a path of child names, "os/type"; NULL when a step is absent. */
xmlNode *colo_xml_find(const xmlNode *node, const char *path);

/* First child of @node, or next sibling of @node, that is an element. */
xmlNode *colo_xml_first(const xmlNode *node);
xmlNode *colo_xml_next(const xmlNode *node);

/* Attribute @name of @node (no namespace) or NULL; the caller frees it. @node may be NULL. */
char *colo_xml_attr(const xmlNode *node, const char *name);

/* TRUE if attribute @name of @node is there and equals @value. */
gboolean colo_xml_attr_is(const xmlNode *node, const char *name, const char *value);

/* Sets, or with NULL removes, attribute @name. */
void colo_xml_set_attr(xmlNode *node, const char *name, const char *value);

/* Text of the element @node without surrounding blanks, or NULL if it is empty or @node is NULL. */
char *colo_xml_text(const xmlNode *node);

/* Takes @node out of its document with the blank text before it, and frees it. */
void colo_xml_drop(xmlNode *node);

/* Drops every child element @name of @node. */
void colo_xml_drop_children(xmlNode *node, const char *name);

/* Appends a new element @name of namespace @ns (NULL: none) to @parent, indented like its
 * siblings. Borrowed: the document owns it. */
xmlNode *colo_xml_add(xmlNode *parent, xmlNs *ns, const char *name);
