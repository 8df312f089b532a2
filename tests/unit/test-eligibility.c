/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/eligibility.h"
#include "domain/xml-eligibility-table.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <string.h>

#include "xml-test.h"

/* Elements of libvirt's schema that may stand in a certain place, references followed. */
typedef struct {
    GHashTable *defines; /* name -> GPtrArray of xmlNode * (<define>) */
    GPtrArray *docs;
} Schema;

static gboolean rng_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

static void free_doc(gpointer doc)
{
    xmlFreeDoc(doc);
}

static void schema_load(Schema *schema, const char *file)
{
    g_autofree char *path = g_build_filename(SCHEMA_DIR, file, NULL);
    xmlDoc *doc = xmlReadFile(path, NULL, XML_PARSE_NONET);
    g_assert_nonnull(doc);
    g_ptr_array_add(schema->docs, doc);
    for (xmlNode *node = xmlFirstElementChild(xmlDocGetRootElement(doc)); node;
         node = xmlNextElementSibling(node)) {
        g_autofree char *name = colo_xml_attr(node, "name");
        if (rng_is(node, "include")) {
            g_autofree char *href = colo_xml_attr(node, "href");
            schema_load(schema, href);
        } else if (rng_is(node, "define")) {
            GPtrArray *list = g_hash_table_lookup(schema->defines, name);
            if (list == NULL) {
                list = g_ptr_array_new();
                g_hash_table_insert(schema->defines, g_strdup(name), list);
            }
            g_ptr_array_add(list, node);
        }
    }
}

/* Adds to @names each element without a namespace that can be a child of the pattern @node. */
static void schema_elements(const Schema *schema, const xmlNode *node, GHashTable *seen,
                            GHashTable *names)
{
    for (xmlNode *child = xmlFirstElementChild((xmlNode *)node); child;
         child = xmlNextElementSibling(child)) {
        g_autofree char *name = colo_xml_attr(child, "name");
        if (rng_is(child, "element")) {
            g_autofree char *ns = colo_xml_attr(child, "ns");
            if (ns == NULL && name != NULL)
                g_hash_table_add(names, g_steal_pointer(&name));
        } else if (rng_is(child, "ref")) {
            if (g_hash_table_contains(seen, name))
                continue;
            g_hash_table_add(seen, g_strdup(name));
            GPtrArray *defines = g_hash_table_lookup(schema->defines, name);
            g_assert_nonnull(defines);
            for (guint i = 0; i < defines->len; i++)
                schema_elements(schema, g_ptr_array_index(defines, i), seen, names);
        } else if (!rng_is(child, "attribute")) {
            schema_elements(schema, child, seen, names);
        }
    }
}

/* Fails for every element of define @define (below its <element name=@inside> if given) that the
 * table does not list in @section; returns how many elements there are. */
static guint check_listed(const Schema *schema, const char *define, const char *inside,
                          const char *section)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GPtrArray *defines = g_hash_table_lookup(schema->defines, define);
    g_assert_nonnull(defines);
    for (guint i = 0; i < defines->len; i++) {
        xmlNode *node = g_ptr_array_index(defines, i);
        if (inside == NULL) {
            schema_elements(schema, node, seen, names);
            continue;
        }
        g_autofree char *expression =
            g_strdup_printf(".//*[local-name()='element' and @name='%s']", inside);
        xmlXPathContext *context = xmlXPathNewContext(node->doc);
        xmlXPathObject *found = xmlXPathNodeEval(node, (const xmlChar *)expression, context);
        for (int j = 0; found->nodesetval && j < found->nodesetval->nodeNr; j++)
            schema_elements(schema, found->nodesetval->nodeTab[j], seen, names);
        xmlXPathFreeObject(found);
        xmlXPathFreeContext(context);
    }

    GHashTableIter iter;
    gpointer name;
    g_hash_table_iter_init(&iter, names);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        if (!colo_eligibility_lists(section, name)) {
            g_test_message("<%s> of <%s> is not in the table", (char *)name, section);
            g_test_fail();
        }
    }
    return g_hash_table_size(names);
}

