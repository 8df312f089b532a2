/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The compare core beside a model of it that keeps every byte: random interleavings of both copies'
 * frames on several connections, over epochs, with commits at any time and copies that differ in
 * some bytes. After each step exactly the frames have left that the model lets go. GLib prints the
 * seed; --seed repeats a run.
 */
#include "test-compare-frames.h"

enum { FLOWS = 3, EPOCHS = 8, STREAM = 3000, UNIT = 128, WINDOW = 500 };

#define BASE 0xfffffd00u /* of the guest's sequence numbers */
#define PEER 1000u       /* of the peer's */

typedef struct {
    unsigned id; /* IPv4 identification */
    unsigned epoch, from, len;
    uint32_t ack; /* above PEER */
} ModelFrame;

typedef struct {
    unsigned epoch;
    uint32_t ack;
    bool valid;
} ModelPosition;

typedef struct {
    /* What the copies do. */
    unsigned produced[2]; /* bytes by the primary, by the secondary */
    uint32_t acked[2];
    unsigned entered_produced[EPOCHS]; /* by the primary when it entered the epoch */
    uint32_t entered_acked[EPOCHS];
    int wrong[EPOCHS]; /* position of the secondary's wrong byte, -1: none */
    /* What the model knows. */
    bool seen[EPOCHS][STREAM]; /* bytes of the secondary that came in */
    unsigned secondary_epoch;
    uint32_t secondary_ack;
    bool secondary_valid;
    GQueue held; /* ModelFrame */
    bool diverged;
    unsigned left;
    uint32_t left_ack;
    ModelPosition newest, before;
    uint32_t base_ack;
    GArray *expected; /* ids */
    GArray *actual;
} ModelFlow;

typedef struct {
    Sink sink;
    ModelFlow flow[FLOWS];
    GPtrArray *frames; /* by id */
    uint8_t stream[FLOWS][STREAM];
    unsigned epoch[2];
    unsigned committed;
    unsigned seen; /* of sink.left */
} Model;

static unsigned rnd(unsigned below)
{
    return (unsigned)g_test_rand_int_range(0, (gint32)below);
}

static uint32_t limit_of(const ModelFlow *f, const ModelFrame *frame)
{
    uint32_t limit = MAX(f->base_ack, f->left_ack);

    if (f->secondary_valid && f->secondary_epoch == frame->epoch)
        limit = MAX(limit, f->secondary_ack);
    return limit;
}

static void model_let_go(ModelFlow *f, uint32_t ack)
{
    ModelFrame *frame = g_queue_pop_head(&f->held);

    g_array_append_val(f->expected, frame->id);
    f->left = MAX(f->left, frame->from + frame->len);
    f->left_ack = (int32_t)ack > (int32_t)f->left_ack ? ack : f->left_ack;
    f->diverged = false;
}

static void model_advance(ModelFlow *f)
{
    ModelFrame *frame;

    while (!f->diverged && (frame = g_queue_peek_head(&f->held))) {
        uint32_t limit = limit_of(f, frame), ack = frame->ack;

        for (unsigned at = MAX(frame->from, f->left); at < frame->from + frame->len; at++) {
            if (!f->seen[frame->epoch][at])
                return;
            if (f->wrong[frame->epoch] == (int)at) {
                f->diverged = true;
                return;
            }
        }
        if (ack > limit) {
            if (frame->len == 0)
                return;
            ack -= (ack - limit + UNIT - 1) / UNIT * UNIT;
        }
        model_let_go(f, ack);
    }
}

static void model_commit(ModelFlow *f, unsigned epoch)
{
    ModelFrame *frame;

    while ((frame = g_queue_peek_head(&f->held)) && frame->epoch < epoch)
        model_let_go(f, frame->ack);
    if (f->newest.valid && f->newest.epoch < epoch)
        f->base_ack = f->newest.ack;
    else if (f->before.valid && f->before.epoch < epoch)
        f->base_ack = f->before.ack;
    model_advance(f);
}

/* Sorts what left by flow and compares. An ACK that the core made has the identification of a
 * segment with payload. */
