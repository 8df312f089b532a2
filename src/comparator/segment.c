/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/segment.h"

#include "comparator/frame.h"

#include <string.h>

#define ETH_HEADER 14u
#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define ETHERTYPE_QINQ 0x88a8u
#define VLAN_TAG 4u
#define VLAN_TAGS_MAX 2u

#define IPV4_MIN 20u
#define IPV6_HEADER 40u
#define TCP_MIN 20u
#define TCP_SEQ_AT 4u
#define TCP_ACK_AT 8u
#define TCP_FLAGS_AT 13u
#define TCP_CHECKSUM_AT 16u

/* IPv6 headers before TCP (RFC 8200 4). Each comes once at most, the destination options twice. */
enum { IP_HOP_BY_HOP = 0, IP_TCP = 6, IP_ROUTING = 43, IP_FRAGMENT = 44, IP_DESTINATION = 60 };
#define IPV6_EXTENSIONS_MAX 5u

enum { OPT_EOL, OPT_NOP, OPT_SACK = 5, OPT_TS = 8, OPT_MD5 = 19, OPT_AO = 29 };

/* Options that are unknown are passed over, and the walk ends at one that is malformed. */
static void read_options(const uint8_t *frame, size_t at, size_t end, ColoSegment *segment)
{
    while (at < end && frame[at] != OPT_EOL) {
        uint8_t kind = frame[at], len;

        if (kind == OPT_NOP) {
            at++;
            continue;
        }
        if (end - at < 2)
            return;
        len = frame[at + 1];
        if (len < 2 || len > end - at)
            return;
        if (kind == OPT_TS && len == 10 && !segment->ts_at) {
            segment->ts_at = (uint32_t)at + 2;
        } else if (kind == OPT_SACK && len >= 10 && (len - 2) % 8 == 0 && !segment->sack_at) {
            segment->sack_at = (uint32_t)at + 2;
            segment->sacks = (uint8_t)((len - 2) / 8);
        } else if (kind == OPT_MD5 || kind == OPT_AO) {
            segment->is_signed = true;
        }
        at += len;
    }
}

static bool read_tcp(const uint8_t *frame, size_t at, size_t end, bool to_guest,
                     ColoSegment *segment)
{
    const uint8_t *tcp = frame + at;
    ColoConnection *connection = &segment->connection;
    size_t header;

    if (end - at < TCP_MIN)
        return false;
    header = (size_t)(tcp[12] >> 4) * 4;
    if (header < TCP_MIN || header > end - at)
        return false;
    segment->tcp_at = (uint32_t)at;
    segment->flags = tcp[TCP_FLAGS_AT];
    segment->seq = colo_get32(tcp + TCP_SEQ_AT);
    segment->ack = segment->flags & COLO_TCP_ACK ? colo_get32(tcp + TCP_ACK_AT) : 0;
    segment->length = (uint32_t)(end - at - header) + !!(segment->flags & COLO_TCP_SYN) +
                      !!(segment->flags & COLO_TCP_FIN);
    connection->local_port = colo_get16(tcp + (to_guest ? 2 : 0));
    connection->remote_port = colo_get16(tcp + (to_guest ? 0 : 2));
    read_options(frame, at + TCP_MIN, at + header, segment);
    return true;
}

static void read_addresses(const uint8_t *source, size_t size, bool to_guest,
                           ColoConnection *connection)
{
    memcpy(to_guest ? connection->remote : connection->local, source, size);
    memcpy(to_guest ? connection->local : connection->remote, source + size, size);
}

/* True with *@at and *@end around what IPv4 carries, when that is a whole TCP segment. */
static bool skip_ipv4(const uint8_t *frame, size_t len, size_t *at, size_t *end)
{
    const uint8_t *ip = frame + *at;
    size_t header, total;

    if (len - *at < IPV4_MIN || ip[0] >> 4 != 4)
        return false;
    header = (size_t)(ip[0] & 0xf) * 4;
    total = colo_get16(ip + 2);
    if (header < IPV4_MIN || total < header || total > len - *at)
        return false;
    *end = *at + total;
    *at += header;
    return ip[9] == IP_TCP && !(colo_get16(ip + 6) & 0x3fff);
}

