/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Several domains at once, each on one of the workers: their traffic, and requests in the midst of
 * it. Says most when the daemon is built with ThreadSanitizer, which makes it exit with an error
 * for a data race; README, "Contributing".
 */
#include "test-comparator-lab.h"
#include "test-inject.h"

#include "comparator/inbox.h"
#include "util/clock.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define WORKERS 3
#define DOMAINS 7
/* Frames that must come through each domain before a test goes on. */
#define ENOUGH 200
#define WINDOW 32 /* frames on their way */

typedef struct {
    char uuid[40];
    Lab ends; /* QEMU's of this domain; the helpers in it are those of the test's Lab */
    GThread *thread;
    atomic_uint released, mirrored;
    atomic_bool quit, closed;
} Domain;

static void open_domain(Lab *lab, Domain *domain, unsigned number)
{
    memset(domain, 0, sizeof(*domain));
    g_snprintf(domain->uuid, sizeof(domain->uuid), "6c1d9a52-1a4e-4f0e-9a3e-%012u", number);
    lab_uuid = domain->uuid;
    lab_open(lab);
    lab_protect(lab);
    domain->ends = *lab;
    lab_uuid = LAB_UUID;
}

static void close_domain(Domain *domain)
{
    atomic_store(&domain->quit, true);
    g_thread_join(domain->thread);
    lab_close(&domain->ends);
}

/* Writes the frame @number of the domain; false when the helper has closed the channel. */
static bool write_one(const Domain *domain, int fd, unsigned number)
{
    uint8_t frame[256];
    char payload[64];
    uint32_t be;
    size_t len;

    g_snprintf(payload, sizeof(payload), "%s %u", domain->uuid, number);
    len = lab_udp(frame, 4000, payload);
    be = GUINT32_TO_BE((uint32_t)len);
    return send(fd, &be, sizeof(be), MSG_NOSIGNAL) == sizeof(be) &&
           send(fd, frame, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* Takes one frame that must be the domain's frame @number; false when the channel is closed. */
static bool read_one(const Domain *domain, int fd, unsigned number)
{
    uint8_t frame[256], expected[256];
    char payload[64];
    uint32_t be;
    size_t len;
    ssize_t n = recv(fd, &be, sizeof(be), MSG_WAITALL);

    if (n < (ssize_t)sizeof(be))
        return false;
    g_snprintf(payload, sizeof(payload), "%s %u", domain->uuid, number);
    len = lab_udp(expected, 4000, payload);
    g_assert_cmpuint(GUINT32_FROM_BE(be), ==, len);
    n = recv(fd, frame, len, MSG_WAITALL);
    if (n < (ssize_t)len)
        return false;
    g_assert_cmpmem(frame, len, expected, len);
    return true;
}

/* One way of the domain's traffic: whole, in order, its own. @twin (or -1) gets it too. */
typedef struct {
    int in, twin, out;
    atomic_uint *count;
    unsigned written;
} Way;

static bool move(const Domain *domain, Way *way)
{
    struct pollfd wait = {.fd = way->out, .events = POLLIN};

    while (way->written - atomic_load(way->count) < WINDOW) {
        if (!write_one(domain, way->in, way->written) ||
            (way->twin >= 0 && !write_one(domain, way->twin, way->written)))
            return false;
        way->written++;
    }
    while (poll(&wait, 1, 1) > 0) {
        if (!read_one(domain, way->out, atomic_load(way->count)))
            return false;
        atomic_fetch_add(way->count, 1);
    }
    return true;
}

static gpointer traffic(gpointer opaque)
{
    Domain *domain = opaque;
    Way ways[] = {
        {domain->ends.p_out, domain->ends.s_out, domain->ends.p_release, &domain->released, 0},
        {domain->ends.p_mirror, -1, domain->ends.s_in, &domain->mirrored, 0}};

    while (!atomic_load(&domain->quit)) {
        if (!move(domain, &ways[0]) || !move(domain, &ways[1])) {
            atomic_store(&domain->closed, true);
            break;
        }
    }
    return NULL;
}

/* Waits until @domain has moved ENOUGH more frames both ways. */
static void await_traffic(Domain *domain)
{
    unsigned released = atomic_load(&domain->released), mirrored = atomic_load(&domain->mirrored);
    uint64_t end = colo_clock_ns() + 4 * LAB_WAIT_MS * COLO_NS_PER_MS;

    while (atomic_load(&domain->released) - released < ENOUGH ||
           atomic_load(&domain->mirrored) - mirrored < ENOUGH) {
        g_assert_false(atomic_load(&domain->closed));
        g_assert_cmpuint(colo_clock_ns(), <, end);
        g_usleep(1000);
    }
}

static void start(Lab *lab, Domain *domains)
{
    lab_threads = WORKERS;
    lab_start(lab);
    lab_threads = 0;
    for (unsigned i = 0; i < DOMAINS; i++) {
        open_domain(lab, &domains[i], i);
        domains[i].thread = g_thread_new("traffic", traffic, &domains[i]);
    }
}

static void finish(Lab *lab, Domain *domains)
{
    for (unsigned i = 0; i < DOMAINS; i++)
        close_domain(&domains[i]);
    lab_helper_stop(&lab->p);
    lab_helper_stop(&lab->s);
}

/* The events of a domain that has been destroyed. */
static void forget_all(Lab *lab)
{
    static const char *const names[] = {"stream-up",  "stream-down", "channel-down",
                                        "colo-ready", "committed",   "loaded"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        lab_forget(&lab->p, names[i]);
        lab_forget(&lab->s, names[i]);
    }
}

static unsigned count_threads(const LabHelper *helper)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)helper->pid);
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    g_assert_nonnull(folder);
    while (g_dir_read_name(folder))
        n++;
    return n;
}

