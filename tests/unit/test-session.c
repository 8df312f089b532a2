/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two comparators between two stand-ins for QEMU: frames, checkpoints, gates, disk bytes. */
#include "test-comparator-lab.h"

#include "test-compare-frames.h"
#include "util/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_alone_passes(void)
{
    Lab lab;

    lab_up(&lab);
    lab_say(lab.p_out, "one");
    lab_say(lab.p_out, "two");
    lab_hear(lab.p_release, "one");
    lab_hear(lab.p_release, "two");
    lab_down(&lab);
}

static void test_i1_equal_leaves_without_checkpoint(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "same");
    lab_silent(lab.p_release);
    lab_say(lab.s_out, "same");
    lab_hear(lab.p_release, "same");
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), ==, 0);
    lab_down(&lab);
}

/* The last commit in "stats" is @epoch's: taken between @after_ns and @before_ns, committed later
 * than @before_ns and not in the future. */
static void assert_last_commit(Lab *lab, uint64_t epoch, uint64_t after_ns, uint64_t before_ns)
{
    g_autoptr(JsonObject) stats = lab_request(&lab->p, "stats", lab_about(), -1);
    JsonObject *commits = colo_json_peek(stats, "commits"), *last;
    uint64_t taken_ns, committed_ns;

    g_assert_cmpuint(json_object_array_length(commits), ==, epoch);
    last = json_object_array_get_idx(commits, epoch - 1);
    taken_ns = json_object_get_uint64(json_object_array_get_idx(last, 1));
    committed_ns = json_object_get_uint64(json_object_array_get_idx(last, 2));
    g_assert_cmpuint(json_object_get_uint64(json_object_array_get_idx(last, 0)), ==, epoch);
    g_assert_cmpuint(taken_ns, >=, after_ns);
    g_assert_cmpuint(taken_ns, <=, before_ns);
    g_assert_cmpuint(committed_ns, >=, before_ns);
    g_assert_cmpuint(committed_ns, <=, colo_clock_ns());
}

static void test_i1_different_leaves_after_received_only(void)
{
    Lab lab;
    uint64_t before_ns, received_ns;
    g_autoptr(JsonObject) wanted = NULL;
    g_autoptr(JsonObject) committed = NULL;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "primary says 1");
    lab_say(lab.s_out, "secondary: 2");
    wanted = lab_event(&lab.p, "checkpoint-wanted");
    g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "diverged");
    before_ns = colo_clock_ns();
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    lab_silent(lab.p_release);
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), ==, 1);
    received_ns = colo_clock_ns();
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_hear(lab.p_release, "primary says 1");
    committed = lab_event(&lab.p, "committed");
    g_assert_cmpuint(colo_json_peek_uint(committed, "epoch", 0), ==, 2);
    assert_last_commit(&lab, 2, before_ns, received_ns);
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    /* What the secondary said is forgotten: the new epoch begins clean. */
    lab_say(lab.p_out, "again");
    lab_say(lab.s_out, "again");
    lab_hear(lab.p_release, "again");
    lab_down(&lab);
}

/* Output read after VMSTATE_SEND belongs to the next epoch, output before it to the old one, even
 * when all of it lies in the socket at that moment. */
