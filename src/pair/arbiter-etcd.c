/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arbiter back-end etcd v3 through its JSON gateway (https://etcd.io/docs/v3.4/dev-guide/
 * api_grpc_gateway/): POST /v3/kv/range and /v3/kv/txn, keys and values in base64, 64-bit integers
 * as strings. Ranges are linearizable ("serializable" is never set).
 *
 * Endpoints are tried in turn. A read may be repeated at another one. A transaction is sent to one
 * endpoint only: once a byte of it may have left, any outcome but a clear answer is UNKNOWN.
 * (libcurl by itself sends a request again when a kept connection turns out to be closed; that copy
 * is harmless because the transaction compares the key's mod_revision, which the first copy
 * changes.)
 */
#include "pair/arbiter-private.h"

#include "util/clock.h"
#include "util/error.h"
#include "util/json.h"

#include <curl/curl.h>
#include <string.h>

#define KEY_PREFIX "/libvirt-colo/domains/"
#define VALUE_VERSION 1u
/* An answer holds one register, a few hundred bytes. */
#define MAX_ANSWER (64u * 1024u)
/* libcurl does not use a connection again that was idle for 118 s (CURLOPT_MAXAGE_CONN). */
#define WARM_INTERVAL_S 30
#define WARM_TIMEOUT_MS 2000u
/* Connections kept for the next request; more callers at once make their own. */
#define MAX_IDLE 4u
#define MIN_SLICE_MS 50u

typedef struct {
    ColoArbiterConfig config;
    guint n_endpoints;
    GThread *warmer; /* NULL: none */
    GMutex lock;     /* protects what follows */
    guint preferred; /* endpoint that answered last */
    GPtrArray *idle; /* CURL handles */
    gboolean ending;
    GCond ended;
} Etcd;

typedef enum {
    SENT_ANSWER,  /* HTTP 200 and a JSON object */
    SENT_NOT,     /* surely nothing of it left this host */
    SENT_UNKNOWN, /* it may have reached a server; no clear answer */
} Sent;

static void init_curl(void)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&once, 1);
    }
}

static gboolean config_error(GError **error, const char *what)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "arbiter etcd: %s", what);
    return FALSE;
}

static gboolean check_config(const ColoArbiterConfig *config, GError **error)
{
    if (!config->endpoints || !config->endpoints[0])
        return config_error(error, "etcd_endpoints is empty");
    for (char **e = config->endpoints; *e; e++) {
        bool tls = g_str_has_prefix(*e, "https://");
        g_autofree char *text = NULL;

        if (tls || (config->allow_plaintext && g_str_has_prefix(*e, "http://")))
            continue;
        text = g_strdup_printf("etcd_endpoints: expected \"https://HOST:2379\", found \"%s\"", *e);
        return config_error(error, text);
    }
    if (!config->allow_plaintext && (!config->ca_file || !config->cert_file || !config->key_file))
        return config_error(error, "etcd_ca, etcd_cert and etcd_key must be set");
    return TRUE;
}

void *colo_arbiter_etcd_new(const ColoArbiterConfig *config, GError **error)
{
    Etcd *etcd;

    if (!check_config(config, error))
        return NULL;
    init_curl();
    etcd = g_new0(Etcd, 1);
    etcd->config = *config;
    etcd->config.endpoints = g_strdupv(config->endpoints);
    etcd->config.ca_file = g_strdup(config->ca_file);
    etcd->config.cert_file = g_strdup(config->cert_file);
    etcd->config.key_file = g_strdup(config->key_file);
    etcd->n_endpoints = g_strv_length(config->endpoints);
    etcd->idle = g_ptr_array_new_with_free_func((GDestroyNotify)curl_easy_cleanup);
    g_mutex_init(&etcd->lock);
    g_cond_init(&etcd->ended);
    return etcd;
}

