/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The compare core and the rewriter between two copies of a simulated guest that choose other
 * initial sequence numbers, timestamps and segments, and clients that reopen their ports now and
 * then. Loss, reordering, checkpoints and takeovers at any time, three of them in a row: each
 * survivor is protected again with its connections. A client never sees a sequence number or a
 * timestamp go back, gets the right bytes once, and nothing that was acknowledged to it is missing
 * in the survivor. GLib prints the seed; --seed repeats a run.
 */
#include "test-rewrite-frames.h"

#include "comparator/compare.h"

enum { PORTS = 4, REQUEST = 300, ANSWER = 2 * REQUEST, PIECE = 90, TAKEOVERS = 3 };

/* One connection in a copy of the guest: it answers each byte with two. */
typedef struct {
    bool open;
    uint32_t isn, peer_isn, ts_offset;
    uint32_t in, out, acked; /* bytes */
} Conn;

typedef struct {
    Conn conn[PORTS];
    uint32_t clock; /* of it, less the model's time */
} Guest;

typedef struct {
    bool established;
    uint32_t isn, peer_isn;
    uint32_t acked, got; /* bytes */
    uint32_t ts;         /* highest heard, to be echoed */
    bool left_valid;     /* a frame for it has left the guest's host */
    uint32_t left_ts;
    unsigned incarnation;
} Client;

typedef enum { TO_GUEST, A_SYN, TO_PRIMARY, TO_CLIENT } Kind;

typedef struct {
    Kind kind;
    uint64_t epoch;
    size_t len;
    uint8_t frame[];
} Item;

typedef struct {
    Guest guest[2]; /* 0: the primary's */
    Client client[PORTS];
    ColoCompare *compare;
    ColoRewrite *rewrite; /* of the secondary */
    ColoRewrite *path;    /* of a survivor, between its guest and the network, or NULL */
    GQueue there, back, net;
    uint64_t epoch[2];
    bool stopped; /* the secondary, between REPLY and the checkpoint's end */
    bool alone;   /* no secondary */
    bool calm;    /* nothing gets lost any more */
    uint32_t time;
} Model;

static const Shape v4 = {.v6 = FALSE};

static unsigned rnd(unsigned below)
{
    return (unsigned)g_test_rand_int_range(0, (gint32)below);
}

/* 1 to PIECE bytes, at most @most. */
static uint32_t piece(uint32_t most)
{
    uint32_t len = 1 + rnd(PIECE);

    return MIN(len, most);
}

static char byte_of(unsigned port, unsigned incarnation, uint32_t at)
{
    return (char)(port * 31 + incarnation * 17 + at * 7 + (at >> 6));
}

static void push(GQueue *queue, Kind kind, uint64_t epoch, const uint8_t *frame, size_t len)
{
    Item *item = g_malloc(sizeof(*item) + len);

    *item = (Item){.kind = kind, .epoch = epoch, .len = len};
    memcpy(item->frame, frame, len);
    g_queue_push_tail(queue, item);
}

static void empty(GQueue *queue)
{
    g_queue_clear_full(queue, g_free);
}

/* ---- the way to the clients ---- */

/* A frame leaves the host: the last place that can see an order. */
static void leave(Model *m, const uint8_t *frame, size_t len)
{
    ColoSegment s;
    Client *client;
    uint32_t ts;

    rw_assert_sum(frame, len, &v4);
    g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
    client = &m->client[s.connection.remote_port - 1];
    push(&m->net, TO_CLIENT, 0, frame, len);
    if (s.ack - client->isn - 1 > REQUEST)
        return; /* of an older connection */
    ts = colo_get32(frame + s.ts_at);
    if (client->left_valid)
        g_assert_cmpint((int32_t)(ts - client->left_ts), >=, 0);
    client->left_valid = true;
    client->left_ts = ts;
}

static void released(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet,
                     ColoChunk *chunk G_GNUC_UNUSED)
{
    Model *m = opaque;

    g_assert_cmpuint(nic, ==, 0);
    g_assert_cmpuint(vnet, ==, RW_VNET);
    if (m->path)
        frame = colo_rewrite_output(m->path, 0, frame, len, RW_VNET, 1);
    g_assert_nonnull(frame);
    leave(m, frame, len);
}

static void confirm(void *opaque, uint8_t nic G_GNUC_UNUSED, const uint8_t *frame, size_t len,
                    size_t vnet G_GNUC_UNUSED)
{
    Model *m = opaque;

    if (!m->alone)
        push(&m->back, TO_PRIMARY, m->epoch[1], frame, len);
}

