/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The peer's side of colo-prepare: makes one copy of a disk through libvirt's storage API, or says
 * why not. The request comes from another host: everything in it is checked.
 *
 * Request "prepare-copy", as host-command of the control channel; either
 *   {"target": "vda", "format": "raw"|"qcow2", "size": BYTES, "check": BOOL,
 *    "pair": NAME, "path": "/dir/file", and maybe a place by the pool map (pool-map.h),
 *    "identity", "owner": of the primary's own file (prepare-copy.h), or null,
 *    "taken": {POOL: BYTES} that the copies before this one may still take}
 *     -> {"path": "/dir/file", "created": BOOL, "action": text for people,
 *         "pool": NAME that the copy is, or would be, made in, or null}
 *   {"files": [PATH...], "bridges": [NAME...], "networks": [NAME...], "live-xml": XML,
 *    "host": NAME, "facts": {...} (host-facts.h), "copies": [...], "allocated": {...} (room.h)}
 *     -> {"missing": [NAME or PATH...]    what this host does not have
 *         "problems": [TEXT...]}          what the copy cannot be made for here
 * With "check" nothing is made: the answer is what would be done, so that a command that must fail
 * for one disk has changed nothing for another. Nothing that exists is ever written to.
 */
#include "domain/commands.h"
#include "domain/host-facts.h"
#include "domain/pool-map.h"
#include "domain/prepare-copy.h"
#include "domain/room.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CONN_TIMEOUT_MS 5000u
#define MAX_NAMES 64u
#define MAX_DISK_BYTES (1ull << 60)
/* QEMU rounds the size of an image up to this (block.c, BDRV_SECTOR_SIZE). */
#define SECTOR 512ull

typedef struct {
    const char *target, *format;
    const char *path;             /* or NULL and ... */
    const char *pool, *volume;    /* ... these, ... */
    const char *from;             /* ... from this pool of the sender */
    const char *identity, *owner; /* or NULL */
    uint64_t size;
    JsonObject *taken; /* or NULL */
    gboolean check;
} CopyRequest;

char *colo_prepare_identity(const char *path)
{
    struct statx st;

    if (statx(AT_FDCWD, path, 0, STATX_TYPE | STATX_INO | STATX_BTIME, &st) < 0 ||
        !(st.stx_mask & STATX_BTIME) || !S_ISREG(st.stx_mode))
        return NULL;
    return g_strdup_printf("%llu:%lld.%09u", (unsigned long long)st.stx_ino,
                           (long long)st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
}

/* A path that a peer may name: absolute, normal, no control characters. */
static gboolean valid_path(const char *path, GError **error)
{
    g_auto(GStrv) parts = NULL;
    gboolean ok =
        path[0] == '/' && path[1] && strlen(path) < PATH_MAX && g_utf8_validate(path, -1, NULL);

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

static gboolean read_request(JsonObject *args, CopyRequest *r, GError **error)
{
    memset(r, 0, sizeof(*r));
    r->target = colo_json_peek_string(args, "target", "");
    r->check = colo_json_peek_bool(args, "check", FALSE);
    r->identity = colo_json_peek_string(args, "identity", NULL);
    r->owner = colo_json_peek_string(args, "owner", NULL);
    r->taken = colo_json_peek(args, "taken");
    if (!colo_pool_map_valid_name("disk", r->target, error) ||
        !colo_json_get_string(args, "format", &r->format, error) ||
        !colo_json_get_uint(args, "size", &r->size, error))
        return FALSE;
    if (strcmp(r->format, "raw") != 0 && strcmp(r->format, "qcow2") != 0) {
        g_autofree char *shown = g_strescape(r->format, NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "disk %s: format '%.64s' is not known: raw or qcow2", r->target, shown);
        return FALSE;
    }
    if (r->size == 0 || r->size > MAX_DISK_BYTES) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "disk %s: a size of %" G_GUINT64_FORMAT " bytes is not possible (1 to %llu)",
                    r->target, r->size, MAX_DISK_BYTES);
        return FALSE;
    }
    r->from = colo_json_peek_string(args, "from", NULL);
    if (colo_json_peek(args, "pool"))
        return colo_json_get_string(args, "pool", &r->pool, error) &&
               colo_json_get_string(args, "volume", &r->volume, error) &&
               colo_pool_map_valid_name("storage pool", r->pool, error) &&
               colo_pool_map_valid_name("volume", r->volume, error);
    return colo_json_get_string(args, "path", &r->path, error) && valid_path(r->path, error);
}

