/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtcolod-sock passes libvirt's own programs on: what is changed, what is not, who is closed. */
#include "rpc/message.h"
#include "rpc/relay.h"
#include "rpc/remote-calls.h"
#include "util/bytes.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 5000
#define QUIET_MS 100

typedef struct {
    char *dir, *ours, *theirs;
    ColoRpcServer *server;
    int libvirt; /* listens in place of libvirt */
    int client, upstream;
    ColoRpcReader *client_reader, *upstream_reader;
} Fixture;

/* ---- a driver: procedure 2000 is answered at once, 2001 by a worker, 2002 libvirt hears not ----
 */

static gint workers, workers_max; /* atomic */

static ColoRelayVerdict drive_call(const ColoRpcFrame *frame, GByteArray **answer,
                                   void *opaque G_GNUC_UNUSED)
{
    switch (frame->header.procedure) {
    case 2000:
        *answer = colo_remote_error(&frame->header, 55, "no");
        return COLO_RELAY_ANSWER;
    case 2001: /* libvirt is asked by 2777 */
        *answer = colo_remote_encode(
            &(ColoRpcHeader){.program = COLO_REMOTE_PROGRAM, .version = 1, .procedure = 2777},
            "may I", 5);
        return COLO_RELAY_WORK;
    case 2002:
        return COLO_RELAY_DROP;
    default:
        return COLO_RELAY_PASS;
    }
}

static GByteArray *drive_work(const ColoRpcFrame *frame, void *opaque G_GNUC_UNUSED)
{
    gint now = g_atomic_int_add(&workers, 1) + 1;

    if (now > g_atomic_int_get(&workers_max))
        g_atomic_int_set(&workers_max, now);
    g_usleep(QUIET_MS * 1000);
    g_atomic_int_add(&workers, -1);
    return colo_remote_string(&frame->header, "done");
}

static ColoRelayVerdict drive_heard(const ColoRpcFrame *frame, GByteArray **answer,
                                    void *opaque G_GNUC_UNUSED)
{
    if (frame->header.procedure == 3000)
        return COLO_RELAY_DROP;
    if (frame->header.procedure != 3001)
        return COLO_RELAY_PASS;
    *answer = colo_remote_encode(&frame->header, "other", 5);
    return COLO_RELAY_ANSWER;
}

static const ColoRelayDriver driver = {
    .call = drive_call, .work = drive_work, .heard = drive_heard};

static JsonObject *no_command(const ColoRpcCaller *caller G_GNUC_UNUSED,
                              const char *command G_GNUC_UNUSED, JsonObject *args G_GNUC_UNUSED,
                              void *opaque G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return json_object_new_object();
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void setup(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    const char *upstreams[] = {"/nonexistent/virtqemud-sock", NULL, NULL};
    int fd;

    memset(f, 0, sizeof(*f));
    f->libvirt = f->client = f->upstream = -1;
    f->dir = g_dir_make_tmp("relay-XXXXXX", NULL);
    f->ours = g_build_filename(f->dir, "virtcolod-sock", NULL);
    f->theirs = g_build_filename(f->dir, "libvirt-sock", NULL);
    if (!data) {
        f->libvirt = colo_rpc_listen(f->theirs, NULL, &error);
        g_assert_no_error(error);
    }
    upstreams[1] = f->theirs;
    fd = colo_rpc_listen(f->ours, NULL, &error);
    g_assert_no_error(error);
    f->server = colo_rpc_server_new(fd, no_command, NULL, &error);
    g_assert_no_error(error);
    colo_rpc_server_relay_to(f->server, upstreams, &driver);
    f->client = connect_unix(f->ours);
    f->client_reader = colo_rpc_reader_new(NULL);
    f->upstream_reader = colo_rpc_reader_new(NULL);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    colo_rpc_server_free(f->server);
    if (f->client >= 0)
        close(f->client);
    if (f->upstream >= 0)
        close(f->upstream);
    if (f->libvirt >= 0)
        close(f->libvirt);
    colo_rpc_reader_free(f->client_reader);
    colo_rpc_reader_free(f->upstream_reader);
    g_unlink(f->ours);
    g_unlink(f->theirs);
    g_rmdir(f->dir);
    g_free(f->ours);
    g_free(f->theirs);
    g_free(f->dir);
}

static bool readable(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    return poll(&wait, 1, ms) > 0;
}

/* ---- frames ---- */

static void send_all(int fd, const uint8_t *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, data + at, len - at, MSG_NOSIGNAL);

        g_assert_cmpint(n, >, 0);
        at += (size_t)n;
    }
}

