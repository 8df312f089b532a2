/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/store.h"

#include "util/error.h"

#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>

#define STORE_VERSION 1

struct ColoStore {
    sqlite3 *db;
    char *path;
    GMutex lock;
};

static const char *const state_names[COLO_STATE_LAST] = {
    "unprotected",  "preparing",  "syncing", "protected", "degraded",
    "failing-over", "committing", "alone",   "fenced",    "manual",
};

static const char *const role_names[] = {"none", "primary", "secondary"};

const char *colo_state_name(ColoState state)
{
    return state_names[(unsigned)state < COLO_STATE_LAST ? state : COLO_STATE_UNPROTECTED];
}

ColoState colo_state_from_name(const char *name)
{
    for (int i = 0; i < COLO_STATE_LAST; i++) {
        if (g_strcmp0(state_names[i], name) == 0)
            return (ColoState)i;
    }
    return COLO_STATE_UNPROTECTED;
}

const char *colo_role_name(ColoRole role)
{
    return role_names[role];
}

ColoRole colo_role_from_name(const char *name)
{
    for (int i = 0; i < (int)G_N_ELEMENTS(role_names); i++) {
        if (g_strcmp0(role_names[i], name) == 0)
            return (ColoRole)i;
    }
    return COLO_ROLE_NONE;
}

ColoDomainRecord *colo_domain_record_new(const char *uuid, const char *name)
{
    ColoDomainRecord *record = g_new0(ColoDomainRecord, 1);

    g_strlcpy(record->uuid, uuid, sizeof(record->uuid));
    record->name = g_strdup(name);
    record->details = json_object_new_object();
    return record;
}

ColoDomainRecord *colo_domain_record_copy(const ColoDomainRecord *record)
{
    ColoDomainRecord *copy = g_new(ColoDomainRecord, 1);

    *copy = *record;
    copy->name = g_strdup(record->name);
    copy->pair = g_strdup(record->pair);
    copy->attempt = g_strdup(record->attempt);
    copy->boot_id = g_strdup(record->boot_id);
    copy->details = NULL;
    json_object_deep_copy(record->details, &copy->details, NULL);
    return copy;
}

void colo_domain_record_free(ColoDomainRecord *record)
{
    if (!record)
        return;
    g_free(record->name);
    g_free(record->pair);
    g_free(record->attempt);
    g_free(record->boot_id);
    json_object_put(record->details);
    g_free(record);
}

ColoPairRecord *colo_pair_record_new(const char *name, const char *peer, uint16_t port)
{
    ColoPairRecord *record = g_new0(ColoPairRecord, 1);

    record->name = g_strdup(name);
    record->peer = g_strdup(peer);
    record->port = port;
    record->pool_map = json_object_new_object();
    return record;
}

void colo_pair_record_free(ColoPairRecord *record)
{
    if (!record)
        return;
    g_free(record->name);
    g_free(record->peer);
    json_object_put(record->pool_map);
    g_free(record);
}

static gboolean store_error(ColoStore *store, const char *what, GError **error)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM, "%s in %s: %s", what, store->path,
                sqlite3_errmsg(store->db));
    return FALSE;
}

static gboolean run(ColoStore *store, const char *sql, GError **error)
{
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return TRUE;
    return store_error(store, "preparing the store", error);
}

static sqlite3_stmt *prepare(ColoStore *store, const char *sql, GError **error)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        store_error(store, "preparing a statement", error);
    return stmt;
}

/* Runs a prepared write to its end and frees it. */
static gboolean finish(ColoStore *store, sqlite3_stmt *stmt, const char *what, GError **error)
{
    int rc = sqlite3_step(stmt);

    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? TRUE : store_error(store, what, error);
}

static gboolean check_version(ColoStore *store, GError **error)
{
    g_autofree char *pragma = g_strdup_printf("PRAGMA user_version = %d", STORE_VERSION);
    sqlite3_stmt *stmt = prepare(store, "PRAGMA user_version", error);
    int version;

    if (!stmt)
        return FALSE;
    version = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    if (version > STORE_VERSION) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "%s was written by a newer libvirt-colo (store version %d, this one knows %d): "
                    "install that version again",
                    store->path, version, STORE_VERSION);
        return FALSE;
    }
    return run(store, pragma, error);
}

