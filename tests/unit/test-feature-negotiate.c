/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Policies as they are written and kept, and what two hosts make of them: every combination of
 * policy and of what the hosts can, against the rules of negotiate.h said in another way.
 */
#include "feature/negotiate.h"
#include "util/error.h"

#include <string.h>

/* ---- hosts ---- */

/* What a host can be like for one feature. */
typedef enum {
    ABSENT,    /* no hardware */
    KERNEL_ON, /* KVM has it, it cannot be switched (no module) */
    STATELESS, /* switched, but its state cannot be taken along */
    OTHER,     /* all, with another version of the state */
    NARROW,    /* all, with bounds that the parameter is not in */
    NOT_KNOWN, /* nothing is known */
    FULL,
    KINDS
} Kind;

static void make(ColoHostFeatures *host, unsigned feature, Kind kind)
{
    ColoFeatureReport *r = &host->features[feature];
    gboolean full = kind == FULL || kind == STATELESS || kind == OTHER || kind == NARROW;

    g_clear_pointer(&r->reason, g_free);
    r->hw = kind == ABSENT ? COLO_TRI_NO : kind == NOT_KNOWN ? COLO_TRI_UNKNOWN : COLO_TRI_YES;
    r->firmware = kind == NOT_KNOWN ? COLO_TRI_UNKNOWN : COLO_TRI_YES;
    r->kernel = kind == ABSENT ? COLO_TRI_NO : kind == NOT_KNOWN ? COLO_TRI_UNKNOWN : COLO_TRI_YES;
    r->per_vm = full;
    r->state = full && kind != STATELESS;
    r->state_version = kind == OTHER ? 2 : 1;
    r->param_min = kind == NARROW ? 1000000 : 0;
    r->param_max = 2000000;
    if (!full && kind != NOT_KNOWN)
        r->reason = g_strdup_printf("kind %d", kind);
}

static ColoHostFeatures *new_host(const char *name, Kind kind)
{
    ColoHostFeatures *host = colo_host_features_new(name);

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        make(host, i, kind);
    return host;
}

/* ---- all combinations ---- */

static gboolean able(unsigned feature, Kind kind)
{
    if (kind == FULL || kind == OTHER)
        return TRUE;
    if (kind == NARROW)
        return colo_feature(feature)->param == COLO_FEATURE_PARAM_NONE;
    return kind == STATELESS && !colo_feature(feature)->needs_state;
}

static gboolean switchable(Kind kind)
{
    return kind == FULL || kind == OTHER || kind == NARROW || kind == STATELESS;
}

/* KVM does it by itself, or may. */
static gboolean runs_anyway(unsigned feature, Kind kind)
{
    return colo_feature(feature)->by_default && kind != ABSENT;
}

static void judge(unsigned feature, uint64_t param, ColoPolicyWord word, Kind a, Kind b,
                  const ColoFeatureVerdict *v)
{
    const ColoFeature *f = colo_feature(feature);
    gboolean visible = f->guest_visible || (param & f->visible_param);
    gboolean versions = !f->needs_state || (a == OTHER) == (b == OTHER);
    gboolean both = able(feature, a) && able(feature, b) && versions;
    gboolean stuck =
        (!switchable(a) && runs_anyway(feature, a)) || (!switchable(b) && runs_anyway(feature, b));
    ColoFeatureSetting s[2] = {v->setting[0], v->setting[1]};

    switch (word) {
    case COLO_POLICY_DEFAULT:
        g_assert_true(!v->refused && !s[0] && !s[1]);
        break;
    case COLO_POLICY_REQUIRE:
        g_assert_cmpint(v->refused, ==, !both);
        g_assert_true(v->refused || (s[0] == COLO_SETTING_ON && s[1] == COLO_SETTING_ON));
        break;
    case COLO_POLICY_PREFER:
        g_assert_false(v->refused);
        g_assert_cmpint(s[0] == COLO_SETTING_ON && s[1] == COLO_SETTING_ON, ==, both);
        if (visible || f->needs_state)
            g_assert_cmpint(s[0] == COLO_SETTING_ON, ==, s[1] == COLO_SETTING_ON);
        else
            g_assert_true((s[0] == COLO_SETTING_ON) == able(feature, a) &&
                          (s[1] == COLO_SETTING_ON) == able(feature, b));
        break;
    case COLO_POLICY_OFF:
        g_assert_cmpint(v->refused, ==, stuck);
        g_assert_true(s[0] != COLO_SETTING_ON && s[1] != COLO_SETTING_ON);
        g_assert_cmpint(s[0] == COLO_SETTING_OFF, ==, switchable(a));
        g_assert_cmpint(s[1] == COLO_SETTING_OFF, ==, switchable(b));
        break;
    }
    if (v->refused || (word == COLO_POLICY_PREFER && !both))
        g_assert_true(v->reason && *v->reason);
    else
        g_assert_null(v->reason);
    g_assert_cmpuint(v->param, ==, s[0] == COLO_SETTING_ON || s[1] == COLO_SETTING_ON ? param : 0);
}

