/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt says, and what a client hears of it: events, lists, statistics, capabilities. */
#include "driver-fixture.h"
#include "util/bytes.h"

#include <libvirt/libvirt.h>
#include <string.h>

static ColoRpcFrame *event_frame(uint32_t procedure, const char *name, uint32_t event,
                                 uint32_t detail)
{
    GByteArray *body = g_byte_array_new();

    if (procedure != COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE) /* the callback's id */
        driver_put_word(body, 1);
    driver_put_domain(body, name);
    driver_put_word(body, event);
    driver_put_word(body, detail);
    return driver_frame(COLO_REMOTE_PROGRAM, procedure, COLO_RPC_MESSAGE, body);
}

static ColoRelayVerdict hears(DriverFixture *f, ColoRpcFrame *said, GByteArray **instead)
{
    g_autoptr(ColoRpcFrame) frame = said;

    return f->relay->heard(frame, instead, f->relay->opaque);
}

static void test_checkpoints_are_not_told(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const uint32_t kinds[] = {COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE,
                                     COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE};

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        f->host.state = "protected";
        g_assert_cmpint(hears(f,
                              event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_SUSPENDED,
                                          VIR_DOMAIN_EVENT_SUSPENDED_PAUSED),
                              NULL),
                        ==, COLO_RELAY_DROP);
        g_assert_cmpint(hears(f,
                              event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_RESUMED,
                                          VIR_DOMAIN_EVENT_RESUMED_UNPAUSED),
                              NULL),
                        ==, COLO_RELAY_DROP);
        g_assert_cmpint(hears(f,
                              event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_SUSPENDED,
                                          VIR_DOMAIN_EVENT_SUSPENDED_IOERROR),
                              NULL),
                        ==, COLO_RELAY_PASS);
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_STOPPED, 0), NULL),
                        ==, COLO_RELAY_PASS);
        g_assert_cmpint(
            hears(f, event_frame(kinds[i], "other", VIR_DOMAIN_EVENT_SUSPENDED, 0), NULL), ==,
            COLO_RELAY_PASS);
        f->host.state = "degraded"; /* paused: output-hold is told */
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_SUSPENDED, 0), NULL),
                        ==, COLO_RELAY_PASS);
    }
}

/* Of a copy nobody hears anything, whatever it is. */
static void test_copy_is_silent(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const uint32_t started = VIR_DOMAIN_EVENT_STARTED;
    uint32_t rtc_change = driver_number_of("DOMAIN_EVENT_CALLBACK_RTC_CHANGE");
    uint32_t threshold = driver_number_of("DOMAIN_EVENT_BLOCK_THRESHOLD");
    const uint32_t kinds[] = {COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE,
                              COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE, rtc_change,
                              threshold};

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        f->host.state = "preparing";
        f->host.role = "secondary";
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", started, 0), NULL), ==,
                        COLO_RELAY_DROP);
        g_assert_cmpint(hears(f, event_frame(kinds[i], "other", started, 0), NULL), ==,
                        COLO_RELAY_PASS);
        f->host.state = "failing-over"; /* it is the guest from here on */
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", VIR_DOMAIN_EVENT_RESUMED, 0), NULL),
                        ==, COLO_RELAY_PASS);
        f->host.state = "protected";
        f->host.role = "primary";
        g_assert_cmpint(hears(f, event_frame(kinds[i], "ft", started, 0), NULL), ==,
                        COLO_RELAY_PASS);
    }
}

static ColoRpcFrame *list_frame(void)
{
    GByteArray *body = g_byte_array_new();

    driver_put_word(body, 3);
    driver_put_domain(body, "a");
    driver_put_domain(body, "ft");
    driver_put_domain(body, "b");
    driver_put_word(body, 3);
    return driver_frame(COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS,
                        COLO_RPC_REPLY, body);
}

static void test_copy_is_not_listed(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GByteArray) same = NULL, without = NULL;

    g_assert_cmpint(hears(f, list_frame(), &same), ==, COLO_RELAY_PASS);
    f->host.role = "secondary";
    g_assert_cmpint(hears(f, list_frame(), &without), ==, COLO_RELAY_ANSWER);
    g_assert_false(driver_says(without, "ft"));
    g_assert_cmpuint(colo_get32(without->data), ==, without->len);
    g_assert_cmpuint(colo_get32(without->data + COLO_RPC_HEADER_BYTES), ==, 2);
    g_assert_cmpuint(colo_get32(without->data + without->len - 4), ==, 2);
}

