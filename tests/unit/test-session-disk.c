/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rule 2 and I2 when a disk of the secondary fails while the checkpoint stream lives: no checkpoint
 * counts that begins without all disk writes, and the last one before stays good for a takeover.
 */
#include "test-comparator-lab.h"

#include "comparator/nbd-replies.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void put_word(int fd, uint32_t word)
{
    const uint32_t be = GUINT32_TO_BE(word);

    lab_write(fd, &be, sizeof(be));
}

/* The rest of a checkpoint behind SEND, as short as the grammar allows. */
static void put_rest(int fd)
{
    static const uint8_t rest[] = {3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x10, 0,
                                   0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 4,    0};

    lab_write(fd, rest, sizeof(rest));
}

static void assert_disk_down(LabHelper *helper, const char *reason)
{
    g_autoptr(JsonObject) down = lab_event(helper, "stream-down");

    g_assert_cmpstr(colo_json_peek_string(down, "stream", ""), ==, "disk:vda");
    if (reason)
        g_assert_cmpstr(colo_json_peek_string(down, "reason", ""), ==, reason);
}

/* Waits until the helper's counter @name is @value. */
static void wait_counter(LabHelper *helper, const char *name, uint64_t value)
{
    for (int i = 0; i < LAB_WAIT_MS / 5 && lab_counter(helper, name) != value; i++)
        g_usleep(5000);
    g_assert_cmpuint(lab_counter(helper, name), ==, value);
}

