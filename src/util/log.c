/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"

#include "util/clock.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A longer line than poll(2)'s promise for a pipe (PIPE_BUF) could wait for its reader. */
#define LINE_MAX_BYTES 4096u

static const char *program = "libvirt-colo";
static int max_level = LOG_INFO;
static const char *journal_path = "/run/systemd/journal/socket";
static int journal_fd = -1;
static gboolean journal_connected;
static gint lost; /* atomic: messages since the last one that was taken */

/* True when standard error is the stream that systemd named in JOURNAL_STREAM
 * (systemd.exec(5), "dev:inode"). */
static gboolean stderr_is_journal(void)
{
    const char *stream = g_getenv("JOURNAL_STREAM");
    unsigned long long dev, ino;
    struct stat st;

    if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2 || fstat(STDERR_FILENO, &st) < 0)
        return FALSE;
    return st.st_dev == dev && st.st_ino == ino;
}

void colo_log_init(const char *name, int level)
{
    program = name;
    max_level = level;
    if (journal_fd < 0 && stderr_is_journal())
        journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

void colo_log_set_journal(const char *path)
{
    journal_path = path;
}

static struct sockaddr_un journal_address(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    g_strlcpy(address.sun_path, journal_path, sizeof(address.sun_path));
    return address;
}

void colo_log_connect(void)
{
    struct sockaddr_un address = journal_address();

    journal_connected =
        journal_fd >= 0 && connect(journal_fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

void colo_log_set_level(int level)
{
    max_level = level;
}

/* A field of the journal's native protocol, in the form that any text fits. */
static void add_field(GString *message, const char *key, const char *value)
{
    guint64 length = GUINT64_TO_LE((guint64)strlen(value));

    g_string_append(message, key);
    g_string_append_c(message, '\n');
    g_string_append_len(message, (const char *)&length, sizeof(length));
    g_string_append(message, value);
    g_string_append_c(message, '\n');
}

/* sd_journal_send() would wait for a journal that hangs.
 * #syscalls sendto */
static gboolean send_to_journal(const ColoLogContext *about, int priority, const char *func,
                                const char *text)
{
    struct sockaddr_un address = journal_address();
    g_autoptr(GString) message = g_string_new(NULL);
    g_autofree char *line = g_strconcat(about->domain, *about->domain ? ": " : "", text, NULL);

    g_string_printf(message, "PRIORITY=%d\nCOLO_GENERATION=%" G_GUINT64_FORMAT "\n", priority,
                    about->generation);
    add_field(message, "MESSAGE", line);
    add_field(message, "SYSLOG_IDENTIFIER", program);
    add_field(message, "CODE_FUNC", func);
    add_field(message, "COLO_DOMAIN", about->domain);
    add_field(message, "COLO_UUID", about->uuid);
    return sendto(journal_fd, message->str, message->len, MSG_DONTWAIT | MSG_NOSIGNAL,
                  journal_connected ? NULL : (struct sockaddr *)&address,
                  journal_connected ? 0 : sizeof(address)) >= 0;
}

/* #syscalls poll ppoll write getpid */
static gboolean write_line(const ColoLogContext *about, int priority, const char *text)
{
    static const char *const words[] = {"emerg",   "alert",  "crit", "error",
                                        "warning", "notice", "info", "debug"};
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    g_autoptr(GString) line = g_string_new(NULL);
    uint64_t now = colo_clock_real_ns();

    g_string_printf(line, "%" G_GUINT64_FORMAT ".%06u %s[%d] %s: ", now / COLO_NS_PER_SEC,
                    (unsigned)(now % COLO_NS_PER_SEC / 1000), program, (int)getpid(),
                    words[priority & 7]);
    if (*about->domain || *about->uuid)
        g_string_append_printf(line, "%s gen %" G_GUINT64_FORMAT ": ",
                               *about->domain ? about->domain : about->uuid, about->generation);
    g_string_append(line, text);
    g_string_truncate(line, MIN(line->len, LINE_MAX_BYTES - 1));
    g_string_append_c(line, '\n');
    /* One write a line, so that lines of threads and processes do not mix. */
    return poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) &&
           write(STDERR_FILENO, line->str, line->len) >= 0;
}

static gboolean put(const ColoLogContext *about, int priority, const char *func, const char *text)
{
    return journal_fd >= 0 ? send_to_journal(about, priority, func, text)
                           : write_line(about, priority, text);
}

gboolean colo_log_limit(ColoLogLimit *limit, uint64_t now_ns, unsigned *left_out)
{
    if (now_ns - limit->since_ns >= limit->seconds * COLO_NS_PER_SEC) {
        limit->since_ns = now_ns;
        limit->said = 0;
    }
    if (limit->said >= limit->lines) {
        limit->left_out++;
        return FALSE;
    }
    limit->said++;
    *left_out = limit->left_out;
    limit->left_out = 0;
    return TRUE;
}

void colo_log_full(const ColoLogContext *about, int priority, const char *func, const char *format,
                   ...)
{
    const ColoLogContext named = {about && about->domain ? about->domain : "",
                                  about && about->uuid ? about->uuid : "",
                                  about ? about->generation : 0};
    g_autofree char *text = NULL;
    va_list args;
    gint missing;

    if (priority > max_level)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    missing = g_atomic_int_get(&lost);
    if (missing > 0) {
        static const ColoLogContext nothing = {"", "", 0};
        g_autofree char *gap = g_strdup_printf("%d messages were lost: nobody took them", missing);

        if (put(&nothing, LOG_WARNING, __func__, gap))
            g_atomic_int_add(&lost, -missing);
    }
    if (!put(&named, priority, func, text))
        g_atomic_int_inc(&lost);
}
