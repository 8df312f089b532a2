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
/* A libvirtd whose queue of connections is full is asked again, for as long as this. */
#define CONNECT_RETRY_MS 50u
/* Of the serial in a frame. */
#define SERIAL_AT 20u
#define CONNECT_LIMIT_MS 5000

/* One piece of output: a frame as it came, bytes of ours, or one byte that an FD goes with. */
typedef struct {
    ColoRpcFrame *frame; /* NULL: bytes */
    uint8_t header[COLO_RPC_HEADER_BYTES];
    GByteArray *bytes;
    size_t len;
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
    gboolean ended;      /* nothing more comes from it */
    gboolean deaf;       /* it takes nothing more */
} Side;

struct Pair {
    ColoRelay *relay;
    ColoRpcCaller caller;
    Side client, libvirt;
    GSource *retry;         /* libvirt is to be connected to again ... */
    gint64 retry_end;       /* ... until then, us */
    char *scheme;           /* of the client's URI; NULL: nothing of ours was opened */
    gboolean opening;       /* CONNECT_OPEN is under way: the client's next frames wait ... */
    uint32_t open_serial;   /* ... for its reply with this serial ... */
    GByteArray *open_reply; /* ... which is held while libvirt is told the identity */
    gboolean open;
    guint64 serial;   /* among all pairs there ever were */
    unsigned pending; /* calls that workers answer, or will */
    GQueue asked;     /* Work: libvirt has not said yet whether the client may */
    uint32_t questions;
    gboolean dead;
};

/* A call that a worker answers. Its pair may be gone when it is done. */
typedef struct {
    ColoRelay *relay;
    guint64 serial;    /* of the pair */
    uint32_t question; /* serial of the call by which libvirt is asked whether the client may */
    ColoRpcFrame *call;
    GByteArray *answer;
} Work;

struct ColoRelay {
    GMainContext *context;
    char **upstreams;
    GPtrArray *pairs;
    guint n_readonly; /* of them */
    const ColoRelayDriver *driver;
    GThreadPool *workers;
    guint64 last_serial;
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

    colo_rpc_frame_free(piece->frame);
    g_clear_pointer(&piece->bytes, g_byte_array_unref);
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

static void work_free(gpointer data)
{
    Work *work = data;

    colo_rpc_frame_free(work->call);
    g_clear_pointer(&work->answer, g_byte_array_unref);
    g_free(work);
}

static void pair_free(gpointer data)
{
    Pair *pair = data;

    pair->relay->n_readonly -= pair->caller.readonly;
    drop_source(&pair->retry);
    side_clear(&pair->client);
    side_clear(&pair->libvirt);
    g_free(pair->scheme);
    g_queue_clear_full(&pair->asked, work_free);
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
    drop_source(&pair->retry);
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
static void side_deaf(Side *side)
{
    side->deaf = TRUE;
    side->queued = 0;
    g_queue_clear_full(&side->output, piece_free);
}

/* Writes what the socket takes. */
static void flush(Side *side)
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
        if (side->sent == piece->len) {
            side->sent = 0;
            piece_free(g_queue_pop_head(&side->output));
        }
    }
}

static void queue_piece(Side *to, Piece *piece)
{
    if (to->deaf) {
        piece_free(piece);
        return;
    }
    g_queue_push_tail(&to->output, piece);
    to->queued += piece->len;
}

/* @bytes and @fd are taken over. */
static void put(Side *to, GByteArray *bytes, int fd)
{
    Piece *piece = g_new(Piece, 1);

    *piece = (Piece){.bytes = bytes, .len = bytes->len, .fd = fd};
    queue_piece(to, piece);
}

/* @frame is taken over, and goes on as it came: most bytes are those of volumes in streams. */
static void put_frame(Side *to, ColoRpcFrame *frame)
{
    Piece *piece = g_new(Piece, 1);

    *piece = (Piece){.frame = frame, .len = COLO_RPC_HEADER_BYTES + frame->len, .fd = -1};
    colo_rpc_header_encode(&frame->header, frame->len, piece->header);
    queue_piece(to, piece);
}

/* ---- frames ---- */

