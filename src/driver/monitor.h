/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Door 2 (design section 6): a QEMU monitor command whose name begins with "colo-" is one of ours.
 *   QMP  {"execute": "colo-status", "arguments": {...}, "id": ...}
 *        -> {"return": {...}, "id": ...} or {"error": {"class", "desc"}, "id": ...}
 *   HMP  colo-status [NAME=VALUE | NAME]...     (NAME alone: true)
 *        -> the result's members, one a line, or "Error: ..."
 * The domain of the call is the command's argument "domain" where it has one; no other may be
 * given: libvirt was asked for this one. Pure; any thread.
 */
#pragma once

#include "rpc/frame.h"
#include "util/json.h"

/* TRUE for a call of the QEMU program's monitor command that is one of ours. */
gboolean colo_monitor_is_ours(const ColoRpcFrame *frame);

/* The call by which libvirt tells whether its client may do it: as for a QEMU monitor command of
 * that domain, or, for a command that is about no domain, as for changing the host. */
GByteArray *colo_monitor_question(const ColoRpcFrame *frame);

/* The whole reply. @command as in driver.h. */
GByteArray *colo_monitor_answer(const ColoRpcFrame *frame,
                                JsonObject *(*command)(const char *command, JsonObject *args,
                                                       void *opaque, GError **error),
                                void *opaque);
