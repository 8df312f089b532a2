/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/steps-migrate.h"

#include "domain/qmp.h"
#include "util/clock.h"
#include "util/error.h"

#include <string.h>
#include <unistd.h>

#define POLL_MS 50u /* of waits: a query costs about 1 ms */
/* QEMU says "none" up to some 100 ms before it lets the guest run (migration/colo.c,
 * secondary_vm_do_failover()); a guest that is stopped for longer was stopped by somebody. */
#define STOPPED_NS (2 * COLO_NS_PER_SEC)
#define POLL_LEFT_MS 2u /* of the wait for QEMU to leave COLO, which is on the takeover's path */

gboolean colo_steps_set_xcolo(virDomainPtr dom, gboolean on, GError **error)
{
    JsonObject *list = json_object_new_array();

    json_object_array_add(list,
                          colo_json_build("capability", "s", "x-colo", "state", "b", on, NULL));
    return colo_qmp_run(dom, "migrate-set-capabilities",
                        colo_json_build("capabilities", "o", list, NULL), error);
}

/* How long entering COLO may stop the guest for the rest of its memory. QEMU's default of 300 ms
 * made enabling pause the guest 200 ms; with 20 ms it was 75 ms, most of it the secondary's. */
#define ENTER_DOWNTIME_MS UINT64_C(20)

static uint64_t clamp_delay(uint64_t delay_ms)
{
    return MIN(MAX(delay_ms, COLO_STEPS_DELAY_MIN_MS), UINT32_MAX);
}

gboolean colo_steps_set_parameters(virDomainPtr dom, uint64_t delay_ms, uint64_t bandwidth,
                                   GError **error)
{
    return colo_qmp_run(dom, "migrate-set-parameters",
                        colo_json_build("x-checkpoint-delay", "u", clamp_delay(delay_ms),
                                        "max-bandwidth", "u", bandwidth, "downtime-limit", "u",
                                        ENTER_DOWNTIME_MS, NULL),
                        error);
}

gboolean colo_steps_set_downtime(virDomainPtr dom, uint64_t ms, GError **error)
{
    return colo_qmp_run(dom, "migrate-set-parameters",
                        colo_json_build("downtime-limit", "u", ms, NULL), error);
}

gboolean colo_steps_kick(virDomainPtr dom, uint64_t delay_ms, GError **error)
{
    /* migration/migration.c: qmp_migrate_set_parameters() calls colo_checkpoint_notify() when
     * x-checkpoint-delay is given, which posts the checkpoint event. */
    return colo_qmp_run(dom, "migrate-set-parameters",
                        colo_json_build("x-checkpoint-delay", "u", clamp_delay(delay_ms), NULL),
                        error);
}

/* Passes a socket and runs @command with its name as the URI; our end, or -1 with nothing left. */
static int start_stream(virDomainPtr dom, const char *command, GError **error)
{
    int fd = colo_qmp_pass_socket(dom, COLO_STEPS_MIGRATION_FD, error);

    if (fd < 0)
        return -1;
    if (!colo_qmp_run(dom, command,
                      colo_json_build("uri", "s", "fd:" COLO_STEPS_MIGRATION_FD, NULL), error)) {
        colo_qmp_drop_fd(dom, COLO_STEPS_MIGRATION_FD);
        close(fd);
        return -1;
    }
    return fd;
}

int colo_steps_migrate_incoming(virDomainPtr dom, GError **error)
{
    return start_stream(dom, "migrate-incoming", error);
}

int colo_steps_migrate_start(virDomainPtr dom, GError **error)
{
    return start_stream(dom, "migrate", error);
}

/* qapi/migration.json, MigrationStatus. */
static ColoMigrateStatus status_of(const char *word)
{
    if (!word || strcmp(word, "none") == 0)
        return COLO_MIGRATE_NONE;
    if (strcmp(word, "colo") == 0)
        return COLO_MIGRATE_COLO;
    if (strcmp(word, "completed") == 0)
        return COLO_MIGRATE_COMPLETED;
    if (strcmp(word, "failed") == 0)
        return COLO_MIGRATE_FAILED;
    if (g_str_has_prefix(word, "cancel"))
        return COLO_MIGRATE_CANCELLED;
    return COLO_MIGRATE_RUNNING;
}

