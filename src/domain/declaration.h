/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Door 3: <colo:protection> in a domain's <metadata>, by which stock tools declare that the domain
 * is to be protected whenever it runs, and see whether it is. Its schema is colo-protection.rng.
 *
 *   <metadata>
 *     <colo:protection xmlns:colo="https://libvirt-colo.org/xmlns/protection/1.0" pair="ab"
 *                      auto-reprotect="yes">
 *       <colo:checkpoint mode="auto" period-max-ms="500"/>
 *     </colo:protection>
 *   </metadata>
 *
 * virtcolod adds <colo:state state="protected" .../> to the metadata of the running domain, with
 * declared="no" on the element when it is not the user's. Pure.
 */
#pragma once

#include "domain/xml-util.h"
#include "util/json.h"

#define COLO_DECLARATION_NS "https://libvirt-colo.org/xmlns/protection/1.0"
/* The key by which libvirt is given it: the prefix. */
#define COLO_DECLARATION_KEY "colo"

typedef struct {
    char *pair;
    gboolean declared;       /* FALSE: virtcolod's own element */
    gboolean auto_reprotect; /* what COLO cannot bear interrupts the protection */
    JsonObject *tuning;      /* {"mode": ..., "period-max-ms": ...}; NULL: none */
    char *features;          /* "NAME=require:PARAM,...", as colo-tune takes it; NULL: none */
} ColoDeclaration;

void colo_declaration_free(ColoDeclaration *declaration);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoDeclaration, colo_declaration_free)

/* The declaration in the XML of a domain; the caller's. NULL without @error: it has none. NULL with
 * @error (COLO_ERROR_INVALID_ARG): what is wrong in it, and where. */
ColoDeclaration *colo_declaration_of_domain(const char *domain_xml, GError **error);

/* The same of the element alone, as virDomainSetMetadata() takes it: with or without its namespace.
 */
ColoDeclaration *colo_declaration_of_element(const char *xml, GError **error);

/* Takes out of <domain> what virtcolod has put there: what is left is the user's. */
void colo_declaration_strip(xmlNode *domain);

/*
 * The element for virDomainSetMetadata() of the running domain with that XML, without a namespace,
 * for libvirt gives it that and takes none that has it: what the domain has, and in it the state of
 * @view ("state", "role", "generation", "reason", "pair"; colo_domain_view()). The caller's; NULL:
 * there shall be none.
 */
char *colo_declaration_with_state(const char *domain_xml, JsonObject *view);
