/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a comparator bears: peers that stall or die, QEMU that does not read, a controller that
 * dies. */
#include "test-comparator-lab.h"

#include "util/clock.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_peer_silent_and_heard(void)
{
    Lab lab;
    g_autoptr(JsonObject) silent = NULL;

    /* Half a second: no processor of a busy machine is away so long. */
    lab_missed = 25;
    lab_up(&lab);
    lab_missed = 5;
    g_assert_null(lab_event_within(&lab.p, "peer-silent", 1000));
    lab_helper_pause(&lab.s);
    silent = lab_event(&lab.p, "peer-silent");
    g_assert_cmpuint(colo_json_peek_uint(silent, "silent-ms", 0), >=, 500);
    g_assert_cmpuint(lab_stat(&lab.p, "peer-silent-ms"), >=, 500);
    /* Silence alone decides nothing: the stream is still up. */
    g_assert_null(lab_event_within(&lab.p, "stream-down", 100));
    kill(lab.s.pid, SIGCONT);
    json_object_put(lab_event(&lab.p, "peer-heard"));
    lab_down(&lab);
}

/* A helper that was stopped itself has not heard its peer either: no silence of the peer. */
static void test_own_standstill_is_no_silence(void)
{
    Lab lab;

    lab_missed = 25;
    lab_up(&lab);
    lab_missed = 5;
    lab_helper_pause(&lab.p);
    json_object_put(lab_event(&lab.s, "peer-silent"));
    g_usleep(500 * 1000);
    kill(lab.p.pid, SIGCONT);
    json_object_put(lab_event(&lab.s, "peer-heard"));
    g_assert_null(lab_event_within(&lab.p, "peer-silent", 300));
    lab_down(&lab);
}

static void test_peer_killed_is_an_event(void)
{
    Lab lab;
    int streams = 0;

    lab_up(&lab);
    lab_protect(&lab);
    lab_helper_pause(&lab.p);
    lab_helper_stop(&lab.s);
    lab_helper_start(&lab.s); /* an empty one, so that the end of the test finds it */
    kill(lab.p.pid, SIGCONT);
    for (; streams < 3; streams++)
        json_object_put(lab_event(&lab.p, "stream-down"));
    lab_say(lab.p_out, "held");
    lab_silent(lab.p_release);
    json_object_put(lab_gate(&lab.p, "alone"));
    lab_hear(lab.p_release, "held");
    lab_down(&lab);
}

/* I4: with a peer that does not read, QEMU's packet sockets are read on, and the bound is told;
 * the migration socket has back-pressure instead. */
static void test_i4_stalled_peer(void)
{
    Lab lab;
    g_autoptr(JsonObject) overflow = NULL;
    static uint8_t frame[1500];
    static char piece[65536];
    size_t len = lab_udp(frame, 4000, "flood");
    size_t written = 0;

    lab_up(&lab);
    lab_protect(&lab);
    lab_helper_pause(&lab.s);
    /* 30 MB: lab_write() fails the test when the socket stays full for 5 s. */
    for (int i = 0; i < 20000; i++)
        lab_write_frame(lab.p_mirror, frame, sizeof(frame));
    (void)len;
    overflow = lab_event(&lab.p, "overflow");
    g_assert_cmpstr(colo_json_peek_string(overflow, "queue", ""), ==, "packets");
    g_assert_cmpuint(lab_counter(&lab.p, "input-dropped-full"), >, 0);
    lab_say(lab.p_out, "still read");
    while (lab_stat(&lab.p, "held-frames") == 0)
        g_usleep(1000);
    memcpy(piece, "\0\0\0\1\0\0\0\3\3\0\0\0\2\0\0\0\0\0\0\0\x08\1r", 23);
    for (;;) {
        struct pollfd wait = {.fd = lab.p_migration, .events = POLLOUT};
        ssize_t n;

        if (poll(&wait, 1, 500) == 0)
            break;
        n = send(lab.p_migration, piece, sizeof(piece), MSG_DONTWAIT | MSG_NOSIGNAL);
        g_assert_cmpint(n, >, 0);
        written += (size_t)n;
        g_assert_cmpuint(written, <, 128u << 20); /* COLO_SESSION_CHECKPOINT_RING and sockets */
    }
    kill(lab.s.pid, SIGCONT);
    lab_down(&lab);
}

static void test_i4_qemu_does_not_read(void)
{
    Lab lab;
    uint8_t frame[1500] = {0};
    g_autoptr(JsonObject) overflow = NULL;

    lab_up(&lab);
    for (int i = 0; i < 50000; i++) /* 75 MB */
        lab_write_frame(lab.p_out, frame, sizeof(frame));
    overflow = lab_event(&lab.p, "overflow");
    g_assert_cmpstr(colo_json_peek_string(overflow, "queue", ""), ==, "release");
    /* What was taken in comes out whole: no frame is cut. */
    while (lab_read_frame(lab.p_release, frame, sizeof(frame), 200) > 0)
        ;
    lab_say(lab.p_out, "after the flood");
    lab_hear(lab.p_release, "after the flood");
    lab_down(&lab);
}

