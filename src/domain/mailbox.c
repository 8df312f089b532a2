/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/mailbox.h"

#include "util/error.h"
#include "util/log.h"

/* Shared by the asker and the actor; the last of the two frees it. */
struct ColoAnswer {
    gatomicrefcount refs;
    GMutex lock;
    GCond done_cond;
    gboolean done;
    gboolean given_up; /* nobody waits any more */
    JsonObject *result;
    GError *error;
};

struct ColoMailbox {
    GAsyncQueue *queue;
    gint dropped; /* atomic */
};

static ColoAnswer *answer_new(void)
{
    ColoAnswer *answer = g_new0(ColoAnswer, 1);

    g_atomic_ref_count_init(&answer->refs);
    g_mutex_init(&answer->lock);
    g_cond_init(&answer->done_cond);
    return answer;
}

static void answer_unref(ColoAnswer *answer)
{
    if (!g_atomic_ref_count_dec(&answer->refs))
        return;
    json_object_put(answer->result);
    g_clear_error(&answer->error);
    g_mutex_clear(&answer->lock);
    g_cond_clear(&answer->done_cond);
    g_free(answer);
}

ColoMail *colo_mail_new(ColoMailKind kind, const char *name, JsonObject *body)
{
    ColoMail *mail = g_new0(ColoMail, 1);

    mail->kind = kind;
    mail->name = g_strdup(name);
    /* A copy: json-c's reference counts are not atomic, and the caller keeps its own. */
    if (body)
        json_object_deep_copy(body, &mail->body, NULL);
    return mail;
}

void colo_mail_answer(ColoMail *mail, JsonObject *result, const GError *error)
{
    ColoAnswer *answer = g_steal_pointer(&mail->answer);

    if (!answer) {
        json_object_put(result);
        return;
    }
    g_mutex_lock(&answer->lock);
    answer->done = TRUE;
    answer->result = result;
    answer->error = error ? g_error_copy(error) : NULL;
    g_cond_signal(&answer->done_cond);
    g_mutex_unlock(&answer->lock);
    answer_unref(answer);
}

void colo_mail_free(ColoMail *mail)
{
    if (!mail)
        return;
    if (mail->answer) {
        g_autoptr(GError) error =
            g_error_new(COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                        "%s: virtcolod is shutting down or the domain is gone", mail->name);
        colo_mail_answer(mail, NULL, error);
    }
    g_free(mail->name);
    json_object_put(mail->body);
    g_free(mail);
}

ColoMailbox *colo_mailbox_new(void)
{
    ColoMailbox *box = g_new0(ColoMailbox, 1);

    box->queue = g_async_queue_new_full((GDestroyNotify)colo_mail_free);
    return box;
}

void colo_mailbox_free(ColoMailbox *box)
{
    if (!box)
        return;
    g_async_queue_unref(box->queue);
    g_free(box);
}

/* What the helper says all the time, and says again; its other words are evidence, said once. */
static gboolean is_repeated(const ColoMail *mail)
{
    static const char *const names[] = {"committed", "loaded", "kick-done", "overflow", NULL};

    return mail->kind == COLO_MAIL_COMPARATOR && mail->name && g_strv_contains(names, mail->name);
}

void colo_mailbox_post(ColoMailbox *box, ColoMail *mail)
{
    int limit = is_repeated(mail) ? COLO_MAILBOX_MAX_EVENTS : COLO_MAILBOX_MAX;

    if (g_async_queue_length(box->queue) >= limit && mail->kind != COLO_MAIL_QUIT) {
        guint dropped = (guint)g_atomic_int_add(&box->dropped, 1) + 1;

        if ((dropped & (dropped - 1)) == 0) /* the 1st, 2nd, 4th...: no flood of lines */
            colo_warn("a domain's mailbox is full (%d): dropped '%s', %u in all", limit,
                      mail->name ? mail->name : "an event", dropped);
        colo_mail_free(mail);
        return;
    }
    g_async_queue_push(box->queue, mail);
}

/* TRUE if the asker has been told that there was no answer: doing it now would surprise it. */
static gboolean is_stale(ColoMail *mail)
{
    gboolean stale;

    if (!mail->answer)
        return FALSE;
    g_mutex_lock(&mail->answer->lock);
    stale = mail->answer->given_up;
    g_mutex_unlock(&mail->answer->lock);
    return stale;
}

ColoMail *colo_mailbox_take(ColoMailbox *box, unsigned timeout_ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;

    for (;;) {
        gint64 left = end - g_get_monotonic_time();
        ColoMail *mail = left > 0 ? g_async_queue_timeout_pop(box->queue, (guint64)left)
                                  : g_async_queue_try_pop(box->queue);

        if (!mail || !is_stale(mail))
            return mail;
        colo_mail_free(mail);
    }
}

JsonObject *colo_mailbox_ask(ColoMailbox *box, ColoMailKind kind, const char *name,
                             JsonObject *body, unsigned timeout_ms, GError **error)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    ColoMail *mail = colo_mail_new(kind, name, body);
    ColoAnswer *answer = answer_new();
    JsonObject *result = NULL;

    g_atomic_ref_count_inc(&answer->refs);
    mail->answer = answer;
    colo_mailbox_post(box, mail);
    g_mutex_lock(&answer->lock);
    while (!answer->done && g_cond_wait_until(&answer->done_cond, &answer->lock, end))
        ;
    answer->given_up = !answer->done;
    if (!answer->done)
        g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                    "%s: the domain was busy for %u ms; it is not done unless it had begun: see "
                    "'virsh-colo colo-status' and try again",
                    name, timeout_ms);
    else if (answer->error)
        g_propagate_error(error, g_error_copy(answer->error));
    else
        result = g_steal_pointer(&answer->result);
    g_mutex_unlock(&answer->lock);
    answer_unref(answer);
    return result;
}
