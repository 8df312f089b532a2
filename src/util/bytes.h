/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Big-endian fields in bytes of any alignment. No GLib: the data plane uses it. */
#pragma once

#include <stdint.h>

static inline uint16_t colo_get16(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}

static inline uint32_t colo_get32(const uint8_t *p)
{
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}

static inline uint64_t colo_get64(const uint8_t *p)
{
    return (uint64_t)colo_get32(p) << 32 | colo_get32(p + 4);
}

static inline void colo_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void colo_put32(uint8_t *p, uint32_t v)
{
    colo_put16(p, (uint16_t)(v >> 16));
    colo_put16(p + 2, (uint16_t)v);
}
