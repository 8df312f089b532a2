/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages with file descriptors over a unix stream socket: a frame of framing.h whose first byte
 * carries the FDs (SCM_RIGHTS). Blocking calls for the side that asks; the side that serves uses
 * colo_fdpass_recv() on a readable socket and framing.h.
 */
#pragma once

#include <glib.h>

/* Most FDs in one message; each command of the comparator takes one. */
#define COLO_FDPASS_MAX 4

/* Sends @len bytes of @payload as one frame with @nfds FDs, which stay the caller's. Retries on
 * EINTR and on a short write. FALSE with @error when the socket is closed or failed. */
gboolean colo_fdpass_send(int sock, const void *payload, size_t len, const int *fds, size_t nfds,
                          GError **error);

/*
 * One recvmsg(): up to @size bytes to @data, received FDs (O_CLOEXEC) appended to @fds (GArray of
 * int; the caller closes them). Returns the byte count, 0 at the end of the stream, -1 with errno.
 * More FDs than COLO_FDPASS_MAX in one message are closed and reported as EPROTO.
 */
ssize_t colo_fdpass_recv(int sock, void *data, size_t size, GArray *fds);
