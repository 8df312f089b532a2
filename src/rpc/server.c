/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "rpc/server-private.h"

#include "rpc/closed.h"
#include "rpc/message.h"
#include "util/error.h"
#include "util/log.h"
#include "util/source.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Milliseconds without accept(2) after it failed for want of descriptors or memory. */
#define ACCEPT_PAUSE_MS 200
/* Supplementary groups of a caller that are looked at: the kernel's NGROUPS_MAX. */
#define MAX_GROUPS 65536

static void watch_listener(ColoRpcListener *listener);

void colo_rpc_server_count(ColoRpcServer *server, uint64_t *counter)
{
    g_mutex_lock(&server->lock);
    ++*counter;
    g_mutex_unlock(&server->lock);
}

void colo_rpc_server_post(ColoRpcServer *server, GSourceFunc func, void *data,
                          GDestroyNotify notify)
{
    g_autoptr(GSource) source = g_idle_source_new();

    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, func, data, notify);
    g_source_attach(source, server->context);
}

/* TRUE when the peer of @fd has @group as primary or supplementary group. */
static gboolean peer_in_group(int fd, const ColoRpcCaller *caller, gid_t group)
{
    socklen_t size = 64 * sizeof(gid_t);
    g_autofree gid_t *groups = g_malloc(size);

    if (caller->gid == group)
        return TRUE;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0) {
        if (errno != ERANGE || size > MAX_GROUPS * sizeof(gid_t))
            return FALSE;
        groups = g_realloc(groups, size);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
            return FALSE;
    }
    for (size_t i = 0; i < size / sizeof(gid_t); i++) {
        if (groups[i] == group)
            return TRUE;
    }
    return FALSE;
}

static gboolean may_connect(const ColoRpcListener *listener, int fd, ColoRpcCaller *caller)
{
    ColoRpcServer *server = listener->server;
    struct ucred cred;
    socklen_t len = sizeof(cred);
    gint64 group;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
        colo_rpc_log_stranger_closed("client without credentials", "%s", g_strerror(errno));
        return FALSE;
    }
    *caller = (ColoRpcCaller){
        .pid = cred.pid, .uid = cred.uid, .gid = cred.gid, .readonly = listener->readonly};
    if (cred.uid != 0 && cred.uid != geteuid()) {
        caller->polkit = g_atomic_int_get(&listener->polkit);
        caller->looks = caller->readonly || caller->polkit || g_atomic_int_get(&server->judged);
    } else {
        caller->looks = caller->readonly;
    }
    if (listener->readonly || caller->polkit)
        return TRUE;
    g_mutex_lock(&server->lock);
    group = server->group;
    g_mutex_unlock(&server->lock);
    if (cred.uid == 0 || cred.uid == geteuid() ||
        (group >= 0 && peer_in_group(fd, caller, (gid_t)group)))
        return TRUE;
    colo_rpc_log_closed(caller, "not root and not in the group that may connect");
    return FALSE;
}

static gboolean accept_again(gpointer data)
{
    watch_listener(data);
    return G_SOURCE_REMOVE;
}

static gboolean on_listener(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    ColoRpcListener *listener = data;
    ColoRpcServer *server = listener->server;
    int sock = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ColoRpcCaller caller;

    if (sock < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return G_SOURCE_CONTINUE;
        colo_err("cannot accept a client: %s", g_strerror(errno));
        g_autoptr(GSource) timer = g_timeout_source_new(ACCEPT_PAUSE_MS);
        g_source_set_callback(timer, accept_again, listener, NULL);
        g_source_attach(timer, server->context);
        g_clear_pointer(&listener->source, g_source_unref);
        return G_SOURCE_REMOVE;
    }
    if (!may_connect(listener, sock, &caller)) {
        colo_rpc_server_count(server, &server->stats.refused_auth);
        close(sock);
    } else if (server->clients->len >= COLO_RPC_MAX_CLIENTS ||
               (caller.readonly && server->n_readonly >= COLO_RPC_MAX_RO_CLIENTS)) {
        colo_rpc_log_closed(&caller, "%d are connected, the limit",
                            caller.readonly ? COLO_RPC_MAX_RO_CLIENTS : COLO_RPC_MAX_CLIENTS);
        colo_rpc_server_count(server, &server->stats.refused_limit);
        close(sock);
    } else {
        colo_rpc_server_count(server, &server->stats.accepted);
        g_ptr_array_add(server->clients, colo_rpc_client_new(server, sock, &caller));
    }
    return G_SOURCE_CONTINUE;
}

