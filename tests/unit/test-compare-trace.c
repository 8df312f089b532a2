/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * No false divergence: what two Linux stacks sent that served the same requests, recorded by
 * tests/bench/traces/record.py, goes through the compare core in many interleavings. Each time all
 * of it leaves, in order, without a checkpoint.
 */
#include "test-compare-frames.h"
#include "trace.h"

enum { INTERLEAVINGS = 60 };

typedef struct {
    Trace trace;
    GArray *order; /* unsigned: indices of the trace's frames */
} Replay;

static void leave_in_recorded_order(Replay *r)
{
    for (unsigned i = 0; i < r->trace.frames->len; i++)
        g_array_append_val(r->order, i);
}

/* Each side's own order stays; they take turns in runs of up to @run frames. */
static void interleave(Replay *r, unsigned run)
{
    unsigned next[2] = {0, 0};
    bool primary = g_test_rand_bit();

    g_array_set_size(r->order, 0);
    while (r->order->len < r->trace.frames->len) {
        unsigned n = (unsigned)g_test_rand_int_range(1, (gint32)run + 1);

        for (; next[primary] < r->trace.frames->len && n > 0; next[primary]++) {
            if (trace_frame(&r->trace, next[primary])->primary != primary)
                continue;
            g_array_append_val(r->order, next[primary]);
            n--;
        }
        primary = !primary;
    }
}

/* Frames that leave are the primary's, in its order within each connection, but for clamped
 * acknowledgements, stripped SACK blocks and ACKs that are owed; so it is enough to see that each
 * says what the secondary has said, and that none stays. */
static void replay(const Replay *r)
{
    g_autofree Said *said = g_new(Said, r->trace.count[0] + 1);
    unsigned heard = 0, checked = 0;
    Sink sink;

    sink_init(&sink, NULL);
    for (unsigned i = 0; i < r->order->len; i++) {
        const TraceFrame *f = trace_frame(&r->trace, g_array_index(r->order, unsigned, i));

        if (!f->primary)
            said_parse(&said[heard++], f->data, f->len);
        g_assert_cmpint(feed(&sink, f->primary, f->data, f->len), !=, COLO_VERDICT_FULL);
        for (; checked < sink.left->len; checked++) {
            size_t len;
            const uint8_t *frame = sink_frame(&sink, checked, &len);
            Said left;

            said_parse(&left, frame, len);
            g_assert_cmpstr(oracle_objects(&left, said, heard), ==, NULL);
        }
    }
    g_assert_false(colo_compare_diverged(sink.compare));
    g_assert_cmpuint(held(&sink), ==, 0);
    g_assert_cmpuint(count(&sink, COLO_COUNT_RELEASED_EQUAL) - count(&sink, COLO_COUNT_OWED_ACK),
                     ==, r->trace.count[1]);
    sink_clear(&sink);
}

static void test_all_leaves(gconstpointer path)
{
    Replay r = {.order = g_array_new(FALSE, FALSE, sizeof(unsigned))};
    GError *error = NULL;

    trace_load(&r.trace, path, &error);
    g_assert_no_error(error);
    leave_in_recorded_order(&r);
    replay(&r);
    for (unsigned i = 0; i < INTERLEAVINGS; i++) {
        interleave(&r, 1 + i);
        replay(&r);
    }
    interleave(&r, r.trace.frames->len); /* one side after the other */
    replay(&r);
    g_array_unref(r.order);
    trace_clear(&r.trace);
}

int main(int argc, char **argv)
{
    g_autofree char *folder = trace_folder();
    g_autoptr(GPtrArray) paths = trace_paths(folder);

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < paths->len; i++) {
        g_autofree char *name = g_path_get_basename(g_ptr_array_index(paths, i));
        g_autofree char *test = NULL;

        *strchr(name, '.') = '\0';
        test = g_strdup_printf("/compare/trace/%s-all-leaves", name);
        g_test_add_data_func(test, g_ptr_array_index(paths, i), test_all_leaves);
    }
    g_assert_cmpuint(paths->len, >, 0);
    return g_test_run();
}
