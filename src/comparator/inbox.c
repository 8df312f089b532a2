/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/inbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct ColoInbox {
    ColoLoop *loop;
    ColoSource source;
    pthread_mutex_t lock; /* of what is below; held for some instructions only */
    ColoLetter *first, **end;
    unsigned waiting;
};

static void ready(void *opaque, uint32_t events)
{
    (void)events;
    colo_inbox_deliver(opaque);
}

/* The descriptor is watched edge-triggered, so it need not be read: each write is an edge. */
ColoInbox *colo_inbox_new(ColoLoop *loop)
{
    ColoInbox *inbox = calloc(1, sizeof(*inbox));
    int fd = inbox ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;

    if (fd < 0) {
        free(inbox);
        return NULL;
    }
    pthread_mutex_init(&inbox->lock, NULL);
    inbox->loop = loop;
    inbox->end = &inbox->first;
    inbox->source = (ColoSource){.ready = ready, .opaque = inbox};
    colo_loop_add(loop, &inbox->source, fd, EPOLLIN | (uint32_t)EPOLLET);
    return inbox;
}

/* #syscalls write */
static bool append(ColoInbox *inbox, ColoLetter *letter, unsigned max)
{
    const uint64_t one = 1;
    bool fits, wake;

    pthread_mutex_lock(&inbox->lock);
    fits = inbox->waiting < max;
    wake = fits && !inbox->first;
    if (fits) {
        letter->next = NULL;
        *inbox->end = letter;
        inbox->end = &letter->next;
        inbox->waiting++;
    }
    pthread_mutex_unlock(&inbox->lock);
    /* Fails only at 2^64 - 1, which no process lives to see. */
    if (wake && write(inbox->source.fd, &one, sizeof(one)) < 0)
        return fits;
    return fits;
}

bool colo_inbox_post(ColoInbox *inbox, ColoLetter *letter)
{
    return append(inbox, letter, COLO_INBOX_MAX);
}

void colo_inbox_answer(ColoInbox *inbox, ColoLetter *letter)
{
    (void)append(inbox, letter, UINT32_MAX);
}

void colo_inbox_deliver(ColoInbox *inbox)
{
    ColoLetter *letter;

    pthread_mutex_lock(&inbox->lock);
    letter = inbox->first;
    inbox->first = NULL;
    inbox->end = &inbox->first;
    inbox->waiting = 0;
    pthread_mutex_unlock(&inbox->lock);
    while (letter) {
        ColoLetter *next = letter->next;

        letter->deliver(letter);
        letter = next;
    }
}

void colo_inbox_free(ColoInbox *inbox)
{
    int fd;

    if (!inbox)
        return;
    fd = inbox->source.fd;
    colo_loop_remove(inbox->loop, &inbox->source);
    close(fd);
    pthread_mutex_destroy(&inbox->lock);
    free(inbox);
}
