/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/remote-calls.h"

#include "util/bytes.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

/* enum virTypedParameterType */
enum { PARAM_LLONG = 3, PARAM_ULLONG = 4, PARAM_STRING = 7 };

/* A URI is not longer: REMOTE_STRING_MAX is 4 MiB, of which no client has use. */
#define URI_MAX 4096u

static void put32(GByteArray *to, uint32_t value)
{
    uint8_t bytes[4];

    colo_put32(bytes, value);
    g_byte_array_append(to, bytes, sizeof(bytes));
}

static void put64(GByteArray *to, uint64_t value)
{
    put32(to, (uint32_t)(value >> 32));
    put32(to, (uint32_t)value);
}

static void put_string(GByteArray *to, const char *text)
{
    static const uint8_t zeros[4];
    guint len = (guint)strlen(text);

    put32(to, len);
    g_byte_array_append(to, (const uint8_t *)text, len);
    g_byte_array_append(to, zeros, (4 - len % 4) % 4);
}

/* The string at @at of the body; *at moves behind it. NULL when there is none that is whole. */
static char *get_string(const ColoRpcFrame *frame, size_t *at)
{
    uint32_t len;
    char *text;

    if (frame->len - *at < 4)
        return NULL;
    len = colo_get32(frame->body + *at);
    if (len > URI_MAX || frame->len - *at - 4 < (len + 3u) / 4 * 4 ||
        memchr(frame->body + *at + 4, 0, len))
        return NULL;
    text = g_strndup((const char *)frame->body + *at + 4, len);
    *at += 4 + (len + 3u) / 4 * 4;
    return text;
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
    uri = get_string(frame, &at);
    if (!uri || frame->len - at != 4)
        return NULL;
    rest = strchr(uri, ':');
    if (!rest || !g_str_has_prefix(uri, "colo") || (uri[4] != ':' && uri[4] != '+'))
        return NULL;
    ours = g_strconcat("qemu", rest, NULL);
    body = g_byte_array_new();
    put32(body, 1);
    put_string(body, ours);
    g_byte_array_append(body, frame->body + at, 4); /* flags */
    *scheme = g_strndup(uri, (gsize)(rest - uri));
    return with_header(&frame->header, body);
}

GByteArray *colo_remote_uri(const ColoRpcFrame *frame, const char *scheme)
{
    g_autofree char *uri = NULL, *theirs = NULL;
    size_t at = 0;
    GByteArray *body;

    uri = get_string(frame, &at);
    if (!uri || !g_str_has_prefix(uri, "qemu:"))
        return NULL;
    theirs = g_strconcat(scheme, uri + strlen("qemu"), NULL);
    body = g_byte_array_new();
    put_string(body, theirs);
    return with_header(&frame->header, body);
}

/* When the process began, in clock ticks after boot (proc(5), field 22 of stat), 0: it is gone. */
static uint64_t start_time(pid_t pid)
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
    put_string(body, name);
    put32(body, type);
    put64(body, value);
}

static void put_text(GByteArray *body, const char *name, const char *value)
{
    put_string(body, name);
    put32(body, PARAM_STRING);
    put_string(body, value);
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

    (void)getpwuid_r(caller->uid, &user, buffer[0], sizeof(buffer[0]), &u);
    (void)getgrgid_r(caller->gid, &group, buffer[1], sizeof(buffer[1]), &g);
    put32(body, 4 + (u != NULL) + (g != NULL));
    put_number(body, "process-id", PARAM_LLONG, (uint64_t)caller->pid);
    put_number(body, "process-time", PARAM_ULLONG, start_time(caller->pid));
    put_number(body, "unix-user-id", PARAM_ULLONG, caller->uid);
    put_number(body, "unix-group-id", PARAM_ULLONG, caller->gid);
    if (u)
        put_text(body, "user-name", u->pw_name);
    if (g)
        put_text(body, "group-name", g->gr_name);
    put32(body, 0); /* flags */
    return with_header(&header, body);
}
