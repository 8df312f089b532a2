/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon-frames.h"

#include <stdlib.h>
#include <string.h>

#define QEMU_PROGRAM 0x20008087u
#define LXC_PROGRAM 0x20008088u
#define KEEPALIVE_PROGRAM 0x6b656570u
#define OWN_SERIALS 0xc0100000u /* those of virtcolod's own calls (src/rpc/remote-calls.h) */
/* REMOTE_PROC's of libvirt 9.0 are below it. */
#define PROCEDURES 443u

enum { AT_PROGRAM = 4, AT_VERSION = 8, AT_PROCEDURE = 12, AT_TYPE = 16, AT_SERIAL = 20 };
enum { OPEN = 1, SUPPORTS_FEATURE = 60, AUTH_LIST = 66, GET_URI = 110 };

/* ---- random numbers ---- */

static uint64_t random_next(Random *random)
{
    uint64_t x = random->state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545f4914f6cdd1dull;
}

uint32_t random_below(Random *random, uint32_t n)
{
    return (uint32_t)((random_next(random) >> 32) * n >> 32);
}

bool random_one_in(Random *random, uint32_t n)
{
    return random_below(random, n) == 0;
}

uint32_t random_edge(Random *random)
{
    static const uint32_t edges[] = {
        0,
        1,
        2,
        3,
        4,
        27,
        28,
        29,
        32,
        33,
        255,
        256,
        4096,
        65536,
        0x3fffff,
        0x400000,
        0x400001,
        FRAME_MAX,
        FRAME_MAX + 1,
        33u << 20,
        0x7fffffff,
        0x80000000,
        0xfffffffc,
        0xfffffffdu,
        0xfffffff,
        0xffffffffu,
        OWN_SERIALS,
        OWN_SERIALS + 1,
    };

    return edges[random_below(random, sizeof(edges) / sizeof(edges[0]))];
}

/* ---- bytes ---- */

static void reserve(Frame *frame, size_t len)
{
    if (len <= frame->room)
        return;
    frame->room = len + len / 2 + 256;
    frame->data = realloc(frame->data, frame->room);
    if (!frame->data)
        abort();
}

static void put(Frame *frame, const void *data, size_t len)
{
    reserve(frame, frame->len + len);
    if (data)
        memcpy(frame->data + frame->len, data, len);
    else
        memset(frame->data + frame->len, 0, len);
    frame->len += len;
}