static void combine(unsigned feature, uint64_t param, Kind a, Kind b)
{
    g_autoptr(ColoHostFeatures) alpha = new_host("alpha", ABSENT);
    g_autoptr(ColoHostFeatures) beta = new_host("beta", ABSENT);

    make(alpha, feature, a);
    make(beta, feature, b);
    for (int word = COLO_POLICY_DEFAULT; word <= COLO_POLICY_OFF; word++) {
        ColoFeaturePolicy policy = {0};
        g_autoptr(ColoFeatureOutcome) outcome = NULL, mirrored = NULL;
        const ColoFeatureVerdict *v, *m;

        policy.word[feature] = (ColoPolicyWord)word;
        if (word == COLO_POLICY_REQUIRE || word == COLO_POLICY_PREFER)
            policy.param[feature] = param;
        outcome = colo_feature_negotiate(alpha, beta, &policy);
        mirrored = colo_feature_negotiate(beta, alpha, &policy);
        v = &outcome->feature[feature];
        m = &mirrored->feature[feature];
        judge(feature, param, policy.word[feature], a, b, v);
        /* Both hosts come to the same. */
        g_assert_cmpint(v->refused, ==, m->refused);
        g_assert_cmpint(v->setting[0], ==, m->setting[1]);
        g_assert_cmpint(v->setting[1], ==, m->setting[0]);
        for (unsigned other = 0; other < COLO_FEATURE_COUNT; other++) {
            if (other != feature)
                g_assert_true(!outcome->feature[other].refused &&
                              !outcome->feature[other].setting[0] &&
                              !outcome->feature[other].setting[1]);
        }
    }
}

static void every_feature_policy_and_pair_of_hosts(void)
{
    unsigned n = 0;

    for (unsigned feature = 0; feature < COLO_FEATURE_COUNT; feature++) {
        uint64_t params[] = {0, 0};

        if (colo_feature(feature)->param == COLO_FEATURE_PARAM_MODES) {
            params[0] = KVM_HVFEAT_DESC_COUNT;
            params[1] = KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK;
        } else if (colo_feature(feature)->param == COLO_FEATURE_PARAM_MICROSECONDS) {
            params[0] = params[1] = 10000;
        }
        for (size_t p = 0; p < G_N_ELEMENTS(params); p++) {
            for (int a = 0; a < KINDS; a++) {
                for (int b = 0; b < KINDS; b++, n++)
                    combine(feature, params[p], (Kind)a, (Kind)b);
            }
        }
    }
    g_assert_cmpuint(n, ==, COLO_FEATURE_COUNT * 2 * KINDS * KINDS);
    g_test_message("%u combinations, four policies each", n);
}

/* ---- messages ---- */

