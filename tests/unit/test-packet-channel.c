/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one packet channel reads another passes on, as QEMU does not read it for a while, reads a
 * part, and has what waits dropped: each frame that arrives is whole, in order, and as it was. */
#include "comparator/channel.h"

#include "util/clock.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES 20000u
#define RING (8u << 20)

typedef struct {
    ColoLoop *loop;
    ColoTimer step;
    ColoChannel *in, *out;
    int source, sink; /* QEMU's ends */
    unsigned sent, heard, refused;
    uint64_t dropped;
    uint32_t last; /* number of the frame that was heard last and 1 */
    GByteArray *pending[2];
    unsigned rounds;
    bool by_copy;
} Run;

static size_t length_of(uint32_t number)
{
    return 8 + number * 2654435761u % (number % 50 ? 200 : 30000);
}

static void fill(uint8_t *frame, uint32_t number)
{
    size_t len = length_of(number);

    for (size_t i = 0; i < len; i++)
        frame[i] = (uint8_t)(number + i * 7);
    memcpy(frame, &number, sizeof(number));
}

static void pass_on(void *owner, ColoChannel *channel G_GNUC_UNUSED, const ColoWireFrame *frames,
                    unsigned n, ColoChunk *chunk)
{
    Run *run = owner;

    for (unsigned i = 0; i < n; i++) {
        bool copy = run->by_copy && g_test_rand_int_range(0, 4) == 0;

        run->refused += !colo_channel_put_frame(run->out, frames[i].data, frames[i].len,
                                                frames[i].vnet, copy ? NULL : chunk);
    }
}

static void went_down(void *owner G_GNUC_UNUSED, ColoChannel *channel G_GNUC_UNUSED,
                      const char *reason)
{
    g_error("a channel went down: %s", reason);
}

static const ColoChannelOps ops = {.frames = pass_on, .down = went_down};

static void send_some(Run *run)
{
    GByteArray *wire = run->pending[0];
    ssize_t n;

    while (wire->len < 100000 && run->sent < FRAMES) {
        uint32_t be = GUINT32_TO_BE((uint32_t)length_of(run->sent));
        static uint8_t frame[32000];

        fill(frame, run->sent);
        g_byte_array_append(wire, (const uint8_t *)&be, sizeof(be));
        g_byte_array_append(wire, frame, (guint)length_of(run->sent++));
    }
    if (wire->len == 0)
        return;
    n = send(run->source, wire->data, (size_t)g_test_rand_int_range(1, (int)wire->len + 1),
             MSG_DONTWAIT);
    if (n > 0)
        g_byte_array_remove_range(wire, 0, (guint)n);
}

static void hear_some(Run *run)
{
    GByteArray *wire = run->pending[1];
    static uint8_t data[1 << 17], frame[32000];
    ssize_t n = recv(run->sink, data, (size_t)g_test_rand_int_range(1, sizeof(data)), MSG_DONTWAIT);

    if (n > 0)
        g_byte_array_append(wire, data, (guint)n);
    while (wire->len >= 4) {
        uint32_t len, number;

        memcpy(&len, wire->data, 4);
        len = GUINT32_FROM_BE(len);
        if (wire->len < 4 + len)
            break;
        memcpy(&number, wire->data + 4, 4);
        g_assert_cmpuint(number, <, FRAMES);
        g_assert_cmpuint(number, >=, run->last);
        run->last = number + 1;
        fill(frame, number);
        g_assert_cmpmem(wire->data + 4, len, frame, length_of(number));
        run->heard++;
        g_byte_array_remove_range(wire, 0, 4 + len);
    }
}

static bool finished(const Run *run)
{
    return run->sent == FRAMES && run->pending[0]->len == 0 &&
           run->heard + run->dropped + run->refused == FRAMES;
}

static void step(void *opaque)
{
    Run *run = opaque;

    send_some(run);
    if (g_test_rand_int_range(0, 3) > 0)
        hear_some(run);
    /* Ten rounds on hold of each twenty, at the end of every second time what waits is dropped. */
    run->rounds++;
    if (run->rounds % 40 == 35)
        run->dropped += colo_channel_drop_frames(run->out);
    if (run->rounds % 10 == 5)
        colo_channel_hold(run->out, run->rounds % 20 == 5);
    if (finished(run))
        colo_loop_quit(run->loop);
    colo_loop_arm(run->loop, &run->step, colo_clock_ns() + 1);
}

static ColoChannel *channel(Run *run, int *other)
{
    int pair[2], small = 20000;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    *other = pair[0];
    return colo_channel_new(run->loop, pair[1], 0, 0, true, false, RING, &ops, run, NULL);
}

static void test_passed_on(gconstpointer data)
{
    Run run = {.by_copy = GPOINTER_TO_INT(data), .loop = colo_loop_new()};

    run.in = channel(&run, &run.source);
    run.out = channel(&run, &run.sink);
    for (int i = 0; i < 2; i++)
        run.pending[i] = g_byte_array_new();
    run.step = (ColoTimer){.due = step, .opaque = &run};
    colo_loop_arm(run.loop, &run.step, 1);
    colo_loop_run(run.loop); /* a frame that is lost without being counted never ends it */
    g_assert_true(finished(&run));
    g_assert_cmpuint(run.heard, >, FRAMES / 10);
    g_assert_cmpuint(run.dropped, >, 0);
    colo_loop_disarm(run.loop, &run.step);
    colo_channel_free(run.in);
    colo_channel_free(run.out);
    colo_loop_free(run.loop);
    for (int i = 0; i < 2; i++)
        g_byte_array_unref(run.pending[i]);
    close(run.source);
    close(run.sink);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/packet-channel/passed-on-in-place", GINT_TO_POINTER(0), test_passed_on);
    g_test_add_data_func("/packet-channel/some-copied", GINT_TO_POINTER(1), test_passed_on);
    return g_test_run();
}
