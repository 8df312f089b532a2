/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-prepare on the host of the domain: asks the peer for a copy of every disk (prepare-copy.c),
 * checks what else both hosts need, also the peer's memory and space, and with --fix takes the NICs
 * of the persistent definition off vhost. All disks are checked before the first copy is made.
 */
#include "domain/commands.h"
#include "domain/eligibility.h"
#include "domain/features.h"
#include "domain/host-facts.h"
#include "domain/pool-map.h"
#include "domain/prepare-copy.h"
#include "domain/room.h"
#include "domain/secondary-xml.h"
#include "domain/xml-util.h"
#include "util/error.h"

#include <string.h>

#define CONN_TIMEOUT_MS 5000u
#define CHANNEL_UP_TIMEOUT_MS 2000u

typedef struct {
    ColoManager *m;
    virConnectPtr conn;
    virDomainPtr dom;
    const char *pair;
    char *peer;      /* name for people */
    JsonObject *map; /* the pair's pool map */
    ColoDomainInfo *info;
    JsonObject *actions;
    JsonObject *copies;    /* [{"target", "copy"}] on the peer */
    JsonObject *allocated; /* {target: bytes} here */
} Prepare;

static void act(Prepare *p, const char *host, const char *object, gboolean done, char *action)
{
    json_object_array_add(p->actions,
                          colo_json_build("host", "s", host, "object", "s", object, "action", "s",
                                          action, "done", "b", done, NULL));
    g_free(action);
}

static JsonObject *ask_peer(Prepare *p, JsonObject *arguments, GError **error)
{
    g_autoptr(ColoChannelRef) channel = colo_pairs_channel(p->m->host.pairs, p->pair, error);
    JsonObject *reply;

    if (!channel) {
        json_object_put(arguments);
        return NULL;
    }
    reply = colo_channel_call(
        channel, "host-command",
        colo_json_build("command", "s", "prepare-copy", "arguments", "o", arguments, NULL),
        COLO_PEER_TIMEOUT_MS, error);
    if (!reply)
        g_prefix_error(error, "domain '%s': ", p->info->name);
    return reply;
}

/* Path and size (bytes) of the content of @disk on this host. */
static gboolean locate_disk(Prepare *p, const ColoDiskInfo *disk, char **path, uint64_t *size,
                            GError **error)
{
    virStoragePoolPtr pool = disk->pool ? virStoragePoolLookupByName(p->conn, disk->pool) : NULL;
    virStorageVolPtr vol =
        pool && disk->volume ? virStorageVolLookupByName(pool, disk->volume) : NULL;
    char *vol_path = vol ? virStorageVolGetPath(vol) : NULL;
    virStorageVolInfo info = {0};
    virDomainBlockInfo block = {0};
    gboolean ok = TRUE;

    if (vol)
        ok = virStorageVolGetInfo(vol, &info) == 0;
    else if (!disk->pool && disk->source)
        ok = virDomainGetBlockInfo(p->dom, disk->target, &block, 0) == 0;
    *path = g_strdup(vol ? vol_path : disk->source);
    *size = vol ? info.capacity : block.capacity;
    if (!ok || (disk->pool && !vol)) {
        g_autofree char *what =
            g_strdup_printf("domain '%s': size of disk %s", p->info->name, disk->target);

        colo_virconn_set_error(error, what);
        ok = FALSE;
    } else if (!*path) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "domain '%s': disk %s of type '%s' has no path on this host and cannot be "
                    "replicated: use a file or block device",
                    p->info->name, disk->target, disk->type);
        ok = FALSE;
    }
    free(vol_path);
    if (vol)
        virStorageVolFree(vol);
    if (pool)
        virStoragePoolFree(pool);
    return ok;
}

/* @taken: {pool: bytes} of the copies before this one, in pools of the peer; sparse, they would not
 * be seen there. */
static gboolean prepare_disk(Prepare *p, const ColoDiskInfo *disk, gboolean check,
                             JsonObject *taken, GError **error)
{
    g_autofree char *path = NULL, *identity = NULL, *owner = NULL;
    g_autofree char *object = g_strdup_printf("disk %s", disk->target);
    const char *format = disk->format ? disk->format : "raw";
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *request;
    const char *in;
    uint64_t size;

    if (!locate_disk(p, disk, &path, &size, error))
        return FALSE;
    identity = colo_prepare_identity(path);
    owner = colo_prepare_owner(path);
    request =
        colo_json_build("pair", "s", p->pair, "target", "s", disk->target, "format", "s", format,
                        "size", "u", size, "check", "b", check, "identity", "s", identity, "path",
                        "s", path, "owner", "s", owner, "taken", "o", json_object_get(taken), NULL);
    colo_pool_map_add_place(p->conn, p->map, path, request);
    reply = ask_peer(p, request, error);
    if (!reply)
        return FALSE;
    in = colo_json_peek_string(reply, "pool", NULL);
    if (in)
        colo_json_add(taken, in, "u", colo_json_peek_uint(taken, in, 0) + size, NULL);
    if (check)
        return TRUE;
    act(p, p->peer, object, TRUE, g_strdup(colo_json_peek_string(reply, "action", "done")));
    colo_json_add(p->allocated, disk->target, "u", colo_room_allocated(path), NULL);
    json_object_array_add(p->copies,
                          colo_json_build("target", "s", disk->target, "copy", "s",
                                          colo_json_peek_string(reply, "path", ""), NULL));
    return TRUE;
}

