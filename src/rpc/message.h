/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames with XDR bodies (RFC 4506) of colo-protocol.x: built into one buffer, read with every byte
 * accounted for. Pure functions; any thread.
 */
#pragma once

#include <glib.h>

#include "rpc/colo-protocol.h"
#include "rpc/frame.h"

/* Largest frame of our own program: the JSON limit and the members around it. */
#define COLO_RPC_OWN_FRAME_MAX (COLO_RPC_JSON_MAX + COLO_RPC_TEXT_MAX)

/* ColoRpcFrameLimit: COLO_RPC_OWN_FRAME_MAX for our program, libvirt's limit for the others. */
size_t colo_rpc_own_frame_limit(const ColoRpcHeader *header);

/*
 * One frame of @header and the XDR form of @body (@proc NULL: no body). NULL with @error
 * (COLO_ERROR_RESOURCE) when a member passes its limit.
 */
GBytes *colo_rpc_message_build(const ColoRpcHeader *header, xdrproc_t proc, void *body,
                               GError **error);

/*
 * Reads the body of @frame to @body, which is zeroed (@size bytes) first and released with
 * xdr_free(@proc, @body) also after a failure. FALSE with @error (COLO_ERROR_PEER): it is not of
 * that form, bytes are left over, or it is not the one form XDR has for these values.
 */
gboolean colo_rpc_message_decode(const ColoRpcFrame *frame, xdrproc_t proc, void *body, size_t size,
                                 GError **error);

/* The header of the answer to @call. */
ColoRpcHeader colo_rpc_reply_header(const ColoRpcHeader *call, uint32_t status);

/* The frame that answers @call of our program with @error; a text over its limit is cut. */
GBytes *colo_rpc_error_build(const ColoRpcHeader *call, const GError *error);

/* Reads the error body of a reply of our program to @error; never leaves @error unset. */
void colo_rpc_error_decode(const ColoRpcFrame *frame, GError **error);

/* libvirt's answer to a call of a program that is not served: "Cannot find program". */
GBytes *colo_rpc_unknown_program_build(const ColoRpcHeader *call);
