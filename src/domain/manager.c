/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Life of the daemon's parts, and the routing of events and requests to the domains' actors. */
#include "config.h"

#include "domain/manager-private.h"

#include "domain/commands.h"
#include "domain/declaration.h"
#include "domain/host-facts.h"
#include "util/error.h"
#include "util/log.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

/* A request of the peer may start QEMU and copy a large XML; the peer's own limit is longer. */
#define PEER_REQUEST_TIMEOUT_MS (COLO_PEER_TIMEOUT_MS - 5000u)

/* A copy is given up, and what COLO had put into QEMU taken out. */
#define HOLD_TIMEOUT_MS 60000u

/* ---- finding domains ---- */

static ColoDomain *lookup(ColoManager *m, const char *name_or_uuid)
{
    ColoDomain *found;
    GHashTableIter iter;
    gpointer value;

    g_mutex_lock(&m->lock);
    found = g_hash_table_lookup(m->domains, name_or_uuid);
    g_hash_table_iter_init(&iter, m->domains);
    while (!found && g_hash_table_iter_next(&iter, NULL, &value)) {
        g_autoptr(JsonObject) view = colo_domain_view(value);

        if (g_strcmp0(colo_json_peek_string(view, "name", ""), name_or_uuid) == 0)
            found = value;
    }
    g_mutex_unlock(&m->lock);
    return found;
}

static ColoDomain *add(ColoManager *m, ColoDomainRecord *record)
{
    ColoDomain *domain;

    g_mutex_lock(&m->lock);
    domain = g_hash_table_lookup(m->domains, record->uuid);
    if (domain) {
        colo_domain_record_free(record);
    } else {
        char *uuid = g_strdup(record->uuid);

        domain = colo_domain_new(&m->host, record);
        g_hash_table_insert(m->domains, uuid, domain);
    }
    g_mutex_unlock(&m->lock);
    return domain;
}

JsonObject *colo_manager_view(ColoManager *m, const char *uuid_or_name)
{
    ColoDomain *domain;

    if (g_uuid_string_is_valid(uuid_or_name)) { /* mostly: no look at every name */
        g_mutex_lock(&m->lock);
        domain = g_hash_table_lookup(m->domains, uuid_or_name);
        g_mutex_unlock(&m->lock);
    } else {
        domain = lookup(m, uuid_or_name);
    }

    return domain ? colo_domain_view(domain) : NULL;
}

ColoDomain *colo_manager_find(ColoManager *m, const char *name_or_uuid, GError **error)
{
    ColoDomain *found = lookup(m, name_or_uuid);
    virDomainPtr dom;

    if (found)
        return found;
    dom = colo_virconn_lookup(m->host.virconn, name_or_uuid, error);
    if (dom) {
        virDomainFree(dom);
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is not protected: use "
                    "'virsh-colo colo-protect %s --pair PAIR'",
                    name_or_uuid, name_or_uuid);
    }
    return NULL;
}

ColoDomain *colo_manager_ensure(ColoManager *m, const char *name_or_uuid, GError **error)
{
    ColoDomain *found = lookup(m, name_or_uuid);
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainPtr dom;

    if (found)
        return found;
    dom = colo_virconn_lookup(m->host.virconn, name_or_uuid, error);
    if (!dom)
        return NULL;
    if (virDomainGetUUIDString(dom, uuid) == 0)
        found = add(m, colo_domain_record_new(uuid, virDomainGetName(dom)));
    virDomainFree(dom);
    return found;
}

