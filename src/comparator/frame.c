/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/frame-private.h"

#include <string.h>

#define ETH_HEADER 14u
#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define ETHERTYPE_QINQ 0x88a8u
#define VLAN_TAGS_MAX 2u

#define IPV4_MIN 20u
#define TCP_MIN 20u
#define PROTO_ICMP 1u

enum { OPT_EOL, OPT_NOP, OPT_MSS, OPT_WSCALE, OPT_SACK_OK, OPT_SACK, OPT_TS = 8 };

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND                \
    do {                        \
        v0 += v1;               \
        v1 = ROTL(v1, 13) ^ v0; \
        v0 = ROTL(v0, 32);      \
        v2 += v3;               \
        v3 = ROTL(v3, 16) ^ v2; \
        v0 += v3;               \
        v3 = ROTL(v3, 21) ^ v0; \
        v2 += v1;               \
        v1 = ROTL(v1, 17) ^ v2; \
        v2 = ROTL(v2, 32);      \
    } while (0)

uint64_t colo_frame_hash(const ColoHashKey *secret, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t v0 = secret->k0 ^ 0x736f6d6570736575ull, v1 = secret->k1 ^ 0x646f72616e646f6dull;
    uint64_t v2 = secret->k0 ^ 0x6c7967656e657261ull, v3 = secret->k1 ^ 0x7465646279746573ull;
    uint64_t last = (uint64_t)len << 56, m;
    size_t left = len;

    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&m, p, 8);
        v3 ^= m;
        SIPROUND;
        v0 ^= m;
    }
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)p[i] << (8 * i);
    v3 ^= last;
    SIPROUND;
    v0 ^= last;
    v2 ^= 0xff;
    SIPROUND;
    SIPROUND;
    SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

/*
 * Options between @at and @end. Sets what is found; false when they are malformed or hold a kind
 * that is not expected on this segment: such a segment is compared whole.
 */
static bool parse_options(const uint8_t *frame, size_t at, size_t end, ColoFrameInfo *info)
{
    bool syn = info->flags & COLO_TCP_SYN;

    while (at < end) {
        uint8_t kind = frame[at], len;

        if (kind == OPT_EOL)
            return colo_frame_all_zero(frame + at, end - at);
        if (kind == OPT_NOP) {
            at++;
            continue;
        }
        if (end - at < 2)
            return false;
        len = frame[at + 1];
        if (len < 2 || len > end - at)
            return false;
        if (kind == OPT_TS && len == 10 && !info->ts_at) {
            info->ts_at = (uint32_t)at + 2;
        } else if (kind == OPT_SACK && !syn && len >= 10 && (len - 2) % 8 == 0 && !info->sack_at) {
            info->sack_at = (uint32_t)at;
            info->sacks = (uint8_t)((len - 2) / 8);
        } else if (kind == OPT_WSCALE && syn && len == 3) {
            info->wscale = frame[at + 2] > 14 ? 14 : frame[at + 2]; /* RFC 7323 2.3 */
        } else if (!(syn && ((kind == OPT_MSS && len == 4) || (kind == OPT_SACK_OK && len == 2)))) {
            return false;
        }
        at += len;
    }
    return true;
}

bool colo_frame_parse_tcp(const uint8_t *frame, size_t len, size_t at, size_t end,
                          ColoFrameInfo *info)
{
    const uint8_t *tcp = frame + at;
    size_t header;
    bool usual;

    if (end - at < TCP_MIN)
        return false;
    header = (size_t)(tcp[12] >> 4) * 4;
    if (header < TCP_MIN || header > end - at)
        return false;
    info->tcp = true;
    info->tcp_at = (uint32_t)at;
    info->header_len = (uint32_t)header;
    info->payload_at = (uint32_t)(at + header);
    info->payload_len = (uint32_t)(end - at - header);
    info->seq = colo_get32(tcp + 4);
    info->flags = tcp[13];
    info->ack = info->flags & COLO_TCP_ACK ? colo_get32(tcp + 8) : 0;
    info->window = colo_get16(tcp + 14);
    info->wscale = COLO_TCP_NO_WSCALE;
    usual = parse_options(frame, at + TCP_MIN, at + header, info);
    /* Reserved bits (the lowest is accurate ECN's), urgent data, bytes after the IP packet, a
     * segment of an established connection without ACK: legal or not, compared whole. */
    usual = usual && !(tcp[12] & 0x0e) && !(info->flags & COLO_TCP_URG) &&
            colo_get16(tcp + 18) == 0 && colo_frame_all_zero(frame + end, len - end) &&
            (info->flags & COLO_TCP_ACK);
    info->twin = !usual || (info->flags & (COLO_TCP_SYN | COLO_TCP_RST));
    return true;
}

