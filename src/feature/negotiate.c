/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/negotiate.h"

#include "util/error.h"

#include <string.h>

typedef struct {
    const ColoHostFeatures *host[2];
    const ColoFeaturePolicy *policy;
    ColoFeatureOutcome *outcome;
} Negotiation;

static const ColoFeatureReport *report(const Negotiation *n, unsigned feature, unsigned side)
{
    return &n->host[side]->features[feature];
}

static void add_reason(ColoFeatureVerdict *v, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add_reason(ColoFeatureVerdict *v, const char *format, ...)
{
    g_autofree char *before = v->reason;
    g_autofree char *more = NULL;
    va_list args;

    va_start(args, format);
    more = g_strdup_vprintf(format, args);
    va_end(args);
    v->reason = before ? g_strconcat(before, "; ", more, NULL) : g_strdup(more);
}

static gboolean is_visible(const Negotiation *n, unsigned feature)
{
    return colo_feature_is_visible(feature, n->policy->param[feature]) ||
           report(n, feature, 0)->guest_visible || report(n, feature, 1)->guest_visible;
}

/* KVM uses it, or may do so, for a VM of that host that nobody has asked it for. */
static gboolean on_by_default(const Negotiation *n, unsigned feature, unsigned side)
{
    const ColoFeatureReport *r = report(n, feature, side);

    return colo_feature(feature)->by_default && r->hw != COLO_TRI_NO && r->kernel != COLO_TRI_NO;
}

static gboolean param_fits(unsigned feature, const ColoFeatureReport *r, uint64_t param)
{
    return colo_feature(feature)->param == COLO_FEATURE_PARAM_NONE ||
           (param >= r->param_min && param <= r->param_max);
}

/* TRUE if the feature can be on there for a protected domain; else the verdict gets the reason. */
static gboolean can(const Negotiation *n, unsigned feature, unsigned side, ColoFeatureVerdict *v)
{
    const ColoFeatureReport *r = report(n, feature, side);
    const char *host = n->host[side]->host;

    if (!colo_feature_is_usable(r)) {
        add_reason(v, "host %s: %s", host, r->reason ? r->reason : "it is not known there");
        return FALSE;
    }
    if (!param_fits(feature, r, n->policy->param[feature])) {
        add_reason(v,
                   "host %s: it takes %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                   ", not %" G_GUINT64_FORMAT,
                   host, r->param_min, r->param_max, n->policy->param[feature]);
        return FALSE;
    }
    if (colo_feature(feature)->needs_state && !r->state) {
        add_reason(v, "host %s: its state cannot be taken along by checkpoints", host);
        return FALSE;
    }
    return TRUE;
}

static gboolean same_state(const Negotiation *n, unsigned feature, ColoFeatureVerdict *v)
{
    const ColoFeatureReport *a = report(n, feature, 0), *b = report(n, feature, 1);

    if (!colo_feature(feature)->needs_state || a->state_version == b->state_version)
        return TRUE;
    add_reason(v,
               "hosts %s and %s have versions %u and %u of its state: install the same version of "
               "kvm_hvfeat on both",
               n->host[0]->host, n->host[1]->host, a->state_version, b->state_version);
    return FALSE;
}

/* On neither host. */
static void settle_off(const Negotiation *n, unsigned feature, ColoFeatureVerdict *v)
{
    for (unsigned side = 0; side < 2; side++) {
        gboolean can_switch = colo_feature_is_usable(report(n, feature, side));

        v->setting[side] = can_switch ? COLO_SETTING_OFF : COLO_SETTING_UNTOUCHED;
        if (!can_switch && on_by_default(n, feature, side)) {
            v->refused = TRUE;
            add_reason(v,
                       "host %s: KVM uses it for every VM and it cannot be switched off for one: "
                       "load kvm_hvfeat there",
                       n->host[side]->host);
        }
    }
}

static void settle_on(const Negotiation *n, unsigned feature, ColoFeatureVerdict *v)
{
    gboolean here = can(n, feature, 0, v), there = can(n, feature, 1, v);
    gboolean both = here && there && same_state(n, feature, v);

    if (both || n->policy->word[feature] == COLO_POLICY_REQUIRE) {
        v->refused = !both;
        v->setting[0] = v->setting[1] = both ? COLO_SETTING_ON : COLO_SETTING_UNTOUCHED;
    } else if (is_visible(n, feature) || colo_feature(feature)->needs_state) {
        settle_off(n, feature, v);
    } else {
        v->setting[0] = here ? COLO_SETTING_ON : COLO_SETTING_UNTOUCHED;
        v->setting[1] = there ? COLO_SETTING_ON : COLO_SETTING_UNTOUCHED;
    }
    if (v->setting[0] == COLO_SETTING_ON || v->setting[1] == COLO_SETTING_ON)
        v->param = n->policy->param[feature];
}

/* KVM has one switch for a group: what is on cannot be together with what must be off. */
static void settle_group(const Negotiation *n, unsigned feature)
{
    uint32_t group =
        colo_feature(feature)->group | report(n, feature, 0)->group | report(n, feature, 1)->group;
    ColoFeatureVerdict *v = &n->outcome->feature[feature];

    if (v->setting[0] != COLO_SETTING_ON && v->setting[1] != COLO_SETTING_ON)
        return;
    for (unsigned other = 0; other < COLO_FEATURE_COUNT; other++) {
        if (other == feature || !(group & (1u << other)) ||
            n->policy->word[other] != COLO_POLICY_OFF)
            continue;
        v->setting[0] = v->setting[1] = COLO_SETTING_UNTOUCHED;
        v->param = 0;
        v->refused = v->refused || n->policy->word[feature] == COLO_POLICY_REQUIRE;
        add_reason(v, "KVM switches it together with %s, which is to be off",
                   colo_feature(other)->name);
    }
}

static void settle(const Negotiation *n, unsigned feature)
{
    ColoFeatureVerdict *v = &n->outcome->feature[feature];

    switch (n->policy->word[feature]) {
    case COLO_POLICY_REQUIRE:
    case COLO_POLICY_PREFER:
        settle_on(n, feature, v);
        break;
    case COLO_POLICY_OFF:
        settle_off(n, feature, v);
        break;
    case COLO_POLICY_DEFAULT:
        /* Nobody asked, but a guest that can tell must find the same on both. */
        if (is_visible(n, feature) && on_by_default(n, feature, 0) != on_by_default(n, feature, 1))
            settle_off(n, feature, v);
        break;
    }
}

ColoFeatureOutcome *colo_feature_negotiate(const ColoHostFeatures *a, const ColoHostFeatures *b,
                                           const ColoFeaturePolicy *policy)
{
    Negotiation n = {.host = {a, b}, .policy = policy, .outcome = g_new0(ColoFeatureOutcome, 1)};

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        settle(&n, i);
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        settle_group(&n, i);
    return n.outcome;
}

void colo_feature_outcome_free(ColoFeatureOutcome *outcome)
{
    for (unsigned i = 0; outcome && i < COLO_FEATURE_COUNT; i++)
        g_free(outcome->feature[i].reason);
    g_free(outcome);
}

gboolean colo_feature_outcome_require(const ColoFeatureOutcome *outcome, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        const ColoFeatureVerdict *v = &outcome->feature[i];

        if (v->refused)
            g_string_append_printf(text, "%sfeature '%s': %s", text->len ? "; " : "",
                                   colo_feature(i)->name, v->reason);
    }
    if (!text->len)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED, "%s", text->str);
    return FALSE;
}

