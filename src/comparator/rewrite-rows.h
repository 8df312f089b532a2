/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rewriter's rows as JSON (protocol.h, ROW): what one session gives to another through
 * virtcolod. Pure.
 */
#pragma once

#include "comparator/rewrite.h"
#include "comparator/request.h"

#include "util/json.h"

/* Array of ROWs; the NICs of rows are indices into @nics. */
JsonObject *colo_rewrite_rows_build(const ColoRewriteRow *rows, uint32_t n,
                                    const char (*nics)[COLO_REQUEST_ALIAS_MAX + 1]);

/* The rows of @array, as ColoRewriteRow[]. NULL and @error (COLO_ERROR_INVALID_ARG) when one is
 * none, or they are more than COLO_REWRITE_CONNECTIONS. */
GBytes *colo_rewrite_rows_parse(JsonObject *array, const char (*nics)[COLO_REQUEST_ALIAS_MAX + 1],
                                unsigned n_nics, GError **error);
