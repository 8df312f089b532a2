/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames are handed out whole and in order however the socket cuts them, and one that is held stays
 * as it was. */
#include "comparator/burst.h"
#include "comparator/packet-reader.h"
#include "comparator/protocol.h"

#include <glib.h>
#include <string.h>

#define BATCH 64u

/* A stream of frames as QEMU writes it. */
typedef struct {
    GByteArray *wire;
    GPtrArray *frames; /* GBytes */
    bool vnet;
} Stream;

static void add_be32(GByteArray *wire, uint32_t value)
{
    uint32_t be = GUINT32_TO_BE(value);

    g_byte_array_append(wire, (const uint8_t *)&be, sizeof(be));
}

static void add_frame(Stream *stream, size_t len)
{
    g_autofree uint8_t *frame = g_malloc(len);

    for (size_t i = 0; i < len; i++)
        frame[i] = (uint8_t)g_test_rand_int();
    add_be32(stream->wire, (uint32_t)len);
    if (stream->vnet)
        add_be32(stream->wire, len < 12 ? 0 : 12);
    g_byte_array_append(stream->wire, frame, (guint)len);
    g_ptr_array_add(stream->frames, g_bytes_new(frame, len));
}

static void stream_init(Stream *stream, bool vnet)
{
    stream->vnet = vnet;
    stream->wire = g_byte_array_new();
    stream->frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
}

static void stream_clear(Stream *stream)
{
    g_byte_array_unref(stream->wire);
    g_ptr_array_unref(stream->frames);
}

/* A frame that somebody holds. */
typedef struct {
    ColoWireFrame frame;
    ColoChunk *chunk;
    unsigned number;
} Held;

static void assert_frame(const Stream *stream, unsigned number, const ColoWireFrame *frame)
{
    g_assert_cmpuint(number, <, stream->frames->len);
    g_assert_cmpmem(frame->data, frame->len,
                    g_bytes_get_data(g_ptr_array_index(stream->frames, number), NULL),
                    g_bytes_get_size(g_ptr_array_index(stream->frames, number)));
    g_assert_cmpuint(frame->vnet, ==, stream->vnet && frame->len >= 12 ? 12 : 0);
}

static void let_go(const Stream *stream, GArray *held, unsigned i)
{
    Held *h = &g_array_index(held, Held, i);

    assert_frame(stream, h->number, &h->frame);
    colo_chunk_unref(h->chunk);
    g_array_remove_index_fast(held, i);
}

/* Reads the stream in pieces of random lengths up to @most, and holds one frame in @one_in. */
static void read_all(const Stream *stream, size_t most, int one_in)
{
    g_autoptr(GArray) held = g_array_new(FALSE, FALSE, sizeof(Held));
    ColoPacketReader reader;
    unsigned number = 0;
    size_t at = 0;

    g_assert_true(colo_packet_reader_init(&reader, stream->vnet));
    while (at < stream->wire->len) {
        size_t room, n = (size_t)g_test_rand_int_range(1, (int)most + 1);
        uint8_t *to = colo_packet_reader_room(&reader, &room);
        ColoWireFrame frames[BATCH];
        ColoChunk *chunk;
        unsigned got;

        g_assert_cmpuint(room, >, 0);
        n = MIN(MIN(n, room), stream->wire->len - at);
        memcpy(to, stream->wire->data + at, n);
        colo_packet_reader_took(&reader, n);
        at += n;
        while ((got = colo_packet_reader_next(&reader, frames, BATCH, &chunk))) {
            for (unsigned i = 0; i < got; i++, number++) {
                assert_frame(stream, number, &frames[i]);
                if (!chunk || g_test_rand_int_range(0, one_in) != 0)
                    continue;
                colo_chunk_ref(chunk);
                g_array_append_val(held, ((Held){frames[i], chunk, number}));
            }
        }
        while (held->len > 0 && g_test_rand_int_range(0, 3) == 0)
            let_go(stream, held, (unsigned)g_test_rand_int_range(0, (int)held->len));
    }
    g_assert_false(reader.broken);
    g_assert_cmpuint(number, ==, stream->frames->len);
    /* What is held outlives the channel. */
    colo_packet_reader_clear(&reader);
    while (held->len > 0)
        let_go(stream, held, 0);
}

static void test_random_cuts(void)
{
    for (unsigned run = 0; run < 60; run++) {
        Stream stream;

        stream_init(&stream, run % 2);
        for (unsigned i = 0; i < 400; i++)
            add_frame(&stream, (size_t)g_test_rand_int_range(
                                   1, g_test_rand_int_range(0, 20) ? 1600 : COLO_RECORD_MAX));
        read_all(&stream, run % 3 == 0 ? 40 : 200000, run % 5 == 0 ? 1 : 30);
        stream_clear(&stream);
    }
}

