/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/json.h"

#include "util/error.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

JsonObject *colo_json_parse(const char *text, size_t len, GError **error)
{
    struct json_tokener *tokener;
    JsonObject *object = NULL;

    if (len > INT_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "JSON text of %zu bytes is too long",
                    len);
        return NULL;
    }
    /* json-c ends at a NUL as if the text did; what comes after it would go unread. */
    if (len > 0 && memchr(text, '\0', len)) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "not a JSON object: the text holds a NUL byte");
        return NULL;
    }
    tokener = json_tokener_new_ex(COLO_JSON_MAX_DEPTH);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = json_tokener_parse_ex(tokener, text, (int)len);
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "not a JSON object: %s at byte %zu",
                    json_tokener_error_desc(json_tokener_get_error(tokener)),
                    json_tokener_get_parse_end(tokener));
        g_clear_pointer(&object, json_object_put);
    } else if (!json_object_is_type(object, json_type_object)) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "not a JSON object: another type of value");
        g_clear_pointer(&object, json_object_put);
    }
    json_tokener_free(tokener);
    return object;
}

char *colo_json_to_string(JsonObject *object)
{
    return g_strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                               JSON_C_TO_STRING_NOSLASHESCAPE));
}

static gboolean get_typed(JsonObject *object, const char *key, enum json_type type,
                          JsonObject **value, GError **error)
{
    if (!json_object_object_get_ex(object, key, value) || !*value) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "member '%s' (%s) is missing", key,
                    json_type_to_name(type));
        return FALSE;
    }
    if (!json_object_is_type(*value, type)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "member '%s' must be of type %s, found %s", key, json_type_to_name(type),
                    json_type_to_name(json_object_get_type(*value)));
        return FALSE;
    }
    return TRUE;
}

gboolean colo_json_get_string(JsonObject *object, const char *key, const char **value,
                              GError **error)
{
    JsonObject *member;

    if (!get_typed(object, key, json_type_string, &member, error))
        return FALSE;
    if (strlen(json_object_get_string(member)) != (size_t)json_object_get_string_len(member)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "member '%s' holds a NUL character",
                    key);
        return FALSE;
    }
    *value = json_object_get_string(member);
    return TRUE;
}

gboolean colo_json_get_uint(JsonObject *object, const char *key, uint64_t *value, GError **error)
{
    JsonObject *member;

    if (!get_typed(object, key, json_type_int, &member, error))
        return FALSE;
    if (json_object_get_int64(member) < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "member '%s' must not be negative",
                    key);
        return FALSE;
    }
    *value = json_object_get_uint64(member);
    return TRUE;
}

gboolean colo_json_get_bool(JsonObject *object, const char *key, gboolean *value, GError **error)
{
    JsonObject *member;

    if (!get_typed(object, key, json_type_boolean, &member, error))
        return FALSE;
    *value = json_object_get_boolean(member) ? TRUE : FALSE;
    return TRUE;
}

gboolean colo_json_get_object(JsonObject *object, const char *key, JsonObject **value,
                              GError **error)
{
    return get_typed(object, key, json_type_object, value, error);
}

gboolean colo_json_get_array(JsonObject *object, const char *key, JsonObject **value,
                             GError **error)
{
    return get_typed(object, key, json_type_array, value, error);
}

JsonObject *colo_json_peek(JsonObject *object, const char *key)
{
    JsonObject *member = NULL;

    if (!object || !json_object_is_type(object, json_type_object))
        return NULL;
    json_object_object_get_ex(object, key, &member);
    return member;
}

const char *colo_json_peek_string(JsonObject *object, const char *key, const char *fallback)
{
    JsonObject *member = colo_json_peek(object, key);

    return json_object_is_type(member, json_type_string) ? json_object_get_string(member)
                                                         : fallback;
}

uint64_t colo_json_peek_uint(JsonObject *object, const char *key, uint64_t fallback)
{
    JsonObject *member = colo_json_peek(object, key);

    if (!json_object_is_type(member, json_type_int) || json_object_get_int64(member) < 0)
        return fallback;
    return json_object_get_uint64(member);
}

gboolean colo_json_peek_bool(JsonObject *object, const char *key, gboolean fallback)
{
    JsonObject *member = colo_json_peek(object, key);

    if (!json_object_is_type(member, json_type_boolean))
        return fallback;
    return json_object_get_boolean(member) ? TRUE : FALSE;
}

static void add_members(JsonObject *object, const char *key, va_list args)
{
    for (; key; key = va_arg(args, const char *)) {
        const char *format = va_arg(args, const char *);
        JsonObject *value = NULL;
        const char *text;

        switch (*format) {
        case 's':
            text = va_arg(args, const char *);
            value = text ? json_object_new_string(text) : NULL;
            break;
        case 'u':
            value = json_object_new_uint64(va_arg(args, uint64_t));
            break;
        case 'i':
            value = json_object_new_int(va_arg(args, int));
            break;
        case 'b':
            value = json_object_new_boolean(va_arg(args, gboolean));
            break;
        case 'o':
            value = va_arg(args, JsonObject *);
            break;
        default:
            g_error("colo_json_build: unknown format '%s' of member '%s'", format, key);
        }
        json_object_object_add(object, key, value);
    }
}

JsonObject *colo_json_build(const char *key, ...)
{
    JsonObject *object = json_object_new_object();
    va_list args;

    va_start(args, key);
    add_members(object, key, args);
    va_end(args);
    return object;
}

void colo_json_add(JsonObject *object, const char *key, ...)
{
    va_list args;

    va_start(args, key);
    add_members(object, key, args);
    va_end(args);
}