static void test_number_of_threads(void)
{
    LabHelper helper;

#ifdef __SANITIZE_THREAD__
    g_test_skip("ThreadSanitizer has a thread of its own");
    return;
#endif
    lab_threads = WORKERS;
    lab_helper_start(&helper);
    lab_threads = 0;
    g_assert_cmpuint(count_threads(&helper), ==, WORKERS + 1);
    lab_helper_stop(&helper);
}

/* Of the two domains one goes on, and so does the controller's view of it: its number. */
static unsigned assert_one_goes_on(Lab *lab, Domain *domains)
{
    struct pollfd released[2];
    unsigned alive;

    for (unsigned i = 0; i < 2; i++) {
        released[i] = (struct pollfd){.fd = domains[i].ends.p_release, .events = POLLIN};
        g_assert_true(write_one(&domains[i], domains[i].ends.p_out, 0));
        g_assert_true(write_one(&domains[i], domains[i].ends.s_out, 0));
    }
    g_assert_cmpint(poll(released, 2, LAB_WAIT_MS), ==, 1);
    alive = released[1].revents ? 1 : 0;
    g_assert_true(read_one(&domains[alive], released[alive].fd, 0));
    lab_silent(released[!alive].fd);
    lab_uuid = domains[alive].uuid;
    g_assert_cmpuint(lab_stat(&lab->p, "committed"), ==, 1);
    lab_uuid = LAB_UUID;
    return alive;
}

/* Two domains are on two threads: one of these is held up. */
static void test_one_thread_held_up(void)
{
    Lab lab;
    Domain domains[2];
    pid_t worker;

#ifdef __SANITIZE_THREAD__
    g_test_skip("ThreadSanitizer has a thread of its own");
    return;
#endif
    lab_threads = 2;
    lab_start(&lab);
    lab_threads = 0;
    open_domain(&lab, &domains[0], 0);
    open_domain(&lab, &domains[1], 1);
    worker = lab_helper_worker(&lab.p);
    if (inject_stop(worker)) {
        Domain *other = &domains[!assert_one_goes_on(&lab, domains)];

        inject_go_on(worker);
        g_assert_true(read_one(other, other->ends.p_release, 0));
    } else {
        g_test_skip("only root may stop one thread of the helper");
    }
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
    lab_close(&domains[0].ends);
    lab_close(&domains[1].ends);
}

/* Each domain's frames come through whole, in order, and to no other domain, while the controller
 * asks about all of them; then they are held, and let go without their twins. */
static void test_domains_at_once(void)
{
    Lab lab;
    Domain domains[DOMAINS];

    start(&lab, domains);
    for (unsigned round = 0; round < 20; round++) {
        Domain *domain = &domains[round % DOMAINS];
        g_autoptr(JsonObject) all = lab_request(&lab.p, "inventory", NULL, -1);
        g_autoptr(JsonObject) other = lab_request(&lab.s, "inventory", NULL, -1);

        g_assert_cmpuint(json_object_array_length(colo_json_peek(all, "sessions")), ==, DOMAINS);
        g_assert_cmpuint(json_object_array_length(colo_json_peek(other, "sessions")), ==, DOMAINS);
        lab_uuid = domain->uuid;
        json_object_put(lab_request(&lab.p, "kick-done", lab_about(), -1));
        await_traffic(domain);
    }
    for (unsigned i = 0; i < DOMAINS; i++) {
        lab_uuid = domains[i].uuid;
        json_object_put(lab_gate(&lab.p, "hold"));
        json_object_put(lab_gate(&lab.p, "alone"));
        await_traffic(&domains[i]);
    }
    lab_uuid = LAB_UUID;
    finish(&lab, domains);
}

