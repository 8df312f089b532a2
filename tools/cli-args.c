/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Puts @text as argument @arg where it belongs. FALSE: the error is printed. */
static gboolean store(CliCall *call, const ColoArg *arg, const char *text)
{
    JsonObject *target = arg->local ? call->local : call->args;
    JsonObject *value = NULL;
    uint64_t max = arg->max ? arg->max : INT64_MAX;
    uint64_t number;
    char *end;

    if (colo_json_peek(target, arg->name)) {
        cli_error(_("option --%s already seen"), arg->name);
        return FALSE;
    }
    switch (arg->type) {
    case COLO_ARG_BOOL:
        value = json_object_new_boolean(TRUE);
        break;
    case COLO_ARG_STRING:
        if (!*text) {
            cli_error(_("option --%s must not be empty"), arg->name);
            return FALSE;
        }
        value = json_object_new_string(text);
        break;
    case COLO_ARG_UINT:
        errno = 0;
        number = g_ascii_strtoull(text, &end, 10);
        if (errno || !g_ascii_isdigit(*text) || *end || number < arg->min || number > max) {
            cli_error(_("Numeric value '%s' for <%s> option is malformed or out of range"), text,
                      arg->name);
            return FALSE;
        }
        value = json_object_new_uint64(number);
        break;
    }
    json_object_object_add(target, arg->name, value);
    return TRUE;
}

/* The next positional argument that has no value yet, or NULL. */
static const ColoArg *next_positional(const CliCall *call)
{
    for (const ColoArg *arg = call->command->args; arg->name; arg++) {
        if (arg->positional && !colo_json_peek(arg->local ? call->local : call->args, arg->name))
            return arg;
    }
    return NULL;
}

/* One --option; takes its value from the next word when it needs one. Words used, or 0: error. */
static int parse_option(CliCall *call, int argc, char **argv)
{
    const char *equals = strchr(argv[0], '=');
    g_autofree char *name =
        equals ? g_strndup(argv[0] + 2, (size_t)(equals - argv[0] - 2)) : g_strdup(argv[0] + 2);
    const ColoArg *arg = colo_command_find_arg(call->command, name);

    if (!arg) {
        cli_error(_("command '%s' doesn't support option --%s"), call->command->name, name);
        return 0;
    }
    if (arg->type == COLO_ARG_BOOL) {
        if (equals) {
            cli_error(_("invalid '=' after option --%s"), name);
            return 0;
        }
        return store(call, arg, NULL) ? 1 : 0;
    }
    if (equals)
        return store(call, arg, equals + 1) ? 1 : 0;
    if (argc < 2) {
        cli_error(_("expected syntax: --%s <%s>"), name,
                  arg->type == COLO_ARG_UINT ? _("number") : _("string"));
        return 0;
    }
    return store(call, arg, argv[1]) ? 2 : 0;
}

gboolean cli_parse_args(CliCall *call, int argc, char **argv)
{
    gboolean options = TRUE;
    int used;

    for (; argc > 0; argc -= used, argv += used) {
        const ColoArg *arg;

        used = 1;
        if (options && strcmp(argv[0], "--") == 0) {
            options = FALSE;
            continue;
        }
        if (options && g_str_has_prefix(argv[0], "--")) {
            used = parse_option(call, argc, argv);
            if (used == 0)
                return FALSE;
            continue;
        }
        arg = next_positional(call);
        if (!arg) {
            cli_error(_("unexpected data '%s'"), argv[0]);
            return FALSE;
        }
        if (!store(call, arg, argv[0]))
            return FALSE;
    }
    for (const ColoArg *arg = call->command->args; arg->name; arg++) {
        if (arg->required && !colo_json_peek(call->args, arg->name)) {
            cli_error(arg->positional ? _("command '%s' requires <%s> option")
                                      : _("command '%s' requires --%s option"),
                      call->command->name, arg->name);
            return FALSE;
        }
    }
    return TRUE;
}
