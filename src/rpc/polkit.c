/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/polkit.h"

#include "rpc/remote-calls.h"

/* virErrorNumber of libvirt/virterror.h: stable ABI. */
#define ERR_AUTH_FAILED 45
#define ERR_AUTH_CANCELLED 79
#define ERR_AUTH_UNAVAILABLE 94

/* CheckAuthorizationFlags of polkit's D-Bus interface. */
#define ALLOW_USER_INTERACTION 1u

typedef struct {
    ColoPolkitFunc func;
    void *opaque;
    ColoRpcCaller caller;
    char *action;
    GCancellable *cancellable;
} Check;

static void finish(Check *check, int code, const char *message)
{
    check->func(code, message, check->opaque);
    g_clear_object(&check->cancellable);
    g_free(check->action);
    g_free(check);
}

static void on_answer(GObject *bus, GAsyncResult *result, gpointer data)
{
    Check *check = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) reply =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(bus), result, &error);
    g_autoptr(GVariant) details = NULL;
    g_autofree char *message = NULL;
    gboolean authorized, challenge;
    const char *dismissed;

    if (!reply) {
        message =
            g_strdup_printf("authentication failed: polkit does not answer: %s", error->message);
        finish(check, ERR_AUTH_FAILED, message);
        return;
    }
    g_variant_get(reply, "((bb@a{ss}))", &authorized, &challenge, &details);
    if (authorized) {
        finish(check, 0, NULL);
    } else if (g_variant_lookup(details, "polkit.dismissed", "&s", &dismissed) &&
               g_str_equal(dismissed, "true")) {
        finish(check, ERR_AUTH_CANCELLED,
               "authentication cancelled: user cancelled authentication process");
    } else if (challenge) {
        message = g_strdup_printf("authentication unavailable: no polkit agent available to "
                                  "authenticate action '%s'",
                                  check->action);
        finish(check, ERR_AUTH_UNAVAILABLE, message);
    } else {
        finish(check, ERR_AUTH_FAILED, "authentication failed: access denied by policy");
    }
}

static void on_bus(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer data)
{
    Check *check = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) bus = g_bus_get_finish(result, &error);
    uint64_t start = colo_remote_start_time(check->caller.pid);
    GVariantBuilder process;

    if (!bus || start == 0) {
        g_autofree char *message = g_strdup_printf("authentication failed: %s",
                                                   bus ? "the client is gone" : error->message);

        finish(check, ERR_AUTH_FAILED, message);
        return;
    }
    /* A bus that is restarted would take us along. */
    g_dbus_connection_set_exit_on_close(bus, FALSE);
    g_variant_builder_init(&process, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&process, "{sv}", "pid",
                          g_variant_new_uint32((guint32)check->caller.pid));
    g_variant_builder_add(&process, "{sv}", "start-time", g_variant_new_uint64(start));
    g_variant_builder_add(&process, "{sv}", "uid", g_variant_new_int32((gint32)check->caller.uid));
    g_dbus_connection_call(bus, "org.freedesktop.PolicyKit1",
                           "/org/freedesktop/PolicyKit1/Authority",
                           "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization",
                           g_variant_new("((sa{sv})sa{ss}us)", "unix-process", &process,
                                         check->action, NULL, ALLOW_USER_INTERACTION, ""),
                           G_VARIANT_TYPE("((bba{ss}))"), G_DBUS_CALL_FLAGS_NONE, G_MAXINT,
                           check->cancellable, on_answer, check);
}

void colo_polkit_check(const ColoRpcCaller *caller, const char *action, GCancellable *cancellable,
                       ColoPolkitFunc func, void *opaque)
{
    Check *check = g_new0(Check, 1);

    check->func = func;
    check->opaque = opaque;
    check->caller = *caller;
    check->action = g_strdup(action);
    check->cancellable = g_object_ref(cancellable);
    g_bus_get(G_BUS_TYPE_SYSTEM, cancellable, on_bus, check);
}
