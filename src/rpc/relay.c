/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/relay.h"

#include "rpc/remote-calls.h"
#include "util/bytes.h"
#include "util/log.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A stream frame of libvirt's clients is 256 KiB: read in one go. */
#define READ_CHUNK (256u * 1024u)
/* The socket of libvirt is local and listens, or is not there. */
#define CONNECT_TIMEOUT_S 5

/* One piece of output: bytes, or one byte that an FD goes with. */
typedef struct {
    GByteArray *bytes;
    int fd; /* -1: none */
} Piece;

typedef struct Pair Pair;

typedef struct {
    Pair *pair;
    const char *name;
    int fd;
    GSource *in, *out;
    ColoRpcReader *reader;
    ColoRpcFrame *frame; /* whole, but not all of its FDs have come */
    unsigned n_fds;      /* that it has */
    GArray *fds;         /* int: that have come */
    GQueue output;       /* Piece */
    size_t sent;         /* bytes of the head of @output that are gone */
    size_t queued;       /* bytes in @output that are not */
} Side;

struct Pair {
    ColoRelay *relay;
    ColoRpcCaller caller;
    Side client, libvirt;
    char *scheme;           /* of the client's URI; NULL: nothing of ours was opened */
    gboolean opening;       /* CONNECT_OPEN is under way ... */
    uint32_t open_serial;   /* ... with this serial */
    uint32_t identity;      /* serial of the CONNECT_SET_IDENTITY under way, or 0 */
    GByteArray *open_reply; /* held meanwhile */
    gboolean dead;
};

struct ColoRelay {
    GMainContext *context;
    char **upstreams;
    GPtrArray *pairs;
    ColoRelayStats stats;
};

static void watch(Side *side);

