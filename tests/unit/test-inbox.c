/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Letters between threads: each sender's order is kept, none is lost or comes twice, and those that
 * wait are bounded. */
#include "comparator/inbox.h"

#include <glib.h>

#define SENDERS 4
#define LETTERS 20000u

typedef struct {
    ColoLoop *loop;
    ColoInbox *inbox;
    unsigned next[SENDERS]; /* the number that each must bring */
    unsigned total;
} Reader;

typedef struct {
    ColoLetter letter;
    Reader *reader;
    unsigned sender, number;
} Numbered;

static void deliver(ColoLetter *letter)
{
    Numbered *numbered = (Numbered *)letter;
    Reader *reader = numbered->reader;

    g_assert_cmpuint(numbered->number, ==, reader->next[numbered->sender]);
    reader->next[numbered->sender]++;
    if (++reader->total == SENDERS * LETTERS)
        colo_loop_quit(reader->loop);
    g_free(numbered);
}

static Numbered *letter_of(Reader *reader, unsigned sender, unsigned number)
{
    Numbered *numbered = g_new0(Numbered, 1);

    *numbered = (Numbered){{NULL, deliver}, reader, sender, number};
    return numbered;
}

typedef struct {
    Reader *reader;
    unsigned number;
} Sender;

static gpointer send_all(gpointer opaque)
{
    Sender *sender = opaque;

    for (unsigned i = 0; i < LETTERS; i++) {
        Numbered *numbered = letter_of(sender->reader, sender->number, i);

        /* Both ways of posting keep one order. */
        if (i % 2 || !colo_inbox_post(sender->reader->inbox, &numbered->letter))
            colo_inbox_answer(sender->reader->inbox, &numbered->letter);
    }
    return NULL;
}

static void test_order(void)
{
    Reader reader = {.loop = colo_loop_new()};
    Sender senders[SENDERS];
    GThread *threads[SENDERS];

    reader.inbox = colo_inbox_new(reader.loop);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (Sender){&reader, i};
        threads[i] = g_thread_new("sender", send_all, &senders[i]);
    }
    colo_loop_run(reader.loop);
    for (unsigned i = 0; i < SENDERS; i++) {
        g_thread_join(threads[i]);
        g_assert_cmpuint(reader.next[i], ==, LETTERS);
    }
    colo_inbox_free(reader.inbox);
    colo_loop_free(reader.loop);
}

static void test_i8_bound(void)
{
    Reader reader = {.loop = colo_loop_new()};
    Numbered *more;

    reader.inbox = colo_inbox_new(reader.loop);
    for (unsigned i = 0; i < COLO_INBOX_MAX; i++)
        g_assert_true(colo_inbox_post(reader.inbox, &letter_of(&reader, 0, i)->letter));
    more = letter_of(&reader, 0, COLO_INBOX_MAX);
    g_assert_false(colo_inbox_post(reader.inbox, &more->letter));
    colo_inbox_answer(reader.inbox, &more->letter);
    colo_inbox_deliver(reader.inbox);
    g_assert_cmpuint(reader.next[0], ==, COLO_INBOX_MAX + 1);
    more = letter_of(&reader, 0, COLO_INBOX_MAX + 1);
    g_assert_true(colo_inbox_post(reader.inbox, &more->letter));
    colo_inbox_deliver(reader.inbox);
    g_assert_cmpuint(reader.next[0], ==, COLO_INBOX_MAX + 2);
    colo_inbox_free(reader.inbox);
    colo_loop_free(reader.loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/inbox/order", test_order);
    g_test_add_func("/inbox/I8/bound", test_i8_bound);
    return g_test_run();
}
