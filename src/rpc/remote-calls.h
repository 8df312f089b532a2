/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The bodies of libvirt's remote program that the relay reads or makes (libvirt 9.0,
 * src/remote/remote_protocol.x; XDR, RFC 4506). Pure. */
#pragma once

#include "rpc/frame.h"
#include "rpc/server.h"

#define COLO_REMOTE_PROGRAM 0x20008086u
#define COLO_REMOTE_VERSION 1u

#define COLO_REMOTE_QEMU_PROGRAM 0x20008087u

enum {
    COLO_REMOTE_PROC_CONNECT_OPEN = 1,
    COLO_REMOTE_PROC_CONNECT_GET_CAPABILITIES = 7,
    COLO_REMOTE_PROC_DOMAIN_GET_AUTOSTART = 15,
    COLO_REMOTE_PROC_CONNECT_SUPPORTS_FEATURE = 60,
    COLO_REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME = 23,
    COLO_REMOTE_PROC_AUTH_LIST = 66,
    COLO_REMOTE_PROC_AUTH_POLKIT = 70,
    COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE = 107,
    COLO_REMOTE_PROC_CONNECT_GET_URI = 110,
    COLO_REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS = 273,
    COLO_REMOTE_PROC_DOMAIN_GET_STATE = 212,
    COLO_REMOTE_PROC_DOMAIN_SET_METADATA = 264,
    COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME = 277,
    COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE = 318,
    COLO_REMOTE_PROC_DOMAIN_MIGRATE_BEGIN3_PARAMS = 302,
    COLO_REMOTE_PROC_DOMAIN_MIGRATE_PREPARE3_PARAMS = 303,
    COLO_REMOTE_PROC_DOMAIN_MIGRATE_PERFORM3_PARAMS = 305,
    COLO_REMOTE_PROC_DOMAIN_MIGRATE_FINISH3_PARAMS = 306,
    COLO_REMOTE_PROC_DOMAIN_MIGRATE_CONFIRM3_PARAMS = 307,
    COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES = 342,
    COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS = 344,
    COLO_REMOTE_PROC_CONNECT_SET_IDENTITY = 419,
};

/* Of the QEMU program (qemu_protocol.x). */
enum {
    COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND = 1,
    COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND_WITH_FILES = 7,
};

/* remote_nonnull_domain */
typedef struct {
    char *name;
    char uuid[37]; /* lower case, as libvirt writes it */
    int32_t id;
} ColoRemoteDomain;

/* Serials of our own calls: a range that is no client's, for they count from 1. The first is that
 * of CONNECT_SET_IDENTITY. */
#define COLO_REMOTE_OWN_SERIAL 0xc0100000u
#define COLO_REMOTE_OWN_SERIALS 0x00100000u
static inline gboolean colo_remote_is_own_serial(uint32_t serial)
{
    return serial - COLO_REMOTE_OWN_SERIAL < COLO_REMOTE_OWN_SERIALS;
}

/* The frame as it goes on the wire. */
GByteArray *colo_remote_encode(const ColoRpcHeader *header, const void *body, size_t len);

/* CONNECT_OPEN for libvirt's QEMU driver, or NULL when @frame opens nothing of ours: it goes on as
 * it is. *scheme: "colo" or "colo+unix"..., what the client wrote before the colon; the caller's.
 */
GByteArray *colo_remote_open(const ColoRpcFrame *frame, char **scheme);

/* The reply to CONNECT_GET_URI with @scheme instead of "qemu"; NULL: as it is. */
GByteArray *colo_remote_uri(const ColoRpcFrame *frame, const char *scheme);

/* Where the body of a call with or without FDs begins. */
size_t colo_remote_body_at(const ColoRpcFrame *frame);
/* Read the body of @frame from *@at on, which moves behind; false when it holds no such thing.
 * @domain->name and the string are the caller's. */
