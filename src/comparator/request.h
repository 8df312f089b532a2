/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests of the control protocol (protocol.h): JSON text to a checked structure. Pure.
 */
#pragma once

#include "comparator/protocol.h"
#include "comparator/rewrite.h"
#include "util/tuning.h"

#include <glib.h>
#include <stdbool.h>

/* Longest alias: "release:" and "disk:" with it fit the 40 bytes of the preface. */
#define COLO_REQUEST_ALIAS_MAX 31
/* Heartbeats faster than this would only measure the scheduler; slower is no heartbeat. */
#define COLO_REQUEST_HEARTBEAT_MIN_MS 5u
#define COLO_REQUEST_HEARTBEAT_MAX_MS 60000u
#define COLO_REQUEST_MISSED_MAX 1000u

typedef enum { COLO_GATE_ALONE, COLO_GATE_PAIRED, COLO_GATE_HOLD, COLO_GATE_CLOSED } ColoGate;

/* What "session-create" says. */
typedef struct {
    char uuid[40];
    uint64_t generation;
    bool primary;
    bool vnet;
    uint8_t psk[COLO_CMP_PSK_BYTES];
    bool rewrite;
    bool carry;
    uint64_t heartbeat_ms, heartbeat_missed;
    ColoTuning tuning;
    unsigned n_nics, n_disks;
    char nics[COLO_CMP_MAX_NICS][COLO_REQUEST_ALIAS_MAX + 1];
    char disks[COLO_CMP_MAX_DISKS][COLO_REQUEST_ALIAS_MAX + 1];
    GBytes *base; /* ColoRewriteRow[], or NULL */
} ColoSessionConfig;

typedef enum {
    COLO_REQUEST_HELLO,
    COLO_REQUEST_INVENTORY,
    COLO_REQUEST_SESSION_CREATE,
    COLO_REQUEST_SESSION_DESTROY,
    COLO_REQUEST_PEER_ATTACH,
    COLO_REQUEST_LOCAL_ATTACH,
    COLO_REQUEST_GATE,
    COLO_REQUEST_TAKEOVER_PREPARE,
    COLO_REQUEST_KICK_DONE,
    COLO_REQUEST_STATS,
    COLO_REQUEST_TUNE,
    COLO_REQUEST_REWRITE_TABLE,
    COLO_REQUEST_REWRITE_KEEP,
    COLO_REQUEST_CARRY,
    COLO_REQUEST_STATE,
    COLO_REQUEST_STATE_SET,
} ColoRequestKind;

typedef struct {
    uint64_t id;
    bool has_id; /* an error answer can name it even when the rest is wrong */
    ColoRequestKind kind;
    uint64_t version;         /* hello */
    char uuid[40];            /* all but hello and inventory */
    uint64_t generation;      /* the same; 0: the newest session of that domain */
    char name[48];            /* peer-attach: stream; local-attach: channel */
    ColoGate gate;            /* gate */
    ColoSessionConfig config; /* session-create; rewrite-keep: "nics" and "base" only */
    ColoTuning tuning;        /* tune: all of them */
    bool on;                  /* carry */
    uint64_t epoch;           /* state, state-set */
    GBytes *state;            /* state; else NULL */
} ColoRequest;

/* FALSE and @error (COLO_ERROR_INVALID_ARG) for anything that is no legal request. Either way
 * colo_request_clear() frees what @request holds, and wipes the key in it. */
gboolean colo_request_parse(const char *text, size_t len, ColoRequest *request, GError **error);

void colo_request_clear(ColoRequest *request);

/* True for requests that come with a descriptor. */
bool colo_request_wants_fd(ColoRequestKind kind);

const char *colo_gate_name(ColoGate gate);
