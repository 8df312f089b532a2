/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/activation.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static int notify_fd = -1;

int colo_activation_take(const char *name)
{
    g_auto(GStrv) names = NULL;
    int n = sd_listen_fds_with_names(0, &names);

    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (strcmp(names[i], name) == 0) {
            (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            return fd;
        }
    }
    return -1;
}

void colo_activation_open_notify(void)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len;

    if (!path || strlen(path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, strlen(path));
    /* '@' stands for the NUL of an abstract name, whose length is exact (unix(7)). */
    if (*path == '@')
        address.sun_path[0] = '\0';
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify_fd >= 0 && connect(notify_fd, (struct sockaddr *)&address, len) < 0) {
        close(notify_fd);
        notify_fd = -1;
    }
}

/* #syscalls sendto */
void colo_activation_notify(const char *state)
{
    if (notify_fd >= 0)
        (void)send(notify_fd, state, strlen(state), MSG_NOSIGNAL);
}
