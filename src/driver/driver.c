/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/driver.h"

#include "domain/declaration.h"
#include "driver/domstats.h"
#include "driver/monitor.h"
#include "driver/policy.h"
#include "driver/switchover.h"
#include "rpc/remote-calls.h"
#include "util/bytes.h"
#include "util/error.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <libxml/parser.h>
#include <string.h>

/* REMOTE_STRING_MAX. */
#define TEXT_MAX (4u << 20)
/* Of a domain's name or UUID in its XML, and the nodes that it is made of. */
#define CONTENT_MAX 4096
#define CONTENT_NODES_MAX 4096u

struct ColoDriver {
    char *host_name;
    ColoDriverHost host;
    ColoRelayDriver relay;
    ColoDomstats *domstats;
};

/* ---- calls ---- */

/* Adds what is said in @node and those behind it to @text, entities included, of which a few bytes
 * can make gigabytes: FALSE when it is more than a name or takes more than @steps nodes. */
static gboolean add_content(GString *text, const xmlNode *node, unsigned *steps)
{
    for (; node; node = node->next) {
        if (*steps == 0 || text->len > CONTENT_MAX)
            return FALSE;
        --*steps;
        if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) {
            g_string_append_len(text, (const char *)node->content,
                                (gssize)strnlen((const char *)node->content, CONTENT_MAX + 1));
        } else if (node->type == XML_ENTITY_REF_NODE) {
            const xmlEntity *entity = xmlGetDocEntity(node->doc, node->name);

            if (entity && !add_content(text, entity->children, steps))
                return FALSE;
        } else if (node->type == XML_ELEMENT_NODE && !add_content(text, node->children, steps)) {
            return FALSE;
        }
    }
    return text->len <= CONTENT_MAX;
}

/* The content of <domain>'s child @name, the caller's; NULL: there is none. */
static char *domain_child(xmlDocPtr doc, const char *name)
{
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;

    if (!root || !xmlStrEqual(root->name, BAD_CAST "domain"))
        return NULL;
    for (xmlNodePtr child = root->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && xmlStrEqual(child->name, BAD_CAST name)) {
            g_autoptr(GString) text = g_string_new(NULL);
            unsigned steps = CONTENT_NODES_MAX;

            if (!add_content(text, child->children, &steps))
                return NULL;
            return g_strstrip(g_string_free(g_steal_pointer(&text), FALSE));
        }
    }
    return NULL;
}

/* The view of the domain that @xml describes: by its UUID, or by its name, which libvirt takes for
 * the same. */
static JsonObject *view_of_xml(const ColoDriver *driver, const char *xml)
{
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    g_autofree char *uuid = domain_child(doc, "uuid"), *name = domain_child(doc, "name");
    JsonObject *view = uuid ? driver->host.view(uuid, driver->host.opaque) : NULL;

    if (!view && name)
        view = driver->host.view(name, driver->host.opaque);
    xmlFreeDoc(doc);
    return view;
}

/* The view of the domain that the call is about; NULL: COLO has nothing to do with it, or libvirt
 * will say that the call is malformed. */
static JsonObject *view_of_call(const ColoDriver *driver, const ColoRpcFrame *frame,
                                ColoPolicyObject object)
{
    size_t at = colo_remote_body_at(frame);
    ColoRemoteDomain domain;
    g_autofree char *text = NULL;
    JsonObject *view;

    switch (object) {
    case COLO_OBJECT_NONE:
        return NULL;
    case COLO_OBJECT_XML:
        text = colo_remote_get_text(frame, &at, TEXT_MAX);
        return text ? view_of_xml(driver, text) : NULL;
    case COLO_OBJECT_CHILD:
        text = colo_remote_get_text(frame, &at, TEXT_MAX);
        if (!text)
            return NULL;
        break;
    case COLO_OBJECT_DOMAIN:
        break;
    }
    if (!colo_remote_get_domain(frame, &at, &domain))
        return NULL;
    g_free(domain.name);
    view = driver->host.view(domain.uuid, driver->host.opaque);
    return view;
}

