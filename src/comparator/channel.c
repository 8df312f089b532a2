/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/channel.h"

#include "comparator/burst.h"
#include "util/error.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Frames wait for the end of the round until they are this many bytes: QEMU may then read while the
 * next are compared. */
#define BURST_BYTES (128u << 10)

struct ColoChannel {
    ColoLoop *loop;
    ColoSource source;
    ColoDeferred flush;
    const ColoChannelOps *ops;
    void *owner;
    unsigned kind, index;
    bool packets, vnet, paused, held, want_out;
    ColoDeferred reap; /* frees the memory when no code of ours is on the stack */
    ColoRing out;
    uint64_t boundary;   /* packets: offset in @out where the next unfinished frame begins */
    ColoBurst burst;     /* packets: leaves after @out, which has room for it */
    ColoPacketReader in; /* packets */
};

static void really_free(void *opaque)
{
    ColoChannel *channel = opaque;

    colo_burst_clear(&channel->burst);
    colo_ring_clear(&channel->out);
    colo_packet_reader_clear(&channel->in);
    free(channel);
}

static void watch(ColoChannel *channel)
{
    if (colo_channel_is_up(channel))
        colo_loop_set(channel->loop, &channel->source,
                      (channel->paused ? 0 : EPOLLIN) | (channel->want_out ? EPOLLOUT : 0));
}

/* Closes at once, without the callback.
 * #syscalls shutdown */
static void shut_down(ColoChannel *channel)
{
    int fd = channel->source.fd;

    if (fd < 0)
        return;
    colo_loop_cancel(channel->loop, &channel->flush);
    colo_loop_remove(channel->loop, &channel->source);
    /* QEMU may hold the other end twice (getfd): only shutdown() reaches all of them. */
    (void)shutdown(fd, SHUT_RDWR);
    close(fd);
    colo_burst_clear(&channel->burst);
}

static void go_down(ColoChannel *channel, const char *reason)
{
    if (!colo_channel_is_up(channel))
        return;
    shut_down(channel);
    channel->ops->down(channel->owner, channel, reason);
}

void colo_channel_free(ColoChannel *channel)
{
    if (!channel)
        return;
    shut_down(channel);
    colo_loop_defer(channel->loop, &channel->reap);
}

/* Moves the frame boundary over the frames whose bytes have begun to leave. Called right after
 * bytes were taken and before any is put, so their headers are still in the ring's memory. */
static void follow_frames(ColoChannel *channel)
{
    while (channel->boundary < channel->out.tail) {
        uint32_t be;

        colo_ring_read_at(&channel->out, channel->boundary, &be, sizeof(be));
        channel->boundary += colo_packet_head(channel->vnet) + be32toh(be);
    }
}

/* What of the burst has not been @sent goes into the ring, which is empty. */
static void spill(ColoChannel *channel, size_t sent)
{
    ColoBurst *burst = &channel->burst;
    size_t skip = sent;

    if (burst->n == 0)
        return;
    channel->boundary = channel->out.head +
                        colo_burst_frame_end(burst, sent, colo_packet_head(channel->vnet)) - sent;
    for (unsigned i = 0; i < burst->n; i++) {
        size_t gone = skip < burst->piece[i].iov_len ? skip : burst->piece[i].iov_len;

        (void)colo_ring_put(&channel->out, (const uint8_t *)burst->piece[i].iov_base + gone,
                            burst->piece[i].iov_len - gone);
        skip -= gone;
    }
    colo_burst_clear(burst);
}

/* One write of what is next. 0, EAGAIN when no more can be written now, or what went wrong.
 * #syscalls sendto sendmsg */
static int write_once(ColoChannel *channel)
{
    struct msghdr message = {.msg_iov = channel->burst.piece, .msg_iovlen = channel->burst.n};
    size_t len;
    const uint8_t *data = colo_ring_peek(&channel->out, &len);
    ssize_t n = data ? send(channel->source.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT)
                     : sendmsg(channel->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) {
        int code = errno == EWOULDBLOCK ? EAGAIN : errno;

        spill(channel, 0); /* it may take long: no chunk is kept for it */
        return code == EINTR ? 0 : code;
    }
    if (!data) {
        spill(channel, (size_t)n);
        return 0;
    }
    colo_ring_take(&channel->out, (size_t)n);
    if (channel->packets)
        follow_frames(channel);
    return 0;
}

