/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Letters from any thread to the thread of one loop, delivered there in the order of posting, each
 * sender's in the order in which it posted them. Never on the path of a packet.
 */
#pragma once

#include "comparator/loop.h"

#include <stdbool.h>

/* Letters that may wait: a thread behind by so many does not keep up. */
#define COLO_INBOX_MAX 1024u

typedef struct ColoInbox ColoInbox;

/* Lies at the front of what is sent. */
typedef struct ColoLetter {
    struct ColoLetter *next;
    void (*deliver)(struct ColoLetter *letter); /* on the reader's thread; the letter is its own */
} ColoLetter;

/* @loop is the reader's. NULL with errno. */
ColoInbox *colo_inbox_new(ColoLoop *loop);
/* Any thread; never blocks. False: full, the letter is still the caller's. */
bool colo_inbox_post(ColoInbox *inbox, ColoLetter *letter);
/* The same without the bound, for answers: there is one for each request, and those are bounded. */
void colo_inbox_answer(ColoInbox *inbox, ColoLetter *letter);
/* Reader: delivers what has come. The loop does it by itself; this is for its end. */
void colo_inbox_deliver(ColoInbox *inbox);
/* Reader, or when all threads have ended. What was not delivered is lost: deliver before. */
void colo_inbox_free(ColoInbox *inbox);
