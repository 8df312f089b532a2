/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an NBD client says to its server, read incrementally while it is carried, to know how many
 * requests wait for an answer (nbd-replies.h counts those). Pure: no sockets, no allocation, no
 * copy of the stream. One thread.
 *
 * Grammar (NBD protocol document; QEMU 7.2: nbd/client.c; all big-endian):
 *   stream  = be32-flags option* request*
 *   option  = "IHAVEOPT" be32-option be32-n, n bytes
 *   request = 25609513 be16-flags be16-type be64-handle be64-offset be32-n; of a WRITE n bytes
 *
 * NBD_OPT_EXPORT_NAME, TLS and the extended headers of later QEMUs are not read: unknown, for good.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Payload of an option: two strings of at most 4096 bytes, and their frame. */
#define COLO_NBD_OPTION_DATA_MAX 16384u
/* Payload of a WRITE (QEMU: NBD_MAX_BUFFER_SIZE). */
#define COLO_NBD_WRITE_MAX (UINT32_C(32) << 20)

typedef struct {
    int state;         /* of the state machine in nbd-requests.c */
    uint8_t part[24];  /* bytes of a fixed-size field that is not whole yet */
    uint32_t have;     /* bytes in it */
    uint32_t skip;     /* bytes of a body still to pass over */
    bool transmission; /* a request has come: no options any more */
    bool counts;       /* what is in work is a request that gets an answer */
    uint64_t whole;    /* requests that have passed to their last byte and get an answer */
} ColoNbdRequests;

void colo_nbd_requests_init(ColoNbdRequests *parser);
/* Nothing is known to wait from now on. */
void colo_nbd_requests_stop(ColoNbdRequests *parser);
/* Reads on. False once the stream is unknown. */
bool colo_nbd_requests_feed(ColoNbdRequests *parser, const uint8_t *data, size_t len);
