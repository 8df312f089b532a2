/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "rpc/server-private.h"

#include "rpc/command-table.h"
#include "rpc/judge.h"
#include "rpc/message.h"
#include "util/error.h"
#include "util/log.h"

#include <string.h>

#define SERVER_NAME "virtcolod " PACKAGE_VERSION

static void job_free(gpointer data)
{
    ColoRpcJob *job = data;

    colo_rpc_client_unref(job->client);
    g_clear_pointer(&job->reply, g_bytes_unref);
    g_clear_pointer(&job->args, colo_json_put);
    g_free(job->command);
    g_free(job);
}

static void send_error(ColoRpcClient *client, const ColoRpcHeader *call, const GError *error)
{
    g_autoptr(GBytes) reply = colo_rpc_error_build(call, error);

    colo_rpc_client_send(client, reply);
}

static void send_reply(ColoRpcClient *client, const ColoRpcHeader *call, xdrproc_t proc, void *body)
{
    ColoRpcHeader header = colo_rpc_reply_header(call, COLO_RPC_OK);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) reply = colo_rpc_message_build(&header, proc, body, &error);

    if (reply)
        colo_rpc_client_send(client, reply);
    else
        send_error(client, call, error);
}

static gboolean hello(ColoRpcClient *client, const ColoRpcFrame *frame, GError **error)
{
    struct colo_rpc_hello_args args;
    struct colo_rpc_hello_ret ret = {.server = (char *)SERVER_NAME,
                                     .features = COLO_RPC_FEATURE_EVENTS};
    gboolean ok = colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_hello_args, &args,
                                          sizeof(args), error);

    if (ok) {
        ret.protocol = MIN(args.protocol, COLO_RPC_VERSION);
        send_reply(client, &frame->header, (xdrproc_t)xdr_colo_rpc_hello_ret, &ret);
    }
    xdr_free((xdrproc_t)xdr_colo_rpc_hello_args, (char *)&args);
    return ok;
}

/* @command and @args are taken over. Pushing fails only when no thread can be made at all; then the
 * job stays queued. */
static void start_job(ColoRpcClient *client, const ColoRpcFrame *frame, char *command,
                      JsonObject *args)
{
    ColoRpcServer *server = client->server;
    ColoRpcJob *job = g_new0(ColoRpcJob, 1);

    job->client = colo_rpc_client_ref(client);
    job->header = frame->header;
    job->command = command;
    job->args = args;
    client->pending++;
    g_thread_pool_push(
        colo_rpc_judge_is_needed(&client->caller) ? server->lookers : server->workers, job, NULL);
}

static gboolean subscribe(ColoRpcClient *client, const ColoRpcFrame *frame, GError **error)
{
    struct colo_rpc_subscribe_args args;
    gboolean ok = colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_subscribe_args, &args,
                                          sizeof(args), error);

    if (ok && args.on && colo_rpc_judge_is_needed(&client->caller)) {
        start_job(client, frame, NULL, NULL);
    } else if (ok) {
        client->subscribed = args.on ? TRUE : FALSE;
        send_reply(client, &frame->header, NULL, NULL);
    }
    return ok;
}

/* The command's name and arguments, checked; NULL with @error. The caller owns the object. */
static JsonObject *parse_command(const struct colo_rpc_command_args *args, gboolean readonly,
                                 GError **error)
{
    g_autoptr(JsonObject) json = NULL;
    const ColoCommand *command;

    if (args->args.args_len == 0) {
        json = json_object_new_object();
    } else if (memchr(args->args.args_val, 0, args->args.args_len)) {
        /* json-c would take it for the end and not look at the rest. */
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "arguments hold a NUL character");
        return NULL;
    } else {
        json = colo_json_parse(args->args.args_val, args->args.args_len, error);
    }
    if (!json || !colo_command_validate(args->name, json, error))
        return NULL;
    command = colo_command_find(args->name);
    if (command->local) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s is not a command of the daemon: subscribe to events instead", args->name);
        return NULL;
    }
    if (command->changes && readonly) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_AUTH,
                    "operation %s forbidden for read only access", args->name);
        return NULL;
    }
    return g_steal_pointer(&json);
}

static gboolean start_command(ColoRpcClient *client, const ColoRpcFrame *frame, GError **error)
{
    ColoRpcServer *server = client->server;
    struct colo_rpc_command_args args;
    g_autoptr(GError) invalid = NULL;
    gboolean ok = colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_command_args, &args,
                                          sizeof(args), error);

    if (ok) {
        JsonObject *json = parse_command(&args, client->caller.looks, &invalid);

        if (json) {
            colo_rpc_server_count(server, &server->stats.commands);
            start_job(client, frame, g_strdup(args.name), json);
        } else {
            send_error(client, &frame->header, invalid);
        }
    }
    xdr_free((xdrproc_t)xdr_colo_rpc_command_args, (char *)&args);
    return ok;
}

