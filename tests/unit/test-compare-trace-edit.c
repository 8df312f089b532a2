/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * No missed divergence (I1): traces of two Linux stacks in which one copy is edited at every
 * position. Whatever differs stays: each frame that leaves is checked by the oracle of trace.h
 * against what the secondary said, edits included.
 */
#include "test-compare-frames.h"
#include "trace.h"

#define POOL (1u << 20)

/* Traces of more bytes are edited at every STEPth position, beginning anywhere. */
#define EVERY_BYTE_MAX 24000u
#define STEP 11u

/* More than a trace holds, and little to make. */
static const ColoCompareLimits limits = {.arena_bytes = 1 << 20, .frames = 1024, .flows = 8};

typedef struct {
    GArray *frames; /* TraceFrame: one connection of a trace, or all that is no TCP */
    GArray *edited; /* the same with an edit */
    uint8_t *pool;  /* of the edited frames' bytes */
    size_t used;
    uint64_t left, held; /* over all runs */
} Edit;

enum { AS_RECORDED, SECONDARY_FIRST, PRIMARY_FIRST, ORDERS };

static void feed_edited(Edit *e, Sink *sink, Said *said, unsigned *heard, int side)
{
    for (unsigned i = 0; i < e->edited->len; i++) {
        const TraceFrame *f = &g_array_index(e->edited, TraceFrame, i);
        unsigned checked = sink->left->len;

        if (side >= 0 && f->primary != side)
            continue;
        if (!f->primary)
            said_parse(&said[(*heard)++], f->data, f->len);
        feed(sink, f->primary, f->data, f->len);
        for (; checked < sink->left->len; checked++) {
            size_t len;
            const uint8_t *frame = sink_frame(sink, checked, &len);
            Said left;

            said_parse(&left, frame, len);
            g_assert_cmpstr(oracle_objects(&left, said, *heard), ==, NULL);
        }
    }
}

/* A datagram leaves as often as the secondary has sent it. */
static void check_counts(Sink *sink, const Said *said, unsigned heard)
{
    for (unsigned i = 0; i < sink->left->len; i++) {
        unsigned balance = 0;
        size_t len;
        Said left, other;

        said_parse(&left, sink_frame(sink, i, &len), len);
        if (left.tcp)
            return;
        for (unsigned j = 0; j < heard; j++)
            balance += !said[j].tcp && said_same_frame(&left, &said[j]);
        for (unsigned j = 0; j < sink->left->len; j++) {
            const uint8_t *frame = sink_frame(sink, j, &len);

            said_parse(&other, frame, len);
            if (other.tcp || !said_same_frame(&left, &other))
                continue;
            g_assert_cmpuint(balance, >, 0);
            balance--;
        }
    }
}

static void run(Edit *e, unsigned order)
{
    g_autofree Said *said = g_new(Said, e->edited->len + 1);
    unsigned heard = 0;
    Sink sink;

    sink_init(&sink, &limits);
    if (order == AS_RECORDED) {
        feed_edited(e, &sink, said, &heard, -1);
    } else {
        feed_edited(e, &sink, said, &heard, order == PRIMARY_FIRST);
        feed_edited(e, &sink, said, &heard, order == SECONDARY_FIRST);
    }
    check_counts(&sink, said, heard);
    e->left += sink.left->len;
    e->held += held(&sink);
    sink_clear(&sink);
}

/* Starts an edit: @edited is as recorded, and frame @i of it is a copy to write to. */
static uint8_t *begin(Edit *e, unsigned i, size_t more)
{
    TraceFrame *f;
    uint8_t *copy = e->pool + e->used;

    g_assert_cmpuint(e->used + g_array_index(e->frames, TraceFrame, i).len + more, <=, POOL);
    f = &g_array_index(e->edited, TraceFrame, i);
    memcpy(copy, f->data, f->len);
    f->data = copy;
    e->used += f->len + more;
    return copy;
}

static void reset(Edit *e)
{
    g_array_set_size(e->edited, 0);
    g_array_append_vals(e->edited, e->frames->data, e->frames->len);
    e->used = 0;
}

