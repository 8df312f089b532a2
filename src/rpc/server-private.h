/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The server's parts: server.c (listener, threads), server-client.c (one connection),
 * server-request.c (one frame). Unless marked otherwise a function here runs on the I/O thread
 * and fields are touched by it alone.
 */
#pragma once

#include "rpc/frame.h"
#include "rpc/relay.h"
#include "rpc/server.h"

#define COLO_RPC_READ_CHUNK (64u * 1024u)

typedef struct {
    ColoRpcServer *server;
    int fd; /* -1: there is none */
    gboolean readonly;
    gint polkit; /* atomic: it decides who is let in */
    GSource *source;
} ColoRpcListener;

struct ColoRpcServer {
    ColoRpcListener listeners[2]; /* the second is the read-only one */
    ColoRpcDispatch dispatch;
    void *opaque;
    ColoRpcMayRun may_run; /* under @lock */
    void *may_run_opaque;
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    GThreadPool *workers;
    GThreadPool *lookers;     /* the same for those whom libvirt judges (judge.h) */
    GPtrArray *clients;       /* ColoRpcClient, a reference each */
    guint n_readonly;         /* of them */
    ColoRelay *relay;         /* NULL: other programs are unknown */
    gint judged;              /* atomic: libvirt has access drivers */
    gint stopping;            /* atomic: jobs that have not begun return at once */
    gint64 group;             /* under @lock: gid that may connect, or -1 */
    ColoRpcServerStats stats; /* under @lock */
    GMutex lock;
};

typedef struct {
    ColoRpcServer *server;
    int fd; /* -1: closed */
    ColoRpcCaller caller;
    ColoRpcReader *reader;
    GSource *in, *out;
    GQueue output; /* GBytes */
    size_t sent;   /* bytes of the head of @output that are gone */
    size_t queued; /* bytes in @output that are not */
    unsigned pending;
    GSource *deadline; /* what it began is to be whole; NULL: it has begun nothing */
    gboolean said;     /* a whole frame */
    gboolean subscribed;
    gboolean ours; /* it has called our program */
} ColoRpcClient;

/* A command under way; made on the I/O thread, run by a worker. */
typedef struct {
    ColoRpcClient *client; /* a reference */
    ColoRpcHeader header;
    char *command; /* NULL: subscribes to events */
    JsonObject *args;
    gboolean subscribes; /* and may */
    GBytes *reply;
} ColoRpcJob;

/* Adds one to @counter of the server's statistics. Any thread. */
void colo_rpc_server_count(ColoRpcServer *server, uint64_t *counter);

/* Runs @func(@data) on the I/O thread, soon. Any thread. */
void colo_rpc_server_post(ColoRpcServer *server, GSourceFunc func, void *data,
                          GDestroyNotify notify);

/* Takes @fd over and starts to read it; the server's list holds the reference. */
ColoRpcClient *colo_rpc_client_new(ColoRpcServer *server, int fd, const ColoRpcCaller *caller);
ColoRpcClient *colo_rpc_client_ref(ColoRpcClient *client); /* any thread */
void colo_rpc_client_unref(ColoRpcClient *client);         /* any thread */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoRpcClient, colo_rpc_client_unref)

/* Closes the connection and takes it from the server's list. */
void colo_rpc_client_close(ColoRpcClient *client);

/* Queues @frame (borrowed) and writes what the socket takes; may close the client. */
void colo_rpc_client_send(ColoRpcClient *client, GBytes *frame);

/* Handles the frames that have come, as far as COLO_RPC_MAX_PENDING allows. */
void colo_rpc_client_process(ColoRpcClient *client);

/* Answers one frame, or starts its command. FALSE with @error: the client is to be closed. */
gboolean colo_rpc_request_handle(ColoRpcClient *client, const ColoRpcFrame *frame, GError **error);

/* Runs a command: GFunc of the worker pool. @data is a ColoRpcJob and given over. */
void colo_rpc_request_run(void *data, void *server);
