/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names, makes and ends the streams and channels of a session. */
#include "comparator/session.h"

#include "util/error.h"

#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    bool primary, secondary; /* roles that have it */
    bool packets;
    char per; /* 'n': one a NIC, 'd': one a disk, 0: one */
} kinds[COLO_CHANNEL_KINDS] = {
    [COLO_CHANNEL_MIRROR] = {"mirror", true, false, true, 'n'},
    [COLO_CHANNEL_OUT] = {"out", true, true, true, 'n'},
    [COLO_CHANNEL_RELEASE] = {"release", true, true, true, 'n'},
    [COLO_CHANNEL_IN] = {"in", false, true, true, 'n'},
    [COLO_CHANNEL_TAKE] = {"take", false, true, true, 'n'},
    [COLO_CHANNEL_MIGRATION] = {"migration", true, true, false, 0},
    [COLO_CHANNEL_NBD] = {"nbd", true, true, false, 'd'},
};

/* Position of @alias in a list of aliases, or -1. */
static int find_alias(const char (*aliases)[COLO_REQUEST_ALIAS_MAX + 1], unsigned n,
                      const char *alias)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(aliases[i], alias) == 0)
            return (int)i;
    }
    return -1;
}

int colo_session_stream_number(const ColoSessionConfig *config, const char *name)
{
    int disk;

    if (strcmp(name, "packets") == 0)
        return COLO_STREAM_PACKETS;
    if (strcmp(name, "checkpoint") == 0)
        return COLO_STREAM_CHECKPOINT;
    if (strncmp(name, "disk:", 5) != 0)
        return -1;
    disk = find_alias(config->disks, config->n_disks, name + 5);
    return disk < 0 ? -1 : COLO_STREAM_DISK + disk;
}

void colo_session_stream_name(const ColoSession *session, unsigned number, char name[48])
{
    if (number >= COLO_STREAM_DISK)
        g_snprintf(name, 48, "disk:%s", session->config.disks[number - COLO_STREAM_DISK]);
    else
        g_strlcpy(name, number == COLO_STREAM_PACKETS ? "packets" : "checkpoint", 48);
}

/* A secondary needs these to stay in the path after a takeover. */
static bool is_of_rewriting(const ColoSession *session, int kind)
{
    return !session->config.primary && (kind == COLO_CHANNEL_RELEASE || kind == COLO_CHANNEL_TAKE);
}

/* True when the session's role has a channel @name. */
static bool channel_find(const ColoSession *session, const char *name, ColoChannelKind *kind,
                         unsigned *index)
{
    for (int i = 0; i < COLO_CHANNEL_KINDS; i++) {
        size_t len = strlen(kinds[i].name);
        int found = 0;

        if (strncmp(name, kinds[i].name, len) != 0 ||
            !(session->config.primary ? kinds[i].primary : kinds[i].secondary) ||
            (is_of_rewriting(session, i) && !session->config.rewrite))
            continue;
        if (kinds[i].per == 0 && name[len] != '\0')
            continue;
        if (kinds[i].per != 0 && name[len] != ':')
            continue;
        if (kinds[i].per == 'n')
            found = find_alias(session->config.nics, session->config.n_nics, name + len + 1);
        else if (kinds[i].per == 'd')
            found = find_alias(session->config.disks, session->config.n_disks, name + len + 1);
        if (found < 0)
            return false;
        *kind = (ColoChannelKind)i;
        *index = (unsigned)found;
        return true;
    }
    return false;
}

void colo_session_channel_name(const ColoSession *session, ColoChannelKind kind, unsigned index,
                               char name[48])
{
    if (kinds[kind].per == 0)
        g_strlcpy(name, kinds[kind].name, 48);
    else
        g_snprintf(name, 48, "%s:%s", kinds[kind].name,
                   kinds[kind].per == 'n' ? session->config.nics[index]
                                          : session->config.disks[index]);
}

static unsigned number_of(const ColoSession *session, const ColoStream *stream)
{
    unsigned i = 0;

    while (i < COLO_SESSION_STREAMS && session->streams[i] != stream)
        i++;
    return i;
}

static void stream_up(void *owner, ColoStream *stream)
{
    ColoSession *session = owner;
    unsigned number = number_of(session, stream);

    colo_session_log(session, LOG_INFO, "stream %s is up", colo_stream_name(stream));
    if (number == COLO_STREAM_PACKETS) {
        colo_record_init(&session->records);
        colo_heartbeat_start(session);
    } else if (number == COLO_STREAM_CHECKPOINT) {
        colo_checkpoint_space(session);
    } else {
        colo_disk_space(session, number - COLO_STREAM_DISK);
    }
    colo_session_event(session, "stream-up", "stream", "s", colo_stream_name(stream), NULL);
}