static void check(Model *m)
{
    for (; m->seen < m->sink.left->len; m->seen++) {
        size_t len;
        const uint8_t *frame = sink_frame(&m->sink, m->seen, &len);
        unsigned id = get16(frame + IP_AT + 4), flow = get16(frame + TCP_AT) - 80;
        uint32_t ack = get32(frame + TCP_AT + 8) - PEER;

        g_assert_cmpuint(flow, <, FLOWS);
        g_assert_cmphex(tcp_sum(frame), ==, 0xffff);
        if (frame[TCP_AT + 13] & SYN)
            continue;
        if (len > TCP_AT + 20 || ((ModelFrame *)g_ptr_array_index(m->frames, id))->len == 0) {
            g_array_append_val(m->flow[flow].actual, id);
            continue;
        }
        m->flow[flow].left_ack = MAX(m->flow[flow].left_ack, ack);
        model_advance(&m->flow[flow]);
    }
    for (unsigned i = 0; i < FLOWS; i++) {
        ModelFlow *f = &m->flow[i];

        g_assert_cmpuint(f->actual->len, ==, f->expected->len);
        g_assert_cmpmem(f->actual->data, f->actual->len * sizeof(guint), f->expected->data,
                        f->expected->len * sizeof(guint));
    }
}

static void feed_model(Model *m, bool primary, unsigned flow, const ModelFrame *frame)
{
    ModelFlow *f = &m->flow[flow];
    uint8_t bytes[200];

    memcpy(bytes, m->stream[flow] + frame->from, frame->len);
    if (!primary && f->wrong[frame->epoch] >= (int)frame->from &&
        f->wrong[frame->epoch] < (int)(frame->from + frame->len))
        bytes[f->wrong[frame->epoch] - (int)frame->from] ^= 0x55;
    m->sink.epoch = frame->epoch;
    feed_tcp(&m->sink, primary,
             &(Segment){.seq = BASE + frame->from,
                        .ack = PEER + frame->ack,
                        .flags = ACK,
                        /* The secondary's edge is never behind: no window is narrowed. */
                        .window = primary ? WINDOW : WINDOW + 1000,
                        .data = bytes,
                        .len = frame->len,
                        .ip_id = frame->id,
                        .port = 80 + flow});
}

static void step_primary(Model *m, unsigned flow)
{
    ModelFlow *f = &m->flow[flow];
    ModelFrame *frame = g_new0(ModelFrame, 1);
    unsigned kind = rnd(4), room = STREAM - f->produced[0];

    frame->id = m->frames->len;
    frame->epoch = m->epoch[0];
    g_ptr_array_add(m->frames, frame);
    if (kind == 0 && f->produced[0] > 0) { /* again */
        frame->from = rnd(f->produced[0]);
        frame->len = 1 + rnd(MIN(80, f->produced[0] - frame->from));
    } else {
        frame->from = f->produced[0];
        frame->len = kind == 1 ? 0 : rnd(80);
        frame->len = MIN(frame->len, room);
        f->produced[0] += frame->len;
    }
    frame->ack = f->acked[0] += rnd(3) ? 0 : rnd(300);
    if (f->newest.valid && f->newest.epoch != frame->epoch)
        f->before = f->newest;
    f->newest = (ModelPosition){.valid = true, .epoch = frame->epoch, .ack = frame->ack};
    g_queue_push_tail(&f->held, frame);
    model_advance(f);
    feed_model(m, true, flow, frame);
}

static void step_secondary(Model *m, unsigned flow)
{
    ModelFlow *f = &m->flow[flow];
    ModelFrame frame = {.epoch = m->epoch[1]}, *head = g_queue_peek_head(&f->held);
    unsigned kind = rnd(4), room = STREAM - f->produced[1];

    if (kind == 0 && f->produced[1] > 0) {
        frame.from = rnd(f->produced[1]);
        frame.len = 1 + rnd(MIN(80, f->produced[1] - frame.from));
    } else {
        frame.from = f->produced[1];
        frame.len = kind == 1 ? 0 : rnd(80);
        frame.len = MIN(frame.len, room);
        f->produced[1] += frame.len;
    }
    frame.ack = f->acked[1] += rnd(3) ? 0 : rnd(300);
    if (frame.epoch >= m->committed && !(f->diverged && head->epoch >= frame.epoch)) {
        for (unsigned at = frame.from; at < frame.from + frame.len; at++)
            f->seen[frame.epoch][at] = true;
        if (!f->secondary_valid || f->secondary_epoch != frame.epoch)
            f->secondary_ack = 0;
        f->secondary_valid = true;
        f->secondary_epoch = frame.epoch;
        f->secondary_ack = MAX(f->secondary_ack, frame.ack);
        model_advance(f);
    }
    feed_model(m, false, flow, &frame);
}

