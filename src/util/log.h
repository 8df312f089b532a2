/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Logging: to the journal with the fields COLO_DOMAIN, COLO_UUID and COLO_GENERATION when standard
 * error is the journal, else one line a message on standard error. Any thread. Never waits for a
 * reader that hangs (I4): what is not taken at once is lost, counted, and its number told later.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <syslog.h>

/* What a message is about; every member may be empty. */
typedef struct {
    const char *domain;  /* libvirt name, or NULL */
    const char *uuid;    /* or NULL */
    uint64_t generation; /* 0: none */
} ColoLogContext;

/* Sets the program name of every line and the least urgent priority (LOG_DEBUG..LOG_ERR) shown. */
void colo_log_init(const char *program, int max_priority);

/* Another socket than systemd-journald's (tests). @path is kept. */
void colo_log_set_journal(const char *path);

/* Connects to the journal for good, for a program that is about to lose sight of its path. systemd
 * itself holds that socket: it outlives the journal's daemon. */
void colo_log_connect(void);

/* Changes the least urgent priority shown. */
void colo_log_set_level(int max_priority);

/* Of messages that others can cause at will: so many in so many seconds. */
typedef struct {
    unsigned lines, seconds;
    uint64_t since_ns;
    unsigned said, left_out;
} ColoLogLimit;

/* TRUE: one more may be said at @now_ns, and *left_out were not since the last that was. The caller
 * has the lock that @limit needs. */
gboolean colo_log_limit(ColoLogLimit *limit, uint64_t now_ns, unsigned *left_out);

void colo_log_full(const ColoLogContext *about, int priority, const char *func, const char *format,
                   ...) G_GNUC_PRINTF(4, 5);

#define colo_debug(...) colo_log_full(NULL, LOG_DEBUG, __func__, __VA_ARGS__)
#define colo_info(...) colo_log_full(NULL, LOG_INFO, __func__, __VA_ARGS__)
#define colo_warn(...) colo_log_full(NULL, LOG_WARNING, __func__, __VA_ARGS__)
#define colo_err(...) colo_log_full(NULL, LOG_ERR, __func__, __VA_ARGS__)
