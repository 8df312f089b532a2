/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as what QEMU writes on a packet channel. In pieces of one size or
 * another, with frames held or not, they must read the same, and a frame that is held stays what it
 * was. The first byte says whether there are vnet headers, the second chooses the size of the
 * pieces and who is held.
 *
 * Sources: src/comparator/packet-reader.c, with clang -fsanitize=fuzzer,address,undefined
 */
#include "comparator/packet-reader.h"
#include "comparator/protocol.h"

#include <stdlib.h>
#include <string.h>

#define FRAMES 8u
#define HELD_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum_of(uint64_t sum, const ColoWireFrame *frame)
{
    sum = sum * 31 + frame->len;
    sum = sum * 31 + frame->vnet;
    for (uint32_t i = 0; i < frame->len; i++)
        sum = sum * 31 + frame->data[i];
    return sum;
}

static uint64_t run(const uint8_t *data, size_t size, bool vnet, size_t step, unsigned hold)
{
    ColoWireFrame held[HELD_MAX];
    uint64_t held_sum[HELD_MAX], sum = 0;
    ColoChunk *held_in[HELD_MAX];
    unsigned n_held = 0, count = 0;
    ColoPacketReader reader;

    if (!colo_packet_reader_init(&reader, vnet))
        abort();
    for (size_t at = 0; at < size && !reader.broken;) {
        size_t room, n = step < size - at ? step : size - at;
        uint8_t *to = colo_packet_reader_room(&reader, &room);
        ColoWireFrame frames[FRAMES];
        ColoChunk *chunk;
        unsigned got;

        if (room == 0)
            abort();
        n = n < room ? n : room;
        memcpy(to, data + at, n);
        colo_packet_reader_took(&reader, n);
        at += n;
        while ((got = colo_packet_reader_next(&reader, frames, FRAMES, &chunk))) {
            for (unsigned i = 0; i < got; i++) {
                if (frames[i].len > COLO_RECORD_MAX || frames[i].vnet > frames[i].len)
                    abort();
                sum = sum_of(sum, &frames[i]);
                if (!chunk || n_held == HELD_MAX || hold == 0 || count++ % hold != 0)
                    continue;
                colo_chunk_ref(chunk);
                held[n_held] = frames[i];
                held_sum[n_held] = sum_of(0, &frames[i]);
                held_in[n_held++] = chunk;
            }
        }
    }
    sum = sum * 2 + reader.broken;
    colo_packet_reader_clear(&reader);
    for (unsigned i = 0; i < n_held; i++) {
        if (sum_of(0, &held[i]) != held_sum[i])
            abort();
        colo_chunk_unref(held_in[i]);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (run(data + 2, size - 2, data[0] & 1, size, 0) !=
        run(data + 2, size - 2, data[0] & 1, (size_t)data[1] * 16 + 1, data[1] % 5))
        abort();
    return 0;
}
