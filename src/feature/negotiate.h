/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What two hosts do about the hardware features of one domain. Pure: the same reports and policy
 * give the same outcome on both hosts, with the sides exchanged.
 *
 *   default  left as KVM has it on each host
 *   require  on in both VMs, else refused
 *   prefer   on in both VMs if both hosts can. If only one can: on there, when no guest can tell
 * and there is no state to lose; else on neither off      off in both VMs; refused where KVM uses
 * it for every VM and it cannot be switched
 *
 * A host can when the feature is usable, takes the parameter, and, if it has a state, can take that
 * along in the same version as the other. What a guest can tell is on both hosts or on neither.
 */
#pragma once

#include "feature/policy.h"
#include "feature/report.h"

typedef enum {
    COLO_SETTING_UNTOUCHED,
    COLO_SETTING_OFF, /* switched off in the VM */
    COLO_SETTING_ON,  /* switched on in the VM, with the parameter */
} ColoFeatureSetting;

typedef struct {
    ColoFeatureSetting setting[2]; /* of the hosts, in the order of the reports */
    uint64_t param;
    gboolean refused;
    char *reason; /* why it is refused, or not on though preferred: names hosts; NULL: none */
} ColoFeatureVerdict;

typedef struct {
    ColoFeatureVerdict feature[KVM_HVFEAT_NR_FEATURES];
} ColoFeatureOutcome;

/* The caller frees the outcome. */
ColoFeatureOutcome *colo_feature_negotiate(const ColoHostFeatures *a, const ColoHostFeatures *b,
                                           const ColoFeaturePolicy *policy);
void colo_feature_outcome_free(ColoFeatureOutcome *outcome);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoFeatureOutcome, colo_feature_outcome_free)

/* TRUE if nothing is refused. FALSE with COLO_ERROR_UNSUPPORTED: every refusal with feature, host
 * and reason. */
gboolean colo_feature_outcome_require(const ColoFeatureOutcome *outcome, GError **error);

/* "on", "off", "untouched", "refused"; @side: 0 or 1. */
const char *colo_feature_outcome_word(const ColoFeatureOutcome *outcome, unsigned feature,
                                      unsigned side);

/* What one of the hosts does; kept with the domain. */
typedef struct {
    ColoFeatureSetting setting[KVM_HVFEAT_NR_FEATURES];
    uint64_t param[KVM_HVFEAT_NR_FEATURES];
    gboolean carried[KVM_HVFEAT_NR_FEATURES]; /* on in both VMs, and has a state */
} ColoFeaturePlan;

void colo_feature_outcome_plan(const ColoFeatureOutcome *outcome, unsigned side,
                               ColoFeaturePlan *plan);

/* {NAME: {"setting", "param", "carried"}} without what is untouched, and back from our own store;
 * what cannot be read counts as untouched. The caller owns the object. */
JsonObject *colo_feature_plan_to_json(const ColoFeaturePlan *plan);
void colo_feature_plan_parse(JsonObject *json, ColoFeaturePlan *plan);

/* TRUE if something is to be on; if something is carried. */
gboolean colo_feature_plan_has_on(const ColoFeaturePlan *plan);
gboolean colo_feature_plan_has_carried(const ColoFeaturePlan *plan);

/* {NAME: [WORD, WORD]} of the two sides: what the hosts must agree about. The caller owns it. */
JsonObject *colo_feature_outcome_to_json(const ColoFeatureOutcome *outcome);
