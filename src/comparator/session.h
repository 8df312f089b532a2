/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One protected domain's data plane on this host: its streams to the peer, its channels to QEMU,
 * its gate and its epochs. The session owns its streams and channels. It is made, served and freed
 * by one thread (worker.h).
 *
 * Epoch k is the execution between RESUME(k) and STOP(k+1); the initial migration is checkpoint 0,
 * complete when CHECKPOINT_READY goes back. The primary enters k at VMSTATE_SEND of checkpoint k,
 * the secondary at its REPLY; checkpoint k is committed at RECEIVED and loaded at LOADED.
 *
 * Who does what: packets.c frames and the packet stream; checkpoint.c the migration channel;
 * disk.c the NBD channels; session-rewrite.c sequence numbers; heartbeat.c silence; wanted.c asks
 * for checkpoints; carry.c the state of hardware features; gate.c what may leave; takeover.c;
 * attach.c makes streams and channels; stats.c tells.
 */
#pragma once

#include "comparator/channel.h"
#include "comparator/checkpoint-stream.h"
#include "comparator/compare.h"
#include "comparator/loop.h"
#include "comparator/nbd-replies.h"
#include "comparator/nbd-requests.h"
#include "comparator/patience.h"
#include "comparator/policy.h"
#include "comparator/protocol.h"
#include "comparator/record.h"
#include "comparator/request.h"
#include "comparator/rewrite.h"
#include "comparator/stream.h"
#include "util/json.h"
#include "util/log.h"

/* Sessions of one comparator: a host that protects more than this is far out of 2-core pairs'
 * memory; each costs some MiB. */
#define COLO_SESSION_MAX 64
/* Output that waits for the peer: 30 ms at 1 Gbit/s for packets. */
#define COLO_SESSION_PACKETS_RING (4u << 20)
#define COLO_SESSION_STREAM_RING (1u << 20)
/* Of a checkpoint QEMU writes the pages with its big lock held (migration/colo.c), and would answer
 * no monitor while it waits for us (I4). So a checkpoint goes in here whole, whatever the peer
 * does: what a guest dirties in 100 ms at 640 MB/s. The memory is used only as far as it was ever
 * needed. The initial migration gets no more than a stream: QEMU would take our memory for
 * bandwidth. */
#define COLO_SESSION_CHECKPOINT_RING (64u << 20)
/* Input that waits for QEMU. */
#define COLO_SESSION_FRAMES_RING (2u << 20)
#define COLO_SESSION_RAW_RING (256u << 10)
/* Held frames (I4): 64 MiB are half a second at 1 Gbit/s; half of it asks for a checkpoint. */
#define COLO_SESSION_HELD_BYTES ((size_t)64 << 20)
#define COLO_SESSION_HELD_FRAMES 65536u
/* Output that waits for QEMU: a commit frees all that is held at once, faster than QEMU reads. The
 * memory is used only as far as it was ever needed. */
#define COLO_SESSION_RELEASE_RING COLO_SESSION_HELD_BYTES
/* Connections and other flows that are told apart: what a busy server has open. 45 MiB when all are
 * used; memory is touched as they come. */
#define COLO_SESSION_FLOWS 100000u
/* Mirrored input that waits for its epoch at the secondary (rule 5). */
#define COLO_SESSION_INPUT_RING (4u << 20)
/* Pauses remembered for the statistics. */
#define COLO_SESSION_PAUSES 512
/* Buckets of their histogram: up to 1, 2, 4 ... 512 ms, and all. */
#define COLO_SESSION_PAUSE_BUCKETS 11
/* Commits remembered: a second of them at the rates that we know. */
#define COLO_SESSION_COMMITS 64

/* Streams by number: packets, checkpoint, then the disks. */
enum { COLO_STREAM_PACKETS, COLO_STREAM_CHECKPOINT, COLO_STREAM_DISK };
#define COLO_SESSION_STREAMS (COLO_STREAM_DISK + COLO_CMP_MAX_DISKS)

/* Kinds of channels; those of a NIC or disk come once for each. */
typedef enum {
    COLO_CHANNEL_MIRROR,
    COLO_CHANNEL_OUT,
    COLO_CHANNEL_RELEASE,
    COLO_CHANNEL_IN,
    COLO_CHANNEL_TAKE,
    COLO_CHANNEL_MIGRATION,
    COLO_CHANNEL_NBD,
    COLO_CHANNEL_KINDS,
} ColoChannelKind;

