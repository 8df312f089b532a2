/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/declarations.h"

#include "domain/declaration.h"
#include "util/log.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

/* A libvirtd that starts lets us wait for it; a state that is written later is newer. */
#define LIBVIRT_WAIT_MS 5000u

typedef enum { LOOK, LOOK_AT_ALL, TELL } TaskKind;

typedef struct {
    TaskKind kind;
    char *uuid;
} Task;

struct ColoDeclarations {
    ColoVirConn *conn;
    ColoDeclarationsHost host;
    GThreadPool *pool;
};

/* Says so if the running @dom declares; what is wrong in a declaration is said by its actor, which
 * looks at it again, or here where there is none. */
static void look(ColoDeclarations *d, virDomainPtr dom)
{
    g_autoptr(ColoDeclaration) declaration = NULL;
    g_autoptr(GError) error = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    char *xml;

    if (virDomainIsActive(dom) != 1 || virDomainGetUUIDString(dom, uuid) < 0)
        return;
    xml = virDomainGetXMLDesc(dom, 0);
    declaration = xml ? colo_declaration_of_domain(xml, &error) : NULL;
    free(xml);
    if (error) {
        ColoLogContext about = {virDomainGetName(dom), uuid, 0};

        colo_log_full(&about, LOG_WARNING, __func__, "not protected: its metadata: %s",
                      error->message);
    } else if (declaration && declaration->declared) {
        d->host.found(uuid, d->host.opaque);
    }
}

static void look_at_all(ColoDeclarations *d)
{
    virConnectPtr conn = colo_virconn_get(d->conn, LIBVIRT_WAIT_MS, NULL);
    virDomainPtr *domains = NULL;
    int n;

    if (!conn)
        return; /* again when it is there */
    n = virConnectListAllDomains(conn, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for (int i = 0; i < n; i++) {
        look(d, domains[i]);
        virDomainFree(domains[i]);
    }
    free(domains);
    virConnectClose(conn);
}

/* The metadata's element as libvirt has it, to be free()d; NULL: none. */
static char *element_now(virDomainPtr dom)
{
    return virDomainGetMetadata(dom, VIR_DOMAIN_METADATA_ELEMENT, COLO_DECLARATION_NS,
                                VIR_DOMAIN_AFFECT_LIVE);
}

static void tell(ColoDeclarations *d, virDomainPtr dom, const char *uuid)
{
    g_autoptr(JsonObject) view = d->host.view(uuid, d->host.opaque);
    g_autofree char *element = NULL;
    char *xml, *before;

    if (!view || virDomainIsActive(dom) != 1)
        return;
    xml = virDomainGetXMLDesc(dom, 0);
    if (!xml)
        return;
    element = colo_declaration_with_state(xml, view);
    free(xml);
    before = element_now(dom);
    if ((element || before) &&
        virDomainSetMetadata(dom, VIR_DOMAIN_METADATA_ELEMENT, element, COLO_DECLARATION_KEY,
                             COLO_DECLARATION_NS, VIR_DOMAIN_AFFECT_LIVE) < 0) {
        g_autofree char *why = g_strdup(virGetLastErrorMessage());
        ColoLogContext about = {virDomainGetName(dom), uuid, 0}; /* forgets the error */

        colo_log_full(&about, LOG_INFO, __func__, "its metadata keeps an older state: %s", why);
    }
    free(before);
}

static void run(gpointer data, gpointer opaque)
{
    ColoDeclarations *d = opaque;
    Task *task = data;
    virDomainPtr dom = NULL;

    if (task->kind == LOOK_AT_ALL)
        look_at_all(d);
    else
        dom = colo_virconn_lookup(d->conn, task->uuid, NULL);
    if (dom && task->kind == LOOK)
        look(d, dom);
    else if (dom)
        tell(d, dom, task->uuid);
    if (dom)
        virDomainFree(dom);
    g_free(task->uuid);
    g_free(task);
}

static void push(ColoDeclarations *d, TaskKind kind, const char *uuid)
{
    Task *task = g_new(Task, 1);

    *task = (Task){kind, g_strdup(uuid)};
    g_thread_pool_push(d->pool, task, NULL);
}

static void task_free(gpointer data)
{
    Task *task = data;

    g_free(task->uuid);
    g_free(task);
}

ColoDeclarations *colo_declarations_new(ColoVirConn *conn, const ColoDeclarationsHost *host)
{
    ColoDeclarations *d = g_new0(ColoDeclarations, 1);

    d->conn = conn;
    d->host = *host;
    d->pool = g_thread_pool_new_full(run, d, task_free, 1, TRUE, NULL);
    return d;
}

void colo_declarations_free(ColoDeclarations *d)
{
    if (!d)
        return;
    g_thread_pool_free(d->pool, TRUE, TRUE);
    g_free(d);
}

void colo_declarations_look(ColoDeclarations *d, const char *uuid)
{
    push(d, uuid ? LOOK : LOOK_AT_ALL, uuid);
}

void colo_declarations_tell(ColoDeclarations *d, const char *uuid)
{
    push(d, TELL, uuid);
}
