/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two hosts' libvirtds and a domain on each, for steps-driver.c: what virtcolod's actors would do,
 * in one process. Made by run-steps.sh, which sets COLO_STEPS_DIR, COLO_STEPS_GUEST,
 * COLO_STEPS_NET.
 */
#pragma once

#include "domain/kick.h"
#include "domain/qmp.h"
#include "domain/steps-bridge.h"
#include "domain/steps-disk.h"
#include "domain/steps-migrate.h"
#include "domain/steps-net.h"
#include "relay.h"

#include <glib.h>

#define DISKS 2
#define DISK_MIB 96
#define UUID "11111111-2222-3333-4444-555555555555"
#define GUEST "10.9.0.10"
#define QUARANTINE_ALIAS "net0"

typedef struct {
    virConnectPtr conn;
    virDomainPtr dom;
    char *netns; /* path */
    char *copy[DISKS];
    ColoStepDisk disk[DISKS]; /* alias and node are owned */
    pid_t pid;                /* QEMU */
} Host;

typedef struct {
    Host p, s;
    Relay *relay;
    ColoStepNic nic;
    int tick;        /* TCP connection to the guest's counting service, -1: none */
    unsigned ticks;  /* lines answered */
    unsigned marked; /* calls of mark_dead that succeeded */
    gboolean refuse_mark;
    double enable_ms; /* of protect() */
} Lab;

/* Starts the pair: primary running and its guest answering, secondary waiting. @delay_ms: period.
 */
Lab *lab_start(const char *p_name, const char *s_name);
void lab_end(Lab *lab);

/* All steps up to the first checkpoint. */
void lab_protect(Lab *lab, uint64_t delay_ms);

/* Secondary takes over; with the tap on the real bridge. Unless @whole, comes back as soon as QEMU
 * has been told, while it merges. */
void lab_takeover(Lab *lab, gboolean with_tail, gboolean whole, gboolean *tails);

/* Runs in the network namespace of @host; the caller goes back with the same and NULL. */
void lab_enter(Host *host);

/* One line to the counting service; asserts that it is answered in order within @timeout_ms. */
void lab_tick(Lab *lab, unsigned timeout_ms);

/* Answer of the guest's control port (11) to @line, for the caller to g_free(). */
char *lab_guest_ask(const char *line);

/* Asserts that the guest's disk writer has found no error and goes on. */
void lab_disk_good(void);

void lab_kill(Host *host, int signal);
const ColoReturnOptions *lab_return_options(Lab *lab);

/* qemu-io on the device of disk @index in QEMU, "write -P 17 20M 4M". */
void lab_io(Host *host, int index, const char *command);
/* Asserts that the file holds @pattern in [@from, @to) MiB. */
void lab_check_file(const char *path, unsigned pattern, unsigned from, unsigned to);

double lab_now_ms(void);

/* Where a secondary's disk is; from QEMU's own graph. */
typedef enum {
    DISK_PLAIN,   /* drive -> COPY; nothing of ours above it */
    DISK_CHAIN,   /* replication is in and not in failover, or the merge goes on */
    DISK_MERGED,  /* the merge has ended; chain nodes still there */
    DISK_TAIL,    /* the tail commits into COPY, or waits to be */
    DISK_BETWEEN, /* interrupted in the return: drive is on the null node */
} DiskPhase;
DiskPhase lab_disk_phase(Host *host, int index);