/* Nothing more comes from the helper on QEMU's channel, and it is open. */
static void assert_quiet(int fd)
{
    char byte;

    g_usleep(LAB_QUIET_MS * 1000);
    g_assert_cmpint(recv(fd, &byte, 1, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
}

/* Nothing but the end comes on QEMU's channel. */
static void assert_cut(int fd)
{
    struct timeval limit = {.tv_sec = LAB_WAIT_MS / 1000};
    char byte;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    g_assert_cmpint(recv(fd, &byte, 1, 0), ==, 0);
}

/* The secondary is fit for a takeover with checkpoint @epoch, and has not given itself up. */
static void assert_candidate(Lab *lab, uint64_t epoch)
{
    g_autoptr(JsonObject) result = NULL;

    g_assert_null(lab_event_within(&lab->s, "channel-down", 0));
    json_object_put(lab_gate(&lab->s, "closed"));
    result = lab_request(&lab->s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpuint(colo_json_peek_uint(result, "epoch", 0), ==, epoch);
    g_assert_null(lab_event_within(&lab->s, "channel-down", 0));
}

/* The primary's QEMU begins and ends a checkpoint, and the secondary's answers, whatever it got. */
static void assert_nothing_commits(Lab *lab, uint64_t committed)
{
    lab_forget(&lab->p, "committed");
    put_word(lab->p_migration, COLO_MSG_CHECKPOINT_REQUEST);
    assert_quiet(lab->s_migration);
    put_word(lab->s_migration, COLO_MSG_CHECKPOINT_REPLY);
    put_word(lab->p_migration, COLO_MSG_VMSTATE_SEND);
    put_rest(lab->p_migration);
    assert_quiet(lab->s_migration);
    put_word(lab->s_migration, COLO_MSG_VMSTATE_RECEIVED);
    put_word(lab->s_migration, COLO_MSG_VMSTATE_LOADED);
    g_assert_null(lab_event_within(&lab->p, "committed", LAB_QUIET_MS));
    g_assert_cmpuint(lab_stat(&lab->p, "committed"), ==, committed);
    g_assert_cmpuint(lab_stat(&lab->s, "loaded"), ==, committed);
}

static void test_error_between_checkpoints(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_nbd_reply(&lab, 0);
    lab_nbd_reply(&lab, COLO_NBD_ENOSPC);
    assert_disk_down(&lab.s, "NBD error reply: ENOSPC");
    assert_disk_down(&lab.p, NULL);
    assert_cut(lab.p_nbd);
    assert_cut(lab.s_nbd);
    g_assert_true(lab_helper_logged(&lab.s, "disk vda: NBD error reply: ENOSPC"));
    g_assert_cmpuint(lab_counter(&lab.s, "disk-failures"), ==, 1);
    g_assert_cmpuint(lab_counter(&lab.p, "disk-failures"), ==, 1);
    put_word(lab.p_migration, COLO_MSG_CHECKPOINT_REQUEST);
    assert_quiet(lab.s_migration);
    g_assert_cmpuint(lab_counter(&lab.p, "checkpoint-bytes-withheld"), ==, 4);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    assert_candidate(&lab, 1);
    lab_down(&lab);
}

static void test_error_commits_nothing(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_nbd_reply(&lab, COLO_NBD_EIO);
    assert_disk_down(&lab.p, NULL);
    assert_nothing_commits(&lab, 1);
    lab_down(&lab);
}

/* The primary has let the checkpoint go before it heard of the error: the secondary's own doing. */
static void test_secondary_withholds_by_itself(void)
{
    static const uint8_t error[] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1, 0, 0, 0, 0, 0,
                                    0,    0,    0,    0,    0, 0, 6,    0, 0, 0, 5, 0, 0};
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_helper_pause(&lab.p);
    put_word(lab.p_migration, COLO_MSG_CHECKPOINT_REQUEST);
    lab_write(lab.s_nbd, error, sizeof(error));
    wait_counter(&lab.s, "disk-failures", 1);
    kill(lab.p.pid, SIGCONT);
    wait_counter(&lab.s, "checkpoint-bytes-withheld", 4);
    assert_quiet(lab.s_migration);
    assert_candidate(&lab, 1);
    lab_down(&lab);
}

static void test_error_after_request_cuts(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_nbd_reply(&lab, COLO_NBD_ENOSPC);
    assert_disk_down(&lab.s, "NBD error reply: ENOSPC");
    assert_disk_down(&lab.p, NULL);
    assert_cut(lab.s_migration);
    put_word(lab.p_migration, COLO_MSG_VMSTATE_SEND);
    put_rest(lab.p_migration);
    g_assert_null(lab_event_within(&lab.p, "committed", LAB_QUIET_MS));
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    assert_candidate(&lab, 1);
    lab_down(&lab);
}

static void test_error_after_send_loads(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_nbd_reply(&lab, COLO_NBD_ENOSPC);
    assert_disk_down(&lab.s, "NBD error reply: ENOSPC");
    assert_disk_down(&lab.p, NULL);
    lab_pages(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    json_object_put(lab_event(&lab.p, "committed"));
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    json_object_put(lab_event(&lab.s, "loaded"));
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 2);
    put_word(lab.p_migration, COLO_MSG_CHECKPOINT_REQUEST);
    assert_quiet(lab.s_migration);
    assert_candidate(&lab, 2);
    lab_down(&lab);
}

/* Until it is LOADED the takeover waits for it, as for any other. */
static void test_error_after_send_takeover_waits(void)
{
    Lab lab;
    g_autoptr(JsonObject) answer = NULL;
    uint64_t id;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_nbd_reply(&lab, COLO_NBD_ENOSPC);
    assert_disk_down(&lab.s, NULL);
    lab_pages(&lab);
    json_object_put(lab_gate(&lab.s, "closed"));
    id = lab_send(&lab.s, "takeover-prepare", lab_about(), -1);
    put_word(lab.s_migration, COLO_MSG_VMSTATE_RECEIVED);
    put_word(lab.s_migration, COLO_MSG_VMSTATE_LOADED);
    answer = lab_answer(&lab.s, id);
    g_assert_cmpuint(colo_json_peek_uint(colo_json_peek(answer, "return"), "epoch", 0), ==, 2);
    lab_down(&lab);
}

static void test_enotsup_changes_nothing(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_nbd_reply(&lab, COLO_NBD_ENOTSUP);
    lab_nbd_reply(&lab, 0);
    lab_checkpoint(&lab);
    json_object_put(lab_event(&lab.p, "committed"));
    lab_nbd_reply(&lab, 0);
    g_assert_null(lab_event_within(&lab.s, "stream-down", LAB_QUIET_MS));
    g_assert_cmpuint(lab_counter(&lab.s, "disk-failures"), ==, 0);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 2);
    lab_down(&lab);
}

static void test_unknown_replies_are_a_failure(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_write(lab.s_nbd, "nonsense", 8);
    assert_disk_down(&lab.s, "unknown NBD replies");
    assert_disk_down(&lab.p, NULL);
    assert_nothing_commits(&lab, 1);
    lab_down(&lab);
}

/* The primary's QEMU closes its client: what it wrote last may not have come. */
static void test_stream_ends(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    close(lab.p_nbd);
    lab.p_nbd = 0;
    assert_disk_down(&lab.p, NULL);
    assert_disk_down(&lab.s, NULL);
    g_assert_cmpuint(lab_counter(&lab.s, "disk-failures"), ==, 1);
    assert_nothing_commits(&lab, 1);
    lab_down(&lab);
}

static void test_stream_ends_candidate(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    close(lab.p_nbd);
    lab.p_nbd = 0;
    assert_disk_down(&lab.s, NULL);
    assert_cut(lab.s_migration);
    assert_candidate(&lab, 1);
    lab_down(&lab);
}

/* The secondary's QEMU closes its server's connection. */
static void test_server_ends(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    close(lab.s_nbd);
    lab.s_nbd = 0;
    assert_disk_down(&lab.s, NULL);
    assert_disk_down(&lab.p, NULL);
    assert_nothing_commits(&lab, 1);
    lab_down(&lab);
}

/* It is no reason to give the copy up: only QEMU's other channels say that it died. */
static void test_server_ends_candidate(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    close(lab.s_nbd);
    lab.s_nbd = 0;
    assert_disk_down(&lab.s, "QEMU closed its NBD connection");
    assert_candidate(&lab, 1);
    close(lab.s_out);
    lab.s_out = 0;
    json_object_put(lab_event(&lab.s, "channel-down"));
    lab_down(&lab);
}

/* The loop comes to the migration before it comes to the end of the disk, which was there first for
 * QEMU: SEND does not leave. */
static void test_end_unread_at_send(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_helper_pause(&lab.p);
    put_word(lab.p_migration, COLO_MSG_VMSTATE_SEND);
    put_rest(lab.p_migration);
    close(lab.p_nbd);
    lab.p_nbd = 0;
    kill(lab.p.pid, SIGCONT);
    assert_disk_down(&lab.s, NULL);
    assert_cut(lab.s_migration);
    g_assert_cmpuint(lab_counter(&lab.p, "checkpoint-bytes-withheld"), ==, 4 + 28);
    assert_candidate(&lab, 1);
    lab_down(&lab);
}

/* A disk that ended while the initial migration ran, and that nobody has looked after. */
static void test_end_before_ready(void)
{
    Lab lab;

    lab_up(&lab);
    close(lab.p_nbd);
    lab.p_nbd = 0;
    assert_disk_down(&lab.p, NULL);
    assert_disk_down(&lab.s, NULL);
    g_assert_cmpuint(lab_counter(&lab.p, "disk-failures"), ==, 0);
    json_object_put(lab_gate(&lab.s, "paired"));
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_READY);
    json_object_put(lab_event(&lab.p, "colo-ready"));
    g_assert_cmpuint(lab_counter(&lab.p, "disk-failures"), ==, 1);
    g_assert_cmpuint(lab_counter(&lab.s, "disk-failures"), ==, 1);
    json_object_put(lab_gate(&lab.p, "paired"));
    assert_nothing_commits(&lab, 0);
    lab_down(&lab);
}

