/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/session.h"

#include "util/clock.h"
#include "util/error.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Events of one overflowing queue are told this far apart, and logged this far; all are counted. */
#define OVERFLOW_TELL_NS (UINT64_C(100) * COLO_NS_PER_MS)
#define OVERFLOW_LOG_NS (UINT64_C(10) * COLO_NS_PER_SEC)

void colo_session_log(ColoSession *session, int priority, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    colo_log_full(&session->log, priority, __func__, "%s", text);
}

void colo_session_event(ColoSession *session, const char *name, const char *key, ...)
{
    JsonObject *event = colo_json_build("event", "s", name, "uuid", "s", session->config.uuid,
                                        "generation", "u", session->config.generation, NULL);
    va_list args;

    va_start(args, key);
    for (; key; key = va_arg(args, const char *)) {
        const char *format = va_arg(args, const char *);

        if (*format == 's')
            colo_json_add(event, key, "s", va_arg(args, const char *), NULL);
        else
            colo_json_add(event, key, "u", va_arg(args, uint64_t), NULL);
    }
    va_end(args);
    session->host->event(session->host->opaque, event);
}

void colo_session_overflow(ColoSession *session, ColoQueue queue)
{
    static const struct {
        const char *name;
        uint64_t limit; /* bytes */
    } queues[] = {
        [COLO_QUEUE_HELD] = {"held", COLO_SESSION_HELD_BYTES},
        [COLO_QUEUE_TWINS] = {"twins", COLO_SESSION_HELD_BYTES},
        [COLO_QUEUE_PACKETS] = {"packets", COLO_SESSION_PACKETS_RING},
        [COLO_QUEUE_RELEASE] = {"release", COLO_SESSION_RELEASE_RING},
        [COLO_QUEUE_IN] = {"in", COLO_SESSION_FRAMES_RING},
        [COLO_QUEUE_INPUT] = {"input", COLO_SESSION_INPUT_RING},
    };
    uint64_t now = colo_clock_ns(), told = session->overflow_told_ns[queue];

    session->stats[COLO_STAT_OVERFLOWS_HELD + queue]++;
    if (told && now - told < OVERFLOW_TELL_NS)
        return;
    session->overflow_told_ns[queue] = now;
    if (!session->overflow_logged_ns[queue] ||
        now - session->overflow_logged_ns[queue] >= OVERFLOW_LOG_NS) {
        session->overflow_logged_ns[queue] = now;
        colo_session_log(session, LOG_WARNING,
                         "queue '%s' has reached its limit of %" G_GUINT64_FORMAT " bytes",
                         queues[queue].name, queues[queue].limit);
    }
    colo_session_event(session, "overflow", "queue", "s", queues[queue].name, "limit", "u",
                       queues[queue].limit, NULL);
}

ColoStream *colo_session_stream(ColoSession *session, unsigned number)
{
    ColoStream *stream = session->streams[number];

    return stream && colo_stream_state(stream) == COLO_STREAM_UP ? stream : NULL;
}

/* Makes what depends on the role. False when memory is missing. */
static bool init_role(ColoSession *session)
{
    ColoCompareLimits limits = {.arena_bytes = COLO_SESSION_HELD_BYTES,
                                .frames = COLO_SESSION_HELD_FRAMES,
                                .flows = COLO_SESSION_FLOWS};

    if (session->config.primary) {
        session->gate = COLO_GATE_ALONE;
        session->compare = colo_compare_new(&limits, colo_packets_release, session);
        if (!session->compare)
            return false;
        colo_compare_set_unanswered(session->compare,
                                    session->config.tuning.unanswered_min_ms * COLO_NS_PER_MS,
                                    session->config.tuning.unanswered_max_ms * COLO_NS_PER_MS);
        return true;
    }
    session->gate = COLO_GATE_CLOSED;
    return colo_ring_init(&session->input, COLO_SESSION_INPUT_RING) &&
           (!session->config.rewrite || colo_session_rewrite_init(session));
}

ColoSession *colo_session_new(const ColoSessionHost *host, const ColoSessionConfig *config,
                              GError **error)
{
    ColoSession *session = calloc(1, sizeof(*session));

    if (!session) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE, "no memory for session %s",
                    config->uuid);
        return NULL;
    }
    session->host = host;
    session->config = *config;
    session->log = (ColoLogContext){.uuid = session->config.uuid, .generation = config->generation};
    colo_policy_init(&session->policy, &config->tuning, colo_clock_ns());
    colo_forward_init(&session->forward);
    colo_return_init(&session->back);
    colo_record_init(&session->records);
    session->carry_trusted = session->carry_set_trusted = true;
    if (!init_role(session)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE, "no memory for session %s",
                    config->uuid);
        colo_session_free(session);
        return NULL;
    }
    session->config.base = NULL; /* its owner may give it back */
    return session;
}

/* Answers what was put off: the session it asked about is gone. */
static void answer_pending(ColoSession *session)
{
    if (session->gate_pending)
        session->host->answer(session->host->opaque, session->gate_token, NULL,
                              g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                                          "session %s was destroyed", session->config.uuid));
    if (session->taking_over)
        session->host->answer(session->host->opaque, session->takeover_token, NULL,
                              g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                                          "session %s was destroyed", session->config.uuid));
}

void colo_session_free(ColoSession *session)
{
    if (!session)
        return;
    answer_pending(session);
    if (!session->shut)
        colo_packets_tell(session, COLO_RECORD_BYE);
    colo_loop_disarm(session->host->loop, &session->beat);
    colo_loop_disarm(session->host->loop, &session->wanted_timer);
    colo_loop_disarm(session->host->loop, &session->gate_timer);
    colo_loop_disarm(session->host->loop, &session->stop_timer);
    colo_loop_disarm(session->host->loop, &session->rewrite_timer);
    colo_loop_disarm(session->host->loop, &session->carry_timer);
    g_clear_pointer(&session->carry_next, g_bytes_unref);
    g_clear_pointer(&session->carry_due, g_bytes_unref);
    for (unsigned i = 0; i < COLO_SESSION_STREAMS; i++)
        colo_stream_free(session->streams[i]);
    for (int kind = 0; kind < COLO_CHANNEL_KINDS; kind++) {
        for (unsigned i = 0; i < COLO_CMP_MAX_DISKS; i++)
            colo_channel_free(session->channels[kind][i]);
    }
    colo_compare_free(session->compare);
    colo_ring_clear(&session->input);
    colo_rewrite_free(session->rewrite);
    /* The key must not outlive its session in freed memory. */
    explicit_bzero(session->config.psk, sizeof(session->config.psk));
    free(session);
}
