/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/pool-map.h"

#include "domain/xml-util.h"
#include "util/error.h"

#include <limits.h>
#include <string.h>

gboolean colo_pool_map_valid_name(const char *what, const char *name, GError **error)
{
    gboolean ok = *name && strlen(name) <= NAME_MAX && !strchr(name, '/') &&
                  strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
                  g_utf8_validate(name, -1, NULL);

    for (const char *p = name; ok && *p; p++)
        ok = !g_ascii_iscntrl(*p);
    if (!ok) {
        g_autofree char *shown = g_strescape(name, NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "'%.256s' is not the name of a %s",
                    shown, what);
    }
    return ok;
}

/* The key of @map whose value is @there, or NULL. Borrowed. */
static const char *key_of(JsonObject *map, const char *there)
{
    json_object_object_foreach(map, here, value)
    {
        if (g_strcmp0(json_object_get_string(value), there) == 0)
            return here;
    }
    return NULL;
}

static gboolean add_entry(JsonObject *map, const char *entry, GError **error)
{
    g_auto(GStrv) sides = g_strsplit(entry, "=", -1);

    if (g_strv_length(sides) != 2) {
        g_autofree char *shown = g_strescape(entry, NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "pool map: expected POOL=PEER-POOL, found '%.256s'", shown);
        return FALSE;
    }
    if (!colo_pool_map_valid_name("storage pool", sides[0], error) ||
        !colo_pool_map_valid_name("storage pool", sides[1], error)) {
        g_prefix_error(error, "pool map: ");
        return FALSE;
    }
    if (colo_json_peek(map, sides[0])) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "pool map: storage pool '%s' is named twice on the left: give it one pool of "
                    "the peer",
                    sides[0]);
        return FALSE;
    }
    if (key_of(map, sides[1])) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "pool map: '%s' and '%s' both go to storage pool '%s': a copy could not be led "
                    "back; give each a pool of its own there",
                    key_of(map, sides[1]), sides[0], sides[1]);
        return FALSE;
    }
    colo_json_add(map, sides[0], "s", sides[1], NULL);
    return TRUE;
}

JsonObject *colo_pool_map_parse(const char *text, GError **error)
{
    g_auto(GStrv) entries = g_strsplit(text ? text : "", ",", -1);
    g_autoptr(JsonObject) map = json_object_new_object();

    if (g_strv_length(entries) > COLO_POOL_MAP_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "pool map: more than %u pools",
                    COLO_POOL_MAP_MAX);
        return NULL;
    }
    for (char **entry = entries; *entry; entry++) {
        if (!add_entry(map, *entry, error))
            return NULL;
    }
    return g_steal_pointer(&map);
}

char *colo_pool_map_to_text(JsonObject *map, gboolean inverse)
{
    g_autoptr(GString) text = g_string_new(NULL);

    json_object_object_foreach(map, here, value)
    {
        const char *there = json_object_get_string(value);

        g_string_append_printf(text, "%s%s=%s", text->len ? "," : "", inverse ? there : here,
                               inverse ? here : there);
    }
    return text->len ? g_strdup(text->str) : NULL;
}

char *colo_pool_map_directory(virStoragePoolPtr pool, char **type)
{
    char *xml = virStoragePoolGetXMLDesc(pool, 0);
    g_autoptr(ColoXmlDoc) doc = xml ? colo_xml_parse(xml, "pool", NULL) : NULL;
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

    free(xml);
    if (type)
        *type = colo_xml_attr(root, "type");
    return colo_xml_text(colo_xml_find(root, "target/path"));
}

/* The key of @map that is the pool of this host, active or not, whose directory holds @path; or
 * NULL. Borrowed. */
static const char *pool_of(virConnectPtr conn, JsonObject *map, const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);

    json_object_object_foreach(map, here, value)
    {
        virStoragePoolPtr pool = virStoragePoolLookupByName(conn, here);
        g_autofree char *directory = pool ? colo_pool_map_directory(pool, NULL) : NULL;

        (void)value;
        if (pool)
            virStoragePoolFree(pool);
        if (g_strcmp0(directory, folder) == 0)
            return here;
    }
    return NULL;
}

