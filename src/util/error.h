/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors of every module: one GError domain whose codes map to libvirt's virErrorNumber, so that
 * a client of any door sees an error that libvirt could have raised.
 *
 * A message names the object, what was expected, what was found, and what to do.
 */
#pragma once

#include <glib.h>

#define COLO_ERROR (colo_error_quark())

typedef enum {
    COLO_ERROR_INTERNAL,          /* VIR_ERR_INTERNAL_ERROR: a bug, or a peer that broke protocol */
    COLO_ERROR_INVALID_ARG,       /* VIR_ERR_INVALID_ARG */
    COLO_ERROR_NO_DOMAIN,         /* VIR_ERR_NO_DOMAIN */
    COLO_ERROR_NO_PAIR,           /* VIR_ERR_NO_... of pairs: reported as VIR_ERR_INVALID_ARG */
    COLO_ERROR_OPERATION_INVALID, /* VIR_ERR_OPERATION_INVALID: not in this state */
    COLO_ERROR_UNSUPPORTED,       /* VIR_ERR_CONFIG_UNSUPPORTED: the domain cannot be protected */
    COLO_ERROR_OPERATION_FAILED,  /* VIR_ERR_OPERATION_FAILED */
    COLO_ERROR_TIMEOUT,           /* VIR_ERR_OPERATION_TIMEOUT */
    COLO_ERROR_PEER,              /* VIR_ERR_RPC: peer unreachable, or its version differs */
    COLO_ERROR_AUTH,              /* VIR_ERR_AUTH_FAILED: certificate or DN refused */
    COLO_ERROR_RESOURCE,          /* VIR_ERR_RESOURCE_BUSY: space, memory, a limit */
    COLO_ERROR_ARBITER,           /* VIR_ERR_OPERATION_FAILED: the register gave no clear answer */
    COLO_ERROR_SYSTEM,            /* VIR_ERR_SYSTEM_ERROR: a system call failed */
    COLO_ERROR_LAST
} ColoErrorCode;

GQuark colo_error_quark(void);

/* The stable word for @code on the wire ("no-domain"); never NULL. */
const char *colo_error_code_name(ColoErrorCode code);

/* The code for a word of the wire; COLO_ERROR_INTERNAL for one that is unknown. */
ColoErrorCode colo_error_code_from_name(const char *name);

/* The virErrorNumber (libvirt/virterror.h) that stands for @code at libvirt's surface. */
int colo_error_code_to_libvirt(ColoErrorCode code);

/* Sets @error to COLO_ERROR_SYSTEM with ": strerror(errnum)" after the formatted text. */
void colo_error_set_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);
