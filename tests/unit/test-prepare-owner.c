/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The owner of a disk on its way to the peer. */
#include "domain/prepare-copy.h"

#include <glib/gstdio.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

static void test_an_owner_comes_back_as_its_ids(void)
{
    g_autofree char *path = NULL, *owner = NULL;
    int fd = g_file_open_tmp("colo-owner-XXXXXX", &path, NULL);
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    owner = colo_prepare_owner(path);
    g_unlink(path);
    if (!owner) {
        g_test_skip("this user or its group has no name");
        return;
    }
    g_assert_true(colo_prepare_owner_ids(owner, &uid, &gid));
    g_assert_cmpuint(uid, ==, geteuid());
    g_assert_cmpuint(gid, ==, getegid());
}

static void test_user_and_group_are_not_mixed_up(void)
{
    const struct passwd *user = getpwnam("man");
    const struct group *group = getgrnam("man");
    uid_t uid;
    gid_t gid;

    if (!user || !group || user->pw_uid == group->gr_gid) {
        g_test_skip("no user and group 'man' of different ids");
        return;
    }
    g_assert_true(colo_prepare_owner_ids("man:man", &uid, &gid));
    g_assert_cmpuint(uid, ==, user->pw_uid);
    g_assert_cmpuint(gid, ==, group->gr_gid);
}

static void test_a_file_that_is_not_there_has_no_owner(void)
{
    g_assert_null(colo_prepare_owner("/nonexistent/disk.raw"));
}

static void test_names_that_this_host_does_not_know_are_none(void)
{
    static const char *const unknown[] = {NULL,
                                          "",
                                          ":",
                                          "root",
                                          "root:",
                                          ":root",
                                          "root:no-such-group",
                                          "no-such-user:root",
                                          "root:root:root"};
    uid_t uid;
    gid_t gid;

    for (size_t i = 0; i < G_N_ELEMENTS(unknown); i++)
        g_assert_false(colo_prepare_owner_ids(unknown[i], &uid, &gid));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/prepare/owner", test_an_owner_comes_back_as_its_ids);
    g_test_add_func("/domain/prepare/owner-group", test_user_and_group_are_not_mixed_up);
    g_test_add_func("/domain/prepare/owner-no-file", test_a_file_that_is_not_there_has_no_owner);
    g_test_add_func("/domain/prepare/owner-unknown",
                    test_names_that_this_host_does_not_know_are_none);
    return g_test_run();
}
