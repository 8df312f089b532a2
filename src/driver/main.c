/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtcolod: the control plane. Reads its configuration, takes or makes its sockets, starts the
 * manager (src/domain) and serves colo:/// and door 1 (driver.h, src/rpc). Guests outlive it (I5):
 * stopping it changes nothing for a protected domain.
 */
#include "config.h"

#include "comparator/protocol.h"
#include "domain/manager.h"
#include "driver/driver.h"
#include "driver/metrics.h"
#include "driver/tls-listener.h"
#include "pair/config.h"
#include "rpc/server.h"
#include "util/activation.h"
#include "util/error.h"
#include "util/log.h"

#include <glib-unix.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define RPC_SOCKET RUNSTATEDIR "/libvirt/virtcolod-sock"
#define RPC_SOCKET_RO RPC_SOCKET "-ro"
#define FD_RPC "rpc"
#define FD_RPC_RO "rpc-ro"
#define FD_CONTROL "control"
#define FD_TLS "tls"

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

typedef struct {
    ColoManager *manager;
    ColoDriver *driver;
    ColoMetrics *metrics;
    ColoRpcServer *rpc;
    ColoTlsListener *tls;
    GMainLoop *loop;
    unsigned idle_s, timeout_s;
} Daemon;

static JsonObject *on_command(const ColoRpcCaller *caller, const char *command, JsonObject *args,
                              void *opaque, GError **error)
{
    Daemon *daemon = opaque;

    (void)caller;
    return colo_manager_command(daemon->manager, command, args, error);
}

static JsonObject *view(const char *uuid_or_name, void *opaque)
{
    const Daemon *daemon = opaque;

    return colo_manager_view(daemon->manager, uuid_or_name);
}

static JsonObject *pairs(void *opaque)
{
    const Daemon *daemon = opaque;

    return colo_manager_pairs(daemon->manager);
}

static JsonObject *monitor_command(const char *command, JsonObject *args, void *opaque,
                                   GError **error)
{
    const Daemon *daemon = opaque;

    return colo_manager_command(daemon->manager, command, args, error);
}

static gboolean hold(const char *uuid, const char *call, void *opaque, GError **error)
{
    const Daemon *daemon = opaque;

    return colo_manager_hold(daemon->manager, uuid, call, error);
}

static void release(const char *uuid, void *opaque)
{
    const Daemon *daemon = opaque;

    colo_manager_release(daemon->manager, uuid);
}

static char *migratable_xml(const char *uuid, void *opaque, GError **error)
{
    const Daemon *daemon = opaque;

    return colo_manager_migratable_xml(daemon->manager, uuid, error);
}

static int domain_id(const char *uuid, void *opaque)
{
    const Daemon *daemon = opaque;

    return colo_manager_domain_id(daemon->manager, uuid);
}

static gboolean set_autostart(const char *uuid, gboolean on, void *opaque, GError **error)
{
    const Daemon *daemon = opaque;

    return colo_manager_set_autostart(daemon->manager, uuid, on, error);
}

static void on_event(JsonObject *event, void *opaque)
{
    Daemon *daemon = opaque;
    ColoRpcServer *rpc = g_atomic_pointer_get(&daemon->rpc);

    if (rpc)
        colo_rpc_server_emit(rpc, event);
}

