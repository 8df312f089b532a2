/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A migration of a protected domain: to its peer it is a switchover. */
#include "driver-fixture.h"
#include "util/bytes.h"

#include <libvirt/libvirt.h>
#include <string.h>

/* Asks and works; the body of the answer. */
static GByteArray *migrate(DriverFixture *f, uint32_t procedure, GByteArray *body, uint32_t right)
{
    g_autoptr(ColoRpcFrame) call =
        driver_frame(COLO_REMOTE_PROGRAM, procedure, COLO_RPC_CALL, body);
    g_autoptr(GByteArray) question = NULL;
    GByteArray *answer;

    g_assert_cmpint(driver_calls(f, call, NULL, &question), ==, COLO_RELAY_WORK);
    g_assert_cmpuint(colo_get32(question->data + 12), ==, right);
    answer = f->relay->work(call, f->relay->opaque);
    g_assert_nonnull(answer);
    return answer;
}

static GByteArray *perform_args(const char *uri, const char *cookie, uint32_t flags)
{
    GByteArray *body = g_byte_array_new();

    driver_put_domain(body, "ft");
    driver_put_word(body, uri != NULL);
    if (uri)
        driver_put_text(body, uri);
    driver_put_word(body, 0); /* no params */
    driver_put_text(body, cookie);
    driver_put_word(body, flags);
    return body;
}

static void test_migrate_peer_to_peer(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    const uint32_t p2p = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER;
    uint32_t perform = driver_number_of("DOMAIN_MIGRATE_PERFORM3_PARAMS");
    g_autoptr(GByteArray) done =
        migrate(f, perform, perform_args("colo+tls://HOST2/system", "", p2p),
                COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME);

    g_assert_cmpuint(colo_get32(done->data + 24), ==, COLO_RPC_OK);
    g_assert_true(g_str_has_prefix(f->host.command, "colo-switchover"));
    g_assert_nonnull(strstr(f->host.command, DRIVER_UUID));
    /* Elsewhere: libvirt's, without protection. */
    g_clear_pointer(&f->host.command, g_free);
    driver_assert_interrupts(f,
                             driver_frame(COLO_REMOTE_PROGRAM, perform, COLO_RPC_CALL,
                                          perform_args("qemu+tls://host3/system", "", p2p)),
                             "migrate-perform3-params");
    g_assert_null(f->host.command);
}

static void test_migrate_by_the_client(DriverFixture *f, gconstpointer data G_GNUC_UNUSED)
{
    GByteArray *begin = g_byte_array_new(), *prepare = g_byte_array_new();
    GByteArray *finish = g_byte_array_new(), *elsewhere = g_byte_array_new();
    const uint32_t write = COLO_REMOTE_PROC_DOMAIN_GET_HOSTNAME;
    g_autoptr(GByteArray) begun = NULL, prepared = NULL, performed = NULL, finished = NULL;
    g_autoptr(GByteArray) refused = NULL;
    g_autofree char *cookie = NULL;

    driver_put_domain(begin, "ft");
    driver_put_word(begin, 0);
    driver_put_word(begin, VIR_MIGRATE_LIVE);
    begun = migrate(f, driver_number_of("DOMAIN_MIGRATE_BEGIN3_PARAMS"), begin, write);
    cookie = g_strndup((char *)begun->data + COLO_RPC_HEADER_BYTES + 4,
                       colo_get32(begun->data + COLO_RPC_HEADER_BYTES));
    g_assert_nonnull(strstr(cookie, DRIVER_UUID));
    g_assert_true(driver_says(begun, "<domain><name>ft</name></domain>"));

    f->host.role = "secondary"; /* the peer */
    driver_put_word(prepare, 0);
    driver_put_text(prepare, cookie);
    driver_put_word(prepare, VIR_MIGRATE_LIVE);
    prepared = migrate(f, driver_number_of("DOMAIN_MIGRATE_PREPARE3_PARAMS"), prepare,
                       COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES);
    g_assert_true(driver_says(prepared, "colo:switchover"));

    f->host.role = "primary";
    performed = migrate(f, driver_number_of("DOMAIN_MIGRATE_PERFORM3_PARAMS"),
                        perform_args(NULL, cookie, VIR_MIGRATE_LIVE), write);
    g_assert_true(g_str_has_prefix(f->host.command, "colo-switchover"));

    f->host.state = "committing"; /* the peer again */
    driver_put_word(finish, 0);
    driver_put_text(finish, cookie);
    driver_put_word(finish, VIR_MIGRATE_LIVE);
    driver_put_word(finish, 0);
    finished = migrate(f, driver_number_of("DOMAIN_MIGRATE_FINISH3_PARAMS"), finish, write);
    g_assert_cmpuint(colo_get32(finished->data + 24), ==, COLO_RPC_OK);
    g_assert_nonnull(memmem(finished->data, finished->len, driver_uuid, sizeof(driver_uuid)));

    f->host.state = NULL; /* a host that is not its peer */
    driver_put_word(elsewhere, 0);
    driver_put_text(elsewhere, cookie);
    driver_put_word(elsewhere, VIR_MIGRATE_LIVE);
    refused = migrate(f, driver_number_of("DOMAIN_MIGRATE_PREPARE3_PARAMS"), elsewhere,
                      COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES);
    g_assert_true(driver_says(refused, "is not its peer"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/driver/" name, DriverFixture, NULL, driver_setup, function, driver_teardown)
    ADD("migrate/peer-to-peer", test_migrate_peer_to_peer);
    ADD("migrate/by-the-client", test_migrate_by_the_client);
    return g_test_run();
}