/* A refusal tells of the domain, and is heard instead of what libvirt would have done: libvirt is
 * asked for the right to read and to change it. (It has finer ones than the second, none of which
 * can be asked for without doing it.) */
static ColoRelayVerdict refuse(const ColoDriver *driver, const ColoRpcFrame *frame,
                               ColoPolicyAction action, JsonObject *view, GByteArray **answer,
                               GByteArray **question)
{
    const char *name = colo_json_peek_string(view, "name", "");
    const char *uuid = colo_json_peek_string(view, "uuid", "");
    g_autoptr(GByteArray) write = NULL;
    g_autofree char *reason = view ? colo_policy_refusal(action, view, driver->host_name) : NULL;
    g_autofree char *message = NULL;

    if (!reason)
        return COLO_RELAY_PASS;
    message = g_strconcat("Requested operation is not valid: ", reason, NULL);
    *answer = colo_remote_error(&frame->header, VIR_ERR_OPERATION_INVALID, message);
    *question = colo_remote_ask_domain_read(name, uuid);
    write = colo_remote_ask_domain_write(name, uuid);
    g_byte_array_append(*question, write->data, write->len);
    return COLO_RELAY_ANSWER;
}

/* What libvirt asks for its own permission: the right to change the domain. */
static ColoRelayVerdict begin_work(JsonObject *view, GByteArray **question)
{
    *question = colo_remote_ask_domain_write(colo_json_peek_string(view, "name", ""),
                                             colo_json_peek_string(view, "uuid", ""));
    return COLO_RELAY_WORK;
}

/* A declaration that @frame brings into a domain's metadata; NULL: there is none, or it is good. */
static char *bad_declaration(const ColoRpcFrame *frame, const ColoPolicyRow *row)
{
    size_t at = colo_remote_body_at(frame);
    g_autofree char *text = NULL, *key = NULL, *ns = NULL;
    g_autoptr(ColoDeclaration) declaration = NULL;
    g_autoptr(GError) error = NULL;
    ColoRemoteDomain domain;
    uint32_t type;

    if (row->object == COLO_OBJECT_XML) {
        text = colo_remote_get_text(frame, &at, TEXT_MAX);
        declaration = text ? colo_declaration_of_domain(text, &error) : NULL;
    } else if (row->procedure == COLO_REMOTE_PROC_DOMAIN_SET_METADATA &&
               colo_remote_get_domain(frame, &at, &domain)) {
        /* int type; remote_string metadata, key, uri */
        g_free(domain.name);
        if (!colo_remote_get_word(frame, &at, &type) || type != VIR_DOMAIN_METADATA_ELEMENT ||
            !colo_remote_get_optional(frame, &at, TEXT_MAX, &text) ||
            !colo_remote_get_optional(frame, &at, TEXT_MAX, &key) ||
            !colo_remote_get_optional(frame, &at, TEXT_MAX, &ns))
            return NULL;
        if (text && g_strcmp0(ns, COLO_DECLARATION_NS) == 0)
            declaration = colo_declaration_of_element(text, &error);
    }
    return error ? g_strdup(error->message) : NULL;
}

/* Its vCPUs stand for some ms now and then, and nobody else may stop them. */
static gboolean is_checkpointing(JsonObject *view)
{
    const char *state = colo_json_peek_string(view, "state", "");

    return strcmp(state, "syncing") == 0 || strcmp(state, "protected") == 0;
}

