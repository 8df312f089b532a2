/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `virsh migrate --live DOM colo+ssh://peer/system` of a protected domain to its peer is a
 * switchover: the guest is there already. Both ways in which libvirt's clients migrate (libvirt
 * 9.0, src/libvirt-domain.c: virDomainMigrateVersion3Full(), virDomainMigrateUnmanagedParams()):
 *
 * - peer to peer (--p2p; nova): one PERFORM3 at the source, with the peer's URI;
 * - by the client: BEGIN3 at the source, PREPARE3 at the destination, PERFORM3 at the source,
 *   FINISH3 at the destination, CONFIRM3 at the source. The cookie that goes along says that it is
 *   COLO's; a libvirt elsewhere refuses it, for it names a feature that it does not know.
 */
#pragma once

#include "driver/driver.h"

/* What a call of a migration is about. */
typedef enum {
    COLO_SWITCHOVER_NOT, /* nothing of ours: libvirt's, or the policy's */
    COLO_SWITCHOVER_WORK,
} ColoSwitchoverVerdict;

/* Judges a call with COLO_REMOTE_PROC_DOMAIN_MIGRATE_*; *question as for COLO_RELAY_WORK. Never
 * blocks. */
ColoSwitchoverVerdict colo_switchover_call(const ColoDriverHost *host, const ColoRpcFrame *frame,
                                           GByteArray **question);
/* The answer to one that was WORK; on a worker. */
GByteArray *colo_switchover_work(const ColoDriverHost *host, const ColoRpcFrame *frame);
