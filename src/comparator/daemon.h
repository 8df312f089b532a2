/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The program around the sessions: their table, the controller's connection (control.c) and the
 * data port (accept.c). One instance, one thread.
 */
#pragma once

#include "comparator/session.h"

#include <sys/types.h>

/* Connections that have not authenticated themselves yet; one more replaces the oldest. */
#define COLO_ACCEPT_MAX 32
/* Events and answers that a controller may leave unread before it is cut off. */
#define COLO_CONTROL_OUT_MAX (1u << 20)
/* Descriptors that came before the request that takes them. */
#define COLO_CONTROL_FDS_MAX 4

typedef struct ColoControl ColoControl;
typedef struct ColoAccept ColoAccept;

typedef struct {
    ColoLoop *loop;
    uid_t uid; /* of the controller, beside root */
    ColoSession *sessions[COLO_SESSION_MAX];
    ColoSessionHost host;
    ColoControl *control;
    ColoAccept *accept;
} ColoDaemon;

/* The session of @uuid and @generation (0: the newest), or NULL. */
ColoSession *colo_daemon_find(ColoDaemon *self, const char *uuid, uint64_t generation);
/* Carries out @request; @fd (or -1) is taken over. TRUE with *result NULL: the answer comes later
 * by colo_control_answer() with @token. */
gboolean colo_daemon_execute(ColoDaemon *self, const ColoRequest *request, int fd, uint64_t token,
                             JsonObject **result, GError **error);

/* control.c: @fd is the listener. */
ColoControl *colo_control_new(ColoDaemon *self, int fd);
void colo_control_free(ColoControl *control);
void colo_control_event(ColoControl *control, JsonObject *event);
void colo_control_answer(ColoControl *control, uint64_t token, JsonObject *result, GError *error);

/* accept.c: @fd is the listener. */
ColoAccept *colo_accept_new(ColoDaemon *self, int fd);
void colo_accept_free(ColoAccept *self);
/* ColoTlsKeyFunc: the key of the session that an incoming stream names. */
bool colo_accept_key(void *opaque, const char *identity, uint8_t key[COLO_CMP_PSK_BYTES]);
