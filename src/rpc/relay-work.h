/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that take their time (COLO_RELAY_WORK of relay.h): libvirt is asked, as the client, whether
 * it may; a worker does the work; its answer goes to the client, or the call goes to libvirt after
 * all, and what follows its reply is a worker's again. Two owners: the set of workers of a relay,
 * and the calls of one client. All functions are on the thread of the relay's context.
 */
#pragma once

#include "rpc/relay-side.h"
#include "rpc/relay.h"

typedef struct ColoRelayWorkers ColoRelayWorkers;

/* The calls of one client. */
typedef struct ColoRelayWork ColoRelayWork;

/* @settle is told, on the context's thread, of a client for which bytes have been queued. */
ColoRelayWorkers *colo_relay_workers_new(GMainContext *context, const ColoRelayDriver *driver,
                                         void (*settle)(void *pair));
/* Waits for those that run. */
void colo_relay_workers_free(ColoRelayWorkers *workers);

/* Sides are borrowed. */
ColoRelayWork *colo_relay_work_new(ColoRelayWorkers *workers, ColoRelaySide *client,
                                   ColoRelaySide *libvirt, void *pair);
/* The client is gone. What libvirt was given is followed nevertheless. NULL is allowed. */
void colo_relay_work_free(ColoRelayWork *work);

/* Begins the work on @call, which libvirt is asked about by @questions, calls one behind the other
 * (NULL: it is not asked). @answer: what the client hears then (NULL: what a worker will have
 * made). Both are taken over. */
void colo_relay_work_begin(ColoRelayWork *work, const ColoRpcFrame *call, GByteArray *questions,
                           GByteArray *answer);
/* @call goes to libvirt now: its reply is to be revised. */
void colo_relay_work_watch(ColoRelayWork *work, const ColoRpcFrame *call);
/* Looks at what libvirt says. TRUE: it was the reply to a question of ours, and is dealt with.
 * *changed: what is to be said in its stead, if not NULL. */
gboolean colo_relay_work_hears(ColoRelayWork *work, const ColoRpcFrame *reply,
                               GByteArray **changed);
/* TRUE: as many calls are under way as may be. */
gboolean colo_relay_work_is_full(const ColoRelayWork *work);
