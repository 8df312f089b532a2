/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/relay.h"

#include "rpc/closed.h"
#include "rpc/relay-auth.h"
#include "rpc/relay-side.h"
#include "rpc/relay-work.h"
#include "rpc/remote-calls.h"
#include "util/source.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A libvirtd whose queue of connections is full is asked again, for as long as this. */
#define CONNECT_RETRY_MS 50u
#define CONNECT_LIMIT_MS 5000
/* How often those who have not finished what they began are looked at, while there are any. */
#define LOOK_S 5

typedef struct {
    ColoRelay *relay;
    ColoRpcCaller caller;
    ColoRelaySide client, libvirt;
    GSource *retry;         /* libvirt is to be connected to again ... */
    gint64 retry_end;       /* ... until then, us */
    char *scheme;           /* of the client's URI; NULL: nothing of ours was opened */
    gboolean opening;       /* CONNECT_OPEN is under way: the client's next frames wait ... */
    uint32_t open_serial;   /* ... for its reply with this serial ... */
    GByteArray *open_reply; /* ... which is held while libvirt is told the identity */
    gboolean open;
    ColoRelayAuth *auth; /* NULL: the client is in */
    ColoRelayWork *work; /* NULL without a driver */
    gboolean dead;
} Pair;

struct ColoRelay {
    GMainContext *context;
    char **upstreams;
    GPtrArray *pairs;
    gint n_clients;   /* atomic: their number */
    guint n_readonly; /* of them */
    const ColoRelayDriver *driver;
    ColoRelayWorkers *workers; /* NULL without a driver */
    GSource *look;             /* NULL: everybody has finished what he began */
};

static void pair_free(gpointer data)
{
    Pair *pair = data;

    g_atomic_int_dec_and_test(&pair->relay->n_clients);
    pair->relay->n_readonly -= pair->caller.readonly;
    colo_source_drop(&pair->retry);
    colo_relay_auth_free(pair->auth);
    colo_relay_work_free(pair->work);
    colo_relay_side_clear(&pair->client);
    colo_relay_side_clear(&pair->libvirt);
    g_free(pair->scheme);
    g_clear_pointer(&pair->open_reply, g_byte_array_unref);
    g_free(pair);
}

/* Closes both connections: one without the other is of no use. The memory goes when the callback
 * that found it out has returned. */
static void pair_close(Pair *pair)
{
    if (pair->dead)
        return;
    pair->dead = TRUE;
    colo_source_drop(&pair->retry);
    colo_relay_side_close(&pair->client);
    colo_relay_side_close(&pair->libvirt);
}

static void pair_broken(Pair *pair, const ColoRelaySide *side, const char *what)
{
    colo_rpc_log_closed(&pair->caller, "%s: %s", side->name, what);
    pair_close(pair);
}

static void reap(Pair *pair)
{
    if (pair->dead)
        g_ptr_array_remove_fast(pair->relay->pairs, pair);
}

/* ---- frames ---- */

/* The client hears what came of its authentication; libvirt lets us in, who are root. */
static void take_auth(Pair *pair)
{
    GByteArray *answer = colo_relay_auth_take(pair->auth);

    if (answer)
        colo_relay_side_put(&pair->client, answer, -1);
    if (!colo_relay_auth_is_in(pair->auth))
        return;
    colo_relay_side_put(&pair->libvirt, colo_remote_auth_list(COLO_REMOTE_OWN_SERIAL), -1);
    g_clear_pointer(&pair->auth, colo_relay_auth_free);
}

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
    if (pair->auth) {
        if (colo_relay_auth_hear(pair->auth, frame))
            take_auth(pair);
        else
            pair_broken(pair, &pair->client, "something else than a call before it was let in");
        return TRUE;
    }
    if (h->program != COLO_REMOTE_PROGRAM || h->procedure != COLO_REMOTE_PROC_CONNECT_OPEN)
        return FALSE;
    if (pair->open) /* libvirt says that it is */
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
        colo_relay_side_put(&pair->client, g_steal_pointer(&pair->open_reply), -1);
}

