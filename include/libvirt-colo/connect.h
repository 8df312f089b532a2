/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Connections to virtcolod, and its commands in their general form. */
#ifndef LIBVIRT_COLO_CONNECT_H
#define LIBVIRT_COLO_CONNECT_H

#include <libvirt-colo/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ColoConnect ColoConnect;

/*
 * Connects to the daemon. @uri is NULL, "colo:///system" or "colo:///system?socket=PATH". Without
 * a socket in it the environment variable COLO_SOCKET names the socket, else it is
 * /run/libvirt/virtcolod-sock. NULL with @error: COLO_ERR_INVALID_ARG for a URI that is none of
 * these, COLO_ERR_PEER when nothing answers there, COLO_ERR_AUTH when the daemon closes at once.
 */
ColoConnect *colo_connect_open(const char *uri, ColoError *error);

/* Closes and frees it; NULL is allowed. */
void colo_connect_close(ColoConnect *conn);

/* Program and version of the daemon, as "virtcolod 0.1.0"; the connection's. */
const char *colo_connect_get_server(ColoConnect *conn);

/*
 * Runs one colo-* command (virsh-colo(1)). @args is a JSON object or NULL for no arguments; they
 * are checked before they are sent. Blocks until the daemon answers. 0, and in *@result (unless
 * NULL) the result as a JSON object for colo_free(); -1 with @error.
 */
int colo_connect_command(ColoConnect *conn, const char *name, const char *args, char **result,
                         ColoError *error);

/* Frees a string that a call gave; NULL is allowed. */
void colo_free(void *memory);

#ifdef __cplusplus
}
#endif

#endif
