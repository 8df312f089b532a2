/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-prepare: makes what a protection of a domain needs and does not make itself.
 *
 *   colo_prepare()       on the host of the domain: asks the peer for a copy of every disk, checks
 *                        the files that both hosts need, repairs vhost NICs of the persistent XML
 *   colo_prepare_copy()  on the peer: makes one copy through libvirt's storage API, or says why not
 *
 * Request "prepare-copy", as host-command of the control channel; either
 *   {"target": "vda", "format": "raw"|"qcow2", "size": BYTES, "check": BOOL,
 *    "path": "/dir/file"  or  "pool": "name", "volume": "file"}
 *     -> {"path": "/dir/file", "created": BOOL, "action": text for people}
 *   {"files": ["/path", ...]} -> {"missing": ["/path", ...]}
 * With "check" nothing is made: the answer is what would be done, so that a command that must fail
 * for one disk has changed nothing for another. Nothing that exists is ever written to.
 */
#include "domain/commands.h"
#include "domain/eligibility.h"
#include "domain/secondary-xml.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CONN_TIMEOUT_MS 5000u
#define CHANNEL_UP_TIMEOUT_MS 2000u
#define MAX_FILES 64u
#define MAX_DISK_BYTES (1ull << 60)
#define SECTOR 512u

/* ---- the peer's side ---- */

typedef struct {
    const char *target, *format;
    const char *path;         /* or NULL and ... */
    const char *pool, *volume; /* ... these */
    uint64_t size;
    gboolean check;
} CopyRequest;

/* A path that a peer may name: absolute, normal, no control characters. */
static gboolean valid_path(const char *path, GError **error)
{
    g_auto(GStrv) parts = NULL;
    gboolean ok = path[0] == '/' && path[1] && strlen(path) < PATH_MAX &&
                  g_utf8_validate(path, -1, NULL);

    parts = g_strsplit(ok ? path + 1 : "", "/", -1);
    for (char **p = parts; ok && *p; p++)
        ok = **p && strcmp(*p, ".") != 0 && strcmp(*p, "..") != 0;
    for (const char *p = path; ok && *p; p++)
        ok = !g_ascii_iscntrl(*p);
    if (!ok) {
        g_autofree char *shown = g_strescape(path, NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "'%.256s' is not a plain absolute path (no '.', '..', '//' or control "
                    "characters)",
                    shown);
    }
    return ok;
}

/* Name of a pool or volume: one path component. */
static gboolean valid_name(const char *what, const char *name, GError **error)
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

static gboolean read_request(JsonObject *args, CopyRequest *r, GError **error)
{
    memset(r, 0, sizeof(*r));
    r->target = colo_json_peek_string(args, "target", "");
    r->check = colo_json_peek_bool(args, "check", FALSE);
    if (!valid_name("disk", r->target, error) ||
        !colo_json_get_string(args, "format", &r->format, error) ||
        !colo_json_get_uint(args, "size", &r->size, error))
        return FALSE;
    if (strcmp(r->format, "raw") != 0 && strcmp(r->format, "qcow2") != 0) {
        g_autofree char *shown = g_strescape(r->format, NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "disk %s: format '%.64s' is not known: raw or qcow2", r->target, shown);
        return FALSE;
    }
    if (r->size == 0 || r->size > MAX_DISK_BYTES || r->size % SECTOR != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "disk %s: size %" G_GUINT64_FORMAT " is no multiple of %u bytes above 0",
                    r->target, r->size, SECTOR);
        return FALSE;
    }
    if (colo_json_peek(args, "pool"))
        return colo_json_get_string(args, "pool", &r->pool, error) &&
               colo_json_get_string(args, "volume", &r->volume, error) &&
               valid_name("storage pool", r->pool, error) &&
               valid_name("volume", r->volume, error);
    return colo_json_get_string(args, "path", &r->path, error) && valid_path(r->path, error);
}

static gboolean is_network_filesystem(int fd)
{
    static const long types[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, 0xff534d42 /* CIFS */,
                                 0xfe534d42 /* SMB2 */, 0x00c36400 /* Ceph */,
                                 OCFS2_SUPER_MAGIC, 0x01161970 /* GFS2 */};
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return FALSE;
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if ((unsigned long)fs.f_type == (unsigned long)types[i])
            return TRUE;
    }
    return FALSE;
}