static void drop_source(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static void piece_free(gpointer data)
{
    Piece *piece = data;

    g_byte_array_unref(piece->bytes);
    if (piece->fd >= 0)
        close(piece->fd);
    g_free(piece);
}

static void side_init(Side *side, Pair *pair, const char *name, int fd)
{
    side->pair = pair;
    side->name = name;
    side->fd = fd;
    side->reader = colo_rpc_reader_new(NULL);
    side->fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_queue_init(&side->output);
}

static void side_clear(Side *side)
{
    drop_source(&side->in);
    drop_source(&side->out);
    if (side->fd >= 0)
        close(side->fd);
    colo_rpc_reader_free(side->reader);
    colo_rpc_frame_free(side->frame);
    for (guint i = 0; side->fds && i < side->fds->len; i++)
        close(g_array_index(side->fds, int, i));
    if (side->fds)
        g_array_unref(side->fds);
    g_queue_clear_full(&side->output, piece_free);
}

static void pair_free(gpointer data)
{
    Pair *pair = data;

    pair->relay->stats.clients--;
    side_clear(&pair->client);
    side_clear(&pair->libvirt);
    g_free(pair->scheme);
    g_clear_pointer(&pair->open_reply, g_byte_array_unref);
    g_free(pair);
}

/* Closes both connections: one without the other is of no use. The memory goes when the callback
 * that found it out has returned. */
static void pair_close(Pair *pair)
{
    Side *sides[] = {&pair->client, &pair->libvirt};

    if (pair->dead)
        return;
    pair->dead = TRUE;
    for (size_t i = 0; i < G_N_ELEMENTS(sides); i++) {
        drop_source(&sides[i]->in);
        drop_source(&sides[i]->out);
        if (sides[i]->fd >= 0)
            close(sides[i]->fd);
        sides[i]->fd = -1;
    }
}

static void pair_broken(Pair *pair, const Side *side, const char *what)
{
    colo_warn("relay of the client of uid %u, pid %d closed: %s: %s", (unsigned)pair->caller.uid,
              (int)pair->caller.pid, side->name, what);
    pair->relay->stats.broken++;
    pair_close(pair);
}

static void reap(Pair *pair)
{
    if (pair->dead)
        g_ptr_array_remove_fast(pair->relay->pairs, pair);
}

/* ---- output ---- */

static ssize_t send_piece(const Side *side, const Piece *piece)
{
    struct iovec part = {.iov_base = piece->bytes->data + side->sent,
                         .iov_len = piece->bytes->len - side->sent};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

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

/* Writes what the socket takes. False: the connection failed. */
static gboolean flush(Side *side)
{
    Piece *piece;

    while ((piece = g_queue_peek_head(&side->output))) {
        ssize_t n = send_piece(side, piece);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        side->sent += (size_t)n;
        side->queued -= (size_t)n;
        if (side->sent == piece->bytes->len) {
            side->sent = 0;
            piece_free(g_queue_pop_head(&side->output));
        }
    }
    return TRUE;
}

/* @bytes and @fd are taken over. */
static void put(Side *to, GByteArray *bytes, int fd)
{
    Piece *piece = g_new(Piece, 1);

    *piece = (Piece){.bytes = bytes, .fd = fd};
    g_queue_push_tail(&to->output, piece);
    to->queued += bytes->len;
}

/* ---- frames ---- */

/* What the client says to libvirt; NULL: @frame as it is. */
static GByteArray *to_libvirt(Pair *pair, const ColoRpcFrame *frame)
{
    const ColoRpcHeader *h = &frame->header;
    char *scheme = NULL;
    GByteArray *changed;

    if (h->program != COLO_REMOTE_PROGRAM || h->type != COLO_RPC_CALL ||
        h->procedure != COLO_REMOTE_PROC_CONNECT_OPEN)
        return NULL;
    pair->opening = TRUE;
    pair->open_serial = h->serial;
    changed = colo_remote_open(frame, &scheme);
    if (changed) {
        g_free(pair->scheme);
        pair->scheme = scheme;
    }
    return changed;
}

static void tell_identity(Pair *pair)
{
    pair->identity = COLO_REMOTE_OWN_SERIAL;
    put(&pair->libvirt, colo_remote_identity(&pair->caller, pair->identity), -1);
}

/* What libvirt says to the client. TRUE: it has been dealt with. */
static gboolean from_libvirt(Pair *pair, const ColoRpcFrame *frame, GByteArray **changed)
{
    const ColoRpcHeader *h = &frame->header;

    if (h->program != COLO_REMOTE_PROGRAM || h->type != COLO_RPC_REPLY)
        return FALSE;
    if (pair->identity && h->serial == pair->identity &&
        h->procedure == COLO_REMOTE_PROC_CONNECT_SET_IDENTITY) {
        pair->identity = 0;
        if (h->status != COLO_RPC_OK) {
            pair_broken(pair, &pair->libvirt, "it does not take the client's identity");
            return TRUE;
        }
        put(&pair->client, g_steal_pointer(&pair->open_reply), -1);
        return TRUE;
    }
    if (h->status != COLO_RPC_OK)
        return FALSE;
    if (h->procedure == COLO_REMOTE_PROC_CONNECT_GET_URI && pair->scheme)
        *changed = colo_remote_uri(frame, pair->scheme);
    if (h->procedure == COLO_REMOTE_PROC_CONNECT_OPEN && pair->opening &&
        h->serial == pair->open_serial) {
        pair->opening = FALSE;
        pair->open_reply = colo_remote_encode(h, frame->body, frame->len);
        tell_identity(pair);
        return TRUE;
    }
    return FALSE;
}

/* Hands on a whole frame with its FDs. */
static void pass(Side *from, const ColoRpcFrame *frame)
{
    Pair *pair = from->pair;
    Side *to = from == &pair->client ? &pair->libvirt : &pair->client;
    GByteArray *changed = NULL;

    if (from == &pair->client)
        changed = to_libvirt(pair, frame);
    else if (from_libvirt(pair, frame, &changed))
        return;
    put(to, changed ? changed : colo_remote_encode(&frame->header, frame->body, frame->len), -1);
    for (unsigned i = 0; i < from->n_fds; i++) {
        GByteArray *byte = g_byte_array_new();

        g_byte_array_set_size(byte, 1);
        byte->data[0] = 0;
        put(to, byte, g_array_index(from->fds, int, i));
    }
    g_array_set_size(from->fds, 0);
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

/* Handles all that is whole. */
static void process(Side *side)
{
    Pair *pair = side->pair;

    while (!pair->dead) {
        g_autoptr(GError) error = NULL;

        if (!side->frame) {
            side->frame = colo_rpc_reader_next(side->reader, &error);
            if (error) {
                pair_broken(pair, side, error->message);
                return;
            }
            if (!side->frame)
                break;
            if (!count_fds(side->frame, &side->n_fds)) {
                pair_broken(pair, side, "a frame with more FDs than libvirt allows");
                return;
            }
        }
        /* Each FD comes with a byte of its own behind the frame. */
        if (side->fds->len < side->n_fds || !colo_rpc_reader_skip(side->reader, side->n_fds))
            break;
        pass(side, side->frame);
        g_clear_pointer(&side->frame, colo_rpc_frame_free);
        side->n_fds = 0;
    }
    if (!pair->dead && side->fds->len > side->n_fds)
        pair_broken(pair, side, "an FD that belongs to no frame");
}

/* ---- input ---- */

/* One recvmsg(); FDs go to side->fds. */
static ssize_t receive(Side *side, uint8_t *data, size_t size)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(COLO_RELAY_FDS_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
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
    return n;
}

static gboolean on_readable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                            gpointer data)
{
    static uint8_t buffer[READ_CHUNK]; /* of the context's thread */
    Side *side = data;
    Pair *pair = side->pair;
    Side *other = side == &pair->client ? &pair->libvirt : &pair->client;
    ssize_t n = receive(side, buffer, sizeof(buffer));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        /* What it said last is still to be heard. */
        (void)flush(other);
        pair_close(pair);
    } else {
        colo_rpc_reader_feed(side->reader, buffer, (size_t)n);
        process(side);
    }
    if (!pair->dead && (!flush(&pair->client) || !flush(&pair->libvirt)))
        pair_close(pair);
    if (!pair->dead) {
        watch(&pair->client);
        watch(&pair->libvirt);
    }
    reap(pair);
    return G_SOURCE_CONTINUE;
}

static gboolean on_writable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                            gpointer data)
{
    Side *side = data;
    Pair *pair = side->pair;

    if (!flush(side)) {
        pair_close(pair);
    } else {
        watch(&pair->client);
        watch(&pair->libvirt);
    }
    reap(pair);
    return G_SOURCE_CONTINUE;
}

