/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The judgements of colo-doctor that need no daemon: each looks at files or sockets that the caller
 * names and adds its findings. Blocking, milliseconds; any thread, a ColoFindings to one at a time.
 */
#pragma once

#include "pair/pki.h"
#include "util/json.h"

typedef struct {
    const char *host;  /* borrowed */
    JsonObject *array; /* the owner's */
} ColoFindings;

/* Adds one finding; @severity "ok", "warning" or "error". */
void colo_doctor_add(ColoFindings *findings, const char *severity, const char *check,
                     const char *fix, const char *format, ...) G_GNUC_PRINTF(5, 6);
#define colo_doctor_ok(findings, check, ...) colo_doctor_add(findings, "ok", check, "", __VA_ARGS__)
#define colo_doctor_bad(findings, severity, check, fix, ...) \
    colo_doctor_add(findings, severity, check, fix, __VA_ARGS__)

/* CA, both certificates and the CRL at @now (seconds since the epoch). */
void colo_doctor_judge_pki(ColoFindings *findings, const ColoTlsConfig *tls, int64_t now);

/* Forward delay, STP and MTU of @bridge below @sys, normally "/sys". */
void colo_doctor_judge_bridge(ColoFindings *findings, const char *sys, const char *bridge);

/* Free bytes of the file system of @folder. */
void colo_doctor_judge_space(ColoFindings *findings, const char *folder, uint64_t least);

/* MemAvailable of @meminfo, a file like proc_meminfo(5). */
void colo_doctor_judge_memory(ColoFindings *findings, const char *meminfo, uint64_t least);

/* TRUE if a TCP connection to @port of this host is accepted within 500 ms. */
gboolean colo_doctor_port_answers(uint16_t port);
