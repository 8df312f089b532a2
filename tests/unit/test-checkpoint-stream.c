/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The checkpoint stream's parser: streams made by hand, cut at every byte, and spoilt. */
#include "comparator/checkpoint-stream.h"

#include <glib.h>
#include <string.h>

static void add(GByteArray *to, const char *bytes, size_t len)
{
    g_byte_array_append(to, (const guint8 *)bytes, (guint)len);
}

static void add_page(GByteArray *to, const char *header, size_t len)
{
    guint8 page[4096];

    /* A page full of what would be words and section types outside of it. */
    for (size_t i = 0; i < sizeof(page); i++)
        page[i] = (guint8)(i % 5);
    add(to, header, len);
    g_byte_array_append(to, page, sizeof(page));
}

#define ADD(to, text) add(to, text, sizeof(text) - 1)

/* REQUEST, SEND and sections of every form. */
static void add_sections(GByteArray *to)
{
    char compressed[300] = {0}, xbzrle[259] = {1, 1, 0};

    ADD(to, "\0\0\0\1");
    ADD(to, "\0\0\0\3");
    /* Section end of "ram" with a footer: page with a name, CONTINUE page, zero pages. */
    ADD(to, "\3\0\0\0\2");
    add_page(to, "\0\0\0\0\0\x12\x30\x08\6pc.ram", 15);
    add_page(to, "\0\0\0\0\0\x12\x40\x28", 8);
    ADD(to, "\0\0\0\0\0\x12\x50\x22\0");
    ADD(to, "\0\0\0\0\0\0\0\x02\0\0"); /* a block whose name is empty */
    ADD(to, "\0\0\0\0\0\0\x10\x60");   /* XBZRLE, 256 bytes */
    add(to, xbzrle, sizeof(xbzrle));
    ADD(to, "\0\0\0\0\0\0\x21\x20\0\0\1\x2c"); /* COMPRESS, 300 bytes */
    add(to, compressed, sizeof(compressed));
    ADD(to, "\0\0\0\0\0\0\0\x10");
    ADD(to, "\x7e\0\0\0\2");
    /* Section part without a footer and without a page. */
    ADD(to, "\2\0\0\1\2\0\0\0\0\0\0\0\x10");
    ADD(to, "\0");
}

static void add_device(GByteArray *to, guint32 size)
{
    g_autofree char *state = g_malloc0(size);
    guint32 be = GUINT32_TO_BE(size);

    ADD(to, "\0\0\0\4\0\0\0\0");
    add(to, (const char *)&be, sizeof(be));
    state[0] = 4;
    add(to, state, size);
}

static GByteArray *checkpoint(guint32 device)
{
    GByteArray *to = g_byte_array_new();

    add_sections(to);
    add_device(to, device);
    return to;
}

/* Feeds in pieces of at most @step bytes; records each event's offset. Returns their number. */
static int run(const guint8 *data, size_t len, size_t step, ColoForwardEvent *events,
               size_t *offsets, ColoForwardParser *parser)
{
    size_t at = 0;
    int n = 0;

    colo_forward_init(parser);
    while (at < len) {
        size_t piece = MIN(step, len - at), done = 0;

        while (done < piece) {
            ColoForwardEvent event;

            done += colo_forward_feed(parser, data + at + done, piece - done, &event);
            if (event == COLO_FORWARD_NOTHING)
                continue;
            g_assert_cmpint(n, <, 16);
            events[n] = event;
            offsets[n++] = at + done;
            if (event == COLO_FORWARD_UNKNOWN)
                return n;
        }
        at += piece;
    }
    return n;
}

static void assert_two_checkpoints(const ColoForwardEvent *events, const size_t *offsets, int n,
                                   size_t first, size_t all)
{
    const ColoForwardEvent expected[] = {COLO_FORWARD_REQUEST,  COLO_FORWARD_SEND,
                                         COLO_FORWARD_COMPLETE, COLO_FORWARD_REQUEST,
                                         COLO_FORWARD_SEND,     COLO_FORWARD_COMPLETE};
    const size_t at[] = {4, 8, first, first + 4, first + 8, all};

    g_assert_cmpint(n, ==, 6);
    for (int i = 0; i < 6; i++) {
        g_assert_cmpint(events[i], ==, expected[i]);
        g_assert_cmpuint(offsets[i], ==, at[i]);
    }
}

