/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/packet-reader.h"

#include "comparator/protocol.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* A chunk with less room than this behind a frame that is held is left for another: system calls
 * for a few bytes each cost more. */
#define READ_MIN (16u << 10)
/* The longest frame with both lengths. */
#define WHOLE_MAX (COLO_RECORD_MAX + 8u)

struct ColoPacketChunk {
    ColoChunk chunk;
    uint8_t data[COLO_PACKET_CHUNK];
};

static void free_chunk(ColoChunk *chunk)
{
    free((ColoPacketChunk *)chunk);
}

static ColoPacketChunk *new_chunk(void)
{
    ColoPacketChunk *chunk = malloc(sizeof(*chunk));

    if (chunk)
        chunk->chunk = (ColoChunk){0};
    return chunk;
}

bool colo_packet_reader_init(ColoPacketReader *reader, bool vnet)
{
    memset(reader, 0, sizeof(*reader));
    reader->vnet = vnet;
    reader->spare = new_chunk();
    reader->chunk = reader->chunks[0] = new_chunk();
    reader->n_chunks = 1;
    if (reader->spare && reader->chunk)
        return true;
    free(reader->spare);
    free(reader->chunk);
    memset(reader, 0, sizeof(*reader));
    return false;
}

void colo_packet_reader_clear(ColoPacketReader *reader)
{
    for (unsigned i = 0; i < reader->n_chunks; i++) {
        if (reader->chunks[i]->chunk.refs > 0)
            reader->chunks[i]->chunk.unused = free_chunk;
        else
            free(reader->chunks[i]);
    }
    free(reader->spare);
    memset(reader, 0, sizeof(*reader));
}

/* A chunk that nobody has a reference to. */
static ColoPacketChunk *find_chunk(ColoPacketReader *reader)
{
    ColoPacketChunk *chunk;

    for (unsigned i = 0; i < reader->n_chunks; i++) {
        if (reader->chunks[i]->chunk.refs == 0)
            return reader->chunks[i];
    }
    if (reader->n_chunks == COLO_PACKET_CHUNKS || !(chunk = new_chunk()))
        return reader->spare;
    reader->chunks[reader->n_chunks++] = chunk;
    return chunk;
}

uint8_t *colo_packet_reader_room(ColoPacketReader *reader, size_t *room)
{
    ColoPacketChunk *from = reader->chunk;
    size_t partial = reader->end - reader->at;

    if (from == reader->spare || from->chunk.refs == 0 ||
        COLO_PACKET_CHUNK - reader->at < WHOLE_MAX || COLO_PACKET_CHUNK - reader->end < READ_MIN) {
        if (from == reader->spare || from->chunk.refs > 0)
            reader->chunk = find_chunk(reader);
        memmove(reader->chunk->data, from->data + reader->at, partial);
        reader->at = 0;
        reader->end = partial;
    }
    *room = COLO_PACKET_CHUNK - reader->end;
    return reader->chunk->data + reader->end;
}

void colo_packet_reader_took(ColoPacketReader *reader, size_t n)
{
    reader->end += n;
}

unsigned colo_packet_reader_next(ColoPacketReader *reader, ColoWireFrame *frames, unsigned max,
                                 ColoChunk **chunk)
{
    size_t head = colo_packet_head(reader->vnet);
    unsigned n = 0;

    *chunk = reader->chunk == reader->spare ? NULL : &reader->chunk->chunk;
    while (n < max && reader->end - reader->at >= head) {
        const uint8_t *from = reader->chunk->data + reader->at;
        uint32_t be[2] = {0, 0}, len, vnet;

        memcpy(be, from, head);
        len = be32toh(be[0]);
        vnet = be32toh(be[1]);
        if (len > COLO_RECORD_MAX || vnet > len || vnet > COLO_PACKET_VNET_MAX) {
            /* What came before it counts. */
            reader->broken = n == 0;
            break;
        }
        if (reader->end - reader->at < head + len)
            break;
        frames[n++] = (ColoWireFrame){.data = from + head, .len = len, .vnet = vnet};
        reader->at += head + len;
    }
    return n;
}
