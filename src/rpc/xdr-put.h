/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What bodies of libvirt's programs are made of (XDR, RFC 4506), appended to a byte array. */
#pragma once

#include "util/bytes.h"

#include <glib.h>
#include <string.h>

static inline void colo_xdr_put32(GByteArray *to, uint32_t value)
{
    uint8_t bytes[4];

    colo_put32(bytes, value);
    g_byte_array_append(to, bytes, sizeof(bytes));
}

static inline void colo_xdr_put64(GByteArray *to, uint64_t value)
{
    colo_xdr_put32(to, (uint32_t)(value >> 32));
    colo_xdr_put32(to, (uint32_t)value);
}

/* A string, or opaque bytes that are text. */
static inline void colo_xdr_put_string(GByteArray *to, const char *text)
{
    static const uint8_t zeros[4];
    guint len = (guint)strlen(text);

    colo_xdr_put32(to, len);
    g_byte_array_append(to, (const uint8_t *)text, len);
    g_byte_array_append(to, zeros, (4 - len % 4) % 4);
}
