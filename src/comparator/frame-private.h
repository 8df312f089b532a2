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

/* The TCP segment at @at that ends at @end of a frame of @len bytes. False when it has no whole
 * header. */
bool colo_frame_parse_tcp(const uint8_t *frame, size_t len, size_t at, size_t end,
                          ColoFrameInfo *info);

/* The IPv6 packet at @at; what cannot be read is left to be compared byte by byte. */
void colo_frame_parse_ipv6(const uint8_t *frame, size_t len, size_t at, const ColoHashKey *secret,
                           ColoFlowKey *key, ColoFrameInfo *info);
