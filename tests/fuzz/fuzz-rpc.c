/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as what a client sends to virtcolod-sock, and as what a daemon sends
 * to a client: frame, XDR body, JSON, command table.
 *
 * Sources: src/rpc/{frame,message,command-table,remote-calls}.c, the colo-protocol.c that rpcgen
 * makes, and src/util/{json,error}.c, with clang -fsanitize=fuzzer,address,undefined.
 *
 * Besides memory: frames do not depend on how the bytes were cut; what is refused has an error;
 * what decodes encodes to the same bytes again; an accepted command has only declared arguments.
 */
#include "rpc/command-table.h"
#include "rpc/message.h"
#include "rpc/remote-calls.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(gboolean condition)
{
    if (!condition)
        abort();
}

static void try_command(const struct colo_rpc_command_args *body)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) args = NULL;
    const ColoCommand *command;

    args = colo_json_parse(body->args.args_val, body->args.args_len, &error);
    check(!args == !!error);
    if (!args)
        return;
    if (!colo_command_validate(body->name, args, &error)) {
        check(error && !strpbrk(error->message, "\n\r\033"));
        return;
    }
    command = colo_command_find(body->name);
    check(command != NULL);
    json_object_object_foreach(args, key, value)
    {
        (void)value;
        check(colo_command_find_arg(command, key) && !colo_command_find_arg(command, key)->local);
    }
}

/* Decodes @frame as @proc says; a body that is accepted must encode to itself. */
static gboolean try_body(const ColoRpcFrame *frame, xdrproc_t proc, void *body, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) again = NULL;
    gboolean ok = colo_rpc_message_decode(frame, proc, body, size, &error);
    const uint8_t *data;
    size_t len;

    check(ok == !error);
    if (!ok)
        return FALSE;
    again = colo_rpc_message_build(&frame->header, proc, body, NULL);
    check(again != NULL);
    data = g_bytes_get_data(again, &len);
    check(len == frame->len + COLO_RPC_HEADER_BYTES);
    check(memcmp(data + COLO_RPC_HEADER_BYTES, frame->body, frame->len) == 0);
    return TRUE;
}

static void try_frame(const ColoRpcFrame *frame)
{
    union {
        struct colo_rpc_hello_args hello;
        struct colo_rpc_hello_ret hello_ret;
        struct colo_rpc_command_args command;
        struct colo_rpc_command_ret result;
        struct colo_rpc_subscribe_args subscribe;
        struct colo_rpc_event_msg event;
    } body;
    static const struct {
        xdrproc_t proc;
        size_t size;
    } forms[] = {
        {(xdrproc_t)xdr_colo_rpc_hello_args, sizeof(body.hello)},
        {(xdrproc_t)xdr_colo_rpc_hello_ret, sizeof(body.hello_ret)},
        {(xdrproc_t)xdr_colo_rpc_command_args, sizeof(body.command)},
        {(xdrproc_t)xdr_colo_rpc_command_ret, sizeof(body.result)},
        {(xdrproc_t)xdr_colo_rpc_subscribe_args, sizeof(body.subscribe)},
        {(xdrproc_t)xdr_colo_rpc_event_msg, sizeof(body.event)},
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) unknown = colo_rpc_unknown_program_build(&frame->header);

    check(unknown != NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++) {
        if (try_body(frame, forms[i].proc, &body, forms[i].size) &&
            forms[i].proc == (xdrproc_t)xdr_colo_rpc_command_args)
            try_command(&body.command);
        xdr_free(forms[i].proc, (char *)&body);
    }
    colo_rpc_error_decode(frame, &error);
    check(error != NULL);
}

/* What the relay looks into: a URI that is changed stays one, and opens nothing else. */
static void try_remote(const ColoRpcFrame *frame)
{
    g_autofree char *scheme = NULL;
    g_autoptr(GByteArray) open = colo_remote_open(frame, &scheme);
    g_autoptr(GByteArray) uri = colo_remote_uri(frame, "colo");

    check(!open == !scheme);
    check(!open || (open->len >= COLO_RPC_HEADER_BYTES + 16 &&
                    memcmp(open->data + COLO_RPC_HEADER_BYTES + 8, "qemu", 4) == 0));
    check(!uri || memcmp(uri->data + COLO_RPC_HEADER_BYTES + 4, "colo", 4) == 0);
}

/* Feeds @data in pieces of @step bytes; a sum over what came out. */
static uint64_t read_all(const uint8_t *data, size_t size, size_t step, gboolean look)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(colo_rpc_own_frame_limit);
    uint64_t sum = 0;

    for (size_t at = 0; at < size; at += step) {
        GError *error = NULL;
        ColoRpcFrame *frame;

        colo_rpc_reader_feed(reader, data + at, MIN(step, size - at));
        while ((frame = colo_rpc_reader_next(reader, &error))) {
            sum = sum * 31 + frame->len + frame->header.serial;
            if (look)
                try_frame(frame);
            colo_rpc_frame_free(frame);
        }
        if (error) {
            g_error_free(error);
            return sum * 31 + 1;
        }
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole = read_all(data, size, MAX(size, 1), TRUE);
    g_autofree ColoRpcFrame *frame = g_malloc0(sizeof(*frame) + size);

    check(read_all(data, size, 1, FALSE) == whole);
    check(read_all(data, size, 7, FALSE) == whole);
    /* And without a frame around it, so that bodies are reached quickly. */
    frame->header.program = COLO_RPC_PROGRAM;
    frame->len = size;
    memcpy(frame->body, data, size);
    try_frame(frame);
    try_remote(frame);
    return 0;
}
