/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/virconn.h"

#include "util/error.h"
#include "util/log.h"

#include <libvirt/virterror.h>

#define RECONNECT_US (200 * G_TIME_SPAN_MILLISECOND)
/* A libvirtd that does not answer a keepalive for 5 x 2 s is taken for dead. */
#define KEEPALIVE_INTERVAL_S 2
#define KEEPALIVE_COUNT 5

/* Callbacks that each connection has. */
#define N_EVENTS 2u

struct ColoVirConn {
    char *uri;
    ColoVirConnEvents events;
    void *opaque;
    GThread *thread;
    GMutex lock;
    GCond changed;
    virConnectPtr conn;
    gint stopping;
    gboolean lost;
};

static gpointer event_loop(gpointer data)
{
    (void)data;
    for (;;) {
        if (virEventRunDefaultImpl() < 0)
            colo_warn("libvirt's event loop: %s", virGetLastErrorMessage());
    }
    return NULL;
}

/* libvirt prints every error to standard error unless told otherwise; ours go where they belong. */
static void silent(void *opaque, virErrorPtr error)
{
    (void)opaque;
    (void)error;
}

static gpointer start_event_loop(gpointer data)
{
    (void)data;
    virEventRegisterDefaultImpl();
    virSetErrorFunc(NULL, silent);
    return g_thread_new("libvirt-events", event_loop, NULL);
}

static int on_lifecycle(virConnectPtr c, virDomainPtr dom, int event, int detail, void *opaque)
{
    ColoVirConn *conn = opaque;
    char uuid[VIR_UUID_STRING_BUFLEN];

    (void)c;
    if (conn->events.lifecycle && virDomainGetUUIDString(dom, uuid) == 0)
        conn->events.lifecycle(uuid, event, detail, conn->opaque);
    return 0;
}

static void on_metadata(virConnectPtr c, virDomainPtr dom, int type, const char *ns, void *opaque)
{
    ColoVirConn *conn = opaque;
    char uuid[VIR_UUID_STRING_BUFLEN];

    (void)c;
    if (conn->events.metadata && type == VIR_DOMAIN_METADATA_ELEMENT && ns &&
        virDomainGetUUIDString(dom, uuid) == 0)
        conn->events.metadata(uuid, ns, conn->opaque);
}

static void on_close(virConnectPtr c, int reason, void *opaque)
{
    ColoVirConn *conn = opaque;

    (void)c;
    (void)reason;
    g_mutex_lock(&conn->lock);
    conn->lost = TRUE;
    g_cond_broadcast(&conn->changed);
    g_mutex_unlock(&conn->lock);
}

/* Callbacks hold references: without this a connection that broke would stay in memory. */
static void close_once(virConnectPtr c, const int *events)
{
    for (size_t i = 0; i < N_EVENTS; i++) {
        if (events[i] >= 0)
            virConnectDomainEventDeregisterAny(c, events[i]);
    }
    virConnectUnregisterCloseCallback(c, on_close);
    virConnectClose(c);
}

/* @events: the ids of its event callbacks, for close_once(). */
static virConnectPtr open_once(ColoVirConn *conn, int *events)
{
    virConnectPtr c = virConnectOpen(conn->uri);

    events[0] = events[1] = -1;
    if (!c)
        return NULL;
    virConnectSetKeepAlive(c, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT);
    if (virConnectRegisterCloseCallback(c, on_close, conn, NULL) == 0) {
        events[0] =
            virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                             VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), conn, NULL);
        /* libvirt's test driver has it not: no reason to be without the others. */
        events[1] =
            virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                             VIR_DOMAIN_EVENT_CALLBACK(on_metadata), conn, NULL);
    }
    if (events[0] < 0) {
        colo_warn("%s: no events: %s", conn->uri, virGetLastErrorMessage());
        close_once(c, events);
        return NULL;
    }
    return c;
}

static gpointer keep_connected(gpointer data)
{
    ColoVirConn *conn = data;

    while (!g_atomic_int_get(&conn->stopping)) {
        int events[N_EVENTS];
        virConnectPtr c = open_once(conn, events);

        if (!c) {
            g_usleep(RECONNECT_US);
            continue;
        }
        g_mutex_lock(&conn->lock);
        conn->conn = c;
        conn->lost = FALSE;
        g_cond_broadcast(&conn->changed);
        g_mutex_unlock(&conn->lock);
        if (conn->events.up)
            conn->events.up(conn->opaque);

        g_mutex_lock(&conn->lock);
        while (!conn->lost && !g_atomic_int_get(&conn->stopping))
            g_cond_wait(&conn->changed, &conn->lock);
        conn->conn = NULL;
        g_mutex_unlock(&conn->lock);
        if (!g_atomic_int_get(&conn->stopping))
            colo_warn("connection to %s is lost: connecting again", conn->uri);
        close_once(c, events);
    }
    return NULL;
}

ColoVirConn *colo_virconn_new(const char *uri, const ColoVirConnEvents *events, void *opaque)
{
    static GOnce once = G_ONCE_INIT;
    ColoVirConn *conn = g_new0(ColoVirConn, 1);

    g_once(&once, start_event_loop, NULL);
    conn->uri = g_strdup(uri);
    conn->events = *events;
    conn->opaque = opaque;
    g_mutex_init(&conn->lock);
    g_cond_init(&conn->changed);
    conn->thread = g_thread_new("virconn", keep_connected, conn);
    return conn;
}

void colo_virconn_free(ColoVirConn *conn)
{
    if (!conn)
        return;
    g_atomic_int_set(&conn->stopping, 1);
    g_mutex_lock(&conn->lock);
    g_cond_broadcast(&conn->changed);
    g_mutex_unlock(&conn->lock);
    g_thread_join(conn->thread);
    g_mutex_clear(&conn->lock);
    g_cond_clear(&conn->changed);
    g_free(conn->uri);
    g_free(conn);
}

virConnectPtr colo_virconn_get(ColoVirConn *conn, unsigned timeout_ms, GError **error)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    virConnectPtr c = NULL;

    g_mutex_lock(&conn->lock);
    while ((!conn->conn || conn->lost) && g_cond_wait_until(&conn->changed, &conn->lock, end))
        ;
    if (conn->conn && !conn->lost && virConnectRef(conn->conn) == 0)
        c = conn->conn;
    g_mutex_unlock(&conn->lock);
    if (!c)
        g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM,
                    "libvirtd does not answer at %s: start libvirtd.service (or virtqemud)",
                    conn->uri);
    return c;
}

virDomainPtr colo_virconn_lookup(ColoVirConn *conn, const char *name_or_uuid, GError **error)
{
    virConnectPtr c = colo_virconn_get(conn, 5000, error);
    virDomainPtr dom;

    if (!c)
        return NULL;
    dom = virDomainLookupByUUIDString(c, name_or_uuid);
    if (!dom)
        dom = virDomainLookupByName(c, name_or_uuid);
    if (!dom) {
        virErrorPtr e = virGetLastError();

        if (e && e->code == VIR_ERR_NO_DOMAIN)
            g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN,
                        "Domain not found: no domain with matching name or UUID '%s'",
                        name_or_uuid);
        else
            colo_virconn_set_error(error, "looking up the domain");
    }
    virConnectClose(c);
    return dom;
}

void colo_virconn_set_error(GError **error, const char *what)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED, "%s: %s", what,
                virGetLastErrorMessage());
}
