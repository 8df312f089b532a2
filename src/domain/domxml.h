/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the rest of the daemon needs to know about a domain, read once from libvirt's XML.
 *
 * The XML is that of the RUNNING domain on the host asked (virDomainGetXMLDesc with flags
 * VIR_DOMAIN_XML_SECURE or 0): only there do aliases, node indexes and tap names exist. They may
 * differ between the two copies of a domain (a hot-plugged device keeps its alias until the next
 * start), so each host parses its own. An inactive XML parses too, with those members NULL.
 *
 * Plain data, owned by the structure, never NULL where not said; no thread affinity. Secrets (the
 * graphics passwords that VIR_DOMAIN_XML_SECURE brings) are not kept.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

/* More disks or NICs than this is refused as nonsense. */
#define COLO_DOMAIN_MAX_DEVICES 256

typedef struct {
    char *device;       /* "disk", "cdrom", "floppy", "lun" */
    char *type;         /* "file", "block", "volume", "network", ... */
    char *target;       /* "vda": the name by which a user and the disk map know it */
    char *bus;          /* "virtio", "scsi", "sata", ...; NULL if not said */
    char *alias;        /* "virtio-disk0", or NULL in inactive XML */
    char *qom_path;     /* "/machine/peripheral/virtio-disk0", or NULL */
    char *source;       /* file or device on this host; NULL: empty drive, volume or network */
    char *pool;         /* of type "volume", else NULL */
    char *volume;       /* of type "volume", else NULL */
    char *format;       /* "raw", "qcow2", ...; NULL if not said */
    char *cache;        /* cache mode, NULL if not said */
    unsigned index;     /* of libvirt's node names; 0 if there is none */
    char *node_format;  /* "libvirt-1-format": the node the device uses; NULL without an index */
    char *node_storage; /* "libvirt-1-storage"; NULL without an index */
    uint64_t size;      /* bytes; the XML does not tell: 0 until the caller asks QEMU */
    gboolean readonly;  /* cdroms are read-only whether said or not */
    gboolean shareable;
    gboolean has_backing; /* the running chain has at least one backing file */
    gboolean replicated;  /* a writable disk: its content must be carried to the peer */
} ColoDiskInfo;

typedef struct {
    char *alias;       /* "net0", or NULL in inactive XML */
    char *netdev;      /* QEMU's netdev id "hostnet0", or NULL */
    char *qom_path;    /* "/machine/peripheral/net0", or NULL */
    char *mac;         /* "52:54:00:...", lower case: the key of every NIC map */
    char *type;        /* "bridge", "network", ...: of the running NIC */
    char *bridge;      /* Linux or OVS bridge that the tap is on, NULL if not known */
    char *network;     /* libvirt network, or NULL */
    char *virtualport; /* "openvswitch", ... or NULL */
    char *target;      /* tap device on this host ("vnet3"), or NULL */
    char *model;       /* "virtio", "e1000e", ... */
    char *driver;      /* "qemu", "vhost", or NULL: libvirt chooses, on KVM vhost */
    unsigned queues;   /* at least 1 */
    unsigned mtu;      /* bytes; 0 if not said */
    gboolean vhost;    /* QEMU does not see its packets: filters are refused */
    gboolean vnet_hdr; /* frames carry a virtio-net header: vnet_hdr_support=on in every filter */
} ColoNicInfo;

typedef struct {
    char *name;
    char *uuid;          /* lower case with dashes */
    char *virt_type;     /* "kvm", "qemu" */
    char *machine;       /* "pc-q35-7.2"; NULL if not said */
    char *arch;          /* "x86_64" */
    char *emulator;      /* path on this host, or NULL */
    char *loader;        /* firmware image, or NULL */
    char *nvram;         /* UEFI variable store on this host, or NULL */
    char *cpu_mode;      /* "custom", "host-passthrough", ... or NULL */
    uint64_t memory_kib; /* current maximum RAM */
    unsigned vcpus;      /* maximum */
    unsigned vcpus_current;
    int id; /* libvirt's id of the run, -1 if not running */
    gboolean has_tpm;
    gboolean incoming; /* -incoming is on its qemu:commandline */
    GPtrArray *disks;  /* ColoDiskInfo *, in the order of the XML */
    GPtrArray *nics;   /* ColoNicInfo * */
} ColoDomainInfo;

/* COLO_ERROR_INVALID_ARG for text that is not a domain, lacks name or uuid, or is out of bounds;
 * nothing is judged here, that is eligibility.h's work. Free with colo_domain_info_free(). */
ColoDomainInfo *colo_domain_info_parse(const char *xml, GError **error);

void colo_domain_info_free(ColoDomainInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoDomainInfo, colo_domain_info_free)

/* By target ("vda") and by MAC (any case); NULL if there is none. Borrowed. */
const ColoDiskInfo *colo_domain_info_disk(const ColoDomainInfo *info, const char *target);
const ColoNicInfo *colo_domain_info_nic(const ColoDomainInfo *info, const char *mac);
