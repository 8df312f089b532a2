/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-list, colo-status, colo-stats: what is protected, and how well. */
#include "cli.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WATCH_INTERVAL_US 1000000

int cmd_list_show(Cli *cli, const CliCall *call G_GNUC_UNUSED, JsonObject *result)
{
    CliTable *table =
        cli_table_new(_("Name"), _("Pair"), _("Role"), _("State"), _("Generation"), NULL);
    size_t n = cli_array_length(result, "domains");

    for (size_t i = 0; i < n; i++) {
        JsonObject *domain = cli_array_at(result, "domains", i);
        g_autofree char *generation =
            g_strdup_printf("%" PRIu64, colo_json_peek_uint(domain, "generation", 0));

        cli_table_add(table, colo_json_peek_string(domain, "name", ""),
                      colo_json_peek_string(domain, "pair", ""),
                      colo_json_peek_string(domain, "role", ""),
                      colo_json_peek_string(domain, "state", ""), generation, NULL);
    }
    cli_table_print(cli, table);
    return CLI_OK;
}

static void add_string(CliPairs *pairs, const char *key, JsonObject *from, const char *member)
{
    cli_pairs_add(pairs, key, "%s", colo_json_peek_string(from, member, ""));
}

static void add_uint(CliPairs *pairs, const char *key, JsonObject *from, const char *member)
{
    if (colo_json_peek(from, member))
        cli_pairs_add(pairs, key, "%" PRIu64, colo_json_peek_uint(from, member, 0));
}

/* Milliseconds may be whole or not. */
static double peek_ms(JsonObject *from, const char *member)
{
    JsonObject *value = colo_json_peek(from, member);

    return value ? json_object_get_double(value) : 0;
}

/* Bytes in the largest unit that leaves a whole one, as virsh prints them; to be freed. */
static char *format_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%.2f %s", value, units[unit]);
}

static void add_disks(CliPairs *pairs, JsonObject *status)
{
    size_t n = cli_array_length(status, "disks");

    for (size_t i = 0; i < n; i++) {
        JsonObject *disk = cli_array_at(status, "disks", i);
        uint64_t size = colo_json_peek_uint(disk, "size", 0);
        g_autofree char *of = format_size(size);
        g_autofree char *copied = format_size(colo_json_peek_uint(disk, "copied", 0));
        g_autofree char *key =
            g_strdup_printf(_("Disk %s"), colo_json_peek_string(disk, "target", ""));

        cli_pairs_add(pairs, key, _("%s of %s, %s"), copied, of,
                      colo_json_peek_string(disk, "state", ""));
    }
}

static void add_memory(CliPairs *pairs, JsonObject *status)
{
    JsonObject *memory = colo_json_peek(status, "memory");
    uint64_t total = colo_json_peek_uint(memory, "total", 0);
    uint64_t remaining = colo_json_peek_uint(memory, "remaining", 0);
    g_autofree char *of = format_size(total);
    g_autofree char *left = format_size(remaining);

    if (total)
        cli_pairs_add(pairs, _("Memory"), _("%s remaining of %s"), left, of);
}

/* Those that are on in this host's VM. */
static void add_features(CliPairs *pairs, JsonObject *status)
{
    JsonObject *features = colo_json_peek(status, "features");
    g_autoptr(GString) on = g_string_new(NULL);

    if (json_object_is_type(features, json_type_object)) {
        json_object_object_foreach(features, name, feature)
        {
            if (strcmp(colo_json_peek_string(feature, "setting", ""), "on") == 0)
                g_string_append_printf(on, "%s%s", on->len ? ", " : "", name);
        }
    }
    cli_pairs_add(pairs, _("Features"), "%s", on->str);
}

static void show_status(JsonObject *status)
{
    CliPairs *pairs = cli_pairs_new();
    JsonObject *pause = colo_json_peek(status, "pause-ms");

    add_string(pairs, _("Name"), status, "name");
    add_string(pairs, _("UUID"), status, "uuid");
    add_string(pairs, _("Pair"), status, "pair");
    add_string(pairs, _("Peer"), status, "peer");
    add_string(pairs, _("Role"), status, "role");
    add_string(pairs, _("State"), status, "state");
    add_string(pairs, _("Reason"), status, "reason");
    add_uint(pairs, _("Progress (%)"), status, "progress-percent");
    add_uint(pairs, _("Generation"), status, "generation");
    add_string(pairs, _("Owner"), status, "owner");
    add_string(pairs, _("Control channel"), status, "control");
    add_uint(pairs, _("Checkpoints"), status, "checkpoints");
    if (colo_json_peek(status, "last-checkpoint-ms"))
        cli_pairs_add(pairs, _("Last checkpoint"), _("%" PRIu64 " ms ago"),
                      colo_json_peek_uint(status, "last-checkpoint-ms", 0));
    if (json_object_is_type(pause, json_type_object))
        cli_pairs_add(pairs, _("Pauses"), _("median %.1f ms, p95 %.1f ms, longest %.1f ms"),
                      peek_ms(pause, "median"), peek_ms(pause, "p95"), peek_ms(pause, "max"));
    add_uint(pairs, _("Divergences"), status, "divergences");
    add_string(pairs, _("Checkpoint mode"), status, "checkpoint-mode");
    add_string(pairs, _("Mode reason"), status, "checkpoint-mode-reason");
    add_uint(pairs, _("Held frames"), status, "held-frames");
    add_uint(pairs, _("Held bytes"), status, "held-bytes");
    add_disks(pairs, status);
    add_memory(pairs, status);
    add_features(pairs, status);
    add_string(pairs, _("Error"), status, "error");
    cli_pairs_print(pairs);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signum)
{
    interrupted = signum;
}

int cmd_status(Cli *cli, const CliCall *call)
{
    gboolean watch = cli_local_bool(call, "watch");
    gboolean json = cli_local_bool(call, "json");
    struct sigaction action = {.sa_handler = on_interrupt};

    if (watch) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
    }
    do {
        g_autoptr(JsonObject) status = cli_call(cli, call);

        if (!status)
            return CLI_ERROR;
        if (watch && !json && isatty(STDOUT_FILENO))
            fputs("\033[H\033[2J", stdout);
        if (json)
            cli_print_json(status);
        else
            show_status(status);
        if (fflush(stdout) != 0)
            return CLI_ERROR;
        if (watch && !interrupted)
            usleep(WATCH_INTERVAL_US);
    } while (watch && !interrupted);
    return CLI_OK;
}

/* Prints members as virsh domstats does: "  colo.name=value", nested names joined by dots. */
static void print_stats(const char *prefix, JsonObject *stats)
{
    if (!json_object_is_type(stats, json_type_object)) {
        g_autofree char *text = cli_clean(json_object_get_string(stats));

        printf("  %s=%s\n", prefix, text);
        return;
    }
    json_object_object_foreach(stats, key, value)
    {
        g_autofree char *name = g_strdup_printf("%s.%s", prefix, key);

        print_stats(name, value);
    }
}

int cmd_stats_show(Cli *cli G_GNUC_UNUSED, const CliCall *call, JsonObject *result)
{
    printf(_("Domain: '%s'\n"), colo_json_peek_string(result, "name", cli_arg(call, "domain")));
    print_stats("colo", colo_json_peek(result, "stats"));
    printf("\n");
    return CLI_OK;
}
