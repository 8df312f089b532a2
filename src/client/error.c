/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client/client-private.h"

#include "util/error.h"

#include <stdlib.h>
#include <string.h>

/* The public numbers are the internal codes plus one, 0 being "no error". */
G_STATIC_ASSERT(COLO_ERR_INTERNAL == (int)COLO_ERROR_INTERNAL + 1);
G_STATIC_ASSERT(COLO_ERR_NO_PAIR == (int)COLO_ERROR_NO_PAIR + 1);
G_STATIC_ASSERT(COLO_ERR_PEER == (int)COLO_ERROR_PEER + 1);
G_STATIC_ASSERT(COLO_ERR_SYSTEM == (int)COLO_ERROR_SYSTEM + 1);
G_STATIC_ASSERT((int)COLO_ERR_SYSTEM == (int)COLO_ERROR_LAST);

void colo_error_reset(ColoError *error)
{
    if (!error)
        return;
    free(error->message);
    *error = (ColoError)COLO_ERROR_INIT;
}

void colo_client_set_error(ColoError *to, GError *from)
{
    ColoErrorCode code = COLO_ERROR_INTERNAL;

    if (from && from->domain == COLO_ERROR)
        code = (ColoErrorCode)from->code;
    if (to) {
        colo_error_reset(to);
        to->number = (ColoErrorNumber)(code + 1);
        to->libvirt_code = colo_error_code_to_libvirt(code);
        to->message = strdup(from ? from->message : "unknown error");
    }
    g_clear_error(&from);
}

void colo_free(void *memory)
{
    free(memory);
}
