/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parser of an NBD server's replies: streams made by hand, cut at every byte, and spoilt. */
#include "comparator/nbd-replies.h"

#include <glib.h>
#include <string.h>

#define ADD(to, text) g_byte_array_append(to, (const guint8 *)(text), sizeof(text) - 1)

#define OPTION "\0\x03\xe8\x89\x04\x55\x65\xa9"
#define SIMPLE "\x67\x44\x66\x98"
#define CHUNK "\x66\x8e\x33\xef"
#define HANDLE "\0\0\x7f\x12\x34\x56\x78\x9a"

/* What QEMU 7.2's server says to its client until the export is open. */
static GByteArray *negotiation(gboolean structured)
{
    GByteArray *to = g_byte_array_new();

    ADD(to, "NBDMAGICIHAVEOPT\0\3");
    if (structured) {
        ADD(to, OPTION "\0\0\0\x08\0\0\0\1\0\0\0\0");
        ADD(to, OPTION "\0\0\0\x0a\0\0\0\4\0\0\0\x13\0\0\0\0base:allocation");
        ADD(to, OPTION "\0\0\0\x0a\0\0\0\1\0\0\0\0");
    } else {
        ADD(to, OPTION "\0\0\0\x08\x80\0\0\1\0\0\0\4nope");
    }
    ADD(to, OPTION "\0\0\0\7\0\0\0\3\0\0\0\x0e\0\3\0\0\0\1\0\0\x10\0\2\0\0\0");
    ADD(to, OPTION "\0\0\0\7\0\0\0\3\0\0\0\x0c\0\0\0\0\0\0\4\0\0\0\x04\xed");
    ADD(to, OPTION "\0\0\0\7\0\0\0\1\0\0\0\0");
    return to;
}

static void add_error(GByteArray *to, guint8 error, const char *text)
{
    guint8 n = (guint8)strlen(text), length = (guint8)(6 + n);

    ADD(to, CHUNK "\0\1\x80\1" HANDLE "\0\0\0");
    g_byte_array_append(to, &length, 1);
    ADD(to, "\0\0\0");
    g_byte_array_append(to, &error, 1);
    ADD(to, "\0");
    g_byte_array_append(to, &n, 1);
    g_byte_array_append(to, (const guint8 *)text, n);
}

/* One of each kind of reply that tells no error; the data of the READ would be one. */
static void add_good(GByteArray *to)
{
    ADD(to, SIMPLE "\0\0\0\0" HANDLE);
    ADD(to, CHUNK "\0\0\0\1" HANDLE "\0\0\0\x18\0\0\0\0\0\0\0\0" SIMPLE "\0\0\0\5" HANDLE);
    ADD(to, CHUNK "\0\1\0\2" HANDLE "\0\0\0\x0c\0\0\0\0\0\0\2\0\0\0\2\0");
    ADD(to, CHUNK "\0\1\0\5" HANDLE "\0\0\0\x14\0\0\0\0\0\0\2\0\0\0\0\3\0\0\4\0\0\0\0\0");
    ADD(to, CHUNK "\0\1\0\0" HANDLE "\0\0\0\0");
}

/* Feeds in pieces of at most @step bytes; records each error and its offset. Returns their number,
 * or -1 when the stream is unknown. */
static int run(const GByteArray *stream, size_t step, uint32_t *errors, size_t *offsets)
{
    ColoNbdReplies parser;
    int n = 0;

    colo_nbd_replies_init(&parser);
    for (size_t at = 0; at < stream->len;) {
        size_t piece = MIN(step, stream->len - at);
        ColoNbdEvent event;
        size_t took = colo_nbd_replies_feed(&parser, stream->data + at, piece, &event);

        g_assert_cmpuint(took, >, 0);
        g_assert_cmpuint(took, <=, piece);
        at += took;
        if (event == COLO_NBD_UNKNOWN)
            return -1;
        if (event == COLO_NBD_NOTHING) {
            g_assert_cmpuint(took, ==, piece);
            continue;
        }
        g_assert_cmpint(n, <, 8);
        errors[n] = parser.error;
        offsets[n++] = at;
    }
    return n;
}

