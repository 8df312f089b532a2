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
#define ICMP_HEADER 8u
#define ICMP_CHECKSUM_AT 2u

/* IPv6 headers before TCP (RFC 8200 4). Each comes once at most, the destination options twice. */
enum {
    IP_HOP_BY_HOP = 0,
    IP_ICMP = 1,
    IP_TCP = 6,
    IP_ROUTING = 43,
    IP_FRAGMENT = 44,
    IP_ICMPV6 = 58,
    IP_DESTINATION = 60
};
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

/* The protocol of what an IPv4 packet at *@at carries, with *@at and *@end around it; -1 when it is
 * a fragment or malformed. @quoted: the packet may go on after the frame's end. */
static int skip_ipv4(const uint8_t *frame, size_t len, bool quoted, size_t *at, size_t *end)
{
    const uint8_t *ip = frame + *at;
    size_t header, total;

    if (len - *at < IPV4_MIN || ip[0] >> 4 != 4)
        return -1;
    header = (size_t)(ip[0] & 0xf) * 4;
    total = colo_get16(ip + 2);
    if (quoted && total > len - *at)
        total = len - *at;
    if (header < IPV4_MIN || total < header || total > len - *at)
        return -1;
    *end = *at + total;
    *at += header;
    return colo_get16(ip + 6) & 0x3fff ? -1 : ip[9];
}

static bool is_extension(uint8_t next)
{
    return next == IP_HOP_BY_HOP || next == IP_ROUTING || next == IP_FRAGMENT ||
           next == IP_DESTINATION;
}

/* The same for IPv6. */
static int skip_ipv6(const uint8_t *frame, size_t len, bool quoted, size_t *at, size_t *end)
{
    const uint8_t *ip = frame + *at;
    uint8_t next;
    size_t total;

    if (len - *at < IPV6_HEADER || ip[0] >> 4 != 6)
        return -1;
    next = ip[6];
    total = colo_get16(ip + 4);
    *at += IPV6_HEADER;
    if (quoted && total > len - *at)
        total = len - *at;
    if (total > len - *at)
        return -1;
    *end = *at + total;
    for (unsigned i = 0; is_extension(next) && i < IPV6_EXTENSIONS_MAX; i++) {
        const uint8_t *header = frame + *at;
        size_t size;

        if (*end - *at < 8)
            return -1;
        size = next == IP_FRAGMENT ? 8 : 8 + (size_t)header[1] * 8;
        /* In more than one piece (RFC 6946). */
        if (next == IP_FRAGMENT && (colo_get16(header + 2) & 0xfff9))
            return -1;
        if (size > *end - *at)
            return -1;
        next = header[0];
        *at += size;
    }
    return next;
}

/* Skips Ethernet and VLAN tags; the address family, with *@at behind them, or 0. */
static uint8_t skip_ethernet(const uint8_t *frame, size_t len, size_t vnet,
                             ColoConnection *connection, size_t *at)
{
    uint16_t type;

    *at = vnet + ETH_HEADER;
    if (vnet > len || len - vnet < ETH_HEADER)
        return 0;
    type = colo_get16(frame + *at - 2);
    while ((type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) && connection->tags < VLAN_TAGS_MAX &&
           len - *at >= VLAN_TAG) {
        connection->vid[connection->tags++] = colo_get16(frame + *at) & 0xfff;
        type = colo_get16(frame + *at + 2);
        *at += VLAN_TAG;
    }
    return type == ETHERTYPE_IPV4 ? 4 : type == ETHERTYPE_IPV6 ? 6 : 0;
}

static bool is_partial(const uint8_t *frame, size_t vnet)
{
    return vnet >= COLO_VNET_MIN && (frame[COLO_VNET_FLAGS] & COLO_VNET_NEEDS_CSUM);
}

