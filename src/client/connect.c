/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "client/client-private.h"

#include "rpc/command-table.h"
#include "util/error.h"
#include "util/json.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET RUNSTATEDIR "/libvirt/virtcolod-sock"
#define CLIENT_NAME "libvirt-colo " PACKAGE_VERSION
#define READ_CHUNK (64u * 1024u)

/* The socket path that @uri (may be NULL) names, to be freed; NULL with @error. */
static char *socket_of_uri(const char *uri, GError **error)
{
    const char *path = secure_getenv("COLO_SOCKET");
    g_autoptr(GUri) parsed = NULL;
    g_autoptr(GHashTable) params = NULL;

    if (uri && *uri) {
        parsed = g_uri_parse(uri, G_URI_FLAGS_NONE, NULL);
        if (!parsed || strcmp(g_uri_get_scheme(parsed), "colo") != 0 ||
            (g_uri_get_host(parsed) && *g_uri_get_host(parsed)) ||
            strcmp(g_uri_get_path(parsed), "/system") != 0) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        _("URI '%s' is not colo:///system or colo:///system?socket=PATH"), uri);
            return NULL;
        }
        if (g_uri_get_query(parsed))
            params = g_uri_parse_params(g_uri_get_query(parsed), -1, "&", G_URI_PARAMS_NONE, NULL);
        if (params && g_hash_table_contains(params, "socket"))
            path = g_hash_table_lookup(params, "socket");
    }
    if (!path || !*path)
        path = DEFAULT_SOCKET;
    if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, _("socket path '%s' is too long"),
                    path);
        return NULL;
    }
    return g_strdup(path);
}

static int connect_socket(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    g_set_error(error, COLO_ERROR, errno == EACCES ? COLO_ERROR_AUTH : COLO_ERROR_PEER,
                _("Failed to connect socket to '%s': %s"), path, g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static gboolean write_all(ColoConnect *conn, GBytes *frame, GError **error)
{
    size_t size;
    const char *data = g_bytes_get_data(frame, &size);

    while (size > 0) {
        ssize_t n = send(conn->fd, data, size, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            conn->broken = TRUE;
            g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, _("Cannot write to virtcolod: %s"),
                        g_strerror(errno));
            return FALSE;
        }
        data += n;
        size -= (size_t)n;
    }
    return TRUE;
}

ColoRpcFrame *colo_client_read_frame(ColoConnect *conn, int timeout_ms, GError **error)
{
    g_autofree char *buffer = NULL;

    for (;;) {
        GError *broken = NULL;
        ColoRpcFrame *frame = colo_rpc_reader_next(conn->reader, &broken);
        struct pollfd waiting = {.fd = conn->fd, .events = POLLIN};
        ssize_t n;

        if (frame || broken) {
            conn->broken = broken ? TRUE : conn->broken;
            if (broken)
                g_propagate_error(error, broken);
            return frame;
        }
        /* Called again with the whole time after part of a frame: a daemon that sends at all
         * sends the rest. */
        n = poll(&waiting, 1, timeout_ms);
        if (n == 0)
            return NULL;
        if (n < 0 && errno == EINTR && timeout_ms >= 0)
            return NULL;
        if (!buffer)
            buffer = g_malloc(READ_CHUNK);
        n = n < 0 ? n : recv(conn->fd, buffer, READ_CHUNK, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            conn->broken = TRUE;
            g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                        _("virtcolod closed the connection: %s"),
                        n < 0 ? g_strerror(errno) : _("end of stream"));
            return NULL;
        }
        colo_rpc_reader_feed(conn->reader, buffer, (size_t)n);
    }
}

/* Checks that @frame answers @call; an error reply is turned into @error. */
static gboolean check_reply(ColoConnect *conn, const ColoRpcHeader *call, const ColoRpcFrame *frame,
                            GError **error)
{
    const ColoRpcHeader *header = &frame->header;

    if (header->program != call->program || header->procedure != call->procedure ||
        header->type != COLO_RPC_REPLY || header->serial != call->serial) {
        conn->broken = TRUE;
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    _("virtcolod answered out of order: program 0x%x, procedure %u, serial %u"),
                    header->program, header->procedure, header->serial);
        return FALSE;
    }
    if (header->status == COLO_RPC_OK)
        return TRUE;
    if (header->version == call->version)
        colo_rpc_error_decode(frame, error);
    else
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_PEER,
                            _("this daemon speaks another version of the protocol"));
    return FALSE;
}

