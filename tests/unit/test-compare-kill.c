/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * I1 at every prefix of a random run: if the primary is killed now, the survivor lacks nothing that
 * the client knows. Two simulated copies of a guest serve a client on a few connections; what they
 * send goes through the compare core; each of them decides by itself when it sends, in which
 * pieces, what it repeats, when it acknowledges and when it closes, and sometimes says another
 * byte. After each step the client's knowledge (bytes, FIN, acknowledgements, SACK blocks) is held
 * against the state in which the secondary would go on:
 * its own, or the newest committed checkpoint's when it has not loaded that yet.
 */
#include "test-compare-frames.h"
#include "trace.h"

enum { FLOWS = 2, OUTPUT = 700, INPUT = 700, STEPS = 500, ROUNDS = 120 };

#define BASE 0xfffffe80u /* of the guest's sequence numbers: they wrap */
#define PEER 0xffffff40u /* of the client's */
#define SCALE 3u

/* A connection as one copy holds it. */
typedef struct {
    uint8_t output[OUTPUT]; /* what it has sent */
    unsigned sent;
    bool closed;         /* FIN at @sent */
    bool got[INPUT + 1]; /* of the client's bytes; the last one stands for its FIN */
    unsigned acked;      /* all before it is in @got */
    unsigned edge;       /* of the receive window, as announced */
} Copy;

/* What the client was told. */
typedef struct {
    int16_t byte[OUTPUT]; /* -1: nothing */
    bool closed;
    unsigned closed_at;
    unsigned acked;
    bool sacked[INPUT + 1];
    unsigned edge;
} Client;

typedef struct {
    bool input; /* for the secondary: [from, to) of flow */
    unsigned flow, from, to;
    uint64_t epoch;
    GBytes *frame;
} Event;

typedef struct {
    Sink sink;
    bool v6;
    uint8_t script[FLOWS][OUTPUT]; /* what the service says as a rule */
    unsigned asked[FLOWS];         /* bytes that the client has sent so far */
    Copy copy[2][FLOWS];           /* the secondary, the primary */
    Copy checkpoint[FLOWS];        /* the newest of the primary */
    Client client[FLOWS];
    uint64_t epoch[2];
    uint64_t committed;
    GQueue wire[2]; /* Event: frames on their way to the core */
    GQueue mirror;  /* Event: input on its way to the secondary */
    unsigned checked;
    unsigned left[3]; /* payload, FIN, pure ACKs */
} World;

static unsigned rnd(unsigned below)
{
    return (unsigned)g_test_rand_int_range(0, (gint32)below);
}

static void event_free(gpointer event)
{
    Event *e = event;

    if (e->frame)
        g_bytes_unref(e->frame);
    g_free(e);
}

/* The IPv4 packet of put_tcp() as one of IPv6. */
static size_t make_ipv6(uint8_t *frame, size_t len)
{
    uint8_t *ip = frame + IP_AT, *tcp;
    size_t tcp_len = len - TCP_AT;

    memmove(ip + 40, ip + 20, tcp_len);
    memset(ip, 0, 40);
    put16(frame + IP_AT - 2, 0x86dd);
    ip[0] = 0x60;
    put16(ip + 4, (unsigned)tcp_len);
    ip[6] = 6;
    ip[7] = 64;
    ip[8] = ip[24] = 0xfd;
    ip[23] = 1;
    ip[39] = 2;
    tcp = ip + 40;
    put16(tcp + 16, 0);
    put16(tcp + 16,
          (uint16_t)~internet_sum(internet_sum(6 + (uint32_t)tcp_len, ip + 8, 32), tcp, tcp_len));
    return len + 20;
}

/* Right in every frame that leaves, changed or not. */
static void check_checksum(const World *w, const uint8_t *frame, size_t len)
{
    const uint8_t *ip = frame + IP_AT;

    if (w->v6)
        g_assert_cmphex(
            internet_sum(internet_sum(6 + get16(ip + 4), ip + 8, 32), ip + 40, len - IP_AT - 40),
            ==, 0xffff);
    else
        g_assert_cmphex(tcp_sum(frame), ==, 0xffff);
}

