/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as the packet stream of a peer, and as a TLS identity. Whole or in
 * pieces they must read the same, and a record never promises more than it holds. The first byte
 * chooses the size of the pieces.
 *
 * Sources: src/comparator/record.c, with clang -fsanitize=fuzzer,address,undefined
 */
#include "comparator/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t run(const uint8_t *data, size_t size, size_t step)
{
    static ColoRecordReader reader;
    uint64_t sum = 0;
    size_t at = 0;

    colo_record_init(&reader);
    while (at < size && !reader.broken) {
        size_t piece = step < size - at ? step : size - at;
        ColoRecord record;
        bool got;
        size_t n = colo_record_feed(&reader, data + at, piece, &record, &got);

        if (reader.broken)
            break;
        if (n == 0 || n > piece)
            abort();
        at += n;
        if (!got)
            continue;
        if (record.length > COLO_RECORD_MAX || record.vnet > record.length ||
            record.nic >= COLO_CMP_MAX_NICS)
            abort();
        sum = sum * 31 + record.type + record.epoch;
        for (uint32_t i = 0; i < record.length; i++)
            sum = sum * 31 + record.payload[i];
    }
    return sum * 2 + reader.broken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char identity[256], uuid[40], stream[40];
    uint64_t generation;
    size_t n = size < sizeof(identity) - 1 ? size : sizeof(identity) - 1;

    if (size < 1)
        return 0;
    if (run(data + 1, size - 1, size) != run(data + 1, size - 1, (size_t)data[0] + 1))
        abort();
    memcpy(identity, data, n);
    identity[n] = '\0';
    if (colo_identity_parse(identity, uuid, &generation, stream) &&
        (strlen(uuid) != 36 || strlen(stream) > 39))
        abort();
    return 0;
}