static void a_refusal_names_host_feature_and_reason(void)
{
    g_autoptr(ColoHostFeatures) alpha = new_host("alpha", FULL);
    g_autoptr(ColoHostFeatures) beta = new_host("beta", FULL);
    g_autoptr(ColoFeatureOutcome) outcome = NULL;
    g_autoptr(GError) error = NULL;
    ColoFeaturePolicy policy = {0};

    make(beta, KVM_HVFEAT_DESC_TABLE, ABSENT);
    make(alpha, KVM_HVFEAT_QUANTUM, NARROW);
    make(alpha, KVM_HVFEAT_EPTP_SWITCHING, STATELESS);
    make(beta, KVM_HVFEAT_AVIC, KERNEL_ON);
    g_assert_true(colo_feature_policy_update(
        &policy,
        "descriptor-table-exiting=require:lock,preemption-quantum=require:10000,"
        "eptp-switching=require,avic=off",
        &error));
    outcome = colo_feature_negotiate(alpha, beta, &policy);
    g_assert_false(colo_feature_outcome_require(outcome, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED);
    g_assert_cmpstr(error->message, ==,
                    "feature 'descriptor-table-exiting': host beta: kind 0; "
                    "feature 'preemption-quantum': host alpha: it takes 1000000 to 2000000, not "
                    "10000; "
                    "feature 'eptp-switching': host alpha: its state cannot be taken along by "
                    "checkpoints; "
                    "feature 'avic': host beta: KVM uses it for every VM and it cannot be switched "
                    "off for one: load kvm_hvfeat there");
    g_assert_cmpstr(colo_feature_outcome_word(outcome, KVM_HVFEAT_AVIC, 0), ==, "refused");
}

static void states_of_two_versions_do_not_meet(void)
{
    g_autoptr(ColoHostFeatures) alpha = new_host("alpha", FULL);
    g_autoptr(ColoHostFeatures) beta = new_host("beta", OTHER);
    g_autoptr(ColoFeatureOutcome) outcome = NULL;
    g_autoptr(GError) error = NULL;
    ColoFeaturePolicy policy = {0};

    g_assert_true(
        colo_feature_policy_update(&policy, "preemption-quantum=require:10000,avic=require", NULL));
    outcome = colo_feature_negotiate(alpha, beta, &policy);
    g_assert_false(colo_feature_outcome_require(outcome, &error));
    g_assert_nonnull(strstr(error->message, "hosts alpha and beta have versions 1 and 2"));
    g_assert_null(strstr(error->message, "avic")); /* it has no state */
}

/* ---- groups ---- */

static void what_kvm_switches_together(void)
{
    static const struct {
        const char *policy;
        gboolean refused;
        const char *first, *third; /* words of the first and third of the group */
    } rows[] = {
        {"apic-register-virtualization=require,posted-interrupts=require", FALSE, "on", "on"},
        {"apic-register-virtualization=require", FALSE, "on", "untouched"},
        {"apic-register-virtualization=require,posted-interrupts=off", TRUE, "refused", "off"},
        {"apic-register-virtualization=prefer,posted-interrupts=off", FALSE, "untouched", "off"},
        {"apic-register-virtualization=off,posted-interrupts=off", FALSE, "off", "off"},
        {"apic-register-virtualization=require,avic=off", FALSE, "on", "untouched"},
    };
    g_autoptr(ColoHostFeatures) alpha = new_host("alpha", FULL);
    g_autoptr(ColoHostFeatures) beta = new_host("beta", FULL);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(ColoFeatureOutcome) outcome = NULL;
        g_autoptr(GError) error = NULL;
        ColoFeaturePolicy policy = {0};

        g_assert_true(colo_feature_policy_update(&policy, rows[i].policy, &error));
        outcome = colo_feature_negotiate(alpha, beta, &policy);
        g_assert_cmpint(colo_feature_outcome_require(outcome, &error), ==, !rows[i].refused);
        for (unsigned side = 0; side < 2; side++) {
            g_assert_cmpstr(colo_feature_outcome_word(outcome, KVM_HVFEAT_APIC_REGISTER_VIRT, side),
                            ==, rows[i].first);
            g_assert_cmpstr(colo_feature_outcome_word(outcome, KVM_HVFEAT_POSTED_INTERRUPTS, side),
                            ==, rows[i].third);
        }
    }
}

