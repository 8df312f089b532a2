/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the compare core reads out of one frame: the flow it belongs to, how it is compared, and for
 * TCP the fields of the segment. Pure functions; every offset counts from the frame's first byte,
 * the vnet header included. Nothing here trusts the frame: what cannot be parsed is compared byte
 * by byte.
 */
#pragma once

#include "util/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* TCP flags (RFC 9293 3.1). */
#define COLO_TCP_FIN 0x01u
#define COLO_TCP_SYN 0x02u
#define COLO_TCP_RST 0x04u
#define COLO_TCP_PSH 0x08u
#define COLO_TCP_ACK 0x10u
#define COLO_TCP_URG 0x20u
#define COLO_TCP_ECE 0x40u
#define COLO_TCP_CWR 0x80u

/* Fields of the virtio-net header that matter here (virtio 1.2, 5.1.6). */
#define COLO_VNET_FLAGS 0u
#define COLO_VNET_NEEDS_CSUM 1u
#define COLO_VNET_GSO_TYPE 1u
#define COLO_VNET_GSO_SIZE 4u
#define COLO_VNET_MIN 10u

/* No option of that kind. */
#define COLO_TCP_NO_WSCALE 0xffu

/* ColoFlowKey.kind */
enum {
    COLO_KIND_OTHER,
    COLO_KIND_IPV4,
    COLO_KIND_FRAGMENT,
    COLO_KIND_TCP,
    COLO_KIND_UDP,
    COLO_KIND_ICMP, /* and ICMPv6 */
    COLO_KIND_IPV6,
};

/* Everything that two frames share when they belong to one flow. All bytes count, padding is 0. */
typedef struct {
    uint8_t nic;
    uint8_t kind; /* of the parse: TCP, UDP, fragment...; keeps unlike things apart */
    uint8_t protocol;
    uint8_t tags; /* number of VLAN tags */
    uint16_t tci[2];
    uint16_t ethertype;
    uint16_t port[2];
    uint8_t pad[2];
    uint8_t address[32]; /* source and destination, or the two MACs */
} ColoFlowKey;

/* What must be the same on every segment around the stream: MACs, DSCP, TTL, IP flags, options.
 * Not in it: ECN bits, which tell of congestion and retransmission (RFC 3168 6.1.5), not content;
 * and IPv6 flow labels (RFC 6437), which hosts choose at random and change with a retransmission.
 */
typedef struct {
    uint8_t macs[12];
    uint8_t dscp;
    uint8_t ttl;      /* or hop limit */
    uint8_t flags;    /* IPv4: reserved, DF, MF in the upper bits; COLO_ENVELOPE_IPV6 */
    uint8_t ihl;      /* bytes of IP's headers, those of IPv6 extensions included */
    uint64_t options; /* keyed hash of the IPv4 options or IPv6 extensions, 0: none */
} ColoEnvelope;
#define COLO_ENVELOPE_IPV6 6u

/* In mask[]: not 16 bits but an IPv6 flow label, the 20 low bits of the 3 bytes there. */
#define COLO_MASK_LABEL 0x80000000u

#define COLO_FRAME_MASKS 3u

typedef struct {
    bool tcp;       /* compared as a stream */
    bool fragment;  /* compared with its datagram (fragment.h) */
    bool frag_more; /* and not its last */
    /* Neither: byte by byte without the masked fields. */
    uint8_t masks; /* 16-bit fields at mask[] are ignored in the comparison of content */
    uint32_t mask[COLO_FRAME_MASKS];

    /* TCP from here, and of fragments what is named so, payload and envelope. */
    bool twin; /* SYN, RST or unusual: wants one frame of the secondary that is the same */
    uint8_t flags;
    uint8_t wscale; /* shift count offered, or COLO_TCP_NO_WSCALE */
    uint8_t sacks;  /* SACK blocks */
    union {
        uint16_t window;
        uint16_t frag_protocol; /* as the fragment header says; IPv4: 0, the flow has it */
    };
    uint32_t tcp_at;
    uint32_t header_len; /* of TCP, with options */
    uint32_t payload_at;
    uint32_t payload_len;
    union {
        uint32_t seq; /* of the payload's first byte; of the SYN when there is one */
        uint32_t frag_id;
    };
    union {
        uint32_t ack;     /* 0 without the flag */
        uint32_t frag_at; /* bytes of the datagram's payload before this one's */
    };
    uint32_t ts_at;   /* of the timestamp option's 8 bytes, 0: none */
    uint32_t sack_at; /* of the SACK option's kind byte, 0: none */
    ColoEnvelope envelope;
} ColoFrameInfo;

typedef struct {
    uint64_t k0;
    uint64_t k1;
} ColoHashKey;

/* SipHash-1-3 (Aumasson, Bernstein 2012) of @len bytes: guests choose addresses and ports, so the
 * table's hash has a secret. */
uint64_t colo_frame_hash(const ColoHashKey *secret, const void *data, size_t len);

/* Fills @key and @info. False when @len does not hold a vnet header of @vnet bytes and an
 * Ethernet header. */
bool colo_frame_parse(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic,
                      const ColoHashKey *secret, ColoFlowKey *key, ColoFrameInfo *info);

/* What the short way wants of a usual frame. */
typedef struct {
    uint32_t seq;
    uint32_t ack;
    uint32_t payload_at;
    uint32_t payload_len;
    uint16_t window;
} ColoFrameUsual;

/* True for the frame that nearly all traffic consists of: untagged IPv4 without options, TCP with
 * no flag but ACK and PSH and no option but the timestamps. @key and @usual are filled in then, in
 * a fraction of the time of colo_frame_parse(). */
bool colo_frame_usual(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic, ColoFlowKey *key,
                      ColoFrameUsual *usual);

/* The rest of what colo_frame_parse() says of it. */
void colo_frame_usual_envelope(const uint8_t *frame, size_t vnet, ColoEnvelope *envelope);
void colo_frame_usual_info(const uint8_t *frame, size_t vnet, const ColoFrameUsual *usual,
                           ColoFrameInfo *info);

/* Same content: equal but for the masked fields (IPv4 identification and checksum, UDP checksum)
 * and for the vnet header, of which only the way to segment counts: it makes the datagrams. */
bool colo_frame_equal(const uint8_t *a, size_t a_len, const ColoFrameInfo *a_info, const uint8_t *b,
                      size_t b_len, const ColoFrameInfo *b_info, size_t vnet);

/* Two TCP frames of kind twin are the same but for IPv4 identification, checksums, window, PSH,
 * ECE and CWR (on a SYN these count: ECN is negotiated there), timestamps, and the acknowledgement
 * of a segment that is neither SYN nor RST. */
bool colo_frame_tcp_twin(const uint8_t *a, size_t a_len, const ColoFrameInfo *a_info,
                         const uint8_t *b, size_t b_len, const ColoFrameInfo *b_info);

static inline bool colo_envelope_equal(const ColoEnvelope *a, const ColoEnvelope *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* Sequence numbers wrap on purpose (RFC 9293 3.4): a is before b when less than 2^31 behind it. */
static inline bool colo_seq_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static inline bool colo_seq_beq(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) <= 0;
}

/* @seq lies in [@from, @to), also where it is 2^31 away from them and before both of them. */
static inline bool colo_seq_within(uint32_t seq, uint32_t from, uint32_t to)
{
    return seq - from < to - from;
}
