/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/request.h"

#include "comparator/rewrite-rows.h"
#include "util/error.h"
#include "util/json.h"

#include <string.h>

static const char *const request_names[] = {
    [COLO_REQUEST_HELLO] = "hello",
    [COLO_REQUEST_INVENTORY] = "inventory",
    [COLO_REQUEST_SESSION_CREATE] = "session-create",
    [COLO_REQUEST_SESSION_DESTROY] = "session-destroy",
    [COLO_REQUEST_PEER_ATTACH] = "peer-attach",
    [COLO_REQUEST_LOCAL_ATTACH] = "local-attach",
    [COLO_REQUEST_GATE] = "gate",
    [COLO_REQUEST_TAKEOVER_PREPARE] = "takeover-prepare",
    [COLO_REQUEST_KICK_DONE] = "kick-done",
    [COLO_REQUEST_STATS] = "stats",
    [COLO_REQUEST_TUNE] = "tune",
    [COLO_REQUEST_REWRITE_TABLE] = "rewrite-table",
    [COLO_REQUEST_REWRITE_KEEP] = "rewrite-keep",
    [COLO_REQUEST_CARRY] = "carry",
    [COLO_REQUEST_STATE] = "state",
    [COLO_REQUEST_STATE_SET] = "state-set",
};

static const char *const gate_names[] = {
    [COLO_GATE_ALONE] = "alone",
    [COLO_GATE_PAIRED] = "paired",
    [COLO_GATE_HOLD] = "hold",
    [COLO_GATE_CLOSED] = "closed",
};

const char *colo_gate_name(ColoGate gate)
{
    return gate_names[gate];
}

bool colo_request_wants_fd(ColoRequestKind kind)
{
    return kind == COLO_REQUEST_PEER_ATTACH || kind == COLO_REQUEST_LOCAL_ATTACH;
}

static gboolean invalid(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean invalid(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(COLO_ERROR, COLO_ERROR_INVALID_ARG, format, args);
    va_end(args);
    return FALSE;
}

/* The index of @word in @words, or -1. */
static int find_word(const char *const *words, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(words[i], word) == 0)
            return (int)i;
    }
    return -1;
}

static gboolean get_uuid(JsonObject *arguments, char uuid[40], GError **error)
{
    const char *text;

    if (!colo_json_get_string(arguments, "uuid", &text, error))
        return FALSE;
    if (!g_uuid_string_is_valid(text))
        return invalid(error, "'%.64s' is no UUID", text);
    memset(uuid, 0, 40);
    for (int i = 0; i < 36; i++)
        uuid[i] = g_ascii_tolower(text[i]);
    return TRUE;
}

/* Aliases go into names on the wire and into answers: letters, digits, "-_." only. */
static gboolean alias_is_legal(const char *alias)
{
    size_t len = strlen(alias);

    if (len == 0 || len > COLO_REQUEST_ALIAS_MAX)
        return FALSE;
    for (size_t i = 0; i < len; i++) {
        if (!g_ascii_isalnum(alias[i]) && !strchr("-_.", alias[i]))
            return FALSE;
    }
    return TRUE;
}

static gboolean get_aliases(JsonObject *arguments, const char *key, unsigned max,
                            char (*to)[COLO_REQUEST_ALIAS_MAX + 1], unsigned *n, GError **error)
{
    JsonObject *array;
    size_t len;

    if (!colo_json_get_array(arguments, key, &array, error))
        return FALSE;
    len = json_object_array_length(array);
    if (len > max)
        return invalid(error, "%zu %s, at most %u are possible", len, key, max);
    for (size_t i = 0; i < len; i++) {
        JsonObject *item = json_object_array_get_idx(array, i);
        const char *alias =
            json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";

        if (!alias_is_legal(alias))
            return invalid(error, "%s[%zu] is no alias: 1 to %d letters, digits, '-', '_', '.'",
                           key, i, COLO_REQUEST_ALIAS_MAX);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(to[j], alias) == 0)
                return invalid(error, "%s names '%s' twice", key, alias);
        }
        g_strlcpy(to[i], alias, COLO_REQUEST_ALIAS_MAX + 1);
    }
    *n = (unsigned)len;
    return TRUE;
}