static ColoRelayVerdict domain_call(const ColoDriver *driver, const ColoRpcFrame *frame,
                                    const ColoPolicyRow *row, GByteArray **answer,
                                    GByteArray **question)
{
    g_autofree char *bad = bad_declaration(frame, row);
    g_autoptr(JsonObject) view = NULL;

    if (bad) {
        *answer = colo_remote_error(&frame->header, VIR_ERR_XML_ERROR, bad);
        return COLO_RELAY_ANSWER;
    }
    view = view_of_call(driver, frame, row->object);
    if (row->action == COLO_ACTION_STATE)
        return is_checkpointing(view) ? COLO_RELAY_REVISE : COLO_RELAY_PASS;
    if (row->action == COLO_ACTION_GET_AUTOSTART)
        return view && colo_policy_has_autostart(view) ? COLO_RELAY_REVISE : COLO_RELAY_PASS;
    if (row->action == COLO_ACTION_AUTOSTART && view && !colo_policy_is_copy(view) &&
        colo_policy_has_autostart(view))
        return begin_work(view, question);
    /* FDs would be lost on the way. */
    if (view && frame->header.type == COLO_RPC_CALL && colo_policy_interrupts(row->action, view))
        return begin_work(view, question);
    return refuse(driver, frame, row->action, view, answer, question);
}

static ColoRelayVerdict call(const ColoRpcFrame *frame, GByteArray **answer, GByteArray **question,
                             void *opaque)
{
    const ColoDriver *driver = opaque;
    const ColoRpcHeader *h = &frame->header;
    g_autoptr(JsonObject) view = NULL;
    const ColoPolicyRow *row;

    if (h->program == COLO_REMOTE_QEMU_PROGRAM) {
        if (h->procedure != COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND &&
            h->procedure != COLO_REMOTE_PROC_QEMU_MONITOR_COMMAND_WITH_FILES)
            return COLO_RELAY_PASS;
        if (colo_monitor_is_ours(frame)) {
            *question = colo_monitor_question(frame);
            return COLO_RELAY_WORK;
        }
        view = view_of_call(driver, frame, COLO_OBJECT_DOMAIN);
        return refuse(driver, frame, COLO_ACTION_TOUCH, view, answer, question);
    }
    if (h->program == COLO_REMOTE_PROGRAM &&
        colo_switchover_call(&driver->host, frame, question) == COLO_SWITCHOVER_WORK)
        return COLO_RELAY_WORK;
    if (h->program == COLO_REMOTE_PROGRAM &&
        h->procedure == COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS)
        return COLO_RELAY_WORK; /* whoever may ask libvirt may hear it */
    row = h->program == COLO_REMOTE_PROGRAM ? colo_policy_find(h->procedure) : NULL;
    if (!row || row->action == COLO_ACTION_PASS)
        return COLO_RELAY_PASS;
    return domain_call(driver, frame, row, answer, question);
}

/* "suspend" of "DOMAIN_SUSPEND": what virsh and people call it. */
static char *name_of_call(const ColoPolicyRow *row)
{
    const char *name = g_str_has_prefix(row->name, "DOMAIN_") ? row->name + 7 : row->name;
    char *text = g_ascii_strdown(name, -1);

    return g_strdelimit(text, "_", '-');
}

static GByteArray *failed(const ColoRpcFrame *frame, const GError *error)
{
    gboolean invalid = g_error_matches(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);

    return colo_remote_error(&frame->header,
                             invalid ? VIR_ERR_OPERATION_INVALID : VIR_ERR_OPERATION_FAILED,
                             error->message);
}

/* The reply to SET_AUTOSTART: remote_nonnull_domain dom; int autostart */
static GByteArray *set_autostart(const ColoDriver *driver, const ColoRpcFrame *frame,
                                 const char *uuid)
{
    size_t at = colo_remote_body_at(frame);
    g_autoptr(GError) error = NULL;
    ColoRemoteDomain domain;
    uint32_t on = 0;

    if (colo_remote_get_domain(frame, &at, &domain)) {
        g_free(domain.name);
        (void)colo_remote_get_word(frame, &at, &on);
    }
    return driver->host.set_autostart(uuid, on != 0, driver->host.opaque, &error)
               ? colo_remote_reply(&frame->header, NULL, 0)
               : failed(frame, error);
}

