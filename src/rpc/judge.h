/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a client of door 1 may hear that libvirt has not been asked about: of those who are not root
 * and may only look. A connection to libvirt is opened in its name, by the relay, as if it had
 * asked libvirt itself: its socket, polkit and libvirt's access control say of our reading commands
 * what they say of libvirt's.
 * - Any command: it may open the connection (connect:getattr).
 * - One about a domain: it may see that and its state (domain:getattr, domain:read). Of a list it
 *   hears of those.
 * - One about the whole host (ColoCommand.host): it may change that (connect:write).
 * Blocks; on a worker of the server.
 */
#pragma once

#include "rpc/server.h"

typedef struct ColoRpcJudge ColoRpcJudge;

/* TRUE for whom there is anything to judge. */
gboolean colo_rpc_judge_is_needed(const ColoRpcCaller *caller);

/* NULL with @error, in libvirt's words: it may not even open a connection. */
ColoRpcJudge *colo_rpc_judge_new(ColoRpcServer *server, const ColoRpcCaller *caller,
                                 GError **error);
void colo_rpc_judge_free(ColoRpcJudge *judge);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoRpcJudge, colo_rpc_judge_free)

/* The arguments with which the command may be run, the caller's: the domain is named by the UUID
 * that libvirt says. NULL with @error. */
JsonObject *colo_rpc_judge_command(ColoRpcJudge *judge, const char *command, JsonObject *args,
                                   GError **error);
/* Takes out of its @result the domains that it may not see. */
void colo_rpc_judge_result(ColoRpcJudge *judge, JsonObject *result);
