/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt's RPC framing, whatever the program: be32 length of the whole frame, then program,
 * version, procedure, type, serial and status (be32 each), then the body (libvirt,
 * src/rpc/virnetprotocol.x and virnetmessage.c, 9.0).
 *
 * Bytes go in as they arrive, whole frames come out; a body is never interpreted here, so that a
 * relay can pass on what it does not understand. Not thread safe; one reader a connection.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

/* Bytes of the length word, and of it with the six header words. */
#define COLO_RPC_LENGTH_BYTES 4u
#define COLO_RPC_HEADER_BYTES 28u
#define COLO_RPC_SERIAL_AT 20u
/* Largest frame: VIR_NET_MESSAGE_MAX and the length word. */
#define COLO_RPC_FRAME_MAX (32u * 1024u * 1024u + COLO_RPC_LENGTH_BYTES)

/* enum virNetMessageType */
enum {
    COLO_RPC_CALL = 0,
    COLO_RPC_REPLY = 1,
    COLO_RPC_MESSAGE = 2,
    COLO_RPC_STREAM = 3,
    COLO_RPC_CALL_WITH_FDS = 4,
    COLO_RPC_REPLY_WITH_FDS = 5,
    COLO_RPC_STREAM_HOLE = 6,
};

/* enum virNetMessageStatus */
enum {
    COLO_RPC_OK = 0,
    COLO_RPC_ERROR = 1,
    COLO_RPC_CONTINUE = 2,
};

typedef struct {
    uint32_t program;
    uint32_t version;
    uint32_t procedure;
    uint32_t type;
    uint32_t serial;
    uint32_t status;
} ColoRpcHeader;

typedef struct {
    ColoRpcHeader header;
    size_t len; /* bytes of body */
    uint8_t body[];
} ColoRpcFrame;

void colo_rpc_frame_free(ColoRpcFrame *frame);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoRpcFrame, colo_rpc_frame_free)

typedef struct ColoRpcReader ColoRpcReader;

/* Largest frame (bytes, with header) that a connection takes of the program in @header; at most
 * COLO_RPC_FRAME_MAX counts. */
typedef size_t (*ColoRpcFrameLimit)(const ColoRpcHeader *header);

/* @limit may be NULL: COLO_RPC_FRAME_MAX for every program. */
ColoRpcReader *colo_rpc_reader_new(ColoRpcFrameLimit limit);
void colo_rpc_reader_free(ColoRpcReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoRpcReader, colo_rpc_reader_free)

/* Takes in @len bytes; they are copied. Memory grows with what came, not with what is announced
 * (but see colo_rpc_reader_room()). */
void colo_rpc_reader_feed(ColoRpcReader *reader, const void *data, size_t len);

/*
 * The next whole frame, for the caller to free. NULL without @error: none is complete yet. NULL
 * with @error (COLO_ERROR_PEER): a length below the header or above the limit; nothing of this
 * stream can be read any more.
 */
ColoRpcFrame *colo_rpc_reader_next(ColoRpcReader *reader, GError **error);

/*
 * Where the rest of a large frame's body may be read to, @len bytes at most, rather than fed; NULL
 * when that is not known, or is not worth it. Valid until the next call, which is
 * colo_rpc_reader_filled() with what was read to it.
 */
uint8_t *colo_rpc_reader_room(ColoRpcReader *reader, size_t *len);
void colo_rpc_reader_filled(ColoRpcReader *reader, size_t n);

/* A part of a frame has come. */
gboolean colo_rpc_reader_is_within(const ColoRpcReader *reader);

/* What has come and was not read as a frame yet; valid until the next call. Not for one who asks
 * for room. */
const uint8_t *colo_rpc_reader_pending(const ColoRpcReader *reader, size_t *len);

/* Passes over @n bytes, as of FDs that follow a frame; FALSE, and nothing, when they have not come
 * yet. */
gboolean colo_rpc_reader_skip(ColoRpcReader *reader, size_t n);

/* Writes the length word and @header (COLO_RPC_HEADER_BYTES) to @out for a body of @body_len. */
void colo_rpc_header_encode(const ColoRpcHeader *header, size_t body_len, uint8_t *out);
