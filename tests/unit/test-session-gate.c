/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sessions whose gate is moved, and that a takeover ends. */
#include "test-comparator-lab.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_gate_hold_then_alone(void)
{
    Lab lab;
    g_autoptr(JsonObject) held = NULL;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "first");
    held = lab_gate(&lab.p, "hold");
    lab_say(lab.p_out, "second");
    lab_say(lab.s_out, "first");
    lab_silent(lab.p_release);
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), ==, 2);
    json_object_put(lab_gate(&lab.p, "alone"));
    lab_hear(lab.p_release, "first");
    lab_hear(lab.p_release, "second");
    lab_say(lab.p_out, "third");
    lab_hear(lab.p_release, "third");
    lab_down(&lab);
}

static void test_gate_hold_then_paired(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_say(lab.p_out, "covered by the commit");
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    json_object_put(lab_gate(&lab.p, "hold"));
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_silent(lab.p_release);
    json_object_put(lab_gate(&lab.p, "paired"));
    lab_hear(lab.p_release, "covered by the commit");
    lab_down(&lab);
}

static void test_gate_closed_drops(void)
{
    Lab lab;
    g_autoptr(JsonObject) closed = NULL;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "held, then dropped");
    while (lab_stat(&lab.p, "held-frames") == 0)
        g_usleep(1000);
    closed = lab_gate(&lab.p, "closed");
    g_assert_cmpuint(colo_json_peek_uint(closed, "held-frames", 99), ==, 0);
    lab_say(lab.p_out, "dropped");
    lab_silent(lab.p_release);
    g_assert_cmpuint(lab_counter(&lab.p, "output-dropped-closed"), ==, 1);
    json_object_put(lab_gate(&lab.p, "alone"));
    lab_say(lab.p_out, "new");
    lab_hear(lab.p_release, "new");
    lab_down(&lab);
}

/* "closed" is not answered while a released frame can still act: QEMU has not read it. */
static void test_gate_closed_waits_for_qemu(void)
{
    Lab lab;
    g_autofree char *code = NULL;

    lab_up(&lab);
    lab_say(lab.p_out, "released, unread");
    while (lab_counter(&lab.p, "released") == 0)
        g_usleep(1000);
    code = lab_refused(&lab.p, "gate",
                       colo_json_build("uuid", "s", LAB_UUID, "mode", "s", "closed", NULL), -1);
    g_assert_cmpstr(code, ==, "timeout");
    lab_hear(lab.p_release, "released, unread");
    json_object_put(lab_gate(&lab.p, "closed"));
    lab_down(&lab);
}

/* Frames that wait behind a QEMU which does not read are dropped by "closed", but for the one that
 * is half in the socket: its rest comes with the next frames, so that no frame is cut. */
static void test_gate_closed_drops_what_waits(void)
{
    Lab lab;
    uint8_t frame[1500], got[2048];
    g_autofree char *code = NULL;
    size_t len;
    ssize_t n;
    int whole = 0;

    lab_up(&lab);
    memset(frame, 0, sizeof(frame));
    len = lab_udp(frame, 4000, "flood");
    for (int i = 0; i < 1000; i++)
        lab_write_frame(lab.p_out, frame, sizeof(frame));
    while (lab_counter(&lab.p, "output-passed") < 1000)
        g_usleep(1000);
    code = lab_refused(&lab.p, "gate",
                       colo_json_build("uuid", "s", LAB_UUID, "mode", "s", "closed", NULL), -1);
    g_assert_cmpstr(code, ==, "timeout");
    g_assert_cmpuint(lab_counter(&lab.p, "output-dropped-closed"), >, 0);
    json_object_put(lab_gate(&lab.p, "alone"));
    lab_say(lab.p_out, "new");
    while ((n = lab_read_frame(lab.p_release, got, sizeof(got), LAB_QUIET_MS)) == sizeof(frame)) {
        g_assert_cmpmem(got, len, frame, len);
        whole++;
    }
    g_assert_cmpint(n, ==, 42 + 3);
    g_assert_cmpint(memcmp(got + 42, "new", 3), ==, 0);
    g_assert_cmpuint((uint64_t)whole + lab_counter(&lab.p, "output-dropped-closed"), ==, 1000);
    lab_down(&lab);
}

static void test_i3_secondary_closed_says_nothing_more(void)
{
    Lab lab;
    uint32_t word = GUINT32_TO_BE(COLO_MSG_VMSTATE_RECEIVED);
    struct pollfd wait;
    g_autofree char *code = NULL;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "x");
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    json_object_put(lab_gate(&lab.s, "closed"));
    lab_say(lab.s_out, "x");
    lab_write(lab.s_migration, &word, sizeof(word));
    lab_silent(lab.p_release);
    wait = (struct pollfd){.fd = lab.p_migration, .events = POLLIN};
    g_assert_cmpint(poll(&wait, 1, LAB_QUIET_MS), ==, 0);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    json_object_put(lab_event(&lab.p, "stream-down"));
    code = lab_refused(&lab.s, "gate",
                       colo_json_build("uuid", "s", LAB_UUID, "mode", "s", "paired", NULL), -1);
    g_assert_cmpstr(code, ==, "operation-invalid");
    lab_down(&lab);
}