static ColoRpcFrame *stats_frame(gboolean unknown_type)
{
    GByteArray *body = g_byte_array_new();

    driver_put_word(body, 2);
    for (int i = 0; i < 2; i++) {
        driver_put_domain(body, i ? "other" : "ft");
        driver_put_word(body, 3);
        driver_put_text(body, "state.state");
        driver_put_word(body, 1);
        driver_put_word(body, 1);
        driver_put_text(body, "cpu.time");
        driver_put_word(body, unknown_type ? 9 : 4);
        driver_put_word(body, 0);
        driver_put_word(body, 77);
        driver_put_text(body, "block.0.name");
        driver_put_word(body, 7);
        driver_put_text(body, "vda");
    }
    return driver_frame(COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS,
                        COLO_RPC_REPLY, body);
}

static void test_domstats(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GByteArray) answer = NULL, none = NULL, later = NULL, full = NULL, question = NULL;
    g_autoptr(ColoRpcFrame) said = stats_frame(FALSE);
    g_autoptr(ColoRpcFrame) call =
        driver_frame(COLO_REMOTE_PROGRAM, COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS,
                     COLO_RPC_CALL, g_byte_array_new());
    const size_t domain = 4 + 4 + 16 + 4; /* "ft" */

    g_assert_cmpint(f->relay->heard(said, &answer, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    g_assert_cmpuint(colo_get32(answer->data), ==, answer->len);
    /* state, role, pair and peer: the fixture driver_says nothing of the rest. */
    g_assert_cmpuint(colo_get32(answer->data + COLO_RPC_HEADER_BYTES + 4 + domain), ==, 3 + 4);
    g_assert_true(driver_says(answer, "colo.state"));
    g_assert_true(driver_says(answer, "block.0.name"));
    /* The figures are asked for when a client asks libvirt, which judges the client itself. */
    g_assert_cmpint(driver_calls(f, call, NULL, &question), ==, COLO_RELAY_WORK);
    g_assert_null(question);
    g_assert_null(f->relay->work(call, f->relay->opaque));
    g_assert_cmpint(f->relay->heard(said, &full, f->relay->opaque), ==, COLO_RELAY_ANSWER);
    f->relay->after(call, f->relay->opaque);
    g_assert_cmpuint(colo_get32(full->data + COLO_RPC_HEADER_BYTES + 4 + domain), ==, 3 + 4 + 4);
    g_assert_true(driver_says(full, "colo.held-bytes"));
    g_assert_true(driver_says(full, "colo.gate"));
    g_assert_true(driver_says(full, "colo.pause-histogram.le-8-ms"));
    g_assert_true(driver_says(full, "colo.count.diverged-syn"));
    f->host.state = "unprotected";
    g_assert_cmpint(hears(f, stats_frame(FALSE), &none), ==, COLO_RELAY_PASS);
    f->host.state = "protected";
    g_assert_cmpint(hears(f, stats_frame(TRUE), &later), ==, COLO_RELAY_PASS);
}

static void test_capabilities(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const xmls[] = {"<capabilities>\n  <host/>\n</capabilities>\n",
                                       "<domainCapabilities>\n</domainCapabilities>\n",
                                       "something else"};
    const uint32_t procedures[] = {7, COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES, 7};

    for (size_t i = 0; i < G_N_ELEMENTS(xmls); i++) {
        GByteArray *body = g_byte_array_new();
        g_autoptr(ColoRpcFrame) frame = NULL;
        g_autoptr(GByteArray) answer = NULL;

        driver_put_text(body, xmls[i]);
        frame = driver_frame(COLO_REMOTE_PROGRAM, procedures[i], COLO_RPC_REPLY, body);
        f->relay->heard(frame, &answer, f->relay->opaque);
        g_assert_cmpint(answer != NULL, ==, i < 2);
        if (answer) {
            g_assert_true(driver_says(answer, "supported='yes'"));
            g_assert_true(
                driver_says(answer, "<colo:pair name='ab' peer='&lt;host2&gt;' state='up'/>"));
            g_assert_true(driver_says(answer, i ? "</domainCapabilities>\n" : "</capabilities>\n"));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/driver/" name, DriverFixture, NULL, driver_setup, function, driver_teardown)
    ADD("heard/checkpoints", test_checkpoints_are_not_told);
    ADD("heard/copy-is-silent", test_copy_is_silent);
    ADD("heard/copy-not-listed", test_copy_is_not_listed);
    ADD("heard/capabilities", test_capabilities);
    ADD("heard/domstats", test_domstats);
    return g_test_run();
}
