/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Disk writer.  Block number N (from 1) goes to slot N % SLOTS, is flushed, and only then counts
 * as durable.  Its content follows from N alone, so any copy of the disk can be judged by itself.
 *
 * At start the whole area is judged: with M the highest number found, every block M, M-1, ...
 * down to 1 or M-SLOTS+1 must be there and right.  One slot may hold anything: that of M+1, whose
 * write may have been cut by a power loss.  Everything else is DISK-CORRUPT.  While running,
 * CHECKS old blocks are read again after each write, past the page cache.
 */
#define _GNU_SOURCE
#include "guestd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define SLOTS 4096 /* 16 MiB of the disk */
#define FIRST 256  /* slots left alone at the disk's start, 1 MiB */
#define CHECKS 4   /* old blocks verified for each one written */
#define SCAN 64    /* blocks a read at start */
#define MAGIC 0x31764b4c42434c4fULL

struct block {
    uint64_t magic;
    uint64_t number;
    uint64_t body[BLOCK / 8 - 3];
    uint64_t sum; /* FNV-1a, 64 bit words, of all before */
};

static uint64_t checksum(const struct block *b)
{
    const uint64_t *w = (const uint64_t *)b;
    uint64_t h = 0xcbf29ce484222325ULL;

    for (size_t i = 0; i < BLOCK / 8 - 1; i++)
        h = (h ^ w[i]) * 0x100000001b3ULL;
    return h;
}

static void fill(struct block *b, uint64_t number)
{
    uint64_t x = number * 0x9e3779b97f4a7c15ULL + 1;

    b->magic = MAGIC;
    b->number = number;
    for (size_t i = 0; i < BLOCK / 8 - 3; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        b->body[i] = x;
    }
    b->sum = checksum(b);
}

static off_t offset_of(uint64_t number)
{
    return (off_t)(FIRST + number % SLOTS) * BLOCK;
}

static void corrupt(struct shared *sh, uint64_t number, const struct block *b, const char *what)
{
    sh->disk_errors++;
    say("DISK-CORRUPT block %llu: %s (found magic %llx number %llu)\n", (unsigned long long)number,
        what, (unsigned long long)b->magic, (unsigned long long)b->number);
}

/* Judges one block; returns 0 when it is block `number`, unchanged. */
static int judge(struct shared *sh, uint64_t number, const struct block *b)
{
    if (b->magic != MAGIC || b->number != number)
        corrupt(sh, number, b, "missing");
    else if (b->sum != checksum(b))
        corrupt(sh, number, b, "wrong content");
    else {
        sh->disk_verified++;
        return 0;
    }
    return -1;
}

/* Reads the area; returns the highest number of a right block, 0 when there is none. */
static uint64_t recover(struct shared *sh, int fd, struct block *buf)
{
    struct block *all = aligned_alloc(BLOCK, (size_t)SLOTS * BLOCK);
    uint64_t max = 0;

    (void)buf;
    for (size_t i = 0; i < SLOTS; i += SCAN)
        if (pread(fd, all + i, (size_t)SCAN * BLOCK, (off_t)(FIRST + i) * BLOCK) !=
            (ssize_t)SCAN * BLOCK)
            say("DISK-CORRUPT cannot read slot %zu: %m\n", i);
    for (size_t i = 0; i < SLOTS; i++)
        if (all[i].magic == MAGIC && all[i].number > max && all[i].number % SLOTS == i &&
            all[i].sum == checksum(&all[i]))
            max = all[i].number;
    for (uint64_t n = max; n > 0 && n + SLOTS > max + 1; n--)
        judge(sh, n, &all[n % SLOTS]);
    free(all);
    return max;
}

void disk_main(struct shared *sh, const char *device)
{
    int fd = open(device, O_RDWR | O_DIRECT);
    struct block *b = aligned_alloc(BLOCK, BLOCK);
    uint64_t last, old = 0;

    if (fd < 0 || !b) {
        say("GUEST-DISK none: %s: %m\n", device);
        _exit(0);
    }
    last = sh->disk_recovered = recover(sh, fd, b);
    sh->disk_durable = last;
    sh->disk_ready = 1;
    say("GUEST-DISK recovered=%llu errors=%llu\n", (unsigned long long)last,
        (unsigned long long)sh->disk_errors);

    for (;;) {
        uint32_t rate = sh->disk_rate;
        struct timespec pause = {0, rate ? 1000000000L / rate : 100000000L};

        if (pause.tv_nsec >= 1000000000L)
            pause = (struct timespec){1, 0};
        nanosleep(&pause, NULL);
        if (!rate)
            continue;
        fill(b, last + 1);
        if (pwrite(fd, b, BLOCK, offset_of(last + 1)) != BLOCK || fdatasync(fd) != 0) {
            sh->disk_errors++;
            say("DISK-CORRUPT cannot write block %llu: %m\n", (unsigned long long)last + 1);
            continue;
        }
        sh->disk_durable = ++last;
        for (int i = 0; i < CHECKS; i++) {
            uint64_t low = last >= SLOTS ? last - SLOTS + 1 : 1;

            old = old < low || old >= last ? low : old + 1;
            if (pread(fd, b, BLOCK, offset_of(old)) != BLOCK)
                memset(b, 0, BLOCK);
            judge(sh, old, b);
        }
    }
}
