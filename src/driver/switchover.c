/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/switchover.h"

#include "driver/policy.h"
#include "rpc/remote-calls.h"
#include "rpc/xdr-put.h"
#include "util/error.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

/* REMOTE_MIGRATE_COOKIE_MAX, REMOTE_DOMAIN_MIGRATE_PARAM_LIST_MAX, REMOTE_STRING_MAX */
#define COOKIE_MAX (4u << 20)
#define PARAMS_MAX 64u
#define URI_MAX 4096u

/* In each cookie of ours; the rest of it is what libvirt reads first (libvirt 9.0,
 * src/qemu/qemu_migration_cookie.c), so that its error is about this. */
#define FEATURE "<feature name='colo-switchover'/>"

/* How long the peer may take to go on with the guest; its takeover has a limit of 30 s. */
#define FINISH_MS 40000u
#define FINISH_POLL_MS 50u

typedef struct {
    ColoRemoteDomain domain; /* of PREPARE3 and FINISH3 only the UUID, from the cookie */
    char *dconnuri;
    char *cookie; /* NULL: none, or not ours */
    uint32_t flags, cancelled;
} Migration;

static void migration_clear(Migration *m)
{
    g_free(m->domain.name);
    g_free(m->dconnuri);
    g_free(m->cookie);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Migration, migration_clear)

static gboolean skip_params(const ColoRpcFrame *frame, size_t *at)
{
    uint32_t n;

    if (!colo_remote_get_word(frame, at, &n) || n > PARAMS_MAX)
        return FALSE;
    while (n-- > 0) {
        if (!colo_remote_skip_param(frame, at))
            return FALSE;
    }
    return TRUE;
}

/* The cookie, if it is ours, and the UUID in it. */
static gboolean read_cookie(const ColoRpcFrame *frame, size_t *at, Migration *m)
{
    const char *bytes, *uuid;
    size_t len;

    if (!colo_remote_get_opaque(frame, at, COOKIE_MAX, &bytes, &len))
        return FALSE;
    if (!memmem(bytes, len, FEATURE, strlen(FEATURE)))
        return TRUE;
    m->cookie = g_strndup(bytes, len);
    uuid = strstr(m->cookie, "<uuid>");
    if (!uuid ||
        g_strlcpy(m->domain.uuid, uuid + strlen("<uuid>"), sizeof(m->domain.uuid)) <
            sizeof(m->domain.uuid) - 1 ||
        !g_uuid_string_is_valid(m->domain.uuid))
        g_clear_pointer(&m->cookie, g_free);
    return TRUE;
}

static gboolean read_migration(const ColoRpcFrame *frame, Migration *m)
{
    uint32_t procedure = frame->header.procedure;
    size_t at = 0;

    memset(m, 0, sizeof(*m));
    if (frame->header.type != COLO_RPC_CALL)
        return FALSE;
    switch (procedure) {
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_BEGIN3_PARAMS: /* dom, params, flags */
        return colo_remote_get_domain(frame, &at, &m->domain) && skip_params(frame, &at) &&
               colo_remote_get_word(frame, &at, &m->flags);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_PREPARE3_PARAMS: /* params, cookie, flags */
        return skip_params(frame, &at) && read_cookie(frame, &at, m);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_PERFORM3_PARAMS: { /* dom, dconnuri, params, cookie, flags
                                                             */
        ColoRemoteDomain domain;

        if (!colo_remote_get_domain(frame, &at, &domain))
            return FALSE;
        m->domain.name = domain.name;
        if (!colo_remote_get_optional(frame, &at, URI_MAX, &m->dconnuri) ||
            !skip_params(frame, &at) || !read_cookie(frame, &at, m) ||
            !colo_remote_get_word(frame, &at, &m->flags))
            return FALSE;
        memcpy(m->domain.uuid, domain.uuid, sizeof(domain.uuid)); /* the call's, not the cookie's */
        return TRUE;
    }
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_FINISH3_PARAMS: /* params, cookie, flags, cancelled */
        return skip_params(frame, &at) && read_cookie(frame, &at, m) &&
               colo_remote_get_word(frame, &at, &m->flags) &&
               colo_remote_get_word(frame, &at, &m->cancelled);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_CONFIRM3_PARAMS: /* dom, params, cookie, flags, cancelled
                                                           */
        return colo_remote_get_domain(frame, &at, &m->domain) && skip_params(frame, &at) &&
               read_cookie(frame, &at, m) && colo_remote_get_word(frame, &at, &m->flags) &&
               colo_remote_get_word(frame, &at, &m->cancelled);
    default:
        return FALSE;
    }
}

/* ---- judging ---- */

/* Whether @uri leads to the peer of the domain that @view shows. */
static gboolean is_peer(const char *uri, JsonObject *view)
{
    g_autoptr(GUri) parsed = uri ? g_uri_parse(uri, G_URI_FLAGS_NONE, NULL) : NULL;
    const char *host = parsed ? g_uri_get_host(parsed) : NULL;

    return host && *host &&
           (g_ascii_strcasecmp(host, colo_json_peek_string(view, "peer", "")) == 0 ||
            g_ascii_strcasecmp(host, colo_json_peek_string(view, "peer-host", "")) == 0);
}

static gboolean is_protected_here(JsonObject *view)
{
    return strcmp(colo_json_peek_string(view, "state", ""), "protected") == 0 &&
           strcmp(colo_json_peek_string(view, "role", ""), "primary") == 0;
}

static gboolean is_ours(const Migration *m, uint32_t procedure, JsonObject *view)
{
    switch (procedure) {
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_BEGIN3_PARAMS:
        return is_protected_here(view) && !(m->flags & VIR_MIGRATE_OFFLINE);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_PERFORM3_PARAMS:
        return is_protected_here(view) &&
               (m->cookie || ((m->flags & VIR_MIGRATE_PEER2PEER) && is_peer(m->dconnuri, view)));
    default: /* the cookie says that the source is COLO's */
        return m->cookie != NULL;
    }
}

