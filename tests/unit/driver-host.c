/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver-host.h"

#include "util/error.h"

#include <string.h>

/* The domain's UUID as the driver sees it. */
static gboolean knows(const DriverHost *host, const char *uuid_or_name)
{
    return host->state &&
           (host->any || strcmp(uuid_or_name, DRIVER_UUID) == 0 || strcmp(uuid_or_name, "ft") == 0);
}

static JsonObject *view(const char *uuid_or_name, void *opaque)
{
    const DriverHost *host = opaque;

    if (!knows(host, uuid_or_name))
        return NULL;
    return colo_json_build("name", "s", host->any ? uuid_or_name : "ft", "uuid", "s",
                           host->any ? uuid_or_name : DRIVER_UUID, "state", "s", host->state,
                           "role", "s", host->role, "peer", "s", "192.0.2.2", "peer-host", "s",
                           "host2", "pair", "s", "ab", "auto-reprotect", "b", host->auto_reprotect,
                           "autostart", "b", host->autostart, NULL);
}

static JsonObject *command(const char *name, JsonObject *args, void *opaque, GError **error)
{
    DriverHost *host = opaque;
    g_autofree char *text = colo_json_to_string(args);

    g_free(host->command);
    host->command = g_strconcat(name, " ", text, NULL);
    if (strcmp(name, "colo-checkpoint") == 0) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID, "not now");
        return NULL;
    }
    if (strcmp(name, "colo-list") == 0) {
        JsonObject *list = json_object_new_array();

        json_object_array_add(list, colo_json_build("uuid", "s", DRIVER_UUID, NULL));
        return colo_json_build("domains", "o", list, NULL);
    }
    return colo_json_build("state", "s", "protected", "pause-ms", "o",
                           colo_json_build("max", "u", (uint64_t)7, NULL), NULL);
}

static JsonObject *figures(const char *uuid, void *opaque)
{
    g_assert_true(knows(opaque, uuid));
    return colo_json_build("held-bytes", "u", (uint64_t)4096, "gate", "s", "paired",
                           "pause-histogram", "o",
                           colo_json_build("le-8-ms", "u", (uint64_t)5, NULL), "counters", "o",
                           colo_json_build("diverged-syn", "u", (uint64_t)12, NULL), NULL);
}

static JsonObject *pairs(void *opaque G_GNUC_UNUSED)
{
    JsonObject *list = json_object_new_array();

    json_object_array_add(
        list, colo_json_build("name", "s", "ab", "peer", "s", "<host2>", "state", "s", "up", NULL));
    return colo_json_build("pairs", "o", list, NULL);
}

static gboolean hold(const char *uuid, const char *call, void *opaque, GError **error)
{
    DriverHost *host = opaque;

    g_assert_true(knows(opaque, uuid));
    g_assert_null(host->held);
    if (host->hold_fails) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID, "not interrupted");
        return FALSE;
    }
    host->held = g_strdup(call);
    host->state = "alone";
    return TRUE;
}

static void release(const char *uuid, void *opaque)
{
    DriverHost *host = opaque;

    g_assert_true(knows(opaque, uuid));
    g_assert_nonnull(host->held);
    g_clear_pointer(&host->held, g_free);
}

static gboolean set_autostart(const char *uuid, gboolean on, void *opaque,
                              GError **error G_GNUC_UNUSED)
{
    DriverHost *host = opaque;

    g_assert_true(knows(opaque, uuid));
    host->autostart = on;
    return TRUE;
}

static char *migratable_xml(const char *uuid, void *opaque, GError **error G_GNUC_UNUSED)
{
    g_assert_true(knows(opaque, uuid));
    return g_strdup("<domain><name>ft</name></domain>");
}

static int domain_id(const char *uuid G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    return 7;
}

ColoDriver *driver_host_new_driver(DriverHost *host)
{
    return colo_driver_new("host1", &(ColoDriverHost){.view = view,
                                                      .pairs = pairs,
                                                      .command = command,
                                                      .figures = figures,
                                                      .hold = hold,
                                                      .release = release,
                                                      .set_autostart = set_autostart,
                                                      .migratable_xml = migratable_xml,
                                                      .domain_id = domain_id,
                                                      .opaque = host});
}

void driver_host_clear(DriverHost *host)
{
    g_free(host->command);
    g_free(host->held);
}
