/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The controller's connection. The newest one counts: an older one is closed, its unanswered
 * requests are forgotten, no session notices (I5). Only root is let in (SO_PEERCRED).
 */
#include "comparator/daemon.h"

#include "util/error.h"
#include "util/fdpass.h"
#include "util/framing.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Requests that may be unanswered at a time. */
#define PENDING_MAX 64

typedef struct {
    bool used, blocks; /* blocks: no later request is read before it is answered */
    uint64_t id;
} Pending;

struct ColoControl {
    ColoDaemon *daemon;
    ColoSource listener, connection;
    ColoFrameReader *reader;
    GArray *fds;     /* received, not taken yet */
    GByteArray *out; /* not written yet */
    uint64_t serial; /* of the connection: an answer to an older one is dropped */
    bool blocked;    /* an answer is due before the next request is read */
    ColoDeferred resume;
    Pending pending[PENDING_MAX]; /* token = serial << 32 | index */
};

static void close_connection(ColoControl *control, const char *why)
{
    int fd = control->connection.fd;

    if (fd < 0)
        return;
    colo_info("controller's connection closed: %s", why);
    colo_loop_remove(control->daemon->loop, &control->connection);
    close(fd);
    for (guint i = 0; i < control->fds->len; i++)
        close(g_array_index(control->fds, int, i));
    g_array_set_size(control->fds, 0);
    g_byte_array_set_size(control->out, 0);
    g_clear_pointer(&control->reader, colo_frame_reader_free);
    control->serial++;
    control->blocked = false;
    memset(control->pending, 0, sizeof(control->pending));
}

void colo_control_close(ColoControl *control, const char *why)
{
    close_connection(control, why);
}

static void watch(ColoControl *control)
{
    if (control->connection.fd >= 0)
        colo_loop_set(control->daemon->loop, &control->connection,
                      (control->blocked ? 0 : EPOLLIN) | (control->out->len ? EPOLLOUT : 0));
}

