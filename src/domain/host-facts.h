/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a host says of itself when a domain is to get a copy there (xml-compat.h judges it). */
#pragma once

#include "domain/actor.h"

/* Asks libvirt for its capabilities once: its first answer takes seconds, because it runs every
 * emulator; the following ones milliseconds. Blocks; called when libvirt comes up. */
void colo_host_facts_warm_up(ColoHost *host);

/* Adds this host's facts to a "domain-prepare" about @machine. */
void colo_host_facts_add(ColoHost *host, JsonObject *params);

/* On the secondary: TRUE if the primary of @params and this host fit, and the memory is there. */
gboolean colo_host_facts_check(ColoHost *host, JsonObject *params, GError **error);