static void say(int fd, uint32_t program, uint32_t procedure, uint32_t type, uint32_t serial,
                const void *body, size_t len)
{
    const ColoRpcHeader header = {.program = program,
                                  .version = 1,
                                  .procedure = procedure,
                                  .type = type,
                                  .serial = serial,
                                  .status = COLO_RPC_OK};
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, body, len);

    send_all(fd, frame->data, frame->len);
}

/* The next frame; the test fails when none comes. */
static ColoRpcFrame *hear(int fd, ColoRpcReader *reader)
{
    g_autoptr(GError) error = NULL;
    ColoRpcFrame *frame;

    while (!(frame = colo_rpc_reader_next(reader, &error))) {
        uint8_t data[65536];
        ssize_t n;

        g_assert_no_error(error);
        g_assert_true(readable(fd, WAIT_MS));
        n = recv(fd, data, sizeof(data), 0);
        g_assert_cmpint(n, >, 0);
        colo_rpc_reader_feed(reader, data, (size_t)n);
    }
    return frame;
}

static void assert_closed(int fd)
{
    uint8_t byte;
    ssize_t n;

    do {
        g_assert_true(readable(fd, WAIT_MS));
        n = recv(fd, &byte, 1, 0);
    } while (n > 0);
}

/* A call that opens nothing, so that the relay has connected. */
static void accept_upstream(Fixture *f)
{
    say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0); /* AUTH_LIST */
    g_assert_true(readable(f->libvirt, WAIT_MS));
    f->upstream = accept(f->libvirt, NULL, NULL);
    colo_rpc_frame_free(hear(f->upstream, f->upstream_reader));
}

static size_t put_string(uint8_t *to, const char *text)
{
    size_t len = strlen(text);

    colo_put32(to, (uint32_t)len);
    memset(to + 4, 0, (len + 3) / 4 * 4);
    memcpy(to + 4, text, len);
    return 4 + (len + 3) / 4 * 4;
}

static void send_open(Fixture *f, const char *uri)
{
    uint8_t body[200];
    size_t len;

    colo_put32(body, 1);
    len = 4 + put_string(body + 4, uri);
    colo_put32(body + len, 0);
    say(f->client, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_CALL, 2, body,
        len + 4);
}

static bool holds(const ColoRpcFrame *frame, const char *text)
{
    return memmem(frame->body, frame->len, text, strlen(text)) != NULL;
}

/* ---- tests ---- */

static void test_open(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, reply = NULL, uri = NULL;
    g_autofree char *user = g_strdup(g_get_user_name());
    uint8_t body[100];
    size_t len;

    accept_upstream(f);
    send_open(f, "colo:///system");
    open = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(open->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_OPEN);
    g_assert_true(holds(open, "qemu:///system"));
    say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_REPLY, 2, NULL,
        0);
    /* Who asks is told before the client may ask anything. */
    identity = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(identity->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY);
    g_assert_true(holds(identity, "unix-user-id"));
    g_assert_true(holds(identity, "process-time"));
    g_assert_true(holds(identity, user));
    g_assert_false(readable(f->client, QUIET_MS));
    say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY, COLO_RPC_REPLY,
        identity->header.serial, NULL, 0);
    reply = hear(f->client, f->client_reader);
    g_assert_cmpuint(reply->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_OPEN);
    g_assert_cmpuint(reply->header.serial, ==, 2);
    /* The client sees the URI that it opened. */
    len = put_string(body, "qemu:///system");
    say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_GET_URI, COLO_RPC_REPLY, 3, body,
        len);
    uri = hear(f->client, f->client_reader);
    g_assert_true(holds(uri, "colo:///system"));
}

