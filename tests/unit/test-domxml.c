/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/domxml.h"
#include "domain/xml-compat.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <string.h>

#include "xml-test.h"

#define WEB1_NIC0 "52:54:00:6b:3c:58"
#define WEB1_NIC1 "52:54:00:6b:3c:59"

static ColoDomainInfo *parse(const char *name)
{
    g_autofree char *xml = load_text(name);
    g_autoptr(GError) error = NULL;
    ColoDomainInfo *info = colo_domain_info_parse(xml, &error);
    g_assert_no_error(error);
    return info;
}

/* Fails unless @text holds @part. */
static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("expected '%s' in\n%s", part, text);
}

static void test_info_domain(void)
{
    g_autoptr(ColoDomainInfo) info = parse("web1-live.xml");
    g_assert_cmpstr(info->name, ==, "web1");
    g_assert_cmpstr(info->uuid, ==, "6f0c0f0a-8a65-4c6f-9a8f-2d7a1a7f3b11");
    g_assert_cmpstr(info->virt_type, ==, "kvm");
    g_assert_cmpstr(info->machine, ==, "pc-q35-7.2");
    g_assert_cmpstr(info->arch, ==, "x86_64");
    g_assert_cmpstr(info->emulator, ==, "/usr/bin/qemu-system-x86_64");
    g_assert_cmpstr(info->cpu_mode, ==, "custom");
    g_assert_cmpint(info->id, ==, 2);
    g_assert_cmpuint(info->memory_kib, ==, 131072);
    g_assert_cmpuint(info->vcpus, ==, 2);
    g_assert_null(info->nvram);
    g_assert_false(info->has_tpm);
    g_assert_false(info->incoming);
    g_assert_cmpuint(info->disks->len, ==, 4);
    g_assert_cmpuint(info->nics->len, ==, 2);
}

/* Node and QOM names as QEMU 7.2 under libvirt 9.0 reported them for this very domain. */
static void test_info_disks(void)
{
    g_autoptr(ColoDomainInfo) info = parse("web1-live.xml");
    const ColoDiskInfo *vda = colo_domain_info_disk(info, "vda");
    g_assert_cmpstr(vda->alias, ==, "virtio-disk0");
    g_assert_cmpstr(vda->qom_path, ==, "/machine/peripheral/virtio-disk0");
    g_assert_cmpstr(vda->node_format, ==, "libvirt-4-format");
    g_assert_cmpstr(vda->node_storage, ==, "libvirt-4-storage");
    g_assert_cmpstr(vda->source, ==, "/var/lib/libvirt/images/web1-root.qcow2");
    g_assert_cmpstr(vda->format, ==, "qcow2");
    g_assert_cmpstr(vda->bus, ==, "virtio");
    g_assert_true(vda->replicated);
    g_assert_false(vda->has_backing);

    const ColoDiskInfo *sda = colo_domain_info_disk(info, "sda");
    g_assert_cmpstr(sda->qom_path, ==, "/machine/peripheral/scsi0-0-0-0");
    g_assert_cmpstr(sda->node_format, ==, "libvirt-3-format");
    g_assert_cmpstr(sda->cache, ==, "none");

    const ColoDiskInfo *cdrom = colo_domain_info_disk(info, "sdb");
    g_assert_cmpstr(cdrom->device, ==, "cdrom");
    g_assert_true(cdrom->readonly);
    g_assert_false(cdrom->replicated);
    const ColoDiskInfo *empty = colo_domain_info_disk(info, "sdc");
    g_assert_null(empty->source);
    g_assert_null(empty->node_format);
    g_assert_null(colo_domain_info_disk(info, "vdz"));
}

static void test_info_user_aliases(void)
{
    g_autoptr(ColoDomainInfo) info = parse("db1-live.xml");
    const ColoDiskInfo *disk = colo_domain_info_disk(info, "vda");
    g_assert_cmpstr(disk->qom_path, ==, "/machine/peripheral/ua-root");
    g_assert_true(disk->has_backing);
    const ColoNicInfo *nic = colo_domain_info_nic(info, "52:54:00:11:22:33");
    g_assert_cmpstr(nic->netdev, ==, "hostua-front");
    g_assert_cmpstr(nic->network, ==, "isolated");
    g_assert_cmpstr(nic->bridge, ==, "virbr1");
    g_assert_cmpstr(nic->target, ==, "vnet7");
    g_assert_cmpuint(info->vcpus, ==, 4);
    g_assert_cmpuint(info->vcpus_current, ==, 1);
}