/* Counters beside the compare core's. Names in stats.c. */
typedef enum {
    COLO_STAT_INPUT_FRAMES,          /* mirrored to the peer, or fed to QEMU */
    COLO_STAT_INPUT_DROPPED_FULL,    /* a ring was full: the copies will differ */
    COLO_STAT_INPUT_DROPPED_STALE,   /* older than the loaded checkpoint */
    COLO_STAT_INPUT_DROPPED_NO_PEER, /* no packet stream */
    COLO_STAT_OUTPUT_FRAMES,         /* read from QEMU */
    COLO_STAT_OUTPUT_BYTES,
    COLO_STAT_OUTPUT_PASSED,         /* alone: left at once */
    COLO_STAT_OUTPUT_DROPPED_CLOSED, /* gate closed */
    COLO_STAT_OUTPUT_DROPPED_FULL,   /* core or ring full */
    COLO_STAT_CONFIRM_DROPPED, /* secondary output that the peer was not or need not be told */
    COLO_STAT_SYNS_TOLD,       /* primary, with "rewrite": told to the peer before they may leave */
    COLO_STAT_SYNS_UNTOLD,     /* too long, or the stream full: dropped */
    COLO_STAT_TAKEN,           /* alone: frames from the network */
    COLO_STAT_RELEASED,        /* put before QEMU to leave */
    COLO_STAT_CHECKPOINT_BYTES,
    COLO_STAT_CHECKPOINT_WITHHELD, /* bytes of checkpoints that began without all disk writes */
    COLO_STAT_DISK_BYTES_TO_PEER,
    COLO_STAT_DISK_BYTES_FROM_PEER,
    COLO_STAT_STATES_LATE,   /* secondary: set only after their checkpoint was whole */
    COLO_STAT_STATES_MISSED, /* checkpoints that count (primary), were loaded (secondary) without */
    COLO_STAT_STATES_AWAITED,  /* primary: checkpoints that did not count as theirs did not come */
    COLO_STAT_DISK_FAILURES,   /* the session's disks have failed: 0 or 1 */
    COLO_STAT_WANTED_DIVERGED, /* checkpoints asked for, by reason */
    COLO_STAT_WANTED_UNANSWERED,
    COLO_STAT_WANTED_QUEUE,
    COLO_STAT_WANTED_PAIRED,
    COLO_STAT_WANTED_PERIOD,
    COLO_STAT_OVERFLOWS_HELD, /* limits that were reached, in the order of ColoQueue */
    COLO_STAT_OVERFLOWS_TWINS,
    COLO_STAT_OVERFLOWS_PACKETS,
    COLO_STAT_OVERFLOWS_RELEASE,
    COLO_STAT_OVERFLOWS_IN,
    COLO_STAT_OVERFLOWS_INPUT,
    COLO_STAT_HEARTBEATS_SENT,
    COLO_STAT_HEARTBEATS_HEARD,
    COLO_STAT_LAST
} ColoStat;

/* What may be full (I8). */
typedef enum {
    COLO_QUEUE_HELD,    /* the compare core: frames, their bytes, one flow's, flows */
    COLO_QUEUE_TWINS,   /* the same, when the frame that found no room was the secondary's */
    COLO_QUEUE_PACKETS, /* mirrored input on its way to the peer */
    COLO_QUEUE_RELEASE, /* released output that QEMU has not read */
    COLO_QUEUE_IN,      /* secondary: input that QEMU has not read */
    COLO_QUEUE_INPUT,   /* secondary: input that waits for its epoch */
    COLO_QUEUES,
} ColoQueue;

typedef enum {
    COLO_WANTED_NONE,
    COLO_WANTED_DIVERGED,
    COLO_WANTED_UNANSWERED,
    COLO_WANTED_QUEUE,
    COLO_WANTED_PAIRED,
    COLO_WANTED_PERIOD, /* diverged or unanswered, in periodic mode */
} ColoWanted;

/* One commit at the primary, CLOCK_MONOTONIC: no output of epoch - 1 or before is younger than
 * @taken_ns, none that needed this checkpoint left before @committed_ns. */
typedef struct {
    uint64_t epoch, taken_ns, committed_ns;
} ColoCommit;

typedef struct ColoSession ColoSession;

