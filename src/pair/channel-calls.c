/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pair/channel-calls.h"

#include "pair/channel.h"
#include "util/error.h"

struct ColoCalls {
    char *peer;
    GMutex lock; /* protects what follows, and every listed ColoCall */
    GCond answered;
    char *reason; /* NULL: open */
    bool silent;
    uint64_t last_id;
    GHashTable *waiting; /* id (gint64 *) -> ColoCall, borrowed */
};

ColoCalls *colo_calls_new(const char *peer)
{
    ColoCalls *calls = g_new0(ColoCalls, 1);

    calls->peer = g_strdup(peer);
    calls->reason = g_strdup("not connected yet");
    calls->waiting = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_mutex_init(&calls->lock);
    g_cond_init(&calls->answered);
    return calls;
}

void colo_calls_free(ColoCalls *calls)
{
    g_hash_table_unref(calls->waiting);
    g_mutex_clear(&calls->lock);
    g_cond_clear(&calls->answered);
    g_free(calls->reason);
    g_free(calls->peer);
    g_free(calls);
}

void colo_calls_open(ColoCalls *calls)
{
    g_mutex_lock(&calls->lock);
    g_clear_pointer(&calls->reason, g_free);
    g_mutex_unlock(&calls->lock);
}

bool colo_calls_close(ColoCalls *calls, const char *reason)
{
    GHashTableIter iter;
    gpointer value;
    bool news;

    g_mutex_lock(&calls->lock);
    news = g_strcmp0(calls->reason, reason) != 0;
    if (news) {
        g_free(calls->reason);
        calls->reason = g_strdup(reason);
    }
    g_hash_table_iter_init(&iter, calls->waiting);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ColoCall *call = value;

        g_set_error(&call->error, COLO_ERROR, COLO_ERROR_PEER,
                    "connection to peer %s broke before the answer, it may have done what it was "
                    "asked: %s",
                    calls->peer, reason);
        call->done = true;
    }
    g_hash_table_remove_all(calls->waiting);
    g_cond_broadcast(&calls->answered);
    g_mutex_unlock(&calls->lock);
    return news;
}

void colo_calls_set_silent(ColoCalls *calls, bool silent)
{
    g_mutex_lock(&calls->lock);
    calls->silent = silent;
    g_cond_broadcast(&calls->answered);
    g_mutex_unlock(&calls->lock);
}

bool colo_calls_are_open(ColoCalls *calls)
{
    bool open;

    g_mutex_lock(&calls->lock);
    open = !calls->reason;
    g_mutex_unlock(&calls->lock);
    return open;
}

char *colo_calls_reason(ColoCalls *calls)
{
    char *reason;

    g_mutex_lock(&calls->lock);
    reason = g_strdup(calls->reason);
    g_mutex_unlock(&calls->lock);
    return reason;
}

/* The lock is held. */
static uint64_t enlist(ColoCalls *calls, ColoCall *call, GError **error)
{
    gint64 *key;

    if (calls->reason) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, "peer %s is not connected: %s", calls->peer,
                    calls->reason);
        return 0;
    }
    if (g_hash_table_size(calls->waiting) >= COLO_CHANNEL_MAX_CALLS) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "%u calls to peer %s wait already, the limit; try again later",
                    COLO_CHANNEL_MAX_CALLS, calls->peer);
        return 0;
    }
    key = g_new(gint64, 1);
    *key = (gint64)++calls->last_id;
    g_hash_table_insert(calls->waiting, key, call);
    return calls->last_id;
}

uint64_t colo_calls_begin(ColoCalls *calls, ColoCall *call, GError **error)
{
    uint64_t id;

    g_mutex_lock(&calls->lock);
    id = enlist(calls, call, error);
    g_mutex_unlock(&calls->lock);
    return id;
}

bool colo_calls_is_waiting(ColoCalls *calls, uint64_t id)
{
    gint64 key = (gint64)id;
    bool waiting;

    g_mutex_lock(&calls->lock);
    waiting = g_hash_table_contains(calls->waiting, &key);
    g_mutex_unlock(&calls->lock);
    return waiting;
}

static void fill(ColoCall *call, JsonObject *message)
{
    JsonObject *error = colo_json_peek(message, "error");
    JsonObject *result = colo_json_peek(message, "result");

    if (json_object_is_type(error, json_type_object)) {
        g_set_error_literal(
            &call->error, COLO_ERROR,
            (gint)colo_error_code_from_name(colo_json_peek_string(error, "code", "internal")),
            colo_json_peek_string(error, "message", "the peer gave no reason"));
    } else if (json_object_is_type(result, json_type_object)) {
        /* Moved, so that the caller's thread alone knows of it: json-c's counts are not atomic. */
        call->result = json_object_get(result);
        json_object_object_del(message, "result");
    } else {
        g_set_error_literal(&call->error, COLO_ERROR, COLO_ERROR_PEER,
                            "the peer answered with neither a result nor an error");
    }
    call->done = true;
}

gboolean colo_calls_answer(ColoCalls *calls, JsonObject *message, GError **error)
{
    ColoCall *call;
    uint64_t id;
    gint64 key;

    if (!colo_json_get_uint(message, "id", &id, error)) {
        g_prefix_error(error, "%s broke the control protocol: reply: ", calls->peer);
        return FALSE;
    }
    key = (gint64)id;
    g_mutex_lock(&calls->lock);
    call = g_hash_table_lookup(calls->waiting, &key);
    if (call) {
        fill(call, message);
        g_hash_table_remove(calls->waiting, &key);
        g_cond_broadcast(&calls->answered);
    }
    g_mutex_unlock(&calls->lock);
    return TRUE;
}

JsonObject *colo_calls_wait(ColoCalls *calls, ColoCall *call, uint64_t id, const char *method,
                            gint64 end_us, GError **error)
{
    gint64 key = (gint64)id;

    g_mutex_lock(&calls->lock);
    while (!call->done) {
        if (call->hasty && calls->silent) {
            g_set_error(&call->error, COLO_ERROR, COLO_ERROR_PEER,
                        "peer %s is silent and has not answered '%s', it may have done it",
                        calls->peer, method);
            break;
        }
        if (!g_cond_wait_until(&calls->answered, &calls->lock, end_us) && !call->done) {
            g_set_error(&call->error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "peer %s did not answer '%s' in time; it may still do it", calls->peer,
                        method);
            break;
        }
    }
    g_hash_table_remove(calls->waiting, &key);
    g_mutex_unlock(&calls->lock);
    if (call->error)
        g_propagate_error(error, call->error);
    return call->result;
}

void colo_calls_drop(ColoCalls *calls, uint64_t id)
{
    gint64 key = (gint64)id;

    g_mutex_lock(&calls->lock);
    g_hash_table_remove(calls->waiting, &key);
    g_mutex_unlock(&calls->lock);
}
