/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of sessions, and what each request does. */
#include "comparator/daemon.h"

#include "util/error.h"

#include <string.h>
#include <unistd.h>

ColoSession *colo_daemon_find(ColoDaemon *self, const char *uuid, uint64_t generation)
{
    ColoSession *found = NULL;

    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        ColoSession *session = self->sessions[i];

        if (!session || strcmp(session->config.uuid, uuid) != 0 ||
            (generation && session->config.generation != generation))
            continue;
        if (!found || session->config.generation > found->config.generation)
            found = session;
    }
    return found;
}

static gboolean create(ColoDaemon *self, const ColoSessionConfig *config, GError **error)
{
    int slot = 0;

    if (colo_daemon_find(self, config->uuid, config->generation)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "session %s exists already, generation %" G_GUINT64_FORMAT ": destroy it first",
                    config->uuid, config->generation);
        return FALSE;
    }
    while (slot < COLO_SESSION_MAX && self->sessions[slot])
        slot++;
    if (slot == COLO_SESSION_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE, "there are %d sessions already",
                    COLO_SESSION_MAX);
        return FALSE;
    }
    self->sessions[slot] = colo_session_new(&self->host, config, error);
    if (!self->sessions[slot])
        return FALSE;
    colo_session_log(self->sessions[slot], LOG_INFO, "session created as %s",
                     config->primary ? "primary" : "secondary");
    return TRUE;
}

static void destroy(ColoDaemon *self, ColoSession *session)
{
    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        if (self->sessions[i] == session)
            self->sessions[i] = NULL;
    }
    colo_session_log(session, LOG_INFO, "session destroyed");
    colo_session_free(session);
}

static JsonObject *inventory(ColoDaemon *self)
{
    JsonObject *array = json_object_new_array();

    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        if (self->sessions[i])
            json_object_array_add(array, colo_session_stats(self->sessions[i]));
    }
    return colo_json_build("sessions", "o", array, NULL);
}

static gboolean hello(const ColoRequest *request, JsonObject **result, GError **error)
{
    if (request->version != COLO_CMP_VERSION) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "this colo-comparator speaks version %d of the control protocol, asked for "
                    "%" G_GUINT64_FORMAT,
                    COLO_CMP_VERSION, request->version);
        return FALSE;
    }
    *result = colo_json_build("version", "u", (uint64_t)COLO_CMP_VERSION, "pid", "u",
                              (uint64_t)getpid(), NULL);
    return TRUE;
}

/* Requests about one session. */
static gboolean execute_on(ColoDaemon *self, ColoSession *session, const ColoRequest *request,
                           int fd, uint64_t token, JsonObject **result, GError **error)
{
    switch (request->kind) {
    case COLO_REQUEST_SESSION_DESTROY:
        destroy(self, session);
        break;
    case COLO_REQUEST_PEER_ATTACH:
        if (!colo_session_attach_peer(session, request->name, fd, error))
            return FALSE;
        break;
    case COLO_REQUEST_LOCAL_ATTACH:
        if (!colo_session_attach_local(session, request->name, fd, error))
            return FALSE;
        break;
    case COLO_REQUEST_GATE:
        return colo_gate_set(session, request->gate, token, result, error);
    case COLO_REQUEST_TAKEOVER_PREPARE:
        return colo_takeover_prepare(session, token, result, error);
    case COLO_REQUEST_KICK_DONE:
        colo_wanted_kicked(session);
        break;
    default:
        *result = colo_session_stats(session);
        return TRUE;
    }
    *result = json_object_new_object();
    return TRUE;
}

gboolean colo_daemon_execute(ColoDaemon *self, const ColoRequest *request, int fd, uint64_t token,
                             JsonObject **result, GError **error)
{
    ColoSession *session;

    *result = NULL;
    if (colo_request_wants_fd(request->kind) && fd < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "the request came without its file descriptor");
        return FALSE;
    }
    switch (request->kind) {
    case COLO_REQUEST_HELLO:
        return hello(request, result, error);
    case COLO_REQUEST_INVENTORY:
        *result = inventory(self);
        return TRUE;
    case COLO_REQUEST_SESSION_CREATE:
        if (!create(self, &request->config, error))
            return FALSE;
        *result = json_object_new_object();
        return TRUE;
    default:
        break;
    }
    session = colo_daemon_find(self, request->uuid, request->generation);
    if (!session) {
        if (fd >= 0)
            close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN,
                    request->generation ? "there is no session %s of generation %" G_GUINT64_FORMAT
                                        : "there is no session %s",
                    request->uuid, request->generation);
        return FALSE;
    }
    return execute_on(self, session, request, fd, token, result, error);
}