static gboolean is_network_filesystem(int fd)
{
    static const long types[] = {NFS_SUPER_MAGIC,
                                 SMB_SUPER_MAGIC,
                                 0xff534d42 /* CIFS */,
                                 0xfe534d42 /* SMB2 */,
                                 0x00c36400 /* Ceph */,
                                 OCFS2_SUPER_MAGIC,
                                 0x01161970 /* GFS2 */};
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

static uint64_t in_sectors(uint64_t bytes)
{
    return bytes / SECTOR + (bytes % SECTOR != 0);
}

/* Opens what stands at @path, if anything: *@fd is -1 when there is nothing. Devices that act when
 * they are opened (tapes, terminals) are not opened. */
static gboolean open_existing(const CopyRequest *r, const char *path, const char *host, int *fd,
                              GError **error)
{
    struct stat st;

    *fd = -1;
    if (stat(path, &st) < 0) {
        if (errno == ENOENT)
            return TRUE;
    } else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: %s on %s is neither a file nor a block device: move it away and run "
                    "colo-prepare again",
                    r->target, path, host);
        return FALSE;
    } else {
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    if (*fd < 0)
        colo_error_set_errno(error, errno, "disk %s: %s on %s", r->target, path, host);
    return *fd >= 0;
}

/* @fd: what stands at @path. TRUE if it can be the copy as it is. */
static gboolean judge_existing(const CopyRequest *r, const char *path, int fd, const char *host,
                               GError **error)
{
    gboolean is_qcow2, backed = FALSE;
    g_autofree char *identity = NULL;
    uint64_t virtual_size = 0, size;
    struct stat st;

    if (fstat(fd, &st) < 0) {
        colo_error_set_errno(error, errno, "disk %s: %s", r->target, path);
        return FALSE;
    }
    identity = colo_prepare_identity(path);
    if (is_network_filesystem(fd) || (identity && g_strcmp0(identity, r->identity) == 0)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: %s on %s is the primary's own disk or lies on a network file "
                    "system: each host needs a copy on storage of its own",
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
    if (in_sectors(size) != in_sectors(r->size)) {
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
    virStoragePoolPtr pool = r->pool ? colo_pool_map_lookup(conn, r->pool, r->target, host, error)
                                     : virStoragePoolLookupByTargetPath(conn, folder);
    g_autofree char *target = NULL;

    if (!pool && r->pool)
        return NULL;
    if (!pool) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: no active storage pool of %s holds the directory %s: create one "
                    "there ('virsh pool-create-as NAME dir --target %s'), or define the "
                    "pair with --pool-map",
                    r->target, host, folder, folder);
        return NULL;
    }
    target = colo_pool_map_directory(pool, type);
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
    uint64_t taken = colo_json_peek_uint(r->taken, virStoragePoolGetName(pool), 0);
    g_autofree char *others = NULL;
    virStoragePoolInfo info;

    if (virStoragePoolGetInfo(pool, &info) < 0) {
        colo_virconn_set_error(error, "asking the storage pool for its space");
        return FALSE;
    }
    if (info.available >= r->size && info.available - r->size >= taken)
        return TRUE;
    if (taken)
        others = g_strdup_printf(" beside %" G_GUINT64_FORMAT " MiB for the disks before it",
                                 taken >> 20);
    g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                "disk %s: storage pool '%s' of %s has %llu MiB free, the copy needs up to "
                "%" G_GUINT64_FORMAT " MiB%s: free space there, or map the pool to a larger one",
                r->target, virStoragePoolGetName(pool), host, info.available >> 20, r->size >> 20,
                others ? others : "");
    return FALSE;
}

/* Makes the volume; a copy in a file is sparse, and its owner's, where this host knows that user.
 */
