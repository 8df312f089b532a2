/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtcolod-sock passes libvirt's own programs on: what is changed, what is not, who is closed. */
#include "relay-fixture.h"
#include "rpc/message.h"
#include "util/bytes.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void setup(RelayFixture *f, gconstpointer without_libvirt)
{
    relay_setup(f, NULL, !without_libvirt);
}

static void test_open(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, reply = NULL, uri = NULL;
    g_autofree char *user = g_strdup(g_get_user_name());
    uint8_t body[100];
    size_t len;

    relay_accept_upstream(f);
    relay_send_open(f, "colo:///system");
    open = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(open->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_OPEN);
    g_assert_true(relay_holds(open, "qemu:///system"));
    relay_say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_REPLY, 2,
              NULL, 0);
    /* Who asks is told before the client may ask anything. */
    identity = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(identity->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY);
    g_assert_true(relay_holds(identity, "unix-user-id"));
    g_assert_true(relay_holds(identity, "process-time"));
    g_assert_true(relay_holds(identity, user));
    g_assert_false(relay_readable(f->client, RELAY_QUIET_MS));
    relay_take_identity(f, identity, FALSE);
    reply = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(reply->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_OPEN);
    g_assert_cmpuint(reply->header.serial, ==, 2);
    /* The client sees the URI that it opened. */
    len = relay_put_string(body, "qemu:///system");
    relay_say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_GET_URI, COLO_RPC_REPLY, 3,
              body, len);
    uri = relay_hear(f->client, f->client_reader);
    g_assert_true(relay_holds(uri, "colo:///system"));
}

/* What is sent behind CONNECT_OPEN without waiting must not run as root, which we are. */
static void test_nothing_before_the_identity(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, call = NULL;

    relay_accept_upstream(f);
    relay_send_open(f, "colo:///system");
    relay_say(f->client, COLO_REMOTE_PROGRAM, 12, COLO_RPC_CALL, 3, NULL, 0); /* DOMAIN_DESTROY */
    open = relay_hear(f->upstream, f->upstream_reader);
    g_assert_false(relay_readable(f->upstream, RELAY_QUIET_MS));
    relay_reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_OK);
    identity = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(identity->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY);
    g_assert_false(relay_readable(f->upstream, RELAY_QUIET_MS));
    relay_take_identity(f, identity, FALSE);
    call = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(call->header.procedure, ==, 12);
    g_assert_cmpuint(call->header.serial, ==, 3);
}

/* libvirtd takes a call with FDs for a call: it would be opened, and nobody told who asks. */
static void test_open_with_fds(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_accept_upstream(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_CALL_WITH_FDS,
              2, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    relay_assert_closed(f->client);
    relay_assert_closed(f->upstream);
}

static void test_open_refused(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) first = NULL, second = NULL, refusal = NULL;

    relay_accept_upstream(f);
    relay_send_open(f, "colo:///nonsense");
    relay_send_open(f, "colo:///system");
    first = relay_hear(f->upstream, f->upstream_reader);
    g_assert_true(relay_holds(first, "qemu:///nonsense"));
    g_assert_false(relay_readable(f->upstream, RELAY_QUIET_MS));
    relay_reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_ERROR);
    refusal = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(refusal->header.status, ==, COLO_RPC_ERROR);
    second = relay_hear(f->upstream, f->upstream_reader);
    g_assert_true(relay_holds(second, "qemu:///system"));
}

/* libvirt opens for root, and then says that this client may not. */
static void test_open_denied(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, refusal = NULL;

    relay_accept_upstream(f);
    relay_send_open(f, "colo:///system");
    relay_say(f->client, COLO_REMOTE_PROGRAM, 12, COLO_RPC_CALL, 3, NULL, 0);
    open = relay_hear(f->upstream, f->upstream_reader);
    relay_reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_OK);
    identity = relay_hear(f->upstream, f->upstream_reader);
    relay_take_identity(f, identity, TRUE);
    refusal = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(refusal->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_OPEN);
    g_assert_cmpuint(refusal->header.serial, ==, 2);
    g_assert_cmpuint(refusal->header.status, ==, COLO_RPC_ERROR);
    relay_assert_closed(f->client);
    relay_assert_closed(f->upstream);
}