/* libvirt let us in, who are root, and not the client, as @denial says: it hears that it was not
 * opened, and that is all. */
static void refuse_open(Pair *pair, const ColoRpcFrame *denial)
{
    ColoRpcHeader header = denial->header;

    header.procedure = COLO_REMOTE_PROC_CONNECT_OPEN;
    header.serial = pair->open_serial;
    colo_relay_side_put(&pair->client, colo_remote_encode(&header, denial->body, denial->len), -1);
    pair->libvirt.ended = TRUE;
}

/* Whether the driver has dealt with what @from said. */
static gboolean ask_driver(Pair *pair, const ColoRelaySide *from, const ColoRpcFrame *frame,
                           GByteArray **changed)
{
    const ColoRelayDriver *driver = pair->relay->driver;
    gboolean client = from == &pair->client;
    uint32_t type = frame->header.type;
    g_autoptr(GByteArray) answer = NULL, question = NULL;
    ColoRelayVerdict verdict;

    if (!driver || !pair->open)
        return FALSE;
    if (client && type != COLO_RPC_CALL && type != COLO_RPC_CALL_WITH_FDS)
        return FALSE;
    verdict = client ? driver->call(frame, &answer, &question, driver->opaque)
                     : driver->heard(frame, &answer, driver->opaque);
    if (question && pair->caller.readonly) /* libvirt refuses it, in its own words */
        return FALSE;
    switch (verdict) {
    case COLO_RELAY_REVISE:
        colo_relay_work_watch(pair->work, frame);
        return FALSE;
    case COLO_RELAY_PASS:
        return FALSE;
    case COLO_RELAY_WORK:
        colo_relay_work_begin(pair->work, frame, g_steal_pointer(&question), NULL);
        return TRUE;
    case COLO_RELAY_ANSWER:
        if (question)
            colo_relay_work_begin(pair->work, frame, g_steal_pointer(&question),
                                  g_steal_pointer(&answer));
        else if (client)
            colo_relay_side_put(&pair->client, g_steal_pointer(&answer), -1);
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

    if (h->type != COLO_RPC_REPLY && h->type != COLO_RPC_REPLY_WITH_FDS)
        return FALSE;
    if (h->serial == COLO_REMOTE_OWN_SERIAL && h->procedure == COLO_REMOTE_PROC_AUTH_LIST &&
        h->program == COLO_REMOTE_PROGRAM)
        return TRUE;
    if (pair->open && pair->work && colo_relay_work_hears(pair->work, frame, changed))
        return TRUE;
    if (h->program != COLO_REMOTE_PROGRAM || h->type != COLO_RPC_REPLY)
        return FALSE;
    if (pair->open_reply && h->serial == COLO_REMOTE_OWN_SERIAL &&
        h->procedure == COLO_REMOTE_PROC_CONNECT_SET_IDENTITY) {
        if (h->status == COLO_RPC_OK)
            colo_relay_side_put(&pair->libvirt,
                                colo_remote_ask_connect_open(COLO_REMOTE_OWN_SERIAL), -1);
        else
            pair_broken(pair, &pair->libvirt, "it does not take the client's identity");
        return TRUE;
    }
    if (pair->open_reply && h->serial == COLO_REMOTE_OWN_SERIAL &&
        h->procedure == COLO_REMOTE_PROC_CONNECT_SUPPORTS_FEATURE) {
        if (colo_remote_is_denial(frame))
            refuse_open(pair, frame);
        else
            opened(pair);
        return TRUE;
    }
    if (h->procedure == COLO_REMOTE_PROC_CONNECT_OPEN && pair->opening && !pair->open_reply &&
        h->serial == pair->open_serial) {
        if (h->status != COLO_RPC_OK) {
            opened(pair);
            return FALSE;
        }
        pair->open_reply = colo_remote_encode(h, frame->body, frame->len);
        colo_relay_side_put(&pair->libvirt,
                            colo_remote_identity(&pair->caller, COLO_REMOTE_OWN_SERIAL), -1);
        return TRUE;
    }
    if (h->status == COLO_RPC_OK && h->procedure == COLO_REMOTE_PROC_CONNECT_GET_URI &&
        pair->scheme)
        *changed = colo_remote_uri(frame, pair->scheme);
    return FALSE;
}

/* Hands on a whole frame, which it takes over, with its FDs. */
static void pass(Pair *pair, ColoRelaySide *from, ColoRpcFrame *owned)
{
    ColoRelaySide *to = from == &pair->client ? &pair->libvirt : &pair->client;
    g_autoptr(ColoRpcFrame) frame = owned;
    GByteArray *changed = NULL;

    if (from == &pair->client ? from_client(pair, frame, &changed)
                              : from_libvirt(pair, frame, &changed))
        return;
    if (!changed && ask_driver(pair, from, frame, &changed)) {
        colo_relay_side_drop_fds(from);
        return;
    }
    if (changed)
        colo_relay_side_put(to, changed, -1);
    else
        colo_relay_side_put_frame(to, g_steal_pointer(&frame));
    colo_relay_side_put_fds(to, from);
}

/* What has come of it waits. */
static gboolean is_held(const Pair *pair, const ColoRelaySide *side)
{
    return side == &pair->client &&
           (pair->opening || (pair->auth && colo_relay_auth_is_asking(pair->auth)) ||
            pair->libvirt.fd < 0 || (pair->work && colo_relay_work_is_full(pair->work)));
}

/* Handles all that is whole. */
static void process(Pair *pair, ColoRelaySide *side)
{
    while (!pair->dead && !is_held(pair, side)) {
        g_autoptr(GError) error = NULL;
        ColoRpcFrame *frame = colo_relay_side_next(side, &error);

        if (error)
            pair_broken(pair, side, error->message);
        if (!frame)
            break;
        pass(pair, side, frame);
    }
    if (!pair->dead && *pair->caller.dn && side->frame && side->n_fds > 0)
        pair_broken(pair, side, "FDs, of which TLS carries none");
    if (!pair->dead && !is_held(pair, side) && side->fds->len > (side->frame ? side->n_fds : 0))
        pair_broken(pair, side, "an FD that belongs to no frame");
}

/* ---- those who do not finish ---- */

static gboolean is_unfinished(const Pair *pair)
{
    return colo_relay_side_is_unfinished(&pair->client) || pair->libvirt.queued_fds > 0;
}

static gboolean on_look(gpointer data)
{
    ColoRelay *relay = data;
    gboolean more = FALSE;

    for (guint i = relay->pairs->len; i-- > 0;) {
        Pair *pair = g_ptr_array_index(relay->pairs, i);
        const char *client = colo_relay_side_stalls(&pair->client);
        const char *libvirt =
            pair->libvirt.queued_fds > 0 ? colo_relay_side_stalls(&pair->libvirt) : NULL;

        if (client || libvirt)
            pair_broken(pair, client ? &pair->client : &pair->libvirt, client ? client : libvirt);
        else
            more = more || is_unfinished(pair);
        reap(pair);
    }
    if (more)
        return G_SOURCE_CONTINUE;
    g_clear_pointer(&relay->look, g_source_unref);
    return G_SOURCE_REMOVE;
}

static void look_at_unfinished(Pair *pair)
{
    ColoRelay *relay = pair->relay;

    if (relay->look || !is_unfinished(pair))
        return;
    relay->look = g_timeout_source_new_seconds(LOOK_S);
    g_source_set_callback(relay->look, on_look, relay, NULL);
    g_source_attach(relay->look, relay->context);
}

/* ---- input and output ---- */

static void watch(Pair *pair);

/* After anything that may have changed either side. @pair may be gone then. */
static void settle(void *opaque)
{
    Pair *pair = opaque;
    ColoRelaySide *client = &pair->client, *libvirt = &pair->libvirt;

    process(pair, client); /* an answer of libvirt's may have let it go on */
    if (!pair->dead) {
        colo_relay_side_flush(client);
        colo_relay_side_flush(libvirt);
        /* What was said before the end is to be heard. */
        if ((client->ended && libvirt->queued == 0) || (libvirt->ended && client->queued == 0))
            pair_close(pair);
    }
    if (!pair->dead)
        watch(pair);
    reap(pair);
}

static void on_auth(void *opaque)
{
    Pair *pair = opaque;

    take_auth(pair);
    settle(pair);
}

static gboolean readable(Pair *pair, ColoRelaySide *side)
{
    ssize_t n = colo_relay_side_receive(side);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n > 0)
        process(pair, side);
    else if (n < 0 && errno == EMSGSIZE)
        pair_broken(pair, side, "more FDs at once than libvirt allows");
    else
        side->ended = TRUE;
    settle(pair);
    return G_SOURCE_CONTINUE;
}

