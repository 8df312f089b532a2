/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a session tells about itself: "stats" and "inventory".
 *
 * #syscalls sysinfo
 * glibc's qsort() asks how much memory there is before it takes some for a larger array.
 */
#include "comparator/session.h"

#include "util/clock.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static const char *const stat_names[COLO_STAT_LAST] = {
    [COLO_STAT_INPUT_FRAMES] = "input-frames",
    [COLO_STAT_INPUT_DROPPED_FULL] = "input-dropped-full",
    [COLO_STAT_INPUT_DROPPED_STALE] = "input-dropped-stale",
    [COLO_STAT_INPUT_DROPPED_NO_PEER] = "input-dropped-no-peer",
    [COLO_STAT_OUTPUT_FRAMES] = "output-frames",
    [COLO_STAT_OUTPUT_BYTES] = "output-bytes",
    [COLO_STAT_OUTPUT_PASSED] = "output-passed",
    [COLO_STAT_OUTPUT_DROPPED_CLOSED] = "output-dropped-closed",
    [COLO_STAT_OUTPUT_DROPPED_FULL] = "output-dropped-full",
    [COLO_STAT_CONFIRM_DROPPED] = "confirmations-dropped",
    [COLO_STAT_SYNS_TOLD] = "syns-told",
    [COLO_STAT_SYNS_UNTOLD] = "syns-untold",
    [COLO_STAT_TAKEN] = "taken",
    [COLO_STAT_RELEASED] = "released",
    [COLO_STAT_CHECKPOINT_BYTES] = "checkpoint-bytes",
    [COLO_STAT_CHECKPOINT_WITHHELD] = "checkpoint-bytes-withheld",
    [COLO_STAT_DISK_BYTES_TO_PEER] = "disk-bytes-to-peer",
    [COLO_STAT_DISK_BYTES_FROM_PEER] = "disk-bytes-from-peer",
    [COLO_STAT_STATES_LATE] = "states-late",
    [COLO_STAT_STATES_MISSED] = "states-missed",
    [COLO_STAT_STATES_AWAITED] = "states-awaited",
    [COLO_STAT_DISK_FAILURES] = "disk-failures",
    [COLO_STAT_WANTED_DIVERGED] = "wanted-diverged",
    [COLO_STAT_WANTED_UNANSWERED] = "wanted-unanswered",
    [COLO_STAT_WANTED_QUEUE] = "wanted-queue",
    [COLO_STAT_WANTED_PAIRED] = "wanted-paired",
    [COLO_STAT_WANTED_PERIOD] = "wanted-period",
    [COLO_STAT_OVERFLOWS_HELD] = "overflows-held",
    [COLO_STAT_OVERFLOWS_TWINS] = "overflows-twins",
    [COLO_STAT_OVERFLOWS_PACKETS] = "overflows-packets",
    [COLO_STAT_OVERFLOWS_RELEASE] = "overflows-release",
    [COLO_STAT_OVERFLOWS_IN] = "overflows-in",
    [COLO_STAT_OVERFLOWS_INPUT] = "overflows-input",
    [COLO_STAT_HEARTBEATS_SENT] = "heartbeats-sent",
    [COLO_STAT_HEARTBEATS_HEARD] = "heartbeats-heard",
};

static JsonObject *streams(ColoSession *session)
{
    static const char *const words[] = {"connecting", "up", "down"};
    JsonObject *object = json_object_new_object();

    for (unsigned i = 0; i < COLO_STREAM_DISK + session->config.n_disks; i++) {
        char name[48];

        colo_session_stream_name(session, i, name);
        colo_json_add(object, name, "s",
                      session->streams[i] ? words[colo_stream_state(session->streams[i])] : "down",
                      NULL);
    }
    return object;
}

static JsonObject *channels(ColoSession *session)
{
    JsonObject *array = json_object_new_array();

    for (int kind = 0; kind < COLO_CHANNEL_KINDS; kind++) {
        for (unsigned i = 0; i < COLO_CMP_MAX_DISKS; i++) {
            char name[48];

            if (!session->channels[kind][i])
                continue;
            colo_session_channel_name(session, (ColoChannelKind)kind, i, name);
            json_object_array_add(array, json_object_new_string(name));
        }
    }
    return array;
}

