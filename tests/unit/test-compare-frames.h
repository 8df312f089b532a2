/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames for the tests of the compare core, and a sink for what it lets go. */
#pragma once

#include "comparator/compare.h"

#include <glib.h>
#include <string.h>

#define VNET 12
#define ETH 14
#define IP_AT (VNET + ETH)
#define TCP_AT (IP_AT + 20)
#define MAX_FRAME COLO_COMPARE_FRAME_MAX

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32 };

/* One TCP segment of the guest. */
typedef struct {
    uint32_t seq, ack;
    unsigned flags;
    unsigned window;
    const void *data;
    size_t len;
    const void *options; /* multiple of 4 bytes */
    size_t options_len;
    unsigned ip_id;
    unsigned port; /* of the guest, 0: 80 */
    bool partial;  /* checksum left to the device */
} Segment;

static inline void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

static inline uint32_t get32(const uint8_t *p)
{
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}

static inline unsigned get16(const uint8_t *p)
{
    return ((unsigned)p[0] << 8) | p[1];
}

static inline uint16_t internet_sum(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* vnet, Ethernet and IPv4 headers for @len bytes of @protocol; @frame is cleared first. */
static inline void put_ipv4(uint8_t *frame, unsigned protocol, size_t len, unsigned id)
{
    uint8_t *ip = frame + IP_AT;

    memset(frame, 0, TCP_AT);
    memcpy(frame + VNET, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2\x08\0", ETH);
    ip[0] = 0x45;
    put16(ip + 2, 20 + (unsigned)len);
    put16(ip + 4, id);
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = (uint8_t)protocol;
    memcpy(ip + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
    put16(ip + 10, (uint16_t)~internet_sum(0, ip, 20));
}

/* Checksum of the TCP segment in @frame as it would have to be, 0 in place: RFC 9293 3.1. */
static inline uint16_t tcp_sum(const uint8_t *frame)
{
    const uint8_t *ip = frame + IP_AT, *tcp = frame + TCP_AT;
    size_t len = get16(ip + 2) - 20;
    uint32_t sum = internet_sum(6 + (uint32_t)len, ip + 12, 8);

    return internet_sum(sum, tcp, len);
}

static inline size_t put_tcp(uint8_t *frame, const Segment *s)
{
    uint8_t *tcp = frame + TCP_AT;
    size_t header = 20 + s->options_len;

    put_ipv4(frame, 6, header + s->len, s->ip_id);
    memset(tcp, 0, 20);
    put16(tcp, s->port ? s->port : 80);
    put16(tcp + 2, 5000);
    put32(tcp + 4, s->seq);
    put32(tcp + 8, s->flags & ACK ? s->ack : 0);
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = (uint8_t)s->flags;
    put16(tcp + 14, s->window);
    if (s->options_len)
        memcpy(tcp + 20, s->options, s->options_len);
    if (s->len)
        memcpy(tcp + header, s->data, s->len);
    if (s->partial) {
        frame[0] = 1;
        put16(tcp + 16, internet_sum(6 + (uint32_t)(header + s->len), frame + IP_AT + 12, 8));
    } else {
        put16(tcp + 16, (uint16_t)~tcp_sum(frame));
    }
    return TCP_AT + header + s->len;
}

static inline size_t put_udp(uint8_t *frame, unsigned port, const void *data, size_t len)
{
    put_ipv4(frame, 17, 8 + len, 0);
    memset(frame + TCP_AT, 0, 8);
    put16(frame + TCP_AT, port);
    put16(frame + TCP_AT + 2, 5000);
    put16(frame + TCP_AT + 4, 8 + (unsigned)len);
    memcpy(frame + TCP_AT + 8, data, len);
    return TCP_AT + 8 + len;
}

/* What left: copies in order. */
typedef struct {
    ColoCompare *compare;
    GPtrArray *left; /* GBytes */
    uint64_t now;
    uint64_t epoch;
} Sink;

static inline void sink_release(void *opaque, uint8_t nic, const uint8_t *frame, size_t len,
                                size_t vnet, ColoChunk *chunk G_GNUC_UNUSED)
{
    Sink *sink = opaque;

    g_assert_cmpuint(nic, ==, 0);
    g_assert_cmpuint(vnet, ==, VNET);
    g_ptr_array_add(sink->left, g_bytes_new(frame, len));
}

static inline void sink_init(Sink *sink, const ColoCompareLimits *limits)
{
    memset(sink, 0, sizeof(*sink));
    sink->left = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    sink->compare = colo_compare_new(limits, sink_release, sink);
    g_assert_nonnull(sink->compare);
}

static inline void sink_clear(Sink *sink)
{
    colo_compare_free(sink->compare);
    g_ptr_array_unref(sink->left);
}

static inline const uint8_t *sink_frame(Sink *sink, unsigned i, size_t *len)
{
    g_assert_cmpuint(i, <, sink->left->len);
    return g_bytes_get_data(g_ptr_array_index(sink->left, i), len);
}

/* The frame is given in a buffer of its own size, so that a sanitizer sees each overrun. */
static inline ColoVerdict feed(Sink *sink, bool primary, const uint8_t *frame, size_t len)
{
    g_autofree uint8_t *copy = g_memdup2(frame, len);

    sink->now++;
    return primary
               ? colo_compare_primary(sink->compare, 0, copy, len, VNET, sink->epoch, sink->now)
               : colo_compare_secondary(sink->compare, 0, copy, len, VNET, sink->epoch, sink->now);
}

static inline ColoVerdict feed_tcp(Sink *sink, bool primary, const Segment *segment)
{
    g_autofree uint8_t *frame = g_malloc(MAX_FRAME);

    return feed(sink, primary, frame, put_tcp(frame, segment));
}

#define P(sink, ...) feed_tcp(sink, true, &(Segment){__VA_ARGS__})
#define S(sink, ...) feed_tcp(sink, false, &(Segment){__VA_ARGS__})
#define TEXT(s) .data = (s), .len = sizeof(s) - 1

/* ---- what the tests of single behaviours share ---- */

static inline void setup(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    sink_init(sink, NULL);
}

static inline void teardown(Sink *sink, gconstpointer data G_GNUC_UNUSED)
{
    sink_clear(sink);
}

static inline uint64_t count(Sink *sink, ColoCompareCounter which)
{
    return colo_compare_counter(sink->compare, which);
}

static inline uint64_t held(Sink *sink)
{
    uint64_t frames;

    colo_compare_held(sink->compare, &frames, NULL);
    return frames;
}

/* Timestamps: NOP NOP 8 10 val ecr. */
#define TS(v) "\1\1\x8\xa\0\0\0" v "\0\0\0\1"
/* MSS, SACK-permitted, timestamps and window scale of a SYN, as Linux sends them. */
#define SYN_OPTIONS(ts, scale) "\2\4\5\xb4\4\2\x8\xa\0\0\0" ts "\0\0\0\0\1\3\3" scale

/* The handshake of a connection that the guest accepts; client data starts at 1001, the guest's at
 * 101. Window scale 7. */
static inline void handshake(Sink *sink)
{
    g_assert_cmpint(S(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK, .window = 64000,
                      .options = SYN_OPTIONS("\1", "\7"), .options_len = 20),
                    ==, COLO_VERDICT_TAKEN);
    g_assert_cmpint(P(sink, .seq = 100, .ack = 1001, .flags = SYN | ACK, .window = 64000,
                      .options = SYN_OPTIONS("\2", "\7"), .options_len = 20),
                    ==, COLO_VERDICT_RELEASED);
}