static void test_takeover_idle(void)
{
    Lab lab;
    g_autoptr(JsonObject) result = NULL;
    g_autofree char *early = NULL;
    char byte;

    lab_up(&lab);
    lab_protect(&lab);
    early = lab_refused(&lab.s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpstr(early, ==, "operation-invalid");
    json_object_put(lab_gate(&lab.s, "closed"));
    result = lab_request(&lab.s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpuint(colo_json_peek_uint(result, "epoch", 0), ==, 1);
    g_assert_cmpint(recv(lab.s_nbd, &byte, 1, 0), ==, 0);
    g_assert_cmpint(recv(lab.s_migration, &byte, 1, MSG_DONTWAIT), ==, -1);
    lab_down(&lab);
}

static void test_takeover_cuts_partial(void)
{
    Lab lab;
    g_autoptr(JsonObject) result = NULL;
    char byte;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    json_object_put(lab_gate(&lab.s, "closed"));
    result = lab_request(&lab.s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpuint(colo_json_peek_uint(result, "epoch", 0), ==, 1);
    g_assert_cmpint(recv(lab.s_migration, &byte, 1, 0), ==, 0);
    lab_down(&lab);
}

static void test_takeover_waits_for_loaded(void)
{
    Lab lab;
    uint32_t received = GUINT32_TO_BE(COLO_MSG_VMSTATE_RECEIVED);
    uint32_t loaded = GUINT32_TO_BE(COLO_MSG_VMSTATE_LOADED);
    g_autoptr(JsonObject) answer = NULL;
    uint64_t id;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    json_object_put(lab_gate(&lab.s, "closed"));
    id = lab_send(&lab.s, "takeover-prepare", lab_about(), -1);
    lab_write(lab.s_migration, &received, sizeof(received));
    g_assert_null(lab_event_within(&lab.s, "loaded", LAB_QUIET_MS));
    lab_no_answer(&lab.s);
    lab_write(lab.s_migration, &loaded, sizeof(loaded));
    answer = lab_answer(&lab.s, id);
    g_assert_cmpuint(colo_json_peek_uint(colo_json_peek(answer, "return"), "epoch", 0), ==, 2);
    lab_down(&lab);
}

/* The checkpoint is wholly in QEMU when it ends the channel without LOADED: what it holds is
 * unknown, however often it is asked. */
static void test_takeover_refuses_what_was_not_loaded(void)
{
    Lab lab;
    g_autofree char *first = NULL, *again = NULL;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    close(lab.s_migration);
    lab.s_migration = 0;
    json_object_put(lab_event(&lab.s, "channel-down"));
    json_object_put(lab_gate(&lab.s, "closed"));
    first = lab_refused(&lab.s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpstr(first, ==, "operation-failed");
    again = lab_refused(&lab.s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpstr(again, ==, "operation-failed");
    lab_down(&lab);
}

/* Asked again while it waits, the newest asker is answered in the end, and the one before at once:
 * requests that nobody answers would use up the controller's places. */
static void test_takeover_asked_again(void)
{
    Lab lab;
    uint32_t received = GUINT32_TO_BE(COLO_MSG_VMSTATE_RECEIVED);
    uint32_t loaded = GUINT32_TO_BE(COLO_MSG_VMSTATE_LOADED);
    g_autoptr(JsonObject) answer = NULL;
    uint64_t id;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    json_object_put(lab_gate(&lab.s, "closed"));
    id = lab_send(&lab.s, "takeover-prepare", lab_about(), -1);
    for (int i = 0; i < 100; i++) {
        uint64_t next = lab_send(&lab.s, "takeover-prepare", lab_about(), -1);
        g_autoptr(JsonObject) old = lab_answer(&lab.s, id);

        g_assert_cmpstr(colo_json_peek_string(colo_json_peek(old, "error"), "code", ""), ==,
                        "operation-failed");
        id = next;
    }
    lab_write(lab.s_migration, &received, sizeof(received));
    lab_write(lab.s_migration, &loaded, sizeof(loaded));
    answer = lab_answer(&lab.s, id);
    g_assert_cmpuint(colo_json_peek_uint(colo_json_peek(answer, "return"), "epoch", 0), ==, 2);
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session/gate/hold-alone", test_gate_hold_then_alone);
    g_test_add_func("/session/gate/hold-paired", test_gate_hold_then_paired);
    g_test_add_func("/session/gate/closed", test_gate_closed_drops);
    g_test_add_func("/session/gate/closed-waits", test_gate_closed_waits_for_qemu);
    g_test_add_func("/session/gate/closed-drops-waiting", test_gate_closed_drops_what_waits);
    g_test_add_func("/session/I3/closed", test_i3_secondary_closed_says_nothing_more);
    g_test_add_func("/session/takeover/idle", test_takeover_idle);
    g_test_add_func("/session/takeover/partial", test_takeover_cuts_partial);
    g_test_add_func("/session/takeover/whole", test_takeover_waits_for_loaded);
    g_test_add_func("/session/takeover/not-loaded", test_takeover_refuses_what_was_not_loaded);
    g_test_add_func("/session/takeover/asked-again", test_takeover_asked_again);
    return g_test_run();
}
