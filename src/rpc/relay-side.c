/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/relay-side.h"

#include "rpc/relay.h"
#include "util/bytes.h"
#include "util/error.h"
#include "util/source.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A stream frame of libvirt's clients is 256 KiB: read in one go. */
#define READ_CHUNK (256u * 1024u)
/* Of what follows a frame whose body is read to its place: the next one's header, and FDs. */
#define READ_BEHIND 1024u
/* A frame that was begun is whole after so long, or has got on by so many bytes: a slow line is
 * waited for, a client that says a byte now and then is not. */
#define FRAME_US (30 * G_USEC_PER_SEC)
#define FRAME_STEP (64u * 1024u)
/* FDs are taken after so long; libvirt may be busy with other calls of the client. */
#define FDS_US (600 * G_USEC_PER_SEC)

/* One piece of output: a frame as it came, bytes of ours, or one byte that an FD goes with. */
typedef struct {
    ColoRpcFrame *frame; /* NULL: bytes */
    uint8_t header[COLO_RPC_HEADER_BYTES];
    GByteArray *bytes;
    size_t len;
    int fd; /* -1: none */
} Piece;

static void piece_free(gpointer data)
{
    Piece *piece = data;

    colo_rpc_frame_free(piece->frame);
    g_clear_pointer(&piece->bytes, g_byte_array_unref);
    if (piece->fd >= 0)
        close(piece->fd);
    g_free(piece);
}

void colo_relay_side_init(ColoRelaySide *side, GMainContext *context, const char *name, int fd)
{
    side->context = context;
    side->name = name;
    side->fd = fd;
    side->reader = colo_rpc_reader_new(NULL);
    side->fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_queue_init(&side->output);
}

void colo_relay_side_close(ColoRelaySide *side)
{
    colo_source_drop(&side->in);
    colo_source_drop(&side->out);
    if (side->fd >= 0)
        close(side->fd);
    side->fd = -1;
}

void colo_relay_side_clear(ColoRelaySide *side)
{
    colo_relay_side_close(side);
    colo_rpc_reader_free(side->reader);
    colo_rpc_frame_free(side->frame);
    for (guint i = 0; side->fds && i < side->fds->len; i++)
        close(g_array_index(side->fds, int, i));
    if (side->fds)
        g_array_unref(side->fds);
    g_queue_clear_full(&side->output, piece_free);
}

/* ---- output ---- */

static ssize_t send_piece(const ColoRelaySide *side, const Piece *piece)
{
    struct iovec parts[2];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = parts};
    size_t at = side->sent;

    if (!piece->frame) {
        parts[message.msg_iovlen++] = (struct iovec){piece->bytes->data + at, piece->len - at};
    } else {
        if (at < COLO_RPC_HEADER_BYTES)
            parts[message.msg_iovlen++] =
                (struct iovec){(void *)(piece->header + at), COLO_RPC_HEADER_BYTES - at};
        at = at > COLO_RPC_HEADER_BYTES ? at - COLO_RPC_HEADER_BYTES : 0;
        parts[message.msg_iovlen++] =
            (struct iovec){piece->frame->body + at, piece->frame->len - at};
    }
    if (piece->fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &piece->fd, sizeof(int));
    }
    return sendmsg(side->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Nothing more can be written to it; what it has said is still to be read. */
static void side_deaf(ColoRelaySide *side)
{
    side->deaf = TRUE;
    side->queued = 0;
    side->queued_fds = 0;
    g_queue_clear_full(&side->output, piece_free);
}

void colo_relay_side_flush(ColoRelaySide *side)
{
    Piece *piece;

    while ((piece = g_queue_peek_head(&side->output))) {
        ssize_t n = send_piece(side, piece);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                side_deaf(side);
            return;
        }
        side->sent += (size_t)n;
        side->queued -= (size_t)n;
        side->moved = g_get_monotonic_time();
        if (side->sent == piece->len) {
            side->sent = 0;
            side->queued_fds -= piece->fd >= 0;
            piece_free(g_queue_pop_head(&side->output));
        }
    }
}

static void queue_piece(ColoRelaySide *to, Piece *piece)
{
    if (to->deaf) {
        piece_free(piece);
        return;
    }
    if (to->queued == 0)
        to->moved = g_get_monotonic_time();
    g_queue_push_tail(&to->output, piece);
    to->queued += piece->len;
    to->queued_fds += piece->fd >= 0;
}

void colo_relay_side_put(ColoRelaySide *to, GByteArray *bytes, int fd)
{
    Piece *piece = g_new(Piece, 1);

    *piece = (Piece){.bytes = bytes, .len = bytes->len, .fd = fd};
    queue_piece(to, piece);
}

void colo_relay_side_put_frame(ColoRelaySide *to, ColoRpcFrame *frame)
{
    Piece *piece = g_new(Piece, 1);

    *piece = (Piece){.frame = frame, .len = COLO_RPC_HEADER_BYTES + frame->len, .fd = -1};
    colo_rpc_header_encode(&frame->header, frame->len, piece->header);
    queue_piece(to, piece);
}