static void reply(Fixture *f, uint32_t procedure, uint32_t serial, uint32_t status)
{
    const ColoRpcHeader header = {.program = COLO_REMOTE_PROGRAM,
                                  .version = 1,
                                  .procedure = procedure,
                                  .type = COLO_RPC_REPLY,
                                  .serial = serial,
                                  .status = status};
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, NULL, 0);

    send_all(f->upstream, frame->data, frame->len);
}

/* What is sent behind CONNECT_OPEN without waiting must not run as root, which we are. */
static void test_nothing_before_the_identity(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, call = NULL;

    accept_upstream(f);
    send_open(f, "colo:///system");
    say(f->client, COLO_REMOTE_PROGRAM, 12, COLO_RPC_CALL, 3, NULL, 0); /* DOMAIN_DESTROY */
    open = hear(f->upstream, f->upstream_reader);
    g_assert_false(readable(f->upstream, QUIET_MS));
    reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_OK);
    identity = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(identity->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY);
    g_assert_false(readable(f->upstream, QUIET_MS));
    reply(f, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY, identity->header.serial, COLO_RPC_OK);
    call = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(call->header.procedure, ==, 12);
    g_assert_cmpuint(call->header.serial, ==, 3);
}

/* libvirtd takes a call with FDs for a call: it would be opened, and nobody told who asks. */
static void test_open_with_fds(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_upstream(f);
    say(f->client, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_CALL_WITH_FDS, 2,
        "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    assert_closed(f->client);
    assert_closed(f->upstream);
}

static void test_open_refused(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) first = NULL, second = NULL, refusal = NULL;

    accept_upstream(f);
    send_open(f, "colo:///nonsense");
    send_open(f, "colo:///system");
    first = hear(f->upstream, f->upstream_reader);
    g_assert_true(holds(first, "qemu:///nonsense"));
    g_assert_false(readable(f->upstream, QUIET_MS));
    reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_ERROR);
    refusal = hear(f->client, f->client_reader);
    g_assert_cmpuint(refusal->header.status, ==, COLO_RPC_ERROR);
    second = hear(f->upstream, f->upstream_reader);
    g_assert_true(holds(second, "qemu:///system"));
}

static void test_identity_refused(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL;
    ColoRpcHeader header;
    g_autoptr(GByteArray) error = NULL;

    accept_upstream(f);
    send_open(f, "colo:///system");
    open = hear(f->upstream, f->upstream_reader);
    say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_REPLY, 2, NULL,
        0);
    identity = hear(f->upstream, f->upstream_reader);
    header = identity->header;
    header.type = COLO_RPC_REPLY;
    header.status = COLO_RPC_ERROR;
    error = colo_remote_encode(&header, NULL, 0);
    send_all(f->upstream, error->data, error->len);
    assert_closed(f->client);
    assert_closed(f->upstream);
}

