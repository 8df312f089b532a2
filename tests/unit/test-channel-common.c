/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-channel-common.h"

#include "util/error.h"
#include "util/log.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

char *pki_dir;
static char *log_file;

char *pki_path(const char *name)
{
    return g_build_filename(pki_dir, name, NULL);
}

static void run(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void run(const char *format, ...)
{
    g_autofree char *line = NULL;
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
    va_list args;
    int status;

    va_start(args, format);
    line = g_strdup_vprintf(format, args);
    va_end(args);
    argv[2] = line;
    if (!g_spawn_sync(pki_dir, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, &output,
                      &status, &error) ||
        !g_spawn_check_wait_status(status, &error))
        g_error("%s: %s: %s", line, error->message, output ? output : "");
}

static void write_template(const char *lines)
{
    g_autofree char *path = pki_path("template");

    g_assert_true(g_file_set_contents(path, lines, -1, NULL));
}

static void make_ca(const char *name)
{
    g_autofree char *lines = g_strdup_printf("cn = \"Test %s\"\nca\ncert_signing_key\n"
                                             "crl_signing_key\nexpiration_days = 30\n",
                                             name);

    write_template(lines);
    run("certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile %s-key.pem && "
        "certtool --generate-self-signed --load-privkey %s-key.pem --template template --outfile "
        "%s-cert.pem",
        name, name, name);
}

void pki_issue(const char *ca, const char *name, const char *lines)
{
    write_template(lines);
    run("certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile %s-key.pem && "
        "certtool --generate-certificate --load-privkey %s-key.pem --load-ca-privkey %s-key.pem "
        "--load-ca-certificate %s-cert.pem --template template --outfile %s-cert.pem",
        name, name, ca, ca, name);
}

void pki_write_crl(const char *file, const char *const *names)
{
    g_autoptr(GString) all = g_string_new("");
    g_autofree char *revoked = pki_path("revoked.pem");

    for (; *names; names++) {
        g_autofree char *base = g_strconcat(*names, "-cert.pem", NULL);
        g_autofree char *path = pki_path(base);
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_string_append(all, text);
    }
    write_template("crl_next_update = 30\n");
    g_assert_true(g_file_set_contents(revoked, all->str, -1, NULL));
    /* Written beside it and moved: a reader never sees half a file. */
    run("certtool --generate-crl --load-ca-privkey ca-key.pem --load-ca-certificate ca-cert.pem %s "
        "--template template --outfile crl.tmp && mv crl.tmp %s",
        all->len ? "--load-certificate revoked.pem" : "", file);
}

static void issue_host(const char *host)
{
    g_autofree char *server = g_strdup_printf("%s-server", host);
    g_autofree char *client = g_strdup_printf("%s-client", host);
    g_autofree char *server_lines =
        g_strdup_printf("organization = \"Lab\"\ncn = \"%s\"\ndns_name = \"%s\"\n"
                        "dns_name = \"localhost\"\ntls_www_server\nsigning_key\n"
                        "expiration_days = 30\n",
                        host, host);
    g_autofree char *client_lines =
        g_strdup_printf("organization = \"Lab\"\ncn = \"%s\"\ntls_www_client\nsigning_key\n"
                        "expiration_days = 30\n",
                        host);

    pki_issue("ca", server, server_lines);
    pki_issue("ca", client, client_lines);
}

void pki_create(void)
{
    pki_dir = g_dir_make_tmp("colo-pki-XXXXXX", NULL);
    g_assert_nonnull(pki_dir);
    make_ca("ca");
    make_ca("ca2");
    issue_host("alpha");
    issue_host("beta");
}

void pki_remove(void)
{
    GDir *dir = g_dir_open(pki_dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = pki_path(name);

        g_unlink(path);
    }
    g_dir_close(dir);
    g_rmdir(pki_dir);
    g_clear_pointer(&pki_dir, g_free);
    g_clear_pointer(&log_file, g_free);
}

ColoTlsConfig pki_config(const char *server, const char *client)
{
    ColoTlsConfig config = {0};

    config.ca_file = pki_path("ca-cert.pem");
    config.server_cert_file = g_strdup_printf("%s/%s-cert.pem", pki_dir, server);
    config.server_key_file = g_strdup_printf("%s/%s-key.pem", pki_dir, server);
    config.client_cert_file = g_strdup_printf("%s/%s-cert.pem", pki_dir, client);
    config.client_key_file = g_strdup_printf("%s/%s-key.pem", pki_dir, client);
    return config;
}

ColoPeerInfo host_info(const char *name)
{
    ColoPeerInfo info = {
        .software = (char *)"libvirt-colo test",
        .host = (char *)name,
        .host_uuid = (char *)"5ba5ba5b-0000-4000-8000-000000000001",
        .boot_id = (char *)"b007b007-0000-4000-8000-000000000002",
        .qemu = (char *)"7.2.0",
    };

    return info;
}

int listen_loopback(uint16_t *port)
{
    g_autoptr(GError) error = NULL;
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    int fd = colo_channel_listen("127.0.0.1", *port, &error);

    g_assert_no_error(error);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &len), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static GMutex block_lock;
static GCond block_cond;
static gboolean blocking;

void block_again(void)
{
    g_mutex_lock(&block_lock);
    blocking = TRUE;
    g_mutex_unlock(&block_lock);
}

void unblock_all(void)
{
    g_mutex_lock(&block_lock);
    blocking = FALSE;
    g_cond_broadcast(&block_cond);
    g_mutex_unlock(&block_lock);
}

JsonObject *test_handler(const ColoPeerInfo *from, const char *method, JsonObject *params,
                         void *opaque, GError **error)
{
    (void)opaque;
    if (strcmp(method, "echo") == 0)
        return json_object_get(params);
    if (strcmp(method, "who") == 0)
        return colo_json_build("host", "s", from->host, "dn", "s", from->dn, "boot-id", "s",
                               from->boot_id, NULL);
    if (strcmp(method, "fail") == 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN, "no domain 'x'");
    } else if (strcmp(method, "alien") == 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "no such file");
    } else if (strcmp(method, "big") == 0) {
        g_autofree char *text = g_strnfill(colo_json_peek_uint(params, "bytes", 0), 'x');

        return colo_json_build("text", "s", text, NULL);
    } else if (strcmp(method, "block") == 0) {
        g_mutex_lock(&block_lock);
        while (blocking)
            g_cond_wait(&block_cond, &block_lock);
        g_mutex_unlock(&block_lock);
        return NULL;
    } else {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown method '%s'", method);
    }
    return NULL;
}

