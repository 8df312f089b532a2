/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo-events: what happens, as it happens. */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"

/* Longest wait at a time, so that an interrupt is seen. */
#define SLICE_MS 500

typedef struct {
    const char *domain; /* only events of it; "" for all */
    gboolean json, loop;
    unsigned shown;
} Watch;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signum)
{
    interrupted = signum;
}

/* Of the other members only those with a value, as "key: value". */
static void print_event(JsonObject *event)
{
    const char *domain = colo_json_peek_string(event, "domain", NULL);
    g_autofree char *about = cli_clean(domain);
    g_autofree char *kind = cli_clean(colo_json_peek_string(event, "event", "?"));

    if (domain)
        printf(_("event '%s' for domain '%s'"), kind, about);
    else
        printf(_("event '%s'"), kind);
    json_object_object_foreach(event, key, value)
    {
        g_autofree char *text = cli_clean(json_object_get_string(value));

        if (!value || strcmp(key, "event") == 0 || strcmp(key, "domain") == 0)
            continue;
        printf(" %s=%s", key, text);
    }
    printf("\n");
}

static void on_event(ColoConnect *conn G_GNUC_UNUSED, const char *text, void *opaque)
{
    Watch *watch = opaque;
    g_autoptr(JsonObject) event = colo_json_parse(text, strlen(text), NULL);

    if (!event || (watch->shown > 0 && !watch->loop))
        return;
    if (*watch->domain && strcmp(watch->domain, colo_json_peek_string(event, "domain", "")) != 0 &&
        strcmp(watch->domain, colo_json_peek_string(event, "uuid", "")) != 0)
        return;
    if (watch->json)
        cli_print_json(event);
    else
        print_event(event);
    fflush(stdout);
    watch->shown++;
}

int cmd_events(Cli *cli, const CliCall *call)
{
    Watch watch = {.domain = cli_arg(call, "domain"),
                   .json = cli_local_bool(call, "json"),
                   .loop = cli_local_bool(call, "loop")};
    uint64_t timeout = cli_local_uint(call, "timeout", 0);
    uint64_t end = colo_clock_ns() + timeout * COLO_NS_PER_SEC;
    struct sigaction action = {.sa_handler = on_interrupt};
    ColoError error = COLO_ERROR_INIT;
    gboolean timed_out = FALSE;
    int code = CLI_OK;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (colo_connect_event_set_callback(cli->conn, on_event, &watch, &error) < 0)
        code = CLI_ERROR;
    while (code == CLI_OK && !interrupted && !timed_out && (watch.loop || watch.shown == 0)) {
        uint64_t now = colo_clock_ns();
        int slice = SLICE_MS;

        if (timeout && end <= now + SLICE_MS * COLO_NS_PER_MS)
            slice = end > now ? (int)((end - now) / COLO_NS_PER_MS) : 0;
        if (colo_connect_event_dispatch(cli->conn, slice, &error) < 0)
            code = CLI_ERROR;
        timed_out = timeout && colo_clock_ns() >= end;
    }
    if (code != CLI_OK) {
        cli_error("%s", error.message);
        colo_error_reset(&error);
    } else if (!watch.json) {
        if (timed_out)
            cli_extra(cli, _("event loop timed out\n"));
        cli_extra(cli, _("events received: %u\n"), watch.shown);
    }
    /* As virsh event: one that waited for an event that did not come has failed. */
    return code == CLI_OK && timed_out && watch.shown == 0 ? CLI_ERROR : code;
}
