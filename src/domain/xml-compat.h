/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Can the peer run an exact copy of this domain? Compares what two hosts say of themselves. The
 * device state of a checkpoint is QEMU's migration format: both sides must be the same QEMU.
 * Pure functions, any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
    const char *name;              /* of the host, for messages */
    const char *arch;              /* "x86_64" */
    const char *cpu;               /* host CPU model of virConnectGetCapabilities, or NULL */
    const char *cpu_vendor;        /* "Intel", "AMD", or NULL */
    unsigned long qemu_version;    /* virConnectGetVersion: major*1000000 + minor*1000 + micro */
    unsigned long libvirt_version; /* virConnectGetLibVersion, the same scale */
    const char *const *machines;   /* machine types, NULL-terminated; NULL: not known, not judged */
} ColoHostFacts;

/*
 * TRUE if a domain of @machine with <cpu mode='@cpu_mode'> (both may be NULL) that runs on @local
 * can have its copy on @peer. A version of 0 is unknown and never equal to another. FALSE and
 * COLO_ERROR_UNSUPPORTED otherwise: the message names both hosts with what each has.
 */
gboolean colo_compat_check(const ColoHostFacts *local, const ColoHostFacts *peer,
                           const char *machine, const char *cpu_mode, GError **error);

/* Host facts out of virConnectGetCapabilities, for guests of @arch and @virt_type ("kvm"). */
typedef struct {
    char *arch;
    char *cpu;        /* or NULL */
    char *cpu_vendor; /* or NULL */
    char **machines;  /* canonical names and aliases, NULL-terminated */
} ColoHostCaps;

/* NULL and COLO_ERROR_INVALID_ARG if @caps_xml is no capabilities document. */
ColoHostCaps *colo_host_caps_parse(const char *caps_xml, const char *arch, const char *virt_type,
                                   GError **error);
void colo_host_caps_free(ColoHostCaps *caps);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoHostCaps, colo_host_caps_free)
