/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two comparators between two stand-ins for QEMU: frames, checkpoints, disk bytes. */
#include "test-comparator-lab.h"

#include "test-compare-frames.h"
#include "util/clock.h"

#include <fcntl.h>
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
    lab_helper_pause(&lab.p);
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
    for (unsigned i = 0; i < FRAMES; i++) {
        lab_udp(frame, 4001 + i % 4, "much"); /* one flow would reach its share */
        lab_write_frame(lab.p_out, frame, sizeof(frame));
    }
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
        lab_nbd_data(&lab, back, PIECE);
        lab_read(lab.s_nbd, got, PIECE);
        g_assert_cmpmem(there, PIECE, got, PIECE);
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
    /* Cut off when its disk's stream ended, and nothing was fed before that. */
    g_assert_cmpint(recv(lab.s_migration, &byte, 1, MSG_DONTWAIT), ==, 0);
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
    uint64_t kicked;
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "nobody answers this");
    for (int i = 0; i < 3; i++) {
        g_autoptr(JsonObject) wanted = lab_event(&lab.p, "checkpoint-wanted");

        g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "unanswered");
    }
    kicked = colo_clock_ns();
    json_object_put(lab_request(&lab.p, "kick-done", lab_about(), -1));
    lab_forget(&lab.p, "checkpoint-wanted");
    /* The kick got lost: it is asked again, but not before 200 ms. */
    json_object_put(lab_event(&lab.p, "checkpoint-wanted"));
    g_assert_cmpuint(colo_clock_ns() - kicked, >=, 200 * COLO_NS_PER_MS);
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

/* Tuned while it runs: told, shown, and the next packet that differs waits for a period. */
static void test_tuned_to_periodic(void)
{
    Lab lab;
    g_autoptr(JsonObject) told = NULL;
    g_autoptr(JsonObject) wanted = NULL;
    g_autoptr(JsonObject) stats = NULL;
    JsonObject *tuning = colo_json_build("mode", "s", "periodic", "pause-share", "i", 20, NULL);
    JsonObject *arguments = lab_about();

    lab_up(&lab);
    lab_protect(&lab);
    colo_json_add(arguments, "tuning", "o", tuning, NULL);
    json_object_put(lab_request(&lab.p, "tune", arguments, -1));
    told = lab_event(&lab.p, "policy");
    g_assert_cmpstr(colo_json_peek_string(told, "mode", ""), ==, "periodic");
    g_assert_cmpstr(colo_json_peek_string(told, "reason", ""), ==, "set by colo-tune");
    lab_say(lab.p_out, "primary says 1");
    lab_say(lab.s_out, "secondary: 2");
    wanted = lab_event(&lab.p, "checkpoint-wanted");
    g_assert_cmpstr(colo_json_peek_string(wanted, "reason", ""), ==, "period");
    lab_checkpoint(&lab);
    lab_hear(lab.p_release, "primary says 1");
    stats = lab_request(&lab.p, "stats", lab_about(), -1);
    g_assert_cmpstr(colo_json_peek_string(colo_json_peek(stats, "policy"), "mode", ""), ==,
                    "periodic");
    g_assert_cmpuint(colo_json_peek_uint(colo_json_peek(stats, "tuning"), "pause-share", 0), ==,
                     20);
    g_assert_cmpuint(colo_json_peek_uint(colo_json_peek(stats, "counters"), "wanted-period", 0), ==,
                     1);
    lab_down(&lab);
}

static void test_skew_is_shown(void)
{
    Lab lab;
    g_autoptr(JsonObject) stats = NULL;
    JsonObject *skew;

    lab_up(&lab);
    lab_protect(&lab);
    lab_say(lab.p_out, "same");
    lab_silent(lab.p_release);
    lab_say(lab.s_out, "same");
    lab_hear(lab.p_release, "same");
    stats = lab_request(&lab.p, "stats", lab_about(), -1);
    skew = colo_json_peek(stats, "skew-ns");
    /* The twin came after lab_silent(); before it the frame was late once, by a pause at most. */
    g_assert_cmpuint(colo_json_peek_uint(skew, "mean", 0), >=,
                     (uint64_t)LAB_QUIET_MS * 1000000 / 8 - 1024);
    g_assert_cmpuint(colo_json_peek_uint(skew, "limit", 0), >, 0);
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
    g_test_add_func("/session/disk/both-ways", test_disk_bytes_both_ways);
    g_test_add_func("/session/early-bytes", test_early_bytes_wait);
    g_test_add_func("/session/I1/no-second-part", test_i1_checkpoint_stream_has_no_second_part);
    g_test_add_func("/session/checkpoint/unknown", test_unknown_stream_is_told);
    g_test_add_func("/session/wanted/repeats", test_wanted_repeats_until_kicked);
    g_test_add_func("/session/wanted/owed-ack", test_owed_ack_is_not_forgotten);
    g_test_add_func("/session/wanted/periodic", test_tuned_to_periodic);
    g_test_add_func("/session/wanted/skew", test_skew_is_shown);
    return g_test_run();
}