/* What the client says to libvirt. TRUE: it has been dealt with. */
static gboolean from_client(Pair *pair, const ColoRpcFrame *frame, GByteArray **changed)
{
    const ColoRpcHeader *h = &frame->header;
    char *scheme = NULL;

    if (colo_remote_is_own_serial(h->serial) &&
        (h->type == COLO_RPC_CALL || h->type == COLO_RPC_CALL_WITH_FDS)) {
        pair_broken(pair, &pair->client, "a serial from the range of our own calls");
        return TRUE;
    }
    if (h->program != COLO_REMOTE_PROGRAM || h->procedure != COLO_REMOTE_PROC_CONNECT_OPEN)
        return FALSE;
    if (h->type != COLO_RPC_CALL) { /* libvirtd takes CALL_WITH_FDS for one as well */
        pair_broken(pair, &pair->client, "a CONNECT_OPEN that is no plain call");
        return TRUE;
    }
    pair->opening = TRUE;
    pair->open_serial = h->serial;
    *changed = colo_remote_open(frame, &scheme);
    if (*changed) {
        g_free(pair->scheme);
        pair->scheme = scheme;
    }
    return FALSE;
}

/* The end of what began with CONNECT_OPEN: the client may ask from here on. */
static void opened(Pair *pair)
{
    pair->opening = FALSE;
    pair->open = pair->open_reply != NULL;
    if (pair->open_reply)
        put(&pair->client, g_steal_pointer(&pair->open_reply), -1);
}

static ColoRpcFrame *copy_frame(const ColoRpcFrame *frame)
{
    return g_memdup2(frame, sizeof(*frame) + frame->len);
}

static void settle(Pair *pair);

static gboolean work_done(gpointer data)
{
    Work *work = data;
    ColoRelay *relay = work->relay;

    for (guint i = 0; i < relay->pairs->len; i++) {
        Pair *pair = g_ptr_array_index(relay->pairs, i);

        if (pair->serial != work->serial)
            continue;
        pair->pending--;
        put(&pair->client, g_steal_pointer(&work->answer), -1);
        settle(pair);
        break;
    }
    return G_SOURCE_REMOVE;
}

static void run_work(gpointer data, gpointer opaque)
{
    Work *work = data;
    ColoRelay *relay = opaque;
    g_autoptr(GSource) source = g_idle_source_new();

    work->answer = relay->driver->work(work->call, relay->driver->opaque);
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, work_done, work, work_free);
    g_source_attach(source, relay->context);
}

/* Asks libvirt, as the client, whether it may; the work begins when it says so. @question is taken
 * over. */
static void ask_for_work(Pair *pair, const ColoRpcFrame *frame, GByteArray *question)
{
    Work *work = g_new0(Work, 1);

    work->relay = pair->relay;
    work->serial = pair->serial;
    work->call = copy_frame(frame);
    work->question = COLO_REMOTE_OWN_SERIAL + 1 + pair->questions++ % (COLO_REMOTE_OWN_SERIALS - 1);
    colo_put32(question->data + SERIAL_AT, work->question);
    pair->pending++;
    g_queue_push_tail(&pair->asked, work);
    put(&pair->libvirt, question, -1);
}

/* libvirt's reply to that. TRUE: it was one. */
static gboolean take_permission(Pair *pair, const ColoRpcFrame *reply)
{
    for (GList *i = pair->asked.head; i; i = i->next) {
        Work *work = i->data;
        ColoRpcHeader header;

        if (work->question != reply->header.serial)
            continue;
        g_queue_delete_link(&pair->asked, i);
        if (!colo_remote_is_denial(reply)) {
            /* Fails only when no thread can be made at all; then it stays queued. */
            g_thread_pool_push(pair->relay->workers, work, NULL);
            return TRUE;
        }
        header = work->call->header;
        header.type = COLO_RPC_REPLY;
        header.status = COLO_RPC_ERROR;
        put(&pair->client, colo_remote_encode(&header, reply->body, reply->len), -1);
        pair->pending--;
        work_free(work);
        return TRUE;
    }
    return FALSE;
}

/* Whether the driver has dealt with what @from said. */
static gboolean ask_driver(Side *from, const ColoRpcFrame *frame, GByteArray **changed)
{
    Pair *pair = from->pair;
    const ColoRelayDriver *driver = pair->relay->driver;
    gboolean client = from == &pair->client;
    uint32_t type = frame->header.type;
    g_autoptr(GByteArray) answer = NULL;
    ColoRelayVerdict verdict;

    if (!driver || !pair->open)
        return FALSE;
    if (client && type != COLO_RPC_CALL && type != COLO_RPC_CALL_WITH_FDS)
        return FALSE;
    verdict = (client ? driver->call : driver->heard)(frame, &answer, driver->opaque);
    switch (verdict) {
    case COLO_RELAY_PASS:
        return FALSE;
    case COLO_RELAY_WORK:
        if (pair->caller.readonly) /* libvirt refuses it, in its own words */
            return FALSE;
        ask_for_work(pair, frame, g_steal_pointer(&answer));
        return TRUE;
    case COLO_RELAY_ANSWER:
        if (client)
            put(&pair->client, g_steal_pointer(&answer), -1);
        else
            *changed = g_steal_pointer(&answer);
        return client;
    case COLO_RELAY_DROP:
        break;
    }
    return TRUE;
}