static void stream_data(void *owner, ColoStream *stream, const uint8_t *data, size_t len)
{
    ColoSession *session = owner;
    unsigned number = number_of(session, stream);

    if (number == COLO_STREAM_PACKETS)
        colo_packets_stream(session, data, len);
    else if (number == COLO_STREAM_CHECKPOINT)
        colo_checkpoint_from_peer(session, data, len);
    else if (number < COLO_SESSION_STREAMS)
        colo_disk_from_peer(session, number - COLO_STREAM_DISK, data, len);
}

static void stream_space(void *owner, ColoStream *stream)
{
    ColoSession *session = owner;
    unsigned number = number_of(session, stream);

    if (number == COLO_STREAM_CHECKPOINT)
        colo_checkpoint_space(session);
    else if (number >= COLO_STREAM_DISK && number < COLO_SESSION_STREAMS)
        colo_disk_space(session, number - COLO_STREAM_DISK);
}

static void stream_down(void *owner, ColoStream *stream, const char *reason)
{
    ColoSession *session = owner;
    unsigned number = number_of(session, stream);

    colo_session_log(session, LOG_WARNING, "stream %s is down: %s", colo_stream_name(stream),
                     reason);
    /* A disk without its stream can only hang QEMU: NBD learns of the end (rule 8). */
    if (number >= COLO_STREAM_DISK && number < COLO_SESSION_STREAMS) {
        if (session->ready)
            colo_disk_failed(session, number - COLO_STREAM_DISK, reason);
        /* The reply for which the peer ended it may have come with the end. */
        if (session->channels[COLO_CHANNEL_NBD][number - COLO_STREAM_DISK])
            colo_channel_flush(session->channels[COLO_CHANNEL_NBD][number - COLO_STREAM_DISK]);
        colo_session_drop_channel(session, COLO_CHANNEL_NBD, number - COLO_STREAM_DISK);
    }
    colo_session_event(session, "stream-down", "stream", "s", colo_stream_name(stream), "reason",
                       "s", reason, NULL);
}

static const ColoStreamOps stream_ops = {stream_up, stream_data, stream_space, stream_down};

static size_t stream_ring(unsigned number)
{
    if (number == COLO_STREAM_CHECKPOINT)
        return COLO_SESSION_CHECKPOINT_RING;
    return number == COLO_STREAM_PACKETS ? COLO_SESSION_PACKETS_RING : COLO_SESSION_STREAM_RING;
}

/* The migration cannot be taken up again: bytes of it went with the stream that carried it, and
 * QEMU, the parsers and the commits (I1) would go on as if nothing were missing. */
static bool is_used_up(const ColoSession *session, int number)
{
    return number == COLO_STREAM_CHECKPOINT && session->stats[COLO_STAT_CHECKPOINT_BYTES] > 0;
}

gboolean colo_session_attach_peer(ColoSession *session, const char *name, int fd, GError **error)
{
    int number = colo_session_stream_number(&session->config, name);

    if (number < 0 || !session->config.primary) {
        close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    session->config.primary
                        ? "session %s has no stream '%s'"
                        : "session %s is a secondary: its peer connects the stream '%s'",
                    session->config.uuid, name);
        return FALSE;
    }
    if (session->streams[number] &&
        colo_stream_state(session->streams[number]) != COLO_STREAM_DOWN) {
        close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "stream '%s' of session %s is attached already", name, session->config.uuid);
        return FALSE;
    }
    if (is_used_up(session, number)) {
        close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "stream '%s' of session %s has ended with a part of QEMU's migration: make a "
                    "new session",
                    name, session->config.uuid);
        return FALSE;
    }
    colo_stream_free(session->streams[number]);
    session->streams[number] = colo_stream_connect(
        session->host->loop, fd, session->config.uuid, session->config.generation, name,
        session->config.psk, stream_ring((unsigned)number), &stream_ops, session, error);
    return session->streams[number] != NULL;
}

void colo_session_adopt(ColoSession *session, ColoStream *stream)
{
    int number = colo_session_stream_number(&session->config, colo_stream_name(stream));

    if (number < 0 || session->config.primary || session->shut || is_used_up(session, number) ||
        !colo_stream_adopt(stream, stream_ring((unsigned)number), &stream_ops, session)) {
        colo_stream_close(stream, "not wanted");
        colo_stream_free(stream);
        return;
    }
    /* The peer proved that it holds the key: its newer connection replaces a stale one. */
    colo_session_drop_stream(session, (unsigned)number, "replaced by a newer connection");
    session->streams[number] = stream;
    stream_up(session, stream);
}

