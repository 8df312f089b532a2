/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an NBD server says to its client, read incrementally while it is carried, to learn of
 * requests that failed (rule 2 of the checkpoint stream's facts: a checkpoint counts only with all
 * disk writes before it) and to count those that are answered. Pure: no sockets, no allocation, no
 * copy of the stream. One thread.
 *
 * Grammar (NBD protocol document; QEMU 7.2: nbd/server.c, nbd/client.c; all big-endian):
 *   stream   = greeting option* transmission
 *   greeting = "NBDMAGIC" "IHAVEOPT" be16-flags, fixed newstyle among them
 *   option   = be64 0003e889045565a9 be32-option be32-type be32-n, n bytes; ACK to NBD_OPT_GO is
 *              the last one, ACK to NBD_OPT_STRUCTURED_REPLY allows chunks
 *   transmission = (simple | chunk)*
 *   simple   = 67446698 be32-error be64-handle
 *   chunk    = 668e33ef be16-flags be16-type be64-handle be32-n, n bytes; of an error type they
 *              begin with be32-error be16-m, m bytes of text
 *
 * A simple reply to a READ is followed by data whose length only the request tells. QEMU's server
 * sends it when chunks were not negotiated, which QEMU's client always does; a mirror never reads
 * its target. What follows a simple reply is therefore read as the next reply, and is UNKNOWN when
 * it is none. So are TLS, NBD_OPT_EXPORT_NAME and the extended headers of later QEMUs.
 *
 * UNKNOWN is for good: the caller must take it that writes may have failed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Payload of a chunk: the offset and as much data as a request may ask for (QEMU:
 * NBD_MAX_BUFFER_SIZE, 32 MiB). */
#define COLO_NBD_CHUNK_MAX ((UINT32_C(32) << 20) + 8u)
/* Payload of an option reply: two strings of at most 4096 bytes, and their frame. */
#define COLO_NBD_OPTION_MAX 16384u

/* Error numbers of the protocol; those of Linux, whatever the hosts are. */
enum {
    COLO_NBD_EPERM = 1,
    COLO_NBD_EIO = 5,
    COLO_NBD_ENOMEM = 12,
    COLO_NBD_EINVAL = 22,
    COLO_NBD_ENOSPC = 28,
    COLO_NBD_EOVERFLOW = 75,
    COLO_NBD_ENOTSUP = 95,
    COLO_NBD_ESHUTDOWN = 108,
};

typedef enum {
    COLO_NBD_NOTHING, /* all bytes taken in, no error among them */
    COLO_NBD_ERROR,   /* a reply that tells parser->error ends here */
    COLO_NBD_UNKNOWN,
} ColoNbdEvent;

typedef struct {
    int state;         /* of the state machine in nbd-replies.c */
    uint8_t part[20];  /* bytes of a fixed-size field that is not whole yet */
    uint32_t have;     /* bytes in it */
    uint32_t skip;     /* bytes of a body still to pass over */
    uint32_t error;    /* of the last error reply: COLO_NBD_E* or another number, never 0 */
    bool structured;   /* chunks are negotiated */
    bool last_option;  /* the option reply in work ends the negotiation */
    bool failing;      /* the reply in work tells an error */
    bool answers;      /* the reply in work is the last one to its request */
    uint64_t answered; /* requests to which the last reply has passed */
} ColoNbdReplies;

void colo_nbd_replies_init(ColoNbdReplies *parser);

/* Reads on; stops behind the byte that completes an event. Returns the bytes taken in (all of
 * them with NOTHING and UNKNOWN) and sets @event. */
size_t colo_nbd_replies_feed(ColoNbdReplies *parser, const uint8_t *data, size_t len,
                             ColoNbdEvent *event);

/* False for ENOTSUP: nothing was lost, the client does it in another way (QEMU 7.2, block/io.c:
 * zeroes without a fast way are written). */
bool colo_nbd_error_is_failure(uint32_t error);
/* "NBD error reply: ENOSPC"; a constant for every number. */
const char *colo_nbd_error_text(uint32_t error);