static void fill_envelope(const uint8_t *frame, size_t at, size_t ihl, uint8_t flags,
                          const ColoHashKey *secret, const ColoFlowKey *key, ColoEnvelope *e)
{
    const uint8_t *ip = frame + at;

    memcpy(e->macs, frame + at - ETH_HEADER - key->tags * VLAN_TAG, 12);
    e->dscp = ip[1] & 0xfc;
    e->flags = ip[6] & flags;
    e->ttl = ip[8];
    e->ihl = (uint8_t)ihl;
    if (ihl > IPV4_MIN)
        e->options = colo_frame_hash(secret, ip + IPV4_MIN, ihl - IPV4_MIN);
}

/* Fills in what makes the packet at @at a fragment; false when no receiver takes it for one. */
static bool parse_fragment(const uint8_t *frame, size_t len, size_t at, size_t ihl,
                           ColoFrameInfo *info)
{
    const uint8_t *ip = frame + at;
    size_t payload = colo_get16(ip + 2) - ihl;

    info->frag_at = (colo_get16(ip + 6) & 0x1fffu) * 8;
    info->frag_more = ip[6] & 0x20;
    info->frag_id = colo_get16(ip + 4);
    info->payload_at = (uint32_t)(at + ihl);
    info->payload_len = (uint32_t)payload;
    info->fragment = colo_frame_fragment_is_legal(ihl, info->frag_at, payload, info->frag_more) &&
                     colo_frame_all_zero(frame + at + ihl + payload, len - at - ihl - payload);
    return info->fragment;
}

static void parse_ipv4(const uint8_t *frame, size_t len, size_t at, const ColoHashKey *secret,
                       ColoFlowKey *key, ColoFrameInfo *info)
{
    const uint8_t *ip = frame + at;
    size_t ihl, total, l4;

    if (len - at < IPV4_MIN || ip[0] >> 4 != 4)
        return;
    ihl = (size_t)(ip[0] & 0xf) * 4;
    total = colo_get16(ip + 2);
    if (ihl < IPV4_MIN || total < ihl || total > len - at)
        return;
    colo_frame_add_mask(info, at + 4);  /* identification */
    colo_frame_add_mask(info, at + 10); /* header checksum */
    key->protocol = ip[9];
    memset(key->address, 0, sizeof(key->address));
    memcpy(key->address, ip + 12, 8);
    key->kind = COLO_KIND_IPV4;
    if (colo_get16(ip + 6) & 0x3fff) {
        if (parse_fragment(frame, len, at, ihl, info)) {
            key->kind = COLO_KIND_FRAGMENT;
            /* DF and the reserved bit: where a datagram is cut is its sender's affair. */
            fill_envelope(frame, at, ihl, 0xc0, secret, key, &info->envelope);
            info->envelope.dscp = frame[at + 1]; /* with ECN: content, as of any datagram */
        }
        return;
    }
    l4 = at + ihl;
    total -= ihl;
    if (ip[9] == PROTO_TCP && colo_frame_parse_tcp(frame, len, l4, l4 + total, info)) {
        key->kind = COLO_KIND_TCP;
        memcpy(key->port, frame + l4, 4);
        fill_envelope(frame, at, ihl, 0xe0, secret, key, &info->envelope);
    } else if (ip[9] == PROTO_UDP && total >= 8) {
        key->kind = COLO_KIND_UDP;
        memcpy(key->port, frame + l4, 4);
        colo_frame_add_mask(info, l4 + 6);
    } else if (ip[9] == PROTO_ICMP && total >= 8) {
        key->kind = COLO_KIND_ICMP;
        memcpy(&key->port[0], frame + l4, 2); /* type and code */
        if (frame[l4] == 0 || frame[l4] == 8)
            memcpy(&key->port[1], frame + l4 + 4, 2); /* echo's identifier */
    }
}