static void send_segment(World *w, unsigned side, unsigned flow, Segment *s)
{
    uint8_t frame[1600];
    size_t len;
    Event *e = g_new0(Event, 1);

    s->port = 80 + flow;
    s->ip_id = rnd(65536);
    len = put_tcp(frame, s);
    if (w->v6)
        len = make_ipv6(frame, len);
    e->epoch = w->epoch[side];
    e->frame = g_bytes_new(frame, len);
    g_queue_push_tail(&w->wire[side], e);
}

/* What @copy has got beyond its acknowledgement, as up to three SACK blocks; all of a multiple of
 * four bytes. */
static size_t make_sack(const Copy *copy, uint8_t *options)
{
    size_t blocks = 0;

    for (unsigned at = copy->acked; at < INPUT && blocks < 3; at++) {
        unsigned from = at;

        while (at < INPUT && copy->got[at])
            at++;
        if (at == from)
            continue;
        put32(options + 4 + blocks * 8, PEER + from);
        put32(options + 8 + blocks * 8, PEER + at);
        blocks++;
    }
    if (blocks == 0)
        return 0;
    memcpy(options, "\1\1\5", 3);
    options[3] = (uint8_t)(2 + blocks * 8);
    return 4 + blocks * 8;
}

/* A copy says something on one connection: new bytes, old ones, an acknowledgement, its end. */
static void step_output(World *w, unsigned side, unsigned flow)
{
    Copy *copy = &w->copy[side][flow];
    uint8_t options[40];
    unsigned from = copy->sent, len = 0, kind = rnd(8), want = rnd(80), edge;
    Segment s = {.flags = ACK | (rnd(2) ? PSH : 0)};

    if (kind < 3 && !copy->closed) {
        len = MIN(want, OUTPUT - copy->sent);
        memcpy(copy->output + from, w->script[flow] + from, len);
        if (len > 0 && rnd(40) == 0)
            copy->output[from + rnd(len)] ^= (uint8_t)(1 + rnd(255));
        copy->sent += len;
        /* Each has its own mind about the end, but for most that is after the last byte. */
        copy->closed = copy->sent == OUTPUT || rnd(50) == 0;
    } else if (kind < 5 && copy->sent > 0) {
        from = rnd(copy->sent);
        len = MIN(want + 1, copy->sent - from);
    }
    if (copy->closed && from + len == copy->sent && rnd(4))
        s.flags |= FIN;
    if (len == 0 && copy->closed && !(s.flags & FIN))
        from = copy->sent + 1;
    s.seq = BASE + from;
    s.data = copy->output + from;
    s.len = len;
    s.ack = PEER + copy->acked;
    edge = copy->acked + rnd(3000);
    copy->edge = MAX(copy->edge, edge);
    s.window = (copy->edge - copy->acked + 7) >> SCALE;
    copy->edge = MAX(copy->edge, copy->acked + (s.window << SCALE));
    s.options = options;
    s.options_len = rnd(2) ? make_sack(copy, options) : 0;
    send_segment(w, side, flow, &s);
}

static void receive(Copy *copy, unsigned from, unsigned to)
{
    for (unsigned at = from; at < to; at++)
        copy->got[at] = true;
    while (copy->acked <= INPUT && copy->got[copy->acked])
        copy->acked++;
}

/* The client sends: new bytes, old ones, or with a gap (something is lost). The last is its FIN. */
static void step_client(World *w, unsigned flow)
{
    unsigned at = w->asked[flow], from = rnd(4) ? at : rnd(at + 1);
    unsigned to = from + 1 + rnd(80), lost = rnd(6) ? 0 : rnd(40);
    Event *e;

    to = MIN(to, INPUT + 1);
    from = MIN(from, to - 1);
    from = MIN(from + lost, to - 1);
    w->asked[flow] = MAX(at, to);
    receive(&w->copy[1][flow], from, to);
    e = g_new0(Event, 1);
    *e = (Event){.input = true, .flow = flow, .from = from, .to = to, .epoch = w->epoch[1]};
    g_queue_push_tail(&w->mirror, e);
}

