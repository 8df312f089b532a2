/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as a call of a client, and as what libvirt says, past the driver of
 * colo:///, every domain of which is protected. The first byte chooses what it is and how the
 * domain is, the next two the procedure.
 *
 * Sources: as in run.sh, with clang -fsanitize=fuzzer,address,undefined.
 *
 * Besides memory: an answer is there when the verdict says so, and is one whole frame.
 */
#include "../unit/driver-host.h"
#include "rpc/remote-calls.h"
#include "util/bytes.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(gboolean condition)
{
    if (!condition)
        abort();
}

static void assert_frame(const GByteArray *answer)
{
    check(answer && answer->len >= COLO_RPC_HEADER_BYTES);
    check(colo_get32(answer->data) == answer->len);
}

/* One behind the other. */
static void assert_frames(const GByteArray *questions)
{
    size_t at = 0;

    while (at < questions->len) {
        size_t len;

        check(questions->len - at >= COLO_RPC_HEADER_BYTES);
        len = colo_get32(questions->data + at);
        check(len >= COLO_RPC_HEADER_BYTES && len <= questions->len - at);
        at += len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t programs[] = {COLO_REMOTE_PROGRAM, COLO_REMOTE_QEMU_PROGRAM};
    static const uint32_t calls[] = {COLO_RPC_CALL, COLO_RPC_CALL_WITH_FDS};
    static const uint32_t said[] = {COLO_RPC_REPLY, COLO_RPC_MESSAGE};
    g_autoptr(GByteArray) answer = NULL, question = NULL, done = NULL;
    g_autofree ColoRpcFrame *frame = NULL;
    const ColoRelayDriver *relay;
    ColoRelayVerdict verdict;
    ColoDriver *driver;
    DriverHost host;
    gboolean call;

    if (size < 3)
        return 0;
    call = data[0] & 1;
    host = (DriverHost){.any = TRUE,
                        .state = "protected",
                        .role = data[0] & 8 ? "secondary" : "primary",
                        .auto_reprotect = data[0] & 16,
                        .hold_fails = data[0] & 32};
    driver = driver_host_new_driver(&host);
    relay = colo_driver_relay(driver);
    frame = g_malloc0(sizeof(*frame) + size - 3);
    frame->header = (ColoRpcHeader){.program = programs[(data[0] >> 1) & 1],
                                    .version = 1,
                                    .procedure = colo_get16(data + 1) & 511,
                                    .type = (call ? calls : said)[(data[0] >> 2) & 1]};
    frame->len = size - 3;
    memcpy(frame->body, data + 3, size - 3);
    verdict = call ? relay->call(frame, &answer, &question, relay->opaque)
                   : relay->heard(frame, &answer, relay->opaque);
    check((verdict == COLO_RELAY_ANSWER) == (answer != NULL));
    check(!question || verdict == COLO_RELAY_ANSWER || verdict == COLO_RELAY_WORK);
    if (answer)
        assert_frame(answer);
    if (question)
        assert_frames(question);
    if (verdict == COLO_RELAY_WORK) {
        done = relay->work(frame, relay->opaque);
        if (done)
            assert_frame(done);
        else
            relay->after(frame, relay->opaque);
    }
    colo_driver_free(driver);
    driver_host_clear(&host);
    return 0;
}
