/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Framing, XDR bodies and the command table: everything of src/rpc without a socket. */
#include "rpc/command-table.h"
#include "rpc/message.h"
#include "util/error.h"

#include <string.h>

static const ColoRpcHeader call = {
    .program = COLO_RPC_PROGRAM,
    .version = COLO_RPC_VERSION,
    .procedure = COLO_RPC_PROC_COMMAND,
    .type = COLO_RPC_CALL,
    .serial = 7,
};

static GBytes *command_frame(const char *name, const char *args)
{
    struct colo_rpc_command_args body = {.name = (char *)name};

    body.args.args_val = (char *)args;
    body.args.args_len = (u_int)strlen(args);
    return colo_rpc_message_build(&call, (xdrproc_t)xdr_colo_rpc_command_args, &body, NULL);
}

static void feed_bytes(ColoRpcReader *reader, GBytes *bytes)
{
    size_t size;
    const void *data = g_bytes_get_data(bytes, &size);

    colo_rpc_reader_feed(reader, data, size);
}

static void test_header_is_libvirts(void)
{
    /* libvirt's virnetmessagetest.c: header of this shape, 28 bytes, big endian. */
    static const uint8_t expect[] = {0, 0,    0, 0x1c, 0x11, 0x22, 0x33, 0x44, 0, 0,    0, 1, 0, 0,
                                     6, 0x66, 0, 0,    0,    0,    0,    0,    0, 0x99, 0, 0, 0, 0};
    ColoRpcHeader header = {
        .program = 0x11223344, .version = 1, .procedure = 0x666, .serial = 0x99};
    uint8_t out[COLO_RPC_HEADER_BYTES];

    colo_rpc_header_encode(&header, 0, out);
    g_assert_cmpmem(out, sizeof(out), expect, sizeof(expect));
}

static void test_frames_in_single_bytes(void)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    g_autoptr(GBytes) bytes = command_frame("colo-list", "{}");
    g_autoptr(GError) error = NULL;
    size_t size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);

    for (size_t i = 0; i < size; i++) {
        g_assert_null(colo_rpc_reader_next(reader, &error));
        g_assert_no_error(error);
        colo_rpc_reader_feed(reader, data + i, 1);
    }
    g_autoptr(ColoRpcFrame) frame = colo_rpc_reader_next(reader, &error);
    g_assert_no_error(error);
    g_assert_nonnull(frame);
    g_assert_cmpuint(frame->header.serial, ==, 7);
    g_assert_cmpuint(frame->header.program, ==, COLO_RPC_PROGRAM);
    g_assert_cmpuint(frame->len, ==, size - COLO_RPC_HEADER_BYTES);
    g_assert_null(colo_rpc_reader_next(reader, &error));
}

/* However much is read to the room, and however much behind it: the same frames come out. */
static void test_room_for_the_rest_of_a_frame(void)
{
    enum { BODY = 300000, FRAMES = 3 };
    ColoRpcHeader header = {.program = 1, .procedure = 2};
    g_autoptr(GByteArray) stream = g_byte_array_new();
    uint8_t head[COLO_RPC_HEADER_BYTES];

    for (unsigned i = 0; i < FRAMES; i++) {
        header.serial = i;
        colo_rpc_header_encode(&header, BODY, head);
        g_byte_array_append(stream, head, sizeof(head));
        for (unsigned j = 0; j < BODY; j++)
            g_byte_array_append(stream, &(uint8_t){(uint8_t)(i * 77 + j * 13)}, 1);
    }
    for (size_t step = 1000; step < 700000; step = step * 5 / 3) {
        g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
        unsigned frames = 0, rooms = 0;

        for (size_t at = 0; at < stream->len;) {
            size_t n = MIN(step, stream->len - at), room = 0, part;
            uint8_t *rest = colo_rpc_reader_room(reader, &room);
            ColoRpcFrame *frame;

            part = MIN(n, room);
            if (rest) {
                rooms++;
                memcpy(rest, stream->data + at, part);
                colo_rpc_reader_filled(reader, part);
            }
            if (n > part)
                colo_rpc_reader_feed(reader, stream->data + at + part, n - part);
            at += n;
            while ((frame = colo_rpc_reader_next(reader, NULL))) {
                g_assert_cmpuint(frame->header.serial, ==, frames);
                g_assert_cmpmem(frame->body, frame->len,
                                stream->data + frames * (BODY + COLO_RPC_HEADER_BYTES) +
                                    COLO_RPC_HEADER_BYTES,
                                BODY);
                frames++;
                colo_rpc_frame_free(frame);
            }
            g_assert_true(colo_rpc_reader_is_within(reader) ==
                          (at % (BODY + COLO_RPC_HEADER_BYTES) != 0));
        }
        g_assert_cmpuint(frames, ==, FRAMES);
        g_assert_cmpuint(rooms, >, 0);
    }
}