ColoSwitchoverVerdict colo_switchover_call(const ColoDriverHost *host, const ColoRpcFrame *frame,
                                           GByteArray **question)
{
    g_auto(Migration) m = {0};
    g_autoptr(JsonObject) view = NULL;
    uint32_t procedure = frame->header.procedure;

    if (!read_migration(frame, &m))
        return COLO_SWITCHOVER_NOT;
    view = host->view(m.domain.uuid, host->opaque);
    if (!is_ours(&m, procedure, view))
        return COLO_SWITCHOVER_NOT;
    *question =
        procedure == COLO_REMOTE_PROC_DOMAIN_MIGRATE_PREPARE3_PARAMS
            ? colo_remote_ask_connect_write()
            : colo_remote_ask_domain_write(colo_json_peek_string(view, "name", "?"), m.domain.uuid);
    return COLO_SWITCHOVER_WORK;
}

/* ---- answers ---- */

static GByteArray *refuse(const ColoRpcFrame *frame, const char *message)
{
    return colo_remote_error(&frame->header, VIR_ERR_OPERATION_FAILED, message);
}

/* @body is freed. */
static GByteArray *answer(const ColoRpcFrame *frame, GByteArray *body)
{
    GByteArray *reply = colo_remote_reply(&frame->header, body->data, body->len);

    g_byte_array_unref(body);
    return reply;
}

/* The domain's XML and the cookie. */
static GByteArray *begin(const ColoDriverHost *host, const ColoRpcFrame *frame, const Migration *m)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = host->migratable_xml(m->domain.uuid, host->opaque, &error);
    g_autofree char *cookie =
        g_strdup_printf("<qemu-migration><name>%s</name><uuid>%s</uuid><hostname>colo</hostname>"
                        "<hostuuid>%s</hostuuid>" FEATURE "</qemu-migration>",
                        m->domain.name, m->domain.uuid, m->domain.uuid);
    GByteArray *body;

    if (!xml)
        return refuse(frame, error->message);
    body = g_byte_array_new();
    colo_xdr_put_string(body, cookie);
    colo_xdr_put_string(body, xml);
    return answer(frame, body);
}

/* The destination: has it the copy? The URI is for nobody: nothing is sent there. */
static GByteArray *prepare(const ColoRpcFrame *frame, const Migration *m, JsonObject *view)
{
    GByteArray *body;

    if (!view || !colo_policy_is_copy(view) ||
        strcmp(colo_json_peek_string(view, "state", ""), "protected") != 0) {
        g_autofree char *message = g_strdup_printf(
            "domain %s is protected by COLO, and this host is not its peer: migrate it to its "
            "peer, or elsewhere with --p2p, or end its protection first (virsh-colo "
            "colo-unprotect)",
            m->domain.uuid);

        return refuse(frame, message);
    }
    body = g_byte_array_new();
    colo_xdr_put_string(body, m->cookie);
    colo_xdr_put32(body, 1);
    colo_xdr_put_string(body, "colo:switchover");
    return answer(frame, body);
}

/* The switchover itself. */
static GByteArray *perform(const ColoDriverHost *host, const ColoRpcFrame *frame,
                           const Migration *m)
{
    g_autoptr(JsonObject) args = colo_json_build("domain", "s", m->domain.uuid, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) done = host->command("colo-switchover", args, host->opaque, &error);
    GByteArray *body;

    if (!done)
        return refuse(frame, error->message);
    body = g_byte_array_new();
    colo_xdr_put_string(body, m->cookie ? m->cookie : "");
    return answer(frame, body);
}

/* The destination: waits until the guest goes on here. */
static GByteArray *finish(const ColoDriverHost *host, const ColoRpcFrame *frame, const Migration *m)
{
    for (unsigned ms = 0; !m->cancelled && ms < FINISH_MS; ms += FINISH_POLL_MS) {
        g_autoptr(JsonObject) view = host->view(m->domain.uuid, host->opaque);
        const char *state = colo_json_peek_string(view, "state", "");

        if (view && !colo_policy_is_copy(view) && strcmp(state, "failing-over") != 0) {
            GByteArray *body = g_byte_array_new();

            colo_remote_put_domain(body, colo_json_peek_string(view, "name", "?"), m->domain.uuid,
                                   host->domain_id(m->domain.uuid, host->opaque));
            colo_xdr_put_string(body, m->cookie);
            return answer(frame, body);
        }
        g_usleep(FINISH_POLL_MS * 1000);
    }
    return refuse(frame, m->cancelled ? "the switchover was not done: the guest runs where it ran"
                                      : "the guest does not go on here yet: see 'virsh-colo "
                                        "colo-status' on both hosts");
}

GByteArray *colo_switchover_work(const ColoDriverHost *host, const ColoRpcFrame *frame)
{
    g_auto(Migration) m = {0};
    g_autoptr(JsonObject) view = NULL;

    (void)read_migration(frame, &m); /* it could be read before */
    view = host->view(m.domain.uuid, host->opaque);
    switch (frame->header.procedure) {
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_BEGIN3_PARAMS:
        return begin(host, frame, &m);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_PREPARE3_PARAMS:
        return prepare(frame, &m, view);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_PERFORM3_PARAMS:
        return perform(host, frame, &m);
    case COLO_REMOTE_PROC_DOMAIN_MIGRATE_FINISH3_PARAMS:
        return finish(host, frame, &m);
    default: /* CONFIRM3: it is done, or was not */
        return colo_remote_reply(&frame->header, NULL, 0);
    }
}