/* Reads header fields of QEMU's docs/interop/qcow2.txt; FALSE if @fd holds none. */
static gboolean read_qcow2(int fd, uint64_t *size, gboolean *backed)
{
    guint8 header[32];
    guint64 value;

    if (pread(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
        memcmp(header, "QFI\xfb", 4) != 0)
        return FALSE;
    memcpy(&value, header + 8, 8);
    *backed = value != 0;
    memcpy(&value, header + 24, 8);
    *size = GUINT64_FROM_BE(value);
    return TRUE;
}

/* @fd: what stands at @path. TRUE if it can be the copy as it is. */
static gboolean judge_existing(const CopyRequest *r, const char *path, int fd, const char *host,
                               GError **error)
{
    gboolean is_qcow2, backed = FALSE;
    uint64_t virtual_size = 0, size;
    struct stat st;

    if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: %s on %s is neither a file nor a block device", r->target, path,
                    host);
        return FALSE;
    }
    if (is_network_filesystem(fd)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: %s on %s lies on a network file system and may be the primary's own "
                    "disk: each host needs a copy on storage of its own",
                    r->target, path, host);
        return FALSE;
    }
    size = S_ISBLK(st.st_mode) ? (uint64_t)lseek(fd, 0, SEEK_END) : (uint64_t)st.st_size;
    is_qcow2 = read_qcow2(fd, &virtual_size, &backed);
    if (strcmp(r->format, "qcow2") == 0) {
        if (!is_qcow2 || backed) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                        "disk %s: %s on %s exists and is %s, a stand-alone qcow2 file is needed: "
                        "move it away and run colo-prepare again",
                        r->target, path, host,
                        is_qcow2 ? "a qcow2 file with a backing file" : "no qcow2 file");
            return FALSE;
        }
        size = virtual_size;
    }
    if (size != r->size) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: %s on %s exists with %" G_GUINT64_FORMAT
                    " bytes%s, the primary's disk has %" G_GUINT64_FORMAT
                    ": move it away and run colo-prepare again",
                    r->target, path, host, size,
                    strcmp(r->format, "raw") == 0 && is_qcow2 ? " (it looks like qcow2)" : "",
                    r->size);
        return FALSE;
    }
    return TRUE;
}

/* The pool that the copy goes to and @path of the copy. NULL with the remedy. */
static virStoragePoolPtr find_pool(virConnectPtr conn, const CopyRequest *r, const char *host,
                                   char **path, char **type, GError **error)
{
    g_autofree char *folder = r->path ? g_path_get_dirname(r->path) : NULL;
    virStoragePoolPtr pool = r->pool ? virStoragePoolLookupByName(conn, r->pool)
                                     : virStoragePoolLookupByTargetPath(conn, folder);
    g_autoptr(ColoXmlDoc) doc = NULL;
    g_autofree char *target = NULL;
    char *xml;

    if (!pool && r->pool) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: there is no storage pool '%s' on %s: define it there, or correct the "
                    "pair's pool map",
                    r->target, r->pool, host);
        return NULL;
    }
    if (!pool) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: no active storage pool of %s holds the directory %s: create one "
                    "there ('virsh pool-create-as NAME dir --target %s'), or map the pool to one "
                    "of the peer's",
                    r->target, host, folder, folder);
        return NULL;
    }
    xml = virStoragePoolGetXMLDesc(pool, 0);
    doc = xml ? colo_xml_parse(xml, "pool", NULL) : NULL;
    free(xml);
    if (doc) {
        *type = colo_xml_attr(xmlDocGetRootElement(doc), "type");
        target = colo_xml_text(colo_xml_find(xmlDocGetRootElement(doc), "target/path"));
    }
    if (virStoragePoolIsActive(pool) != 1 || !target || !*type) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: storage pool '%s' of %s is not active or has no path: run 'virsh "
                    "pool-start %s' there",
                    r->target, virStoragePoolGetName(pool), host, virStoragePoolGetName(pool));
        virStoragePoolFree(pool);
        return NULL;
    }
    *path = r->path ? g_strdup(r->path) : g_build_filename(target, r->volume, NULL);
    return pool;
}