bool colo_frame_parse(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic,
                      const ColoHashKey *secret, ColoFlowKey *key, ColoFrameInfo *info)
{
    size_t at = vnet + ETH_HEADER;
    uint16_t type;

    memset(key, 0, sizeof(*key));
    memset(info, 0, sizeof(*info));
    if (vnet > len || len - vnet < ETH_HEADER)
        return false;
    key->nic = nic;
    memcpy(key->address, frame + vnet, 12);
    type = colo_get16(frame + vnet + 12);
    while ((type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) && key->tags < VLAN_TAGS_MAX &&
           len - at >= VLAN_TAG) {
        memcpy(&key->tci[key->tags++], frame + at, 2);
        type = colo_get16(frame + at + 2);
        at += VLAN_TAG;
    }
    key->ethertype = type;
    if (type == ETHERTYPE_IPV4)
        parse_ipv4(frame, len, at, secret, key, info);
    else if (type == ETHERTYPE_IPV6)
        colo_frame_parse_ipv6(frame, len, at, secret, key, info);
    return true;
}

/* Where @range bytes of both frames lie. */
static bool same(const uint8_t *a, const uint8_t *b, size_t from, size_t to)
{
    return memcmp(a + from, b + from, to - from) == 0;
}

bool colo_frame_equal(const uint8_t *a, size_t a_len, const ColoFrameInfo *a_info, const uint8_t *b,
                      size_t b_len, const ColoFrameInfo *b_info, size_t vnet)
{
    size_t at = vnet;

    if (a_len != b_len || a_info->masks != b_info->masks)
        return false;
    if (vnet >= COLO_VNET_MIN && (a[COLO_VNET_GSO_TYPE] != b[COLO_VNET_GSO_TYPE] ||
                                  !same(a, b, COLO_VNET_GSO_SIZE, COLO_VNET_GSO_SIZE + 2)))
        return false;
    for (unsigned i = 0; i < a_info->masks; i++) {
        size_t to = a_info->mask[i] & ~COLO_MASK_LABEL;
        bool label = a_info->mask[i] & COLO_MASK_LABEL;

        if (a_info->mask[i] != b_info->mask[i] || !same(a, b, at, to) ||
            (label && ((a[to] ^ b[to]) & 0xf0)))
            return false;
        at = to + (label ? 3 : 2);
    }
    return same(a, b, at, a_len);
}

bool colo_frame_tcp_twin(const uint8_t *a, size_t a_len, const ColoFrameInfo *a_info,
                         const uint8_t *b, size_t b_len, const ColoFrameInfo *b_info)
{
    uint8_t ignore = COLO_TCP_PSH;
    size_t at = a_info->tcp_at;

    if (!(a_info->flags & COLO_TCP_SYN))
        ignore |= COLO_TCP_ECE | COLO_TCP_CWR;
    if (a_len != b_len || at != b_info->tcp_at || a_info->header_len != b_info->header_len ||
        a_info->payload_len != b_info->payload_len || a_info->ts_at != b_info->ts_at ||
        ((a_info->flags ^ b_info->flags) & (uint8_t)~ignore) ||
        !colo_envelope_equal(&a_info->envelope, &b_info->envelope))
        return false;
    if (a_info->seq != b_info->seq)
        return false;
    if ((a_info->flags & (COLO_TCP_SYN | COLO_TCP_RST)) && a_info->ack != b_info->ack)
        return false;
    if (((a[at + 12] ^ b[at + 12]) & 0xfe) || !same(a, b, at + 18, at + 20))
        return false;
    if (!a_info->ts_at)
        return same(a, b, at + TCP_MIN, a_len);
    return same(a, b, at + TCP_MIN, a_info->ts_at) && same(a, b, a_info->ts_at + 8, a_len);
}
