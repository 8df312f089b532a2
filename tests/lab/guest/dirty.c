/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Memory dirtying.  A buffer of PAGES pages is walked over and over; each page holds the number
 * of its round at both ends, which is checked before it is written again: a page lost by a
 * checkpoint shows as MEM-CORRUPT.
 */
#include "guestd.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 8192 /* 32 MiB */
#define TICK_MS 10

void dirty_main(struct shared *sh)
{
    uint64_t *buf = NULL;
    uint64_t round = 0;
    size_t page = 0;
    double due = 0;

    for (;;) {
        struct timespec tick = {0, TICK_MS * 1000000L};
        uint32_t rate = sh->dirty_mbps;

        nanosleep(&tick, NULL);
        if (!rate)
            continue;
        if (!buf) {
            buf = aligned_alloc(PAGE, (size_t)PAGES * PAGE);
            if (!buf) {
                say("GUEST-DIRTY no memory\n");
                _exit(1);
            }
            memset(buf, 0, (size_t)PAGES * PAGE);
        }
        due += rate * (1048576.0 / PAGE) * TICK_MS / 1000;
        for (; due >= 1; due--) {
            volatile uint64_t *p = buf + page * (PAGE / 8);

            if (p[0] != round || p[PAGE / 8 - 1] != round) {
                sh->dirty_errors++;
                say("MEM-CORRUPT page %zu: %llu and %llu, expected %llu\n", page,
                    (unsigned long long)p[0], (unsigned long long)p[PAGE / 8 - 1],
                    (unsigned long long)round);
            }
            p[0] = p[PAGE / 8 - 1] = round + 1;
            sh->dirty_pages++;
            if (++page == PAGES) {
                page = 0;
                round++;
            }
        }
    }
}
