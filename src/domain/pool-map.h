/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pool map of a pair: which storage pool of the peer holds the copies of the disks in a storage
 * pool of this host. A JSON object {pool here: pool there}, one to one, so that the peer keeps its
 * inverse and the copies lead back to where they came from when the roles are swapped. The disks in
 * a pool that is not in it have the same path on both hosts.
 *
 * What one host tells the other of a disk, its place, is either a path or members "pool" (of the
 * receiver), "volume" (file or device in it) and "from" (the sender's pool): each host alone knows
 * where its pools lie. Pure functions and libvirt calls, any thread.
 */
#pragma once

#include <libvirt/libvirt.h>

#include "util/json.h"

/* Pools in a map. */
#define COLO_POOL_MAP_MAX 64u

/* The map of "HERE=THERE[,HERE=THERE...]"; NULL or "" gives an empty one. COLO_ERROR_INVALID_ARG
 * for what is no name, and for a pool that is named twice on one side. json_object_put(). */
JsonObject *colo_pool_map_parse(const char *text, GError **error);

/* The text of @map, or of the peer's when @inverse; NULL when it is empty. g_free(). */
char *colo_pool_map_to_text(JsonObject *map, gboolean inverse);

/* A pool's or volume's name that a peer may send: one path component; @what for the message. */
gboolean colo_pool_map_valid_name(const char *what, const char *name, GError **error);

/* FALSE and @error when a pool of this side of @map is not on this host (@host, for people). */
gboolean colo_pool_map_check(virConnectPtr conn, JsonObject *map, const char *host, GError **error);

/* Adds "pool", "volume" and "from" to @disk, whose file on this host is @path, if @map says so. */
void colo_pool_map_add_place(virConnectPtr conn, JsonObject *map, const char *path,
                             JsonObject *disk);

/* This host's storage pool @name for disk @target; NULL with the remedy. virStoragePoolFree(). */
virStoragePoolPtr colo_pool_map_lookup(virConnectPtr conn, const char *name, const char *target,
                                       const char *host, GError **error);

/* The directory of @pool, or NULL; @type ("dir", "logical", ...) may be NULL. g_free() both. */
char *colo_pool_map_directory(virStoragePoolPtr pool, char **type);

/* FALSE and @error when a disk that is to lie at @path here would not lead back by @map, this
 * host's own, to @from, the pool of the peer that it came from (NULL: none in the map): then the
 * next protection, with the roles swapped, would write to another file. */
gboolean colo_pool_map_leads_back(virConnectPtr conn, JsonObject *map, const char *target,
                                  const char *path, const char *from, GError **error);

/* The path on this host of the copy of @disk: "target", "copy" (path at the sender) and maybe the
 * members of its place. NULL and @error when there is no such pool or it would not lead back. */
char *colo_pool_map_resolve(virConnectPtr conn, JsonObject *map, const char *host, JsonObject *disk,
                            GError **error);