/* What is announced as larger, or wrong, gets no room; what was fed into a begun frame is in it. */
static void test_room_is_bounded(void)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    g_autoptr(ColoRpcReader) wrong = colo_rpc_reader_new(NULL);
    g_autoptr(GError) error = NULL;
    ColoRpcHeader header = {.program = 1};
    uint8_t head[COLO_RPC_HEADER_BYTES];
    size_t room;

    colo_rpc_header_encode(&header, COLO_RPC_FRAME_MAX - COLO_RPC_HEADER_BYTES, head);
    colo_rpc_reader_feed(reader, head, sizeof(head));
    g_assert_null(colo_rpc_reader_room(reader, &room));
    colo_rpc_header_encode(&header, COLO_RPC_FRAME_MAX, head);
    colo_rpc_reader_feed(wrong, head, sizeof(head));
    g_assert_null(colo_rpc_reader_room(wrong, &room));
    g_assert_null(colo_rpc_reader_next(wrong, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
}

static void test_many_frames_at_once(void)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);
    g_autoptr(GBytes) bytes = command_frame("colo-list", "{}");

    for (int i = 0; i < 5; i++)
        feed_bytes(reader, bytes);
    for (int i = 0; i < 5; i++) {
        g_autoptr(ColoRpcFrame) frame = colo_rpc_reader_next(reader, NULL);

        g_assert_nonnull(frame);
    }
    g_assert_null(colo_rpc_reader_next(reader, NULL));
}

/* The reader refuses @length in the length word with an error that holds @words. */
static void assert_length_refused(ColoRpcFrameLimit limit, uint32_t program, uint32_t length,
                                  const char *words)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(limit);
    ColoRpcHeader header = {.program = program, .version = 1};
    uint8_t bytes[COLO_RPC_HEADER_BYTES];
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) again = NULL;

    colo_rpc_header_encode(&header, length - COLO_RPC_HEADER_BYTES, bytes);
    colo_rpc_reader_feed(reader, bytes, sizeof(bytes));
    g_assert_null(colo_rpc_reader_next(reader, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_nonnull(strstr(error->message, words));
    /* And stays refused: the stream has no next frame. */
    colo_rpc_reader_feed(reader, bytes, sizeof(bytes));
    g_assert_null(colo_rpc_reader_next(reader, &again));
    g_assert_error(again, COLO_ERROR, COLO_ERROR_PEER);
}

static void test_lengths_out_of_bounds_are_refused(void)
{
    assert_length_refused(NULL, 1, 0, "below the header");
    assert_length_refused(NULL, 1, COLO_RPC_HEADER_BYTES - 1, "below the header");
    assert_length_refused(NULL, 1, COLO_RPC_FRAME_MAX + 1, "above the limit");
    assert_length_refused(NULL, 1, 33u * 1024 * 1024, "above the limit");
    assert_length_refused(NULL, 1, UINT32_MAX, "above the limit");
    assert_length_refused(colo_rpc_own_frame_limit, COLO_RPC_PROGRAM, COLO_RPC_OWN_FRAME_MAX + 1,
                          "above the program's limit");
}

static void test_largest_frame_of_another_program_waits(void)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(colo_rpc_own_frame_limit);
    ColoRpcHeader header = {.program = 0x20008086, .version = 1};
    uint8_t bytes[COLO_RPC_HEADER_BYTES];
    g_autoptr(GError) error = NULL;

    colo_rpc_header_encode(&header, COLO_RPC_FRAME_MAX - COLO_RPC_HEADER_BYTES, bytes);
    colo_rpc_reader_feed(reader, bytes, sizeof(bytes));
    g_assert_null(colo_rpc_reader_next(reader, &error));
    g_assert_no_error(error);
}