static gboolean get_psk(JsonObject *arguments, uint8_t psk[COLO_CMP_PSK_BYTES], GError **error)
{
    const char *text;

    if (!colo_json_get_string(arguments, "psk", &text, error))
        return FALSE;
    if (strlen(text) != 2 * COLO_CMP_PSK_BYTES)
        return invalid(error, "member 'psk' must be %d hexadecimal digits", 2 * COLO_CMP_PSK_BYTES);
    for (int i = 0; i < COLO_CMP_PSK_BYTES; i++) {
        int high = g_ascii_xdigit_value(text[2 * i]);
        int low = g_ascii_xdigit_value(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return invalid(error, "member 'psk' holds something else than hexadecimal digits");
        psk[i] = (uint8_t)(high << 4 | low);
    }
    return TRUE;
}

/* What "tuning" does not name is the default. */
static gboolean get_tuning(JsonObject *arguments, ColoTuning *tuning, GError **error)
{
    JsonObject *object;

    *tuning = (ColoTuning)COLO_TUNING_DEFAULT;
    return colo_json_get_object(arguments, "tuning", &object, error) &&
           colo_tuning_update(tuning, object, error);
}

/* ROWs of the NICs in @config. */
static gboolean get_rows(JsonObject *arguments, const char *key, ColoSessionConfig *config,
                         GError **error)
{
    JsonObject *rows;

    if (!colo_json_get_array(arguments, key, &rows, error))
        return FALSE;
    config->base = colo_rewrite_rows_parse(
        rows, (const char(*)[COLO_REQUEST_ALIAS_MAX + 1]) config->nics, config->n_nics, error);
    return config->base != NULL;
}

/* "carry", which may be absent. */
static gboolean get_carry(JsonObject *arguments, ColoSessionConfig *config, GError **error)
{
    gboolean carry = FALSE;

    if (colo_json_peek(arguments, "carry") &&
        !colo_json_get_bool(arguments, "carry", &carry, error))
        return FALSE;
    config->carry = carry;
    return TRUE;
}

/* "rewrite" and "base", which may be absent. */
static gboolean get_rewrite(JsonObject *arguments, ColoSessionConfig *config, GError **error)
{
    gboolean rewrite = FALSE;

    if (colo_json_peek(arguments, "rewrite") &&
        !colo_json_get_bool(arguments, "rewrite", &rewrite, error))
        return FALSE;
    config->rewrite = rewrite;
    if (!colo_json_peek(arguments, "base"))
        return TRUE;
    if (!rewrite || config->primary)
        return invalid(error, "member 'base' is for a secondary with 'rewrite'");
    return get_rows(arguments, "base", config, error);
}

static gboolean get_config(JsonObject *arguments, ColoSessionConfig *config, GError **error)
{
    gboolean vnet;
    const char *role;

    config->tuning = (ColoTuning)COLO_TUNING_DEFAULT;
    if (!get_uuid(arguments, config->uuid, error) ||
        !colo_json_get_uint(arguments, "generation", &config->generation, error) ||
        !colo_json_get_string(arguments, "role", &role, error) ||
        !get_psk(arguments, config->psk, error) ||
        !colo_json_get_bool(arguments, "vnet-hdr", &vnet, error) ||
        !colo_json_get_uint(arguments, "heartbeat-ms", &config->heartbeat_ms, error) ||
        !colo_json_get_uint(arguments, "heartbeat-missed", &config->heartbeat_missed, error) ||
        !get_aliases(arguments, "nics", COLO_CMP_MAX_NICS, config->nics, &config->n_nics, error) ||
        !get_aliases(arguments, "disks", COLO_CMP_MAX_DISKS, config->disks, &config->n_disks,
                     error) ||
        (colo_json_peek(arguments, "tuning") && !get_tuning(arguments, &config->tuning, error)))
        return FALSE;
    config->vnet = vnet;
    config->primary = strcmp(role, "primary") == 0;
    if (!config->primary && strcmp(role, "secondary") != 0)
        return invalid(error, "role '%.32s' is neither 'primary' nor 'secondary'", role);
    if (config->heartbeat_ms < COLO_REQUEST_HEARTBEAT_MIN_MS ||
        config->heartbeat_ms > COLO_REQUEST_HEARTBEAT_MAX_MS)
        return invalid(error, "heartbeat-ms %" G_GUINT64_FORMAT " is not between %u and %u",
                       config->heartbeat_ms, COLO_REQUEST_HEARTBEAT_MIN_MS,
                       COLO_REQUEST_HEARTBEAT_MAX_MS);
    if (config->heartbeat_missed < 1 || config->heartbeat_missed > COLO_REQUEST_MISSED_MAX)
        return invalid(error, "heartbeat-missed %" G_GUINT64_FORMAT " is not between 1 and %u",
                       config->heartbeat_missed, COLO_REQUEST_MISSED_MAX);
    return get_carry(arguments, config, error) && get_rewrite(arguments, config, error);
}

static gboolean get_name(JsonObject *arguments, const char *key, char name[48], GError **error)
{
    const char *text;

    if (!colo_json_get_string(arguments, key, &text, error))
        return FALSE;
    if (strlen(text) > 47)
        return invalid(error, "%s '%.47s...' is too long", key, text);
    g_strlcpy(name, text, 48);
    return TRUE;
}

static gboolean get_gate(JsonObject *arguments, ColoGate *gate, GError **error)
{
    const char *text;
    int found;

    if (!colo_json_get_string(arguments, "mode", &text, error))
        return FALSE;
    found = find_word(gate_names, G_N_ELEMENTS(gate_names), text);
    if (found < 0)
        return invalid(error, "gate mode '%.32s' is unknown", text);
    *gate = (ColoGate)found;
    return TRUE;
}

static gboolean get_on(JsonObject *arguments, bool *on, GError **error)
{
    gboolean value;

    if (!colo_json_get_bool(arguments, "on", &value, error))
        return FALSE;
    *on = value;
    return TRUE;
}

static gboolean get_state(JsonObject *arguments, GBytes **state, GError **error)
{
    const char *text;
    size_t len;

    if (!colo_json_get_string(arguments, "state", &text, error))
        return FALSE;
    len = strlen(text);
    if (len > COLO_RECORD_STATE_MAX)
        return invalid(error, "a state of %zu bytes, at most %u are possible", len,
                       COLO_RECORD_STATE_MAX);
    *state = g_bytes_new(text, len);
    return TRUE;
}

/* The session that a request is about. */
static gboolean get_session(ColoRequest *request, JsonObject *arguments, GError **error)
{
    return get_uuid(arguments, request->uuid, error) &&
           (!colo_json_peek(arguments, "generation") ||
            colo_json_get_uint(arguments, "generation", &request->generation, error));
}

static gboolean get_arguments(ColoRequest *request, JsonObject *arguments, GError **error)
{
    switch (request->kind) {
    case COLO_REQUEST_INVENTORY:
        return TRUE;
    case COLO_REQUEST_HELLO:
        return colo_json_get_uint(arguments, "version", &request->version, error);
    case COLO_REQUEST_SESSION_CREATE:
        if (!get_config(arguments, &request->config, error))
            return FALSE;
        memcpy(request->uuid, request->config.uuid, sizeof(request->uuid));
        return TRUE;
    case COLO_REQUEST_PEER_ATTACH:
        return get_session(request, arguments, error) &&
               get_name(arguments, "stream", request->name, error);
    case COLO_REQUEST_LOCAL_ATTACH:
        return get_session(request, arguments, error) &&
               get_name(arguments, "channel", request->name, error);
    case COLO_REQUEST_REWRITE_KEEP:
        return get_session(request, arguments, error) &&
               get_aliases(arguments, "nics", COLO_CMP_MAX_NICS, request->config.nics,
                           &request->config.n_nics, error) &&
               get_rows(arguments, "rows", &request->config, error);
    case COLO_REQUEST_GATE:
        return get_session(request, arguments, error) && get_gate(arguments, &request->gate, error);
    case COLO_REQUEST_CARRY:
        return get_session(request, arguments, error) && get_on(arguments, &request->on, error);
    case COLO_REQUEST_STATE:
        return get_session(request, arguments, error) &&
               colo_json_get_uint(arguments, "epoch", &request->epoch, error) &&
               get_state(arguments, &request->state, error);
    case COLO_REQUEST_STATE_SET:
        return get_session(request, arguments, error) &&
               colo_json_get_uint(arguments, "epoch", &request->epoch, error);
    case COLO_REQUEST_TUNE:
        return get_session(request, arguments, error) &&
               get_tuning(arguments, &request->tuning, error);
    default:
        return get_session(request, arguments, error);
    }
}

gboolean colo_request_parse(const char *text, size_t len, ColoRequest *request, GError **error)
{
    g_autoptr(JsonObject) object = colo_json_parse(text, len, error);
    g_autoptr(JsonObject) none = json_object_new_object();
    JsonObject *arguments;
    const char *name;
    int kind;

    memset(request, 0, sizeof(*request));
    if (!object || !colo_json_get_uint(object, "id", &request->id, error))
        return FALSE;
    request->has_id = true;
    if (!colo_json_get_string(object, "execute", &name, error))
        return FALSE;
    kind = find_word(request_names, G_N_ELEMENTS(request_names), name);
    if (kind < 0)
        return invalid(error, "request '%.64s' is unknown in version %d of the protocol", name,
                       COLO_CMP_VERSION);
    request->kind = (ColoRequestKind)kind;
    arguments = colo_json_peek(object, "arguments");
    if (!arguments)
        arguments = none;
    if (!json_object_is_type(arguments, json_type_object))
        return invalid(error, "member 'arguments' must be an object");
    return get_arguments(request, arguments, error);
}

void colo_request_clear(ColoRequest *request)
{
    g_clear_pointer(&request->config.base, g_bytes_unref);
    g_clear_pointer(&request->state, g_bytes_unref);
    explicit_bzero(request, sizeof(*request));
}
