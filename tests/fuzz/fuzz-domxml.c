/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as domain XML. Everything that accepts them must neither crash nor
 * leak, and what we write must be readable by ourselves.
 *
 * Corpus: tests/unit/data/xml. Sources: those of src/domain/Xml.am and src/util/error.c, with
 *   clang -fsanitize=fuzzer,address,undefined
 */
#include "domain/domxml.h"
#include "domain/eligibility.h"
#include "domain/secondary-xml.h"
#include "domain/xml-compat.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A map that has every disk and NIC of @info. */
static void map_all(const ColoDomainInfo *info, GHashTable *disks, GHashTable *nics)
{
    for (guint i = 0; i < info->disks->len; i++) {
        const ColoDiskInfo *disk = g_ptr_array_index(info->disks, i);
        g_hash_table_insert(disks, disk->target, (gpointer)(i % 2 ? "/dev/vg/x" : "/srv/x"));
    }
    for (guint i = 0; i < info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(info->nics, i);
        g_hash_table_insert(nics, nic->mac, (gpointer) "quarantine");
    }
}

/* A domain that we wrote reads back as the same domain; anything else is a bug. */
static void check_written(const char *xml, const ColoDomainInfo *before, gboolean incoming)
{
    if (xml == NULL)
        return;
    g_autoptr(ColoDomainInfo) after = colo_domain_info_parse(xml, NULL);
    if (after == NULL || g_strcmp0(after->name, before->name) != 0 ||
        g_strcmp0(after->uuid, before->uuid) != 0 || after->disks->len != before->disks->len ||
        after->nics->len != before->nics->len || (incoming && !after->incoming))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *xml = g_strndup((const char *)data, size);
    ColoEligibilityPolicy policy = {.allow_emulation = size & 1};

    GPtrArray *findings = colo_eligibility_check(xml, &policy, NULL);
    if (findings != NULL) {
        g_autoptr(GError) error = NULL;
        if (colo_eligibility_require(findings, "fuzz", &error) == (error != NULL))
            abort();
        g_ptr_array_unref(findings);
    }

    unsigned changed;
    g_autofree char *fixed = colo_fix_vhost_xml(xml, &changed, NULL);
    colo_host_caps_free(colo_host_caps_parse(xml, "x86_64", "kvm", NULL));

    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, NULL);
    if (info == NULL)
        return 0;
    check_written(fixed, info, FALSE);

    g_autoptr(GHashTable) disks = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) nics = g_hash_table_new(g_str_hash, g_str_equal);
    map_all(info, disks, nics);
    ColoSecondaryMap secondary_map = {disks, nics};
    g_autofree char *secondary = colo_secondary_xml(xml, &secondary_map, NULL);
    if (secondary == NULL) /* the map has everything */
        abort();
    check_written(secondary, info, TRUE);

    ColoSurvivorMap survivor_map = {.disks = disks};
    g_autofree char *survivor = colo_survivor_xml(xml, &survivor_map, NULL);
    check_written(survivor, info, FALSE);
    return 0;
}