static void test_i4_held_frames_are_bounded(void)
{
    Lab lab;
    uint8_t frame[1500];
    g_autofree char *payload = g_strnfill(1400, 'x');
    size_t len;
    uint64_t limit;

    lab_up(&lab);
    lab_protect(&lab);
    json_object_put(lab_gate(&lab.p, "hold"));
    len = lab_udp(frame, 4000, payload);
    for (int i = 0; i < 70000; i++)
        lab_write_frame(lab.p_out, frame, len);
    json_object_put(lab_event(&lab.p, "overflow"));
    g_assert_cmpuint(lab_counter(&lab.p, "overflows-held"), >, 0);
    g_assert_cmpuint(lab_counter(&lab.p, "output-dropped-full"), >, 0);
    limit = 64u << 20;
    g_assert_cmpuint(lab_stat(&lab.p, "held-bytes"), <=, limit);
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), >, 10000);
    json_object_put(lab_gate(&lab.p, "closed"));
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), ==, 0);
    lab_down(&lab);
}

/* The secondary's frames have limits too, and that they are reached says nothing against it: it is
 * the primary that stands. */
static void test_i4_twins_are_bounded(void)
{
    Lab lab;
    uint8_t frame[1500];
    g_autofree char *payload = g_strnfill(1400, 'x');
    g_autoptr(JsonObject) overflow = NULL;
    size_t len;

    lab_up(&lab);
    lab_protect(&lab);
    len = lab_udp(frame, 4000, payload);
    for (int i = 0; i < 70000; i++)
        lab_write_frame(lab.s_out, frame, len);
    overflow = lab_event(&lab.p, "overflow");
    g_assert_cmpstr(colo_json_peek_string(overflow, "queue", ""), ==, "twins");
    g_assert_cmpuint(lab_counter(&lab.p, "overflows-twins"), >, 0);
    g_assert_cmpuint(lab_counter(&lab.p, "overflows-held"), ==, 0);
    g_assert_cmpuint(lab_counter(&lab.p, "output-dropped-full"), ==, 0);
    lab_down(&lab);
}

/* I8: the first answer to a limit is a checkpoint, asked for before it is reached. */
static void test_i8_a_filling_queue_asks_for_a_checkpoint(void)
{
    Lab lab;
    uint8_t frame[1500];
    g_autofree char *payload = g_strnfill(1400, 'x');
    g_autoptr(JsonObject) wanted = NULL;
    JsonObject *arguments = lab_about();
    size_t len;

    lab_up(&lab);
    lab_protect(&lab);
    /* Or the first frame would ask. */
    colo_json_add(
        arguments, "tuning", "o",
        colo_json_build("unanswered-min-ms", "i", 10000, "unanswered-max-ms", "i", 10000, NULL),
        NULL);
    json_object_put(lab_request(&lab.p, "tune", arguments, -1));
    for (unsigned i = 0; i < 28000; i++) { /* 38 MiB, in blocks of 2 KiB 55 MiB of 64 */
        len = lab_udp(frame, 4000 + i % 8, payload);
        lab_write_frame(lab.p_out, frame, len);
    }
    wanted = lab_event(&lab.p, "checkpoint-wanted");
    g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "queue");
    g_assert_cmpuint(lab_counter(&lab.p, "overflows-held"), ==, 0);
    lab_down(&lab);
}

/* Mirrors input until the secondary's @queue is full: told, counted, and the helper goes on. */
static void fill(Lab *lab, const uint8_t *frame, size_t len, const char *queue)
{
    g_autofree char *counter = g_strconcat("overflows-", queue, NULL);
    g_autoptr(JsonObject) overflow = NULL;

    /* Bit by bit, so that it is not the primary's own ring that overflows. */
    for (unsigned n = 0; lab_counter(&lab->s, counter) == 0; n += 100) {
        g_assert_cmpuint(n * len, <, 64u << 20);
        for (unsigned i = 0; i < 100; i++)
            lab_write_frame(lab->p_mirror, frame, len);
    }
    overflow = lab_event(&lab->s, "overflow");
    g_assert_cmpstr(colo_json_peek_string(overflow, "queue", ""), ==, queue);
    g_assert_cmpuint(lab_counter(&lab->s, "input-dropped-full"), >, 0);
}

