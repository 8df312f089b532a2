/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interactive form, and lines of several commands ("list; colo-list"), as virsh has them. */
#include <config.h>

#include "cli.h"

#include <errno.h>
#include <readline/history.h>
#include <readline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_LINES 500

static Cli *shell; /* readline's callbacks take no argument */

/* The end of the command that begins at @text: a semicolon outside of quotes, or the end. */
static const char *command_end(const char *text)
{
    char quote = '\0';

    for (; *text; text++) {
        if (*text == '\\' && text[1] && quote != '\'')
            text++;
        else if (quote)
            quote = *text == quote ? '\0' : quote;
        else if (*text == '"' || *text == '\'')
            quote = *text;
        else if (*text == ';')
            break;
    }
    return text;
}

void cli_run_line(Cli *cli, const char *line, gboolean *quit, int *code)
{
    while (*line && !*quit) {
        const char *end = command_end(line);
        g_autofree char *text = g_strndup(line, (gsize)(end - line));
        g_auto(GStrv) words = NULL;
        g_autoptr(GError) error = NULL;
        int n;

        line = *end ? end + 1 : end;
        if (!g_shell_parse_argv(text, &n, &words, &error)) {
            if (g_error_matches(error, G_SHELL_ERROR, G_SHELL_ERROR_EMPTY_STRING))
                continue;
            cli_error("%s", error->message);
            *code = CLI_USAGE;
            return;
        }
        if (strcmp(words[0], "quit") == 0 || strcmp(words[0], "exit") == 0)
            *quit = TRUE;
        else
            *code = cli_run_words(cli, n, words);
        (void)fflush(stdout);
    }
}

/* ---- readline ---- */

static char *next_match(const char *text, int state)
{
    static char **matches, **next;

    if (state == 0) {
        g_autofree char *line = g_strndup(rl_line_buffer, (gsize)rl_point);
        const char *begin = line;
        g_auto(GStrv) words = NULL;
        GPtrArray *all = g_ptr_array_new();
        int n = 0;

        while (*command_end(begin))
            begin = command_end(begin) + 1;
        (void)g_shell_parse_argv(begin, &n, &words, NULL);
        for (int i = 0; i < n; i++)
            g_ptr_array_add(all, words[i]);
        if (n == 0 || !*text) /* a new word begins */
            g_ptr_array_add(all, (char *)"");
        g_strfreev(matches);
        matches = cli_complete(shell, (char *const *)all->pdata, (int)all->len);
        g_ptr_array_free(all, TRUE);
        next = matches;
    }
    return *next ? strdup(*next++) : NULL; /* readline free()s it */
}

static char **complete(const char *text, int start G_GNUC_UNUSED, int end G_GNUC_UNUSED)
{
    rl_attempted_completion_over = 1; /* no names of files */
    return rl_completion_matches(text, next_match);
}

static char *history_path(void)
{
    g_autofree char *dir = g_build_filename(g_get_user_cache_dir(), "libvirt-colo", NULL);

    if (g_mkdir_with_parents(dir, 0700) < 0)
        return NULL;
    return g_build_filename(dir, "history", NULL);
}

static void run_on_terminal(Cli *cli, int *code)
{
    g_autofree char *path = history_path();
    gboolean quit = FALSE;

    shell = cli;
    rl_readline_name = "virsh-colo";
    rl_attempted_completion_function = complete;
    rl_completer_word_break_characters = " \t\n;";
    if (path)
        (void)read_history(path);
    stifle_history(HISTORY_LINES);
    cli_extra(cli,
              _("Welcome to %s: virsh with the colo-* commands.\n\n"
                "Type:  'help' for help with commands\n"
                "       'quit' to quit\n\n"),
              "virsh-colo");
    while (!quit) {
        char *line = readline(cli->readonly ? "virsh-colo > " : "virsh-colo # ");

        if (!line) {
            printf("\n");
            break;
        }
        if (*g_strstrip(line)) {
            add_history(line);
            cli_run_line(cli, line, &quit, code);
        }
        free(line);
    }
    if (path)
        (void)write_history(path);
}

int cli_shell(Cli *cli)
{
    gboolean quit = FALSE;
    int code = CLI_OK;
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    if (isatty(STDIN_FILENO)) {
        run_on_terminal(cli, &code);
        return code;
    }
    while (!quit && (len = getline(&line, &size, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            line[len - 1] = '\0';
        cli_run_line(cli, line, &quit, &code);
    }
    free(line);
    return code;
}
