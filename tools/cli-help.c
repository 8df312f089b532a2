/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Help in virsh's form, made from the command table. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *title;
} groups[] = {
    {"pair", N_("Pairs of hosts")},
    {"protection", N_("Protection of domains")},
    {"monitor", N_("Watching and checking")},
};

void cli_help_all(void)
{
    size_t n;
    const ColoCommand *commands = colo_command_table(&n);

    printf(_("\n%s [options]... <command> [args...]\n\n"), "virsh-colo");
    printf(_("  options:\n"
             "    -c | --connect=URI      virtcolod's URI (colo:///system)\n"
             "    -r | --readonly         connect readonly\n"
             "    -q | --quiet            quiet mode\n"
             "    -h | --help             this help\n"
             "    -v | --version          version of the program and of the daemon\n\n"
             "  commands:\n"));
    for (size_t g = 0; g < G_N_ELEMENTS(groups); g++) {
        printf("\n %s:\n", _(groups[g].title));
        for (size_t i = 0; i < n; i++) {
            if (strcmp(commands[i].group, groups[g].name) == 0)
                printf("    %-30s %s\n", commands[i].name, _(commands[i].summary));
        }
    }
    printf(_("\n  (any other command is given to virsh; specify help <command> for details "
             "about a command)\n\n"));
}

/* The word for the value of @arg: "" for a flag. */
static const char *value_word(const ColoArg *arg)
{
    switch (arg->type) {
    case COLO_ARG_STRING:
        return _("<string>");
    case COLO_ARG_UINT:
        return _("<number>");
    case COLO_ARG_BOOL:
        break;
    }
    return "";
}

static void print_synopsis(const ColoCommand *command)
{
    printf("    %s", command->name);
    for (const ColoArg *arg = command->args; arg->name; arg++) {
        const char *word = value_word(arg);
        const char *space = *word ? " " : "";

        if (arg->positional)
            printf(arg->required ? " <%s>" : " [<%s>]", arg->name);
        else if (arg->required)
            printf(" --%s%s%s", arg->name, space, word);
        else
            printf(" [--%s%s%s]", arg->name, space, word);
    }
    printf("\n");
}

void cli_help_command(const ColoCommand *command)
{
    printf(_("  NAME\n    %s - %s\n\n  SYNOPSIS\n"), command->name, _(command->summary));
    print_synopsis(command);
    printf(_("\n  OPTIONS\n"));
    for (const ColoArg *arg = command->args; arg->name; arg++) {
        const char *word = value_word(arg);
        g_autofree char *left = NULL;

        if (arg->positional && arg->required)
            left = g_strdup_printf("[--%s] %s", arg->name, word);
        else
            left = g_strdup_printf("--%s %s", arg->name, word);
        printf("    %s%*s %s\n", left, MAX(0, 26 - cli_display_width(left)), "", _(arg->help));
    }
    printf("\n");
}