static void test_info_nics(void)
{
    g_autoptr(ColoDomainInfo) info = parse("web1-live.xml");
    const ColoNicInfo *nic = colo_domain_info_nic(info, "52:54:00:6B:3C:58");
    g_assert_cmpstr(nic->mac, ==, WEB1_NIC0);
    g_assert_cmpstr(nic->netdev, ==, "hostnet0");
    g_assert_cmpstr(nic->qom_path, ==, "/machine/peripheral/net0");
    g_assert_cmpstr(nic->bridge, ==, "br0");
    g_assert_cmpstr(nic->target, ==, "vnet2");
    g_assert_cmpstr(nic->driver, ==, "qemu");
    g_assert_cmpuint(nic->queues, ==, 1);
    g_assert_false(nic->vhost);
    g_assert_true(nic->vnet_hdr);

    const ColoNicInfo *e1000e = colo_domain_info_nic(info, WEB1_NIC1);
    g_assert_false(e1000e->vhost);
    g_assert_false(e1000e->vnet_hdr);
    g_assert_null(colo_domain_info_nic(info, "52:54:00:00:00:00"));
}

static void test_info_vhost(void)
{
    g_autoptr(ColoDomainInfo) info = parse("ovs-inactive.xml");
    const ColoNicInfo *ovs = colo_domain_info_nic(info, "52:54:00:aa:bb:01");
    g_assert_true(ovs->vhost);
    g_assert_cmpuint(ovs->queues, ==, 4);
    g_assert_cmpstr(ovs->virtualport, ==, "openvswitch");
    g_assert_null(ovs->netdev);
    g_assert_true(colo_domain_info_nic(info, "52:54:00:aa:bb:02")->vhost);
    g_assert_false(colo_domain_info_nic(info, "52:54:00:aa:bb:03")->vhost);
    const ColoDiskInfo *disk = colo_domain_info_disk(info, "vda");
    g_assert_cmpstr(disk->pool, ==, "vg0");
    g_assert_cmpstr(disk->volume, ==, "edge");
    g_assert_null(disk->source);
    g_assert_cmpint(info->id, ==, -1);
}

/* libvirt opens vhost only under KVM (qemuInterfaceOpenVhostNet). */
static void test_info_vhost_needs_kvm(void)
{
    g_autofree char *xml = load_text("ovs-inactive.xml");
    g_autoptr(GString) text = g_string_new(xml);
    g_string_replace(text, "type='kvm'", "type='qemu'", 1);
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(text->str, NULL);
    g_assert_false(colo_domain_info_nic(info, "52:54:00:aa:bb:01")->vhost);
}

