/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the operator wants of each hardware feature for one domain. Kept with the domain as JSON,
 * written on the command line as NAME=WORD[:PARAMETER][,...]. Plain data, pure functions.
 */
#pragma once

#include "feature/catalogue.h"
#include "util/json.h"

typedef enum {
    COLO_POLICY_DEFAULT, /* nothing said: the feature is left as KVM has it */
    COLO_POLICY_REQUIRE, /* on in both VMs, or no protection */
    COLO_POLICY_PREFER,  /* on where that is possible */
    COLO_POLICY_OFF,     /* off in both VMs, or no protection */
} ColoPolicyWord;

typedef struct {
    ColoPolicyWord word[KVM_HVFEAT_NR_FEATURES];
    uint64_t param[KVM_HVFEAT_NR_FEATURES]; /* of require and prefer, else 0 */
} ColoFeaturePolicy;

/* "require", "prefer", "off", "default". */
const char *colo_policy_word_name(ColoPolicyWord word);

/*
 * Changes in @policy the features that @text names; "default" takes back what was said of one.
 * FALSE with COLO_ERROR_INVALID_ARG, which says what was found and what is possible; @policy is
 * unchanged then.
 */
gboolean colo_feature_policy_update(ColoFeaturePolicy *policy, const char *text, GError **error);

/* What was said, as @text above, features in the catalogue's order; "" for nothing. g_free(). */
char *colo_feature_policy_format(const ColoFeaturePolicy *policy);

/* {NAME: {"policy": WORD, "param": NUMBER}}, without what is default; the caller owns it. */
JsonObject *colo_feature_policy_to_json(const ColoFeaturePolicy *policy);

/* Reads that, from the store or the peer; NULL is nothing said. FALSE with COLO_ERROR_INVALID_ARG
 * for anything else, also for a feature that is not known: it may be required. */
gboolean colo_feature_policy_parse(JsonObject *json, ColoFeaturePolicy *policy, GError **error);

/* TRUE if nothing was said of any feature. */
gboolean colo_feature_policy_is_default(const ColoFeaturePolicy *policy);
