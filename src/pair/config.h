/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * virtcolod.conf: libconfig, in the style of libvirt's own files (`key = value`). The keys and
 * their defaults are described in virtcolod.conf, which is installed as an example.
 */
#pragma once

#include "pair/arbiter.h"
#include "pair/channel.h"
#include "pair/pki.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define COLO_CONFIG_FILE SYSCONFDIR "/libvirt-colo/virtcolod.conf"
#define COLO_DATA_PORT 16515
#define COLO_METRICS_PORT 16517
#define COLO_TLS_PORT 16514 /* LIBVIRTD_TLS_PORT: where clients look for it */

/* All members are set, from the file or by default; strings belong to the structure. */
typedef struct {
    char *host_name;   /* of this host in pairs and registers; gethostname() by default */
    char *listen_addr; /* "" : all addresses */
    uint16_t control_port;
    uint16_t data_port;
    ColoTlsConfig tls;       /* key_file, cert_file, client_key_file, client_cert_file, ca_file,
                              * crl_file, tls_allowed_dn_list */
    ColoHeartbeat heartbeat; /* heartbeat_interval_ms, heartbeat_missed */
    ColoArbiterConfig arbiter;
    bool allow_emulation;                  /* TCG domains may be protected */
    unsigned checkpoint_period_ms;         /* QEMU's x-checkpoint-delay */
    uint64_t checkpoint_max_dirty_bytes;   /* 0: no limit */
    uint64_t checkpoint_max_overlay_bytes; /* 0: no limit */
    bool tcp_rewrite;                      /* new connections need no checkpoint */
    char *state_dir;
    int log_level;             /* LOG_DEBUG..LOG_ERR of syslog(3) */
    char *unix_sock_group;     /* "": root's */
    bool polkit_rw, polkit_ro; /* auth_unix_rw, auth_unix_ro: "polkit" */
    bool listen_tls;           /* colo+tls:// ... */
    uint16_t tls_port;         /* ... here */
    char **tls_clients;        /* fnmatch(3) patterns of its clients' DNs; NULL: any of the CA */
    char *metrics_addr;        /* numeric; loopback by default */
    unsigned metrics_port;     /* 0: no metrics */
} ColoConfig;

/* Reads @path; NULL: COLO_CONFIG_FILE, which may be absent (all defaults). NULL and @error
 * (COLO_ERROR_INVALID_ARG) that names file:line, key, expected and found. */
ColoConfig *colo_config_load(const char *path, GError **error);
void colo_config_free(ColoConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoConfig, colo_config_free)
