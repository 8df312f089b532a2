/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/remote-calls.h"

#include "rpc/xdr-put.h"
#include "util/bytes.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

/* enum virTypedParameterType */
enum {
    PARAM_INT = 1,
    PARAM_UINT = 2,
    PARAM_LLONG = 3,
    PARAM_ULLONG = 4,
    PARAM_DOUBLE = 5,
    PARAM_BOOLEAN = 6,
    PARAM_STRING = 7,
};

/* A URI is not longer: REMOTE_STRING_MAX is 4 MiB, of which no client has use. */
#define URI_MAX 4096u

/* REMOTE_STRING_MAX again; a guest's name is a file name (libvirt's qemu driver). */
#define NAME_MAX_BYTES 4096u
#define UUID_BYTES 16u
#define UUID_TEXT 37        /* with its NUL */
#define TEXT_MAX (4u << 20) /* REMOTE_STRING_MAX */

/* VIR_FROM_QEMU, VIR_ERR_ERROR of libvirt/virterror.h: stable ABI. */
#define FROM_QEMU 10u
#define LEVEL_ERROR 2u
/* virErrorNumber of the same. */
#define ERR_OPERATION_DENIED 29u
#define ERR_RPC 39u /* not authenticated, for one */
#define ERR_NO_DOMAIN 42u
#define ERR_ACCESS_DENIED 88u
#define HOSTNAME_LEASE 1u /* VIR_DOMAIN_GET_HOSTNAME_LEASE */

gboolean colo_remote_get_word(const ColoRpcFrame *frame, size_t *at, uint32_t *word)
{
    if (*at > frame->len || frame->len - *at < 4)
        return FALSE;
    *word = colo_get32(frame->body + *at);
    *at += 4;
    return TRUE;
}

gboolean colo_remote_get_opaque(const ColoRpcFrame *frame, size_t *at, size_t max,
                                const char **text, size_t *len)
{
    size_t begin = *at;
    uint32_t n;

    if (!colo_remote_get_word(frame, at, &n) || n > max ||
        frame->len - *at < (n + (size_t)3) / 4 * 4) {
        *at = begin;
        return FALSE;
    }
    *text = (const char *)frame->body + *at;
    *len = n;
    *at += (n + (size_t)3) / 4 * 4;
    return TRUE;
}

char *colo_remote_get_text(const ColoRpcFrame *frame, size_t *at, size_t max)
{
    size_t begin = *at, len;
    const char *text;

    if (!colo_remote_get_opaque(frame, at, max, &text, &len))
        return NULL;
    if (memchr(text, 0, len)) {
        *at = begin;
        return NULL;
    }
    return g_strndup(text, len);
}

gboolean colo_remote_get_optional(const ColoRpcFrame *frame, size_t *at, size_t max, char **text)
{
    uint32_t there;

    *text = NULL;
    if (!colo_remote_get_word(frame, at, &there))
        return FALSE;
    if (there)
        *text = colo_remote_get_text(frame, at, max);
    return !there || *text;
}

static char *get_uri(const ColoRpcFrame *frame, size_t *at)
{
    return colo_remote_get_text(frame, at, URI_MAX);
}

size_t colo_remote_body_at(const ColoRpcFrame *frame)
{
    return frame->header.type == COLO_RPC_CALL_WITH_FDS ? 4 : 0;
}

/* Not by printf(): a list has thousands. */
static void print_uuid(const uint8_t *uuid, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < (int)UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *text++ = '-';
        *text++ = digits[uuid[i] >> 4];
        *text++ = digits[uuid[i] & 15];
    }
    *text = '\0';
}

/* Passes over a domain, of which only the UUID is wanted. */
static gboolean skip_domain(const ColoRpcFrame *frame, size_t *at, char *uuid)
{
    const char *name;
    size_t len;

    if (!colo_remote_get_opaque(frame, at, NAME_MAX_BYTES, &name, &len) ||
        frame->len - *at < UUID_BYTES + 4)
        return FALSE;
    print_uuid(frame->body + *at, uuid);
    *at += UUID_BYTES + 4;
    return TRUE;
}

gboolean colo_remote_get_domain(const ColoRpcFrame *frame, size_t *at, ColoRemoteDomain *domain)
{
    uint32_t id;

    domain->name = colo_remote_get_text(frame, at, NAME_MAX_BYTES);
    if (!domain->name)
        return FALSE;
    if (frame->len - *at < UUID_BYTES + 4) {
        g_clear_pointer(&domain->name, g_free);
        return FALSE;
    }
    print_uuid(frame->body + *at, domain->uuid);
    *at += UUID_BYTES;
    (void)colo_remote_get_word(frame, at, &id);
    domain->id = (int32_t)id;
    return TRUE;
}