static gboolean is_switchover(const ColoDriver *driver, const ColoRpcFrame *frame)
{
    g_autoptr(GByteArray) question = NULL;

    return colo_switchover_call(&driver->host, frame, &question) == COLO_SWITCHOVER_WORK;
}

/* A client is about to ask libvirt for statistics. On a worker. */
static void fetch_stats(const ColoDriver *driver)
{
    g_autoptr(JsonObject) none = json_object_new_object();
    g_autoptr(JsonObject) list = driver->host.command("colo-list", none, driver->host.opaque, NULL);
    JsonObject *rows = colo_json_peek(list, "domains");

    for (size_t i = 0; rows && i < json_object_array_length(rows); i++) {
        const char *uuid = colo_json_peek_string(json_object_array_get_idx(rows, i), "uuid", "");
        g_autoptr(JsonObject) figures = driver->host.figures(uuid, driver->host.opaque);

        colo_domstats_keep(driver->domstats, uuid, figures);
    }
}

/* On a worker. */
static GByteArray *work(const ColoRpcFrame *frame, void *opaque)
{
    const ColoDriver *driver = opaque;
    const ColoPolicyRow *row;
    g_autoptr(JsonObject) view = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *name = NULL;
    const char *uuid;

    if (frame->header.program == COLO_REMOTE_QEMU_PROGRAM)
        return colo_monitor_answer(frame, driver->host.command, driver->host.opaque);
    if (frame->header.procedure == COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS) {
        fetch_stats(driver);
        return NULL;
    }
    if (is_switchover(driver, frame))
        return colo_switchover_work(&driver->host, frame);
    row = colo_policy_find(frame->header.procedure);
    view = view_of_call(driver, frame, row->object);
    uuid = colo_json_peek_string(view, "uuid", "");
    if (row->action == COLO_ACTION_AUTOSTART)
        return set_autostart(driver, frame, uuid);
    name = name_of_call(row);
    return driver->host.hold(uuid, name, driver->host.opaque, &error) ? NULL : failed(frame, error);
}

/* The call for which the protection is interrupted is over. */
static void after(const ColoRpcFrame *frame, void *opaque)
{
    const ColoDriver *driver = opaque;
    const ColoPolicyRow *row = colo_policy_find(frame->header.procedure);
    g_autoptr(JsonObject) view = NULL;

    if (row->action == COLO_ACTION_PASS) /* statistics */
        return;
    view = view_of_call(driver, frame, row->object);
    driver->host.release(colo_json_peek_string(view, "uuid", ""), driver->host.opaque);
}

/* ---- what libvirt says ---- */

static gboolean is_hidden(const char *uuid, void *opaque)
{
    const ColoDriver *driver = opaque;
    g_autoptr(JsonObject) view = driver->host.view(uuid, driver->host.opaque);

    return view && colo_policy_is_copy(view);
}

/* Which event of a domain it is: 0: none, else where in the body the domain begins, plus 1. */
static size_t domain_of_event(const ColoRpcFrame *frame)
{
    const ColoPolicyRow *row = colo_policy_find(frame->header.procedure);

    if (!row || !g_str_has_prefix(row->name, "DOMAIN_EVENT_"))
        return 0;
    /* A callback's id comes first since there are such. */
    return row->procedure >= COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE ? 1 + 4 : 1;
}

/* The vCPUs of a guest whose pauses nobody else causes stop or start. */
static gboolean is_of_checkpoint(const ColoRpcFrame *frame, size_t at, JsonObject *view)
{
    uint32_t event, detail;

    if (frame->header.procedure != COLO_REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE &&
        frame->header.procedure != COLO_REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE)
        return FALSE;
    if (!colo_remote_get_word(frame, &at, &event) || !colo_remote_get_word(frame, &at, &detail))
        return FALSE;
    if (!(event == VIR_DOMAIN_EVENT_SUSPENDED && (detail == VIR_DOMAIN_EVENT_SUSPENDED_PAUSED ||
                                                  detail == VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED)) &&
        !(event == VIR_DOMAIN_EVENT_RESUMED && (detail == VIR_DOMAIN_EVENT_RESUMED_UNPAUSED ||
                                                detail == VIR_DOMAIN_EVENT_RESUMED_MIGRATED)))
        return FALSE;
    return is_checkpointing(view);
}

