/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes the secondary's QEMU fit to be told x-colo-lost-heartbeat. Between feeding a whole
 * checkpoint and its LOADED stock QEMU would resume the old state (facts of the checkpoint stream,
 * rule 2), so a whole one is waited for; a partial one holds QEMU's lock in the load and is cut
 * off by ending the migration socket.
 */
#include "comparator/session.h"

#include "util/error.h"

/* Nothing of the peer's reaches QEMU from here on. */
static void freeze(ColoSession *session)
{
    session->frozen = true;
    for (unsigned i = 0; i < session->config.n_disks; i++) {
        colo_session_drop_channel(session, COLO_CHANNEL_NBD, i);
        colo_session_drop_stream(session, COLO_STREAM_DISK + i, "takeover");
    }
    colo_checkpoint_space(session);
}

static JsonObject *prepared(ColoSession *session)
{
    g_autofree char *state = NULL;
    JsonObject *result;

    freeze(session);
    colo_session_log(session, LOG_NOTICE, "ready for takeover at epoch %" G_GUINT64_FORMAT,
                     session->loaded);
    state = colo_carry_due(session);
    result = colo_json_build("epoch", "u", session->loaded, "rewritten", "u",
                             (uint64_t)colo_session_rewrite_live(session), NULL);
    if (state)
        colo_json_add(result, "state", "s", state, NULL);
    return result;
}

static GError *not_loaded(const ColoSession *session)
{
    return g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                       "session %s: QEMU took in checkpoint %" G_GUINT64_FORMAT
                       " but has not answered LOADED",
                       session->config.uuid, session->epoch);
}

/* The asker before the newest one gets an end to its request as well: its place is free again. */
static void send_away(ColoSession *session)
{
    if (session->taking_over)
        session->host->answer(session->host->opaque, session->takeover_token, NULL,
                              g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                                          "session %s was asked for the takeover again",
                                          session->config.uuid));
    session->taking_over = false;
}

gboolean colo_takeover_prepare(ColoSession *session, uint64_t token, JsonObject **result,
                               GError **error)
{
    const char *why = session->config.primary ? "it is the primary"
                      : !session->shut        ? "its gate is not closed"
                      : !session->ready       ? "no state of the primary is complete here"
                      : session->unknown      ? "its checkpoint stream is unknown"
                                              : NULL;

    *result = NULL;
    if (why) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "session %s cannot prepare a takeover: %s", session->config.uuid, why);
        return FALSE;
    }
    /* Asked again, the newest asker gets the answer: the one before may have died (I5). */
    send_away(session);
    if (session->running && session->sent) {
        if (!session->channels[COLO_CHANNEL_MIGRATION][0]) {
            g_propagate_error(error, not_loaded(session));
            return FALSE;
        }
        session->taking_over = true;
        session->takeover_token = token;
        return TRUE;
    }
    if (session->running)
        colo_session_drop_channel(session, COLO_CHANNEL_MIGRATION, 0);
    *result = prepared(session);
    return TRUE;
}

void colo_takeover_update(ColoSession *session)
{
    GError *error = NULL;

    if (!session->taking_over)
        return;
    if (session->running && session->channels[COLO_CHANNEL_MIGRATION][0] && !session->unknown)
        return;
    session->taking_over = false;
    if (session->running || session->unknown)
        error = not_loaded(session);
    session->host->answer(session->host->opaque, session->takeover_token,
                          error ? NULL : prepared(session), error);
}