GByteArray *colo_remote_encode(const ColoRpcHeader *header, const void *body, size_t len)
{
    GByteArray *out = g_byte_array_sized_new((guint)(COLO_RPC_HEADER_BYTES + len));

    g_byte_array_set_size(out, COLO_RPC_HEADER_BYTES);
    colo_rpc_header_encode(header, len, out->data);
    g_byte_array_append(out, body, (guint)len);
    return out;
}

/* @header before @body, which is freed. */
static GByteArray *with_header(const ColoRpcHeader *header, GByteArray *body)
{
    GByteArray *out = colo_remote_encode(header, body->data, body->len);

    g_byte_array_unref(body);
    return out;
}

GByteArray *colo_remote_open(const ColoRpcFrame *frame, char **scheme)
{
    g_autofree char *uri = NULL, *ours = NULL;
    size_t at = 4;
    GByteArray *body;
    const char *rest;

    if (frame->len < 4 || colo_get32(frame->body) != 1)
        return NULL;
    uri = get_uri(frame, &at);
    if (!uri || frame->len - at != 4)
        return NULL;
    rest = strchr(uri, ':');
    if (!rest || !g_str_has_prefix(uri, "colo") || (uri[4] != ':' && uri[4] != '+'))
        return NULL;
    ours = g_strconcat("qemu", rest, NULL);
    body = g_byte_array_new();
    colo_xdr_put32(body, 1);
    colo_xdr_put_string(body, ours);
    g_byte_array_append(body, frame->body + at, 4); /* flags */
    *scheme = g_strndup(uri, (gsize)(rest - uri));
    return with_header(&frame->header, body);
}

GByteArray *colo_remote_uri(const ColoRpcFrame *frame, const char *scheme)
{
    g_autofree char *uri = NULL, *theirs = NULL;
    size_t at = 0;
    GByteArray *body;

    uri = get_uri(frame, &at);
    if (!uri || !g_str_has_prefix(uri, "qemu:"))
        return NULL;
    theirs = g_strconcat(scheme, uri + strlen("qemu"), NULL);
    body = g_byte_array_new();
    colo_xdr_put_string(body, theirs);
    return with_header(&frame->header, body);
}

/* What print_uuid() has printed; of anything else, no UUID that a domain has. */
static void put_uuid(GByteArray *body, const char *text)
{
    uint8_t uuid[UUID_BYTES] = {0};

    for (size_t n = 0; n < 2 * UUID_BYTES && *text; text++) {
        int digit = g_ascii_xdigit_value(*text);

        if (digit < 0)
            continue;
        uuid[n / 2] = (uint8_t)(uuid[n / 2] << 4 | digit);
        n++;
    }
    g_byte_array_append(body, uuid, sizeof(uuid));
}

void colo_remote_put_domain(GByteArray *body, const char *name, const char *uuid, int id)
{
    colo_xdr_put_string(body, name);
    put_uuid(body, uuid);
    colo_xdr_put32(body, (uint32_t)id);
}

static ColoRpcHeader reply_to(const ColoRpcHeader *call, uint32_t status)
{
    ColoRpcHeader header = *call;

    header.type = COLO_RPC_REPLY;
    header.status = status;
    return header;
}

/* remote_string: optional. */
static void put_optional(GByteArray *body, const char *text)
{
    colo_xdr_put32(body, text != NULL);
    if (text)
        colo_xdr_put_string(body, text);
}

/* struct virNetMessageError of src/rpc/virnetprotocol.x. */
GByteArray *colo_remote_error(const ColoRpcHeader *call, int code, const char *message)
{
    ColoRpcHeader header = reply_to(call, COLO_RPC_ERROR);
    GByteArray *body = g_byte_array_new();

    colo_xdr_put32(body, (uint32_t)code);
    colo_xdr_put32(body, FROM_QEMU);
    put_optional(body, message);
    colo_xdr_put32(body, LEVEL_ERROR);
    colo_xdr_put32(body, 0); /* domain */
    put_optional(body, "%s");
    put_optional(body, message);
    put_optional(body, NULL);
    colo_xdr_put32(body, 0);
    colo_xdr_put32(body, 0);
    colo_xdr_put32(body, 0); /* network */
    return with_header(&header, body);
}

GByteArray *colo_remote_reply(const ColoRpcHeader *call, const void *body, size_t len)
{
    ColoRpcHeader header = reply_to(call, COLO_RPC_OK);

    return colo_remote_encode(&header, body, len);
}

