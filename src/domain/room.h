/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Space for the copies of a domain's disks and for their overlays, which lie beside them. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "util/json.h"

/* Bytes that the content of the disk at @path occupies on this host: of a file what is allocated,
 * of a device its size; 0 when it cannot be seen. */
uint64_t colo_room_allocated(const char *path);

/*
 * On the secondary: TRUE if this host (@host: its name) has room for what the copies do not hold
 * yet and for @overlays bytes. @disks: [{"target", "copy": path here}]; @allocated: {target: bytes
 * on the primary}, or NULL. What lies on one file system is added up; overlays count once a file
 * system, because their limit is of all disks together.
 */
gboolean colo_room_check(const char *host, JsonObject *disks, JsonObject *allocated,
                         uint64_t overlays, GError **error);
