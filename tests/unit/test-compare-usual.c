/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The short way of usual segments says the same as the long way: two cores, one of which never
 * takes the short way, are fed the same random run, one frame by frame and one in batches of which
 * a part stays in chunks. */
#include "comparator/compare-private.h"
#include "test-compare-frames.h"

#define RUNS 2000
#define STEPS 400
#define FLOWS 3
#define BATCH 24
#define STREAM 4096u

/* One connection as a copy sees it. */
typedef struct {
    uint32_t next; /* position in the stream */
    uint32_t ack;
    bool fin;
} End;

/* A frame in a chunk of its own. */
typedef struct {
    ColoChunk chunk;
    size_t len;
    uint8_t frame[];
} Fed;

typedef struct {
    Sink sink[2]; /* the short way, the long one */
    End end[2][FLOWS];
    uint8_t stream[FLOWS][STREAM];
    /* The batch that is being gathered. */
    unsigned n;
    Fed *fed[BATCH];
    ColoCompareInput input[BATCH];
} Run;

static unsigned fed_live;

/* Whoever still reads it without a reference gets something else. */
static void free_fed(ColoChunk *chunk)
{
    Fed *fed = (Fed *)chunk;

    memset(fed->frame, 0xdb, fed->len);
    g_free(fed);
    fed_live--;
}

static void flush(Run *run)
{
    ColoVerdict verdicts[BATCH];

    colo_compare_batch(run->sink[0].compare, run->input, run->n, verdicts);
    for (unsigned i = 0; i < run->n; i++) {
        const ColoCompareInput *in = &run->input[i];
        ColoVerdict verdict = (in->secondary ? colo_compare_secondary : colo_compare_primary)(
            run->sink[1].compare, in->nic, in->frame, in->len, in->vnet, in->epoch, in->now_ns);

        g_assert_cmpint(verdicts[i], ==, verdict);
        colo_chunk_unref(&run->fed[i]->chunk);
    }
    run->n = 0;
    g_assert_cmpuint(run->sink[0].left->len, ==, run->sink[1].left->len);
    for (int i = 0; i < COLO_COUNT_LAST; i++)
        g_assert_cmpuint(count(&run->sink[0], (ColoCompareCounter)i), ==,
                         count(&run->sink[1], (ColoCompareCounter)i));
    g_assert_cmpuint(held(&run->sink[0]), ==, held(&run->sink[1]));
}

static void add(Run *run, bool secondary, const uint8_t *frame, size_t len)
{
    unsigned i = run->n++;

    run->fed[i] = g_malloc(sizeof(Fed) + len);
    fed_live++;
    run->fed[i]->chunk = (ColoChunk){.refs = 1, .unused = free_fed};
    run->fed[i]->len = len;
    memcpy(run->fed[i]->frame, frame, len);
    run->input[i] = (ColoCompareInput){.frame = run->fed[i]->frame,
                                       .len = len,
                                       .vnet = VNET,
                                       .epoch = run->sink[0].epoch,
                                       .now_ns = ++run->sink[0].now,
                                       .chunk = g_test_rand_bit() ? &run->fed[i]->chunk : NULL,
                                       .secondary = secondary};
    if (run->n == BATCH)
        flush(run);
}

static bool one_in(int n)
{
    return g_test_rand_int_range(0, n) == 0;
}

