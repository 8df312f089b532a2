/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All protected domains and pairs of this host: makes actors, routes what happens to them, and
 * answers every command of design section 6. The one face of src/domain towards the driver.
 * Any thread.
 */
#pragma once

#include "pair/config.h"
#include "util/json.h"

typedef struct ColoManager ColoManager;

/* Called for each event that clients may subscribe to; @event is borrowed. Any thread. */
typedef void (*ColoEventFunc)(JsonObject *event, void *opaque);

/*
 * Opens the store, listens for the peer on @control_fd (taken over), connects to libvirt at
 * @libvirt_uri and to the comparator's @comparator_socket, and starts an actor for each stored
 * domain. @config must outlive the manager. NULL and @error.
 */
ColoManager *colo_manager_new(const ColoConfig *config, const char *libvirt_uri,
                              const char *comparator_socket, int control_fd, ColoEventFunc event,
                              void *opaque, GError **error);

/* Ends every actor; guests, sessions and their protection go on without us (I5). */
void colo_manager_free(ColoManager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ColoManager, colo_manager_free)

/* What colo-status shows first of the domain of that UUID or name, the caller's; NULL: not known
 * here. Never blocks. */
JsonObject *colo_manager_view(ColoManager *manager, const char *uuid_or_name);

/* Runs @command (rpc/command-table.h) with validated @args; blocks until it is answered. */
JsonObject *colo_manager_command(ColoManager *manager, const char *command, JsonObject *args,
                                 GError **error);