/* Each byte of each frame gets other bits; datagrams are cut there as well. */
static void edit_bytes(Edit *e, unsigned step)
{
    unsigned skip = step > 1 ? (unsigned)g_test_rand_int_range(0, (gint32)step) : 0;

    for (unsigned i = 0; i < e->frames->len; i++) {
        const TraceFrame *f = &g_array_index(e->frames, TraceFrame, i);

        for (size_t at = TRACE_VNET; at < f->len; at++) {
            Said said;

            if (skip > 0) {
                skip--;
                continue;
            }
            skip = step - 1;
            reset(e);
            begin(e, i, 0)[at] ^= (uint8_t)g_test_rand_int_range(1, 256);
            run(e, (unsigned)at % ORDERS);
            said_parse(&said, f->data, f->len);
            if (said.tcp || at < TRACE_VNET + TRACE_ETH)
                continue;
            reset(e);
            begin(e, i, 0);
            g_array_index(e->edited, TraceFrame, i).len = at;
            run(e, (unsigned)at % ORDERS);
        }
    }
}

/* The length of IP's payload grows by @by. */
static void grow(uint8_t *frame, int by)
{
    uint8_t *ip = frame + TRACE_IP_AT;
    uint8_t *len = ip[0] >> 4 == 4 ? ip + 2 : ip + 4;

    put16(len, (unsigned)((int)get16(len) + by));
}

/* One side's stream with a byte added (@by 1) or left out (-1) at @at, or one that ends there (0),
 * with a FIN or without. A byte that is added is another one than that in its place. */
static void edit_stream(Edit *e, bool primary, uint32_t at, int by)
{
    bool fin = g_test_rand_bit();

    reset(e);
    for (unsigned i = e->frames->len; i-- > 0;) {
        const TraceFrame *f = &g_array_index(e->frames, TraceFrame, i);
        size_t payload_at;
        uint8_t *copy;
        int32_t before;
        Said said;

        said_parse(&said, f->data, f->len);
        before = (int32_t)(at - said.seq);
        if (f->primary != primary || (said.flags & TRACE_SYN) || before >= (int32_t)said.len + !by)
            continue;
        if (by == 0 && before <= 0) {
            g_array_remove_index(e->edited, i);
            continue;
        }
        copy = begin(e, i, 1);
        if (before < 0) {
            put32(copy + said.tcp_at + 4, said.seq + (uint32_t)by);
            continue;
        }
        payload_at = (size_t)(said.data - f->data) + (size_t)before;
        if (by == 0) {
            grow(copy, before - (int)said.len);
            g_array_index(e->edited, TraceFrame, i).len = payload_at;
            copy[said.tcp_at + 13] &= (uint8_t)~TRACE_FIN;
            copy[said.tcp_at + 13] |= fin ? TRACE_FIN : 0;
            continue;
        }
        grow(copy, by);
        g_array_index(e->edited, TraceFrame, i).len = f->len + (size_t)by;
        memcpy(copy + payload_at + (by > 0), f->data + payload_at + (by < 0),
               f->len - payload_at - (by < 0));
        if (by > 0)
            copy[payload_at] = f->data[payload_at] ^ 0x5a;
    }
}

static void edit_streams(Edit *e, unsigned step)
{
    for (unsigned primary = 0; primary < 2; primary++) {
        uint32_t low = 0, high = 0;
        bool any = false;

        for (unsigned i = 0; i < e->frames->len; i++) {
            const TraceFrame *f = &g_array_index(e->frames, TraceFrame, i);
            Said said;

            said_parse(&said, f->data, f->len);
            if (f->primary != primary || said.len == 0)
                continue;
            if (!any || (int32_t)(said.seq - low) < 0)
                low = said.seq;
            if (!any || (int32_t)(said.seq + (uint32_t)said.len - high) > 0)
                high = said.seq + (uint32_t)said.len;
            any = true;
        }
        for (uint32_t at = low + (uint32_t)g_test_rand_int_range(0, (gint32)step);
             (int32_t)(at - high) < 0; at += step) {
            for (int by = -1; by <= 1; by++) {
                edit_stream(e, primary, at, by);
                run(e, at % ORDERS);
            }
        }
    }
}

