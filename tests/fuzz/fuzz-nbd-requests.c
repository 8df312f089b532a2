/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as what an NBD client says. Whole or in pieces they must count the
 * same. The first byte chooses the size of the pieces.
 *
 * Sources: src/comparator/nbd-requests.c, with clang -fsanitize=fuzzer,address,undefined
 */
#include "comparator/nbd-requests.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t run(const uint8_t *data, size_t size, size_t step)
{
    ColoNbdRequests parser;
    uint64_t last = 0;

    colo_nbd_requests_init(&parser);
    for (size_t at = 0; at < size;) {
        size_t piece = step < size - at ? step : size - at;

        if (!colo_nbd_requests_feed(&parser, data + at, piece))
            return ~parser.whole;
        if (parser.whole < last || parser.skip > COLO_NBD_WRITE_MAX)
            abort();
        last = parser.whole;
        at += piece;
    }
    return (parser.whole * 31 + (uint64_t)parser.state) * 31 + parser.skip + parser.have;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (run(data + 1, size - 1, size) != run(data + 1, size - 1, (size_t)data[0] + 1))
        abort();
    return 0;
}
