/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A server on a socket of its own with a fake dispatcher, and ways to talk to it: for the tests of
 * the server and of the client library. */
#pragma once

#include "libvirt-colo/libvirt-colo.h"
#include "rpc/message.h"
#include "rpc/server.h"

/* Longest wait for anything; a test that needs it has failed. */
#define DEADLINE_MS 10000

typedef struct {
    char *dir, *path, *uri;
    ColoRpcServer *server;
    GMutex lock;
    GCond changed;
    int running; /* dispatches inside "colo-checkpoint" */
    int most_running;
    gboolean released; /* they may go on */
    int status_calls;
    ColoRpcCaller caller;
} RpcFixture;

/* For g_test_add(). */
void rpc_fixture_setup(RpcFixture *f, gconstpointer data);
void rpc_fixture_teardown(RpcFixture *f, gconstpointer data);

/*
 * The dispatcher: colo-status finds a protection further at each look, colo-checkpoint waits for
 * rpc_fixture_release(), colo-switchover fails without an error, colo-stats answers too much; all
 * others answer what they were asked.
 */
JsonObject *rpc_fixture_dispatch(const ColoRpcCaller *caller, const char *command, JsonObject *args,
                                 void *opaque, GError **error);
void rpc_fixture_release(RpcFixture *f);

/* A client that is connected. */
ColoConnect *rpc_fixture_open(RpcFixture *f);

/* A bare socket to @path; the next frame from it, NULL when the server closed it. */
int rpc_raw_connect(const char *path);
ColoRpcFrame *rpc_raw_read(int fd, ColoRpcReader *reader);

/* The server still serves new clients. */
void rpc_assert_server_lives(RpcFixture *f);