GByteArray *colo_remote_string(const ColoRpcHeader *call, const char *text)
{
    ColoRpcHeader header = reply_to(call, COLO_RPC_OK);
    GByteArray *body = g_byte_array_new();

    colo_xdr_put_string(body, text);
    return with_header(&header, body);
}

/* remote_nonnull_domain domains<>; unsigned int ret */
GByteArray *colo_remote_list_without(const ColoRpcFrame *frame,
                                     gboolean (*hidden)(const char *uuid, void *opaque),
                                     void *opaque)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    uint32_t n, ret, kept = 0;
    size_t at = 0;

    if (!colo_remote_get_word(frame, &at, &n))
        return NULL;
    colo_xdr_put32(body, 0);
    for (uint32_t i = 0; i < n; i++) {
        char uuid[UUID_TEXT];
        size_t from = at;

        if (!skip_domain(frame, &at, uuid))
            return NULL;
        if (hidden(uuid, opaque))
            continue;
        g_byte_array_append(body, frame->body + from, (guint)(at - from));
        kept++;
    }
    if (kept == n || !colo_remote_get_word(frame, &at, &ret) || at != frame->len)
        return NULL;
    colo_put32(body->data, kept);
    colo_xdr_put32(body, kept);
    return with_header(&frame->header, g_steal_pointer(&body));
}

static ColoRpcHeader call_header(uint32_t procedure)
{
    return (ColoRpcHeader){.program = COLO_REMOTE_PROGRAM,
                           .version = COLO_REMOTE_VERSION,
                           .procedure = procedure,
                           .type = COLO_RPC_CALL,
                           .status = COLO_RPC_OK};
}

/* remote_nonnull_domain dom; unsigned int flags */
static GByteArray *ask_domain(uint32_t procedure, const char *name, const char *uuid,
                              uint32_t flags)
{
    ColoRpcHeader header = call_header(procedure);
    GByteArray *body = g_byte_array_new();

    colo_remote_put_domain(body, name, uuid, -1);
    colo_xdr_put32(body, flags);
    return with_header(&header, body);
}

/* virDomainGetState() */
GByteArray *colo_remote_ask_domain_read(const char *name, const char *uuid)
{
    return ask_domain(COLO_REMOTE_PROC_DOMAIN_GET_STATE, name, uuid, 0);
}

/* virDomainGetHostname() from the DHCP leases */
GByteArray *colo_remote_ask_domain_write(const char *name, const char *uuid)
{
    return ask_domain(COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME, name, uuid, HOSTNAME_LEASE);
}

/* virConnectGetDomainCapabilities() of the defaults: remote_string emulatorbin, arch, machine,
 * virttype; unsigned int flags */
GByteArray *colo_remote_ask_connect_write(void)
{
    ColoRpcHeader header = call_header(COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES);
    GByteArray *body = g_byte_array_new();

    for (int i = 0; i < 5; i++)
        colo_xdr_put32(body, 0);
    return with_header(&header, body);
}

gboolean colo_remote_is_denial(const ColoRpcFrame *reply)
{
    uint32_t code;

    if (reply->header.status != COLO_RPC_ERROR)
        return FALSE;
    if (reply->len < 4)
        return TRUE;
    code = colo_get32(reply->body);
    return code == ERR_ACCESS_DENIED || code == ERR_OPERATION_DENIED || code == ERR_NO_DOMAIN ||
           code == ERR_RPC;
}

GByteArray *colo_remote_auth_list(uint32_t serial)
{
    ColoRpcHeader header = call_header(COLO_REMOTE_PROC_AUTH_LIST);

    header.serial = serial;
    return colo_remote_encode(&header, NULL, 0);
}

GByteArray *colo_remote_ask_connect_open(uint32_t serial)
{
    ColoRpcHeader header = call_header(COLO_REMOTE_PROC_CONNECT_SUPPORTS_FEATURE);
    static const uint8_t feature[] = {0, 0, 0, 1}; /* VIR_DRV_FEATURE_MIGRATION_V1 */

    header.serial = serial;
    return colo_remote_encode(&header, feature, sizeof(feature));
}

uint64_t colo_remote_start_time(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid), *text = NULL;
    unsigned long long ticks = 0;
    const char *at;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(at = strrchr(text, ')')))
        return 0;
    if (sscanf(at + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ticks) != 1)
        return 0;
    return ticks;
}

static void put_number(GByteArray *body, const char *name, uint32_t type, uint64_t value)
{
    colo_xdr_put_string(body, name);
    colo_xdr_put32(body, type);
    colo_xdr_put64(body, value);
}

