/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * State that goes along with a checkpoint beside QEMU's stream ("carry"): set before the
 * secondary's QEMU has the whole of it, or missed, within bounds.
 */
#include "test-comparator-lab.h"

#include "util/clock.h"

#include <string.h>

#define LIMIT_MS 200 /* of carry.c */
#define AWAY_MS 1000

static void carry(LabHelper *helper, gboolean on)
{
    json_object_put(lab_request(helper, "carry",
                                colo_json_build("uuid", "s", lab_uuid, "on", "b", on, NULL), -1));
}

static JsonObject *about(uint64_t epoch, const char *state)
{
    JsonObject *o = colo_json_build("uuid", "s", lab_uuid, "epoch", "u", epoch, NULL);

    if (state)
        colo_json_add(o, "state", "s", state, NULL);
    return o;
}

/* Protected, and states are carried from now on. */
static void carrying(Lab *lab)
{
    lab_up(lab);
    lab_protect(lab);
    carry(&lab->p, TRUE);
    carry(&lab->s, TRUE);
    lab_forget(&lab->p, NULL);
    lab_forget(&lab->s, NULL);
}

/* A checkpoint until the primary's vCPUs stand; its epoch. */
static uint64_t stop(Lab *lab)
{
    g_autoptr(JsonObject) wanted = NULL;

    lab_request_checkpoint(lab);
    lab_word_back(lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(lab, COLO_MSG_VMSTATE_SEND);
    wanted = lab_event(&lab->p, "state-wanted");
    return colo_json_peek_uint(wanted, "epoch", 0);
}

static void go_on(Lab *lab)
{
    lab_word_back(lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_word_back(lab, COLO_MSG_VMSTATE_LOADED);
}

static void give(Lab *lab, uint64_t epoch, const char *state)
{
    g_autoptr(JsonObject) event = NULL;

    json_object_put(lab_request(&lab->p, "state", about(epoch, state), -1));
    event = lab_event(&lab->s, "state");
    g_assert_cmpuint(colo_json_peek_uint(event, "epoch", 0), ==, epoch);
    g_assert_cmpstr(colo_json_peek_string(event, "state", ""), ==, state);
}

static void set(Lab *lab, uint64_t epoch)
{
    json_object_put(lab_request(&lab->s, "state-set", about(epoch, NULL), -1));
}

static JsonObject *prepare_takeover(Lab *lab)
{
    json_object_put(lab_gate(&lab->s, "closed"));
    return lab_request(&lab->s, "takeover-prepare", lab_about(), -1);
}

static void a_state_is_set_before_the_checkpoint_is_whole(void)
{
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    for (int i = 0; i < 3; i++) {
        g_autofree char *state =
            g_strdup_printf("{\"lock\": %d, \"\u00e4\": \"%0*d\"}", i, i * 16000, 1);

        epoch = stop(&lab);
        lab_pages_kept(&lab);
        give(&lab, epoch, state);
        set(&lab, epoch);
        lab_pages_end(&lab);
        go_on(&lab);
        g_assert_cmpuint(lab_stat(&lab.s, "loaded"), ==, epoch);
    }
    /* Both orders: the state is set before the pages are there. */
    epoch = stop(&lab);
    give(&lab, epoch, "early");
    set(&lab, epoch);
    lab_pages(&lab);
    go_on(&lab);
    g_assert_cmpuint(lab_counter(&lab.s, "states-missed"), ==, 0);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, epoch);
    lab_down(&lab);
}

/* The last byte goes on by itself. */
static void kept_no_longer_than_the_limit(Lab *lab)
{
    uint64_t begin = colo_clock_ns();

    lab_pages_kept(lab);
    lab_pages_end(lab);
    g_assert_cmpuint((colo_clock_ns() - begin) / COLO_NS_PER_MS, <=, LIMIT_MS + 1000);
}

static void a_checkpoint_whose_state_did_not_come_does_not_count(void)
{
    g_autoptr(JsonObject) committed = NULL;
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    stop(&lab);
    kept_no_longer_than_the_limit(&lab);
    go_on(&lab);
    json_object_put(lab_event(&lab.p, "loaded"));
    g_assert_null(lab_event_within(&lab.p, "committed", LAB_QUIET_MS));
    g_assert_cmpuint(lab_counter(&lab.p, "states-awaited"), ==, 1);
    g_assert_cmpuint(lab_counter(&lab.p, "states-missed"), ==, 0);
    g_assert_cmpuint(lab_counter(&lab.s, "states-missed"), ==, 1);
    /* The next one has it: both count. */
    epoch = stop(&lab);
    give(&lab, epoch, "x");
    set(&lab, epoch);
    lab_pages(&lab);
    go_on(&lab);
    committed = lab_event(&lab.p, "committed");
    g_assert_cmpuint(colo_json_peek_uint(committed, "epoch", 0), ==, epoch);
    g_assert_cmpuint(lab_counter(&lab.p, "states-awaited"), ==, 1);
    lab_down(&lab);
}

/* RECEIVED is not enough: the peer's word that it has the state decides, whichever comes first. */
static void a_state_behind_its_checkpoint_makes_it_count(void)
{
    g_autoptr(JsonObject) committed = NULL;
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    epoch = stop(&lab);
    kept_no_longer_than_the_limit(&lab);
    lab_word_back(&lab, COLO_MSG_VMSTATE_RECEIVED);
    g_assert_null(lab_event_within(&lab.p, "committed", LAB_QUIET_MS));
    give(&lab, epoch, "late");
    committed = lab_event(&lab.p, "committed");
    g_assert_cmpuint(colo_json_peek_uint(committed, "epoch", 0), ==, epoch);
    lab_word_back(&lab, COLO_MSG_VMSTATE_LOADED);
    g_assert_cmpuint(lab_counter(&lab.s, "states-late"), ==, 1);
    lab_down(&lab);
}

static void a_primarys_virtcolod_that_is_away_holds_nobody_up(void)
{
    uint64_t epoch, begin = colo_clock_ns();
    unsigned without = 0;
    Lab lab;

    carrying(&lab);
    stop(&lab);
    kept_no_longer_than_the_limit(&lab);
    go_on(&lab);
    while (colo_clock_ns() - begin < (AWAY_MS + 500) * COLO_NS_PER_MS) {
        stop(&lab);
        lab_pages(&lab); /* from now on nothing is kept */
        go_on(&lab);
        g_usleep(100 * 1000);
        without++;
    }
    epoch = stop(&lab);
    lab_pages(&lab);
    go_on(&lab);
    json_object_put(lab_event(&lab.p, "loaded"));
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, epoch);
    g_assert_cmpuint(lab_counter(&lab.p, "states-missed"), >=, 1);
    g_assert_cmpuint(lab_counter(&lab.p, "states-awaited"), >=, 1);
    g_assert_cmpuint(lab_counter(&lab.s, "states-missed"), ==, without + 2);
    /* Back: once in time, then kept again, and what has no state does not count. */
    epoch = stop(&lab);
    give(&lab, epoch, "x");
    set(&lab, epoch);
    lab_pages(&lab);
    go_on(&lab);
    stop(&lab);
    kept_no_longer_than_the_limit(&lab);
    go_on(&lab);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, epoch);
    lab_down(&lab);
}