gboolean colo_remote_get_domain(const ColoRpcFrame *frame, size_t *at, ColoRemoteDomain *domain);
/* A string of at most @max bytes without NUL. */
char *colo_remote_get_text(const ColoRpcFrame *frame, size_t *at, size_t max);
/* The bytes of a string or of opaque data, borrowed from @frame. */
gboolean colo_remote_get_opaque(const ColoRpcFrame *frame, size_t *at, size_t max,
                                const char **bytes, size_t *len);
/* Passes over one remote_typed_param. */
gboolean colo_remote_skip_param(const ColoRpcFrame *frame, size_t *at);
/* remote_string: *@text is NULL when it is absent. */
gboolean colo_remote_get_optional(const ColoRpcFrame *frame, size_t *at, size_t max, char **text);
gboolean colo_remote_get_word(const ColoRpcFrame *frame, size_t *at, uint32_t *word);

/* The reply to @call that libvirt would give: an error (a virErrorNumber and its text), or success
 * with one string. */
GByteArray *colo_remote_error(const ColoRpcHeader *call, int code, const char *message);
GByteArray *colo_remote_string(const ColoRpcHeader *call, const char *text);
/* With a body as it is, or none. */
GByteArray *colo_remote_reply(const ColoRpcHeader *call, const void *body, size_t len);

/* The reply to CONNECT_LIST_ALL_DOMAINS without the domains that @hidden says; NULL: as it is. */
GByteArray *colo_remote_list_without(const ColoRpcFrame *frame,
                                     gboolean (*hidden)(const char *uuid, void *opaque),
                                     void *opaque);

/* Appends remote_nonnull_domain to a body. */
void colo_remote_put_domain(GByteArray *body, const char *name, const char *uuid, int id);
/* Appends typed parameters to a body; they are counted by the caller. */
void colo_remote_put_text_param(GByteArray *body, const char *name, const char *value);
void colo_remote_put_number_param(GByteArray *body, const char *name, uint64_t value);

/* The reply to CONNECT_GET_ALL_DOMAIN_STATS with what @more appends to each domain's parameters
 * (returns how many); NULL: as it is. */
GByteArray *colo_remote_stats_with(const ColoRpcFrame *frame,
                                   unsigned (*more)(const char *uuid, GByteArray *params,
                                                    void *opaque),
                                   void *opaque);

/* Calls that change nothing and reach no guest, for which libvirt wants the right to see the state
 * of a domain (domain:read), the same as for a QEMU monitor command (domain:write; libvirt goes by
 * the UUID, in its own spelling), or for changing the host (connect:write); without a serial. */
GByteArray *colo_remote_ask_domain_read(const char *name, const char *uuid);
GByteArray *colo_remote_ask_domain_write(const char *name, const char *uuid);
GByteArray *colo_remote_ask_connect_write(void);
/* TRUE when @reply says that the client has no such right (whatever goes wrong in libvirt's access
 * control is VIR_ERR_ACCESS_DENIED: virAccessManagerSanitizeError(); a read-only one hears
 * VIR_ERR_OPERATION_DENIED), or comes from before that was
 * asked: there is no such domain (VIR_ERR_NO_DOMAIN), or the client is nobody yet (VIR_ERR_RPC). */
gboolean colo_remote_is_denial(const ColoRpcFrame *reply);

/* AUTH_LIST with @serial, by which root is let in. */
GByteArray *colo_remote_auth_list(uint32_t serial);
/* CONNECT_SUPPORTS_FEATURE with @serial, for which libvirt wants the same right as for CONNECT_OPEN
 * (connect:getattr). Others that want it answer without (GET_TYPE, GET_URI) or take their time. */
GByteArray *colo_remote_ask_connect_open(uint32_t serial);
/* When the process began, in clock ticks after boot (proc(5), field 22 of stat); 0: it is gone. */
uint64_t colo_remote_start_time(pid_t pid);
/* CONNECT_SET_IDENTITY of @caller with @serial. */
GByteArray *colo_remote_identity(const ColoRpcCaller *caller, uint32_t serial);
