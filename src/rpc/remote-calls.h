/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bodies of libvirt's remote program that the relay reads or makes (libvirt 9.0,
 * src/remote/remote_protocol.x; XDR, RFC 4506). Pure. */
#pragma once

#include "rpc/frame.h"
#include "rpc/server.h"

#define COLO_REMOTE_PROGRAM 0x20008086u
#define COLO_REMOTE_VERSION 1u

enum {
    COLO_REMOTE_PROC_CONNECT_OPEN = 1,
    COLO_REMOTE_PROC_CONNECT_GET_URI = 110,
    COLO_REMOTE_PROC_CONNECT_SET_IDENTITY = 419,
};

/* Serials of our own calls; libvirt's clients count from 1. */
#define COLO_REMOTE_OWN_SERIAL 0xc0100000u

/* The frame as it goes on the wire. */
GByteArray *colo_remote_encode(const ColoRpcHeader *header, const void *body, size_t len);

/* CONNECT_OPEN for libvirt's QEMU driver, or NULL when @frame opens nothing of ours: it goes on as
 * it is. *scheme: "colo" or "colo+unix"..., what the client wrote before the colon; the caller's.
 */
GByteArray *colo_remote_open(const ColoRpcFrame *frame, char **scheme);

/* The reply to CONNECT_GET_URI with @scheme instead of "qemu"; NULL: as it is. */
GByteArray *colo_remote_uri(const ColoRpcFrame *frame, const char *scheme);

/* CONNECT_SET_IDENTITY of @caller with @serial. */
GByteArray *colo_remote_identity(const ColoRpcCaller *caller, uint32_t serial);
