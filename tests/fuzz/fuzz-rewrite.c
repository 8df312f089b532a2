/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target of the sequence rewriter: SYNs of the primary, frames both ways, checkpoints, a
 * takeover, rows to another one and back.
 *   clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/fuzz-rewrite.c \
 *       src/comparator/{rewrite,rewrite-base,rewrite-table,segment,frame}.c -o fuzz-rewrite
 *   tests/fuzz/fuzz-rewrite-seeds.py SEEDS && ./fuzz-rewrite -max_total_time=120 SEEDS
 *
 * Input: one byte (vnet header of 0, 10 or 12 bytes), then records that begin with one byte,
 * operation % 8:
 *   0 a SYN of the primary  1 output  2 input: be16 length, frame; with 8 the SYN is late, with 16
 *     as well it was loaded already
 *   3 checkpoint loaded  4 alone  5 a minute passes, expiry
 *   6 export to a new one, with 8 only what the first half of the rows names is kept
 *   7 the frame before again, as output
 *
 * Beside memory errors this finds: a frame that changed elsewhere than in TCP's numbers and
 * checksum, a checksum that was right and is not any more, more connections than the limit.
 */
#include "comparator/rewrite.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)      \
    do {                      \
        if (!(condition))     \
            __builtin_trap(); \
    } while (0)

/* RFC 1071 over everything from TCP's header to the end, whatever the end is: the pseudo-header and
 * what follows the segment do not change, so the sum must not either. */
static uint32_t sum(const uint8_t *frame, size_t from, size_t len)
{
    uint32_t s = 0;

    for (size_t i = from; i < len; i++)
        s += (i - from) & 1 ? frame[i] : (uint32_t)frame[i] << 8;
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return s == 0xffff ? 0 : s;
}

static void check(const uint8_t *before, const uint8_t *after, size_t len, size_t vnet)
{
    ColoSegment segment;

    if (before == after)
        return;
    if (!colo_segment_read(before, len, vnet, 0, false, &segment)) {
        ColoQuote quote;

        CHECK(colo_segment_read_quote(before, len, vnet, 0, &quote));
        CHECK(memcmp(before, after, quote.icmp_at + 2) == 0);
        CHECK(memcmp(before + quote.seq_at + 4, after + quote.seq_at + 4, len - quote.seq_at - 4) ==
              0);
        CHECK(quote.partial || sum(before, quote.icmp_at, len) == sum(after, quote.icmp_at, len));
        return;
    }
    CHECK(memcmp(before, after, segment.tcp_at + 4) == 0);
    CHECK(memcmp(before + segment.tcp_at + 12, after + segment.tcp_at + 12, 4) == 0);
    if (segment.partial)
        CHECK(memcmp(before + segment.tcp_at + 16, after + segment.tcp_at + 16, 2) == 0);
    else
        CHECK(sum(before, segment.tcp_at, len) == sum(after, segment.tcp_at, len));
}

static void sent(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet)
{
    size_t *expected = opaque;

    CHECK(nic < 2 && vnet == *expected);
    CHECK(len <= COLO_REWRITE_SYN_BYTES && colo_rewrite_is_syn(frame, len, vnet));
}

static ColoRewrite *pass_on(ColoRewrite *old, size_t *vnet, uint64_t now, bool half)
{
    static ColoRewriteRow rows[COLO_REWRITE_CONNECTIONS];
    ColoRewrite *rewrite = colo_rewrite_new(sent, vnet);
    uint32_t n = colo_rewrite_export(old, rows, COLO_REWRITE_CONNECTIONS);

    CHECK(rewrite);
    CHECK(n == colo_rewrite_live(old));
    for (uint32_t i = 0; i < n; i++)
        CHECK(colo_rewrite_import(rewrite, &rows[i], now));
    CHECK(colo_rewrite_live(rewrite) == n);
    if (half) {
        colo_rewrite_keep(rewrite, rows, n / 2);
        CHECK(colo_rewrite_live(rewrite) == n / 2);
    }
    colo_rewrite_free(old);
    return rewrite;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t vnets[] = {0, 10, 12};
    ColoRewrite *rewrite;
    const uint8_t *frame = NULL, *got;
    size_t at = 1, len = 0, vnet;
    uint64_t now = 1;

    if (size < 1)
        return 0;
    vnet = vnets[data[0] % 3];
    rewrite = colo_rewrite_new(sent, &vnet);
    CHECK(rewrite);
    while (at < size) {
        uint8_t op = data[at] % 8, bits = data[at], nic = data[at] >> 7;
        uint8_t *copy;

        at++;
        if (op < 3) {
            if (size - at < 2)
                break;
            len = (size_t)data[at] << 8 | data[at + 1];
            at += 2;
            if (len > size - at)
                len = size - at;
            frame = data + at;
            at += len;
        } else if (op == 7 && !frame) {
            continue;
        }
        switch (op) {
        case 3:
            colo_rewrite_loaded(rewrite);
            continue;
        case 4:
            colo_rewrite_alone(rewrite);
            continue;
        case 5:
            now += UINT64_C(60) * 1000000000u;
            colo_rewrite_expire(rewrite, now);
            continue;
        case 6:
            rewrite = pass_on(rewrite, &vnet, now, bits & 8);
            continue;
        default:
            break;
        }
        copy = malloc(len ? len : 1);
        CHECK(copy);
        memcpy(copy, frame, len);
        if (op == 0) {
            if (bits & 8)
                colo_rewrite_late_syn(rewrite, nic, copy, len, vnet, bits & 16);
            else if (colo_rewrite_is_syn(copy, len, vnet))
                colo_rewrite_primary_syn(rewrite, nic, copy, len, vnet);
        } else {
            got = op == 2 ? colo_rewrite_input(rewrite, nic, copy, len, vnet, now)
                          : colo_rewrite_output(rewrite, nic, copy, len, vnet, now);
            CHECK(got || op != 2);
            if (got)
                check(copy, got, len, vnet);
        }
        free(copy);
        CHECK(colo_rewrite_live(rewrite) <= COLO_REWRITE_CONNECTIONS);
    }
    colo_rewrite_free(rewrite);
    return 0;
}