static void test_identity_refused(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL;
    ColoRpcHeader header;
    g_autoptr(GByteArray) error = NULL;

    relay_accept_upstream(f);
    relay_send_open(f, "colo:///system");
    open = relay_hear(f->upstream, f->upstream_reader);
    relay_say(f->upstream, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_REPLY, 2,
              NULL, 0);
    identity = relay_hear(f->upstream, f->upstream_reader);
    header = identity->header;
    header.type = COLO_RPC_REPLY;
    header.status = COLO_RPC_ERROR;
    error = colo_remote_encode(&header, NULL, 0);
    relay_send_all(f->upstream, error->data, error->len);
    relay_assert_closed(f->client);
    relay_assert_closed(f->upstream);
}

/* Programs, procedures and types that we have never heard of, streams: byte for byte. */
static void test_everything_else_passes(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const size_t len = 3u << 20;
    g_autofree uint8_t *body = g_malloc(len);
    static const uint32_t programs[] = {COLO_REMOTE_PROGRAM, 0x20008087, 0x6b656570, 0x12345678};

    relay_accept_upstream(f);
    for (size_t i = 0; i < len; i++)
        body[i] = (uint8_t)g_test_rand_int();
    for (uint32_t i = 0; i < 40; i++) {
        g_autoptr(ColoRpcFrame) there = NULL, back = NULL;
        size_t n = i % 10 == 9 ? 200000 : (size_t)g_test_rand_int_range(0, 3000);
        uint32_t type =
            (uint32_t[]){COLO_RPC_CALL, COLO_RPC_STREAM, COLO_RPC_STREAM_HOLE, 99}[i % 4];

        relay_say(f->client, programs[i % 4], 1000 + i, type, 10 + i, body + i, n);
        there = relay_hear(f->upstream, f->upstream_reader);
        g_assert_cmpuint(there->header.program, ==, programs[i % 4]);
        g_assert_cmpuint(there->header.procedure, ==, 1000 + i);
        g_assert_cmpuint(there->header.type, ==, type);
        g_assert_cmpuint(there->header.serial, ==, 10 + i);
        g_assert_cmpmem(there->body, there->len, body + i, n);
        relay_say(f->upstream, programs[i % 4], 1000 + i, COLO_RPC_MESSAGE, 0, body + i, n);
        back = relay_hear(f->client, f->client_reader);
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

    relay_say(words->fd, COLO_REMOTE_PROGRAM, 14, COLO_RPC_REPLY, 7, words->body, words->len);
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

    g_assert_true(relay_readable(from, RELAY_WAIT_MS));
    g_assert_cmpint(recvmsg(from, &message, 0), ==, 1);
    g_assert_nonnull(CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

static void test_fds_pass(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    int pipes[2][2];
    uint8_t body[8] = {0, 0, 0, 2};

    relay_accept_upstream(f);
    for (int way = 0; way < 2; way++) {
        int from = way ? f->upstream : f->client, to = way ? f->client : f->upstream;
        g_autoptr(ColoRpcFrame) frame = NULL, next = NULL;
        uint8_t raw[COLO_RPC_HEADER_BYTES + sizeof(body)];

        relay_say(from, COLO_REMOTE_PROGRAM, 207,
                  way ? COLO_RPC_REPLY_WITH_FDS : COLO_RPC_CALL_WITH_FDS, 5, body, sizeof(body));
        for (int i = 0; i < 2; i++) {
            g_assert_cmpint(pipe(pipes[i]), ==, 0);
            send_fd(from, pipes[i][1]);
            close(pipes[i][1]);
        }
        relay_say(from, COLO_REMOTE_PROGRAM, 300, COLO_RPC_CALL, 6, NULL, 0);
        /* Not through a reader, which would take the FDs' bytes. */
        g_assert_true(relay_readable(to, RELAY_WAIT_MS));
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
        next = relay_hear(to, way ? f->client_reader : f->upstream_reader);
        g_assert_cmpuint(next->header.procedure, ==, 300);
    }
}

/* As many as libvirt allows, of a frame, and so slowly that the relay reads between any two; @way
 * 1: from libvirt. What is pending then may not be taken for the length of a next frame: four bytes
 * of FDs are one. */
static void many_fds(RelayFixture *f, int way, unsigned n)
{
    int from = way ? f->upstream : f->client, to = way ? f->client : f->upstream;
    g_autoptr(ColoRpcFrame) next = NULL;
    uint8_t body[8] = {0, 0, 0, (uint8_t)n};
    uint8_t raw[COLO_RPC_HEADER_BYTES + sizeof(body)];
    int ends[2];
    char c;

    g_assert_cmpint(pipe(ends), ==, 0);
    relay_say(from, COLO_REMOTE_PROGRAM, 207,
              way ? COLO_RPC_REPLY_WITH_FDS : COLO_RPC_CALL_WITH_FDS, 5, body, sizeof(body));
    for (unsigned i = 0; i < n; i++) {
        if (i < 6 || i + 1 == n)
            g_usleep(20000); /* all before it is read */
        send_fd(from, ends[1]);
    }
    relay_say(from, COLO_REMOTE_PROGRAM, 300, COLO_RPC_CALL, 6, NULL, 0);
    close(ends[1]);
    g_assert_true(relay_readable(to, RELAY_WAIT_MS));
    g_assert_cmpint(recv(to, raw, sizeof(raw), MSG_WAITALL), ==, sizeof(raw));
    for (unsigned i = 0; i < n; i++)
        close(hear_fd(to));
    next = relay_hear(to, way ? f->client_reader : f->upstream_reader);
    g_assert_cmpuint(next->header.procedure, ==, 300);
    g_assert_cmpint(read(ends[0], &c, 1), ==, 0); /* nobody keeps one */
    close(ends[0]);
}

static void test_many_fds_pass(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const unsigned counts[] = {1, 4, 5, COLO_RELAY_FDS_MAX};

    relay_accept_upstream(f);
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < G_N_ELEMENTS(counts); i++)
            many_fds(f, way, counts[i]);
    }
}

static void test_broken_is_closed(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const uint8_t bad[][8] = {{0, 0, 0, 5}, {3, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        relay_accept_upstream(f);
        relay_send_all(f->client, bad[i], sizeof(bad[i]));
        relay_assert_closed(f->client);
        relay_assert_closed(f->upstream);
        close(f->client);
        close(f->upstream);
        f->client = relay_connect_unix(f->ours);
    }
    /* More FDs than libvirt allows, and an FD that belongs to nothing. */
    relay_accept_upstream(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 207, COLO_RPC_CALL_WITH_FDS, 5, "\0\0\0\41", 4);
    relay_assert_closed(f->client);
    close(f->client);
    close(f->upstream);
    f->client = relay_connect_unix(f->ours);
    relay_accept_upstream(f);
    relay_say(f->upstream, COLO_REMOTE_PROGRAM, 207, COLO_RPC_REPLY_WITH_FDS, 5, "\0\0\0\41", 4);
    relay_assert_closed(f->client);
    close(f->client);
    close(f->upstream);
    f->client = relay_connect_unix(f->ours);
    relay_accept_upstream(f);
    send_fd(f->client, f->libvirt);
    relay_assert_closed(f->client);
    close(f->client);
    close(f->upstream);
    f->client = relay_connect_unix(f->ours);
    relay_accept_upstream(f);
    send_fds(f->client, f->libvirt, COLO_RELAY_FDS_MAX + 1);
    relay_assert_closed(f->client);
}

/* What was said before one end ended still gets to the other. */
static void test_last_words(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const size_t len = 8u << 20;
    g_autofree uint8_t *body = g_malloc0(len);
    g_autoptr(ColoRpcFrame) frame = NULL;
    g_autoptr(GThread) writer = NULL;
    LastWords words = {f->upstream, body, len};

    relay_accept_upstream(f);
    words.fd = f->upstream;
    writer = g_thread_new("writer", say_and_end, &words);
    g_usleep(RELAY_QUIET_MS * 1000); /* the relay's queue holds all of it, and libvirt's end */
    frame = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(frame->len, ==, len);
    relay_assert_closed(f->client);
    g_thread_join(g_steal_pointer(&writer));
    f->upstream = -1;
}

static void test_one_end_ends_both(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_accept_upstream(f);
    close(f->upstream);
    f->upstream = -1;
    relay_assert_closed(f->client);
    close(f->client);
    f->client = relay_connect_unix(f->ours);
    relay_accept_upstream(f);
    close(f->client);
    f->client = -1;
    relay_assert_closed(f->upstream);
}

/* libvirt goes on being asked by the others while one client does not read. */
static void test_a_client_that_does_not_read(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const ColoRpcHeader header = {
        .program = COLO_REMOTE_PROGRAM, .version = 1, .procedure = 9, .type = COLO_RPC_MESSAGE};
    static const uint8_t body[1 << 20];
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, body, sizeof(body));
    RelayFixture other = *f;
    size_t sent = 0;

    relay_accept_upstream(f);
    while (sent < 4ull * COLO_RELAY_QUEUE_MAX) {
        struct pollfd wait = {.fd = f->upstream, .events = POLLOUT};
        size_t at = sent % frame->len;
        ssize_t n;

        if (poll(&wait, 1, 5 * RELAY_QUIET_MS) == 0)
            break;
        n = send(f->upstream, frame->data + at, frame->len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        g_assert_true(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
    }
    g_assert_cmpuint(sent, <, 2ull * COLO_RELAY_QUEUE_MAX); /* it is held up, by a limit */
    other.client = relay_connect_unix(f->ours);
    other.client_reader = colo_rpc_reader_new(NULL);
    other.upstream_reader = colo_rpc_reader_new(NULL);
    relay_accept_upstream(&other);
    close(other.client);
    close(other.upstream);
    colo_rpc_reader_free(other.client_reader);
    colo_rpc_reader_free(other.upstream_reader);
}

/* libvirtd has no room for one more connection now: the client waits, and nobody else. */
static void test_busy_libvirt(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
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
    relay_say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0);
    ours = relay_connect_unix(f->ours);
    relay_say(ours, COLO_RPC_PROGRAM, 12345, COLO_RPC_CALL, 1, NULL, 0);
    reply = relay_hear(ours, f->client_reader);
    g_assert_cmpuint(reply->header.program, ==, COLO_RPC_PROGRAM);
    close(ours);
    for (guint i = 0; i < waiting->len; i++) {
        close(accept(f->libvirt, NULL, NULL));
        close(g_array_index(waiting, int, i));
    }
    g_assert_true(relay_readable(f->libvirt, RELAY_WAIT_MS));
    theirs = accept(f->libvirt, NULL, NULL);
    colo_rpc_frame_free(relay_hear(theirs, f->upstream_reader));
    close(theirs);
}

static void test_clients_are_bounded(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    struct rlimit files;
    int ends[COLO_RELAY_CLIENTS_MAX][2];

    /* Four descriptors a client: this process is all three. */
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &files), ==, 0);
    files.rlim_cur = files.rlim_max;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &files), ==, 0);
    g_assert_cmpuint(files.rlim_max, >=, 4 * COLO_RELAY_CLIENTS_MAX + 100);
    for (unsigned i = 0; i < COLO_RELAY_CLIENTS_MAX; i++) {
        relay_accept_upstream(f);
        ends[i][0] = f->client;
        ends[i][1] = f->upstream;
        f->client = relay_connect_unix(f->ours);
    }
    relay_say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0);
    relay_assert_closed(f->client);
    close(f->client);
    close(ends[0][0]);
    relay_assert_closed(ends[0][1]);
    close(ends[0][1]);
    f->client = relay_connect_unix(f->ours);
    relay_accept_upstream(f);
    for (unsigned i = 1; i < COLO_RELAY_CLIENTS_MAX; i++) {
        close(ends[i][0]);
        close(ends[i][1]);
    }
}

