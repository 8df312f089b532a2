/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread with a loop, and the sessions that live on it. A session is made, served and freed by
 * one worker: nothing of it is shared, no packet meets a lock. The control thread (daemon.h) sends
 * letters to workers, and they send answers and events back.
 */
#pragma once

#include "comparator/session.h"

#include <stdbool.h>

/* Workers of one process; a pair of hosts with more CPUs to spare for this is not known, and each
 * has its stack and its part of the heap. */
#define COLO_WORKERS_MAX 32

typedef struct ColoWorker ColoWorker;
typedef struct ColoDaemon ColoDaemon;

/* A session as the control thread sees it. */
typedef struct {
    ColoSessionConfig config;
    ColoWorker *worker;
    bool shut;            /* secondary: its gate has been closed, for good */
    bool going;           /* to be destroyed: not found any more */
    ColoSession *session; /* the worker's alone */
} ColoMember;

/* Starts the thread; returns when it has all that it needs system calls for which the sandbox will
 * refuse. NULL and @error. */
ColoWorker *colo_worker_new(ColoDaemon *daemon, GError **error);
/* Takes @member, whose session could not be made, out of the way of letters that may be under way.
 */
void colo_worker_discard(ColoMember *member);
/* Has the sessions freed, and waits for the end of the thread. */
void colo_worker_free(ColoWorker *worker);

/*
 * Has @request (about a session) carried out on its worker. The answer comes by
 * colo_daemon_answer() with @token. @fd (or -1) is taken over, also on failure: FALSE and @error
 * when the worker does not keep up with its letters.
 */
gboolean colo_worker_request(ColoMember *member, const ColoRequest *request, int fd, uint64_t token,
                             GError **error);
/* Asks each of @n workers for the state of its sessions; the answer of "inventory" comes later. */
gboolean colo_worker_inventory(ColoWorker *const *workers, unsigned n, uint64_t token,
                               GError **error);
/* Hands over a stream that is authenticated, detached from the control thread's loop. False when
 * the worker does not keep up: it is still the caller's. */
bool colo_worker_adopt(ColoMember *member, ColoStream *stream);