GPtrArray *colo_manager_domains(ColoManager *m)
{
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    g_mutex_lock(&m->lock);
    g_hash_table_iter_init(&iter, m->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(list, value);
    g_mutex_unlock(&m->lock);
    return list;
}

gboolean colo_manager_pair_in_use(ColoManager *m, const char *pair, char **name)
{
    g_autoptr(GPtrArray) list = colo_manager_domains(m);

    for (guint i = 0; i < list->len; i++) {
        g_autoptr(JsonObject) view = colo_domain_view(g_ptr_array_index(list, i));
        const char *state = colo_json_peek_string(view, "state", "");

        if (g_strcmp0(colo_json_peek_string(view, "pair", NULL), pair) == 0 &&
            strcmp(state, "unprotected") != 0) {
            *name = g_strdup(colo_json_peek_string(view, "name", ""));
            return TRUE;
        }
    }
    return FALSE;
}

JsonObject *colo_manager_pairs(ColoManager *m)
{
    return colo_pairs_list(m->host.pairs);
}

gboolean colo_manager_is_busy(ColoManager *m)
{
    g_autoptr(GPtrArray) list = colo_manager_domains(m);

    for (guint i = 0; i < list->len; i++) {
        g_autoptr(JsonObject) view = colo_domain_view(g_ptr_array_index(list, i));

        if (strcmp(colo_json_peek_string(view, "state", ""), "unprotected") != 0)
            return TRUE;
    }
    return FALSE;
}

/* ---- libvirt's calls ---- */

/* The domain's actor, if there is one: without it COLO has nothing to do with the domain. */
static ColoDomain *actor_of(ColoManager *m, const char *uuid)
{
    ColoDomain *domain;

    g_mutex_lock(&m->lock);
    domain = g_hash_table_lookup(m->domains, uuid);
    g_mutex_unlock(&m->lock);
    return domain;
}

static gboolean ask_actor(ColoManager *m, const char *uuid, const char *what, JsonObject *args,
                          GError **error)
{
    ColoDomain *domain = actor_of(m, uuid);
    g_autoptr(JsonObject) done = NULL;

    if (!domain)
        return TRUE;
    done = colo_mailbox_ask(domain->mailbox, COLO_MAIL_COMMAND, what, args, HOLD_TIMEOUT_MS, error);
    return done != NULL;
}

void colo_manager_release(ColoManager *m, const char *uuid)
{
    ColoDomain *domain = actor_of(m, uuid);

    if (domain)
        colo_mailbox_post(domain->mailbox, colo_mail_new(COLO_MAIL_COMMAND, "release", NULL));
}

gboolean colo_manager_hold(ColoManager *m, const char *uuid, const char *call, GError **error)
{
    g_autoptr(JsonObject) args = colo_json_build("call", "s", call, NULL);
    g_autoptr(GError) own = NULL;

    if (ask_actor(m, uuid, "hold", args, &own))
        return TRUE;
    if (g_error_matches(own, COLO_ERROR, COLO_ERROR_TIMEOUT)) /* it may come to it later */
        colo_manager_release(m, uuid);
    g_propagate_error(error, g_steal_pointer(&own));
    return FALSE;
}

gboolean colo_manager_set_autostart(ColoManager *m, const char *uuid, gboolean on, GError **error)
{
    g_autoptr(JsonObject) args = colo_json_build("on", "b", on, NULL);

    return ask_actor(m, uuid, "autostart", args, error);
}

char *colo_manager_migratable_xml(ColoManager *m, const char *uuid, GError **error)
{
    virDomainPtr dom = colo_virconn_lookup(m->host.virconn, uuid, error);
    char *xml, *copy;

    if (!dom)
        return NULL;
    xml = virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_MIGRATABLE);
    if (!xml)
        colo_virconn_set_error(error, "reading the domain's XML");
    virDomainFree(dom);
    copy = g_strdup(xml);
    free(xml);
    return copy;
}

int colo_manager_domain_id(ColoManager *m, const char *uuid)
{
    virDomainPtr dom = colo_virconn_lookup(m->host.virconn, uuid, NULL);
    int id = dom ? (int)virDomainGetID(dom) : -1;

    if (dom)
        virDomainFree(dom);
    return id;
}

/* ---- routing: all of these only post ---- */

static void post(ColoManager *m, const char *uuid, ColoMail *mail)
{
    ColoDomain *domain;

    g_mutex_lock(&m->lock);
    domain = g_hash_table_lookup(m->domains, uuid);
    if (domain)
        colo_mailbox_post(domain->mailbox, mail);
    else
        colo_mail_free(mail);
    g_mutex_unlock(&m->lock);
}

