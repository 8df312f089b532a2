/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/metrics.h"

#include "util/error.h"
#include "util/log.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <string.h>

#define PREFIX "libvirt_colo_"
#define NS_PER_S 1e9
#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct ColoMetrics {
    struct MHD_Daemon *daemon;
    JsonObject *(*command)(const char *command, JsonObject *args, void *opaque, GError **error);
    void *opaque;
};

/* ---- the text ---- */

/* @text as the value of a label. */
static void add_escaped(GString *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            g_string_append(out, "\\n");
        else if (*text == '"' || *text == '\\')
            g_string_append_printf(out, "\\%c", *text);
        else
            g_string_append_c(out, *text);
    }
}

/* One more, behind the domain's. */
static void add_label(GString *out, const char *name, const char *value)
{
    g_string_append_printf(out, ",%s=\"", name);
    add_escaped(out, value);
    g_string_append_c(out, '"');
}

static void add_head(GString *out, const char *name, const char *type, const char *help)
{
    g_string_append_printf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help,
                           name, type);
}

/* One sample of @domain; @label may be NULL. */
static void add_sample(GString *out, const char *name, JsonObject *domain, const char *label,
                       const char *label_value, double value)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(out, PREFIX "%s{domain=\"", name);
    add_escaped(out, colo_json_peek_string(domain, "name", ""));
    g_string_append_c(out, '"');
    if (label)
        add_label(out, label, label_value);
    g_string_append_printf(out, "} %s\n", g_ascii_dtostr(number, sizeof(number), value));
}

static double number_of(JsonObject *object, const char *key)
{
    return (double)colo_json_peek_uint(object, key, 0);
}

static void add_info(GString *out, JsonObject *const *domains, size_t n)
{
    static const char *const labels[] = {"uuid", "pair", "role", "state"};

    add_head(out, "domain_info", "gauge", "A domain that virtcolod of this host knows.");
    for (size_t i = 0; i < n; i++) {
        g_string_append(out, PREFIX "domain_info{domain=\"");
        add_escaped(out, colo_json_peek_string(domains[i], "name", ""));
        g_string_append_c(out, '"');
        for (size_t j = 0; j < G_N_ELEMENTS(labels); j++)
            add_label(out, labels[j], colo_json_peek_string(domains[i], labels[j], ""));
        g_string_append(out, "} 1\n");
    }
    add_head(out, "generation", "gauge", "Generation of the domain's ownership.");
    for (size_t i = 0; i < n; i++)
        add_sample(out, "generation", domains[i], NULL, NULL, number_of(domains[i], "generation"));
}

/* Numbers of the statistics themselves. */
static const struct {
    const char *name, *object, *key, *help; /* @object: in which member, or NULL */
    double unit;
} gauges[] = {
    {"committed_epoch", NULL, "committed", "Newest checkpoint that the secondary holds.", 1},
    {"held_bytes", NULL, "held-bytes", "Output that waits for its twin or a checkpoint.", 1},
    {"held_frames", NULL, "held-frames", "The same in frames.", 1},
    {"held_limit_bytes", "limits", "held-bytes", "As much may wait.", 1},
    {"peer_silence_seconds", NULL, "peer-silent-ms", "Since the peer's comparator was heard.", 1e3},
    {"rewritten_connections", NULL, "rewritten", "Connections whose sequence numbers are mapped.",
     1},
};

/* Members of an object, each with a label of its own. */
static const struct {
    const char *name, *object, *label, *help;
    const char *keys[5], *values[5]; /* NULL ends */
} groups[] = {
    {"pause_seconds",
     "pause-ns",
     "quantile",
     "Pauses of the last checkpoints.",
     {"min", "median", "p95", "max", NULL},
     {"0", "0.5", "0.95", "1", NULL}},
    {"skew_seconds",
     "skew-ns",
     "kind",
     "How far the copies are apart, and how long a frame waits.",
     {"mean", "deviation", "limit", NULL},
     {"mean", "deviation", "limit", NULL}},
};

/* The histogram of pauses since the protection began. */
static void add_histogram(GString *out, JsonObject *domain, JsonObject *histogram)
{
    static const unsigned le_ms[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
    double count = number_of(histogram, "count");

    for (size_t i = 0; i < G_N_ELEMENTS(le_ms); i++) {
        g_autofree char *key = g_strdup_printf("le-%u-ms", le_ms[i]);
        char le[G_ASCII_DTOSTR_BUF_SIZE];

        g_ascii_dtostr(le, sizeof(le), le_ms[i] / 1e3);
        add_sample(out, "checkpoint_pause_seconds_bucket", domain, "le", le,
                   number_of(histogram, key));
    }
    add_sample(out, "checkpoint_pause_seconds_bucket", domain, "le", "+Inf", count);
    add_sample(out, "checkpoint_pause_seconds_sum", domain, NULL, NULL,
               number_of(histogram, "sum-ns") / NS_PER_S);
    add_sample(out, "checkpoint_pause_seconds_count", domain, NULL, NULL, count);
}

static void add_statistics(GString *out, JsonObject *const *domains, JsonObject *const *stats,
                           size_t n)
{
    for (size_t g = 0; g < G_N_ELEMENTS(gauges); g++) {
        add_head(out, gauges[g].name, "gauge", gauges[g].help);
        for (size_t i = 0; i < n; i++) {
            JsonObject *from =
                gauges[g].object ? colo_json_peek(stats[i], gauges[g].object) : stats[i];

            if (stats[i])
                add_sample(out, gauges[g].name, domains[i], NULL, NULL,
                           number_of(from, gauges[g].key) / gauges[g].unit);
        }
    }
    for (size_t g = 0; g < G_N_ELEMENTS(groups); g++) {
        add_head(out, groups[g].name, "gauge", groups[g].help);
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; stats[i] && groups[g].keys[k]; k++)
                add_sample(
                    out, groups[g].name, domains[i], groups[g].label, groups[g].values[k],
                    number_of(colo_json_peek(stats[i], groups[g].object), groups[g].keys[k]) /
                        NS_PER_S);
        }
    }
    add_head(out, "checkpoint_pause_seconds", "histogram", "Pauses of all checkpoints.");
    for (size_t i = 0; i < n; i++) {
        if (stats[i])
            add_histogram(out, domains[i], colo_json_peek(stats[i], "pause-histogram"));
    }
    add_head(out, "events_total", "counter",
             "What colo-comparator has counted in this protection.");
    for (size_t i = 0; i < n; i++) {
        JsonObject *counters = colo_json_peek(stats[i], "counters");

        if (!counters || !json_object_is_type(counters, json_type_object))
            continue;
        json_object_object_foreach(counters, key, value)
        {
            add_sample(out, "events_total", domains[i], "event", key,
                       (double)json_object_get_uint64(value));
        }
    }
}

