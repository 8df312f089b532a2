/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IP fragments are compared as the datagrams that a receiver makes of them. */
#include "comparator/fragment.h"
#include "test-compare-frames.h"

#define DATAGRAM_MAX 65535u
#define PIECES_MAX 200u
#define IP6_AT IP_AT
#define IP6_HEADERS 48u /* with the fragment header */

/* A datagram and how one copy sends it. */
typedef struct {
    bool ipv6;
    bool tagged;
    uint32_t id;
    unsigned ttl; /* 0: 64 */
    unsigned protocol;
    const uint8_t *data;
    size_t len;
} Datagram;

static size_t put_link(uint8_t *frame, const Datagram *d)
{
    memset(frame, 0, VNET);
    memcpy(frame + VNET, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2", 12);
    if (d->tagged)
        memcpy(frame + VNET + 12, "\x88\xa8\0\5\x81\0\0\7", 8);
    memcpy(frame + VNET + (d->tagged ? 20 : 12), d->ipv6 ? "\x86\xdd" : "\x08\0", 2);
    return VNET + (d->tagged ? 22u : 14u);
}

/* Bytes @from to @to of @d as a frame; @last: nothing follows. */
static size_t put_piece(uint8_t *frame, const Datagram *d, size_t from, size_t to, bool last)
{
    size_t at = put_link(frame, d), len = to - from;
    uint8_t *ip = frame + at;

    if (d->ipv6) {
        memset(ip, 0, IP6_HEADERS);
        ip[0] = 0x60;
        put16(ip + 4, (unsigned)len + 8);
        ip[6] = 44;
        ip[7] = d->ttl ? (uint8_t)d->ttl : 64;
        ip[23] = 1;
        ip[39] = 2;
        ip[40] = (uint8_t)d->protocol;
        put16(ip + 42, (unsigned)from | !last);
        put32(ip + 44, d->id);
        at += IP6_HEADERS;
    } else {
        memset(ip, 0, 20);
        ip[0] = 0x45;
        put16(ip + 2, 20 + (unsigned)len);
        put16(ip + 4, d->id & 0xffff);
        put16(ip + 6, (unsigned)from / 8 | (last ? 0 : 0x2000));
        ip[8] = d->ttl ? (uint8_t)d->ttl : 64;
        ip[9] = (uint8_t)d->protocol;
        memcpy(ip + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
        put16(ip + 10, (uint16_t)~internet_sum(0, ip, 20));
        at += 20;
    }
    if (len > 0)
        memcpy(frame + at, d->data + from, len);
    return at + len;
}

static ColoVerdict say(Sink *sink, bool primary, const Datagram *d, size_t from, size_t to)
{
    static uint8_t frame[MAX_FRAME];

    return feed(sink, primary, frame, put_piece(frame, d, from, to, to == d->len));
}

static const uint8_t text[] = "0123456701234567012345670123456701234567abc";
#define TEXT_LEN (sizeof(text) - 1) /* 43 */

/* The family as test data. */
#define D(data, ...)                           \
    ((Datagram){.ipv6 = GPOINTER_TO_INT(data), \
                .protocol = 17,                \
                .data = text,                  \
                .len = TEXT_LEN,               \
                __VA_ARGS__})

static void test_other_cuts_order_and_id(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 7), s = D(data, .id = 90);

    g_assert_cmpint(say(sink, true, &p, 0, 16), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(say(sink, true, &p, 16, 43), ==, COLO_VERDICT_HELD);
    say(sink, false, &s, 32, 43);
    say(sink, false, &s, 0, 8);
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_cmpint(say(sink, false, &s, 8, 32), ==, COLO_VERDICT_TAKEN);
    g_assert_cmpuint(sink->left->len, ==, 2);
    /* And the other way round; the primary's later fragments come first. */
    p.id++;
    s.id++;
    say(sink, false, &s, 8, 43);
    say(sink, false, &s, 0, 8);
    g_assert_cmpint(say(sink, true, &p, 24, 43), ==, COLO_VERDICT_HELD);
    g_assert_cmpint(say(sink, true, &p, 0, 24), ==, COLO_VERDICT_RELEASED);
    g_assert_cmpuint(sink->left->len, ==, 4);
    g_assert_cmpuint(held(sink), ==, 0);
    g_assert_cmpuint(count(sink, COLO_COUNT_RELEASED_EQUAL), ==, 4);
}

static void test_i1_nothing_leaves_of_a_part(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 7), s = D(data, .id = 90);

    say(sink, false, &s, 0, 16);
    say(sink, false, &s, 16, 43);
    g_assert_cmpint(say(sink, true, &p, 0, 16), ==, COLO_VERDICT_HELD);
    g_assert_false(colo_compare_diverged(sink->compare)); /* the rest may come */
    say(sink, true, &p, 24, 43);
    g_assert_cmpuint(sink->left->len, ==, 0);
    say(sink, true, &p, 16, 24);
    g_assert_cmpuint(sink->left->len, ==, 3);
}

/* Pieces that are equal one by one, but belong to two datagrams of the secondary. */
static void test_i1_pieces_of_two_datagrams(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 7), one = D(data, .id = 1), two = D(data, .id = 2);

    say(sink, false, &one, 0, 16);
    say(sink, false, &two, 16, 43);
    say(sink, true, &p, 0, 16);
    g_assert_cmpint(say(sink, true, &p, 16, 43), ==, COLO_VERDICT_HELD);
    g_assert_cmpuint(sink->left->len, ==, 0);
}

