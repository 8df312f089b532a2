/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/uplink.h"

#include "util/error.h"

#include <stdlib.h>

#define CONN_TIMEOUT_MS 5000u

/* The bridge of an active libvirt network, or NULL with @error. */
static char *bridge_of_network(ColoVirConn *virconn, const char *domain, const char *network,
                               const char *host, GError **error)
{
    virConnectPtr conn = colo_virconn_get(virconn, CONN_TIMEOUT_MS, error);
    virNetworkPtr net = conn ? virNetworkLookupByName(conn, network) : NULL;
    gboolean active = net && virNetworkIsActive(net) == 1;
    char *found = active ? virNetworkGetBridgeName(net) : NULL;
    char *bridge = g_strdup(found);

    if (conn && !bridge)
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "domain '%s': libvirt network '%s' %s on %s: %s", domain, network,
                    !net      ? "does not exist"
                    : !active ? "is not active"
                              : "has no bridge",
                    host,
                    !net      ? "define and start it there ('virsh net-define', 'virsh net-start')"
                    : !active ? "start it there ('virsh net-start')"
                              : "use a network of a Linux bridge");
    free(found);
    if (net)
        virNetworkFree(net);
    if (conn)
        virConnectClose(conn);
    return bridge;
}

char *colo_uplink_find(ColoVirConn *virconn, const char *domain, const char *bridge,
                       const char *network, const char *host, GError **error)
{
    g_autofree char *name = network ? bridge_of_network(virconn, domain, network, host, error)
                                    : g_strdup(bridge ? bridge : "");
    g_autofree char *link = name ? g_build_filename("/sys/class/net", name, NULL) : NULL;
    g_autofree char *kind = link ? g_build_filename(link, "bridge", NULL) : NULL;

    if (!name)
        return NULL;
    if (*name && g_file_test(kind, G_FILE_TEST_IS_DIR))
        return g_steal_pointer(&name);
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                "domain '%s': bridge '%s' %s on %s: create it there, or plug the NIC into another",
                domain, name,
                *name && g_file_test(link, G_FILE_TEST_EXISTS) ? "is no Linux bridge"
                                                               : "does not exist",
                host);
    return NULL;
}
