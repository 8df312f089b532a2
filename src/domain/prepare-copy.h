/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two sides of colo-prepare share. Private to prepare.c and prepare-copy.c. */
#pragma once

#include <glib.h>

/*
 * What tells the file at @path from every other file, the same on each host that sees it: inode and
 * time of birth, which neither writing nor renaming changes. NULL when the file system keeps no
 * time of birth, or @path is no regular file. g_free().
 */
char *colo_prepare_identity(const char *path);
