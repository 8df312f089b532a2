/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "driver/service.h"

#include "comparator/protocol.h"
#include "domain/manager.h"
#include "domain/virconn.h"
#include "driver/driver.h"
#include "driver/metrics.h"
#include "driver/tls-listener.h"
#include "rpc/server.h"
#include "util/activation.h"
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RPC_SOCKET RUNSTATEDIR "/libvirt/virtcolod-sock"
#define RPC_SOCKET_RO RPC_SOCKET "-ro"
#define FD_RPC "rpc"
#define FD_RPC_RO "rpc-ro"
#define FD_CONTROL "control"
#define FD_TLS "tls"

/* A socket file that this daemon has made, and that shall not outlive it: a client that finds one
 * waits for who listened there. */
typedef struct {
    char *path; /* NULL: systemd's */
    dev_t device;
    ino_t inode; /* another daemon may have put its own there */
} OwnSocket;

struct ColoService {
    ColoManager *manager; /* NULL: of a session, as all but rpc and libvirt */
    ColoDriver *driver;
    ColoMetrics *metrics;
    ColoRpcServer *rpc;
    ColoTlsListener *tls;
    OwnSocket own[2];
    ColoVirConn *libvirt; /* keeps the session's libvirtd there */
};

static JsonObject *on_command(const ColoRpcCaller *caller, const char *command, JsonObject *args,
                              void *opaque, GError **error)
{
    ColoService *service = opaque;

    (void)caller;
    return colo_manager_command(service->manager, command, args, error);
}

static JsonObject *view(const char *uuid_or_name, void *opaque)
{
    const ColoService *service = opaque;

    return colo_manager_view(service->manager, uuid_or_name);
}

static JsonObject *pairs(void *opaque)
{
    const ColoService *service = opaque;

    return colo_manager_pairs(service->manager);
}

static JsonObject *monitor_command(const char *command, JsonObject *args, void *opaque,
                                   GError **error)
{
    const ColoService *service = opaque;

    return colo_manager_command(service->manager, command, args, error);
}

static JsonObject *figures(const char *uuid, void *opaque)
{
    const ColoService *service = opaque;

    return colo_manager_figures(service->manager, uuid);
}

/* Of a scrape, which does not wait for a helper that stands still. */
static JsonObject *metrics_command(const char *command, JsonObject *args, void *opaque,
                                   GError **error)
{
    if (strcmp(command, "colo-stats") == 0)
        return colo_json_build("stats", "o",
                               figures(colo_json_peek_string(args, "domain", ""), opaque), NULL);
    return monitor_command(command, args, opaque, error);
}

static gboolean hold(const char *uuid, const char *call, void *opaque, GError **error)
{
    const ColoService *service = opaque;

    return colo_manager_hold(service->manager, uuid, call, error);
}

static void release(const char *uuid, void *opaque)
{
    const ColoService *service = opaque;

    colo_manager_release(service->manager, uuid);
}

static char *migratable_xml(const char *uuid, void *opaque, GError **error)
{
    const ColoService *service = opaque;

    return colo_manager_migratable_xml(service->manager, uuid, error);
}

static int domain_id(const char *uuid, void *opaque)
{
    const ColoService *service = opaque;

    return colo_manager_domain_id(service->manager, uuid);
}

static gboolean set_autostart(const char *uuid, gboolean on, void *opaque, GError **error)
{
    const ColoService *service = opaque;

    return colo_manager_set_autostart(service->manager, uuid, on, error);
}

static void on_event(JsonObject *event, void *opaque)
{
    ColoService *service = opaque;
    ColoRpcServer *rpc = g_atomic_pointer_get(&service->rpc);

    if (rpc)
        colo_rpc_server_emit(rpc, event);
}

/* Where libvirt's QEMU driver listens: its own daemon, or the one for all drivers. */
static const char *const libvirt_sockets[] = {"/run/libvirt/virtqemud-sock",
                                              "/run/libvirt/libvirt-sock", NULL};

/* @fd listens at @path, or is -1. */
static int remember(OwnSocket *own, const char *path, int fd)
{
    struct stat st;

    if (fd >= 0 && stat(path, &st) == 0)
        *own = (OwnSocket){g_strdup(path), st.st_dev, st.st_ino};
    return fd;
}