static gboolean check_space(virStoragePoolPtr pool, const CopyRequest *r, const char *host,
                            GError **error)
{
    virStoragePoolInfo info;

    if (virStoragePoolGetInfo(pool, &info) < 0) {
        colo_virconn_set_error(error, "asking the storage pool for its space");
        return FALSE;
    }
    if (info.available >= r->size)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                "disk %s: storage pool '%s' of %s has %llu MiB free, the copy needs up to %"
                G_GUINT64_FORMAT " MiB: free space there, or map the pool to a larger one",
                r->target, virStoragePoolGetName(pool), host, info.available >> 20, r->size >> 20);
    return FALSE;
}

/* Makes the volume; a copy in a file is sparse. */
static gboolean create_volume(virStoragePoolPtr pool, const char *type, const CopyRequest *r,
                              const char *path, GError **error)
{
    g_autofree char *name = g_path_get_basename(path);
    gboolean file = strcmp(type, "logical") != 0 && strcmp(type, "disk") != 0;
    g_autofree char *target =
        file ? g_markup_printf_escaped("<allocation>0</allocation><target><format type='%s'/>"
                                       "<permissions><mode>0600</mode></permissions></target>",
                                       r->format)
             : g_strdup("");
    g_autofree char *volume =
        g_markup_printf_escaped("<volume><name>%s</name><capacity unit='bytes'>%" G_GUINT64_FORMAT
                                "</capacity>",
                                name, r->size);
    g_autofree char *xml = g_strconcat(volume, target, "</volume>", NULL);
    virStorageVolPtr vol;

    if (!file && strcmp(r->format, "raw") != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: storage pool '%s' is of type %s and holds raw volumes only, not %s",
                    r->target, virStoragePoolGetName(pool), type, r->format);
        return FALSE;
    }
    vol = virStorageVolCreateXML(pool, xml, 0);
    if (!vol) {
        g_autofree char *what = g_strdup_printf("disk %s: creating %s in storage pool '%s'",
                                                r->target, path, virStoragePoolGetName(pool));

        colo_virconn_set_error(error, what);
        return FALSE;
    }
    virStorageVolFree(vol);
    return TRUE;
}

static JsonObject *answer(const char *path, gboolean created, char *action)
{
    JsonObject *o = colo_json_build("path", "s", path, "created", "b", created, "action", "s",
                                    action, NULL);

    g_free(action);
    return o;
}

static JsonObject *make_in_pool(virConnectPtr conn, const CopyRequest *r, const char *host,
                                GError **error)
{
    g_autofree char *path = NULL, *type = NULL;
    virStoragePoolPtr pool = find_pool(conn, r, host, &path, &type, error);
    JsonObject *result = NULL;
    int fd;

    if (!pool)
        return NULL;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) {
        if (judge_existing(r, path, fd, host, error))
            result = answer(path, FALSE, g_strdup_printf("done already: %s copy %s of %"
                                                         G_GUINT64_FORMAT " bytes",
                                                         r->format, path, r->size));
        close(fd);
    } else if (errno != ENOENT) {
        colo_error_set_errno(error, errno, "disk %s: %s on %s", r->target, path, host);
    } else {
        /* Free space as it is now; a pool that runs a job cannot be refreshed and need not be. */
        virStoragePoolRefresh(pool, 0);
        if (check_space(pool, r, host, error) &&
            (r->check || create_volume(pool, type, r, path, error)))
            result = answer(path, !r->check,
                            g_strdup_printf("created %s copy %s of %" G_GUINT64_FORMAT
                                            " bytes in storage pool '%s'",
                                            r->format, path, r->size,
                                            virStoragePoolGetName(pool)));
    }
    virStoragePoolFree(pool);
    return result;
}