/* What a session asks of the program around it. */
typedef struct {
    ColoLoop *loop;
    /* Sends an event to the controller, if there is one; takes @event over. */
    void (*event)(void *opaque, JsonObject *event);
    /* The answer to a takeover-prepare or gate request that was put off: @error NULL means
     * success with @result. Takes both over. */
    void (*answer)(void *opaque, uint64_t token, JsonObject *result, GError *error);
    void *opaque;
} ColoSessionHost;

struct ColoSession {
    const ColoSessionHost *host;
    ColoSessionConfig config;
    ColoLogContext log;

    ColoGate gate;
    bool shut;       /* secondary: confirmations have ended for good (I3) */
    bool comparing;  /* primary: paired, and a commit has passed since */
    bool was_paired; /* primary */

    uint64_t epoch, committed, loaded;
    uint64_t commit_due; /* committed while the gate was "hold": applied on "paired" */
    bool ready;          /* CHECKPOINT_READY has gone back */
    bool unknown;        /* the checkpoint stream is none that we know */
    bool running;        /* between REQUEST and LOADED */
    bool sending;        /* VMSTATE_SEND of the running checkpoint has been seen, its end not */
    bool sent;           /* the whole forward part of the running checkpoint has been seen */
    bool received;       /* its RECEIVED as well */
    bool disk_failed;    /* disk.c: writes may be missing at the secondary from now on */
    ColoForwardParser forward;
    ColoReturnParser back;

    ColoStream *streams[COLO_SESSION_STREAMS];
    ColoChannel *channels[COLO_CHANNEL_KINDS][COLO_CMP_MAX_DISKS];

    /* disk.c */
    ColoNbdReplies replies[COLO_CMP_MAX_DISKS];
    ColoNbdRequests requests[COLO_CMP_MAX_DISKS]; /* primary */
    uint64_t answered_ns[COLO_CMP_MAX_DISKS];     /* primary: when it was last */
    ColoTimer stop_timer; /* primary: armed between REPLY and VMSTATE_SEND */

    ColoRecordReader records;
    ColoCompare *compare; /* primary */
    ColoRing input;       /* secondary: input and SYNs that wait for their epoch, as records */

    /* session-rewrite.c (secondary) */
    ColoRewrite *rewrite;   /* NULL without "rewrite" */
    uint64_t rewrite_epoch; /* its maps are of this one */
    bool rewriting;         /* alone, and connections that need it live */
    ColoTimer rewrite_timer;

    /* carry.c */
    bool carry_trusted;        /* the primary's last one came in time, or none was due yet */
    bool carry_there;          /* primary: the peer has said that it has that of session->epoch */
    uint64_t carry_missing_ns; /* primary: since when none has come; 0: the last one did */
    bool carry_set;            /* secondary: that of session->epoch is set, ... */
    bool carry_set_trusted;    /* ... and the last one was in time */
    GBytes *carry_next;        /* secondary: that of session->epoch, whose checkpoint runs */
    GBytes *carry_due; /* secondary: that of the last whole checkpoint, when it is not set */
    uint64_t carry_due_epoch;
    uint64_t carry_whole; /* secondary: epoch of the last whole checkpoint */
    bool carry_kept;      /* secondary: the last byte of the running checkpoint is kept back: */
    uint8_t carry_byte;
    ColoTimer carry_timer;

    /* heartbeat.c */
    ColoTimer beat;
    uint64_t beat_due_ns; /* the next one; the timer may be armed for the silence before it */
    uint64_t heard_ns;
    bool silent;

    /* wanted.c */
    ColoPolicy policy; /* primary */
    ColoTimer wanted_timer;
    ColoWanted wanted;
    bool kicked;
    uint64_t kicked_ns;
    bool queue_pressed; /* a frame was refused: ask whatever is held */
    ColoPatience patience;

    /* takeover.c */
    bool taking_over, frozen; /* frozen: nothing more is fed to QEMU */
    uint64_t takeover_token;

    /* gate.c */
    ColoTimer gate_timer;
    uint64_t gate_token, gate_limit_ns;
    bool gate_pending;

    uint64_t stats[COLO_STAT_LAST];
    uint64_t pauses[COLO_SESSION_PAUSES]; /* ns */
    uint64_t n_pauses;                    /* since the session was made, and ... */
    uint64_t pauses_upto[COLO_SESSION_PAUSE_BUCKETS], pauses_ns; /* ... how many of each, and sum */
    uint64_t reply_ns; /* when the running checkpoint's REPLY passed */
    uint64_t taken_ns; /* primary: its VMSTATE_SEND; the vCPUs stood */
    ColoCommit commits[COLO_SESSION_COMMITS];
    uint64_t n_commits;                       /* since the session was made */
    uint64_t overflow_told_ns[COLO_QUEUES];   /* events of overflow are limited in rate, */
    uint64_t overflow_logged_ns[COLO_QUEUES]; /* and so are lines in the log */
};