/* Programs, procedures and types that we have never heard of, streams: byte for byte. */
static void test_everything_else_passes(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const size_t len = 3u << 20;
    g_autofree uint8_t *body = g_malloc(len);
    static const uint32_t programs[] = {COLO_REMOTE_PROGRAM, 0x20008087, 0x6b656570, 0x12345678};

    accept_upstream(f);
    for (size_t i = 0; i < len; i++)
        body[i] = (uint8_t)g_test_rand_int();
    for (uint32_t i = 0; i < 40; i++) {
        g_autoptr(ColoRpcFrame) there = NULL, back = NULL;
        size_t n = i % 10 == 9 ? 200000 : (size_t)g_test_rand_int_range(0, 3000);
        uint32_t type =
            (uint32_t[]){COLO_RPC_CALL, COLO_RPC_STREAM, COLO_RPC_STREAM_HOLE, 99}[i % 4];

        say(f->client, programs[i % 4], 1000 + i, type, 10 + i, body + i, n);
        there = hear(f->upstream, f->upstream_reader);
        g_assert_cmpuint(there->header.program, ==, programs[i % 4]);
        g_assert_cmpuint(there->header.procedure, ==, 1000 + i);
        g_assert_cmpuint(there->header.type, ==, type);
        g_assert_cmpuint(there->header.serial, ==, 10 + i);
        g_assert_cmpmem(there->body, there->len, body + i, n);
        say(f->upstream, programs[i % 4], 1000 + i, COLO_RPC_MESSAGE, 0, body + i, n);
        back = hear(f->client, f->client_reader);
        g_assert_cmpmem(back->body, back->len, body + i, n);
    }
}

/* libvirt sends each FD with one byte behind the frame (src/rpc/virnetsocket.c). */
static void send_fd(int to, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    uint8_t byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};

    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    g_assert_cmpint(sendmsg(to, &message, MSG_NOSIGNAL), ==, 1);
}

/* @n times @fd with one byte. */
static void send_fds(int to, int fd, unsigned n)
{
    g_autofree uint8_t *control = g_malloc0(CMSG_SPACE(n * sizeof(int)));
    uint8_t byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_len = CMSG_LEN(n * sizeof(int));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    for (unsigned i = 0; i < n; i++)
        memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(fd));
    g_assert_cmpint(sendmsg(to, &message, MSG_NOSIGNAL), ==, 1);
}

typedef struct {
    int fd;
    const uint8_t *body;
    size_t len;
} LastWords;

static gpointer say_and_end(gpointer data)
{
    const LastWords *words = data;

    say(words->fd, COLO_REMOTE_PROGRAM, 14, COLO_RPC_REPLY, 7, words->body, words->len);
    close(words->fd);
    return NULL;
}

