/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/record.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void colo_record_init(ColoRecordReader *reader)
{
    reader->have = 0;
    reader->broken = false;
}

static bool header_is_legal(const ColoRecordHeader *header)
{
    uint32_t length = be32toh(header->length);

    if (length > COLO_RECORD_MAX || header->nic >= COLO_CMP_MAX_NICS ||
        be16toh(header->vnet) > length)
        return false;
    switch (header->type) {
    case COLO_RECORD_INPUT:
    case COLO_RECORD_OUTPUT:
        return true;
    case COLO_RECORD_SYN:
        return length <= COLO_RECORD_SYN_MAX;
    case COLO_RECORD_STATE:
        return length <= COLO_RECORD_STATE_MAX;
    case COLO_RECORD_HEARTBEAT:
        return length == sizeof(uint64_t);
    case COLO_RECORD_EPOCH:
    case COLO_RECORD_LOADED:
    case COLO_RECORD_BYE:
        return length == 0;
    default:
        return false;
    }
}

/* Moves bytes into the buffer until it holds @want; the number of bytes moved. */
static size_t gather(ColoRecordReader *reader, size_t want, const uint8_t *data, size_t len)
{
    size_t n = want - reader->have < len ? want - reader->have : len;

    memcpy(reader->buffer + reader->have, data, n);
    reader->have += n;
    return n;
}

static void read_record(ColoRecord *record, const ColoRecordHeader *header, const uint8_t *payload)
{
    record->type = header->type;
    record->nic = header->nic;
    record->vnet = be16toh(header->vnet);
    record->length = be32toh(header->length);
    record->epoch = be64toh(header->epoch);
    record->payload = payload;
}

size_t colo_record_feed(ColoRecordReader *reader, const uint8_t *data, size_t len,
                        ColoRecord *record, bool *got)
{
    ColoRecordHeader header;
    size_t taken = 0, whole;

    *got = false;
    if (reader->broken)
        return 0;
    if (reader->have == 0 && len >= sizeof(header)) {
        memcpy(&header, data, sizeof(header));
        reader->broken = !header_is_legal(&header);
        whole = sizeof(header) + be32toh(header.length);
        if (reader->broken)
            return 0;
        if (len >= whole) {
            read_record(record, &header, data + sizeof(header));
            *got = true;
            return whole;
        }
    }
    if (reader->have < sizeof(header)) {
        taken = gather(reader, sizeof(header), data, len);
        if (reader->have < sizeof(header))
            return taken;
    }
    memcpy(&header, reader->buffer, sizeof(header));
    if (!header_is_legal(&header)) {
        reader->broken = true;
        return 0;
    }
    whole = sizeof(header) + be32toh(header.length);
    taken += gather(reader, whole, data + taken, len - taken);
    if (reader->have < whole)
        return taken;
    read_record(record, &header, reader->buffer + sizeof(header));
    reader->have = 0;
    *got = true;
    return taken;
}

void colo_record_header(ColoRecordHeader *header, ColoRecordType type, uint8_t nic, uint16_t vnet,
                        uint32_t length, uint64_t epoch)
{
    header->length = htobe32(length);
    header->type = (uint8_t)type;
    header->nic = nic;
    header->vnet = htobe16(vnet);
    header->epoch = htobe64(epoch);
}

void colo_preface_build(ColoDataPreface *preface, const char *uuid, uint64_t generation,
                        const char *stream)
{
    memset(preface, 0, sizeof(*preface));
    preface->magic = htobe32(COLO_DATA_MAGIC);
    preface->version = htobe32(COLO_DATA_VERSION);
    preface->generation = htobe64(generation);
    strncpy(preface->uuid, uuid, sizeof(preface->uuid) - 1);
    strncpy(preface->stream, stream, sizeof(preface->stream) - 1);
}

bool colo_preface_matches(const ColoDataPreface *preface, const char *uuid, uint64_t generation,
                          const char *stream)
{
    ColoDataPreface expected;

    colo_preface_build(&expected, uuid, generation, stream);
    return memcmp(&expected, preface, sizeof(expected)) == 0;
}

bool colo_identity_parse(const char *identity, char uuid[40], uint64_t *generation, char stream[40])
{
    const char *first = strchr(identity, '/');
    const char *second = first ? strchr(first + 1, '/') : NULL;
    char *end;

    if (!second || first - identity != 36 || strlen(second + 1) == 0 || strlen(second + 1) > 39)
        return false;
    if (first[1] < '0' || first[1] > '9')
        return false;
    errno = 0;
    *generation = strtoull(first + 1, &end, 10);
    if (errno || end != second)
        return false;
    memset(uuid, 0, 40);
    memcpy(uuid, identity, 36);
    memset(stream, 0, 40);
    memcpy(stream, second + 1, strlen(second + 1));
    return true;
}