static gboolean on_signal(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

/* Where libvirt's QEMU driver listens: its own daemon, or the one for all drivers. */
static const char *const libvirt_sockets[] = {"/run/libvirt/virtqemud-sock",
                                              "/run/libvirt/libvirt-sock", NULL};

static int take_rpc_socket(const ColoConfig *config, GError **error)
{
    int fd = colo_activation_take(FD_RPC);

    if (fd >= 0)
        return fd;
    return colo_rpc_listen(RPC_SOCKET, *config->unix_sock_group ? config->unix_sock_group : NULL,
                           error);
}

/* Adds the read-only socket. When systemd passes the other one and not this, it is not wanted. */
static gboolean add_readonly_socket(ColoRpcServer *rpc, GError **error)
{
    int fd = colo_activation_take(FD_RPC_RO);

    if (fd < 0 && colo_activation_take(FD_RPC) >= 0)
        return TRUE;
    if (fd < 0)
        fd = colo_rpc_listen_readonly(RPC_SOCKET_RO, error);
    return fd >= 0 && colo_rpc_server_add_readonly(rpc, fd, error);
}

static int take_control_socket(const ColoConfig *config, GError **error)
{
    int fd = colo_activation_take(FD_CONTROL);

    if (fd >= 0)
        return fd;
    return colo_channel_listen(config->listen_addr, config->control_port, error);
}

static gboolean start(Daemon *daemon, const ColoConfig *config, const Options *options,
                      GError **error)
{
    int control_fd, rpc_fd;
    ColoRpcServer *rpc;

    control_fd = take_control_socket(config, error);
    if (control_fd < 0)
        return FALSE;
    daemon->manager = colo_manager_new(
        config, options->libvirt_uri ? options->libvirt_uri : "qemu:///system",
        options->comparator_socket ? options->comparator_socket : COLO_CMP_CONTROL_SOCKET,
        control_fd, on_event, daemon, error);
    if (!daemon->manager)
        return FALSE;
    rpc_fd = take_rpc_socket(config, error);
    if (rpc_fd < 0)
        return FALSE;
    rpc = colo_rpc_server_new(rpc_fd, on_command, daemon, error);
    if (!rpc)
        return FALSE;
    if (!add_readonly_socket(rpc, error) ||
        (*config->unix_sock_group &&
         !colo_rpc_server_set_group(rpc, config->unix_sock_group, error))) {
        colo_rpc_server_free(rpc);
        return FALSE;
    }
    daemon->driver =
        colo_driver_new(config->host_name, &(ColoDriverHost){.view = view,
                                                             .pairs = pairs,
                                                             .command = monitor_command,
                                                             .hold = hold,
                                                             .release = release,
                                                             .migratable_xml = migratable_xml,
                                                             .domain_id = domain_id,
                                                             .set_autostart = set_autostart,
                                                             .opaque = daemon});
    colo_rpc_server_set_may_run(rpc, colo_driver_may_run, daemon->driver);
    colo_rpc_server_relay_to(rpc, libvirt_sockets, colo_driver_relay(daemon->driver));
    g_atomic_pointer_set(&daemon->rpc, rpc);
    return TRUE;
}

static gboolean start_tls(Daemon *daemon, const ColoConfig *config, GError **error)
{
    ColoTlsConfig tls = config->tls; /* the same certificates, another list */
    int fd = colo_activation_take(FD_TLS);

    if (fd < 0 && !config->listen_tls)
        return TRUE;
    if (fd < 0)
        fd = colo_channel_listen(config->listen_addr, config->tls_port, error);
    if (fd < 0)
        return FALSE;
    tls.allowed_dn_list = config->tls_clients;
    daemon->tls = colo_tls_listener_new(fd, &tls, daemon->rpc, error);
    return daemon->tls != NULL;
}

/* --timeout: nobody is connected, and nothing is under COLO. */
static gboolean count_idle(gpointer data)
{
    Daemon *daemon = data;
    ColoRpcServerStats stats;

    colo_rpc_server_get_stats(daemon->rpc, &stats);
    if (stats.clients + stats.relayed > 0 || colo_manager_is_busy(daemon->manager))
        daemon->idle_s = 0;
    else if ((daemon->idle_s += IDLE_CHECK_S) >= daemon->timeout_s) {
        colo_info("idle for %u s: ends until the next client comes", daemon->idle_s);
        g_main_loop_quit(daemon->loop);
    }
    return G_SOURCE_CONTINUE;
}

/* Not worth a daemon that does not start. */
static void start_metrics(Daemon *daemon, const ColoConfig *config)
{
    g_autoptr(GError) error = NULL;

    if (config->metrics_port == 0)
        return;
    daemon->metrics = colo_metrics_new(config->metrics_addr, (uint16_t)config->metrics_port,
                                       monitor_command, daemon, &error);
    if (!daemon->metrics)
        colo_warn("%s", error->message);
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

static void stop(Daemon *daemon)
{
    colo_tls_listener_free(daemon->tls);
    colo_rpc_server_free(g_atomic_pointer_exchange(&daemon->rpc, NULL));
    colo_metrics_free(daemon->metrics);
    colo_driver_free(daemon->driver);
    colo_manager_free(daemon->manager);
}

static int run(const Options *options, GError **error)
{
    g_autoptr(ColoConfig) config = colo_config_load(options->config_file, error);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    Daemon daemon = {0};

    if (!config)
        return -1;
    colo_log_set_level(options->verbose ? LOG_DEBUG : config->log_level);
    g_unix_signal_add(SIGTERM, on_signal, loop);
    g_unix_signal_add(SIGINT, on_signal, loop);
    signal(SIGPIPE, SIG_IGN);
    if (!start(&daemon, config, options, error) || !start_tls(&daemon, config, error) ||
        !write_pid_file(options->pid_file, error)) {
        stop(&daemon);
        return -1;
    }
    daemon.loop = loop;
    daemon.timeout_s = (unsigned)options->timeout_s;
    if (daemon.timeout_s > 0)
        g_timeout_add_seconds(IDLE_CHECK_S, count_idle, &daemon);
    start_metrics(&daemon, config);
    sd_notify(0, "READY=1");
    colo_info("virtcolod %s of host '%s' is ready", PACKAGE_VERSION, config->host_name);
    g_main_loop_run(loop);

    sd_notify(0, "STOPPING=1");
    stop(&daemon);
    if (options->pid_file)
        unlink(options->pid_file);
    return 0;
}

int main(int argc, char **argv)
{
    Options options = {0};
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
