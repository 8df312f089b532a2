/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the manager share: manager.c (life and routing), commands.c (answers). */
#pragma once

#include "domain/actor.h"
#include "domain/declarations.h"
#include "domain/figures.h"
#include "domain/manager.h"

struct ColoManager {
    ColoHost host;
    ColoPeerInfo self;
    ColoChannelServer *server;
    ColoDeclarations *declarations;
    ColoFigures *figures;
    ColoEventFunc event;
    void *opaque;
    gint started; /* atomic: the actors of all stored domains are there */
    GMutex lock;
    GHashTable *domains; /* uuid -> ColoDomain *; entries live until the manager is freed */
};

/* The actor of @name_or_uuid, or NULL and COLO_ERROR_NO_DOMAIN with what virsh would say. */
ColoDomain *colo_manager_find(ColoManager *manager, const char *name_or_uuid, GError **error);

/* The same, making an actor for a domain that libvirt knows and the store does not. */
ColoDomain *colo_manager_ensure(ColoManager *manager, const char *name_or_uuid, GError **error);

/* All actors, borrowed; the caller unrefs the array. */
GPtrArray *colo_manager_domains(ColoManager *manager);

/* TRUE if a domain under protection uses @pair; its name in @name for the caller to g_free(). */
gboolean colo_manager_pair_in_use(ColoManager *manager, const char *pair, char **name);
