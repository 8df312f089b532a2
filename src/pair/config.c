/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pair/config.h"

#include "util/error.h"

#include <errno.h>
#include <limits.h>
#include <libconfig.h>
#include <stddef.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

typedef enum {
    TYPE_STRING,
    TYPE_LIST,  /* of strings */
    TYPE_UINT,  /* unsigned, min..max */
    TYPE_PORT,  /* uint16_t, 1..65535 */
    TYPE_BYTES, /* uint64_t; an integer or "64M" */
    TYPE_BOOL,
    TYPE_ARBITER,
    TYPE_LEVEL,
    TYPE_AUTH, /* bool: "polkit", not "none" */
} KeyType;

typedef struct {
    const char *name;
    KeyType type;
    size_t offset;     /* of the member in ColoConfig */
    unsigned min, max; /* TYPE_UINT */
} Key;

#define AT(member) offsetof(ColoConfig, member)

static const Key keys[] = {
    {"host_name", TYPE_STRING, AT(host_name), 0, 0},
    {"listen_addr", TYPE_STRING, AT(listen_addr), 0, 0},
    {"control_port", TYPE_PORT, AT(control_port), 0, 0},
    {"data_port", TYPE_PORT, AT(data_port), 0, 0},
    {"key_file", TYPE_STRING, AT(tls.server_key_file), 0, 0},
    {"cert_file", TYPE_STRING, AT(tls.server_cert_file), 0, 0},
    {"client_key_file", TYPE_STRING, AT(tls.client_key_file), 0, 0},
    {"client_cert_file", TYPE_STRING, AT(tls.client_cert_file), 0, 0},
    {"ca_file", TYPE_STRING, AT(tls.ca_file), 0, 0},
    {"crl_file", TYPE_STRING, AT(tls.crl_file), 0, 0},
    {"tls_allowed_dn_list", TYPE_LIST, AT(tls.allowed_dn_list), 0, 0},
    /* Above 2 s the peer would be given up as dead between two heartbeats. */
    {"heartbeat_interval_ms", TYPE_UINT, AT(heartbeat.interval_ms), 10, 2000},
    {"heartbeat_missed", TYPE_UINT, AT(heartbeat.missed), 2, 1000},
    {"arbiter", TYPE_ARBITER, AT(arbiter.kind), 0, 0},
    {"etcd_endpoints", TYPE_LIST, AT(arbiter.endpoints), 0, 0},
    {"etcd_ca", TYPE_STRING, AT(arbiter.ca_file), 0, 0},
    {"etcd_cert", TYPE_STRING, AT(arbiter.cert_file), 0, 0},
    {"etcd_key", TYPE_STRING, AT(arbiter.key_file), 0, 0},
    {"etcd_timeout_ms", TYPE_UINT, AT(arbiter.timeout_ms), 100, 60000},
    {"allow_emulation", TYPE_BOOL, AT(allow_emulation), 0, 0},
    {"checkpoint_period_ms", TYPE_UINT, AT(checkpoint_period_ms), 1, 600000},
    {"checkpoint_max_dirty_bytes", TYPE_BYTES, AT(checkpoint_max_dirty_bytes), 0, 0},
    {"checkpoint_max_overlay_bytes", TYPE_BYTES, AT(checkpoint_max_overlay_bytes), 0, 0},
    {"tcp_rewrite", TYPE_BOOL, AT(tcp_rewrite), 0, 0},
    {"state_dir", TYPE_STRING, AT(state_dir), 0, 0},
    {"log_level", TYPE_LEVEL, AT(log_level), 0, 0},
    {"unix_sock_group", TYPE_STRING, AT(unix_sock_group), 0, 0},
    {"auth_unix_rw", TYPE_AUTH, AT(polkit_rw), 0, 0},
    {"auth_unix_ro", TYPE_AUTH, AT(polkit_ro), 0, 0},
    {"listen_tls", TYPE_BOOL, AT(listen_tls), 0, 0},
    {"tls_port", TYPE_PORT, AT(tls_port), 0, 0},
    {"tls_client_dn_list", TYPE_LIST, AT(tls_clients), 0, 0},
    {"metrics_addr", TYPE_STRING, AT(metrics_addr), 0, 0},
    {"metrics_port", TYPE_UINT, AT(metrics_port), 0, 65535},
};