/* {"files": [...]}: which of them this host lacks. */
static JsonObject *missing_files(JsonObject *args, GError **error)
{
    JsonObject *files, *missing;

    if (!colo_json_get_array(args, "files", &files, error))
        return NULL;
    if (json_object_array_length(files) > MAX_FILES) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "more than %u files", MAX_FILES);
        return NULL;
    }
    missing = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(files); i++) {
        const char *path = json_object_get_string(json_object_array_get_idx(files, i));

        if (!valid_path(path ? path : "", error)) {
            json_object_put(missing);
            return NULL;
        }
        if (access(path, R_OK) < 0)
            json_object_array_add(missing, json_object_new_string(path));
    }
    return colo_json_build("missing", "o", missing, NULL);
}

JsonObject *colo_prepare_copy(ColoManager *m, JsonObject *args, GError **error)
{
    const char *host = m->host.config->host_name;
    CopyRequest request;
    virConnectPtr conn;
    JsonObject *result;
    int fd = -1;

    if (colo_json_peek(args, "files"))
        return missing_files(args, error);
    if (!read_request(args, &request, error))
        return NULL;
    /* A copy that the operator made needs no pool. */
    if (request.path)
        fd = open(request.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) {
        gboolean ok = judge_existing(&request, request.path, fd, host, error);

        close(fd);
        return ok ? answer(request.path, FALSE,
                           g_strdup_printf("done already: %s copy %s of %" G_GUINT64_FORMAT
                                           " bytes",
                                           request.format, request.path, request.size))
                  : NULL;
    }
    conn = colo_virconn_get(m->host.virconn, CONN_TIMEOUT_MS, error);
    if (!conn)
        return NULL;
    result = make_in_pool(conn, &request, host, error);
    virConnectClose(conn);
    return result;
}

/* ---- the primary's side ---- */

typedef struct {
    ColoManager *m;
    virConnectPtr conn;
    virDomainPtr dom;
    const char *pair;
    char *peer; /* name for people */
    ColoDomainInfo *info;
    JsonObject *actions;
} Prepare;

static void act(Prepare *p, const char *host, const char *object, gboolean done, char *action)
{
    json_object_array_add(p->actions, colo_json_build("host", "s", host, "object", "s", object,
                                                      "action", "s", action, "done", "b", done,
                                                      NULL));
    g_free(action);
}

static JsonObject *ask_peer(Prepare *p, JsonObject *arguments, GError **error)
{
    ColoChannel *channel = colo_pairs_channel(p->m->host.pairs, p->pair, error);

    if (!channel) {
        json_object_put(arguments);
        return NULL;
    }
    return colo_channel_call(channel, "host-command",
                             colo_json_build("command", "s", "prepare-copy", "arguments", "o",
                                             arguments, NULL),
                             COLO_PEER_TIMEOUT_MS, error);
}

/* Where the disk's content is on this host; NULL for a disk on the network. g_free(). */
static char *disk_path(Prepare *p, const ColoDiskInfo *disk)
{
    virStoragePoolPtr pool;
    virStorageVolPtr vol;
    char *path = NULL, *result;

    if (disk->source)
        return g_strdup(disk->source);
    if (!disk->pool || !disk->volume)
        return NULL;
    pool = virStoragePoolLookupByName(p->conn, disk->pool);
    vol = pool ? virStorageVolLookupByName(pool, disk->volume) : NULL;
    if (vol)
        path = virStorageVolGetPath(vol);
    result = g_strdup(path);
    free(path);
    if (vol)
        virStorageVolFree(vol);
    if (pool)
        virStoragePoolFree(pool);
    return result;
}

/* The peer's pool for @path by the pair's pool map, or NULL: the same path there. g_free(). */
static char *mapped_pool(Prepare *p, const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    virStoragePoolPtr pool = virStoragePoolLookupByTargetPath(p->conn, folder);
    g_autoptr(GPtrArray) pairs = NULL;
    char *mapped = NULL;

    if (!pool)
        return NULL;
    pairs = colo_store_pairs(p->m->host.store, NULL);
    for (guint i = 0; pairs && i < pairs->len; i++) {
        const ColoPairRecord *record = g_ptr_array_index(pairs, i);

        if (strcmp(record->name, p->pair) == 0)
            mapped = g_strdup(
                colo_json_peek_string(record->pool_map, virStoragePoolGetName(pool), NULL));
    }
    virStoragePoolFree(pool);
    return mapped;
}