/* ---- the guest ---- */

static void guest_sends(Model *m, unsigned copy, const uint8_t *frame, size_t len)
{
    if (copy == 1) {
        frame = colo_rewrite_output(m->rewrite, 0, frame, len, RW_VNET, 1);
        if (frame)
            confirm(m, 0, frame, len, RW_VNET);
        return;
    }
    if (m->alone) {
        released(m, 0, frame, len, RW_VNET, NULL);
        return;
    }
    if (colo_rewrite_is_syn(frame, len, RW_VNET))
        push(&m->there, A_SYN, m->epoch[0], frame, len);
    g_assert_cmpint(
        colo_compare_primary(m->compare, 0, frame, len, RW_VNET, m->epoch[0], m->time + 1), !=,
        COLO_VERDICT_FULL);
}

static void guest_says(Model *m, unsigned copy, unsigned port, unsigned flags, uint32_t from,
                       uint32_t len)
{
    Guest *guest = &m->guest[copy];
    Conn *conn = &guest->conn[port];
    uint8_t frame[512];
    char bytes[PIECE];
    Seg s = {.flags = flags | ACK,
             .port = port + 1,
             .seq = conn->isn + (flags & SYN ? 0 : 1 + from),
             .ack = conn->peer_isn + 1 + conn->in,
             .ts = TRUE,
             .ts_val = m->time + guest->clock + conn->ts_offset,
             .data = bytes,
             .len = len};

    for (uint32_t i = 0; i < len; i++)
        bytes[i] = byte_of(port, conn->peer_isn >> 20, from + i);
    guest_sends(m, copy, frame, rw_put(frame, &v4, &s));
}

static void guest_hears(Model *m, unsigned copy, const uint8_t *frame, size_t len)
{
    ColoSegment s;
    unsigned port;
    Conn *conn;
    uint32_t bytes;

    rw_assert_sum(frame, len, &v4);
    g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, true, &s));
    port = s.connection.remote_port - 1u;
    conn = &m->guest[copy].conn[port];
    if (s.flags & SYN) {
        if (!conn->open || conn->peer_isn != s.seq)
            *conn = (Conn){.open = true,
                           .isn = (uint32_t)g_test_rand_int(),
                           .peer_isn = s.seq,
                           .ts_offset = (uint32_t)g_test_rand_int()};
        guest_says(m, copy, port, SYN, 0, 0);
        return;
    }
    bytes = s.length;
    if (!conn->open || s.seq - conn->peer_isn - 1 > REQUEST)
        return; /* of an older connection */
    /* It never hears of what it did not say. */
    g_assert_cmpuint(s.ack - conn->isn - 1, <=, conn->out);
    conn->acked = MAX(conn->acked, s.ack - conn->isn - 1);
    if (bytes && s.seq - conn->peer_isn - 1 == conn->in)
        conn->in += bytes;
    if (bytes)
        guest_says(m, copy, port, 0, conn->out, 0);
}

/* Its application or a timer does something. */
static void guest_acts(Model *m, unsigned copy)
{
    unsigned port = rnd(PORTS);
    Conn *conn = &m->guest[copy].conn[port];
    uint32_t ready = 2 * conn->in;

    if (!conn->open)
        return;
    if (conn->out < ready) {
        uint32_t len = piece(ready - conn->out);

        conn->out += len;
        guest_says(m, copy, port, 0, conn->out - len, len);
    } else if (conn->acked < conn->out && rnd(4) == 0) {
        guest_says(m, copy, port, 0, conn->acked, MIN(PIECE, conn->out - conn->acked));
    } else if (conn->in == 0 && rnd(4) == 0) {
        guest_says(m, copy, port, SYN, 0, 0);
    }
}

/* ---- the clients ---- */

static void client_sends(Model *m, const Seg *s)
{
    uint8_t frame[512];
    Seg segment = *s;
    const uint8_t *got = frame;
    size_t len;

    segment.to_guest = TRUE;
    len = rw_put(frame, &v4, &segment);
    if (!m->calm && rnd(6) == 0)
        return;
    if (m->path)
        got = colo_rewrite_input(m->path, 0, frame, len, RW_VNET, 1);
    if (!m->alone)
        push(&m->there, TO_GUEST, m->epoch[0], got, len);
    guest_hears(m, 0, got, len);
}

