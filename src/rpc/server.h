/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Door 1 on virtcolod-sock: serves our own RPC program (colo-protocol.x) to local clients.
 *
 * Threads: one I/O thread owns every socket (GMainContext of its own); commands run on a bounded
 * pool of workers, so a dispatch function may block, and is called from several threads at once.
 * Everything below may be called from any thread, except from a dispatch function where noted.
 *
 * Who may connect: uid 0, the uid of the daemon itself, and members of the group set by
 * colo_rpc_server_set_group() (SO_PEERCRED, SO_PEERGROUPS). Others are closed with a log line. To
 * the read-only socket everybody may whom its file's mode lets, as to libvirt's; commands that
 * change something are refused there, and libvirt is asked through its own read-only socket. With
 * colo_rpc_server_set_polkit() anybody may connect, and hears of libvirt what polkit lets him;
 * commands that change something are refused to those that it decides about. Whoever may only look
 * hears what libvirt would let him see (judge.h).
 *
 * A client that breaks the framing is closed with a log line; the server goes on (I8: every queue
 * below has its limit).
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/json.h"

/* Connected clients; one more is closed at once. A virsh-colo per domain of a large host. */
#define COLO_RPC_MAX_CLIENTS 128
/* Of them on the read-only socket: others cannot lock the administrator out. */
#define COLO_RPC_MAX_RO_CLIENTS 64
/* Commands that run at the same time, over all clients. */
#define COLO_RPC_WORKERS 8
/* Besides them, of those who may only look: libvirt, which judges them, or polkit may be slow. */
#define COLO_RPC_LOOKERS 4
/* Requests of one client that wait or run; above it its socket is not read until one ends. */
#define COLO_RPC_MAX_PENDING 16
/* Bytes queued for a client that does not read; above it the client is closed and counted. */
#define COLO_RPC_MAX_OUTPUT (8u * 1024u * 1024u)

typedef struct ColoRpcServer ColoRpcServer;

/* Of a certificate's distinguished name; a longer one is refused. */
#define COLO_RPC_DN_MAX 512

/* Who asks: credentials at the time of connect(2), or of a TLS client its certificate. */
typedef struct {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    char dn[COLO_RPC_DN_MAX]; /* "": it is local */
    gboolean readonly;        /* it came by the read-only socket */
    gboolean polkit; /* polkit is to be asked before anything of libvirt\'s is done for it */
    gboolean looks;  /* our own commands change nothing for it */
} ColoRpcCaller;

/*
 * Runs @command on a worker thread. @args passed colo_command_validate() and is borrowed. Returns
 * the result object, given to the caller, or NULL with @error (COLO_ERROR; any other domain is
 * reported as internal). Must not call colo_rpc_server_free().
 */
typedef JsonObject *(*ColoRpcDispatch)(const ColoRpcCaller *caller, const char *command,
                                       JsonObject *args, void *opaque, GError **error);

/* Why this host may not run the domain @uuid, for people and the caller's; NULL: it may. Never
 * blocks; on the I/O thread. *replicated: it is under COLO, on either host. */
typedef char *(*ColoRpcMayRun)(const char *uuid, gboolean *replicated, void *opaque);
/* Answers the lock manager plugin (src/lock). Without this call it hears an error. */
void colo_rpc_server_set_may_run(ColoRpcServer *server, ColoRpcMayRun func, void *opaque);

/* Clients of other programs, libvirt's own, get a connection to the first of @upstreams (paths of
 * sockets, NULL at the end; with "-ro" behind them for read-only clients) that answers, past
 * @driver (NULL: none; it outlives the server): rpc/relay.h. Without this call they hear that the
 * program is unknown. */
struct ColoRelayDriver;
void colo_rpc_server_relay_to(ColoRpcServer *server, const char *const *upstreams,
                              const struct ColoRelayDriver *driver);

/* Takes over @fd, the end of a socket pair whose other end is that of a client who has shown that
 * it is @caller: it is the relay's, and has no door 1. Any thread. */
void colo_rpc_server_adopt(ColoRpcServer *server, int fd, const ColoRpcCaller *caller);

/* What the server has counted since its start. */
typedef struct {
    uint64_t clients;         /* now connected: of our program, or not told yet */
    uint64_t relayed;         /* now connected: of libvirt's */
    uint64_t accepted;        /* ever */
    uint64_t refused_auth;    /* closed: not allowed to connect */
    uint64_t refused_limit;   /* closed: COLO_RPC_MAX_CLIENTS */
    uint64_t malformed;       /* closed: broken framing or header */
    uint64_t slow;            /* closed: COLO_RPC_MAX_OUTPUT */
    uint64_t commands;        /* dispatched */
    uint64_t unknown_program; /* frames answered with 'unknown program' */
} ColoRpcServerStats;

/*
 * A listening unix stream socket at @path, mode 0660 when @group is not NULL (and the file given to
 * that group), else 0600; a stale file is removed first. For start without socket activation.
 * -1 with @error on failure.
 */
int colo_rpc_listen(const char *path, const char *group, GError **error);
/* The same with mode 0666: polkit decides, or it is for colo_rpc_server_add_readonly(). */
int colo_rpc_listen_public(const char *path, GError **error);

/*
 * Starts to serve @listen_fd (listening, unix, stream; the server owns it from now on, also on
 * failure). NULL with @error.
 */
ColoRpcServer *colo_rpc_server_new(int listen_fd, ColoRpcDispatch dispatch, void *opaque,
                                   GError **error);

/* Serves @listen_fd (owned from now on) too, as the read-only socket. Once, before clients come. */
gboolean colo_rpc_server_add_readonly(ColoRpcServer *server, int listen_fd, GError **error);

/* polkit decides who is let in by one of the sockets (org.libvirt.unix.manage, .monitor), root and
 * the daemon's own uid excepted, and so anybody may connect. Before clients come. */
void colo_rpc_server_set_polkit(ColoRpcServer *server, gboolean readonly);

/* libvirt judges each call of its clients by who they are (access_drivers), which says nothing
 * about our commands: those that change something, and our events, are for root and the daemon's
 * own uid alone. Before clients come. */
void colo_rpc_server_set_judged(ColoRpcServer *server);

/* Lets members of @group connect too; NULL: only root and the daemon's own uid (the default).
 * FALSE with @error (COLO_ERROR_INVALID_ARG) when there is no such group. */
gboolean colo_rpc_server_set_group(ColoRpcServer *server, const char *group, GError **error);

/*
 * Sends @event (borrowed; serialized before the call returns) to every client that subscribed.
 * Never blocks; a client that does not read is closed at COLO_RPC_MAX_OUTPUT.
 */
void colo_rpc_server_emit(ColoRpcServer *server, JsonObject *event);

void colo_rpc_server_get_stats(ColoRpcServer *server, ColoRpcServerStats *stats);

/* Closes all clients, waits for running commands to return, ends the threads. Not from a dispatch
 * function. NULL is allowed. */
void colo_rpc_server_free(ColoRpcServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoRpcServer, colo_rpc_server_free)
