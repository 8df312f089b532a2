/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the driver makes of a client's calls: answered at once, by a worker, or libvirt's after one.
 */
#include "relay-fixture.h"
#include "util/bytes.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* ---- a driver: procedure 2000 is answered at once, 2001 by a worker, 2002 libvirt hears not,
 * 2004 it hears after a worker, 2006 is answered at once if the client has two rights ----
 */

static gint workers, workers_max; /* atomic */

/* By which libvirt is asked. */
static GByteArray *may_i(void)
{
    return colo_remote_encode(
        &(ColoRpcHeader){.program = COLO_REMOTE_PROGRAM, .version = 1, .procedure = 2777}, "may I",
        5);
}

static ColoRelayVerdict drive_call(const ColoRpcFrame *frame, GByteArray **answer,
                                   GByteArray **question, void *opaque G_GNUC_UNUSED)
{
    g_autoptr(GByteArray) second = NULL;

    switch (frame->header.procedure) {
    case 2000:
        *answer = colo_remote_error(&frame->header, 55, "no");
        return COLO_RELAY_ANSWER;
    case 2001: /* libvirt is asked by 2777 */
    case 2004:
        *question = may_i();
        return COLO_RELAY_WORK;
    case 2006:
        *answer = colo_remote_error(&frame->header, 55, "no");
        *question = may_i();
        second = may_i();
        g_byte_array_append(*question, second->data, second->len);
        return COLO_RELAY_ANSWER;
    case 2005:
        return COLO_RELAY_REVISE;
    case 2002:
        return COLO_RELAY_DROP;
    default:
        return COLO_RELAY_PASS;
    }
}

static GByteArray *drive_work(const ColoRpcFrame *frame, void *opaque G_GNUC_UNUSED)
{
    gint now = g_atomic_int_add(&workers, 1) + 1;

    if (now > g_atomic_int_get(&workers_max))
        g_atomic_int_set(&workers_max, now);
    g_usleep(RELAY_QUIET_MS * 1000);
    g_atomic_int_add(&workers, -1);
    if (frame->header.procedure == 2004)
        return NULL;
    return colo_remote_string(&frame->header, "done");
}

static gint followed; /* atomic: calls that were libvirt's in the end */

static void drive_after(const ColoRpcFrame *frame, void *opaque G_GNUC_UNUSED)
{
    g_assert_cmpuint(frame->header.procedure, ==, 2004);
    g_atomic_int_inc(&followed);
}

static void assert_followed(gint n)
{
    for (unsigned ms = 0; ms < RELAY_WAIT_MS && g_atomic_int_get(&followed) < n; ms++)
        g_usleep(1000);
    g_assert_cmpint(g_atomic_int_get(&followed), ==, n);
}

static ColoRelayVerdict drive_heard(const ColoRpcFrame *frame, GByteArray **answer,
                                    void *opaque G_GNUC_UNUSED)
{
    if (frame->header.procedure == 3000)
        return COLO_RELAY_DROP;
    if (frame->header.procedure != 3001)
        return COLO_RELAY_PASS;
    *answer = colo_remote_encode(&frame->header, "other", 5);
    return COLO_RELAY_ANSWER;
}

static ColoRelayVerdict drive_revise(const ColoRpcFrame *call, const ColoRpcFrame *reply,
                                     GByteArray **answer, void *opaque G_GNUC_UNUSED)
{
    g_assert_cmpuint(call->header.procedure, ==, 2005);
    g_assert_cmpuint(reply->header.serial, ==, call->header.serial);
    if (call->len == 0)
        return COLO_RELAY_PASS;
    *answer = colo_remote_encode(&reply->header, call->body, call->len);
    return COLO_RELAY_ANSWER;
}

static const ColoRelayDriver driver = {.call = drive_call,
                                       .work = drive_work,
                                       .after = drive_after,
                                       .heard = drive_heard,
                                       .revise = drive_revise};

static void setup(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_setup(f, &driver, TRUE);
}

/* libvirt is asked whether work may be done. */
static ColoRpcHeader hear_question(RelayFixture *f)
{
    g_autoptr(ColoRpcFrame) question = relay_hear(f->upstream, f->upstream_reader);

    g_assert_cmpuint(question->header.procedure, ==, 2777);
    g_assert_true(colo_remote_is_own_serial(question->header.serial));
    return question->header;
}

