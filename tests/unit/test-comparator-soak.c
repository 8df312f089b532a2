/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two helpers under flows that come and go: their memory and descriptors do not grow.
 *   COLO_SOAK_SECONDS=600 tests/unit/test-comparator-soak     (10 s without it)
 *
 * Connections with data both copies agree on, some whose answers differ, datagrams, mirrored input;
 * a checkpoint after each batch. What is bounded is used up first: twice as many flows as the table
 * holds. What the processes take then is what they may take.
 */
#include "test-comparator-lab.h"
#include "test-compare-frames.h"

#include "util/clock.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 500u          /* flows between two checkpoints */
#define DIFFERENT 20u       /* one of so many answers differs */
#define SAMPLES 20u         /* in the measured time */
#define HEAD 8u             /* be32 length, be32 vnet header length */
#define BUFFER (8u << 20)   /* what one batch makes a side */
#define SLACK_KB 1024u      /* what allocators may move about; a few bytes leaked a flow are more */
#define SECONDS_DEFAULT 10u /* 600 before a release */

/* Bytes for one of QEMU's ends, and how far they are written. */
typedef struct {
    int fd;
    uint8_t *data;
    size_t len, done;
} Out;

typedef struct {
    Lab lab;
    Out p_out, s_out, mirror;
    uint64_t flows, released_bytes, input_bytes;
    GRand *random;
} Soak;

static void add(Out *out, const uint8_t *frame, size_t len)
{
    g_assert_cmpuint(out->len + HEAD + len, <=, BUFFER);
    put32(out->data + out->len, (uint32_t)len);
    put32(out->data + out->len + 4, VNET);
    memcpy(out->data + out->len + HEAD, frame, len);
    out->len += HEAD + len;
}

/* The client's address is the flow's number, so that no two are one flow. */
static void address(uint8_t *frame, uint64_t flow)
{
    put32(frame + IP_AT + 16, (uint32_t)flow);
}

static void say(Soak *soak, gboolean primary, uint64_t flow, const Segment *segment)
{
    static uint8_t frame[4096];
    size_t len = put_tcp(frame, segment);

    address(frame, flow);
    add(primary ? &soak->p_out : &soak->s_out, frame, len);
}

/* A connection from SYN-ACK to FIN, as its two copies say it: other initial sequence numbers, other
 * segmentation, and now and then another answer. */
static void add_connection(Soak *soak, uint64_t flow)
{
    static uint8_t answer[1400], other[1400];
    uint32_t p = g_rand_int(soak->random), len = 1 + g_rand_int(soak->random) % 1300,
             half = len / 2;
    uint32_t s = g_rand_int(soak->random) % 8 == 0 ? g_rand_int(soak->random) : p;
    gboolean differs = flow % DIFFERENT == 0;

    memset(other, differs ? 'x' : 0, sizeof(other));
    for (int side = 0; side < 2; side++) {
        uint32_t seq = side == 0 ? p : s;
        const uint8_t *text = side == 0 ? answer : other;
        gboolean primary = side == 0;

        say(soak, primary, flow,
            &(Segment){.seq = seq,
                       .ack = 1001,
                       .flags = SYN | ACK,
                       .window = 64000,
                       .options = SYN_OPTIONS("\1", "\7"),
                       .options_len = 20});
        if (primary) {
            say(soak, primary, flow,
                &(Segment){.seq = seq + 1,
                           .ack = 1101,
                           .flags = ACK,
                           .window = 500,
                           .data = text,
                           .len = len});
        } else {
            say(soak, primary, flow,
                &(Segment){.seq = seq + 1,
                           .ack = 1101,
                           .flags = ACK,
                           .window = 500,
                           .data = text,
                           .len = half});
            say(soak, primary, flow,
                &(Segment){.seq = seq + 1 + half,
                           .ack = 1101,
                           .flags = ACK,
                           .window = 500,
                           .data = text + half,
                           .len = len - half});
        }
        say(soak, primary, flow,
            &(Segment){.seq = seq + 1 + len, .ack = 1102, .flags = FIN | ACK, .window = 500});
    }
}

static void add_datagram(Soak *soak, uint64_t flow)
{
    uint8_t frame[256];
    size_t len = put_udp(frame, 53, "an answer", 9);

    address(frame, flow);
    add(&soak->p_out, frame, len);
    add(&soak->s_out, frame, len);
    add(&soak->mirror, frame, len);
}

