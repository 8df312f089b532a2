/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TCP segments of both IP families for the tests of the rewriter, and their checksums. */
#pragma once

#include "comparator/rewrite.h"

#include <glib.h>
#include <string.h>

#define RW_VNET 12
#define RW_MAX (65536 + 256)

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

/* How a frame is made. */
typedef struct {
    gboolean v6;
    unsigned tags;        /* VLAN tags */
    unsigned extensions;  /* bytes of IPv4 options or IPv6 destination options, multiple of 8 */
    gboolean partial;     /* checksum left to the device */
    gboolean odd_options; /* one NOP shifts the options by a byte */
} Shape;

typedef struct {
    gboolean to_guest;
    unsigned port; /* of the other end; 0: 5000 */
    unsigned flags;
    uint32_t seq, ack;
    gboolean ts;
    uint32_t ts_val, ts_echo;
    unsigned sacks;
    uint32_t sack[3][2];
    gboolean is_signed; /* TCP-MD5 option */
    const char *data;
    size_t len;
} Seg;

static inline uint32_t rw_sum(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline size_t rw_ip_at(const Shape *shape)
{
    return RW_VNET + 14 + shape->tags * 4;
}

static inline size_t rw_tcp_at(const Shape *shape)
{
    return rw_ip_at(shape) + (shape->v6 ? 40 : 20) + shape->extensions;
}

/* Sum of the pseudo-header of a segment of @len bytes (RFC 9293 3.1, RFC 8200 8.1). */
static inline uint32_t rw_pseudo(const uint8_t *frame, const Shape *shape, size_t len)
{
    const uint8_t *ip = frame + rw_ip_at(shape);

    return shape->v6 ? rw_sum((uint32_t)len + 6, ip + 8, 32)
                     : rw_sum((uint32_t)len + 6, ip + 12, 8);
}

/* The checksum of the segment is what it has to be, computed anew. */
static inline void rw_assert_sum(const uint8_t *frame, size_t len, const Shape *shape)
{
    size_t at = rw_tcp_at(shape);
    uint32_t pseudo = rw_pseudo(frame, shape, len - at);

    if (shape->partial)
        g_assert_cmphex(colo_get16(frame + at + 16), ==, pseudo);
    else
        g_assert_cmphex(rw_sum(pseudo, frame + at, len - at), ==, 0xffff);
}

static inline size_t rw_put_options(uint8_t *to, const Shape *shape, const Seg *s)
{
    uint8_t *p = to;

    if (shape->odd_options)
        *p++ = 1;
    if (s->ts) {
        *p++ = 8;
        *p++ = 10;
        colo_put32(p, s->ts_val);
        colo_put32(p + 4, s->ts_echo);
        p += 8;
    }
    if (s->is_signed) {
        *p++ = 19;
        *p++ = 18;
        memset(p, 0x77, 16);
        p += 16;
    }
    if (s->sacks) {
        *p++ = 5;
        *p++ = (uint8_t)(2 + 8 * s->sacks);
        for (unsigned i = 0; i < s->sacks; i++, p += 8) {
            colo_put32(p, s->sack[i][0]);
            colo_put32(p + 4, s->sack[i][1]);
        }
    }
    while ((p - to) % 4)
        *p++ = 1;
    return (size_t)(p - to);
}

static inline size_t rw_put(uint8_t *frame, const Shape *shape, const Seg *s)
{
    size_t ip_at = rw_ip_at(shape), at = rw_tcp_at(shape), header, total;
    uint8_t *ip = frame + ip_at, *tcp = frame + at;
    unsigned other = s->port ? s->port : 5000;

    memset(frame, 0, at + 20);
    frame[0] = shape->partial ? 1 : 0;
    memcpy(frame + RW_VNET, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2", 12);
    for (unsigned i = 0; i < shape->tags; i++) {
        colo_put16(frame + RW_VNET + 12 + i * 4, i + 1 < shape->tags ? 0x88a8 : 0x8100);
        /* The priority differs between the directions. */
        colo_put16(frame + RW_VNET + 14 + i * 4, (uint16_t)((s->to_guest ? 0x2000 : 0) + 7 + i));
    }
    colo_put16(ip - 2, shape->v6 ? 0x86dd : 0x0800);
    header = 20 + rw_put_options(tcp + 20, shape, s);
    total = header + s->len;
    if (shape->v6) {
        ip[0] = 0x60;
        colo_put16(ip + 4, (uint16_t)(shape->extensions + total));
        ip[6] = shape->extensions ? 60 : 6;
        ip[7] = 64;
        memcpy(ip + (s->to_guest ? 24 : 8), "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
        memcpy(ip + (s->to_guest ? 8 : 24), "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
        if (shape->extensions) {
            ip[40] = 6;
            ip[41] = (uint8_t)(shape->extensions / 8 - 1);
            ip[42] = 1; /* PadN */
            ip[43] = (uint8_t)(shape->extensions - 4);
        }
    } else {
        ip[0] = (uint8_t)(0x45 + shape->extensions / 4);
        colo_put16(ip + 2, (uint16_t)(20 + shape->extensions + total));
        ip[8] = 64;
        ip[9] = 6;
        memcpy(ip + (s->to_guest ? 16 : 12), "\x0a\0\0\1", 4);
        memcpy(ip + (s->to_guest ? 12 : 16), "\x0a\0\0\2", 4);
        memset(ip + 20, 1, shape->extensions);
        colo_put16(ip + 10, (uint16_t)~rw_sum(0, ip, 20 + shape->extensions));
    }
    colo_put16(tcp + (s->to_guest ? 2 : 0), 80);
    colo_put16(tcp + (s->to_guest ? 0 : 2), (uint16_t)other);
    colo_put32(tcp + 4, s->seq);
    colo_put32(tcp + 8, s->flags & ACK ? s->ack : 0);
    tcp[12] = (uint8_t)(header / 4 << 4);
    tcp[13] = (uint8_t)s->flags;
    colo_put16(tcp + 14, 1000);
    if (s->len)
        memcpy(tcp + header, s->data, s->len);
    colo_put16(tcp + 16, (uint16_t)rw_pseudo(frame, shape, total));
    if (!shape->partial)
        colo_put16(
            tcp + 16,
            (uint16_t)~rw_sum(rw_pseudo(frame, shape, total) - colo_get16(tcp + 16), tcp, total));
    return at + total;
}

#define RW_TEXT(s) .data = (s), .len = sizeof(s) - 1
