/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as the plaintext of a control connection, on both sides: frames, the
 * hello of a peer and the replies to calls. The first byte chooses the size of the pieces that
 * arrive.
 *
 * Sources: src/pair/channel-hello.c, src/pair/channel-calls.c, src/util/{framing,json,error}.c,
 * with clang -fsanitize=fuzzer,address,undefined
 */
#include "pair/channel-calls.h"
#include "pair/channel-hello.h"
#include "util/framing.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_hello(const char *type, JsonObject *message)
{
    static ColoPeerInfo self = {
        .version = COLO_CHANNEL_VERSION, .software = (char *)"fuzz", .host = (char *)"fuzz"};
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoPeerInfo) peer = colo_hello_parse(&self, "fuzz:1", type, message, &error);

    /* Exactly one of both, and what hello must have is there. */
    g_assert_true(!peer == !!error);
    if (peer)
        g_assert_true(peer->host && peer->host_uuid && peer->boot_id && peer->software);
}

static void try_reply(ColoCalls *calls, JsonObject *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) answer = NULL;
    ColoCall call = {0};
    uint64_t id = colo_calls_begin(calls, &call, NULL);
    JsonObject *result;

    if (colo_calls_answer(calls, message, &error))
        g_assert_no_error(error);
    else
        g_assert_nonnull(error);
    result = colo_calls_wait(calls, &call, id, "fuzz", 0, &answer);
    g_assert_true(!result == !!answer);
    json_object_put(result);
}

static void try_message(ColoCalls *calls, const char *text, size_t len)
{
    g_autoptr(JsonObject) message = colo_json_parse(text, len, NULL);
    const char *type;

    if (!message || !colo_json_get_string(message, "type", &type, NULL))
        return;
    try_hello(type, message);
    try_reply(calls, message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ColoFrameReader *reader = colo_frame_reader_new();
    ColoCalls *calls = colo_calls_new("fuzz");
    g_autoptr(GError) error = NULL;
    size_t step = size > 0 ? (size_t)data[0] + 1 : 1;

    colo_calls_open(calls);
    /* Its messages without frames, so that the search reaches them quickly. */
    if (size > 1)
        try_message(calls, (const char *)data + 1, size - 1);
    for (size_t at = 1; at < size && !error; at += step) {
        size_t len;
        char *text;

        colo_frame_reader_feed(reader, data + at, MIN(step, size - at));
        while ((text = colo_frame_reader_next(reader, &len, &error))) {
            try_message(calls, text, len);
            g_free(text);
        }
    }
    colo_calls_free(calls);
    colo_frame_reader_free(reader);
    return 0;
}
