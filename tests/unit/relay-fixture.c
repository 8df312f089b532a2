/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "relay-fixture.h"

#include "util/bytes.h"

#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static JsonObject *no_command(const ColoRpcCaller *caller G_GNUC_UNUSED,
                              const char *command G_GNUC_UNUSED, JsonObject *args G_GNUC_UNUSED,
                              void *opaque G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return json_object_new_object();
}

int relay_connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

void relay_setup(RelayFixture *f, const ColoRelayDriver *driver, gboolean libvirt)
{
    g_autoptr(GError) error = NULL;
    const char *upstreams[] = {"/nonexistent/virtqemud-sock", NULL, NULL};
    int fd;

    memset(f, 0, sizeof(*f));
    f->libvirt = f->client = f->upstream = -1;
    f->dir = g_dir_make_tmp("relay-XXXXXX", NULL);
    f->ours = g_build_filename(f->dir, "virtcolod-sock", NULL);
    f->theirs = g_build_filename(f->dir, "libvirt-sock", NULL);
    if (libvirt) {
        f->libvirt = colo_rpc_listen(f->theirs, NULL, &error);
        g_assert_no_error(error);
    }
    upstreams[1] = f->theirs;
    fd = colo_rpc_listen(f->ours, NULL, &error);
    g_assert_no_error(error);
    f->server = colo_rpc_server_new(fd, no_command, NULL, &error);
    g_assert_no_error(error);
    colo_rpc_server_relay_to(f->server, upstreams, driver);
    f->client = relay_connect_unix(f->ours);
    f->client_reader = colo_rpc_reader_new(NULL);
    f->upstream_reader = colo_rpc_reader_new(NULL);
}

void relay_teardown(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
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

bool relay_readable(int fd, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    return poll(&wait, 1, ms) > 0;
}

/* ---- frames ---- */

void relay_send_all(int fd, const uint8_t *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, data + at, len - at, MSG_NOSIGNAL);

        g_assert_cmpint(n, >, 0);
        at += (size_t)n;
    }
}

void relay_say(int fd, uint32_t program, uint32_t procedure, uint32_t type, uint32_t serial,
               const void *body, size_t len)
{
    const ColoRpcHeader header = {.program = program,
                                  .version = 1,
                                  .procedure = procedure,
                                  .type = type,
                                  .serial = serial,
                                  .status = COLO_RPC_OK};
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, body, len);

    relay_send_all(fd, frame->data, frame->len);
}

ColoRpcFrame *relay_hear(int fd, ColoRpcReader *reader)
{
    g_autoptr(GError) error = NULL;
    ColoRpcFrame *frame;

    while (!(frame = colo_rpc_reader_next(reader, &error))) {
        uint8_t data[65536];
        ssize_t n;

        g_assert_no_error(error);
        g_assert_true(relay_readable(fd, RELAY_WAIT_MS));
        n = recv(fd, data, sizeof(data), 0);
        g_assert_cmpint(n, >, 0);
        colo_rpc_reader_feed(reader, data, (size_t)n);
    }
    return frame;
}

void relay_assert_closed(int fd)
{
    uint8_t byte;
    ssize_t n;

    do {
        g_assert_true(relay_readable(fd, RELAY_WAIT_MS));
        n = recv(fd, &byte, 1, 0);
    } while (n > 0);
}

void relay_accept_upstream(RelayFixture *f)
{
    relay_say(f->client, COLO_REMOTE_PROGRAM, 66, COLO_RPC_CALL, 1, NULL, 0); /* AUTH_LIST */
    g_assert_true(relay_readable(f->libvirt, RELAY_WAIT_MS));
    f->upstream = accept(f->libvirt, NULL, NULL);
    colo_rpc_frame_free(relay_hear(f->upstream, f->upstream_reader));
}

size_t relay_put_string(uint8_t *to, const char *text)
{
    size_t len = strlen(text);

    colo_put32(to, (uint32_t)len);
    memset(to + 4, 0, (len + 3) / 4 * 4);
    memcpy(to + 4, text, len);
    return 4 + (len + 3) / 4 * 4;
}

void relay_send_open(RelayFixture *f, const char *uri)
{
    uint8_t body[200];
    size_t len;

    colo_put32(body, 1);
    len = 4 + relay_put_string(body + 4, uri);
    colo_put32(body + len, 0);
    relay_say(f->client, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_OPEN, COLO_RPC_CALL, 2, body,
              len + 4);
}

bool relay_holds(const ColoRpcFrame *frame, const char *text)
{
    return memmem(frame->body, frame->len, text, strlen(text)) != NULL;
}

void relay_reply(RelayFixture *f, uint32_t procedure, uint32_t serial, uint32_t status)
{
    const ColoRpcHeader header = {.program = COLO_REMOTE_PROGRAM,
                                  .version = 1,
                                  .procedure = procedure,
                                  .type = COLO_RPC_REPLY,
                                  .serial = serial,
                                  .status = status};
    g_autoptr(GByteArray) frame = colo_remote_encode(&header, NULL, 0);

    relay_send_all(f->upstream, frame->data, frame->len);
}

void relay_take_identity(RelayFixture *f, const ColoRpcFrame *identity, gboolean denied)
{
    static const uint8_t denial[] = {0, 0, 0, 88};
    g_autoptr(ColoRpcFrame) type = NULL;
    g_autoptr(GByteArray) reply = NULL;

    g_assert_cmpuint(identity->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY);
    relay_reply(f, COLO_REMOTE_PROC_CONNECT_SET_IDENTITY, identity->header.serial, COLO_RPC_OK);
    type = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(type->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_SUPPORTS_FEATURE);
    type->header.type = COLO_RPC_REPLY;
    type->header.status = denied ? COLO_RPC_ERROR : COLO_RPC_OK;
    reply = colo_remote_encode(&type->header, denial, denied ? sizeof(denial) : 0);
    relay_send_all(f->upstream, reply->data, reply->len);
}

void relay_open_connection(RelayFixture *f)
{
    g_autoptr(ColoRpcFrame) open = NULL, identity = NULL, answer = NULL;

    relay_accept_upstream(f);
    relay_send_open(f, "colo:///system");
    open = relay_hear(f->upstream, f->upstream_reader);
    relay_reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_OK);
    identity = relay_hear(f->upstream, f->upstream_reader);
    relay_take_identity(f, identity, FALSE);
    answer = relay_hear(f->client, f->client_reader);
}
