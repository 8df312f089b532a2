/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two sides of colo-prepare share. Private to src/domain/prepare*.c. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/*
 * What tells the file at @path from every other file, the same on each host that sees it: inode and
 * time of birth, which neither writing nor renaming changes. NULL when the file system keeps no
 * time of birth, or @path is no regular file. g_free().
 */
char *colo_prepare_identity(const char *path);

/* "USER:GROUP" of the file at @path; NULL when it is not there or one of them has no name. */
char *colo_prepare_owner(const char *path);

/* The ids here of what colo_prepare_owner() said on another host; FALSE when it is NULL or this
 * host does not know both names. */
gboolean colo_prepare_owner_ids(const char *owner, uid_t *uid, gid_t *gid);
