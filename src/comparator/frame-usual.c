/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The usual frame, read with a few wide loads. What it yields is what colo_frame_parse() would:
 * test-frame-usual.c compares them. */
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

bool colo_frame_usual(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic, ColoFlowKey *key,
                      ColoFrameUsual *usual)
{
    size_t ip_at = vnet + ETH_HEADER, tcp_at = ip_at + IPV4_HEADER, header = TCP_HEADER;
    const uint8_t *ip = frame + ip_at, *tcp = frame + tcp_at;

    if (vnet > len || len - vnet < ETH_HEADER + IPV4_HEADER + TCP_HEADER)
        return false;
    if (load16(ip - 2) != htons(ETHERTYPE_IPV4) || ip[0] != IPV4_FIRST || ip[9] != PROTO_TCP ||
        (load16(ip + 6) & htons(IPV4_FRAGMENT)) || ntohs(load16(ip + 2)) != len - ip_at)
        return false;
    if (tcp[12] == ((TCP_HEADER + TS_OPTION) / 4) << 4) {
        header += TS_OPTION;
        if (len - tcp_at < header || load32(tcp + TCP_HEADER) != htonl(TS_OPTION_FIRST))
            return false;
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

    usual->seq = ntohl(load32(tcp + 4));
    usual->ack = ntohl(load32(tcp + 8));
    usual->window = ntohs(load16(tcp + 14));
    usual->payload_at = (uint32_t)(tcp_at + header);
    usual->payload_len = (uint32_t)(len - tcp_at - header);
    return true;
}

void colo_frame_usual_envelope(const uint8_t *frame, size_t vnet, ColoEnvelope *envelope)
{
    const uint8_t *ip = frame + vnet + ETH_HEADER;

    memcpy(envelope->macs, frame + vnet, 12);
    envelope->dscp = ip[1] & 0xfc;
    envelope->ttl = ip[8];
    envelope->flags = ip[6] & 0xe0;
    envelope->ihl = IPV4_HEADER;
    envelope->options = 0;
}

void colo_frame_usual_info(const uint8_t *frame, size_t vnet, const ColoFrameUsual *usual,
                           ColoFrameInfo *info)
{
    uint32_t ip_at = (uint32_t)vnet + ETH_HEADER, tcp_at = ip_at + IPV4_HEADER;

    memset(info, 0, sizeof(*info));
    info->tcp = true;
    info->masks = 2;
    info->mask[0] = ip_at + 4;
    info->mask[1] = ip_at + 10;
    info->flags = frame[tcp_at + 13];
    info->wscale = COLO_TCP_NO_WSCALE;
    info->window = usual->window;
    info->tcp_at = tcp_at;
    info->header_len = usual->payload_at - tcp_at;
    info->payload_at = usual->payload_at;
    info->payload_len = usual->payload_len;
    info->seq = usual->seq;
    info->ack = usual->ack;
    if (info->header_len > TCP_HEADER)
        info->ts_at = tcp_at + TCP_HEADER + 4;
    colo_frame_usual_envelope(frame, vnet, &info->envelope);
}
