/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virsh-colo: the colo-* commands of virtcolod, and virsh for all others. A command is declared in
 * rpc/command-table.c; here stands only how its result is shown.
 */
#include <config.h>

#include "cli.h"

#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET "/run/libvirt/virtcolod-sock"

static const struct {
    const char *name;
    CliShow show;
    CliRun run; /* instead of call and show */
} handlers[] = {
    {"colo-pair-define", cmd_pair_define_show, NULL},
    {"colo-pair-undefine", cmd_pair_undefine_show, NULL},
    {"colo-pair-list", cmd_pair_list_show, NULL},
    {"colo-pair-info", cmd_pair_info_show, NULL},
    {"colo-pair-features", cmd_pair_features_show, NULL},
    {"colo-prepare", cmd_prepare_show, NULL},
    {"colo-protect", NULL, cmd_protect},
    {"colo-unprotect", cmd_unprotect_show, NULL},
    {"colo-checkpoint", cmd_checkpoint_show, NULL},
    {"colo-failover", cmd_failover_show, NULL},
    {"colo-switchover", cmd_switchover_show, NULL},
    {"colo-tune", cmd_tune_show, NULL},
    {"colo-list", cmd_list_show, NULL},
    {"colo-status", NULL, cmd_status},
    {"colo-stats", cmd_stats_show, NULL},
    {"colo-events", NULL, cmd_events},
    {"colo-features", cmd_features_show, NULL},
    {"colo-doctor", NULL, cmd_doctor},
};

/* The result, or NULL with @error (an empty message: the answer is not valid). */
static JsonObject *call_daemon(Cli *cli, const CliCall *call, ColoError *error)
{
    g_autofree char *args = colo_json_to_string(call->args);
    JsonObject *result;
    char *text = NULL;

    if (colo_connect_command(cli->conn, call->command->name, args, &text, error) < 0) {
        if (error->number == COLO_ERR_PEER) /* the next command of a shell connects again */
            g_clear_pointer(&cli->conn, colo_connect_close);
        return NULL;
    }
    result = colo_json_parse(text, strlen(text), NULL);
    colo_free(text);
    return result;
}

JsonObject *cli_call(Cli *cli, const CliCall *call)
{
    ColoError error = COLO_ERROR_INIT;
    JsonObject *result = call_daemon(cli, call, &error);

    if (!result && error.message)
        cli_error("%s", error.message);
    else if (!result)
        cli_error(_("virtcolod's answer to %s is not valid"), call->command->name);
    colo_error_reset(&error);
    return result;
}

const char *cli_arg(const CliCall *call, const char *key)
{
    return colo_json_peek_string(call->args, key, "");
}

gboolean cli_local_bool(const CliCall *call, const char *key)
{
    return colo_json_peek_bool(call->local, key, FALSE);
}

uint64_t cli_local_uint(const CliCall *call, const char *key, uint64_t fallback)
{
    return colo_json_peek_uint(call->local, key, fallback);
}

size_t cli_array_length(JsonObject *object, const char *key)
{
    JsonObject *array = colo_json_peek(object, key);

    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

JsonObject *cli_array_at(JsonObject *object, const char *key, size_t i)
{
    return json_object_array_get_idx(colo_json_peek(object, key), i);
}

/* Our own connection's URI: read-only, it is another socket. To be freed; NULL: the default. */
static char *own_uri(const Cli *cli)
{
    const char *socket = g_getenv("COLO_SOCKET");

    if (!cli->readonly)
        return g_strdup(cli->uri);
    if (!cli->uri || strcmp(cli->uri, "colo:///system") == 0)
        return g_strdup_printf("colo:///system?socket=%s-ro", socket ? socket : DEFAULT_SOCKET);
    return g_str_has_prefix(cli->uri, "colo:///system?socket=") ? g_strconcat(cli->uri, "-ro", NULL)
                                                                : g_strdup(cli->uri); /* an error */
}

static gboolean open_daemon(Cli *cli, ColoError *error)
{
    g_autofree char *uri = own_uri(cli);

    if (!cli->conn) /* in the interactive form it stays */
        cli->conn = colo_connect_open(uri, error);
    return cli->conn != NULL;
}

static gboolean connect_daemon(Cli *cli)
{
    ColoError error = COLO_ERROR_INIT;

    if (open_daemon(cli, &error))
        return TRUE;
    cli_error(_("failed to connect to virtcolod"));
    cli_error("%s", error.message);
    colo_error_reset(&error);
    return FALSE;
}

JsonObject *cli_ask(Cli *cli, const CliCall *call)
{
    ColoError error = COLO_ERROR_INIT;
    JsonObject *result = open_daemon(cli, &error) ? call_daemon(cli, call, &error) : NULL;

    colo_error_reset(&error);
    return result;
}

static int call_and_show(Cli *cli, const CliCall *call, CliShow show)
{
    g_autoptr(JsonObject) result = cli_call(cli, call);

    if (!result)
        return CLI_ERROR;
    if (!cli_local_bool(call, "json"))
        return show(cli, call, result);
    cli_print_json(result);
    return CLI_OK;
}

/* Runs one of our commands; the exit code. */
static int run_command(Cli *cli, const char *name, int argc, char **argv)
{
    CliCall call = {.command = colo_command_find(name)};
    int code = CLI_USAGE;

    if (!call.command) {
        cli_error(_("unknown command: '%s'"), name);
        return CLI_USAGE;
    }
    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        cli_help_command(call.command);
        return CLI_OK;
    }
    call.args = json_object_new_object();
    call.local = json_object_new_object();
    if (cli_parse_args(&call, argc, argv)) {
        code = CLI_NO_CONNECT;
        for (size_t i = 0; i < G_N_ELEMENTS(handlers); i++) {
            if (strcmp(handlers[i].name, name) != 0)
                continue;
            if (!connect_daemon(cli))
                break;
            code = handlers[i].run ? handlers[i].run(cli, &call)
                                   : call_and_show(cli, &call, handlers[i].show);
            break;
        }
    }
    json_object_put(call.args);
    json_object_put(call.local);
    return code;
}

