/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/judge.h"

#include "rpc/command-table.h"
#include "rpc/remote-calls.h"
#include "rpc/server-private.h"
#include "rpc/xdr-put.h"
#include "util/bytes.h"
#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A person may have to say a password to polkit. */
#define JUDGE_MS 30000u
#define LOOK_MS 100
#define READ_CHUNK 4096u
/* Nothing that libvirt says to these calls is longer. */
#define SAID_MAX (64u * 1024u)
#define AUTH_TYPE_POLKIT 2u /* remote_auth_type */
#define CONNECT_RO 1u       /* VIR_CONNECT_RO */
/* virErrorNumber of libvirt/virterror.h: stable ABI. */
#define ERR_NO_DOMAIN 42u

struct ColoRpcJudge {
    ColoRpcServer *server;
    int fd;
    ColoRpcReader *reader;
    uint32_t serial;
    uint64_t end_ns;
};

static size_t frame_limit(const ColoRpcHeader *header G_GNUC_UNUSED)
{
    return SAID_MAX;
}

gboolean colo_rpc_judge_is_needed(const ColoRpcCaller *caller)
{
    return caller->looks && caller->uid != 0 && caller->uid != geteuid();
}

/* ---- one call ---- */

/* FALSE: the time is over, or the server ends, whose relay does nothing any more. */
static gboolean wait_for(const ColoRpcJudge *judge, short events)
{
    struct pollfd fd = {.fd = judge->fd, .events = events};

    while (!g_atomic_int_get(&judge->server->stopping) && colo_clock_ns() < judge->end_ns) {
        if (poll(&fd, 1, LOOK_MS) == 1)
            return TRUE;
    }
    return FALSE;
}

static gboolean say(ColoRpcJudge *judge, const GByteArray *frame)
{
    size_t sent = 0;

    while (sent < frame->len) {
        ssize_t n = send(judge->fd, frame->data + sent, frame->len - sent, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR && !(errno == EAGAIN && wait_for(judge, POLLOUT)))
            return FALSE;
        sent += n > 0 ? (size_t)n : 0;
    }
    return TRUE;
}

/* The reply to the newest call; NULL: none comes. */
static ColoRpcFrame *hear(ColoRpcJudge *judge)
{
    for (;;) {
        g_autoptr(GError) broken = NULL;
        ColoRpcFrame *frame = colo_rpc_reader_next(judge->reader, &broken);
        uint8_t buffer[READ_CHUNK];
        ssize_t n;

        if (frame && frame->header.type == COLO_RPC_REPLY && frame->header.serial == judge->serial)
            return frame;
        if (frame) { /* an event, or a sign of life */
            colo_rpc_frame_free(frame);
            continue;
        }
        if (broken || !wait_for(judge, POLLIN))
            return NULL;
        n = recv(judge->fd, buffer, sizeof(buffer), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return NULL;
        if (n > 0)
            colo_rpc_reader_feed(judge->reader, buffer, (size_t)n);
    }
}

/* libvirt's words of a reply that is an error: int code, int domain, remote_string message ... */
static void set_denied(GError **error, const ColoRpcFrame *reply)
{
    size_t at = 0;
    uint32_t code = 0, domain;
    g_autofree char *message = NULL;

    if (!colo_remote_get_word(reply, &at, &code) || !colo_remote_get_word(reply, &at, &domain) ||
        !colo_remote_get_optional(reply, &at, SAID_MAX, &message) || !message)
        message = g_strdup("access denied");
    g_set_error_literal(error, COLO_ERROR,
                        code == ERR_NO_DOMAIN ? COLO_ERROR_NO_DOMAIN : COLO_ERROR_AUTH, message);
}

/* Says @frame, freed, with the next serial. NULL with @error: libvirt does not answer. */
static ColoRpcFrame *ask(ColoRpcJudge *judge, GByteArray *frame, GError **error)
{
    g_autoptr(GByteArray) call = frame;
    ColoRpcFrame *reply;

    colo_put32(call->data + COLO_RPC_SERIAL_AT, ++judge->serial);
    reply = say(judge, call) ? hear(judge) : NULL;
    if (!reply)
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH,
                    "libvirt, which says what others than root may hear, does not answer: see the "
                    "log of virtcolod, and 'virsh -c qemu:///system list' as the same user");
    return reply;
}

/* The same for a call that asks for a right. */
static gboolean may(ColoRpcJudge *judge, GByteArray *question, GError **error)
{
    g_autoptr(ColoRpcFrame) reply = ask(judge, question, error);

    if (!reply)
        return FALSE;
    if (!colo_remote_is_denial(reply))
        return TRUE;
    set_denied(error, reply);
    return FALSE;
}

static GByteArray *call_of(uint32_t procedure, GByteArray *body)
{
    const ColoRpcHeader header = {.program = COLO_REMOTE_PROGRAM,
                                  .version = COLO_REMOTE_VERSION,
                                  .procedure = procedure,
                                  .type = COLO_RPC_CALL,
                                  .status = COLO_RPC_OK};
    GByteArray *frame = colo_remote_encode(&header, body ? body->data : NULL, body ? body->len : 0);

    if (body)
        g_byte_array_unref(body);
    return frame;
}

