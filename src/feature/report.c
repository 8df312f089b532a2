/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/report.h"

#include "util/error.h"

#include <string.h>

/* Bytes of a text that a peer may have shown. */
#define TEXT_MAX 512
/* A CPU definition with every feature that libvirt knows has about 20 KiB. */
#define CPU_XML_MAX (256 * 1024)

#define NOT_SAID "not reported: install the same version of libvirt-colo on both hosts"

ColoHostFeatures *colo_host_features_new(const char *host)
{
    ColoHostFeatures *report = g_new0(ColoHostFeatures, 1);

    report->host = g_strdup(host);
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        ColoFeatureReport *f = &report->features[i];

        f->hw = f->firmware = f->kernel = COLO_TRI_UNKNOWN;
        f->group = colo_feature(i)->group;
        f->guest_visible = colo_feature_is_visible(i, 0);
    }
    return report;
}

void colo_host_features_free(ColoHostFeatures *report)
{
    if (!report)
        return;
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        g_free(report->features[i].reason);
    g_free(report->host);
    g_free(report->vendor);
    g_free(report->kernel);
    g_free(report->module);
    g_free(report->cpu);
    g_free(report);
}

gboolean colo_feature_is_usable(const ColoFeatureReport *report)
{
    return report->hw == COLO_TRI_YES && report->firmware == COLO_TRI_YES &&
           report->kernel == COLO_TRI_YES && report->per_vm;
}

/* ---- JSON ---- */

static JsonObject *tri_to_json(ColoTri tri)
{
    return tri == COLO_TRI_UNKNOWN ? NULL : json_object_new_boolean(tri == COLO_TRI_YES);
}

JsonObject *colo_host_features_to_json(const ColoHostFeatures *report)
{
    JsonObject *list = json_object_new_array();

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        const ColoFeatureReport *f = &report->features[i];

        json_object_array_add(
            list, colo_json_build("name", "s", colo_feature(i)->name, "hardware", "o",
                                  tri_to_json(f->hw), "firmware", "o", tri_to_json(f->firmware),
                                  "in-kernel", "o", tri_to_json(f->kernel), "per-vm", "b",
                                  f->per_vm, "has-state", "b", f->state, "guest-visible", "b",
                                  f->guest_visible, "group", "u", (uint64_t)f->group,
                                  "state-version", "u", (uint64_t)f->state_version, "param-min",
                                  "u", f->param_min, "param-max", "u", f->param_max, "usable", "b",
                                  colo_feature_is_usable(f), "reason", "s", f->reason, NULL));
    }
    return colo_json_build("host", "s", report->host, "vendor", "s", report->vendor, "kernel", "s",
                           report->kernel, "module", "s", report->module, "cpu", "s", report->cpu,
                           "features", "o", list, NULL);
}

static gboolean wrong_type(const char *key, const char *wanted, GError **error)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "report of features: member '%s' must be %s", key, wanted);
    return FALSE;
}

/* @text in at most @most bytes, valid and without control characters. */
static char *clean(const char *text, size_t most)
{
    g_autofree char *cut = g_strndup(text, most);
    char *valid = g_utf8_make_valid(cut, -1);

    for (char *p = valid; *p; p++) {
        if (g_ascii_iscntrl(*p))
            *p = ' ';
    }
    return valid;
}

static gboolean read_text(JsonObject *json, const char *key, size_t most, char **text,
                          GError **error)
{
    JsonObject *member = colo_json_peek(json, key);

    if (!member)
        return TRUE;
    if (!json_object_is_type(member, json_type_string))
        return wrong_type(key, "a string", error);
    g_free(*text);
    *text = clean(json_object_get_string(member), most);
    return TRUE;
}

static gboolean read_tri(JsonObject *json, const char *key, ColoTri *tri, GError **error)
{
    JsonObject *member = colo_json_peek(json, key);

    if (!member)
        return TRUE;
    if (!json_object_is_type(member, json_type_boolean))
        return wrong_type(key, "true, false or null", error);
    *tri = json_object_get_boolean(member) ? COLO_TRI_YES : COLO_TRI_NO;
    return TRUE;
}

static gboolean read_flag(JsonObject *json, const char *key, gboolean *flag, GError **error)
{
    return !colo_json_peek(json, key) || colo_json_get_bool(json, key, flag, error);
}

static gboolean read_number(JsonObject *json, const char *key, uint64_t most, uint64_t *number,
                            GError **error)
{
    if (!colo_json_peek(json, key))
        return TRUE;
    if (!colo_json_get_uint(json, key, number, error))
        return FALSE;
    return *number <= most || wrong_type(key, "a smaller number", error);
}

static gboolean read_feature(JsonObject *json, ColoFeatureReport *f, GError **error)
{
    uint64_t group = f->group, version = 0;

    g_clear_pointer(&f->reason, g_free);
    if (!read_tri(json, "hardware", &f->hw, error) ||
        !read_tri(json, "firmware", &f->firmware, error) ||
        !read_tri(json, "in-kernel", &f->kernel, error) ||
        !read_flag(json, "per-vm", &f->per_vm, error) ||
        !read_flag(json, "has-state", &f->state, error) ||
        !read_flag(json, "guest-visible", &f->guest_visible, error) ||
        !read_number(json, "group", UINT32_MAX, &group, error) ||
        !read_number(json, "state-version", UINT32_MAX, &version, error) ||
        !read_number(json, "param-min", UINT64_MAX, &f->param_min, error) ||
        !read_number(json, "param-max", UINT64_MAX, &f->param_max, error) ||
        !read_text(json, "reason", TEXT_MAX, &f->reason, error))
        return FALSE;
    f->group = (uint32_t)group;
    f->state_version = (uint32_t)version;
    return TRUE;
}

ColoHostFeatures *colo_host_features_parse(JsonObject *json, GError **error)
{
    g_autoptr(ColoHostFeatures) report = colo_host_features_new("the peer");
    JsonObject *list;

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        report->features[i].reason = g_strdup(NOT_SAID);
    if (!colo_json_get_array(json, "features", &list, error) ||
        !read_text(json, "host", TEXT_MAX, &report->host, error) ||
        !read_text(json, "vendor", TEXT_MAX, &report->vendor, error) ||
        !read_text(json, "kernel", TEXT_MAX, &report->kernel, error) ||
        !read_text(json, "module", TEXT_MAX, &report->module, error) ||
        !read_text(json, "cpu", CPU_XML_MAX, &report->cpu, error))
        return NULL;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *row = json_object_array_get_idx(list, i);
        const char *name;
        int feature;

        if (!colo_json_get_string(row, "name", &name, error))
            return NULL;
        feature = colo_feature_find(name);
        if (feature >= 0 && !read_feature(row, &report->features[feature], error)) {
            g_prefix_error(error, "feature '%s': ", colo_feature((unsigned)feature)->name);
            return NULL;
        }
    }
    return g_steal_pointer(&report);
}
