/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a comparator refuses: garbage, wrong keys, other users, too much; and nothing is in the
 * clear. */
#include "test-comparator-lab.h"

#include "util/clock.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int connect_tcp(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

/* Relays one direction after the other between the peers and keeps all bytes. */
typedef struct {
    int listener, port, target;
    GByteArray *seen;
    GThread *thread;
    int quit[2];
} Proxy;

static void relay(Proxy *proxy, struct pollfd *from, int to)
{
    guint8 buffer[16384];
    ssize_t n, done = 0;

    if (!(from->revents & (POLLIN | POLLHUP)))
        return;
    n = recv(from->fd, buffer, sizeof(buffer), 0);
    if (n <= 0) {
        shutdown(to, SHUT_WR);
        from->fd = -1;
        return;
    }
    g_byte_array_append(proxy->seen, buffer, (guint)n);
    /* An end that has gone already, at the end of the test, is no error. */
    while (done >= 0 && n > 0) {
        done = send(to, buffer, (size_t)n, MSG_NOSIGNAL);
        n -= done;
    }
}

static gpointer proxy_run(gpointer data)
{
    Proxy *proxy = data;
    struct pollfd fds[2 + 6] = {{.fd = proxy->listener, .events = POLLIN},
                                {.fd = proxy->quit[0], .events = POLLIN}};
    int sockets[6], n = 0;

    for (;;) {
        g_assert_cmpint(poll(fds, (nfds_t)(2 + n), -1), >, 0);
        if (fds[1].revents)
            break;
        for (int i = 0; i < n; i++)
            relay(proxy, &fds[2 + i], sockets[i ^ 1]);
        if ((fds[0].revents & POLLIN) && n < 6) {
            sockets[n] = accept(proxy->listener, NULL, NULL);
            sockets[n + 1] = connect_tcp(proxy->target);
            fds[2 + n] = (struct pollfd){.fd = sockets[n], .events = POLLIN};
            fds[3 + n] = (struct pollfd){.fd = sockets[n + 1], .events = POLLIN};
            n += 2;
        }
    }
    for (int i = 0; i < n; i++)
        close(sockets[i]);
    return NULL;
}

static void proxy_start(Proxy *proxy, int target)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(proxy->listener, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(proxy->listener, 8), ==, 0);
    getsockname(proxy->listener, (struct sockaddr *)&address, &len);
    proxy->port = ntohs(address.sin_port);
    proxy->target = target;
    proxy->seen = g_byte_array_new();
    g_assert_cmpint(pipe(proxy->quit), ==, 0);
    proxy->thread = g_thread_new("proxy", proxy_run, proxy);
}

static void proxy_stop(Proxy *proxy)
{
    g_assert_cmpint(write(proxy->quit[1], "q", 1), ==, 1);
    g_thread_join(proxy->thread);
    close(proxy->listener);
    close(proxy->quit[0]);
    close(proxy->quit[1]);
}

static bool contains(const GByteArray *bytes, const char *text)
{
    return memmem(bytes->data, bytes->len, text, strlen(text)) != NULL;
}

static void test_i6_no_plaintext(void)
{
    static const char marker[] = "MARKER-OF-THE-PLAINTEXT-TEST";
    Lab lab;
    Proxy proxy;
    char got[sizeof(marker)];

    lab_start(&lab);
    proxy_start(&proxy, lab.s.port);
    lab.via_port = proxy.port;
    lab_open(&lab);
    lab_protect(&lab);
    lab_say(lab.p_mirror, marker);
    lab_hear(lab.s_in, marker);
    lab_say(lab.s_out, marker);
    lab_say(lab.p_out, marker);
    lab_hear(lab.p_release, marker);
    lab_write(lab.p_nbd, marker, sizeof(marker));
    lab_read(lab.s_nbd, got, sizeof(got));
    lab_nbd_data(&lab, marker, sizeof(marker));
    lab_down(&lab);
    proxy_stop(&proxy);
    /* All of it went through here ... */
    g_assert_cmpuint(proxy.seen->len, >, 4096 + 6 * sizeof(marker));
    g_assert_true(contains(proxy.seen, LAB_UUID)); /* the identity of TLS 1.3 is not secret */
    /* ... and nothing of it can be read. */
    g_assert_false(contains(proxy.seen, marker));
    g_assert_false(contains(proxy.seen, "QEVM"));
    g_assert_false(contains(proxy.seen, "OLOC"));
    g_assert_false(contains(proxy.seen, "COLO"));
    g_byte_array_unref(proxy.seen);
}

