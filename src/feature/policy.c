/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/policy.h"

#include "util/error.h"

#include <string.h>

static const char *const words[] = {
    [COLO_POLICY_DEFAULT] = "default",
    [COLO_POLICY_REQUIRE] = "require",
    [COLO_POLICY_PREFER] = "prefer",
    [COLO_POLICY_OFF] = "off",
};

const char *colo_policy_word_name(ColoPolicyWord word)
{
    return words[word];
}

static gboolean find_word(const char *text, ColoPolicyWord *word)
{
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *word = (ColoPolicyWord)i;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean takes_param(ColoPolicyWord word)
{
    return word == COLO_POLICY_REQUIRE || word == COLO_POLICY_PREFER;
}

static void set_unknown(GError **error, const char *name)
{
    g_autoptr(GString) known = g_string_new(NULL);
    g_autofree char *shown = g_strescape(name, NULL);

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        g_string_append_printf(known, "%s%s", i ? ", " : "", colo_feature(i)->name);
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "there is no feature '%.64s': the features are %s", shown, known->str);
}

/* One "NAME=WORD[:PARAMETER]". */
static gboolean update_one(ColoFeaturePolicy *policy, guint *seen, const char *text, GError **error)
{
    g_auto(GStrv) sides = g_strsplit(text, "=", 2);
    g_auto(GStrv) parts = g_strsplit(sides[0] && sides[1] ? sides[1] : "", ":", 2);
    const char *word_text = parts[0] ? parts[0] : "";
    const char *param_text = parts[0] ? parts[1] : NULL;
    int found = colo_feature_find(sides[0]);
    ColoPolicyWord word;
    unsigned feature;
    uint64_t param = 0;

    if (found < 0) {
        set_unknown(error, sides[0] ? sides[0] : "");
        return FALSE;
    }
    feature = (unsigned)found;
    if (*seen & (1u << feature)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "feature '%s' is named twice",
                    sides[0]);
        return FALSE;
    }
    if (!find_word(word_text, &word) || (!takes_param(word) && param_text)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "feature '%s' must be =require[:PARAMETER], =prefer[:PARAMETER], =off or "
                    "=default, found '%.64s'",
                    sides[0], sides[1] ? sides[1] : "");
        return FALSE;
    }
    if (takes_param(word) && !colo_feature_parse_param(feature, param_text, &param, error))
        return FALSE;
    *seen |= 1u << feature;
    policy->word[feature] = word;
    policy->param[feature] = param;
    return TRUE;
}

gboolean colo_feature_policy_update(ColoFeaturePolicy *policy, const char *text, GError **error)
{
    g_auto(GStrv) items = g_strsplit(text, ",", -1);
    ColoFeaturePolicy changed = *policy;
    guint seen = 0;

    for (char **item = items; *item; item++) {
        if (!update_one(&changed, &seen, *item, error))
            return FALSE;
    }
    if (!seen) {
        set_unknown(error, text);
        return FALSE;
    }
    *policy = changed;
    return TRUE;
}

char *colo_feature_policy_format(const ColoFeaturePolicy *policy)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        g_autofree char *param = colo_feature_format_param(i, policy->param[i]);

        if (policy->word[i] == COLO_POLICY_DEFAULT)
            continue;
        g_string_append_printf(text, "%s%s=%s", text->len ? "," : "", colo_feature(i)->name,
                               words[policy->word[i]]);
        if (takes_param(policy->word[i]) && *param)
            g_string_append_printf(text, ":%s", param);
    }
    return g_string_free(text, FALSE);
}

JsonObject *colo_feature_policy_to_json(const ColoFeaturePolicy *policy)
{
    JsonObject *json = json_object_new_object();

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (policy->word[i] != COLO_POLICY_DEFAULT)
            json_object_object_add(json, colo_feature(i)->name,
                                   colo_json_build("policy", "s", words[policy->word[i]], "param",
                                                   "u", policy->param[i], NULL));
    }
    return json;
}

/* The number must be one that the operator could have written. */
static gboolean parse_number(unsigned feature, JsonObject *json, uint64_t *param, GError **error)
{
    g_autofree char *text = NULL;

    if (!colo_json_get_uint(json, "param", param, error))
        return FALSE;
    text = colo_feature_format_param(feature, *param);
    if (colo_feature(feature)->param == COLO_FEATURE_PARAM_NONE && *param != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "it takes no parameter");
        return FALSE;
    }
    if (colo_feature(feature)->param == COLO_FEATURE_PARAM_MODES) {
        uint64_t again = 0;

        if (!colo_feature_parse_param(feature, text, &again, error))
            return FALSE;
        if (again == *param)
            return TRUE;
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "parameter %" G_GUINT64_FORMAT " has unknown bits", *param);
        return FALSE;
    }
    return colo_feature_parse_param(feature, text, param, error);
}

static gboolean parse_one(const char *name, JsonObject *json, ColoFeaturePolicy *policy,
                          GError **error)
{
    int found = colo_feature_find(name);
    const char *text;
    ColoPolicyWord word;

    if (found < 0) {
        set_unknown(error, name);
        return FALSE;
    }
    if (!colo_json_get_string(json, "policy", &text, error))
        return FALSE;
    if (!find_word(text, &word)) {
        g_autofree char *shown = g_strescape(text, NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown policy '%.64s'", shown);
        return FALSE;
    }
    if (takes_param(word) && !parse_number((unsigned)found, json, &policy->param[found], error))
        return FALSE;
    policy->word[found] = word;
    return TRUE;
}

gboolean colo_feature_policy_parse(JsonObject *json, ColoFeaturePolicy *policy, GError **error)
{
    ColoFeaturePolicy read = {0};

    if (json && !json_object_is_type(json, json_type_object)) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "policy of features: must be an object");
        return FALSE;
    }
    if (json) {
        json_object_object_foreach(json, name, value)
        {
            if (!parse_one(name, value, &read, error)) {
                g_prefix_error(error, "policy of feature '%.64s': ", name);
                return FALSE;
            }
        }
    }
    *policy = read;
    return TRUE;
}

gboolean colo_feature_policy_is_default(const ColoFeaturePolicy *policy)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (policy->word[i] != COLO_POLICY_DEFAULT)
            return FALSE;
    }
    return TRUE;
}
