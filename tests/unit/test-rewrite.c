/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules of the rewriter one by one, each with IPv4 and IPv6. Of the guest's numbers the
 * primary's are P..., the ones here S...; both wrap within the first bytes. */
#include "test-rewrite-frames.h"

#define P_ISN 0xfffffffeu
#define S_ISN 0x7ffffff0u
#define P_TS 5000u
#define S_TS 0xffffff00u
#define PEER 1000u /* the other end's initial number */
#define MINUTE (UINT64_C(60) * 1000000000u)

typedef struct {
    const Shape *shape;
    ColoRewrite *rewrite;
    uint64_t now;
    unsigned sent; /* SYNs that had waited */
    uint8_t frame[RW_MAX];
    size_t len;
    uint8_t got[RW_MAX]; /* what came out last */
    size_t got_len;
    ColoSegment read; /* and what it says */
} Fixture;

static void take(Fixture *f, const uint8_t *frame, size_t len, gboolean to_guest)
{
    memcpy(f->got, frame, len);
    f->got_len = len;
    rw_assert_sum(frame, len, f->shape);
    g_assert_true(colo_segment_read(frame, len, RW_VNET, 0, to_guest, &f->read));
}

static void sent(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet)
{
    Fixture *f = opaque;

    g_assert_cmpuint(nic, ==, 0);
    g_assert_cmpuint(vnet, ==, RW_VNET);
    f->sent++;
    take(f, frame, len, FALSE);
}

static void setup(Fixture *f, gconstpointer data)
{
    memset(f, 0, sizeof(*f));
    f->shape = data;
    f->now = 1;
    f->rewrite = colo_rewrite_new(sent, f);
    g_assert_nonnull(f->rewrite);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    colo_rewrite_free(f->rewrite);
}

static void announce(Fixture *f, const Seg *s)
{
    f->len = rw_put(f->frame, f->shape, s);
    colo_rewrite_primary_syn(f->rewrite, 0, f->frame, f->len, RW_VNET);
}

/* False: it waits. */
static gboolean out(Fixture *f, const Seg *s)
{
    const uint8_t *got;

    f->len = rw_put(f->frame, f->shape, s);
    got = colo_rewrite_output(f->rewrite, 0, f->frame, f->len, RW_VNET, f->now);
    if (got)
        take(f, got, f->len, FALSE);
    return got != NULL;
}

static void in(Fixture *f, const Seg *s)
{
    Seg to_guest = *s;

    to_guest.to_guest = TRUE;
    f->len = rw_put(f->frame, f->shape, &to_guest);
    take(f, colo_rewrite_input(f->rewrite, 0, f->frame, f->len, RW_VNET, f->now), f->len, TRUE);
}

#define ANNOUNCE(f, ...) announce(f, &(Seg){__VA_ARGS__})
#define OUT(f, ...) out(f, &(Seg){__VA_ARGS__})
#define IN(f, ...) in(f, &(Seg){__VA_ARGS__})

static uint64_t count(Fixture *f, ColoRewriteCounter which)
{
    return colo_rewrite_counter(f->rewrite, which);
}

static uint32_t ts_val(const Fixture *f)
{
    return colo_get32(f->got + f->read.ts_at);
}

static uint32_t ts_echo(const Fixture *f)
{
    return colo_get32(f->got + f->read.ts_at + 4);
}

/* The guest has accepted a connection; the other end has what the primary said. */
static void accept_connection(Fixture *f)
{
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN, .ack = PEER + 1, .ts = TRUE, .ts_val = P_TS);
    g_assert_true(
        OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1, .ts = TRUE, .ts_val = S_TS));
    g_assert_cmpuint(f->read.seq, ==, P_ISN);
    g_assert_cmpuint(ts_val(f), ==, P_TS);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1, .ts = TRUE, .ts_val = 1,
       .ts_echo = P_TS);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
    g_assert_cmpuint(ts_echo(f), ==, S_TS);
}