static void test_body_that_is_short_or_long_is_refused(void)
{
    g_autoptr(GBytes) bytes = command_frame("colo-status", "{\"domain\":\"x\"}");
    size_t size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    size_t len = size - COLO_RPC_HEADER_BYTES;

    for (size_t cut = 0; cut <= len + 4; cut += 4) {
        g_autofree ColoRpcFrame *frame = g_malloc0(sizeof(*frame) + len + 4);
        struct colo_rpc_command_args body;
        g_autoptr(GError) error = NULL;
        gboolean ok;

        frame->header = call;
        frame->len = cut;
        memcpy(frame->body, data + COLO_RPC_HEADER_BYTES, MIN(cut, len));
        ok = colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_command_args, &body,
                                     sizeof(body), &error);
        g_assert_cmpint(ok, ==, cut == len);
        if (!ok)
            g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
        xdr_free((xdrproc_t)xdr_colo_rpc_command_args, (char *)&body);
    }
}

static void test_string_with_a_nul_inside_is_refused(void)
{
    static const uint8_t bytes[] = "\0\0\0\x0b"
                                   "colo-list\0x"
                                   "\0"
                                   "\0\0\0";
    g_autofree ColoRpcFrame *frame = g_malloc0(sizeof(*frame) + 20);
    struct colo_rpc_command_args body;

    frame->header = call;
    frame->len = 20;
    memcpy(frame->body, bytes, 19);
    g_assert_false(colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_command_args, &body,
                                           sizeof(body), NULL));
    xdr_free((xdrproc_t)xdr_colo_rpc_command_args, (char *)&body);
    frame->body[13] = '-'; /* the same bytes without it are fine */
    g_assert_true(colo_rpc_message_decode(frame, (xdrproc_t)xdr_colo_rpc_command_args, &body,
                                          sizeof(body), NULL));
    g_assert_cmpstr(body.name, ==, "colo-list-x");
    xdr_free((xdrproc_t)xdr_colo_rpc_command_args, (char *)&body);
}