static void etcd_free(void *backend)
{
    Etcd *etcd = backend;

    g_mutex_lock(&etcd->lock);
    etcd->ending = TRUE;
    g_cond_signal(&etcd->ended);
    g_mutex_unlock(&etcd->lock);
    if (etcd->warmer)
        g_thread_join(etcd->warmer);
    g_ptr_array_unref(etcd->idle);
    colo_arbiter_config_clear(&etcd->config);
    g_mutex_clear(&etcd->lock);
    g_cond_clear(&etcd->ended);
    g_free(etcd);
}

static CURL *take_handle(Etcd *etcd)
{
    CURL *curl = NULL;

    g_mutex_lock(&etcd->lock);
    if (etcd->idle->len > 0)
        curl = g_ptr_array_steal_index_fast(etcd->idle, etcd->idle->len - 1);
    g_mutex_unlock(&etcd->lock);
    if (!curl)
        curl = curl_easy_init();
    if (!curl)
        g_error("libcurl: out of memory");
    curl_easy_reset(curl); /* keeps live connections */
    return curl;
}

static void give_handle(Etcd *etcd, CURL *curl)
{
    g_mutex_lock(&etcd->lock);
    if (etcd->idle->len < MAX_IDLE)
        g_ptr_array_add(etcd->idle, g_steal_pointer(&curl));
    g_mutex_unlock(&etcd->lock);
    if (curl)
        curl_easy_cleanup(curl);
}

static size_t collect(char *data, size_t size, size_t count, void *opaque)
{
    GString *answer = opaque;

    if (answer->len + size * count > MAX_ANSWER)
        return 0; /* libcurl fails with CURLE_WRITE_ERROR */
    g_string_append_len(answer, data, (gssize)(size * count));
    return size * count;
}

static void set_options(Etcd *etcd, CURL *curl, const char *url, const char *body,
                        struct curl_slist *headers, long timeout_ms, GString *answer, char *reason)
{
    const ColoArbiterConfig *config = &etcd->config;

    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, config->allow_plaintext ? "http,https" : "https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    if (config->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, config->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    if (config->cert_file)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, config->cert_file);
    if (config->key_file)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, config->key_file);
}

/* True when libcurl failed before a byte of the request left. */
static bool nothing_left(CURL *curl, CURLcode rc)
{
    long request_size = 0;

    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return true;
    default:
        break;
    }
    return curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &request_size) == CURLE_OK &&
           request_size == 0;
}

/* What etcd said in the body of an HTTP error. */
static char *http_reason(long status, const char *body, size_t len)
{
    g_autoptr(JsonObject) object = colo_json_parse(body, len, NULL);
    const char *text = colo_json_peek_string(object, "message", NULL);

    if (!text)
        text = colo_json_peek_string(object, "error", "no reason given");
    return g_strdup_printf("HTTP status %ld: %s", status, text);
}

/* Sends @body to @endpoint; @answer is set with SENT_ANSWER, @error else. */
static Sent post_to(Etcd *etcd, const char *endpoint, const char *path, const char *body,
                    uint64_t timeout_ms, JsonObject **answer, GError **error)
{
    g_autofree char *url = g_strconcat(endpoint, path, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURL *curl = take_handle(etcd);
    char reason[CURL_ERROR_SIZE] = "";
    long status = 0;
    Sent sent = SENT_UNKNOWN;
    CURLcode rc;

    /* No "Expect: 100-continue" round trip. */
    headers = curl_slist_append(headers, "Expect:");
    set_options(etcd, curl, url, body, headers, (long)timeout_ms, text, reason);
    rc = curl_easy_perform(curl);
    if (rc != CURLE_OK) {
        if (nothing_left(curl, rc))
            sent = SENT_NOT;
        /* etcd refuses a certificate after the handshake (TLS 1.3), by an alert or by a reset. */
        bool refused = rc == CURLE_SEND_ERROR || rc == CURLE_RECV_ERROR;

        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER, "%s: %s%s%s%s", endpoint,
                    *reason ? reason : curl_easy_strerror(rc),
                    refused ? " (if it refused our certificate: '" : "",
                    refused && etcd->config.cert_file ? etcd->config.cert_file : "",
                    refused ? "' must be of the CA that etcd trusts)" : "");
    } else {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200) {
            *answer = colo_json_parse(text->str, text->len, error);
            sent = *answer ? SENT_ANSWER : SENT_UNKNOWN;
        } else {
            g_autofree char *why = http_reason(status, text->str, text->len);

            g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER, "%s: %s", endpoint, why);
        }
    }
    curl_slist_free_all(headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    give_handle(etcd, curl);
    return sent;
}

