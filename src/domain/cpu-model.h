/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Does the guest's CPU exist on the other host? libvirt judges: its own comparison and baseline of
 * CPU definitions for the hypervisor at hand. Any thread; each call asks libvirtd.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

/* The CPU that a guest of type @virt_type ("kvm") with host-model gets here, as <cpu>; the caller
 * owns it. NULL when libvirt does not say: no KVM, or another driver. */
char *colo_cpu_model_of_host(virConnectPtr conn, const char *virt_type);

/* <mode name='host-model'> of domain capabilities as <cpu>; NULL when it is not supported. */
char *colo_cpu_model_parse_caps(const char *domain_caps);

typedef enum {
    COLO_CPU_UNCHECKED, /* the guest's own host does not hold QEMU to it, or none is given */
    COLO_CPU_MODEL,     /* *cpu must be there on the peer */
    COLO_CPU_RAW,       /* host-passthrough or maximum: the hosts' CPUs must be the same */
} ColoCpuKind;

/* What @domain_xml (live) asks for; *@cpu (the caller's) is its <cpu> for COLO_CPU_MODEL, else
 * NULL. */
ColoCpuKind colo_cpu_model_of_domain(const char *domain_xml, char **cpu);

/*
 * On the host named @here: TRUE if @cpu can be given to guests of this @emulator, @arch, @machine
 * and @virt_type (NULL: libvirt's defaults). FALSE with COLO_ERROR_UNSUPPORTED, @what, the host and
 * libvirt's own reason; TRUE when this libvirt cannot compare.
 */
gboolean colo_cpu_model_check(virConnectPtr conn, const char *here, const char *what,
                              const char *emulator, const char *arch, const char *machine,
                              const char *virt_type, const char *cpu, GError **error);

/* The most that guests of @virt_type can have on both hosts, whose CPUs are @a and @b, as <cpu>;
 * the caller owns it. NULL with @error. */
char *colo_cpu_model_baseline(virConnectPtr conn, const char *virt_type, const char *a,
                              const char *b, GError **error);

/* The name of the model of a <cpu>, or NULL; the caller owns it. */
char *colo_cpu_model_name(const char *cpu);