static gboolean prepare_disks(Prepare *p, GError **error)
{
    if (!colo_pool_map_check(p->conn, p->map, p->m->host.config->host_name, error))
        return FALSE;
    for (int check = 1; check >= 0; check--) {
        g_autoptr(JsonObject) taken = json_object_new_object();

        for (guint i = 0; i < p->info->disks->len; i++) {
            const ColoDiskInfo *disk = g_ptr_array_index(p->info->disks, i);

            if (disk->replicated && !prepare_disk(p, disk, check, taken, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* What the peer must have under the same name, by name, with the object that needs it. */
typedef struct {
    JsonObject *request;
    GHashTable *objects;
} Needs;

static void need(Needs *needs, const char *kind, const char *name, const char *object)
{
    if (!name || !*name || (strcmp(kind, "files") == 0 && *name != '/') ||
        g_hash_table_contains(needs->objects, name))
        return;
    g_hash_table_insert(needs->objects, g_strdup(name), g_strdup(object));
    json_object_array_add(colo_json_peek(needs->request, kind), json_object_new_string(name));
}

static void collect_needs(Prepare *p, xmlNode *root, Needs *needs)
{
    static const char *const names[] = {"kernel", "initrd", "dtb", "loader"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = colo_xml_text(colo_xml_child(colo_xml_child(root, "os"), names[i]));

        need(needs, "files", path, names[i]);
    }
    need(needs, "files", p->info->emulator, "emulator");
    for (guint i = 0; i < p->info->disks->len; i++) {
        const ColoDiskInfo *disk = g_ptr_array_index(p->info->disks, i);
        g_autofree char *object = g_strdup_printf("%s %s", disk->device, disk->target);

        if (!disk->replicated)
            need(needs, "files", disk->source, object);
    }
    for (guint i = 0; i < p->info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(p->info->nics, i);
        g_autofree char *object = g_strdup_printf("interface %s", nic->mac);

        if (nic->network)
            need(needs, "networks", nic->network, object);
        else
            need(needs, "bridges", nic->bridge, object);
    }
}

/* Files that the domain's start reads, bridges and networks that it is plugged into; that the hosts
 * fit, and that the peer has memory and space. */
static gboolean check_needs(Prepare *p, const char *xml, xmlNode *root, GError **error)
{
    g_autoptr(GHashTable) objects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    Needs needs = {.objects = objects};
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *missing, *problems;

    needs.request =
        colo_json_build("files", "o", json_object_new_array(), "bridges", "o",
                        json_object_new_array(), "networks", "o", json_object_new_array(), NULL);
    collect_needs(p, root, &needs);
    colo_json_add(needs.request, "live-xml", "s", xml, "host", "s", p->m->host.config->host_name,
                  "copies", "o", json_object_get(p->copies), "allocated", "o",
                  json_object_get(p->allocated), NULL);
    colo_host_facts_add(&p->m->host, needs.request);
    reply = ask_peer(p, needs.request, error);
    if (!reply || !colo_json_get_array(reply, "missing", &missing, error))
        return FALSE;
    for (size_t i = 0; i < json_object_array_length(missing); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(missing, i));
        const char *object = name ? g_hash_table_lookup(objects, name) : NULL;

        if (!object)
            continue;
        if (*name == '/')
            act(p, p->peer, object, FALSE,
                g_strdup_printf("%s is missing: copy it to %s under the same path", name, p->peer));
        else
            act(p, p->peer, object, FALSE,
                g_strdup_printf("bridge or network '%s' is missing or not active: create or start "
                                "it on %s",
                                name, p->peer));
    }
    problems = colo_json_peek(reply, "problems");
    for (size_t i = 0; problems && i < json_object_array_length(problems); i++)
        act(p, p->peer, "host", FALSE,
            g_strdup(json_object_get_string(json_object_array_get_idx(problems, i))));
    return TRUE;
}

/* NICs of the persistent definition that would use vhost: repairs them when @fix. */
static gboolean fix_persistent(Prepare *p, gboolean fix, unsigned *changed, GError **error)
{
    char *xml = virDomainGetXMLDesc(p->dom, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE);
    g_autofree char *fixed = NULL;
    virDomainPtr defined;

    if (!xml) {
        colo_virconn_set_error(error, "reading the persistent definition");
        return FALSE;
    }
    fixed = colo_fix_vhost_xml(xml, changed, error);
    free(xml);
    if (!fixed)
        return FALSE;
    if (*changed == 0 || !fix)
        return TRUE;
    defined = virDomainDefineXML(p->conn, fixed);
    if (!defined) {
        colo_virconn_set_error(error, "changing the persistent definition");
        return FALSE;
    }
    virDomainFree(defined);
    return TRUE;
}

static gboolean fix_nics(Prepare *p, gboolean fix, GError **error)
{
    const char *self = p->m->host.config->host_name;
    gboolean persistent = virDomainIsPersistent(p->dom) == 1;
    unsigned changed = 0;

    if (persistent && !fix_persistent(p, fix, &changed, error))
        return FALSE;
    if (changed && fix)
        act(p, self, "persistent definition", TRUE,
            g_strdup_printf("set <driver name='qemu'/> on %u interface(s): works from the next "
                            "start on",
                            changed));
    else if (changed)
        act(p, self, "persistent definition", FALSE,
            g_strdup_printf("%u interface(s) would use vhost, whose packets cannot be compared: "
                            "repeat with --fix",
                            changed));
    for (guint i = 0; i < p->info->nics->len; i++) {
        const ColoNicInfo *nic = g_ptr_array_index(p->info->nics, i);
        g_autofree char *object = g_strdup_printf("interface %s", nic->mac);

        if (p->info->id < 0 || !nic->vhost)
            continue;
        if (persistent)
            act(p, self, object, FALSE,
                g_strdup_printf("runs on vhost: %sshut the domain down and start it ('virsh "
                                "shutdown %s', 'virsh start %s'); a reboot inside is not enough",
                                changed && !fix ? "repeat with --fix, then " : "", p->info->name,
                                p->info->name));
        else
            act(p, self, object, FALSE,
                g_strdup("runs on vhost and the domain is transient: shut it down and create it "
                         "with <driver name='qemu'/>"));
    }
    return TRUE;
}

/* What else stands against protection; the operator must do it. */
static gboolean report_findings(Prepare *p, const char *xml, GError **error)
{
    ColoEligibilityPolicy policy = {.allow_emulation = p->m->host.config->allow_emulation};
    g_autoptr(GPtrArray) findings = colo_eligibility_check(xml, &policy, error);

    if (!findings)
        return FALSE;
    for (guint i = 0; i < findings->len; i++) {
        const ColoFinding *f = g_ptr_array_index(findings, i);

        if (f->severity == COLO_FINDING_REFUSED && !f->fixable)
            act(p, p->m->host.config->host_name, f->device, FALSE,
                g_strdup_printf("%s: %s", f->found, f->remedy));
    }
    return TRUE;
}

/* Hardware features that were required of the domain. */
static void report_features(Prepare *p)
{
    char *refusal = colo_features_refusal(p->m, p->info->name, p->pair);

    if (refusal)
        act(p, p->m->host.config->host_name, "features", FALSE, refusal);
}

static gboolean run(Prepare *p, gboolean fix, GError **error)
{
    char *xml = virDomainGetXMLDesc(p->dom, 0);
    g_autoptr(ColoXmlDoc) doc = NULL;
    gboolean ok;

    if (!xml) {
        colo_virconn_set_error(error, "reading the domain's definition");
        return FALSE;
    }
    doc = colo_xml_parse(xml, "domain", error);
    p->info = doc ? colo_domain_info_parse(xml, error) : NULL;
    ok = p->info && prepare_disks(p, error) &&
         check_needs(p, xml, xmlDocGetRootElement(doc), error) && fix_nics(p, fix, error) &&
         report_findings(p, xml, error);
    if (ok)
        report_features(p);
    free(xml);
    return ok;
}

JsonObject *colo_prepare(ColoManager *m, const char *domain, const char *pair, gboolean fix,
                         GError **error)
{
    Prepare p = {.m = m, .pair = pair};
    gboolean ok = FALSE;

    p.dom = colo_virconn_lookup(m->host.virconn, domain, error);
    if (!p.dom)
        return NULL;
    p.conn = colo_virconn_get(m->host.virconn, CONN_TIMEOUT_MS, error);
    p.actions = json_object_new_array();
    p.copies = json_object_new_array();
    p.allocated = json_object_new_object();
    if (p.conn && colo_pairs_has(m->host.pairs, pair, error) &&
        colo_pairs_wait_up(m->host.pairs, pair, CHANNEL_UP_TIMEOUT_MS, error)) {
        p.peer = colo_pairs_peer_host(m->host.pairs, pair, NULL);
        if (!p.peer)
            p.peer = colo_pairs_peer_address(m->host.pairs, pair);
        p.map = colo_pairs_pool_map(m->host.pairs, pair);
        ok = run(&p, fix, error);
    }
    g_clear_pointer(&p.info, colo_domain_info_free);
    json_object_put(p.map);
    json_object_put(p.copies);
    json_object_put(p.allocated);
    g_free(p.peer);
    virDomainFree(p.dom);
    if (p.conn)
        virConnectClose(p.conn);
    if (ok)
        return colo_json_build("actions", "o", p.actions, NULL);
    json_object_put(p.actions);
    return NULL;
}