/* Two senders in the guest: the order of the datagrams, and of their pieces, differs. */
static void test_interleaved(Sink *sink, gconstpointer data)
{
    static const uint8_t other_text[] = "another datagram of the guest's";
    Datagram p = D(data, .id = 7), s = D(data, .id = 90);
    Datagram p2 = p, s2 = s;

    p2.data = s2.data = other_text;
    p2.len = s2.len = sizeof(other_text) - 1;
    p2.id++;
    s2.id++;
    say(sink, true, &p, 0, 16);
    say(sink, true, &p2, 0, 8);
    say(sink, true, &p, 16, 43);
    say(sink, true, &p2, 8, p2.len);
    say(sink, false, &s2, 0, 24);
    say(sink, false, &s2, 24, s2.len);
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_false(colo_compare_diverged(sink->compare));
    say(sink, false, &s, 0, 8);
    say(sink, false, &s, 8, 43);
    g_assert_cmpuint(sink->left->len, ==, 4); /* in the primary's order */
    g_assert_cmpuint(held(sink), ==, 0);
}

static void assert_diverged(Sink *sink, const Datagram *p, const Datagram *s)
{
    unsigned left = sink->left->len;
    uint64_t before = count(sink, COLO_COUNT_DIVERGED_FRAGMENT);

    say(sink, false, s, 0, 16);
    say(sink, false, s, 16, s->len);
    say(sink, true, p, 0, 24);
    g_assert_cmpint(say(sink, true, p, 24, p->len), ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(sink->left->len, ==, left);
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_FRAGMENT), ==, before + 1);
    sink->epoch++;
    colo_compare_commit(sink->compare, sink->epoch);
    g_assert_cmpuint(sink->left->len, ==, left + 2);
    g_assert_false(colo_compare_diverged(sink->compare));
}

static void test_i1_each_byte(Sink *sink, gconstpointer data)
{
    for (size_t i = 0; i < TEXT_LEN; i++) {
        Datagram p = D(data, .id = (uint32_t)i), s = D(data, .id = 90 + (uint32_t)i);
        uint8_t changed[TEXT_LEN];

        memcpy(changed, text, TEXT_LEN);
        changed[i] ^= 1;
        s.data = changed;
        assert_diverged(sink, &p, &s);
    }
}

static void test_i1_length_and_headers(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 1), s = D(data, .id = 2);

    s.len--;
    assert_diverged(sink, &p, &s);
    s = D(data, .id = 3, .ttl = 63);
    p.id++;
    assert_diverged(sink, &p, &s);
    if (GPOINTER_TO_INT(data)) { /* IPv4 has it in the flow */
        s = D(data, .id = 4);
        s.protocol = 58;
        p.id++;
        assert_diverged(sink, &p, &s);
    }
}

