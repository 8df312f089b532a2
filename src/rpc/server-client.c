/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/server-private.h"

#include "rpc/closed.h"
#include "rpc/message.h"
#include "util/bytes.h"
#include "util/source.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* In so many seconds a client says which program it wants, and a frame of ours comes whole. */
#define FRAME_S 30u

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data);

ColoRpcClient *colo_rpc_client_ref(ColoRpcClient *client)
{
    return g_atomic_rc_box_acquire(client);
}

static void client_clear(gpointer data)
{
    ColoRpcClient *client = data;

    g_queue_clear_full(&client->output, (GDestroyNotify)g_bytes_unref);
    colo_rpc_reader_free(client->reader);
}

void colo_rpc_client_unref(ColoRpcClient *client)
{
    g_atomic_rc_box_release_full(client, client_clear);
}

static void watch_input(ColoRpcClient *client)
{
    client->in = colo_source_watch(client->server->context, client->fd,
                                   G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, client);
}

static gboolean on_deadline(gpointer data)
{
    g_autoptr(ColoRpcClient) client = colo_rpc_client_ref(data);

    colo_rpc_log_closed(&client->caller, "it has not said a whole frame in %u s", FRAME_S);
    colo_rpc_server_count(client->server, &client->server->stats.malformed);
    colo_rpc_client_close(client);
    return G_SOURCE_REMOVE;
}

/* Few may connect: who says nothing, or not all of it, does not keep others out. */
static void watch_time(ColoRpcClient *client)
{
    size_t pending;

    (void)colo_rpc_reader_pending(client->reader, &pending);
    if (client->fd < 0 || !client->in || (client->said && pending == 0)) {
        colo_source_drop(&client->deadline);
    } else if (!client->deadline) {
        client->deadline = g_timeout_source_new_seconds(FRAME_S);
        g_source_set_callback(client->deadline, on_deadline, client, NULL);
        g_source_attach(client->deadline, client->server->context);
    }
}

ColoRpcClient *colo_rpc_client_new(ColoRpcServer *server, int fd, const ColoRpcCaller *caller)
{
    ColoRpcClient *client = g_atomic_rc_box_new0(ColoRpcClient);

    client->server = server;
    client->fd = fd;
    client->caller = *caller;
    client->reader = colo_rpc_reader_new(colo_rpc_own_frame_limit);
    g_queue_init(&client->output);
    watch_input(client);
    watch_time(client);
    server->n_readonly += caller->readonly;
    g_mutex_lock(&server->lock);
    server->stats.clients++;
    g_mutex_unlock(&server->lock);
    return client;
}

void colo_rpc_client_close(ColoRpcClient *client)
{
    ColoRpcServer *server = client->server;

    if (client->fd < 0)
        return;
    colo_source_drop(&client->in);
    colo_source_drop(&client->out);
    colo_source_drop(&client->deadline);
    close(client->fd);
    client->fd = -1;
    server->n_readonly -= client->caller.readonly;
    g_mutex_lock(&server->lock);
    server->stats.clients--;
    g_mutex_unlock(&server->lock);
    g_ptr_array_remove_fast(server->clients, client);
}

/* Writes queued bytes until the socket takes no more. FALSE: the connection failed. */
static gboolean flush(ColoRpcClient *client)
{
    GBytes *head;

    while ((head = g_queue_peek_head(&client->output))) {
        size_t size;
        const uint8_t *data = g_bytes_get_data(head, &size);
        ssize_t n =
            send(client->fd, data + client->sent, size - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        client->sent += (size_t)n;
        client->queued -= (size_t)n;
        if (client->sent == size) {
            g_bytes_unref(g_queue_pop_head(&client->output));
            client->sent = 0;
        }
    }
    return TRUE;
}

static gboolean on_writable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                            gpointer data)
{
    g_autoptr(ColoRpcClient) client = colo_rpc_client_ref(data);

    if (!flush(client)) {
        colo_rpc_client_close(client);
        return G_SOURCE_REMOVE;
    }
    if (client->queued > 0)
        return G_SOURCE_CONTINUE;
    g_clear_pointer(&client->out, g_source_unref);
    return G_SOURCE_REMOVE;
}

void colo_rpc_client_send(ColoRpcClient *client, GBytes *frame)
{
    ColoRpcServer *server = client->server;

    if (client->fd < 0)
        return;
    if (client->queued + g_bytes_get_size(frame) > COLO_RPC_MAX_OUTPUT) {
        colo_rpc_log_closed(&client->caller, "it does not read, %zu bytes wait", client->queued);
        colo_rpc_server_count(server, &server->stats.slow);
        colo_rpc_client_close(client);
        return;
    }
    client->queued += g_bytes_get_size(frame);
    g_queue_push_tail(&client->output, g_bytes_ref(frame));
    if (client->out)
        return;
    if (!flush(client)) {
        colo_rpc_client_close(client);
    } else if (client->queued > 0) {
        client->out = colo_source_watch(server->context, client->fd, G_IO_OUT | G_IO_HUP | G_IO_ERR,
                                        on_writable, client);
    }
}

/* It has begun with another program: the relay has the connection from here on. */
static void hand_over(ColoRpcClient *client, const uint8_t *data, size_t len)
{
    int fd = client->fd;

    colo_source_drop(&client->in);
    colo_relay_adopt(client->server->relay, dup(fd), &client->caller, data, len);
    colo_rpc_client_close(client);
}

/* True when that has happened, or cannot be told yet. */
static gboolean is_others(ColoRpcClient *client)
{
    size_t len;
    const uint8_t *data = colo_rpc_reader_pending(client->reader, &len);

    if (client->ours || !client->server->relay)
        return FALSE;
    if (len < 2 * COLO_RPC_LENGTH_BYTES)
        return TRUE;
    client->ours = colo_get32(data + COLO_RPC_LENGTH_BYTES) == COLO_RPC_PROGRAM;
    if (!client->ours)
        hand_over(client, data, len);
    return !client->ours;
}

static void close_malformed(ColoRpcClient *client, const GError *error)
{
    colo_rpc_log_closed(&client->caller, "%s", error->message);
    colo_rpc_server_count(client->server, &client->server->stats.malformed);
    colo_rpc_client_close(client);
}

void colo_rpc_client_process(ColoRpcClient *client)
{
    g_autoptr(ColoRpcClient) hold = colo_rpc_client_ref(client);
    g_autoptr(GError) error = NULL;

    while (client->fd >= 0 && client->pending < COLO_RPC_MAX_PENDING) {
        g_autoptr(ColoRpcFrame) frame = colo_rpc_reader_next(client->reader, &error);

        if (!frame)
            break;
        client->said = TRUE;
        colo_source_drop(&client->deadline);
        if (!colo_rpc_request_handle(client, frame, &error))
            break;
    }
    if (client->fd < 0)
        return;
    if (error) {
        close_malformed(client, error);
    } else if (client->pending >= COLO_RPC_MAX_PENDING) {
        colo_source_drop(&client->in);
    } else if (!client->in) {
        watch_input(client);
    }
    watch_time(client);
}

static gboolean on_readable(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    g_autoptr(ColoRpcClient) client = colo_rpc_client_ref(data);
    uint8_t buffer[COLO_RPC_READ_CHUNK];
    ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        colo_rpc_client_close(client);
        return G_SOURCE_REMOVE;
    }
    colo_rpc_reader_feed(client->reader, buffer, (size_t)n);
    if (!is_others(client))
        colo_rpc_client_process(client);
    /* Destroyed by process(), the source is not run again whatever is returned. */
    return G_SOURCE_CONTINUE;
}