/* The events and their places are the same however the stream is cut: in two at every byte. */
static void test_split_at_every_byte(void)
{
    g_autoptr(GByteArray) stream = checkpoint(1000);
    g_autoptr(GByteArray) second = checkpoint(2);
    size_t first = stream->len;

    g_byte_array_append(stream, second->data, second->len);
    for (size_t cut = 0; cut <= stream->len; cut++) {
        ColoForwardParser parser;
        ColoForwardEvent events[16];
        size_t offsets[16];
        int n = 0;

        colo_forward_init(&parser);
        for (size_t at = 0; at < stream->len;) {
            size_t end = at < cut ? cut : stream->len;
            ColoForwardEvent event;

            at += colo_forward_feed(&parser, stream->data + at, end - at, &event);
            if (event != COLO_FORWARD_NOTHING) {
                events[n] = event;
                offsets[n++] = at;
            }
        }
        assert_two_checkpoints(events, offsets, n, first, stream->len);
        g_assert_false(colo_forward_inside(&parser));
    }
}

static void test_pieces_of_every_size(void)
{
    g_autoptr(GByteArray) stream = checkpoint(1000);
    g_autoptr(GByteArray) second = checkpoint(77);
    size_t first = stream->len;

    g_byte_array_append(stream, second->data, second->len);
    for (size_t step = 1; step < 300; step++) {
        ColoForwardParser parser;
        ColoForwardEvent events[16];
        size_t offsets[16];
        int n = run(stream->data, stream->len, step, events, offsets, &parser);

        assert_two_checkpoints(events, offsets, n, first, stream->len);
        g_assert_cmpuint(parser.pages, ==, 4);
        g_assert_cmpuint(parser.zero_pages, ==, 4);
        g_assert_cmpuint(parser.checkpoints, ==, 2);
    }
}

static ColoForwardEvent last_event(const guint8 *data, size_t len)
{
    ColoForwardParser parser;
    ColoForwardEvent events[16];
    size_t offsets[16];
    int n = run(data, len, len, events, offsets, &parser);

    return n ? events[n - 1] : COLO_FORWARD_NOTHING;
}

static void test_unknown(void)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *what;
    } bad[] = {
        {"\0\0\0\3", 4, "SEND without REQUEST"},
        {"\0\0\0\1\0\0\0\1", 8, "REQUEST twice"},
        {"QEVM", 4, "an initial migration"},
        {"\0\0\0\1\0\0\0\3\1", 9, "section start"},
        {"\0\0\0\1\0\0\0\3\4", 9, "section full among the live ones"},
        {"\0\0\0\1\0\0\0\3\3\0\0\0\2\0\0\0\0\0\0\2\x20", 21, "multifd's flag 0x200"},
        {"\0\0\0\1\0\0\0\3\3\0\0\0\2\0\0\0\0\0\0\0\x2a", 21, "page and zero at once"},
        {"\0\0\0\1\0\0\0\3\3\0\0\0\2\0\0\0\0\0\0\0\x30", 21, "EOS with CONTINUE"},
        {"\0\0\0\1\0\0\0\3\3\0\0\0\2\0\0\0\0\0\0\0\x22\7", 22, "zero page that is not zero"},
        {"\0\0\0\1\0\0\0\3\3\0\0\0\2\0\0\0\0\0\0\0\x10\x7e\0\0\0\3", 26, "footer of another"},
        {"\0\0\0\1\0\0\0\3\0\0\0\0\5", 13, "no SIZE"},
        {"\0\0\0\1\0\0\0\3\0\0\0\0\4\0\0\0\1\0\0\0\0", 21, "device state of 4 GiB"},
        {"\0\0\0\1\0\0\0\3\0\0\0\0\4\0\0\0\0\0\0\0\1", 21, "device state of 1 byte"},
        {"\0\0\0\1\0\0\0\3\0\0\0\0\4\0\0\0\0\0\0\0\2\4\1", 23, "device state without its end"},
        {"\0\0\0\1\0\0\0\3\0\0\0\0\4\0\0\0\0\0\0\0\2\3", 22, "device state of another type"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        ColoForwardEvent event = last_event((const guint8 *)bad[i].bytes, bad[i].len);

        if (event != COLO_FORWARD_UNKNOWN)
            g_test_message("not refused: %s", bad[i].what);
        g_assert_cmpint(event, ==, COLO_FORWARD_UNKNOWN);
        /* One byte less is not known to be wrong yet. */
        g_assert_cmpint(last_event((const guint8 *)bad[i].bytes, bad[i].len - 1), !=,
                        COLO_FORWARD_UNKNOWN);
    }
}