static void client_acts(Model *m)
{
    unsigned port = rnd(PORTS);
    Client *c = &m->client[port];
    Seg s = {.port = port + 1, .ts = TRUE, .ts_val = m->time};
    char bytes[PIECE];

    if (c->incarnation == 0 || (!m->calm && rnd(40) == 0)) {
        unsigned incarnation = c->incarnation + 1;

        *c = (Client){.incarnation = incarnation, .isn = (incarnation * PORTS + port + 1) << 20};
    }
    s.seq = c->isn;
    if (!c->established) {
        s.flags = SYN;
    } else {
        s.flags = ACK;
        s.seq += 1 + c->acked;
        s.ack = c->peer_isn + 1 + c->got;
        s.ts_echo = c->ts;
        s.len = piece(REQUEST - c->acked);
        memset(bytes, 'q', sizeof(bytes));
        s.data = bytes;
    }
    client_sends(m, &s);
}

static void client_hears(Model *m, const uint8_t *frame, size_t len)
{
    ColoSegment s;
    unsigned port;
    Client *c;
    uint32_t at, bytes;

    g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, false, &s));
    port = s.connection.remote_port - 1u;
    c = &m->client[port];
    if (s.ack - c->isn - 1 > REQUEST)
        return; /* of an older connection */
    g_assert_false(s.flags & RST);
    if (s.flags & SYN) {
        if (c->established)
            g_assert_cmpuint(s.seq, ==, c->peer_isn);
        c->established = true;
        c->peer_isn = s.seq;
        c->ts = colo_get32(frame + s.ts_at);
        return;
    }
    if (!c->established)
        return;
    c->acked = MAX(c->acked, s.ack - c->isn - 1);
    at = s.seq - c->peer_isn - 1;
    bytes = s.length;
    g_assert_cmpuint(at + bytes, <=, ANSWER);
    for (uint32_t i = 0; i < bytes; i++)
        g_assert_cmpint((char)frame[len - bytes + i], ==, byte_of(port, c->isn >> 20, at + i));
    if (at <= c->got && c->got < at + bytes)
        c->got = at + bytes;
    c->ts = colo_get32(frame + s.ts_at);
}

static void network_acts(Model *m)
{
    guint n = g_queue_get_length(&m->net);
    Item *item;

    if (n == 0)
        return;
    item = g_queue_pop_nth(&m->net, m->calm || rnd(3) ? 0 : rnd(n));
    if (m->calm || rnd(6))
        client_hears(m, item->frame, item->len);
    g_free(item);
}

/* ---- the secondary ---- */

static void secondary_hears(Model *m)
{
    Item *item = m->stopped ? NULL : g_queue_pop_head(&m->there);

    if (!item)
        return;
    if (item->epoch == m->epoch[1] && item->kind == A_SYN) {
        colo_rewrite_primary_syn(m->rewrite, 0, item->frame, item->len, RW_VNET);
    } else if (item->epoch == m->epoch[1]) {
        guest_hears(m, 1, colo_rewrite_input(m->rewrite, 0, item->frame, item->len, RW_VNET, 1),
                    item->len);
    }
    g_free(item);
}

static void primary_hears(Model *m)
{
    Item *item = g_queue_pop_head(&m->back);

    if (!item)
        return;
    g_assert_cmpint(colo_compare_secondary(m->compare, 0, item->frame, item->len, RW_VNET,
                                           item->epoch, m->time + 1),
                    !=, COLO_VERDICT_FULL);
    g_free(item);
}

static void checkpoint_begins(Model *m)
{
    if (m->stopped)
        return;
    m->stopped = true;
    m->epoch[1]++;
}

static void checkpoint_ends(Model *m)
{
    if (!m->stopped)
        return;
    m->epoch[0]++;
    for (GList *at = m->there.head; at; at = at->next) {
        const Item *item = at->data;

        if (item->kind == A_SYN && item->epoch < m->epoch[0])
            colo_rewrite_late_syn(m->rewrite, 0, item->frame, item->len, RW_VNET, false);
    }
    colo_rewrite_loaded(m->rewrite);
    m->guest[1] = m->guest[0];
    /* So that what was not rewritten does not go back either: the rewriter knows nothing of it. */
    m->guest[1].clock += rnd(3);
    empty(&m->there);
    m->stopped = false;
    colo_compare_commit(m->compare, m->epoch[0]);
}

