/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parser is a table of small states. Each state either gathers a field of fixed size in
 * parser->part, or passes over the skip bytes of a body without looking at them.
 */
#include "comparator/checkpoint-stream.h"

#include "util/bytes.h"

#include <string.h>

/* Flags of a page record (RAM_SAVE_FLAG_* of QEMU's migration/ram.c). */
enum {
    FLAG_ZERO = 0x02,
    FLAG_PAGE = 0x08,
    FLAG_EOS = 0x10,
    FLAG_CONTINUE = 0x20,
    FLAG_XBZRLE = 0x40,
    FLAG_COMPRESS = 0x100,
    FLAG_MASK = 0xfff,
};

/* Section types (QEMU_VM_* of migration/savevm.h). */
enum {
    VM_EOF = 0x00,
    VM_SECTION_PART = 0x02,
    VM_SECTION_END = 0x03,
    VM_SECTION_FULL = 0x04,
    VM_SECTION_FOOTER = 0x7e,
};

enum {
    ST_REQUEST,      /* be32 */
    ST_SEND,         /* be32 */
    ST_SECTION,      /* type byte */
    ST_SECTION_ID,   /* be32 */
    ST_RECORD,       /* be64 */
    ST_NAME_LEN,     /* byte */
    ST_NAME,         /* skip */
    ST_ZERO,         /* byte 0 */
    ST_XBZRLE,       /* 01 be16 */
    ST_COMPRESS,     /* be32 */
    ST_BODY,         /* skip, then the next record */
    ST_AFTER_EOS,    /* type byte, or the footer's */
    ST_FOOTER_ID,    /* be32 */
    ST_SIZE,         /* be32 */
    ST_SIZE_VALUE,   /* be64 */
    ST_DEVICE_FIRST, /* byte 4 */
    ST_DEVICE,       /* skip */
    ST_DEVICE_LAST,  /* byte 0 */
    ST_UNKNOWN,
};

/* Bytes of the fixed field that a state gathers; 0: the state skips. */
static const uint8_t field_size[] = {
    [ST_REQUEST] = 4,   [ST_SEND] = 4,        [ST_SECTION] = 1,    [ST_SECTION_ID] = 4,
    [ST_RECORD] = 8,    [ST_NAME_LEN] = 1,    [ST_NAME] = 0,       [ST_ZERO] = 1,
    [ST_XBZRLE] = 3,    [ST_COMPRESS] = 4,    [ST_BODY] = 0,       [ST_AFTER_EOS] = 1,
    [ST_FOOTER_ID] = 4, [ST_SIZE] = 4,        [ST_SIZE_VALUE] = 8, [ST_DEVICE_FIRST] = 1,
    [ST_DEVICE] = 0,    [ST_DEVICE_LAST] = 1, [ST_UNKNOWN] = 0,
};

void colo_forward_init(ColoForwardParser *parser)
{
    memset(parser, 0, sizeof(*parser));
    parser->state = ST_REQUEST;
}

bool colo_forward_inside(const ColoForwardParser *parser)
{
    return parser->state != ST_REQUEST && parser->state != ST_UNKNOWN;
}

/* The state that reads the body of a record with parser->flags. */
static int body_state(ColoForwardParser *parser)
{
    switch (parser->flags & ~(uint32_t)FLAG_CONTINUE) {
    case FLAG_PAGE:
        parser->pages++;
        parser->skip = COLO_FORWARD_PAGE;
        return ST_BODY;
    case FLAG_ZERO:
        parser->zero_pages++;
        return ST_ZERO;
    case FLAG_XBZRLE:
        return ST_XBZRLE;
    case FLAG_COMPRESS:
        return ST_COMPRESS;
    default:
        return ST_UNKNOWN;
    }
}

static int section_state(uint8_t type)
{
    switch (type) {
    case VM_EOF:
        return ST_SIZE;
    case VM_SECTION_PART:
    case VM_SECTION_END:
        return ST_SECTION_ID;
    default:
        return ST_UNKNOWN;
    }
}

static int size_state(ColoForwardParser *parser, uint64_t size)
{
    if (size < 2 || size > COLO_FORWARD_DEVICE_MAX)
        return ST_UNKNOWN;
    parser->device_bytes = size;
    return ST_DEVICE_FIRST;
}