/* Input of the next epoch while the secondary loads: bounded, and what fitted in comes out. */
static void test_i8_input_of_a_later_epoch_is_bounded(void)
{
    Lab lab;
    uint8_t frame[1500];
    g_autofree char *payload = g_strnfill(1400, 'x');
    size_t len = lab_udp(frame, 4000, payload);

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    fill(&lab, frame, len, "input");
    lab_silent(lab.s_in);
    lab_pages(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    g_assert_cmpint(lab_read_frame(lab.s_in, frame, sizeof(frame), LAB_WAIT_MS), ==, len);
    lab_down(&lab);
}

static void test_i4_secondarys_qemu_does_not_read(void)
{
    Lab lab;
    uint8_t frame[1500];
    g_autofree char *payload = g_strnfill(1400, 'x');
    size_t len = lab_udp(frame, 4000, payload);

    lab_up(&lab);
    lab_protect(&lab);
    fill(&lab, frame, len, "in");
    g_assert_cmpint(lab_read_frame(lab.s_in, frame, sizeof(frame), LAB_WAIT_MS), ==, len);
    lab_down(&lab);
}

static void test_i5_controller_dies(void)
{
    Lab lab;
    g_autoptr(JsonObject) inventory = NULL;
    JsonObject *session;

    lab_up(&lab);
    lab_protect(&lab);
    close(lab.p.control);
    lab.p.control = -1;
    lab_say(lab.p_out, "without a controller");
    lab_say(lab.s_out, "without a controller");
    lab_hear(lab.p_release, "without a controller");
    lab_checkpoint(&lab);
    lab_helper_connect(&lab.p);
    inventory = lab_request(&lab.p, "inventory", NULL, -1);
    g_assert_cmpuint(json_object_array_length(colo_json_peek(inventory, "sessions")), ==, 1);
    session = json_object_array_get_idx(colo_json_peek(inventory, "sessions"), 0);
    g_assert_cmpstr(colo_json_peek_string(session, "uuid", ""), ==, LAB_UUID);
    g_assert_cmpstr(colo_json_peek_string(session, "role", ""), ==, "primary");
    g_assert_cmpstr(colo_json_peek_string(session, "gate", ""), ==, "paired");
    g_assert_cmpuint(colo_json_peek_uint(session, "generation", 0), ==, 7);
    g_assert_cmpuint(colo_json_peek_uint(session, "committed", 0), ==, 2);
    g_assert_cmpuint(json_object_array_length(colo_json_peek(session, "channels")), ==, 5);
    g_assert_cmpstr(colo_json_peek_string(colo_json_peek(session, "streams"), "disk:vda", ""), ==,
                    "up");
    lab_down(&lab);
}

static void test_newest_controller_counts(void)
{
    Lab lab;
    int old;

    lab_up(&lab);
    old = lab.p.control;
    lab.p.control = -1;
    lab_helper_connect(&lab.p);
    g_assert_true(lab_is_closed(old, LAB_WAIT_MS));
    close(old);
    g_assert_cmpuint(lab_stat(&lab.p, "generation"), ==, 7);
    lab_down(&lab);
}

/* A domain is protected anew while a session of before the takeover still maps for old connections:
 * requests tell the two apart by their generation. */
static void test_two_generations(void)
{
    static const char key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    Lab lab;
    g_autoptr(JsonObject) inventory = NULL, gate = NULL, older = NULL;

    lab_up(&lab);
    lab_create_generation(&lab.s, "primary", key, 9);
    inventory = lab_request(&lab.s, "inventory", NULL, -1);
    g_assert_cmpuint(json_object_array_length(colo_json_peek(inventory, "sessions")), ==, 2);
    g_assert_cmpuint(lab_stat(&lab.s, "generation"), ==, 9); /* the newest */
    gate = lab_request(&lab.s, "gate",
                       colo_json_build("uuid", "s", LAB_UUID, "generation", "u", UINT64_C(9),
                                       "mode", "s", "hold", NULL),
                       -1);
    older = lab_request(
        &lab.s, "stats",
        colo_json_build("uuid", "s", LAB_UUID, "generation", "u", UINT64_C(7), NULL), -1);
    g_assert_cmpstr(colo_json_peek_string(older, "role", ""), ==, "secondary");
    g_assert_cmpstr(colo_json_peek_string(older, "gate", ""), !=, "hold");
    json_object_put(lab_request(
        &lab.s, "session-destroy",
        colo_json_build("uuid", "s", LAB_UUID, "generation", "u", UINT64_C(9), NULL), -1));
    g_assert_cmpuint(lab_stat(&lab.s, "generation"), ==, 7);
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/comparator/peer-silent", test_peer_silent_and_heard);
    g_test_add_func("/comparator/own-standstill", test_own_standstill_is_no_silence);
    g_test_add_func("/comparator/peer-killed", test_peer_killed_is_an_event);
    g_test_add_func("/comparator/I4/stalled-peer", test_i4_stalled_peer);
    g_test_add_func("/comparator/I4/qemu-does-not-read", test_i4_qemu_does_not_read);
    g_test_add_func("/comparator/I4/held-bounded", test_i4_held_frames_are_bounded);
    g_test_add_func("/comparator/I4/twins-bounded", test_i4_twins_are_bounded);
    g_test_add_func("/comparator/I4/secondarys-qemu", test_i4_secondarys_qemu_does_not_read);
    g_test_add_func("/comparator/I8/queue-asks", test_i8_a_filling_queue_asks_for_a_checkpoint);
    g_test_add_func("/comparator/I8/input-bounded", test_i8_input_of_a_later_epoch_is_bounded);
    g_test_add_func("/comparator/I5/controller-dies", test_i5_controller_dies);
    g_test_add_func("/comparator/I5/newest-controller", test_newest_controller_counts);
    g_test_add_func("/comparator/two-generations", test_two_generations);
    return g_test_run();
}
