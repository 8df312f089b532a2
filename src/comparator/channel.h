/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One socket pair with QEMU: a packet channel (frames in both directions, QEMU's chardev framing)
 * or a raw one (migration, NBD). Packet channels are always read (I4); raw ones can be paused.
 * Output leaves at the end of the round, frames from where they were read to if they can; what QEMU
 * does not take then waits in a bounded ring. One thread.
 */
#pragma once

#include "comparator/packet-reader.h"
#include "comparator/loop.h"
#include "comparator/protocol.h"
#include "comparator/ring.h"

#include <glib.h>

/* Bytes read at once; a raw receiver that cannot take this much pauses the channel. */
#define COLO_CHANNEL_CHUNK 65536u
/* Reads in one round before other sources get their turn. */
#define COLO_CHANNEL_BUDGET 16
/* Reads of one drain: 64 MiB, far above what a socket pair can hold while the vCPUs stand. */
#define COLO_CHANNEL_DRAIN 1024
/* Frames handed out in one go. */
#define COLO_CHANNEL_FRAMES 64u

typedef struct ColoChannel ColoChannel;

typedef struct {
    /* Packet channels: 1 to COLO_CHANNEL_FRAMES frames of QEMU's, valid during the call, or as long
     * as a reference to @chunk is held when that is not NULL. */
    void (*frames)(void *owner, ColoChannel *channel, const ColoWireFrame *frames, unsigned n,
                   ColoChunk *chunk);
    /* Raw channels: up to COLO_CHANNEL_CHUNK bytes, all of them taken. */
    void (*bytes)(void *owner, ColoChannel *channel, const uint8_t *data, size_t len);
    /* The output ring has become smaller. */
    void (*space)(void *owner, ColoChannel *channel);
    /* Called once; the socket is closed already. */
    void (*down)(void *owner, ColoChannel *channel, const char *reason);
} ColoChannelOps;

/*
 * @fd is the channel's from here on, also on failure (NULL and @error). @kind and @index are the
 * owner's and come back by the getters. @ring bytes of output may wait. @packets says whether
 * frames or raw bytes go over it, @vnet whether frames carry the length of a vnet header.
 */
ColoChannel *colo_channel_new(ColoLoop *loop, int fd, unsigned kind, unsigned index, bool packets,
                              bool vnet, size_t ring, const ColoChannelOps *ops, void *owner,
                              GError **error);
void colo_channel_free(ColoChannel *channel);

unsigned colo_channel_kind(const ColoChannel *channel);
unsigned colo_channel_index(const ColoChannel *channel);
bool colo_channel_is_up(const ColoChannel *channel);
size_t colo_channel_space(const ColoChannel *channel);

/* Raw bytes, all or nothing; false when they do not fit or the channel is down. */
bool colo_channel_put(ColoChannel *channel, const void *data, size_t len);
/* A frame for QEMU, all or nothing. One that lies in @chunk as a channel handed it out is not
 * copied. */
bool colo_channel_put_frame(ColoChannel *channel, const uint8_t *frame, size_t len, size_t vnet,
                            ColoChunk *chunk);

/* Stops or resumes reading (raw channels only). */
void colo_channel_pause(ColoChannel *channel, bool pause);
/* Stops or resumes writing: what waits stays. */
void colo_channel_hold(ColoChannel *channel, bool hold);
/* Drops the frames that wait, but for one that is half written. Returns their number. */
uint64_t colo_channel_drop_frames(ColoChannel *channel);

/* Writes what the socket takes now, before the end of the round. */
void colo_channel_flush(ColoChannel *channel);
/* Reads until the socket is empty. */
void colo_channel_drain(ColoChannel *channel);
/* Bytes written that QEMU has not read yet. */
size_t colo_channel_unread(const ColoChannel *channel);
/* True when QEMU has closed its end, whatever is still to be read before that is told. */
bool colo_channel_has_ended(const ColoChannel *channel);