static void watch_listener(ColoRpcListener *listener)
{
    listener->source =
        colo_source_watch(listener->server->context, listener->fd, G_IO_IN, on_listener, listener);
}

static gboolean start_listener(ColoRpcServer *server, int fd, gboolean readonly, GError **error)
{
    ColoRpcListener *listener = &server->listeners[readonly];

    listener->fd = fd;
    if (!g_unix_set_fd_nonblocking(fd, TRUE, error)) {
        g_prefix_error(error, "listening socket: ");
        return FALSE;
    }
    watch_listener(listener);
    return TRUE;
}

static gpointer io_thread(gpointer data)
{
    ColoRpcServer *server = data;

    g_main_context_push_thread_default(server->context);
    g_main_loop_run(server->loop);
    g_main_context_pop_thread_default(server->context);
    return NULL;
}

ColoRpcServer *colo_rpc_server_new(int listen_fd, ColoRpcDispatch dispatch, void *opaque,
                                   GError **error)
{
    g_autoptr(ColoRpcServer) server = g_new0(ColoRpcServer, 1);

    g_mutex_init(&server->lock);
    for (int i = 0; i < 2; i++)
        server->listeners[i] = (ColoRpcListener){.server = server, .fd = -1, .readonly = i == 1};
    server->dispatch = dispatch;
    server->opaque = opaque;
    server->group = -1;
    server->context = g_main_context_new();
    server->loop = g_main_loop_new(server->context, FALSE);
    server->clients = g_ptr_array_new_with_free_func((GDestroyNotify)colo_rpc_client_unref);
    if (!start_listener(server, listen_fd, FALSE, error))
        return NULL;
    server->workers =
        g_thread_pool_new(colo_rpc_request_run, server, COLO_RPC_WORKERS, FALSE, error);
    if (!server->workers)
        return NULL;
    server->lookers =
        g_thread_pool_new(colo_rpc_request_run, server, COLO_RPC_LOOKERS, FALSE, error);
    if (!server->lookers)
        return NULL;
    server->thread = g_thread_try_new("rpc-io", io_thread, server, error);
    if (!server->thread)
        return NULL;
    return g_steal_pointer(&server);
}

void colo_rpc_server_set_polkit(ColoRpcServer *server, gboolean readonly)
{
    g_atomic_int_set(&server->listeners[readonly].polkit, TRUE);
}

void colo_rpc_server_set_judged(ColoRpcServer *server)
{
    g_atomic_int_set(&server->judged, TRUE);
}

gboolean colo_rpc_server_add_readonly(ColoRpcServer *server, int listen_fd, GError **error)
{
    return start_listener(server, listen_fd, TRUE, error);
}

typedef struct {
    ColoRpcServer *server;
    char **upstreams;
    const ColoRelayDriver *driver;
} RelayTo;

static void relay_to_free(gpointer data)
{
    RelayTo *to = data;

    g_strfreev(to->upstreams);
    g_free(to);
}

static gboolean relay_on_io_thread(gpointer data)
{
    RelayTo *to = data;

    if (!to->server->relay)
        g_atomic_pointer_set(
            &to->server->relay,
            colo_relay_new(to->server->context, (const char *const *)to->upstreams, to->driver));
    return G_SOURCE_REMOVE;
}

void colo_rpc_server_relay_to(ColoRpcServer *server, const char *const *upstreams,
                              const ColoRelayDriver *driver)
{
    RelayTo *to = g_new(RelayTo, 1);

    *to = (RelayTo){.server = server, .upstreams = g_strdupv((char **)upstreams), .driver = driver};
    colo_rpc_server_post(server, relay_on_io_thread, to, relay_to_free);
}

typedef struct {
    ColoRpcServer *server;
    int fd;
    ColoRpcCaller caller;
} Adoption;

static void adoption_free(gpointer data)
{
    Adoption *adoption = data;

    if (adoption->fd >= 0)
        close(adoption->fd);
    g_free(adoption);
}

static gboolean adopt_on_io_thread(gpointer data)
{
    Adoption *adoption = data;

    if (adoption->server->relay) {
        colo_relay_adopt(adoption->server->relay, adoption->fd, &adoption->caller, NULL, 0);
        adoption->fd = -1;
    }
    return G_SOURCE_REMOVE;
}