static void protect(Model *m)
{
    static ColoRewriteRow rows[COLO_REWRITE_CONNECTIONS];

    m->compare = colo_compare_new(&(ColoCompareLimits){.arena_bytes = 8 << 20, .frames = 16384},
                                  released, m);
    m->rewrite = colo_rewrite_new(confirm, m);
    if (m->path) {
        uint32_t n = colo_rewrite_export(m->path, rows, COLO_REWRITE_CONNECTIONS);

        for (uint32_t i = 0; i < n; i++)
            g_assert_true(colo_rewrite_import(m->rewrite, &rows[i], 1));
    }
    m->guest[1] = m->guest[0];
    m->guest[1].clock += rnd(3);
    m->alone = false;
    m->epoch[0] = m->epoch[1] = 1;
}

/* The primary dies: what has left is on its way, what waits there is lost. */
static void take_over(Model *m)
{
    for (unsigned n = rnd(1 + g_queue_get_length(&m->there)); n > 0; n--)
        secondary_hears(m);
    empty(&m->there);
    empty(&m->back);
    colo_compare_drop_all(m->compare);
    colo_compare_free(m->compare);
    colo_rewrite_free(m->path);
    m->path = m->rewrite;
    m->rewrite = NULL;
    m->compare = NULL;
    colo_rewrite_alone(m->path);
    m->guest[0] = m->guest[1];
    m->stopped = false;
    m->alone = true;
    for (unsigned port = 0; port < PORTS; port++) {
        const Conn *conn = &m->guest[0].conn[port];
        const Client *c = &m->client[port];

        if (!c->established)
            continue;
        g_assert_true(conn->open);
        /* A connection that the client has reopened may be unknown, an older one is there. */
        if (conn->peer_isn != c->isn)
            g_error("port %u: the survivor lacks a connection that was accepted", port);
        g_assert_cmpuint(conn->in, >=, c->acked);
        g_assert_cmpuint(conn->out, >=, c->got);
    }
}

static void repeat(Model *m, void (*act)(Model *), unsigned times)
{
    while (times-- > 0)
        act(m);
}

static void step(Model *m)
{
    unsigned what = rnd(1000), times = 1 + rnd(5);
    uint64_t oldest;

    m->time += rnd(3);
    if (what < 200)
        client_acts(m);
    else if (what < 400)
        repeat(m, network_acts, times);
    else if (what < 550 || m->alone)
        guest_acts(m, 0);
    else if (what < 700 && !m->stopped)
        guest_acts(m, 1);
    else if (what < 850)
        repeat(m, secondary_hears, times);
    else if (what < 970)
        repeat(m, primary_hears, times);
    else if (what < 973)
        checkpoint_begins(m);
    else
        checkpoint_ends(m);
    if (m->alone)
        return;
    oldest = colo_compare_oldest_ns(m->compare);
    if (colo_compare_diverged(m->compare) || (oldest && m->time + 1 - oldest > 400))
        checkpoint_begins(m);
}

static bool all_done(const Model *m)
{
    for (unsigned port = 0; port < PORTS; port++) {
        if (m->client[port].acked < REQUEST || m->client[port].got < ANSWER)
            return false;
    }
    return true;
}

static void run(Model *m, unsigned *mapped)
{
    for (unsigned i = 0; i < TAKEOVERS; i++) {
        protect(m);
        for (unsigned steps = rnd(700); steps > 0; steps--)
            step(m);
        *mapped += (unsigned)colo_rewrite_counter(m->rewrite, COLO_REWRITE_MAPPED);
        take_over(m);
        for (unsigned steps = rnd(100); steps > 0; steps--)
            step(m);
    }
    m->calm = true;
    for (unsigned steps = 0; !all_done(m); steps++) {
        g_assert_cmpuint(steps, <, 20000);
        step(m);
    }
}

static void test_i1_clients_see_one_server(void)
{
    unsigned mapped = 0, rewritten = 0;

    for (unsigned round = 0; round < 1000; round++) {
        g_autofree Model *m = g_new0(Model, 1);

        m->guest[0].clock = (uint32_t)g_test_rand_int();
        run(m, &mapped);
        rewritten += (unsigned)colo_rewrite_counter(m->path, COLO_REWRITE_OUTPUT);
        empty(&m->net);
        colo_rewrite_free(m->path);
    }
    /* The rounds did what they are for. */
    g_assert_cmpuint(mapped, >, 3000);
    g_assert_cmpuint(rewritten, >, 10000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rewrite/I1/clients-see-one-server", test_i1_clients_see_one_server);
    return g_test_run();
}
