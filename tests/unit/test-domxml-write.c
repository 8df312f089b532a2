/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The domain XML that we write is read back, and held against libvirt's own schema. */
#include "domain/domxml.h"
#include "domain/secondary-xml.h"
#include "util/error.h"

#include <string.h>

#include "xml-test.h"

#define WEB1_NIC0 "52:54:00:6b:3c:58"
#define WEB1_NIC1 "52:54:00:6b:3c:59"

static GHashTable *table(void)
{
    return g_hash_table_new(g_str_hash, g_str_equal);
}

/* Asserts that @text holds (or does not hold) @part. */
static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_test_fail_printf("expected '%s' in\n%s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        g_test_fail_printf("unexpected '%s' in\n%s", part, text);
}

/* How often @part is in @text. */
static guint count_of(const char *text, const char *part)
{
    guint count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static char *make_secondary(const char *file, GError **error)
{
    g_autofree char *live = load_text(file);
    g_autoptr(GHashTable) disks = table();
    g_autoptr(GHashTable) nics = table();
    g_hash_table_insert(disks, "vda", "/srv/colo/root.qcow2");
    g_hash_table_insert(disks, "sda", "/dev/vg1/data");
    g_hash_table_insert(nics, WEB1_NIC0, "coloq-a");
    g_hash_table_insert(nics, WEB1_NIC1, "coloq-b");
    g_hash_table_insert(nics, "52:54:00:11:22:33", "coloq-a");
    g_hash_table_insert(nics, "52:54:00:11:22:34", "coloq-b");
    g_hash_table_insert(nics, "52:54:00:aa:bb:01", "coloq-a");
    g_hash_table_insert(nics, "52:54:00:aa:bb:02", "coloq-b");
    g_hash_table_insert(nics, "52:54:00:aa:bb:03", "coloq-c");
    ColoSecondaryMap map = {disks, nics};
    return colo_secondary_xml(live, &map, error);
}

/* The guest must see the same machine: every address, the CPU and the identity are there. */
static void test_secondary_keeps_the_machine(void)
{
    g_autofree char *live = load_text("web1-live.xml");
    g_autofree char *xml = make_secondary("web1-live.xml", NULL);
    assert_valid(xml);
    assert_has(xml, "<uuid>6f0c0f0a-8a65-4c6f-9a8f-2d7a1a7f3b11</uuid>");
    assert_has(xml, "machine=\"pc-q35-7.2\"");
    assert_has(xml, "<model fallback=\"forbid\">EPYC</model>");
    assert_has(xml, "passwd=\"correct-horse\"");
    g_assert_cmpuint(count_of(xml, "<address "), ==, count_of(live, "<address "));
    g_assert_cmpuint(count_of(xml, "<feature policy"), ==, count_of(live, "<feature policy"));
    g_assert_cmpuint(count_of(xml, "<controller "), ==, count_of(live, "<controller "));
}

static void test_secondary_drops_the_run(void)
{
    g_autofree char *xml = make_secondary("web1-live.xml", NULL);
    static const char *const gone[] = {" id=\"2\"",  "<alias",   ".iso\" index=", "backingStore",
                                       "vnet",       "/dev/pts", "disconnected",  "domain-2-web1",
                                       "<seclabel",  "5900",     "5901",          "5700",
                                       "<partition", "<resource"};
    for (guint i = 0; i < G_N_ELEMENTS(gone); i++)
        assert_lacks(xml, gone[i]);
}

static void test_secondary_uses_the_map(void)
{
    g_autofree char *xml = make_secondary("web1-live.xml", NULL);
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    const ColoDiskInfo *vda = colo_domain_info_disk(info, "vda");
    const ColoDiskInfo *sda = colo_domain_info_disk(info, "sda");
    g_assert_cmpstr(vda->type, ==, "file");
    g_assert_cmpstr(vda->source, ==, "/srv/colo/root.qcow2");
    g_assert_cmpstr(vda->format, ==, "qcow2");
    g_assert_cmpstr(sda->type, ==, "block");
    g_assert_cmpstr(sda->source, ==, "/dev/vg1/data");
    /* Read-only media stay where they are. */
    g_assert_cmpstr(colo_domain_info_disk(info, "sdb")->source, ==,
                    "/var/lib/libvirt/images/install.iso");
    g_assert_cmpstr(colo_domain_info_nic(info, WEB1_NIC0)->bridge, ==, "coloq-a");
    g_assert_cmpstr(colo_domain_info_nic(info, WEB1_NIC1)->bridge, ==, "coloq-b");
    g_assert_true(info->incoming);
    assert_lacks(xml, "br0");
}

static void test_secondary_of_networks(void)
{
    g_autofree char *xml = make_secondary("db1-live.xml", NULL);
    assert_valid(xml);
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    for (guint i = 0; i < info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(info->nics, i);
        g_assert_cmpstr(nic->type, ==, "bridge");
        g_assert_true(g_str_has_prefix(nic->bridge, "coloq-"));
        g_assert_null(nic->network);
    }
    assert_lacks(xml, "portid");
    /* What a user chose stays: aliases, tap names, arguments, environment. */
    assert_has(xml, "ua-front");
    assert_has(xml, "dbtap1");
    assert_has(xml, "timestamp=on");
    assert_has(xml, "GREETING");
    g_assert_cmpuint(count_of(xml, "<qemu:commandline>"), ==, 1);
    /* The limit that a second copy of RAM would break is gone, the other is not. */
    assert_lacks(xml, "<hard_limit");
    assert_has(xml, "<swap_hard_limit");
}

/* Nothing of the real network may be left on a quarantined NIC. */
static void test_secondary_leaves_ovs(void)
{
    g_autofree char *xml = make_secondary("ovs-inactive.xml", NULL);
    assert_valid(xml);
    assert_lacks(xml, "virtualport");
    assert_lacks(xml, "vlan");
    assert_lacks(xml, "ovsbr0");
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    g_assert_cmpstr(colo_domain_info_disk(info, "vda")->source, ==, "/srv/colo/root.qcow2");
    g_assert_null(colo_domain_info_disk(info, "vda")->pool);
}

static void test_secondary_needs_every_disk(void)
{
    g_autofree char *live = load_text("web1-live.xml");
    g_autoptr(GHashTable) disks = table();
    g_autoptr(GHashTable) nics = table();
    g_hash_table_insert(nics, WEB1_NIC0, "coloq-a");
    g_hash_table_insert(nics, WEB1_NIC1, "coloq-b");
    g_hash_table_insert(disks, "vda", "/srv/root.qcow2");
    ColoSecondaryMap map = {disks, nics};
    g_autoptr(GError) error = NULL;
    g_assert_null(colo_secondary_xml(live, &map, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    assert_has(error->message, "disk sda");

    g_clear_error(&error);
    g_hash_table_insert(disks, "sda", "relative.raw");
    g_assert_null(colo_secondary_xml(live, &map, &error));
    assert_has(error->message, "relative.raw");
}

/* A NIC without a quarantine bridge would be on the real network twice. */
static void test_secondary_needs_every_nic(void)
{
    g_autofree char *live = load_text("web1-live.xml");
    g_autoptr(GHashTable) disks = table();
    g_autoptr(GHashTable) nics = table();
    g_hash_table_insert(disks, "vda", "/srv/root.qcow2");
    g_hash_table_insert(disks, "sda", "/srv/data.raw");
    g_hash_table_insert(nics, WEB1_NIC0, "coloq-a");
    ColoSecondaryMap map = {disks, nics};
    g_autoptr(GError) error = NULL;
    g_assert_null(colo_secondary_xml(live, &map, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    assert_has(error->message, WEB1_NIC1);
}

/* Protected again from the survivor's live XML, which still has our arguments: they stay single. */
static void test_secondary_of_a_survivor(void)
{
    g_autofree char *first = make_secondary("db1-live.xml", NULL);
    g_autoptr(GHashTable) disks = table();
    g_autoptr(GHashTable) nics = table();
    g_hash_table_insert(disks, "vda", "/back/root.qcow2");
    g_hash_table_insert(nics, "52:54:00:11:22:33", "coloq-x");
    g_hash_table_insert(nics, "52:54:00:11:22:34", "coloq-y");
    ColoSecondaryMap map = {disks, nics};
    g_autofree char *second = colo_secondary_xml(first, &map, NULL);
    assert_valid(second);
    g_assert_cmpuint(count_of(second, "-incoming"), ==, 1);
    g_assert_cmpuint(count_of(second, "defer"), ==, 1);
    g_assert_cmpuint(count_of(second, "timestamp=on"), ==, 1);
}

/* From its own live XML: the real network is back, our arguments are gone. */
static void test_survivor_from_live(void)
{
    g_autofree char *secondary = make_secondary("web1-live.xml", NULL);
    g_autoptr(GHashTable) nics = table();
    ColoNicSource bridge = {.bridge = "lan0"};
    ColoNicSource network = {.network = "office"};
    g_hash_table_insert(nics, WEB1_NIC0, &bridge);
    g_hash_table_insert(nics, WEB1_NIC1, &network);
    ColoSurvivorMap map = {.nics = nics};
    g_autofree char *xml = colo_survivor_xml(secondary, &map, NULL);
    assert_valid(xml);
    assert_lacks(xml, "incoming");
    assert_lacks(xml, "commandline");
    assert_lacks(xml, "coloq");
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    g_assert_cmpstr(colo_domain_info_nic(info, WEB1_NIC0)->bridge, ==, "lan0");
    const ColoNicInfo *nic = colo_domain_info_nic(info, WEB1_NIC1);
    g_assert_cmpstr(nic->type, ==, "network");
    g_assert_cmpstr(nic->network, ==, "office");
    g_assert_null(nic->bridge);
    g_assert_cmpstr(colo_domain_info_disk(info, "sda")->source, ==, "/dev/vg1/data");
    assert_has(xml, "<on_crash>destroy</on_crash>");
}

/* From the primary's persistent XML: virtual port, VLAN and CPU model stay as the user wrote. */
static void test_survivor_from_inactive(void)
{
    g_autofree char *inactive = load_text("ovs-inactive.xml");
    g_autoptr(GHashTable) disks = table();
    g_hash_table_insert(disks, "vda", "/dev/vg7/edge");
    ColoSurvivorMap map = {.disks = disks};
    g_autofree char *xml = colo_survivor_xml(inactive, &map, NULL);
    assert_valid(xml);
    assert_has(xml, "dev=\"/dev/vg7/edge\"");
    assert_has(xml, "bridge=\"ovsbr0\"");
    assert_has(xml, "<tag id=\"42\"/>");
    assert_has(xml, "host-model");
}

/* An inactive definition has no run-time data: nothing of it may be lost. */
static void test_survivor_loses_nothing(void)
{
    g_autofree char *inactive = load_text("db1-inactive.xml");
    g_autofree char *xml = colo_survivor_xml(inactive, NULL, NULL);
    assert_valid(xml);
    g_assert_cmpuint(count_of(xml, "<"), ==, count_of(inactive, "<"));
    g_assert_cmpuint(count_of(xml, "="), ==, count_of(inactive, "="));
}

static void test_survivor_keeps_other_arguments(void)
{
    g_autofree char *secondary = make_secondary("db1-live.xml", NULL);
    g_autofree char *xml = colo_survivor_xml(secondary, NULL, NULL);
    assert_valid(xml);
    assert_lacks(xml, "incoming");
    assert_has(xml, "timestamp=on");
    assert_has(xml, "GREETING");
}

static void test_fix_vhost(void)
{
    g_autofree char *before = load_text("ovs-inactive.xml");
    unsigned changed;
    g_autofree char *xml = colo_fix_vhost_xml(before, &changed, NULL);
    assert_valid(xml);
    g_assert_cmpuint(changed, ==, 2);
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    for (guint i = 0; i < info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(info->nics, i);
        g_assert_false(nic->vhost);
    }
    /* The NIC that never uses vhost has no driver forced on it. */
    g_assert_null(colo_domain_info_nic(info, "52:54:00:aa:bb:03")->driver);
    g_autofree char *again = colo_fix_vhost_xml(xml, &changed, NULL);
    g_assert_cmpuint(changed, ==, 0);
    g_assert_cmpstr(again, ==, xml);
}

/* Another use of the prefix "qemu" in the user's XML must not break ours. */
static void test_secondary_foreign_prefix(void)
{
    g_autoptr(GHashTable) none = table();
    ColoSecondaryMap map = {none, none};
    g_autofree char *xml =
        colo_secondary_xml("<domain type='kvm' xmlns:qemu='urn:other'><name>a</name>"
                           "<uuid>11111111-2222-3333-4444-555555555555</uuid></domain>",
                           &map, NULL);
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    g_assert_nonnull(info);
    g_assert_true(info->incoming);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/secondary/keeps-the-machine", test_secondary_keeps_the_machine);
    g_test_add_func("/secondary/drops-the-run", test_secondary_drops_the_run);
    g_test_add_func("/secondary/uses-the-map", test_secondary_uses_the_map);
    g_test_add_func("/secondary/of-networks", test_secondary_of_networks);
    g_test_add_func("/secondary/leaves-ovs", test_secondary_leaves_ovs);
    g_test_add_func("/secondary/needs-every-disk", test_secondary_needs_every_disk);
    g_test_add_func("/secondary/needs-every-nic", test_secondary_needs_every_nic);
    g_test_add_func("/secondary/of-a-survivor", test_secondary_of_a_survivor);
    g_test_add_func("/secondary/foreign-prefix", test_secondary_foreign_prefix);
    g_test_add_func("/survivor/from-live", test_survivor_from_live);
    g_test_add_func("/survivor/from-inactive", test_survivor_from_inactive);
    g_test_add_func("/survivor/loses-nothing", test_survivor_loses_nothing);
    g_test_add_func("/survivor/keeps-other-arguments", test_survivor_keeps_other_arguments);
    g_test_add_func("/fix-vhost", test_fix_vhost);
    int result = g_test_run();
    free_schema();
    return result;
}