/* Here, not on a worker: virtcolod's own jobs may wait for the libvirt that asks. */
static gboolean may_run(ColoRpcClient *client, const ColoRpcFrame *frame, GError **error)
{
    ColoRpcServer *server = client->server;
    struct colo_rpc_may_run_args args;
    struct colo_rpc_may_run_ret ret = {.reason = (char *)""};
    g_autofree char *reason = NULL;
    gboolean replicated = FALSE, ok;
    ColoRpcMayRun func;
    void *opaque;

    g_mutex_lock(&server->lock);
    func = server->may_run;
    opaque = server->may_run_opaque;
    g_mutex_unlock(&server->lock);
    ok = colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_may_run_args, &args, sizeof(args),
                                 error);
    if (ok && func) {
        reason = func(args.uuid, &replicated, opaque);
        ret.may = !reason;
        ret.replicated = replicated;
        if (reason)
            ret.reason = reason;
        send_reply(client, &frame->header, (xdrproc_t)xdr_colo_rpc_may_run_ret, &ret);
    } else if (ok) {
        g_autoptr(GError) starting = g_error_new_literal(COLO_ERROR, COLO_ERROR_RESOURCE,
                                                         "virtcolod is starting: try again");

        send_error(client, &frame->header, starting);
    }
    xdr_free((xdrproc_t)xdr_colo_rpc_may_run_args, (char *)&args);
    return ok;
}

gboolean colo_rpc_request_handle(ColoRpcClient *client, const ColoRpcFrame *frame, GError **error)
{
    const ColoRpcHeader *header = &frame->header;
    g_autoptr(GError) unknown = NULL;

    /* A message without an answer, or one that FDs follow, cannot be refused in the protocol. */
    if (header->type != COLO_RPC_CALL || header->status != COLO_RPC_OK) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "RPC frame of program 0x%x has type %u, status %u: expected a call",
                    header->program, header->type, header->status);
        return FALSE;
    }
    if (header->program != COLO_RPC_PROGRAM || header->version != COLO_RPC_VERSION) {
        g_autoptr(GBytes) reply = colo_rpc_unknown_program_build(header);

        colo_rpc_server_count(client->server, &client->server->stats.unknown_program);
        colo_rpc_client_send(client, reply);
        return TRUE;
    }
    switch (header->procedure) {
    case COLO_RPC_PROC_HELLO:
        return hello(client, frame, error);
    case COLO_RPC_PROC_COMMAND:
        return start_command(client, frame, error);
    case COLO_RPC_PROC_SUBSCRIBE:
        return subscribe(client, frame, error);
    case COLO_RPC_PROC_MAY_RUN:
        return may_run(client, frame, error);
    default:
        unknown = g_error_new(COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown procedure %u",
                              header->procedure);
        send_error(client, header, unknown);
        return TRUE;
    }
}

static gboolean finish_job(gpointer data)
{
    ColoRpcJob *job = data;
    ColoRpcClient *client = job->client;

    client->pending--;
    client->subscribed = client->subscribed || job->subscribes;
    if (client->fd >= 0) {
        colo_rpc_client_send(client, job->reply);
        if (client->fd >= 0)
            colo_rpc_client_process(client);
    }
    return G_SOURCE_REMOVE;
}

/* Events tell of every domain: they are for whom libvirt's access control says nothing about. */
static GBytes *run_subscription(ColoRpcServer *server, ColoRpcJob *job, GError **error)
{
    ColoRpcHeader header = colo_rpc_reply_header(&job->header, COLO_RPC_OK);
    g_autoptr(ColoRpcJudge) judge = NULL;

    if (g_atomic_int_get(&server->judged)) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_AUTH,
                            "events of COLO are for root alone where libvirt has access_drivers, "
                            "for they tell of all domains: 'virsh event --event metadata-change' "
                            "tells of those that libvirt lets you see");
        return NULL;
    }
    judge = colo_rpc_judge_new(server, &job->client->caller, error);
    if (!judge)
        return NULL;
    job->subscribes = TRUE;
    return colo_rpc_message_build(&header, NULL, NULL, error);
}

/* The reply to @job with the result of the dispatch function. */
static GBytes *run_dispatch(ColoRpcServer *server, ColoRpcJob *job, GError **error)
{
    ColoRpcHeader header = colo_rpc_reply_header(&job->header, COLO_RPC_OK);
    struct colo_rpc_command_ret ret;
    g_autoptr(JsonObject) result = NULL, judged = NULL;
    g_autoptr(ColoRpcJudge) judge = NULL;
    g_autofree char *text = NULL;

    if (g_atomic_int_get(&server->stopping)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                    "%s was not run: the daemon stops", job->command);
        return NULL;
    }
    if (colo_rpc_judge_is_needed(&job->client->caller)) {
        judge = colo_rpc_judge_new(server, &job->client->caller, error);
        judged = judge ? colo_rpc_judge_command(judge, job->command, job->args, error) : NULL;
        if (!judged)
            return NULL;
    }
    result = server->dispatch(&job->client->caller, job->command, judged ? judged : job->args,
                              server->opaque, error);
    if (judge)
        colo_rpc_judge_result(judge, result);
    if (!result) {
        if (error && !*error)
            g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL, "%s failed without a reason",
                        job->command);
        return NULL;
    }
    text = colo_json_to_string(result);
    ret.result.result_val = text;
    ret.result.result_len = (u_int)strlen(text);
    return colo_rpc_message_build(&header, (xdrproc_t)xdr_colo_rpc_command_ret, &ret, error);
}

void colo_rpc_request_run(void *data, void *opaque)
{
    ColoRpcServer *server = opaque;
    ColoRpcJob *job = data;
    g_autoptr(GError) error = NULL;

    job->reply =
        job->command ? run_dispatch(server, job, &error) : run_subscription(server, job, &error);
    if (!job->reply)
        job->reply = colo_rpc_error_build(&job->header, error);
    colo_rpc_server_post(server, finish_job, job, job_free);
}