/* Mirrored input comes in its epoch; what a checkpoint holds already does not come. */
static void step_mirror(World *w)
{
    Event *e = g_queue_peek_head(&w->mirror);

    if (!e || e->epoch > w->epoch[0])
        return;
    g_queue_pop_head(&w->mirror);
    if (e->epoch == w->epoch[0])
        receive(&w->copy[0][e->flow], e->from, e->to);
    event_free(e);
}

static void step_core(World *w, unsigned side)
{
    Event *e = g_queue_pop_head(&w->wire[side]);
    const uint8_t *frame;
    size_t len;

    if (!e)
        return;
    frame = g_bytes_get_data(e->frame, &len);
    w->sink.epoch = e->epoch;
    g_assert_cmpint(feed(&w->sink, side, frame, len), !=, COLO_VERDICT_FULL);
    event_free(e);
}

/* One outstanding checkpoint: the primary goes on in its next epoch (early acknowledgement), then
 * the checkpoint is complete at the secondary, then the secondary loads it. */
static void step_checkpoint(World *w)
{
    if (w->epoch[1] > w->committed) {
        w->committed = w->epoch[1];
        colo_compare_commit(w->sink.compare, w->committed);
    } else if (w->epoch[0] < w->committed) {
        w->epoch[0] = w->committed;
        memcpy(w->copy[0], w->checkpoint, sizeof(w->checkpoint));
    } else {
        w->epoch[1]++;
        memcpy(w->checkpoint, w->copy[1], sizeof(w->checkpoint));
    }
}

/* The client reads what has left. */
static void read_output(World *w)
{
    for (; w->checked < w->sink.left->len; w->checked++) {
        size_t len;
        const uint8_t *frame = sink_frame(&w->sink, w->checked, &len);
        uint32_t acked, edge;
        unsigned at, flow;
        Client *c;
        Said said;

        check_checksum(w, frame, len);
        said_parse(&said, frame, len);
        g_assert_true(said.tcp);
        flow = get16(said.key + 34) - 80;
        g_assert_cmpuint(flow, <, FLOWS);
        if (said.flags & TRACE_SYN)
            continue;
        c = &w->client[flow];
        at = said.seq - BASE;
        for (size_t i = 0; i < said.len; i++) {
            g_assert_cmpuint(at + i, <, OUTPUT);
            g_assert_true(c->byte[at + i] < 0 || c->byte[at + i] == said.data[i]);
            c->byte[at + i] = said.data[i];
        }
        if (said.flags & TRACE_FIN) {
            c->closed = true;
            c->closed_at = at + (unsigned)said.len;
        }
        acked = said.ack - PEER;
        /* A clamped acknowledgement may lie a little below the first byte. */
        if ((int32_t)acked > (int32_t)c->acked)
            c->acked = acked;
        edge = acked + ((uint32_t)get16(frame + said.tcp_at + 14) << SCALE);
        g_assert_cmpint((int32_t)(edge - c->edge), >=, 0);
        c->edge = edge;
        for (unsigned b = 0; b < said.sacks; b++) {
            for (uint32_t s = trace_get32(said.sack + 8 * b);
                 s != trace_get32(said.sack + 8 * b + 4); s++)
                c->sacked[s - PEER] = true;
        }
        w->left[said.len ? 0 : said.flags & TRACE_FIN ? 1 : 2]++;
    }
}

