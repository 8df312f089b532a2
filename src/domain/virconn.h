/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection to this host's QEMU driver (qemu:///system): opened again for ever after a
 * restart of libvirtd, with life cycle events of all domains. libvirt's event loop runs on a thread
 * of its own.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct ColoVirConn ColoVirConn;

/* On the event thread: they only post. Each may be NULL. */
typedef struct {
    /* virDomainEventType and its detail (libvirt/libvirt-domain.h). */
    void (*lifecycle)(const char *uuid, int event, int detail, void *opaque);
    /* The domain's metadata of XML namespace @ns changed. */
    void (*metadata)(const char *uuid, const char *ns, void *opaque);
    /* The connection is there (again): what happened in between must be looked up. */
    void (*up)(void *opaque);
} ColoVirConnEvents;

/* @uri: normally "qemu:///system". Never fails; the first connection is tried at once. */
ColoVirConn *colo_virconn_new(const char *uri, const ColoVirConnEvents *events, void *opaque);
void colo_virconn_free(ColoVirConn *conn);

/* A reference to the open connection (virConnectClose() it), or NULL and @error when libvirtd has
 * not answered within @timeout_ms. Any thread. */
virConnectPtr colo_virconn_get(ColoVirConn *conn, unsigned timeout_ms, GError **error);

/* The domain by UUID or by name; NULL and COLO_ERROR_NO_DOMAIN or COLO_ERROR_SYSTEM.
 * virDomainFree() it. */
virDomainPtr colo_virconn_lookup(ColoVirConn *conn, const char *name_or_uuid, GError **error);

/* Sets @error from libvirt's last error of this thread, after "@what: ". Each call of libvirt
 * forgets it, virConnectClose(), virDomainFree() and virDomainGetName() too: this comes first. */
void colo_virconn_set_error(GError **error, const char *what);
