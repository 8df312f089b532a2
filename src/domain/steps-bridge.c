/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/steps-bridge.h"

#include "util/error.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define QUARANTINE_PREFIX "colo-q"
#define ANSWER_MAX 16384   /* RTM_GETLINK answers with all attributes of one link: about 2 KB */
#define ANSWER_TIMEOUT_S 5 /* the kernel answers within the call; a guard against a bug */

/* A request in the making; attributes are appended. Ours are below 200 bytes. */
typedef struct {
    struct nlmsghdr header;
    struct ifinfomsg info;
    char attributes[512];
} Request;

static void request_init(Request *request, uint16_t type, uint16_t flags)
{
    memset(request, 0, sizeof(*request));
    request->header.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
    request->header.nlmsg_type = type;
    request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request->info.ifi_family = AF_UNSPEC;
}

/* Appends one attribute; returns it, so that a nest can be closed. */
static struct rtattr *put(Request *request, uint16_t type, const void *data, size_t len)
{
    size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
    struct rtattr *attr = (struct rtattr *)((char *)request + at);

    g_return_val_if_fail(at + RTA_SPACE(len) <= sizeof(*request), NULL);
    attr->rta_type = type;
    attr->rta_len = RTA_LENGTH(len);
    if (len)
        memcpy(RTA_DATA(attr), data, len);
    request->header.nlmsg_len = at + RTA_LENGTH(len);
    return attr;
}

static void close_nest(Request *request, struct rtattr *nest)
{
    nest->rta_len = (char *)request + request->header.nlmsg_len - (char *)nest;
}

/*
 * Sends @request and reads the answer: 0, or a negative errno of the kernel or the socket. With
 * @answer the first non-error message is copied there (@size bytes at most).
 */
static int talk(Request *request, void *answer, size_t size)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
    int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    _Alignas(struct nlmsghdr) char buffer[ANSWER_MAX];
    gboolean done = FALSE;
    int rc = 0;

    if (sock < 0)
        return -errno;
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    request->header.nlmsg_seq = 1;
    if (sendto(sock, request, request->header.nlmsg_len, 0, (struct sockaddr *)&kernel,
               sizeof(kernel)) < 0)
        rc = -errno;
    while (rc == 0 && !done) {
        ssize_t n = recv(sock, buffer, sizeof(buffer), 0);
        size_t left = n > 0 ? (size_t)n : 0;

        if (n < 0) {
            rc = errno == EINTR ? 0 : -errno;
            continue;
        }
        if (n == 0)
            rc = -EPIPE;
        for (struct nlmsghdr *m = (struct nlmsghdr *)buffer; NLMSG_OK(m, left);
             m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type == NLMSG_ERROR) {
                rc = ((struct nlmsgerr *)NLMSG_DATA(m))->error;
                done = TRUE;
            } else if (answer) {
                memcpy(answer, m, MIN(m->nlmsg_len, size));
            }
        }
    }
    close(sock);
    return rc;
}

/* Index of @link, or 0 with @error. */
static unsigned index_of(const char *link, GError **error)
{
    unsigned index = if_nametoindex(link);

    if (index == 0)
        colo_error_set_errno(error, errno, "network interface '%s'", link);
    return index;
}

char *colo_bridge_quarantine_name(const char *uuid, const char *alias)
{
    g_autofree char *text = g_strconcat(uuid, "/", alias, NULL);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);

    return g_strdup_printf(QUARANTINE_PREFIX "%.8s", hash);
}

/* Attribute @type among @len bytes from @attr on, or NULL. */
static const struct rtattr *find(const struct rtattr *attr, int len, uint16_t type)
{
    for (; RTA_OK(attr, len); attr = RTA_NEXT(attr, len)) {
        if (attr->rta_type == type)
            return attr;
    }
    return NULL;
}

/* An answer to RTM_GETLINK; the attributes lie in it. */
typedef struct {
    struct nlmsghdr header;
    char rest[ANSWER_MAX];
} Answer;

