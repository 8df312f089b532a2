/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lock/names.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* virtcolod writes for some ms at a time. */
#define BUSY_MS 500

static ColoLockNamed look_up(sqlite3 *db, const char *uuid, char *text, size_t size)
{
    sqlite3_stmt *stmt = NULL;
    ColoLockNamed named = COLO_LOCK_UNREADABLE;
    int rc;

    if (sqlite3_prepare_v2(db, "SELECT state FROM domains WHERE uuid = ?1", -1, &stmt, NULL) !=
            SQLITE_OK ||
        sqlite3_bind_text(stmt, 1, uuid, -1, SQLITE_STATIC) != SQLITE_OK) {
        snprintf(text, size, "%s", sqlite3_errmsg(db));
    } else if ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *state = (const char *)sqlite3_column_text(stmt, 0);

        named = state && strcmp(state, "unprotected") == 0 ? COLO_LOCK_NOT_NAMED : COLO_LOCK_NAMED;
        snprintf(text, size, "%s", state ? state : "?");
    } else if (rc == SQLITE_DONE) {
        named = COLO_LOCK_NOT_NAMED;
    } else {
        snprintf(text, size, "%s", sqlite3_errmsg(db));
    }
    sqlite3_finalize(stmt);
    return named;
}

ColoLockNamed colo_lock_named(const char *state_dir, const char *uuid, char *text, size_t size)
{
    ColoLockNamed named = COLO_LOCK_UNREADABLE;
    sqlite3 *db = NULL;
    char path[4096];

    if ((size_t)snprintf(path, sizeof(path), "%s/state.db", state_dir) >= sizeof(path)) {
        snprintf(text, size, "%s", strerror(ENAMETOOLONG));
        return COLO_LOCK_UNREADABLE;
    }
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return COLO_LOCK_NOT_NAMED;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
        sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK)
        named = look_up(db, uuid, text, size);
    else
        snprintf(text, size, "%s", db ? sqlite3_errmsg(db) : "no memory");
    sqlite3_close(db);
    return named;
}
