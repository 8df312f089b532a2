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

/* What colo-stats says of a domain, as far as it is known in a short time, with the last figures of
 * a helper that stands still ("age-ms"): for those who ask for all domains. The caller's; NULL: not
 * known here. */
JsonObject *colo_manager_figures(ColoManager *manager, const char *uuid);

/* libvirt is about to do what a protected domain cannot bear (@call, for people): the protection is
 * interrupted until the release, which must follow TRUE. Blocks. FALSE with @error: it stays. */
gboolean colo_manager_hold(ColoManager *manager, const char *uuid, const char *call,
                           GError **error);
void colo_manager_release(ColoManager *manager, const char *uuid);
/* Of libvirt: the XML that a migration sends, the caller's; the id of the run, or -1. */
char *colo_manager_migratable_xml(ColoManager *manager, const char *uuid, GError **error);
int colo_manager_domain_id(ColoManager *manager, const char *uuid);
/* Whether the domain starts with its host, as long as COLO has it ("autostart" of the view). */
gboolean colo_manager_set_autostart(ColoManager *manager, const char *uuid, gboolean on,
                                    GError **error);

/* What colo-pair-list shows; never blocks. The caller's. */
JsonObject *colo_manager_pairs(ColoManager *manager);
/* TRUE while any domain is under COLO. */
gboolean colo_manager_is_busy(ColoManager *manager);

/* Runs @command (rpc/command-table.h) with validated @args; blocks until it is answered. */
JsonObject *colo_manager_command(ColoManager *manager, const char *command, JsonObject *args,
                                 GError **error);
