/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The network side of a COLO pair: QEMU's filters on each NIC and their chardevs (passed sockets).
 * Every function acts on one domain of this host and blocks; any thread. Sources: QEMU 7.2
 * net/filter-mirror.c, net/filter.c; facts "External comparator".
 *
 * Two stages, because QEMU blocks its main loop when it writes to a chardev nobody reads (I4):
 * 1. colo_steps_net_channels(): chardevs. The FDs go to the comparator ("local-attach").
 * 2. colo_steps_net_filters(): the filters; from here on packets flow through the comparator.
 * Undo: colo_steps_net_remove(), filters first, then chardevs; it works from QEMU's own lists, so
 * it also clears what an earlier run left.
 *
 * Chardevs and filter objects share these names, ALIAS being the NIC's ("net0"):
 *   primary    colo-mirror-ALIAS (filter-mirror queue=tx), colo-release-ALIAS (filter-redirector
 *              queue=rx indev), colo-out-ALIAS (filter-redirector queue=rx outdev)
 *   secondary  colo-in-ALIAS (filter-redirector queue=tx indev), colo-out-ALIAS (queue=rx outdev);
 *              no filter-rewriter: comparator/tcp.h tells why none is needed
 * colo-release is created before colo-out: the rx chain runs from the newest filter to the oldest,
 * so what is released does not meet colo-out again.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <stdint.h>

typedef struct {
    const char *alias;  /* libvirt's alias, "net0" */
    const char *netdev; /* QEMU's netdev, or NULL for libvirt's own name "host<alias>" */
    gboolean vnet_hdr;  /* the tap has vnet headers: TRUE for model virtio under libvirt */
} ColoStepNic;

typedef enum { COLO_STEPS_PRIMARY, COLO_STEPS_SECONDARY } ColoStepsRole;

/* Our ends, non-blocking and close-on-exec, -1 where the role has none; the caller closes them. */
typedef struct {
    int mirror;  /* primary: QEMU writes what the guest receives */
    int release; /* primary: QEMU reads what may leave */
    int in;      /* secondary: QEMU reads mirrored input */
    int out;     /* both: QEMU writes what its guest sends */
} ColoNicFds;

/* Adds the chardevs of @nic. On failure those already added are removed again and @fds is all -1.
 * Chardevs of the same names that were left by an earlier run are an error: remove first. */
gboolean colo_steps_net_channels(virDomainPtr dom, const ColoStepNic *nic, ColoStepsRole role,
                                 ColoNicFds *fds, GError **error);
void colo_nic_fds_clear(ColoNicFds *fds); /* closes and sets -1 */

/* Adds the filters of @nic in the required order; on failure those already added are removed. A NIC
 * on vhost fails here with QEMU's "Vhost is not supported" and the remedy in the message. */
gboolean colo_steps_net_filters(virDomainPtr dom, const ColoStepNic *nic, ColoStepsRole role,
                                GError **error);

/*
 * Removes every filter and chardev of ours from all NICs. Nothing there is success. Goes on after
 * an error and reports the first.
 */
gboolean colo_steps_net_remove(virDomainPtr dom, GError **error);

/*
 * Takeover, secondary: deletes the two redirectors of @nic, so that its guest's packets leave by
 * the tap; two commands instead of colo_steps_net_remove(), which comes later.
 * Only with ownership won. Absent ones are success.
 */
gboolean colo_steps_net_cut(virDomainPtr dom, const ColoStepNic *nic, GError **error);

/* RARP (and GARP, where the guest does it) from every NIC, about 2 s long from 10 ms on. After the
 * redirectors are gone: before that the announcement would go into them. */
gboolean colo_steps_announce_self(virDomainPtr dom, GError **error);

/* What of ours QEMU holds; names as above. For restart, and to find leftovers. */
typedef struct {
    GPtrArray *filters;  /* char *: objects colo-* of a filter type */
    GPtrArray *chardevs; /* char * */
    gboolean primary;    /* a complete or partial primary set is there */
    gboolean secondary;  /* a colo-in-* is there */
} ColoNetInventory;
ColoNetInventory *colo_steps_net_inventory(virDomainPtr dom, GError **error);
void colo_net_inventory_free(ColoNetInventory *inventory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoNetInventory, colo_net_inventory_free)

/*
 * Gives libvirt the NIC's new source, which also moves the tap: virDomainUpdateDeviceFlags (live)
 * with the live <interface> element of @alias whose <source> is replaced: @bridge for
 * type='bridge', or @network for type='network'; exactly one is not NULL. @elapsed_ns (may be
 * NULL): how long libvirt took. When the tap is there already (steps-bridge.h moved it) it is taken
 * off for the moment of the call, because libvirt 9.0 fails to add a port that is one (EBUSY,
 * qemuDomainChangeNetBridge).
 */
gboolean colo_steps_net_set_source(virDomainPtr dom, const char *alias, const char *bridge,
                                   const char *network, uint64_t *elapsed_ns, GError **error);

/* Host interface (tap) of @alias from the live XML, for the caller to g_free(), or NULL. */
char *colo_steps_net_tap(virDomainPtr dom, const char *alias, GError **error);