/* The same for IPv6. */
static bool skip_ipv6(const uint8_t *frame, size_t len, size_t *at, size_t *end)
{
    const uint8_t *ip = frame + *at;
    uint8_t next;
    size_t total;

    if (len - *at < IPV6_HEADER || ip[0] >> 4 != 6)
        return false;
    next = ip[6];
    total = colo_get16(ip + 4);
    *at += IPV6_HEADER;
    if (total > len - *at)
        return false;
    *end = *at + total;
    for (unsigned i = 0; next != IP_TCP && i < IPV6_EXTENSIONS_MAX; i++) {
        const uint8_t *header = frame + *at;
        size_t size;

        if (*end - *at < 8)
            return false;
        size = 8 + (size_t)header[1] * 8;
        if (next == IP_FRAGMENT) {
            if (colo_get16(header + 2) & 0xfff9) /* more than one piece (RFC 6946) */
                return false;
            size = 8;
        } else if (next != IP_HOP_BY_HOP && next != IP_ROUTING && next != IP_DESTINATION) {
            return false;
        }
        if (size > *end - *at)
            return false;
        next = header[0];
        *at += size;
    }
    return next == IP_TCP;
}

bool colo_segment_read(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic, bool to_guest,
                       ColoSegment *segment)
{
    ColoConnection *connection = &segment->connection;
    size_t at = vnet + ETH_HEADER, end;
    uint16_t type;

    memset(segment, 0, sizeof(*segment));
    if (vnet > len || len - vnet < ETH_HEADER)
        return false;
    connection->nic = nic;
    segment->partial =
        vnet >= COLO_VNET_MIN && (frame[COLO_VNET_FLAGS] & COLO_VNET_NEEDS_CSUM) != 0;
    type = colo_get16(frame + at - 2);
    while ((type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) && connection->tags < VLAN_TAGS_MAX &&
           len - at >= VLAN_TAG) {
        connection->vid[connection->tags++] = colo_get16(frame + at) & 0xfff;
        type = colo_get16(frame + at + 2);
        at += VLAN_TAG;
    }
    if (type == ETHERTYPE_IPV4 && len - at >= IPV4_MIN) {
        connection->family = 4;
        read_addresses(frame + at + 12, 4, to_guest, connection);
        return skip_ipv4(frame, len, &at, &end) && read_tcp(frame, at, end, to_guest, segment);
    }
    if (type == ETHERTYPE_IPV6 && len - at >= IPV6_HEADER) {
        connection->family = 6;
        read_addresses(frame + at + 8, 16, to_guest, connection);
        return skip_ipv6(frame, len, &at, &end) && read_tcp(frame, at, end, to_guest, segment);
    }
    return false;
}

bool colo_segment_may_be_syn(const uint8_t *frame, size_t len, size_t vnet)
{
    size_t at = vnet + ETH_HEADER;
    uint16_t type;

    if (vnet > len || len - vnet < ETH_HEADER + IPV4_MIN + TCP_MIN)
        return false;
    type = colo_get16(frame + at - 2);
    if (type == ETHERTYPE_IPV4) {
        if (frame[at + 9] != IP_TCP)
            return false;
        at += (size_t)(frame[at] & 0xf) * 4;
    } else if (type == ETHERTYPE_IPV6 && frame[at + 6] == IP_TCP) {
        at += IPV6_HEADER;
    } else {
        return type == ETHERTYPE_IPV6 || type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ;
    }
    return len >= at + TCP_MIN && (frame[at + TCP_FLAGS_AT] & COLO_TCP_SYN);
}

/* One's complement sum of the words of TCP that the 4 bytes at @at touch: an option may lie at an
 * odd place. */
static uint32_t sum_touched(const uint8_t *tcp, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = at & ~(size_t)1; i < at + 4; i += 2)
        sum += colo_get16(tcp + i);
    return sum;
}

void colo_segment_add(uint8_t *frame, const ColoSegment *segment, uint32_t at, uint32_t delta)
{
    uint8_t *tcp = frame + segment->tcp_at;
    size_t offset = at - segment->tcp_at, words = offset & 1 ? 3 : 2;
    uint32_t sum = (uint16_t)~colo_get16(tcp + TCP_CHECKSUM_AT);

    /* Adding the complement of each old word is adding 0xffff for each and taking them off. */
    sum += (uint32_t)words * 0xffff - sum_touched(tcp, offset);
    colo_put32(frame + at, colo_get32(frame + at) + delta);
    if (segment->partial)
        return;
    sum += sum_touched(tcp, offset);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    colo_put16(tcp + TCP_CHECKSUM_AT, (uint16_t)~sum);
}
