/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* <colo:protection> in a domain's metadata: what is read, what is refused, what is written. */
#include "domain/declaration.h"
#include "util/error.h"

#include <string.h>

#define NS "xmlns:colo='" COLO_DECLARATION_NS "'"
#define DOMAIN(metadata) "<domain><name>a</name><metadata>" metadata "</metadata></domain>"

static void test_read(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoDeclaration) d = colo_declaration_of_domain(
        DOMAIN("<other xmlns='http://example.org/'/>"
               "<colo:protection " NS " pair='ab' auto-reprotect='yes'>"
               "<colo:checkpoint mode='periodic' period-max-ms='500'/>"
               "<colo:feature name='avic' policy='prefer'/>"
               "<colo:feature name='descriptor-table-exiting' policy='require' "
               "param='count+lock'/>"
               "<colo:feature name='preemption-quantum' policy='require' param='1000'/>"
               "</colo:protection>"),
        &error);

    g_assert_no_error(error);
    g_assert_cmpstr(d->pair, ==, "ab");
    g_assert_true(d->declared);
    g_assert_true(d->auto_reprotect);
    g_assert_cmpstr(colo_json_peek_string(d->tuning, "mode", ""), ==, "periodic");
    g_assert_cmpuint(colo_json_peek_uint(d->tuning, "period-max-ms", 0), ==, 500);
    g_assert_cmpstr(d->features, ==,
                    "avic=prefer,descriptor-table-exiting=require:count+lock,"
                    "preemption-quantum=require:1000");
}

static void test_none(void)
{
    static const char *const xmls[] = {
        "<domain><name>a</name></domain>",
        DOMAIN("<protection pair='ab'/>"), /* of no namespace */
        DOMAIN("<colo:protection xmlns:colo='http://example.org/' pair='ab'/>"),
        DOMAIN("<colo:other " NS "/>"),
        "<domain><description>" COLO_DECLARATION_NS "</description></domain>",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(xmls); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(colo_declaration_of_domain(xmls[i], &error));
        g_assert_no_error(error);
    }
}

