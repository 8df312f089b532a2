/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/framing.h"

#include "util/bytes.h"
#include "util/error.h"

#include <string.h>

struct ColoFrameReader {
    GByteArray *buffer;
};

ColoFrameReader *colo_frame_reader_new(void)
{
    ColoFrameReader *reader = g_new0(ColoFrameReader, 1);

    reader->buffer = g_byte_array_new();
    return reader;
}

void colo_frame_reader_free(ColoFrameReader *reader)
{
    if (!reader)
        return;
    g_byte_array_unref(reader->buffer);
    g_free(reader);
}

void colo_frame_reader_feed(ColoFrameReader *reader, const void *data, size_t len)
{
    g_byte_array_append(reader->buffer, data, (guint)len);
}

static gboolean length_is_legal(size_t len, GError **error)
{
    if (len <= COLO_FRAME_MAX)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                "control message of %" G_GSIZE_FORMAT " bytes is over the limit of %u bytes: "
                "closing the connection",
                len, COLO_FRAME_MAX);
    return FALSE;
}

char *colo_frame_reader_next(ColoFrameReader *reader, size_t *len, GError **error)
{
    size_t size;
    char *message;

    if (reader->buffer->len < COLO_FRAME_HEADER)
        return NULL;
    size = colo_get32(reader->buffer->data);
    if (!length_is_legal(size, error) || reader->buffer->len - COLO_FRAME_HEADER < size)
        return NULL;
    message = g_malloc(size + 1);
    memcpy(message, reader->buffer->data + COLO_FRAME_HEADER, size);
    message[size] = '\0';
    *len = size;
    g_byte_array_remove_range(reader->buffer, 0, (guint)(COLO_FRAME_HEADER + size));
    return message;
}

GBytes *colo_frame_build(const void *payload, size_t len, GError **error)
{
    guint8 *frame;

    if (!length_is_legal(len, error))
        return NULL;
    frame = g_malloc(COLO_FRAME_HEADER + len);
    colo_put32(frame, (uint32_t)len);
    memcpy(frame + COLO_FRAME_HEADER, payload, len);
    return g_bytes_new_take(frame, COLO_FRAME_HEADER + len);
}