/* A module of the future may say that a guest can tell: then one host alone is not good enough. */
static void visible_by_the_modules_word(void)
{
    g_autoptr(ColoHostFeatures) alpha = new_host("alpha", FULL);
    g_autoptr(ColoHostFeatures) beta = new_host("beta", ABSENT);
    g_autoptr(ColoFeatureOutcome) outcome = NULL;
    ColoFeaturePolicy policy = {0};

    alpha->features[KVM_HVFEAT_AVIC].guest_visible = TRUE;
    outcome = colo_feature_negotiate(alpha, beta, &policy); /* nobody asked */
    g_assert_cmpstr(colo_feature_outcome_word(outcome, KVM_HVFEAT_AVIC, 0), ==, "off");
    g_assert_cmpstr(colo_feature_outcome_word(outcome, KVM_HVFEAT_AVIC, 1), ==, "untouched");
    g_clear_pointer(&outcome, colo_feature_outcome_free);
    policy.word[KVM_HVFEAT_AVIC] = COLO_POLICY_PREFER;
    outcome = colo_feature_negotiate(alpha, beta, &policy);
    g_assert_cmpstr(colo_feature_outcome_word(outcome, KVM_HVFEAT_AVIC, 0), ==, "off");
}

static void an_outcome_as_the_hosts_compare_it(void)
{
    g_autoptr(ColoHostFeatures) alpha = new_host("alpha", FULL);
    g_autoptr(ColoHostFeatures) beta = new_host("beta", ABSENT);
    g_autoptr(ColoFeatureOutcome) outcome = NULL;
    g_autoptr(JsonObject) json = NULL;
    ColoFeaturePolicy policy = {0};

    policy.word[KVM_HVFEAT_AVIC] = COLO_POLICY_PREFER;
    outcome = colo_feature_negotiate(alpha, beta, &policy);
    json = colo_feature_outcome_to_json(outcome);
    g_assert_cmpuint((unsigned)json_object_object_length(json), ==, COLO_FEATURE_COUNT);
    g_assert_cmpstr(json_object_to_json_string_ext(colo_json_peek(json, "avic"), 0), ==,
                    "[\"on\",\"untouched\"]");
}

/* ---- policies ---- */

static void policies_as_they_are_written(void)
{
    static const struct {
        const char *text, *after; /* NULL: refused ... */
        const char *words;        /* ... with these */
    } rows[] = {
        {"avic=off", "avic=off", NULL},
        {"preemption-quantum=prefer:500,descriptor-table-exiting=require:trace+count",
         "descriptor-table-exiting=require:count+trace,preemption-quantum=prefer:500", NULL},
        {"avic=default", "", NULL},
        {"", NULL, "the features are"},
        {",", NULL, "there is no feature"},
        {"avic=off,", NULL, "there is no feature"},
        {"avic", NULL, "=off"},
        {"avic=", NULL, "=off"},
        {"avic=on", NULL, "found 'on'"},
        {"avic=off:1", NULL, "found 'off:1'"},
        {"avic=require:1", NULL, "takes no parameter"},
        {"avic=off,avic=off", NULL, "twice"},
        {"warp=require", NULL, "there is no feature 'warp'"},
        {"preemption-quantum=require", NULL, "microseconds"},
        {"descriptor-table-exiting=require", NULL, "count+lock"},
        {"descriptor-table-exiting=require:all", NULL, "'trace'"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        ColoFeaturePolicy policy = {0};
        g_autofree char *after = NULL;
        gboolean ok = colo_feature_policy_update(&policy, rows[i].text, &error);

        after = colo_feature_policy_format(&policy);
        g_assert_cmpint(ok, ==, rows[i].after != NULL);
        g_assert_cmpstr(after, ==, rows[i].after ? rows[i].after : "");
        if (ok)
            continue;
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
        if (!strstr(error->message, rows[i].words))
            g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, rows[i].words));
    }
}

