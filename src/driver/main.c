/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtcolod: the control plane. Reads its options and configuration, and serves (service.h) until a
 * signal, or --timeout, ends it. Guests outlive it (I5): stopping it changes nothing for a
 * protected domain. For any other user than root it is the daemon of his session.
 */
#include "config.h"

#include "driver/service.h"
#include "pair/config.h"
#include "util/error.h"
#include "util/log.h"

#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* How often an idle daemon that may end looks whether it is still so. */
#define IDLE_CHECK_S 1u

typedef struct {
    char *config_file;
    char *libvirt_uri;
    char *comparator_socket;
    char *pid_file;
    int timeout_s; /* 0: it does not end by itself */
    gboolean verbose;
    gboolean version;
} Options;

static void options_clear(Options *options)
{
    g_free(options->config_file);
    g_free(options->libvirt_uri);
    g_free(options->comparator_socket);
    g_free(options->pid_file);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

typedef struct {
    ColoService *service;
    GMainLoop *loop;
    unsigned idle_s, timeout_s;
} Idle;

/* --timeout */
static gboolean count_idle(gpointer data)
{
    Idle *idle = data;

    idle->idle_s = colo_service_is_idle(idle->service) ? idle->idle_s + IDLE_CHECK_S : 0;
    if (idle->idle_s >= idle->timeout_s) {
        colo_info("idle for %u s: ends until the next client comes", idle->idle_s);
        g_main_loop_quit(idle->loop);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean on_signal(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

static gboolean write_pid_file(const char *path, GError **error)
{
    g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());

    return !path || g_file_set_contents(path, text, -1, error);
}

static gboolean parse_options(Options *o, int *argc, char ***argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"config", 'f', 0, G_OPTION_ARG_FILENAME, &o->config_file, "Configuration file", "FILE"},
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &o->libvirt_uri, "libvirt's QEMU driver", "URI"},
        {"comparator", 0, 0, G_OPTION_ARG_FILENAME, &o->comparator_socket,
         "Control socket of colo-comparator", "PATH"},
        {"timeout", 't', 0, G_OPTION_ARG_INT, &o->timeout_s,
         "End after so long without a client and without a domain under COLO", "SECONDS"},
        {"pid-file", 'p', 0, G_OPTION_ARG_FILENAME, &o->pid_file, "Write the process id here",
         "FILE"},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &o->verbose, "Log debug messages", NULL},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &o->version, "Print the version", NULL},
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- COLO control daemon of libvirt");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;
    if (o->timeout_s < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "--timeout %d: seconds are expected, 0 for none", o->timeout_s);
        return FALSE;
    }
    if (*argc > 1) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unexpected argument '%s'",
                    (*argv)[1]);
        return FALSE;
    }
    return TRUE;
}

static void serve(const Options *options, ColoService *service, GMainLoop *loop)
{
    Idle idle = {.service = service, .loop = loop, .timeout_s = (unsigned)options->timeout_s};

    if (options->timeout_s > 0)
        g_timeout_add_seconds(IDLE_CHECK_S, count_idle, &idle);
    sd_notify(0, "READY=1");
    g_main_loop_run(loop);
    sd_notify(0, "STOPPING=1");
}

static int run(const Options *options, GError **error)
{
    gboolean session = geteuid() != 0;
    g_autoptr(ColoConfig) config =
        session && !options->config_file ? NULL : colo_config_load(options->config_file, error);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(ColoService) service = NULL;

    if (!config && !session)
        return -1;
    colo_log_set_level(options->verbose ? LOG_DEBUG : config ? config->log_level : LOG_INFO);
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    signal(SIGPIPE, SIG_IGN);
    service =
        session ? colo_service_new_session(error)
                : colo_service_new(config, options->libvirt_uri, options->comparator_socket, error);
    if (!service || !write_pid_file(options->pid_file, error))
        return -1;
    colo_info("virtcolod %s of %s '%s' is ready", PACKAGE_VERSION, session ? "user" : "host",
              session ? g_get_user_name() : config->host_name);
    serve(options, service, loop);
    if (options->pid_file)
        unlink(options->pid_file);
    return 0;
}

int main(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;

    setlocale(LC_ALL, "");
    colo_log_init("virtcolod", LOG_INFO);
    if (!parse_options(&options, &argc, &argv, &error)) {
        g_printerr("virtcolod: %s\n", error->message);
        return 2;
    }
    if (options.version) {
        g_print("virtcolod (libvirt-colo) %s\n", PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    if (run(&options, &error) < 0) {
        colo_err("%s", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
