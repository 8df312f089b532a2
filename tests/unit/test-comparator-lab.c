/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-comparator-lab.h"

#include "util/clock.h"
#include "util/fdpass.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

gboolean lab_vnet;

static int unix_listener(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 16), ==, 0);
    return fd;
}

static int tcp_listener(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &len), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* In the child: the listeners become descriptors 3 and 4, as systemd hands them over. */
static void become_helper(const char *program, int control, int data, int log)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    g_autofree char *uid = g_strdup_printf("--allow-uid=%u", (unsigned)getuid());
    int high_control = fcntl(control, F_DUPFD, 10), high_data = fcntl(data, F_DUPFD, 10);
    char **environment = g_get_environ();

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, STDERR_FILENO);
    dup2(high_control, 3);
    dup2(high_data, 4);
    close(high_control);
    close(high_data);
    environment = g_environ_setenv(environment, "LISTEN_PID", pid, TRUE);
    environment = g_environ_setenv(environment, "LISTEN_FDS", "2", TRUE);
    environment = g_environ_setenv(environment, "LISTEN_FDNAMES",
                                   COLO_CMP_FD_CONTROL ":" COLO_CMP_FD_DATA, TRUE);
    execle(program, program, uid, (char *)NULL, environment);
    _exit(127);
}

void lab_helper_start(LabHelper *helper)
{
    const char *build = g_getenv("abs_top_builddir");
    g_autofree char *program = g_build_filename(build ? build : ".", "colo-comparator", NULL);
    int control, data, log;

    memset(helper, 0, sizeof(*helper));
    g_queue_init(&helper->events);
    helper->dir = g_dir_make_tmp("colo-comparator-XXXXXX", NULL);
    helper->socket = g_build_filename(helper->dir, "sock", NULL);
    helper->log = g_build_filename(helper->dir, "log", NULL);
    control = unix_listener(helper->socket);
    data = tcp_listener(&helper->port);
    log = open(helper->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    helper->pid = fork();
    g_assert_cmpint(helper->pid, >=, 0);
    if (helper->pid == 0)
        become_helper(program, control, data, log);
    close(control);
    close(data);
    close(log);
    helper->control = -1;
    lab_helper_connect(helper);
}

void lab_helper_connect(LabHelper *helper)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autoptr(JsonObject) hello = NULL;

    if (helper->control >= 0)
        close(helper->control);
    g_clear_pointer(&helper->reader, colo_frame_reader_free);
    helper->reader = colo_frame_reader_new();
    helper->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, helper->socket, sizeof(address.sun_path));
    g_assert_cmpint(connect(helper->control, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    hello =
        lab_request(helper, "hello", colo_json_build("version", "i", COLO_CMP_VERSION, NULL), -1);
    g_assert_cmpuint(colo_json_peek_uint(hello, "pid", 0), ==, (uint64_t)helper->pid);
}

bool lab_helper_alive(LabHelper *helper)
{
    return waitpid(helper->pid, NULL, WNOHANG) == 0;
}

void lab_helper_stop(LabHelper *helper)
{
    int status = -1;

    kill(helper->pid, SIGTERM);
    g_assert_cmpint(waitpid(helper->pid, &status, 0), ==, helper->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        g_autofree char *text = NULL;

        g_file_get_contents(helper->log, &text, NULL, NULL);
        g_test_message("%s", text);
    }
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    close(helper->control);
    colo_frame_reader_free(helper->reader);
    g_queue_clear_full(&helper->events, (GDestroyNotify)colo_json_put);
    g_unlink(helper->log);
    g_unlink(helper->socket);
    g_rmdir(helper->dir);
    g_free(helper->log);
    g_free(helper->socket);
    g_free(helper->dir);
}

bool lab_helper_logged(LabHelper *helper, const char *text)
{
    for (int i = 0; i < LAB_WAIT_MS / 20; i++) {
        g_autofree char *log = NULL;

        if (g_file_get_contents(helper->log, &log, NULL, NULL) && strstr(log, text))
            return true;
        g_usleep(20000);
    }
    return false;
}

/* The next message of the control connection, or NULL when none comes before @end_ns. */
static JsonObject *next_message(LabHelper *helper, uint64_t end_ns)
{
    for (;;) {
        size_t len;
        char buffer[8192];
        uint64_t now = colo_clock_ns();
        struct pollfd wait = {.fd = helper->control, .events = POLLIN};
        g_autofree char *text = colo_frame_reader_next(helper->reader, &len, NULL);
        ssize_t n;

        if (text)
            return colo_json_parse(text, len, NULL);
        if (now >= end_ns ||
            poll(&wait, 1, (int)((end_ns - now + COLO_NS_PER_MS - 1) / COLO_NS_PER_MS)) <= 0)
            return NULL;
        n = recv(helper->control, buffer, sizeof(buffer), 0);
        if (n <= 0)
            return NULL;
        colo_frame_reader_feed(helper->reader, buffer, (size_t)n);
    }
}

uint64_t lab_send(LabHelper *helper, const char *name, JsonObject *arguments, int fd)
{
    uint64_t id = ++helper->next_id;
    g_autoptr(JsonObject) request =
        colo_json_build("id", "u", id, "execute", "s", name, "arguments", "o", arguments, NULL);
    g_autofree char *text = colo_json_to_string(request);

    g_assert_true(colo_fdpass_send(helper->control, text, strlen(text), &fd, fd >= 0, NULL));
    if (fd >= 0)
        close(fd);
    return id;
}

JsonObject *lab_answer(LabHelper *helper, uint64_t id)
{
    uint64_t end = colo_clock_ns() + LAB_WAIT_MS * COLO_NS_PER_MS;

    for (;;) {
        JsonObject *message = next_message(helper, end);

        g_assert_nonnull(message);
        if (!colo_json_peek(message, "event")) {
            g_assert_cmpuint(colo_json_peek_uint(message, "id", 0), ==, id);
            return message;
        }
        g_queue_push_tail(&helper->events, message);
    }
}

JsonObject *lab_request(LabHelper *helper, const char *name, JsonObject *arguments, int fd)
{
    g_autoptr(JsonObject) answer = lab_answer(helper, lab_send(helper, name, arguments, fd));
    JsonObject *result = colo_json_peek(answer, "return");

    if (!result)
        g_test_message("%s: %s", name, json_object_to_json_string(answer));
    g_assert_nonnull(result);
    return json_object_get(result);
}

char *lab_refused(LabHelper *helper, const char *name, JsonObject *arguments, int fd)
{
    g_autoptr(JsonObject) answer = lab_answer(helper, lab_send(helper, name, arguments, fd));
    JsonObject *error = colo_json_peek(answer, "error");

    g_assert_nonnull(error);
    g_assert_cmpuint(strlen(colo_json_peek_string(error, "message", "")), >, 10);
    return g_strdup(colo_json_peek_string(error, "code", ""));
}

uint64_t lab_stat(LabHelper *helper, const char *key)
{
    g_autoptr(JsonObject) stats = lab_request(helper, "stats", lab_about(), -1);

    g_assert_nonnull(colo_json_peek(stats, key));
    return colo_json_peek_uint(stats, key, 0);
}

uint64_t lab_counter(LabHelper *helper, const char *key)
{
    g_autoptr(JsonObject) stats = lab_request(helper, "stats", lab_about(), -1);
    JsonObject *counters = colo_json_peek(stats, "counters");

    g_assert_nonnull(colo_json_peek(counters, key));
    return colo_json_peek_uint(counters, key, 0);
}

static JsonObject *take_queued(LabHelper *helper, const char *name)
{
    for (GList *at = helper->events.head; at; at = at->next) {
        JsonObject *event = at->data;

        if (g_str_equal(colo_json_peek_string(event, "event", ""), name)) {
            g_queue_delete_link(&helper->events, at);
            return event;
        }
    }
    return NULL;
}

JsonObject *lab_event_within(LabHelper *helper, const char *name, int ms)
{
    uint64_t end = colo_clock_ns() + (uint64_t)ms * COLO_NS_PER_MS;

    for (;;) {
        JsonObject *event = take_queued(helper, name);
        JsonObject *message;

        if (event)
            return event;
        message = next_message(helper, end);
        if (!message)
            return NULL;
        g_queue_push_tail(&helper->events, message);
    }
}

JsonObject *lab_event(LabHelper *helper, const char *name)
{
    JsonObject *event = lab_event_within(helper, name, LAB_WAIT_MS);

    if (!event)
        g_test_message("event '%s' did not come", name);
    g_assert_nonnull(event);
    return event;
}

void lab_forget(LabHelper *helper, const char *name)
{
    JsonObject *event;

    while ((event = lab_event_within(helper, name, 0)))
        json_object_put(event);
}

JsonObject *lab_about(void)
{
    return colo_json_build("uuid", "s", LAB_UUID, NULL);
}

JsonObject *lab_gate(LabHelper *helper, const char *mode)
{
    return lab_request(helper, "gate",
                       colo_json_build("uuid", "s", LAB_UUID, "mode", "s", mode, NULL), -1);
}

void lab_create(LabHelper *helper, const char *role, const char *psk)
{
    JsonObject *nics = json_object_new_array(), *disks = json_object_new_array();

    json_object_array_add(nics, json_object_new_string("net0"));
    json_object_array_add(disks, json_object_new_string("vda"));
    json_object_put(lab_request(
        helper, "session-create",
        colo_json_build("uuid", "s", LAB_UUID, "generation", "u", UINT64_C(7), "role", "s", role,
                        "psk", "s", psk, "vnet-hdr", "b", lab_vnet, "heartbeat-ms", "i", 20,
                        "heartbeat-missed", "i", 5, "nics", "o", nics, "disks", "o", disks, NULL),
        -1));
}

int lab_attach(LabHelper *helper, const char *channel)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    json_object_put(lab_request(
        helper, "local-attach",
        colo_json_build("uuid", "s", LAB_UUID, "channel", "s", channel, NULL), pair[1]));
    return pair[0];
}

