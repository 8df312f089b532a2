/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One data stream: a TCP connection to the peer with TLS over it, a bounded output ring, and a
 * reader that can be paused. Puts never block; what was put in one round of the loop leaves at
 * its end, so that small records share a TLS record. One thread.
 *
 * A stream goes CONNECTING -> UP -> DOWN and never back. Callbacks may close the stream, and free
 * it: the memory goes at the end of the round.
 */
#pragma once

#include "comparator/loop.h"
#include "comparator/protocol.h"
#include "comparator/ring.h"

#include <glib.h>

/* Handshake and preface together; a live pair needs a few ms. */
#define COLO_STREAM_HANDSHAKE_NS (UINT64_C(5) * 1000000000u)
/* Largest piece handed to the data callback: one TLS record. A receiver that cannot take this
 * much pauses the stream. */
#define COLO_STREAM_CHUNK 16384u
/* TLS records read in one round before other sources get their turn. */
#define COLO_STREAM_BUDGET 64

typedef struct ColoStream ColoStream;

typedef enum { COLO_STREAM_CONNECTING, COLO_STREAM_UP, COLO_STREAM_DOWN } ColoStreamState;

typedef struct {
    /* Handshake done and the preface is sent, or received (colo_stream_preface()). */
    void (*up)(void *owner, ColoStream *stream);
    /* Up to COLO_STREAM_CHUNK bytes; all of them are taken. */
    void (*data)(void *owner, ColoStream *stream, const uint8_t *data, size_t len);
    /* The output ring has become smaller. */
    void (*space)(void *owner, ColoStream *stream);
    /* Called once; the connection is closed already. */
    void (*down)(void *owner, ColoStream *stream, const char *reason);
} ColoStreamOps;

/* The connecting side. @fd is the stream's from here on, also on failure (NULL and @error). @ring
 * bytes of output may wait. */
ColoStream *colo_stream_connect(ColoLoop *loop, int fd, const char *uuid, uint64_t generation,
                                const char *name, const uint8_t key[COLO_CMP_PSK_BYTES],
                                size_t ring, const ColoStreamOps *ops, void *owner, GError **error);

/* The accepting side; the TLS key function sees the stream as its opaque. */
ColoStream *colo_stream_accept(ColoLoop *loop, int fd, const ColoStreamOps *ops, void *owner,
                               GError **error);
/* Sends what the socket takes at once, says goodbye and closes, all without a callback. */
void colo_stream_free(ColoStream *stream);

/* Accepting side: what the TLS identity said, to be set by the key function, and checked against
 * the preface. */
void colo_stream_set_identity(ColoStream *stream, const char *uuid, uint64_t generation,
                              const char *name);
const char *colo_stream_uuid(const ColoStream *stream);
uint64_t colo_stream_generation(const ColoStream *stream);
const char *colo_stream_name(const ColoStream *stream);

/* Takes an accepted stream that is UP off its loop; its owner hears nothing of it any more. Until
 * it is attached to another it may only be handed over, to that loop's thread, or back. */
void colo_stream_detach(ColoStream *stream);
/* On @loop, paused, and without an owner until it is adopted. */
void colo_stream_attach(ColoStream *stream, ColoLoop *loop);
/* Hands the stream to another owner, with @ring bytes of output, and lets it read. False when
 * memory is missing. */
bool colo_stream_adopt(ColoStream *stream, size_t ring, const ColoStreamOps *ops, void *owner);

ColoStreamState colo_stream_state(const ColoStream *stream);
size_t colo_stream_space(const ColoStream *stream);
/* Puts all of it or nothing; false when it does not fit, or the stream is not UP, or is mute. */
bool colo_stream_put(ColoStream *stream, const void *data, size_t len);
/* The same for a header and a payload that must not be parted. */
bool colo_stream_put2(ColoStream *stream, const void *head, size_t head_len, const void *data,
                      size_t len);

/* Stops or resumes reading; what has been received before is still delivered. */
void colo_stream_pause(ColoStream *stream, bool pause);

/* Nothing more goes to the peer, what waits in the ring included; reading goes on (I3). */
void colo_stream_mute(ColoStream *stream);

/* Closes at once, calling down(@reason). No-op when it is DOWN. */
void colo_stream_close(ColoStream *stream, const char *reason);
/* Closes, with down(@reason), when what waits has been sent. */
void colo_stream_finish(ColoStream *stream, const char *reason);