/* An event that no client shall hear of: a checkpoint's, or of a copy, which nobody sees. */
static gboolean is_silent(const ColoDriver *driver, const ColoRpcFrame *frame)
{
    size_t at = domain_of_event(frame);
    g_autoptr(JsonObject) view = NULL;
    ColoRemoteDomain domain;

    if (at-- == 0 || !colo_remote_get_domain(frame, &at, &domain))
        return FALSE;
    g_free(domain.name);
    view = driver->host.view(domain.uuid, driver->host.opaque);
    return view && (colo_policy_is_copy(view) || is_of_checkpoint(frame, at, view));
}

static unsigned add_stats(const char *uuid, GByteArray *params, void *opaque)
{
    const ColoDriver *driver = opaque;
    g_autoptr(JsonObject) view = driver->host.view(uuid, driver->host.opaque);

    if (!view || strcmp(colo_json_peek_string(view, "state", ""), "unprotected") == 0)
        return 0;
    return colo_domstats_add(driver->domstats, uuid, view, params);
}

/* A text of XML as an attribute's value, between '...'. */
static void add_attribute(GString *xml, const char *name, const char *value)
{
    g_autofree char *escaped = g_markup_escape_text(value, -1);

    g_string_append_printf(xml, " %s='%s'", name, escaped);
}

/* <colo:protection supported='yes'> with the pairs of this host. */
static char *announcement(const ColoDriver *driver)
{
    g_autoptr(JsonObject) list = driver->host.pairs(driver->host.opaque);
    JsonObject *pairs = colo_json_peek(list, "pairs");
    GString *xml =
        g_string_new("  <colo:protection xmlns:colo='" COLO_DECLARATION_NS "' supported='yes'>\n");

    for (size_t i = 0; pairs && i < json_object_array_length(pairs); i++) {
        JsonObject *pair = json_object_array_get_idx(pairs, i);

        g_string_append(xml, "    <colo:pair");
        add_attribute(xml, "name", colo_json_peek_string(pair, "name", ""));
        add_attribute(xml, "peer", colo_json_peek_string(pair, "peer", ""));
        add_attribute(xml, "state", colo_json_peek_string(pair, "state", ""));
        g_string_append(xml, "/>\n");
    }
    g_string_append(xml, "  </colo:protection>\n");
    return g_string_free(xml, FALSE);
}

/* The XML of a reply, which ends in @end, with the announcement at its end; NULL: as it is. */
static GByteArray *announce(const ColoDriver *driver, const ColoRpcFrame *frame, const char *end)
{
    size_t at = 0;
    g_autofree char *text = colo_remote_get_text(frame, &at, TEXT_MAX);
    g_autofree char *more = NULL, *xml = NULL;
    const char *tail = text ? g_strrstr(text, end) : NULL;

    if (!tail)
        return NULL;
    more = announcement(driver);
    xml = g_strdup_printf("%.*s%s%s", (int)(tail - text), text, more, tail);
    return colo_remote_string(&frame->header, xml);
}