static void test_no_libvirt(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0);
    relay_assert_closed(f->client);
}

static void test_our_program_is_ours(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) reply = NULL;

    relay_say(f->client, COLO_RPC_PROGRAM, 12345, COLO_RPC_CALL, 1, NULL, 0);
    reply = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(reply->header.program, ==, COLO_RPC_PROGRAM);
    g_assert_cmpuint(reply->header.status, ==, COLO_RPC_ERROR); /* unknown procedure */
    g_assert_false(relay_readable(f->libvirt, RELAY_QUIET_MS));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/relay/" name, RelayFixture, NULL, setup, function, relay_teardown)
    ADD("open", test_open);
    ADD("nothing-before-the-identity", test_nothing_before_the_identity);
    ADD("open-with-fds", test_open_with_fds);
    ADD("open-refused", test_open_refused);
    ADD("open-denied", test_open_denied);
    ADD("identity-refused", test_identity_refused);
    ADD("everything-else-passes", test_everything_else_passes);
    ADD("fds-pass", test_fds_pass);
    ADD("many-fds-pass", test_many_fds_pass);
    ADD("broken-is-closed", test_broken_is_closed);
    ADD("last-words", test_last_words);
    ADD("one-end-ends-both", test_one_end_ends_both);
    ADD("busy-libvirt", test_busy_libvirt);
    ADD("I8/clients", test_clients_are_bounded);
    ADD("I8/a-client-that-does-not-read", test_a_client_that_does_not_read);
    ADD("our-program-is-ours", test_our_program_is_ours);
    g_test_add("/relay/no-libvirt", RelayFixture, "", setup, test_no_libvirt, relay_teardown);
    return g_test_run();
}
