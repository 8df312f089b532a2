/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What Prometheus hears, and what others do. */
#include "driver/metrics.h"
#include "util/error.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    ColoMetrics *metrics;
    gboolean silent; /* virtcolod has no answer */
} Fixture;

static JsonObject *command(const char *name, JsonObject *args, void *opaque, GError **error)
{
    const Fixture *f = opaque;
    JsonObject *rows = json_object_new_array();

    if (f->silent) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_RESOURCE, "not now");
        json_object_put(rows);
        return NULL;
    }
    if (strcmp(name, "colo-list") == 0) {
        json_object_array_add(rows,
                              colo_json_build("name", "s", "web\"1\\", "uuid", "s", "u1", "pair",
                                              "s", "ab", "role", "s", "primary", "state", "s",
                                              "protected", "generation", "u", (uint64_t)3, NULL));
        json_object_array_add(rows,
                              colo_json_build("name", "s", "db", "uuid", "s", "u2", "state", "s",
                                              "alone", "generation", "u", (uint64_t)1, NULL));
        return colo_json_build("domains", "o", rows, NULL);
    }
    json_object_put(rows);
    g_assert_cmpstr(name, ==, "colo-stats");
    if (strcmp(colo_json_peek_string(args, "domain", ""), "u1") != 0) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN, "no session");
        return NULL;
    }
    return colo_json_build(
        "name", "s", "web1", "stats", "o",
        colo_json_build(
            "committed", "u", (uint64_t)7, "held-bytes", "u", (uint64_t)4096, "peer-silent-ms", "u",
            (uint64_t)1500, "limits", "o",
            colo_json_build("held-bytes", "u", (uint64_t)67108864, NULL), "pause-histogram", "o",
            colo_json_build("le-2-ms", "u", (uint64_t)3, "count", "u", (uint64_t)7, "sum-ns", "u",
                            (uint64_t)1500000000, NULL),
            "pause-ns", "o",
            colo_json_build("min", "u", (uint64_t)1000000, "median", "u", (uint64_t)2500000, NULL),
            "counters", "o", colo_json_build("diverged-syn", "u", (uint64_t)12, NULL), NULL),
        NULL);
}

static void setup(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    *f = (Fixture){0};
    f->metrics = colo_metrics_new(data ? data : "127.0.0.1", 0, command, f, &error);
    g_assert_no_error(error);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    colo_metrics_free(f->metrics);
}

static int connect_to(const Fixture *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(colo_metrics_port(f->metrics)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&at, sizeof(at)), ==, 0);
    return fd;
}

/* All that is said to @request until the connection ends. */
static char *ask(const Fixture *f, const char *request)
{
    GString *said = g_string_new(NULL);
    int fd = connect_to(f);
    char part[4096];
    ssize_t n;

    g_assert_cmpint(send(fd, request, strlen(request), MSG_NOSIGNAL), ==, strlen(request));
    while ((n = recv(fd, part, sizeof(part), 0)) > 0)
        g_string_append_len(said, part, n);
    close(fd);
    return g_string_free(said, FALSE);
}

#define GET(path) "GET " path " HTTP/1.0\r\n\r\n"

static void assert_line(const char *text, const char *line)
{
    g_autofree char *whole = g_strconcat("\n", line, "\n", NULL);

    if (!strstr(text, whole))
        g_error("no line '%s' in:\n%s", line, text);
}