static void test_i1_boundary_is_vmstate_send(void)
{
    Lab lab;
    const uint32_t send = GUINT32_TO_BE(COLO_MSG_VMSTATE_SEND);

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    kill(lab.p.pid, SIGSTOP);
    lab_write(lab.p_migration, &send, sizeof(send));
    lab_say(lab.p_out, "before");
    kill(lab.p.pid, SIGCONT);
    lab_read(lab.s_migration, &(uint32_t){0}, sizeof(send));
    lab_say(lab.p_out, "after");
    lab_pages(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_hear(lab.p_release, "before");
    lab_silent(lab.p_release);
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    lab_checkpoint(&lab);
    lab_hear(lab.p_release, "after");
    lab_down(&lab);
}

/* All that a commit frees leaves, however much it is: what would be dropped here would be dropped
 * each time, and always of those that speak after the busy ones. */
static void test_commit_frees_all_that_is_held(void)
{
    enum { FRAMES = 20000 };
    static uint8_t frame[1500], got[2048];
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_udp(frame, 4000, "much");
    for (int i = 0; i < FRAMES; i++)
        lab_write_frame(lab.p_out, frame, sizeof(frame));
    lab_say(lab.p_out, "last");
    while (lab_stat(&lab.p, "held-frames") < FRAMES + 1)
        g_usleep(1000);
    lab_checkpoint(&lab);
    for (int i = 0; i < FRAMES; i++)
        g_assert_cmpint(lab_read_frame(lab.p_release, got, sizeof(got), LAB_WAIT_MS), ==,
                        sizeof(frame));
    lab_hear(lab.p_release, "last");
    g_assert_cmpuint(lab_counter(&lab.p, "output-dropped-full"), ==, 0);
    lab_down(&lab);
}

static void test_vnet_header_travels(void)
{
    Lab lab;

    lab_vnet = TRUE;
    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_mirror, "in");
    lab_hear(lab.s_in, "in");
    lab_say(lab.p_out, "out");
    lab_say(lab.s_out, "out");
    lab_hear(lab.p_release, "out");
    lab_say(lab.p_out, "differs");
    lab_say(lab.s_out, "differ!");
    lab_silent(lab.p_release);
    lab_checkpoint(&lab);
    lab_hear(lab.p_release, "differs");
    lab_down(&lab);
    lab_vnet = FALSE;
}

static void test_paired_holds_until_commit(void)
{
    Lab lab;
    g_autoptr(JsonObject) wanted = NULL;

    lab_up(&lab);
    json_object_put(lab_gate(&lab.s, "paired"));
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_READY);
    lab_say(lab.p_out, "alone");
    lab_hear(lab.p_release, "alone");
    json_object_put(lab_gate(&lab.p, "paired"));
    lab_say(lab.p_out, "held");
    lab_say(lab.s_out, "held");
    lab_silent(lab.p_release);
    wanted = lab_event(&lab.p, "checkpoint-wanted");
    g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "paired");
    lab_checkpoint(&lab);
    lab_hear(lab.p_release, "held");
    lab_down(&lab);
}

