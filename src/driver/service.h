/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What virtcolod consists of while it runs: of the system, with COLO (the manager, the driver, its
 * sockets, metrics), or of a user's session, colo:///session, which is libvirt's alone: there is no
 * network that could be switched, so nothing is protected.
 */
#pragma once

#include "pair/config.h"

typedef struct ColoService ColoService;

/* Takes its sockets from systemd or makes them. @libvirt_uri, @comparator_socket: NULL for the
 * usual.
 * @config outlives it. NULL with @error. */
ColoService *colo_service_new(const ColoConfig *config, const char *libvirt_uri,
                              const char *comparator_socket, GError **error);
ColoService *colo_service_new_session(GError **error);
/* Nobody is connected, and nothing is under COLO. */
gboolean colo_service_is_idle(ColoService *service);
/* Guests, sessions of the comparator and their protection go on (I5). NULL is allowed. */
void colo_service_free(ColoService *service);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoService, colo_service_free)
