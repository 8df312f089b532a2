/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Domain XML that we write: the secondary's definition, the survivor's, and the vhost repair.
 *
 * Which XML to ask libvirt for:
 *   secondary  virDomainGetXMLDesc(primary, VIR_DOMAIN_XML_SECURE): the live one. It has the PCI
 *              and drive addresses, the exact machine type and the CPU as it was expanded at the
 *              start (host-model becomes a model with its features). Not VIR_DOMAIN_XML_MIGRATABLE:
 *              that drops default controllers and CPU features for old destinations, and both sides
 *              of a pair run the same version.
 *   survivor   virDomainGetXMLDesc(primary, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE), taken
 *              and stored when protection begins; it keeps what the secondary's live XML has lost
 *              (virtual port, VLAN, host-model). The survivor's own live XML works too.
 *
 * All functions are pure: text in, text out, any thread; results are owned by the caller. Errors
 * are COLO_ERROR_INVALID_ARG for text that is no domain, and for a map that lacks an entry that is
 * needed: nothing is ever guessed.
 */
#pragma once

#include <glib.h>

/* Where a NIC is to be plugged in. */
typedef struct {
    const char *bridge;  /* Linux or OVS bridge; or NULL and ... */
    const char *network; /* ... a libvirt network of that host */
    const char
        *virtualport; /* "openvswitch" for an OVS bridge: added if the NIC has none; or NULL */
} ColoNicSource;

typedef struct {
    GHashTable *disks; /* target ("vda") -> path on the peer, both const char *; every writable disk
                        * must be in it; a read-only one keeps its own path if it is not. A path
                        * below /dev/ becomes a disk of type block, any other of type file. */
    GHashTable *nics;  /* mac, lower case -> name of the quarantine bridge, const char *; every NIC
                        * must be in it */
} ColoSecondaryMap;

/*
 * The definition with which the peer starts its copy (virDomainCreateXMLWithFiles with
 * VIR_DOMAIN_START_PAUSED): same name, uuid, title, metadata, CPU, machine type, devices and
 * addresses; sources replaced by @map; without what belongs to the run (domain id, libvirt's
 * aliases, tap and pty names, automatic ports and sockets, dynamic labels, the default partition),
 * without the memory hard limit (the copy needs twice the guest's RAM); `-incoming defer` added to
 * the qemu:commandline it had.
 */
char *colo_secondary_xml(const char *live_xml, const ColoSecondaryMap *map, GError **error);

typedef struct {
    GHashTable
        *disks;       /* as above: path on the survivor; NULL or no entry: the path of @xml stays */
    GHashTable *nics; /* mac, lower case -> const ColoNicSource *: the real bridge or network; NULL
                       * or no entry: the source of @xml stays */
} ColoSurvivorMap;

/*
 * The clean definition that the survivor makes persistent after a takeover (virDomainDefineXML):
 * the sources of @map, no run-time data, no `-incoming defer` of ours; any other qemu:commandline
 * stays, an empty one goes.
 */
char *colo_survivor_xml(const char *xml, const ColoSurvivorMap *map, GError **error);

/* Sets <driver name='qemu'/> on every virtio NIC of the PERSISTENT definition @xml that could use
 * vhost; @changed (may be NULL) gets the number of NICs changed. */
char *colo_fix_vhost_xml(const char *xml, unsigned *changed, GError **error);