static bool may_write(const ColoChannel *channel)
{
    return colo_channel_is_up(channel) && !channel->held &&
           colo_ring_used(&channel->out) + channel->burst.bytes > 0;
}

static void flush(void *opaque)
{
    ColoChannel *channel = opaque;
    size_t before = colo_channel_space(channel);

    int code = 0;

    while (code == 0 && may_write(channel))
        code = write_once(channel);
    channel->want_out = code == EAGAIN;
    if (code != 0 && code != EAGAIN)
        go_down(channel, strerror(code));
    watch(channel);
    if (colo_channel_is_up(channel) && colo_channel_space(channel) > before && channel->ops->space)
        channel->ops->space(channel->owner, channel);
}

/* Hands out the whole frames that were read. False when it is no frame stream. */
static bool deliver_frames(ColoChannel *channel)
{
    ColoWireFrame frames[COLO_CHANNEL_FRAMES];
    ColoChunk *chunk;
    unsigned n;

    while (colo_channel_is_up(channel) &&
           (n = colo_packet_reader_next(&channel->in, frames, COLO_CHANNEL_FRAMES, &chunk)))
        channel->ops->frames(channel->owner, channel, frames, n, chunk);
    return !channel->in.broken;
}

/* What a read has told of the next. */
typedef enum { READ_EMPTY, READ_SHORT, READ_FULL } ReadResult;

/* One read; SHORT: the socket was empty after it.
 * #syscalls recvfrom */
static ReadResult read_once(ColoChannel *channel)
{
    static _Thread_local uint8_t raw[COLO_CHANNEL_CHUNK];
    size_t room = sizeof(raw);
    uint8_t *to = channel->packets ? colo_packet_reader_room(&channel->in, &room) : raw;
    ssize_t n = recv(channel->source.fd, to, room, MSG_DONTWAIT);

    if (n < 0 && errno == EINTR)
        return READ_FULL;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return READ_EMPTY;
    if (n <= 0) {
        go_down(channel, n == 0 ? "closed by QEMU" : strerror(errno));
        return READ_EMPTY;
    }
    if (!channel->packets) {
        channel->ops->bytes(channel->owner, channel, raw, (size_t)n);
    } else {
        colo_packet_reader_took(&channel->in, (size_t)n);
        if (!deliver_frames(channel))
            go_down(channel, "what QEMU wrote is not in its packet framing");
    }
    return (size_t)n < room ? READ_SHORT : READ_FULL;
}

/* Reads at most @budget times, until a read tells @last. */
static void read_some(ColoChannel *channel, int budget, ReadResult last)
{
    for (int i = 0; i < budget && colo_channel_is_up(channel) && !channel->paused; i++) {
        if (read_once(channel) <= last)
            break;
    }
}

void colo_channel_flush(ColoChannel *channel)
{
    flush(channel);
}

void colo_channel_drain(ColoChannel *channel)
{
    read_some(channel, COLO_CHANNEL_DRAIN, READ_EMPTY);
}

static void ready(void *opaque, uint32_t events)
{
    ColoChannel *channel = opaque;

    if (events & EPOLLOUT)
        flush(channel);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_some(channel, COLO_CHANNEL_BUDGET, READ_SHORT);
    watch(channel);
}

ColoChannel *colo_channel_new(ColoLoop *loop, int fd, unsigned kind, unsigned index, bool packets,
                              bool vnet, size_t ring, const ColoChannelOps *ops, void *owner,
                              GError **error)
{
    ColoChannel *channel = calloc(1, sizeof(*channel));

    if (!channel || (packets && !colo_packet_reader_init(&channel->in, vnet)) ||
        !colo_ring_init(&channel->out, ring)) {
        colo_error_set_errno(error, ENOMEM, "buffers of a channel");
        if (channel)
            really_free(channel);
        close(fd);
        return NULL;
    }
    channel->loop = loop;
    channel->ops = ops;
    channel->owner = owner;
    channel->kind = kind;
    channel->index = index;
    channel->packets = packets;
    channel->vnet = vnet;
    channel->source = (ColoSource){.ready = ready, .opaque = channel};
    channel->flush = (ColoDeferred){.run = flush, .opaque = channel};
    channel->reap = (ColoDeferred){.run = really_free, .opaque = channel};
    /* Not O_NONBLOCK on the description: the peer end is QEMU's own, but a caller that passes
     * one description twice must not be surprised; each call asks for MSG_DONTWAIT. */
    colo_loop_add(loop, &channel->source, fd, EPOLLIN);
    return channel;
}

