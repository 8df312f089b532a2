/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/fdpass.h"

#include "util/error.h"
#include "util/framing.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Control buffer for COLO_FDPASS_MAX descriptors, aligned as cmsg(3) wants. */
typedef union {
    struct cmsghdr align;
    char space[CMSG_SPACE(sizeof(int) * COLO_FDPASS_MAX)];
} FdBuffer;

/* #syscalls sendmsg */
gboolean colo_fdpass_send(int sock, const void *payload, size_t len, const int *fds, size_t nfds,
                          GError **error)
{
    g_autoptr(GBytes) frame = NULL;
    FdBuffer control = {0};
    const char *data;
    size_t size, done = 0;

    g_return_val_if_fail(nfds <= COLO_FDPASS_MAX, FALSE);
    frame = colo_frame_build(payload, len, error);
    if (!frame)
        return FALSE;
    data = g_bytes_get_data(frame, &size);
    while (done < size) {
        struct iovec iov = {.iov_base = (char *)data + done, .iov_len = size - done};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (done == 0 && nfds > 0) {
            struct cmsghdr *cmsg;

            msg.msg_control = control.space;
            msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
            cmsg = CMSG_FIRSTHDR(&msg);
            cmsg->cmsg_level = SOL_SOCKET;
            cmsg->cmsg_type = SCM_RIGHTS;
            cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
            memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * nfds);
        }
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            colo_error_set_errno(error, errno, "sending %" G_GSIZE_FORMAT " bytes", size);
            return FALSE;
        }
        done += (size_t)n;
    }
    return TRUE;
}

/* #syscalls recvmsg */
ssize_t colo_fdpass_recv(int sock, void *data, size_t size, GArray *fds)
{
    FdBuffer control;
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t n;

    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return n;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        g_array_append_vals(fds, CMSG_DATA(cmsg),
                            (guint)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
    }
    if (msg.msg_flags & MSG_CTRUNC) {
        for (guint i = 0; i < fds->len; i++)
            close(g_array_index(fds, int, i));
        g_array_set_size(fds, 0);
        errno = EPROTO;
        return -1;
    }
    return n;
}