static void test_garbage_on_the_data_port(void)
{
    Lab lab;
    static const struct {
        const char *bytes;
        size_t len;
    } garbage[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\xff\xff\xff\xff\0\0\0\0", 8},     /* a length of 4 GiB */
        {"\x16\x03\x01\xff\xff\x01\0\0", 8}, /* a TLS record of 64 KiB */
        {"\0", 1},
    };

    lab_up(&lab);
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        int fd = connect_tcp(lab.s.port);

        lab_write(fd, garbage[i].bytes, garbage[i].len);
        /* An incomplete one lives until the limit of 5 s. */
        g_assert_true(lab_is_closed(fd, LAB_WAIT_MS + 2000));
        close(fd);
    }
    g_assert_true(lab_helper_logged(&lab.s, "closed before it was authenticated"));
    g_assert_true(lab_helper_alive(&lab.s));
    lab_protect(&lab);
    lab_down(&lab);
}

static void test_silent_connections_do_not_lock_out(void)
{
    Lab lab;
    int fds[200];

    lab_start(&lab);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = connect_tcp(lab.s.port);
    lab_open(&lab);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
    lab_down(&lab);
}

static void test_garbage_on_the_control_socket(void)
{
    Lab lab;
    static const struct {
        const char *bytes;
        size_t len;
        bool closes;
    } garbage[] = {
        {"\xff\xff\xff\xff{}", 6, true},
        {"\0\0\0\2{}", 6, false},
        {"\0\0\0\4null", 8, false},
        {"\0\0\0\x2d{\"id\":1,\"execute\":\"gate\",\"arguments\":[1,2]}}", 49, false},
    };

    lab_up(&lab);
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        int fd = connect_unix(lab.p.socket);
        char answer[512] = "";
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        lab_write(fd, garbage[i].bytes, garbage[i].len);
        if (garbage[i].closes) {
            g_assert_true(lab_is_closed(fd, LAB_WAIT_MS));
        } else {
            g_assert_cmpint(poll(&wait, 1, LAB_WAIT_MS), ==, 1);
            g_assert_cmpint(recv(fd, answer, sizeof(answer) - 1, 0), >, 4);
            g_assert_nonnull(strstr(answer + 4, "invalid-arg"));
        }
        close(fd);
    }
    lab_helper_connect(&lab.p);
    lab_say(lab.p_out, "alive");
    lab_hear(lab.p_release, "alive");
    lab_down(&lab);
}