static int hear_fd(int from)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    uint8_t byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int fd;

    g_assert_true(readable(from, WAIT_MS));
    g_assert_cmpint(recvmsg(from, &message, 0), ==, 1);
    g_assert_nonnull(CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

static void test_fds_pass(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    int pipes[2][2];
    uint8_t body[8] = {0, 0, 0, 2};

    accept_upstream(f);
    for (int way = 0; way < 2; way++) {
        int from = way ? f->upstream : f->client, to = way ? f->client : f->upstream;
        g_autoptr(ColoRpcFrame) frame = NULL, next = NULL;
        uint8_t raw[COLO_RPC_HEADER_BYTES + sizeof(body)];

        say(from, COLO_REMOTE_PROGRAM, 207, way ? COLO_RPC_REPLY_WITH_FDS : COLO_RPC_CALL_WITH_FDS,
            5, body, sizeof(body));
        for (int i = 0; i < 2; i++) {
            g_assert_cmpint(pipe(pipes[i]), ==, 0);
            send_fd(from, pipes[i][1]);
            close(pipes[i][1]);
        }
        say(from, COLO_REMOTE_PROGRAM, 300, COLO_RPC_CALL, 6, NULL, 0);
        /* Not through a reader, which would take the FDs' bytes. */
        g_assert_true(readable(to, WAIT_MS));
        g_assert_cmpint(recv(to, raw, sizeof(raw), MSG_WAITALL), ==, sizeof(raw));
        for (int i = 0; i < 2; i++) {
            int fd = hear_fd(to);
            char c = 0;

            g_assert_cmpint(write(fd, "x", 1), ==, 1);
            close(fd);
            g_assert_cmpint(read(pipes[i][0], &c, 1), ==, 1);
            g_assert_cmpint(c, ==, 'x');
            /* Nobody keeps one. */
            g_assert_cmpint(read(pipes[i][0], &c, 1), ==, 0);
            close(pipes[i][0]);
        }
        next = hear(to, way ? f->client_reader : f->upstream_reader);
        g_assert_cmpuint(next->header.procedure, ==, 300);
    }
}

static void test_broken_is_closed(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const uint8_t bad[][8] = {{0, 0, 0, 5}, {3, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        accept_upstream(f);
        send_all(f->client, bad[i], sizeof(bad[i]));
        assert_closed(f->client);
        assert_closed(f->upstream);
        close(f->client);
        close(f->upstream);
        f->client = connect_unix(f->ours);
    }
    /* More FDs than libvirt allows, and an FD that belongs to nothing. */
    accept_upstream(f);
    say(f->client, COLO_REMOTE_PROGRAM, 207, COLO_RPC_CALL_WITH_FDS, 5, "\0\0\0\41", 4);
    assert_closed(f->client);
    close(f->client);
    close(f->upstream);
    f->client = connect_unix(f->ours);
    accept_upstream(f);
    send_fd(f->client, f->libvirt);
    assert_closed(f->client);
    close(f->client);
    close(f->upstream);
    f->client = connect_unix(f->ours);
    accept_upstream(f);
    send_fds(f->client, f->libvirt, COLO_RELAY_FDS_MAX + 1);
    assert_closed(f->client);
}

/* What was said before one end ended still gets to the other. */
static void test_last_words(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const size_t len = 8u << 20;
    g_autofree uint8_t *body = g_malloc0(len);
    g_autoptr(ColoRpcFrame) frame = NULL;
    g_autoptr(GThread) writer = NULL;
    LastWords words = {f->upstream, body, len};

    accept_upstream(f);
    words.fd = f->upstream;
    writer = g_thread_new("writer", say_and_end, &words);
    g_usleep(QUIET_MS * 1000); /* the relay's queue holds all of it, and libvirt's end */
    frame = hear(f->client, f->client_reader);
    g_assert_cmpuint(frame->len, ==, len);
    assert_closed(f->client);
    g_thread_join(g_steal_pointer(&writer));
    f->upstream = -1;
}

static void test_one_end_ends_both(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_upstream(f);
    close(f->upstream);
    f->upstream = -1;
    assert_closed(f->client);
    close(f->client);
    f->client = connect_unix(f->ours);
    accept_upstream(f);
    close(f->client);
    f->client = -1;
    assert_closed(f->upstream);
}

/* libvirt goes on being asked by the others while one client does not read. */
static void test_a_client_that_does_not_read(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const ColoRpcHeader header = {
        .program = COLO_REMOTE_PROGRAM, .version = 1, .procedure = 9, .type = COLO_RPC_MESSAGE};
    static const uint8_t body[1 << 20];
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, body, sizeof(body));
    Fixture other = *f;
    size_t sent = 0;

    accept_upstream(f);
    while (sent < 4ull * COLO_RELAY_QUEUE_MAX) {
        struct pollfd wait = {.fd = f->upstream, .events = POLLOUT};
        size_t at = sent % frame->len;
        ssize_t n;

        if (poll(&wait, 1, 5 * QUIET_MS) == 0)
            break;
        n = send(f->upstream, frame->data + at, frame->len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        g_assert_true(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
    }
    g_assert_cmpuint(sent, <, 2ull * COLO_RELAY_QUEUE_MAX); /* it is held up, by a limit */
    other.client = connect_unix(f->ours);
    other.client_reader = colo_rpc_reader_new(NULL);
    other.upstream_reader = colo_rpc_reader_new(NULL);
    accept_upstream(&other);
    close(other.client);
    close(other.upstream);
    colo_rpc_reader_free(other.client_reader);
    colo_rpc_reader_free(other.upstream_reader);
}

/* libvirtd has no room for one more connection now: the client waits, and nobody else. */
static void test_busy_libvirt(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GArray) waiting = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(ColoRpcFrame) reply = NULL;
    int ours, theirs;

    for (;;) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        g_strlcpy(address.sun_path, f->theirs, sizeof(address.sun_path));
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
            g_assert_cmpint(errno, ==, EAGAIN);
            close(fd);
            break;
        }
        g_array_append_val(waiting, fd);
    }
    say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0);
    ours = connect_unix(f->ours);
    say(ours, COLO_RPC_PROGRAM, 12345, COLO_RPC_CALL, 1, NULL, 0);
    reply = hear(ours, f->client_reader);
    g_assert_cmpuint(reply->header.program, ==, COLO_RPC_PROGRAM);
    close(ours);
    for (guint i = 0; i < waiting->len; i++) {
        close(accept(f->libvirt, NULL, NULL));
        close(g_array_index(waiting, int, i));
    }
    g_assert_true(readable(f->libvirt, WAIT_MS));
    theirs = accept(f->libvirt, NULL, NULL);
    colo_rpc_frame_free(hear(theirs, f->upstream_reader));
    close(theirs);
}