/* Sends to the endpoints in turn until one answers; a request that is not @repeatable only until it
 * may have left. */
static Sent post(Etcd *etcd, const char *path, const char *body, bool repeatable,
                 uint64_t deadline_ns, JsonObject **answer, GError **error)
{
    g_autoptr(GString) reasons = g_string_new(NULL);
    Sent worst = SENT_NOT;
    guint first;

    g_mutex_lock(&etcd->lock);
    first = etcd->preferred;
    g_mutex_unlock(&etcd->lock);
    for (guint i = 0; i < etcd->n_endpoints; i++) {
        guint which = (first + i) % etcd->n_endpoints;
        uint64_t now = colo_clock_ns();
        uint64_t left_ms = now < deadline_ns ? (deadline_ns - now) / COLO_NS_PER_MS : 0;
        g_autoptr(GError) why = NULL;
        Sent sent;

        if (left_ms == 0)
            break;
        /* A read leaves time for the endpoints after it. */
        if (repeatable)
            left_ms = MAX(left_ms / (etcd->n_endpoints - i), MIN_SLICE_MS);
        sent = post_to(etcd, etcd->config.endpoints[which], path, body, left_ms, answer, &why);
        if (sent == SENT_ANSWER) {
            g_mutex_lock(&etcd->lock);
            etcd->preferred = which;
            g_mutex_unlock(&etcd->lock);
            return sent;
        }
        g_string_append_printf(reasons, "%s%s", reasons->len ? "; " : "", why->message);
        if (sent == SENT_UNKNOWN)
            worst = SENT_UNKNOWN;
        if (sent == SENT_UNKNOWN && !repeatable)
            break;
    }
    g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER, "the arbiter gave no clear answer: %s",
                reasons->len ? reasons->str : "its time was over");
    return worst;
}

static char *base64(const char *text)
{
    return g_base64_encode((const guchar *)text, strlen(text));
}

static char *encode_register(const ColoRegister *reg)
{
    g_autoptr(JsonObject) object =
        colo_json_build("version", "u", (uint64_t)VALUE_VERSION, "uuid", "s", reg->uuid,
                        "generation", "u", reg->generation, "primary", "s", reg->primary,
                        "secondary", "s", reg->secondary, "owner", "s", reg->owner, "mode", "s",
                        colo_register_mode_name(reg->mode), "attempt", "s", reg->attempt, NULL);

    return colo_json_to_string(object);
}

static gboolean decode_value(const char *text, size_t len, const char *uuid, ColoRegister *reg,
                             GError **error)
{
    g_autoptr(JsonObject) object = colo_json_parse(text, len, error);
    const char *found_uuid, *primary, *owner, *mode, *attempt;
    uint64_t version;

    if (!object || !colo_json_get_uint(object, "version", &version, error) ||
        !colo_json_get_string(object, "uuid", &found_uuid, error) ||
        !colo_json_get_uint(object, "generation", &reg->generation, error) ||
        !colo_json_get_string(object, "primary", &primary, error) ||
        !colo_json_get_string(object, "owner", &owner, error) ||
        !colo_json_get_string(object, "mode", &mode, error) ||
        !colo_json_get_string(object, "attempt", &attempt, error))
        return FALSE;
    reg->uuid = g_strdup(found_uuid);
    reg->primary = g_strdup(primary);
    reg->owner = g_strdup(owner);
    reg->attempt = g_strdup(attempt);
    reg->secondary = g_strdup(colo_json_peek_string(object, "secondary", NULL));
    if (strcmp(mode, "paired") == 0)
        reg->mode = COLO_REGISTER_PAIRED;
    else if (strcmp(mode, "alone") == 0)
        reg->mode = COLO_REGISTER_ALONE;
    else
        version = 0;
    if (version == VALUE_VERSION && strcmp(found_uuid, uuid) == 0 &&
        (reg->mode == COLO_REGISTER_ALONE || reg->secondary))
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                "expected a register of version %u, found: %.*s", VALUE_VERSION, (int)len, text);
    return FALSE;
}

