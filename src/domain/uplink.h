/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a takeover on this host plugs a NIC in. Found before a copy is made: a guest that goes on
 * without its network would be no survivor (I2).
 */
#pragma once

#include "domain/virconn.h"

/* The Linux bridge of this host that stands for @bridge or, if not NULL, for the libvirt network
 * @network of the same name as on the peer, which must be active. The caller owns the name. NULL
 * with @error, which names @domain, what was found and the remedy. Blocks for libvirt. */
char *colo_uplink_find(ColoVirConn *virconn, const char *domain, const char *bridge,
                       const char *network, const char *host, GError **error);
