/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/relay-auth.h"

#include "rpc/closed.h"
#include "rpc/polkit.h"
#include "rpc/remote-calls.h"
#include "rpc/xdr-put.h"

#define AUTH_TYPE_POLKIT 2u /* remote_auth_type */
#define ERR_RPC 39

struct ColoRelayAuth {
    ColoRpcCaller caller;
    void (*done)(void *opaque);
    void *opaque;
    GCancellable *cancellable; /* not NULL: polkit is being asked */
    ColoRpcHeader call;        /* for whose answer */
    GByteArray *answer;
    gboolean in;
};

/* What polkit answers to; it may come when the client is gone. */
typedef struct {
    ColoRelayAuth *auth; /* borrowed, while not cancelled */
    GCancellable *cancellable;
} Question;

ColoRelayAuth *colo_relay_auth_new(const ColoRpcCaller *caller, void (*done)(void *opaque),
                                   void *opaque)
{
    ColoRelayAuth *auth = g_new0(ColoRelayAuth, 1);

    auth->caller = *caller;
    auth->done = done;
    auth->opaque = opaque;
    return auth;
}

void colo_relay_auth_free(ColoRelayAuth *auth)
{
    if (!auth)
        return;
    if (auth->cancellable)
        g_cancellable_cancel(auth->cancellable);
    g_clear_object(&auth->cancellable);
    g_clear_pointer(&auth->answer, g_byte_array_unref);
    g_free(auth);
}

static void answer(ColoRelayAuth *auth, GByteArray *frame)
{
    g_clear_pointer(&auth->answer, g_byte_array_unref);
    auth->answer = frame;
}

/* One word: a list of one type, or that it is complete. */
static void answer_words(ColoRelayAuth *auth, const ColoRpcHeader *call, uint32_t first,
                         const uint32_t *second)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    colo_xdr_put32(body, first);
    if (second)
        colo_xdr_put32(body, *second);
    answer(auth, colo_remote_reply(call, body->data, body->len));
}

static void on_answer(int code, const char *message, void *opaque)
{
    Question *question = opaque;
    ColoRelayAuth *auth = question->auth;
    gboolean gone = g_cancellable_is_cancelled(question->cancellable);

    g_object_unref(question->cancellable);
    g_free(question);
    if (gone)
        return;
    g_clear_object(&auth->cancellable);
    if (code == 0) {
        auth->in = TRUE;
        answer_words(auth, &auth->call, 1, NULL);
    } else {
        colo_rpc_log_kept_out(&auth->caller, "%s", message);
        answer(auth, colo_remote_error(&auth->call, code, message));
    }
    auth->done(auth->opaque);
}

static void ask_polkit(ColoRelayAuth *auth, const ColoRpcHeader *call)
{
    Question *question = g_new(Question, 1);

    auth->call = *call;
    auth->cancellable = g_cancellable_new();
    *question = (Question){auth, g_object_ref(auth->cancellable)};
    colo_polkit_check(&auth->caller,
                      auth->caller.readonly ? COLO_POLKIT_MONITOR : COLO_POLKIT_MANAGE,
                      auth->cancellable, on_answer, question);
}

gboolean colo_relay_auth_hear(ColoRelayAuth *auth, const ColoRpcFrame *frame)
{
    const ColoRpcHeader *h = &frame->header;
    const uint32_t polkit = AUTH_TYPE_POLKIT;

    if (h->type != COLO_RPC_CALL) /* libvirt answers to calls alone */
        return FALSE;
    if (h->program == COLO_REMOTE_PROGRAM && h->procedure == COLO_REMOTE_PROC_AUTH_LIST)
        answer_words(auth, h, 1, &polkit);
    else if (h->program == COLO_REMOTE_PROGRAM && h->procedure == COLO_REMOTE_PROC_AUTH_POLKIT)
        ask_polkit(auth, h);
    else
        answer(auth, colo_remote_error(h, ERR_RPC, "authentication required"));
    return TRUE;
}

GByteArray *colo_relay_auth_take(ColoRelayAuth *auth)
{
    return g_steal_pointer(&auth->answer);
}

gboolean colo_relay_auth_is_asking(const ColoRelayAuth *auth)
{
    return auth->cancellable != NULL;
}

gboolean colo_relay_auth_is_in(const ColoRelayAuth *auth)
{
    return auth->in;
}
