/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Traces of two copies of a server (tests/bench/traces/mirror.py says how they are made and in
 * which format), and an oracle of what may leave that shares nothing with the compare core: it
 * walks through all that the secondary has said so far and looks for each byte.
 */
#pragma once

#include <glib.h>
#include <string.h>

#define TRACE_VNET 12u
#define TRACE_ETH 14u
#define TRACE_IP_AT (TRACE_VNET + TRACE_ETH)

enum { TRACE_FIN = 1, TRACE_SYN = 2, TRACE_RST = 4, TRACE_PSH = 8, TRACE_ACK = 16 };

typedef struct {
    bool primary;
    uint64_t ns;
    const uint8_t *data; /* of the trace; virtio-net header first */
    size_t len;
} TraceFrame;

typedef struct {
    char *bytes;
    GArray *frames;    /* TraceFrame, in the order of their times */
    unsigned count[2]; /* of the secondary, of the primary */
} Trace;

/* What the oracle reads out of a frame. */
typedef struct {
    bool tcp;
    uint8_t key[38];    /* ethertype, addresses, ports */
    uint8_t around[16]; /* MACs, DSCP, hop limit, IPv4 flags: the same on all frames of a flow */
    size_t tcp_at;
    uint32_t seq, ack;
    uint8_t flags;
    const uint8_t *data; /* payload; of what is no TCP the whole frame */
    size_t len;
    const uint8_t *sack; /* blocks */
    unsigned sacks;
} Said;

static inline uint16_t trace_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t trace_get32(const uint8_t *p)
{
    return (uint32_t)trace_get16(p) << 16 | trace_get16(p + 2);
}

static inline void trace_clear(Trace *trace)
{
    g_free(trace->bytes);
    g_array_unref(trace->frames);
}

/* False, with the reason in @error, when the file is no trace. */
static inline bool trace_load(Trace *trace, const char *path, GError **error)
{
    uint32_t head[6], packet[4];
    size_t size, at = sizeof(head);

    if (!g_file_get_contents(path, &trace->bytes, &size, error))
        return false;
    memset(trace->count, 0, sizeof(trace->count));
    trace->frames = g_array_new(FALSE, FALSE, sizeof(TraceFrame));
    if (size >= sizeof(head))
        memcpy(head, trace->bytes, sizeof(head));
    if (size < sizeof(head) || head[0] != 0xa1b23c4d || head[5] != 147)
        goto broken;
    while (at < size) {
        const uint8_t *data = (const uint8_t *)trace->bytes + at + sizeof(packet);
        TraceFrame frame;

        if (size - at < sizeof(packet))
            goto broken;
        memcpy(packet, trace->bytes + at, sizeof(packet));
        at += sizeof(packet);
        if (packet[2] < 1 + TRACE_IP_AT || packet[2] > size - at)
            goto broken;
        frame = (TraceFrame){.primary = data[0] == 0,
                             .ns = packet[0] * UINT64_C(1000000000) + packet[1],
                             .data = data + 1,
                             .len = packet[2] - 1};
        g_array_append_val(trace->frames, frame);
        trace->count[frame.primary]++;
        at += packet[2];
    }
    return true;
broken:
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "%s is no trace", path);
    trace_clear(trace);
    return false;
}

static inline char *trace_folder(void)
{
    const char *top = g_getenv("abs_top_srcdir");

    return g_build_filename(top ? top : ".", "tests/unit/data/traces", NULL);
}

static inline int trace_by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The traces of @folder, sorted by name. */
static inline GPtrArray *trace_paths(const char *folder)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    GDir *dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (g_str_has_suffix(name, ".pcap"))
            g_ptr_array_add(paths, g_build_filename(folder, name, NULL));
    }
    if (dir)
        g_dir_close(dir);
    g_ptr_array_sort(paths, trace_by_name);
    return paths;
}

static inline const TraceFrame *trace_frame(const Trace *trace, unsigned i)
{
    return &g_array_index(trace->frames, TraceFrame, i);
}

/* TCP over IPv4 or IPv6 without extension headers, in one piece; anything else as a whole. */
static inline void said_parse(Said *said, const uint8_t *frame, size_t len)
{
    const uint8_t *ip = frame + TRACE_IP_AT, *tcp;
    size_t tcp_len, header, left = len > TRACE_IP_AT ? len - TRACE_IP_AT : 0;

    memset(said, 0, sizeof(*said));
    said->data = frame;
    said->len = len;
    if (left < 40)
        return;
    memcpy(said->key, frame + TRACE_VNET + 12, 2);
    memcpy(said->around, frame + TRACE_VNET, 12);
    if (trace_get16(said->key) == 0x0800 && ip[0] == 0x45 && ip[9] == 6 &&
        !(trace_get16(ip + 6) & 0x3fff)) {
        memcpy(said->key + 2, ip + 12, 8);
        said->around[12] = ip[1] & 0xfc;
        said->around[13] = ip[8];
        said->around[14] = ip[6];
        tcp = ip + 20;
        if (trace_get16(ip + 2) < 40)
            return;
        tcp_len = trace_get16(ip + 2) - 20u;
    } else if (trace_get16(said->key) == 0x86dd && (ip[0] & 0xf0) == 0x60 && ip[6] == 6 &&
               left >= 60) {
        memcpy(said->key + 2, ip + 8, 32);
        said->around[12] = (uint8_t)(ip[0] << 4 | ip[1] >> 4) & 0xfc;
        said->around[13] = ip[7];
        tcp = ip + 40;
        tcp_len = trace_get16(ip + 4);
    } else {
        return;
    }
    if (tcp_len > len - (size_t)(tcp - frame) || tcp_len < 20)
        return;
    header = (size_t)(tcp[12] >> 4) * 4;
    if (header < 20 || header > tcp_len)
        return;
    memcpy(said->key + 34, tcp, 4);
    said->tcp = true;
    said->tcp_at = (size_t)(tcp - frame);
    said->seq = trace_get32(tcp + 4);
    said->ack = trace_get32(tcp + 8);
    said->flags = tcp[13];
    said->data = tcp + header;
    said->len = tcp_len - header;
    for (size_t at = 20; at < header && tcp[at] != 0;
         at += tcp[at] == 1 ? 1 : MAX(tcp[at + 1], 2)) {
        if (header - at < 2 || tcp[at] == 1)
            continue;
        if (tcp[at] == 5 && tcp[at + 1] >= 10 && tcp[at + 1] <= header - at) {
            said->sack = tcp + at + 2;
            said->sacks = (tcp[at + 1] - 2) / 8;
        }
    }
}

