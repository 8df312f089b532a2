/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mailbox of an actor: order, answers, askers that give up, and its bound (I8). */
#include "domain/mailbox.h"

#include "util/error.h"

static ColoMail *event(int number)
{
    ColoMail *mail = colo_mail_new(COLO_MAIL_LIFECYCLE, NULL, NULL);

    mail->number = number;
    return mail;
}

static void test_mail_is_taken_in_the_order_it_was_posted(void)
{
    ColoMailbox *box = colo_mailbox_new();

    for (int i = 0; i < 100; i++)
        colo_mailbox_post(box, event(i));
    for (int i = 0; i < 100; i++) {
        g_autoptr(ColoMail) mail = colo_mailbox_take(box, 0);

        g_assert_nonnull(mail);
        g_assert_cmpint(mail->number, ==, i);
    }
    g_assert_null(colo_mailbox_take(box, 0));
    colo_mailbox_free(box);
}

static void test_taking_from_an_empty_box_waits(void)
{
    ColoMailbox *box = colo_mailbox_new();
    gint64 start = g_get_monotonic_time();

    g_assert_null(colo_mailbox_take(box, 50));
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 49 * 1000);
    colo_mailbox_free(box);
}

/* json-c's counts are not atomic: what the sender does with its own must not matter. */
static void test_a_mail_has_a_body_of_its_own(void)
{
    JsonObject *body = colo_json_build("epoch", "u", (uint64_t)7, NULL);
    g_autoptr(ColoMail) mail = colo_mail_new(COLO_MAIL_COMPARATOR, "committed", body);

    colo_json_add(body, "epoch", "u", (uint64_t)8, NULL);
    g_assert_true(mail->body != body);
    json_object_put(body);
    g_assert_cmpuint(colo_json_peek_uint(mail->body, "epoch", 0), ==, 7);
}

/* Takes @count mails and gives each its name and "x" back, or an error, or nothing. */
typedef struct {
    ColoMailbox *box;
    unsigned count;
    gboolean fail, drop;
} Actor;

static gpointer actor_main(gpointer data)
{
    Actor *actor = data;

    for (unsigned i = 0; i < actor->count; i++) {
        g_autoptr(ColoMail) mail = colo_mailbox_take(actor->box, 5000);

        g_assert_nonnull(mail);
        if (actor->drop)
            continue; /* freed without an answer */
        if (actor->fail) {
            g_autoptr(GError) error =
                g_error_new(COLO_ERROR, COLO_ERROR_RESOURCE, "%s: busy", mail->name);

            colo_mail_answer(mail, NULL, error);
        } else {
            colo_mail_answer(mail,
                             colo_json_build("name", "s", mail->name, "x", "u",
                                             colo_json_peek_uint(mail->body, "x", 0), NULL),
                             NULL);
        }
    }
    return NULL;
}