/* To every domain, or to those of @pair. */
static void post_all(ColoManager *m, const char *pair, ColoMailKind kind)
{
    GHashTableIter iter;
    gpointer value;

    g_mutex_lock(&m->lock);
    g_hash_table_iter_init(&iter, m->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ColoDomain *domain = value;
        g_autoptr(JsonObject) view = colo_domain_view(domain);

        if (!pair || g_strcmp0(colo_json_peek_string(view, "pair", NULL), pair) == 0)
            colo_mailbox_post(domain->mailbox, colo_mail_new(kind, NULL, NULL));
    }
    g_mutex_unlock(&m->lock);
}

static void on_comparator_event(const char *name, const char *uuid, JsonObject *event, void *opaque)
{
    ColoManager *m = opaque;

    /* The kick goes out at once: a diverged answer waits for it. */
    if (strcmp(name, "checkpoint-wanted") == 0)
        colo_kicker_kick(m->host.kicker, uuid);
    else if (strcmp(name, "state-wanted") == 0 || strcmp(name, "state") == 0)
        colo_carrier_event(m->host.carrier, name, uuid, event); /* and a guest stands */
    else
        post(m, uuid, colo_mail_new(COLO_MAIL_COMPARATOR, name, event));
}

static void on_comparator_up(void *opaque)
{
    post_all(opaque, NULL, COLO_MAIL_COMPARATOR_UP);
}

static void on_comparator_down(void *opaque)
{
    colo_warn("colo-comparator is gone");
    post_all(opaque, NULL, COLO_MAIL_COMPARATOR_DOWN);
}

static void on_kick(const char *uuid, ColoKickEvent event, uint64_t waited_ms, void *opaque)
{
    ColoLogContext about = {NULL, uuid, 0};

    if (event == COLO_KICK_DONE)
        post(opaque, uuid, colo_mail_new(COLO_MAIL_COMPARATOR, "kick-done", NULL));
    else if (event == COLO_KICK_ALIVE)
        post(opaque, uuid, colo_mail_new(COLO_MAIL_COMPARATOR, "qemu-heard", NULL));
    else if (event == COLO_KICK_MIRROR_LOST)
        post(opaque, uuid, colo_mail_new(COLO_MAIL_COMPARATOR, "mirror-lost", NULL));
    else if (event == COLO_KICK_SUSPECT) {
        colo_log_full(&about, LOG_WARNING, __func__,
                      "QEMU has not answered for %" G_GUINT64_FORMAT " ms", waited_ms);
        post(opaque, uuid, colo_mail_new(COLO_MAIL_COMPARATOR, "qemu-silent", NULL));
    }
}

static void on_lifecycle(const char *uuid, int event, int detail, void *opaque)
{
    ColoMail *mail = colo_mail_new(COLO_MAIL_LIFECYCLE, NULL, NULL);
    ColoManager *m = opaque;

    mail->number = event;
    mail->detail = detail;
    post(m, uuid, mail);
    if (event == VIR_DOMAIN_EVENT_STARTED && g_atomic_int_get(&m->started))
        colo_declarations_look(m->declarations, uuid);
}

static void on_metadata(const char *uuid, const char *ns, void *opaque)
{
    if (strcmp(ns, COLO_DECLARATION_NS) == 0)
        post(opaque, uuid, colo_mail_new(COLO_MAIL_METADATA, NULL, NULL));
}

static void on_declared(const char *uuid, void *opaque)
{
    ColoDomain *domain = colo_manager_ensure(opaque, uuid, NULL);

    if (domain)
        colo_mailbox_post(domain->mailbox, colo_mail_new(COLO_MAIL_DECLARED, NULL, NULL));
}

static JsonObject *view_of(const char *uuid, void *opaque)
{
    return colo_manager_view(opaque, uuid);
}

static void on_libvirt_up(void *opaque)
{
    ColoManager *m = opaque;

    post_all(m, NULL, COLO_MAIL_LIBVIRT_UP);
    if (g_atomic_int_get(&m->started))
        colo_declarations_look(m->declarations, NULL);
    colo_host_facts_warm_up(&m->host);
}

static void on_pair(const char *pair, ColoPairEvent event, void *opaque)
{
    static const ColoMailKind kinds[] = {
        [COLO_PAIR_EVENT_UP] = COLO_MAIL_CONTROL_UP,
        [COLO_PAIR_EVENT_SILENT] = COLO_MAIL_CONTROL_SILENT,
        [COLO_PAIR_EVENT_HEARD] = COLO_MAIL_CONTROL_HEARD,
    };

    if (event != COLO_PAIR_EVENT_DOWN) /* a broken connection is no evidence: silence is */
        post_all(opaque, pair, kinds[event]);
}

