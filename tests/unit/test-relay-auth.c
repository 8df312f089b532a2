/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clients about whom polkit decides: what they hear, and that libvirt hears nothing of them before.
 * polkit is the test itself, on a bus of its own: the real one would have to be told who may.
 */
#include "relay-fixture.h"
#include "rpc/relay-auth.h"
#include "util/bytes.h"

#include <gio/gio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char authority_xml[] =
    "<node><interface name='org.freedesktop.PolicyKit1.Authority'>"
    "<method name='CheckAuthorization'>"
    "<arg type='(sa{sv})' direction='in'/><arg type='s' direction='in'/>"
    "<arg type='a{ss}' direction='in'/><arg type='u' direction='in'/>"
    "<arg type='s' direction='in'/><arg type='(bba{ss})' direction='out'/>"
    "</method></interface></node>";

static struct {
    GMutex lock;
    gboolean authorized, challenge, dismissed, silent;
    char *action; /* that was asked about last */
    guint32 pid;
    guint64 start_time;
    gint32 uid;
} policy;

static void on_call(GDBusConnection *bus G_GNUC_UNUSED, const gchar *sender G_GNUC_UNUSED,
                    const gchar *path G_GNUC_UNUSED, const gchar *interface G_GNUC_UNUSED,
                    const gchar *method G_GNUC_UNUSED, GVariant *args,
                    GDBusMethodInvocation *invocation, gpointer data G_GNUC_UNUSED)
{
    g_autoptr(GVariant) process = NULL, details = NULL;
    GVariantBuilder answer;
    const char *kind, *action, *cancel;
    guint32 flags;

    g_variant_get(args, "((&s@a{sv})&s@a{ss}u&s)", &kind, &process, &action, &details, &flags,
                  &cancel);
    g_assert_cmpstr(kind, ==, "unix-process");
    g_mutex_lock(&policy.lock);
    g_free(policy.action);
    policy.action = g_strdup(action);
    g_variant_lookup(process, "pid", "u", &policy.pid);
    g_variant_lookup(process, "start-time", "t", &policy.start_time);
    g_variant_lookup(process, "uid", "i", &policy.uid);
    g_variant_builder_init(&answer, G_VARIANT_TYPE("a{ss}"));
    if (policy.dismissed)
        g_variant_builder_add(&answer, "{ss}", "polkit.dismissed", "true");
    if (policy.silent)
        g_object_unref(invocation);
    else
        g_dbus_method_invocation_return_value(
            invocation, g_variant_new("((bba{ss}))", policy.authorized, policy.challenge, &answer));
    g_mutex_unlock(&policy.lock);
}

/* polkit's thread. */
static gpointer authority(gpointer data)
{
    static const GDBusInterfaceVTable table = {.method_call = on_call};
    g_autoptr(GMainContext) context = g_main_context_new();
    g_autoptr(GDBusConnection) bus = NULL;
    g_autoptr(GDBusNodeInfo) node = g_dbus_node_info_new_for_xml(authority_xml, NULL);
    g_autoptr(GVariant) owned = NULL;
    g_autoptr(GError) error = NULL;

    g_main_context_push_thread_default(context);
    bus = g_dbus_connection_new_for_address_sync(g_getenv("DBUS_SYSTEM_BUS_ADDRESS"),
                                                 G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                     G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                                 NULL, NULL, &error);
    g_assert_no_error(error);
    g_dbus_connection_register_object(bus, "/org/freedesktop/PolicyKit1/Authority",
                                      node->interfaces[0], &table, NULL, NULL, &error);
    g_assert_no_error(error);
    owned = g_dbus_connection_call_sync(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                        "org.freedesktop.DBus", "RequestName",
                                        g_variant_new("(su)", "org.freedesktop.PolicyKit1", 0u),
                                        NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
    g_assert_no_error(error);
    g_atomic_int_set((gint *)data, TRUE);
    for (;;)
        g_main_context_iteration(context, TRUE);
    return NULL;
}

/* The client is root: whether polkit decides about it is set by hand. */
static void setup(RelayFixture *f, gconstpointer readonly G_GNUC_UNUSED)
{
    ColoRpcCaller caller = {.pid = getpid(), .uid = getuid(), .gid = getgid(), .polkit = TRUE};
    int pair[2];

    relay_setup(f, NULL, TRUE);
    close(f->client);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    f->client = pair[0];
    colo_rpc_server_adopt(f->server, pair[1], &caller);
    g_mutex_lock(&policy.lock);
    policy.authorized = policy.challenge = policy.dismissed = policy.silent = FALSE;
    g_clear_pointer(&policy.action, g_free);
    g_mutex_unlock(&policy.lock);
}

static ColoRpcFrame *ask(RelayFixture *f, uint32_t procedure, uint32_t serial)
{
    relay_say(f->client, COLO_REMOTE_PROGRAM, procedure, COLO_RPC_CALL, serial, NULL, 0);
    return relay_hear(f->client, f->client_reader);
}

static void accept_libvirt(RelayFixture *f)
{
    g_assert_true(relay_readable(f->libvirt, RELAY_WAIT_MS));
    f->upstream = accept(f->libvirt, NULL, NULL);
}

static void test_let_in(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) types = NULL, too_early = NULL, complete = NULL, list = NULL;
    g_autoptr(ColoRpcFrame) passed = NULL;

    policy.authorized = TRUE;
    accept_libvirt(f);
    types = ask(f, COLO_REMOTE_PROC_AUTH_LIST, 1);
    g_assert_cmpuint(types->len, ==, 8);
    g_assert_cmpuint(colo_get32(types->body), ==, 1);
    g_assert_cmpuint(colo_get32(types->body + 4), ==, 2); /* REMOTE_AUTH_POLKIT */
    too_early = ask(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2);
    g_assert_cmpuint(too_early->header.status, ==, COLO_RPC_ERROR);
    g_assert_true(relay_holds(too_early, "authentication required"));
    complete = ask(f, COLO_REMOTE_PROC_AUTH_POLKIT, 3);
    g_assert_cmpuint(complete->header.status, ==, COLO_RPC_OK);
    g_assert_cmpuint(colo_get32(complete->body), ==, 1);
    g_mutex_lock(&policy.lock);
    g_assert_cmpstr(policy.action, ==, "org.libvirt.unix.manage");
    g_assert_cmpuint(policy.pid, ==, getpid());
    g_assert_cmpint(policy.uid, ==, (gint)getuid());
    g_assert_cmpuint(policy.start_time, ==, colo_remote_start_time(getpid()));
    g_mutex_unlock(&policy.lock);
    /* libvirt has to let us in, and hears the client from here on; its answer is not the client's.
     */
    list = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(list->header.procedure, ==, COLO_REMOTE_PROC_AUTH_LIST);
    relay_reply(f, COLO_REMOTE_PROC_AUTH_LIST, list->header.serial, COLO_RPC_OK);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 60, COLO_RPC_CALL, 4, NULL, 0);
    passed = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 60);
    g_assert_false(relay_readable(f->client, RELAY_QUIET_MS));
}