/* The first of "kvs" in a range answer: 1 with @reg, 0 when there is none, -1 and @error. */
static int decode_range(JsonObject *range, const char *uuid, ColoRegister **reg, GError **error)
{
    JsonObject *kvs = colo_json_peek(range, "kvs");
    JsonObject *kv =
        json_object_is_type(kvs, json_type_array) ? json_object_array_get_idx(kvs, 0) : NULL;
    g_autoptr(ColoRegister) found = g_new0(ColoRegister, 1);
    g_autofree guchar *value = NULL;
    const char *encoded = colo_json_peek_string(kv, "value", NULL);
    gsize len = 0;

    if (!kvs)
        return 0;
    found->revision =
        (gint64)g_ascii_strtoull(colo_json_peek_string(kv, "mod_revision", "0"), NULL, 10);
    if (encoded)
        value = g_base64_decode(encoded, &len);
    if (found->revision <= 0 || !value) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_ARBITER,
                            "the arbiter's answer has no mod_revision or value");
        return -1;
    }
    if (!decode_value((const char *)value, len, uuid, found, error)) {
        g_prefix_error(error, "the value of " KEY_PREFIX "%s at the arbiter is unreadable: ", uuid);
        return -1;
    }
    found->raw = g_strndup((const char *)value, len);
    *reg = g_steal_pointer(&found);
    return 1;
}

static char *key_of(const char *uuid)
{
    g_autofree char *key = g_strconcat(KEY_PREFIX, uuid, NULL);

    return base64(key);
}

static ColoArbiterRead etcd_read(void *backend, const char *uuid, uint64_t deadline_ns,
                                 ColoRegister **reg, GError **error)
{
    g_autofree char *key = key_of(uuid);
    g_autoptr(JsonObject) request = colo_json_build("key", "s", key, NULL);
    g_autofree char *body = colo_json_to_string(request);
    g_autoptr(JsonObject) answer = NULL;

    if (post(backend, "/v3/kv/range", body, true, deadline_ns, &answer, error) != SENT_ANSWER)
        return COLO_ARBITER_UNKNOWN;
    /* An answer of etcd has a header; "absent" must not be read out of anything else. */
    if (!json_object_is_type(colo_json_peek(answer, "header"), json_type_object)) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_ARBITER,
                            "the arbiter's answer is not etcd's: it has no header");
        return COLO_ARBITER_UNKNOWN;
    }
    switch (decode_range(answer, uuid, reg, error)) {
    case 1:
        return COLO_ARBITER_FOUND;
    case 0:
        return COLO_ARBITER_ABSENT;
    default:
        return COLO_ARBITER_UNKNOWN;
    }
}

static JsonObject *array_of(JsonObject *a, JsonObject *b)
{
    JsonObject *array = json_object_new_array();

    json_object_array_add(array, a);
    if (b)
        json_object_array_add(array, b);
    return array;
}

/* The comparisons that bind a transaction to @expected. */
static JsonObject *compare_with(const char *key, const ColoRegister *expected)
{
    g_autofree char *value = NULL;
    g_autofree char *revision = NULL;

    if (!expected)
        return array_of(colo_json_build("key", "s", key, "target", "s", "CREATE", "result", "s",
                                        "EQUAL", "create_revision", "s", "0", NULL),
                        NULL);
    value = base64(expected->raw);
    revision = g_strdup_printf("%" G_GINT64_FORMAT, (gint64)expected->revision);
    return array_of(colo_json_build("key", "s", key, "target", "s", "MOD", "result", "s", "EQUAL",
                                    "mod_revision", "s", revision, NULL),
                    colo_json_build("key", "s", key, "target", "s", "VALUE", "result", "s", "EQUAL",
                                    "value", "s", value, NULL));
}