/* After UNKNOWN nothing is believed any more, not even a perfect checkpoint. */
static void test_unknown_is_for_good(void)
{
    g_autoptr(GByteArray) stream = checkpoint(10);
    ColoForwardParser parser;
    ColoForwardEvent event;

    colo_forward_init(&parser);
    g_assert_cmpuint(colo_forward_feed(&parser, (const guint8 *)"QEVM", 4, &event), ==, 4);
    g_assert_cmpint(event, ==, COLO_FORWARD_UNKNOWN);
    g_assert_cmpuint(colo_forward_feed(&parser, stream->data, stream->len, &event), ==,
                     stream->len);
    g_assert_cmpint(event, ==, COLO_FORWARD_UNKNOWN);
    g_assert_cmpuint(parser.checkpoints, ==, 0);
}

static void test_return_words(void)
{
    static const guint8 words[] = {0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 2};
    static const ColoReturnEvent expected[] = {COLO_RETURN_READY, COLO_RETURN_REPLY,
                                               COLO_RETURN_RECEIVED, COLO_RETURN_LOADED,
                                               COLO_RETURN_REPLY};

    for (size_t step = 1; step <= sizeof(words); step++) {
        ColoReturnParser parser;
        size_t n = 0;

        colo_return_init(&parser);
        for (size_t at = 0; at < sizeof(words);) {
            ColoReturnEvent event;

            at += colo_return_feed(&parser, words + at, MIN(step, sizeof(words) - at), &event);
            if (event != COLO_RETURN_NOTHING) {
                g_assert_cmpuint(at, ==, 4 * (n + 1));
                g_assert_cmpint(event, ==, expected[n++]);
            }
        }
        g_assert_cmpuint(n, ==, G_N_ELEMENTS(expected));
    }
}

static void test_return_out_of_order(void)
{
    static const char *const bad[] = {"\0\0\0\2", "\0\0\0\5", "\0\0\0\6", "\0\1\0\4", "\0\0\0\7"};
    static const guint8 ready_received[] = {0, 0, 0, 0, 0, 0, 0, 5};
    ColoReturnParser parser;
    ColoReturnEvent event;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        colo_return_init(&parser);
        colo_return_feed(&parser, (const guint8 *)bad[i], 4, &event);
        g_assert_cmpint(event, ==, COLO_RETURN_UNKNOWN);
        colo_return_feed(&parser, ready_received, 4, &event);
        g_assert_cmpint(event, ==, COLO_RETURN_UNKNOWN);
    }
    colo_return_init(&parser);
    g_assert_cmpuint(colo_return_feed(&parser, ready_received, 8, &event), ==, 4);
    g_assert_cmpint(event, ==, COLO_RETURN_READY);
    colo_return_feed(&parser, ready_received + 4, 4, &event);
    g_assert_cmpint(event, ==, COLO_RETURN_UNKNOWN);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/checkpoint-stream/split-at-every-byte", test_split_at_every_byte);
    g_test_add_func("/checkpoint-stream/pieces", test_pieces_of_every_size);
    g_test_add_func("/checkpoint-stream/unknown", test_unknown);
    g_test_add_func("/checkpoint-stream/unknown-for-good", test_unknown_is_for_good);
    g_test_add_func("/checkpoint-stream/return", test_return_words);
    g_test_add_func("/checkpoint-stream/return-order", test_return_out_of_order);
    return g_test_run();
}
