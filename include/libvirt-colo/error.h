/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors of libvirt-colo. */
#ifndef LIBVIRT_COLO_ERROR_H
#define LIBVIRT_COLO_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers are stable; new ones are added at the end. */
typedef enum {
    COLO_ERR_OK = 0,
    COLO_ERR_INTERNAL = 1,          /* a bug, or a daemon that broke the protocol */
    COLO_ERR_INVALID_ARG = 2,       /* unknown command, missing or wrong argument */
    COLO_ERR_NO_DOMAIN = 3,         /* no domain of that name, id or uuid */
    COLO_ERR_NO_PAIR = 4,           /* no pair of that name */
    COLO_ERR_OPERATION_INVALID = 5, /* not possible in the state the domain is in */
    COLO_ERR_UNSUPPORTED = 6,       /* the domain's configuration cannot be protected */
    COLO_ERR_OPERATION_FAILED = 7,
    COLO_ERR_TIMEOUT = 8,
    COLO_ERR_PEER = 9,      /* the peer host, or the daemon itself, cannot be reached */
    COLO_ERR_AUTH = 10,     /* certificate, name or caller refused */
    COLO_ERR_RESOURCE = 11, /* no space, no memory, or a limit was reached */
    COLO_ERR_ARBITER = 12,  /* the arbiter gave no clear answer */
    COLO_ERR_SYSTEM = 13,   /* a system call failed */
} ColoErrorNumber;

/* Initialize with COLO_ERROR_INIT; a call that fails fills it, releasing what it held. */
typedef struct {
    ColoErrorNumber number;
    int libvirt_code; /* virErrorNumber that stands for it in libvirt */
    char *message;    /* names the object, what was found and what to do; owned by the struct */
} ColoError;

#define COLO_ERROR_INIT           \
    {                             \
        COLO_ERR_OK, 0, (char *)0 \
    }

/* Releases the message and sets COLO_ERR_OK. NULL is allowed. */
void colo_error_reset(ColoError *error);

#ifdef __cplusplus
}
#endif

#endif
