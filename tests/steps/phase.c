/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/steps-disk-internal.h"
#include "fixture.h"

#include <string.h>

DiskPhase lab_disk_phase(Host *host, int index)
{
    static const char *const ours[] = {COLO_NODE_TAIL,   COLO_NODE_TAIL_FILE, COLO_NODE_CHILDS,
                                       COLO_NODE_ACTIVE, COLO_NODE_HIDDEN,    COLO_NODE_NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *tail = colo_disk_node(COLO_NODE_TAIL, host->disk[index].alias);
    g_autofree char *childs = colo_disk_node(COLO_NODE_CHILDS, host->disk[index].alias);
    g_autofree char *commit = colo_disk_node(COLO_JOB_COMMIT, host->disk[index].alias);
    g_autofree char *top = colo_disk_top(host->dom, host->disk[index].alias, NULL, &error);
    g_autoptr(GHashTable) nodes = top ? colo_disk_nodes(host->dom, &error) : NULL;
    g_autoptr(JsonObject) job = NULL;
    gboolean merged;

    g_assert_no_error(error);
    colo_steps_merge_done(host->dom, &host->disk[index], 1, &merged, &error);
    g_assert_no_error(error);
    job = colo_disk_job(host->dom, commit, NULL);
    if (job)
        return DISK_TAIL;
    if (strcmp(top, tail) == 0 || strcmp(top, childs) == 0)
        return merged ? DISK_MERGED : DISK_CHAIN;
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++) {
        g_autofree char *name = colo_disk_node(ours[i], host->disk[index].alias);

        if (g_hash_table_contains(nodes, name))
            return DISK_BETWEEN;
    }
    return DISK_PLAIN;
}
