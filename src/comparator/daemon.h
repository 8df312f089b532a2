/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control thread: the controller's connection (control.c), the data port (accept.c) and the
 * table of sessions, which live on workers (worker.h). All that is here belongs to this thread, but
 * for the functions that say otherwise.
 */
#pragma once

#include "comparator/inbox.h"
#include "comparator/worker.h"

#include <stdatomic.h>
#include <sys/types.h>

/* Connections that have not authenticated themselves yet; one more replaces the oldest. */
#define COLO_ACCEPT_MAX 32
/* Events and answers that a controller may leave unread before it is cut off. */
#define COLO_CONTROL_OUT_MAX (1u << 20)
/* Descriptors that came before the request that takes them. */
#define COLO_CONTROL_FDS_MAX 4

typedef struct ColoControl ColoControl;
typedef struct ColoAccept ColoAccept;

struct ColoDaemon {
    ColoLoop *loop;
    ColoInbox *inbox; /* from the workers */
    uid_t uid;        /* of the controller, beside root */
    ColoWorker *workers[COLO_WORKERS_MAX];
    unsigned n_workers;
    ColoMember *members[COLO_SESSION_MAX];
    atomic_bool lost; /* an event did not fit into the inbox */
    ColoControl *control;
    ColoAccept *accept;
};

/* Starts @threads workers (0: one for each CPU that the process may use, at most
 * COLO_WORKERS_MAX). FALSE and @error when that does not succeed. */
gboolean colo_daemon_start(ColoDaemon *self, unsigned threads, GError **error);
/* Ends all sessions and workers. The controller still gets their last answers. */
void colo_daemon_stop(ColoDaemon *self);

/* The session of @uuid and @generation (0: the newest), or NULL. */
ColoMember *colo_daemon_find(ColoDaemon *self, const char *uuid, uint64_t generation);
/* Carries out @request; @fd (or -1) is taken over. TRUE with *result NULL: the answer comes later
 * by colo_control_answer() with @token. */
gboolean colo_daemon_execute(ColoDaemon *self, const ColoRequest *request, int fd, uint64_t token,
                             JsonObject **result, GError **error);

/* What workers send, on the control thread. All take over what they are given. */
void colo_daemon_answer(ColoDaemon *self, uint64_t token, JsonObject *result, GError *error);
void colo_daemon_event(ColoDaemon *self, JsonObject *event);
/* A request of @kind about @member has been carried out, or has failed. */
void colo_daemon_done(ColoDaemon *self, ColoMember *member, ColoRequestKind kind, bool failed);
/* Any thread: where it is sent. */
ColoInbox *colo_daemon_inbox(ColoDaemon *self);
/* Any thread: an event did not fit. The controller is cut off, as one that does not read. */
void colo_daemon_lost(ColoDaemon *self);

/* control.c: @fd is the listener. */
ColoControl *colo_control_new(ColoDaemon *self, int fd);
void colo_control_free(ColoControl *control);
void colo_control_event(ColoControl *control, JsonObject *event);
void colo_control_answer(ColoControl *control, uint64_t token, JsonObject *result, GError *error);
/* Closes the controller's connection, if there is one. */
void colo_control_close(ColoControl *control, const char *why);

/* accept.c: @fd is the listener. */
ColoAccept *colo_accept_new(ColoDaemon *self, int fd);
void colo_accept_free(ColoAccept *self);
/* ColoTlsKeyFunc: the key of the session that an incoming stream names. */
bool colo_accept_key(void *opaque, const char *identity, uint8_t key[COLO_CMP_PSK_BYTES]);
