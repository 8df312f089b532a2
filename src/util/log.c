/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"

#include "util/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <systemd/sd-journal.h>

static const char *program = "libvirt-colo";
static int max_level = LOG_INFO;
static gboolean to_journal;

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
    to_journal = stderr_is_journal();
}

void colo_log_set_level(int level)
{
    max_level = level;
}

void colo_log_full(const ColoLogContext *about, int priority, const char *func, const char *format,
                   ...)
{
    static const char *const words[] = {"emerg",   "alert",  "crit", "error",
                                        "warning", "notice", "info", "debug"};
    g_autofree char *text = NULL;
    va_list args;
    const char *domain = about && about->domain ? about->domain : "";
    const char *uuid = about && about->uuid ? about->uuid : "";
    uint64_t generation = about ? about->generation : 0;

    if (priority > max_level)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);

    if (to_journal) {
        sd_journal_send("MESSAGE=%s%s%s", domain, *domain ? ": " : "", text, "PRIORITY=%d",
                        priority, "SYSLOG_IDENTIFIER=%s", program, "CODE_FUNC=%s", func,
                        "COLO_DOMAIN=%s", domain, "COLO_UUID=%s", uuid,
                        "COLO_GENERATION=%" G_GUINT64_FORMAT, generation, NULL);
        return;
    }

    g_autoptr(GString) line = g_string_new(NULL);
    uint64_t now = colo_clock_real_ns();

    g_string_printf(line, "%" G_GUINT64_FORMAT ".%06u %s[%d] %s: ", now / COLO_NS_PER_SEC,
                    (unsigned)(now % COLO_NS_PER_SEC / 1000), program, (int)getpid(),
                    words[priority & 7]);
    if (*domain || *uuid)
        g_string_append_printf(line, "%s gen %" G_GUINT64_FORMAT ": ", *domain ? domain : uuid,
                               generation);
    g_string_append(line, text);
    g_string_append_c(line, '\n');
    /* One write a line, so that lines of threads and processes do not mix. */
    ssize_t ignored = write(STDERR_FILENO, line->str, line->len);
    (void)ignored;
}