/* Its word. */
static void answer_question(RelayFixture *f, ColoRpcHeader header, uint32_t status, uint32_t code)
{
    g_autoptr(GByteArray) frame = NULL;
    uint8_t body[4];

    header.type = COLO_RPC_REPLY;
    header.status = status;
    colo_put32(body, code);
    frame = colo_remote_encode(&header, body, sizeof(body));
    relay_send_all(f->upstream, frame->data, frame->len);
}

static void permit(RelayFixture *f, uint32_t status, uint32_t code)
{
    answer_question(f, hear_question(f), status, code);
}

/* What libvirt would not let the client do, it does not get from us. */
static void test_work_needs_the_right(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) denied = NULL, unknown = NULL, done = NULL;

    g_atomic_int_set(&workers_max, 0);
    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10, NULL, 0);
    permit(f, COLO_RPC_ERROR, 88); /* VIR_ERR_ACCESS_DENIED */
    denied = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(denied->header.procedure, ==, 2001);
    g_assert_cmpuint(denied->header.serial, ==, 10);
    g_assert_cmpuint(denied->header.status, ==, COLO_RPC_ERROR);
    g_assert_cmpuint(colo_get32(denied->body), ==, 88);
    g_assert_cmpint(g_atomic_int_get(&workers_max), ==, 0);
    /* Nor what nobody was asked about: of a domain that libvirt does not know. */
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 12, NULL, 0);
    permit(f, COLO_RPC_ERROR, 42); /* VIR_ERR_NO_DOMAIN */
    unknown = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(unknown->header.status, ==, COLO_RPC_ERROR);
    g_assert_cmpuint(colo_get32(unknown->body), ==, 42);
    g_assert_cmpint(g_atomic_int_get(&workers_max), ==, 0);
    /* Any other error: it may, and there is no host name. */
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 11, NULL, 0);
    permit(f, COLO_RPC_ERROR, 1);
    done = relay_hear(f->client, f->client_reader);
    g_assert_true(relay_holds(done, "done"));
}

/* Nor does it hear why we would not do it. */
static void test_answer_needs_the_rights(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) refused = NULL;

    relay_open_connection(f);
    for (unsigned denied = 0; denied < 2; denied++) {
        g_autoptr(ColoRpcFrame) heard = NULL;

        relay_say(f->client, COLO_REMOTE_PROGRAM, 2006, COLO_RPC_CALL, 10 + denied, NULL, 0);
        if (denied == 1)
            permit(f, COLO_RPC_OK, 0);
        permit(f, COLO_RPC_ERROR, 88); /* VIR_ERR_ACCESS_DENIED */
        heard = relay_hear(f->client, f->client_reader);
        g_assert_cmpuint(heard->header.serial, ==, 10 + denied);
        g_assert_cmpuint(colo_get32(heard->body), ==, 88);
    }
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2006, COLO_RPC_CALL, 12, NULL, 0);
    permit(f, COLO_RPC_OK, 0);
    g_assert_false(relay_readable(f->client, 0));
    permit(f, COLO_RPC_OK, 0);
    refused = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(refused->header.serial, ==, 12);
    g_assert_cmpuint(colo_get32(refused->body), ==, 55);
    g_assert_false(relay_readable(f->upstream, 0));
}

/* A client cannot say the answer itself, by a call of its own with the serial of ours. */
static void test_serials_are_ours(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 277, COLO_RPC_CALL, COLO_REMOTE_OWN_SERIAL + 1, NULL,
              0);
    relay_assert_closed(f->client);
    relay_assert_closed(f->upstream);
}

static void test_driver_answers(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) at_once = NULL, later = NULL, passed = NULL, event = NULL;

    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10, NULL, 0);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2000, COLO_RPC_CALL, 11, NULL, 0);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2002, COLO_RPC_CALL, 12, NULL, 0);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2003, COLO_RPC_CALL, 13, NULL, 0);
    at_once = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(at_once->header.serial, ==, 11);
    g_assert_cmpuint(at_once->header.status, ==, COLO_RPC_ERROR);
    permit(f, COLO_RPC_OK, 0);
    later = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(later->header.serial, ==, 10);
    g_assert_true(relay_holds(later, "done"));
    passed = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 2003);
    relay_say(f->upstream, COLO_REMOTE_PROGRAM, 3000, COLO_RPC_MESSAGE, 0, NULL, 0);
    relay_say(f->upstream, COLO_REMOTE_PROGRAM, 3001, COLO_RPC_MESSAGE, 0, NULL, 0);
    event = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(event->header.procedure, ==, 3001);
    g_assert_true(relay_holds(event, "other"));
}

