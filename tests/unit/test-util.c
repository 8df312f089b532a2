/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The small things that everything stands on: framing, JSON access, error codes, FD passing. */
#include "util/activation.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/fdpass.h"
#include "util/framing.h"
#include "util/json.h"
#include "util/log.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
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

/* Many messages to standard error, a full pipe soon; an alarm ends one that waits. What the pipe
 * holds then is read into @text, and one more message makes room for the last. */
static void log_into_a_full_pipe(char *text, size_t size)
{
    int fds[2], saved = dup(STDERR_FILENO);
    ssize_t n;

    g_assert_cmpint(pipe(fds), ==, 0);
    dup2(fds[1], STDERR_FILENO);
    alarm(10);
    for (int i = 0; i < 2000; i++)
        colo_err("message %d, which nobody reads while it is written", i);
    alarm(0);
    n = read(fds[0], text, size - 1);
    colo_err("the last one");
    text[n > 0 ? n : 0] = '\0';
    n = read(fds[0], text + strlen(text), size - 1 - strlen(text));
    text[size - 1] = '\0';
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fds[0]);
    close(fds[1]);
    g_assert_cmpint(n, >, 0);
}

/* I4: a comparator that waits for the reader of its log does not read QEMU's sockets. */
static void test_i4_log_does_not_wait_for_a_pipe(void)
{
    static char text[1 << 18];

    log_into_a_full_pipe(text, sizeof(text));
    g_assert_nonnull(strstr(text, ": message 0, "));
    g_assert_null(strstr(text, ": message 1999, "));
    g_assert_nonnull(strstr(text, " messages were lost"));
    g_assert_nonnull(strstr(text, ": the last one\n"));
}

static void test_i4_log_does_not_wait_for_the_journal(void)
{
    g_autofree char *dir = g_dir_make_tmp("colo-log-XXXXXX", NULL), *stream = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status = -1;
    char text[4096];
    struct stat st;
    ssize_t n;
    pid_t pid;

    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", dir);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    pid = fork();
    if (pid == 0) {
        alarm(10);
        fstat(STDERR_FILENO, &st);
        stream = g_strdup_printf("%llu:%llu", (unsigned long long)st.st_dev,
                                 (unsigned long long)st.st_ino);
        g_setenv("JOURNAL_STREAM", stream, TRUE);
        colo_log_set_journal(address.sun_path);
        colo_log_init("test", LOG_INFO);
        for (int i = 0; i < 2000; i++)
            colo_err("message %d", i);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    g_assert_cmpint(n, >, 0);
    /* Fields: "KEY=value", or "KEY", length and value. */
    g_assert_nonnull(memmem(text, (size_t)n, "PRIORITY=3\n", 11));
    g_assert_nonnull(memmem(text, (size_t)n, "\nMESSAGE\n\x09\0\0\0\0\0\0\0message 0\n", 27));
    g_unlink(address.sun_path);
    g_rmdir(dir);
    close(fd);
}

/* Journal and service manager are heard of by a program that has lost sight of their sockets. */
static void test_sockets_out_of_sight(void)
{
    g_autofree char *dir = g_dir_make_tmp("colo-log-XXXXXX", NULL), *stream = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status = -1;
    char text[4096];
    struct stat st;
    ssize_t n;
    pid_t pid;

    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", dir);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    pid = fork();
    if (pid == 0) {
        fstat(STDERR_FILENO, &st);
        stream = g_strdup_printf("%llu:%llu", (unsigned long long)st.st_dev,
                                 (unsigned long long)st.st_ino);
        g_setenv("JOURNAL_STREAM", stream, TRUE);
        g_setenv("NOTIFY_SOCKET", address.sun_path, TRUE);
        colo_log_set_journal(address.sun_path);
        colo_log_init("test", LOG_INFO);
        colo_log_connect();
        colo_activation_open_notify();
        g_unlink(address.sun_path);
        colo_activation_notify("READY=1");
        colo_err("out of sight");
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    g_assert_cmpmem(text, (size_t)MAX(n, 0), "READY=1", 7);
    n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    g_assert_cmpint(n, >, 0);
    g_assert_nonnull(memmem(text, (size_t)n, "out of sight", 12));
    g_rmdir(dir);
    close(fd);
}

/* So many in so many seconds; the next one says how many there were besides. */
static void test_log_limit(void)
{
    ColoLogLimit limit = {.lines = 2, .seconds = 10};
    const uint64_t begin = 100 * COLO_NS_PER_SEC;
    unsigned left_out = 99;

    g_assert_true(colo_log_limit(&limit, begin, &left_out));
    g_assert_cmpuint(left_out, ==, 0);
    g_assert_true(colo_log_limit(&limit, begin + COLO_NS_PER_SEC, &left_out));
    for (unsigned i = 0; i < 5; i++)
        g_assert_false(colo_log_limit(&limit, begin + 2 * COLO_NS_PER_SEC, &left_out));
    g_assert_true(colo_log_limit(&limit, begin + 10 * COLO_NS_PER_SEC, &left_out));
    g_assert_cmpuint(left_out, ==, 5);
    g_assert_true(colo_log_limit(&limit, begin + 11 * COLO_NS_PER_SEC, &left_out));
    g_assert_cmpuint(left_out, ==, 0);
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
    g_test_add_func("/util/log/I4/pipe", test_i4_log_does_not_wait_for_a_pipe);
    g_test_add_func("/util/log/I4/journal", test_i4_log_does_not_wait_for_the_journal);
    g_test_add_func("/util/log/limit", test_log_limit);
    g_test_add_func("/util/log/out-of-sight", test_sockets_out_of_sight);
    return g_test_run();
}