static gboolean create_volume(virStoragePoolPtr pool, const char *type, const CopyRequest *r,
                              const char *path, GError **error)
{
    g_autofree char *name = g_path_get_basename(path);
    gboolean file = strcmp(type, "logical") != 0 && strcmp(type, "disk") != 0;
    gboolean qcow2 = strcmp(r->format, "qcow2") == 0;
    uid_t uid;
    gid_t gid;
    g_autofree char *owner =
        colo_prepare_owner_ids(r->owner, &uid, &gid)
            ? g_strdup_printf("<owner>%u</owner><group>%u</group>", (unsigned)uid, (unsigned)gid)
            : g_strdup("");
    /* libvirt's default for qcow2 is the old version 2. */
    g_autofree char *target =
        file ? g_strdup_printf("<allocation>0</allocation><target><format type='%s'/>%s"
                               "<permissions><mode>0600</mode>%s</permissions></target>",
                               r->format, qcow2 ? "<compat>1.1</compat>" : "", owner)
             : g_strdup("");
    g_autofree char *volume = g_markup_printf_escaped(
        "<volume><name>%s</name><capacity unit='bytes'>%" G_GUINT64_FORMAT "</capacity>", name,
        r->size);
    g_autofree char *xml = g_strconcat(volume, target, "</volume>", NULL);
    virStorageVolPtr vol;

    if (!file && qcow2) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "disk %s: storage pool '%s' is of type %s and holds raw volumes only, not %s",
                    r->target, virStoragePoolGetName(pool), type, r->format);
        return FALSE;
    }
    vol = virStorageVolCreateXML(pool, xml, 0);
    if (!vol) {
        colo_virconn_set_error(error, "creating it");
        g_prefix_error(error, "disk %s: %s in storage pool '%s': ", r->target, path,
                       virStoragePoolGetName(pool));
        return FALSE;
    }
    virStorageVolFree(vol);
    return TRUE;
}

/* The answer about @path; @pool: that it is made in, or NULL; @action is taken over. */
static JsonObject *answer(const char *path, const char *pool, gboolean created, char *action)
{
    JsonObject *o = colo_json_build("path", "s", path, "pool", "s", pool, "created", "b", created,
                                    "action", "s", action, NULL);

    g_free(action);
    return o;
}

/* Keeps what is there if it fits; NULL without @error when nothing is there. */
static JsonObject *keep_existing(const CopyRequest *r, const char *path, const char *host,
                                 GError **error)
{
    gboolean ok;
    int fd;

    if (!open_existing(r, path, host, &fd, error) || fd < 0)
        return NULL;
    ok = judge_existing(r, path, fd, host, error);
    close(fd);
    return ok ? answer(path, NULL, FALSE,
                       g_strdup_printf("done already: %s copy %s of %" G_GUINT64_FORMAT " bytes",
                                       r->format, path, r->size))
              : NULL;
}

static JsonObject *make_in_pool(virConnectPtr conn, JsonObject *map, const CopyRequest *r,
                                const char *host, GError **error)
{
    g_autofree char *path = NULL, *type = NULL;
    virStoragePoolPtr pool = find_pool(conn, r, host, &path, &type, error);
    g_autoptr(GError) why = NULL;
    JsonObject *result = NULL;

    if (!pool)
        return NULL;
    if (colo_pool_map_leads_back(conn, map, r->target, path, r->from, &why))
        result = keep_existing(r, path, host, &why);
    if (why) {
        g_propagate_error(error, g_steal_pointer(&why));
    } else if (!result) {
        /* Free space as it is now; a pool that runs a job cannot be refreshed and need not be. */
        virStoragePoolRefresh(pool, 0);
        if (check_space(pool, r, host, error) &&
            (r->check || create_volume(pool, type, r, path, error)))
            result = answer(path, virStoragePoolGetName(pool), !r->check,
                            g_strdup_printf("created %s copy %s of %" G_GUINT64_FORMAT
                                            " bytes in storage pool '%s'",
                                            r->format, path, r->size, virStoragePoolGetName(pool)));
    }
    virStoragePoolFree(pool);
    return result;
}

/* ---- what else the domain needs here ---- */

static gboolean has_file(virConnectPtr conn, const char *path)
{
    (void)conn;
    return access(path, F_OK) == 0;
}

