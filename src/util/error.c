/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/error.h"

#include <stdarg.h>

/* The first argument becomes a string. */
/* clang-format off */
G_DEFINE_QUARK(colo-error-quark, colo_error)
/* clang-format on */

/* Numbers of enum virErrorNumber in libvirt/virterror.h: part of libvirt's stable ABI. The util
 * folder does not depend on libvirt, so they stand here by number. */
static const struct {
    const char *name;
    int libvirt;
} codes[COLO_ERROR_LAST] = {
    [COLO_ERROR_INTERNAL] = {"internal", 1},
    [COLO_ERROR_INVALID_ARG] = {"invalid-arg", 8},
    [COLO_ERROR_NO_DOMAIN] = {"no-domain", 42},
    [COLO_ERROR_NO_PAIR] = {"no-pair", 8},
    [COLO_ERROR_OPERATION_INVALID] = {"operation-invalid", 55},
    [COLO_ERROR_UNSUPPORTED] = {"unsupported", 67},
    [COLO_ERROR_OPERATION_FAILED] = {"operation-failed", 9},
    [COLO_ERROR_TIMEOUT] = {"timeout", 68},
    [COLO_ERROR_PEER] = {"peer", 39},
    [COLO_ERROR_AUTH] = {"auth", 45},
    [COLO_ERROR_RESOURCE] = {"resource", 87},
    [COLO_ERROR_ARBITER] = {"arbiter", 9},
    [COLO_ERROR_SYSTEM] = {"system", 38},
};

const char *colo_error_code_name(ColoErrorCode code)
{
    if ((unsigned)code >= COLO_ERROR_LAST)
        code = COLO_ERROR_INTERNAL;
    return codes[code].name;
}

ColoErrorCode colo_error_code_from_name(const char *name)
{
    for (unsigned i = 0; name && i < COLO_ERROR_LAST; i++) {
        if (strcmp(codes[i].name, name) == 0)
            return (ColoErrorCode)i;
    }
    return COLO_ERROR_INTERNAL;
}

int colo_error_code_to_libvirt(ColoErrorCode code)
{
    if ((unsigned)code >= COLO_ERROR_LAST)
        code = COLO_ERROR_INTERNAL;
    return codes[code].libvirt;
}

void colo_error_set_errno(GError **error, int errnum, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM, "%s: %s", text, g_strerror(errnum));
}