static gboolean prepare_disk(Prepare *p, const ColoDiskInfo *disk, gboolean check, GError **error)
{
    g_autofree char *path = disk_path(p, disk);
    g_autofree char *pool = NULL;
    g_autofree char *object = g_strdup_printf("disk %s", disk->target);
    const char *format = disk->format ? disk->format : "raw";
    g_autoptr(JsonObject) reply = NULL;
    virDomainBlockInfo block;
    JsonObject *request;

    if (!path) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "domain '%s': disk %s of type '%s' has no path on this host and cannot be "
                    "replicated: use a file or block device",
                    p->info->name, disk->target, disk->type);
        return FALSE;
    }
    if (virDomainGetBlockInfo(p->dom, disk->target, &block, 0) < 0) {
        g_autofree char *what =
            g_strdup_printf("domain '%s': size of disk %s", p->info->name, disk->target);

        colo_virconn_set_error(error, what);
        return FALSE;
    }
    request = colo_json_build("target", "s", disk->target, "format", "s", format, "size", "u",
                              (uint64_t)block.capacity, "check", "b", check, NULL);
    pool = mapped_pool(p, path);
    if (pool) {
        g_autofree char *volume = g_path_get_basename(path);

        colo_json_add(request, "pool", "s", pool, "volume", "s", volume, NULL);
    } else {
        colo_json_add(request, "path", "s", path, NULL);
    }
    reply = ask_peer(p, request, error);
    if (!reply)
        return FALSE;
    if (!check)
        act(p, p->peer, object, TRUE, g_strdup(colo_json_peek_string(reply, "action", "done")));
    return TRUE;
}