static const struct {
    const char *name;
    int level;
} levels[] = {
    {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warning", LOG_WARNING}, {"error", LOG_ERR}};

/* "a string", "an integer", ... of what stands in the file. */
static char *found_text(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT:
        return g_strdup_printf("the integer %d", config_setting_get_int(setting));
    case CONFIG_TYPE_INT64:
        return g_strdup_printf("the integer %lld", config_setting_get_int64(setting));
    case CONFIG_TYPE_FLOAT:
        return g_strdup_printf("the number %g", config_setting_get_float(setting));
    case CONFIG_TYPE_STRING:
        return g_strdup_printf("the string \"%s\"", config_setting_get_string(setting));
    case CONFIG_TYPE_BOOL:
        return g_strdup(config_setting_get_bool(setting) ? "true" : "false");
    case CONFIG_TYPE_ARRAY:
    case CONFIG_TYPE_LIST:
        return g_strdup("a list");
    default:
        return g_strdup("a group { }");
    }
}

/* Fails with "file:line: key: expected X, found Y". */
static gboolean expected(const config_setting_t *setting, const char *file, const char *what,
                         GError **error)
{
    g_autofree char *found = found_text(setting);
    const char *name = config_setting_name(setting);

    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "%s:%u: %s: expected %s, found %s", file,
                config_setting_source_line(setting),
                name ? name : config_setting_name(config_setting_parent(setting)), what, found);
    return FALSE;
}

static bool is_integer(const config_setting_t *setting)
{
    int type = config_setting_type(setting);

    return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

static gboolean read_uint(const config_setting_t *setting, const char *file, unsigned min,
                          unsigned max, unsigned *value, GError **error)
{
    g_autofree char *what = g_strdup_printf("an integer from %u to %u", min, max);
    long long number;

    if (!is_integer(setting))
        return expected(setting, file, what, error);
    number = config_setting_get_int64(setting);
    if (number < (long long)min || number > (long long)max)
        return expected(setting, file, what, error);
    *value = (unsigned)number;
    return TRUE;
}

/* "1048576", "1024K", "64M", "2G": binary units. */
static gboolean parse_bytes(const char *text, uint64_t *value)
{
    static const char units[] = "KMG";
    uint64_t number;
    char *end;
    const char *unit;

    if (!g_ascii_isdigit(text[0]))
        return FALSE;
    errno = 0;
    number = g_ascii_strtoull(text, &end, 10);
    if (errno != 0)
        return FALSE;
    if (*end) {
        unit = strchr(units, g_ascii_toupper(*end));
        if (!unit || end[1])
            return FALSE;
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (number > (UINT64_MAX >> shift))
            return FALSE;
        number <<= shift;
    }
    *value = number;
    return TRUE;
}

static gboolean read_bytes(const config_setting_t *setting, const char *file, uint64_t *value,
                           GError **error)
{
    if (is_integer(setting) && config_setting_get_int64(setting) >= 0) {
        *value = (uint64_t)config_setting_get_int64(setting);
        return TRUE;
    }
    if (config_setting_type(setting) == CONFIG_TYPE_STRING &&
        parse_bytes(config_setting_get_string(setting), value))
        return TRUE;
    return expected(setting, file, "a number of bytes, as 67108864 or \"64M\"", error);
}

static gboolean read_list(const config_setting_t *setting, const char *file, char ***value,
                          GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    int type = config_setting_type(setting);

    if (type != CONFIG_TYPE_ARRAY && type != CONFIG_TYPE_LIST)
        return expected(setting, file, "a list of strings, as [ \"a\", \"b\" ]", error);
    for (int i = 0; i < config_setting_length(setting); i++) {
        const config_setting_t *item = config_setting_get_elem(setting, (unsigned)i);

        if (config_setting_type(item) != CONFIG_TYPE_STRING)
            return expected(item, file, "only strings in the list", error);
        g_ptr_array_add(list, g_strdup(config_setting_get_string(item)));
    }
    g_ptr_array_add(list, NULL);
    g_strfreev(*value);
    *value = g_strdupv((char **)list->pdata);
    return TRUE;
}

static gboolean read_string(const config_setting_t *setting, const char *file, char **value,
                            GError **error)
{
    if (config_setting_type(setting) != CONFIG_TYPE_STRING)
        return expected(setting, file, "a string in double quotes", error);
    g_free(*value);
    *value = g_strdup(config_setting_get_string(setting));
    return TRUE;
}

static gboolean read_bool(const config_setting_t *setting, const char *file, bool *value,
                          GError **error)
{
    /* libvirt's files write 0 and 1. */
    if (config_setting_type(setting) == CONFIG_TYPE_BOOL) {
        *value = config_setting_get_bool(setting);
    } else if (is_integer(setting) && (config_setting_get_int64(setting) & ~1LL) == 0) {
        *value = config_setting_get_int64(setting) == 1;
    } else {
        return expected(setting, file, "true or false (or 1 or 0)", error);
    }
    return TRUE;
}

static gboolean read_arbiter(const config_setting_t *setting, const char *file,
                             ColoArbiterKind *value, GError **error)
{
    const char *text = config_setting_get_string(setting);

    if (g_strcmp0(text, "etcd") == 0)
        *value = COLO_ARBITER_ETCD;
    else if (g_strcmp0(text, "manual") == 0)
        *value = COLO_ARBITER_MANUAL;
    else
        return expected(setting, file, "\"manual\" or \"etcd\"", error);
    return TRUE;
}

static gboolean read_level(const config_setting_t *setting, const char *file, int *value,
                           GError **error)
{
    const char *text = config_setting_get_string(setting);

    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (g_strcmp0(text, levels[i].name) == 0) {
            *value = levels[i].level;
            return TRUE;
        }
    }
    return expected(setting, file, "\"debug\", \"info\", \"warning\" or \"error\"", error);
}