/* Writes and reads until all is written, and no released frame or mirrored input waits. */
static void carry(Soak *soak)
{
    static uint8_t heard[1 << 20];
    Out *outs[] = {&soak->p_out, &soak->s_out, &soak->mirror};
    uint64_t end = colo_clock_ns() + 2 * LAB_WAIT_MS * COLO_NS_PER_MS;

    for (;;) {
        struct pollfd polls[5] = {{soak->lab.p_release, POLLIN, 0}, {soak->lab.s_in, POLLIN, 0}};
        gboolean more = FALSE;

        for (int i = 0; i < 3; i++) {
            gboolean left = outs[i]->done < outs[i]->len;

            polls[2 + i] = (struct pollfd){outs[i]->fd, left ? POLLOUT : 0, 0};
            more = more || left;
        }
        g_assert_cmpuint(colo_clock_ns(), <, end); /* I4: it reads always */
        if (poll(polls, 5, more ? 1000 : 0) == 0 && !more)
            return;
        for (int i = 0; i < 2; i++) {
            ssize_t n =
                polls[i].revents ? recv(polls[i].fd, heard, sizeof(heard), MSG_DONTWAIT) : 0;

            g_assert_true(n > 0 || polls[i].revents == 0);
            *(i == 0 ? &soak->released_bytes : &soak->input_bytes) += (uint64_t)n;
        }
        for (int i = 0; i < 3; i++) {
            ssize_t n;

            if (!(polls[2 + i].revents & POLLOUT))
                continue;
            n = send(outs[i]->fd, outs[i]->data + outs[i]->done, outs[i]->len - outs[i]->done,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
            g_assert_true(n > 0 || errno == EAGAIN);
            outs[i]->done += n > 0 ? (size_t)n : 0;
        }
    }
}

static void batch(Soak *soak)
{
    soak->p_out.len = soak->s_out.len = soak->mirror.len = 0;
    soak->p_out.done = soak->s_out.done = soak->mirror.done = 0;
    for (unsigned i = 0; i < BATCH; i++, soak->flows++) {
        if (soak->flows % 4 == 0)
            add_datagram(soak, soak->flows);
        else
            add_connection(soak, soak->flows);
    }
    carry(soak);
    lab_checkpoint(&soak->lab);
    carry(soak);
    lab_forget(&soak->lab.p, NULL);
    lab_forget(&soak->lab.s, NULL);
}

static uint64_t resident_kb(const LabHelper *helper)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", (int)helper->pid);
    g_autofree char *text = NULL;
    const char *second;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    second = strchr(text, ' ');
    g_assert_nonnull(second);
    return strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static unsigned descriptors(const LabHelper *helper)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)helper->pid);
    DIR *dir = opendir(path);
    unsigned n = 0;

    g_assert_nonnull(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static uint64_t flow_limit(LabHelper *helper)
{
    g_autoptr(JsonObject) stats = lab_request(helper, "stats", lab_about(), -1);

    return colo_json_peek_uint(colo_json_peek(stats, "limits"), "flows", 0);
}

static void soak_start(Soak *soak)
{
    Out *outs[] = {&soak->p_out, &soak->s_out, &soak->mirror};

    memset(soak, 0, sizeof(*soak));
    lab_up(&soak->lab);
    lab_protect(&soak->lab);
    soak->p_out.fd = soak->lab.p_out;
    soak->s_out.fd = soak->lab.s_out;
    soak->mirror.fd = soak->lab.p_mirror;
    for (int i = 0; i < 3; i++)
        outs[i]->data = g_malloc(BUFFER);
    soak->random = g_rand_new_with_seed(42);
}

static void soak_end(Soak *soak)
{
    g_free(soak->p_out.data);
    g_free(soak->s_out.data);
    g_free(soak->mirror.data);
    g_rand_free(soak->random);
    lab_down(&soak->lab);
}

/* The most that either helper took in a part of the samples, kB. */
static uint64_t most(const uint64_t *samples, unsigned from, unsigned to)
{
    uint64_t found = 0;

    for (unsigned i = from; i < to; i++)
        found = MAX(found, samples[i]);
    return found;
}

static void test_nothing_grows(void)
{
    const char *text = g_getenv("COLO_SOAK_SECONDS");
    unsigned seconds = text ? (unsigned)atoi(text) : SECONDS_DEFAULT, fds[2];
    LabHelper *helpers[2];
    uint64_t kb[2][SAMPLES], start, first, refused;
    Soak soak;

    soak_start(&soak);
    helpers[0] = &soak.lab.p;
    helpers[1] = &soak.lab.s;
    while (soak.flows < 2 * flow_limit(helpers[0]))
        batch(&soak);
    first = soak.flows;
    refused = lab_counter(helpers[0], "full-flows");
    for (int i = 0; i < 2; i++)
        fds[i] = descriptors(helpers[i]);
    start = colo_clock_ns();
    for (unsigned i = 0; i < SAMPLES; i++) {
        do
            batch(&soak);
        while (colo_clock_ns() - start < (i + 1) * seconds * COLO_NS_PER_SEC / SAMPLES);
        for (int h = 0; h < 2; h++)
            kb[h][i] = resident_kb(helpers[h]);
    }
    for (int h = 0; h < 2; h++) {
        uint64_t before = most(kb[h], 0, SAMPLES / 2), after = most(kb[h], SAMPLES / 2, SAMPLES);

        g_test_message("figure soak %s: %" G_GUINT64_FORMAT " flows in %u s; kB resident at most "
                       "%" G_GUINT64_FORMAT " in the first half, %" G_GUINT64_FORMAT
                       " in the second; descriptors %u",
                       h == 0 ? "primary" : "secondary", soak.flows - first, seconds, before, after,
                       fds[h]);
        g_assert_cmpuint(after, <=, before + SLACK_KB);
        g_assert_cmpuint(descriptors(helpers[h]), ==, fds[h]);
    }
    g_assert_cmpuint(soak.released_bytes, >, 0);
    g_assert_cmpuint(soak.input_bytes, >, 0);
    g_assert_cmpuint(lab_counter(helpers[0], "released-equal"), >, 0);
    g_assert_cmpuint(lab_counter(helpers[0], "released-commit"), >, 0);
    g_assert_cmpuint(lab_counter(helpers[0], "full-flows"), ==, refused);
    soak_end(&soak);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    lab_vnet = TRUE;
    g_test_add_func("/comparator/soak/nothing-grows", test_nothing_grows);
    return g_test_run();
}
