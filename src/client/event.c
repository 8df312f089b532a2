/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client/client-private.h"

#include "util/error.h"

gboolean colo_client_queue_event(ColoConnect *conn, const ColoRpcFrame *frame)
{
    struct colo_rpc_event_msg body;

    if (frame->header.program != COLO_RPC_PROGRAM || frame->header.type != COLO_RPC_MESSAGE ||
        frame->header.procedure != COLO_RPC_PROC_EVENT)
        return FALSE;
    if (colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_event_msg, &body, sizeof(body),
                                NULL)) {
        if (g_queue_get_length(&conn->events) >= COLO_CLIENT_MAX_EVENTS) {
            g_free(g_queue_pop_head(&conn->events));
            conn->lost++;
        }
        g_queue_push_tail(&conn->events, g_strndup(body.event.event_val, body.event.event_len));
    }
    xdr_free((xdrproc_t)xdr_colo_rpc_event_msg, (char *)&body);
    return TRUE;
}

int colo_connect_event_set_callback(ColoConnect *conn, ColoEventCallback callback, void *opaque,
                                    ColoError *error)
{
    struct colo_rpc_subscribe_args args = {.on = callback != NULL};
    g_autoptr(ColoRpcFrame) frame = NULL;
    GError *failure = NULL;

    frame = colo_client_call(conn, COLO_RPC_PROC_SUBSCRIBE, (xdrproc_t)xdr_colo_rpc_subscribe_args,
                             &args, &failure);
    if (!frame) {
        colo_client_set_error(error, failure);
        return -1;
    }
    conn->callback = callback;
    conn->opaque = opaque;
    return 0;
}

int colo_connect_event_dispatch(ColoConnect *conn, int timeout_ms, ColoError *error)
{
    GError *failure = NULL;
    int delivered = 0;

    /* What is in the socket already, and if nothing is at hand, the first to come. */
    while (!conn->broken) {
        int wait = g_queue_is_empty(&conn->events) ? timeout_ms : 0;
        g_autoptr(ColoRpcFrame) frame = colo_client_read_frame(conn, wait, &failure);

        if (!frame)
            break;
        colo_client_queue_event(conn, frame);
        if (g_queue_get_length(&conn->events) >= COLO_CLIENT_MAX_EVENTS)
            break;
    }
    while (!g_queue_is_empty(&conn->events)) {
        g_autofree char *event = g_queue_pop_head(&conn->events);

        if (conn->callback)
            conn->callback(conn, event, conn->opaque);
        delivered++;
    }
    if (delivered == 0 && conn->broken) {
        if (!failure)
            failure = g_error_new_literal(COLO_ERROR, COLO_ERROR_PEER,
                                          _("the connection to virtcolod is lost: open another"));
        colo_client_set_error(error, failure);
        return -1;
    }
    g_clear_error(&failure);
    return delivered;
}

int colo_connect_get_fd(ColoConnect *conn)
{
    return conn->fd;
}

unsigned long long colo_connect_event_lost(ColoConnect *conn)
{
    return conn->lost;
}