ColoRpcFrame *colo_client_call(ColoConnect *conn, uint32_t procedure, xdrproc_t proc, void *args,
                               GError **error)
{
    ColoRpcHeader call = {
        .program = COLO_RPC_PROGRAM,
        .version = COLO_RPC_VERSION,
        .procedure = procedure,
        .type = COLO_RPC_CALL,
        .serial = ++conn->serial,
        .status = COLO_RPC_OK,
    };
    g_autoptr(GBytes) request = NULL;

    if (conn->broken) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_PEER,
                            _("the connection to virtcolod is lost: open another"));
        return NULL;
    }
    request = colo_rpc_message_build(&call, proc, args, error);
    if (!request || !write_all(conn, request, error))
        return NULL;
    for (;;) {
        g_autoptr(ColoRpcFrame) frame = colo_client_read_frame(conn, -1, error);

        if (!frame)
            return NULL;
        if (colo_client_queue_event(conn, frame))
            continue;
        return check_reply(conn, &call, frame, error) ? g_steal_pointer(&frame) : NULL;
    }
}

static gboolean say_hello(ColoConnect *conn, GError **error)
{
    struct colo_rpc_hello_args args = {.protocol = COLO_RPC_VERSION, .client = (char *)CLIENT_NAME};
    struct colo_rpc_hello_ret ret;
    g_autoptr(ColoRpcFrame) frame = NULL;
    gboolean ok;

    frame = colo_client_call(conn, COLO_RPC_PROC_HELLO, (xdrproc_t)xdr_colo_rpc_hello_args, &args,
                             error);
    if (!frame)
        return FALSE;
    ok =
        colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_hello_ret, &ret, sizeof(ret), error);
    if (ok) {
        conn->server = g_strdup(ret.server);
        conn->features = ret.features;
    }
    xdr_free((xdrproc_t)xdr_colo_rpc_hello_ret, (char *)&ret);
    return ok;
}

ColoConnect *colo_connect_open(const char *uri, ColoError *error)
{
    g_autofree char *path = NULL;
    GError *failure = NULL;
    ColoConnect *conn;
    int fd = -1;

    bindtextdomain(GETTEXT_PACKAGE, LOCALEDIR);
    path = socket_of_uri(uri, &failure);
    if (path)
        fd = connect_socket(path, &failure);
    if (fd < 0) {
        colo_client_set_error(error, failure);
        return NULL;
    }
    conn = g_new0(ColoConnect, 1);
    conn->fd = fd;
    conn->reader = colo_rpc_reader_new(colo_rpc_own_frame_limit);
    g_queue_init(&conn->events);
    if (!say_hello(conn, &failure)) {
        /* The server closes what may not connect, without an answer. */
        if (conn->broken && failure->code == COLO_ERROR_PEER) {
            g_autoptr(GError) closed = g_steal_pointer(&failure);

            failure = g_error_new(COLO_ERROR, COLO_ERROR_AUTH,
                                  _("virtcolod at '%s' refused: be root or in its group (%s)"),
                                  path, closed->message);
        }
        colo_client_set_error(error, failure);
        colo_connect_close(conn);
        return NULL;
    }
    return conn;
}

void colo_connect_close(ColoConnect *conn)
{
    if (!conn)
        return;
    close(conn->fd);
    colo_rpc_reader_free(conn->reader);
    g_queue_clear_full(&conn->events, g_free);
    g_free(conn->server);
    g_free(conn);
}

const char *colo_connect_get_server(ColoConnect *conn)
{
    return conn->server;
}

JsonObject *colo_client_command(ColoConnect *conn, const char *name, JsonObject *args,
                                GError **error)
{
    g_autofree char *text = args ? colo_json_to_string(args) : NULL;
    struct colo_rpc_command_args call = {.name = (char *)name};
    struct colo_rpc_command_ret ret;
    g_autoptr(ColoRpcFrame) frame = NULL;
    JsonObject *result = NULL;

    if (!colo_command_validate(name, args, error))
        return NULL;
    if (text) {
        call.args.args_val = text;
        call.args.args_len = (u_int)strlen(text);
    }
    frame = colo_client_call(conn, COLO_RPC_PROC_COMMAND, (xdrproc_t)xdr_colo_rpc_command_args,
                             &call, error);
    if (!frame)
        return NULL;
    if (colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_command_ret, &ret, sizeof(ret),
                                error))
        result = colo_json_parse(ret.result.result_val, ret.result.result_len, error);
    xdr_free((xdrproc_t)xdr_colo_rpc_command_ret, (char *)&ret);
    return result;
}

int colo_connect_command(ColoConnect *conn, const char *name, const char *args, char **result,
                         ColoError *error)
{
    g_autoptr(JsonObject) json = NULL;
    g_autoptr(JsonObject) answer = NULL;
    GError *failure = NULL;

    if (args)
        json = colo_json_parse(args, strlen(args), &failure);
    if (!failure)
        answer = colo_client_command(conn, name, json, &failure);
    if (!answer) {
        colo_client_set_error(error, failure);
        return -1;
    }
    if (result) {
        g_autofree char *text = colo_json_to_string(answer);

        *result = strdup(text);
    }
    return 0;
}
