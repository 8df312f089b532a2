/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One question to virtcolod (colo-protocol.x, MAY_RUN), with a limit of time. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* It answers from memory, in some 100 us; after this it does not. */
#define COLO_LOCK_ASK_MS 1000

/* A reason is some hundred bytes. */
#define COLO_LOCK_REASON_MAX 4096

typedef struct {
    bool may;        /* this host may run the domain */
    bool replicated; /* it is under COLO: its vCPUs stop and start with checkpoints */
    char reason[COLO_LOCK_REASON_MAX]; /* why it may not; or why there was no answer */
} ColoLockAnswer;

/* False when virtcolod at @socket_path gave no answer about the domain @uuid in time. */
bool colo_lock_ask(const char *socket_path, const char *uuid, ColoLockAnswer *answer);