static void test_figures(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *said = ask(f, GET("/metrics"));

    g_assert_true(g_str_has_prefix(said, "HTTP/1.0 200") || g_str_has_prefix(said, "HTTP/1.1 200"));
    g_assert_nonnull(strstr(said, "text/plain; version=0.0.4"));
    assert_line(said,
                "libvirt_colo_domain_info{domain=\"web\\\"1\\\\\",uuid=\"u1\",pair=\"ab\",role="
                "\"primary\",state=\"protected\"} 1");
    assert_line(said,
                "libvirt_colo_domain_info{domain=\"db\",uuid=\"u2\",pair=\"\",role=\"\",state="
                "\"alone\"} 1");
    assert_line(said, "libvirt_colo_generation{domain=\"db\"} 1");
    assert_line(said, "libvirt_colo_committed_epoch{domain=\"web\\\"1\\\\\"} 7");
    assert_line(said, "libvirt_colo_held_limit_bytes{domain=\"web\\\"1\\\\\"} 67108864");
    assert_line(said, "libvirt_colo_peer_silence_seconds{domain=\"web\\\"1\\\\\"} 1.5");
    assert_line(said, "libvirt_colo_pause_seconds{domain=\"web\\\"1\\\\\",quantile=\"0.5\"} "
                      "0.0025000000000000001");
    assert_line(said, "libvirt_colo_checkpoint_pause_seconds_bucket{domain=\"web\\\"1\\\\\","
                      "le=\"0.002\"} 3");
    assert_line(said, "libvirt_colo_checkpoint_pause_seconds_sum{domain=\"web\\\"1\\\\\"} 1.5");
    assert_line(said, "libvirt_colo_checkpoint_pause_seconds_bucket{domain=\"web\\\"1\\\\\","
                      "le=\"+Inf\"} 7");
    assert_line(said,
                "libvirt_colo_events_total{domain=\"web\\\"1\\\\\",event=\"diverged-syn\"} 12");
    assert_line(said, "# TYPE libvirt_colo_events_total counter");
    g_assert_null(strstr(said, "committed_epoch{domain=\"db\""));
}

/* Each sample's name was declared by the TYPE line before it, and all of a name stand together. */
static void test_format(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *said = ask(f, GET("/metrics"));
    g_auto(GStrv) lines = g_strsplit(strstr(said, "\r\n\r\n") + 4, "\n", -1);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *name = g_strdup("");
    gboolean histogram = FALSE;
    unsigned samples = 0;

    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, "# TYPE ")) {
            g_auto(GStrv) words = g_strsplit(*line, " ", -1);

            g_free(name);
            name = g_strdup(words[2]);
            histogram = g_str_equal(words[3], "histogram");
            g_assert_true(g_hash_table_add(seen, g_strdup(name)));
        } else if (**line && **line != '#') {
            g_assert_true(g_str_has_prefix(*line, name));
            g_autofree char *rest =
                g_strndup(*line + strlen(name), strcspn(*line + strlen(name), "{"));

            if (histogram)
                g_assert_true(g_str_equal(rest, "_bucket") || g_str_equal(rest, "_sum") ||
                              g_str_equal(rest, "_count"));
            else
                g_assert_cmpstr(rest, ==, "");
            samples++;
        }
    }
    g_assert_cmpuint(samples, >, 10);
}

static void test_others_are_refused(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *elsewhere = ask(f, GET("/"));
    g_autofree char *post = ask(f, "POST /metrics HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
    g_autofree char *garbage = ask(f, "\1\2\3 what\r\n\r\n");
    g_autofree char *busy = NULL;

    g_assert_nonnull(strstr(elsewhere, " 404 "));
    g_assert_nonnull(strstr(post, " 405 "));
    g_assert_null(strstr(garbage, " 200 "));
    f->silent = TRUE;
    busy = ask(f, GET("/metrics"));
    g_assert_nonnull(strstr(busy, " 503 "));
    g_assert_nonnull(strstr(busy, "not now"));
}

/* Connections that say nothing are bounded, and let the others in again. */
static void test_idle_connections(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    int fds[2 * COLO_METRICS_CLIENTS];
    g_autofree char *said = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = connect_to(f);
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
    /* As soon as the daemon has seen that they are gone. */
    for (unsigned ms = 0; ms < 5000 && !strstr(said ? said : "", " 200 "); ms += 10) {
        g_free(said);
        said = ask(f, GET("/metrics"));
        g_usleep(10 * 1000);
    }
    g_assert_nonnull(strstr(said, " 200 "));
}

static void test_bad_address(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_metrics_new("localhost", 0, command, NULL, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_nonnull(strstr(error->message, "localhost"));
}

static void test_port_in_use(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_metrics_new("127.0.0.1", colo_metrics_port(f->metrics), command, f, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_SYSTEM);
    g_assert_nonnull(strstr(error->message, "metrics_port"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/metrics/" name, Fixture, NULL, setup, function, teardown)
    ADD("figures", test_figures);
    ADD("format", test_format);
    ADD("others-refused", test_others_are_refused);
    ADD("idle-connections", test_idle_connections);
    ADD("port-in-use", test_port_in_use);
    g_test_add_func("/metrics/bad-address", test_bad_address);
    return g_test_run();
}