/* What libvirt says to the client. TRUE: it has been dealt with. */
static gboolean from_libvirt(Pair *pair, const ColoRpcFrame *frame, GByteArray **changed)
{
    const ColoRpcHeader *h = &frame->header;

    if (h->program != COLO_REMOTE_PROGRAM || h->type != COLO_RPC_REPLY)
        return FALSE;
    if (pair->open_reply && h->serial == COLO_REMOTE_OWN_SERIAL &&
        h->procedure == COLO_REMOTE_PROC_CONNECT_SET_IDENTITY) {
        if (h->status == COLO_RPC_OK)
            opened(pair);
        else
            pair_broken(pair, &pair->libvirt, "it does not take the client's identity");
        return TRUE;
    }
    if (colo_remote_is_own_serial(h->serial) && take_permission(pair, frame))
        return TRUE;
    if (h->procedure == COLO_REMOTE_PROC_CONNECT_OPEN && pair->opening && !pair->open_reply &&
        h->serial == pair->open_serial) {
        if (h->status != COLO_RPC_OK) {
            opened(pair);
            return FALSE;
        }
        pair->open_reply = colo_remote_encode(h, frame->body, frame->len);
        put(&pair->libvirt, colo_remote_identity(&pair->caller, COLO_REMOTE_OWN_SERIAL), -1);
        return TRUE;
    }
    if (h->status == COLO_RPC_OK && h->procedure == COLO_REMOTE_PROC_CONNECT_GET_URI &&
        pair->scheme)
        *changed = colo_remote_uri(frame, pair->scheme);
    return FALSE;
}

/* Those of a frame that goes no further. */
static void drop_fds(Side *side)
{
    for (guint i = 0; i < side->fds->len && i < side->n_fds; i++)
        close(g_array_index(side->fds, int, i));
    g_array_remove_range(side->fds, 0, MIN(side->fds->len, side->n_fds));
}

/* Hands on a whole frame, which it takes over, with its FDs. */
static void pass(Side *from, ColoRpcFrame *owned)
{
    g_autoptr(ColoRpcFrame) frame = owned;
    Pair *pair = from->pair;
    Side *to = from == &pair->client ? &pair->libvirt : &pair->client;
    GByteArray *changed = NULL;

    if (from == &pair->client ? from_client(pair, frame, &changed)
                              : from_libvirt(pair, frame, &changed))
        return;
    if (!changed && ask_driver(from, frame, &changed)) {
        drop_fds(from);
        return;
    }
    if (changed)
        put(to, changed, -1);
    else
        put_frame(to, g_steal_pointer(&frame));
    for (unsigned i = 0; i < from->n_fds; i++) {
        GByteArray *byte = g_byte_array_new();

        g_byte_array_set_size(byte, 1);
        byte->data[0] = 0;
        put(to, byte, g_array_index(from->fds, int, i));
    }
    g_array_remove_range(from->fds, 0, from->n_fds);
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

/* What has come of it waits. */
static gboolean is_held(const Side *side)
{
    const Pair *pair = side->pair;

    return side == &pair->client &&
           (pair->opening || pair->libvirt.fd < 0 || pair->pending >= COLO_RELAY_PENDING_MAX);
}

/* Handles all that is whole. */
static void process(Side *side)
{
    Pair *pair = side->pair;

    while (!pair->dead && !is_held(side)) {
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
        pass(side, g_steal_pointer(&side->frame));
        side->n_fds = 0;
    }
    if (!pair->dead && !is_held(side) && side->fds->len > side->n_fds)
        pair_broken(pair, side, "an FD that belongs to no frame");
}

/* ---- input ---- */

/* One recvmsg(); FDs go to side->fds. -1 with EMSGSIZE: there were too many. */
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
    if (message.msg_flags & MSG_CTRUNC) {
        errno = EMSGSIZE;
        return -1;
    }
    return n;
}

/* After anything that may have changed either side. @pair may be gone then. */
static void settle(Pair *pair)
{
    Side *client = &pair->client, *libvirt = &pair->libvirt;

    process(client); /* an answer of libvirt's may have let it go on */
    if (!pair->dead) {
        flush(client);
        flush(libvirt);
        /* What was said before the end is to be heard. */
        if ((client->ended && libvirt->queued == 0) || (libvirt->ended && client->queued == 0))
            pair_close(pair);
    }
    if (!pair->dead) {
        watch(client);
        watch(libvirt);
    }
    reap(pair);
}

