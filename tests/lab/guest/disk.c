/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Disk writer.  Block number N (from 1) goes to slot N % SLOTS, is flushed, and only then counts
 * as durable.  Its content follows from N and the disk's index alone, so any copy of the disk can
 * be judged by itself, and a block of one disk on another is found.
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

/* Of disk 0; each has its own. */
#define MAGIC 0x31764b4c42434c4fULL

struct block {
    uint64_t magic;
    uint64_t number;
    uint64_t body[BLOCK / 8 - 3];
    uint64_t sum; /* FNV-1a, 64 bit words, of all before */
};

static struct disk *disk;
static unsigned disk_index;

static uint64_t magic(void)
{
    return MAGIC + disk_index;
}

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

    b->magic = magic();
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

static void corrupt(uint64_t number, const struct block *b, const char *what)
{
    disk->errors++;
    say("DISK-CORRUPT block %llu: %s (disk %u, found magic %llx number %llu)\n",
        (unsigned long long)number, what, disk_index, (unsigned long long)b->magic,
        (unsigned long long)b->number);
}

/* Judges one block; returns 0 when it is block `number`, unchanged. */
static int judge(uint64_t number, const struct block *b)
{
    if (b->magic != magic() || b->number != number)
        corrupt(number, b, "missing");
    else if (b->sum != checksum(b))
        corrupt(number, b, "wrong content");
    else {
        disk->verified++;
        return 0;
    }
    return -1;
}

/* Reads the area; returns the highest number of a right block, 0 when there is none. */
static uint64_t recover(int fd)
{
    struct block *all = aligned_alloc(BLOCK, (size_t)SLOTS * BLOCK);
    uint64_t max = 0;

    for (size_t i = 0; i < SLOTS; i += SCAN)
        if (pread(fd, all + i, (size_t)SCAN * BLOCK, (off_t)(FIRST + i) * BLOCK) !=
            (ssize_t)SCAN * BLOCK)
            say("DISK-CORRUPT disk %u: cannot read slot %zu: %m\n", disk_index, i);
    for (size_t i = 0; i < SLOTS; i++)
        if (all[i].magic == magic() && all[i].number > max && all[i].number % SLOTS == i &&
            all[i].sum == checksum(&all[i]))
            max = all[i].number;
    for (uint64_t n = max; n > 0 && n + SLOTS > max + 1; n--)
        judge(n, &all[n % SLOTS]);
    free(all);
    return max;
}

void disk_main(struct shared *sh, unsigned index)
{
    char device[] = "/dev/vda";
    struct block *b = aligned_alloc(BLOCK, BLOCK);
    uint64_t last, old = 0;
    int fd;

    disk = &sh->disks[index];
    disk_index = index;
    device[sizeof(device) - 2] += (char)index;
    fd = open(device, O_RDWR | O_DIRECT);
    if (fd < 0 || !b) {
        if (index == 0)
            say("GUEST-DISK none: %s: %m\n", device);
        _exit(0);
    }
    last = disk->recovered = recover(fd);
    disk->durable = last;
    disk->ready = 1;
    say("GUEST-DISK %u recovered=%llu errors=%llu\n", index, (unsigned long long)last,
        (unsigned long long)disk->errors);

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
            disk->errors++;
            say("DISK-CORRUPT disk %u: cannot write block %llu: %m\n", index,
                (unsigned long long)last + 1);
            continue;
        }
        disk->durable = ++last;
        for (int i = 0; i < CHECKS; i++) {
            uint64_t low = last >= SLOTS ? last - SLOTS + 1 : 1;

            old = old < low || old >= last ? low : old + 1;
            if (pread(fd, b, BLOCK, offset_of(old)) != BLOCK)
                memset(b, 0, BLOCK);
            judge(old, b);
        }
    }
}