static inline bool said_same_flow(const Said *a, const Said *b)
{
    return a->tcp && b->tcp && memcmp(a->key, b->key, sizeof(a->key)) == 0;
}

/* Content of frames that are no TCP: all but IPv4's identification, checksums, IPv6's flow label
 * and the virtio-net header. */
static inline bool said_same_frame(const Said *a, const Said *b)
{
    bool v4 = a->len >= TRACE_IP_AT + 20 && trace_get16(a->data + TRACE_VNET + 12) == 0x0800;
    bool v6 = a->len >= TRACE_IP_AT + 40 && trace_get16(a->data + TRACE_VNET + 12) == 0x86dd;

    if (a->len != b->len)
        return false;
    for (size_t i = TRACE_VNET; i < a->len; i++) {
        size_t at = i - TRACE_IP_AT;
        uint8_t differ = a->data[i] ^ b->data[i];

        if (!differ || (v6 && at >= 1 && at < 4 && (at > 1 || !(differ & 0xf0))))
            continue;
        if (v4 && (at == 4 || at == 5 || at == 10 || at == 11))
            continue;
        if (v4 && a->data[TRACE_IP_AT + 9] == 17 && (at == 26 || at == 27))
            continue;
        if (v6 && a->data[TRACE_IP_AT + 6] == 17 && (at == 46 || at == 47))
            continue;
        /* The identification of an IPv6 fragment. */
        if (v6 && a->data[TRACE_IP_AT + 6] == 44 && at >= 44 && at < 48)
            continue;
        return false;
    }
    return true;
}

/* Whether @left, which has left, says nothing but what the secondary has said: the @n of @said.
 * (Each byte at its place, FIN, SYN and RST too; acknowledgements no further.) NULL, or what it
 * says beyond that. */
static inline const char *oracle_objects(const Said *left, const Said *said, unsigned n)
{
    g_autofree uint8_t *heard = g_malloc0(left->len + 1);
    bool flags = !(left->flags & (TRACE_FIN | TRACE_SYN | TRACE_RST)), around = false;
    bool flow = false, heard_ack = false;
    uint32_t ack = 0;

    for (unsigned i = 0; i < n; i++) {
        const Said *s = &said[i];
        uint32_t offset = s->seq - left->seq;

        if (!left->tcp) {
            if (!s->tcp && said_same_frame(left, s))
                return NULL;
            continue;
        }
        if (!said_same_flow(left, s))
            continue;
        flow = true;
        around = around || memcmp(left->around, s->around, sizeof(s->around)) == 0;
        if (left->flags & (TRACE_SYN | TRACE_RST))
            flags = flags || (offset == 0 && ((left->flags ^ s->flags) & 7) == 0);
        else if (left->flags & TRACE_FIN)
            flags = flags || ((s->flags & TRACE_FIN) &&
                              s->seq + (uint32_t)s->len == left->seq + (uint32_t)left->len);
        /* What is further away than the largest window acknowledges nothing. */
        if (s->flags & TRACE_ACK && !(s->flags & TRACE_RST) &&
            (!heard_ack || s->ack - ack <= 1u << 30)) {
            heard_ack = true;
            ack = s->ack;
        }
        for (size_t k = 0; k < left->len && s->len > 0; k++) {
            uint32_t at = (uint32_t)k - offset;

            if (at < s->len && left->data[k] == s->data[at])
                heard[k] = 1;
        }
    }
    if (!left->tcp)
        return "a frame that the secondary has not sent";
    if (!flow)
        return "another connection";
    if (!around)
        return "other headers";
    if (!flags)
        return "SYN, FIN or RST";
    if ((left->flags & (TRACE_ACK | TRACE_RST)) == TRACE_ACK &&
        (!heard_ack || ack - left->ack > 1u << 30))
        return "an acknowledgement beyond the secondary's";
    for (size_t k = 0; k < left->len; k++) {
        if (!heard[k])
            return "payload";
    }
    for (unsigned b = 0; b < left->sacks; b++) {
        uint32_t from = trace_get32(left->sack + (size_t)b * 8);
        uint32_t to = trace_get32(left->sack + (size_t)b * 8 + 4);
        bool known = (int32_t)(to - ack) <= 0;

        /* Blocks grow; each position must lie in one of the secondary's. */
        while (!known && (int32_t)(from - to) < 0) {
            uint32_t reach = from;

            for (unsigned i = 0; i < n; i++) {
                for (unsigned j = 0; said_same_flow(left, &said[i]) && j < said[i].sacks; j++) {
                    uint32_t low = trace_get32(said[i].sack + (size_t)j * 8);
                    uint32_t high = trace_get32(said[i].sack + (size_t)j * 8 + 4);

                    if ((int32_t)(low - reach) <= 0 && (int32_t)(high - reach) > 0)
                        reach = high;
                }
            }
            if (reach == from)
                return "a SACK block";
            from = reach;
        }
    }
    return NULL;
}
