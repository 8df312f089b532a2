/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What one host asks of the other on behalf of a command. Private to src/domain. */
#pragma once

#include "domain/manager-private.h"

/* Runs one of the few commands that the peer may ask for; refuses any other. */
JsonObject *colo_commands_for_peer(ColoManager *manager, const char *command, JsonObject *args,
                                   GError **error);

/* doctor.c: this host's findings, for itself or for the peer that asks. */
JsonObject *colo_doctor_local(ColoManager *manager);

/* prepare.c: makes the copy of one disk on this host; see there for @args. */
JsonObject *colo_prepare_copy(ColoManager *manager, JsonObject *args, GError **error);
JsonObject *colo_prepare(ColoManager *manager, const char *domain, const char *pair, gboolean fix,
                         GError **error);