/* With a frame held in each chunk the rest is handed out without one, and with one again when they
 * have been let go. */
static void test_all_chunks_held(void)
{
    GPtrArray *held = g_ptr_array_new();
    ColoPacketReader reader;
    ColoWireFrame frame;
    ColoChunk *chunk;
    unsigned bare = 0;

    g_assert_true(colo_packet_reader_init(&reader, false));
    for (unsigned i = 0; i < 200; i++) {
        size_t room;
        uint8_t *to = colo_packet_reader_room(&reader, &room);

        memset(to, 0, 60004);
        to[2] = 60000 >> 8;
        to[3] = 60000 & 0xff;
        g_assert_cmpuint(room, >=, 60004);
        colo_packet_reader_took(&reader, 60004);
        g_assert_cmpuint(colo_packet_reader_next(&reader, &frame, 1, &chunk), ==, 1);
        g_assert_cmpuint(frame.len, ==, 60000);
        bare += !chunk;
        if (!chunk)
            continue;
        colo_chunk_ref(chunk);
        g_ptr_array_add(held, chunk);
    }
    g_assert_cmpuint(bare, >, 0);
    g_assert_cmpuint(held->len * 60000, <=, COLO_PACKET_CHUNKS * COLO_PACKET_CHUNK);
    for (unsigned i = 0; i < held->len; i++)
        colo_chunk_unref(g_ptr_array_index(held, i));
    for (unsigned i = 0; i < 2; i++) {
        size_t room;

        memcpy(colo_packet_reader_room(&reader, &room), "\0\0\0\1x", 5);
        colo_packet_reader_took(&reader, 5);
        g_assert_cmpuint(colo_packet_reader_next(&reader, &frame, 1, &chunk), ==, 1);
    }
    g_assert_nonnull(chunk);
    colo_packet_reader_clear(&reader);
    g_ptr_array_unref(held);
}

static void assert_broken(bool vnet, const void *bytes, size_t len)
{
    ColoPacketReader reader;
    ColoWireFrame frame[2];
    ColoChunk *chunk;
    size_t room;

    g_assert_true(colo_packet_reader_init(&reader, vnet));
    memcpy(colo_packet_reader_room(&reader, &room), bytes, len);
    colo_packet_reader_took(&reader, len);
    /* The frame before it counts. */
    g_assert_cmpuint(colo_packet_reader_next(&reader, frame, 2, &chunk), ==, 1);
    g_assert_false(reader.broken);
    g_assert_cmpuint(colo_packet_reader_next(&reader, frame, 2, &chunk), ==, 0);
    g_assert_true(reader.broken);
    colo_packet_reader_clear(&reader);
}

static void test_not_framing(void)
{
    assert_broken(false, "\0\0\0\1x\0\2\0\0", 9);
    assert_broken(false, "\0\0\0\1x\377\377\377\377", 9);
    assert_broken(true, "\0\0\0\1\0\0\0\0x\0\0\0\1\0\0\0\2", 17);
    assert_broken(true, "\0\0\0\1\0\0\0\0x\0\0\1\0\0\0\0\101", 17);
}

static void test_burst_frame_end(void)
{
    static const uint8_t two[] = "\0\0\0\2ab\0\0\0\1c", other[] = "\0\0\0\3xyz";
    ColoChunk chunk = {0};
    ColoBurst burst = {0};

    g_assert_true(colo_burst_add(&burst, two, 6, &chunk));
    g_assert_true(colo_burst_add(&burst, two + 6, 5, &chunk));
    g_assert_cmpuint(burst.n, ==, 1); /* they lie one behind the other */
    g_assert_true(colo_burst_add(&burst, other, 7, &chunk));
    g_assert_cmpuint(chunk.refs, ==, 2);
    g_assert_cmpuint(burst.bytes, ==, 18);
    for (size_t at = 0; at <= 18; at++)
        g_assert_cmpuint(colo_burst_frame_end(&burst, at, 4), ==,
                         at == 0    ? 0
                         : at <= 6  ? 6
                         : at <= 11 ? 11
                                    : 18);
    colo_burst_clear(&burst);
    g_assert_cmpuint(chunk.refs, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/packet-reader/random-cuts", test_random_cuts);
    g_test_add_func("/packet-reader/all-chunks-held", test_all_chunks_held);
    g_test_add_func("/packet-reader/not-framing", test_not_framing);
    g_test_add_func("/burst/frame-end", test_burst_frame_end);
    return g_test_run();
}
