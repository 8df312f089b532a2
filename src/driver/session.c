/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver of colo:///session, where nothing is protected: libvirt's own, but for our commands,
 * of which its QEMUs know nothing. */
#include "driver/driver.h"

#include "driver/monitor.h"
#include "rpc/remote-calls.h"
#include "util/error.h"

void colo_driver_refuse_in_session(const char *command, GError **error)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                "%s: domains of a session cannot be protected: use colo:///system", command);
}

static JsonObject *no_command(const char *command, JsonObject *args G_GNUC_UNUSED,
                              void *opaque G_GNUC_UNUSED, GError **error)
{
    colo_driver_refuse_in_session(command, error);
    return NULL;
}

static ColoRelayVerdict call(const ColoRpcFrame *frame, GByteArray **answer,
                             GByteArray **question G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    if (frame->header.program != COLO_REMOTE_QEMU_PROGRAM ||
        (frame->header.procedure != COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND &&
         frame->header.procedure != COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND_WITH_FILES) ||
        !colo_monitor_is_ours(frame))
        return COLO_RELAY_PASS;
    *answer = colo_monitor_answer(frame, no_command, NULL);
    return COLO_RELAY_ANSWER;
}

/* Nothing is a worker's, or changed. */
static ColoRelayVerdict heard(const ColoRpcFrame *frame G_GNUC_UNUSED,
                              GByteArray **answer G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    return COLO_RELAY_PASS;
}

const ColoRelayDriver *colo_driver_of_session(void)
{
    static const ColoRelayDriver session = {.call = call, .heard = heard};

    return &session;
}
