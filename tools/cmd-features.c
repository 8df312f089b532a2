/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-features: hardware virtualization features. */
#include "cli.h"

static const char *yes_no(JsonObject *object, const char *key)
{
    if (!colo_json_peek(object, key))
        return "?";
    return colo_json_peek_bool(object, key, FALSE) ? _("yes") : _("no");
}

int cmd_features_show(Cli *cli, const CliCall *call G_GNUC_UNUSED, JsonObject *result)
{
    CliTable *table = cli_table_new(_("Feature"), _("Hardware"), _("Firmware"), _("Kernel"),
                                    _("Per VM"), _("Reason"), NULL);

    for (size_t i = 0; i < cli_array_length(result, "features"); i++) {
        JsonObject *row = cli_array_at(result, "features", i);

        cli_table_add(table, colo_json_peek_string(row, "name", ""), yes_no(row, "hardware"),
                      yes_no(row, "firmware"), yes_no(row, "in-kernel"), yes_no(row, "per-vm"),
                      colo_json_peek_string(row, "reason", ""), NULL);
    }
    cli_table_print(cli, table);
    return CLI_OK;
}
