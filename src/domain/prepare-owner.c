/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owner and group of a disk, carried from host to host by name: ids differ. */
#include "domain/prepare-copy.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Entries of the user and group databases; a group with thousands of members has more. */
#define ENTRY_MAX (1u << 20)

char *colo_prepare_owner(const char *path)
{
    g_autofree char *user_text = g_malloc(ENTRY_MAX), *group_text = g_malloc(ENTRY_MAX);
    struct passwd user, *has_user = NULL;
    struct group group, *has_group = NULL;
    struct stat st;

    if (stat(path, &st) < 0 || getpwuid_r(st.st_uid, &user, user_text, ENTRY_MAX, &has_user) != 0 ||
        !has_user || getgrgid_r(st.st_gid, &group, group_text, ENTRY_MAX, &has_group) != 0 ||
        !has_group)
        return NULL;
    return g_strconcat(user.pw_name, ":", group.gr_name, NULL);
}

gboolean colo_prepare_owner_ids(const char *owner, uid_t *uid, gid_t *gid)
{
    g_auto(GStrv) names = g_strsplit(owner ? owner : "", ":", 3);
    g_autofree char *text = g_malloc(ENTRY_MAX);
    struct passwd user, *has_user = NULL;
    struct group group, *has_group = NULL;

    if (g_strv_length(names) != 2 || getpwnam_r(names[0], &user, text, ENTRY_MAX, &has_user) != 0 ||
        !has_user)
        return FALSE;
    *uid = user.pw_uid;
    if (getgrnam_r(names[1], &group, text, ENTRY_MAX, &has_group) != 0 || !has_group)
        return FALSE;
    *gid = group.gr_gid;
    return TRUE;
}