/* Longer than a request may wait while QEMU stops the guest (disk.c). */
#define PAST_STALL_MS 3000

static bool disk_goes_on(Lab *lab)
{
    g_autoptr(JsonObject) down = lab_event_within(&lab->p, "stream-down", PAST_STALL_MS);

    return !down;
}

/* QEMU drains and flushes its disks between REPLY and SEND, with its big lock held: a peer that
 * stalls there is given up, and QEMU goes on. */
static void test_i4_flush_stalls(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_nbd_flush(&lab);
    lab_nbd_reply(&lab, 0);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_nbd_flush(&lab);
    assert_disk_down(&lab.p, "the peer answers no request while the guest is being stopped");
    assert_cut(lab.p_nbd);
    g_assert_cmpuint(lab_counter(&lab.p, "disk-failures"), ==, 1);
    put_word(lab.p_migration, COLO_MSG_VMSTATE_SEND);
    put_rest(lab.p_migration);
    wait_counter(&lab.p, "checkpoint-bytes-withheld", 4 + 28);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    assert_candidate(&lab, 1);
    lab_down(&lab);
}

/* A stop that takes long for another reason, or outside that time, is none of the peer's. */
static void test_i4_nothing_waits(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_nbd_flush(&lab);
    lab_nbd_reply(&lab, 0);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    g_assert_true(disk_goes_on(&lab));
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    lab_nbd_flush(&lab);
    g_assert_true(disk_goes_on(&lab));
    lab_nbd_reply(&lab, 0);
    lab_down(&lab);
}