/* The stream cut in two at every byte, and byte by byte, tells the same as the whole. */
static void assert_cuts(GByteArray *stream, int expected)
{
    uint32_t errors[8], again[8];
    size_t offsets[8], places[8];

    g_assert_cmpint(run(stream, stream->len, errors, offsets), ==, expected);
    for (size_t step = 1; step < stream->len; step++) {
        g_assert_cmpint(run(stream, step, again, places), ==, expected);
        for (int i = 0; i < expected; i++) {
            g_assert_cmpuint(again[i], ==, errors[i]);
            g_assert_cmpuint(places[i], ==, offsets[i]);
        }
    }
}

static void test_good_stream(void)
{
    g_autoptr(GByteArray) stream = negotiation(TRUE);

    add_good(stream);
    add_good(stream);
    assert_cuts(stream, 0);
}

static void test_error_chunk(void)
{
    g_autoptr(GByteArray) stream = negotiation(TRUE);
    uint32_t errors[8];
    size_t offsets[8], first, second;

    add_good(stream);
    add_error(stream, COLO_NBD_ENOSPC, "writing to file failed");
    first = stream->len;
    add_good(stream);
    add_error(stream, COLO_NBD_EIO, "");
    second = stream->len;
    add_good(stream);
    assert_cuts(stream, 2);
    run(stream, stream->len, errors, offsets);
    g_assert_cmpuint(errors[0], ==, COLO_NBD_ENOSPC);
    g_assert_cmpuint(errors[1], ==, COLO_NBD_EIO);
    /* At the end of the reply: the client has all of it when it is acted upon. */
    g_assert_cmpuint(offsets[0], ==, first);
    g_assert_cmpuint(offsets[1], ==, second);
}

/* An error with an offset behind the text, and a type that is not made yet. */
static void test_other_error_types(void)
{
    g_autoptr(GByteArray) stream = negotiation(TRUE);
    uint32_t errors[8];
    size_t offsets[8];

    ADD(stream, CHUNK "\0\0\x80\2" HANDLE "\0\0\0\x11\0\0\0\x0c\0\3bad\0\0\0\0\0\0\2\0");
    ADD(stream, CHUNK "\0\1\x80\x77" HANDLE "\0\0\0\7\0\0\0\x63\0\0?");
    assert_cuts(stream, 2);
    run(stream, stream->len, errors, offsets);
    g_assert_cmpuint(errors[0], ==, COLO_NBD_ENOMEM);
    g_assert_cmpuint(errors[1], ==, 99);
}

static void test_simple_errors_without_chunks(void)
{
    g_autoptr(GByteArray) stream = negotiation(FALSE);
    uint32_t errors[8];
    size_t offsets[8];

    ADD(stream, SIMPLE "\0\0\0\0" HANDLE);
    ADD(stream, SIMPLE "\0\0\0\x1c" HANDLE);
    ADD(stream, SIMPLE "\0\0\0\0" HANDLE);
    assert_cuts(stream, 1);
    run(stream, stream->len, errors, offsets);
    g_assert_cmpuint(errors[0], ==, COLO_NBD_ENOSPC);
}

static void test_enotsup_is_no_failure(void)
{
    g_assert_false(colo_nbd_error_is_failure(COLO_NBD_ENOTSUP));
    g_assert_true(colo_nbd_error_is_failure(COLO_NBD_EPERM));
    g_assert_true(colo_nbd_error_is_failure(COLO_NBD_EIO));
    g_assert_true(colo_nbd_error_is_failure(COLO_NBD_EINVAL));
    g_assert_true(colo_nbd_error_is_failure(COLO_NBD_ENOSPC));
    g_assert_true(colo_nbd_error_is_failure(12345));
    g_assert_cmpstr(colo_nbd_error_text(COLO_NBD_ENOSPC), ==, "NBD error reply: ENOSPC");
    g_assert_cmpstr(colo_nbd_error_text(12345), ==, "NBD error reply");
}