static void test_numbers_both_ways(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, .ts = TRUE,
                      .ts_val = S_TS + 300, .ts_echo = 1, RW_TEXT("text")));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, PEER + 1);
    g_assert_cmpuint(ts_val(f), ==, P_TS + 300);
    g_assert_cmpuint(ts_echo(f), ==, 1);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 5, .sacks = 2,
       .sack = {{P_ISN + 9, P_ISN + 12}, {P_ISN + 1, P_ISN + 2}}, RW_TEXT("answer"));
    g_assert_cmpuint(f->read.seq, ==, PEER + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 5);
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpuint(colo_get32(f->got + f->read.sack_at + 4 * i), ==,
                         S_ISN + ((const uint32_t[]){9, 12, 1, 2})[i]);
    g_assert_cmpmem(f->got + f->got_len - 6, 6, "answer", 6);
}

/* SACK blocks of the guest speak of the other end's numbers. */
static void test_guest_sack_stays(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, .sacks = 1,
                      .sack = {{PEER + 5, PEER + 9}}));
    g_assert_cmpuint(colo_get32(f->got + f->read.sack_at), ==, PEER + 5);
}

static void test_guest_connects(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ANNOUNCE(f, .flags = SYN, .seq = P_ISN, .ts = TRUE, .ts_val = P_TS);
    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN, .ts = TRUE, .ts_val = S_TS));
    g_assert_cmpuint(f->read.seq, ==, P_ISN);
    IN(f, .flags = SYN | ACK, .seq = PEER, .ack = P_ISN + 1, .ts = TRUE, .ts_echo = P_TS);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
    /* Linux takes no other echo here (tcp_rcv_synsent_state_process). */
    g_assert_cmpuint(ts_echo(f), ==, S_TS);
}

static void test_i1_syn_waits_for_the_primary(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_false(OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1));
    g_assert_cmpuint(f->sent, ==, 0);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN, .ack = PEER + 1);
    g_assert_cmpuint(f->sent, ==, 1);
    g_assert_cmpuint(f->read.seq, ==, P_ISN);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
}

/* Only the answer to the same SYN of the other end is a counterpart. */
static void test_other_answer_waits(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN, .ack = PEER + 1);
    g_assert_false(OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 2));
    g_assert_false(OUT(f, .flags = SYN, .seq = S_ISN));
    g_assert_false(OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1, .ts = TRUE));
    g_assert_cmpuint(count(f, COLO_REWRITE_MAPPED), ==, 0);
}

static void test_repeated_syns(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1, .ts = TRUE,
                      .ts_val = S_TS + 1000));
    g_assert_cmpuint(f->read.seq, ==, P_ISN);
    g_assert_cmpuint(ts_val(f), ==, P_TS + 1000);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN, .ack = PEER + 1, .ts = TRUE,
             .ts_val = P_TS + 1001);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    g_assert_cmpuint(count(f, COLO_REWRITE_MAPPED), ==, 1);
}

/* RFC 9293 3.5, figure 8: the SYN-ACK has the number of the SYN. */
static void test_simultaneous_open(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ANNOUNCE(f, .flags = SYN, .seq = P_ISN);
    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN));
    IN(f, .flags = SYN, .seq = PEER);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN, .ack = PEER + 1);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN);
    IN(f, .flags = SYN | ACK, .seq = PEER, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
    g_assert_cmpuint(count(f, COLO_REWRITE_MAPPED), ==, 1);
}

/* The map of what was told holds until the guest itself opens another connection. */
static void test_reused_port(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN + 90000, .ack = PEER + 70001);
    g_assert_true(OUT(f, .flags = ACK | FIN, .seq = S_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN + 70000, .ack = PEER + 70001));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 90000);
    IN(f, .flags = ACK, .seq = PEER + 70001, .ack = P_ISN + 90001);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 70001);
}

/* Two SYN cookies for one SYN of the other end, which may take either: the first map holds for
 * both, and what it makes of the second equals nothing of the primary's. */
static void test_syn_cookies(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = P_ISN + 333, .ack = PEER + 1);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN + 999, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 999);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
    g_assert_cmpuint(count(f, COLO_REWRITE_MAPPED), ==, 1);
}

/* An ICMP error of a router about the guest's segment (RFC 1191, 8201), as far as @quoted bytes of
 * TCP. */
