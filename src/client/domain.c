/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client/client-private.h"

#include "util/clock.h"
#include "util/error.h"
#include "util/json.h"

#include <inttypes.h>
#include <string.h>

#define POLL_MS 100
/* Polls until a job that was started must be seen running, or have left its error. */
#define POLLS_TO_START 10

static const char *const state_names[] = {
    [COLO_STATE_UNKNOWN] = "unknown",
    [COLO_STATE_UNPROTECTED] = "unprotected",
    [COLO_STATE_PREPARING] = "preparing",
    [COLO_STATE_SYNCING] = "syncing",
    [COLO_STATE_PROTECTED] = "protected",
    [COLO_STATE_DEGRADED] = "degraded",
    [COLO_STATE_FAILING_OVER] = "failing-over",
    [COLO_STATE_COMMITTING] = "committing",
    [COLO_STATE_ALONE] = "alone",
    [COLO_STATE_FENCED] = "fenced",
    [COLO_STATE_MANUAL] = "manual",
};

const char *colo_domain_state_to_string(ColoDomainState state)
{
    if ((unsigned)state >= G_N_ELEMENTS(state_names))
        state = COLO_STATE_UNKNOWN;
    return state_names[state];
}

static ColoDomainState state_from_string(const char *name)
{
    for (unsigned i = 1; name && i < G_N_ELEMENTS(state_names); i++) {
        if (strcmp(state_names[i], name) == 0)
            return (ColoDomainState)i;
    }
    return COLO_STATE_UNKNOWN;
}

void colo_domain_status_free(ColoDomainStatus *status)
{
    if (!status)
        return;
    g_free(status->name);
    g_free(status->uuid);
    g_free(status->pair);
    g_free(status->peer);
    g_free(status->role);
    g_free(status->reason);
    g_free(status->error);
    g_free(status->checkpoint_mode);
    g_free(status->checkpoint_mode_reason);
    g_free(status);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoDomainStatus, colo_domain_status_free)

static char *dup_member(JsonObject *json, const char *key)
{
    return g_strdup(colo_json_peek_string(json, key, ""));
}

static ColoDomainStatus *status_from_json(JsonObject *json)
{
    ColoDomainStatus *status = g_new0(ColoDomainStatus, 1);
    JsonObject *disks = colo_json_peek(json, "disks");
    JsonObject *memory = colo_json_peek(json, "memory");
    uint64_t remaining = colo_json_peek_uint(memory, "remaining", 0);
    size_t n = json_object_is_type(disks, json_type_array) ? json_object_array_length(disks) : 0;

    status->name = dup_member(json, "name");
    status->uuid = dup_member(json, "uuid");
    status->pair = dup_member(json, "pair");
    status->peer = dup_member(json, "peer");
    status->role = dup_member(json, "role");
    status->reason = dup_member(json, "reason");
    status->error = dup_member(json, "error");
    status->checkpoint_mode = dup_member(json, "checkpoint-mode");
    status->checkpoint_mode_reason = dup_member(json, "checkpoint-mode-reason");
    status->state = state_from_string(colo_json_peek_string(json, "state", NULL));
    status->generation = colo_json_peek_uint(json, "generation", 0);
    status->checkpoints = colo_json_peek_uint(json, "checkpoints", 0);
    status->divergences = colo_json_peek_uint(json, "divergences", 0);
    for (size_t i = 0; i < n; i++) {
        JsonObject *disk = json_object_array_get_idx(disks, i);

        status->disk_total += colo_json_peek_uint(disk, "size", 0);
        status->disk_copied += colo_json_peek_uint(disk, "copied", 0);
    }
    status->memory_total = colo_json_peek_uint(memory, "total", 0);
    status->memory_copied = status->memory_total - MIN(remaining, status->memory_total);
    status->progress_percent =
        (unsigned)MIN(colo_json_peek_uint(json, "progress-percent", 0), (uint64_t)100);
    return status;
}

static ColoDomainStatus *get_status(ColoConnect *conn, const char *domain, GError **error)
{
    g_autoptr(JsonObject) args = colo_json_build("domain", "s", domain, NULL);
    g_autoptr(JsonObject) json = colo_client_command(conn, "colo-status", args, error);

    return json ? status_from_json(json) : NULL;
}

ColoDomainStatus *colo_domain_get_status(ColoConnect *conn, const char *domain, ColoError *error)
{
    GError *failure = NULL;
    ColoDomainStatus *status = get_status(conn, domain, &failure);

    if (!status)
        colo_client_set_error(error, failure);
    return status;
}

/* Runs a command on a domain whose result does not matter. 0, or -1 with @error. */
static int run(ColoConnect *conn, const char *command, JsonObject *args, ColoError *error)
{
    GError *failure = NULL;
    g_autoptr(JsonObject) result = colo_client_command(conn, command, args, &failure);

    if (result)
        return 0;
    colo_client_set_error(error, failure);
    return -1;
}

int colo_domain_protect(ColoConnect *conn, const char *domain, const char *pair, ColoError *error)
{
    g_autoptr(JsonObject) args = colo_json_build("domain", "s", domain, "pair", "s", pair, NULL);

    return run(conn, "colo-protect", args, error);
}

int colo_domain_unprotect(ColoConnect *conn, const char *domain, ColoError *error)
{
    g_autoptr(JsonObject) args = colo_json_build("domain", "s", domain, NULL);

    return run(conn, "colo-unprotect", args, error);
}

/* What one look at the domain says of the job: done (TRUE), failed (FALSE with @error), or FALSE:
 * go on. @running: the job has been seen; updated. */
static gboolean job_done(const ColoDomainStatus *status, unsigned polls, gboolean *running,
                         GError **error)
{
    switch (status->state) {
    case COLO_STATE_PROTECTED:
        return TRUE;
    case COLO_STATE_PREPARING:
    case COLO_STATE_SYNCING:
        *running = TRUE;
        return FALSE;
    default:
        /* Before the job is seen the state is the one before it, with no error of it. */
        if (!*status->error && !*running && polls < POLLS_TO_START)
            return FALSE;
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED, "%s",
                    *status->error    ? status->error
                    : *status->reason ? status->reason
                                      : _("protection ended without a reason"));
        if (!*status->error)
            g_prefix_error(error, _("domain '%s' is %s: "), status->name,
                           colo_domain_state_to_string(status->state));
        return FALSE;
    }
}

int colo_domain_protect_wait(ColoConnect *conn, const char *domain, uint64_t timeout_ms,
                             ColoProgressCallback progress, void *opaque, ColoError *error)
{
    uint64_t end = colo_clock_ns() + timeout_ms * COLO_NS_PER_MS;
    gboolean running = FALSE;
    GError *failure = NULL;

    for (unsigned polls = 0;; polls++) {
        g_autoptr(ColoDomainStatus) status = get_status(conn, domain, &failure);

        if (!status)
            break;
        if (progress && progress(status, opaque) != 0)
            return 1;
        if (job_done(status, polls, &running, &failure))
            return 0;
        if (failure)
            break;
        if (timeout_ms && colo_clock_ns() >= end) {
            failure = g_error_new(
                COLO_ERROR, COLO_ERROR_TIMEOUT,
                _("domain '%s' is %s after %" PRIu64 " ms: protection goes on, see colo-status"),
                domain, colo_domain_state_to_string(status->state), timeout_ms);
            break;
        }
        g_usleep(POLL_MS * 1000);
    }
    colo_client_set_error(error, failure);
    return -1;
}
