/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hello, the first message each way: what a host says of itself. Pure functions, any thread. */
#pragma once

#include "pair/channel.h"

/* A copy of @self fit to be said: version set, no NULL where hello must have a text. */
ColoPeerInfo *colo_hello_self(const ColoPeerInfo *self);

/* The message of @self. */
JsonObject *colo_hello_build(const ColoPeerInfo *self);

/*
 * What the first @message, of @type, of the peer at @address says; its dn is not set. NULL and
 * @error: COLO_ERROR_PEER when it is no hello or one of another version (both are named),
 * COLO_ERROR_INVALID_ARG when a member is missing.
 */
ColoPeerInfo *colo_hello_parse(const ColoPeerInfo *self, const char *address, const char *type,
                               JsonObject *message, GError **error);
