/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The TCP segment in a frame, as the rewriter wants it: which connection it belongs to, where its
 * numbers are, and how to change one with the checksum kept right. Pure functions; nothing here
 * trusts the frame. Every offset counts from the frame's first byte, the vnet header included.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One connection as the guest sees it, whichever way a segment goes. All bytes count, padding is
 * 0. An IPv4 address is the first 4 of its 16 bytes. */
typedef struct {
    uint8_t nic;
    uint8_t family; /* 4 or 6 */
    uint8_t tags;   /* VLAN tags */
    uint8_t pad;
    uint16_t vid[2]; /* of each tag, without priority: that may differ between the directions */
    uint16_t local_port, remote_port;
    uint8_t local[16], remote[16];
} ColoConnection;

typedef struct {
    ColoConnection connection;
    bool partial;   /* the checksum covers addresses only: the device finishes it */
    bool is_signed; /* TCP-MD5 or TCP-AO (RFC 2385, 5925): no number may be changed */
    uint8_t flags;  /* COLO_TCP_* */
    uint8_t sacks;  /* SACK blocks */
    uint32_t tcp_at;
    uint32_t seq;
    uint32_t ack;     /* 0 without the flag */
    uint32_t length;  /* in sequence space: payload, SYN and FIN */
    uint32_t ts_at;   /* of the timestamp option's 8 bytes, 0: none */
    uint32_t sack_at; /* of the first SACK block, 0: none */
} ColoSegment;

/* Reads the frame that the guest of @nic sent, or with @to_guest is sent. False when it holds no
 * whole TCP header: another protocol, a fragment, encrypted, malformed. */
bool colo_segment_read(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic, bool to_guest,
                       ColoSegment *segment);

/* What an ICMP error for the guest quotes of one of its own segments (RFC 792, 4443). */
typedef struct {
    ColoConnection connection;
    bool partial;     /* as in ColoSegment */
    uint32_t seq_at;  /* of the quoted sequence number */
    uint32_t icmp_at; /* of the message, whose checksum covers it */
} ColoQuote;

/* False when the frame is no ICMP error that quotes at least the ports and sequence number of a TCP
 * segment. The quoted segment's own checksum is nobody's concern. */
bool colo_segment_read_quote(const uint8_t *frame, size_t len, size_t vnet, uint8_t nic,
                             ColoQuote *quote);

/* As colo_segment_add(), of the quoted sequence number. */
void colo_segment_add_quote(uint8_t *frame, const ColoQuote *quote, uint32_t delta);

/* False when the frame is certainly no TCP segment with SYN; reads a few bytes only. */
bool colo_segment_may_be_syn(const uint8_t *frame, size_t len, size_t vnet);

/* Adds @delta to the 32-bit number at @at of the TCP header or its options, on purpose modulo 2^32,
 * and keeps the checksum right (RFC 1624, equation 3). */
void colo_segment_add(uint8_t *frame, const ColoSegment *segment, uint32_t at, uint32_t delta);
