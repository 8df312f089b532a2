/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IPv6 (RFC 8200) in the compare core. */
#include "comparator/frame-private.h"

#include <string.h>

#define ETH_HEADER 14u
#define IPV6_HEADER 40u
#define FRAGMENT_HEADER 8u
/* Extension headers before the payload: each comes once at most, the destination options twice
 * (RFC 8200 4.1). What has more is compared byte by byte. */
#define EXTENSIONS_MAX 3u
/* ColoEnvelope.ihl is a byte. */
#define HEADERS_MAX 255u

/* Not passed: a routing header, which changes the address that the checksum covers; what has one
 * is compared byte by byte. */
enum { HOP_BY_HOP = 0, FRAGMENT = 44, ICMPV6 = 58, DESTINATION = 60 };

enum { ICMPV6_ECHO_REQUEST = 128, ICMPV6_ECHO_REPLY = 129 };

/* Passes the extension headers between *@at and @end. Returns the payload's protocol; that of the
 * header where it stopped when there are too many, one is unknown or not whole, or at FRAGMENT. */
static uint8_t skip_extensions(const uint8_t *frame, size_t *at, size_t end, uint8_t next)
{
    for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
        size_t size;

        if ((next != HOP_BY_HOP && next != DESTINATION) || end - *at < 8)
            return next;
        size = 8 + (size_t)frame[*at + 1] * 8;
        if (size > end - *at)
            return next;
        next = frame[*at];
        *at += size;
    }
    return next;
}

static void fill_envelope(const uint8_t *frame, size_t at, size_t l4, const ColoHashKey *secret,
                          const ColoFlowKey *key, ColoEnvelope *e)
{
    const uint8_t *ip = frame + at;

    memcpy(e->macs, frame + at - ETH_HEADER - key->tags * VLAN_TAG, 12);
    e->dscp = (uint8_t)(ip[0] << 4 | ip[1] >> 4) & 0xfc;
    e->ttl = ip[7];
    e->flags = COLO_ENVELOPE_IPV6;
    e->ihl = (uint8_t)(l4 - at);
    if (l4 - at > IPV6_HEADER)
        e->options = colo_frame_hash(secret, ip + IPV6_HEADER, l4 - at - IPV6_HEADER);
}

/* Fills in what the fragment header at @l4 says; false when no receiver takes the packet for a
 * fragment. One that is all of its datagram ("atomic", RFC 6946) is one too. */
static bool parse_fragment(const uint8_t *frame, size_t len, size_t at, size_t l4, size_t end,
                           ColoFrameInfo *info)
{
    const uint8_t *header = frame + l4;

    info->frag_protocol = header[0];
    info->frag_at = colo_get16(header + 2) & 0xfff8u;
    info->frag_more = header[3] & 1;
    info->frag_id = colo_get32(header + 4);
    info->payload_at = (uint32_t)l4 + FRAGMENT_HEADER;
    info->payload_len = (uint32_t)(end - l4 - FRAGMENT_HEADER);
    info->fragment =
        header[1] == 0 && !(header[3] & 6) && l4 - at <= HEADERS_MAX &&
        colo_frame_fragment_is_legal(0, info->frag_at, info->payload_len, info->frag_more) &&
        colo_frame_all_zero(frame + end, len - end);
    return info->fragment;
}

void colo_frame_parse_ipv6(const uint8_t *frame, size_t len, size_t at, const ColoHashKey *secret,
                           ColoFlowKey *key, ColoFrameInfo *info)
{
    const uint8_t *ip = frame + at;
    size_t total, l4 = at + IPV6_HEADER, end;
    uint8_t protocol;

    if (len - at < IPV6_HEADER || ip[0] >> 4 != 6)
        return;
    total = colo_get16(ip + 4);
    if (total > len - l4)
        return;
    end = l4 + total;
    info->mask[info->masks++] = (uint32_t)(at + 1) | COLO_MASK_LABEL;
    memcpy(key->address, ip + 8, 32);
    key->kind = COLO_KIND_IPV6;
    protocol = skip_extensions(frame, &l4, end, ip[6]);
    key->protocol = protocol;
    if (protocol == FRAGMENT && end - l4 >= FRAGMENT_HEADER) {
        colo_frame_add_mask(info, l4 + 4); /* identification, 32 bits */
        colo_frame_add_mask(info, l4 + 6);
        if (parse_fragment(frame, len, at, l4, end, info)) {
            key->kind = COLO_KIND_FRAGMENT;
            fill_envelope(frame, at, l4, secret, key, &info->envelope);
            info->envelope.dscp = (uint8_t)(ip[0] << 4 | ip[1] >> 4); /* with ECN: content */
        }
    } else if (protocol == PROTO_TCP && l4 - at <= HEADERS_MAX &&
               colo_frame_parse_tcp(frame, len, l4, end, info)) {
        key->kind = COLO_KIND_TCP;
        memcpy(key->port, frame + l4, 4);
        fill_envelope(frame, at, l4, secret, key, &info->envelope);
    } else if (protocol == PROTO_UDP && end - l4 >= 8) {
        key->kind = COLO_KIND_UDP;
        memcpy(key->port, frame + l4, 4);
        colo_frame_add_mask(info, l4 + 6);
    } else if (protocol == ICMPV6 && end - l4 >= 8) {
        key->kind = COLO_KIND_ICMP;
        memcpy(&key->port[0], frame + l4, 2); /* type and code */
        if (frame[l4] == ICMPV6_ECHO_REQUEST || frame[l4] == ICMPV6_ECHO_REPLY)
            memcpy(&key->port[1], frame + l4 + 4, 2);
    }
}