/* It is here, which is enough: who takes over is told. */
static void a_secondarys_virtcolod_that_is_away_loses_no_state(void)
{
    g_autoptr(JsonObject) answer = NULL;
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    epoch = stop(&lab);
    give(&lab, epoch, "first");
    kept_no_longer_than_the_limit(&lab);
    go_on(&lab);
    g_assert_cmpuint(lab_stat(&lab.p, "committed"), ==, epoch);
    epoch = stop(&lab);
    give(&lab, epoch, "second");
    lab_pages(&lab); /* nothing is kept for it any more */
    go_on(&lab);
    g_assert_cmpuint(lab_counter(&lab.s, "states-late"), ==, 2);
    g_assert_cmpuint(lab_counter(&lab.s, "states-missed"), ==, 0);
    /* A third is cut off. */
    give(&lab, stop(&lab), "third");
    answer = prepare_takeover(&lab);
    g_assert_cmpuint(colo_json_peek_uint(answer, "epoch", 0), ==, epoch);
    g_assert_cmpstr(colo_json_peek_string(answer, "state", ""), ==, "second");
    lab_down(&lab);
}

static void a_state_that_was_set_late_is_not_told_again(void)
{
    g_autoptr(JsonObject) answer = NULL;
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    epoch = stop(&lab);
    give(&lab, epoch, "x");
    kept_no_longer_than_the_limit(&lab);
    go_on(&lab);
    set(&lab, epoch);
    answer = prepare_takeover(&lab);
    g_assert_false(colo_json_peek(answer, "state"));
    lab_down(&lab);
}

/* RECEIVED has not come, nothing of it is committed: the checkpoint before is the one to go on
 * from, with its own state. */
static void a_takeover_before_the_state_came_takes_the_checkpoint_before(void)
{
    g_autoptr(JsonObject) answer = NULL;
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    epoch = stop(&lab);
    lab_pages_kept(&lab);
    answer = prepare_takeover(&lab);
    g_assert_cmpuint(colo_json_peek_uint(answer, "epoch", 0), ==, epoch - 1);
    g_assert_true(lab_is_closed(lab.s_migration, LAB_WAIT_MS)); /* cut off */
    g_usleep((LIMIT_MS + 50) * 1000);                           /* its timer finds nothing */
    g_assert_true(lab_helper_alive(&lab.s));
    lab_down(&lab);
}

