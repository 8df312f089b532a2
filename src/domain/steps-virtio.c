/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/steps-virtio.h"

#include "domain/qmp.h"

#include <string.h>

#define PERIPHERAL "/machine/peripheral/"

/* Or the whole path, as x-query-virtio says it. */
static char *alias_in(const char *path)
{
    const char *name = path;

    if (!g_str_has_prefix(path, PERIPHERAL))
        return g_strdup(path);
    name += strlen(PERIPHERAL);
    return g_strndup(name, strcspn(name, "/"));
}

gboolean colo_steps_virtio_broken(virDomainPtr dom, gboolean *broken, char **alias, GError **error)
{
    g_autoptr(JsonObject) list = colo_qmp(dom, "x-query-virtio", NULL, -1, error);

    *broken = FALSE;
    *alias = NULL;
    if (!list)
        return FALSE;
    for (size_t i = 0; !*broken && json_object_is_type(list, json_type_array) &&
                       i < json_object_array_length(list);
         i++) {
        JsonObject *device = json_object_array_get_idx(list, i);
        const char *path = colo_json_peek_string(device, "path", "");
        g_autoptr(JsonObject) status = colo_qmp(
            dom, "x-query-virtio-status", colo_json_build("path", "s", path, NULL), -1, error);

        if (!status)
            return FALSE;
        *broken = colo_json_peek_bool(status, "broken", FALSE);
        if (*broken)
            *alias = alias_in(path);
    }
    return TRUE;
}