/* Frames lost or repeated by one side. */
static void edit_frames(Edit *e)
{
    for (unsigned i = 0; i < e->frames->len; i++) {
        for (unsigned order = 0; order < ORDERS; order++) {
            TraceFrame f = g_array_index(e->frames, TraceFrame, i);

            reset(e);
            g_array_remove_index(e->edited, i);
            run(e, order);
            reset(e);
            g_array_insert_val(e->edited, i, f);
            run(e, order);
        }
    }
}

typedef void (*EditFunc)(Edit *e, unsigned step);

static void edit_whole(Edit *e, unsigned step G_GNUC_UNUSED)
{
    edit_frames(e);
}

/* Edits one connection after the other, then all that is no TCP. */
static void for_each_flow(const char *path, EditFunc edit)
{
    Edit e = {.frames = g_array_new(FALSE, FALSE, sizeof(TraceFrame)),
              .edited = g_array_new(FALSE, FALSE, sizeof(TraceFrame)),
              .pool = g_malloc(POOL)};
    g_autofree bool *done = NULL;
    GError *error = NULL;
    Trace trace;
    gsize size = 0;

    trace_load(&trace, path, &error);
    g_assert_no_error(error);
    done = g_new0(bool, trace.frames->len);
    for (unsigned i = 0; i < trace.frames->len; i++)
        size += trace_frame(&trace, i)->len;
    for (unsigned i = 0; i < trace.frames->len; i++) {
        Said first, said;

        if (done[i])
            continue;
        g_array_set_size(e.frames, 0);
        said_parse(&first, trace_frame(&trace, i)->data, trace_frame(&trace, i)->len);
        for (unsigned j = i; j < trace.frames->len; j++) {
            const TraceFrame *f = trace_frame(&trace, j);

            said_parse(&said, f->data, f->len);
            if (first.tcp ? !said_same_flow(&first, &said) : said.tcp)
                continue;
            done[j] = true;
            g_array_append_val(e.frames, *f);
        }
        if (edit != edit_streams || first.tcp)
            edit(&e, size > EVERY_BYTE_MAX ? STEP : 1);
    }
    /* The edits are no reason to hold or to let go of everything. */
    g_assert_cmpuint(e.left, >, 0);
    g_assert_cmpuint(e.held, >, 0);
    g_array_unref(e.frames);
    g_array_unref(e.edited);
    g_free(e.pool);
    trace_clear(&trace);
}

static void test_no_changed_byte_leaves(gconstpointer path)
{
    for_each_flow(path, edit_bytes);
}

static void test_no_edited_stream_leaves(gconstpointer path)
{
    for_each_flow(path, edit_streams);
}

static void test_lost_and_repeated_frames(gconstpointer path)
{
    for_each_flow(path, edit_whole);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        GTestDataFunc function;
    } tests[] = {{"no-changed-byte-leaves", test_no_changed_byte_leaves},
                 {"no-edited-stream-leaves", test_no_edited_stream_leaves},
                 {"lost-and-repeated-frames", test_lost_and_repeated_frames}};
    g_autofree char *folder = trace_folder();
    g_autoptr(GPtrArray) paths = trace_paths(folder);

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < paths->len; i++) {
        g_autofree char *name = g_path_get_basename(g_ptr_array_index(paths, i));

        *strchr(name, '.') = '\0';
        for (unsigned t = 0; t < G_N_ELEMENTS(tests); t++) {
            g_autofree char *test = g_strdup_printf("/compare/I1/trace/%s-%s", name, tests[t].name);

            /* Datagrams have no stream. */
            if (tests[t].function == test_no_edited_stream_leaves &&
                (g_str_has_prefix(name, "dns-4") || g_str_has_prefix(name, "dns-6") ||
                 g_str_has_prefix(name, "ping")))
                continue;
            g_test_add_data_func(test, g_ptr_array_index(paths, i), tests[t].function);
        }
    }
    g_assert_cmpuint(paths->len, >, 0);
    return g_test_run();
}