/* Asks, and writes it down. Domains without a session of colo-comparator have no statistics. */
static char *scrape(const ColoMetrics *metrics, GError **error)
{
    g_autoptr(JsonObject) none = json_object_new_object();
    g_autoptr(JsonObject) list = metrics->command("colo-list", none, metrics->opaque, error);
    JsonObject *rows = colo_json_peek(list, "domains");
    GString *out;
    size_t n;

    if (!list)
        return NULL;
    n = json_object_is_type(rows, json_type_array) ? json_object_array_length(rows) : 0;
    g_autofree JsonObject **domains = g_new0(JsonObject *, n + 1);
    g_autofree JsonObject **answers = g_new0(JsonObject *, n + 1);
    g_autofree JsonObject **stats = g_new0(JsonObject *, n + 1);
    for (size_t i = 0; i < n; i++) {
        g_autoptr(JsonObject) args = json_object_new_object();

        domains[i] = json_object_array_get_idx(rows, i);
        colo_json_add(args, "domain", "s", colo_json_peek_string(domains[i], "uuid", ""), NULL);
        answers[i] = metrics->command("colo-stats", args, metrics->opaque, NULL);
        stats[i] = colo_json_peek(answers[i], "stats");
    }
    out = g_string_new(NULL);
    add_info(out, domains, n);
    add_statistics(out, domains, stats, n);
    for (size_t i = 0; i < n; i++)
        json_object_put(answers[i]);
    return g_string_free(out, FALSE);
}

/* ---- HTTP ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result;

    g_free(text);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, CONTENT_TYPE);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, MHD_HTTP_METHOD_GET);
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_request(void *opaque, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version G_GNUC_UNUSED,
                                  const char *upload G_GNUC_UNUSED, size_t *upload_size,
                                  void **begun)
{
    static int marker;
    g_autoptr(GError) error = NULL;
    char *text;

    if (!*begun) { /* the headers have come */
        *begun = &marker;
        return MHD_YES;
    }
    if (*upload_size) { /* a body is passed over */
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, g_strdup("GET /metrics\n"));
    if (strcmp(url, "/metrics") != 0)
        return answer(connection, MHD_HTTP_NOT_FOUND, g_strdup("there is /metrics\n"));
    text = scrape(opaque, &error);
    if (!text)
        return answer(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                      g_strdup_printf("%s\n", error ? error->message : "no answer"));
    return answer(connection, MHD_HTTP_OK, text);
}

static void log_message(void *opaque G_GNUC_UNUSED, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);

    colo_debug("metrics: %s", g_strchomp(text));
}

/* "127.0.0.1" or "::1" and @port. */
static gboolean parse_address(const char *text, uint16_t port, struct sockaddr_storage *address,
                              GError **error)
{
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;

    memset(address, 0, sizeof(*address));
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
    } else {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "metrics_addr: '%s' is not a numeric address such as 127.0.0.1", text);
        return FALSE;
    }
    return TRUE;
}

ColoMetrics *colo_metrics_new(const char *address, uint16_t port,
                              JsonObject *(*command)(const char *command, JsonObject *args,
                                                     void *opaque, GError **error),
                              void *opaque, GError **error)
{
    ColoMetrics *metrics;
    struct sockaddr_storage at;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG;

    if (!parse_address(address, port, &at, error))
        return NULL;
    if (at.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    metrics = g_new0(ColoMetrics, 1);
    metrics->command = command;
    metrics->opaque = opaque;
    metrics->daemon =
        MHD_start_daemon(flags, port, NULL, NULL, on_request, metrics, MHD_OPTION_EXTERNAL_LOGGER,
                         log_message, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&at,
                         MHD_OPTION_CONNECTION_LIMIT, COLO_METRICS_CLIENTS,
                         MHD_OPTION_CONNECTION_TIMEOUT, COLO_METRICS_TIMEOUT_S, MHD_OPTION_END);
    if (metrics->daemon)
        return metrics;
    g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM,
                "metrics cannot be served at %s port %u: is it in use? metrics_port = 0 in "
                "virtcolod.conf turns them off",
                address, port);
    g_free(metrics);
    return NULL;
}

uint16_t colo_metrics_port(const ColoMetrics *metrics)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(metrics->daemon, MHD_DAEMON_INFO_BIND_PORT);

    return info ? info->port : 0;
}

void colo_metrics_free(ColoMetrics *metrics)
{
    if (!metrics)
        return;
    MHD_stop_daemon(metrics->daemon);
    g_free(metrics);
}