static void test_input_keeps_order_and_epoch(void)
{
    Lab lab;
    char text[32];

    lab_up(&lab);
    lab_say(lab.p_mirror, "before READY: in the initial migration");
    lab_protect(&lab);
    for (int i = 0; i < 500; i++) {
        g_snprintf(text, sizeof(text), "input %d", i);
        lab_say(lab.p_mirror, text);
    }
    for (int i = 0; i < 500; i++) {
        g_snprintf(text, sizeof(text), "input %d", i);
        lab_hear(lab.s_in, text);
    }
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_say(lab.p_mirror, "in the checkpoint");
    lab_silent(lab.s_in);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_say(lab.p_mirror, "next epoch");
    lab_silent(lab.s_in);
    lab_pages(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_silent(lab.s_in);
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    lab_hear(lab.s_in, "next epoch");
    lab_silent(lab.s_in);
    g_assert_cmpuint(lab_counter(&lab.s, "input-dropped-stale"), ==, 1);
    lab_down(&lab);
}

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
    struct pollfd wait;
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
    wait = (struct pollfd){.fd = lab.s.control, .events = POLLIN};
    g_assert_cmpint(poll(&wait, 1, LAB_QUIET_MS), ==, 0);
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

static void test_disk_bytes_both_ways(void)
{
    Lab lab;
    enum { PIECE = 50000, PIECES = 60 };
    static char there[PIECE], back[PIECE], got[PIECE];

    lab_up(&lab);
    for (int i = 0; i < PIECES; i++) {
        for (int j = 0; j < PIECE; j++) {
            there[j] = (char)(i * 31 + j * 7);
            back[j] = (char)(i * 17 + j * 3);
        }
        lab_write(lab.p_nbd, there, PIECE);
        lab_write(lab.s_nbd, back, PIECE);
        lab_read(lab.s_nbd, got, PIECE);
        g_assert_cmpmem(there, PIECE, got, PIECE);
        lab_read(lab.p_nbd, got, PIECE);
        g_assert_cmpmem(back, PIECE, got, PIECE);
    }
    /* The end travels as well. */
    close(lab.p_nbd);
    lab.p_nbd = 0;
    g_assert_cmpint(recv(lab.s_nbd, got, 1, 0), ==, 0);
    lab_down(&lab);
}

/* Bytes that come before the other side's channel is there wait for it. */
static void test_early_bytes_wait(void)
{
    Lab lab;
    char got[5];

    lab_start(&lab);
    lab_create(&lab.p, "primary", LAB_PSK);
    lab_create(&lab.s, "secondary", LAB_PSK);
    lab.p_migration = lab_attach(&lab.p, "migration");
    lab.p_nbd = lab_attach(&lab.p, "nbd:vda");
    lab_write(lab.p_migration, "QEVM", 5);
    lab_write(lab.p_nbd, "disk", 5);
    lab_connect_peer(&lab, "checkpoint");
    lab_connect_peer(&lab, "disk:vda");
    for (int i = 0; i < 2; i++) {
        json_object_put(lab_event(&lab.p, "stream-up"));
        json_object_put(lab_event(&lab.s, "stream-up"));
    }
    g_usleep(LAB_QUIET_MS * 1000);
    lab.s_migration = lab_attach(&lab.s, "migration");
    lab_read(lab.s_migration, got, 5);
    g_assert_cmpstr(got, ==, "QEVM");
    lab.s_nbd = lab_attach(&lab.s, "nbd:vda");
    lab_read(lab.s_nbd, got, 5);
    g_assert_cmpstr(got, ==, "disk");
    lab_down(&lab);
}

/* What was under way when the stream ended is lost: one put in its place would feed QEMU a stream
 * with a hole, and its answers would count as commits. Neither side takes one. */
static void test_i1_checkpoint_stream_has_no_second_part(void)
{
    Lab lab;
    g_autofree char *code = NULL;
    char byte;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    /* The secondary: a primary's helper that came anew with the same key. */
    json_object_put(lab_request(&lab.p, "session-destroy", lab_about(), -1));
    for (int i = 0; i < 3; i++)
        json_object_put(lab_event(&lab.s, "stream-down"));
    lab_forget(&lab.p, "stream-up");
    lab_create(&lab.p, "primary", LAB_PSK);
    close(lab.p_migration);
    lab.p_migration = lab_attach(&lab.p, "migration");
    lab_connect_peer(&lab, "checkpoint");
    lab_write(lab.p_migration, "hole", 4);
    json_object_put(lab_event(&lab.p, "stream-down"));
    g_assert_cmpint(recv(lab.s_migration, &byte, 1, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    /* The primary. */
    code = lab_refused(&lab.p, "peer-attach",
                       colo_json_build("uuid", "s", LAB_UUID, "stream", "s", "checkpoint", NULL),
                       dup(lab.p_out));
    g_assert_cmpstr(code, ==, "operation-invalid");
    lab_down(&lab);
}

static void test_unknown_stream_is_told(void)
{
    Lab lab;
    g_autoptr(JsonObject) down = NULL;
    char got[12];

    lab_up(&lab);
    lab_protect(&lab);
    lab_write(lab.p_migration, "\0\0\0\x01nonsense", 12);
    down = lab_event(&lab.p, "stream-down");
    g_assert_cmpstr(colo_json_peek_string(down, "reason", ""), ==, "unknown checkpoint stream");
    /* I7: carried on all the same. */
    lab_read(lab.s_migration, got, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), "\0\0\0\x01nonsense", 12);
    lab_down(&lab);
}

static void test_wanted_repeats_until_kicked(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "nobody answers this");
    for (int i = 0; i < 3; i++) {
        g_autoptr(JsonObject) wanted = lab_event(&lab.p, "checkpoint-wanted");

        g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "unanswered");
    }
    json_object_put(lab_request(&lab.p, "kick-done", lab_about(), -1));
    lab_forget(&lab.p, "checkpoint-wanted");
    g_assert_null(lab_event_within(&lab.p, "checkpoint-wanted", 100));
    /* The kick got lost: it is asked again. */
    json_object_put(lab_event(&lab.p, "checkpoint-wanted"));
    /* And not while a checkpoint runs, nor after it. */
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_forget(&lab.p, "checkpoint-wanted");
    g_assert_null(lab_event_within(&lab.p, "checkpoint-wanted", 100));
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_hear(lab.p_release, "nobody answers this");
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    g_assert_null(lab_event_within(&lab.p, "checkpoint-wanted", 100));
    lab_down(&lab);
}