static void test_a_question_gets_its_answer(void)
{
    ColoMailbox *box = colo_mailbox_new();
    Actor actor = {.box = box, .count = 1};
    GThread *thread = g_thread_new("actor", actor_main, &actor);
    g_autoptr(JsonObject) body = colo_json_build("x", "u", (uint64_t)42, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer =
        colo_mailbox_ask(box, COLO_MAIL_COMMAND, "colo-status", body, 5000, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(colo_json_peek_string(answer, "name", NULL), ==, "colo-status");
    g_assert_cmpuint(colo_json_peek_uint(answer, "x", 0), ==, 42);
    g_thread_join(thread);
    colo_mailbox_free(box);
}

static void test_an_error_keeps_its_code_and_message(void)
{
    ColoMailbox *box = colo_mailbox_new();
    Actor actor = {.box = box, .count = 1, .fail = TRUE};
    GThread *thread = g_thread_new("actor", actor_main, &actor);
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_mailbox_ask(box, COLO_MAIL_PEER, "domain-prepare", NULL, 5000, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_RESOURCE);
    g_assert_cmpstr(error->message, ==, "domain-prepare: busy");
    g_thread_join(thread);
    colo_mailbox_free(box);
}

static void test_mail_that_nobody_answered_is_an_error_at_once(void)
{
    ColoMailbox *box = colo_mailbox_new();
    Actor actor = {.box = box, .count = 1, .drop = TRUE};
    GThread *thread = g_thread_new("actor", actor_main, &actor);
    gint64 start = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_mailbox_ask(box, COLO_MAIL_PEER, "domain-state", NULL, 20000, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 10 * G_USEC_PER_SEC);
    g_thread_join(thread);
    colo_mailbox_free(box);
}

typedef struct {
    ColoMailbox *box;
    unsigned timeout_ms;
    GError *error;
} Asker;

static gpointer asker_main(gpointer data)
{
    Asker *asker = data;

    g_assert_null(colo_mailbox_ask(asker->box, COLO_MAIL_COMMAND, "colo-failover", NULL,
                                   asker->timeout_ms, &asker->error));
    return NULL;
}

static void test_freeing_the_box_answers_what_waits(void)
{
    Asker asker = {.box = colo_mailbox_new(), .timeout_ms = 20000};
    GThread *thread = g_thread_new("asker", asker_main, &asker);
    ColoMail *mail = colo_mailbox_take(asker.box, 5000);

    g_assert_nonnull(mail);
    colo_mailbox_post(asker.box, mail); /* waits in the box again */
    colo_mailbox_free(asker.box);
    g_thread_join(thread);
    g_assert_error(asker.error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_error_free(asker.error);
}

/* "No answer in time" and then a failover all the same would be a surprise. */
static void test_a_question_given_up_is_not_acted_on(void)
{
    ColoMailbox *box = colo_mailbox_new();
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_mailbox_ask(box, COLO_MAIL_COMMAND, "colo-failover", NULL, 20, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT);
    colo_mailbox_post(box, event(1));
    g_autoptr(ColoMail) mail = colo_mailbox_take(box, 0);
    g_assert_nonnull(mail);
    g_assert_cmpint(mail->kind, ==, COLO_MAIL_LIFECYCLE);
    colo_mailbox_free(box);
}

/* The actor has it in hand when the asker gives up. */
static void test_an_answer_after_the_asker_left_harms_nobody(void)
{
    Asker asker = {.box = colo_mailbox_new(), .timeout_ms = 1000};
    GThread *thread = g_thread_new("asker", asker_main, &asker);
    ColoMail *mail = colo_mailbox_take(asker.box, 5000);

    g_assert_nonnull(mail);
    g_thread_join(thread);
    g_assert_error(asker.error, COLO_ERROR, COLO_ERROR_TIMEOUT);
    g_error_free(asker.error);
    colo_mail_answer(mail, colo_json_build("late", "b", TRUE, NULL), NULL);
    colo_mail_free(mail);
    colo_mailbox_free(asker.box);
}

static void test_I8_the_helpers_events_do_not_crowd_out_the_rest(void)
{
    ColoMailbox *box = colo_mailbox_new();
    unsigned events = 0, others = 0;
    gboolean quit = FALSE;
    ColoMail *mail;

    for (unsigned i = 0; i < 2 * COLO_MAILBOX_MAX; i++)
        colo_mailbox_post(box, colo_mail_new(COLO_MAIL_COMPARATOR, "kick-done", NULL));
    /* Said once, one of them by the helper itself. */
    colo_mailbox_post(box, colo_mail_new(COLO_MAIL_COMPARATOR, "peer-silent", NULL));
    for (unsigned i = 0; i < 9; i++)
        colo_mailbox_post(box, colo_mail_new(COLO_MAIL_CONTROL_SILENT, NULL, NULL));
    for (unsigned i = 0; i < 2 * COLO_MAILBOX_MAX; i++)
        colo_mailbox_post(box, event(0));
    colo_mailbox_post(box, colo_mail_new(COLO_MAIL_QUIT, NULL, NULL));
    while ((mail = colo_mailbox_take(box, 0))) {
        events += g_strcmp0(mail->name, "kick-done") == 0;
        others +=
            mail->kind == COLO_MAIL_CONTROL_SILENT || g_strcmp0(mail->name, "peer-silent") == 0;
        quit = quit || mail->kind == COLO_MAIL_QUIT;
        colo_mail_free(mail);
    }
    g_assert_cmpuint(events, ==, COLO_MAILBOX_MAX_EVENTS);
    g_assert_cmpuint(others, ==, 10);
    g_assert_true(quit);
    colo_mailbox_free(box);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/mailbox/order", test_mail_is_taken_in_the_order_it_was_posted);
    g_test_add_func("/domain/mailbox/empty", test_taking_from_an_empty_box_waits);
    g_test_add_func("/domain/mailbox/own-body", test_a_mail_has_a_body_of_its_own);
    g_test_add_func("/domain/mailbox/answer", test_a_question_gets_its_answer);
    g_test_add_func("/domain/mailbox/error", test_an_error_keeps_its_code_and_message);
    g_test_add_func("/domain/mailbox/no-answer",
                    test_mail_that_nobody_answered_is_an_error_at_once);
    g_test_add_func("/domain/mailbox/freed", test_freeing_the_box_answers_what_waits);
    g_test_add_func("/domain/mailbox/given-up", test_a_question_given_up_is_not_acted_on);
    g_test_add_func("/domain/mailbox/late-answer",
                    test_an_answer_after_the_asker_left_harms_nobody);
    g_test_add_func("/domain/mailbox/I8-bounded",
                    test_I8_the_helpers_events_do_not_crowd_out_the_rest);
    return g_test_run();
}
