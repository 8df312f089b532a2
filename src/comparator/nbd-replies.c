/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * As in checkpoint-stream.c: each state either gathers a field of fixed size in parser->part, or
 * passes over the skip bytes of a body without looking at them.
 */
#include "comparator/nbd-replies.h"

#include "util/bytes.h"

#include <string.h>

#define MAGIC_GREETING UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define MAGIC_NEWSTYLE UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define MAGIC_OPTION UINT64_C(0x0003e889045565a9)
#define MAGIC_SIMPLE UINT32_C(0x67446698)
#define MAGIC_CHUNK UINT32_C(0x668e33ef)

#define FLAG_FIXED_NEWSTYLE 0x1u
#define FLAG_DONE 0x1u
#define TYPE_IS_ERROR 0x8000u
#define REPLY_IS_ERROR UINT32_C(0x80000000)

/* Options (NBD_OPT_*). */
enum {
    OPT_ABORT = 2,
    OPT_LIST = 3,
    OPT_INFO = 6,
    OPT_GO = 7,
    OPT_STRUCTURED_REPLY = 8,
    OPT_LIST_META_CONTEXT = 9,
    OPT_SET_META_CONTEXT = 10,
};

/* Types of option replies (NBD_REP_*). */
enum { REP_ACK = 1, REP_SERVER = 2, REP_INFO = 3, REP_META_CONTEXT = 4 };

/* Types of chunks (NBD_REPLY_TYPE_*). */
enum {
    CHUNK_NONE = 0,
    CHUNK_OFFSET_DATA = 1,
    CHUNK_OFFSET_HOLE = 2,
    CHUNK_BLOCK_STATUS = 5,
};

enum {
    ST_GREETING,
    ST_OPTION,
    ST_OPTION_BODY, /* skip, then the next option or the first reply */
    ST_MAGIC,       /* be32: which kind of reply */
    ST_SIMPLE,      /* be32 be64 */
    ST_CHUNK,       /* be16 be16 be64 be32 */
    ST_ERROR,       /* be32 be16 */
    ST_BODY,        /* skip, then the next reply */
    ST_UNKNOWN,
};

/* Bytes of the fixed field that a state gathers; 0: the state skips. */
static const uint8_t field_size[] = {
    [ST_GREETING] = 18, [ST_OPTION] = 20, [ST_OPTION_BODY] = 0, [ST_MAGIC] = 4,   [ST_SIMPLE] = 12,
    [ST_CHUNK] = 16,    [ST_ERROR] = 6,   [ST_BODY] = 0,        [ST_UNKNOWN] = 0,
};

void colo_nbd_replies_init(ColoNbdReplies *parser)
{
    memset(parser, 0, sizeof(*parser));
    parser->state = ST_GREETING;
}

static int greeting(const uint8_t *part)
{
    return colo_get64(part) == MAGIC_GREETING && colo_get64(part + 8) == MAGIC_NEWSTYLE &&
                   (colo_get16(part + 16) & FLAG_FIXED_NEWSTYLE)
               ? ST_OPTION
               : ST_UNKNOWN;
}

/* An option of which an ACK changes nothing in what follows that is not read here. */
static bool is_known_ack(uint32_t option)
{
    return option == OPT_ABORT || option == OPT_LIST || option == OPT_INFO || option == OPT_GO ||
           option == OPT_STRUCTURED_REPLY || option == OPT_LIST_META_CONTEXT ||
           option == OPT_SET_META_CONTEXT;
}

static int option(ColoNbdReplies *parser, const uint8_t *part)
{
    uint32_t number = colo_get32(part + 8), type = colo_get32(part + 12);

    parser->skip = colo_get32(part + 16);
    if (colo_get64(part) != MAGIC_OPTION || parser->skip > COLO_NBD_OPTION_MAX)
        return ST_UNKNOWN;
    if (type & REPLY_IS_ERROR)
        return ST_OPTION_BODY;
    if (type != REP_ACK)
        return type >= REP_SERVER && type <= REP_META_CONTEXT ? ST_OPTION_BODY : ST_UNKNOWN;
    if (parser->skip != 0 || !is_known_ack(number))
        return ST_UNKNOWN;
    parser->structured = parser->structured || number == OPT_STRUCTURED_REPLY;
    parser->last_option = number == OPT_GO;
    return ST_OPTION_BODY;
}

static int magic(const ColoNbdReplies *parser, const uint8_t *part)
{
    uint32_t word = colo_get32(part);

    if (word == MAGIC_SIMPLE)
        return ST_SIMPLE;
    return word == MAGIC_CHUNK && parser->structured ? ST_CHUNK : ST_UNKNOWN;
}