/* A domain is destroyed in full traffic, and made anew, and the others go on. */
static void test_destroy_in_traffic(void)
{
    Lab lab;
    Domain domains[DOMAINS];

    start(&lab, domains);
    for (unsigned i = 0; i < DOMAINS; i++) {
        LabHelper *helper = i % 2 ? &lab.s : &lab.p;

        await_traffic(&domains[i]);
        lab_uuid = domains[i].uuid;
        json_object_put(lab_request(helper, "session-destroy", lab_about(), -1));
        helper = i % 2 ? &lab.p : &lab.s;
        json_object_put(lab_request(helper, "session-destroy", lab_about(), -1));
        close_domain(&domains[i]);
        forget_all(&lab);
        open_domain(&lab, &domains[i], i);
        domains[i].thread = g_thread_new("traffic", traffic, &domains[i]);
        await_traffic(&domains[(i + 1) % DOMAINS]);
    }
    for (unsigned i = 0; i < DOMAINS; i++)
        await_traffic(&domains[i]);
    finish(&lab, domains);
}

/* The end of the program in full traffic is orderly. */
static void test_stop_in_traffic(void)
{
    Lab lab;
    Domain domains[DOMAINS];

    start(&lab, domains);
    for (unsigned i = 0; i < DOMAINS; i++)
        await_traffic(&domains[i]);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
    for (unsigned i = 0; i < DOMAINS; i++)
        close_domain(&domains[i]);
}

/* Streams that are opened while their session is being destroyed end, and nothing else does. */
static void test_streams_against_destroy(void)
{
    Lab lab;
    Domain one;

    lab_threads = WORKERS;
    lab_start(&lab);
    lab_threads = 0;
    open_domain(&lab, &one, 1);
    one.thread = g_thread_new("traffic", traffic, &one);
    for (unsigned i = 0; i < 30; i++) {
        lab_create(&lab.p, "primary", LAB_PSK);
        lab_create(&lab.s, "secondary", LAB_PSK);
        lab_connect_peer(&lab, "packets");
        lab_connect_peer(&lab, "checkpoint");
        if (i % 3 == 0)
            json_object_put(lab_event(&lab.p, "stream-up"));
        json_object_put(lab_request(&lab.s, "session-destroy", lab_about(), -1));
        json_object_put(lab_request(&lab.p, "session-destroy", lab_about(), -1));
        lab_forget(&lab.p, "stream-up");
    }
    await_traffic(&one);
    close_domain(&one);
    lab_helper_stop(&lab.p);
    lab_helper_stop(&lab.s);
}

/* I5: the control thread is held up while a worker has more to tell than may wait. The session goes
 * on; the controller loses its connection, and with a new one sees what has become of it. */
static void test_i8_events_are_bounded(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    if (!inject_stop(lab.p.pid)) {
        g_test_skip("only root may stop one thread of the helper");
        lab_down(&lab);
        return;
    }
    for (unsigned i = 0; i < COLO_INBOX_MAX / 2 + 10; i++)
        lab_checkpoint(&lab); /* two events each */
    lab_say(lab.p_out, "goes on");
    lab_say(lab.s_out, "goes on");
    lab_hear(lab.p_release, "goes on");
    inject_go_on(lab.p.pid);
    g_assert_true(lab_helper_logged(&lab.p, "events came faster than they could be sent"));
    g_assert_true(lab_is_closed(lab.p.control, LAB_WAIT_MS));
    lab_helper_connect(&lab.p);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1 + COLO_INBOX_MAX / 2 + 10);
    lab_checkpoint(&lab);
    json_object_put(lab_event(&lab.p, "committed"));
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/threads/number", test_number_of_threads);
    g_test_add_func("/threads/one-held-up", test_one_thread_held_up);
    g_test_add_func("/threads/domains-at-once", test_domains_at_once);
    g_test_add_func("/threads/destroy-in-traffic", test_destroy_in_traffic);
    g_test_add_func("/threads/stop-in-traffic", test_stop_in_traffic);
    g_test_add_func("/threads/streams-against-destroy", test_streams_against_destroy);
    g_test_add_func("/threads/I8/events-bounded", test_i8_events_are_bounded);
    return g_test_run();
}