static void test_members_over_their_limit_are_not_sent(void)
{
    g_autofree char *name = g_strnfill(COLO_RPC_NAME_MAX + 1, 'x');
    struct colo_rpc_command_args body = {.name = name};
    g_autoptr(GError) error = NULL;

    g_assert_null(
        colo_rpc_message_build(&call, (xdrproc_t)xdr_colo_rpc_command_args, &body, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_RESOURCE);
}

static ColoRpcFrame *parse_one(GBytes *bytes)
{
    g_autoptr(ColoRpcReader) reader = colo_rpc_reader_new(NULL);

    feed_bytes(reader, bytes);
    return colo_rpc_reader_next(reader, NULL);
}

static void test_error_keeps_its_code_and_text(void)
{
    for (int code = 0; code < COLO_ERROR_LAST; code++) {
        g_autoptr(GError) sent = g_error_new(COLO_ERROR, code, "domain 'x' is not there");
        g_autoptr(GBytes) bytes = colo_rpc_error_build(&call, sent);
        g_autoptr(ColoRpcFrame) frame = parse_one(bytes);
        g_autoptr(GError) found = NULL;

        g_assert_cmpuint(frame->header.type, ==, COLO_RPC_REPLY);
        g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
        g_assert_cmpuint(frame->header.serial, ==, 7);
        colo_rpc_error_decode(frame, &found);
        g_assert_error(found, COLO_ERROR, code);
        g_assert_cmpstr(found->message, ==, sent->message);
    }
}

static void test_error_text_over_its_limit_is_cut_between_characters(void)
{
    g_autofree char *a = g_strnfill(COLO_RPC_TEXT_MAX - 1, 'a');
    g_autofree char *text = g_strconcat(a, "\xc3\xa4\xc3\xb6", NULL);
    g_autoptr(GError) sent = g_error_new_literal(COLO_ERROR, COLO_ERROR_PEER, text);
    g_autoptr(GBytes) bytes = colo_rpc_error_build(&call, sent);
    g_autoptr(ColoRpcFrame) frame = parse_one(bytes);
    g_autoptr(GError) found = NULL;

    colo_rpc_error_decode(frame, &found);
    g_assert_error(found, COLO_ERROR, COLO_ERROR_PEER);
    g_assert_cmpstr(found->message, ==, a);
}

/* Bytes checked by hand against struct virNetMessageError of libvirt 9.0. */
static void test_unknown_program_is_libvirts_error(void)
{
    ColoRpcHeader header = {
        .program = 0x20008086, .version = 1, .procedure = 66, .type = COLO_RPC_CALL, .serial = 3};
    static const char text[] = "Cannot find program 536903814 version 1";
    g_autoptr(GByteArray) expect = g_byte_array_new();
    g_autoptr(GBytes) bytes = colo_rpc_unknown_program_build(&header);
    g_autoptr(ColoRpcFrame) frame = parse_one(bytes);
    size_t n = strlen(text);
    const uint32_t head[] = {GUINT32_TO_BE(39), GUINT32_TO_BE(7), GUINT32_TO_BE(1),
                             GUINT32_TO_BE((uint32_t)n)};
    const uint32_t mid[] = {GUINT32_TO_BE(2), 0, GUINT32_TO_BE(1), GUINT32_TO_BE(2)};
    const uint32_t str2[] = {GUINT32_TO_BE(1), GUINT32_TO_BE((uint32_t)n)};
    static const uint8_t zero[16];

    g_byte_array_append(expect, (const uint8_t *)head, sizeof(head));
    g_byte_array_append(expect, (const uint8_t *)text, (guint)n);
    g_byte_array_append(expect, zero, (4 - n % 4) % 4);
    g_byte_array_append(expect, (const uint8_t *)mid, sizeof(mid));
    g_byte_array_append(expect, (const uint8_t *)"%s\0\0", 4);
    g_byte_array_append(expect, (const uint8_t *)str2, sizeof(str2));
    g_byte_array_append(expect, (const uint8_t *)text, (guint)n);
    g_byte_array_append(expect, zero, (4 - n % 4) % 4);
    g_byte_array_append(expect, zero, 16); /* str3, int1, int2, net */
    g_assert_cmpuint(frame->header.program, ==, 0x20008086);
    g_assert_cmpuint(frame->header.status, ==, COLO_RPC_ERROR);
    g_assert_cmpmem(frame->body, frame->len, expect->data, expect->len);
}

static void test_table_is_sound(void)
{
    static const char *const groups[] = {"pair", "protection", "monitor", NULL};
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    size_t n;
    const ColoCommand *table = colo_command_table(&n);

    g_assert_cmpuint(n, >, 0);
    for (size_t i = 0; i < n; i++) {
        gboolean optional = FALSE;

        g_assert_true(g_str_has_prefix(table[i].name, "colo-"));
        g_assert_cmpuint(strlen(table[i].name), <=, COLO_RPC_NAME_MAX);
        g_assert_true(g_hash_table_add(seen, (gpointer)table[i].name));
        g_assert_true(g_strv_contains(groups, table[i].group));
        g_assert_nonnull(table[i].summary);
        g_assert_nonnull(table[i].results[0].name);
        g_assert_true(colo_command_find(table[i].name) == &table[i]);
        for (const ColoArg *arg = table[i].args; arg->name; arg++) {
            g_assert_nonnull(arg->help);
            g_assert_true(arg->max == 0 || arg->min <= arg->max);
            g_assert_true(colo_command_find_arg(&table[i], arg->name) == arg);
            /* A required positional one after an optional one could not be given alone. */
            if (arg->positional) {
                g_assert_false(arg->required && optional);
                optional = !arg->required;
            }
            g_assert_false(arg->local && arg->required);
        }
    }
    g_assert_null(colo_command_find("colo-unknown"));
    g_assert_null(colo_command_find(NULL));
}

static void test_good_arguments_pass(void)
{
    static const char *const good[][2] = {
        {"colo-list", "{}"},
        {"colo-status", "{\"domain\":\"web1\"}"},
        {"colo-protect", "{\"domain\":\"web1\",\"pair\":\"ab\"}"},
        {"colo-pair-define", "{\"name\":\"ab\",\"peer\":\"beta\",\"port\":65535}"},
        {"colo-failover", "{\"domain\":\"\xc3\xa4\",\"i-am-sure\":true,\"discard\":false}"},
    };

    g_assert_true(colo_command_validate("colo-list", NULL, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(JsonObject) args = colo_json_parse(good[i][1], strlen(good[i][1]), NULL);
        g_autoptr(GError) error = NULL;

        g_assert_true(colo_command_validate(good[i][0], args, &error));
        g_assert_no_error(error);
    }
}

static void test_bad_arguments_are_named(void)
{
    static const char *const bad[][3] = {
        {"colo-nothing", "{}", "'colo-nothing'"},
        {"colo-list", "{\"domain\":\"x\"}", "'domain'"},
        {"colo-status", "{}", "'domain'"},
        {"colo-status", "{\"domain\":null}", "'domain'"},
        {"colo-status", "{\"domain\":\"\"}", "'domain'"},
        {"colo-status", "{\"domain\":7}", "'domain'"},
        {"colo-status", "{\"domain\":\"a\\nb\"}", "'domain'"},
        {"colo-status", "{\"domain\":\"a\\u0000b\"}", "'domain'"},
        {"colo-status", "{\"domain\":\"a\",\"watch\":true}", "'watch'"},
        {"colo-protect", "{\"domain\":\"a\",\"pair\":\"b\",\"wait\":true}", "'wait'"},
        {"colo-protect", "{\"domain\":\"a\"}", "'pair'"},
        {"colo-pair-define", "{\"name\":\"a\",\"peer\":\"b\",\"port\":0}", "'port'"},
        {"colo-pair-define", "{\"name\":\"a\",\"peer\":\"b\",\"port\":65536}", "'port'"},
        {"colo-pair-define", "{\"name\":\"a\",\"peer\":\"b\",\"port\":-1}", "'port'"},
        {"colo-pair-define", "{\"name\":\"a\",\"peer\":\"b\",\"port\":\"1\"}", "'port'"},
        {"colo-failover", "{\"domain\":\"a\",\"discard\":1}", "'discard'"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(JsonObject) args = colo_json_parse(bad[i][1], strlen(bad[i][1]), NULL);
        g_autoptr(GError) error = NULL;

        g_assert_nonnull(args);
        g_assert_false(colo_command_validate(bad[i][0], args, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
        g_assert_nonnull(strstr(error->message, bad[i][2]));
        g_assert_null(strchr(error->message, '\n'));
    }
}

static void test_text_from_outside_cannot_break_the_log(void)
{
    g_autoptr(JsonObject) args = colo_json_build("a\nb", "b", TRUE, NULL);
    g_autoptr(GError) member = NULL;
    g_autoptr(GError) name = NULL;

    g_assert_false(colo_command_validate("colo-list", args, &member));
    g_assert_null(strchr(member->message, '\n'));
    g_assert_false(colo_command_validate("colo-\n\033[2J", NULL, &name));
    g_assert_null(strchr(name->message, '\n'));
    g_assert_null(strchr(name->message, '\033'));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rpc/header-is-libvirts", test_header_is_libvirts);
    g_test_add_func("/rpc/frames-in-single-bytes", test_frames_in_single_bytes);
    g_test_add_func("/rpc/many-frames-at-once", test_many_frames_at_once);
    g_test_add_func("/rpc/room-for-the-rest-of-a-frame", test_room_for_the_rest_of_a_frame);
    g_test_add_func("/rpc/room-is-bounded", test_room_is_bounded);
    g_test_add_func("/rpc/lengths-out-of-bounds", test_lengths_out_of_bounds_are_refused);
    g_test_add_func("/rpc/largest-foreign-frame", test_largest_frame_of_another_program_waits);
    g_test_add_func("/rpc/body-short-or-long", test_body_that_is_short_or_long_is_refused);
    g_test_add_func("/rpc/nul-inside", test_string_with_a_nul_inside_is_refused);
    g_test_add_func("/rpc/member-limits", test_members_over_their_limit_are_not_sent);
    g_test_add_func("/rpc/error-round-trip", test_error_keeps_its_code_and_text);
    g_test_add_func("/rpc/error-text-cut",
                    test_error_text_over_its_limit_is_cut_between_characters);
    g_test_add_func("/rpc/unknown-program", test_unknown_program_is_libvirts_error);
    g_test_add_func("/rpc/table-is-sound", test_table_is_sound);
    g_test_add_func("/rpc/good-arguments", test_good_arguments_pass);
    g_test_add_func("/rpc/bad-arguments", test_bad_arguments_are_named);
    g_test_add_func("/rpc/no-control-characters", test_text_from_outside_cannot_break_the_log);
    return g_test_run();
}
