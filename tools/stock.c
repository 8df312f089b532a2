/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stock virsh, for every command that is not ours, at the same URI. */
#include <config.h>

#include "cli.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOCK_VIRSH "virsh"
#define DEFAULT_URI "colo:///system"

/* Where virsh is to connect. It does not know COLO_SOCKET. */
static char *stock_uri(const Cli *cli)
{
    const char *socket = g_getenv("COLO_SOCKET");

    if (cli->uri)
        return g_strdup(cli->uri);
    return socket ? g_strdup_printf(DEFAULT_URI "?socket=%s", socket) : g_strdup(DEFAULT_URI);
}

/* The words before a command; to be freed with its strings. */
static GPtrArray *stock_words(const Cli *cli)
{
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(words, g_strdup(STOCK_VIRSH));
    g_ptr_array_add(words, g_strdup("-c"));
    g_ptr_array_add(words, stock_uri(cli));
    if (cli->readonly)
        g_ptr_array_add(words, g_strdup("-r"));
    if (cli->quiet)
        g_ptr_array_add(words, g_strdup("-q"));
    return words;
}

static void add_words(GPtrArray *words, char *const *more, int n)
{
    for (int i = 0; i < n; i++)
        g_ptr_array_add(words, g_strdup(more[i]));
    g_ptr_array_add(words, NULL);
}

int cli_exec_virsh(const Cli *cli, int argc, char **argv)
{
    g_autoptr(GPtrArray) words = stock_words(cli);

    add_words(words, argv, argc);
    execvp(STOCK_VIRSH, (char **)words->pdata);
    cli_error(_("cannot run %s: %s"), STOCK_VIRSH, g_strerror(errno));
    return CLI_ERROR;
}

int cli_spawn_virsh(const Cli *cli, int argc, char **argv)
{
    g_autoptr(GPtrArray) words = stock_words(cli);
    g_autoptr(GError) error = NULL;
    int status;

    add_words(words, argv, argc);
    if (!g_spawn_sync(NULL, (char **)words->pdata, NULL,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL,
                      &status, &error)) {
        cli_error(_("cannot run %s: %s"), STOCK_VIRSH, error->message);
        return CLI_ERROR;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_ERROR;
}

char **cli_ask_virsh_to_complete(const Cli *cli, char *const *typed, int n)
{
    g_autoptr(GPtrArray) words = stock_words(cli);
    g_autofree char *out = NULL;

    if (!cli->quiet)
        g_ptr_array_add(words, g_strdup("-q"));
    g_ptr_array_add(words, g_strdup("complete"));
    g_ptr_array_add(words, g_strdup("--"));
    add_words(words, typed, n);
    if (!g_spawn_sync(NULL, (char **)words->pdata, NULL,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &out, NULL,
                      NULL, NULL))
        return g_new0(char *, 1);
    return g_strsplit(g_strstrip(out), "\n", -1);
}
