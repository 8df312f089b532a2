/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "relay.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define CHUNK 65536
#define BACKLOG (4u * 1024 * 1024) /* of one direction; then its source is not read */
#define WORD_RECEIVED 5u           /* migration/colo.c, COLOMessage */
#define WORD_LOADED 6u

typedef struct {
    RelayKind kind;
    int fd[2];
    GByteArray *out[2]; /* waits to be written to fd[i] */
    guint8 word[4];     /* of the secondary's return path */
    unsigned have;
} Pair;

struct Relay {
    GMutex lock;
    GThread *thread;
    GPtrArray *pairs;
    int wake[2];
    gint stop, received, loaded;
};

static void pair_free(void *data)
{
    Pair *pair = data;

    for (int i = 0; i < 2; i++) {
        if (pair->fd[i] >= 0)
            close(pair->fd[i]);
        g_byte_array_unref(pair->out[i]);
    }
    g_free(pair);
}

static void count_words(Relay *relay, Pair *pair, const guint8 *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        pair->word[pair->have++] = data[i];
        if (pair->have < sizeof(pair->word))
            continue;
        pair->have = 0;
        if (pair->word[3] == WORD_RECEIVED)
            g_atomic_int_inc(&relay->received);
        else if (pair->word[3] == WORD_LOADED)
            g_atomic_int_inc(&relay->loaded);
    }
}

/* One direction; FALSE when the pair has ended. */
static gboolean carry(Relay *relay, Pair *pair, int from, short events)
{
    guint8 buffer[CHUNK];
    int to = !from;
    ssize_t n;

    if (pair->out[from]->len && (events & POLLOUT)) {
        n = write(pair->fd[from], pair->out[from]->data, pair->out[from]->len);
        if (n < 0 && errno != EAGAIN)
            return FALSE;
        if (n > 0)
            g_byte_array_remove_range(pair->out[from], 0, (guint)n);
    }
    if (!(events & (POLLIN | POLLHUP | POLLERR)))
        return TRUE;
    n = read(pair->fd[from], buffer, sizeof(buffer));
    if (n == 0 || (n < 0 && errno != EAGAIN))
        return FALSE;
    if (n > 0 && pair->kind == RELAY_MIGRATION && from == 1)
        count_words(relay, pair, buffer, (size_t)n);
    if (n > 0 && pair->fd[to] >= 0)
        g_byte_array_append(pair->out[to], buffer, (guint)n);
    return TRUE;
}

static void *run(void *data)
{
    Relay *relay = data;

    while (!g_atomic_int_get(&relay->stop)) {
        g_autoptr(GArray) polls = g_array_new(FALSE, TRUE, sizeof(struct pollfd));
        struct pollfd wake = {.fd = relay->wake[0], .events = POLLIN};
        char byte;

        g_array_append_val(polls, wake);
        g_mutex_lock(&relay->lock);
        for (guint i = 0; i < relay->pairs->len; i++) {
            Pair *pair = relay->pairs->pdata[i];

            for (int k = 0; k < 2; k++) {
                struct pollfd one = {.fd = pair->fd[k]};

                if (pair->out[!k]->len < BACKLOG)
                    one.events |= POLLIN;
                if (pair->out[k]->len)
                    one.events |= POLLOUT;
                g_array_append_val(polls, one);
            }
        }
        g_mutex_unlock(&relay->lock);
        poll((struct pollfd *)(void *)polls->data, polls->len, -1);
        if (g_array_index(polls, struct pollfd, 0).revents && read(relay->wake[0], &byte, 1) == 1)
            continue; /* the pairs may have changed */
        g_mutex_lock(&relay->lock);
        for (guint i = polls->len / 2; i-- > 0;) {
            struct pollfd *p = &g_array_index(polls, struct pollfd, 1 + 2 * i);
            Pair *pair;

            if (i >= relay->pairs->len)
                continue;
            pair = relay->pairs->pdata[i];
            if (pair->fd[0] != p[0].fd || pair->fd[1] != p[1].fd)
                continue;
            if ((p[0].revents && !carry(relay, pair, 0, p[0].revents)) ||
                (p[1].revents && !carry(relay, pair, 1, p[1].revents)))
                g_ptr_array_remove_index(relay->pairs, i);
        }
        g_mutex_unlock(&relay->lock);
    }
    return NULL;
}

Relay *relay_new(void)
{
    Relay *relay = g_new0(Relay, 1);

    g_mutex_init(&relay->lock);
    relay->pairs = g_ptr_array_new_with_free_func(pair_free);
    if (pipe(relay->wake) < 0)
        g_error("pipe: %s", g_strerror(errno));
    relay->thread = g_thread_new("relay", run, relay);
    return relay;
}

static void wake(Relay *relay)
{
    if (write(relay->wake[1], "w", 1) < 0)
        g_error("relay: %s", g_strerror(errno));
}

void relay_free(Relay *relay)
{
    g_atomic_int_set(&relay->stop, 1);
    wake(relay);
    g_thread_join(relay->thread);
    g_ptr_array_unref(relay->pairs);
    close(relay->wake[0]);
    close(relay->wake[1]);
    g_mutex_clear(&relay->lock);
    g_free(relay);
}

void relay_pair(Relay *relay, RelayKind kind, int a, int b)
{
    Pair *pair = g_new0(Pair, 1);

    pair->kind = kind;
    pair->fd[0] = a;
    pair->fd[1] = b;
    pair->out[0] = g_byte_array_new();
    pair->out[1] = g_byte_array_new();
    g_mutex_lock(&relay->lock);
    g_ptr_array_add(relay->pairs, pair);
    g_mutex_unlock(&relay->lock);
    wake(relay);
}

void relay_close(Relay *relay, RelayKind kind)
{
    g_mutex_lock(&relay->lock);
    for (guint i = relay->pairs->len; i-- > 0;) {
        if (((Pair *)relay->pairs->pdata[i])->kind == kind)
            g_ptr_array_remove_index(relay->pairs, i);
    }
    g_mutex_unlock(&relay->lock);
    wake(relay);
}

unsigned relay_received(Relay *relay)
{
    return (unsigned)g_atomic_int_get(&relay->received);
}

unsigned relay_loaded(Relay *relay)
{
    return (unsigned)g_atomic_int_get(&relay->loaded);
}
