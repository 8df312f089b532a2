/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/message.h"

#include "util/error.h"

#include <string.h>

/* virErrorNumber, virErrorDomain and virErrorLevel of libvirt/virterror.h: stable ABI. */
#define VIR_ERR_RPC 39
#define VIR_FROM_RPC 7
#define VIR_ERR_ERROR 2

size_t colo_rpc_own_frame_limit(const ColoRpcHeader *header)
{
    return header->program == COLO_RPC_PROGRAM ? COLO_RPC_OWN_FRAME_MAX : COLO_RPC_FRAME_MAX;
}

GBytes *colo_rpc_message_build(const ColoRpcHeader *header, xdrproc_t proc, void *body,
                               GError **error)
{
    size_t len = proc ? xdr_sizeof(proc, body) : 0;
    g_autofree uint8_t *data = NULL;
    XDR xdr;

    /* xdr_sizeof() is 0 when a member passes its limit; no body of ours is empty. */
    if (proc && (len == 0 || len > COLO_RPC_FRAME_MAX - COLO_RPC_HEADER_BYTES)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "RPC message of procedure %u passes the limit of its members",
                    header->procedure);
        return NULL;
    }
    data = g_malloc(COLO_RPC_HEADER_BYTES + len);
    colo_rpc_header_encode(header, len, data);
    if (proc) {
        bool_t done;

        xdrmem_create(&xdr, (char *)data + COLO_RPC_HEADER_BYTES, (u_int)len, XDR_ENCODE);
        done = proc(&xdr, body) && xdr_getpos(&xdr) == len;
        xdr_destroy(&xdr);
        if (!done) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                        "RPC message of procedure %u cannot be encoded", header->procedure);
            return NULL;
        }
    }
    return g_bytes_new_take(g_steal_pointer(&data), COLO_RPC_HEADER_BYTES + len);
}

/*
 * Whether @body, decoded from @frame, has just that form: RFC 4506 allows one for each value. A
 * string with a NUL inside, of which C sees the first part only, has another.
 */
static gboolean is_canonical(const ColoRpcFrame *frame, xdrproc_t proc, void *body)
{
    g_autoptr(GBytes) again = colo_rpc_message_build(&frame->header, proc, body, NULL);
    const uint8_t *data;
    size_t size;

    if (!again)
        return FALSE;
    data = g_bytes_get_data(again, &size);
    return size == COLO_RPC_HEADER_BYTES + frame->len &&
           memcmp(data + COLO_RPC_HEADER_BYTES, frame->body, frame->len) == 0;
}

gboolean colo_rpc_message_decode(const ColoRpcFrame *frame, xdrproc_t proc, void *body, size_t size,
                                 GError **error)
{
    gboolean done;
    size_t used;
    XDR xdr;

    memset(body, 0, size);
    xdrmem_create(&xdr, (char *)frame->body, (u_int)frame->len, XDR_DECODE);
    done = proc(&xdr, body) ? TRUE : FALSE;
    used = xdr_getpos(&xdr);
    xdr_destroy(&xdr);
    if (!done || used != frame->len || !is_canonical(frame, proc, body)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "RPC body of procedure %u (%zu bytes) is not valid at byte %zu",
                    frame->header.procedure, frame->len, used);
        return FALSE;
    }
    return TRUE;
}

ColoRpcHeader colo_rpc_reply_header(const ColoRpcHeader *call, uint32_t status)
{
    ColoRpcHeader reply = *call;

    reply.type = COLO_RPC_REPLY;
    reply.status = status;
    return reply;
}

GBytes *colo_rpc_error_build(const ColoRpcHeader *call, const GError *error)
{
    ColoErrorCode code =
        error->domain == COLO_ERROR ? (ColoErrorCode)error->code : COLO_ERROR_INTERNAL;
    ColoRpcHeader reply = colo_rpc_reply_header(call, COLO_RPC_ERROR);
    g_autofree char *message = g_utf8_make_valid(error->message, -1);
    struct colo_rpc_error body;

    if (strlen(message) > COLO_RPC_TEXT_MAX) {
        *g_utf8_find_prev_char(message, message + COLO_RPC_TEXT_MAX) = '\0';
    }
    body.code = (char *)colo_error_code_name(code);
    body.libvirt_code = colo_error_code_to_libvirt(code);
    body.message = message;
    return colo_rpc_message_build(&reply, (xdrproc_t)xdr_colo_rpc_error, &body, NULL);
}

void colo_rpc_error_decode(const ColoRpcFrame *frame, GError **error)
{
    struct colo_rpc_error body;

    if (colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_error, &body, sizeof(body), error))
        g_set_error_literal(error, COLO_ERROR, colo_error_code_from_name(body.code), body.message);
    xdr_free((xdrproc_t)xdr_colo_rpc_error, (char *)&body);
}

GBytes *colo_rpc_unknown_program_build(const ColoRpcHeader *call)
{
    ColoRpcHeader reply = colo_rpc_reply_header(call, COLO_RPC_ERROR);
    g_autofree char *text =
        g_strdup_printf("Cannot find program %u version %u", call->program, call->version);
    char *format = (char *)"%s";
    struct colo_rpc_libvirt_error body = {
        .code = VIR_ERR_RPC,
        .domain = VIR_FROM_RPC,
        .message = &text,
        .level = VIR_ERR_ERROR,
        .str1 = &format,
        .str2 = &text,
    };

    return colo_rpc_message_build(&reply, (xdrproc_t)xdr_colo_rpc_libvirt_error, &body, NULL);
}