static void test_clients_are_bounded(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct rlimit files;
    int ends[COLO_RELAY_CLIENTS_MAX][2];

    /* Four descriptors a client: this process is all three. */
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &files), ==, 0);
    files.rlim_cur = files.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &files), ==, 0);
    g_assert_cmpuint(files.rlim_max, >=, 4 * COLO_RELAY_CLIENTS_MAX + 100);
    for (unsigned i = 0; i < COLO_RELAY_CLIENTS_MAX; i++) {
        accept_upstream(f);
        ends[i][0] = f->client;
        ends[i][1] = f->upstream;
        f->client = connect_unix(f->ours);
    }
    say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0);
    assert_closed(f->client);
    close(f->client);
    close(ends[0][0]);
    assert_closed(ends[0][1]);
    close(ends[0][1]);
    f->client = connect_unix(f->ours);
    accept_upstream(f);
    for (unsigned i = 1; i < COLO_RELAY_CLIENTS_MAX; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
}

static void open_connection(Fixture *f)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, answer = NULL;

    accept_upstream(f);
    send_open(f, "colo:///system");
    open = hear(f->upstream, f->upstream_reader);
    reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_OK);
    identity = hear(f->upstream, f->upstream_reader);
    reply(f, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY, identity->header.serial, COLO_RPC_OK);
    answer = hear(f->client, f->client_reader);
}

/* libvirt is asked whether work may be done. */
static ColoRpcHeader hear_question(Fixture *f)
{
    g_autoptr(ColoRpcFrame) question = hear(f->upstream, f->upstream_reader);

    g_assert_cmpuint(question->header.procedure, ==, 2777);
    g_assert_true(colo_remote_is_own_serial(question->header.serial));
    return question->header;
}

/* Its word. */
static void answer_question(Fixture *f, ColoRpcHeader header, uint32_t status, uint32_t code)
{
    g_autoptr(GByteArray) frame = NULL;
    uint8_t body[4];

    header.type = COLO_RPC_REPLY;
    header.status = status;
    colo_put32(body, code);
    frame = colo_remote_encode(&header, body, sizeof(body));
    send_all(f->upstream, frame->data, frame->len);
}

static void permit(Fixture *f, uint32_t status, uint32_t code)
{
    answer_question(f, hear_question(f), status, code);
}

/* What libvirt would not let the client do, it does not get from us. */
static void test_work_needs_the_right(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) denied = NULL, unknown = NULL, done = NULL;

    g_atomic_int_set(&workers_max, 0);
    open_connection(f);
    say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10, NULL, 0);
    permit(f, COLO_RPC_ERROR, 88); /* VIR_ERR_ACCESS_DENIED */
    denied = hear(f->client, f->client_reader);
    g_assert_cmpuint(denied->header.procedure, ==, 2001);
    g_assert_cmpuint(denied->header.serial, ==, 10);
    g_assert_cmpuint(denied->header.status, ==, COLO_RPC_ERROR);
    g_assert_cmpuint(colo_get32(denied->body), ==, 88);
    g_assert_cmpint(g_atomic_int_get(&workers_max), ==, 0);
    /* Nor what nobody was asked about: of a domain that libvirt does not know. */
    say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 12, NULL, 0);
    permit(f, COLO_RPC_ERROR, 42); /* VIR_ERR_NO_DOMAIN */
    unknown = hear(f->client, f->client_reader);
    g_assert_cmpuint(unknown->header.status, ==, COLO_RPC_ERROR);
    g_assert_cmpuint(colo_get32(unknown->body), ==, 42);
    g_assert_cmpint(g_atomic_int_get(&workers_max), ==, 0);
    /* Any other error: it may, and there is no host name. */
    say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 11, NULL, 0);
    permit(f, COLO_RPC_ERROR, 1);
    done = hear(f->client, f->client_reader);
    g_assert_true(holds(done, "done"));
}