static void on_up(ColoChannel *channel, const ColoPeerInfo *peer, void *opaque)
{
    Events *events = opaque;

    (void)channel;
    (void)peer;
    g_mutex_lock(&events->lock);
    events->up++;
    g_cond_broadcast(&events->changed);
    g_mutex_unlock(&events->lock);
}

static void on_silent(ColoChannel *channel, uint64_t silent_ms, void *opaque)
{
    Events *events = opaque;

    (void)channel;
    g_mutex_lock(&events->lock);
    events->silent++;
    events->silent_ms = silent_ms;
    events->silent_at_us = g_get_monotonic_time();
    g_cond_broadcast(&events->changed);
    g_mutex_unlock(&events->lock);
}

static void on_heard(ColoChannel *channel, void *opaque)
{
    Events *events = opaque;

    (void)channel;
    g_mutex_lock(&events->lock);
    events->heard++;
    g_cond_broadcast(&events->changed);
    g_mutex_unlock(&events->lock);
}

static void on_down(ColoChannel *channel, const char *reason, void *opaque)
{
    Events *events = opaque;

    (void)channel;
    g_mutex_lock(&events->lock);
    events->down++;
    g_free(events->reason);
    events->reason = g_strdup(reason);
    g_cond_broadcast(&events->changed);
    g_mutex_unlock(&events->lock);
}

const ColoChannelEvents counting_events = {on_up, on_silent, on_heard, on_down};

void events_init(Events *events)
{
    memset(events, 0, sizeof(*events));
    g_mutex_init(&events->lock);
    g_cond_init(&events->changed);
}

void events_clear(Events *events)
{
    g_mutex_clear(&events->lock);
    g_cond_clear(&events->changed);
    g_free(events->reason);
}

gboolean events_wait(Events *events, const unsigned *counter, unsigned value, unsigned ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;
    gboolean reached;

    g_mutex_lock(&events->lock);
    while (*counter < value && g_cond_wait_until(&events->changed, &events->lock, end))
        ;
    reached = *counter >= value;
    g_mutex_unlock(&events->lock);
    return reached;
}

ColoChannel *dial_local(const char *host_name, const char *client, const char *to, uint16_t port,
                        Events *events)
{
    ColoTlsConfig tls = pki_config("alpha-server", client);
    ColoPeerInfo self = host_info(host_name);
    g_autoptr(GError) error = NULL;
    ColoChannel *channel =
        colo_channel_new(&tls, &self, to, port, NULL, &counting_events, events, &error);

    g_assert_no_error(error);
    colo_tls_config_clear(&tls);
    return channel;
}

char *wait_for_error(ColoChannel *channel, const char *text, unsigned ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;

    for (;;) {
        char *found = colo_channel_last_error(channel);

        if (found && strstr(found, text))
            return found;
        if (g_get_monotonic_time() > end)
            g_error("expected the error '%s', found '%s'", text, found ? found : "(up)");
        g_free(found);
        g_usleep(2000);
    }
}

void server_start(Server *server)
{
    ColoPeerInfo self = host_info("beta");
    g_autoptr(GError) error = NULL;
    int fd;

    server->port = 0;
    fd = listen_loopback(&server->port);
    server->server = colo_channel_server_new(&server->tls, &self, fd, test_handler, NULL, &error);
    g_assert_no_error(error);
}

void server_end(Server *server)
{
    colo_channel_server_free(server->server);
    colo_tls_config_clear(&server->tls);
}

void assert_serves(Server *server)
{
    Events events;
    ColoChannel *channel;
    g_autoptr(GError) error = NULL;

    events_init(&events);
    channel = dial_local("alpha", "alpha-client", "localhost", server->port, &events);
    g_assert_true(events_wait(&events, &events.up, 1, 3000));
    g_autoptr(JsonObject) echo = colo_channel_call(channel, "echo", NULL, 3000, &error);
    g_assert_no_error(error);
    colo_channel_free(channel);
    events_clear(&events);
}

int connect_to(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

void log_capture(void)
{
    int fd;

    log_file = pki_path("log");
    fd = open(log_file, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(dup2(fd, STDERR_FILENO), ==, STDERR_FILENO);
    close(fd);
}

gboolean log_wait(const char *text, const char *text2, unsigned ms)
{
    gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;

    for (;;) {
        g_autofree char *all = NULL;

        g_assert_true(g_file_get_contents(log_file, &all, NULL, NULL));
        g_auto(GStrv) lines = g_strsplit(all, "\n", -1);
        for (char **line = lines; *line; line++) {
            if (strstr(*line, text) && strstr(*line, text2))
                return TRUE;
        }
        if (g_get_monotonic_time() > end) {
            g_test_message("no line with '%s' and '%s' in: %s", text, text2, all);
            return FALSE;
        }
        g_usleep(2000);
    }
}
