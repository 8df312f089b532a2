/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two QEMUs say in test-comparator-lab.h: the checkpoint protocol, and their frames. */
#include "test-comparator-lab.h"

#include "util/clock.h"
#include "util/fdpass.h"

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void lab_write(int fd, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        ssize_t n;

        g_assert_cmpint(poll(&wait, 1, LAB_WAIT_MS), ==, 1);
        n = send(fd, (const char *)data + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

void lab_read(int fd, void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t n;

        g_assert_cmpint(poll(&wait, 1, LAB_WAIT_MS), ==, 1);
        n = recv(fd, (char *)data + done, len - done, 0);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

static void put_word(int fd, uint32_t word)
{
    uint32_t be = htonl(word);

    lab_write(fd, &be, sizeof(be));
}

static void get_word(int fd, uint32_t word)
{
    uint32_t be;

    lab_read(fd, &be, sizeof(be));
    g_assert_cmpuint(ntohl(be), ==, word);
}

void lab_word_back(Lab *lab, uint32_t word)
{
    put_word(lab->s_migration, word);
    get_word(lab->p_migration, word);
}

void lab_word_there(Lab *lab, uint32_t word)
{
    put_word(lab->p_migration, word);
    get_word(lab->s_migration, word);
}

/* Section 2 of "ram": one page with its block's name, one zero page with CONTINUE. */
static const uint8_t pages_head[] = {3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x10, 0x08, 2, 'r', '0'};
static const uint8_t pages_tail[] = {0,    0,   0,   0,   0, 0, 0x20, 0x22, 0, /* zero page */
                                     0,    0,   0,   0,   0, 0, 0,    0x10,    /* EOS */
                                     0x7e, 0,   0,   0,   2, 0,                /* footer, VM_EOF */
                                     0,    0,   0,   4,   0, 0, 0,    0,    0,
                                     0,    0,   5, /* SIZE, 5 bytes */
                                     4,    'd', 'e', 'v', 0};

/* All of them are sent, @kept of them do not arrive yet. */
static void send_pages(Lab *lab, size_t kept)
{
    uint8_t page[4096], got[sizeof(pages_head) + sizeof(page) + sizeof(pages_tail)];
    uint8_t all[sizeof(got)];

    memset(page, 0x5a, sizeof(page));
    memcpy(all, pages_head, sizeof(pages_head));
    memcpy(all + sizeof(pages_head), page, sizeof(page));
    memcpy(all + sizeof(pages_head) + sizeof(page), pages_tail, sizeof(pages_tail));
    lab_write(lab->p_migration, all, sizeof(all));
    lab_read(lab->s_migration, got, sizeof(got) - kept);
    g_assert_cmpmem(all, sizeof(all) - kept, got, sizeof(got) - kept);
}

void lab_pages(Lab *lab)
{
    send_pages(lab, 0);
}

void lab_pages_kept(Lab *lab)
{
    struct pollfd poll_fd = {.fd = lab->s_migration, .events = POLLIN};

    send_pages(lab, 1);
    g_assert_cmpint(poll(&poll_fd, 1, 50), ==, 0);
}

void lab_pages_end(Lab *lab)
{
    uint8_t last = 1;

    lab_read(lab->s_migration, &last, 1);
    g_assert_cmpuint(last, ==, pages_tail[sizeof(pages_tail) - 1]);
}

void lab_request_checkpoint(Lab *lab)
{
    lab_word_there(lab, COLO_MSG_CHECKPOINT_REQUEST);
}

void lab_checkpoint(Lab *lab)
{
    lab_request_checkpoint(lab);
    lab_word_back(lab, COLO_MSG_CHECKPOINT_REPLY);
    lab_word_there(lab, COLO_MSG_VMSTATE_SEND);
    lab_pages(lab);
    lab_word_back(lab, COLO_MSG_VMSTATE_RECEIVED);
    lab_word_back(lab, COLO_MSG_VMSTATE_LOADED);
}

/* From the secondary's NBD server to the primary's client. */
static void nbd_back(Lab *lab, const void *data, size_t len)
{
    g_autofree uint8_t *got = g_malloc(len);

    lab_write(lab->s_nbd, data, len);
    lab_read(lab->p_nbd, got, len);
    g_assert_cmpmem(data, len, got, len);
}

/* From the primary's client to the secondary's server. */
static void nbd_there(Lab *lab, const void *data, size_t len)
{
    g_autofree uint8_t *got = g_malloc(len);

    lab_write(lab->p_nbd, data, len);
    lab_read(lab->s_nbd, got, len);
    g_assert_cmpmem(data, len, got, len);
}

void lab_nbd_open(Lab *lab)
{
    /* Fixed newstyle; structured replies; the export's size; done (see nbd-replies.h). */
    static const char text[] = "NBDMAGICIHAVEOPT\0\3"
                               "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\x8\0\0\0\1\0\0\0\0"
                               "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\3\0\0\0\xc"
                               "\0\0\0\0\0\0\4\0\0\0\4\xed"
                               "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\0\0\0\1\0\0\0\0";
    static const char asked[] = "\0\0\0\3IHAVEOPT\0\0\0\x8\0\0\0\0"
                                "IHAVEOPT\0\0\0\7\0\0\0\x9\0\0\0\3vda\0\0";

    nbd_back(lab, text, sizeof(text) - 1);
    nbd_there(lab, asked, sizeof(asked) - 1);
}

void lab_nbd_flush(Lab *lab)
{
    static const char text[] = "\x25\x60\x95\x13\0\0\0\3\0\0\0\0\0\0\0\0"
                               "\0\0\0\0\0\0\0\0\0\0\0\0";

    nbd_there(lab, text, sizeof(text) - 1);
}

void lab_nbd_reply(Lab *lab, uint32_t error)
{
    static const uint8_t done[16] = {0x67, 0x44, 0x66, 0x98};
    static const char text[] = "writing to file failed";
    uint8_t failed[20 + 6 + sizeof(text) - 1] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0x80, 1};

    if (error == 0) {
        nbd_back(lab, done, sizeof(done));
        return;
    }
    failed[19] = sizeof(failed) - 20;
    failed[22] = (uint8_t)(error >> 8);
    failed[23] = (uint8_t)error;
    failed[25] = sizeof(text) - 1;
    memcpy(failed + 26, text, sizeof(text) - 1);
    nbd_back(lab, failed, sizeof(failed));
}

void lab_nbd_data(Lab *lab, const void *data, size_t len)
{
    uint8_t head[28] = {0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1};
    uint32_t be = htonl((uint32_t)len + 8);

    memcpy(head + 16, &be, sizeof(be));
    nbd_back(lab, head, sizeof(head));
    nbd_back(lab, data, len);
}

void lab_protect(Lab *lab)
{
    static const char initial[] = "QEVM, and whatever the initial migration is made of";
    char got[sizeof(initial)];

    json_object_put(lab_gate(&lab->s, "paired"));
    lab_write(lab->p_migration, initial, sizeof(initial));
    lab_read(lab->s_migration, got, sizeof(got));
    g_assert_cmpmem(initial, sizeof(initial), got, sizeof(got));
    lab_word_back(lab, COLO_MSG_CHECKPOINT_READY);
    json_object_put(lab_event(&lab->p, "colo-ready"));
    json_object_put(lab_gate(&lab->p, "paired"));
    lab_checkpoint(lab);
    json_object_put(lab_event(&lab->p, "committed"));
    json_object_put(lab_event(&lab->p, "loaded"));
    json_object_put(lab_event(&lab->s, "loaded"));
    lab_forget(&lab->p, "checkpoint-wanted");
}

/* An Ethernet frame with IPv4 (RFC 791) and UDP (RFC 768, checksum 0: none). */
size_t lab_udp(uint8_t *frame, unsigned port, const char *payload)
{
    size_t n = strlen(payload);
    uint8_t *ip = frame + 14, *udp = ip + 20;
    uint32_t sum = 0;

    memset(frame, 0, 42);
    memcpy(frame, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0", 14);
    ip[0] = 0x45;
    ip[2] = (uint8_t)((28 + n) >> 8);
    ip[3] = (uint8_t)(28 + n);
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, "\x0a\0\0\x01\x0a\0\0\x02", 8);
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)ip[i] << 8 | ip[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = (uint8_t)(~sum >> 8);
    ip[11] = (uint8_t)~sum;
    udp[0] = (uint8_t)(port >> 8);
    udp[1] = (uint8_t)port;
    udp[3] = 53;
    udp[4] = (uint8_t)((8 + n) >> 8);
    udp[5] = (uint8_t)(8 + n);
    memcpy(udp + 8, payload, n);
    return 42 + n;
}

void lab_write_frame(int fd, const uint8_t *frame, size_t len)
{
    static const uint8_t vnet[LAB_VNET] = {1, 2, 3, 4};
    uint32_t be = htonl((uint32_t)(len + (lab_vnet ? LAB_VNET : 0)));

    lab_write(fd, &be, sizeof(be));
    if (lab_vnet) {
        be = htonl(LAB_VNET);
        lab_write(fd, &be, sizeof(be));
        lab_write(fd, vnet, sizeof(vnet));
    }
    lab_write(fd, frame, len);
}

ssize_t lab_read_frame(int fd, uint8_t *frame, size_t size, int ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    uint32_t be;
    size_t len;

    if (poll(&wait, 1, ms) <= 0)
        return -1;
    lab_read(fd, &be, sizeof(be));
    len = ntohl(be);
    if (lab_vnet) {
        uint8_t vnet[LAB_VNET];

        lab_read(fd, &be, sizeof(be));
        g_assert_cmpuint(ntohl(be), ==, LAB_VNET);
        lab_read(fd, vnet, sizeof(vnet));
        g_assert_cmpmem(vnet, 4, "\1\2\3\4", 4);
        len -= LAB_VNET;
    }
    g_assert_cmpuint(len, <=, size);
    lab_read(fd, frame, len);
    return (ssize_t)len;
}

void lab_say(int fd, const char *payload)
{
    uint8_t frame[2048];

    lab_write_frame(fd, frame, lab_udp(frame, 4000, payload));
}

void lab_hear(int fd, const char *payload)
{
    uint8_t expected[2048], got[2048];
    size_t len = lab_udp(expected, 4000, payload);
    ssize_t n = lab_read_frame(fd, got, sizeof(got), LAB_WAIT_MS);

    if (n < 0)
        g_test_message("'%s' did not come", payload);
    g_assert_cmpint(n, >, 0);
    g_assert_cmpmem(expected, len, got, (size_t)n);
}

void lab_silent(int fd)
{
    uint8_t got[2048];
    ssize_t n = lab_read_frame(fd, got, sizeof(got), LAB_QUIET_MS);

    if (n > 42)
        g_test_message("came: '%.*s'", (int)n - 42, got + 42);
    g_assert_cmpint(n, ==, -1);
}

bool lab_is_closed(int fd, int ms)
{
    uint64_t end = colo_clock_ns() + (uint64_t)ms * COLO_NS_PER_MS;
    char buffer[4096];

    while (colo_clock_ns() < end) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        if (poll(&wait, 1, 100) > 0 && recv(fd, buffer, sizeof(buffer), 0) <= 0)
            return true;
    }
    return false;
}