static int simple(ColoNbdReplies *parser, const uint8_t *part)
{
    uint32_t error = colo_get32(part);

    parser->answers = true;
    if (error) {
        parser->error = error;
        parser->failing = true;
    }
    return ST_BODY;
}

/* True when a chunk of @type, which is none of the error types, may have @len bytes. */
static bool chunk_fits(unsigned type, uint32_t len)
{
    switch (type) {
    case CHUNK_NONE:
        return len == 0;
    case CHUNK_OFFSET_DATA:
        return len > 8;
    case CHUNK_OFFSET_HOLE:
        return len == 12;
    case CHUNK_BLOCK_STATUS:
        return len >= 12 && (len - 4) % 8 == 0;
    default:
        return false;
    }
}

static int chunk(ColoNbdReplies *parser, const uint8_t *part)
{
    unsigned flags = colo_get16(part), type = colo_get16(part + 2);

    parser->skip = colo_get32(part + 12);
    parser->answers = flags & FLAG_DONE;
    if ((flags & ~FLAG_DONE) || parser->skip > COLO_NBD_CHUNK_MAX)
        return ST_UNKNOWN;
    if (!(type & TYPE_IS_ERROR))
        return chunk_fits(type, parser->skip) ? ST_BODY : ST_UNKNOWN;
    /* All types of errors, later ones too, begin with the number and the length of a text. */
    if (parser->skip < field_size[ST_ERROR])
        return ST_UNKNOWN;
    parser->skip -= field_size[ST_ERROR];
    return ST_ERROR;
}

static int chunk_error(ColoNbdReplies *parser, const uint8_t *part)
{
    uint32_t error = colo_get32(part);

    if (error == 0 || colo_get16(part + 4) > parser->skip)
        return ST_UNKNOWN;
    parser->error = error;
    parser->failing = true;
    return ST_BODY;
}

/* The state behind a whole field. */
static int field_done(ColoNbdReplies *parser, const uint8_t *part)
{
    switch (parser->state) {
    case ST_GREETING:
        return greeting(part);
    case ST_OPTION:
        return option(parser, part);
    case ST_MAGIC:
        return magic(parser, part);
    case ST_SIMPLE:
        return simple(parser, part);
    case ST_CHUNK:
        return chunk(parser, part);
    case ST_ERROR:
        return chunk_error(parser, part);
    default:
        return ST_UNKNOWN;
    }
}

/* The state behind a body. A reply ends here. */
static int body_done(ColoNbdReplies *parser, ColoNbdEvent *event)
{
    if (parser->state == ST_OPTION_BODY)
        return parser->last_option ? ST_MAGIC : ST_OPTION;
    parser->answered += parser->answers;
    parser->answers = false;
    if (parser->failing)
        *event = COLO_NBD_ERROR;
    parser->failing = false;
    return ST_MAGIC;
}

size_t colo_nbd_replies_feed(ColoNbdReplies *parser, const uint8_t *data, size_t len,
                             ColoNbdEvent *event)
{
    size_t at = 0;

    *event = COLO_NBD_NOTHING;
    while (at < len && parser->state != ST_UNKNOWN && *event == COLO_NBD_NOTHING) {
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
        if (parser->state != ST_UNKNOWN && field_size[parser->state] == 0 && parser->skip == 0)
            parser->state = body_done(parser, event);
    }
    if (parser->state == ST_UNKNOWN) {
        *event = COLO_NBD_UNKNOWN;
        return len;
    }
    return at;
}

bool colo_nbd_error_is_failure(uint32_t error)
{
    return error != COLO_NBD_ENOTSUP;
}

const char *colo_nbd_error_text(uint32_t error)
{
    switch (error) {
    case COLO_NBD_EPERM:
        return "NBD error reply: EPERM";
    case COLO_NBD_EIO:
        return "NBD error reply: EIO";
    case COLO_NBD_ENOMEM:
        return "NBD error reply: ENOMEM";
    case COLO_NBD_EINVAL:
        return "NBD error reply: EINVAL";
    case COLO_NBD_ENOSPC:
        return "NBD error reply: ENOSPC";
    case COLO_NBD_EOVERFLOW:
        return "NBD error reply: EOVERFLOW";
    case COLO_NBD_ENOTSUP:
        return "NBD error reply: ENOTSUP";
    case COLO_NBD_ESHUTDOWN:
        return "NBD error reply: ESHUTDOWN";
    default:
        return "NBD error reply";
    }
}
