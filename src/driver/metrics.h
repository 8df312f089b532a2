/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GET /metrics: what colo-list and colo-stats say, in Prometheus' text format (version 0.0.4), by
 * libmicrohttpd on a thread of its own. No TLS and no authentication: loopback by default, where it
 * tells no more than the read-only socket. A scrape asks colo-comparator for each domain's
 * counters.
 *
 *   libvirt_colo_domain_info{domain,uuid,pair,role,state}  1
 *   libvirt_colo_generation{domain}
 *   libvirt_colo_committed_epoch{domain}
 *   libvirt_colo_pause_seconds{domain,quantile}   of the last checkpoints
 *   libvirt_colo_held_bytes{domain}, _held_frames, _held_limit_bytes
 *   libvirt_colo_peer_silence_seconds{domain}     since the peer's comparator was heard
 *   libvirt_colo_skew_seconds{domain,kind}        mean, deviation, limit: how far the copies are
 * apart libvirt_colo_events_total{domain,event}       each counter of colo-stats
 */
#pragma once

#include "util/json.h"

#include <stdint.h>

/* Scrapers at a time, and how long one may take to say what it wants. */
#define COLO_METRICS_CLIENTS 16u
#define COLO_METRICS_TIMEOUT_S 10u

typedef struct ColoMetrics ColoMetrics;

/* Serves @address (numeric) and @port (0: any that is free). @command as in driver.h: it is asked
 * colo-list and colo-stats. NULL and @error. */
ColoMetrics *colo_metrics_new(const char *address, uint16_t port,
                              JsonObject *(*command)(const char *command, JsonObject *args,
                                                     void *opaque, GError **error),
                              void *opaque, GError **error);
uint16_t colo_metrics_port(const ColoMetrics *metrics);
/* Waits for a scrape that runs. NULL is allowed. */
void colo_metrics_free(ColoMetrics *metrics);
