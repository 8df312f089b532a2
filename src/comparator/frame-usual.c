/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The usual frame, read with a few wide loads. What it yields is what colo_frame_parse() would:
 * test-frame-usual.c and the fuzzer compare them. */
#include "comparator/frame.h"

#include <arpa/inet.h>
#include <string.h>

#define ETH_HEADER 14u
#define ETHERTYPE_IPV4 0x0800u
#define IPV4_HEADER 20u
#define IPV4_FIRST 0x45u /* version and header length */
#define IPV4_FRAGMENT 0x3fffu
#define PROTO_TCP 6u
#define TCP_HEADER 20u
#define TS_OPTION 12u /* NOP, NOP, timestamps (RFC 7323 appendix A) */
#define TS_OPTION_FIRST 0x0101080au

/* In network order. */
static uint16_t load16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

bool colo_frame_parse_usual(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic,
                            ColoFlowKey *key, ColoFrameInfo *info)
{
    size_t ip_at = vnet + ETH_HEADER, tcp_at = ip_at + IPV4_HEADER, header = TCP_HEADER;
    const uint8_t *ip = frame + ip_at, *tcp = frame + tcp_at;
    uint32_t ts_at = 0;

    if (vnet > len || len - vnet < ETH_HEADER + IPV4_HEADER + TCP_HEADER)
        return false;
    if (load16(ip - 2) != htons(ETHERTYPE_IPV4) || ip[0] != IPV4_FIRST || ip[9] != PROTO_TCP ||
        (load16(ip + 6) & htons(IPV4_FRAGMENT)) || ntohs(load16(ip + 2)) != len - ip_at)
        return false;
    if (tcp[12] == ((TCP_HEADER + TS_OPTION) / 4) << 4) {
        header += TS_OPTION;
        if (len - tcp_at < header || load32(tcp + TCP_HEADER) != htonl(TS_OPTION_FIRST))
            return false;
        ts_at = (uint32_t)tcp_at + TCP_HEADER + 4;
    } else if (tcp[12] != (TCP_HEADER / 4) << 4) {
        return false;
    }
    if ((tcp[13] & ~COLO_TCP_PSH) != COLO_TCP_ACK || load16(tcp + 18) != 0)
        return false;

    memset(key, 0, sizeof(*key));
    key->nic = nic;
    key->kind = COLO_KIND_TCP;
    key->protocol = PROTO_TCP;
    key->ethertype = ETHERTYPE_IPV4;
    memcpy(key->port, tcp, 4);
    memcpy(key->address, ip + 12, 8);

    memset(info, 0, sizeof(*info));
    info->tcp = true;
    info->masks = 2;
    info->mask[0] = (uint32_t)ip_at + 4;
    info->mask[1] = (uint32_t)ip_at + 10;
    info->flags = tcp[13];
    info->wscale = COLO_TCP_NO_WSCALE;
    info->window = ntohs(load16(tcp + 14));
    info->tcp_at = (uint32_t)tcp_at;
    info->header_len = (uint32_t)header;
    info->payload_at = (uint32_t)(tcp_at + header);
    info->payload_len = (uint32_t)(len - tcp_at - header);
    info->seq = ntohl(load32(tcp + 4));
    info->ack = ntohl(load32(tcp + 8));
    info->ts_at = ts_at;
    memcpy(info->envelope.macs, frame + vnet, 12);
    info->envelope.dscp = ip[1] & 0xfc;
    info->envelope.ttl = ip[8];
    info->envelope.flags = ip[6] & 0xe0;
    info->envelope.ihl = IPV4_HEADER;
    return true;
}
