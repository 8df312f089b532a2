/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one host asks of the other on behalf of a command. Private to src/domain. */
#pragma once

#include "domain/manager-private.h"

/* Runs one of the few commands that the peer may ask for; refuses any other. */
JsonObject *colo_commands_for_peer(ColoManager *manager, const char *command, JsonObject *args,
                                   GError **error);

/* Asks the helper (figures.h); @manager is a ColoManager. */
JsonObject *colo_commands_ask_figures(const char *uuid, void *manager, GError **error);

/* doctor.c: {"findings": [...]} of this host, for itself or for the peer that asks; below 5 s. */
JsonObject *colo_doctor_local(ColoManager *manager);

/* prepare-copy.c: makes the copy of one disk on this host, or says what this host lacks; see there
 * for @args, which come from the peer. */
JsonObject *colo_prepare_copy(ColoManager *manager, JsonObject *args, GError **error);
/* prepare.c: the copies of all disks on the peer of @pair, and what stands against protection; @fix
 * changes the persistent definition. {"actions": [{"host", "object", "action", "done"}]}. */
JsonObject *colo_prepare(ColoManager *manager, const char *domain, const char *pair, gboolean fix,
                         GError **error);