static gboolean client_readable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                                gpointer pair)
{
    return readable(pair, &((Pair *)pair)->client);
}

static gboolean libvirt_readable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                                 gpointer pair)
{
    return readable(pair, &((Pair *)pair)->libvirt);
}

static gboolean on_writable(gint fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                            gpointer pair)
{
    settle(pair);
    return G_SOURCE_CONTINUE;
}

static void watch(Pair *pair)
{
    ColoRelaySide *client = &pair->client, *libvirt = &pair->libvirt;

    colo_relay_side_watch(client, !is_held(pair, client) && libvirt->queued < COLO_RELAY_QUEUE_MAX,
                          client_readable, on_writable, pair);
    colo_relay_side_watch(libvirt, client->queued < COLO_RELAY_QUEUE_MAX, libvirt_readable,
                          on_writable, pair);
    look_at_unfinished(pair);
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
        colo_rpc_log_closed(&pair->caller, "no libvirt answers at %s: start virtqemud or libvirtd",
                            relay->upstreams[0]);
        pair_close(pair);
    }
    settle(pair);
}

static gboolean connect_again(gpointer data)
{
    Pair *pair = data;

    colo_source_drop(&pair->retry);
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
        relay->workers = colo_relay_workers_new(context, driver, settle);
    return relay;
}

