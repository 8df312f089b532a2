/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/frame.h"

#include "util/bytes.h"
#include "util/error.h"

#include <string.h>

/* A buffer that was larger is given back when it is empty: a client that has said one large frame
 * and then nothing for days is not to cost its memory. */
#define KEEP_BYTES (1024u * 1024u)
/* Of a body of which so much is missing the rest is read to its place: a stream's frames (256 KiB)
 * need it. What is announced as larger than the second grows with what comes. */
#define ROOM_MIN 4096u
#define ROOM_MAX (1024u * 1024u)

struct ColoRpcReader {
    GByteArray *pending;
    size_t at;           /* what was read of it */
    ColoRpcFrame *begun; /* what has room for the rest of its body; nothing is pending then ... */
    size_t begun_at;     /* ... of which so much is there */
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
    colo_rpc_frame_free(reader->begun);
    g_free(reader);
}

void colo_rpc_reader_feed(ColoRpcReader *reader, const void *data, size_t len)
{
    if (reader->broken)
        return;
    if (reader->begun) {
        size_t n = MIN(len, reader->begun->len - reader->begun_at);

        memcpy(reader->begun->body + reader->begun_at, data, n);
        reader->begun_at += n;
        data = (const uint8_t *)data + n;
        len -= n;
    }
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

gboolean colo_rpc_reader_is_within(const ColoRpcReader *reader)
{
    return reader->begun || reader->pending->len > reader->at;
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

/* The header of the next frame and, in @length, the bytes of the whole. FALSE without @error: it
 * has not come yet. */
static gboolean peek_header(ColoRpcReader *reader, ColoRpcHeader *header, size_t *length,
                            GError **error)
{
    size_t limit = COLO_RPC_FRAME_MAX, available;
    const uint8_t *in = colo_rpc_reader_pending(reader, &available);

    if (available < COLO_RPC_LENGTH_BYTES)
        return FALSE;
    *length = colo_get32(in);
    if (*length < COLO_RPC_HEADER_BYTES) {
        set_broken(reader, error, "below the header of", *length, COLO_RPC_HEADER_BYTES);
        return FALSE;
    }
    if (*length > limit) {
        set_broken(reader, error, "above the limit of", *length, limit);
        return FALSE;
    }
    if (available < COLO_RPC_HEADER_BYTES)
        return FALSE;
    decode_header(in, header);
    if (reader->limit)
        limit = MIN(limit, reader->limit(header));
    if (*length > limit) {
        set_broken(reader, error, "above the program's limit of", *length, limit);
        return FALSE;
    }
    return TRUE;
}

/* A frame of @length bytes, with what has come of its body: @n bytes. */
static ColoRpcFrame *take_frame(ColoRpcReader *reader, const ColoRpcHeader *header, size_t length,
                                size_t n)
{
    ColoRpcFrame *frame = g_malloc(sizeof(*frame) + length - COLO_RPC_HEADER_BYTES);

    frame->header = *header;
    frame->len = length - COLO_RPC_HEADER_BYTES;
    memcpy(frame->body, reader->pending->data + reader->at + COLO_RPC_HEADER_BYTES, n);
    reader->at += COLO_RPC_HEADER_BYTES + n;
    if (reader->at == reader->pending->len && reader->at > KEEP_BYTES) {
        g_byte_array_unref(reader->pending);
        reader->pending = g_byte_array_new();
        reader->at = 0;
    }
    return frame;
}

ColoRpcFrame *colo_rpc_reader_next(ColoRpcReader *reader, GError **error)
{
    ColoRpcHeader header;
    size_t length;

    if (reader->broken) {
        set_broken(reader, error, "after a frame outside of", 0, COLO_RPC_FRAME_MAX);
        return NULL;
    }
    if (reader->begun)
        return reader->begun_at == reader->begun->len ? g_steal_pointer(&reader->begun) : NULL;
    if (!peek_header(reader, &header, &length, error) || reader->pending->len - reader->at < length)
        return NULL;
    return take_frame(reader, &header, length, length - COLO_RPC_HEADER_BYTES);
}

uint8_t *colo_rpc_reader_room(ColoRpcReader *reader, size_t *len)
{
    size_t available = reader->pending->len - reader->at, length;
    ColoRpcHeader header;

    if (!reader->begun) {
        if (reader->broken || !peek_header(reader, &header, &length, NULL) || length > ROOM_MAX ||
            length < available + ROOM_MIN)
            return NULL;
        reader->begun_at = available - COLO_RPC_HEADER_BYTES;
        reader->begun = take_frame(reader, &header, length, reader->begun_at);
    }
    *len = reader->begun->len - reader->begun_at;
    return reader->begun->body + reader->begun_at;
}

void colo_rpc_reader_filled(ColoRpcReader *reader, size_t n)
{
    reader->begun_at += n;
}
