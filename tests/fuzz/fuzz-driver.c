/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as a call of a client, and as what libvirt says, past the driver of
 * colo:///, every domain of which is protected. The first byte chooses what it is, the next two the
 * procedure.
 *
 * Sources: src/driver/{driver,monitor,policy,policy-table}.c and those of fuzz-rpc, with clang
 * -fsanitize=fuzzer,address,undefined.
 *
 * Besides memory: an answer is there when the verdict says so, and is one whole frame.
 */
#include "driver/driver.h"
#include "rpc/remote-calls.h"
#include "util/bytes.h"
#include "util/error.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(gboolean condition)
{
    if (!condition)
        abort();
}

static JsonObject *view(const char *uuid_or_name, void *opaque)
{
    return colo_json_build("name", "s", uuid_or_name, "uuid", "s", uuid_or_name, "auto-reprotect",
                           "b", uuid_or_name[0] & 1, "state", "s", "protected", "role", "s",
                           opaque ? "secondary" : "primary", "peer", "s", "host2", NULL);
}

static JsonObject *command(const char *name, JsonObject *args, void *opaque G_GNUC_UNUSED,
                           GError **error G_GNUC_UNUSED)
{
    return colo_json_build("command", "s", name, "args", "o", json_object_get(args), NULL);
}

static JsonObject *pairs(void *opaque G_GNUC_UNUSED)
{
    return colo_json_build("pairs", "o", json_object_new_array(), NULL);
}

static gboolean hold(const char *uuid, const char *call, void *opaque G_GNUC_UNUSED, GError **error)
{
    check(*uuid && *call);
    if (uuid[0] > '7') /* some cannot be interrupted */
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID, "not now");
    return uuid[0] <= '7';
}

static void release(const char *uuid, void *opaque G_GNUC_UNUSED)
{
    check(*uuid);
}

static gboolean set_autostart(const char *uuid, gboolean on G_GNUC_UNUSED,
                              void *opaque G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    check(*uuid);
    return TRUE;
}

static char *migratable_xml(const char *uuid G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED,
                            GError **error G_GNUC_UNUSED)
{
    return g_strdup("<domain/>");
}

static int domain_id(const char *uuid G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    return 1;
}

static void assert_frame(const GByteArray *answer)
{
    check(answer && answer->len >= COLO_RPC_HEADER_BYTES);
    check(colo_get32(answer->data) == answer->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t programs[] = {COLO_REMOTE_PROGRAM, COLO_REMOTE_QEMU_PROGRAM};
    static const uint32_t calls[] = {COLO_RPC_CALL, COLO_RPC_CALL_WITH_FDS};
    static const uint32_t said[] = {COLO_RPC_REPLY, COLO_RPC_MESSAGE};
    g_autoptr(GByteArray) answer = NULL, done = NULL;
    g_autofree ColoRpcFrame *frame = NULL;
    const ColoRelayDriver *relay;
    ColoRelayVerdict verdict;
    ColoDriver *driver;
    gboolean call;

    if (size < 3)
        return 0;
    call = data[0] & 1;
    driver = colo_driver_new("host1", &(ColoDriverHost){.view = view,
                                                        .pairs = pairs,
                                                        .command = command,
                                                        .hold = hold,
                                                        .release = release,
                                                        .set_autostart = set_autostart,
                                                        .migratable_xml = migratable_xml,
                                                        .domain_id = domain_id,
                                                        .opaque = data[0] & 8 ? &driver : NULL});
    relay = colo_driver_relay(driver);
    frame = g_malloc0(sizeof(*frame) + size - 3);
    frame->header = (ColoRpcHeader){.program = programs[(data[0] >> 1) & 1],
                                    .version = 1,
                                    .procedure = colo_get16(data + 1) & 511,
                                    .type = (call ? calls : said)[(data[0] >> 2) & 1]};
    frame->len = size - 3;
    memcpy(frame->body, data + 3, size - 3);
    verdict = (call ? relay->call : relay->heard)(frame, &answer, relay->opaque);
    check(verdict == COLO_RELAY_WORK || (verdict == COLO_RELAY_ANSWER) == (answer != NULL));
    if (answer)
        assert_frame(answer);
    if (verdict == COLO_RELAY_WORK) {
        done = relay->work(frame, relay->opaque);
        if (done)
            assert_frame(done);
        else
            relay->after(frame, relay->opaque);
    }
    colo_driver_free(driver);
    return 0;
}
