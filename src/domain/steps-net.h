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
 * Chardevs and filter objects share these names, ALIAS being the NIC's ("net0"), G the generation
 * of the session they belong to:
 *   primary    colo-mirror-ALIAS.G (filter-mirror queue=tx), colo-release-ALIAS.G
 *              (filter-redirector queue=rx indev), colo-out-ALIAS.G (filter-redirector queue=rx
 *              outdev)
 *   secondary  colo-in-ALIAS.G (queue=tx indev), colo-out-ALIAS.G (queue=rx outdev); and before
 *              them in a session that rewrites, of use after a takeover only (remap.c),
 *              colo-release-ALIAS.G (queue=rx indev), colo-take-ALIAS.G (queue=tx outdev)
 * They are created in this order: the chain of a NIC begins at the network with the oldest filter
 * and ends at the guest with the newest; rx runs through it from the guest, tx from the network. So
 * what is released does not meet colo-out again, what is given in does not meet colo-take, and a
 * newer session's set lies between the guest and an older one's.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <stdint.h>

typedef struct {
    const char *alias;   /* libvirt's alias, "net0" */
    const char *netdev;  /* QEMU's netdev, or NULL for libvirt's own name "host<alias>" */
    gboolean vnet_hdr;   /* the tap has vnet headers: TRUE for model virtio under libvirt */
    uint64_t generation; /* of the session */
    gboolean rewrite;    /* the session rewrites sequence numbers */
} ColoStepNic;

typedef enum { COLO_STEPS_PRIMARY, COLO_STEPS_SECONDARY } ColoStepsRole;

/* Our ends, non-blocking and close-on-exec, -1 where the role has none; the caller closes them. */
typedef struct {
    int mirror;  /* primary: QEMU writes what the guest receives */
    int release; /* primary, rewriting secondary: QEMU reads what may leave */
    int take;    /* rewriting secondary: QEMU writes what the network sends to its guest */
    int in;      /* secondary: QEMU reads what its guest receives */
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
 * Removes every filter and chardev of ours from all NICs, but those of generation @except (0: all
 * go). Nothing there is success. Goes on after an error and reports the first.
 */
gboolean colo_steps_net_remove(virDomainPtr dom, uint64_t except, GError **error);
/* The same for those of @generation only. */
gboolean colo_steps_net_remove_of(virDomainPtr dom, uint64_t generation, GError **error);

/*
 * Takeover, secondary: deletes the redirectors of @nic that take packets, so that its guest's leave
 * by the tap and come from there; three commands instead of colo_steps_net_remove(), which comes
 * later. Only with ownership won. Absent ones are success.
 */
gboolean colo_steps_net_cut(virDomainPtr dom, const ColoStepNic *nic, GError **error);

/*
 * Takeover, secondary that rewrites, after colo_steps_lost_heartbeat(): QEMU turns all filters off
 * when it leaves COLO (net/filter.c, default_handle_event()). Waits until it has left, at most
 * @timeout_ms, and turns those of @nic on again. Until then the guest's packets go past them.
 */
gboolean colo_steps_net_turn_on(virDomainPtr dom, const ColoStepNic *nic, unsigned timeout_ms,
                                GError **error);

/* RARP (and GARP, where the guest does it) from every NIC, about 2 s long from 10 ms on. After the
 * redirectors are gone: before that the announcement would go into them. */
gboolean colo_steps_announce_self(virDomainPtr dom, GError **error);

/* What of ours QEMU holds; names as above. For restart, and to find leftovers. */
typedef struct {
    GPtrArray *filters;  /* char *: objects colo-* of a filter type */
    GPtrArray *chardevs; /* char * */
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
