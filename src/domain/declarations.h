/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Door 3 at libvirt: finds the running domains whose metadata declares a protection
 * (declaration.h), and keeps the state in the metadata of those under COLO up to date, by which
 * stock tools see it and hear of its changes (VIR_DOMAIN_EVENT_ID_METADATA_CHANGE). On a thread of
 * its own: a libvirtd that is slow or gone holds up nobody. Any thread may call.
 */
#pragma once

#include "domain/virconn.h"
#include "util/json.h"

typedef struct ColoDeclarations ColoDeclarations;

typedef struct {
    /* The running domain declares a protection. */
    void (*found)(const char *uuid, void *opaque);
    /* What is known of the domain (colo_domain_view()), the caller's; NULL: nothing. */
    JsonObject *(*view)(const char *uuid, void *opaque);
    void *opaque;
} ColoDeclarationsHost;

ColoDeclarations *colo_declarations_new(ColoVirConn *conn, const ColoDeclarationsHost *host);
/* Drops what has not begun. NULL is allowed. */
void colo_declarations_free(ColoDeclarations *declarations);

/* The domain has started: does it declare? With NULL all that run are looked at. */
void colo_declarations_look(ColoDeclarations *declarations, const char *uuid);
/* Its state has changed: the metadata shall say so. */
void colo_declarations_tell(ColoDeclarations *declarations, const char *uuid);
