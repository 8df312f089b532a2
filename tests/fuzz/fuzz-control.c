/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as what comes over the comparator's control socket.
 *
 * Sources: src/comparator/{request,rewrite-rows}.c and src/util/{framing,json,error}.c, with
 *   clang -fsanitize=fuzzer,address,undefined
 */
#include "comparator/request.h"
#include "util/framing.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_request(const char *text, size_t len)
{
    g_autoptr(GError) error = NULL;
    ColoRequest request;

    if (!colo_request_parse(text, len, &request, &error)) {
        if (!error)
            abort();
        colo_request_clear(&request);
        return;
    }
    if (strlen(request.uuid) > 36 || request.config.n_nics > COLO_CMP_MAX_NICS ||
        request.config.n_disks > COLO_CMP_MAX_DISKS || strlen(request.name) > 47 ||
        (request.config.base &&
         g_bytes_get_size(request.config.base) > COLO_REWRITE_CONNECTIONS * sizeof(ColoRewriteRow)))
        abort();
    colo_request_clear(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(ColoFrameReader) reader = colo_frame_reader_new();
    size_t len;
    char *text;

    try_request((const char *)data, size);
    colo_frame_reader_feed(reader, data, size);
    while ((text = colo_frame_reader_next(reader, &len, NULL))) {
        try_request(text, len);
        g_free(text);
    }
    return 0;
}