static gboolean read_auth(const config_setting_t *setting, const char *file, bool *value,
                          GError **error)
{
    const char *text = config_setting_get_string(setting);

    *value = g_strcmp0(text, "polkit") == 0;
    return *value || g_strcmp0(text, "none") == 0
               ? TRUE
               : expected(setting, file, "\"none\" or \"polkit\"", error);
}

static gboolean read_key(ColoConfig *config, const Key *key, const config_setting_t *setting,
                         const char *file, GError **error)
{
    void *member = (char *)config + key->offset;
    unsigned port;

    switch (key->type) {
    case TYPE_STRING:
        return read_string(setting, file, member, error);
    case TYPE_LIST:
        return read_list(setting, file, member, error);
    case TYPE_UINT:
        return read_uint(setting, file, key->min, key->max, member, error);
    case TYPE_PORT:
        if (!read_uint(setting, file, 1, 65535, &port, error))
            return FALSE;
        *(uint16_t *)member = (uint16_t)port;
        return TRUE;
    case TYPE_BYTES:
        return read_bytes(setting, file, member, error);
    case TYPE_BOOL:
        return read_bool(setting, file, member, error);
    case TYPE_ARBITER:
        return read_arbiter(setting, file, member, error);
    case TYPE_LEVEL:
        return read_level(setting, file, member, error);
    case TYPE_AUTH:
        return read_auth(setting, file, member, error);
    }
    return FALSE;
}

static const Key *find_key(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    }
    return NULL;
}

static gboolean read_settings(ColoConfig *config, const config_t *file_config, const char *file,
                              GError **error)
{
    const config_setting_t *root = config_root_setting(file_config);

    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        const Key *key = find_key(config_setting_name(setting));

        if (!key) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "%s:%u: %s: unknown key; the keys are described in the installed "
                        "virtcolod.conf",
                        file, config_setting_source_line(setting), config_setting_name(setting));
            return FALSE;
        }
        if (!read_key(config, key, setting, file, error))
            return FALSE;
    }
    return TRUE;
}

/* What one key alone cannot tell. */
static gboolean check_whole(const ColoConfig *config, const char *file, GError **error)
{
    const ColoArbiterConfig *arbiter = &config->arbiter;
    const char *missing = NULL;

    if (config->control_port == config->data_port) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s: control_port and data_port are both %u, they must differ", file,
                    config->control_port);
        return FALSE;
    }
    if (!*config->host_name) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s: host_name: expected a host name, found \"\"", file);
        return FALSE;
    }
    if (arbiter->kind == COLO_ARBITER_ETCD) {
        if (!arbiter->endpoints || !arbiter->endpoints[0])
            missing = "etcd_endpoints";
        else if (!arbiter->ca_file)
            missing = "etcd_ca";
        else if (!arbiter->cert_file)
            missing = "etcd_cert";
        else if (!arbiter->key_file)
            missing = "etcd_key";
    }
    if (missing) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s: arbiter = \"etcd\" needs the key %s, which is not set", file, missing);
        return FALSE;
    }
    return TRUE;
}