static void test_info_firmware(void)
{
    g_autoptr(ColoDomainInfo) info = parse("uefi-live.xml");
    g_assert_cmpstr(info->loader, ==, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd");
    g_assert_cmpstr(info->nvram, ==, "/var/lib/libvirt/qemu/nvram/win11_VARS.fd");
    g_assert_true(info->has_tpm);
    g_assert_cmpstr(info->cpu_mode, ==, "host-passthrough");
}

static void test_info_memory_units(void)
{
    static const struct {
        const char *text;
        uint64_t kib;
    } units[] = {
        {"<memory>512</memory>", 512},
        {"<memory unit='GiB'>2</memory>", 2097152},
        {"<memory unit='MB'>1</memory>", 976},
        {"<memory unit='TiB'>18446744073709551615</memory>", 0}, /* does not fit */
        {"<memory unit='parsec'>1</memory>", 0},
        {"<memory>-1</memory>", 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(units); i++) {
        g_autofree char *xml = g_strdup_printf(
            "<domain><name>a</name><uuid>11111111-2222-3333-4444-555555555555</uuid>%s</domain>",
            units[i].text);
        g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
        g_assert_nonnull(info);
        g_assert_cmpuint(info->memory_kib, ==, units[i].kib);
    }
}

static void test_info_refuses(void)
{
#define HEAD "<domain type='kvm'><name>a</name><uuid>11111111-2222-3333-4444-555555555555</uuid>"
    static const char *const bad[] = {
        "",
        "no xml at all",
        "<domain><name>a</name></domain>",
        "<domain><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>",
        "<domain><name>a</name><uuid>none</uuid></domain>",
        "<network><name>a</name></network>",
        "<x:domain xmlns:x='urn:x'><name>a</name></x:domain>",
        HEAD "<devices><disk><target/></disk></devices></domain>",
        HEAD "<devices><interface type='bridge'/></devices></domain>",
        HEAD,
        "<!DOCTYPE domain SYSTEM 'http://example.org/x.dtd'>" HEAD "</domain>",
        "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" HEAD "&x;</domain>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(bad[i], &error);
        g_assert_null(info);
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
}

static void test_info_bounds(void)
{
    g_autoptr(GString) many = g_string_new(HEAD "<devices>");
    for (guint i = 0; i <= COLO_DOMAIN_MAX_DEVICES; i++)
        g_string_append_printf(many, "<disk type='file'><target dev='d%u'/></disk>", i);
    g_string_append(many, "</devices></domain>");
    g_autoptr(GError) error = NULL;
    g_assert_null(colo_domain_info_parse(many->str, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);

    g_autofree char *blanks = g_strnfill(COLO_XML_MAX_BYTES, ' ');
    g_autofree char *huge = g_strconcat(HEAD, blanks, "</domain>", NULL);
    g_assert_null(colo_domain_info_parse(huge, NULL));
}

static const char *const machines[] = {"pc-q35-7.2", "q35", NULL};
static const char *const other_machines[] = {"pc-q35-6.2", "q35", NULL};

/* A pair of equal hosts. */
static void equal_hosts(ColoHostFacts *a, ColoHostFacts *b)
{
    *a = (ColoHostFacts){.name = "alpha",
                         .arch = "x86_64",
                         .cpu = "EPYC",
                         .cpu_vendor = "AMD",
                         .qemu_version = 7002022,
                         .libvirt_version = 9000000,
                         .machines = machines};
    *b = *a;
    b->name = "beta";
}

/* Asserts a refusal that names both hosts and @what. */
static void assert_incompatible(const ColoHostFacts *a, const ColoHostFacts *b,
                                const char *cpu_mode, const char *what)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(colo_compat_check(a, b, "pc-q35-7.2", cpu_mode, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    assert_has(error->message, "alpha");
    assert_has(error->message, "beta");
    assert_has(error->message, what);
}

static void test_compat(void)
{
    ColoHostFacts a, b;
    equal_hosts(&a, &b);
    g_autoptr(GError) error = NULL;
    g_assert_true(colo_compat_check(&a, &b, "pc-q35-7.2", "host-passthrough", &error));
    g_assert_no_error(error);

    equal_hosts(&a, &b);
    b.qemu_version = 7002019;
    assert_incompatible(&a, &b, NULL, "7.2.19");
    equal_hosts(&a, &b);
    a.qemu_version = b.qemu_version = 0;
    assert_incompatible(&a, &b, NULL, "unknown");
    equal_hosts(&a, &b);
    b.libvirt_version = 9001000;
    assert_incompatible(&a, &b, NULL, "9.1.0");
    equal_hosts(&a, &b);
    b.machines = other_machines;
    assert_incompatible(&a, &b, NULL, "pc-q35-7.2");
    equal_hosts(&a, &b);
    b.cpu_vendor = "Intel";
    assert_incompatible(&a, &b, NULL, "Intel");
    equal_hosts(&a, &b);
    b.arch = "aarch64";
    assert_incompatible(&a, &b, NULL, "aarch64");

    /* Another CPU of the same make matters only to a guest that sees it. */
    equal_hosts(&a, &b);
    b.cpu = "EPYC-Milan";
    assert_incompatible(&a, &b, "host-passthrough", "EPYC-Milan");
    g_assert_true(colo_compat_check(&a, &b, "pc-q35-7.2", "custom", &error));

    /* A machine that neither has. */
    equal_hosts(&a, &b);
    g_assert_false(colo_compat_check(&a, &b, "pc-q35-9.9", NULL, &error));
    assert_has(error->message, "pc-q35-9.9");
}

static void test_host_caps(void)
{
    g_autofree char *xml = load_text("capabilities.xml");
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoHostCaps) caps = colo_host_caps_parse(xml, "x86_64", "qemu", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(caps->arch, ==, "x86_64");
    g_assert_cmpstr(caps->cpu_vendor, ==, "AMD");
    g_assert_cmpstr(caps->cpu, ==, "EPYC");
    g_assert_true(g_strv_contains((const char *const *)caps->machines, "q35"));
    g_assert_true(g_strv_contains((const char *const *)caps->machines, "pc-q35-7.2"));
    g_assert_false(g_strv_contains((const char *const *)caps->machines, "only-on-i686"));
    g_assert_true(g_strv_contains((const char *const *)caps->machines, "only-under-qemu"));
    g_autoptr(ColoHostCaps) kvm = colo_host_caps_parse(xml, "x86_64", "kvm", &error);
    g_assert_false(g_strv_contains((const char *const *)kvm->machines, "only-under-qemu"));
    g_autoptr(ColoHostCaps) none = colo_host_caps_parse("<domain/>", "x86_64", "kvm", &error);
    g_assert_null(none);
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domxml/domain", test_info_domain);
    g_test_add_func("/domxml/disks", test_info_disks);
    g_test_add_func("/domxml/user-aliases", test_info_user_aliases);
    g_test_add_func("/domxml/nics", test_info_nics);
    g_test_add_func("/domxml/vhost", test_info_vhost);
    g_test_add_func("/domxml/vhost-needs-kvm", test_info_vhost_needs_kvm);
    g_test_add_func("/domxml/firmware", test_info_firmware);
    g_test_add_func("/domxml/memory-units", test_info_memory_units);
    g_test_add_func("/domxml/refuses-nonsense", test_info_refuses);
    g_test_add_func("/domxml/bounds", test_info_bounds);
    g_test_add_func("/compat/hosts", test_compat);
    g_test_add_func("/compat/capabilities", test_host_caps);
    return g_test_run();
}