void colo_relay_adopt(ColoRelay *relay, int fd, const ColoRpcCaller *caller, const uint8_t *data,
                      size_t len)
{
    Pair *pair;

    if (fd < 0 || relay->pairs->len >= COLO_RELAY_CLIENTS_MAX ||
        (caller->readonly && relay->n_readonly >= COLO_RELAY_RO_CLIENTS_MAX)) {
        colo_rpc_log_closed(caller, "%s",
                            fd < 0 ? "no descriptor is left for it"
                                   : "as many as may be are connected to libvirt");
        if (fd >= 0)
            close(fd);
        return;
    }
    pair = g_new0(Pair, 1);
    pair->relay = relay;
    pair->caller = *caller;
    g_atomic_int_inc(&relay->n_clients);
    relay->n_readonly += caller->readonly;
    pair->retry_end = g_get_monotonic_time() + CONNECT_LIMIT_MS * 1000;
    colo_relay_side_init(&pair->client, relay->context, "the client", fd);
    colo_relay_side_init(&pair->libvirt, relay->context, "libvirt", -1);
    if (relay->workers)
        pair->work = colo_relay_work_new(relay->workers, &pair->client, &pair->libvirt, pair);
    if (caller->polkit)
        pair->auth = colo_relay_auth_new(caller, on_auth, pair);
    g_ptr_array_add(relay->pairs, pair);
    colo_rpc_reader_feed(pair->client.reader, data, len);
    connect_pair(pair);
}

unsigned colo_relay_n_clients(const ColoRelay *relay)
{
    return (unsigned)g_atomic_int_get(&relay->n_clients);
}

void colo_relay_free(ColoRelay *relay)
{
    if (!relay)
        return;
    colo_source_drop(&relay->look);
    g_ptr_array_unref(relay->pairs);
    colo_relay_workers_free(relay->workers);
    g_strfreev(relay->upstreams);
    g_free(relay);
}
