/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "rpc/server.h"

#include "util/error.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 64

/* Mode and group of the socket file; the file is not yet listening. FALSE with @error. */
static gboolean set_access(const char *path, mode_t mode, const char *group, GError **error)
{
    const struct group *entry = NULL;

    if (group) {
        errno = 0;
        entry = getgrnam(group);
        if (!entry) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "socket %s: there is no group '%s'", path, group);
            return FALSE;
        }
        if (chown(path, (uid_t)-1, entry->gr_gid) < 0) {
            colo_error_set_errno(error, errno, "cannot give %s to group '%s'", path, group);
            return FALSE;
        }
    }
    if (chmod(path, mode) < 0) {
        colo_error_set_errno(error, errno, "cannot set the mode of %s", path);
        return FALSE;
    }
    return TRUE;
}

static int listen_at(const char *path, mode_t mode, const char *group, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "socket path %s has more than %zu bytes", path, sizeof(address.sun_path) - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        colo_error_set_errno(error, errno, "cannot bind socket %s", path);
    } else if (set_access(path, mode, group, error)) {
        if (listen(fd, LISTEN_BACKLOG) == 0)
            return fd;
        colo_error_set_errno(error, errno, "cannot listen on socket %s", path);
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

int colo_rpc_listen(const char *path, const char *group, GError **error)
{
    return listen_at(path, group ? 0660 : 0600, group, error);
}

int colo_rpc_listen_public(const char *path, GError **error)
{
    return listen_at(path, 0666, NULL, error);
}