void colo_session_drop_stream(ColoSession *session, unsigned number, const char *reason)
{
    ColoStream *stream = session->streams[number];

    if (!stream)
        return;
    colo_stream_close(stream, reason);
    session->streams[number] = NULL;
    colo_stream_free(stream);
}

static void channel_frames(void *owner, ColoChannel *channel, const ColoWireFrame *frames,
                           unsigned n, ColoChunk *chunk)
{
    colo_packets_frames(owner, channel, frames, n, chunk);
}

static void channel_bytes(void *owner, ColoChannel *channel, const uint8_t *data, size_t len)
{
    if (colo_channel_kind(channel) == COLO_CHANNEL_MIGRATION)
        colo_checkpoint_from_qemu(owner, data, len);
    else
        colo_disk_from_qemu(owner, colo_channel_index(channel), data, len);
}

static void channel_space(void *owner, ColoChannel *channel)
{
    if (colo_channel_kind(channel) == COLO_CHANNEL_MIGRATION)
        colo_checkpoint_space(owner);
    else if (colo_channel_kind(channel) == COLO_CHANNEL_NBD)
        colo_disk_space(owner, colo_channel_index(channel));
}

static void channel_down(void *owner, ColoChannel *channel, const char *reason)
{
    ColoSession *session = owner;
    ColoChannelKind kind = (ColoChannelKind)colo_channel_kind(channel);
    unsigned index = colo_channel_index(channel);
    char name[48];

    colo_session_channel_name(session, kind, index, name);
    colo_session_log(session, LOG_INFO, "channel %s is down: %s", name, reason);
    session->channels[kind][index] = NULL;
    colo_channel_free(channel);
    if (kind == COLO_CHANNEL_NBD && session->ready)
        colo_disk_failed(session, index, "QEMU closed its NBD connection");
    if (kind == COLO_CHANNEL_NBD && session->streams[COLO_STREAM_DISK + index])
        colo_stream_finish(session->streams[COLO_STREAM_DISK + index],
                           "QEMU closed its NBD connection");
    /* A secondary is good for a takeover without it (disk.c); the end of its stream tells. */
    if (kind != COLO_CHANNEL_NBD || session->config.primary || !session->ready)
        colo_session_event(session, "channel-down", "channel", "s", name, "reason", "s", reason,
                           NULL);
    if (kind == COLO_CHANNEL_MIGRATION)
        colo_takeover_update(session);
}

static const ColoChannelOps channel_ops = {channel_frames, channel_bytes, channel_space,
                                           channel_down};

gboolean colo_session_attach_local(ColoSession *session, const char *name, int fd, GError **error)
{
    ColoChannelKind kind;
    unsigned index;
    ColoChannel *channel;
    size_t ring;

    if (!channel_find(session, name, &kind, &index)) {
        close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "session %s (%s) has no channel '%s'", session->config.uuid,
                    session->config.primary ? "primary" : "secondary", name);
        return FALSE;
    }
    if (session->channels[kind][index]) {
        close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "channel '%s' of session %s is attached already", name, session->config.uuid);
        return FALSE;
    }
    ring = kind == COLO_CHANNEL_RELEASE ? COLO_SESSION_RELEASE_RING
           : kinds[kind].packets        ? COLO_SESSION_FRAMES_RING
           : kind == COLO_CHANNEL_NBD   ? COLO_SESSION_STREAM_RING
                                        : COLO_SESSION_RAW_RING;
    channel = colo_channel_new(session->host->loop, fd, kind, index, kinds[kind].packets,
                               session->config.vnet, ring, &channel_ops, session, error);
    if (!channel)
        return FALSE;
    session->channels[kind][index] = channel;
    if (kind == COLO_CHANNEL_RELEASE)
        colo_channel_hold(channel,
                          session->gate == COLO_GATE_HOLD || session->gate == COLO_GATE_CLOSED);
    if (kind == COLO_CHANNEL_MIGRATION)
        colo_checkpoint_space(session);
    if (kind == COLO_CHANNEL_NBD)
        colo_disk_begin(session, index);
    return TRUE;
}

void colo_session_drop_channel(ColoSession *session, ColoChannelKind kind, unsigned index)
{
    ColoChannel *channel = session->channels[kind][index];

    session->channels[kind][index] = NULL;
    colo_channel_free(channel);
}
