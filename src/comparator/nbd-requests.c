/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * As in nbd-replies.c: each state either gathers a field of fixed size in parser->part, or passes
 * over the skip bytes of a body without looking at them.
 */
#include "comparator/nbd-requests.h"

#include "util/bytes.h"

#include <string.h>

#define MAGIC_OPTION_HIGH UINT32_C(0x49484156) /* "IHAV" */
#define MAGIC_OPTION_LOW UINT32_C(0x454f5054)  /* "EOPT" */
#define MAGIC_REQUEST UINT32_C(0x25609513)

/* Commands (NBD_CMD_*). */
enum { CMD_WRITE = 1, CMD_DISC = 2, CMD_LAST = 7 };

enum {
    ST_FLAGS,
    ST_MAGIC,   /* be32: a request's, or the first half of an option's */
    ST_OPTION,  /* be32 be32 be32 */
    ST_REQUEST, /* be16 be16 be64 be64 be32 */
    ST_BODY,
    ST_UNKNOWN,
};

/* Bytes of the fixed field that a state gathers; 0: the state skips. */
static const uint8_t field_size[] = {
    [ST_FLAGS] = 4,    [ST_MAGIC] = 4, [ST_OPTION] = 12,
    [ST_REQUEST] = 24, [ST_BODY] = 0,  [ST_UNKNOWN] = 0,
};

void colo_nbd_requests_init(ColoNbdRequests *parser)
{
    memset(parser, 0, sizeof(*parser));
    parser->state = ST_FLAGS;
}

void colo_nbd_requests_stop(ColoNbdRequests *parser)
{
    parser->state = ST_UNKNOWN;
    parser->whole = 0;
}

static int magic(const ColoNbdRequests *parser, const uint8_t *part)
{
    uint32_t word = colo_get32(part);

    if (word == MAGIC_REQUEST)
        return ST_REQUEST;
    return word == MAGIC_OPTION_HIGH && !parser->transmission ? ST_OPTION : ST_UNKNOWN;
}

static int option(ColoNbdRequests *parser, const uint8_t *part)
{
    parser->skip = colo_get32(part + 8);
    parser->counts = false;
    return colo_get32(part) == MAGIC_OPTION_LOW && parser->skip <= COLO_NBD_OPTION_DATA_MAX
               ? ST_BODY
               : ST_UNKNOWN;
}

static int request(ColoNbdRequests *parser, const uint8_t *part)
{
    unsigned type = colo_get16(part + 2);

    parser->transmission = true;
    parser->counts = type != CMD_DISC;
    parser->skip = type == CMD_WRITE ? colo_get32(part + 20) : 0;
    return type <= CMD_LAST && parser->skip <= COLO_NBD_WRITE_MAX ? ST_BODY : ST_UNKNOWN;
}

/* The state behind a whole field. */
static int field_done(ColoNbdRequests *parser, const uint8_t *part)
{
    switch (parser->state) {
    case ST_FLAGS:
        return ST_MAGIC;
    case ST_MAGIC:
        return magic(parser, part);
    case ST_OPTION:
        return option(parser, part);
    case ST_REQUEST:
        return request(parser, part);
    default:
        return ST_UNKNOWN;
    }
}

bool colo_nbd_requests_feed(ColoNbdRequests *parser, const uint8_t *data, size_t len)
{
    size_t at = 0;

    while (at < len && parser->state != ST_UNKNOWN) {
        uint32_t size = field_size[parser->state];
        size_t want = size ? size - parser->have : parser->skip;
        size_t n = want < len - at ? want : len - at;

        if (size) {
            memcpy(parser->part + parser->have, data + at, n);
            parser->have += (uint32_t)n;
        } else {
            parser->skip -= (uint32_t)n;
        }
        at += n;
        if (n < want)
            break;
        if (size) {
            parser->have = 0;
            parser->state = field_done(parser, parser->part);
        }
        /* A body may be empty: it ends where it begins. */
        if (parser->state == ST_BODY && parser->skip == 0) {
            parser->whole += parser->counts;
            parser->state = ST_MAGIC;
        }
    }
    return parser->state != ST_UNKNOWN;
}