static void emit(JsonObject *event, void *opaque)
{
    ColoManager *m = opaque;

    if (strcmp(colo_json_peek_string(event, "event", ""), "state") == 0)
        colo_declarations_tell(m->declarations, colo_json_peek_string(event, "uuid", ""));
    if (m->event)
        m->event(event, m->opaque);
    json_object_put(event);
}

/* ---- requests of the peer ---- */

/* The peer defined a pair with us: the same on this side, so that both can dial. */
static JsonObject *peer_defines_pair(ColoManager *m, const ColoPeerInfo *from, JsonObject *params,
                                     GError **error)
{
    const char *name, *map = NULL;
    uint64_t port;

    if (!colo_json_get_string(params, "name", &name, error) ||
        !colo_json_get_uint(params, "port", &port, error) ||
        (colo_json_peek(params, "pool-map") &&
         !colo_json_get_string(params, "pool-map", &map, error)))
        return NULL;
    if (port == 0 || port > UINT16_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "pair '%s': port %" G_GUINT64_FORMAT " is not 1 to 65535", name, port);
        return NULL;
    }
    if (!colo_pairs_define(m->host.pairs, name, from->host, (uint16_t)port, map, error))
        return NULL;
    colo_info("pair '%s' with %s was defined by the peer", name, from->host);
    return json_object_new_object();
}

static JsonObject *peer_undefines_pair(ColoManager *m, JsonObject *params, GError **error)
{
    g_autofree char *user = NULL;
    const char *name;

    if (!colo_json_get_string(params, "name", &name, error))
        return NULL;
    if (colo_manager_pair_in_use(m, name, &user)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "pair '%s' is in use by domain '%s' on %s: unprotect it first", name, user,
                    m->host.config->host_name);
        return NULL;
    }
    return colo_pairs_undefine(m->host.pairs, name, error) ? json_object_new_object() : NULL;
}

static JsonObject *on_peer_request(const ColoPeerInfo *from, const char *method, JsonObject *params,
                                   void *opaque, GError **error)
{
    ColoManager *m = opaque;
    const char *uuid, *name;
    ColoDomain *domain;

    /* A starting virtcolod does not know its domains yet: "no such domain" would be an answer. */
    if (!g_atomic_int_get(&m->started)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "virtcolod of %s is starting: try again", m->host.config->host_name);
        return NULL;
    }
    if (strcmp(method, "pair-define") == 0)
        return peer_defines_pair(m, from, params, error);
    if (strcmp(method, "pair-undefine") == 0)
        return peer_undefines_pair(m, params, error);
    if (strcmp(method, "host-command") == 0) {
        JsonObject *args;

        /* doctor, prepare and features look at both hosts; only these cross over. */
        if (!colo_json_get_string(params, "command", &name, error) ||
            !colo_json_get_object(params, "arguments", &args, error))
            return NULL;
        return colo_commands_for_peer(m, name, args, error);
    }
    if (!g_str_has_prefix(method, "domain-")) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown request '%s'", method);
        return NULL;
    }
    if (!colo_json_get_string(params, "uuid", &uuid, error))
        return NULL;
    if (!g_uuid_string_is_valid(uuid)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "'%s' is not a UUID", uuid);
        return NULL;
    }
    domain = lookup(m, uuid);
    if (!domain && strcmp(method, "domain-prepare") == 0) {
        if (!colo_json_get_string(params, "name", &name, error))
            return NULL;
        domain = add(m, colo_domain_record_new(uuid, name));
    }
    if (!domain) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN, "%s knows no protected domain %s",
                    m->host.config->host_name, uuid);
        return NULL;
    }
    return colo_mailbox_ask(domain->mailbox, COLO_MAIL_PEER, method, params,
                            PEER_REQUEST_TIMEOUT_MS, error);
}

/* ---- life ---- */

static char *read_boot_id(GError **error)
{
    char *text = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, error))
        return NULL;
    return g_strstrip(text);
}

