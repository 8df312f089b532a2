/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a host says of its hardware virtualization features: made by probe.h, sent to the peer as
 * JSON, judged by negotiate.h. Plain data, owned by the structure; no thread affinity.
 */
#pragma once

#include "feature/catalogue.h"
#include "util/json.h"

/* Without the module much cannot be known, and is not guessed. */
typedef enum { COLO_TRI_NO, COLO_TRI_YES, COLO_TRI_UNKNOWN } ColoTri;

typedef struct {
    ColoTri hw;             /* the CPU has it */
    ColoTri firmware;       /* the firmware lets it be used */
    ColoTri kernel;         /* the loaded kvm modules implement it and have it on */
    gboolean per_vm;        /* it can be switched for one VM */
    gboolean state;         /* its state in a VM can be taken to another host */
    gboolean guest_visible; /* the module's word; the catalogue's counts as well */
    uint32_t group;         /* 1 << feature of all that KVM switches together */
    uint32_t state_version;
    uint64_t param_min, param_max;
    char *reason; /* why it cannot be switched, with the remedy; NULL when it can */
} ColoFeatureReport;

typedef struct {
    char *host;   /* name in pairs and messages */
    char *vendor; /* "GenuineIntel", "AuthenticAMD", ... or NULL */
    char *kernel; /* uname -r, or NULL */
    char *module; /* version of kvm_hvfeat; NULL: not loaded */
    char *cpu;    /* XML of the CPU that a guest of this host can get, or NULL */
    ColoFeatureReport features[KVM_HVFEAT_NR_FEATURES];
} ColoHostFeatures;

ColoHostFeatures *colo_host_features_new(const char *host);
void colo_host_features_free(ColoHostFeatures *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoHostFeatures, colo_host_features_free)

/* TRUE if the feature can be switched on and off in one VM of that host. */
gboolean colo_feature_is_usable(const ColoFeatureReport *report);

/* The result of colo-features (rpc/command-table.c names the members); the caller owns it. */
JsonObject *colo_host_features_to_json(const ColoHostFeatures *report);

/*
 * The peer's report. What it does not say is unknown, features that this host does not know are
 * passed over, texts are cut and cleaned of control characters. NULL with COLO_ERROR_INVALID_ARG
 * for a member of the wrong type.
 */
ColoHostFeatures *colo_host_features_parse(JsonObject *json, GError **error);