/* Before the connection is open libvirt alone speaks. */
static void test_driver_waits_for_open(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) passed = NULL;

    relay_accept_upstream(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2000, COLO_RPC_CALL, 11, NULL, 0);
    passed = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 2000);
}

/* A client that asks faster than workers answer is not read; all answers come. */
static void test_work_is_bounded(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const unsigned calls = 3 * COLO_RELAY_PENDING_MAX;
    bool seen[3 * COLO_RELAY_PENDING_MAX] = {false};
    ColoRpcHeader questions[COLO_RELAY_PENDING_MAX];

    g_atomic_int_set(&workers_max, 0);
    relay_open_connection(f);
    for (unsigned i = 0; i < calls; i++)
        relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10 + i, NULL, 0);
    for (unsigned i = 0; i < COLO_RELAY_PENDING_MAX; i++)
        questions[i] = hear_question(f);
    g_assert_false(
        relay_readable(f->upstream, RELAY_QUIET_MS)); /* none before one of these is done */
    for (unsigned i = 0; i < COLO_RELAY_PENDING_MAX; i++)
        answer_question(f, questions[i], COLO_RPC_OK, 0);
    for (unsigned i = 0; i < calls; i++) {
        g_autoptr(ColoRpcFrame) answer = relay_hear(f->client, f->client_reader);

        if (i + COLO_RELAY_PENDING_MAX < calls)
            permit(f, COLO_RPC_OK, 0);
        g_assert_false(seen[answer->header.serial - 10]);
        seen[answer->header.serial - 10] = true;
    }
    g_assert_cmpint(g_atomic_int_get(&workers_max), <=, COLO_RELAY_WORKERS);
}

static void test_client_leaves_while_work_runs(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_open_connection(f);
    for (unsigned i = 0; i < 4; i++)
        relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10 + i, NULL, 0);
    for (unsigned i = 0; i < 2; i++) /* two are asked for still */
        permit(f, COLO_RPC_OK, 0);
    g_usleep(RELAY_QUIET_MS * 500);
    close(f->client);
    relay_assert_closed(f->upstream);
    close(f->upstream);
    f->client = relay_connect_unix(f->ours);
    colo_rpc_reader_free(f->client_reader);
    colo_rpc_reader_free(f->upstream_reader); /* it may hold the other two questions */
    f->client_reader = colo_rpc_reader_new(NULL);
    f->upstream_reader = colo_rpc_reader_new(NULL);
    test_driver_answers(f, data);
}

/* A client that opens once more, in vain, is under the driver as before. */
static void test_opened_twice(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) again = NULL, refusal = NULL, refused = NULL;

    relay_open_connection(f);
    relay_send_open(f, "colo:///system");
    again = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(again->header.procedure, ==, COLO_REMOTE_PROC_CONNECT_OPEN);
    relay_reply(f, COLO_REMOTE_PROC_CONNECT_OPEN, 2, COLO_RPC_ERROR);
    refusal = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(refusal->header.status, ==, COLO_RPC_ERROR);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2000, COLO_RPC_CALL, 11, NULL, 0);
    refused = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(refused->header.serial, ==, 11);
    g_assert_cmpuint(refused->header.status, ==, COLO_RPC_ERROR);
}

/* A worker prepares it, libvirt answers it, and a worker hears that it has. */
static void test_passed_on(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) call = NULL, answer = NULL;

    g_atomic_int_set(&followed, 0);
    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2004, COLO_RPC_CALL, 10, "as it was", 9);
    g_assert_false(relay_readable(f->client, 0));
    permit(f, COLO_RPC_OK, 0);
    call = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(call->header.procedure, ==, 2004);
    g_assert_cmpuint(call->header.serial, ==, 10);
    g_assert_true(relay_holds(call, "as it was"));
    g_usleep(RELAY_QUIET_MS * 1000);
    g_assert_cmpint(g_atomic_int_get(&followed), ==, 0);
    relay_reply(f, 2003, 10, COLO_RPC_OK); /* of another call */
    colo_rpc_frame_free(relay_hear(f->client, f->client_reader));
    relay_reply(f, 2004, 10, COLO_RPC_ERROR);
    answer = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(answer->header.procedure, ==, 2004);
    g_assert_cmpuint(answer->header.status, ==, COLO_RPC_ERROR);
    assert_followed(1);
}

