/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as what an NBD server says. Whole or in pieces they must read the
 * same. The first byte chooses the size of the pieces.
 *
 * Sources: src/comparator/nbd-replies.c, with clang -fsanitize=fuzzer,address,undefined
 */
#include "comparator/nbd-replies.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A number that depends on every event and its place. */
static uint64_t run(const uint8_t *data, size_t size, size_t step)
{
    ColoNbdReplies parser;
    uint64_t sum = 0;
    size_t at = 0;

    colo_nbd_replies_init(&parser);
    while (at < size) {
        size_t piece = step < size - at ? step : size - at;
        ColoNbdEvent event;
        size_t n = colo_nbd_replies_feed(&parser, data + at, piece, &event);

        if (n == 0 || n > piece || (event != COLO_NBD_ERROR && n != piece))
            abort();
        at += n;
        if (event == COLO_NBD_UNKNOWN)
            return sum * 31 + event;
        if (event == COLO_NBD_ERROR) {
            if (parser.error == 0)
                abort();
            sum = (sum * 31 + parser.error) * 31 + at;
        }
    }
    return (sum * 31 + (uint64_t)parser.state) * 31 + parser.skip + parser.have;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (run(data + 1, size - 1, size) != run(data + 1, size - 1, (size_t)data[0] + 1))
        abort();
    return 0;
}
