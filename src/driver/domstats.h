/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo.* in virsh domstats: what is known of a domain (its view), and the figures of its
 * comparator. These are asked for when a client asks for statistics, before libvirt is: the relay's
 * thread, which adds them to libvirt's reply, must not wait.
 */
#pragma once

#include "util/json.h"

typedef struct ColoDomstats ColoDomstats;

ColoDomstats *colo_domstats_new(void);
void colo_domstats_free(ColoDomstats *stats);

/* The newest figures of the domain (result of colo-stats; NULL: it has none). Any thread. */
void colo_domstats_keep(ColoDomstats *stats, const char *uuid, JsonObject *figures);

/* Appends its typed parameters to a body; returns how many. @view: of a domain under COLO. Any
 * thread. */
unsigned colo_domstats_add(ColoDomstats *stats, const char *uuid, JsonObject *view,
                           GByteArray *params);