static gboolean open_pairs(ColoManager *m, int control_fd, GError **error)
{
    m->self.software = g_strdup("libvirt-colo " PACKAGE_VERSION);
    m->self.host = g_strdup(m->host.config->host_name);
    m->self.boot_id = g_strdup(m->host.boot_id);
    m->server = colo_channel_server_new(&m->host.config->tls, &m->self, control_fd, on_peer_request,
                                        m, error);
    if (!m->server)
        return FALSE;
    m->host.pairs =
        colo_pairs_new(m->host.config, &m->self, m->host.store, m->server, on_pair, m, error);
    return m->host.pairs != NULL;
}

static gboolean start_domains(ColoManager *m, GError **error)
{
    g_autoptr(GPtrArray) records = colo_store_domains(m->host.store, error);

    if (!records)
        return FALSE;
    g_ptr_array_set_free_func(records, NULL); /* the actors take them over */
    for (guint i = 0; i < records->len; i++)
        add(m, g_ptr_array_index(records, i));
    return TRUE;
}

ColoManager *colo_manager_new(const ColoConfig *config, const char *libvirt_uri,
                              const char *comparator_socket, int control_fd, ColoEventFunc event,
                              void *opaque, GError **error)
{
    static const ColoComparatorEvents comparator_events = {
        .event = on_comparator_event, .up = on_comparator_up, .down = on_comparator_down};
    static const ColoVirConnEvents libvirt_events = {
        .lifecycle = on_lifecycle, .metadata = on_metadata, .up = on_libvirt_up};
    g_autoptr(ColoManager) m = g_new0(ColoManager, 1);

    m->event = event;
    m->opaque = opaque;
    m->host.config = config;
    m->host.emit = emit;
    m->host.emit_opaque = m;
    g_mutex_init(&m->lock);
    m->domains =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)colo_domain_free);
    m->host.boot_id = read_boot_id(error);
    if (!m->host.boot_id)
        return NULL;
    m->host.store = colo_store_open(config->state_dir, error);
    if (!m->host.store)
        return NULL;
    m->host.arbiter = colo_arbiter_new(&config->arbiter, error);
    if (!m->host.arbiter)
        return NULL;
    colo_arbiter_keep_warm(m->host.arbiter);
    m->host.virconn = colo_virconn_new(libvirt_uri, &libvirt_events, m);
    m->declarations = colo_declarations_new(
        m->host.virconn,
        &(ColoDeclarationsHost){.found = on_declared, .view = view_of, .opaque = m});
    m->host.kicker = colo_kicker_new(libvirt_uri, on_kick, m);
    m->host.carrier = colo_carrier_new(&m->host.comparator, &colo_hvfeat_kernel);
    m->host.comparator = colo_comparator_client_new(comparator_socket, &comparator_events, m);
    m->figures = colo_figures_new(colo_commands_ask_figures, m);
    if (!open_pairs(m, control_fd, error) || !start_domains(m, error))
        return NULL;
    g_atomic_int_set(&m->started, 1);
    colo_declarations_look(m->declarations, NULL);
    return g_steal_pointer(&m);
}

void colo_manager_free(ColoManager *m)
{
    GHashTable *domains;

    if (!m)
        return;
    /* No more requests, then the actors, then what they stand on. Events still come meanwhile and
     * find nobody. */
    colo_channel_server_free(m->server);
    g_mutex_lock(&m->lock);
    domains = m->domains;
    m->domains = g_hash_table_new(g_str_hash, g_str_equal);
    g_mutex_unlock(&m->lock);
    g_hash_table_unref(domains);
    colo_declarations_free(m->declarations);
    colo_carrier_stop(m->host.carrier);
    colo_figures_free(m->figures);
    colo_comparator_client_free(m->host.comparator); /* no event comes from here on */
    colo_carrier_free(m->host.carrier);
    colo_kicker_free(m->host.kicker);
    colo_virconn_free(m->host.virconn);
    colo_pairs_free(m->host.pairs);
    colo_arbiter_free(m->host.arbiter);
    colo_store_close(m->host.store);
    g_hash_table_unref(m->domains);
    g_mutex_clear(&m->lock);
    g_free(m->host.boot_id);
    g_free(m->self.software);
    g_free(m->self.host);
    g_free(m->self.boot_id);
    g_free(m);
}
