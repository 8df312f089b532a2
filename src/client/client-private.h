/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the client library: a connection and the call on it. One thread at a time. */
#pragma once

#include <glib.h>
#include <libintl.h>

#include "libvirt-colo/libvirt-colo.h"
#include "rpc/message.h"

/* Our own messages only; the daemon's come in its language. */
#define _(text) dgettext(GETTEXT_PACKAGE, text)

/* Events kept while no one dispatches; older ones are dropped and counted. */
#define COLO_CLIENT_MAX_EVENTS 1024

struct ColoConnect {
    int fd;
    gboolean broken; /* the stream failed: every further call says so */
    uint32_t serial;
    char *server;
    unsigned features;
    ColoRpcReader *reader;
    GQueue events; /* char *: JSON */
    unsigned long long lost;
    ColoEventCallback callback;
    void *opaque;
};

/* Moves @from (may be NULL) to the public @to (may be NULL); frees @from. */
void colo_client_set_error(ColoError *to, GError *from);

/*
 * One call of our program: sends @args and waits for the reply, whose body is in the frame
 * returned (to be freed). Events that come before it are queued. NULL with @error.
 */
ColoRpcFrame *colo_client_call(ColoConnect *conn, uint32_t procedure, xdrproc_t proc, void *args,
                               GError **error);

/*
 * The next frame, waiting up to @timeout_ms (-1: without limit). NULL without @error: none in that
 * time; NULL with @error: the connection is lost.
 */
ColoRpcFrame *colo_client_read_frame(ColoConnect *conn, int timeout_ms, GError **error);

/* Queues the event in @frame; FALSE when it is none (it is then ignored). */
gboolean colo_client_queue_event(ColoConnect *conn, const ColoRpcFrame *frame);

/* colo_connect_command() with GError and objects: @args (borrowed) may be NULL. The caller owns
 * the result; NULL with @error. */
struct json_object *colo_client_command(ColoConnect *conn, const char *name,
                                        struct json_object *args, GError **error);