/* Skips the IP header at *@at and its extensions, and reads the addresses in it. */
static int skip_ip(const uint8_t *frame, size_t len, bool quoted, bool to_guest,
                   ColoConnection *connection, size_t *at, size_t *end)
{
    size_t ip = *at;
    int protocol = connection->family == 4 ? skip_ipv4(frame, len, quoted, at, end)
                                           : skip_ipv6(frame, len, quoted, at, end);

    if (protocol >= 0 && connection->family == 4)
        read_addresses(frame + ip + 12, 4, to_guest, connection);
    else if (protocol >= 0)
        read_addresses(frame + ip + 8, 16, to_guest, connection);
    return protocol;
}

bool colo_segment_read(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic, bool to_guest,
                       ColoSegment *segment)
{
    ColoConnection *connection = &segment->connection;
    size_t at, end;

    memset(segment, 0, sizeof(*segment));
    connection->nic = nic;
    connection->family = skip_ethernet(frame, len, vnet, connection, &at);
    if (connection->family == 0)
        return false;
    segment->partial = is_partial(frame, vnet);
    return skip_ip(frame, len, false, to_guest, connection, &at, &end) == IP_TCP &&
           read_tcp(frame, at, end, to_guest, segment);
}

/* Types that quote a packet (RFC 792; RFC 4443 2.1). */
static bool is_error(uint8_t family, uint8_t type)
{
    return family == 4 ? type == 3 || type == 4 || type == 11 || type == 12
                       : type >= 1 && type <= 4;
}

bool colo_segment_read_quote(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic,
                             ColoQuote *quote)
{
    ColoConnection *connection = &quote->connection;
    size_t at, end;
    int protocol;

    memset(quote, 0, sizeof(*quote));
    connection->nic = nic;
    connection->family = skip_ethernet(frame, len, vnet, connection, &at);
    if (connection->family == 0)
        return false;
    quote->partial = is_partial(frame, vnet);
    protocol = skip_ip(frame, len, false, true, connection, &at, &end);
    if (protocol != (connection->family == 4 ? IP_ICMP : IP_ICMPV6) || end - at < ICMP_HEADER ||
        !is_error(connection->family, frame[at]))
        return false;
    quote->icmp_at = (uint32_t)at;
    at += ICMP_HEADER;
    /* The quoted packet went from the guest to the other end. */
    if (skip_ip(frame, end, true, false, connection, &at, &end) != IP_TCP || end - at < 8)
        return false;
    connection->local_port = colo_get16(frame + at);
    connection->remote_port = colo_get16(frame + at + 2);
    quote->seq_at = (uint32_t)at + TCP_SEQ_AT;
    return true;
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

/* One's complement sum of the words that the 4 bytes at @at touch, counted from @from on: an option
 * may lie at an odd place. */
static uint32_t sum_touched(const uint8_t *from, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = at & ~(size_t)1; i < at + 4; i += 2)
        sum += colo_get16(from + i);
    return sum;
}

/* Adds @delta to the number at @at of what @from begins, and keeps its checksum right. */
static void add(uint8_t *from, size_t at, size_t checksum_at, bool partial, uint32_t delta)
{
    uint32_t words = at & 1 ? 3 : 2, sum = (uint16_t)~colo_get16(from + checksum_at);

    /* Adding the complement of each old word is adding 0xffff for each and taking them off. */
    sum += words * 0xffff - sum_touched(from, at);
    colo_put32(from + at, colo_get32(from + at) + delta);
    if (partial)
        return;
    sum += sum_touched(from, at);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    colo_put16(from + checksum_at, (uint16_t)~sum);
}

void colo_segment_add(uint8_t *frame, const ColoSegment *segment, uint32_t at, uint32_t delta)
{
    add(frame + segment->tcp_at, at - segment->tcp_at, TCP_CHECKSUM_AT, segment->partial, delta);
}

void colo_segment_add_quote(uint8_t *frame, const ColoQuote *quote, uint32_t delta)
{
    add(frame + quote->icmp_at, quote->seq_at - quote->icmp_at, ICMP_CHECKSUM_AT, quote->partial,
        delta);
}
