/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What colo:/// changes in libvirt's own calls (design section 1, I7):
 * - calls that COLO cannot bear are refused for domains under it, or interrupt the protection until
 *   they are done and the guest runs again (policy.h): after libvirt was asked whether the client
 *   may see the domain and change it, for a refusal says what state it is in and where;
 * - a migration of a protected domain to its peer is a switchover (switchover.h);
 * - autostart is virtcolod's for domains that it has; a declaration in metadata (door 3,
 *   domain/declaration.h) that is no good is refused;
 * - door 2: virDomainQemuMonitorCommand() with {"execute": "colo-status"}, or a line "colo-status"
 *   of HMP, runs our command and never reaches QEMU;
 * - virsh capabilities and domcapabilities say that there is COLO, and with which hosts;
 * - virsh domstats says colo.state and more of it;
 * - the copy of a guest that runs on the peer is not listed;
 * - that checkpoints stop the guest for some ms is not told to clients, nor seen as its state.
 * Everything else passes.
 */
#pragma once

#include "rpc/relay.h"
#include "util/json.h"

typedef struct ColoDriver ColoDriver;

typedef struct {
    /* What is known of the domain of that UUID or name (colo_domain_view()), the caller's; NULL:
     * nothing. Never blocks; any thread. */
    JsonObject *(*view)(const char *uuid_or_name, void *opaque);
    /* {"pairs": [{"name", "peer", "state"}, ...]} of this host, the caller's. Never blocks; any
     * thread. */
    JsonObject *(*pairs)(void *opaque);
    /* Runs a command of rpc/command-table.h; may take long. Several threads at once. */
    JsonObject *(*command)(const char *command, JsonObject *args, void *opaque, GError **error);
    /* What colo-stats says of a domain, as far as it is known in a short time, the caller's; NULL:
     * nothing. */
    JsonObject *(*figures)(const char *uuid, void *opaque);
    /* Interrupts the protection of the domain for @call until release(), which must follow TRUE.
     * May take long. */
    gboolean (*hold)(const char *uuid, const char *call, void *opaque, GError **error);
    void (*release)(const char *uuid, void *opaque);
    /* What virDomainMigrate() sends to the destination (VIR_DOMAIN_XML_MIGRATABLE, without secrets:
     * the right to them is another than that to migrate), the caller's;
     * and libvirt's id of the run, -1: it does not run. Both block. */
    char *(*migratable_xml)(const char *uuid, void *opaque, GError **error);
    int (*domain_id)(const char *uuid, void *opaque);
    gboolean (*set_autostart)(const char *uuid, gboolean on, void *opaque, GError **error);
    void *opaque;
} ColoDriverHost;

/* What colo:///session changes: door 2 says that there is no protection, and how to have one. */
const ColoRelayDriver *colo_driver_of_session(void);
/* Sets @error to that. */
void colo_driver_refuse_in_session(const char *command, GError **error);

/* @host_name: this host, for people. */
ColoDriver *colo_driver_new(const char *host_name, const ColoDriverHost *host);
void colo_driver_free(ColoDriver *driver);
/* For colo_rpc_server_set_may_run(). */
char *colo_driver_may_run(const char *uuid, gboolean *replicated, void *driver);
/* For colo_rpc_server_relay_to(); valid as long as the driver. */
const ColoRelayDriver *colo_driver_relay(const ColoDriver *driver);
