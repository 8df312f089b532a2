/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-doctor: findings of both hosts, in the form of virt-host-validate. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const char *severity_word(const char *severity)
{
    if (strcmp(severity, "ok") == 0)
        return _("PASS");
    if (strcmp(severity, "warning") == 0)
        return _("WARN");
    return _("FAIL");
}

/* Findings of @severity; any word but the known ones counts as "error". */
static unsigned count(JsonObject *result, const char *severity)
{
    size_t n = cli_array_length(result, "findings");
    unsigned found = 0;

    for (size_t i = 0; i < n; i++) {
        const char *word =
            colo_json_peek_string(cli_array_at(result, "findings", i), "severity", "error");

        if (strcmp(word, "ok") != 0 && strcmp(word, "warning") != 0)
            word = "error";
        found += strcmp(word, severity) == 0;
    }
    return found;
}

static void show_findings(const Cli *cli, JsonObject *result)
{
    CliTable *table = cli_table_new(_("Host"), _("Result"), _("Check"), _("Found"), NULL);
    size_t n = cli_array_length(result, "findings");

    for (size_t i = 0; i < n; i++) {
        JsonObject *finding = cli_array_at(result, "findings", i);
        const char *severity = colo_json_peek_string(finding, "severity", "error");

        cli_table_add(table, colo_json_peek_string(finding, "host", ""), severity_word(severity),
                      colo_json_peek_string(finding, "check", ""),
                      colo_json_peek_string(finding, "found", ""), NULL);
    }
    cli_table_print(cli, table);
    for (size_t i = 0; i < n; i++) {
        JsonObject *finding = cli_array_at(result, "findings", i);
        g_autofree char *fix = cli_clean(colo_json_peek_string(finding, "fix", ""));
        g_autofree char *check = cli_clean(colo_json_peek_string(finding, "check", ""));
        g_autofree char *host = cli_clean(colo_json_peek_string(finding, "host", ""));

        if (*fix && strcmp(colo_json_peek_string(finding, "severity", ""), "ok") != 0)
            printf(_("To fix '%s' on %s: %s\n"), check, host, fix);
    }
    cli_extra(cli, _("%u errors, %u warnings\n"), count(result, "error"), count(result, "warning"));
}

/* Fails when there is an error to fix, so that a script needs not read the findings. */
int cmd_doctor(Cli *cli, const CliCall *call)
{
    g_autoptr(JsonObject) result = cli_call(cli, call);

    if (!result)
        return CLI_ERROR;
    if (cli_local_bool(call, "json"))
        cli_print_json(result);
    else
        show_findings(cli, result);
    return count(result, "error") ? CLI_ERROR : CLI_OK;
}