void colo_rpc_server_adopt(ColoRpcServer *server, int fd, const ColoRpcCaller *caller)
{
    Adoption *adoption = g_new(Adoption, 1);

    *adoption = (Adoption){.server = server, .fd = fd, .caller = *caller};
    colo_rpc_server_post(server, adopt_on_io_thread, adoption, adoption_free);
}

void colo_rpc_server_set_may_run(ColoRpcServer *server, ColoRpcMayRun func, void *opaque)
{
    g_mutex_lock(&server->lock);
    server->may_run = func;
    server->may_run_opaque = opaque;
    g_mutex_unlock(&server->lock);
}

gboolean colo_rpc_server_set_group(ColoRpcServer *server, const char *group, GError **error)
{
    gint64 gid = -1;

    if (group) {
        char buffer[16384];
        struct group entry, *found = NULL;

        if (getgrnam_r(group, &entry, buffer, sizeof(buffer), &found) != 0 || !found) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "there is no group '%s' that could use the management socket", group);
            return FALSE;
        }
        gid = entry.gr_gid;
    }
    g_mutex_lock(&server->lock);
    server->group = gid;
    g_mutex_unlock(&server->lock);
    return TRUE;
}

typedef struct {
    ColoRpcServer *server;
    GBytes *frame;
} Emission;

static void emission_free(gpointer data)
{
    Emission *emission = data;

    g_bytes_unref(emission->frame);
    g_free(emission);
}

static gboolean emit_on_io_thread(gpointer data)
{
    const Emission *emission = data;
    GPtrArray *clients = emission->server->clients;

    /* Backwards: a client that is closed for its full queue leaves the array. */
    for (guint i = clients->len; i-- > 0;) {
        ColoRpcClient *client = g_ptr_array_index(clients, i);

        if (client->subscribed)
            colo_rpc_client_send(client, emission->frame);
    }
    return G_SOURCE_REMOVE;
}

void colo_rpc_server_emit(ColoRpcServer *server, JsonObject *event)
{
    ColoRpcHeader header = {
        .program = COLO_RPC_PROGRAM,
        .version = COLO_RPC_VERSION,
        .procedure = COLO_RPC_PROC_EVENT,
        .type = COLO_RPC_MESSAGE,
        .status = COLO_RPC_OK,
    };
    g_autofree char *text = colo_json_to_string(event);
    struct colo_rpc_event_msg body = {
        .event = {.event_len = (u_int)strlen(text), .event_val = text}};
    g_autoptr(GError) error = NULL;
    GBytes *frame;
    Emission *emission;

    frame = colo_rpc_message_build(&header, (xdrproc_t)xdr_colo_rpc_event_msg, &body, &error);
    if (!frame) {
        colo_err("event not sent: %s", error->message);
        return;
    }
    emission = g_new(Emission, 1);
    *emission = (Emission){.server = server, .frame = frame};
    colo_rpc_server_post(server, emit_on_io_thread, emission, emission_free);
}

void colo_rpc_server_get_stats(ColoRpcServer *server, ColoRpcServerStats *stats)
{
    const ColoRelay *relay;

    g_mutex_lock(&server->lock);
    *stats = server->stats;
    g_mutex_unlock(&server->lock);
    relay = g_atomic_pointer_get(&server->relay);
    stats->relayed = relay ? colo_relay_n_clients(relay) : 0;
}

static gboolean quit_loop(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

void colo_rpc_server_free(ColoRpcServer *server)
{
    if (!server)
        return;
    g_atomic_int_set(&server->stopping, 1);
    if (server->thread) {
        colo_rpc_server_post(server, quit_loop, server->loop, NULL);
        g_thread_join(server->thread);
    }
    /* The I/O thread is gone: from here on this thread is the only one besides the workers, and
     * what they still post is dropped with the context. */
    if (server->workers)
        g_thread_pool_free(server->workers, FALSE, TRUE);
    if (server->lookers)
        g_thread_pool_free(server->lookers, FALSE, TRUE);
    for (int i = 0; i < 2; i++) {
        ColoRpcListener *listener = &server->listeners[i];

        colo_source_drop(&listener->source);
        if (listener->fd >= 0)
            close(listener->fd);
    }
    while (server->clients->len > 0)
        colo_rpc_client_close(g_ptr_array_index(server->clients, server->clients->len - 1));
    colo_relay_free(server->relay);
    g_ptr_array_unref(server->clients);
    g_main_loop_unref(server->loop);
    g_main_context_unref(server->context);
    g_mutex_clear(&server->lock);
    g_free(server);
}
