/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-tune: when checkpoints of a domain are forced, and its hardware features. */
#include "cli.h"

#include "util/tuning.h"

#include <stdio.h>

int cmd_tune_show(Cli *cli, const CliCall *call, JsonObject *result)
{
    JsonObject *tuning = colo_json_peek(result, "tuning");
    const char *features = colo_json_peek_string(result, "features", "");
    CliTable *table;

    if (colo_tuning_is_named(call->args) || colo_json_peek(call->args, "features")) {
        if (colo_json_peek_bool(result, "live", FALSE))
            cli_extra(cli, _("Domain '%s' is tuned\n"), cli_arg(call, "domain"));
        else
            cli_extra(cli, _("Domain '%s' is tuned for its next protection\n"),
                      cli_arg(call, "domain"));
        return CLI_OK;
    }
    if (!json_object_is_type(tuning, json_type_object))
        return CLI_OK;
    table = cli_table_new(_("Parameter"), _("Value"), _("Default"), NULL);
    json_object_object_foreach(tuning, name, value)
    {
        JsonObject *other = colo_json_peek(colo_json_peek(result, "defaults"), name);

        cli_table_add(table, name, json_object_get_string(value),
                      other ? json_object_get_string(other) : "", NULL);
    }
    if (*features)
        cli_table_add(table, "features", features, "", NULL);
    cli_table_print(cli, table);
    return CLI_OK;
}