static void test_schema_listed(void)
{
    if (!have_schema())
        return;
    Schema schema = {
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref),
        g_ptr_array_new_with_free_func(free_doc),
    };
    schema_load(&schema, "domaincommon.rng");
    /* The floor shows that the walk found the lists at all. */
    g_assert_cmpuint(check_listed(&schema, "devices", "devices", "devices"), >=, 30);
    g_assert_cmpuint(check_listed(&schema, "domaincontents", NULL, "domain"), >=, 30);
    g_assert_cmpuint(check_listed(&schema, "features", "features", "features"), >=, 20);
    g_hash_table_unref(schema.defines);
    g_ptr_array_unref(schema.docs);
}

/* Counts findings of @severity and returns the last of them. */
static const ColoFinding *only_finding(const GPtrArray *findings, ColoFindingSeverity severity,
                                       guint *count)
{
    const ColoFinding *last = NULL;
    *count = 0;
    for (guint i = 0; i < findings->len; i++) {
        const ColoFinding *finding = g_ptr_array_index(findings, i);
        if (finding->severity == severity) {
            last = finding;
            (*count)++;
        }
    }
    return last;
}

static void test_rows_are_sound(void)
{
    xmlDoc *doc = load_doc("base.xml");
    xmlXPathContext *context = xmlXPathNewContext(doc);
    xmlXPathRegisterNs(context, (const xmlChar *)"qemu", (const xmlChar *)COLO_XML_QEMU_NS);
    xmlXPathRegisterVariable(context, (const xmlChar *)"emulation", xmlXPathNewBoolean(0));
    for (gsize i = 0; i < colo_eligibility_table_len; i++) {
        const ColoEligibilityRow *row = &colo_eligibility_table[i];
        const char *expressions[] = {row->when, row->show};
        for (guint j = 0; j < G_N_ELEMENTS(expressions); j++) {
            if (expressions[j] == NULL)
                continue;
            xmlXPathObject *value = xmlXPathNodeEval(xmlDocGetRootElement(doc),
                                                     (const xmlChar *)expressions[j], context);
            if (value == NULL)
                g_error("row %zu of <%s>: bad XPath: %s", i, row->element, expressions[j]);
            xmlXPathFreeObject(value);
        }
        if (row->verdict == COLO_ROW_REFUSED || row->verdict == COLO_ROW_NOTE) {
            g_assert_nonnull(row->found);
            g_assert_nonnull(row->remedy);
            g_assert_true((strstr(row->found, "{}") != NULL) == (row->show != NULL));
        }
        if (row->verdict == COLO_ROW_REFUSED)
            g_assert_cmpstr(row->remedy, !=, "");
    }
    xmlXPathFreeContext(context);
    xmlFreeDoc(doc);
}

/* base.xml with the children of @item put where it says. */
static char *build_case(const xmlNode *item)
{
    g_autofree char *where = colo_xml_attr(item, "in");
    g_autofree char *replace = colo_xml_attr(item, "replace");
    xmlDoc *doc = load_doc("base.xml");
    xmlNode *parent = xmlDocGetRootElement(doc);
    if (strcmp(where, "domain") != 0)
        parent = colo_xml_child(parent, where);
    if (replace != NULL)
        colo_xml_drop_children(parent, replace);
    xmlNode *copy = xmlDocCopyNode(colo_xml_first(item), doc, 1);
    g_assert_nonnull(copy);
    xmlAddChild(parent, copy);
    char *text = colo_xml_to_string(doc);
    xmlFreeDoc(doc);
    return text;
}