static void put_text(GByteArray *body, const char *name, const char *value)
{
    colo_xdr_put_string(body, name);
    colo_xdr_put32(body, PARAM_STRING);
    colo_xdr_put_string(body, value);
}

void colo_remote_put_text_param(GByteArray *body, const char *name, const char *value)
{
    put_text(body, name, value);
}

void colo_remote_put_number_param(GByteArray *body, const char *name, uint64_t value)
{
    put_number(body, name, PARAM_ULLONG, value);
}

/* Passes over one remote_typed_param. */
gboolean colo_remote_skip_param(const ColoRpcFrame *frame, size_t *at)
{
    uint32_t type, word;
    const char *text;
    size_t len;

    if (!colo_remote_get_opaque(frame, at, TEXT_MAX, &text, &len) ||
        !colo_remote_get_word(frame, at, &type))
        return FALSE;
    switch (type) {
    case PARAM_INT:
    case PARAM_UINT:
    case PARAM_BOOLEAN:
        return colo_remote_get_word(frame, at, &word);
    case PARAM_LLONG:
    case PARAM_ULLONG:
    case PARAM_DOUBLE:
        return colo_remote_get_word(frame, at, &word) && colo_remote_get_word(frame, at, &word);
    case PARAM_STRING:
        return colo_remote_get_opaque(frame, at, TEXT_MAX, &text, &len);
    default: /* of a later libvirt */
        return FALSE;
    }
}

/* remote_domain_stats_record retStats<>; each: remote_nonnull_domain dom; remote_typed_param
 * params<> */
GByteArray *colo_remote_stats_with(const ColoRpcFrame *frame,
                                   unsigned (*more)(const char *uuid, GByteArray *params,
                                                    void *opaque),
                                   void *opaque)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    gboolean changed = FALSE;
    size_t at = 0;
    uint32_t n;

    if (!colo_remote_get_word(frame, &at, &n))
        return NULL;
    colo_xdr_put32(body, n);
    for (uint32_t i = 0; i < n; i++) {
        char uuid[UUID_TEXT];
        size_t from = at;
        uint32_t params;
        guint count_at;
        unsigned added;

        if (!skip_domain(frame, &at, uuid))
            return NULL;
        count_at = body->len + (guint)(at - from);
        if (!colo_remote_get_word(frame, &at, &params))
            return NULL;
        for (uint32_t j = 0; j < params; j++) {
            if (!colo_remote_skip_param(frame, &at))
                return NULL;
        }
        g_byte_array_append(body, frame->body + from, (guint)(at - from));
        added = more(uuid, body, opaque);
        colo_put32(body->data + count_at, params + added);
        changed = changed || added > 0;
    }
    return changed && at == frame->len ? with_header(&frame->header, g_steal_pointer(&body)) : NULL;
}

/* As virIdentityGetSystem() of libvirt's src/util/viridentity.c names them. */
GByteArray *colo_remote_identity(const ColoRpcCaller *caller, uint32_t serial)
{
    ColoRpcHeader header = {.program = COLO_REMOTE_PROGRAM,
                            .version = COLO_REMOTE_VERSION,
                            .procedure = COLO_REMOTE_PROC_CONNECT_SET_IDENTITY,
                            .type = COLO_RPC_CALL,
                            .serial = serial,
                            .status = COLO_RPC_OK};
    GByteArray *body = g_byte_array_new();
    char buffer[2][4096];
    struct passwd user, *u = NULL;
    struct group group, *g = NULL;

    if (*caller
             ->dn) { /* virNetServerClientCreateIdentity(): of a TLS client nothing else is known */
        colo_xdr_put32(body, 1);
        put_text(body, "x509-distinguished-name", caller->dn);
        colo_xdr_put32(body, 0); /* flags */
        return with_header(&header, body);
    }
    (void)getpwuid_r(caller->uid, &user, buffer[0], sizeof(buffer[0]), &u);
    (void)getgrgid_r(caller->gid, &group, buffer[1], sizeof(buffer[1]), &g);
    colo_xdr_put32(body, 4 + (u != NULL) + (g != NULL));
    put_number(body, "process-id", PARAM_LLONG, (uint64_t)caller->pid);
    put_number(body, "process-time", PARAM_ULLONG, colo_remote_start_time(caller->pid));
    put_number(body, "unix-user-id", PARAM_ULLONG, caller->uid);
    put_number(body, "unix-group-id", PARAM_ULLONG, caller->gid);
    if (u)
        put_text(body, "user-name", u->pw_name);
    if (g)
        put_text(body, "group-name", g->gr_name);
    colo_xdr_put32(body, 0); /* flags */
    return with_header(&header, body);
}