/* A fixed field is whole: returns the next state, and sets @event at a mark. */
static int field_done(ColoForwardParser *parser, const uint8_t *p, ColoForwardEvent *event)
{
    switch (parser->state) {
    case ST_REQUEST:
        *event = COLO_FORWARD_REQUEST;
        return colo_get32(p) == COLO_MSG_CHECKPOINT_REQUEST ? ST_SEND : ST_UNKNOWN;
    case ST_SEND:
        *event = COLO_FORWARD_SEND;
        return colo_get32(p) == COLO_MSG_VMSTATE_SEND ? ST_SECTION : ST_UNKNOWN;
    case ST_SECTION:
        return section_state(p[0]);
    case ST_SECTION_ID:
        parser->section = colo_get32(p);
        return ST_RECORD;
    case ST_RECORD:
        parser->flags = (uint32_t)colo_get64(p) & FLAG_MASK;
        if (parser->flags == FLAG_EOS)
            return ST_AFTER_EOS;
        return parser->flags & FLAG_CONTINUE ? body_state(parser) : ST_NAME_LEN;
    case ST_NAME_LEN:
        parser->skip = p[0];
        return ST_NAME;
    case ST_ZERO:
        return p[0] == 0 ? ST_RECORD : ST_UNKNOWN;
    case ST_XBZRLE:
        parser->skip = (uint64_t)p[1] << 8 | p[2];
        return p[0] == 1 ? ST_BODY : ST_UNKNOWN;
    case ST_COMPRESS:
        parser->skip = colo_get32(p);
        return parser->skip <= COLO_FORWARD_COMPRESSED_MAX ? ST_BODY : ST_UNKNOWN;
    case ST_AFTER_EOS:
        return p[0] == VM_SECTION_FOOTER ? ST_FOOTER_ID : section_state(p[0]);
    case ST_FOOTER_ID:
        return colo_get32(p) == parser->section ? ST_SECTION : ST_UNKNOWN;
    case ST_SIZE:
        return colo_get32(p) == COLO_MSG_VMSTATE_SIZE ? ST_SIZE_VALUE : ST_UNKNOWN;
    case ST_SIZE_VALUE:
        return size_state(parser, colo_get64(p));
    case ST_DEVICE_FIRST:
        parser->skip = parser->device_bytes - 2;
        return p[0] == VM_SECTION_FULL ? ST_DEVICE : ST_UNKNOWN;
    case ST_DEVICE_LAST:
        parser->checkpoints++;
        *event = COLO_FORWARD_COMPLETE;
        return p[0] == VM_EOF ? ST_REQUEST : ST_UNKNOWN;
    default:
        return ST_UNKNOWN;
    }
}

/* The skipped bytes of a state are over. */
static int skip_done(ColoForwardParser *parser)
{
    switch (parser->state) {
    case ST_NAME:
        return body_state(parser);
    case ST_BODY:
        return ST_RECORD;
    case ST_DEVICE:
        return ST_DEVICE_LAST;
    default:
        return ST_UNKNOWN;
    }
}

size_t colo_forward_feed(ColoForwardParser *parser, const uint8_t *data, size_t len,
                         ColoForwardEvent *event)
{
    size_t at = 0;

    *event = COLO_FORWARD_NOTHING;
    while (at < len && parser->state != ST_UNKNOWN) {
        size_t size = field_size[parser->state];
        size_t n;

        if (size == 0) {
            n = parser->skip < len - at ? (size_t)parser->skip : len - at;
            parser->skip -= n;
            at += n;
        } else {
            n = size - parser->have < len - at ? size - parser->have : len - at;
            memcpy(parser->part + parser->have, data + at, n);
            parser->have += (uint32_t)n;
            at += n;
            if (parser->have < size)
                break;
            parser->have = 0;
            parser->state = field_done(parser, parser->part, event);
        }
        /* An empty body (a device state of two bytes) ends where it begins. */
        while (field_size[parser->state] == 0 && parser->skip == 0 && parser->state != ST_UNKNOWN)
            parser->state = skip_done(parser);
        if (parser->state != ST_UNKNOWN && *event != COLO_FORWARD_NOTHING)
            return at;
    }
    if (parser->state == ST_UNKNOWN) {
        *event = COLO_FORWARD_UNKNOWN;
        return len;
    }
    return at;
}

void colo_return_init(ColoReturnParser *parser)
{
    memset(parser, 0, sizeof(*parser));
    parser->expected = COLO_MSG_CHECKPOINT_READY;
}

/* The order of words: what follows each, and the event that it is. */
static ColoReturnEvent return_word(ColoReturnParser *parser, uint32_t word)
{
    if ((int64_t)word != parser->expected) {
        parser->expected = -1;
        return COLO_RETURN_UNKNOWN;
    }
    switch (word) {
    case COLO_MSG_CHECKPOINT_READY:
        parser->expected = COLO_MSG_CHECKPOINT_REPLY;
        return COLO_RETURN_READY;
    case COLO_MSG_CHECKPOINT_REPLY:
        parser->expected = COLO_MSG_VMSTATE_RECEIVED;
        return COLO_RETURN_REPLY;
    case COLO_MSG_VMSTATE_RECEIVED:
        parser->expected = COLO_MSG_VMSTATE_LOADED;
        return COLO_RETURN_RECEIVED;
    default:
        parser->expected = COLO_MSG_CHECKPOINT_REPLY;
        return COLO_RETURN_LOADED;
    }
}

size_t colo_return_feed(ColoReturnParser *parser, const uint8_t *data, size_t len,
                        ColoReturnEvent *event)
{
    size_t n = sizeof(parser->part) - parser->have;

    *event = COLO_RETURN_NOTHING;
    if (parser->expected < 0) {
        *event = COLO_RETURN_UNKNOWN;
        return len;
    }
    if (n > len)
        n = len;
    memcpy(parser->part + parser->have, data, n);
    parser->have += (uint32_t)n;
    if (parser->have < sizeof(parser->part))
        return n;
    parser->have = 0;
    *event = return_word(parser, colo_get32(parser->part));
    return *event == COLO_RETURN_UNKNOWN ? len : n;
}