/* One case of cases.xml: the finding that is expected, and no other. */
static void test_case(gconstpointer data)
{
    const xmlNode *item = data;
    g_autofree char *verdict = colo_xml_attr(item, "verdict");
    g_autofree char *device = colo_xml_attr(item, "device");
    g_autofree char *says = colo_xml_attr(item, "says");
    g_autofree char *xml = build_case(item);
    if (!colo_xml_attr_is(item, "schema", "newer"))
        assert_valid(xml);

    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) findings = colo_eligibility_check(xml, NULL, &error);
    g_assert_no_error(error);
    guint refused, notes;
    const ColoFinding *refusal = only_finding(findings, COLO_FINDING_REFUSED, &refused);
    const ColoFinding *note = only_finding(findings, COLO_FINDING_NOTE, &notes);

    gboolean is_refused = strcmp(verdict, "refused") == 0;
    if (refused != (is_refused ? 1u : 0u)) {
        g_test_fail_printf("%s%u refusals, last: %s: %s", xml, refused,
                           refusal ? refusal->device : "", refusal ? refusal->found : "");
        return;
    }
    g_assert_true(colo_eligibility_require(findings, "base", &error) == !is_refused);
    if (strcmp(verdict, "ok") == 0) {
        g_assert_cmpuint(notes, ==, 0);
        return;
    }
    const ColoFinding *finding = is_refused ? refusal : note;
    g_assert_nonnull(finding);
    if (strstr(finding->device, device) == NULL || strstr(finding->found, says) == NULL) {
        g_test_fail_printf("expected '%s' to say '%s', got '%s': '%s'", device, says,
                           finding->device, finding->found);
        return;
    }
    g_assert_true(finding->fixable == colo_xml_attr_is(item, "fixable", "yes"));
    if (is_refused) {
        g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
        g_assert_nonnull(strstr(error->message, "base"));
        g_assert_nonnull(strstr(error->message, finding->device));
        g_assert_nonnull(strstr(error->message, finding->found));
        g_assert_nonnull(strstr(error->message, finding->remedy));
    } else {
        g_assert_cmpuint(notes, ==, 1);
    }
}

static void test_base_is_clean(void)
{
    g_autofree char *xml = load_text("base.xml");
    g_autoptr(GPtrArray) findings = colo_eligibility_check(xml, NULL, NULL);
    g_assert_cmpuint(findings->len, ==, 0);
}

static void test_emulation(void)
{
    g_autofree char *kvm = load_text("base.xml");
    g_autoptr(GString) text = g_string_new(kvm);
    g_string_replace(text, "type='kvm'", "type='qemu'", 1);
    guint count;

    g_autoptr(GPtrArray) refused = colo_eligibility_check(text->str, NULL, NULL);
    const ColoFinding *finding = only_finding(refused, COLO_FINDING_REFUSED, &count);
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpstr(finding->device, ==, "domain base");
    g_assert_nonnull(strstr(finding->remedy, "allow_emulation"));

    ColoEligibilityPolicy policy = {.allow_emulation = TRUE};
    g_autoptr(GPtrArray) allowed = colo_eligibility_check(text->str, &policy, NULL);
    only_finding(allowed, COLO_FINDING_REFUSED, &count);
    g_assert_cmpuint(count, ==, 0);
    only_finding(allowed, COLO_FINDING_NOTE, &count);
    g_assert_cmpuint(count, ==, 1);

    g_string_replace(text, "type='qemu'", "type='xen'", 1);
    g_autoptr(GPtrArray) other = colo_eligibility_check(text->str, &policy, NULL);
    only_finding(other, COLO_FINDING_REFUSED, &count);
    g_assert_cmpuint(count, ==, 1);
}

/* Under emulation libvirt never opens vhost, so a plain virtio NIC is no obstacle there. */
static void test_emulation_has_no_vhost(void)
{
    g_autofree char *live = load_text("db1-live.xml");
    g_autoptr(GString) text = g_string_new(live);
    guint count;
    g_autoptr(GPtrArray) kvm = colo_eligibility_check(text->str, NULL, NULL);
    const ColoFinding *finding = only_finding(kvm, COLO_FINDING_REFUSED, &count);
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpstr(finding->device, ==, "interface ua-front (52:54:00:11:22:33)");
    g_assert_true(finding->fixable);

    g_string_replace(text, "type='kvm'", "type='qemu'", 1);
    ColoEligibilityPolicy policy = {.allow_emulation = TRUE};
    g_autoptr(GPtrArray) qemu = colo_eligibility_check(text->str, &policy, NULL);
    only_finding(qemu, COLO_FINDING_REFUSED, &count);
    g_assert_cmpuint(count, ==, 0);
}

