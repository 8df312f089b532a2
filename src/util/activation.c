/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/activation.h"

#include <fcntl.h>
#include <string.h>
#include <systemd/sd-daemon.h>

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