static void test_invalid(void)
{
    static const struct {
        const char *xml, *named;
    } cases[] = {
        {"<colo:protection " NS "/>", "takes pair="},
        {"<colo:protection " NS " pair=''/>", "pair=\"\""},
        {"<colo:protection " NS " pair='ab' auto-reprotect='maybe'/>", "auto-reprotect=\"maybe\""},
        {"<colo:protection " NS " pair='ab' colour='red'/>", "colour"},
        {"<colo:protection " NS " pair='ab'><colo:disk/></colo:protection>", "disk"},
        {"<colo:protection " NS " pair='ab'><colo:checkpoint mode='never'/></colo:protection>",
         "mode"},
        {"<colo:protection " NS " pair='ab'><colo:checkpoint period-max-ms='x'/></colo:protection>",
         "period-max-ms"},
        /* The schema cannot say it: bounds have their home in util/tuning.h. */
        {"<colo:protection " NS " pair='ab'><colo:checkpoint pause-share='91'/></colo:protection>",
         "pause-share must be 1 to 90, found 91"},
        {"<colo:protection " NS " pair='ab'><colo:feature name='avic'/></colo:protection>",
         "policy"},
        {"<colo:protection " NS " pair='ab'>", "line"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *domain =
            g_strdup_printf("<domain><metadata>%s</metadata></domain>", cases[i].xml);
        g_autoptr(GError) error = NULL, of_element = NULL;

        g_assert_null(colo_declaration_of_domain(domain, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
        g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, cases[i].named));
        g_assert_null(colo_declaration_of_element(cases[i].xml, &of_element));
        g_assert_error(of_element, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
}

/* As `virsh metadata --set` passes it: the prefix is libvirt's business. */
static void test_element(void)
{
    static const char *const xmls[] = {
        "<protection pair='ab'><checkpoint mode='auto'/></protection>",
        "<colo:protection " NS " pair='ab'><colo:checkpoint mode='auto'/></colo:protection>",
        "<x:protection xmlns:x='" COLO_DECLARATION_NS "' pair='ab'><x:checkpoint mode='auto'/>"
        "</x:protection>",
    };
    static const char *const none[] = {"", "text", "<a/>", "<protection pair='ab'/><b/>",
                                       "<protection pair='ab'/></metadata>"};

    for (size_t i = 0; i < G_N_ELEMENTS(xmls); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(ColoDeclaration) d = colo_declaration_of_element(xmls[i], &error);

        g_assert_no_error(error);
        g_assert_cmpstr(d->pair, ==, "ab");
        g_assert_cmpstr(colo_json_peek_string(d->tuning, "mode", ""), ==, "auto");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(colo_declaration_of_element(none[i], &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
}

/* As libvirt keeps an element that it was given. */
static char *domain_with(const char *element)
{
    g_assert_true(g_str_has_prefix(element, "<protection "));
    g_assert_null(strstr(element, "xmlns"));
    return g_strdup_printf("<domain><metadata><protection xmlns='" COLO_DECLARATION_NS
                           "' %s</metadata></domain>",
                           element + strlen("<protection "));
}

/* The state comes into what the user wrote, and goes again. */
static void test_state(void)
{
    g_autoptr(JsonObject) view =
        colo_json_build("state", "s", "protected", "role", "s", "primary", "generation", "u",
                        (uint64_t)5, "pair", "s", "ab", "reason", "s", NULL, NULL);
    g_autofree char *first = colo_declaration_with_state(
        DOMAIN("<colo:protection " NS " pair='ab'><colo:checkpoint mode='auto'/>"
               "</colo:protection>"),
        view);
    g_autofree char *domain = domain_with(first), *second = NULL, *off = NULL;
    g_autoptr(ColoDeclaration) read = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_nonnull(strstr(first, "<state state=\"protected\" role=\"primary\""));
    g_assert_nonnull(strstr(first, "generation=\"5\""));
    read = colo_declaration_of_element(first, &error);
    g_assert_no_error(error);
    g_assert_true(read->declared);
    colo_json_add(view, "state", "s", "alone", "reason", "s", "a < b", NULL);
    second = colo_declaration_with_state(domain, view);
    g_assert_null(strstr(second, "\"protected\""));
    g_assert_nonnull(strstr(second, "reason=\"a &lt; b\""));
    colo_json_add(view, "state", "s", "unprotected", NULL);
    off = colo_declaration_with_state(domain, view);
    g_assert_nonnull(strstr(off, "state=\"unprotected\""));
    g_assert_nonnull(strstr(off, "mode=\"auto\""));
}

/* A domain that was protected by colo-protect has the element only as long as it is. */
static void test_state_undeclared(void)
{
    g_autoptr(JsonObject) view =
        colo_json_build("state", "s", "protected", "role", "s", "primary", "generation", "u",
                        (uint64_t)5, "pair", "s", "ab", "reason", "s", NULL, NULL);
    g_autofree char *element = colo_declaration_with_state(DOMAIN(""), view);
    g_autofree char *domain = domain_with(element);
    g_autoptr(ColoDeclaration) read = NULL;
    g_autoptr(GError) error = NULL;

    read = colo_declaration_of_domain(domain, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(read->pair, ==, "ab");
    g_assert_false(read->declared);
    colo_json_add(view, "state", "s", "unprotected", NULL);
    g_assert_null(colo_declaration_with_state(domain, view));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/declaration/read", test_read);
    g_test_add_func("/declaration/none", test_none);
    g_test_add_func("/declaration/invalid", test_invalid);
    g_test_add_func("/declaration/element", test_element);
    g_test_add_func("/declaration/state", test_state);
    g_test_add_func("/declaration/state-undeclared", test_state_undeclared);
    return g_test_run();
}
