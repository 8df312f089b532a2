/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Checkpoint kicks and guest liveness, on threads of their own: one process-wide libvirt connection
 * that nothing else uses, one thread a watched domain (so that a hung QEMU delays no other domain),
 * and a watchdog. A kick is asked for without blocking and executed at once; kicks that come while
 * one is outstanding are merged into one that follows it. When nothing was asked for the interval,
 * the domain is probed; that also counts the mirrors that copy its disks to the peer, because QEMU
 * goes on without one that failed.
 *
 * An answer, even an error of QEMU's, is life. What stays unanswered over the limit is evidence
 * that the guest (or libvirtd) hangs: evidence, not ownership (design section 3). A lost libvirt
 * connection is reported apart and reopened.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct ColoKicker ColoKicker;

typedef enum {
    COLO_KICK_DONE,        /* QEMU has taken a kick: tell the comparator "kick-done" */
    COLO_KICK_SUSPECT,     /* a kick or probe is unanswered for the limit, or libvirt gave it up (as
                              when QEMU dies in it); once until answered */
    COLO_KICK_ALIVE,       /* answered after SUSPECT or NO_LIBVIRT */
    COLO_KICK_GONE,        /* libvirt says that the domain does not run */
    COLO_KICK_NO_LIBVIRT,  /* the connection to libvirt is down: nothing is known; once */
    COLO_KICK_MIRROR_LOST, /* fewer mirrors copy without an error than there must be; with
                              each probe, because it may come when nothing can be done about it */
} ColoKickEvent;

/* Called on a thread of the kicker, without its lock; must not block, and must not call
 * colo_kicker_unwatch() or _free(). @waited_ms: since the command was sent. */
typedef void (*ColoKickNotify)(const char *uuid, ColoKickEvent event, uint64_t waited_ms,
                               void *data);

/* At most this many domains are watched (I8): libvirtd serves only max_client_requests (5) calls of
 * one connection at once by default, the others queue. */
#define COLO_KICK_MAX_DOMAINS 64

/* @uri: libvirt's, "qemu:///system". Connects at the first use, not here; never fails. */
ColoKicker *colo_kicker_new(const char *uri, ColoKickNotify notify, void *data);

/* Joins all threads. A thread inside an unanswered call is abandoned with its memory after 1 s. */
void colo_kicker_free(ColoKicker *kicker);

typedef struct {
    uint64_t delay_ms;    /* checkpoint period that a kick leaves set */
    unsigned interval_ms; /* between probes */
    unsigned limit_ms;    /* SUSPECT after it */
    unsigned mirrors;     /* so many must copy */
} ColoKickWatch;

/* Starts to watch; a second call changes the numbers. FALSE with @error at COLO_KICK_MAX_DOMAINS.
 */
gboolean colo_kicker_watch(ColoKicker *kicker, const char *uuid, const ColoKickWatch *watch,
                           GError **error);
void colo_kicker_unwatch(ColoKicker *kicker, const char *uuid);

/* Asks for a checkpoint of @uuid. Never blocks. FALSE when it is not watched. */
gboolean colo_kicker_kick(ColoKicker *kicker, const char *uuid);
