/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-pair-*: pairs of hosts. */
#include "cli.h"

#include <inttypes.h>

int cmd_pair_define_show(Cli *cli, const CliCall *call, JsonObject *result G_GNUC_UNUSED)
{
    cli_extra(cli, _("Pair '%s' defined\n\n"), cli_arg(call, "name"));
    return CLI_OK;
}

int cmd_pair_undefine_show(Cli *cli, const CliCall *call, JsonObject *result G_GNUC_UNUSED)
{
    cli_extra(cli, _("Pair '%s' has been undefined\n\n"), cli_arg(call, "name"));
    return CLI_OK;
}

int cmd_pair_list_show(Cli *cli, const CliCall *call G_GNUC_UNUSED, JsonObject *result)
{
    CliTable *table = cli_table_new(_("Name"), _("Peer"), _("Port"), _("State"), NULL);
    size_t n = cli_array_length(result, "pairs");

    for (size_t i = 0; i < n; i++) {
        JsonObject *pair = cli_array_at(result, "pairs", i);
        g_autofree char *port = g_strdup_printf("%" PRIu64, colo_json_peek_uint(pair, "port", 0));

        cli_table_add(table, colo_json_peek_string(pair, "name", ""),
                      colo_json_peek_string(pair, "peer", ""), port,
                      colo_json_peek_string(pair, "state", ""), NULL);
    }
    cli_table_print(cli, table);
    return CLI_OK;
}

int cmd_pair_info_show(Cli *cli G_GNUC_UNUSED, const CliCall *call G_GNUC_UNUSED,
                       JsonObject *result)
{
    CliPairs *pairs = cli_pairs_new();
    JsonObject *pools = colo_json_peek(result, "pool-map");
    g_autoptr(GString) map = g_string_new(NULL);

    if (json_object_is_type(pools, json_type_object)) {
        json_object_object_foreach(pools, here, there)
        {
            g_string_append_printf(map, "%s%s=%s", map->len ? ", " : "", here,
                                   json_object_get_string(there));
        }
    }
    cli_pairs_add(pairs, _("Name"), "%s", colo_json_peek_string(result, "name", ""));
    cli_pairs_add(pairs, _("This host"), "%s", colo_json_peek_string(result, "local-host", ""));
    cli_pairs_add(pairs, _("Peer"), "%s", colo_json_peek_string(result, "peer", ""));
    if (colo_json_peek(result, "port"))
        cli_pairs_add(pairs, _("Port"), "%" PRIu64, colo_json_peek_uint(result, "port", 0));
    cli_pairs_add(pairs, _("State"), "%s", colo_json_peek_string(result, "state", ""));
    cli_pairs_add(pairs, _("Peer's version"), "%s",
                  colo_json_peek_string(result, "peer-version", ""));
    if (colo_json_peek(result, "silent-ms"))
        cli_pairs_add(pairs, _("Last heard"), _("%" PRIu64 " ms ago"),
                      colo_json_peek_uint(result, "silent-ms", 0));
    if (map->len)
        cli_pairs_add(pairs, _("Pool map"), "%s", map->str);
    cli_pairs_add(pairs, _("Certificate until"), "%s",
                  colo_json_peek_string(result, "certificate-expiry", ""));
    cli_pairs_add(pairs, _("Last error"), "%s", colo_json_peek_string(result, "last-error", ""));
    cli_pairs_print(pairs);
    return CLI_OK;
}
