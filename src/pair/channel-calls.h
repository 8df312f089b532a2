/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The calls of one channel that wait for an answer. Any thread. Private to the channel. */
#pragma once

#include "util/json.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ColoCalls ColoCalls;

/* A call that waits; on its caller's stack. */
typedef struct {
    bool hasty; /* gives up when the peer is silent */
    bool done;
    JsonObject *result;
    GError *error;
} ColoCall;

/* Calls to @peer, a name for messages; closed. */
ColoCalls *colo_calls_new(const char *peer);
void colo_calls_free(ColoCalls *calls);

/* Calls are taken from now on. */
void colo_calls_open(ColoCalls *calls);

/* No more: those that wait fail with @reason, and further ones. True when @reason is news. */
bool colo_calls_close(ColoCalls *calls, const char *reason);

bool colo_calls_are_open(ColoCalls *calls);
char *colo_calls_reason(ColoCalls *calls); /* why they are closed, for g_free(); NULL: open */

/* The peer is silent, or heard again: hasty calls fail while it is. */
void colo_calls_set_silent(ColoCalls *calls, bool silent);

/* Lists @call; its id, or 0 and @error: closed, or too many. */
uint64_t colo_calls_begin(ColoCalls *calls, ColoCall *call, GError **error);

/* True while call @id waits: not answered, not given up. */
bool colo_calls_is_waiting(ColoCalls *calls, uint64_t id);

/* Hands reply @message to the call that it names. Its result is moved out. FALSE and @error
 * (COLO_ERROR_PEER) when it names none by its form; one that has given up is no error. */
gboolean colo_calls_answer(ColoCalls *calls, JsonObject *message, GError **error);

/* Waits for the answer of @call until @end_us of g_get_monotonic_time(); @method for the message.
 * Either way the call is no longer listed. Returns as colo_channel_call(). */
JsonObject *colo_calls_wait(ColoCalls *calls, ColoCall *call, uint64_t id, const char *method,
                            gint64 end_us, GError **error);

/* Takes call @id off the list, unanswered. */
void colo_calls_drop(ColoCalls *calls, uint64_t id);