/* Asks for the link @index and finds its attribute @type: 0 with @attr set or NULL, or -errno. */
static int query_link(unsigned index, Answer *answer, uint16_t type, const struct rtattr **attr)
{
    Request request;
    int rc;

    memset(answer, 0, sizeof(answer->header) + sizeof(struct ifinfomsg));
    request_init(&request, RTM_GETLINK, 0);
    request.info.ifi_index = (int)index;
    rc = talk(&request, answer, sizeof(*answer));
    if (rc == 0 && answer->header.nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        rc = -EPROTO;
    if (rc == 0)
        *attr =
            find(IFLA_RTA(NLMSG_DATA(&answer->header)),
                 (int)(answer->header.nlmsg_len - NLMSG_LENGTH(sizeof(struct ifinfomsg))), type);
    return rc;
}

/* TRUE when the link @name is a bridge. */
static gboolean is_bridge(const char *name)
{
    unsigned index = if_nametoindex(name);
    const struct rtattr *info = NULL, *kind;
    Answer answer;

    if (index == 0 || query_link(index, &answer, IFLA_LINKINFO, &info) < 0 || !info)
        return FALSE;
    kind = find(RTA_DATA(info), (int)RTA_PAYLOAD(info), IFLA_INFO_KIND);
    return kind && strcmp(RTA_DATA(kind), "bridge") == 0;
}

gboolean colo_bridge_create(const char *name, GError **error)
{
    Request request;
    struct rtattr *info, *data;
    uint32_t zero = 0;
    int rc;

    request_init(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    put(&request, IFLA_IFNAME, name, strlen(name) + 1);
    info = put(&request, IFLA_LINKINFO, NULL, 0);
    put(&request, IFLA_INFO_KIND, "bridge", sizeof("bridge"));
    data = put(&request, IFLA_INFO_DATA, NULL, 0);
    put(&request, IFLA_BR_FORWARD_DELAY, &zero, sizeof(zero));
    put(&request, IFLA_BR_STP_STATE, &zero, sizeof(zero));
    close_nest(&request, data);
    close_nest(&request, info);
    rc = talk(&request, NULL, 0);
    if (rc == 0)
        return TRUE;
    if (rc != -EEXIST) {
        colo_error_set_errno(error, -rc, "cannot create bridge '%s'", name);
        return FALSE;
    }
    if (!is_bridge(name)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                    "cannot create bridge '%s': a link of that name exists and is no bridge", name);
        return FALSE;
    }
    return TRUE;
}

gboolean colo_bridge_delete(const char *name, GError **error)
{
    Request request;
    int rc;

    if (!g_str_has_prefix(name, QUARANTINE_PREFIX)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "bridge '%s' is no quarantine bridge ('" QUARANTINE_PREFIX "*'), not deleted",
                    name);
        return FALSE;
    }
    request_init(&request, RTM_DELLINK, 0);
    request.info.ifi_index = (int)if_nametoindex(name);
    if (request.info.ifi_index == 0)
        return TRUE;
    rc = talk(&request, NULL, 0);
    if (rc < 0 && rc != -ENODEV) {
        colo_error_set_errno(error, -rc, "cannot delete bridge '%s'", name);
        return FALSE;
    }
    return TRUE;
}

gboolean colo_bridge_set_master(const char *port, const char *bridge, GError **error)
{
    Request request;
    uint32_t master = 0;
    int rc;

    request_init(&request, RTM_SETLINK, 0);
    request.info.ifi_index = (int)index_of(port, error);
    if (request.info.ifi_index == 0 || (bridge && !(master = index_of(bridge, error))))
        return FALSE;
    put(&request, IFLA_MASTER, &master, sizeof(master));
    rc = talk(&request, NULL, 0);
    if (rc < 0) {
        colo_error_set_errno(error, -rc, "cannot move '%s' to %s%s", port,
                             bridge ? "bridge " : "no bridge", bridge ? bridge : "");
        return FALSE;
    }
    return TRUE;
}

char *colo_bridge_get_master(const char *port, GError **error)
{
    unsigned index = index_of(port, error);
    const struct rtattr *master = NULL;
    char name[IF_NAMESIZE];
    Answer answer;
    int rc;

    if (index == 0)
        return NULL;
    rc = query_link(index, &answer, IFLA_MASTER, &master);
    if (rc < 0) {
        colo_error_set_errno(error, -rc, "cannot query '%s'", port);
        return NULL;
    }
    return master ? g_strdup(if_indextoname(*(uint32_t *)RTA_DATA(master), name)) : NULL;
}
