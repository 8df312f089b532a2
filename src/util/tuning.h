/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When a protected domain's checkpoints are forced: the numbers that an operator may change
 * (colo-tune), their bounds and defaults. The store keeps those that were changed, the helper goes
 * by all of them (comparator/policy.h). Pure.
 */
#pragma once

#include "util/json.h"

typedef enum { COLO_TUNING_AUTO, COLO_TUNING_COMPARE, COLO_TUNING_PERIODIC } ColoTuningMode;

/* Under a millisecond lies what a timer can do; an answer that is a second late is lost. */
#define COLO_TUNING_UNANSWERED_LEAST_MS 1u
#define COLO_TUNING_UNANSWERED_MOST_MS 10000u
/* A checkpoint takes about a millisecond at least; after a minute a client has given up. */
#define COLO_TUNING_PERIOD_LEAST_MS 1u
#define COLO_TUNING_PERIOD_MOST_MS 60000u
/* Percent. With more the guest would hardly run. */
#define COLO_TUNING_SHARE_LEAST 1u
#define COLO_TUNING_SHARE_MOST 90u

typedef struct {
    ColoTuningMode mode;
    /* Bounds of the limit after which a packet without its twin forces a checkpoint (skew.h). */
    uint64_t unanswered_min_ms, unanswered_max_ms;
    /* Bounds of the period of periodic checkpoints, and the share of the time, in percent, that
     * their pauses shall not exceed as long as the bounds allow. */
    uint64_t period_min_ms, period_max_ms;
    uint64_t pause_share;
} ColoTuning;

/*
 * 2 to 50 ms: skew.h. 50 percent: the guest runs half of the time at least, and an answer that
 * always differs leaves within two pauses and what QEMU needs to begin one (0.4 to 2 ms), so within
 * three. 5 ms: two and a half of the shortest pauses. 1000 ms: clients send again after that.
 */
#define COLO_TUNING_DEFAULT                                                        \
    {                                                                              \
        .mode = COLO_TUNING_AUTO, .unanswered_min_ms = 2, .unanswered_max_ms = 50, \
        .period_min_ms = 5, .period_max_ms = 1000, .pause_share = 50,              \
    }

/* "auto", "compare", "periodic". */
const char *colo_tuning_mode_name(ColoTuningMode mode);

/* Changes in @tuning what @json has as members "mode", "unanswered-min-ms", ...; other members are
 * not looked at. FALSE with @error (COLO_ERROR_INVALID_ARG), which names the member, what was found
 * and its bounds, and @tuning is unchanged. */
gboolean colo_tuning_update(ColoTuning *tuning, JsonObject *json, GError **error);

/* All members; the caller owns it. */
JsonObject *colo_tuning_to_json(const ColoTuning *tuning);

/* Whether @json has any of the members. */
gboolean colo_tuning_is_named(JsonObject *json);