static gboolean has_bridge(virConnectPtr conn, const char *name)
{
    g_autofree char *path = g_build_filename("/sys/class/net", name, NULL);

    (void)conn;
    return access(path, F_OK) == 0;
}

static gboolean has_network(virConnectPtr conn, const char *name)
{
    virNetworkPtr network = virNetworkLookupByName(conn, name);
    gboolean active = network && virNetworkIsActive(network) == 1;

    if (network)
        virNetworkFree(network);
    return active;
}

static gboolean valid_file(const char *what, const char *path, GError **error)
{
    (void)what;
    return valid_path(path, error);
}

/* Why the copy could not run here; also what protecting would refuse only later. */
static JsonObject *find_problems(ColoHost *host, JsonObject *args)
{
    const ColoConfig *config = host->config;
    JsonObject *copies = colo_json_peek(args, "copies");
    JsonObject *problems = json_object_new_array();
    g_autoptr(GError) unfit = NULL;
    g_autoptr(GError) room = NULL;

    if (colo_json_peek(args, "live-xml") && !colo_host_facts_check(host, args, &unfit))
        json_object_array_add(problems, json_object_new_string(unfit->message));
    if (json_object_is_type(copies, json_type_array) &&
        !colo_room_check(config->host_name, copies, colo_json_peek(args, "allocated"),
                         config->checkpoint_max_overlay_bytes, &room))
        json_object_array_add(problems, json_object_new_string(room->message));
    return problems;
}

static JsonObject *find_missing(ColoHost *host, virConnectPtr conn, JsonObject *args,
                                GError **error)
{
    static const struct {
        const char *key, *what;
        gboolean (*valid)(const char *what, const char *name, GError **error);
        gboolean (*has)(virConnectPtr conn, const char *name);
    } kinds[] = {
        {"files", "file", valid_file, has_file},
        {"bridges", "bridge", colo_pool_map_valid_name, has_bridge},
        {"networks", "network", colo_pool_map_valid_name, has_network},
    };
    g_autoptr(JsonObject) missing = json_object_new_array();

    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
        JsonObject *names;

        if (!colo_json_get_array(args, kinds[k].key, &names, error))
            return NULL;
        if (json_object_array_length(names) > MAX_NAMES) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "more than %u %s", MAX_NAMES,
                        kinds[k].key);
            return NULL;
        }
        for (size_t i = 0; i < json_object_array_length(names); i++) {
            JsonObject *item = json_object_array_get_idx(names, i);
            const char *name =
                json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";

            if (!kinds[k].valid(kinds[k].what, name, error))
                return NULL;
            if (!kinds[k].has(conn, name))
                json_object_array_add(missing, json_object_get(item));
        }
    }
    return colo_json_build("missing", "o", json_object_get(missing), "problems", "o",
                           find_problems(host, args), NULL);
}

static JsonObject *make_copy(virConnectPtr conn, JsonObject *map, const CopyRequest *r,
                             const char *host, GError **error)
{
    g_autoptr(GError) why = NULL;
    JsonObject *result = NULL;

    /* A copy that the operator made needs no pool. */
    if (r->path && colo_pool_map_leads_back(conn, map, r->target, r->path, r->from, &why))
        result = keep_existing(r, r->path, host, &why);
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    else if (!result)
        result = make_in_pool(conn, map, r, host, error);
    return result;
}

JsonObject *colo_prepare_copy(ColoManager *m, JsonObject *args, GError **error)
{
    const char *host = m->host.config->host_name;
    gboolean look = colo_json_peek(args, "files") != NULL;
    g_autoptr(JsonObject) map =
        colo_pairs_pool_map(m->host.pairs, colo_json_peek_string(args, "pair", NULL));
    JsonObject *result;
    CopyRequest request;
    virConnectPtr conn;

    if (!look && !read_request(args, &request, error))
        return NULL;
    conn = colo_virconn_get(m->host.virconn, CONN_TIMEOUT_MS, error);
    if (!conn)
        return NULL;
    result = look ? find_missing(&m->host, conn, args, error)
                  : make_copy(conn, map, &request, host, error);
    virConnectClose(conn);
    return result;
}
