/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The small things that everything stands on: framing, JSON access, error codes, FD passing. */
#include "util/error.h"
#include "util/fdpass.h"
#include "util/framing.h"
#include "util/json.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_frame_in_single_bytes(void)
{
    g_autoptr(ColoFrameReader) reader = colo_frame_reader_new();
    g_autoptr(GBytes) frame = colo_frame_build("{\"a\":1}", 7, NULL);
    g_autoptr(GError) error = NULL;
    size_t size, len = 0;
    const char *data = g_bytes_get_data(frame, &size);

    for (size_t i = 0; i < size; i++) {
        g_assert_null(colo_frame_reader_next(reader, &len, &error));
        g_assert_no_error(error);
        colo_frame_reader_feed(reader, data + i, 1);
    }
    g_autofree char *message = colo_frame_reader_next(reader, &len, &error);
    g_assert_cmpstr(message, ==, "{\"a\":1}");
    g_assert_cmpuint(len, ==, 7);
}

static void test_frame_of_4_gib_is_refused(void)
{
    g_autoptr(ColoFrameReader) reader = colo_frame_reader_new();
    g_autoptr(GError) error = NULL;
    size_t len;

    colo_frame_reader_feed(reader, "\xff\xff\xff\xff", 4);
    g_assert_null(colo_frame_reader_next(reader, &len, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_PEER);
}

static void test_json_names_what_is_wrong(void)
{
    static const char *const bad[] = {"", "[1]", "{\"a\":", "{}x", "nul", "{\"a\":1}{"};
    const char *s;
    uint64_t u;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(colo_json_parse(bad[i], strlen(bad[i]), &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    g_autoptr(JsonObject) o = colo_json_build("n", "i", -1, "s", "s", "x", "none", "s", NULL, NULL);
    g_autoptr(GError) missing = NULL;
    g_autoptr(GError) type = NULL;
    g_autoptr(GError) negative = NULL;

    g_assert_false(colo_json_get_string(o, "none", &s, &missing));
    g_assert_nonnull(strstr(missing->message, "'none'"));
    g_assert_false(colo_json_get_uint(o, "s", &u, &type));
    g_assert_nonnull(strstr(type->message, "string"));
    g_assert_false(colo_json_get_uint(o, "n", &u, &negative));
    g_assert_true(colo_json_get_string(o, "s", &s, NULL));
    g_assert_cmpstr(s, ==, "x");
}

/* Bytes after a NUL are part of the message: a parser that ends there would accept any. */
static void test_json_refuses_a_nul_byte(void)
{
    static const struct {
        const char *text;
        size_t len;
    } bad[] = {{"{\"a\":1}\0{\"a\":2}", 15}, {"{\"a\":1}\0", 8}, {"{\"a\"\0:1}", 8}, {"\0{}", 3}};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(colo_json_parse(bad[i].text, bad[i].len, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
    g_autoptr(JsonObject) escaped = colo_json_parse("{\"a\":\"\\u0000\"}", 14, NULL);
    const char *s;

    g_assert_nonnull(escaped);
    g_assert_false(colo_json_get_string(escaped, "a", &s, NULL));
}

static void test_json_keeps_64_bits(void)
{
    g_autoptr(JsonObject) o = colo_json_build("big", "u", UINT64_C(9007199254740993), NULL);
    g_autofree char *text = colo_json_to_string(o);
    g_autoptr(JsonObject) again = colo_json_parse(text, strlen(text), NULL);
    uint64_t u = 0;

    g_assert_true(colo_json_get_uint(again, "big", &u, NULL));
    g_assert_cmpuint(u, ==, UINT64_C(9007199254740993));
}

static void test_error_names_round_trip(void)
{
    for (int i = 0; i < COLO_ERROR_LAST; i++) {
        g_assert_cmpint(colo_error_code_from_name(colo_error_code_name(i)), ==, i);
        g_assert_cmpint(colo_error_code_to_libvirt(i), >, 0);
    }
    g_assert_cmpint(colo_error_code_from_name("nonsense"), ==, COLO_ERROR_INTERNAL);
}

static void test_fd_travels_with_its_frame(void)
{
    int sv[2], pipefd[2];
    char data[64];
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), ==, 0);
    g_assert_cmpint(pipe(pipefd), ==, 0);
    g_assert_true(colo_fdpass_send(sv[0], "{}", 2, &pipefd[1], 1, NULL));
    g_assert_cmpint(colo_fdpass_recv(sv[1], data, sizeof(data), fds), ==, 6);
    g_assert_cmpuint(fds->len, ==, 1);
    g_assert_cmpint(write(g_array_index(fds, int, 0), "y", 1), ==, 1);
    g_assert_cmpint(read(pipefd[0], data, 1), ==, 1);
    close(g_array_index(fds, int, 0));
    close(sv[0]);
    g_array_set_size(fds, 0);
    g_assert_cmpint(colo_fdpass_recv(sv[1], data, sizeof(data), fds), ==, 0);
    close(sv[1]);
    close(pipefd[0]);
    close(pipefd[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/framing/single-bytes", test_frame_in_single_bytes);
    g_test_add_func("/util/framing/4-gib", test_frame_of_4_gib_is_refused);
    g_test_add_func("/util/json/bad", test_json_names_what_is_wrong);
    g_test_add_func("/util/json/nul", test_json_refuses_a_nul_byte);
    g_test_add_func("/util/json/64-bits", test_json_keeps_64_bits);
    g_test_add_func("/util/error/names", test_error_names_round_trip);
    g_test_add_func("/util/fdpass/one", test_fd_travels_with_its_frame);
    return g_test_run();
}
