/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/frame.h"

#include "util/bytes.h"
#include "util/error.h"

#include <string.h>

/* A buffer that was larger is given back when it is empty: a client that has said one large frame
 * and then nothing for days is not to cost its memory. */
#define KEEP_BYTES (1024u * 1024u)

struct ColoRpcReader {
    GByteArray *pending;
    size_t at; /* what was read of it */
    ColoRpcFrameLimit limit;
    gboolean broken;
};

static void decode_header(const uint8_t *p, ColoRpcHeader *header)
{
    header->program = colo_get32(p + 4);
    header->version = colo_get32(p + 8);
    header->procedure = colo_get32(p + 12);
    header->type = colo_get32(p + 16);
    header->serial = colo_get32(p + 20);
    header->status = colo_get32(p + 24);
}

void colo_rpc_header_encode(const ColoRpcHeader *header, size_t body_len, uint8_t *out)
{
    colo_put32(out, (uint32_t)(COLO_RPC_HEADER_BYTES + body_len));
    colo_put32(out + 4, header->program);
    colo_put32(out + 8, header->version);
    colo_put32(out + 12, header->procedure);
    colo_put32(out + 16, header->type);
    colo_put32(out + 20, header->serial);
    colo_put32(out + 24, header->status);
}

void colo_rpc_frame_free(ColoRpcFrame *frame)
{
    g_free(frame);
}

ColoRpcReader *colo_rpc_reader_new(ColoRpcFrameLimit limit)
{
    ColoRpcReader *reader = g_new0(ColoRpcReader, 1);

    reader->pending = g_byte_array_new();
    reader->limit = limit;
    return reader;
}

void colo_rpc_reader_free(ColoRpcReader *reader)
{
    if (!reader)
        return;
    g_byte_array_unref(reader->pending);
    g_free(reader);
}

void colo_rpc_reader_feed(ColoRpcReader *reader, const void *data, size_t len)
{
    if (reader->broken)
        return;
    /* What was read goes when it is most of it: however many frames came with one read, each byte
     * is moved about once. */
    if (reader->at > reader->pending->len / 2) {
        g_byte_array_remove_range(reader->pending, 0, (guint)reader->at);
        reader->at = 0;
    }
    g_byte_array_append(reader->pending, data, (guint)len);
}

const uint8_t *colo_rpc_reader_pending(const ColoRpcReader *reader, size_t *len)
{
    *len = reader->pending->len - reader->at;
    return reader->pending->data + reader->at;
}

gboolean colo_rpc_reader_skip(ColoRpcReader *reader, size_t n)
{
    if (reader->pending->len - reader->at < n)
        return FALSE;
    reader->at += n;
    return TRUE;
}

static void set_broken(ColoRpcReader *reader, GError **error, const char *what, size_t found,
                       size_t bound)
{
    reader->broken = TRUE;
    g_byte_array_set_size(reader->pending, 0);
    reader->at = 0;
    g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, "RPC frame of %zu bytes is %s %zu", found, what,
                bound);
}

ColoRpcFrame *colo_rpc_reader_next(ColoRpcReader *reader, GError **error)
{
    size_t limit = COLO_RPC_FRAME_MAX;
    ColoRpcHeader header;
    ColoRpcFrame *frame;
    size_t length, available;
    const uint8_t *in;

    if (reader->broken) {
        set_broken(reader, error, "after a frame outside of", 0, limit);
        return NULL;
    }
    in = colo_rpc_reader_pending(reader, &available);
    if (available < COLO_RPC_LENGTH_BYTES)
        return NULL;
    length = colo_get32(in);
    if (length < COLO_RPC_HEADER_BYTES) {
        set_broken(reader, error, "below the header of", length, COLO_RPC_HEADER_BYTES);
        return NULL;
    }
    if (length > limit) {
        set_broken(reader, error, "above the limit of", length, limit);
        return NULL;
    }
    if (available < COLO_RPC_HEADER_BYTES)
        return NULL;
    decode_header(in, &header);
    if (reader->limit)
        limit = MIN(limit, reader->limit(&header));
    if (length > limit) {
        set_broken(reader, error, "above the program's limit of", length, limit);
        return NULL;
    }
    if (available < length)
        return NULL;
    frame = g_malloc(sizeof(*frame) + length - COLO_RPC_HEADER_BYTES);
    frame->header = header;
    frame->len = length - COLO_RPC_HEADER_BYTES;
    memcpy(frame->body, in + COLO_RPC_HEADER_BYTES, frame->len);
    reader->at += length;
    if (reader->at == reader->pending->len && reader->at > KEEP_BYTES) {
        g_byte_array_unref(reader->pending);
        reader->pending = g_byte_array_new();
        reader->at = 0;
    }
    return frame;
}