static const char *const words[] = {
    [COLO_SETTING_UNTOUCHED] = "untouched",
    [COLO_SETTING_OFF] = "off",
    [COLO_SETTING_ON] = "on",
};

const char *colo_feature_outcome_word(const ColoFeatureOutcome *outcome, unsigned feature,
                                      unsigned side)
{
    const ColoFeatureVerdict *v = &outcome->feature[feature];

    return v->refused ? "refused" : words[v->setting[side]];
}

JsonObject *colo_feature_outcome_to_json(const ColoFeatureOutcome *outcome)
{
    JsonObject *json = json_object_new_object();

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        JsonObject *sides = json_object_new_array();

        for (unsigned side = 0; side < 2; side++)
            json_object_array_add(
                sides, json_object_new_string(colo_feature_outcome_word(outcome, i, side)));
        json_object_object_add(json, colo_feature(i)->name, sides);
    }
    return json;
}

/* ---- plans ---- */

void colo_feature_outcome_plan(const ColoFeatureOutcome *outcome, unsigned side,
                               ColoFeaturePlan *plan)
{
    memset(plan, 0, sizeof(*plan));
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        const ColoFeatureVerdict *v = &outcome->feature[i];

        plan->setting[i] = v->setting[side];
        plan->param[i] = v->setting[side] == COLO_SETTING_ON ? v->param : 0;
        plan->carried[i] = colo_feature(i)->needs_state && v->setting[0] == COLO_SETTING_ON &&
                           v->setting[1] == COLO_SETTING_ON;
    }
}

JsonObject *colo_feature_plan_to_json(const ColoFeaturePlan *plan)
{
    JsonObject *json = json_object_new_object();

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan->setting[i] != COLO_SETTING_UNTOUCHED)
            json_object_object_add(json, colo_feature(i)->name,
                                   colo_json_build("setting", "s", words[plan->setting[i]], "param",
                                                   "u", plan->param[i], "carried", "b",
                                                   plan->carried[i], NULL));
    }
    return json;
}

void colo_feature_plan_parse(JsonObject *json, ColoFeaturePlan *plan)
{
    memset(plan, 0, sizeof(*plan));
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        JsonObject *row = colo_json_peek(json, colo_feature(i)->name);

        for (int s = COLO_SETTING_OFF; s <= COLO_SETTING_ON; s++) {
            if (strcmp(colo_json_peek_string(row, "setting", ""), words[s]) == 0)
                plan->setting[i] = (ColoFeatureSetting)s;
        }
        if (plan->setting[i] != COLO_SETTING_ON)
            continue;
        plan->param[i] = colo_json_peek_uint(row, "param", 0);
        plan->carried[i] = colo_json_peek_bool(row, "carried", FALSE);
    }
}

gboolean colo_feature_plan_has_on(const ColoFeaturePlan *plan)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan->setting[i] == COLO_SETTING_ON)
            return TRUE;
    }
    return FALSE;
}

gboolean colo_feature_plan_has_carried(const ColoFeaturePlan *plan)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan->carried[i])
            return TRUE;
    }
    return FALSE;
}
