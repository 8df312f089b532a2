/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parser of an NBD client's requests: streams made by hand, cut at every byte, and spoilt. */
#include "comparator/nbd-requests.h"

#include <glib.h>
#include <string.h>

#define ADD(to, text) g_byte_array_append(to, (const guint8 *)(text), sizeof(text) - 1)

#define REQUEST "\x25\x60\x95\x13"
#define HANDLE "\0\0\x7f\x12\x34\x56\x78\x9a"
#define AT "\0\0\0\0\0\0\x10\0"

/* What QEMU 7.2's client says until the export is open. */
static GByteArray *negotiation(void)
{
    GByteArray *to = g_byte_array_new();

    ADD(to, "\0\0\0\3");
    ADD(to, "IHAVEOPT\0\0\0\x08\0\0\0\0");
    ADD(to, "IHAVEOPT\0\0\0\7\0\0\0\x0d\0\0\0\3vda\0\2\0\0\0\3");
    return to;
}

static void add_requests(GByteArray *to)
{
    ADD(to, REQUEST "\0\0\0\1" HANDLE AT "\0\0\0\x08" REQUEST "\0\0\0\3"); /* a WRITE of that */
    ADD(to, REQUEST "\0\0\0\3" HANDLE AT "\0\0\0\0");
    ADD(to, REQUEST "\0\1\0\6" HANDLE AT "\0\1\0\0");
    ADD(to, REQUEST "\0\0\0\1" HANDLE AT "\0\0\0\0");
}

static void test_counts_in_any_pieces(void)
{
    g_autoptr(GByteArray) stream = negotiation();

    add_requests(stream);
    for (size_t step = 1; step <= stream->len; step++) {
        ColoNbdRequests parser;

        colo_nbd_requests_init(&parser);
        for (size_t at = 0; at < stream->len; at += step)
            g_assert_true(
                colo_nbd_requests_feed(&parser, stream->data + at, MIN(step, stream->len - at)));
        g_assert_cmpuint(parser.whole, ==, 4);
    }
}

/* A WRITE counts when its last byte has passed: before that there is nothing to answer. */
static void test_write_counts_when_whole(void)
{
    g_autoptr(GByteArray) stream = negotiation();
    ColoNbdRequests parser;

    ADD(stream, REQUEST "\0\0\0\1" HANDLE AT "\0\0\0\4abc");
    colo_nbd_requests_init(&parser);
    g_assert_true(colo_nbd_requests_feed(&parser, stream->data, stream->len));
    g_assert_cmpuint(parser.whole, ==, 0);
    g_assert_true(colo_nbd_requests_feed(&parser, (const uint8_t *)"d", 1));
    g_assert_cmpuint(parser.whole, ==, 1);
}

static void test_disconnect_has_no_answer(void)
{
    g_autoptr(GByteArray) stream = negotiation();
    ColoNbdRequests parser;

    ADD(stream, REQUEST "\0\0\0\2" HANDLE AT "\0\0\0\0");
    colo_nbd_requests_init(&parser);
    g_assert_true(colo_nbd_requests_feed(&parser, stream->data, stream->len));
    g_assert_cmpuint(parser.whole, ==, 0);
}

static void refused(const char *tail, size_t len)
{
    g_autoptr(GByteArray) stream = negotiation();
    ColoNbdRequests parser;

    add_requests(stream);
    g_byte_array_append(stream, (const guint8 *)tail, (guint)len);
    colo_nbd_requests_init(&parser);
    g_assert_false(colo_nbd_requests_feed(&parser, stream->data, stream->len));
    /* For good. */
    g_assert_false(colo_nbd_requests_feed(&parser, (const uint8_t *)REQUEST, 4));
}

#define REFUSED(text) refused(text, sizeof(text) - 1)

static void test_unknown_is_for_good(void)
{
    REFUSED("IHAVEOPT\0\0\0\7\0\0\0\0"); /* an option among requests */
    REFUSED("\x21\xe4\x1c\x71");         /* extended headers */
    REFUSED(REQUEST "\0\0\0\x08" HANDLE AT "\0\0\0\0");
    REFUSED(REQUEST "\0\0\0\1" HANDLE AT "\2\0\0\1"); /* more than a WRITE may have */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-requests/pieces", test_counts_in_any_pieces);
    g_test_add_func("/nbd-requests/whole", test_write_counts_when_whole);
    g_test_add_func("/nbd-requests/disconnect", test_disconnect_has_no_answer);
    g_test_add_func("/nbd-requests/unknown", test_unknown_is_for_good);
    return g_test_run();
}