/* It is refused, in libvirt's words, and may ask again. */
static void assert_refused(RelayFixture *f, uint32_t code, const char *words)
{
    for (uint32_t i = 0; i < 2; i++) {
        g_autoptr(ColoRpcFrame) answer = ask(f, COLO_REMOTE_PROC_AUTH_POLKIT, 3 + i);

        g_assert_cmpuint(answer->header.status, ==, COLO_RPC_ERROR);
        g_assert_cmpuint(colo_get32(answer->body), ==, code);
        g_assert_true(relay_holds(answer, words));
    }
    accept_libvirt(f);
    g_assert_false(relay_readable(f->upstream, RELAY_QUIET_MS));
}

static void test_denied(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    assert_refused(f, 45, "access denied by policy");
}

static void test_no_agent(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    policy.challenge = TRUE;
    assert_refused(f, 94,
                   "no polkit agent available to authenticate action "
                   "'org.libvirt.unix.manage'");
}

static void test_dismissed(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    policy.challenge = policy.dismissed = TRUE;
    assert_refused(f, 79, "user cancelled");
}

/* A user who does not answer: what the client says meanwhile waits, and it may go. */
static void test_leaves_while_asked(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    policy.silent = TRUE;
    accept_libvirt(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_AUTH_POLKIT, COLO_RPC_CALL, 3, NULL,
              0);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 60, COLO_RPC_CALL, 4, NULL, 0);
    g_assert_false(relay_readable(f->client, RELAY_QUIET_MS));
    g_assert_false(relay_readable(f->upstream, 0));
}

/* Streams, keepalives and FDs are for those who are in. */
static void test_only_calls(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    accept_libvirt(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 60, COLO_RPC_STREAM, 4, NULL, 0);
    relay_assert_closed(f->client);
    relay_assert_closed(f->upstream);
}

int main(int argc, char **argv)
{
    g_autoptr(GTestDBus) bus = g_test_dbus_new(G_TEST_DBUS_NONE);
    gint ready = FALSE;
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_dbus_up(bus);
    g_setenv("DBUS_SYSTEM_BUS_ADDRESS", g_test_dbus_get_bus_address(bus), TRUE);
    g_thread_unref(g_thread_new("polkit", authority, &ready));
    while (!g_atomic_int_get(&ready))
        g_usleep(1000);
#define ADD(name, function) \
    g_test_add("/relay-auth/" name, RelayFixture, NULL, setup, function, relay_teardown)
    ADD("let-in", test_let_in);
    ADD("denied", test_denied);
    ADD("no-agent", test_no_agent);
    ADD("dismissed", test_dismissed);
    ADD("leaves-while-asked", test_leaves_while_asked);
    ADD("only-calls", test_only_calls);
    rc = g_test_run();
    g_test_dbus_stop(bus);
    return rc;
}