/* The reply of a call that must not fail. */
static ColoRpcFrame *ask_ok(ColoRpcJudge *judge, GByteArray *call, GError **error)
{
    ColoRpcFrame *reply = ask(judge, call, error);

    if (!reply || reply->header.status == COLO_RPC_OK)
        return reply;
    set_denied(error, reply);
    colo_rpc_frame_free(reply);
    return NULL;
}

/* ---- the connection ---- */

/* As libvirt's client library does. */
static gboolean open_connection(ColoRpcJudge *judge, gboolean readonly, GError **error)
{
    g_autoptr(ColoRpcFrame) types = NULL, let_in = NULL, opened = NULL;
    GByteArray *body;
    uint32_t n, type = 0;
    size_t at = 0;

    types = ask_ok(judge, call_of(COLO_REMOTE_PROC_AUTH_LIST, NULL), error);
    if (!types)
        return FALSE;
    if (colo_remote_get_word(types, &at, &n) && n > 0)
        (void)colo_remote_get_word(types, &at, &type);
    if (type == AUTH_TYPE_POLKIT) {
        let_in = ask_ok(judge, call_of(COLO_REMOTE_PROC_AUTH_POLKIT, NULL), error);
        if (!let_in)
            return FALSE;
    }
    body = g_byte_array_new(); /* remote_string name; unsigned int flags */
    colo_xdr_put32(body, 1);
    colo_xdr_put_string(body, "colo:///system");
    colo_xdr_put32(body, readonly ? CONNECT_RO : 0);
    opened = ask_ok(judge, call_of(COLO_REMOTE_PROC_CONNECT_OPEN, body), error);
    return opened != NULL;
}

ColoRpcJudge *colo_rpc_judge_new(ColoRpcServer *server, const ColoRpcCaller *caller, GError **error)
{
    g_autoptr(ColoRpcJudge) judge = g_new0(ColoRpcJudge, 1);
    int pair[2];

    judge->server = server;
    judge->fd = -1;
    judge->reader = colo_rpc_reader_new(frame_limit);
    judge->end_ns = colo_clock_ns() + JUDGE_MS * COLO_NS_PER_MS;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        colo_error_set_errno(error, errno, "no socket to ask libvirt by");
        return NULL;
    }
    judge->fd = pair[0];
    colo_rpc_server_adopt(server, pair[1], caller);
    return open_connection(judge, caller->readonly, error) ? g_steal_pointer(&judge) : NULL;
}

void colo_rpc_judge_free(ColoRpcJudge *judge)
{
    if (!judge)
        return;
    if (judge->fd >= 0)
        close(judge->fd);
    colo_rpc_reader_free(judge->reader);
    g_free(judge);
}

/* ---- judging ---- */

/* The UUID of the domain that libvirt calls so, the caller's. */
static char *uuid_of(ColoRpcJudge *judge, const char *name, GError **error)
{
    g_autoptr(ColoRpcFrame) reply = NULL;
    GByteArray *body;
    ColoRemoteDomain domain;
    size_t at = 0;

    if (g_uuid_string_is_valid(name))
        return g_ascii_strdown(name, -1);
    body = g_byte_array_new();
    colo_xdr_put_string(body, name);
    reply = ask_ok(judge, call_of(COLO_REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME, body), error);
    if (!reply)
        return NULL;
    if (!colo_remote_get_domain(reply, &at, &domain)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "libvirt's answer about domain '%s' cannot be read", name);
        return NULL;
    }
    g_free(domain.name);
    return g_strdup(domain.uuid);
}

static gboolean may_read(ColoRpcJudge *judge, const char *uuid, GError **error)
{
    return may(judge, colo_remote_ask_domain_read(uuid, uuid), error);
}

JsonObject *colo_rpc_judge_command(ColoRpcJudge *judge, const char *command, JsonObject *args,
                                   GError **error)
{
    const char *domain = colo_json_peek_string(args, "domain", NULL);
    g_autoptr(JsonObject) judged = json_object_new_object();
    g_autofree char *uuid = NULL;

    if (colo_command_find(command)->host && !may(judge, colo_remote_ask_connect_write(), error))
        return NULL;
    json_object_object_foreach(args, key, value)
    {
        json_object_object_add(judged, key, json_object_get(value));
    }
    if (domain) {
        uuid = uuid_of(judge, domain, error);
        if (!uuid || !may_read(judge, uuid, error))
            return NULL;
        colo_json_add(judged, "domain", "s", uuid, NULL);
    }
    return g_steal_pointer(&judged);
}

void colo_rpc_judge_result(ColoRpcJudge *judge, JsonObject *result)
{
    JsonObject *rows = colo_json_peek(result, "domains");

    if (!rows || !json_object_is_type(rows, json_type_array))
        return;
    for (size_t i = json_object_array_length(rows); i-- > 0;) {
        JsonObject *row = json_object_array_get_idx(rows, i);

        if (!may_read(judge, colo_json_peek_string(row, "uuid", ""), NULL))
            json_object_array_del_idx(rows, i, 1);
    }
}
