/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Protects a running domain with the client library and waits until it is.
 *   cc protect.c -o protect $(pkg-config --cflags --libs libvirt-colo)
 *   ./protect web1 ab
 */
#include <libvirt-colo/libvirt-colo.h>
#include <stdio.h>

static int show(const ColoDomainStatus *status, void *opaque)
{
    (void)opaque;
    printf("%s: %s, %u %%\n", status->name, colo_domain_state_to_string(status->state),
           status->progress_percent);
    return 0; /* go on waiting */
}

int main(int argc, char **argv)
{
    ColoError error = COLO_ERROR_INIT;
    ColoConnect *conn;
    int code = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: protect DOMAIN PAIR\n");
        return 2;
    }
    conn = colo_connect_open(NULL, &error);
    if (conn && colo_domain_protect(conn, argv[1], argv[2], &error) == 0 &&
        colo_domain_protect_wait(conn, argv[1], 60000, show, NULL, &error) == 0)
        code = 0;
    if (code != 0)
        fprintf(stderr, "error: %s\n", error.message);
    colo_error_reset(&error);
    colo_connect_close(conn);
    return code;
}
