/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virsh-colo's parts: virsh-colo.c (options, dispatch), cli-args.c (arguments by the command
 * table), cli-help.c, cli-print.c (tables as virsh prints them), cmd-*.c (one command family each),
 * stock.c (virsh for all other commands), shell.c (the interactive form), complete.c.
 * One thread.
 */
#pragma once

#include <glib.h>
#include <libintl.h>
#include <stdint.h>

#include "libvirt-colo/libvirt-colo.h"
#include "rpc/command-table.h"
#include "util/json.h"

#define _(text) gettext(text)
#define N_(text) text

/* Exit codes, documented in virsh-colo(1). */
enum {
    CLI_OK = 0,
    CLI_ERROR = 1,      /* the command failed; the error is on standard error */
    CLI_USAGE = 2,      /* unknown command or wrong arguments; nothing was done */
    CLI_NO_CONNECT = 3, /* virtcolod cannot be reached */
};

typedef struct {
    const char *uri; /* NULL: the default */
    gboolean quiet, readonly;
    ColoConnect *conn; /* NULL: not connected yet */
} Cli;

/* A command as the user gave it. */
typedef struct {
    const ColoCommand *command;
    JsonObject *args;  /* for the daemon */
    JsonObject *local; /* arguments of the table's "local" kind */
} CliCall;

/* Prints @result for people; the exit code. */
typedef int (*CliShow)(Cli *cli, const CliCall *call, JsonObject *result);
/* Does the whole command; the exit code. */
typedef int (*CliRun)(Cli *cli, const CliCall *call);

/* cli-args.c: reads @argc words after the command's name. FALSE: the error is printed. */
gboolean cli_parse_args(CliCall *call, int argc, char **argv);

/* cli-help.c */
void cli_help_all(void);
void cli_help_command(const ColoCommand *command);

/* cli-print.c */
void cli_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
void cli_extra(const Cli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3); /* not with -q */
void cli_print_json(JsonObject *object);
/* Text from the daemon, or through it from the peer: control characters would break or hijack the
 * terminal, a newline would make a line of its own. To be freed. */
char *cli_clean(const char *text);
int cli_display_width(const char *text); /* columns of a terminal */

/* A table: add the header's cells, then each row's, in order. */
typedef struct CliTable CliTable;
CliTable *cli_table_new(const char *first, ...) G_GNUC_NULL_TERMINATED;
void cli_table_add(CliTable *table, const char *first, ...) G_GNUC_NULL_TERMINATED;
void cli_table_print(const Cli *cli, CliTable *table); /* and frees it */

/* Lines "Key:   value", aligned; an empty or NULL value is left out. */
typedef struct CliPairs CliPairs;
CliPairs *cli_pairs_new(void);
void cli_pairs_add(CliPairs *pairs, const char *key, const char *format, ...) G_GNUC_PRINTF(3, 4);
void cli_pairs_print(CliPairs *pairs); /* and frees it */

/* Sends the command; the result (the caller owns it), or NULL when the error is printed. */
JsonObject *cli_call(Cli *cli, const CliCall *call);

/* The same, connecting first, without a word when it fails: for completion. */
JsonObject *cli_ask(Cli *cli, const CliCall *call);

/* virsh-colo.c: one command, ours or virsh's; the exit code. */
int cli_run_words(Cli *cli, int argc, char **argv);

/* stock.c: becomes the stock virsh (returns on failure only); runs it and waits; asks it what may
 * stand for the last of @n words (NULL-terminated, to be freed). */
int cli_exec_virsh(const Cli *cli, int argc, char **argv);
int cli_spawn_virsh(const Cli *cli, int argc, char **argv);
char **cli_ask_virsh_to_complete(const Cli *cli, char *const *typed, int n);

/* shell.c: commands from the terminal or standard input until "quit"; one line of them, apart by
 * semicolons. The last one's exit code, in *@code if there was any. */
int cli_shell(Cli *cli);
void cli_run_line(Cli *cli, const char *line, gboolean *quit, int *code);

/* complete.c: what may stand for the last of @n words. NULL-terminated, to be freed. */
char **cli_complete(Cli *cli, char *const *words, int n);

/* What the user named: member @key of the daemon's arguments, "" when absent. */
const char *cli_arg(const CliCall *call, const char *key);
/* Whether a local option such as "json" was given. */
gboolean cli_local_bool(const CliCall *call, const char *key);
uint64_t cli_local_uint(const CliCall *call, const char *key, uint64_t fallback);

/* Elements of an array member; 0 when it is absent. */
size_t cli_array_length(JsonObject *object, const char *key);
JsonObject *cli_array_at(JsonObject *object, const char *key, size_t i);

int cmd_pair_define_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_pair_undefine_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_pair_list_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_pair_info_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_prepare_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_protect(Cli *cli, const CliCall *call);
int cmd_unprotect_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_checkpoint_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_failover_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_switchover_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_list_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_status(Cli *cli, const CliCall *call);
int cmd_stats_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_tune_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_events(Cli *cli, const CliCall *call);
int cmd_pair_features_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_features_show(Cli *cli, const CliCall *call, JsonObject *result);
int cmd_doctor(Cli *cli, const CliCall *call);