static size_t put_error(uint8_t *frame, const Shape *shape, size_t quoted)
{
    g_autofree uint8_t *segment = g_malloc(RW_MAX);
    const Seg s = {.flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1, RW_TEXT("too long")};
    size_t ip = rw_ip_at(shape), packet = rw_tcp_at(shape) - ip + quoted, icmp;

    rw_put(segment, shape, &s);
    rw_put(frame, shape, &(Seg){.to_guest = TRUE, .flags = ACK});
    icmp = rw_tcp_at(shape);
    memset(frame + icmp, 0, 8);
    frame[icmp] = shape->v6 ? 2 : 3;
    frame[icmp + 1] = shape->v6 ? 0 : 4;
    memcpy(frame + icmp + 8, segment + ip, packet);
    frame[0] = 0;
    if (shape->v6) {
        colo_put16(frame + ip + 4, (uint16_t)(shape->extensions + 8 + packet));
        frame[ip + (shape->extensions ? 40 : 6)] = 58;
    } else {
        colo_put16(frame + ip + 2, (uint16_t)(20 + shape->extensions + 8 + packet));
        frame[ip + 9] = 1;
    }
    colo_put16(frame + icmp + 2, (uint16_t)~rw_sum(0, frame + icmp, 8 + packet));
    return icmp + 8 + packet;
}

static void test_icmp_error_quotes_what_was_sent(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    size_t icmp = rw_tcp_at(f->shape);

    accept_connection(f);
    for (size_t quoted = 8; quoted <= 28; quoted += 20) {
        const uint8_t *got;
        size_t len = put_error(f->frame, f->shape, quoted);

        got = colo_rewrite_input(f->rewrite, 0, f->frame, len, RW_VNET, f->now);
        g_assert_true(got != f->frame);
        g_assert_cmpuint(colo_get32(got + len - quoted + 4), ==, S_ISN + 1);
        g_assert_cmphex(rw_sum(0, got + icmp, len - icmp), ==, 0xffff);
    }
    /* With less of TCP there is no number. */
    g_assert_true(colo_rewrite_input(f->rewrite, 0, f->frame, put_error(f->frame, f->shape, 7),
                                     RW_VNET, f->now) == f->frame);
}

static void test_reset(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_true(OUT(f, .flags = RST | ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    g_assert_true(OUT(f, .flags = RST, .seq = S_ISN + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    /* It answers a segment without ACK: 0 is no number of the connection. */
    g_assert_true(OUT(f, .flags = RST | ACK, .seq = 0, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, 0);
    IN(f, .flags = RST, .seq = PEER + 1);
    g_assert_cmpuint(f->read.seq, ==, PEER + 1);
    g_assert_cmpuint(colo_get32(f->got + f->read.tcp_at + 8), ==, 0);
    IN(f, .flags = RST | ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
}

static void test_checkpoint_ends_the_map(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    colo_rewrite_loaded(f->rewrite);
    /* The guest here has the primary's numbers now. */
    g_assert_true(OUT(f, .flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, P_ISN + 1);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_checkpoint_ends_waiting(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_false(OUT(f, .flags = SYN, .seq = S_ISN));
    colo_rewrite_loaded(f->rewrite);
    ANNOUNCE(f, .flags = SYN, .seq = P_ISN);
    g_assert_cmpuint(f->sent, ==, 0);
}

static void test_others_pass(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_true(OUT(f, .flags = ACK, .seq = 5, .ack = 6, .port = 4444));
    g_assert_cmpuint(f->read.seq, ==, 5);
    IN(f, .flags = ACK, .seq = 5, .ack = 6, .port = 4444);
    g_assert_cmpuint(f->read.ack, ==, 6);
}

/* A signature covers the numbers (RFC 2385, 5925). */
static void test_signed_passes(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ANNOUNCE(f, .flags = SYN, .seq = P_ISN, .is_signed = TRUE);
    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN, .is_signed = TRUE));
    g_assert_cmpuint(f->read.seq, ==, S_ISN);
    g_assert_cmpuint(count(f, COLO_REWRITE_UNMAPPED), ==, 2);
}

/* One with data that is too long to be kept passes on; after the primary's it is mapped. */
static void test_long_syn(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char text[1000] = "data in a SYN";

    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN, RW_TEXT(text)));
    g_assert_cmpuint(f->read.seq, ==, S_ISN);
    ANNOUNCE(f, .flags = SYN, .seq = P_ISN, RW_TEXT(text));
    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN, RW_TEXT(text)));
    g_assert_cmpuint(f->read.seq, ==, P_ISN);
}

static void test_i8_bounded(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    unsigned waited = 0;

    for (unsigned port = 1; port <= COLO_REWRITE_CONNECTIONS + 10; port++)
        ANNOUNCE(f, .flags = SYN, .seq = P_ISN, .port = port);
    g_assert_cmpuint(count(f, COLO_REWRITE_UNMAPPED), ==, 10);
    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN, .port = 60000));
    g_assert_cmpuint(f->read.seq, ==, S_ISN);
    colo_rewrite_loaded(f->rewrite);
    for (unsigned port = 1; port <= COLO_REWRITE_WAITING + 10; port++)
        waited += !OUT(f, .flags = SYN, .seq = S_ISN, .port = port);
    g_assert_cmpuint(waited, ==, COLO_REWRITE_WAITING);
    colo_rewrite_loaded(f->rewrite);
    g_assert_false(OUT(f, .flags = SYN, .seq = S_ISN));
}

