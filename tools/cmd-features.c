/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-features, colo-pair-features: hardware virtualization features. */
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

/* Name of host @side. */
static const char *host_name(JsonObject *result, size_t side)
{
    JsonObject *name = cli_array_at(result, "hosts", side);

    return json_object_is_type(name, json_type_string) ? json_object_get_string(name) : "";
}

/* What becomes of it: one word, or one for each host. */
static char *outcome_text(JsonObject *row, const char *here, const char *there)
{
    JsonObject *outcome = colo_json_peek(row, "outcome");
    const char *a = colo_json_peek_string(outcome, here, "");
    const char *b = colo_json_peek_string(outcome, there, "");

    return g_strcmp0(a, b) == 0 ? g_strdup(a) : g_strdup_printf("%s / %s", a, b);
}

int cmd_pair_features_show(Cli *cli, const CliCall *call G_GNUC_UNUSED, JsonObject *result)
{
    const char *here = host_name(result, 0), *there = host_name(result, 1);
    const char *model = colo_json_peek_string(result, "cpu-model", NULL);
    CliTable *table =
        cli_table_new(_("Feature"), _("Policy"), here, there, _("Outcome"), _("Reason"), NULL);

    for (size_t i = 0; i < cli_array_length(result, "features"); i++) {
        JsonObject *row = cli_array_at(result, "features", i);
        JsonObject *usable = colo_json_peek(row, "usable");
        const char *param = colo_json_peek_string(row, "param", "");
        g_autofree char *policy =
            g_strconcat(colo_json_peek_string(row, "policy", ""), *param ? ":" : "", param, NULL);
        g_autofree char *outcome = outcome_text(row, here, there);

        cli_table_add(table, colo_json_peek_string(row, "name", ""), policy, yes_no(usable, here),
                      yes_no(usable, there), outcome, colo_json_peek_string(row, "reason", ""),
                      NULL);
    }
    cli_table_print(cli, table);
    if (model)
        cli_extra(cli, _("CPU model of both hosts: %s\n\n"), model);
    return CLI_OK;
}