void colo_relay_side_put_fds(ColoRelaySide *to, ColoRelaySide *from)
{
    for (unsigned i = 0; i < from->n_fds; i++) {
        GByteArray *byte = g_byte_array_new();

        g_byte_array_set_size(byte, 1);
        byte->data[0] = 0;
        colo_relay_side_put(to, byte, g_array_index(from->fds, int, i));
    }
    g_array_remove_range(from->fds, 0, from->n_fds);
}

void colo_relay_side_drop_fds(ColoRelaySide *side)
{
    for (guint i = 0; i < side->fds->len && i < side->n_fds; i++)
        close(g_array_index(side->fds, int, i));
    g_array_remove_range(side->fds, 0, MIN(side->fds->len, side->n_fds));
}

/* ---- input ---- */

static ssize_t receive(ColoRelaySide *side, struct iovec *parts, size_t n_parts)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(COLO_RELAY_FDS_MAX * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = n_parts,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t n = recvmsg(side->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            g_array_append_vals(side->fds, CMSG_DATA(c),
                                (guint)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
    }
    if (message.msg_flags & MSG_CTRUNC) {
        errno = EMSGSIZE;
        return -1;
    }
    return n;
}

ssize_t colo_relay_side_receive(ColoRelaySide *side)
{
    static uint8_t buffer[READ_CHUNK]; /* of the context's thread */
    struct iovec parts[2];
    size_t room = 0, n_parts = 0;
    /* Behind a frame that waits for its FDs come their bytes, no header. */
    uint8_t *rest = side->frame ? NULL : colo_rpc_reader_room(side->reader, &room);
    ssize_t n;

    if (rest)
        parts[n_parts++] = (struct iovec){rest, room};
    parts[n_parts++] = (struct iovec){buffer, rest ? READ_BEHIND : READ_CHUNK};
    n = receive(side, parts, n_parts);
    if (n <= 0)
        return n;
    side->come += (size_t)n;
    if (rest)
        colo_rpc_reader_filled(side->reader, MIN((size_t)n, room));
    if ((size_t)n > room)
        colo_rpc_reader_feed(side->reader, buffer, (size_t)n - room);
    return n;
}

/* How many FDs follow @frame; false when it says more than libvirt allows. */
static gboolean count_fds(const ColoRpcFrame *frame, unsigned *n)
{
    *n = 0;
    if (frame->header.type != COLO_RPC_CALL_WITH_FDS &&
        frame->header.type != COLO_RPC_REPLY_WITH_FDS)
        return TRUE;
    if (frame->len < 4)
        return FALSE;
    *n = colo_get32(frame->body);
    return *n <= COLO_RELAY_FDS_MAX;
}

ColoRpcFrame *colo_relay_side_next(ColoRelaySide *side, GError **error)
{
    if (!side->frame) {
        side->n_fds = 0;
        side->frame = colo_rpc_reader_next(side->reader, error);
        if (side->frame && !count_fds(side->frame, &side->n_fds)) {
            g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                                "a frame with more FDs than libvirt allows");
            return NULL;
        }
    }
    /* Each FD comes with a byte of its own behind the frame. */
    if (!side->frame || side->fds->len < side->n_fds ||
        !colo_rpc_reader_skip(side->reader, side->n_fds))
        return NULL;
    side->begun = 0;
    return g_steal_pointer(&side->frame);
}

static gboolean is_in_a_frame(const ColoRelaySide *side)
{
    return side->frame || colo_rpc_reader_is_within(side->reader);
}

gboolean colo_relay_side_is_unfinished(const ColoRelaySide *side)
{
    return side->begun != 0 || side->queued_fds > 0;
}

const char *colo_relay_side_stalls(const ColoRelaySide *side)
{
    gint64 now = g_get_monotonic_time();

    if (side->begun && now - side->begun > FRAME_US)
        return "a frame was begun and not ended";
    return side->queued_fds > 0 && now - side->moved > FDS_US ? "it does not take FDs" : NULL;
}

static void wait_for(ColoRelaySide *side, GSource **source, gboolean wanted, GIOCondition condition,
                     GUnixFDSourceFunc func, gpointer data)
{
    if (!wanted) {
        colo_source_drop(source);
    } else if (!*source) {
        *source = colo_source_watch(side->context, side->fd, condition, func, data);
    }
}

void colo_relay_side_watch(ColoRelaySide *side, gboolean in, GUnixFDSourceFunc readable,
                           GUnixFDSourceFunc writable, gpointer data)
{
    wait_for(side, &side->in, in && !side->ended, G_IO_IN | G_IO_HUP | G_IO_ERR, readable, data);
    wait_for(side, &side->out, side->queued > 0, G_IO_OUT | G_IO_HUP | G_IO_ERR, writable, data);
    if (!side->in || !is_in_a_frame(side)) {
        side->begun = 0; /* it is we who wait, or nobody */
    } else if (side->begun == 0 || side->come >= FRAME_STEP) {
        side->begun = g_get_monotonic_time();
        side->come = 0;
    }
}
