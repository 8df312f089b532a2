/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-arbiter-etcd.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

GPid etcd_pid;
uint16_t etcd_port;
static char *etcd_dir;

uint16_t free_port(void)
{
    uint16_t port = 0;

    close(listen_loopback(&port));
    return port;
}

static void die_with_parent(gpointer data)
{
    (void)data;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void etcd_start(void)
{
    g_autofree char *client = g_strdup_printf("https://127.0.0.1:%u", etcd_port);
    g_autofree char *peer = g_strdup_printf("http://127.0.0.1:%u", free_port());
    g_autofree char *cluster = g_strdup_printf("default=%s", peer);
    g_autofree char *ca = pki_path("ca-cert.pem");
    g_autofree char *cert = pki_path("etcd-cert.pem");
    g_autofree char *key = pki_path("etcd-key.pem");
    const char *argv[] = {"etcd",
                          "--data-dir",
                          etcd_dir,
                          "--log-level",
                          "error",
                          "--listen-client-urls",
                          client,
                          "--advertise-client-urls",
                          client,
                          "--listen-peer-urls",
                          peer,
                          "--initial-advertise-peer-urls",
                          peer,
                          "--initial-cluster",
                          cluster,
                          "--client-cert-auth",
                          "--trusted-ca-file",
                          ca,
                          "--cert-file",
                          cert,
                          "--key-file",
                          key,
                          NULL};
    g_autoptr(GError) error = NULL;

    g_spawn_async(NULL, (char **)argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL |
                      G_SPAWN_STDERR_TO_DEV_NULL,
                  die_with_parent, NULL, &etcd_pid, &error);
    g_assert_no_error(error);
}

void etcd_kill(void)
{
    kill(etcd_pid, SIGKILL);
    waitpid(etcd_pid, NULL, 0);
    etcd_pid = 0;
}

ColoArbiter *arbiter_at(uint16_t port, const char *name, const char *ca, unsigned timeout_ms)
{
    g_autofree char *url = g_strdup_printf("https://127.0.0.1:%u", port);
    const char *endpoints[] = {url, NULL};
    g_autofree char *ca_file = g_strdup_printf("%s/%s-cert.pem", pki_dir, ca);
    g_autofree char *cert = g_strdup_printf("%s/%s-cert.pem", pki_dir, name ? name : "");
    g_autofree char *key = g_strdup_printf("%s/%s-key.pem", pki_dir, name ? name : "");
    ColoArbiterConfig config = {
        .kind = COLO_ARBITER_ETCD,
        .endpoints = (char **)endpoints,
        .ca_file = ca_file,
        .cert_file = name ? cert : NULL,
        .key_file = name ? key : NULL,
        .timeout_ms = timeout_ms,
        .allow_plaintext = !name, /* lets the certificate be absent */
    };
    g_autoptr(GError) error = NULL;
    ColoArbiter *arbiter = colo_arbiter_new(&config, &error);

    g_assert_no_error(error);
    return arbiter;
}

ColoArbiter *direct(void)
{
    return arbiter_at(etcd_port, "alpha-client", "ca", 5000);
}

void wait_for_etcd(void)
{
    g_autoptr(ColoArbiter) arbiter = arbiter_at(etcd_port, "alpha-client", "ca", 500);
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    g_autoptr(GError) error = NULL;

    while (!colo_arbiter_probe(arbiter, &error)) {
        if (g_get_monotonic_time() > end)
            g_error("etcd does not answer: %s", error->message);
        g_clear_error(&error);
        g_usleep(50 * 1000);
    }
}

gboolean have_etcd(void)
{
    if (etcd_pid)
        return TRUE;
    g_test_skip("etcd is not installed (Debian: etcd-server)");
    return FALSE;
}

ColoRegister *must_read(ColoArbiter *arbiter, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    ColoRegister *reg = NULL;

    g_assert_cmpint(colo_arbiter_read(arbiter, uuid, &reg, &error), ==, COLO_ARBITER_FOUND);
    g_assert_no_error(error);
    return reg;
}

static gboolean register_moved(Proxy *proxy)
{
    g_autoptr(ColoArbiter) arbiter = direct();
    g_autoptr(ColoRegister) reg = must_read(arbiter, proxy->uuid);

    return reg->generation > proxy->n;
}

/* Bytes of the client; FALSE: they end here. */
static gboolean from_client(Proxy *proxy, int near, int far, gboolean replied)
{
    char buffer[16384];
    ssize_t n = read(near, buffer, sizeof(buffer));
    Fault fault = (Fault)g_atomic_int_get(&proxy->fault);

    if (n <= 0)
        return FALSE;
    if (fault == LOSE_REQUEST && replied) {
        g_atomic_int_set(&proxy->hit, 1);
        return TRUE;
    }
    if (fault == STOP_SERVER && replied) {
        if (!g_atomic_int_get(&proxy->hit)) {
            kill(etcd_pid, SIGSTOP);
            waitpid(etcd_pid, NULL, WUNTRACED); /* it takes effect a moment later */
        }
        g_atomic_int_set(&proxy->hit, 1);
        /* The client's closing alert (24 bytes in TLS 1.3) would make etcd, once it goes on, cancel
         * the request now and then. */
        if (n == 24)
            return TRUE;
    }
    return write(far, buffer, (size_t)n) == n;
}

static gboolean from_server(Proxy *proxy, int near, int far)
{
    char buffer[16384];
    ssize_t n = read(far, buffer, sizeof(buffer));

    if (n <= 0)
        return FALSE;
    if (g_atomic_int_get(&proxy->fault) == LOSE_REPLY && register_moved(proxy)) {
        g_atomic_int_set(&proxy->hit, 1);
        return FALSE;
    }
    return near < 0 || write(near, buffer, (size_t)n) == n;
}

static void serve_one(Proxy *proxy, int near)
{
    int far = connect_to(etcd_port);
    gboolean replied = FALSE; /* since the fault was armed */
    gboolean client_gone = FALSE;

    while (!g_atomic_int_get(&proxy->quit)) {
        struct pollfd p[2] = {{.fd = client_gone ? -1 : near, .events = POLLIN},
                              {.fd = far, .events = POLLIN}};
        bool is_armed;

        if (poll(p, 2, 20) <= 0)
            continue;
        /* Before anything is read: a reply that the client has already seen when it armed the fault
         * was read here before. */
        is_armed = g_atomic_int_get(&proxy->fault) != PASS;
        if (p[0].revents && !from_client(proxy, near, far, replied)) {
            /* The stopped server must find the connection open, or it drops the request. */
            if (g_atomic_int_get(&proxy->fault) != STOP_SERVER)
                break;
            client_gone = TRUE;
        }
        if (p[1].revents && !from_server(proxy, client_gone ? -1 : near, far))
            break;
        if (p[1].revents && is_armed)
            replied = TRUE;
    }
    close(near);
    close(far);
}

static gpointer proxy_main(gpointer data)
{
    Proxy *proxy = data;

    while (!g_atomic_int_get(&proxy->quit)) {
        struct pollfd p = {.fd = proxy->listen_fd, .events = POLLIN};

        if (poll(&p, 1, 20) == 1)
            serve_one(proxy, accept(proxy->listen_fd, NULL, NULL));
    }
    return NULL;
}

void proxy_start(Proxy *proxy, const char *uuid, uint64_t n)
{
    memset(proxy, 0, sizeof(*proxy));
    signal(SIGPIPE, SIG_IGN);
    proxy->listen_fd = listen_loopback(&proxy->port);
    proxy->uuid = g_strdup(uuid);
    proxy->n = n;
    proxy->thread = g_thread_new("proxy", proxy_main, proxy);
}

void proxy_end(Proxy *proxy)
{
    g_atomic_int_set(&proxy->quit, 1);
    g_thread_join(proxy->thread);
    close(proxy->listen_fd);
    g_free(proxy->uuid);
}

ColoArbiter *armed(Proxy *proxy, Fault fault, const char *uuid)
{
    ColoArbiter *arbiter = arbiter_at(proxy->port, "beta-client", "ca", 1000);
    g_autoptr(ColoRegister) reg = must_read(arbiter, uuid);

    g_atomic_int_set(&proxy->fault, (gint)fault);
    return arbiter;
}

static void remove_tree(const char *dir)
{
    const char *argv[] = {"rm", "-rf", "--", dir, NULL};

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
}

void etcd_setup(void)
{
    g_autofree char *etcd = g_find_program_in_path("etcd");

    if (!etcd)
        return;
    /* etcd's gateway is a client of its own server: it shows this certificate there. */
    pki_issue("ca", "etcd",
              "cn = \"etcd\"\nip_address = 127.0.0.1\ntls_www_server\ntls_www_client\n"
              "signing_key\nexpiration_days = 30\n");
    etcd_dir = g_dir_make_tmp("colo-etcd-XXXXXX", NULL);
    etcd_port = free_port();
    etcd_start();
    wait_for_etcd();
}

void etcd_teardown(void)
{
    if (etcd_pid)
        etcd_kill();
    if (etcd_dir)
        remove_tree(etcd_dir);
    g_clear_pointer(&etcd_dir, g_free);
}
