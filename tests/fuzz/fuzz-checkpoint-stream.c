/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as QEMU's checkpoint stream and return path. Whole or in pieces they
 * must read the same. The first byte chooses the size of the pieces.
 *
 * Sources: src/comparator/checkpoint-stream.c, with clang -fsanitize=fuzzer,address,undefined
 */
#include "comparator/checkpoint-stream.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A number that depends on every event and its place. */
static uint64_t run_forward(const uint8_t *data, size_t size, size_t step)
{
    ColoForwardParser parser;
    uint64_t sum = 0;
    size_t at = 0;

    colo_forward_init(&parser);
    while (at < size) {
        size_t piece = step < size - at ? step : size - at;
        ColoForwardEvent event;
        size_t n = colo_forward_feed(&parser, data + at, piece, &event);

        if (n == 0 || n > piece)
            abort();
        at += n;
        if (event == COLO_FORWARD_UNKNOWN)
            return sum * 31 + event;
        if (event != COLO_FORWARD_NOTHING)
            sum = (sum * 31 + event) * 31 + at;
    }
    return sum * 31 + (uint64_t)parser.state;
}

static uint64_t run_return(const uint8_t *data, size_t size, size_t step)
{
    ColoReturnParser parser;
    uint64_t sum = 0;
    size_t at = 0;

    colo_return_init(&parser);
    while (at < size) {
        size_t piece = step < size - at ? step : size - at;
        ColoReturnEvent event;
        size_t n = colo_return_feed(&parser, data + at, piece, &event);

        if (n == 0 || n > piece)
            abort();
        at += n;
        if (event == COLO_RETURN_UNKNOWN)
            return sum * 31 + event;
        if (event != COLO_RETURN_NOTHING)
            sum = (sum * 31 + event) * 31 + at;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t step;

    if (size < 1)
        return 0;
    step = (size_t)data[0] + 1;
    if (run_forward(data + 1, size - 1, size) != run_forward(data + 1, size - 1, step) ||
        run_return(data + 1, size - 1, size) != run_return(data + 1, size - 1, step))
        abort();
    return 0;
}
