/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json-c with GError and typed access: messages from outside are read through these, so that a
 * missing or mistyped member is an error that names it. Objects are json-c's and follow its
 * reference counting; not thread safe on one object.
 */
#pragma once

#include <glib.h>
#include <json-c/json.h>
#include <stdint.h>

typedef struct json_object JsonObject;
static inline void colo_json_put(JsonObject *object)
{
    json_object_put(object);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonObject, colo_json_put)

/* Nesting a message may have; ours have four levels. */
#define COLO_JSON_MAX_DEPTH 32

/* Parses exactly one JSON object out of @len bytes; NULL and @error (COLO_ERROR_INVALID_ARG) if it
 * is anything else. The caller owns the result. */
JsonObject *colo_json_parse(const char *text, size_t len, GError **error);

/* @object as one line; the caller frees it. */
char *colo_json_to_string(JsonObject *object);

/* Members that must be there, with the type named. FALSE and @error otherwise. A string stays
 * @object's; a sub-object is borrowed too. */
gboolean colo_json_get_string(JsonObject *object, const char *key, const char **value,
                              GError **error);
gboolean colo_json_get_uint(JsonObject *object, const char *key, uint64_t *value, GError **error);
gboolean colo_json_get_bool(JsonObject *object, const char *key, gboolean *value, GError **error);
gboolean colo_json_get_object(JsonObject *object, const char *key, JsonObject **value,
                              GError **error);
gboolean colo_json_get_array(JsonObject *object, const char *key, JsonObject **value,
                             GError **error);

/* Members that may be absent or null: the value or the fallback; a mistyped one counts as absent.
 * For our own messages and for display, never for a decision about ownership. */
const char *colo_json_peek_string(JsonObject *object, const char *key, const char *fallback);
uint64_t colo_json_peek_uint(JsonObject *object, const char *key, uint64_t fallback);
gboolean colo_json_peek_bool(JsonObject *object, const char *key, gboolean fallback);
JsonObject *colo_json_peek(JsonObject *object, const char *key); /* borrowed, or NULL */

/*
 * Builds an object from (key, format, value) triples ended by NULL:
 *   "s" const char * (NULL gives null), "u" uint64_t, "i" int, "b" gboolean,
 *   "o" JsonObject * (taken over; NULL gives null).
 * colo_json_build("name", "s", name, "generation", "u", generation, NULL)
 */
JsonObject *colo_json_build(const char *key, ...) G_GNUC_NULL_TERMINATED;

/* Adds the same triples to @object. */
void colo_json_add(JsonObject *object, const char *key, ...) G_GNUC_NULL_TERMINATED;
