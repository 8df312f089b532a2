/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-prepare, colo-protect, colo-unprotect: beginning and end of protection. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

/* What stands on the progress line. */
typedef struct {
    const Cli *cli;
    const char *label; /* NULL: no line is open */
    unsigned shown;    /* hundredths of a percent */
} Progress;

static void show_progress(Progress *progress, const char *label, uint64_t done, uint64_t total)
{
    unsigned now = total ? (unsigned)(10000.0 * (double)MIN(done, total) / (double)total) : 10000;

    if (progress->label == label && progress->shown == now)
        return;
    if (progress->label && progress->label != label)
        fprintf(stderr, "\n");
    progress->label = label;
    progress->shown = now;
    fprintf(stderr, "\r%s: [%6.2f %%]", label, now / 100.0);
    fflush(stderr);
}

/* Disks first, then memory: one line each, as virsh draws its jobs. */
static int on_status(const ColoDomainStatus *status, void *opaque)
{
    Progress *progress = opaque;
    gboolean copying = status->state == COLO_STATE_PREPARING || status->state == COLO_STATE_SYNCING;

    if (progress->cli->quiet || !copying)
        return 0;
    if (status->disk_copied < status->disk_total)
        show_progress(progress, _("Disk"), status->disk_copied, status->disk_total);
    else if (status->memory_total)
        show_progress(progress, _("Memory"), status->memory_copied, status->memory_total);
    return 0;
}

/* Closes the progress line; full when the job came to its end. */
static void end_progress(Progress *progress, gboolean done)
{
    if (!progress->label)
        return;
    if (done)
        show_progress(progress, _("Memory"), 1, 1);
    fprintf(stderr, "\n");
}

static int wait_protected(Cli *cli, const CliCall *call)
{
    const char *domain = cli_arg(call, "domain");
    Progress progress = {.cli = cli};
    ColoError error = COLO_ERROR_INIT;
    int waited = colo_domain_protect_wait(
        cli->conn, domain, cli_local_uint(call, "timeout", 0) * 1000,
        cli_local_bool(call, "json") ? NULL : on_status, &progress, &error);

    end_progress(&progress, waited == 0);
    if (waited < 0) {
        cli_error("%s", error.message);
        colo_error_reset(&error);
        return CLI_ERROR;
    }
    if (cli_local_bool(call, "json")) {
        CliCall status = {.command = colo_command_find("colo-status")};
        g_autoptr(JsonObject) result = NULL;

        status.args = colo_json_build("domain", "s", domain, NULL);
        result = cli_call(cli, &status);
        json_object_put(status.args);
        if (!result)
            return CLI_ERROR;
        cli_print_json(result);
        return CLI_OK;
    }
    cli_extra(cli, _("Domain '%s' is protected\n"), domain);
    return CLI_OK;
}

int cmd_protect(Cli *cli, const CliCall *call)
{
    g_autoptr(JsonObject) result = NULL;

    if (cli_local_uint(call, "timeout", 0) && !cli_local_bool(call, "wait")) {
        cli_error(_("option --timeout needs --wait"));
        return CLI_USAGE;
    }
    result = cli_call(cli, call);
    if (!result)
        return CLI_ERROR;
    if (cli_local_bool(call, "wait"))
        return wait_protected(cli, call);
    if (cli_local_bool(call, "json"))
        cli_print_json(result);
    else
        cli_extra(cli, _("Protection of domain '%s' started; see colo-status\n"),
                  cli_arg(call, "domain"));
    return CLI_OK;
}

int cmd_unprotect_show(Cli *cli, const CliCall *call, JsonObject *result G_GNUC_UNUSED)
{
    cli_extra(cli, _("Domain '%s' is no longer protected\n"), cli_arg(call, "domain"));
    return CLI_OK;
}

int cmd_prepare_show(Cli *cli, const CliCall *call, JsonObject *result)
{
    size_t n = cli_array_length(result, "actions");
    CliTable *table;

    if (n == 0) {
        cli_extra(cli, _("Domain '%s' is ready for protection: nothing to do\n"),
                  cli_arg(call, "domain"));
        return CLI_OK;
    }
    table = cli_table_new(_("Host"), _("Object"), _("Action"), _("Done"), NULL);
    for (size_t i = 0; i < n; i++) {
        JsonObject *action = cli_array_at(result, "actions", i);

        cli_table_add(table, colo_json_peek_string(action, "host", ""),
                      colo_json_peek_string(action, "object", ""),
                      colo_json_peek_string(action, "action", ""),
                      colo_json_peek_bool(action, "done", FALSE) ? _("yes") : _("no"), NULL);
    }
    cli_table_print(cli, table);
    return CLI_OK;
}