uint32_t frame_word(const Frame *frame, size_t at)
{
    const uint8_t *p = frame->data + at;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void frame_set_word(Frame *frame, size_t at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        frame->data[at + (size_t)i] = (uint8_t)(value >> (24 - 8 * i));
}

static void put32(Frame *frame, uint32_t value)
{
    put(frame, NULL, 4);
    frame_set_word(frame, frame->len - 4, value);
}

static void put_string(Frame *frame, const char *text)
{
    size_t len = strlen(text);

    put32(frame, (uint32_t)len);
    put(frame, text, len);
    put(frame, NULL, (4 - len % 4) % 4);
}

static void begin(Frame *frame, uint32_t program, uint32_t procedure, uint32_t type,
                  uint32_t serial)
{
    frame->len = 0;
    frame->fds = 0;
    put(frame, NULL, FRAME_HEADER);
    frame_set_word(frame, AT_PROGRAM, program);
    frame_set_word(frame, AT_VERSION, 1);
    frame_set_word(frame, AT_PROCEDURE, procedure);
    frame_set_word(frame, AT_TYPE, type);
    frame_set_word(frame, AT_SERIAL, serial);
}

static void end(Frame *frame)
{
    frame_set_word(frame, 0, (uint32_t)frame->len);
}

/* ---- sound calls ---- */

/*
 * A procedure and the members of its body: d the domain, D one that is not there, h a UUID, s a
 * name, o an optional name that is absent, r makes it a URI, u a word, X a domain's XML, M a
 * command of the QEMU monitor, P typed parameters, L a list of domains, N a command of ours, J its
 * arguments.
 */
typedef struct {
    uint32_t program, procedure;
    const char *body;
} Call;

static const Call calls[] = {
    {REMOTE_PROGRAM, OPEN, "oru"},
    {REMOTE_PROGRAM, 2, ""}, /* CONNECT_CLOSE */
    {REMOTE_PROGRAM, 7, ""}, /* CONNECT_GET_CAPABILITIES */
    {REMOTE_PROGRAM, 8, "DX"},
    {REMOTE_PROGRAM, 9, "D"},  /* DOMAIN_CREATE */
    {REMOTE_PROGRAM, 10, "X"}, /* DOMAIN_CREATE_XML */
    {REMOTE_PROGRAM, 11, "X"},
    {REMOTE_PROGRAM, 12, "D"},
    {REMOTE_PROGRAM, 14, "du"}, /* DOMAIN_GET_XML_DESC */
    {REMOTE_PROGRAM, 16, "d"},
    {REMOTE_PROGRAM, 23, "s"},
    {REMOTE_PROGRAM, 24, "h"},
    {REMOTE_PROGRAM, 34, "D"}, /* DOMAIN_SUSPEND */
    {REMOTE_PROGRAM, SUPPORTS_FEATURE, "u"},
    {REMOTE_PROGRAM, AUTH_LIST, ""},
    {REMOTE_PROGRAM, 67, ""}, /* AUTH_SASL_INIT */
    {REMOTE_PROGRAM, 68, "sus"},
    {REMOTE_PROGRAM, 70, ""},  /* AUTH_POLKIT */
    {REMOTE_PROGRAM, 105, ""}, /* CONNECT_DOMAIN_EVENT_REGISTER */
    {REMOTE_PROGRAM, 106, ""},
    {REMOTE_PROGRAM, GET_URI, ""},
    {REMOTE_PROGRAM, 185, "DXu"}, /* DOMAIN_SNAPSHOT_CREATE_XML */
    {REMOTE_PROGRAM, 192, "sDu"}, /* DOMAIN_REVERT_TO_SNAPSHOT */
    {REMOTE_PROGRAM, 201, "dou"}, /* DOMAIN_OPEN_CONSOLE */
    {REMOTE_PROGRAM, 211, "duu"}, /* DOMAIN_SCREENSHOT */
    {REMOTE_PROGRAM, 273, "uu"},  /* CONNECT_LIST_ALL_DOMAINS */
    {REMOTE_PROGRAM, 277, "du"},
    {REMOTE_PROGRAM, 316, "uo"}, /* CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY */
    {REMOTE_PROGRAM, 317, "u"},
    {REMOTE_PROGRAM, 342, "oooou"},
    {REMOTE_PROGRAM, 344, "Luu"}, /* CONNECT_GET_ALL_DOMAIN_STATS */
    {REMOTE_PROGRAM, 350, "XPu"}, /* DOMAIN_DEFINE_XML_FLAGS, with too much */
    {REMOTE_PROGRAM, 419, "Pu"},  /* CONNECT_SET_IDENTITY */
    {REMOTE_PROGRAM, 9999, "u"},
    {QEMU_PROGRAM, 1, "dMu"}, /* DOMAIN_MONITOR_COMMAND */
    {QEMU_PROGRAM, 1, "DMu"},
    {QEMU_PROGRAM, 7, "dMu"}, /* DOMAIN_MONITOR_COMMAND_WITH_FILES */
    {QEMU_PROGRAM, 4, "uosu"},
    {LXC_PROGRAM, 1, "du"},
    {KEEPALIVE_PROGRAM, 1, ""},
    {KEEPALIVE_PROGRAM, 2, ""},
    {OWN_PROGRAM, 2, "NJ"},
    {0x20008089u, 1, "u"},
};

static const Call own_calls[] = {
    {OWN_PROGRAM, 1, "us"},                        /* HELLO */
    {OWN_PROGRAM, 2, "NJ"},                        /* COMMAND */
    {OWN_PROGRAM, 2, "NJ"}, {OWN_PROGRAM, 3, "u"}, /* SUBSCRIBE */
    {OWN_PROGRAM, 4, "J"},                         /* EVENT, which no client may send */
    {OWN_PROGRAM, 5, "s"},                         /* MAY_RUN */
    {OWN_PROGRAM, 6, "s"},  {REMOTE_PROGRAM, OPEN, "oru"}, {KEEPALIVE_PROGRAM, 1, ""},
};

static const char *const uris[] = {
    "colo:///system",
    "colo:///session",
    "colo+unix:///system",
    "colo:",
    "colo:///system?socket=/run/libvirt/virtcolod-sock",
    "qemu:///system",
    "",
    "colo+:///system",
    "COLO:///system",
};
static const char *const names[] = {
    "ft",       "nobody", "",         "8d5a0f4e-0b0b-4b39-9a5a-6a4f4f7f0001",
    "%s%n%n%d", "a\nb",   "\033[31m", "../../x",
};
static const char *const xmls[] = {
    "<domain type='kvm'><name>nobody</name></domain>",
    "<domain><uuid>8d5a0f4e-0b0b-4b39-9a5a-6a4f4f7f0001</uuid><name> ft </name></domain>",
    "<domain><name/><uuid/></domain>",
    "",
    "<domain><name>nobody</name><metadata><colo:protection xmlns:colo='x' "
    "pair=''/></metadata></domain>",
    "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain><name>&x;</name></domain>",
    "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaaaaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>"
    "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;'>"
    "<!ENTITY e '&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;'><!ENTITY f '&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;'>"
    "]><domain><name>&f;</name></domain>",
};
static const char *const monitor[] = {
    "colo-status",
    "colo-status domain=ft",
    "colo-pair-list",
    "colo-doctor x=1",
    "colo-events",
    "colo-nothing",
    "info status",
    "colo-",
    "{\"execute\":\"colo-status\"}",
    "{\"execute\":\"colo-status\",\"arguments\":{\"domain\":\"ft\"}}",
    "{\"execute\":\"colo-pair-list\",\"id\":[{\"a\":1e308}]}",
    "{\"execute\":\"query-status\"}",
    "{\"execute\":\"colo-status\",\"arguments\":[]}",
    "{\"execute\":[\"colo-status\"]}",
    "{\"execute\":\"colo-stats\",\"arguments\":{\"domain\":null}}",
    "{\"execute\":\"colo-",
    "[[[[[[\"colo-\"",
};
static const char *const commands[] = {
    "colo-status",   "colo-pair-list",     "colo-stats",     "colo-list",
    "colo-events",   "colo-pair-undefine", "colo-unprotect", "colo-checkpoint",
    "colo-failover", "colo-doctor",        "nothing",        "",
};
/* What changes something is asked of nothing that is there. */
static const char *const arguments[] = {
    "{\"domain\":\"nobody\"}",
    "{\"domain\":\"nobody\",\"force\":true}",
    "{\"domain\":1}",
    "{\"domain\":\"\\u0000\"}",
    "{",
    "[]",
    "{\"x\":{\"y\":[[[[[[[[]]]]]]]]}}",
    "",
    "{\"domain\":\"nobody\",\"domain\":\"\"}",
    "{\"domain\":\"nobody\",\"wait\":-1}",
};
#define PICK(random, list) (list)[random_below(random, sizeof(list) / sizeof((list)[0]))]

static void put_domain(Frame *frame, Random *random, const Domain *domain)
{
    put_string(frame, domain ? domain->name : "nobody");
    put(frame, domain ? domain->uuid : (const uint8_t *)"no such domain..", 16);
    put32(frame, random_below(random, 3) - 1);
}

static void put_params(Frame *frame, Random *random)
{
    static const char *const keys[] = {"unix-user-id", "user-name", "process-id", "selinux-context",
                                       "x"};
    uint32_t n = random_below(random, 6);

    put32(frame, n);
    while (n-- > 0) {
        uint32_t type = random_below(random, 9);

        put_string(frame, PICK(random, keys));
        put32(frame, type);
        if (type == 7)
            put_string(frame, PICK(random, names));
        else
            put(frame, NULL, type == 3 || type == 4 || type == 5 ? 8 : 4);
    }
}

static void put_member(Frame *frame, Random *random, const Domain *domain, char member)
{
    uint32_t n;

    switch (member) {
    case 'd':
        put_domain(frame, random, random_one_in(random, 4) ? NULL : domain);
        break;
    case 'D':
        put_domain(frame, random, NULL);
        break;
    case 'h':
        put(frame, domain->uuid, 16);
        break;
    case 'o':
        put32(frame, 0);
        break;
    case 'r':
        frame_set_word(frame, frame->len - 4, 1);
        put_string(frame, PICK(random, uris));
        break;
    case 's':
        put_string(frame, PICK(random, names));
        break;
    case 'u':
        put32(frame, random_one_in(random, 3) ? random_edge(random) : random_below(random, 3));
        break;
    case 'X':
        put_string(frame, PICK(random, xmls));
        break;
    case 'M':
        put_string(frame, PICK(random, monitor));
        break;
    case 'N':
        put_string(frame, PICK(random, commands));
        break;
    case 'J':
        put_string(frame, PICK(random, arguments));
        break;
    case 'P':
        put_params(frame, random);
        break;
    case 'L':
        n = random_below(random, 3);
        put32(frame, n);
        while (n-- > 0)
            put_domain(frame, random, random_one_in(random, 2) ? NULL : domain);
        break;
    default:
        abort();
    }
}

void frame_auth_list(Frame *frame, uint32_t serial)
{
    begin(frame, REMOTE_PROGRAM, AUTH_LIST, FRAME_CALL, serial);
    end(frame);
}

void frame_get_uri(Frame *frame, uint32_t serial)
{
    begin(frame, REMOTE_PROGRAM, GET_URI, FRAME_CALL, serial);
    end(frame);
}

void frame_open(Frame *frame, const char *uri, uint32_t serial)
{
    begin(frame, REMOTE_PROGRAM, OPEN, FRAME_CALL, serial);
    put32(frame, 1);
    put_string(frame, uri);
    put32(frame, 0);
    end(frame);
}

/* What belongs to a stream that is open, or to none. */
static void stream(Frame *frame, Random *random, uint32_t serial)
{
    static const uint32_t procedures[] = {201, 211, 209, 208};
    bool hole = random_one_in(random, 4);

    begin(frame, REMOTE_PROGRAM, PICK(random, procedures), hole ? 6 : FRAME_STREAM,
          serial - random_below(random, 4));
    frame_set_word(frame, 24, random_below(random, 3)); /* ok: the end; error; continue: data */
    if (hole) {
        put32(frame, random_edge(random)); /* hyper length, unsigned flags */
        put32(frame, random_edge(random));
        put32(frame, 0);
    } else if (frame_word(frame, 24) == 2) {
        put(frame, NULL, random_below(random, 300000));
    }
    end(frame);
}

void frame_sound(Frame *frame, Random *random, const Domain *domain, bool ours, uint32_t serial)
{
    const Call *call = ours ? &PICK(random, own_calls) : &PICK(random, calls);

    if (!ours && random_one_in(random, 12)) {
        stream(frame, random, serial);
        return;
    }
    begin(frame, call->program, call->procedure,
          call->program == KEEPALIVE_PROGRAM ? 2 : FRAME_CALL, serial);
    if (call->program == QEMU_PROGRAM && call->procedure == 7) {
        frame->fds = random_below(random, 5);
        frame_set_word(frame, AT_TYPE, FRAME_CALL_WITH_FDS);
        put32(frame, frame->fds);
    }
    for (const char *member = call->body; *member; member++)
        put_member(frame, random, domain, *member);
    end(frame);
}

void frame_large(Frame *frame, Random *random, size_t len, uint32_t serial)
{
    begin(frame, random_one_in(random, 2) ? REMOTE_PROGRAM : OWN_PROGRAM,
          random_one_in(random, 2) ? 23 : 2, FRAME_CALL, serial);
    put(frame, NULL, len);
    end(frame);
}

/* ---- wrong ones ---- */

static size_t any_word(const Frame *frame, Random *random)
{
    return random_below(random, (uint32_t)(frame->len / 4)) * 4u;
}

static void mutate_once(Frame *frame, Random *random)
{
    size_t at, n;

    switch (random_below(random, 9)) {
    case 0: /* a bit */
        frame->data[random_below(random, (uint32_t)frame->len)] ^=
            (uint8_t)(1u << random_below(random, 8));
        break;
    case 1: /* a length or number, one of the header's too */
    case 2:
        frame_set_word(frame, any_word(frame, random), random_edge(random));
        break;
    case 3: /* its end is missing */
        if (frame->len > FRAME_HEADER)
            frame->len -= random_below(random, (uint32_t)(frame->len - FRAME_HEADER)) + 1;
        break;
    case 4: /* bytes too many */
        put(frame, NULL, random_below(random, 64) + 1);
        break;
    case 5: /* a piece of it twice */
        at = any_word(frame, random);
        n = frame->len - at < 64 ? frame->len - at : 64;
        reserve(frame, frame->len + n);
        memmove(frame->data + frame->len, frame->data + at, n);
        frame->len += n;
        break;
    case 6:
        frame_set_word(frame, AT_TYPE, random_below(random, 9));
        break;
    case 7:
        frame_set_word(frame, AT_SERIAL,
                       random_one_in(random, 2) ? OWN_SERIALS + random_below(random, 3) : 0);
        break;
    default: /* FDs, announced or not */
        frame_set_word(frame, AT_TYPE, random_one_in(random, 2) ? 4 : 5);
        if (frame->len >= FRAME_HEADER + 4)
            frame_set_word(frame, FRAME_HEADER, random_below(random, 40));
        frame->fds = random_below(random, 40);
        break;
    }
}

void frame_mutate(Frame *frame, Random *random)
{
    for (uint32_t n = random_below(random, 6) + 1; n > 0; n--)
        mutate_once(frame, random);
    if (!random_one_in(random, 16))
        end(frame);
}

void frame_tame(Frame *frame, bool readonly, bool events)
{
    uint32_t program = frame_word(frame, AT_PROGRAM), procedure = frame_word(frame, AT_PROCEDURE);

    if (!events && program == REMOTE_PROGRAM && (procedure == 105 || procedure == 316)) {
        frame_set_word(frame, AT_PROCEDURE, SUPPORTS_FEATURE);
        return;
    }
    if (readonly || program != REMOTE_PROGRAM || procedure == 0 || procedure > PROCEDURES)
        return;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (calls[i].program == REMOTE_PROGRAM && calls[i].procedure == procedure)
            return;
    }
    frame_set_word(frame, AT_PROCEDURE, SUPPORTS_FEATURE);
}
