/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/dial.h"

#include "util/clock.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Unacknowledged data this old ends the connection, so that a dead link frees its queue. The
 * heartbeat is faster; this is for a connection that nobody watches any more. */
#define USER_TIMEOUT_MS 30000u

static int connect_one(const struct addrinfo *ai, unsigned timeout_ms)
{
    int sock =
        socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
    struct pollfd pfd = {.fd = sock, .events = POLLOUT};
    int result = 0, one = 1;
    unsigned user_timeout = USER_TIMEOUT_MS;
    socklen_t len = sizeof(result);

    if (sock < 0)
        return -1;
    if (connect(sock, ai->ai_addr, ai->ai_addrlen) < 0 && errno != EINPROGRESS)
        goto fail;
    if (poll(&pfd, 1, (int)timeout_ms) <= 0) {
        errno = ETIMEDOUT;
        goto fail;
    }
    getsockopt(sock, SOL_SOCKET, SO_ERROR, &result, &len);
    if (result) {
        errno = result;
        goto fail;
    }
    fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) & ~O_NONBLOCK);
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(sock, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
    return sock;
fail:
    result = errno;
    close(sock);
    errno = result;
    return -1;
}

int colo_dial_tcp(const char *host, uint16_t port, unsigned timeout_ms, GError **error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    uint64_t end = colo_clock_ns() + timeout_ms * COLO_NS_PER_MS;
    char service[8];
    int sock = -1, rc, saved = ETIMEDOUT;

    g_snprintf(service, sizeof(service), "%u", port);
    rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, "cannot resolve the peer '%s': %s", host,
                    gai_strerror(rc));
        return -1;
    }
    for (const struct addrinfo *ai = list; ai && sock < 0; ai = ai->ai_next) {
        uint64_t now = colo_clock_ns();

        if (now >= end)
            break;
        sock = connect_one(ai, (unsigned)((end - now) / COLO_NS_PER_MS) + 1);
        saved = errno;
    }
    freeaddrinfo(list);
    if (sock < 0)
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "cannot connect to the data port %s:%u: %s (is colo-comparator.service running "
                    "there, is the port open?)",
                    host, port, g_strerror(saved));
    return sock;
}