/* A client cannot say the answer itself, by a call of its own with the serial of ours. */
static void test_serials_are_ours(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    open_connection(f);
    say(f->client, COLO_REMOTE_PROGRAM, 277, COLO_RPC_CALL, COLO_REMOTE_OWN_SERIAL + 1, NULL, 0);
    assert_closed(f->client);
    assert_closed(f->upstream);
}

static void test_driver_answers(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) at_once = NULL, later = NULL, passed = NULL, event = NULL;

    open_connection(f);
    say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10, NULL, 0);
    say(f->client, COLO_REMOTE_PROGRAM, 2000, COLO_RPC_CALL, 11, NULL, 0);
    say(f->client, COLO_REMOTE_PROGRAM, 2002, COLO_RPC_CALL, 12, NULL, 0);
    say(f->client, COLO_REMOTE_PROGRAM, 2003, COLO_RPC_CALL, 13, NULL, 0);
    at_once = hear(f->client, f->client_reader);
    g_assert_cmpuint(at_once->header.serial, ==, 11);
    g_assert_cmpuint(at_once->header.status, ==, COLO_RPC_ERROR);
    permit(f, COLO_RPC_OK, 0);
    later = hear(f->client, f->client_reader);
    g_assert_cmpuint(later->header.serial, ==, 10);
    g_assert_true(holds(later, "done"));
    passed = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 2003);
    say(f->upstream, COLO_REMOTE_PROGRAM, 3000, COLO_RPC_MESSAGE, 0, NULL, 0);
    say(f->upstream, COLO_REMOTE_PROGRAM, 3001, COLO_RPC_MESSAGE, 0, NULL, 0);
    event = hear(f->client, f->client_reader);
    g_assert_cmpuint(event->header.procedure, ==, 3001);
    g_assert_true(holds(event, "other"));
}

/* Before the connection is open libvirt alone speaks. */
static void test_driver_waits_for_open(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) passed = NULL;

    accept_upstream(f);
    say(f->client, COLO_REMOTE_PROGRAM, 2000, COLO_RPC_CALL, 11, NULL, 0);
    passed = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 2000);
}

/* A client that asks faster than workers answer is not read; all answers come. */
static void test_work_is_bounded(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const unsigned calls = 3 * COLO_RELAY_PENDING_MAX;
    bool seen[3 * COLO_RELAY_PENDING_MAX] = {false};
    ColoRpcHeader questions[COLO_RELAY_PENDING_MAX];

    g_atomic_int_set(&workers_max, 0);
    open_connection(f);
    for (unsigned i = 0; i < calls; i++)
        say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10 + i, NULL, 0);
    for (unsigned i = 0; i < COLO_RELAY_PENDING_MAX; i++)
        questions[i] = hear_question(f);
    g_assert_false(readable(f->upstream, QUIET_MS)); /* none before one of these is done */
    for (unsigned i = 0; i < COLO_RELAY_PENDING_MAX; i++)
        answer_question(f, questions[i], COLO_RPC_OK, 0);
    for (unsigned i = 0; i < calls; i++) {
        g_autoptr(ColoRpcFrame) answer = hear(f->client, f->client_reader);

        if (i + COLO_RELAY_PENDING_MAX < calls)
            permit(f, COLO_RPC_OK, 0);
        g_assert_false(seen[answer->header.serial - 10]);
        seen[answer->header.serial - 10] = true;
    }
    g_assert_cmpint(g_atomic_int_get(&workers_max), <=, COLO_RELAY_WORKERS);
}

