/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/channel.h"

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

/* A whole frame with both lengths fits into what remains when a partial one lies at the front. */
#define INPUT_SIZE (COLO_CHANNEL_CHUNK + COLO_RECORD_MAX + 8u)

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
    uint64_t boundary; /* packets: offset in @out where the next unfinished frame begins */
    uint8_t *in;       /* packets: INPUT_SIZE bytes */
    size_t have;
};

static void really_free(void *opaque)
{
    ColoChannel *channel = opaque;

    colo_ring_clear(&channel->out);
    free(channel->in);
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
        channel->boundary += (channel->vnet ? 8u : 4u) + be32toh(be);
    }
}

/* #syscalls sendto */
static void flush(void *opaque)
{
    ColoChannel *channel = opaque;
    bool sent = false;

    channel->want_out = false;
    while (colo_channel_is_up(channel) && !channel->held && colo_ring_used(&channel->out) > 0) {
        size_t len;
        const uint8_t *data = colo_ring_peek(&channel->out, &len);
        ssize_t n = send(channel->source.fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            channel->want_out = true;
            break;
        }
        if (n < 0) {
            go_down(channel, strerror(errno));
            break;
        }
        colo_ring_take(&channel->out, (size_t)n);
        if (channel->packets)
            follow_frames(channel);
        sent = true;
    }
    watch(channel);
    if (sent && colo_channel_is_up(channel) && channel->ops->space)
        channel->ops->space(channel->owner, channel);
}

/* Hands out the whole frames in the input buffer. False when it is no frame stream. */
static bool deliver_frames(ColoChannel *channel)
{
    size_t head = channel->vnet ? 8 : 4, at = 0;

    while (channel->have - at >= head) {
        uint32_t be[2] = {0, 0};
        size_t len, vnet;

        memcpy(be, channel->in + at, head);
        len = be32toh(be[0]);
        vnet = be32toh(be[1]);
        if (len > COLO_RECORD_MAX || vnet > len || vnet > COLO_CHANNEL_VNET_MAX)
            return false;
        if (channel->have - at < head + len)
            break;
        channel->ops->frame(channel->owner, channel, channel->in + at + head, len, vnet);
        at += head + len;
        if (!colo_channel_is_up(channel))
            return true;
    }
    memmove(channel->in, channel->in + at, channel->have - at);
    channel->have -= at;
    return true;
}

/* One read. False when there is nothing more for now.
 * #syscalls recvfrom */
static bool read_once(ColoChannel *channel)
{
    static _Thread_local uint8_t raw[COLO_CHANNEL_CHUNK];
    uint8_t *to = channel->packets ? channel->in + channel->have : raw;
    size_t room = channel->packets ? INPUT_SIZE - channel->have : sizeof(raw);
    ssize_t n = recv(channel->source.fd, to, room, MSG_DONTWAIT);

    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (n <= 0) {
        go_down(channel, n == 0 ? "closed by QEMU" : strerror(errno));
        return false;
    }
    if (!channel->packets) {
        channel->ops->bytes(channel->owner, channel, raw, (size_t)n);
    } else {
        channel->have += (size_t)n;
        if (!deliver_frames(channel))
            go_down(channel, "what QEMU wrote is not in its packet framing");
    }
    return true;
}

static void read_some(ColoChannel *channel, int budget)
{
    for (int i = 0; i < budget && colo_channel_is_up(channel) && !channel->paused; i++) {
        if (!read_once(channel))
            break;
    }
}

void colo_channel_flush(ColoChannel *channel)
{
    flush(channel);
}

void colo_channel_drain(ColoChannel *channel)
{
    read_some(channel, COLO_CHANNEL_DRAIN);
}

static void ready(void *opaque, uint32_t events)
{
    ColoChannel *channel = opaque;

    if (events & EPOLLOUT)
        flush(channel);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_some(channel, COLO_CHANNEL_BUDGET);
    watch(channel);
}

ColoChannel *colo_channel_new(ColoLoop *loop, int fd, unsigned kind, unsigned index, bool packets,
                              bool vnet, size_t ring, const ColoChannelOps *ops, void *owner,
                              GError **error)
{
    ColoChannel *channel = calloc(1, sizeof(*channel));

    if (channel && packets)
        channel->in = malloc(INPUT_SIZE);
    if (!channel || (packets && !channel->in) || !colo_ring_init(&channel->out, ring)) {
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
    return colo_ring_space(&channel->out);
}

bool colo_channel_put(ColoChannel *channel, const void *data, size_t len)
{
    if (!colo_channel_is_up(channel) || !colo_ring_put(&channel->out, data, len))
        return false;
    colo_loop_defer(channel->loop, &channel->flush);
    return true;
}

bool colo_channel_put_frame(ColoChannel *channel, const uint8_t *frame, size_t len, size_t vnet)
{
    uint32_t be[2] = {htobe32((uint32_t)len), htobe32((uint32_t)vnet)};
    size_t head = channel->vnet ? 8 : 4;

    if (!colo_channel_is_up(channel) || colo_ring_space(&channel->out) < head + len)
        return false;
    (void)colo_ring_put(&channel->out, be, head);
    (void)colo_ring_put(&channel->out, frame, len);
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
    uint64_t dropped = 0;
    uint64_t at = channel->boundary;

    /* boundary is the end of the frame that is half written, or tail itself. */
    while (at < channel->out.head) {
        uint32_t be;

        colo_ring_read_at(&channel->out, at, &be, sizeof(be));
        at += (channel->vnet ? 8u : 4u) + be32toh(be);
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
