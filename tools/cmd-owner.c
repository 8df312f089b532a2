/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-checkpoint, colo-failover, colo-switchover: who goes on, from which state. */
#include "cli.h"

#include <inttypes.h>
#include <stdio.h>

int cmd_checkpoint_show(Cli *cli, const CliCall *call, JsonObject *result)
{
    cli_extra(cli, _("Domain '%s': checkpoint %" PRIu64 " taken\n"), cli_arg(call, "domain"),
              colo_json_peek_uint(result, "checkpoints", 0));
    return CLI_OK;
}

int cmd_failover_show(Cli *cli, const CliCall *call, JsonObject *result)
{
    g_autofree char *lost = cli_clean(colo_json_peek_string(result, "lost", ""));

    cli_extra(cli, _("Domain '%s' belongs to this host now (generation %" PRIu64 ", %s)\n"),
              cli_arg(call, "domain"), colo_json_peek_uint(result, "generation", 0),
              colo_json_peek_string(result, "state", "alone"));
    if (*lost)
        printf(_("Lost: %s\n"), lost);
    return CLI_OK;
}

int cmd_switchover_show(Cli *cli, const CliCall *call, JsonObject *result)
{
    cli_extra(cli, _("Domain '%s' runs on the other host now (generation %" PRIu64 ")\n"),
              cli_arg(call, "domain"), colo_json_peek_uint(result, "generation", 0));
    return CLI_OK;
}