/* ---- after a takeover ---- */

static void test_alone_goes_on(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    colo_rewrite_alone(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
    /* A new connection has the guest's own numbers from the start. */
    g_assert_true(OUT(f, .flags = SYN, .seq = 42, .port = 4444));
    g_assert_cmpuint(f->read.seq, ==, 42);
}

/* What the guest has left behind it before the takeover needs no map; what it had begun and the
 * primary cannot have told keeps its own numbers. */
static void test_alone_without_counterpart(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_false(OUT(f, .flags = SYN | ACK, .seq = S_ISN + 500, .ack = PEER + 501));
    ANNOUNCE(f, .flags = SYN, .seq = P_ISN, .port = 4444);
    colo_rewrite_alone(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN + 500, .ack = PEER + 501));
    g_assert_cmpuint(f->read.seq, ==, S_ISN + 500);
    g_assert_true(OUT(f, .flags = SYN, .seq = S_ISN, .port = 4444));
    g_assert_cmpuint(f->read.seq, ==, S_ISN);
}

static void test_alone_timestamps_never_go_back(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t first;

    accept_connection(f);
    /* The other end has heard this from the primary. */
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1, .ts = TRUE, .ts_echo = P_TS + 700);
    /* And this is nonsense. */
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1, .ts = TRUE, .ts_echo = 0x70000000);
    colo_rewrite_alone(f->rewrite);
    g_assert_true(
        OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, .ts = TRUE, .ts_val = S_TS + 200));
    first = ts_val(f);
    g_assert_cmpuint(first, ==, P_TS + 700 + COLO_REWRITE_TS_MARGIN);
    g_assert_cmpuint(count(f, COLO_REWRITE_TS_RAISED), ==, 1);
    g_assert_true(
        OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, .ts = TRUE, .ts_val = S_TS + 210));
    g_assert_cmpuint(ts_val(f), ==, first + 10);
    /* An echo of the primary's is taken back by the old difference, one of these by the new. */
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1, .ts = TRUE, .ts_echo = P_TS + 150);
    g_assert_cmpuint(ts_echo(f), ==, S_TS + 150);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1, .ts = TRUE, .ts_echo = first);
    g_assert_cmpuint(ts_echo(f), ==, S_TS + 200);
}

static void test_alone_reset_ends(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, RW_TEXT("text")));
    colo_rewrite_alone(f->rewrite);
    /* One that answers a stray segment ends nothing. */
    g_assert_true(OUT(f, .flags = RST, .seq = S_ISN + 77));
    IN(f, .flags = RST, .seq = PEER + 9);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    g_assert_true(OUT(f, .flags = RST | ACK, .seq = S_ISN + 5, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 5);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
    g_assert_cmpuint(count(f, COLO_REWRITE_ENDED), ==, 1);
}

