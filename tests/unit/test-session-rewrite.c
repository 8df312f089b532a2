/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two comparators with "rewrite" between two stand-ins for QEMU whose guests choose other initial
 * sequence numbers: up to the takeover, and after it. */
#include "test-comparator-lab.h"

#include "test-rewrite-frames.h"

#include <unistd.h>

#define P_ISN 0xfffffff0u
#define S_ISN 4000u
#define PEER 1000u

static const Shape v4 = {.v6 = FALSE};

static void say(int fd, const Seg *segment)
{
    uint8_t frame[2048];
    size_t len = rw_put(frame, &v4, segment);

    lab_write_frame(fd, frame + RW_VNET, len - RW_VNET);
}

static ColoSegment hear(int fd, gboolean to_guest)
{
    uint8_t frame[2048];
    ColoSegment segment;
    ssize_t n = lab_read_frame(fd, frame + RW_VNET, sizeof(frame) - RW_VNET, LAB_WAIT_MS);

    g_assert_cmpint(n, >, 0);
    memset(frame, 0, RW_VNET);
    rw_assert_sum(frame, (size_t)n + RW_VNET, &v4);
    g_assert_true(colo_segment_read(frame, (size_t)n + RW_VNET, RW_VNET, 0, to_guest, &segment));
    return segment;
}

#define SAY(fd, ...) say(fd, &(Seg){__VA_ARGS__})

static void up(Lab *lab)
{
    lab_rewrite = TRUE;
    lab_up(lab);
    lab_protect(lab);
}

static void down(Lab *lab)
{
    lab_down(lab);
    lab_rewrite = FALSE;
}

/* The other end's connection is accepted by both guests. */
static void accept_connection(Lab *lab)
{
    SAY(lab->p_out, .flags = SYN | ACK, .seq = P_ISN, .ack = PEER + 1);
    SAY(lab->s_out, .flags = SYN | ACK, .seq = S_ISN, .ack = PEER + 1);
    g_assert_cmpuint(hear(lab->p_release, FALSE).seq, ==, P_ISN);
    SAY(lab->p_mirror, .to_guest = TRUE, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 1);
    g_assert_cmpuint(hear(lab->s_in, TRUE).ack, ==, S_ISN + 1);
}

static void test_i1_new_connection_needs_no_checkpoint(void)
{
    Lab lab;

    up(&lab);
    accept_connection(&lab);
    SAY(lab.p_out, .flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1, RW_TEXT("equal"));
    lab_silent(lab.p_release);
    SAY(lab.s_out, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, RW_TEXT("equal"));
    g_assert_cmpuint(hear(lab.p_release, FALSE).seq, ==, P_ISN + 1);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    g_assert_cmpuint(lab_counter(&lab.p, "syns-told"), ==, 1);
    g_assert_cmpuint(lab_counter(&lab.s, "rewrite-mapped"), ==, 1);
    g_assert_cmpuint(lab_stat(&lab.s, "rewritten"), ==, 1);
    down(&lab);
}

static void test_i1_secondary_first(void)
{
    Lab lab;

    up(&lab);
    SAY(lab.s_out, .flags = SYN, .seq = S_ISN);
    while (lab_counter(&lab.s, "rewrite-waited") == 0)
        g_usleep(1000);
    SAY(lab.p_out, .flags = SYN, .seq = P_ISN);
    g_assert_cmpuint(hear(lab.p_release, FALSE).seq, ==, P_ISN);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 1);
    down(&lab);
}

/* Bytes that differ are seen as before. */
static void test_i1_different_bytes_wait(void)
{
    Lab lab;
    g_autoptr(JsonObject) wanted = NULL;

    up(&lab);
    accept_connection(&lab);
    lab_forget(&lab.p, "checkpoint-wanted");
    SAY(lab.p_out, .flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1, RW_TEXT("this"));
    SAY(lab.s_out, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, RW_TEXT("that"));
    wanted = lab_event(&lab.p, "checkpoint-wanted");
    lab_silent(lab.p_release);
    lab_checkpoint(&lab);
    g_assert_cmpuint(hear(lab.p_release, FALSE).seq, ==, P_ISN + 1);
    down(&lab);
}

/* From the checkpoint on the secondary's guest has the primary's numbers; a SYN of the new epoch
 * that comes before LOADED counts there. */
