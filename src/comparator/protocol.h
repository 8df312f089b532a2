/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control protocol between virtcolod and colo-comparator, and the data protocol between two
 * comparators: names and shapes only, so that both ends share one description.
 *
 * Control: unix stream socket (listener inherited as FDNAME "control", SO_PEERCRED must be root),
 * frames of util/framing.h, JSON, FDs by util/fdpass.h on the frame's first byte.
 *   request  {"id": u, "execute": NAME, "arguments": {...}}
 *   answer   {"id": u, "return": {...}} or {"id": u, "error": {"code": WORD, "message": TEXT}}
 *   event    {"event": NAME, "uuid": ..., "generation": u, ...}
 * Requests are answered in order except "takeover-prepare", which is answered when it is done.
 * The newest connection is the controller: it alone gets events; an older one is closed. When the
 * controller goes away nothing changes for any session (I5).
 *
 * "hello" {"version": 1}
 *     -> {"version": 1, "pid": u}
 * "inventory" {}
 *     -> {"sessions": [SESSION...]}   the shape of "stats", one for each session
 * An alias has 1 to 31 letters, digits, '-', '_' and '.'.
 * "session-create" {"uuid", "generation": u, "role": "primary"|"secondary", "psk": 64 hex digits,
 *                   "vnet-hdr": b, "heartbeat-ms": u, "heartbeat-missed": u, "nics": [ALIAS...],
 *                   "disks": [ALIAS...], ["tuning": TUNING], ["rewrite": b], ["base": [ROW...]],
 *                   ["carry": b]}
 *     -> {}   starts with gate "alone" on the primary, "closed" on the secondary; there is one
 *             session a uuid and generation, an existing one is refused (operation-invalid).
 *             "rewrite" (default false, the same on both sides): connections that are newer than
 *             the checkpoint have their sequence numbers mapped (rewrite.h), so that a SYN need not
 *             wait for one. "base": a secondary's, the rows of "rewrite-table" of the session
 *             through which the frames of its primary still go
 *             "carry" (default false): a state that QEMU's checkpoint does not hold goes along, see
 *             "state"
 * The requests below may have "generation"; without it the newest session of "uuid" is meant.
 * "session-destroy" {"uuid"} -> {}
 *     closes every FD of the session. The caller has taken QEMU's filters away before.
 * "peer-attach" {"uuid", "stream": "packets"|"checkpoint"|"disk:ALIAS"} + FD (primary only)
 *     -> {}   FD: TCP connected to the peer's data port; the TLS handshake goes on in the
 *             background and ends in the event "stream-up" or "stream-down". A stream that is
 *             down can be attached anew, and the secondary takes the newer connection; but for
 *             "checkpoint" once it has carried bytes: what went with it is missing for good.
 * "local-attach" {"uuid", "channel": CHANNEL} + FD -> {}
 *     FD: our end of a socket pair whose other end QEMU holds; a channel that is down can be
 *     attached anew. When a disk's stream ends its "nbd" is closed, and the other way round. Once
 *     that has happened after "colo-ready", or the secondary's NBD server told an error (ENOTSUP
 *     is none) or what is no NBD reply, or a disk was not connected at "colo-ready", the session's
 *     disks have failed for good. No checkpoint counts then whose VMSTATE_SEND has not been
 *     seen before: the primary does not send it, the secondary does not feed it, and "migration"
 *     is closed at a secondary that has fed its REQUEST (without "channel-down"). The last LOADED
 *     stays good for "takeover-prepare". The primary's QEMU waits for answers until the peer is
 *     given up. Counters "disk-failures", "checkpoint-bytes-withheld"
 *     CHANNEL:
 *       primary    "mirror:ALIAS"  QEMU writes what the guest receives (filter-mirror)
 *                  "out:ALIAS"     QEMU writes what the guest sends (filter-redirector outdev)
 *                  "release:ALIAS" QEMU reads what may leave (filter-redirector indev)
 *       secondary  "in:ALIAS"      QEMU reads mirrored input (filter-redirector indev)
 *                  "out:ALIAS"     QEMU writes what its guest sends (filter-redirector outdev)
 *                  and with "rewrite", after the takeover (see below):
 *                  "take:ALIAS"    QEMU writes what comes from the network
 *                  "release:ALIAS" QEMU reads what may leave
 *       both       "migration"     QEMU's migration stream
 *                  "nbd:ALIAS"     primary: QEMU's NBD client; secondary: to QEMU's NBD server
 *     Framing on the packet channels: be32 length, be32 vnet header length when "vnet-hdr", frame.
 * "gate" {"uuid", "mode": MODE} -> {"held-frames": u, "held-bytes": u, "rewritten": u}
 *     Answered once the mode is in force and no older decision can still act. For "hold" and
 *     "closed" that includes released frames which QEMU has not read yet: error "timeout" after
 *     200 ms (the mode is in force all the same; ask again).
 *       primary    "alone"   everything leaves at once, what was held too: I1 (c). After
 *                            "paired" it gives the peer up: "disk:*" and "nbd:*" are closed
 *                            (rule 8), so it comes before x-colo-lost-heartbeat
 *                  "paired"  held until the next commit, compared from then on: I1 (a), (b)
 *                  "hold"    nothing leaves; bounded (I4)
 *                  "closed"  nothing leaves, frames are dropped and counted: quiesced
 *       secondary  "paired"  confirmations (output, RECEIVED, LOADED, heartbeats) go to the peer
 *                  "closed"  none goes any more, disk replies included: sent before a CAS is
 *                            begun (I3). For good: "paired" is refused afterwards, the peer sees
 *                            the streams end. (Before the first "paired" the secondary withholds
 *                            output only, so that a migration and a disk's first copy can run.)
 *                  "alone"   with "rewrite", once "takeover-prepare" has been answered: the guest's
 *                            frames go through the session both ways, see below. "closed" drops
 *                            them again, and "alone" may be asked anew
 * "takeover-prepare" {"uuid"} (secondary; gate must be "closed")
 *     -> {"epoch": u, "rewritten": u, ["state": TEXT]}
 *                       once QEMU may be told x-colo-lost-heartbeat: a checkpoint that was wholly
 *                       fed is LOADED, a partial one is cut off by closing "migration";
 *                       disk channels are closed. Refused (operation-invalid) before
 *                       "colo-ready" and when the checkpoint stream is unknown. May be asked
 *                       again, also by a later controller: the newest asker is answered,
 *                       one before it with operation-failed; so is everyone when QEMU took in
 *                       a whole checkpoint and ended "migration" without LOADED.
 *                       "state": that of "epoch", which no "state-set" was said of
 * "rewrite-table" {"uuid"} -> {"rows": [ROW...]}
 *     The connections of a survivor whose numbers are rewritten, at most 4096.
 *     ROW: [ALIAS of the NIC, [VLAN...], ADDRESS and PORT of the guest, ADDRESS and PORT of the
 *     other end, initial sequence number of the guest, difference to the one that the other end
 *     knows, and with timestamps (RFC 7323) their difference and the highest that was told];
 *     numbers modulo 2^32
 * "rewrite-keep" {"uuid", "nics": [ALIAS...], "rows": [ROW...]} (a secondary with "base")
 *     -> {}   forgets the rows of "base" that are not among these: asked after each "stream-up" of
 *             "packets", with the rows of "rewrite-table" as they are then. From then on the
 *             primary tells of each SYN that ends one. "nics" as in "session-create"
 * "carry" {"uuid", "on": b} -> {}            changes "carry"; the primary's on first, off last
 * "state" {"uuid", "epoch": u, "state": TEXT} -> {} (primary with "carry")
 *     The answer to "state-wanted", at most COLO_RECORD_STATE_MAX bytes. Refused
 *     (operation-invalid) when that checkpoint is over
 * "state-set" {"uuid", "epoch": u} -> {} (secondary with "carry")
 *     What the event "state" brought is set. Until then, for 200 ms or as long as the checkpoint
 *     has taken at most, QEMU is not given the last byte of the checkpoint; after one that came too
 *     late nothing is waited for until one is in time again. A state that came and was not set in
 *     time (counter "states-late") is in the answer to "takeover-prepare". Where none came the
 *     checkpoint does not count at the primary ("states-awaited"); after a second of that
 *     checkpoints count without ("states-missed"; at the secondary: were loaded without)
 * "kick-done" {"uuid"} -> {}     virtcolod has asked QEMU for the checkpoint that was wanted
 * "tune" {"uuid", "tuning": TUNING} -> {}    in force from now on, from a running period or limit
 * on TUNING (util/tuning.h): {["mode": "auto"|"compare"|"periodic"], ["unanswered-min-ms": u],
 *     ["unanswered-max-ms": u], ["period-min-ms": u], ["period-max-ms": u], ["pause-share": u]};
 *     what is not there is the default
 * "stats" {"uuid"} -> SESSION
 *     {"uuid", "generation", "role", "gate", "ready": b, "epoch": u, "committed": u, "loaded": u,
 *      "peer-silent-ms": u, "streams": {STREAM: "up"|"connecting"|"down"},
 *      "channels": [CHANNEL...], "counters": {NAME: u...},
 *      "pause-ns": {"min","median","p95","max"},
 *      "commits": [[EPOCH, TAKEN, COMMITTED]...], "held-frames": u, "held-bytes": u,
 *      "skew-ns": {"mean","deviation","limit"},
 *      "policy": {"mode": "compare"|"periodic", "reason": TEXT, "since-ms": u, "switches": u,
 *                 "pause-share": u, "period-ns": u} (primary), "tuning": TUNING,
 *      "rewritten": u, "limits": {NAME: u...}}
 *     commits: the primary's last ones, oldest first; CLOCK_MONOTONIC ns at which the checkpoint
 *     was taken (the vCPUs stood) and committed (nothing that it releases has left yet)
 *     skew-ns: from a frame to the peer's equal one, over all flows; a frame that waits longer than
 *     the limit of its flow, or else of all, is unanswered
 *
 * Events:
 *   "stream-up"    {"stream"}
 *   "stream-down"  {"stream", "reason"}        reason "unknown checkpoint stream": it still flows,
 *                                              but no commit is read from it any more. Of a disk
 *                                              at the secondary: "NBD error reply: ENOSPC",
 *                                              "unknown NBD replies"; the peer sees it closed
 *   "channel-down" {"channel", "reason"}       QEMU closed its end; not told of one that we close,
 *                                              nor of "nbd:*" at a secondary after "colo-ready":
 *                                              its copy is good still, "stream-down" tells
 *   "colo-ready"   {}                          both: CHECKPOINT_READY goes back to the primary
 *   "committed"    {"epoch": u, "pause-ns": u, "bytes": u} "bytes": of all checkpoints so far;
 *                                              primary: checkpoint "epoch" is RECEIVED, so long
 *                                              after its REPLY (the vCPUs stop right after REPLY)
 *   "loaded"       {"epoch": u, "pause-ns": u} both: and LOADED, from REPLY on: the whole pause
 *   "checkpoint-wanted" {"reason": "diverged"|"unanswered"|"queue"|"paired"|"period"}
 *                                              repeated every 10 ms until "kick-done", again when
 *                                              no REQUEST came 200 ms after it, and not while a
 *                                              checkpoint runs or a disk has failed
 *   "state-wanted" {"epoch": u}                primary with "carry": its vCPUs stand for this
 *                                              checkpoint until LOADED: take the state
 *   "state"        {"epoch": u, "state": TEXT} secondary with "carry": set it, then "state-set"
 *   "policy"       {"mode", "reason": TEXT}    primary: it went into this mode (policy.h)
 *   "peer-silent"  {"silent-ms": u}            packet stream silent over the heartbeat limit
 *   "peer-heard"   {}                          and heard again
 *   "rewrite-ended" {}                         a survivor's last connection that needs the session
 *                                              has ended (closed for 4 min, RST, or silent for 124
 *                                              min): frames pass unchanged from here on, its
 *                                              filters may go, then the session. Not told when
 *                                              the answer to gate "alone" said "rewritten": 0
 *   "overflow"     {"queue", "limit": u}       a bound was reached (I8) of "held", "twins",
 *                                              "packets", "release", "in" or "input"; at most 10 a
 *                                              second of each.
 *                                              "held" in mode "paired", told again and again with
 *                                              no commit between: the peer is of no use;
 *                                              in mode "hold": stop the vCPUs
 *
 * A takeover with "rewrite": the answer to "takeover-prepare" tells how many connections are
 * "rewritten". With 0 the redirectors are taken away as without "rewrite". Else the session stays
 * in the path, with four filter-redirectors a NIC. (QEMU, net/filter.c: frames for the guest meet
 * the filters in the list's order, frames of the guest in the reverse one, and what an indev reads
 * goes on to the filter after it.) In the list's order:
 *     queue=rx indev=RELEASE    before "out", so that what leaves is not sent to "out" again
 *     queue=tx outdev=TAKE      before "in", so that what the guest is given is not taken again
 *     queue=tx indev=IN
 *     queue=rx outdev=OUT
 * Gate "alone" opens the way; QEMU turns all filters off when it leaves COLO, so they are turned on
 * again before the tap is connected. vnet_hdr_support as for the others. When the survivor is
 * protected again while "rewritten" is not 0, the new session's filters come behind all of these in
 * the list (the default, position=tail): nearer to the guest, in whose own numbers it compares; its
 * peer's session is made with "base", and hears "rewrite-keep". After "rewrite-ended": object-del
 * of the four filters, "out" and "take" first, so that frames go straight on; then session-destroy,
 * with "generation".
 *
 * Data port (listener inherited as FDNAME "data"): TLS 1.3, ECDHE-PSK, identity
 * "UUID/GENERATION/STREAM". The first TLS record after the handshake, from the connecting side, is
 * the preface and nothing else; streams "checkpoint" and "disk:*" are raw bytes after it. "packets"
 * is a sequence of records (struct below) in both directions.
 */
#pragma once

#include <stdint.h>

#define COLO_CMP_VERSION 1
#define COLO_CMP_FD_CONTROL "control"
#define COLO_CMP_FD_DATA "data"
#define COLO_CMP_CONTROL_SOCKET "/run/libvirt-colo/comparator-sock"

/* Bounds of one session (I8). */
#define COLO_CMP_MAX_NICS 8
#define COLO_CMP_MAX_DISKS 16
#define COLO_CMP_PSK_BYTES 32

/* Preface, be32/be64, sent once by the connecting comparator on each stream. */
#define COLO_DATA_MAGIC 0x434f4c4fu /* "COLO" */
#define COLO_DATA_VERSION 1u
typedef struct __attribute__((packed)) {
    uint32_t magic;      /* COLO_DATA_MAGIC */
    uint32_t version;    /* COLO_DATA_VERSION */
    uint64_t generation; /* of the session */
    char uuid[40];       /* 36 characters and NULs */
    char stream[40];     /* "packets", ... and NULs */
} ColoDataPreface;

/* Records of the packet stream, big-endian. */
typedef enum {
    COLO_RECORD_INPUT = 1,     /* primary -> secondary: a frame that the guest received */
    COLO_RECORD_OUTPUT = 2,    /* secondary -> primary: a frame that its guest sent */
    COLO_RECORD_HEARTBEAT = 3, /* both: payload be64 sender's monotonic ns */
    COLO_RECORD_EPOCH = 4,     /* both: sender entered epoch; payload empty */
    COLO_RECORD_LOADED = 5,    /* secondary -> primary: epoch is LOADED; payload empty */
    COLO_RECORD_BYE = 6,       /* orderly end: session is being destroyed */
    COLO_RECORD_SYN = 7,       /* primary -> secondary: a SYN of its guest, before it may leave */
    COLO_RECORD_STATE = 8,     /* primary -> secondary: state of hardware features at the stop;
                                * back: that of this epoch has come, payload empty */
} ColoRecordType;

typedef struct __attribute__((packed)) {
    uint32_t length; /* of the payload, at most COLO_RECORD_MAX */
    uint8_t type;    /* ColoRecordType */
    uint8_t nic;     /* index into the session's "nics" */
    uint16_t vnet;   /* bytes of vnet header at the payload's start */
    uint64_t epoch;  /* of the sender when the frame was produced */
} ColoRecordHeader;

/* A SYN, with data (RFC 7413) up to an Ethernet frame's. A longer one is not sent on: the guest
 * repeats it without data. */
#define COLO_RECORD_SYN_MAX 2048u

/* What virtcolod knows of the features of a VM, as text. */
#define COLO_RECORD_STATE_MAX 32768u

/* A GSO segment of 64 KiB with its Ethernet and vnet headers. */
#define COLO_RECORD_MAX (65536u + 256u)
