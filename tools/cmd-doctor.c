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

int cmd_doctor_show(Cli *cli, const CliCall *call G_GNUC_UNUSED, JsonObject *result)
{
    CliTable *table = cli_table_new(_("Host"), _("Result"), _("Check"), _("Found"), NULL);
    size_t n = cli_array_length(result, "findings");
    unsigned errors = 0, warnings = 0;

    for (size_t i = 0; i < n; i++) {
        JsonObject *finding = cli_array_at(result, "findings", i);
        const char *severity = colo_json_peek_string(finding, "severity", "error");

        errors += strcmp(severity, "ok") != 0 && strcmp(severity, "warning") != 0;
        warnings += strcmp(severity, "warning") == 0;
        cli_table_add(table, colo_json_peek_string(finding, "host", ""), severity_word(severity),
                      colo_json_peek_string(finding, "check", ""),
                      colo_json_peek_string(finding, "found", ""), NULL);
    }
    cli_table_print(cli, table);
    for (size_t i = 0; i < n; i++) {
        JsonObject *finding = cli_array_at(result, "findings", i);
        const char *fix = colo_json_peek_string(finding, "fix", "");

        if (*fix && strcmp(colo_json_peek_string(finding, "severity", ""), "ok") != 0)
            printf(_("To fix '%s' on %s: %s\n"), colo_json_peek_string(finding, "check", ""),
                   colo_json_peek_string(finding, "host", ""), fix);
    }
    cli_extra(cli, _("%u errors, %u warnings\n"), errors, warnings);
    return errors ? CLI_ERROR : CLI_OK;
}