static void send_tcp(int fd, const Segment *segment)
{
    uint8_t frame[2000];
    size_t len = put_tcp(frame, segment);

    lab_write_frame(fd, frame + VNET, len - VNET);
}

/* Next frame on "release" as a TCP segment; its acknowledgement. */
static uint32_t hear_ack(Lab *lab)
{
    uint8_t frame[2000];
    ssize_t n = lab_read_frame(lab->p_release, frame, sizeof(frame), LAB_WAIT_MS);

    g_assert_cmpint(n, >=, TCP_AT - VNET + 20);
    return get32(frame + TCP_AT - VNET + 8);
}

/* A frame that leaves with a clamped ACK leaves a held one behind: its deadline runs too. */
static void test_owed_ack_is_not_forgotten(void)
{
    static const uint8_t scale_7[] = {1, 3, 3, 7};
    Segment syn = {.seq = 100,
                   .ack = 1001,
                   .flags = SYN | ACK,
                   .window = 64000,
                   .options = scale_7,
                   .options_len = sizeof(scale_7)};
    Segment text = {.seq = 101, .ack = 1001, .flags = ACK, .window = 500, TEXT("abc")};
    g_autoptr(JsonObject) wanted = NULL;
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    send_tcp(lab.s_out, &syn);
    send_tcp(lab.s_out, &text);
    /* A round trip behind them on the same stream: they have been compared. */
    lab_say(lab.s_out, "flush");
    lab_say(lab.p_out, "flush");
    lab_hear(lab.p_release, "flush");
    g_usleep(LAB_QUIET_MS * 1000);
    lab_forget(&lab.p, "checkpoint-wanted");
    send_tcp(lab.p_out, &syn);
    g_assert_cmpuint(hear_ack(&lab), ==, 1001);
    text.ack = 1641;
    send_tcp(lab.p_out, &text);
    g_assert_cmpuint(hear_ack(&lab), ==, 1001);
    g_assert_cmpuint(lab_stat(&lab.p, "held-frames"), ==, 1);
    wanted = lab_event(&lab.p, "checkpoint-wanted");
    g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "unanswered");
    lab_checkpoint(&lab);
    g_assert_cmpuint(hear_ack(&lab), ==, 1641);
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session/alone-passes", test_alone_passes);
    g_test_add_func("/session/I1/equal", test_i1_equal_leaves_without_checkpoint);
    g_test_add_func("/session/I1/different", test_i1_different_leaves_after_received_only);
    g_test_add_func("/session/I1/boundary", test_i1_boundary_is_vmstate_send);
    g_test_add_func("/session/commit-frees-all", test_commit_frees_all_that_is_held);
    g_test_add_func("/session/vnet", test_vnet_header_travels);
    g_test_add_func("/session/I1/paired-holds", test_paired_holds_until_commit);
    g_test_add_func("/session/input/order-and-epoch", test_input_keeps_order_and_epoch);
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
    g_test_add_func("/session/disk/both-ways", test_disk_bytes_both_ways);
    g_test_add_func("/session/early-bytes", test_early_bytes_wait);
    g_test_add_func("/session/I1/no-second-part", test_i1_checkpoint_stream_has_no_second_part);
    g_test_add_func("/session/checkpoint/unknown", test_unknown_stream_is_told);
    g_test_add_func("/session/wanted/repeats", test_wanted_repeats_until_kicked);
    g_test_add_func("/session/wanted/owed-ack", test_owed_ack_is_not_forgotten);
    return g_test_run();
}