/* #syscalls sendto */
static void write_out(ColoControl *control)
{
    while (control->connection.fd >= 0 && control->out->len > 0) {
        ssize_t n = send(control->connection.fd, control->out->data, control->out->len,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            close_connection(control, strerror(errno));
        if (n < 0)
            break;
        g_byte_array_remove_range(control->out, 0, (guint)n);
    }
    watch(control);
}

/* Sends @message, taking it over. */
static void send_message(ColoControl *control, JsonObject *message)
{
    g_autoptr(JsonObject) owned = message;
    g_autofree char *text = NULL;
    g_autoptr(GBytes) frame = NULL;
    g_autoptr(GError) error = NULL;
    size_t size;
    const void *data;

    if (control->connection.fd < 0)
        return;
    text = colo_json_to_string(message);
    frame = colo_frame_build(text, strlen(text), &error);
    if (!frame) {
        close_connection(control, error->message);
        return;
    }
    data = g_bytes_get_data(frame, &size);
    if (control->out->len + size > COLO_CONTROL_OUT_MAX) {
        close_connection(control, "it does not read its events");
        return;
    }
    g_byte_array_append(control->out, data, (guint)size);
    write_out(control);
}

void colo_control_event(ColoControl *control, JsonObject *event)
{
    send_message(control, event);
}

static void send_answer(ColoControl *control, bool has_id, uint64_t id, JsonObject *result,
                        GError *error)
{
    g_autoptr(GError) owned = error;
    JsonObject *answer = json_object_new_object();

    if (has_id)
        colo_json_add(answer, "id", "u", id, NULL);
    if (!error) {
        colo_json_add(answer, "return", "o", result, NULL);
    } else {
        ColoErrorCode code =
            error->domain == COLO_ERROR ? (ColoErrorCode)error->code : COLO_ERROR_INTERNAL;

        colo_json_add(answer, "error", "o",
                      colo_json_build("code", "s", colo_error_code_name(code), "message", "s",
                                      error->message, NULL),
                      NULL);
    }
    send_message(control, answer);
}

void colo_control_answer(ColoControl *control, uint64_t token, JsonObject *result, GError *error)
{
    uint32_t slot = (uint32_t)token;
    Pending *pending = slot < PENDING_MAX ? &control->pending[slot] : NULL;

    if (token >> 32 != (uint32_t)control->serial || !pending || !pending->used) {
        if (result)
            json_object_put(result);
        g_clear_error(&error);
        return;
    }
    pending->used = false;
    if (pending->blocks) {
        control->blocked = false;
        colo_loop_defer(control->daemon->loop, &control->resume);
    }
    send_answer(control, true, pending->id, result, error);
    watch(control);
}

/* A free slot for a request that may be answered later, or -1. */
static int take_slot(ColoControl *control, const ColoRequest *request)
{
    for (int i = 0; i < PENDING_MAX; i++) {
        if (!control->pending[i].used) {
            control->pending[i] = (Pending){
                .used = true,
                .blocks = request->kind != COLO_REQUEST_TAKEOVER_PREPARE,
                .id = request->id,
            };
            return i;
        }
    }
    return -1;
}

/* The descriptor that came with the oldest frame that has one, or -1. */
static int take_fd(ColoControl *control)
{
    int fd;

    if (control->fds->len == 0)
        return -1;
    fd = g_array_index(control->fds, int, 0);
    g_array_remove_index(control->fds, 0);
    return fd;
}

static void execute(ColoControl *control, const char *text, size_t len)
{
    GError *error = NULL;
    JsonObject *result = NULL;
    ColoRequest request;
    int slot, fd = -1;
    uint64_t token, id;

    if (!colo_request_parse(text, len, &request, &error)) {
        /* Whatever came with it is nobody's. */
        fd = take_fd(control);
        if (fd >= 0)
            close(fd);
        send_answer(control, request.has_id, request.id, NULL, error);
        colo_request_clear(&request);
        return;
    }
    slot = take_slot(control, &request);
    if (slot < 0) {
        send_answer(control, true, request.id, NULL,
                    g_error_new(COLO_ERROR, COLO_ERROR_RESOURCE, "%d requests are unanswered",
                                PENDING_MAX));
        colo_request_clear(&request);
        return;
    }
    if (colo_request_wants_fd(request.kind))
        fd = take_fd(control);
    token = (uint64_t)(uint32_t)control->serial << 32 | (uint32_t)slot;
    if (colo_daemon_execute(control->daemon, &request, fd, token, &result, &error) && !result) {
        /* Put off. It may have been answered already, by a session that was destroyed. */
        control->blocked = control->pending[slot].used && control->pending[slot].blocks;
        colo_request_clear(&request);
        return;
    }
    control->pending[slot].used = false;
    id = request.id;
    colo_request_clear(&request);
    send_answer(control, true, id, result, error);
}

static void run_requests(ColoControl *control)
{
    while (control->connection.fd >= 0 && !control->blocked) {
        g_autoptr(GError) error = NULL;
        size_t len;
        g_autofree char *text = colo_frame_reader_next(control->reader, &len, &error);

        if (error)
            close_connection(control, error->message);
        if (!text)
            break;
        execute(control, text, len);
        explicit_bzero(text, len);
    }
    watch(control);
}

static void resume(void *opaque)
{
    run_requests(opaque);
}

static void connection_ready(void *opaque, uint32_t events)
{
    ColoControl *control = opaque;
    char buffer[16384];
    ssize_t n;

    if (events & EPOLLOUT)
        write_out(control);
    if (control->connection.fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    n = colo_fdpass_recv(control->connection.fd, buffer, sizeof(buffer), control->fds);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n <= 0) {
        close_connection(control, n == 0 ? "the controller has gone" : strerror(errno));
        return;
    }
    if (control->fds->len > COLO_CONTROL_FDS_MAX) {
        close_connection(control, "descriptors without requests");
        return;
    }
    colo_frame_reader_feed(control->reader, buffer, (size_t)n);
    explicit_bzero(buffer, (size_t)n);
    run_requests(control);
}

/* True when the other end is root, or the user that the command line allows.
 * #syscalls getsockopt[1==SOL_SOCKET,2==SO_PEERCRED] */
static bool is_allowed(const ColoControl *control, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    if (peer.uid == 0 || peer.uid == control->daemon->uid)
        return true;
    colo_warn("controller's connection refused: user %u is not root", (unsigned)peer.uid);
    return false;
}

/* #syscalls accept4 */
static void listener_ready(void *opaque, uint32_t events)
{
    ColoControl *control = opaque;
    int fd = accept4(control->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (fd < 0)
        return;
    if (!is_allowed(control, fd)) {
        close(fd);
        return;
    }
    close_connection(control, "a newer one took its place");
    control->reader = colo_frame_reader_new();
    control->connection.ready = connection_ready;
    control->connection.opaque = control;
    colo_loop_add(control->daemon->loop, &control->connection, fd, EPOLLIN);
}

ColoControl *colo_control_new(ColoDaemon *self, int fd)
{
    ColoControl *control = g_new0(ColoControl, 1);

    control->daemon = self;
    control->fds = g_array_new(FALSE, FALSE, sizeof(int));
    control->out = g_byte_array_new();
    control->serial = 1;
    control->connection.fd = -1;
    control->listener = (ColoSource){.ready = listener_ready, .opaque = control};
    control->resume = (ColoDeferred){.run = resume, .opaque = control};
    colo_loop_add(self->loop, &control->listener, fd, EPOLLIN);
    return control;
}

void colo_control_free(ColoControl *control)
{
    if (!control)
        return;
    close_connection(control, "stopping");
    colo_loop_cancel(control->daemon->loop, &control->resume);
    colo_loop_remove(control->daemon->loop, &control->listener);
    g_array_unref(control->fds);
    g_byte_array_unref(control->out);
    g_free(control);
}