static JsonObject *counters(ColoSession *session)
{
    JsonObject *object = json_object_new_object();

    for (int i = 0; i < COLO_STAT_LAST; i++)
        colo_json_add(object, stat_names[i], "u", session->stats[i], NULL);
    for (int i = 0; session->compare && i < COLO_COUNT_LAST; i++)
        colo_json_add(object, colo_compare_counter_name((ColoCompareCounter)i), "u",
                      colo_compare_counter(session->compare, (ColoCompareCounter)i), NULL);
    for (int i = 0; session->rewrite && i < COLO_REWRITE_COUNTERS; i++)
        colo_json_add(object, colo_rewrite_counter_name((ColoRewriteCounter)i), "u",
                      colo_rewrite_counter(session->rewrite, (ColoRewriteCounter)i), NULL);
    colo_json_add(object, "checkpoint-pages", "u", session->forward.pages, "checkpoint-zero-pages",
                  "u", session->forward.zero_pages, "checkpoints", "u",
                  session->forward.checkpoints, NULL);
    return object;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Over the last COLO_SESSION_PAUSES checkpoints; zeros when there was none. */
static JsonObject *pauses(const ColoSession *session)
{
    uint64_t sorted[COLO_SESSION_PAUSES] = {0};
    size_t n =
        session->n_pauses < COLO_SESSION_PAUSES ? (size_t)session->n_pauses : COLO_SESSION_PAUSES;

    memcpy(sorted, session->pauses, n * sizeof(sorted[0]));
    qsort(sorted, n, sizeof(sorted[0]), by_size);
    return colo_json_build("min", "u", sorted[0], "median", "u", sorted[n / 2], "p95", "u",
                           sorted[n * 95 / 100], "max", "u", sorted[n ? n - 1 : 0], NULL);
}

/* [epoch, taken, committed] of the last COLO_SESSION_COMMITS commits, oldest first. */
static JsonObject *commits(const ColoSession *session)
{
    JsonObject *array = json_object_new_array();
    uint64_t n = session->n_commits;

    for (uint64_t i = n > COLO_SESSION_COMMITS ? n - COLO_SESSION_COMMITS : 0; i < n; i++) {
        const ColoCommit *commit = &session->commits[i % COLO_SESSION_COMMITS];
        JsonObject *one = json_object_new_array();

        json_object_array_add(one, json_object_new_uint64(commit->epoch));
        json_object_array_add(one, json_object_new_uint64(commit->taken_ns));
        json_object_array_add(one, json_object_new_uint64(commit->committed_ns));
        json_object_array_add(array, one);
    }
    return array;
}

/* Cumulative, as Prometheus has it: pauses of at most so many ms, since the session was made. */
static JsonObject *pause_histogram(const ColoSession *session)
{
    JsonObject *object = json_object_new_object();
    char name[24];

    for (unsigned i = 0; i < COLO_SESSION_PAUSE_BUCKETS - 1; i++) {
        snprintf(name, sizeof(name), "le-%u-ms", 1u << i);
        colo_json_add(object, name, "u", session->pauses_upto[i], NULL);
    }
    colo_json_add(object, "count", "u", session->pauses_upto[COLO_SESSION_PAUSE_BUCKETS - 1],
                  "sum-ns", "u", session->pauses_ns, NULL);
    return object;
}

static JsonObject *limits(void)
{
    return colo_json_build(
        "held-bytes", "u", (uint64_t)COLO_SESSION_HELD_BYTES, "held-frames", "u",
        (uint64_t)COLO_SESSION_HELD_FRAMES, "flow-bytes", "u",
        (uint64_t)(COLO_SESSION_HELD_BYTES / COLO_COMPARE_FLOW_SHARE), "flow-frames", "u",
        (uint64_t)(COLO_SESSION_HELD_FRAMES / COLO_COMPARE_FLOW_SHARE), "flows", "u",
        (uint64_t)COLO_SESSION_FLOWS, "packets", "u", (uint64_t)COLO_SESSION_PACKETS_RING,
        "checkpoint", "u", (uint64_t)COLO_SESSION_CHECKPOINT_RING, "in", "u",
        (uint64_t)COLO_SESSION_FRAMES_RING, "input", "u", (uint64_t)COLO_SESSION_INPUT_RING,
        "release", "u", (uint64_t)COLO_SESSION_RELEASE_RING, "rewritten", "u",
        (uint64_t)COLO_REWRITE_CONNECTIONS, "rewrite-waiting", "u", (uint64_t)COLO_REWRITE_WAITING,
        NULL);
}

/* How far the peer's copy runs behind, and how long a frame may wait for it (skew.h). */
static JsonObject *skew(const ColoSession *session)
{
    uint64_t mean = 0, dev = 0, limit = 0;

    if (session->compare)
        colo_compare_skew(session->compare, &mean, &dev, &limit);
    return colo_json_build("mean", "u", mean, "deviation", "u", dev, "limit", "u", limit, NULL);
}

/* policy.h */
static JsonObject *policy(const ColoSession *session)
{
    const ColoPolicy *policy = &session->policy;

    return colo_json_build(
        "mode", "s", colo_policy_mode_name(policy), "reason", "s", policy->reason, "since-ms", "u",
        (colo_clock_ns() - policy->since_ns) / COLO_NS_PER_MS, "switches", "u", policy->switches,
        "pause-share", "u", (uint64_t)colo_policy_share(policy), "period-ns", "u",
        colo_policy_period_ns(policy), NULL);
}

JsonObject *colo_session_stats(ColoSession *session)
{
    uint64_t frames = 0, bytes = 0;
    uint64_t silent_ms =
        session->heard_ns ? (colo_clock_ns() - session->heard_ns) / COLO_NS_PER_MS : 0;

    if (session->compare)
        colo_compare_held(session->compare, &frames, &bytes);
    return colo_json_build(
        "uuid", "s", session->config.uuid, "generation", "u", session->config.generation, "role",
        "s", session->config.primary ? "primary" : "secondary", "gate", "s",
        colo_gate_name(session->gate), "ready", "b", (gboolean)session->ready, "epoch", "u",
        session->epoch, "committed", "u", session->committed, "loaded", "u", session->loaded,
        "peer-silent-ms", "u", silent_ms, "streams", "o", streams(session), "channels", "o",
        channels(session), "counters", "o", counters(session), "pause-ns", "o", pauses(session),
        "pause-histogram", "o", pause_histogram(session), "commits", "o", commits(session),
        "held-frames", "u", frames, "held-bytes", "u", bytes, "skew-ns", "o", skew(session),
        "policy", "o", session->config.primary ? policy(session) : NULL, "tuning", "o",
        colo_tuning_to_json(&session->policy.tuning), "rewritten", "u",
        (uint64_t)colo_session_rewrite_live(session), "limits", "o", limits(), NULL);
}