static void test_i1_overlap_is_hostile(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 1);

    /* Both copies say the same; what a receiver makes of it is anybody's guess. */
    for (int primary = 0; primary < 2; primary++) {
        say(sink, primary, &p, 0, 24);
        say(sink, primary, &p, 16, 43);
    }
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_FRAGMENT), ==, 1);
    g_assert_true(colo_compare_diverged(sink->compare));
    colo_compare_commit(sink->compare, ++sink->epoch);
    g_assert_cmpuint(sink->left->len, ==, 2);
}

static void test_i1_bytes_behind_the_last(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 1), shorter = D(data, .id = 1);

    shorter.len = 24;
    for (int primary = 0; primary < 2; primary++) {
        say(sink, primary, &p, 24, 43);
        say(sink, primary, &shorter, 0, 8);
        say(sink, primary, &shorter, 8, 24);
    }
    g_assert_cmpuint(sink->left->len, ==, 0);
    g_assert_true(colo_compare_diverged(sink->compare));
}

static void test_i1_epochs_are_not_mixed(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 1), s = D(data, .id = 2);

    say(sink, false, &s, 0, 16);
    say(sink, false, &s, 16, 43);
    say(sink, true, &p, 0, 16);
    sink->epoch++;
    g_assert_cmpint(say(sink, true, &p, 16, 43), ==, COLO_VERDICT_HELD);
    g_assert_cmpuint(sink->left->len, ==, 0);
}

static void test_i8_too_many_pieces(Sink *sink, gconstpointer data)
{
    static uint8_t bytes[8 * (COLO_FRAGMENTS_MAX + 1)];
    Datagram p = {.ipv6 = GPOINTER_TO_INT(data), .protocol = 17, .data = bytes};

    p.len = sizeof(bytes);
    for (size_t at = 0; at < p.len; at += 8)
        say(sink, true, &p, at, at + 8);
    g_assert_true(colo_compare_diverged(sink->compare));
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_FRAGMENT), ==, 1);
    /* As many as are allowed leave. */
    colo_compare_commit(sink->compare, ++sink->epoch);
    g_ptr_array_set_size(sink->left, 0);
    p.len -= 8;
    for (int primary = 0; primary < 2; primary++) {
        for (size_t at = 0; at < p.len; at += 8)
            say(sink, primary, &p, at, at + 8);
    }
    g_assert_cmpuint(sink->left->len, ==, COLO_FRAGMENTS_MAX);
}

/* What no receiver takes for a fragment is compared as it is. */
static void test_malformed_by_content(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 1);
    static uint8_t frame[MAX_FRAME];
    size_t len = put_piece(frame, &p, 0, 13, false); /* no multiple of 8 */

    feed(sink, false, frame, len);
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_RELEASED);
    feed(sink, false, frame, len);
    frame[len - 1] ^= 1;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_DIVERGED);
    g_assert_cmpuint(count(sink, COLO_COUNT_DIVERGED_CONTENT), ==, 1);
}

static void test_tagged(Sink *sink, gconstpointer data)
{
    Datagram p = D(data, .id = 1, .tagged = true), s = D(data, .id = 2, .tagged = true);
    Datagram bare = D(data, .id = 3);

    say(sink, false, &bare, 0, 16);
    say(sink, false, &bare, 16, 43);
    say(sink, true, &p, 0, 16);
    g_assert_cmpint(say(sink, true, &p, 16, 43), ==, COLO_VERDICT_HELD);
    say(sink, false, &s, 0, 8);
    say(sink, false, &s, 8, 43);
    g_assert_cmpuint(sink->left->len, ==, 2);
}

/* ---- random ---- */

typedef struct {
    size_t from, to;
} Cut;

static unsigned cut(size_t len, Cut *cuts)
{
    unsigned n = 0;

    for (size_t at = 0; at < len;) {
        size_t size = (size_t)g_test_rand_int_range(1, 180) * 8;

        if (size > len - at || n == COLO_FRAGMENTS_MAX - 1)
            size = len - at;
        cuts[n++] = (Cut){at, at + size};
        at += size;
    }
    for (unsigned i = n; i > 1; i--) {
        unsigned other = (unsigned)g_test_rand_int_range(0, (int)i);
        Cut c = cuts[i - 1];

        cuts[i - 1] = cuts[other];
        cuts[other] = c;
    }
    return n;
}