/* Sets @source to wait for @condition, or not. */
static void wait_for(Side *side, GSource **source, gboolean wanted, GIOCondition condition,
                     GUnixFDSourceFunc func)
{
    if (!wanted) {
        drop_source(source);
    } else if (!*source) {
        *source = g_unix_fd_source_new(side->fd, condition);
        g_source_set_callback(*source, G_SOURCE_FUNC(func), side, NULL);
        g_source_attach(*source, side->pair->relay->context);
    }
}

static void watch(Side *side)
{
    Pair *pair = side->pair;
    const Side *other = side == &pair->client ? &pair->libvirt : &pair->client;

    wait_for(side, &side->in, other->queued < COLO_RELAY_QUEUE_MAX, G_IO_IN | G_IO_HUP | G_IO_ERR,
             on_readable);
    wait_for(side, &side->out, side->queued > 0, G_IO_OUT | G_IO_HUP | G_IO_ERR, on_writable);
}

/* ---- connections ---- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = CONNECT_TIMEOUT_S};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) < sizeof(address.sun_path) &&
        connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

ColoRelay *colo_relay_new(GMainContext *context, const char *const *upstreams)
{
    ColoRelay *relay = g_new0(ColoRelay, 1);

    relay->context = context;
    relay->upstreams = g_strdupv((char **)upstreams);
    relay->pairs = g_ptr_array_new_with_free_func(pair_free);
    return relay;
}

void colo_relay_adopt(ColoRelay *relay, int fd, const ColoRpcCaller *caller, const uint8_t *data,
                      size_t len)
{
    int upstream = -1;
    Pair *pair;

    for (char **path = relay->upstreams; *path && upstream < 0; path++)
        upstream = connect_to(*path);
    if (upstream < 0) {
        colo_warn("client of uid %u, pid %d closed: no libvirt answers at %s: start virtqemud or "
                  "libvirtd",
                  (unsigned)caller->uid, (int)caller->pid, relay->upstreams[0]);
        relay->stats.refused++;
        close(fd);
        return;
    }
    pair = g_new0(Pair, 1);
    pair->relay = relay;
    pair->caller = *caller;
    side_init(&pair->client, pair, "the client", fd);
    side_init(&pair->libvirt, pair, "libvirt", upstream);
    g_ptr_array_add(relay->pairs, pair);
    relay->stats.clients++;
    relay->stats.relayed++;
    colo_rpc_reader_feed(pair->client.reader, data, len);
    process(&pair->client);
    if (!pair->dead) {
        watch(&pair->client);
        watch(&pair->libvirt);
    }
    reap(pair);
}

void colo_relay_get_stats(const ColoRelay *relay, ColoRelayStats *stats)
{
    *stats = relay->stats;
}

void colo_relay_free(ColoRelay *relay)
{
    if (!relay)
        return;
    g_ptr_array_unref(relay->pairs);
    g_strfreev(relay->upstreams);
    g_free(relay);
}
