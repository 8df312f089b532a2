/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IPv6 in the compare core (RFC 8200): the frames of test-compare-frames.h in IPv6. */
#include "test-compare-frames.h"

#define IP6 40
#define L4_AT (IP_AT + IP6)

/* What surrounds the payload of one packet. */
typedef struct {
    unsigned traffic_class, label, hop_limit; /* hop limit 0: 64 */
    const void *extensions;                   /* begins with a hop-by-hop header */
    size_t extensions_len;
} Shell;

static const Shell plain;

/* Puts @len bytes of @protocol, which are in place behind @shell's headers, into a packet. */
static size_t put_ipv6(uint8_t *frame, unsigned protocol, const Shell *shell, size_t len)
{
    uint8_t *ip = frame + IP_AT;

    memset(frame, 0, L4_AT);
    memcpy(frame + VNET, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2\x86\xdd", ETH);
    put32(ip, 6u << 28 | shell->traffic_class << 20 | shell->label);
    put16(ip + 4, (unsigned)(len + shell->extensions_len));
    ip[6] = shell->extensions_len ? 0 : (uint8_t)protocol;
    ip[7] = shell->hop_limit ? (uint8_t)shell->hop_limit : 64;
    memcpy(ip + 8, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 32);
    if (shell->extensions_len)
        memcpy(frame + L4_AT, shell->extensions, shell->extensions_len);
    return L4_AT + shell->extensions_len + len;
}

/* 0xffff when the checksum of the TCP segment at @at is right. */
static uint16_t sum_of(const uint8_t *frame, size_t at, size_t len)
{
    uint32_t sum = internet_sum(6 + (uint32_t)(len - at), frame + IP_AT + 8, 32);

    return internet_sum(sum, frame + at, len - at);
}

static size_t put_tcp6(uint8_t *frame, const Shell *shell, const Segment *segment)
{
    static uint8_t v4[MAX_FRAME];
    size_t len = put_tcp(v4, segment) - TCP_AT, at = L4_AT + shell->extensions_len;

    memcpy(frame + at, v4 + TCP_AT, len);
    put_ipv6(frame, 6, shell, len);
    put16(frame + at + 16, 0);
    put16(frame + at + 16, (uint16_t)~sum_of(frame, at, at + len));
    return at + len;
}

static ColoVerdict feed6(Sink *sink, bool primary, const Shell *shell, const Segment *segment)
{
    static uint8_t frame[MAX_FRAME];

    return feed(sink, primary, frame, put_tcp6(frame, shell, segment));
}

#define P6(sink, ...) feed6(sink, true, &plain, &(Segment){__VA_ARGS__})
#define S6(sink, ...) feed6(sink, false, &plain, &(Segment){__VA_ARGS__})

static void handshake6(Sink *sink)
{
    S6(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK, .window = 64000,
       .options = SYN_OPTIONS("\1", "\7"), .options_len = 20);
    g_assert_cmpint(P6(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK, .window = 64000,
                       .options = SYN_OPTIONS("\2", "\7"), .options_len = 20),
                    ==, COLO_VERDICT_RELEASED);
}

static void test_segmentation_differs(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake6(sink);
    S6(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("ab"));
    S6(sink, .seq = 105, .ack = 1001, .flags = ACK | PSH, .window = 501, TEXT("ef"));
    g_assert_cmpint(P6(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abcdef")),
                    ==, COLO_VERDICT_HELD);
    S6(sink, .seq = 103, .ack = 1001, .flags = ACK, .window = 500, TEXT("cd"));
    g_assert_cmpuint(sink->left->len, ==, 2);
}

static void test_i1_different_bytes_wait(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    handshake6(sink);
    S6(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abc"));
    g_assert_cmpint(P6(sink, .seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abd")), ==,
                    COLO_VERDICT_DIVERGED);
    colo_compare_commit(sink->compare, 1);
    g_assert_cmpuint(sink->left->len, ==, 2);
}

static void test_i1_ack_is_clamped_and_owed(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const uint8_t *frame;
    size_t len;

    handshake6(sink);
    S6(sink, .seq = 101, .ack = 1501, .flags = ACK, .window = 505, TEXT("abc"));
    g_assert_cmpint(P6(sink, .seq = 101, .ack = 2141, .flags = ACK, .window = 500, TEXT("abc")), ==,
                    COLO_VERDICT_RELEASED);
    frame = sink_frame(sink, 1, &len);
    g_assert_cmpuint(get32(frame + L4_AT + 8), ==, 1501);
    g_assert_cmphex(sum_of(frame, L4_AT, len), ==, 0xffff);
    g_assert_cmpuint(held(sink), ==, 1);
    S6(sink, .seq = 104, .ack = 2141, .flags = ACK, .window = 500);
    g_assert_cmpuint(held(sink), ==, 0);
    frame = sink_frame(sink, 2, &len);
    g_assert_cmpuint(len, ==, L4_AT + 20);
    g_assert_cmpuint(get16(frame + IP_AT + 4), ==, 20);
    g_assert_cmpuint(get32(frame + L4_AT + 4), ==, 104);
    g_assert_cmpuint(get32(frame + L4_AT + 8), ==, 2141);
    g_assert_cmphex(sum_of(frame, L4_AT, len), ==, 0xffff);
}

/* One segment of each copy, the secondary's in @other. */
static ColoVerdict one_in(Sink *sink, const Shell *one, const Shell *other)
{
    const Segment segment = {.seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abc")};

    handshake6(sink);
    feed6(sink, false, other, &segment);
    return feed6(sink, true, one, &segment);
}

static void test_label_and_ecn_have_no_meaning(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const Shell one = {.label = 0x12345, .traffic_class = 2};
    const Shell other = {.label = 0xedcba, .traffic_class = 0};

    g_assert_cmpint(one_in(sink, &one, &other), ==, COLO_VERDICT_RELEASED);
}

static void test_hop_limit_has_meaning(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const Shell one = {.hop_limit = 63};

    g_assert_cmpint(one_in(sink, &one, &plain), !=, COLO_VERDICT_RELEASED);
}

static void test_dscp_has_meaning(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    const Shell one = {.traffic_class = 0x20};

    g_assert_cmpint(one_in(sink, &one, &plain), !=, COLO_VERDICT_RELEASED);
}

static const uint8_t hop_by_hop[] = {60, 0, 5, 2, 0, 0, 1, 0};     /* router alert */
static const uint8_t destination[] = {6, 0, 1, 4, 0, 0, 0, 0};     /* padding */
static const uint8_t other_option[] = {6, 0, 0x1e, 4, 1, 2, 3, 4}; /* an experiment */

static Shell with(uint8_t chain[16], const uint8_t second[8])
{
    memcpy(chain, hop_by_hop, 8);
    memcpy(chain + 8, second, 8);
    return (Shell){.extensions = chain, .extensions_len = 16};
}

static void test_extensions_are_passed(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t chain[16];
    Shell shell = with(chain, destination);

    g_assert_cmpint(one_in(sink, &shell, &shell), ==, COLO_VERDICT_RELEASED);
}

static void test_extensions_have_meaning(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t chain[16], other[16];
    Shell one = with(chain, destination), two = with(other, other_option);

    g_assert_cmpint(one_in(sink, &one, &two), !=, COLO_VERDICT_RELEASED);
}

/* @len bytes of @protocol from both copies; the primary's has another flow label, and another
 * checksum at @sum_at (0: none). */
static ColoVerdict one_of(Sink *sink, unsigned protocol, const void *p, const void *s, size_t len,
                          size_t sum_at)
{
    uint8_t frame[200];
    const Shell label = {.label = 77};

    memcpy(frame + L4_AT, s, len);
    feed(sink, false, frame, put_ipv6(frame, protocol, &plain, len));
    memcpy(frame + L4_AT, p, len);
    if (sum_at)
        put16(frame + L4_AT + sum_at, 0xabcd);
    return feed(sink, true, frame, put_ipv6(frame, protocol, &label, len));
}

static void test_udp(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_cmpint(one_of(sink, 17, "\0\x35\1\2\0\xb\0\0abc", "\0\x35\1\2\0\xb\0\0abc", 11, 6), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(one_of(sink, 17, "\0\x35\1\2\0\xb\0\0abc", "\0\x35\1\2\0\xb\0\0abd", 11, 6), ==,
                    COLO_VERDICT_DIVERGED);
}

static void test_icmpv6(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    /* An echo reply, and a neighbour advertisement. */
    g_assert_cmpint(one_of(sink, 58, "\x81\0\0\0\1\2\0\1ping", "\x81\0\0\0\1\2\0\1ping", 12, 0), ==,
                    COLO_VERDICT_RELEASED);
    g_assert_cmpint(
        one_of(sink, 58, "\x88\0\0\0\x60\0\0\0address", "\x88\0\0\0\x60\0\0\0address", 15, 0), ==,
        COLO_VERDICT_RELEASED);
    g_assert_cmpint(
        one_of(sink, 58, "\x88\0\0\0\x60\0\0\0address", "\x88\0\0\0\x60\0\0\0another", 15, 0), ==,
        COLO_VERDICT_DIVERGED);
}

/* A segment of 64 KiB that the primary's device would cut (VIRTIO_NET_HDR_GSO_TCPV6), with a
 * partial checksum, against full segments. */
static void test_gso_against_segments(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    static uint8_t stream[64000], frame[MAX_FRAME];
    const Segment large = {.seq = 101,
                           .ack = 1001,
                           .flags = ACK,
                           .window = 500,
                           .data = stream,
                           .len = sizeof(stream)};
    size_t len;

    for (size_t i = 0; i < sizeof(stream); i++)
        stream[i] = (uint8_t)g_test_rand_int();
    handshake6(sink);
    len = put_tcp6(frame, &plain, &large);
    frame[0] = 1; /* VIRTIO_NET_HDR_F_NEEDS_CSUM */
    frame[1] = 4;
    put16(frame + 4, 1440);
    put16(frame + L4_AT + 16, 0x1234);
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_HELD);
    for (size_t at = 0; at < sizeof(stream); at += 1280) {
        g_assert_cmpuint(sink->left->len, ==, 1); /* the SYN-ACK */
        S6(sink, .seq = 101 + (uint32_t)at, .ack = 1001, .flags = ACK, .window = 500,
           .data = stream + at, .len = 1280);
    }
    g_assert_cmpuint(sink->left->len, ==, 2);
}

/* The device's work of one copy, and the guest's own of the other. */
static void test_udp_partial_checksum(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    static const char text[] = "\0\x35\1\2\0\xb\x12\x34"
                               "abc";
    uint8_t frame[200];
    size_t len;

    memcpy(frame + L4_AT, text, 11);
    len = put_ipv6(frame, 17, &plain, 11);
    feed(sink, false, frame, len);
    frame[0] = 1;
    put16(frame + L4_AT + 6, 0x4321);
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_RELEASED);
    feed(sink, false, frame, len);
    frame[L4_AT + 9] ^= 1;
    g_assert_cmpint(feed(sink, true, frame, len), ==, COLO_VERDICT_DIVERGED);
}

/* A service tag and a customer tag (802.1ad) before an IPv6 stream: other cuts agree, another tag
 * is another flow. */
static void test_tagged_stream(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    static const uint8_t tags[] = {0x88, 0xa8, 0, 5, 0x81, 0, 0, 7};
    static const struct {
        bool primary;
        uint8_t tag;
        uint32_t seq;
        const char *text;
        unsigned left; /* by then */
    } steps[] = {{false, 7, 1, "ab", 0},
                 {false, 7, 3, "cd", 0},
                 {true, 8, 1, "abcd", 0},
                 {true, 7, 1, "abcd", 1},
                 {false, 8, 1, "abcd", 2}};

    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        static uint8_t bare[200], frame[200];
        size_t len = put_tcp6(bare, &plain,
                              &(Segment){.seq = steps[i].seq,
                                         .ack = 9,
                                         .flags = ACK,
                                         .data = steps[i].text,
                                         .len = strlen(steps[i].text)});

        memcpy(frame, bare, VNET + 12);
        memcpy(frame + VNET + 12, tags, sizeof(tags));
        frame[VNET + 19] = steps[i].tag;
        memcpy(frame + VNET + 12 + sizeof(tags), bare + VNET + 12, len - VNET - 12);
        feed(sink, steps[i].primary, frame, len + sizeof(tags));
        g_assert_cmpuint(sink->left->len, ==, steps[i].left);
    }
}

/* A routing header changes the address that a checksum covers, and what follows an authentication
 * header may be encrypted: by content, for which the label has no meaning. */
static void test_other_headers_by_content(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    static const char routing[] = "\6\2\2\1\0\0\0\0"
                                  "the next hop...."
                                  "rest";
    static const char authentication[] = "\6\4\0\0\0\0\1\0"
                                         "check value, and"
                                         "rest";
    const struct {
        unsigned protocol;
        const char *bytes;
    } cases[] = {{43, routing}, {51, authentication}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char other[28];

        memcpy(other, cases[i].bytes, 28);
        g_assert_cmpint(one_of(sink, cases[i].protocol, cases[i].bytes, other, 28, 0), ==,
                        COLO_VERDICT_RELEASED);
        other[27] ^= 1;
        g_assert_cmpint(one_of(sink, cases[i].protocol, cases[i].bytes, other, 28, 0), ==,
                        COLO_VERDICT_DIVERGED);
    }
}

/* Every length that a frame can be cut to, and every value of the first extension's length: no
 * read beyond the frame (a sanitizer sees it), and nothing leaves that has no twin. */
static void test_cut_frames(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    uint8_t frame[400], chain[16];
    Shell shell = with(chain, destination);
    const Segment segment = {.seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abc")};
    size_t len = put_tcp6(frame, &shell, &segment);

    for (size_t cut = VNET + ETH; cut < len; cut++)
        g_assert_cmpint(feed(sink, true, frame, cut), !=, COLO_VERDICT_RELEASED);
    for (unsigned size = 0; size < 256; size++) {
        frame[L4_AT + 1] = (uint8_t)size;
        g_assert_cmpint(feed(sink, true, frame, len), !=, COLO_VERDICT_RELEASED);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/compare/ipv6/" name, Sink, NULL, setup, function, teardown)
    ADD("segmentation-differs", test_segmentation_differs);
    ADD("I1/different-bytes-wait", test_i1_different_bytes_wait);
    ADD("I1/ack-is-clamped-and-owed", test_i1_ack_is_clamped_and_owed);
    ADD("label-and-ecn-have-no-meaning", test_label_and_ecn_have_no_meaning);
    ADD("hop-limit-has-meaning", test_hop_limit_has_meaning);
    ADD("dscp-has-meaning", test_dscp_has_meaning);
    ADD("extensions-are-passed", test_extensions_are_passed);
    ADD("extensions-have-meaning", test_extensions_have_meaning);
    ADD("udp", test_udp);
    ADD("icmpv6", test_icmpv6);
    ADD("cut-frames", test_cut_frames);
    ADD("gso-against-segments", test_gso_against_segments);
    ADD("udp-partial-checksum", test_udp_partial_checksum);
    ADD("tagged-stream", test_tagged_stream);
    ADD("other-headers-by-content", test_other_headers_by_content);
    return g_test_run();
}