static void test_alone_reset_by_the_other_end(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    colo_rewrite_alone(f->rewrite);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    IN(f, .flags = RST, .seq = PEER + 1);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_alone_new_connection_ends(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    colo_rewrite_alone(f->rewrite);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN + 70000, .ack = PEER + 70001));
    g_assert_cmpuint(f->read.seq, ==, S_ISN + 70000);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_alone_closed_ends_after_time_wait(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    colo_rewrite_alone(f->rewrite);
    g_assert_true(OUT(f, .flags = FIN | ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    IN(f, .flags = FIN | ACK, .seq = PEER + 1, .ack = P_ISN + 2);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 2, .ack = PEER + 2));
    f->now += 3 * MINUTE;
    colo_rewrite_expire(f->rewrite, f->now);
    /* Its last ACK was lost. */
    IN(f, .flags = FIN | ACK, .seq = PEER + 1, .ack = P_ISN + 2);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 2);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 2, .ack = PEER + 2));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 2);
    f->now += 5 * MINUTE;
    colo_rewrite_expire(f->rewrite, f->now);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_alone_half_closed_lives(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    colo_rewrite_alone(f->rewrite);
    IN(f, .flags = FIN | ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 2));
    f->now += 100 * MINUTE;
    colo_rewrite_expire(f->rewrite, f->now);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 2, RW_TEXT("late")));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    f->now += 125 * MINUTE;
    colo_rewrite_expire(f->rewrite, f->now);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_paired_maps_do_not_expire(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_connection(f);
    f->now += 1000 * MINUTE;
    colo_rewrite_expire(f->rewrite, f->now);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
}

/* ---- a survivor that is protected again ---- */

/* From here on @f is the new secondary: its guest has the survivor's numbers S..., the other end
 * still knows P.... */
static void protect_again(Fixture *f)
{
    ColoRewriteRow row[2];

    accept_connection(f);
    colo_rewrite_alone(f->rewrite);
    g_assert_cmpuint(colo_rewrite_export(f->rewrite, row, 2), ==, 1);
    colo_rewrite_free(f->rewrite);
    f->rewrite = colo_rewrite_new(sent, f);
    g_assert_true(colo_rewrite_import(f->rewrite, row, f->now));
    g_assert_false(colo_rewrite_import(f->rewrite, row, f->now));
}

static void test_base_is_in_force_once_alone(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    protect_again(f);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, S_ISN + 1);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = S_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
    colo_rewrite_loaded(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    colo_rewrite_alone(f->rewrite);
    g_assert_true(OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, P_ISN + 1);
    IN(f, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(f->read.ack, ==, S_ISN + 1);
}

static void test_base_timestamps_never_go_back(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    uint32_t survivor;

    protect_again(f);
    g_assert_true(
        OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, .ts = TRUE, .ts_val = S_TS + 900));
    /* What the survivor made of the same segment: raised at its takeover. */
    survivor = P_TS + 900 + COLO_REWRITE_TS_MARGIN;
    colo_rewrite_alone(f->rewrite);
    g_assert_true(
        OUT(f, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, .ts = TRUE, .ts_val = S_TS + 890));
    g_assert_cmpuint(ts_val(f), >=, survivor);
}

