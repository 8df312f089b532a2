/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hardware virtualization features that libvirt-colo knows (design section 7): one table, which
 * probe, policy, negotiation and control go by. Constant; any thread.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "libvirt-colo/kvm_hvfeat.h"

/* Those of the module's ABI, by its numbers. */
#define COLO_FEATURE_COUNT ((unsigned)KVM_HVFEAT_NR_FEATURES)

/* What a feature is given when it is switched on. */
typedef enum {
    COLO_FEATURE_PARAM_NONE,
    COLO_FEATURE_PARAM_MODES,        /* words joined by "+": bits of KVM_HVFEAT_DESC_... */
    COLO_FEATURE_PARAM_MICROSECONDS, /* a number */
} ColoFeatureParam;

typedef struct {
    const char *name;
    unsigned intel : 1, amd : 1; /* vendors whose CPUs can have it */
    unsigned by_default : 1;     /* KVM uses it for every VM where it can, without being asked */
    unsigned needs_state : 1;    /* it has a state that the other copy needs, or is not the same */
    unsigned guest_visible : 1;  /* a guest can tell, whatever the parameter */
    uint64_t visible_param;      /* bits of the parameter with which a guest can tell */
    ColoFeatureParam param;
    uint32_t group; /* 1 << feature of all that KVM can only switch together */
    /* Where the hardware shows it without the module (Linux arch/x86/include/asm/vmxfeatures.h and
     * cpufeatures.h); NULL: nowhere, or with the vendor's virtualization as such. */
    const char *vmx_flag, *cpu_flag;
    const char *switched_by; /* module parameter of kvm_intel or kvm_amd, "MODULE/NAME"; or NULL */
} ColoFeature;

/* @feature must be below COLO_FEATURE_COUNT. */
const ColoFeature *colo_feature(unsigned feature);

/* The feature of that name, or -1. */
int colo_feature_find(const char *name);

/* TRUE if a guest can tell that the feature is on with @param. */
gboolean colo_feature_is_visible(unsigned feature, uint64_t param);

/*
 * Reads a parameter as an operator writes it: "count+lock", "10000"; NULL or "" where none is
 * given. FALSE with COLO_ERROR_INVALID_ARG, which names the feature, what was found and what is
 * possible.
 */
gboolean colo_feature_parse_param(unsigned feature, const char *text, uint64_t *param,
                                  GError **error);

/* The same as text, "" for none; the caller frees it. */
char *colo_feature_format_param(unsigned feature, uint64_t param);
