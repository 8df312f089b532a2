/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files that read a frame share: frame.c and frame-ipv6.c. */
#pragma once

#include "comparator/frame.h"

#define VLAN_TAG 4u
#define PROTO_TCP 6u
#define PROTO_UDP 17u

static inline void colo_frame_add_mask(ColoFrameInfo *info, size_t at)
{
    info->mask[info->masks++] = (uint32_t)at;
}

static inline bool colo_frame_all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i])
            return false;
    }
    return true;
}

/* Offset and length of a fragment's payload are ones that a receiver takes (RFC 791 3.2, RFC 8200
 * 4.5): in units of 8 bytes but for the last, and none beyond 64 KiB. */
static inline bool colo_frame_fragment_is_legal(size_t headers, size_t at, size_t len, bool more)
{
    return len > 0 && (!more || len % 8 == 0) && headers + at + len <= 65535;
}

/* The TCP segment at @at that ends at @end of a frame of @len bytes. False when it has no whole
 * header. */
bool colo_frame_parse_tcp(const uint8_t *frame, size_t len, size_t at, size_t end,
                          ColoFrameInfo *info);

/* The IPv6 packet at @at; what cannot be read is left to be compared byte by byte. */
void colo_frame_parse_ipv6(const uint8_t *frame, size_t len, size_t at, const ColoHashKey *secret,
                           ColoFlowKey *key, ColoFrameInfo *info);