gboolean colo_steps_migrate_state(virDomainPtr dom, ColoMigrateState *state, GError **error)
{
    g_autoptr(JsonObject) migrate = colo_qmp(dom, "query-migrate", NULL, -1, error);
    g_autoptr(JsonObject) colo = NULL;
    JsonObject *ram;

    memset(state, 0, sizeof(*state));
    if (!migrate || !(colo = colo_qmp(dom, "query-colo-status", NULL, -1, error)))
        return FALSE;
    state->status = status_of(colo_json_peek_string(migrate, "status", NULL));
    g_strlcpy(state->status_text, colo_json_peek_string(migrate, "status", "none"),
              sizeof(state->status_text));
    g_strlcpy(state->error, colo_json_peek_string(migrate, "error-desc", ""), sizeof(state->error));
    g_strlcpy(state->colo_mode, colo_json_peek_string(colo, "mode", "none"),
              sizeof(state->colo_mode));
    g_strlcpy(state->last_exit, colo_json_peek_string(colo, "reason", "none"),
              sizeof(state->last_exit));
    ram = colo_json_peek(migrate, "ram");
    state->ram_total = colo_json_peek_uint(ram, "total", 0);
    state->ram_remaining = colo_json_peek_uint(ram, "remaining", 0);
    state->ram_transferred = colo_json_peek_uint(ram, "transferred", 0);
    return TRUE;
}

static gboolean in_colo(const ColoMigrateState *state)
{
    return strcmp(state->colo_mode, "none") != 0;
}

gboolean colo_steps_lost_heartbeat(virDomainPtr dom, GError **error)
{
    g_autoptr(GError) local = NULL;
    ColoMigrateState state;

    if (colo_qmp_run(dom, "x-colo-lost-heartbeat", NULL, &local))
        return TRUE;
    /* migration/colo.c: outside COLO the command is an error; asked again it may be on its way. */
    if (!colo_qmp_is_error_class(local, "libvirt") && colo_steps_migrate_state(dom, &state, NULL) &&
        !in_colo(&state))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean colo_steps_wait_colo_left(virDomainPtr dom, unsigned timeout_ms, GError **error)
{
    uint64_t end = colo_clock_ns() + timeout_ms * COLO_NS_PER_MS;
    uint64_t left = 0;

    for (;;) {
        ColoMigrateState state;
        gboolean running;

        if (!colo_steps_migrate_state(dom, &state, error) ||
            !colo_steps_is_running(dom, &running, error))
            return FALSE;
        if (!in_colo(&state) && left == 0)
            left = colo_clock_ns();
        if (left && (running || colo_clock_ns() - left > STOPPED_NS))
            return TRUE;
        if (colo_clock_ns() >= end) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "domain '%s': still in COLO mode '%s', guest %s, %u ms after failover",
                        virDomainGetName(dom), state.colo_mode, running ? "running" : "stopped",
                        timeout_ms);
            return FALSE;
        }
        g_usleep(POLL_LEFT_MS * 1000);
    }
}

gboolean colo_steps_migrate_cancel(virDomainPtr dom, unsigned timeout_ms, GError **error)
{
    uint64_t end = colo_clock_ns() + timeout_ms * COLO_NS_PER_MS;
    ColoMigrateState state;

    if (!colo_steps_migrate_state(dom, &state, error))
        return FALSE;
    if (state.status == COLO_MIGRATE_COLO) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': in COLO, a migration cannot be cancelled any more",
                    virDomainGetName(dom));
        return FALSE;
    }
    if (state.status != COLO_MIGRATE_RUNNING && state.status != COLO_MIGRATE_CANCELLED)
        return TRUE;
    if (!colo_qmp_run(dom, "migrate_cancel", NULL, error))
        return FALSE;
    for (;;) {
        if (!colo_steps_migrate_state(dom, &state, error))
            return FALSE;
        if (state.status != COLO_MIGRATE_RUNNING && strcmp(state.status_text, "cancelling") != 0)
            return TRUE;
        if (colo_clock_ns() >= end) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "domain '%s': migration is still '%s' %u ms after it was cancelled",
                        virDomainGetName(dom), state.status_text, timeout_ms);
            return FALSE;
        }
        g_usleep(POLL_MS * 1000);
    }
}

gboolean colo_steps_stop(virDomainPtr dom, GError **error)
{
    return colo_qmp_run(dom, "stop", NULL, error);
}

gboolean colo_steps_cont(virDomainPtr dom, GError **error)
{
    return colo_qmp_run(dom, "cont", NULL, error);
}

gboolean colo_steps_is_running(virDomainPtr dom, gboolean *running, GError **error)
{
    g_autoptr(JsonObject) status = colo_qmp(dom, "query-status", NULL, -1, error);

    if (!status)
        return FALSE;
    *running = colo_json_peek_bool(status, "running", FALSE);
    return TRUE;
}