static void a_change_leaves_the_rest(void)
{
    ColoFeaturePolicy policy = {0};
    g_autofree char *text = NULL;

    g_assert_true(colo_feature_policy_is_default(&policy));
    g_assert_true(colo_feature_policy_update(&policy, "avic=off,eptp-switching=prefer", NULL));
    g_assert_true(
        colo_feature_policy_update(&policy, "avic=default,posted-interrupts=require", NULL));
    g_assert_false(colo_feature_policy_is_default(&policy));
    text = colo_feature_policy_format(&policy);
    g_assert_cmpstr(text, ==, "eptp-switching=prefer,posted-interrupts=require");
}

static void policies_as_they_are_kept(void)
{
    ColoFeaturePolicy policy = {0}, again = {0};
    g_autoptr(JsonObject) json = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_true(colo_feature_policy_update(
        &policy,
        "descriptor-table-exiting=require:count+lock,preemption-quantum=prefer:700,avic=off",
        NULL));
    json = colo_feature_policy_to_json(&policy);
    g_assert_true(colo_feature_policy_parse(json, &again, &error));
    g_assert_no_error(error);
    g_assert_cmpmem(policy.word, sizeof(policy.word), again.word, sizeof(again.word));
    g_assert_cmpmem(policy.param, sizeof(policy.param), again.param, sizeof(again.param));
    g_assert_true(colo_feature_policy_parse(NULL, &again, &error));
    g_assert_true(colo_feature_policy_is_default(&again));
}

static void a_kept_policy_that_is_nonsense_is_refused(void)
{
    static const char *const texts[] = {
        "{\"warp\":{\"policy\":\"require\",\"param\":0}}",
        "{\"avic\":\"off\"}",
        "{\"avic\":{}}",
        "{\"avic\":{\"policy\":\"on\"}}",
        "{\"avic\":{\"policy\":\"require\"}}",
        "{\"avic\":{\"policy\":\"require\",\"param\":1}}",
        "{\"preemption-quantum\":{\"policy\":\"require\",\"param\":0}}",
        "{\"preemption-quantum\":{\"policy\":\"prefer\",\"param\":-4}}",
        "{\"descriptor-table-exiting\":{\"policy\":\"require\",\"param\":0}}",
        "{\"descriptor-table-exiting\":{\"policy\":\"require\",\"param\":9}}",
    };
    g_autoptr(JsonObject) array = json_object_new_array();
    ColoFeaturePolicy policy = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(JsonObject) json = colo_json_parse(texts[i], strlen(texts[i]), NULL);
        g_autoptr(GError) error = NULL;

        g_assert_nonnull(json);
        g_assert_false(colo_feature_policy_parse(json, &policy, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    g_assert_false(colo_feature_policy_parse(array, &policy, NULL));
    g_assert_true(colo_feature_policy_is_default(&policy));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/negotiate/every-feature-policy-and-pair-of-hosts",
                    every_feature_policy_and_pair_of_hosts);
    g_test_add_func("/negotiate/a-refusal-names-host-feature-and-reason",
                    a_refusal_names_host_feature_and_reason);
    g_test_add_func("/negotiate/states-of-two-versions-do-not-meet",
                    states_of_two_versions_do_not_meet);
    g_test_add_func("/negotiate/what-kvm-switches-together", what_kvm_switches_together);
    g_test_add_func("/negotiate/visible-by-the-modules-word", visible_by_the_modules_word);
    g_test_add_func("/negotiate/an-outcome-as-the-hosts-compare-it",
                    an_outcome_as_the_hosts_compare_it);
    g_test_add_func("/policy/as-they-are-written", policies_as_they_are_written);
    g_test_add_func("/policy/a-change-leaves-the-rest", a_change_leaves_the_rest);
    g_test_add_func("/policy/as-they-are-kept", policies_as_they_are_kept);
    g_test_add_func("/policy/a-kept-one-that-is-nonsense-is-refused",
                    a_kept_policy_that_is_nonsense_is_refused);
    return g_test_run();
}