static ColoRelayVerdict heard(const ColoRpcFrame *frame, GByteArray **answer, void *opaque)
{
    const ColoDriver *driver = opaque;
    const ColoRpcHeader *h = &frame->header;

    if (h->program != COLO_REMOTE_PROGRAM)
        return COLO_RELAY_PASS;
    if (h->type == COLO_RPC_MESSAGE)
        return is_silent(driver, frame) ? COLO_RELAY_DROP : COLO_RELAY_PASS;
    if (h->type != COLO_RPC_REPLY || h->status != COLO_RPC_OK)
        return COLO_RELAY_PASS;
    if (h->procedure == COLO_REMOTE_PROC_CONNECT_GET_CAPABILITIES)
        *answer = announce(driver, frame, "</capabilities>");
    else if (h->procedure == COLO_REMOTE_PROC_CONNECT_GET_DOMAIN_CAPABILITIES)
        *answer = announce(driver, frame, "</domainCapabilities>");
    else if (h->procedure == COLO_REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS)
        *answer = colo_remote_list_without(frame, is_hidden, opaque);
    else if (h->procedure == COLO_REMOTE_PROC_CONNECT_GET_ALL_DOMAIN_STATS)
        *answer = colo_remote_stats_with(frame, add_stats, opaque);
    return *answer ? COLO_RELAY_ANSWER : COLO_RELAY_PASS;
}

/* Autostart of a domain that libvirt does not start by itself: the register must be read first. */
static ColoRelayVerdict revise_autostart(const ColoRpcFrame *call_frame, const ColoRpcFrame *reply,
                                         JsonObject *view, GByteArray **answer)
{
    uint8_t body[4];

    if (reply->header.status != COLO_RPC_OK || !view || !colo_policy_has_autostart(view))
        return COLO_RELAY_PASS;
    colo_put32(body, colo_json_peek_bool(view, "autostart", FALSE));
    *answer = colo_remote_reply(&call_frame->header, body, sizeof(body));
    return COLO_RELAY_ANSWER;
}

/* The state of a domain that stands for a checkpoint: int state, and of GET_STATE int reason. */
static ColoRelayVerdict revise(const ColoRpcFrame *call_frame, const ColoRpcFrame *reply,
                               GByteArray **answer, void *opaque)
{
    const ColoDriver *driver = opaque;
    g_autoptr(JsonObject) view = view_of_call(driver, call_frame, COLO_OBJECT_DOMAIN);
    g_autofree uint8_t *body = NULL;

    if (reply->header.procedure == COLO_REMOTE_PROC_DOMAIN_GET_AUTOSTART)
        return revise_autostart(call_frame, reply, view, answer);
    if (reply->header.status != COLO_RPC_OK || reply->len < 8 ||
        colo_get32(reply->body) != VIR_DOMAIN_PAUSED || !is_checkpointing(view))
        return COLO_RELAY_PASS;
    body = g_memdup2(reply->body, reply->len);
    colo_put32(body, VIR_DOMAIN_RUNNING);
    if (reply->header.procedure == COLO_REMOTE_PROC_DOMAIN_GET_STATE)
        colo_put32(body + 4, VIR_DOMAIN_RUNNING_UNPAUSED);
    *answer = colo_remote_reply(&call_frame->header, body, reply->len);
    return COLO_RELAY_ANSWER;
}

/* ---- life ---- */

ColoDriver *colo_driver_new(const char *host_name, const ColoDriverHost *host)
{
    ColoDriver *driver = g_new0(ColoDriver, 1);

    driver->host_name = g_strdup(host_name);
    driver->host = *host;
    driver->domstats = colo_domstats_new();
    driver->relay = (ColoRelayDriver){.call = call,
                                      .work = work,
                                      .after = after,
                                      .heard = heard,
                                      .revise = revise,
                                      .opaque = driver};
    return driver;
}

void colo_driver_free(ColoDriver *driver)
{
    if (!driver)
        return;
    colo_domstats_free(driver->domstats);
    g_free(driver->host_name);
    g_free(driver);
}

char *colo_driver_may_run(const char *uuid, gboolean *replicated, void *opaque)
{
    const ColoDriver *driver = opaque;
    g_autoptr(JsonObject) view = driver->host.view(uuid, driver->host.opaque);

    *replicated = view && colo_policy_is_replicated(view);
    return view ? colo_policy_may_run(view, driver->host_name) : NULL;
}

const ColoRelayDriver *colo_driver_relay(const ColoDriver *driver)
{
    return &driver->relay;
}