static char *build_txn(const char *uuid, const ColoRegister *expected, const ColoRegister *wanted)
{
    g_autofree char *key = key_of(uuid);
    JsonObject *success;

    if (wanted) {
        g_autofree char *text = encode_register(wanted);
        g_autofree char *value = base64(text);

        success = colo_json_build(
            "request_put", "o", colo_json_build("key", "s", key, "value", "s", value, NULL), NULL);
    } else {
        success = colo_json_build("request_delete_range", "o",
                                  colo_json_build("key", "s", key, NULL), NULL);
    }

    g_autoptr(JsonObject) txn =
        colo_json_build("compare", "o", compare_with(key, expected), "success", "o",
                        array_of(success, NULL), "failure", "o",
                        array_of(colo_json_build("request_range", "o",
                                                 colo_json_build("key", "s", key, NULL), NULL),
                                 NULL),
                        NULL);

    return colo_json_to_string(txn);
}

static ColoSwap etcd_swap(void *backend, const char *uuid, const ColoRegister *expected,
                          const ColoRegister *wanted, uint64_t deadline_ns, ColoRegister **current,
                          GError **error)
{
    g_autofree char *body = build_txn(uuid, expected, wanted);
    g_autoptr(JsonObject) answer = NULL;
    JsonObject *responses, *range;

    /* Nothing sent is UNKNOWN for the caller all the same: an earlier try may be on its way. */
    if (post(backend, "/v3/kv/txn", body, false, deadline_ns, &answer, error) != SENT_ANSWER)
        return COLO_SWAP_UNKNOWN;
    if (colo_json_peek_bool(answer, "succeeded", FALSE))
        return COLO_SWAP_DONE;

    /* protobuf's JSON leaves a false "succeeded" out; the range of the failure branch proves that
     * it was that branch. */
    responses = colo_json_peek(answer, "responses");
    range = json_object_is_type(responses, json_type_array)
                ? colo_json_peek(json_object_array_get_idx(responses, 0), "response_range")
                : NULL;
    if (!range) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_ARBITER,
                            "the arbiter's answer to the transaction cannot be understood");
        return COLO_SWAP_UNKNOWN;
    }
    if (decode_range(range, uuid, current, error) < 0)
        return COLO_SWAP_UNKNOWN;
    g_clear_error(error);
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                "the register of domain %s was changed by another", uuid);
    return COLO_SWAP_MISMATCH;
}

/* Reads a key that no domain has, now and then: a read leaves a connection behind, with its TLS
 * handshake done, and finds the endpoint that answers. */
static gpointer warm(gpointer data)
{
    Etcd *etcd = data;
    gint64 due = g_get_monotonic_time();

    g_mutex_lock(&etcd->lock);
    while (!etcd->ending) {
        g_autoptr(ColoRegister) reg = NULL;

        if (g_get_monotonic_time() < due) {
            g_cond_wait_until(&etcd->ended, &etcd->lock, due);
            continue;
        }
        g_mutex_unlock(&etcd->lock);
        etcd_read(etcd, "00000000-0000-0000-0000-000000000000",
                  colo_clock_ns() + WARM_TIMEOUT_MS * COLO_NS_PER_MS, &reg, NULL);
        due = g_get_monotonic_time() + WARM_INTERVAL_S * G_USEC_PER_SEC;
        g_mutex_lock(&etcd->lock);
    }
    g_mutex_unlock(&etcd->lock);
    return NULL;
}

static void etcd_keep_warm(void *backend)
{
    Etcd *etcd = backend;

    if (!etcd->warmer)
        etcd->warmer = g_thread_new("arbiter-warm", warm, etcd);
}

const ColoArbiterBackend colo_arbiter_etcd = {
    .read = etcd_read,
    .swap = etcd_swap,
    .keep_warm = etcd_keep_warm,
    .free = etcd_free,
};