/* What a copy says next on a connection: mostly the next bytes of the stream that both share. */
static void step(Run *run)
{
    bool secondary = g_test_rand_bit();
    unsigned flow = (unsigned)g_test_rand_int_range(0, FLOWS);
    End *end = &run->end[secondary][flow];
    uint8_t frame[2048];
    uint32_t len = one_in(5) ? (uint32_t)g_test_rand_int_range(0, 40) : 16, at = end->next;
    Segment segment;
    size_t size;

    if (one_in(20) && at > 0)
        at -= (uint32_t)g_test_rand_int_range(0, (int)MIN(at, 100u) + 1); /* again */
    else if (one_in(30))
        at += (uint32_t)g_test_rand_int_range(0, 64); /* something is lost */
    if (at + len > STREAM)
        return;
    if (one_in(4))
        end->ack += (uint32_t)g_test_rand_int_range(0, 20);
    segment = (Segment){.seq = 0xfffff800u + at,
                        .ack = 1000 + end->ack,
                        .flags = ACK | (one_in(3) ? PSH : 0) | (one_in(60) ? FIN : 0) |
                                 (one_in(200) ? RST : 0),
                        .window = (unsigned)g_test_rand_int_range(one_in(5) ? 0 : 495, 503),
                        .options = TS("\1"),
                        .options_len = one_in(6) ? 0 : 12,
                        .data = run->stream[flow] + at,
                        .len = len};
    size = put_tcp(frame, &segment);
    put16(frame + TCP_AT + 2, 5000 + flow);
    if (one_in(400))
        frame[g_test_rand_int_range(0, (int)size)] ^= 1;
    if (at + len > end->next)
        end->next = at + len;
    add(run, secondary, frame, size);
}

/* The handshake of all connections but the last: that one's scale stays unknown. */
static void open_flows(Run *run)
{
    uint8_t frame[2048];

    for (unsigned flow = 0; flow < FLOWS - 1; flow++) {
        for (unsigned side = 0; side < 2; side++) {
            Segment segment = {.seq = 0xfffff800u - 1,
                               .ack = 1000,
                               .flags = SYN | ACK,
                               .window = 60000,
                               .options = SYN_OPTIONS("\1", "\7"),
                               .options_len = 20};
            size_t size = put_tcp(frame, &segment);

            put16(frame + TCP_AT + 2, 5000 + flow);
            add(run, side, frame, size);
        }
    }
}

static void test_same(void)
{
    static const ColoCompareLimits limits = {.arena_bytes = 1, .frames = 64, .flows = 8};
    Run *run = g_new0(Run, 1);

    for (unsigned r = 0; r < RUNS; r++) {
        memset(run, 0, sizeof(*run));
        for (unsigned i = 0; i < sizeof(run->stream); i++)
            run->stream[i / STREAM][i % STREAM] = (uint8_t)g_test_rand_int();
        for (unsigned k = 0; k < 2; k++)
            sink_init(&run->sink[k], &limits);
        run->sink[1].compare->long_way = true;
        open_flows(run);
        for (unsigned i = 0; i < STEPS; i++) {
            step(run);
            if (one_in(60)) {
                flush(run);
                for (unsigned k = 0; k < 2; k++) {
                    run->sink[k].epoch++;
                    colo_compare_commit(run->sink[k].compare, run->sink[k].epoch);
                }
                /* The secondary has the primary's state now. */
                memcpy(run->end[1], run->end[0], sizeof(run->end[0]));
            }
        }
        flush(run);
        for (unsigned i = 0; i < run->sink[0].left->len; i++)
            g_assert_true(g_bytes_equal(g_ptr_array_index(run->sink[0].left, i),
                                        g_ptr_array_index(run->sink[1].left, i)));
        for (unsigned k = 0; k < 2; k++)
            sink_clear(&run->sink[k]);
        g_assert_cmpuint(fed_live, ==, 0);
    }
    g_free(run);
}

/* The test above means something only if the short way is taken at all. */
static void test_taken(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    ColoSlot *incoming;

    S(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    P(sink, .seq = 1, .ack = 9, .flags = ACK, TEXT("abc"));
    incoming = sink->compare->store.incoming;
    incoming->len = 0; /* the long way goes through the incoming slot */
    g_assert_cmpint(P(sink, .seq = 4, .ack = 9, .flags = ACK, TEXT("def")), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(S(sink, .seq = 4, .ack = 9, .flags = ACK, TEXT("def")), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink->left->len, ==, 2);
    g_assert_true(sink->compare->store.incoming == incoming);
    g_assert_cmpuint(incoming->len, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare-usual/same-as-the-long-way", test_same);
    g_test_add("/compare-usual/taken", Sink, NULL, setup, test_taken, teardown);
    return g_test_run();
}