unsigned colo_channel_kind(const ColoChannel *channel)
{
    return channel->kind;
}

unsigned colo_channel_index(const ColoChannel *channel)
{
    return channel->index;
}

bool colo_channel_is_up(const ColoChannel *channel)
{
    return channel->source.fd >= 0;
}

size_t colo_channel_space(const ColoChannel *channel)
{
    return colo_ring_space(&channel->out) - channel->burst.bytes;
}

bool colo_channel_put(ColoChannel *channel, const void *data, size_t len)
{
    if (!colo_channel_is_up(channel) || !colo_ring_put(&channel->out, data, len))
        return false;
    colo_loop_defer(channel->loop, &channel->flush);
    return true;
}

/* The frame lies in @chunk behind the very bytes that QEMU wants in front of it; true when it will
 * leave from there. */
static bool put_in_place(ColoChannel *channel, const uint8_t *frame, size_t len,
                         const uint32_t be[2], ColoChunk *chunk)
{
    size_t head = colo_packet_head(channel->vnet);

    return colo_ring_used(&channel->out) == 0 && memcmp(frame - head, be, head) == 0 &&
           colo_burst_add(&channel->burst, frame - head, head + len, chunk);
}

bool colo_channel_put_frame(ColoChannel *channel, const uint8_t *frame, size_t len, size_t vnet,
                            ColoChunk *chunk)
{
    uint32_t be[2] = {htobe32((uint32_t)len), htobe32((uint32_t)vnet)};
    size_t head = colo_packet_head(channel->vnet);

    if (!colo_channel_is_up(channel) || colo_channel_space(channel) < head + len)
        return false;
    if (!chunk || !put_in_place(channel, frame, len, be, chunk)) {
        spill(channel, 0);
        (void)colo_ring_put(&channel->out, be, head);
        (void)colo_ring_put(&channel->out, frame, len);
    }
    /* An error comes again at the end of the round; here is no place to go down. */
    if ((channel->burst.bytes >= BURST_BYTES || channel->burst.n == COLO_BURST_PIECES) &&
        may_write(channel))
        (void)write_once(channel);
    colo_loop_defer(channel->loop, &channel->flush);
    return true;
}

void colo_channel_pause(ColoChannel *channel, bool pause)
{
    channel->paused = pause;
    watch(channel);
}

void colo_channel_hold(ColoChannel *channel, bool hold)
{
    channel->held = hold;
    if (hold) {
        channel->want_out = false;
        watch(channel);
    } else if (colo_channel_is_up(channel)) {
        colo_loop_defer(channel->loop, &channel->flush);
    }
}

uint64_t colo_channel_drop_frames(ColoChannel *channel)
{
    uint64_t dropped = 0, at;

    spill(channel, 0);
    at = channel->boundary;
    /* boundary is the end of the frame that is half written, or tail itself. */
    while (at < channel->out.head) {
        uint32_t be;

        colo_ring_read_at(&channel->out, at, &be, sizeof(be));
        at += colo_packet_head(channel->vnet) + be32toh(be);
        dropped++;
    }
    channel->out.head = channel->boundary;
    return dropped;
}

/* #syscalls ioctl[1==SIOCOUTQ] */
size_t colo_channel_unread(const ColoChannel *channel)
{
    int queued = 0;

    if (!colo_channel_is_up(channel) || ioctl(channel->source.fd, SIOCOUTQ, &queued) < 0)
        return 0;
    return queued > 0 ? (size_t)queued : 0;
}

/* #syscalls poll ppoll */
bool colo_channel_has_ended(const ColoChannel *channel)
{
    struct pollfd end = {.fd = channel->source.fd, .events = POLLRDHUP};

    return end.fd < 0 || poll(&end, 1, 0) != 0;
}