gboolean colo_pool_map_check(virConnectPtr conn, JsonObject *map, const char *host, GError **error)
{
    json_object_object_foreach(map, here, value)
    {
        virStoragePoolPtr pool = virStoragePoolLookupByName(conn, here);

        if (!pool) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                        "there is no storage pool '%s' on %s, which the pair's pool map gives to "
                        "'%s' of the peer: define it, or undefine the pair and define it again "
                        "with another --pool-map",
                        here, host, json_object_get_string(value));
            return FALSE;
        }
        virStoragePoolFree(pool);
    }
    return TRUE;
}

void colo_pool_map_add_place(virConnectPtr conn, JsonObject *map, const char *path,
                             JsonObject *disk)
{
    const char *from = pool_of(conn, map, path);
    g_autofree char *volume = g_path_get_basename(path);

    if (from)
        colo_json_add(disk, "from", "s", from, "pool", "s", colo_json_peek_string(map, from, ""),
                      "volume", "s", volume, NULL);
}

virStoragePoolPtr colo_pool_map_lookup(virConnectPtr conn, const char *name, const char *target,
                                       const char *host, GError **error)
{
    virStoragePoolPtr pool = virStoragePoolLookupByName(conn, name);

    if (!pool)
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: there is no storage pool '%s' on %s: define it there ('virsh "
                    "pool-define-as %s dir --target DIRECTORY'), or undefine the pair and define "
                    "it again with another --pool-map",
                    target, name, host, name);
    return pool;
}

gboolean colo_pool_map_leads_back(virConnectPtr conn, JsonObject *map, const char *target,
                                  const char *path, const char *from, GError **error)
{
    const char *here = pool_of(conn, map, path);
    const char *back = here ? colo_json_peek_string(map, here, NULL) : NULL;

    if (from && !colo_pool_map_valid_name("storage pool", from, error))
        return FALSE;
    if (g_strcmp0(back, from) == 0)
        return TRUE;
    if (back)
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: %s lies in storage pool '%s', which the pair's pool map keeps for "
                    "copies from '%s': undefine the pair and define it again with every pool of "
                    "the domain's disks in --pool-map",
                    target, path, here, back);
    else
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: the peer takes %s for a copy from its storage pool '%s', this host's "
                    "pool map does not: undefine the pair on both hosts and define it again",
                    target, path, from);
    return FALSE;
}

char *colo_pool_map_resolve(virConnectPtr conn, JsonObject *map, const char *host, JsonObject *disk,
                            GError **error)
{
    const char *target = colo_json_peek_string(disk, "target", "");
    const char *name, *volume;
    g_autofree char *path = NULL;

    if (!colo_json_peek(disk, "pool")) {
        path = g_strdup(colo_json_peek_string(disk, "copy", ""));
    } else {
        g_autofree char *directory = NULL;
        virStoragePoolPtr pool;

        if (!colo_json_get_string(disk, "pool", &name, error) ||
            !colo_json_get_string(disk, "volume", &volume, error) ||
            !colo_pool_map_valid_name("storage pool", name, error) ||
            !colo_pool_map_valid_name("volume", volume, error))
            return NULL;
        pool = colo_pool_map_lookup(conn, name, target, host, error);
        if (!pool)
            return NULL;
        directory = colo_pool_map_directory(pool, NULL);
        virStoragePoolFree(pool);
        if (!directory) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                        "disk %s: storage pool '%s' of %s has no path", target, name, host);
            return NULL;
        }
        path = g_build_filename(directory, volume, NULL);
    }
    return colo_pool_map_leads_back(conn, map, target, path,
                                    colo_json_peek_string(disk, "from", NULL), error)
               ? g_steal_pointer(&path)
               : NULL;
}