/* Each @bytes of @len behind the negotiation (@phase 1), or as an option (0), is no grammar. */
static void test_unknown(void)
{
    static const struct {
        int phase;
        const char *bytes;
        size_t len;
    } spoilt[] = {
#define SPOILT(phase, text) {phase, text, sizeof(text) - 1}
        SPOILT(0, "x\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x08\0\0\0\1\0\0\0\0"),
        SPOILT(0, OPTION "\0\0\0\x08\0\0\0\1\0\0\0\1x"),         /* ACK with a body */
        SPOILT(0, OPTION "\0\0\0\5\0\0\0\1\0\0\0\0"),            /* TLS */
        SPOILT(0, OPTION "\0\0\0\x0b\0\0\0\1\0\0\0\0"),          /* extended headers */
        SPOILT(0, OPTION "\0\0\0\7\0\0\0\5\0\0\0\0"),            /* type of reply */
        SPOILT(0, OPTION "\0\0\0\3\0\0\0\2\0\0\x40\1"),          /* too long */
        SPOILT(0, "\0\0\0\0\0\x10\0\0\0\3\0\0\0\0\0\0\0\0\0\0"), /* EXPORT_NAME */
        SPOILT(1, "data"),
        SPOILT(1, CHUNK "\0\2\0\0" HANDLE "\0\0\0\0"),               /* flag */
        SPOILT(1, CHUNK "\0\1\0\3" HANDLE "\0\0\0\0"),               /* type */
        SPOILT(1, CHUNK "\0\1\0\0" HANDLE "\0\0\0\1"),               /* lengths */
        SPOILT(1, CHUNK "\0\1\0\1" HANDLE "\0\0\0\x08"),             /* */
        SPOILT(1, CHUNK "\0\1\0\2" HANDLE "\0\0\0\x0d"),             /* */
        SPOILT(1, CHUNK "\0\1\0\5" HANDLE "\0\0\0\x0d"),             /* */
        SPOILT(1, CHUNK "\0\1\x80\1" HANDLE "\0\0\0\5"),             /* */
        SPOILT(1, CHUNK "\0\1\0\1" HANDLE "\2\0\0\x09"),             /* over 32 MiB */
        SPOILT(1, CHUNK "\0\1\x80\1" HANDLE "\0\0\0\6\0\0\0\0\0\0"), /* error 0 */
        SPOILT(1, CHUNK "\0\1\x80\1" HANDLE "\0\0\0\6\0\0\0\5\0\1"), /* text too long */
#undef SPOILT
    };
    g_autoptr(GByteArray) oldstyle = g_byte_array_new();

    for (size_t i = 0; i < G_N_ELEMENTS(spoilt); i++) {
        g_autoptr(GByteArray) stream = negotiation(TRUE);

        if (spoilt[i].phase == 0)
            g_byte_array_set_size(stream, 18);
        g_byte_array_append(stream, (const guint8 *)spoilt[i].bytes, (guint)spoilt[i].len);
        assert_cuts(stream, -1);
    }
    ADD(oldstyle, "NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0");
    assert_cuts(oldstyle, -1);
}

/* Chunks, where the client did not ask for them; and the data of a READ that was answered so. */
static void test_unknown_without_chunks(void)
{
    g_autoptr(GByteArray) chunks = negotiation(FALSE);
    g_autoptr(GByteArray) data = negotiation(FALSE);

    ADD(chunks, CHUNK "\0\1\0\0" HANDLE "\0\0\0\0");
    assert_cuts(chunks, -1);
    ADD(data, SIMPLE "\0\0\0\0" HANDLE "sector");
    assert_cuts(data, -1);
}

static void test_unknown_is_for_good(void)
{
    g_autoptr(GByteArray) stream = negotiation(TRUE);
    g_autoptr(GByteArray) good = negotiation(TRUE);
    ColoNbdReplies parser;
    ColoNbdEvent event;

    ADD(stream, "????");
    colo_nbd_replies_init(&parser);
    colo_nbd_replies_feed(&parser, stream->data, stream->len, &event);
    g_assert_cmpint(event, ==, COLO_NBD_UNKNOWN);
    g_assert_cmpuint(colo_nbd_replies_feed(&parser, good->data, good->len, &event), ==, good->len);
    g_assert_cmpint(event, ==, COLO_NBD_UNKNOWN);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-replies/good", test_good_stream);
    g_test_add_func("/nbd-replies/error/chunk", test_error_chunk);
    g_test_add_func("/nbd-replies/error/other-types", test_other_error_types);
    g_test_add_func("/nbd-replies/error/simple", test_simple_errors_without_chunks);
    g_test_add_func("/nbd-replies/error/enotsup", test_enotsup_is_no_failure);
    g_test_add_func("/nbd-replies/unknown/grammar", test_unknown);
    g_test_add_func("/nbd-replies/unknown/without-chunks", test_unknown_without_chunks);
    g_test_add_func("/nbd-replies/unknown/for-good", test_unknown_is_for_good);
    return g_test_run();
}