static ColoConfig *defaults(void)
{
    ColoConfig *config = g_new0(ColoConfig, 1);
    char name[HOST_NAME_MAX + 1] = "";

    gethostname(name, sizeof(name) - 1);
    config->host_name = g_strdup(name);
    config->listen_addr = g_strdup("");
    config->control_port = COLO_CHANNEL_PORT;
    config->data_port = COLO_DATA_PORT;
    config->heartbeat = COLO_HEARTBEAT_DEFAULT;
    config->arbiter.kind = COLO_ARBITER_MANUAL;
    config->arbiter.timeout_ms = COLO_ARBITER_TIMEOUT_MS;
    config->checkpoint_period_ms = 500;
    config->tcp_rewrite = true;
    config->checkpoint_max_dirty_bytes = UINT64_C(256) << 20;
    config->checkpoint_max_overlay_bytes = UINT64_C(1) << 30;
    config->state_dir = g_strdup(LOCALSTATEDIR "/lib/libvirt-colo");
    config->log_level = LOG_INFO;
    config->unix_sock_group = g_strdup("");
    config->metrics_addr = g_strdup("127.0.0.1");
    config->metrics_port = COLO_METRICS_PORT;
    config->tls_port = COLO_TLS_PORT;
    return config;
}

/* Bytes of @text up to the end of the string or comment that begins there; 0: none does. */
static size_t opaque_length(const char *text)
{
    const char *end = NULL;

    if (text[0] == '"') {
        for (end = text + 1; *end && *end != '"'; end++) {
            if (*end == '\\' && end[1])
                end++;
        }
        return (size_t)(end - text) + (*end ? 1 : 0);
    }
    if (text[0] == '#' || (text[0] == '/' && text[1] == '/'))
        return strcspn(text, "\n");
    if (text[0] == '/' && text[1] == '*') {
        end = strstr(text + 2, "*/");
        return end ? (size_t)(end + 2 - text) : strlen(text);
    }
    return 0;
}

/*
 * libconfig 1.5 reads an integer of more than 32 bits without the suffix L as 0 or -1, silently:
 * adds the suffix. One of more than 18 digits, which may not fit 64 bits, becomes a string, so that
 * it is refused with the text that was found.
 */
static char *widen_integers(const char *text)
{
    GString *wide = g_string_new(NULL);
    bool in_word = false;

    while (*text) {
        size_t skip = opaque_length(text);
        size_t digits = in_word ? 0 : strspn(text, "0123456789");

        if (skip > 0) {
            g_string_append_len(wide, text, (gssize)skip);
        } else if (digits > 18) {
            skip = digits + strspn(text + digits, "L");
            g_string_append_printf(wide, "\"%.*s\"", (int)digits, text);
        } else if (digits >= 10 && text[digits] != 'L' && text[digits] != '.') {
            skip = digits;
            g_string_append_printf(wide, "%.*sL", (int)digits, text);
        } else {
            skip = MAX(digits, 1);
            g_string_append_len(wide, text, (gssize)skip);
        }
        in_word = g_ascii_isalnum(text[skip - 1]) || text[skip - 1] == '_' || text[skip - 1] == '.';
        text += skip;
    }
    return g_string_free(wide, FALSE);
}

ColoConfig *colo_config_load(const char *path, GError **error)
{
    g_autoptr(ColoConfig) config = defaults();
    const char *file = path ? path : COLO_CONFIG_FILE;
    g_autofree char *text = NULL;
    g_autofree char *wide = NULL;
    g_autoptr(GError) read_error = NULL;
    config_t file_config;
    gboolean ok;

    if (!g_file_get_contents(file, &text, NULL, &read_error)) {
        if (!path && g_error_matches(read_error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return g_steal_pointer(&config);
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "cannot read the configuration: %s",
                    read_error->message);
        return NULL;
    }
    wide = widen_integers(text);
    config_init(&file_config);
    if (config_read_string(&file_config, wide)) {
        ok = read_settings(config, &file_config, file, error) && check_whole(config, file, error);
    } else {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "%s:%d: %s", file,
                    config_error_line(&file_config), config_error_text(&file_config));
        ok = FALSE;
    }
    config_destroy(&file_config);
    return ok ? g_steal_pointer(&config) : NULL;
}

void colo_config_free(ColoConfig *config)
{
    if (!config)
        return;
    g_free(config->host_name);
    g_free(config->listen_addr);
    colo_tls_config_clear(&config->tls);
    colo_arbiter_config_clear(&config->arbiter);
    g_free(config->state_dir);
    g_free(config->unix_sock_group);
    g_free(config->metrics_addr);
    g_strfreev(config->tls_clients);
    g_free(config);
}