/* A slow disk that answers one request after another is not a stalled one. */
static void test_i4_slow_disk(void)
{
    Lab lab;

    lab_up(&lab);
    lab_protect(&lab);
    lab_request_checkpoint(&lab);
    lab_nbd_flush(&lab);
    lab_nbd_flush(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    for (int i = 0; i < 3; i++) {
        g_usleep(1000 * 1000);
        lab_nbd_flush(&lab);
        lab_nbd_reply(&lab, 0);
    }
    g_assert_null(lab_event_within(&lab.p, "stream-down", 0));
    json_object_put(lab_event(&lab.p, "stream-down"));
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session/disk/I2/error-idle", test_error_between_checkpoints);
    g_test_add_func("/session/disk/I2/error-commits-nothing", test_error_commits_nothing);
    g_test_add_func("/session/disk/I2/secondary-alone", test_secondary_withholds_by_itself);
    g_test_add_func("/session/disk/I2/error-after-request", test_error_after_request_cuts);
    g_test_add_func("/session/disk/I2/error-after-send", test_error_after_send_loads);
    g_test_add_func("/session/disk/I2/error-takeover-waits", test_error_after_send_takeover_waits);
    g_test_add_func("/session/disk/I2/enotsup", test_enotsup_changes_nothing);
    g_test_add_func("/session/disk/I2/unknown", test_unknown_replies_are_a_failure);
    g_test_add_func("/session/disk/I2/stream-ends", test_stream_ends);
    g_test_add_func("/session/disk/I2/stream-ends-candidate", test_stream_ends_candidate);
    g_test_add_func("/session/disk/I2/server-ends", test_server_ends);
    g_test_add_func("/session/disk/I2/server-ends-candidate", test_server_ends_candidate);
    g_test_add_func("/session/disk/I2/end-unread", test_end_unread_at_send);
    g_test_add_func("/session/disk/I2/end-before-ready", test_end_before_ready);
    g_test_add_func("/session/disk/I4/flush-stalls", test_i4_flush_stalls);
    g_test_add_func("/session/disk/I4/nothing-waits", test_i4_nothing_waits);
    g_test_add_func("/session/disk/I4/slow-disk", test_i4_slow_disk);
    return g_test_run();
}