static void a_takeover_after_the_state_was_set_takes_it(void)
{
    uint64_t epoch, id;
    g_autoptr(JsonObject) answer = NULL;
    Lab lab;

    carrying(&lab);
    epoch = stop(&lab);
    lab_pages_kept(&lab);
    give(&lab, epoch, "x");
    set(&lab, epoch);
    lab_pages_end(&lab);
    json_object_put(lab_gate(&lab.s, "closed"));
    id = lab_send(&lab.s, "takeover-prepare", lab_about(), -1);
    lab_write(lab.s_migration, "\0\0\0\5\0\0\0\6", 8); /* RECEIVED, LOADED */
    answer = lab_answer(&lab.s, id);
    g_assert_cmpuint(colo_json_peek_uint(colo_json_peek(answer, "return"), "epoch", 0), ==, epoch);
    lab_down(&lab);
}

static void switched_off_nothing_is_kept_or_wanted(void)
{
    Lab lab;

    carrying(&lab);
    stop(&lab);
    lab_pages_kept(&lab);
    carry(&lab.s, FALSE); /* at once */
    lab_pages_end(&lab);
    go_on(&lab);
    carry(&lab.p, FALSE);
    lab_checkpoint(&lab);
    g_assert_null(lab_event_within(&lab.p, "state-wanted", LAB_QUIET_MS));
    g_assert_cmpuint(lab_counter(&lab.s, "states-missed"), ==, 0);
    lab_down(&lab);
}

static void refuse(LabHelper *helper, const char *request, JsonObject *arguments, const char *code)
{
    g_autofree char *said = lab_refused(helper, request, arguments, -1);

    g_assert_cmpstr(said, ==, code);
}

static void what_makes_no_sense_is_refused(void)
{
    g_autofree char *large = g_strnfill(COLO_RECORD_STATE_MAX + 1, 'x');
    g_autofree char *largest = g_strnfill(COLO_RECORD_STATE_MAX, 'x');
    uint64_t epoch;
    Lab lab;

    carrying(&lab);
    epoch = stop(&lab);
    refuse(&lab.p, "state", about(epoch - 1, "x"), "operation-invalid");
    refuse(&lab.p, "state", about(epoch, large), "invalid-arg");
    refuse(&lab.p, "state", about(epoch, NULL), "invalid-arg");
    refuse(&lab.p, "state-set", about(epoch, NULL), "operation-invalid");
    refuse(&lab.s, "state", about(epoch, "x"), "operation-invalid");
    refuse(&lab.s, "state-set", about(epoch + 1, NULL), "operation-invalid");
    refuse(&lab.s, "state-set", lab_about(), "invalid-arg");
    refuse(&lab.s, "carry", lab_about(), "invalid-arg");
    give(&lab, epoch, largest);
    set(&lab, epoch);
    lab_pages(&lab);
    go_on(&lab);
    json_object_put(lab_event(&lab.p, "loaded"));
    refuse(&lab.p, "state", about(epoch, "x"), "operation-invalid"); /* late */
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/comparator/carry/set-before-the-checkpoint-is-whole",
                    a_state_is_set_before_the_checkpoint_is_whole);
    g_test_add_func("/comparator/carry/without-its-state-it-does-not-count",
                    a_checkpoint_whose_state_did_not_come_does_not_count);
    g_test_add_func("/comparator/carry/a-state-behind-its-checkpoint",
                    a_state_behind_its_checkpoint_makes_it_count);
    g_test_add_func("/comparator/carry/primarys-virtcolod-away",
                    a_primarys_virtcolod_that_is_away_holds_nobody_up);
    g_test_add_func("/comparator/carry/secondarys-virtcolod-away",
                    a_secondarys_virtcolod_that_is_away_loses_no_state);
    g_test_add_func("/comparator/carry/set-late", a_state_that_was_set_late_is_not_told_again);
    g_test_add_func("/comparator/carry/takeover-before-the-state-came",
                    a_takeover_before_the_state_came_takes_the_checkpoint_before);
    g_test_add_func("/comparator/carry/takeover-after-the-state-was-set",
                    a_takeover_after_the_state_was_set_takes_it);
    g_test_add_func("/comparator/carry/switched-off", switched_off_nothing_is_kept_or_wanted);
    g_test_add_func("/comparator/carry/refused", what_makes_no_sense_is_refused);
    return g_test_run();
}