static void test_ordinary_guest_accepted(void)
{
    g_autofree char *xml = load_text("web1-live.xml");
    g_autoptr(GPtrArray) findings = colo_eligibility_check(xml, NULL, NULL);
    g_autoptr(GError) error = NULL;
    g_assert_true(colo_eligibility_require(findings, "web1", &error));
    g_assert_no_error(error);
}

static void test_every_refusal_is_named(void)
{
    g_autofree char *xml = load_text("uefi-live.xml");
    g_autoptr(GPtrArray) findings = colo_eligibility_check(xml, NULL, NULL);
    g_autoptr(GError) error = NULL;
    g_assert_false(colo_eligibility_require(findings, "win11", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    static const char *const expected[] = {"win11", "win11_VARS.fd", "interface net0", "tpm tpm0"};
    for (guint i = 0; i < G_N_ELEMENTS(expected); i++)
        g_assert_nonnull(strstr(error->message, expected[i]));
    guint count;
    only_finding(findings, COLO_FINDING_REFUSED, &count);
    g_assert_cmpuint(count, ==, 3);
    for (guint i = 0; i < findings->len; i++) { /* refusals come first */
        const ColoFinding *finding = g_ptr_array_index(findings, i);
        g_assert_true((finding->severity == COLO_FINDING_REFUSED) == (i < count));
    }
}

static void test_tsc_frequency_allows_invtsc(void)
{
    g_autofree char *base = load_text("base.xml");
    g_autoptr(GString) text = g_string_new(base);
    g_string_replace(text, "<devices>",
                     "<cpu mode='host-model'><feature policy='require' name='invtsc'/></cpu>"
                     "<clock offset='utc'><timer name='tsc' frequency='2400000000'/></clock>"
                     "<devices>",
                     1);
    assert_valid(text->str);
    g_autoptr(GPtrArray) findings = colo_eligibility_check(text->str, NULL, NULL);
    g_assert_cmpuint(findings->len, ==, 0);
}

static void test_not_a_domain(void)
{
    static const char *const bad[] = {"", "garbage", "<domain>", "<network/>",
                                      "<!DOCTYPE domain [<!ENTITY e 'x'>]><domain>&e;</domain>"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(colo_eligibility_check(bad[i], NULL, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/eligibility/schema-elements-listed", test_schema_listed);
    g_test_add_func("/eligibility/table-rows-sound", test_rows_are_sound);
    g_test_add_func("/eligibility/base-is-clean", test_base_is_clean);
    g_test_add_func("/eligibility/emulation-by-policy", test_emulation);
    g_test_add_func("/eligibility/emulation-has-no-vhost", test_emulation_has_no_vhost);
    g_test_add_func("/eligibility/ordinary-guest-accepted", test_ordinary_guest_accepted);
    g_test_add_func("/eligibility/every-refusal-named", test_every_refusal_is_named);
    g_test_add_func("/eligibility/tsc-frequency-allows-invtsc", test_tsc_frequency_allows_invtsc);
    g_test_add_func("/eligibility/not-a-domain", test_not_a_domain);

    xmlDoc *cases = load_doc("cases.xml");
    guint number = 0;
    for (xmlNode *item = colo_xml_first(xmlDocGetRootElement(cases)); item;
         item = colo_xml_next(item)) {
        g_autofree char *verdict = colo_xml_attr(item, "verdict");
        g_autofree char *path = g_strdup_printf("/eligibility/case/%s/%03u-%s", verdict, ++number,
                                                (const char *)colo_xml_first(item)->name);
        g_test_add_data_func(path, item, test_case);
    }
    int result = g_test_run();
    free_schema();
    xmlFreeDoc(cases);
    return result;
}
