/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What QEMU writes on a packet channel (net/filter-mirror.c): be32 length, with vnet headers their
 * be32 length too, and the frame. The socket is read into chunks from which frames are handed out
 * where they lie; a chunk in which somebody holds one is written to only behind it. Pure but for
 * memory; one thread.
 */
#pragma once

#include "comparator/chunk.h"

#include <stdbool.h>

/* The longest virtio-net header is 20 bytes (virtio 1.2, 5.1.6). */
#define COLO_PACKET_VNET_MAX 64u

/* Bytes of a chunk: a socket's buffer as it is by default, and room behind a frame that is held. */
#define COLO_PACKET_CHUNK (256u << 10)
/* Chunks of a channel, each of which one held frame keeps from being used again. With these 4 MiB
 * gone frames are copied by whoever holds them. */
#define COLO_PACKET_CHUNKS 16u

typedef struct ColoPacketChunk ColoPacketChunk;

typedef struct {
    const uint8_t *data; /* with the vnet header */
    uint32_t len;
    uint32_t vnet;
} ColoWireFrame;

typedef struct {
    ColoPacketChunk *chunk; /* read into at present */
    ColoPacketChunk *spare; /* nobody gets a reference to it */
    ColoPacketChunk *chunks[COLO_PACKET_CHUNKS];
    unsigned n_chunks;
    size_t at;  /* in @chunk: bytes before it were handed out */
    size_t end; /* bytes before it were read */
    bool vnet;
    bool broken;
} ColoPacketReader;

/* False when memory is missing. @vnet: frames carry the length of a vnet header. */
bool colo_packet_reader_init(ColoPacketReader *reader, bool vnet);
/* Chunks that are referenced live on until they are not. */
void colo_packet_reader_clear(ColoPacketReader *reader);

/* Bytes in front of each frame. */
static inline size_t colo_packet_head(bool vnet)
{
    return vnet ? 8 : 4;
}

/* Where the next bytes go, *room of them at most (never 0). Frames handed out without a chunk, or
 * of which nobody took a reference, are gone from here on. */
uint8_t *colo_packet_reader_room(ColoPacketReader *reader, size_t *room);
/* @n bytes have been put there. */
void colo_packet_reader_took(ColoPacketReader *reader, size_t n);

/* The next whole frames, at most @max of them; all lie in *chunk, with what QEMU wrote in front of
 * each, when that is not NULL. 0 when there is none, or reader->broken is set: these bytes are not
 * in QEMU's framing. */
unsigned colo_packet_reader_next(ColoPacketReader *reader, ColoWireFrame *frames, unsigned max,
                                 ColoChunk **chunk);
