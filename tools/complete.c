/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What may stand where the cursor is: our commands and their options from the command table,
 * domains and pairs from those who know them, everything else from the stock virsh's own completer.
 */
#include "cli.h"

#include <string.h>

static void add(GPtrArray *found, const char *word, const char *prefix)
{
    if (*word && g_str_has_prefix(word, prefix))
        g_ptr_array_add(found, g_strdup(word));
}

static void add_virshs(const Cli *cli, GPtrArray *found, char *const *words, int n)
{
    g_auto(GStrv) more = cli_ask_virsh_to_complete(cli, words, n);

    for (char **word = more; *word; word++)
        add(found, *word, words[n - 1]);
}

static void add_pairs(Cli *cli, GPtrArray *found, const char *prefix)
{
    g_autoptr(JsonObject) args = json_object_new_object();
    CliCall call = {.command = colo_command_find("colo-pair-list"), .args = args};
    g_autoptr(JsonObject) result = cli_ask(cli, &call);

    for (size_t i = 0; i < cli_array_length(result, "pairs"); i++)
        add(found, colo_json_peek_string(cli_array_at(result, "pairs", i), "name", ""), prefix);
}

/* NAME=WORD items with commas between: the last one, after what stands before it. */
static void add_features(Cli *cli, GPtrArray *found, const char *prefix)
{
    static const char *const words[] = {"require", "prefer", "off", "default"};
    const char *comma = strrchr(prefix, ',');
    g_autofree char *before = comma ? g_strndup(prefix, (gsize)(comma - prefix) + 1) : g_strdup("");
    g_autoptr(JsonObject) args = json_object_new_object();
    CliCall call = {.command = colo_command_find("colo-features"), .args = args};
    g_autoptr(JsonObject) result = cli_ask(cli, &call);

    for (size_t i = 0; i < cli_array_length(result, "features"); i++) {
        const char *name = colo_json_peek_string(cli_array_at(result, "features", i), "name", "");
        g_autofree char *item = g_strconcat(before, name, "=", NULL);

        if (!g_str_has_prefix(prefix, item)) {
            add(found, item, prefix);
            continue;
        }
        for (size_t w = 0; w < G_N_ELEMENTS(words); w++) {
            g_autofree char *whole = g_strconcat(item, words[w], NULL);

            add(found, whole, prefix);
        }
    }
}

/* The value of @arg. */
static void add_values(Cli *cli, GPtrArray *found, const ColoArg *arg, const char *prefix)
{
    char *domains[] = {(char *)"dominfo", (char *)prefix};

    if (strcmp(arg->name, "domain") == 0)
        add_virshs(cli, found, domains, 2);
    else if (strcmp(arg->name, "pair") == 0 || strcmp(arg->name, "name") == 0)
        add_pairs(cli, found, prefix);
    else if (strcmp(arg->name, "features") == 0)
        add_features(cli, found, prefix);
}

static gboolean was_typed(char *const *words, int n, const char *option)
{
    for (int i = 1; i < n - 1; i++) {
        if (g_str_has_prefix(words[i], "--") && strcmp(words[i] + 2, option) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The positional argument that the last word is, or NULL. */
static const ColoArg *positional(const ColoCommand *command, char *const *words, int n)
{
    const ColoArg *arg = command->args;
    int at = 0, wanted = 0;

    for (int i = 1; i < n - 1; i++) {
        if (!g_str_has_prefix(words[i], "--")) {
            wanted++;
            continue;
        }
        arg = colo_command_find_arg(command, words[i] + 2);
        if (arg && arg->type != COLO_ARG_BOOL)
            i++; /* its value */
    }
    for (arg = command->args; arg->name; arg++) {
        if (arg->positional && !was_typed(words, n, arg->name) && at++ == wanted)
            return arg;
    }
    return NULL;
}

static void complete_ours(Cli *cli, GPtrArray *found, const ColoCommand *command,
                          char *const *words, int n)
{
    const char *last = words[n - 1], *before = words[n - 2];
    const ColoArg *arg = NULL;

    if (n > 2 && g_str_has_prefix(before, "--"))
        arg = colo_command_find_arg(command, before + 2);
    if (arg && arg->type != COLO_ARG_BOOL) {
        add_values(cli, found, arg, last);
        return;
    }
    if (!g_str_has_prefix(last, "-") && (arg = positional(command, words, n)))
        add_values(cli, found, arg, last);
    for (arg = command->args; arg->name; arg++) {
        g_autofree char *option = g_strconcat("--", arg->name, NULL);

        if (!arg->positional && !was_typed(words, n, arg->name) && (*last == '-' || !found->len))
            add(found, option, last);
    }
}

char **cli_complete(Cli *cli, char *const *words, int n)
{
    GPtrArray *found = g_ptr_array_new();
    const ColoCommand *command = n > 1 ? colo_command_find(words[0]) : NULL;

    if (command) {
        complete_ours(cli, found, command, words, n);
    } else if (n > 0) {
        size_t n_commands;
        const ColoCommand *commands = colo_command_table(&n_commands);

        for (size_t i = 0; n == 1 && i < n_commands; i++)
            add(found, commands[i].name, words[0]);
        if (!g_str_has_prefix(words[0], "colo-"))
            add_virshs(cli, found, words, n);
    }
    g_ptr_array_add(found, NULL);
    return (char **)g_ptr_array_free(found, FALSE);
}
