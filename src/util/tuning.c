/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/tuning.h"

#include "util/error.h"

#include <stddef.h>
#include <string.h>

static const char *const mode_names[] = {
    [COLO_TUNING_AUTO] = "auto",
    [COLO_TUNING_COMPARE] = "compare",
    [COLO_TUNING_PERIODIC] = "periodic",
};

static const struct {
    const char *name;
    size_t at;
    uint64_t least, most;
} numbers[] = {
    {"unanswered-min-ms", offsetof(ColoTuning, unanswered_min_ms), COLO_TUNING_UNANSWERED_LEAST_MS,
     COLO_TUNING_UNANSWERED_MOST_MS},
    {"unanswered-max-ms", offsetof(ColoTuning, unanswered_max_ms), COLO_TUNING_UNANSWERED_LEAST_MS,
     COLO_TUNING_UNANSWERED_MOST_MS},
    {"period-min-ms", offsetof(ColoTuning, period_min_ms), COLO_TUNING_PERIOD_LEAST_MS,
     COLO_TUNING_PERIOD_MOST_MS},
    {"period-max-ms", offsetof(ColoTuning, period_max_ms), COLO_TUNING_PERIOD_LEAST_MS,
     COLO_TUNING_PERIOD_MOST_MS},
    {"pause-share", offsetof(ColoTuning, pause_share), COLO_TUNING_SHARE_LEAST,
     COLO_TUNING_SHARE_MOST},
};

static uint64_t *number_at(ColoTuning *tuning, size_t i)
{
    return (uint64_t *)(void *)((char *)tuning + numbers[i].at);
}

const char *colo_tuning_mode_name(ColoTuningMode mode)
{
    return mode_names[mode];
}

static gboolean update_mode(ColoTuning *tuning, JsonObject *json, GError **error)
{
    const char *text;

    if (!colo_json_peek(json, "mode"))
        return TRUE;
    if (!colo_json_get_string(json, "mode", &text, error))
        return FALSE;
    for (size_t i = 0; i < G_N_ELEMENTS(mode_names); i++) {
        if (strcmp(text, mode_names[i]) == 0) {
            tuning->mode = (ColoTuningMode)i;
            return TRUE;
        }
    }
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "mode must be 'auto', 'compare' or 'periodic', found '%.32s'", text);
    return FALSE;
}

static gboolean check_order(const char *what, uint64_t min, uint64_t max, GError **error)
{
    if (min <= max)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "%s-min-ms %" G_GUINT64_FORMAT " is greater than %s-max-ms %" G_GUINT64_FORMAT
                ": change both",
                what, min, what, max);
    return FALSE;
}

gboolean colo_tuning_update(ColoTuning *tuning, JsonObject *json, GError **error)
{
    ColoTuning changed = *tuning;

    if (!update_mode(&changed, json, error))
        return FALSE;
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        uint64_t value;

        if (!colo_json_peek(json, numbers[i].name))
            continue;
        if (!colo_json_get_uint(json, numbers[i].name, &value, error))
            return FALSE;
        if (value < numbers[i].least || value > numbers[i].most) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "%s must be %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                        ", found %" G_GUINT64_FORMAT,
                        numbers[i].name, numbers[i].least, numbers[i].most, value);
            return FALSE;
        }
        *number_at(&changed, i) = value;
    }
    if (!check_order("unanswered", changed.unanswered_min_ms, changed.unanswered_max_ms, error) ||
        !check_order("period", changed.period_min_ms, changed.period_max_ms, error))
        return FALSE;
    *tuning = changed;
    return TRUE;
}

JsonObject *colo_tuning_to_json(const ColoTuning *tuning)
{
    JsonObject *json = colo_json_build("mode", "s", mode_names[tuning->mode], NULL);
    ColoTuning copy = *tuning;

    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        colo_json_add(json, numbers[i].name, "u", *number_at(&copy, i), NULL);
    return json;
}

gboolean colo_tuning_is_named(JsonObject *json)
{
    gboolean named = colo_json_peek(json, "mode") != NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        named = named || colo_json_peek(json, numbers[i].name);
    return named;
}