static void remove_own(OwnSocket *own)
{
    struct stat st;

    if (own->path && stat(own->path, &st) == 0 && st.st_dev == own->device &&
        st.st_ino == own->inode)
        unlink(own->path);
    g_clear_pointer(&own->path, g_free);
}

static int take_rpc_socket(ColoService *service, const ColoConfig *config, GError **error)
{
    const char *group = *config->unix_sock_group ? config->unix_sock_group : NULL;
    int fd = colo_activation_take(FD_RPC);

    if (fd >= 0)
        return fd;
    fd = config->polkit_rw ? colo_rpc_listen_public(RPC_SOCKET, error)
                           : colo_rpc_listen(RPC_SOCKET, group, error);
    return remember(&service->own[0], RPC_SOCKET, fd);
}

/* Adds the read-only socket. When systemd passes the other one and not this, it is not wanted. */
static gboolean add_readonly_socket(ColoService *service, ColoRpcServer *rpc, GError **error)
{
    int fd = colo_activation_take(FD_RPC_RO);

    if (fd < 0 && colo_activation_take(FD_RPC) >= 0)
        return TRUE;
    if (fd < 0)
        fd =
            remember(&service->own[1], RPC_SOCKET_RO, colo_rpc_listen_public(RPC_SOCKET_RO, error));
    return fd >= 0 && colo_rpc_server_add_readonly(rpc, fd, error);
}

/* Whether libvirt's daemon judges its clients one by one (libvirtd.conf, "access_drivers"). A file
 * that cannot be read is one without. */
static gboolean has_access_drivers(void)
{
    /* The distribution's libvirt, wherever we are installed. */
    static const char *const files[] = {"/etc/libvirt/virtqemud.conf",
                                        "/etc/libvirt/libvirtd.conf"};
    g_autoptr(GRegex) wanted =
        g_regex_new("^[ \\t]*access_drivers[ \\t]*=[^\\]]*\"(?!none\")[^\"\\]\n]+\"",
                    G_REGEX_MULTILINE | G_REGEX_RAW, 0, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *text = NULL;

        if (g_file_get_contents(files[i], &text, NULL, NULL) &&
            g_regex_match(wanted, text, 0, NULL))
            return TRUE;
    }
    return FALSE;
}

static int take_control_socket(const ColoConfig *config, GError **error)
{
    int fd = colo_activation_take(FD_CONTROL);

    if (fd >= 0)
        return fd;
    return colo_channel_listen(config->listen_addr, config->control_port, error);
}

static gboolean start(ColoService *service, const ColoConfig *config, const char *libvirt_uri,
                      const char *comparator_socket, GError **error)
{
    int control_fd, rpc_fd;
    ColoRpcServer *rpc;

    control_fd = take_control_socket(config, error);
    if (control_fd < 0)
        return FALSE;
    service->manager =
        colo_manager_new(config, libvirt_uri ? libvirt_uri : "qemu:///system",
                         comparator_socket ? comparator_socket : COLO_CMP_CONTROL_SOCKET,
                         control_fd, on_event, service, error);
    if (!service->manager)
        return FALSE;
    rpc_fd = take_rpc_socket(service, config, error);
    if (rpc_fd < 0)
        return FALSE;
    rpc = colo_rpc_server_new(rpc_fd, on_command, service, error);
    if (!rpc)
        return FALSE;
    if (!add_readonly_socket(service, rpc, error) ||
        (*config->unix_sock_group &&
         !colo_rpc_server_set_group(rpc, config->unix_sock_group, error))) {
        colo_rpc_server_free(rpc);
        return FALSE;
    }
    if (config->polkit_rw)
        colo_rpc_server_set_polkit(rpc, FALSE);
    if (config->polkit_ro)
        colo_rpc_server_set_polkit(rpc, TRUE);
    if (has_access_drivers())
        colo_rpc_server_set_judged(rpc);
    service->driver =
        colo_driver_new(config->host_name, &(ColoDriverHost){.view = view,
                                                             .pairs = pairs,
                                                             .command = monitor_command,
                                                             .figures = figures,
                                                             .hold = hold,
                                                             .release = release,
                                                             .migratable_xml = migratable_xml,
                                                             .domain_id = domain_id,
                                                             .set_autostart = set_autostart,
                                                             .opaque = service});
    colo_rpc_server_set_may_run(rpc, colo_driver_may_run, service->driver);
    colo_rpc_server_relay_to(rpc, libvirt_sockets, colo_driver_relay(service->driver));
    g_atomic_pointer_set(&service->rpc, rpc);
    return TRUE;
}