static int show_version(Cli *cli)
{
    ColoError error = COLO_ERROR_INIT;

    printf("virsh-colo %s\n", PACKAGE_VERSION);
    if (open_daemon(cli, &error))
        printf("%s\n", colo_connect_get_server(cli->conn));
    colo_error_reset(&error);
    return CLI_OK;
}

/* "complete -- WORDS": for the shells, as virsh has it; not shown. */
static int show_completions(Cli *cli, int argc, char **argv)
{
    g_auto(GStrv) found = NULL;

    if (argc > 0 && strcmp(argv[0], "--") == 0) {
        argc--;
        argv++;
    }
    found = cli_complete(cli, argv, argc);
    for (char **word = found; *word; word++)
        printf("%s\n", *word);
    return CLI_OK;
}

/* One command. TRUE when it is ours, and done. */
static gboolean run_ours(Cli *cli, int argc, char **argv, int *code)
{
    const ColoCommand *about = argc > 1 ? colo_command_find(argv[1]) : NULL;

    *code = CLI_OK;
    if (g_str_has_prefix(argv[0], "colo-")) {
        *code = run_command(cli, argv[0], argc - 1, argv + 1);
    } else if (strcmp(argv[0], "complete") == 0) {
        *code = show_completions(cli, argc - 1, argv + 1);
    } else if (strcmp(argv[0], "help") == 0 && (argc == 1 || about)) {
        if (about)
            cli_help_command(about);
        else
            cli_help_all();
    } else {
        return FALSE;
    }
    return TRUE;
}

int cli_run_words(Cli *cli, int argc, char **argv)
{
    int code;

    return run_ours(cli, argc, argv, &code) ? code : cli_spawn_virsh(cli, argc, argv);
}

static int dispatch(Cli *cli, int argc, char **argv)
{
    gboolean quit = FALSE;
    int code = CLI_OK;

    if (argc == 0)
        return cli_shell(cli);
    if (argc == 1 && strpbrk(argv[0], "; ")) { /* several commands, or one in quotes */
        cli_run_line(cli, argv[0], &quit, &code);
        return code;
    }
    return run_ours(cli, argc, argv, &code) ? code : cli_exec_virsh(cli, argc, argv);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"connect", required_argument, NULL, 'c'}, {"readonly", no_argument, NULL, 'r'},
        {"quiet", no_argument, NULL, 'q'},         {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},       {NULL, 0, NULL, 0},
    };
    Cli cli = {.uri = NULL};
    int option, code;

    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, LOCALEDIR);
    textdomain(GETTEXT_PACKAGE);
    while ((option = getopt_long(argc, argv, "+c:rqhv", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            cli.uri = optarg;
            break;
        case 'r':
            cli.readonly = TRUE;
            break;
        case 'q':
            cli.quiet = TRUE;
            break;
        case 'h':
            cli_help_all();
            return CLI_OK;
        case 'v':
            code = show_version(&cli);
            colo_connect_close(cli.conn);
            return code;
        default:
            return CLI_USAGE;
        }
    }
    code = dispatch(&cli, argc - optind, argv + optind);
    colo_connect_close(cli.conn);
    if (fflush(stdout) != 0 && code == CLI_OK)
        code = CLI_ERROR;
    return code;
}