static gboolean on_readable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                            gpointer data)
{
    static uint8_t buffer[READ_CHUNK]; /* of the context's thread */
    Side *side = data;
    ssize_t n = receive(side, buffer, sizeof(buffer));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n > 0) {
        colo_rpc_reader_feed(side->reader, buffer, (size_t)n);
        process(side);
    } else if (n < 0 && errno == EMSGSIZE) {
        pair_broken(side->pair, side, "more FDs at once than libvirt allows");
    } else {
        side->ended = TRUE;
    }
    settle(side->pair);
    return G_SOURCE_CONTINUE;
}

static gboolean on_writable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                            gpointer data)
{
    settle(((Side *)data)->pair);
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

    wait_for(side, &side->in,
             !side->ended && !is_held(side) && other->queued < COLO_RELAY_QUEUE_MAX,
             G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable);
    wait_for(side, &side->out, side->queued > 0, G_IO_OUT | G_IO_HUP | G_IO_ERR, on_writable);
}

/* ---- connections ---- */

/* -1 with errno; EAGAIN: it is there, and has no room for one more now. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, saved;

    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static gboolean connect_again(gpointer data);

/* Connects @pair to the first libvirt that is there. */
static void connect_pair(Pair *pair)
{
    const ColoRelay *relay = pair->relay;
    int fd = -1;

    for (char **path = relay->upstreams; *path && fd < 0; path++) {
        g_autofree char *at = g_strconcat(*path, pair->caller.readonly ? "-ro" : "", NULL);

        fd = connect_to(at);
        if (fd < 0 && errno == EAGAIN && g_get_monotonic_time() < pair->retry_end) {
            pair->retry = g_timeout_source_new(CONNECT_RETRY_MS);
            g_source_set_callback(pair->retry, connect_again, pair, NULL);
            g_source_attach(pair->retry, relay->context);
            return;
        }
    }
    pair->libvirt.fd = fd;
    if (fd < 0) {
        colo_warn("client of uid %u, pid %d closed: no libvirt answers at %s: start virtqemud or "
                  "libvirtd",
                  (unsigned)pair->caller.uid, (int)pair->caller.pid, relay->upstreams[0]);
        pair_close(pair);
    }
    settle(pair);
}

static gboolean connect_again(gpointer data)
{
    Pair *pair = data;

    drop_source(&pair->retry);
    connect_pair(pair);
    return G_SOURCE_REMOVE;
}

ColoRelay *colo_relay_new(GMainContext *context, const char *const *upstreams,
                          const ColoRelayDriver *driver)
{
    ColoRelay *relay = g_new0(ColoRelay, 1);

    relay->context = context;
    relay->upstreams = g_strdupv((char **)upstreams);
    relay->pairs = g_ptr_array_new_with_free_func(pair_free);
    relay->driver = driver;
    if (driver)
        relay->workers = g_thread_pool_new(run_work, relay, COLO_RELAY_WORKERS, FALSE, NULL);
    return relay;
}

void colo_relay_adopt(ColoRelay *relay, int fd, const ColoRpcCaller *caller, const uint8_t *data,
                      size_t len)
{
    Pair *pair;

    if (fd < 0 || relay->pairs->len >= COLO_RELAY_CLIENTS_MAX ||
        (caller->readonly && relay->n_readonly >= COLO_RELAY_RO_CLIENTS_MAX)) {
        colo_warn("client of uid %u, pid %d closed: %s", (unsigned)caller->uid, (int)caller->pid,
                  fd < 0 ? "no descriptor is left for it"
                         : "as many as may be are connected to libvirt");
        if (fd >= 0)
            close(fd);
        return;
    }
    pair = g_new0(Pair, 1);
    pair->relay = relay;
    pair->caller = *caller;
    relay->n_readonly += caller->readonly;
    pair->serial = ++relay->last_serial;
    pair->retry_end = g_get_monotonic_time() + CONNECT_LIMIT_MS * 1000;
    side_init(&pair->client, pair, "the client", fd);
    side_init(&pair->libvirt, pair, "libvirt", -1);
    g_ptr_array_add(relay->pairs, pair);
    colo_rpc_reader_feed(pair->client.reader, data, len);
    connect_pair(pair);
}

void colo_relay_free(ColoRelay *relay)
{
    if (!relay)
        return;
    if (relay->workers)
        g_thread_pool_free(relay->workers, FALSE, TRUE);
    g_ptr_array_unref(relay->pairs);
    g_strfreev(relay->upstreams);
    g_free(relay);
}
