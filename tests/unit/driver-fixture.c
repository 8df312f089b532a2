/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver-fixture.h"

#include "driver/policy.h"
#include "util/bytes.h"

#include <libvirt/virterror.h>
#include <string.h>

const uint8_t driver_uuid[16] = {0xc0, 0x10, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xf7};

void driver_setup(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    *f = (DriverFixture){.host = {.state = "protected", .role = "primary"}};
    f->driver = driver_host_new_driver(&f->host);
    f->relay = colo_driver_relay(f->driver);
}

void driver_teardown(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    colo_driver_free(f->driver);
    driver_host_clear(&f->host);
}

/* ---- frames ---- */

void driver_put_word(GByteArray *body, uint32_t word)
{
    uint8_t bytes[4];

    colo_put32(bytes, word);
    g_byte_array_append(body, bytes, sizeof(bytes));
}

void driver_put_text(GByteArray *body, const char *text)
{
    static const uint8_t zeros[4];
    guint len = (guint)strlen(text);

    driver_put_word(body, len);
    g_byte_array_append(body, (const guint8 *)text, len);
    g_byte_array_append(body, zeros, (4 - len % 4) % 4);
}

void driver_put_domain(GByteArray *body, const char *name)
{
    uint8_t uuid[16];

    memcpy(uuid, driver_uuid, sizeof(uuid));
    if (strcmp(name, "ft") != 0)
        uuid[0] = 1;
    driver_put_text(body, name);
    g_byte_array_append(body, uuid, sizeof(uuid));
    driver_put_word(body, 3);
}

ColoRpcFrame *driver_frame(uint32_t program, uint32_t procedure, uint32_t type, GByteArray *body)
{
    ColoRpcFrame *frame = g_malloc0(sizeof(*frame) + body->len);

    frame->header = (ColoRpcHeader){
        .program = program, .version = 1, .procedure = procedure, .type = type, .serial = 5};
    frame->len = body->len;
    memcpy(frame->body, body->data, body->len);
    g_byte_array_unref(body);
    return frame;
}

ColoRpcFrame *driver_domain_call(uint32_t procedure, const char *name)
{
    GByteArray *body = g_byte_array_new();

    driver_put_domain(body, name);
    driver_put_text(body, "<disk/>");
    return driver_frame(COLO_REMOTE_PROGRAM, procedure, COLO_RPC_CALL, body);
}

uint32_t driver_number_of(const char *name)
{
    for (size_t i = 0; i < colo_policy_n_rows; i++) {
        if (strcmp(colo_policy_rows[i].name, name) == 0)
            return colo_policy_rows[i].procedure;
    }
    g_assert_not_reached();
}

/* ---- what becomes of them ---- */

ColoRelayVerdict driver_calls(DriverFixture *f, const ColoRpcFrame *call, GByteArray **answer,
                              GByteArray **question)
{
    g_autoptr(GByteArray) said = NULL, asked = NULL;
    ColoRelayVerdict verdict = f->relay->call(call, &said, &asked, f->relay->opaque);

    g_assert_true(answer || !said);
    g_assert_true(question || !asked);
    if (answer)
        *answer = g_steal_pointer(&said);
    if (question)
        *question = g_steal_pointer(&asked);
    return verdict;
}

gboolean driver_says(const GByteArray *answer, const char *text)
{
    return memmem(answer->data, answer->len, text, strlen(text)) != NULL;
}

/* A question that was asked of libvirt: its right, of the domain that the test is about. Returns
 * where the next begins. */
static size_t assert_asked(const GByteArray *questions, size_t at, uint32_t procedure)
{
    size_t len = colo_get32(questions->data + at);

    g_assert_cmpuint(at + len, <=, questions->len);
    g_assert_cmpuint(colo_get32(questions->data + at + 12), ==, procedure);
    g_assert_nonnull(memmem(questions->data + at, len, driver_uuid, sizeof(driver_uuid)));
    return at + len;
}

void driver_assert_refused(DriverFixture *f, ColoRpcFrame *call, const char *const *texts)
{
    g_autoptr(GByteArray) answer = NULL, questions = NULL;
    g_autoptr(ColoRpcFrame) frame = call;
    size_t at;

    g_assert_cmpint(driver_calls(f, frame, &answer, &questions), ==, COLO_RELAY_ANSWER);
    /* domain:read, for it tells of the domain, and domain:write. */
    at = assert_asked(questions, 0, COLO_REMOTE_PROC_DOMAIN_GET_STATE);
    at = assert_asked(questions, at, COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME);
    g_assert_cmpuint(at, ==, questions->len);
    g_assert_cmpuint(colo_get32(answer->data), ==, answer->len);
    g_assert_cmpuint(colo_get32(answer->data + 16), ==, COLO_RPC_REPLY);
    g_assert_cmpuint(colo_get32(answer->data + 20), ==, 5); /* serial */
    g_assert_cmpuint(colo_get32(answer->data + 24), ==, COLO_RPC_ERROR);
    g_assert_cmpuint(colo_get32(answer->data + 28), ==, VIR_ERR_OPERATION_INVALID);
    for (; *texts; texts++)
        g_assert_true(driver_says(answer, *texts));
}

void driver_assert_passes(DriverFixture *f, ColoRpcFrame *call)
{
    g_autoptr(GByteArray) answer = NULL;
    g_autoptr(ColoRpcFrame) frame = call;

    g_assert_cmpint(driver_calls(f, frame, &answer, NULL), ==, COLO_RELAY_PASS);
    g_assert_null(answer);
}

void driver_assert_interrupts(DriverFixture *f, ColoRpcFrame *owned, const char *name)
{
    g_autoptr(ColoRpcFrame) frame = owned;
    g_autoptr(GByteArray) question = NULL;

    f->host.state = "protected";
    g_assert_cmpint(driver_calls(f, frame, NULL, &question), ==, COLO_RELAY_WORK);
    g_assert_cmpuint(colo_get32(question->data + 12), ==, COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME);
    g_assert_nonnull(memmem(question->data, question->len, driver_uuid, sizeof(driver_uuid)));
    g_assert_null(f->host.held);
    g_assert_null(f->relay->work(frame, f->relay->opaque));
    g_assert_cmpstr(f->host.held, ==, name);
    f->relay->after(frame, f->relay->opaque);
    g_assert_null(f->host.held);
}