static void test_client_leaves_while_work_runs(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    open_connection(f);
    for (unsigned i = 0; i < 4; i++)
        say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10 + i, NULL, 0);
    for (unsigned i = 0; i < 2; i++) /* two are asked for still */
        permit(f, COLO_RPC_OK, 0);
    g_usleep(QUIET_MS * 500);
    close(f->client);
    assert_closed(f->upstream);
    close(f->upstream);
    f->client = connect_unix(f->ours);
    colo_rpc_reader_free(f->client_reader);
    colo_rpc_reader_free(f->upstream_reader); /* it may hold the other two questions */
    f->client_reader = colo_rpc_reader_new(NULL);
    f->upstream_reader = colo_rpc_reader_new(NULL);
    test_driver_answers(f, data);
}

/* A read-only client is connected to libvirt's read-only socket, and runs no command of ours. */
static void test_readonly(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *ours = g_strconcat(f->ours, "-ro", NULL);
    g_autofree char *theirs = g_strconcat(f->theirs, "-ro", NULL);
    g_autoptr(ColoRpcFrame) passed = NULL;
    g_autoptr(GError) error = NULL;
    int listener = colo_rpc_listen_readonly(ours, &error);

    g_assert_no_error(error);
    g_assert_true(colo_rpc_server_add_readonly(f->server, listener, &error));
    close(f->libvirt); /* the other socket is not what it takes */
    f->libvirt = colo_rpc_listen(theirs, NULL, &error);
    g_assert_no_error(error);
    close(f->client);
    f->client = connect_unix(ours);
    open_connection(f);
    say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10, NULL, 0);
    passed = hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 2001);
    g_unlink(ours);
    g_unlink(theirs);
}

static void test_no_libvirt(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0);
    assert_closed(f->client);
}

static void test_our_program_is_ours(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) reply = NULL;

    say(f->client, COLO_RPC_PROGRAM, 12345, COLO_RPC_CALL, 1, NULL, 0);
    reply = hear(f->client, f->client_reader);
    g_assert_cmpuint(reply->header.program, ==, COLO_RPC_PROGRAM);
    g_assert_cmpuint(reply->header.status, ==, COLO_RPC_ERROR); /* unknown procedure */
    g_assert_false(readable(f->libvirt, QUIET_MS));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/relay/" name, Fixture, NULL, setup, function, teardown)
    ADD("open", test_open);
    ADD("nothing-before-the-identity", test_nothing_before_the_identity);
    ADD("open-with-fds", test_open_with_fds);
    ADD("open-refused", test_open_refused);
    ADD("identity-refused", test_identity_refused);
    ADD("everything-else-passes", test_everything_else_passes);
    ADD("fds-pass", test_fds_pass);
    ADD("broken-is-closed", test_broken_is_closed);
    ADD("last-words", test_last_words);
    ADD("one-end-ends-both", test_one_end_ends_both);
    ADD("busy-libvirt", test_busy_libvirt);
    ADD("I8/clients", test_clients_are_bounded);
    ADD("readonly", test_readonly);
    ADD("driver/answers", test_driver_answers);
    ADD("driver/right", test_work_needs_the_right);
    ADD("driver/serials", test_serials_are_ours);
    ADD("driver/waits-for-open", test_driver_waits_for_open);
    ADD("driver/I8/work", test_work_is_bounded);
    ADD("driver/client-leaves", test_client_leaves_while_work_runs);
    ADD("I8/a-client-that-does-not-read", test_a_client_that_does_not_read);
    ADD("our-program-is-ours", test_our_program_is_ours);
    g_test_add("/relay/no-libvirt", Fixture, "", setup, test_no_libvirt, teardown);
    return g_test_run();
}