void lab_connect_peer(Lab *lab, const char *stream)
{
    int port = lab->via_port ? lab->via_port : lab->s.port;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    json_object_put(lab_request(&lab->p, "peer-attach",
                                colo_json_build("uuid", "s", LAB_UUID, "stream", "s", stream, NULL),
                                fd));
}

void lab_start(Lab *lab)
{
    memset(lab, 0, sizeof(*lab));
    lab_helper_start(&lab->p);
    lab_helper_start(&lab->s);
}

void lab_open(Lab *lab)
{
    static const char *const streams[] = {"packets", "checkpoint", "disk:vda"};

    lab_create(&lab->p, "primary", LAB_PSK);
    lab_create(&lab->s, "secondary", LAB_PSK);
    for (size_t i = 0; i < G_N_ELEMENTS(streams); i++) {
        lab_connect_peer(lab, streams[i]);
        json_object_put(lab_event(&lab->p, "stream-up"));
        json_object_put(lab_event(&lab->s, "stream-up"));
    }
    lab->p_mirror = lab_attach(&lab->p, "mirror:net0");
    lab->p_out = lab_attach(&lab->p, "out:net0");
    lab->p_release = lab_attach(&lab->p, "release:net0");
    lab->p_migration = lab_attach(&lab->p, "migration");
    lab->p_nbd = lab_attach(&lab->p, "nbd:vda");
    lab->s_in = lab_attach(&lab->s, "in:net0");
    lab->s_out = lab_attach(&lab->s, "out:net0");
    lab->s_migration = lab_attach(&lab->s, "migration");
    lab->s_nbd = lab_attach(&lab->s, "nbd:vda");
}

