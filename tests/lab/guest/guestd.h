/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * guestd: the test guest's only program besides busybox.  It is process 1 of the guest.
 *
 *   guestd.c   epoll server: TCP services on ports 7 to 11, power button, kernel command line
 *   disk.c     child process a disk: numbered, checksummed blocks, verified all the time
 *   dirty.c    child process: dirties memory at a chosen rate and checks what it wrote
 *
 * The children share one page with the server (struct shared); each field has one writer.
 */
#ifndef GUESTD_H
#define GUESTD_H

#include <stdint.h>

#define DISKS_MAX 2 /* /dev/vda, /dev/vdb */

struct disk {
    volatile uint64_t recovered; /* highest block number found at start, 0: empty disk */
    volatile uint64_t durable;   /* highest block number written and flushed */
    volatile uint64_t verified;  /* blocks read back and found right since start */
    volatile uint64_t errors;    /* blocks missing or wrong since start */
    volatile uint32_t ready;     /* 1 once the blocks of the last run are verified */
};

struct shared {
    /* written by the server */
    volatile uint32_t dirty_mbps; /* MiB of pages to dirty a second, 0: none */
    volatile uint32_t disk_rate;  /* blocks to write a second on each disk, 0: none */
    /* written by disk.c, each by its own process */
    struct disk disks[DISKS_MAX];
    /* written by dirty.c */
    volatile uint64_t dirty_pages;  /* pages written since start */
    volatile uint64_t dirty_errors; /* pages found changed by somebody else */
};

/* Say a line on the console, in one write. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Children's main functions; they do not return. Disk 0 is /dev/vda. */
void disk_main(struct shared *sh, unsigned index);
void dirty_main(struct shared *sh);

#endif