/* Random cuts, order and interleaving of both sides release each of the primary's frames once, in
 * its order; with one byte changed nothing of that datagram. */
static void test_random(gconstpointer data)
{
    static uint8_t bytes[DATAGRAM_MAX], changed[DATAGRAM_MAX], frame[MAX_FRAME];

    for (unsigned run = 0; run < 400; run++) {
        bool differs = run % 4 == 0;
        size_t len = (size_t)g_test_rand_int_range(9, 30000);
        Datagram d[2] = {
            {.ipv6 = GPOINTER_TO_INT(data), .protocol = 17, .id = run, .data = bytes, .len = len}};
        g_autoptr(GPtrArray) sent = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
        Cut cuts[2][PIECES_MAX];
        unsigned n[2], at[2] = {0, 0};
        Sink sink;

        for (size_t i = 0; i < len; i++)
            changed[i] = bytes[i] = (uint8_t)g_test_rand_int();
        changed[g_test_rand_int_range(0, (int)len)] ^= (uint8_t)(1 << g_test_rand_int_range(0, 8));
        d[1] = d[0];
        d[1].id += 1000;
        if (differs)
            d[1].data = changed;
        sink_init(&sink, NULL);
        for (int side = 0; side < 2; side++)
            n[side] = cut(len, cuts[side]);
        if (n[0] < 2 || n[1] < 2) { /* IPv4 has no fragment that is all of a datagram */
            sink_clear(&sink);
            continue;
        }
        while (at[0] < n[0] || at[1] < n[1]) {
            int side = at[0] == n[0] || (at[1] < n[1] && g_test_rand_bit());
            const Cut *c = &cuts[side][at[side]++];
            size_t size = put_piece(frame, &d[side], c->from, c->to, c->to == len);

            if (side == 0)
                g_ptr_array_add(sent, g_bytes_new(frame, size));
            feed(&sink, side == 0, frame, size);
        }
        g_assert_cmpuint(sink.left->len, ==, differs ? 0 : n[0]);
        g_assert_true(colo_compare_diverged(sink.compare) == differs);
        for (unsigned i = 0; i < sink.left->len; i++)
            g_assert_true(
                g_bytes_equal(g_ptr_array_index(sink.left, i), g_ptr_array_index(sent, i)));
        sink_clear(&sink);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(Sink *, gconstpointer);
    } tests[] = {
        {"other-cuts-order-and-id", test_other_cuts_order_and_id},
        {"I1/nothing-leaves-of-a-part", test_i1_nothing_leaves_of_a_part},
        {"I1/pieces-of-two-datagrams", test_i1_pieces_of_two_datagrams},
        {"interleaved", test_interleaved},
        {"I1/each-byte", test_i1_each_byte},
        {"I1/length-and-headers", test_i1_length_and_headers},
        {"I1/overlap-is-hostile", test_i1_overlap_is_hostile},
        {"I1/bytes-behind-the-last", test_i1_bytes_behind_the_last},
        {"I1/epochs-are-not-mixed", test_i1_epochs_are_not_mixed},
        {"I8/too-many-pieces", test_i8_too_many_pieces},
        {"malformed-by-content", test_malformed_by_content},
        {"tagged", test_tagged},
    };

    g_test_init(&argc, &argv, NULL);
    for (int ipv6 = 0; ipv6 < 2; ipv6++) {
        const char *family = ipv6 ? "ipv6" : "ipv4";

        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
            g_autofree char *name = g_strdup_printf("/fragment/%s/%s", family, tests[i].name);

            g_test_add(name, Sink, GINT_TO_POINTER(ipv6), setup, tests[i].run, teardown);
        }
        g_test_add_data_func(ipv6 ? "/fragment/ipv6/random" : "/fragment/ipv4/random",
                             GINT_TO_POINTER(ipv6), test_random);
    }
    return g_test_run();
}