/* The driver sees the reply beside its call. */
static void test_revised(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(ColoRpcFrame) revised = NULL, passed = NULL;

    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2005, COLO_RPC_CALL, 10, "asked", 5);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2005, COLO_RPC_CALL, 11, NULL, 0);
    for (unsigned i = 0; i < 2; i++)
        colo_rpc_frame_free(relay_hear(f->upstream, f->upstream_reader));
    relay_reply(f, 2005, 11, COLO_RPC_OK);
    relay_reply(f, 2005, 10, COLO_RPC_OK);
    passed = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(passed->header.serial, ==, 11);
    g_assert_cmpuint(passed->len, ==, 0);
    revised = relay_hear(f->client, f->client_reader);
    g_assert_cmpuint(revised->header.serial, ==, 10);
    g_assert_true(relay_holds(revised, "asked"));
}

/* What is not revised any more passes. */
static void test_revised_is_bounded(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    relay_open_connection(f);
    for (unsigned i = 0; i <= COLO_RELAY_REVISE_MAX; i++) {
        relay_say(f->client, COLO_REMOTE_PROGRAM, 2005, COLO_RPC_CALL, 10 + i, "asked", 5);
        colo_rpc_frame_free(relay_hear(f->upstream, f->upstream_reader));
    }
    for (unsigned i = 0; i <= COLO_RELAY_REVISE_MAX; i++) {
        g_autoptr(ColoRpcFrame) reply = NULL;

        relay_reply(f, 2005, 10 + i, COLO_RPC_OK);
        reply = relay_hear(f->client, f->client_reader);
        g_assert_cmpint(relay_holds(reply, "asked"), ==, i < COLO_RELAY_REVISE_MAX);
    }
}

/* In the midst of it, and before libvirt has it. */
static void test_passed_on_and_client_leaves(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_atomic_int_set(&followed, 0);
    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2004, COLO_RPC_CALL, 10, NULL, 0);
    permit(f, COLO_RPC_OK, 0);
    colo_rpc_frame_free(relay_hear(f->upstream, f->upstream_reader));
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2004, COLO_RPC_CALL, 11, NULL, 0);
    permit(f, COLO_RPC_OK, 0);
    g_usleep(RELAY_QUIET_MS * 500); /* the worker has the second */
    close(f->client);
    f->client = -1;
    relay_assert_closed(f->upstream);
    assert_followed(2);
}

/* A read-only client is connected to libvirt's read-only socket, and runs no command of ours. */
static void test_readonly(RelayFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *ours = g_strconcat(f->ours, "-ro", NULL);
    g_autofree char *theirs = g_strconcat(f->theirs, "-ro", NULL);
    g_autoptr(ColoRpcFrame) passed = NULL, refused = NULL;
    g_autoptr(GError) error = NULL;
    int listener = colo_rpc_listen_public(ours, &error);

    g_assert_no_error(error);
    g_assert_true(colo_rpc_server_add_readonly(f->server, listener, &error));
    close(f->libvirt); /* the other socket is not what it takes */
    f->libvirt = colo_rpc_listen(theirs, NULL, &error);
    g_assert_no_error(error);
    close(f->client);
    f->client = relay_connect_unix(ours);
    relay_open_connection(f);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2001, COLO_RPC_CALL, 10, NULL, 0);
    passed = relay_hear(f->upstream, f->upstream_reader);
    g_assert_cmpuint(passed->header.procedure, ==, 2001);
    relay_say(f->client, COLO_REMOTE_PROGRAM, 2006, COLO_RPC_CALL, 11, NULL, 0);
    refused = relay_hear(f->upstream, f->upstream_reader); /* by libvirt, in its own words */
    g_assert_cmpuint(refused->header.procedure, ==, 2006);
    g_unlink(ours);
    g_unlink(theirs);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/relay-work/" name, RelayFixture, NULL, setup, function, relay_teardown)
    ADD("readonly", test_readonly);
    ADD("answers", test_driver_answers);
    ADD("opened-twice", test_opened_twice);
    ADD("right", test_work_needs_the_right);
    ADD("rights-for-an-answer", test_answer_needs_the_rights);
    ADD("serials", test_serials_are_ours);
    ADD("waits-for-open", test_driver_waits_for_open);
    ADD("I8/work", test_work_is_bounded);
    ADD("client-leaves", test_client_leaves_while_work_runs);
    ADD("revised", test_revised);
    ADD("I8/revised", test_revised_is_bounded);
    ADD("passed-on", test_passed_on);
    ADD("passed-on-and-client-leaves", test_passed_on_and_client_leaves);
    return g_test_run();
}