/* The primary is dead. */
static void check_survivor(const World *w)
{
    const Copy *survivor = w->epoch[0] < w->committed ? w->checkpoint : w->copy[0];

    for (unsigned flow = 0; flow < FLOWS; flow++) {
        const Client *c = &w->client[flow];
        const Copy *s = &survivor[flow];

        g_assert_cmpuint(c->acked, <=, s->acked);
        for (unsigned at = 0; at <= INPUT; at++)
            g_assert_true(!c->sacked[at] || s->got[at]);
        for (unsigned at = 0; at < OUTPUT; at++) {
            if (c->byte[at] < 0)
                continue;
            g_assert_cmpuint(at, <, s->sent);
            g_assert_cmpint(c->byte[at], ==, s->output[at]);
        }
        if (c->closed) {
            g_assert_true(s->closed);
            g_assert_cmpuint(c->closed_at, ==, s->sent);
        }
    }
}

static void world_init(World *w, bool v6)
{
    static const char options[] = "\2\4\5\xb4\1\3\3\3";

    memset(w, 0, sizeof(*w));
    w->v6 = v6;
    sink_init(&w->sink, &(ColoCompareLimits){.arena_bytes = 4 << 20, .frames = 8192, .flows = 8});
    g_queue_init(&w->wire[0]);
    g_queue_init(&w->wire[1]);
    g_queue_init(&w->mirror);
    for (unsigned flow = 0; flow < FLOWS; flow++) {
        for (unsigned at = 0; at < OUTPUT; at++) {
            w->script[flow][at] = (uint8_t)rnd(256);
            w->client[flow].byte[at] = -1;
        }
        for (unsigned side = 0; side < 2; side++) {
            Segment syn = {.seq = BASE - 1,
                           .ack = PEER,
                           .flags = SYN | ACK,
                           .window = 1000,
                           .options = options,
                           .options_len = 8};

            w->copy[side][flow].edge = 1000;
            send_segment(w, side, flow, &syn);
            step_core(w, side);
        }
    }
    memcpy(w->checkpoint, w->copy[1], sizeof(w->checkpoint));
}

static void world_clear(World *w)
{
    for (unsigned side = 0; side < 2; side++)
        g_queue_clear_full(&w->wire[side], event_free);
    g_queue_clear_full(&w->mirror, event_free);
    sink_clear(&w->sink);
}

static void test_survivor_has_what_the_client_knows(gconstpointer v6)
{
    unsigned left[3] = {0, 0, 0}, changed[3] = {0, 0, 0};

    for (unsigned round = 0; round < ROUNDS; round++) {
        g_autofree World *w = g_new(World, 1);
        /* Some runs have many checkpoints, some hardly one. */
        unsigned checkpoints = round % 3 ? 200 : 15;

        world_init(w, v6 != NULL);
        for (unsigned step = 0; step < STEPS; step++) {
            unsigned what = rnd(100), flow = rnd(FLOWS);

            if (rnd(checkpoints) == 0)
                step_checkpoint(w);
            else if (what < 30)
                step_output(w, what % 2, flow);
            else if (what < 40)
                step_client(w, flow);
            else if (what < 52)
                step_mirror(w);
            else
                step_core(w, what % 2);
            read_output(w);
            check_survivor(w);
        }
        for (unsigned i = 0; i < 3; i++)
            left[i] += w->left[i];
        changed[0] += (unsigned)count(&w->sink, COLO_COUNT_CLAMPED_ACK);
        changed[1] += (unsigned)count(&w->sink, COLO_COUNT_STRIPPED_SACK);
        changed[2] += colo_compare_diverged(w->sink.compare);
        world_clear(w);
    }
    g_test_message("left: %u with payload, %u FINs, %u ACKs; %u clamped, %u stripped, %u diverged",
                   left[0], left[1], left[2], changed[0], changed[1], changed[2]);
    /* The rounds did what they are for. */
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpuint(left[i], >, 0);
    if (v6)
        return;
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmpuint(changed[i], >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/compare/I1/kill/survivor-has-what-the-client-knows-ipv4", NULL,
                         test_survivor_has_what_the_client_knows);
    g_test_add_data_func("/compare/I1/kill/survivor-has-what-the-client-knows-ipv6", "v6",
                         test_survivor_has_what_the_client_knows);
    return g_test_run();
}
