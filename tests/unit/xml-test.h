/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Data files and libvirt's schema for the tests of domain XML. Included once by each test. */
#pragma once

#include <glib.h>
#include <libxml/parser.h>
#include <libxml/relaxng.h>

#define SCHEMA_DIR "/usr/share/libvirt/schemas"

/* Text of tests/unit/data/xml/@name; the caller frees it. */
static inline char *load_text(const char *name)
{
    const char *top = g_getenv("abs_top_srcdir");
    g_autofree char *path =
        g_build_filename(top ? top : ".", "tests", "unit", "data", "xml", name, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    return text;
}

static inline xmlDoc *load_doc(const char *name)
{
    g_autofree char *text = load_text(name);
    xmlDoc *doc = xmlReadDoc((const xmlChar *)text, NULL, NULL, XML_PARSE_NONET);
    g_assert_nonnull(doc);
    return doc;
}

/* FALSE, and the test is skipped, if libvirt's schema is not installed. */
static inline gboolean have_schema(void)
{
    if (g_file_test(SCHEMA_DIR "/domain.rng", G_FILE_TEST_EXISTS))
        return TRUE;
    g_test_skip("libvirt's schema " SCHEMA_DIR "/domain.rng is not installed");
    return FALSE;
}

static xmlRelaxNG *domain_schema G_GNUC_UNUSED;

/* Fails unless @xml is a domain by libvirt's schema; without the schema nothing is checked. */
static inline void assert_valid(const char *xml)
{
    if (domain_schema == NULL) {
        if (!g_file_test(SCHEMA_DIR "/domain.rng", G_FILE_TEST_EXISTS))
            return;
        xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt(SCHEMA_DIR "/domain.rng");
        domain_schema = xmlRelaxNGParse(parser);
        xmlRelaxNGFreeParserCtxt(parser);
        g_assert_nonnull(domain_schema);
    }
    xmlDoc *doc = xmlReadDoc((const xmlChar *)xml, NULL, NULL, XML_PARSE_NONET);
    g_assert_nonnull(doc);
    xmlRelaxNGValidCtxt *context = xmlRelaxNGNewValidCtxt(domain_schema);
    int result = xmlRelaxNGValidateDoc(context, doc);
    xmlRelaxNGFreeValidCtxt(context);
    xmlFreeDoc(doc);
    if (result != 0)
        g_test_fail_printf("not valid by libvirt's schema:\n%s", xml);
}

static inline void free_schema(void)
{
    g_clear_pointer(&domain_schema, xmlRelaxNGFree);
}