static void test_wrong_key_is_refused(void)
{
    Lab lab;
    g_autoptr(JsonObject) down = NULL;

    lab_start(&lab);
    lab_create(&lab.p, "primary",
               "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    lab_create(&lab.s, "secondary", LAB_PSK);
    lab_connect_peer(&lab, "packets");
    down = lab_event(&lab.p, "stream-down");
    g_assert_null(lab_event_within(&lab.s, "stream-up", LAB_QUIET_MS));
    g_assert_null(lab_event_within(&lab.p, "stream-up", 0));
    g_assert_true(lab_helper_logged(&lab.s, "closed before it was authenticated"));
    lab_down(&lab);
}

static void test_unknown_session_is_refused(void)
{
    Lab lab;

    lab_start(&lab);
    lab_create(&lab.p, "primary", LAB_PSK);
    lab_connect_peer(&lab, "packets");
    json_object_put(lab_event(&lab.p, "stream-down"));
    g_assert_null(lab_event_within(&lab.p, "stream-up", LAB_QUIET_MS));
    lab_down(&lab);
}

static void test_bad_framing_from_qemu(void)
{
    Lab lab;
    g_autoptr(JsonObject) down = NULL;

    lab_up(&lab);
    lab_write(lab.p_out, "\xff\xff\xff\xffgarbage", 11);
    down = lab_event(&lab.p, "channel-down");
    g_assert_cmpstr(colo_json_peek_string(down, "channel", ""), ==, "out:net0");
    g_assert_true(lab_helper_alive(&lab.p));
    lab_down(&lab);
}

static void test_refusals_name_their_code(void)
{
    Lab lab;
    int pair[2];
    g_autofree char *no_session = NULL;
    g_autofree char *twice = NULL;
    g_autofree char *no_fd = NULL;
    g_autofree char *no_channel = NULL;
    g_autofree char *version = NULL;
    g_autofree char *wrong_gate = NULL;
    g_autofree char *no_tuning = NULL;
    g_autofree char *wrong_tuning = NULL;
    JsonObject *tune = lab_about();

    lab_up(&lab);
    no_session =
        lab_refused(&lab.p, "stats",
                    colo_json_build("uuid", "s", "00000000-0000-0000-0000-000000000001", NULL), -1);
    g_assert_cmpstr(no_session, ==, "no-domain");
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    twice = lab_refused(&lab.p, "local-attach",
                        colo_json_build("uuid", "s", LAB_UUID, "channel", "s", "out:net0", NULL),
                        pair[0]);
    g_assert_cmpstr(twice, ==, "operation-invalid");
    no_channel = lab_refused(
        &lab.p, "local-attach",
        colo_json_build("uuid", "s", LAB_UUID, "channel", "s", "in:net0", NULL), pair[1]);
    g_assert_cmpstr(no_channel, ==, "invalid-arg");
    no_fd =
        lab_refused(&lab.p, "local-attach",
                    colo_json_build("uuid", "s", LAB_UUID, "channel", "s", "out:net0", NULL), -1);
    g_assert_cmpstr(no_fd, ==, "invalid-arg");
    version = lab_refused(&lab.p, "hello", colo_json_build("version", "i", 99, NULL), -1);
    g_assert_cmpstr(version, ==, "peer");
    wrong_gate = lab_refused(
        &lab.s, "gate", colo_json_build("uuid", "s", LAB_UUID, "mode", "s", "alone", NULL), -1);
    g_assert_cmpstr(wrong_gate, ==, "invalid-arg");
    no_tuning = lab_refused(&lab.p, "tune", lab_about(), -1);
    g_assert_cmpstr(no_tuning, ==, "invalid-arg");
    colo_json_add(tune, "tuning", "o", colo_json_build("pause-share", "i", 91, NULL), NULL);
    wrong_tuning = lab_refused(&lab.p, "tune", tune, -1);
    g_assert_cmpstr(wrong_tuning, ==, "invalid-arg");
    lab_down(&lab);
}

static void test_destroy_closes_all(void)
{
    Lab lab;
    char byte;
    g_autoptr(JsonObject) inventory = NULL;

    lab_up(&lab);
    json_object_put(lab_request(&lab.p, "session-destroy", lab_about(), -1));
    g_assert_cmpint(recv(lab.p_mirror, &byte, 1, 0), ==, 0);
    g_assert_cmpint(recv(lab.p_release, &byte, 1, 0), ==, 0);
    g_assert_cmpint(recv(lab.p_migration, &byte, 1, 0), ==, 0);
    for (int i = 0; i < 3; i++) {
        g_autoptr(JsonObject) down = lab_event(&lab.s, "stream-down");
        const char *stream = colo_json_peek_string(down, "stream", "");

        /* An orderly end, no cut. */
        g_assert_cmpstr(colo_json_peek_string(down, "reason", ""), ==,
                        g_str_equal(stream, "packets") ? "the peer has destroyed its session"
                                                       : "closed by the peer");
    }
    inventory = lab_request(&lab.p, "inventory", NULL, -1);
    g_assert_cmpuint(json_object_array_length(colo_json_peek(inventory, "sessions")), ==, 0);
    /* And the same session can be made again. */
    lab_create(&lab.p, "primary", LAB_PSK);
    lab_connect_peer(&lab, "packets");
    json_object_put(lab_event(&lab.p, "stream-up"));
    lab_down(&lab);
}

/* Only root, and who the command line names, may control. */
static void test_other_users_are_refused(void)
{
    LabHelper helper;
    int pair[2];
    char verdict = '?';
    pid_t child;

    if (getuid() != 0) {
        g_test_skip("needs root to become somebody else");
        return;
    }
    lab_helper_start(&helper);
    g_assert_cmpint(chmod(helper.dir, 0755), ==, 0);
    g_assert_cmpint(chmod(helper.socket, 0666), ==, 0);
    g_assert_cmpint(pipe(pair), ==, 0);
    child = fork();
    if (child == 0) {
        int ok = setgid(65534) == 0 && setuid(65534) == 0;
        int fd = connect_unix(helper.socket);

        verdict = ok && lab_is_closed(fd, LAB_WAIT_MS) ? 'c' : 'o';
        _exit(write(pair[1], &verdict, 1) == 1 ? 0 : 1);
    }
    g_assert_cmpint(read(pair[0], &verdict, 1), ==, 1);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    g_assert_cmpint(verdict, ==, 'c');
    g_assert_true(lab_helper_logged(&helper, "refused: user 65534"));
    /* And it has not taken the controller's place. */
    json_object_put(lab_request(&helper, "inventory", NULL, -1));
    close(pair[0]);
    close(pair[1]);
    lab_helper_stop(&helper);
}

static void test_sessions_are_bounded(void)
{
    LabHelper helper;
    g_autofree char *code = NULL;

    lab_helper_start(&helper);
    for (unsigned i = 0; i <= 64; i++) {
        g_autofree char *uuid = g_strdup_printf("00000000-0000-4000-8000-0000000000%02x", i);
        JsonObject *arguments = colo_json_build(
            "uuid", "s", uuid, "generation", "i", 1, "role", "s", i % 2 ? "primary" : "secondary",
            "psk", "s", LAB_PSK, "vnet-hdr", "b", FALSE, "heartbeat-ms", "i", 100,
            "heartbeat-missed", "i", 5, "nics", "o", json_object_new_array(), "disks", "o",
            json_object_new_array(), NULL);

        if (i < 64)
            json_object_put(lab_request(&helper, "session-create", arguments, -1));
        else
            code = lab_refused(&helper, "session-create", arguments, -1);
    }
    g_assert_cmpstr(code, ==, "resource");
    lab_helper_stop(&helper);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/comparator/I6/no-plaintext", test_i6_no_plaintext);
    g_test_add_func("/comparator/garbage/data", test_garbage_on_the_data_port);
    g_test_add_func("/comparator/garbage/silent", test_silent_connections_do_not_lock_out);
    g_test_add_func("/comparator/garbage/control", test_garbage_on_the_control_socket);
    g_test_add_func("/comparator/garbage/qemu", test_bad_framing_from_qemu);
    g_test_add_func("/comparator/key/wrong", test_wrong_key_is_refused);
    g_test_add_func("/comparator/key/unknown-session", test_unknown_session_is_refused);
    g_test_add_func("/comparator/other-users", test_other_users_are_refused);
    g_test_add_func("/comparator/sessions-bounded", test_sessions_are_bounded);
    g_test_add_func("/comparator/refusals", test_refusals_name_their_code);
    g_test_add_func("/comparator/destroy", test_destroy_closes_all);
    return g_test_run();
}