ColoStore *colo_store_open(const char *directory, GError **error)
{
    g_autoptr(ColoStore) store = g_new0(ColoStore, 1);

    g_mutex_init(&store->lock);
    store->path = g_build_filename(directory, "state.db", NULL);
    if (g_mkdir_with_parents(directory, 0700) < 0) {
        colo_error_set_errno(error, errno, "creating the state directory %s", directory);
        return NULL;
    }
    mode_t old = umask(0077);
    int rc =
        sqlite3_open_v2(store->path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    umask(old);
    if (rc != SQLITE_OK) {
        store_error(store, "opening the store", error);
        return NULL;
    }
    sqlite3_busy_timeout(store->db, 2000);
    /* A commit that returned is on the disk
     * (https://www.sqlite.org/pragma.html#pragma_synchronous). WAL makes it one fsync instead of
     * four, and a takeover waits for several commits; where a file system cannot have it, the
     * journal stays, whose deletion only EXTRA makes durable.
     */
    if (!run(store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = EXTRA;", error) ||
        !check_version(store, error) ||
        !run(store,
             "CREATE TABLE IF NOT EXISTS domains (uuid TEXT PRIMARY KEY, name TEXT NOT NULL,"
             " pair TEXT, role TEXT NOT NULL, state TEXT NOT NULL, generation INTEGER NOT NULL,"
             " relinquished INTEGER NOT NULL, owner INTEGER NOT NULL, loaded INTEGER NOT NULL,"
             " attempt TEXT, boot_id TEXT, details TEXT NOT NULL, attempt_pair INTEGER NOT NULL);"
             "CREATE TABLE IF NOT EXISTS pairs (name TEXT PRIMARY KEY, peer TEXT NOT NULL,"
             " port INTEGER NOT NULL, pool_map TEXT NOT NULL);",
             error))
        return NULL;
    return g_steal_pointer(&store);
}

void colo_store_close(ColoStore *store)
{
    if (!store)
        return;
    sqlite3_close(store->db);
    g_mutex_clear(&store->lock);
    g_free(store->path);
    g_free(store);
}

static void bind_text(sqlite3_stmt *stmt, int index, const char *text)
{
    if (text)
        sqlite3_bind_text(stmt, index, text, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(stmt, index);
}

gboolean colo_store_save_domain(ColoStore *store, const ColoDomainRecord *record, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    g_autofree char *details = colo_json_to_string(record->details);
    sqlite3_stmt *stmt;

    /* The WHERE clause is the guard: what a host has seen or given up never goes back. */
    stmt = prepare(store,
                   "INSERT INTO domains VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)"
                   " ON CONFLICT (uuid) DO UPDATE SET name=?2, pair=?3, role=?4, state=?5,"
                   " generation=?6, relinquished=?7, owner=?8, loaded=?9, attempt=?10, boot_id=?11,"
                   " details=?12, attempt_pair=?13 WHERE generation <= ?6 AND relinquished <= ?7",
                   error);
    if (!stmt)
        return FALSE;
    bind_text(stmt, 1, record->uuid);
    bind_text(stmt, 2, record->name);
    bind_text(stmt, 3, record->pair);
    bind_text(stmt, 4, colo_role_name(record->role));
    bind_text(stmt, 5, colo_state_name(record->state));
    sqlite3_bind_int64(stmt, 6, (sqlite3_int64)record->generation);
    sqlite3_bind_int64(stmt, 7, (sqlite3_int64)record->relinquished);
    sqlite3_bind_int(stmt, 8, record->owner);
    sqlite3_bind_int(stmt, 9, record->loaded);
    bind_text(stmt, 10, record->attempt);
    bind_text(stmt, 11, record->boot_id);
    bind_text(stmt, 12, details);
    sqlite3_bind_int(stmt, 13, record->attempt_pair);
    if (!finish(store, stmt, "saving a domain", error))
        return FALSE;
    if (sqlite3_changes(store->db) == 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL,
                    "domain '%s': refusing to store generation %" G_GUINT64_FORMAT
                    " (relinquished %" G_GUINT64_FORMAT ") below what %s holds",
                    record->name, record->generation, record->relinquished, store->path);
        return FALSE;
    }
    return TRUE;
}

gboolean colo_store_delete_pair(ColoStore *store, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    sqlite3_stmt *stmt = prepare(store, "DELETE FROM pairs WHERE name = ?1", error);

    if (!stmt)
        return FALSE;
    bind_text(stmt, 1, name);
    return finish(store, stmt, "deleting a record", error);
}

static const char *column_text(sqlite3_stmt *stmt, int column)
{
    return (const char *)sqlite3_column_text(stmt, column);
}

static JsonObject *column_json(sqlite3_stmt *stmt, int column)
{
    const char *text = column_text(stmt, column);
    JsonObject *object = text ? colo_json_parse(text, strlen(text), NULL) : NULL;

    return object ? object : json_object_new_object();
}

/* @records if they are all; a list that ended early would forget who owns what. */
static GPtrArray *whole(ColoStore *store, int rc, GPtrArray *records, GError **error)
{
    if (rc == SQLITE_DONE)
        return records;
    g_ptr_array_unref(records);
    store_error(store, "reading records", error);
    return NULL;
}

GPtrArray *colo_store_domains(ColoStore *store, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    sqlite3_stmt *stmt = prepare(store, "SELECT * FROM domains ORDER BY name", error);
    GPtrArray *records;
    int rc;

    if (!stmt)
        return NULL;
    records = g_ptr_array_new_with_free_func((GDestroyNotify)colo_domain_record_free);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        ColoDomainRecord *r = colo_domain_record_new(column_text(stmt, 0), column_text(stmt, 1));

        r->pair = g_strdup(column_text(stmt, 2));
        r->role = colo_role_from_name(column_text(stmt, 3));
        r->state = colo_state_from_name(column_text(stmt, 4));
        r->generation = (uint64_t)sqlite3_column_int64(stmt, 5);
        r->relinquished = (uint64_t)sqlite3_column_int64(stmt, 6);
        r->owner = sqlite3_column_int(stmt, 7);
        r->loaded = sqlite3_column_int(stmt, 8);
        r->attempt = g_strdup(column_text(stmt, 9));
        r->boot_id = g_strdup(column_text(stmt, 10));
        json_object_put(r->details);
        r->details = column_json(stmt, 11);
        r->attempt_pair = sqlite3_column_int(stmt, 12);
        g_ptr_array_add(records, r);
    }
    sqlite3_finalize(stmt);
    return whole(store, rc, records, error);
}

gboolean colo_store_save_pair(ColoStore *store, const ColoPairRecord *record, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    g_autofree char *pool_map = colo_json_to_string(record->pool_map);
    sqlite3_stmt *stmt = prepare(store,
                                 "INSERT INTO pairs VALUES (?1,?2,?3,?4) ON CONFLICT (name)"
                                 " DO UPDATE SET peer=?2, port=?3, pool_map=?4",
                                 error);

    if (!stmt)
        return FALSE;
    bind_text(stmt, 1, record->name);
    bind_text(stmt, 2, record->peer);
    sqlite3_bind_int(stmt, 3, record->port);
    bind_text(stmt, 4, pool_map);
    return finish(store, stmt, "saving a pair", error);
}

GPtrArray *colo_store_pairs(ColoStore *store, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    sqlite3_stmt *stmt = prepare(store, "SELECT * FROM pairs ORDER BY name", error);
    GPtrArray *records;
    int rc;

    if (!stmt)
        return NULL;
    records = g_ptr_array_new_with_free_func((GDestroyNotify)colo_pair_record_free);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        ColoPairRecord *r = colo_pair_record_new(column_text(stmt, 0), column_text(stmt, 1),
                                                 (uint16_t)sqlite3_column_int(stmt, 2));

        json_object_put(r->pool_map);
        r->pool_map = column_json(stmt, 3);
        g_ptr_array_add(records, r);
    }
    sqlite3_finalize(stmt);
    return whole(store, rc, records, error);
}