static void test_checkpoint_is_the_border(void)
{
    Lab lab;

    up(&lab);
    accept_connection(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    SAY(lab.p_out, .flags = SYN, .seq = 77, .port = 4444);
    lab_pages(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    SAY(lab.p_out, .flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1, RW_TEXT("equal"));
    SAY(lab.s_out, .flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1, RW_TEXT("equal"));
    g_assert_cmpuint(hear(lab.p_release, FALSE).seq, ==, P_ISN + 1);
    SAY(lab.p_mirror, .to_guest = TRUE, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 6);
    g_assert_cmpuint(hear(lab.s_in, TRUE).ack, ==, P_ISN + 6);
    SAY(lab.s_out, .flags = SYN, .seq = 99, .port = 4444);
    g_assert_cmpuint(hear(lab.p_release, FALSE).seq, ==, 77);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, 2);
    down(&lab);
}

/* The secondary is alone and in the path. */
static void take_over(Lab *lab, int *take, int *release, uint64_t rewritten)
{
    g_autoptr(JsonObject) prepared = NULL, alone = NULL;

    json_object_put(lab_gate(&lab->s, "closed"));
    prepared = lab_request(&lab->s, "takeover-prepare", lab_about(), -1);
    g_assert_cmpuint(colo_json_peek_uint(prepared, "rewritten", 99), ==, rewritten);
    *take = lab_attach(&lab->s, "take:net0");
    *release = lab_attach(&lab->s, "release:net0");
    alone = lab_gate(&lab->s, "alone");
    g_assert_cmpuint(colo_json_peek_uint(alone, "rewritten", 99), ==, rewritten);
}

static void test_takeover_goes_on_until_the_last_has_ended(void)
{
    Lab lab;
    int take, release;

    up(&lab);
    accept_connection(&lab);
    take_over(&lab, &take, &release, 1);
    SAY(lab.s_out, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, RW_TEXT("text"));
    g_assert_cmpuint(hear(release, FALSE).seq, ==, P_ISN + 1);
    SAY(take, .to_guest = TRUE, .flags = ACK, .seq = PEER + 1, .ack = P_ISN + 5);
    g_assert_cmpuint(hear(lab.s_in, TRUE).ack, ==, S_ISN + 5);
    /* Other frames pass as they are. */
    lab_say(lab.s_out, "out");
    lab_hear(release, "out");
    lab_say(take, "in");
    lab_hear(lab.s_in, "in");
    g_assert_null(lab_event_within(&lab.s, "rewrite-ended", LAB_QUIET_MS));
    SAY(lab.s_out, .flags = RST | ACK, .seq = S_ISN + 5, .ack = PEER + 1);
    g_assert_cmpuint(hear(release, FALSE).seq, ==, P_ISN + 5);
    json_object_put(lab_event(&lab.s, "rewrite-ended"));
    SAY(lab.s_out, .flags = ACK, .seq = 5, .ack = 6);
    g_assert_cmpuint(hear(release, FALSE).seq, ==, 5);
    SAY(take, .to_guest = TRUE, .flags = ACK, .seq = 6, .ack = 5);
    g_assert_cmpuint(hear(lab.s_in, TRUE).ack, ==, 5);
    close(take);
    close(release);
    down(&lab);
}

/* QEMU's RARP frames come without the vnet header that their length counts. */
static void test_announcement_gets_its_header(void)
{
    uint8_t out[8 + 60] = {0, 0, 0, 60, 0, 0, 0, LAB_VNET}, in[8 + LAB_VNET + 60];
    static const uint8_t head[8] = {0, 0, 0, LAB_VNET + 60, 0, 0, 0, LAB_VNET};
    static const uint8_t none[LAB_VNET];
    Lab lab;
    int take, release;

    lab_vnet = TRUE;
    up(&lab);
    take_over(&lab, &take, &release, 0);
    memset(out + 8, 0xff, 6);
    memcpy(out + 8 + 6, "\x52\x54\0\0\0\1\x80\x35", 8);
    lab_write(lab.s_out, out, sizeof(out));
    lab_read(release, in, sizeof(in));
    g_assert_cmpmem(in, 8, head, 8);
    g_assert_cmpmem(in + 8, LAB_VNET, none, LAB_VNET);
    g_assert_cmpmem(in + 8 + LAB_VNET, 60, out + 8, 60);
    close(take);
    close(release);
    down(&lab);
    lab_vnet = FALSE;
}

/* A checkpoint that was cut off leaves the state before it, and its maps. */
static void test_takeover_in_a_partial_checkpoint(void)
{
    Lab lab;
    int take, release;

    up(&lab);
    accept_connection(&lab);
    lab_request_checkpoint(&lab);
    lab_word_back(&lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(&lab, COLO_MSG_VMSTATE_SEND);
    take_over(&lab, &take, &release, 1);
    SAY(lab.s_out, .flags = ACK, .seq = S_ISN + 1, .ack = PEER + 1, RW_TEXT("text"));
    g_assert_cmpuint(hear(release, FALSE).seq, ==, P_ISN + 1);
    close(take);
    close(release);
    down(&lab);
}

static void test_takeover_after_a_whole_checkpoint_maps_nothing(void)
{
    Lab lab;
    int take, release;

    up(&lab);
    accept_connection(&lab);
    lab_checkpoint(&lab);
    take_over(&lab, &take, &release, 0);
    SAY(lab.s_out, .flags = ACK, .seq = P_ISN + 1, .ack = PEER + 1, RW_TEXT("text"));
    g_assert_cmpuint(hear(release, FALSE).seq, ==, P_ISN + 1);
    g_assert_null(lab_event_within(&lab.s, "rewrite-ended", LAB_QUIET_MS));
    close(take);
    close(release);
    down(&lab);
}

/* Nothing leaves behind "closed", also after a takeover. */
static void test_i3_closed_after_alone(void)
{
    Lab lab;
    int take, release;

    up(&lab);
    accept_connection(&lab);
    take_over(&lab, &take, &release, 1);
    json_object_put(lab_gate(&lab.s, "closed"));
    lab_say(lab.s_out, "lost");
    lab_silent(release);
    json_object_put(lab_gate(&lab.s, "alone"));
    lab_say(lab.s_out, "leaves");
    lab_hear(release, "leaves");
    close(take);
    close(release);
    down(&lab);
}

static void assert_gate_refused(LabHelper *helper, const char *expected)
{
    g_autofree char *code = lab_refused(
        helper, "gate", colo_json_build("uuid", "s", LAB_UUID, "mode", "s", "alone", NULL), -1);

    g_assert_cmpstr(code, ==, expected);
}

static void test_i3_alone_is_refused(void)
{
    Lab lab;
    g_autofree char *code = NULL;

    up(&lab);
    assert_gate_refused(&lab.s, "operation-invalid"); /* its primary may be alive */
    json_object_put(lab_gate(&lab.s, "closed"));
    assert_gate_refused(&lab.s, "operation-invalid");
    down(&lab);
    lab_up(&lab);
    lab_protect(&lab);
    json_object_put(lab_gate(&lab.s, "closed"));
    json_object_put(lab_request(&lab.s, "takeover-prepare", lab_about(), -1));
    assert_gate_refused(&lab.s, "invalid-arg"); /* made without "rewrite" */
    code = lab_refused(&lab.s, "local-attach",
                       colo_json_build("uuid", "s", LAB_UUID, "channel", "s", "take:net0", NULL),
                       dup(lab.s_out));
    g_assert_cmpstr(code, ==, "invalid-arg");
    lab_down(&lab);
}

static JsonObject *with_base(const char *role, gboolean rewrite, JsonObject *base)
{
    JsonObject *nics = json_object_new_array(), *disks = json_object_new_array();

    json_object_array_add(nics, json_object_new_string("net0"));
    return colo_json_build("uuid", "s", LAB_UUID, "generation", "u", UINT64_C(8), "role", "s", role,
                           "psk", "s", LAB_PSK, "vnet-hdr", "b", FALSE, "heartbeat-ms", "i", 20,
                           "heartbeat-missed", "i", 5, "nics", "o", nics, "disks", "o", disks,
                           "rewrite", "b", rewrite, "base", "o", base, NULL);
}

static void keep_rows(LabHelper *helper, JsonObject *rows)
{
    JsonObject *nics = json_object_new_array();

    json_object_array_add(nics, json_object_new_string("net0"));
    json_object_put(lab_request(
        helper, "rewrite-keep",
        colo_json_build("uuid", "s", LAB_UUID, "nics", "o", nics, "rows", "o", rows, NULL), -1));
}

/* The survivor's table goes to another helper, which gives it on as it is. */
static void test_table_is_given_on(void)
{
    Lab lab;
    int take, release;
    g_autoptr(JsonObject) table = NULL, again = NULL;
    JsonObject *rows;

    up(&lab);
    accept_connection(&lab);
    take_over(&lab, &take, &release, 1);
    table = lab_request(&lab.s, "rewrite-table", lab_about(), -1);
    rows = colo_json_peek(table, "rows");
    g_assert_cmpstr(json_object_to_json_string_ext(rows, JSON_C_TO_STRING_PLAIN), ==,
                    "[[\"net0\",[],\"10.0.0.1\",80,\"10.0.0.2\",5000,4000,4294963280]]");
    json_object_put(lab_request(&lab.p, "session-create",
                                with_base("secondary", TRUE, json_object_get(rows)), -1));
    g_assert_cmpuint(lab_stat(&lab.p, "rewritten"), ==, 1);
    again = lab_request(&lab.p, "rewrite-table", lab_about(), -1);
    g_assert_true(json_object_equal(again, table));
    keep_rows(&lab.p, json_object_get(rows));
    g_assert_cmpuint(lab_stat(&lab.p, "rewritten"), ==, 1);
    keep_rows(&lab.p, json_object_new_array());
    g_assert_cmpuint(lab_stat(&lab.p, "rewritten"), ==, 0);
    close(take);
    close(release);
    down(&lab);
}

static void test_bad_rows_are_refused(void)
{
    static const char *const rows[] = {
        "7",
        "[]",
        "[\"net1\",[],\"10.0.0.1\",80,\"10.0.0.2\",5000,1,2]",
        "[\"net0\",[1,2,3],\"10.0.0.1\",80,\"10.0.0.2\",5000,1,2]",
        "[\"net0\",[4096],\"10.0.0.1\",80,\"10.0.0.2\",5000,1,2]",
        "[\"net0\",0,\"10.0.0.1\",80,\"10.0.0.2\",5000,1,2]",
        "[\"net0\",[],\"10.0.0.1\",80,\"fd00::1\",5000,1,2]",
        "[\"net0\",[],\"host\",80,\"10.0.0.2\",5000,1,2]",
        "[\"net0\",[],\"10.0.0.1\",65536,\"10.0.0.2\",5000,1,2]",
        "[\"net0\",[],\"10.0.0.1\",80,\"10.0.0.2\",-1,1,2]",
        "[\"net0\",[],\"10.0.0.1\",80,\"10.0.0.2\",5000,4294967296,2]",
        "[\"net0\",[],\"10.0.0.1\",80,\"10.0.0.2\",5000,1,\"2\"]",
        "[\"net0\",[],\"10.0.0.1\",80,\"10.0.0.2\",5000,1,2,3]",
        "[\"net0\",[],\"10.0.0.1\",80,\"10.0.0.2\",5000,1,2,3,4,5]",
    };
    Lab lab;
    JsonObject *good = json_tokener_parse("[[\"net0\",[7],\"fd00::1\",80,\"fd00::2\",1,2,3,4,5]]");

    lab_start(&lab);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        JsonObject *base = json_object_new_array();
        g_autofree char *code = NULL;

        json_object_array_add(base, json_tokener_parse(rows[i]));
        code = lab_refused(&lab.p, "session-create", with_base("secondary", TRUE, base), -1);
        g_assert_cmpstr(code, ==, "invalid-arg");
    }
    for (int i = 0; i < 2; i++) {
        g_autofree char *code =
            lab_refused(&lab.p, "session-create",
                        with_base(i ? "primary" : "secondary", i == 1, json_object_get(good)), -1);

        g_assert_cmpstr(code, ==, "invalid-arg");
    }
    json_object_put(lab_request(&lab.p, "session-create", with_base("secondary", TRUE, good), -1));
    g_assert_cmpuint(lab_stat(&lab.p, "rewritten"), ==, 1);
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session/rewrite/I1/no-checkpoint",
                    test_i1_new_connection_needs_no_checkpoint);
    g_test_add_func("/session/rewrite/I1/secondary-first", test_i1_secondary_first);
    g_test_add_func("/session/rewrite/I1/different", test_i1_different_bytes_wait);
    g_test_add_func("/session/rewrite/checkpoint", test_checkpoint_is_the_border);
    g_test_add_func("/session/rewrite/takeover", test_takeover_goes_on_until_the_last_has_ended);
    g_test_add_func("/session/rewrite/takeover/announcement", test_announcement_gets_its_header);
    g_test_add_func("/session/rewrite/takeover/partial", test_takeover_in_a_partial_checkpoint);
    g_test_add_func("/session/rewrite/takeover/whole",
                    test_takeover_after_a_whole_checkpoint_maps_nothing);
    g_test_add_func("/session/rewrite/I3/closed", test_i3_closed_after_alone);
    g_test_add_func("/session/rewrite/I3/refused", test_i3_alone_is_refused);
    g_test_add_func("/session/rewrite/table", test_table_is_given_on);
    g_test_add_func("/session/rewrite/bad-rows", test_bad_rows_are_refused);
    return g_test_run();
}
