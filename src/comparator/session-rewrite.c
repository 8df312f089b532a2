/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sequence rewriter in a session (rewrite.h has the rules). The primary tells the SYNs of its
 * guest; the secondary maps what its guest says and hears, and after a takeover stays in the path
 * of the guest's frames until the last connection has ended that needs it.
 */
#include "comparator/session.h"

#include "comparator/rewrite-rows.h"
#include "util/clock.h"
#include "util/error.h"

#include <string.h>

/* Connections that are silent are looked for this often; the limits are minutes. */
#define EXPIRE_NS (UINT64_C(10) * COLO_NS_PER_SEC)

static void send_waiting(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet)
{
    colo_packets_confirm(opaque, nic, frame, len, vnet);
}

/* The last connection may have ended. */
static void look_for_the_end(ColoSession *session)
{
    if (!session->rewriting || colo_rewrite_live(session->rewrite) > 0)
        return;
    session->rewriting = false;
    colo_session_log(session, LOG_INFO, "no connection is left whose numbers are rewritten");
    colo_session_event(session, "rewrite-ended", NULL);
}

static void expire(void *opaque)
{
    ColoSession *session = opaque;
    uint64_t now = colo_clock_ns();

    colo_rewrite_expire(session->rewrite, now);
    look_for_the_end(session);
    colo_loop_arm(session->host->loop, &session->rewrite_timer, now + EXPIRE_NS);
}

bool colo_session_rewrite_init(ColoSession *session)
{
    uint64_t now = colo_clock_ns();
    size_t size = 0;
    const ColoRewriteRow *rows =
        session->config.base ? g_bytes_get_data(session->config.base, &size) : NULL;

    session->rewrite = colo_rewrite_new(send_waiting, session);
    if (!session->rewrite)
        return false;
    for (size_t i = 0; i < size / sizeof(*rows); i++) {
        if (!colo_rewrite_import(session->rewrite, &rows[i], now))
            colo_session_log(session, LOG_WARNING, "row %zu of 'base' names a connection twice", i);
    }
    session->rewrite_timer.due = expire;
    session->rewrite_timer.opaque = session;
    colo_loop_arm(session->host->loop, &session->rewrite_timer, now + EXPIRE_NS);
    return true;
}

bool colo_session_rewrite_tell(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                               size_t vnet)
{
    if (!session->config.rewrite || !colo_session_stream(session, COLO_STREAM_PACKETS) ||
        !colo_rewrite_is_syn(frame, len, vnet))
        return true;
    if (len <= COLO_RECORD_SYN_MAX &&
        colo_packets_send(session, COLO_RECORD_SYN, nic, frame, len, vnet)) {
        session->stats[COLO_STAT_SYNS_TOLD]++;
        return true;
    }
    /* Lost like a frame on a full wire; the guest repeats it, and the peer's rows ("base") must not
     * outlive their connections unnoticed. */
    session->stats[COLO_STAT_SYNS_UNTOLD]++;
    return false;
}

void colo_session_rewrite_heard(ColoSession *session, const ColoRecord *record)
{
    if (!session->rewrite)
        return;
    if (record->epoch < session->epoch)
        colo_rewrite_late_syn(session->rewrite, record->nic, record->payload, record->length,
                              record->vnet, record->epoch < session->rewrite_epoch);
    else
        colo_rewrite_primary_syn(session->rewrite, record->nic, record->payload, record->length,
                                 record->vnet);
}

void colo_session_rewrite_loaded(ColoSession *session)
{
    if (!session->rewrite)
        return;
    colo_rewrite_loaded(session->rewrite);
    session->rewrite_epoch = session->epoch;
}

gboolean colo_session_rewrite_keep(ColoSession *session, const ColoSessionConfig *given,
                                   GError **error)
{
    size_t size;
    const ColoRewriteRow *rows = g_bytes_get_data(given->base, &size);
    bool same = given->n_nics == session->config.n_nics;

    for (unsigned i = 0; same && i < given->n_nics; i++)
        same = strcmp(given->nics[i], session->config.nics[i]) == 0;
    if (!session->rewrite || !same) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    session->rewrite ? "session %s was made with other 'nics'"
                                     : "session %s has no rows: it is no secondary with 'rewrite'",
                    session->config.uuid);
        return FALSE;
    }
    colo_rewrite_keep(session->rewrite, rows, (uint32_t)(size / sizeof(*rows)));
    return TRUE;
}

const uint8_t *colo_session_rewrite_output(ColoSession *session, unsigned nic, const uint8_t *frame,
                                           size_t len, size_t vnet)
{
    if (!session->rewrite)
        return frame;
    frame = colo_rewrite_output(session->rewrite, (uint8_t)nic, frame, len, vnet, colo_clock_ns());
    look_for_the_end(session);
    return frame;
}

const uint8_t *colo_session_rewrite_input(ColoSession *session, unsigned nic, const uint8_t *frame,
                                          size_t len, size_t vnet)
{
    if (!session->rewrite)
        return frame;
    frame = colo_rewrite_input(session->rewrite, (uint8_t)nic, frame, len, vnet, colo_clock_ns());
    look_for_the_end(session);
    return frame;
}

gboolean colo_session_rewrite_alone(ColoSession *session, GError **error)
{
    if (!session->rewrite) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "session %s is a secondary without 'rewrite': its gates are 'paired' and "
                    "'closed'",
                    session->config.uuid);
        return FALSE;
    }
    if (!session->frozen) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "session %s has not answered 'takeover-prepare': its gate cannot be 'alone'",
                    session->config.uuid);
        return FALSE;
    }
    colo_rewrite_alone(session->rewrite);
    session->rewriting = colo_rewrite_live(session->rewrite) > 0;
    return TRUE;
}

uint32_t colo_session_rewrite_live(const ColoSession *session)
{
    return session->rewrite ? colo_rewrite_live(session->rewrite) : 0;
}

JsonObject *colo_session_rewrite_table(ColoSession *session)
{
    g_autofree ColoRewriteRow *rows = NULL;
    uint32_t n = 0;

    if (session->rewrite) {
        rows = g_new0(ColoRewriteRow, COLO_REWRITE_CONNECTIONS);
        n = colo_rewrite_export(session->rewrite, rows, COLO_REWRITE_CONNECTIONS);
    }
    return colo_json_build(
        "rows", "o",
        colo_rewrite_rows_build(rows, n,
                                (const char(*)[COLO_REQUEST_ALIAS_MAX + 1]) session->config.nics),
        NULL);
}
