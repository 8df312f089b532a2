/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lock/ask.h"

#include "util/bytes.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* As colo-protocol.x and rpc/frame.h have them: libvirtd gets no code of ours but this plugin. */
#define PROGRAM 0x434f4c4fu
#define VERSION 1u
#define PROC_MAY_RUN 5u
#define TYPE_CALL 0u
#define TYPE_REPLY 1u
#define STATUS_OK 0u
#define SERIAL 1u
#define HEADER_BYTES 28u
#define UUID_TEXT 36u

#define BUSY_RETRY_MS 20

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* False with errno at the end of time. */
static bool wait_for(int fd, short events, int64_t end)
{
    struct pollfd p = {.fd = fd, .events = events};
    int64_t left;

    while ((left = end - now_ms()) > 0) {
        int n = poll(&p, 1, (int)left);

        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
    errno = ETIMEDOUT;
    return false;
}

static int connect_to(const char *path, int64_t end)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd, saved;

    if (len >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, len);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno == EAGAIN && now_ms() < end) { /* its queue of connections is full */
            (void)poll(NULL, 0, BUSY_RETRY_MS);
            continue;
        }
        saved = errno == EAGAIN ? ETIMEDOUT : errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static bool send_all(int fd, const uint8_t *data, size_t len, int64_t end)
{
    while (len > 0) {
        ssize_t n;

        if (!wait_for(fd, POLLOUT, end))
            return false;
        n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool receive_all(int fd, uint8_t *data, size_t len, int64_t end)
{
    while (len > 0) {
        ssize_t n;

        if (!wait_for(fd, POLLIN, end))
            return false;
        n = recv(fd, data, len, 0);
        if (n == 0) {
            errno = ECONNRESET;
            return false;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static size_t make_call(uint8_t *call, const char *uuid)
{
    const uint32_t words[] = {HEADER_BYTES + 4 + UUID_TEXT,
                              PROGRAM,
                              VERSION,
                              PROC_MAY_RUN,
                              TYPE_CALL,
                              SERIAL,
                              STATUS_OK,
                              UUID_TEXT};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        colo_put32(call + 4 * i, words[i]);
    memcpy(call + sizeof(words), uuid, UUID_TEXT);
    return sizeof(words) + UUID_TEXT;
}

/* bool may; bool replicated; string reason<> */
static bool read_body(const uint8_t *body, size_t len, ColoLockAnswer *answer)
{
    uint32_t n;

    if (len < 12)
        return false;
    n = colo_get32(body + 8);
    if (colo_get32(body) > 1 || colo_get32(body + 4) > 1 || n >= COLO_LOCK_REASON_MAX ||
        len != 12 + ((size_t)n + 3) / 4 * 4)
        return false;
    answer->may = colo_get32(body);
    answer->replicated = colo_get32(body + 4);
    memcpy(answer->reason, body + 12, n);
    answer->reason[n] = '\0';
    return true;
}

static bool exchange(int fd, const char *uuid, ColoLockAnswer *answer, int64_t end)
{
    uint8_t call[HEADER_BYTES + 4 + UUID_TEXT], reply[HEADER_BYTES + 12 + COLO_LOCK_REASON_MAX];
    uint32_t len;

    if (!send_all(fd, call, make_call(call, uuid), end) || !receive_all(fd, reply, 4, end))
        return false;
    len = colo_get32(reply);
    errno = EPROTO;
    if (len < HEADER_BYTES || len > sizeof(reply))
        return false;
    if (!receive_all(fd, reply + 4, len - 4, end))
        return false;
    errno = EPROTO;
    return colo_get32(reply + 4) == PROGRAM && colo_get32(reply + 12) == PROC_MAY_RUN &&
           colo_get32(reply + 16) == TYPE_REPLY && colo_get32(reply + 20) == SERIAL &&
           colo_get32(reply + 24) == STATUS_OK &&
           read_body(reply + HEADER_BYTES, len - HEADER_BYTES, answer);
}

bool colo_lock_ask(const char *socket_path, const char *uuid, ColoLockAnswer *answer)
{
    int64_t end = now_ms() + COLO_LOCK_ASK_MS;
    int fd = -1;
    bool answered;

    memset(answer, 0, sizeof(*answer));
    errno = EINVAL;
    answered = strlen(uuid) == UUID_TEXT && (fd = connect_to(socket_path, end)) >= 0 &&
               exchange(fd, uuid, answer, end);
    if (!answered)
        snprintf(answer->reason, sizeof(answer->reason), "%s: %s", socket_path,
                 errno == ETIMEDOUT ? "no answer within a second" : strerror(errno));
    if (fd >= 0)
        close(fd);
    return answered;
}
