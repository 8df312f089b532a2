/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/closed.h"

#include "util/clock.h"
#include "util/log.h"

char *colo_rpc_caller_name(const ColoRpcCaller *caller)
{
    return *caller->dn ? g_strdup_printf("TLS client '%s'", caller->dn)
                       : g_strdup_printf("client of uid %u, pid %d", (unsigned)caller->uid,
                                         (int)caller->pid);
}

/* @root: the others cannot keep these lines from being said. */
G_GNUC_PRINTF(4, 0)
static void say(gboolean root, const char *who, const char *what, const char *format, va_list args)
{
    static ColoLogLimit limits[2] = {
        {.lines = COLO_RPC_CLOSED_LINES, .seconds = COLO_RPC_CLOSED_S},
        {.lines = COLO_RPC_CLOSED_LINES, .seconds = COLO_RPC_CLOSED_S}};
    static GMutex lock;
    g_autofree char *why = NULL;
    unsigned left_out;
    gboolean may;

    g_mutex_lock(&lock);
    may = colo_log_limit(&limits[root], colo_clock_ns(), &left_out);
    g_mutex_unlock(&lock);
    if (!may)
        return;
    if (left_out > 0)
        colo_warn("%u more clients of %s were closed or not let in: at most %u lines in %u s are "
                  "said of them",
                  left_out, root ? "root" : "others than root", COLO_RPC_CLOSED_LINES,
                  COLO_RPC_CLOSED_S);
    why = g_strdup_vprintf(format, args);
    colo_warn("%s %s: %s", who, what, why);
}

void colo_rpc_log_closed(const ColoRpcCaller *caller, const char *format, ...)
{
    g_autofree char *who = colo_rpc_caller_name(caller);
    va_list args;

    va_start(args, format);
    say(!*caller->dn && caller->uid == 0, who, "closed", format, args);
    va_end(args);
}

void colo_rpc_log_kept_out(const ColoRpcCaller *caller, const char *format, ...)
{
    g_autofree char *who = colo_rpc_caller_name(caller);
    va_list args;

    va_start(args, format);
    say(!*caller->dn && caller->uid == 0, who, "is not let in", format, args);
    va_end(args);
}

void colo_rpc_log_stranger_closed(const char *who, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(FALSE, who, "closed", format, args);
    va_end(args);
}
