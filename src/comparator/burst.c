/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/burst.h"

#include <endian.h>
#include <string.h>

bool colo_burst_add(ColoBurst *burst, const uint8_t *data, size_t len, ColoChunk *chunk)
{
    struct iovec *last = burst->n ? &burst->piece[burst->n - 1] : NULL;

    if (last && burst->chunk[burst->n - 1] == chunk &&
        (const uint8_t *)last->iov_base + last->iov_len == data) {
        last->iov_len += len;
    } else {
        if (burst->n == COLO_BURST_PIECES)
            return false;
        colo_chunk_ref(chunk);
        burst->chunk[burst->n] = chunk;
        burst->piece[burst->n++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    }
    burst->bytes += len;
    return true;
}

void colo_burst_clear(ColoBurst *burst)
{
    for (unsigned i = 0; i < burst->n; i++)
        colo_chunk_unref(burst->chunk[i]);
    burst->n = 0;
    burst->bytes = 0;
}

size_t colo_burst_frame_end(const ColoBurst *burst, size_t at, size_t head)
{
    size_t end = 0;

    for (unsigned i = 0; i < burst->n && end < at; i++) {
        size_t in = 0;

        while (in < burst->piece[i].iov_len && end < at) {
            size_t whole;
            uint32_t be;

            memcpy(&be, (const uint8_t *)burst->piece[i].iov_base + in, sizeof(be));
            whole = head + be32toh(be);
            in += whole;
            end += whole;
        }
    }
    return end;
}
