/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's COLO checkpoint stream, read incrementally while it is carried (design section 4). Pure:
 * no sockets, no allocation, no copy of the stream. One thread.
 *
 * Grammar of the forward stream after CHECKPOINT_READY has gone back (QEMU 7.2: migration/colo.c
 * colo_do_checkpoint_transaction(), migration/savevm.c, migration/ram.c; all big-endian):
 *   checkpoint = REQUEST SEND section* VM_EOF SIZE be64 device-state
 *   section    = (02 | 03) be32-id record* EOS [7e be32-id]
 *   record     = be64 (address | flags) [len8 idstr, unless CONTINUE] body
 *   body       = PAGE: 4096 bytes; ZERO: one 00; XBZRLE: 01 be16 n, n bytes;
 *                COMPRESS: be32 n, n bytes
 *   device-state begins with 04 (section full) and ends with 00 (VM_EOF)
 * The return path is bare be32 words: READY, then REPLY RECEIVED LOADED for each checkpoint.
 *
 * Anything else is UNKNOWN, for good: the caller must not take commit points from it any more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* COLOMessage of qapi/migration.json. */
enum {
    COLO_MSG_CHECKPOINT_READY = 0,
    COLO_MSG_CHECKPOINT_REQUEST = 1,
    COLO_MSG_CHECKPOINT_REPLY = 2,
    COLO_MSG_VMSTATE_SEND = 3,
    COLO_MSG_VMSTATE_SIZE = 4,
    COLO_MSG_VMSTATE_RECEIVED = 5,
    COLO_MSG_VMSTATE_LOADED = 6,
};

/* Device state is some 100 KB to a few MB; QEMU's buffer starts at 4 MiB. More is no COLO stream.
 */
#define COLO_FORWARD_DEVICE_MAX (UINT64_C(256) << 20)
/* Records of the ram section: x86 page size (TARGET_PAGE_BITS 12). */
#define COLO_FORWARD_PAGE 4096u
#define COLO_FORWARD_COMPRESSED_MAX 16384u

typedef enum {
    COLO_FORWARD_NOTHING,  /* all bytes taken in, no mark among them */
    COLO_FORWARD_REQUEST,  /* CHECKPOINT_REQUEST ends here */
    COLO_FORWARD_SEND,     /* VMSTATE_SEND ends here: the primary's vCPUs are stopped */
    COLO_FORWARD_COMPLETE, /* the last byte of the device state ends here */
    COLO_FORWARD_UNKNOWN,
} ColoForwardEvent;

typedef struct {
    int state;        /* of the state machine in checkpoint-stream.c */
    uint8_t part[16]; /* bytes of a fixed-size field that is not whole yet */
    uint32_t have;    /* bytes in it */
    uint64_t skip;    /* bytes of a body still to pass over */
    uint32_t flags;   /* of the record in work */
    uint32_t section; /* id of the section in work */
    uint64_t pages, zero_pages, device_bytes, checkpoints; /* counters */
} ColoForwardParser;

void colo_forward_init(ColoForwardParser *parser);

/* Reads on; stops behind the byte that completes an event. Returns the bytes taken in (all of
 * them with NOTHING and UNKNOWN) and sets @event. */
size_t colo_forward_feed(ColoForwardParser *parser, const uint8_t *data, size_t len,
                         ColoForwardEvent *event);

/* True between REQUEST and COMPLETE. */
bool colo_forward_inside(const ColoForwardParser *parser);

typedef enum {
    COLO_RETURN_NOTHING,
    COLO_RETURN_READY,
    COLO_RETURN_REPLY,
    COLO_RETURN_RECEIVED,
    COLO_RETURN_LOADED,
    COLO_RETURN_UNKNOWN,
} ColoReturnEvent;

typedef struct {
    int expected; /* COLO_MSG_*, or -1: unknown for good */
    uint8_t part[4];
    uint32_t have;
} ColoReturnParser;

void colo_return_init(ColoReturnParser *parser);

/* As colo_forward_feed(), for the return path; the words must come in their order. */
size_t colo_return_feed(ColoReturnParser *parser, const uint8_t *data, size_t len,
                        ColoReturnEvent *event);