static gboolean start_tls(ColoService *service, const ColoConfig *config, GError **error)
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
    service->tls = colo_tls_listener_new(fd, &tls, service->rpc, error);
    return service->tls != NULL;
}

/* Not worth a daemon that does not start. */
static void start_metrics(ColoService *service, const ColoConfig *config)
{
    g_autoptr(GError) error = NULL;

    if (config->metrics_port == 0)
        return;
    service->metrics = colo_metrics_new(config->metrics_addr, (uint16_t)config->metrics_port,
                                        metrics_command, service, &error);
    if (!service->metrics)
        colo_warn("%s", error->message);
}

ColoService *colo_service_new(const ColoConfig *config, const char *libvirt_uri,
                              const char *comparator_socket, GError **error)
{
    g_autoptr(ColoService) service = g_new0(ColoService, 1);

    if (!start(service, config, libvirt_uri, comparator_socket, error) ||
        !start_tls(service, config, error))
        return NULL;
    start_metrics(service, config);
    return g_steal_pointer(&service);
}

gboolean colo_service_is_idle(ColoService *service)
{
    ColoRpcServerStats stats;

    colo_rpc_server_get_stats(service->rpc, &stats);
    return stats.clients + stats.relayed == 0 &&
           (!service->manager || !colo_manager_is_busy(service->manager));
}

void colo_service_free(ColoService *service)
{
    if (!service)
        return;
    remove_own(&service->own[0]);
    remove_own(&service->own[1]);
    colo_tls_listener_free(service->tls);
    colo_rpc_server_free(g_atomic_pointer_exchange(&service->rpc, NULL));
    colo_metrics_free(service->metrics);
    colo_driver_free(service->driver);
    colo_manager_free(service->manager);
    colo_virconn_free(service->libvirt);
    g_free(service);
}

/* ---- of a session ---- */

/* libvirt's client tries for 5 s to reach the daemon that it has started. */
#define SESSION_LIBVIRT_MS 4000u

static JsonObject *refuse_command(const ColoRpcCaller *caller G_GNUC_UNUSED, const char *command,
                                  JsonObject *args G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED,
                                  GError **error)
{
    colo_driver_refuse_in_session(command, error);
    return NULL;
}

ColoService *colo_service_new_session(GError **error)
{
    g_autofree char *folder = g_build_filename(g_get_user_runtime_dir(), "libvirt", NULL);
    g_autofree char *ours = g_build_filename(folder, "virtcolod-sock", NULL);
    g_autofree char *qemu = g_build_filename(folder, "virtqemud-sock", NULL);
    g_autofree char *all = g_build_filename(folder, "libvirt-sock", NULL);
    const char *const upstreams[] = {qemu, all, NULL};
    g_autoptr(ColoService) service = g_new0(ColoService, 1);
    int fd = colo_activation_take(FD_RPC);
    virConnectPtr conn;

    if (g_mkdir_with_parents(folder, 0700) < 0) {
        colo_error_set_errno(error, errno, "cannot make %s", folder);
        return NULL;
    }
    /* libvirt's client library starts the session's libvirtd, and does so again. Our own client
     * finds no socket until it is there, and tries again, as it does while any daemon starts. */
    service->libvirt = colo_virconn_new("qemu:///session", &(ColoVirConnEvents){0}, NULL);
    conn = colo_virconn_get(service->libvirt, SESSION_LIBVIRT_MS, NULL);
    if (conn)
        virConnectClose(conn);
    if (fd < 0)
        fd = remember(&service->own[0], ours, colo_rpc_listen(ours, NULL, error));
    if (fd < 0)
        return NULL;
    service->rpc = colo_rpc_server_new(fd, refuse_command, NULL, error);
    if (!service->rpc)
        return NULL;
    colo_rpc_server_relay_to(service->rpc, upstreams, colo_driver_of_session());
    return g_steal_pointer(&service);
}
