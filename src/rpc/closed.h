/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the log says of clients that are closed, or not let in. Anybody can cause such a line as
 * often as he connects: no more than COLO_RPC_CLOSED_LINES go out in COLO_RPC_CLOSED_S, of root's
 * clients and of all others each, and the next one afterwards says how many were left out. Any
 * thread.
 */
#pragma once

#include "rpc/server.h"

#define COLO_RPC_CLOSED_LINES 20u
#define COLO_RPC_CLOSED_S 10u

/* "client of uid 0, pid 1" or "TLS client 'CN=...'", the caller's. */
char *colo_rpc_caller_name(const ColoRpcCaller *caller);

/* "WHO closed: " before the text. */
void colo_rpc_log_closed(const ColoRpcCaller *caller, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "WHO is not let in: " before it. */
void colo_rpc_log_kept_out(const ColoRpcCaller *caller, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
/* Of one that is not known so well. */
void colo_rpc_log_stranger_closed(const char *who, const char *format, ...) G_GNUC_PRINTF(2, 3);
