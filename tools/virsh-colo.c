/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virsh-colo: the colo-* commands of virtcolod, and virsh for all others. A command is declared in
 * rpc/command-table.c; here stands only how its result is shown.
 */
#include <config.h>

#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What serves all commands but ours, until libvirt's protocol is relayed. */
#define STOCK_VIRSH "virsh"
#define STOCK_URI "qemu:///system"

static const struct {
    const char *name;
    CliShow show;
    CliRun run; /* instead of call and show */
} handlers[] = {
    {"colo-pair-define", cmd_pair_define_show, NULL},
    {"colo-pair-undefine", cmd_pair_undefine_show, NULL},
    {"colo-pair-list", cmd_pair_list_show, NULL},
    {"colo-pair-info", cmd_pair_info_show, NULL},
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
    {"colo-doctor", NULL, cmd_doctor},
};

JsonObject *cli_call(Cli *cli, const CliCall *call)
{
    g_autofree char *args = colo_json_to_string(call->args);
    ColoError error = COLO_ERROR_INIT;
    JsonObject *result;
    char *text = NULL;

    if (colo_connect_command(cli->conn, call->command->name, args, &text, &error) < 0) {
        cli_error("%s", error.message);
        colo_error_reset(&error);
        return NULL;
    }
    result = colo_json_parse(text, strlen(text), NULL);
    colo_free(text);
    if (!result)
        cli_error(_("virtcolod's answer to %s is not valid"), call->command->name);
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

static gboolean connect_daemon(Cli *cli)
{
    ColoError error = COLO_ERROR_INIT;

    cli->conn = colo_connect_open(cli->uri, &error);
    if (cli->conn)
        return TRUE;
    cli_error(_("failed to connect to virtcolod"));
    cli_error("%s", error.message);
    colo_error_reset(&error);
    return FALSE;
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

/* Becomes the stock virsh, with our connection options in its terms. Returns on failure only. */
static int exec_virsh(const Cli *cli, int argc, char **argv)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();

    g_ptr_array_add(words, (char *)STOCK_VIRSH);
    g_ptr_array_add(words, (char *)"-c");
    g_ptr_array_add(words, cli->uri && !g_str_has_prefix(cli->uri, "colo:") ? (char *)cli->uri
                                                                            : (char *)STOCK_URI);
    if (cli->quiet)
        g_ptr_array_add(words, (char *)"-q");
    for (int i = 0; i < argc; i++)
        g_ptr_array_add(words, argv[i]);
    g_ptr_array_add(words, NULL);
    execvp(STOCK_VIRSH, (char **)words->pdata);
    cli_error(_("cannot run %s: %s"), STOCK_VIRSH, g_strerror(errno));
    return CLI_ERROR;
}

static int show_version(Cli *cli)
{
    ColoError error = COLO_ERROR_INIT;

    printf("virsh-colo %s\n", PACKAGE_VERSION);
    cli->conn = colo_connect_open(cli->uri, &error);
    if (cli->conn)
        printf("%s\n", colo_connect_get_server(cli->conn));
    colo_error_reset(&error);
    return CLI_OK;
}

static int dispatch(Cli *cli, int argc, char **argv)
{
    const ColoCommand *about;

    if (argc == 0) {
        cli_error(_("no command given; see virsh-colo --help"));
        return CLI_USAGE;
    }
    if (g_str_has_prefix(argv[0], "colo-"))
        return run_command(cli, argv[0], argc - 1, argv + 1);
    if (strcmp(argv[0], "help") == 0) {
        if (argc == 1) {
            cli_help_all();
            return CLI_OK;
        }
        about = colo_command_find(argv[1]);
        if (about) {
            cli_help_command(about);
            return CLI_OK;
        }
    }
    return exec_virsh(cli, argc, argv);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"connect", required_argument, NULL, 'c'},
        {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    Cli cli = {.uri = NULL};
    int option, code;

    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, LOCALEDIR);
    textdomain(GETTEXT_PACKAGE);
    while ((option = getopt_long(argc, argv, "+c:qhv", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            cli.uri = optarg;
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