/* session.c */
ColoSession *colo_session_new(const ColoSessionHost *host, const ColoSessionConfig *config,
                              GError **error);
void colo_session_free(ColoSession *session);
/* Sends the event NAME with uuid, generation and (key, "s" or "u", value) triples up to a NULL key.
 */
void colo_session_event(ColoSession *session, const char *name, const char *key, ...);
/* Counts and tells that the limit of @queue was reached (I8); told at most 10 times a second. */
void colo_session_overflow(ColoSession *session, ColoQueue queue);
void colo_session_log(ColoSession *session, int priority, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static inline bool colo_session_is_primary(const ColoSession *session)
{
    return session->config.primary;
}
/* The stream if it is UP, else NULL. */
ColoStream *colo_session_stream(ColoSession *session, unsigned number);

/* attach.c */
/* Number of the stream called @name, or -1. */
int colo_session_stream_number(const ColoSessionConfig *config, const char *name);
void colo_session_stream_name(const ColoSession *session, unsigned number, char name[48]);
void colo_session_channel_name(const ColoSession *session, ColoChannelKind kind, unsigned index,
                               char name[48]);
/* Both take @fd over, also on failure. */
gboolean colo_session_attach_peer(ColoSession *session, const char *stream, int fd, GError **error);
gboolean colo_session_attach_local(ColoSession *session, const char *channel, int fd,
                                   GError **error);
/* Secondary: a stream that the peer has opened and authenticated; taken over. */
void colo_session_adopt(ColoSession *session, ColoStream *stream);
void colo_session_drop_stream(ColoSession *session, unsigned number, const char *reason);
void colo_session_drop_channel(ColoSession *session, ColoChannelKind kind, unsigned index);

/* packets.c */
/* As ColoChannelOps.frames. */
void colo_packets_frames(ColoSession *session, ColoChannel *channel, const ColoWireFrame *frames,
                         unsigned n, ColoChunk *chunk);
void colo_packets_stream(ColoSession *session, const uint8_t *data, size_t len);
void colo_packets_release(void *opaque, uint8_t nic, const uint8_t *frame, size_t len, size_t vnet,
                          ColoChunk *chunk);
/* A record of the peer's with a frame; false when it does not fit or the stream is not up. */
bool colo_packets_send(ColoSession *session, ColoRecordType type, unsigned nic,
                       const uint8_t *frame, size_t len, size_t vnet);
/* Secondary: tells the peer of a frame that its guest sent. */
void colo_packets_confirm(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                          size_t vnet);
/* Reads what QEMU wrote on every packet channel until they are empty. */
void colo_packets_drain(ColoSession *session);
/* Secondary: feeds the input whose epoch is loaded now, forgets what is older. */
void colo_packets_open_input(ColoSession *session);
/* Sends a record without payload. */
void colo_packets_tell(ColoSession *session, ColoRecordType type);

/* checkpoint.c */
void colo_checkpoint_from_qemu(ColoSession *session, const uint8_t *data, size_t len);
void colo_checkpoint_from_peer(ColoSession *session, const uint8_t *data, size_t len);
/* A ring has become smaller: resumes what was paused. */
void colo_checkpoint_space(ColoSession *session);
/* Checkpoint session->epoch is RECEIVED, or something else that it waits for has come. */
void colo_checkpoint_commit(ColoSession *session);
/* Secondary: feeds the last byte of a checkpoint that was kept back. */
void colo_checkpoint_end(ColoSession *session, uint8_t last);

/* carry.c */
void colo_carry_set_on(ColoSession *session, bool on);
/* Primary: the vCPUs stand for checkpoint session->epoch; virtcolod's answer to that. */
void colo_carry_stopped(ColoSession *session);
gboolean colo_carry_send(ColoSession *session, uint64_t epoch, GBytes *state, GError **error);
/* Primary: whether checkpoint session->epoch, which is RECEIVED, counts. */
bool colo_carry_counts(ColoSession *session);
/* A record COLO_RECORD_STATE: the state, or at the primary that the peer has it. */
void colo_carry_heard(ColoSession *session, const ColoRecord *record);
/* Secondary: a checkpoint has begun; virtcolod has set its state. */
void colo_carry_replied(ColoSession *session);
gboolean colo_carry_done(ColoSession *session, uint64_t epoch, GError **error);
/* True: the checkpoint's last byte, @last, must not go on before colo_checkpoint_end(). */
bool colo_carry_keep(ColoSession *session, uint8_t last);
/* No more is waited for. */
void colo_carry_release(ColoSession *session);
/* Secondary: the checkpoint is whole. */
void colo_carry_whole(ColoSession *session);
/* Secondary: the state of the last whole checkpoint if virtcolod has not said that it is set, else
 * NULL; to be freed. */
char *colo_carry_due(const ColoSession *session);

/* disk.c */
void colo_disk_from_qemu(ColoSession *session, unsigned disk, const uint8_t *data, size_t len);
void colo_disk_from_peer(ColoSession *session, unsigned disk, const uint8_t *data, size_t len);
void colo_disk_space(ColoSession *session, unsigned disk);
/* A channel "nbd" has been attached. */
void colo_disk_begin(ColoSession *session, unsigned disk);
/* From here on no checkpoint counts whose VMSTATE_SEND has not been seen yet. */
void colo_disk_failed(ColoSession *session, unsigned disk, const char *reason);
/* The peer is given up, or must be: QEMU sees the end of all its NBD connections. */
void colo_disk_let_go(ColoSession *session, const char *reason);
/* Primary, from REPLY until VMSTATE_SEND: requests that wait for the peer are watched. */
void colo_disk_stopping(ColoSession *session, bool stopping);
/* Looks whether a disk has ended by now, also when the loop has not come to it yet. False when
 * one has, or has failed before. */
bool colo_disk_check(ColoSession *session);

/* session-rewrite.c */
bool colo_session_rewrite_init(ColoSession *session);
/* Primary: @frame is about to be compared, or to leave; the peer is told if it is a SYN. False: it
 * must not leave. */
bool colo_session_rewrite_tell(ColoSession *session, unsigned nic, const uint8_t *frame, size_t len,
                               size_t vnet);
/* Secondary: such a SYN, of the epoch that runs here or of one that has ended. */
void colo_session_rewrite_heard(ColoSession *session, const ColoRecord *record);
/* Secondary: the guest's state of session->epoch is complete: no takeover goes on from an older
 * one, and what the guest says next comes from it. */
void colo_session_rewrite_loaded(ColoSession *session);
/* As colo_rewrite_output(), colo_rewrite_input(). */
const uint8_t *colo_session_rewrite_output(ColoSession *session, unsigned nic, const uint8_t *frame,
                                           size_t len, size_t vnet);
const uint8_t *colo_session_rewrite_input(ColoSession *session, unsigned nic, const uint8_t *frame,
                                          size_t len, size_t vnet);
/* Gate "alone" of a secondary. */
gboolean colo_session_rewrite_alone(ColoSession *session, GError **error);
uint32_t colo_session_rewrite_live(const ColoSession *session);
JsonObject *colo_session_rewrite_table(ColoSession *session);
gboolean colo_session_rewrite_keep(ColoSession *session, const ColoSessionConfig *given,
                                   GError **error);

/* heartbeat.c */
void colo_heartbeat_start(ColoSession *session);
void colo_heartbeat_heard(ColoSession *session);

/* wanted.c (primary) */
/* Looks whether a checkpoint is wanted and asks, or arms the timer that will. Cheap. */
void colo_wanted_update(ColoSession *session);
void colo_wanted_kicked(ColoSession *session);
/* A checkpoint has been loaded: earlier kicks are used up. */
void colo_wanted_loaded(ColoSession *session, uint64_t now);
/* Puts @tuning in force. */
void colo_wanted_tune(ColoSession *session, const ColoTuning *tuning);

/* gate.c */
/* Puts @mode in force. TRUE with @result: it is in force. TRUE with *result NULL: the answer
 * comes later by host->answer with @token. FALSE and @error: nothing changed. */
gboolean colo_gate_set(ColoSession *session, ColoGate mode, uint64_t token, JsonObject **result,
                       GError **error);

/* takeover.c: as colo_gate_set(). */
gboolean colo_takeover_prepare(ColoSession *session, uint64_t token, JsonObject **result,
                               GError **error);
/* Something has changed that a waiting takeover may have waited for. */
void colo_takeover_update(ColoSession *session);

/* stats.c */
JsonObject *colo_session_stats(ColoSession *session);