static void test_base_ends_with_a_new_connection(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    protect_again(f);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = 100, .ack = PEER + 70001);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = 200, .ack = PEER + 70001));
    g_assert_cmpuint(f->read.seq, ==, 100);
    colo_rewrite_loaded(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

/* The guest here was ahead: the checkpoint holds the old connection still. */
static void test_base_outlives_what_a_checkpoint_undoes(Fixture *f,
                                                        gconstpointer data G_GNUC_UNUSED)
{
    protect_again(f);
    g_assert_false(OUT(f, .flags = SYN | ACK, .seq = 200, .ack = PEER + 70001));
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
    colo_rewrite_loaded(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
}

static void late(Fixture *f, gboolean loaded, const Seg *s)
{
    f->len = rw_put(f->frame, f->shape, s);
    colo_rewrite_late_syn(f->rewrite, 0, f->frame, f->len, RW_VNET, loaded);
}

/* The primary's SYN belongs to an epoch that has ended here: the next checkpoint holds it, or the
 * newest one does already. */
static void test_base_ends_with_a_late_syn(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    Seg syn = {.flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1};

    protect_again(f);
    late(f, TRUE, &syn);
    syn.seq = 100;
    late(f, FALSE, &syn);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    colo_rewrite_loaded(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
    protect_again(f);
    late(f, TRUE, &syn);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

/* The guest's SYN was too long to be kept: it has left the old connection all the same, until a
 * checkpoint says otherwise. */
static void test_base_is_over_without_a_map(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char text[1000] = "data in a SYN";

    protect_again(f);
    g_assert_true(OUT(f, .flags = SYN, .seq = 200, RW_TEXT(text)));
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
    colo_rewrite_loaded(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
}

/* A SYN that cannot be mapped ends it too. */
static void test_base_ends_with_a_signed_syn(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    protect_again(f);
    ANNOUNCE(f, .flags = SYN, .seq = 100, .is_signed = TRUE);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    colo_rewrite_loaded(f->rewrite);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_base_keeps_what_is_kept(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    ColoRewriteRow row;

    protect_again(f);
    g_assert_cmpuint(colo_rewrite_export(f->rewrite, &row, 1), ==, 1);
    colo_rewrite_keep(f->rewrite, &row, 1);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
    row.isn++;
    colo_rewrite_keep(f->rewrite, &row, 1);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static void test_base_repeated_syn(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    protect_again(f);
    ANNOUNCE(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1);
    g_assert_true(OUT(f, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1));
    g_assert_cmpuint(f->read.seq, ==, S_ISN);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 1);
}

static void test_base_gets_old(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    protect_again(f);
    f->now += 125 * MINUTE;
    colo_rewrite_expire(f->rewrite, f->now);
    g_assert_cmpuint(colo_rewrite_live(f->rewrite), ==, 0);
}

static const Shape v4 = {.v6 = FALSE};
static const Shape v6 = {.v6 = TRUE, .extensions = 16};
static const Shape tagged = {.v6 = TRUE, .tags = 2, .partial = TRUE, .odd_options = TRUE};

static void add(const char *name, void (*test)(Fixture *, gconstpointer))
{
    const Shape *const shapes[] = {&v4, &v6, &tagged};
    const char *const names[] = {"ipv4", "ipv6", "tagged-partial"};

    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++) {
        g_autofree char *path = g_strdup_printf("/rewrite/%s/%s", name, names[i]);

        g_test_add(path, Fixture, shapes[i], setup, test, teardown);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("numbers-both-ways", test_numbers_both_ways);
    add("guest-sack-stays", test_guest_sack_stays);
    add("guest-connects", test_guest_connects);
    add("I1/syn-waits", test_i1_syn_waits_for_the_primary);
    add("other-answer-waits", test_other_answer_waits);
    add("repeated-syns", test_repeated_syns);
    add("simultaneous-open", test_simultaneous_open);
    add("reused-port", test_reused_port);
    add("syn-cookies", test_syn_cookies);
    add("icmp-error", test_icmp_error_quotes_what_was_sent);
    add("reset", test_reset);
    add("checkpoint/ends-the-map", test_checkpoint_ends_the_map);
    add("checkpoint/ends-waiting", test_checkpoint_ends_waiting);
    add("others-pass", test_others_pass);
    add("signed-passes", test_signed_passes);
    add("long-syn", test_long_syn);
    add("I8/bounded", test_i8_bounded);
    add("alone/goes-on", test_alone_goes_on);
    add("alone/without-counterpart", test_alone_without_counterpart);
    add("alone/timestamps", test_alone_timestamps_never_go_back);
    add("alone/reset", test_alone_reset_ends);
    add("alone/reset-by-the-other-end", test_alone_reset_by_the_other_end);
    add("alone/new-connection", test_alone_new_connection_ends);
    add("alone/closed", test_alone_closed_ends_after_time_wait);
    add("alone/half-closed", test_alone_half_closed_lives);
    add("paired/no-expiry", test_paired_maps_do_not_expire);
    add("base/once-alone", test_base_is_in_force_once_alone);
    add("base/timestamps", test_base_timestamps_never_go_back);
    add("base/new-connection", test_base_ends_with_a_new_connection);
    add("base/undone", test_base_outlives_what_a_checkpoint_undoes);
    add("base/late-syn", test_base_ends_with_a_late_syn);
    add("base/over-without-a-map", test_base_is_over_without_a_map);
    add("base/signed-syn", test_base_ends_with_a_signed_syn);
    add("base/keep", test_base_keeps_what_is_kept);
    add("base/repeated-syn", test_base_repeated_syn);
    add("base/gets-old", test_base_gets_old);
    return g_test_run();
}