void lab_up(Lab *lab)
{
    lab_start(lab);
    lab_open(lab);
}

void lab_down(Lab *lab)
{
    const int fds[] = {lab->p_mirror, lab->p_out, lab->p_release,   lab->p_migration, lab->p_nbd,
                       lab->s_in,     lab->s_out, lab->s_migration, lab->s_nbd};

    lab_helper_stop(&lab->p);
    lab_helper_stop(&lab->s);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] > 0)
            close(fds[i]);
    }
}

void lab_write(int fd, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        ssize_t n;

        g_assert_cmpint(poll(&wait, 1, LAB_WAIT_MS), ==, 1);
        n = send(fd, (const char *)data + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

void lab_read(int fd, void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t n;

        g_assert_cmpint(poll(&wait, 1, LAB_WAIT_MS), ==, 1);
        n = recv(fd, (char *)data + done, len - done, 0);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

static void put_word(int fd, uint32_t word)
{
    uint32_t be = htonl(word);

    lab_write(fd, &be, sizeof(be));
}

static void get_word(int fd, uint32_t word)
{
    uint32_t be;

    lab_read(fd, &be, sizeof(be));
    g_assert_cmpuint(ntohl(be), ==, word);
}

void lab_word_back(Lab *lab, uint32_t word)
{
    put_word(lab->s_migration, word);
    get_word(lab->p_migration, word);
}

void lab_word_there(Lab *lab, uint32_t word)
{
    put_word(lab->p_migration, word);
    get_word(lab->s_migration, word);
}

void lab_pages(Lab *lab)
{
    /* Section 2 of "ram": one page with its block's name, one zero page with CONTINUE. */
    static const uint8_t head[] = {3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x10, 0x08, 2, 'r', '0'};
    static const uint8_t tail[] = {0,    0,   0,   0,   0, 0, 0x20, 0x22, 0, /* zero page */
                                   0,    0,   0,   0,   0, 0, 0,    0x10,    /* EOS */
                                   0x7e, 0,   0,   0,   2, 0,                /* footer, VM_EOF */
                                   0,    0,   0,   4,   0, 0, 0,    0,    0,
                                   0,    0,   5, /* SIZE, 5 bytes */
                                   4,    'd', 'e', 'v', 0};
    uint8_t page[4096], all[sizeof(head) + sizeof(page) + sizeof(tail)], got[sizeof(all)];

    memset(page, 0x5a, sizeof(page));
    memcpy(all, head, sizeof(head));
    memcpy(all + sizeof(head), page, sizeof(page));
    memcpy(all + sizeof(head) + sizeof(page), tail, sizeof(tail));
    lab_write(lab->p_migration, all, sizeof(all));
    lab_read(lab->s_migration, got, sizeof(got));
    g_assert_cmpmem(all, sizeof(all), got, sizeof(got));
}

void lab_request_checkpoint(Lab *lab)
{
    lab_word_there(lab, COLO_MSG_CHECKPOINT_REQUEST);
}

void lab_checkpoint(Lab *lab)
{
    lab_request_checkpoint(lab);
    lab_word_back(lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(lab);
    lab_word_back(lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_word_back(lab, COLO_MSG_VMSTATE_LOADED);
}

void lab_protect(Lab *lab)
{
    static const char initial[] = "QEVM, and whatever the initial migration is made of";
    char got[sizeof(initial)];

    json_object_put(lab_gate(&lab->s, "paired"));
    lab_write(lab->p_migration, initial, sizeof(initial));
    lab_read(lab->s_migration, got, sizeof(got));
    g_assert_cmpmem(initial, sizeof(initial), got, sizeof(got));
    lab_word_back(lab, COLO_MSG_CHECKPOINT_READY);
    json_object_put(lab_event(&lab->p, "colo-ready"));
    json_object_put(lab_gate(&lab->p, "paired"));
    lab_checkpoint(lab);
    json_object_put(lab_event(&lab->p, "committed"));
    json_object_put(lab_event(&lab->p, "loaded"));
    json_object_put(lab_event(&lab->s, "loaded"));
    lab_forget(&lab->p, "checkpoint-wanted");
}

/* An Ethernet frame with IPv4 (RFC 791) and UDP (RFC 768, checksum 0: none). */
size_t lab_udp(uint8_t *frame, unsigned port, const char *payload)
{
    size_t n = strlen(payload);
    uint8_t *ip = frame + 14, *udp = ip + 20;
    uint32_t sum = 0;

    memset(frame, 0, 42);
    memcpy(frame, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0", 14);
    ip[0] = 0x45;
    ip[2] = (uint8_t)((28 + n) >> 8);
    ip[3] = (uint8_t)(28 + n);
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, "\x0a\0\0\x01\x0a\0\0\x02", 8);
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)ip[i] << 8 | ip[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = (uint8_t)(~sum >> 8);
    ip[11] = (uint8_t)~sum;
    udp[0] = (uint8_t)(port >> 8);
    udp[1] = (uint8_t)port;
    udp[3] = 53;
    udp[4] = (uint8_t)((8 + n) >> 8);
    udp[5] = (uint8_t)(8 + n);
    memcpy(udp + 8, payload, n);
    return 42 + n;
}

void lab_write_frame(int fd, const uint8_t *frame, size_t len)
{
    static const uint8_t vnet[LAB_VNET] = {1, 2, 3, 4};
    uint32_t be = htonl((uint32_t)(len + (lab_vnet ? LAB_VNET : 0)));

    lab_write(fd, &be, sizeof(be));
    if (lab_vnet) {
        be = htonl(LAB_VNET);
        lab_write(fd, &be, sizeof(be));
        lab_write(fd, vnet, sizeof(vnet));
    }
    lab_write(fd, frame, len);
}

ssize_t lab_read_frame(int fd, uint8_t *frame, size_t size, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    uint32_t be;
    size_t len;

    if (poll(&wait, 1, ms) <= 0)
        return -1;
    lab_read(fd, &be, sizeof(be));
    len = ntohl(be);
    if (lab_vnet) {
        uint8_t vnet[LAB_VNET];

        lab_read(fd, &be, sizeof(be));
        g_assert_cmpuint(ntohl(be), ==, LAB_VNET);
        lab_read(fd, vnet, sizeof(vnet));
        g_assert_cmpmem(vnet, 4, "\1\2\3\4", 4);
        len -= LAB_VNET;
    }
    g_assert_cmpuint(len, <=, size);
    lab_read(fd, frame, len);
    return (ssize_t)len;
}

void lab_say(int fd, const char *payload)
{
    uint8_t frame[2048];

    lab_write_frame(fd, frame, lab_udp(frame, 4000, payload));
}

void lab_hear(int fd, const char *payload)
{
    uint8_t expected[2048], got[2048];
    size_t len = lab_udp(expected, 4000, payload);
    ssize_t n = lab_read_frame(fd, got, sizeof(got), LAB_WAIT_MS);

    if (n < 0)
        g_test_message("'%s' did not come", payload);
    g_assert_cmpint(n, >, 0);
    g_assert_cmpmem(expected, len, got, (size_t)n);
}

void lab_silent(int fd)
{
    uint8_t got[2048];
    ssize_t n = lab_read_frame(fd, got, sizeof(got), LAB_QUIET_MS);

    if (n > 42)
        g_test_message("came: '%.*s'", (int)n - 42, got + 42);
    g_assert_cmpint(n, ==, -1);
}
