/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-host-common.h"

#include <glib/gstdio.h>
#include <string.h>

char *folder;

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_remove(path);
}

void folder_create(void)
{
    folder = g_dir_make_tmp("colo-host-XXXXXX", NULL);
    g_assert_nonnull(folder);
}

void folder_remove(void)
{
    remove_tree(folder);
    g_clear_pointer(&folder, g_free);
}

char *in_folder(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void ignore(void *opaque)
{
    (void)opaque;
}

static void ignore_event(const char *name, const char *uuid, JsonObject *event, void *opaque)
{
    (void)name, (void)uuid, (void)event, (void)opaque;
}

static void ignore_pair(const char *pair, ColoPairEvent event, void *opaque)
{
    (void)pair, (void)event, (void)opaque;
}

void host_up(Host *h)
{
    static const ColoComparatorEvents no_events = {ignore_event, ignore, ignore};
    g_autoptr(GError) error = NULL;
    g_autofree char *socket_path = in_folder("no-comparator");

    memset(h, 0, sizeof(*h));
    h->self = host_info("alpha");
    h->config.host_name = (char *)"alpha";
    h->config.state_dir = folder;
    h->config.tls = pki_config("alpha-server", "alpha-client");
    h->config.control_port = 16516;
    h->config.data_port = 1; /* tcpmux: nobody */
    h->config.checkpoint_max_overlay_bytes = MIB;
    h->config.heartbeat = COLO_HEARTBEAT_DEFAULT;
    h->m.host.config = &h->config;
    h->m.domains = g_hash_table_new(g_str_hash, g_str_equal);
    g_mutex_init(&h->m.lock);
    h->m.host.store = colo_store_open(folder, &error);
    g_assert_no_error(error);
    h->m.host.arbiter = colo_arbiter_new(&h->config.arbiter, &error);
    g_assert_no_error(error);
    h->m.host.virconn = colo_virconn_new("test:///default", &(ColoVirConnEvents){0}, NULL);
    h->m.host.comparator = colo_comparator_client_new(socket_path, &no_events, NULL);
    h->m.host.pairs =
        colo_pairs_new(&h->config, &h->self, h->m.host.store, NULL, ignore_pair, NULL, &error);
    g_assert_no_error(error);
}

void host_down(Host *h)
{
    colo_pairs_free(h->m.host.pairs);
    colo_comparator_client_free(h->m.host.comparator);
    colo_virconn_free(h->m.host.virconn);
    colo_arbiter_free(h->m.host.arbiter);
    colo_store_close(h->m.host.store);
    g_hash_table_unref(h->m.domains);
    g_mutex_clear(&h->m.lock);
    colo_tls_config_clear(&h->config.tls);
}

void host_libvirt(Host *h, const char *uri)
{
    colo_virconn_free(h->m.host.virconn);
    h->m.host.virconn = colo_virconn_new(uri, &(ColoVirConnEvents){0}, NULL);
}
