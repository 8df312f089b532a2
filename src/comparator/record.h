/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of the packet stream (protocol.h) and the preface of every stream: bytes from outside
 * read incrementally. Pure; one thread.
 */
#pragma once

#include "comparator/protocol.h"

#include <stdbool.h>
#include <stddef.h>

/* A record read off the stream, in host byte order. */
typedef struct {
    ColoRecordType type;
    uint8_t nic;
    uint16_t vnet;
    uint32_t length;
    uint64_t epoch;
    const uint8_t *payload; /* in the bytes that were fed, or in the reader until the next call */
} ColoRecord;

typedef struct {
    uint8_t buffer[sizeof(ColoRecordHeader) + COLO_RECORD_MAX];
    size_t have;
    bool broken;
} ColoRecordReader;

void colo_record_init(ColoRecordReader *reader);

/*
 * Takes bytes from @data on until a record is whole; one that lies in them whole is not copied.
 * Returns the bytes taken; *got says whether
 * @record holds one. Returns 0 with reader->broken set when the stream is none of ours (unknown
 * type, a length over COLO_RECORD_MAX, a NIC out of bounds, a vnet header longer than the frame).
 */
size_t colo_record_feed(ColoRecordReader *reader, const uint8_t *data, size_t len,
                        ColoRecord *record, bool *got);

/* The payload lies in the reader: the next call may overwrite it. */
static inline bool colo_record_is_copy(const ColoRecordReader *reader, const ColoRecord *record)
{
    return record->payload == reader->buffer + sizeof(ColoRecordHeader);
}

/* Fills the header for the wire. */
void colo_record_header(ColoRecordHeader *header, ColoRecordType type, uint8_t nic, uint16_t vnet,
                        uint32_t length, uint64_t epoch);

/* The preface for the wire. */
void colo_preface_build(ColoDataPreface *preface, const char *uuid, uint64_t generation,
                        const char *stream);
/* True when @preface, as received, says exactly this. */
bool colo_preface_matches(const ColoDataPreface *preface, const char *uuid, uint64_t generation,
                          const char *stream);

/* Splits the TLS identity "UUID/GENERATION/STREAM". False when it is not of that form. */
bool colo_identity_parse(const char *identity, char uuid[40], uint64_t *generation,
                         char stream[40]);