static gboolean prepare_disks(Prepare *p, GError **error)
{
    for (int check = 1; check >= 0; check--) {
        for (guint i = 0; i < p->info->disks->len; i++) {
            const ColoDiskInfo *disk = g_ptr_array_index(p->info->disks, i);

            if (disk->replicated && !prepare_disk(p, disk, check, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* Adds @path to @files unless it is NULL, relative, or there. */
static void add_file(JsonObject *files, GHashTable *objects, const char *path, const char *object)
{
    if (!path || *path != '/' || g_hash_table_contains(objects, path))
        return;
    g_hash_table_insert(objects, g_strdup(path), g_strdup(object));
    json_object_array_add(files, json_object_new_string(path));
}

/* Files that the domain's start reads: the peer needs the same under the same path. */
static gboolean check_files(Prepare *p, xmlNode *root, GError **error)
{
    g_autoptr(GHashTable) objects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    static const char *const names[] = {"kernel", "initrd", "dtb", "loader"};
    JsonObject *files = json_object_new_array(), *missing;
    g_autoptr(JsonObject) reply = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = colo_xml_text(colo_xml_child(colo_xml_child(root, "os"), names[i]));

        add_file(files, objects, path, names[i]);
    }
    for (guint i = 0; i < p->info->disks->len; i++) {
        const ColoDiskInfo *disk = g_ptr_array_index(p->info->disks, i);
        g_autofree char *object = g_strdup_printf("%s %s", disk->device, disk->target);

        if (!disk->replicated)
            add_file(files, objects, disk->source, object);
    }
    reply = ask_peer(p, colo_json_build("files", "o", files, NULL), error);
    if (!reply || !colo_json_get_array(reply, "missing", &missing, error))
        return FALSE;
    for (size_t i = 0; i < json_object_array_length(missing); i++) {
        const char *path = json_object_get_string(json_object_array_get_idx(missing, i));
        const char *object = path ? g_hash_table_lookup(objects, path) : NULL;

        if (object)
            act(p, p->peer, object, FALSE,
                g_strdup_printf("%s is missing there: copy it to %s, or detach it", path,
                                p->peer));
    }
    return TRUE;
}

/* Takes the NICs of the persistent definition off vhost when @fix. */
static gboolean fix_nics(Prepare *p, gboolean fix, GError **error)
{
    const char *self = p->m->host.config->host_name;
    char *persistent = NULL;
    unsigned changed = 0;

    if (virDomainIsPersistent(p->dom) == 1) {
        g_autofree char *fixed = NULL;

        persistent = virDomainGetXMLDesc(p->dom, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE);
        if (!persistent) {
            colo_virconn_set_error(error, "reading the persistent definition");
            return FALSE;
        }
        fixed = colo_fix_vhost_xml(persistent, &changed, error);
        free(persistent);
        if (!fixed)
            return FALSE;
        if (changed && fix) {
            virDomainPtr defined = virDomainDefineXML(p->conn, fixed);

            if (!defined) {
                colo_virconn_set_error(error, "changing the persistent definition");
                return FALSE;
            }
            virDomainFree(defined);
        }
        if (changed)
            act(p, self, "persistent definition", fix,
                g_strdup_printf(fix ? "set <driver name='qemu'/> on %u interface(s): works from "
                                      "the next start on"
                                    : "%u interface(s) would use vhost: run colo-prepare with "
                                      "--fix",
                                changed));
    }
    for (guint i = 0; i < p->info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(p->info->nics, i);
        g_autofree char *object = g_strdup_printf("interface %s", nic->mac);

        if (p->info->id >= 0 && nic->vhost)
            act(p, self, object, FALSE,
                g_strdup_printf("runs on vhost: once the persistent definition is changed, shut "
                                "the domain down and start it ('virsh shutdown %s', 'virsh start "
                                "%s')",
                                p->info->name, p->info->name));
    }
    return TRUE;
}

/* What else stands against protection; the operator must do it. */
static gboolean report_findings(Prepare *p, const char *xml, GError **error)
{
    ColoEligibilityPolicy policy = {.allow_emulation = p->m->host.config->allow_emulation};
    g_autoptr(GPtrArray) findings = colo_eligibility_check(xml, &policy, error);

    if (!findings)
        return FALSE;
    for (guint i = 0; i < findings->len; i++) {
        const ColoFinding *f = g_ptr_array_index(findings, i);

        if (f->severity == COLO_FINDING_REFUSED && !f->fixable)
            act(p, p->m->host.config->host_name, f->device, FALSE,
                g_strdup_printf("%s: %s", f->found, f->remedy));
    }
    return TRUE;
}

static gboolean run(Prepare *p, gboolean fix, GError **error)
{
    char *xml = virDomainGetXMLDesc(p->dom, 0);
    g_autoptr(ColoXmlDoc) doc = NULL;
    gboolean ok;

    if (!xml) {
        colo_virconn_set_error(error, "reading the domain's definition");
        return FALSE;
    }
    doc = colo_xml_parse(xml, "domain", error);
    p->info = doc ? colo_domain_info_parse(xml, error) : NULL;
    ok = p->info && prepare_disks(p, error) &&
         check_files(p, xmlDocGetRootElement(doc), error) && fix_nics(p, fix, error) &&
         report_findings(p, xml, error);
    free(xml);
    return ok;
}

JsonObject *colo_prepare(ColoManager *m, const char *domain, const char *pair, gboolean fix,
                         GError **error)
{
    Prepare p = {.m = m, .pair = pair};
    gboolean ok = FALSE;

    p.dom = colo_virconn_lookup(m->host.virconn, domain, error);
    if (!p.dom)
        return NULL;
    p.conn = colo_virconn_get(m->host.virconn, CONN_TIMEOUT_MS, error);
    p.actions = json_object_new_array();
    if (p.conn && colo_pairs_channel(m->host.pairs, pair, error) &&
        colo_pairs_wait_up(m->host.pairs, pair, CHANNEL_UP_TIMEOUT_MS, error)) {
        p.peer = colo_pairs_peer_host(m->host.pairs, pair, NULL);
        if (!p.peer)
            p.peer = colo_pairs_peer_address(m->host.pairs, pair);
        ok = run(&p, fix, error);
    }
    g_clear_pointer(&p.info, colo_domain_info_free);
    g_free(p.peer);
    virDomainFree(p.dom);
    if (p.conn)
        virConnectClose(p.conn);
    if (ok)
        return colo_json_build("actions", "o", p.actions, NULL);
    json_object_put(p.actions);
    return NULL;
}