/* The primary's checkpoint, or the secondary's arrival at one. */
static void step_epoch(Model *m, unsigned side)
{
    if (m->epoch[side] + 1 >= EPOCHS || (side == 1 && m->epoch[1] >= m->epoch[0]))
        return;
    m->epoch[side]++;
    for (unsigned i = 0; i < FLOWS; i++) {
        ModelFlow *f = &m->flow[i];
        unsigned e = m->epoch[side];

        if (side == 0) {
            f->entered_produced[e] = f->produced[0];
            f->entered_acked[e] = f->acked[0];
            /* A byte of the secondary that will be wrong must be one that it makes itself. */
            f->wrong[e] = rnd(3) ? -1 : (int)(f->produced[0] + rnd(200));
        } else {
            f->produced[1] = f->entered_produced[e];
            f->acked[1] = f->entered_acked[e];
        }
    }
}

static void model_init(Model *m)
{
    static const char options[] = "\2\4\5\xb4\1\3\3\7";

    memset(m, 0, sizeof(*m));
    sink_init(&m->sink, &(ColoCompareLimits){.arena_bytes = 4 << 20, .frames = 8192, .flows = 8});
    m->frames = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < FLOWS; i++) {
        ModelFlow *f = &m->flow[i];

        g_queue_init(&f->held);
        f->expected = g_array_new(FALSE, FALSE, sizeof(guint));
        f->actual = g_array_new(FALSE, FALSE, sizeof(guint));
        f->newest.valid = true;
        for (unsigned e = 0; e < EPOCHS; e++)
            f->wrong[e] = -1;
        if (rnd(3) == 0)
            f->wrong[0] = (int)rnd(300);
        for (unsigned at = 0; at < STREAM; at++)
            m->stream[i][at] = (uint8_t)rnd(256);
        for (unsigned side = 0; side < 2; side++) {
            Segment syn = {.seq = BASE - 1,
                           .ack = PEER,
                           .flags = SYN | ACK,
                           .window = WINDOW * UNIT,
                           .options = options,
                           .options_len = 8,
                           .port = 80 + i};

            feed_tcp(&m->sink, side, &syn);
        }
        f->secondary_valid = true;
    }
}

static void model_clear(Model *m)
{
    for (unsigned i = 0; i < FLOWS; i++) {
        g_queue_clear(&m->flow[i].held);
        g_array_unref(m->flow[i].expected);
        g_array_unref(m->flow[i].actual);
    }
    g_ptr_array_unref(m->frames);
    sink_clear(&m->sink);
}

static void test_i1_core_agrees_with_the_model(void)
{
    unsigned left = 0, diverged = 0;

    for (unsigned round = 0; round < 300; round++) {
        g_autofree Model *m = g_new(Model, 1);

        model_init(m);
        for (unsigned step = 0; step < 250; step++) {
            unsigned what = rnd(60), flow = rnd(FLOWS);

            if (what < 28) {
                step_primary(m, flow);
            } else if (what < 56) {
                step_secondary(m, flow);
            } else if (what < 57) {
                step_epoch(m, 0);
            } else if (what < 58) {
                step_epoch(m, 1);
            } else if (m->committed < m->epoch[0]) {
                m->committed += 1 + rnd(m->epoch[0] - m->committed);
                for (unsigned i = 0; i < FLOWS; i++)
                    model_commit(&m->flow[i], m->committed);
                colo_compare_commit(m->sink.compare, m->committed);
            }
            check(m);
            for (unsigned i = 0; i < FLOWS; i++)
                diverged += m->flow[i].diverged;
        }
        left += m->sink.left->len;
        model_clear(m);
    }
    /* The rounds did what they are for. */
    g_assert_cmpuint(left, >, 1000);
    g_assert_cmpuint(diverged, >, 1000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare/I1/core-agrees-with-the-model", test_i1_core_agrees_with_the_model);
    return g_test_run();
}
