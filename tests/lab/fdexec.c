/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fdexec: systemd's socket activation without systemd, for the lab.
 *
 *   fdexec [-l LOGFILE] [--unix NAME=PATH:MODE]... [--tcp NAME=ADDRESS:PORT]... -- PROGRAM ARG...
 *
 * Binds and listens on each address in order (descriptors 3, 4, ...), sets LISTEN_FDS, LISTEN_PID
 * and LISTEN_FDNAMES (sd_listen_fds(3)), and runs the program in this same process.  A stale unix
 * socket is replaced.  MODE is octal.  Exits 125 with a message when anything fails.
 * (systemd-socket-activate waits for a first connection; this does not.)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3
#define FDS_MAX 16
#define BACKLOG 128

static char names[1024];
static int count;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
    va_list ap;

    fputs("fdexec: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(125);
}

/* Gives fd the next place from FIRST_FD on, under the name in spec before '='. */
static void place(int fd, const char *spec)
{
    size_t used = strlen(names), n = strcspn(spec, "=");

    if (count == FDS_MAX || used + n + 2 > sizeof(names))
        fail("too many sockets");
    if (count > 0)
        names[used++] = ':';
    memcpy(names + used, spec, n);
    names[used + n] = '\0';
    if (fd != FIRST_FD + count) {
        if (dup2(fd, FIRST_FD + count) < 0)
            fail("dup2: %s", strerror(errno));
        close(fd);
    } else if (fcntl(fd, F_SETFD, 0) < 0) {
        fail("fcntl: %s", strerror(errno));
    }
    count++;
}

static void add_unix(const char *spec)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const char *path = strchr(spec, '='), *mode = strrchr(spec, ':');
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (!path || !mode || mode < path || (size_t)(mode - path - 1) >= sizeof(sa.sun_path))
        fail("expected NAME=PATH:MODE, found %s", spec);
    memcpy(sa.sun_path, path + 1, (size_t)(mode - path - 1));
    unlink(sa.sun_path);
    umask(0177);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
        chmod(sa.sun_path, (mode_t)strtoul(mode + 1, NULL, 8)) != 0 || listen(fd, BACKLOG) != 0)
        fail("%s: %s", sa.sun_path, strerror(errno));
    umask(022);
    place(fd, spec);
}

static void add_tcp(const char *spec)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    const char *address = strchr(spec, '='), *port = strrchr(spec, ':');
    char text[64] = "";
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    if (!address || !port || port < address || (size_t)(port - address - 1) >= sizeof(text))
        fail("expected NAME=ADDRESS:PORT, found %s", spec);
    memcpy(text, address + 1, (size_t)(port - address - 1));
    if (inet_pton(AF_INET, text, &sa.sin_addr) != 1)
        fail("not an IPv4 address: %s", text);
    sa.sin_port = htons((uint16_t)atoi(port + 1));
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, BACKLOG) != 0)
        fail("%s: %s", spec, strerror(errno));
    place(fd, spec);
}

int main(int argc, char **argv)
{
    const char *log = NULL;
    char number[16];
    int i;

    for (i = 1; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (i + 1 >= argc)
            fail("%s needs a value", argv[i]);
        if (strcmp(argv[i], "--unix") == 0)
            add_unix(argv[i + 1]);
        else if (strcmp(argv[i], "--tcp") == 0)
            add_tcp(argv[i + 1]);
        else if (strcmp(argv[i], "-l") == 0)
            log = argv[i + 1];
        else
            fail("unknown option %s", argv[i]);
    }
    if (i + 1 >= argc)
        fail("no program given");
    argv += i + 1;

    if (log) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);

        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
            fail("%s: %s", log, strerror(errno));
        if (fd >= FIRST_FD + count || fd < FIRST_FD)
            close(fd);
    }
    snprintf(number, sizeof(number), "%d", count);
    setenv("LISTEN_FDS", number, 1);
    setenv("LISTEN_FDNAMES", names, 1);
    snprintf(number, sizeof(number), "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
    execvp(argv[0], argv);
    fail("%s: %s", argv[0], strerror(errno));
}
