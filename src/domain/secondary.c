/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The secondary's side: what the primary of the peer asks of this host. Everything here is started
 * by the primary and undone by colo_secondary_teardown(); the takeover is in takeover.c.
 */
#include "domain/actor.h"

#include "domain/host-facts.h"
#include "domain/pool-map.h"
#include "domain/qmp.h"
#include "domain/room.h"
#include "domain/secondary-xml.h"
#include "domain/steps-bridge.h"
#include "domain/steps-migrate.h"
#include "domain/uplink.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <libvirt/virterror.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* When this copy fails: how soon the primary normally asks for consent, and how long it has to take
 * note of ours. */
#define ASKED_SOON_MS 200u
#define COLO_TELL_TIMEOUT_MS 500u

/* A copy without a stream for so long: is it still wanted? */
#define FORGOTTEN_MS 30000u

/* How long mail of the peer is answered before a slow teardown begins. */
#define ANSWER_FIRST_MS 50u

/* ---- checks ---- */

/* TRUE if the primary may make a copy here; a copy of an older generation is cleared away. */
static gboolean clear_the_way(ColoDomain *d, uint64_t generation, GError **error)
{
    ColoDomainRecord *r = d->record;

    if (r->owner && r->generation >= generation && r->state != COLO_STATE_UNPROTECTED) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': this host (%s) owns generation %" G_GUINT64_FORMAT
                    " itself: protect it from here, or settle it with colo-failover",
                    r->name, d->host->config->host_name, r->generation);
        return FALSE;
    }
    if (r->attempt) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': a request of %s to the arbiter is not resolved yet", r->name,
                    d->host->config->host_name);
        return FALSE;
    }
    if (generation < r->generation || generation <= r->relinquished) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': generation %" G_GUINT64_FORMAT
                    " is stale here (seen %" G_GUINT64_FORMAT ", relinquished %" G_GUINT64_FORMAT
                    ")",
                    r->name, generation, r->generation, r->relinquished);
        return FALSE;
    }
    if (!colo_domain_is_running(d))
        return TRUE;
    if (r->role == COLO_ROLE_NONE || r->state == COLO_STATE_UNPROTECTED) {
        g_set_error(
            error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
            "domain '%s' already runs on the peer %s, unprotected: shut one of the two down",
            r->name, d->host->config->host_name);
        return FALSE;
    }
    colo_secondary_teardown(d);
    return TRUE;
}

/* The copies exist, and there is room for what they will hold. Their sizes are checked later, when
 * QEMU has opened them. */
static gboolean check_copies(ColoDomain *d, JsonObject *disks, JsonObject *allocated,
                             GError **error)
{
    const char *host = d->host->config->host_name;
    struct stat st;

    for (size_t i = 0; i < json_object_array_length(disks); i++) {
        JsonObject *disk = json_object_array_get_idx(disks, i);
        const char *path = colo_json_peek_string(disk, "copy", "");

        if (stat(path, &st) == 0)
            continue;
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "domain '%s': disk %s has no copy on %s (%s: %s): run 'virsh-colo colo-prepare "
                    "%s --pair %s'",
                    d->record->name, colo_json_peek_string(disk, "target", ""), host, path,
                    g_strerror(errno), d->record->name, d->record->pair);
        return FALSE;
    }
    if (colo_room_check(host, disks, allocated, d->host->config->checkpoint_max_overlay_bytes,
                        error))
        return TRUE;
    g_prefix_error(error, "domain '%s': ", d->record->name);
    return FALSE;
}

/* From here on "copy" of the primary's @disks is the path on this host. */
static gboolean find_copies(ColoDomain *d, JsonObject *disks, GError **error)
{
    g_autoptr(JsonObject) map = colo_pairs_pool_map(d->host->pairs, d->record->pair);
    virConnectPtr conn = colo_virconn_get(d->host->virconn, 5000, error);
    gboolean ok = conn != NULL;

    for (size_t i = 0; ok && i < json_object_array_length(disks); i++) {
        JsonObject *disk = json_object_array_get_idx(disks, i);
        g_autofree char *path =
            colo_pool_map_resolve(conn, map, d->host->config->host_name, disk, error);

        ok = path != NULL;
        if (ok)
            colo_json_add(disk, "copy", "s", path, NULL);
        else
            g_prefix_error(error, "domain '%s': ", d->record->name);
    }
    if (conn)
        virConnectClose(conn);
    return ok;
}

/* The bridge of this host that a takeover plugs @nic of the primary into; the caller owns it. */
static char *uplink_of(ColoDomain *d, JsonObject *nic, GError **error)
{
    return colo_uplink_find(
        d->host->virconn, d->record->name, colo_json_peek_string(nic, "bridge", NULL),
        colo_json_peek_string(nic, "network", NULL), d->host->config->host_name, error);
}

static gboolean check_uplinks(ColoDomain *d, JsonObject *nics, GError **error)
{
    for (size_t i = 0; i < json_object_array_length(nics); i++) {
        g_autofree char *uplink = uplink_of(d, json_object_array_get_idx(nics, i), error);

        if (!uplink)
            return FALSE;
    }
    return TRUE;
}

/* ---- making the copy ---- */

static char *copy_xml(JsonObject *disks, JsonObject *nics, const char *live, GError **error)
{
    g_autoptr(GHashTable) disk_map = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) nic_map = g_hash_table_new(g_str_hash, g_str_equal);
    ColoSecondaryMap map = {.disks = disk_map, .nics = nic_map};

    for (size_t i = 0; i < json_object_array_length(disks); i++) {
        JsonObject *disk = json_object_array_get_idx(disks, i);

        g_hash_table_insert(disk_map, (gpointer)colo_json_peek_string(disk, "target", ""),
                            (gpointer)colo_json_peek_string(disk, "copy", ""));
    }
    for (size_t i = 0; i < json_object_array_length(nics); i++) {
        JsonObject *nic = json_object_array_get_idx(nics, i);
        const char *bridge = colo_json_peek_string(nic, "quarantine", "");

        if (!g_str_has_prefix(bridge, "colo-q") || !colo_bridge_create(bridge, error))
            return NULL;
        g_hash_table_insert(nic_map, (gpointer)colo_json_peek_string(nic, "mac", ""),
                            (gpointer)bridge);
    }
    return colo_secondary_xml(live, &map, error);
}

/* libvirt, which did not start the copy, says what it misses. */
static void set_not_started(const ColoDomain *d, GError **error)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                "domain '%s': its copy does not start on host %s: %s: what the domain uses besides "
                "its disks (kernel, firmware, cdroms, networks, storage pools) must be there under "
                "the same name: put it there, then say colo-protect again",
                d->record->name, d->host->config->host_name, virGetLastErrorMessage());
}

static gboolean start_copy(ColoDomain *d, JsonObject *params, JsonObject *disks, JsonObject *nics,
                           GError **error)
{
    const char *live;
    g_autofree char *xml = NULL;
    virConnectPtr conn;
    virDomainPtr dom;

    if (!colo_json_get_string(params, "live-xml", &live, error))
        return FALSE;
    xml = copy_xml(disks, nics, live, error);
    if (!xml)
        return FALSE;
    conn = colo_virconn_get(d->host->virconn, 5000, error);
    if (!conn)
        return FALSE;
    dom = virDomainCreateXML(conn, xml, VIR_DOMAIN_START_PAUSED);
    if (!dom)
        set_not_started(d, error);
    virConnectClose(conn);
    if (!dom)
        return FALSE;
    virDomainFree(dom);
    return colo_domain_attach(d, error);
}

/* Aliases name the streams and exports: both copies must have the same. */
static gboolean same_aliases(ColoDomain *d, JsonObject *theirs, gboolean disks, GError **error)
{
    GPtrArray *ours = disks ? d->disks : d->nics;
    gboolean same = json_object_array_length(theirs) == ours->len;

    for (guint i = 0; same && i < ours->len; i++) {
        const char *alias = disks ? ((ColoProtectedDisk *)g_ptr_array_index(ours, i))->alias
                                  : ((ColoProtectedNic *)g_ptr_array_index(ours, i))->alias;

        same = g_strcmp0(alias, colo_json_peek_string(json_object_array_get_idx(theirs, i), "alias",
                                                      "")) == 0;
    }
    if (!same)
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "domain '%s': its copy has other %s aliases (devices were plugged in while it "
                    "ran): shut it down and start it once",
                    d->record->name, disks ? "disk" : "interface");
    return same;
}

static gboolean check_sizes(ColoDomain *d, JsonObject *theirs, GError **error)
{
    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);
        uint64_t size = colo_json_peek_uint(json_object_array_get_idx(theirs, i), "size", 0);

        if (disk->size != size) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                        "domain '%s': disk %s has %" G_GUINT64_FORMAT
                        " bytes on the primary, its copy %s %" G_GUINT64_FORMAT
                        ": delete the copy and run colo-prepare",
                        d->record->name, disk->target, size, disk->copy, disk->size);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean put_disks_in(ColoDomain *d, GError **error)
{
    size_t n;
    g_autofree ColoStepDisk *disks = colo_domain_step_disks(d, &n);
    g_autofree int *fds = g_new0(int, n + 1);
    gboolean ok = TRUE;

    if (n == 0)
        return TRUE;
    for (size_t i = 0; i < n; i++) {
        /* Overlays of an older copy are of no use: this generation brings the disk anew. */
        if (!colo_steps_overlays_create(&disks[i], TRUE, error) ||
            !colo_steps_disk_insert(d->dom, &disks[i], error))
            return FALSE;
    }
    if (!colo_steps_nbd_start(d->dom, disks, n, fds, error))
        return FALSE;
    for (size_t i = 0; i < n; i++) {
        ok = ok && colo_domain_attach_local(d, "nbd", disks[i].alias, fds[i], error);
        close(fds[i]);
    }
    return ok;
}

static gboolean put_filters_in(ColoDomain *d, GError **error)
{
    for (guint i = 0; i < d->nics->len; i++) {
        const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
        ColoStepNic step = colo_domain_step_nic(d, nic);
        ColoNicFds fds;
        gboolean ok;

        if (!colo_steps_net_channels(d->dom, &step, COLO_STEPS_SECONDARY, &fds, error))
            return FALSE;
        ok = (!step.rewrite ||
              (colo_domain_attach_local(d, "release", nic->alias, fds.release, error) &&
               colo_domain_attach_local(d, "take", nic->alias, fds.take, error))) &&
             colo_domain_attach_local(d, "in", nic->alias, fds.in, error) &&
             colo_domain_attach_local(d, "out", nic->alias, fds.out, error) &&
             colo_steps_net_filters(d->dom, &step, COLO_STEPS_SECONDARY, error);
        colo_nic_fds_clear(&fds);
        if (!ok)
            return FALSE;
    }
    return TRUE;
}

/* The session as the primary described it. */
static gboolean start_session(ColoDomain *d, JsonObject *params, GError **error)
{
    static const char *const keys[] = {
        "generation", "role",  "psk",    "vnet-hdr", "heartbeat-ms", "heartbeat-missed",
        "nics",       "disks", "tuning", "rewrite",  "base",         "carry"};
    JsonObject *arguments = json_object_new_object();
    g_autoptr(JsonObject) done = NULL;

    colo_domain_end_session(d);
    colo_domain_set_session(d, d->record->generation,
                            colo_json_peek_bool(params, "rewrite", FALSE));
    if (!colo_store_save_domain(d->host->store, d->record, error)) {
        json_object_put(arguments);
        return FALSE;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        JsonObject *value = colo_json_peek(params, keys[i]);

        if (value)
            json_object_object_add(arguments, keys[i], json_object_get(value));
    }
    g_hash_table_remove_all(d->streams_up);
    g_hash_table_remove_all(d->channels_down);
    done = colo_domain_comparator(d, "session-create", arguments, -1, COLO_COMPARATOR_TIMEOUT_MS,
                                  error);
    return done != NULL;
}

/* What the takeover needs: our own devices, with the bridges that stand for the primary's. */
static gboolean remember(ColoDomain *d, JsonObject *params, JsonObject *nics, GError **error)
{
    for (guint i = 0; i < d->nics->len; i++) {
        ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
        JsonObject *theirs = json_object_array_get_idx(nics, i);

        g_free(nic->bridge);
        nic->bridge = uplink_of(d, theirs, error);
        if (!nic->bridge)
            return FALSE;
        g_free(nic->network);
        nic->network = g_strdup(colo_json_peek_string(theirs, "network", NULL));
    }
    colo_domain_store_devices(d);
    colo_json_add(d->record->details, "inactive-xml", "s",
                  colo_json_peek_string(params, "inactive-xml", NULL), "peer-host", "s",
                  d->peer_host, "chain", "s", "in", "output-hold", "b", FALSE, "autostart", "b",
                  colo_json_peek_bool(params, "autostart", FALSE), NULL);
    return TRUE;
}

static gboolean prepare(ColoDomain *d, JsonObject *params, GError **error)
{
    JsonObject *devices, *disks, *nics;
    uint64_t generation;
    const char *host, *pair;

    if (!colo_json_get_uint(params, "generation", &generation, error) ||
        !colo_json_get_string(params, "host", &host, error) ||
        !colo_json_get_string(params, "pair", &pair, error) ||
        !colo_json_get_object(params, "devices", &devices, error) ||
        !colo_json_get_array(devices, "disks", &disks, error) ||
        !colo_json_get_array(devices, "nics", &nics, error) ||
        !colo_pairs_has(d->host->pairs, pair, error) ||
        !colo_host_facts_check(d->host, params, error) || !clear_the_way(d, generation, error) ||
        !colo_features_accept(d, params, colo_json_peek(devices, "features"), error))
        return FALSE;
    g_free(d->record->pair);
    d->record->pair = g_strdup(pair);
    g_free(d->peer_host);
    d->peer_host = g_strdup(host);
    if (!find_copies(d, disks, error) ||
        !check_copies(d, disks, colo_json_peek(params, "allocated"), error) ||
        !check_uplinks(d, nics, error))
        return FALSE;
    /* Seen, durably, before anything is made: a generation never goes back. */
    d->record->role = COLO_ROLE_SECONDARY;
    d->record->generation = generation;
    d->record->owner = FALSE;
    d->record->loaded = FALSE;
    g_free(d->record->boot_id);
    d->record->boot_id = g_strdup(d->host->boot_id);
    colo_domain_set_state(d, COLO_STATE_PREPARING, NULL);
    if (!start_copy(d, params, disks, nics, error) || !same_aliases(d, disks, TRUE, error) ||
        !same_aliases(d, nics, FALSE, error) || !check_sizes(d, disks, error) ||
        !colo_features_apply(d, colo_json_peek(colo_json_peek(params, "features"), "states"),
                             error) ||
        !colo_domain_take_tuning(d, colo_json_peek(devices, "tuning"), error) ||
        !start_session(d, params, error) || !put_disks_in(d, error) || !put_filters_in(d, error) ||
        !remember(d, params, nics, error))
        return FALSE;
    colo_domain_set_state(d, COLO_STATE_SYNCING, NULL);
    return TRUE;
}

JsonObject *colo_secondary_prepare(ColoDomain *d, JsonObject *params, GError **error)
{
    ColoState before = d->record->state;

    g_clear_pointer(&d->error, g_free);
    d->qemu_died = d->ended = FALSE;
    d->shutdown_ns = 0;
    d->no_stream_ns = 0;
    d->packets_silent = FALSE;
    d->checkpoints = 0;
    d->loaded = 0;
    d->last_commit_ns = 0;
    if (!prepare(d, params, error)) {
        if (d->record->state == COLO_STATE_PREPARING && before != COLO_STATE_PREPARING) {
            colo_secondary_teardown(d);
            colo_domain_set_state(d, COLO_STATE_FENCED, "preparing the copy failed");
        }
        return NULL;
    }
    return colo_json_build("data-port", "u", (uint64_t)d->host->config->data_port, NULL);
}

JsonObject *colo_secondary_incoming(ColoDomain *d, GError **error)
{
    gboolean ok;
    int fd;

    if (d->record->state != COLO_STATE_SYNCING || !d->dom) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is %s on %s, not prepared", d->record->name,
                    colo_state_name(d->record->state), d->host->config->host_name);
        return NULL;
    }
    if (!colo_steps_set_xcolo(d->dom, TRUE, error))
        return NULL;
    fd = colo_steps_migrate_incoming(d->dom, error);
    if (fd < 0)
        return NULL;
    /* From here on the primary hears of every LOADED; it counts them once it is paired. */
    ok = colo_domain_attach_local(d, "migration", NULL, fd, error) &&
         colo_domain_gate(d, "paired", error);
    close(fd);
    return ok ? json_object_new_object() : NULL;
}

JsonObject *colo_secondary_paired(ColoDomain *d, JsonObject *params, GError **error)
{
    uint64_t generation;

    if (!colo_json_get_uint(params, "generation", &generation, error))
        return NULL;
    if (d->record->state == COLO_STATE_PROTECTED && generation == d->record->generation)
        return json_object_new_object(); /* said twice */
    if (d->record->state != COLO_STATE_SYNCING || generation != d->record->generation ||
        !d->record->loaded) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is %s on %s with %s checkpoint of generation %" G_GUINT64_FORMAT,
                    d->record->name, colo_state_name(d->record->state), d->host->config->host_name,
                    d->record->loaded ? "a" : "no", d->record->generation);
        return NULL;
    }
    colo_domain_set_state(d, COLO_STATE_PROTECTED, NULL);
    return json_object_new_object();
}

/* ---- its end ---- */

/* Takes the copy away: session, QEMU, overlays, quarantine bridges. Files of disks stay. */
void colo_secondary_teardown(ColoDomain *d)
{
    ColoLogContext log = colo_domain_log(d);
    g_autoptr(GError) error = NULL;
    g_autofree ColoStepDisk *disks = NULL;
    virDomainPtr dom;
    size_t n;

    d->record->loaded = FALSE;
    colo_domain_unwatch(d);
    colo_aside_drop(&d->devices_asked);
    colo_domain_end_session(d);
    g_hash_table_remove_all(d->streams_up);
    if (d->disks->len == 0 && d->nics->len == 0)
        colo_domain_load_devices(d);
    dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, &error);
    d->must_end = FALSE;
    if (dom) {
        if (virDomainIsActive(dom) == 1 && virDomainDestroy(dom) < 0) {
            d->must_end = TRUE;
            colo_log_full(&log, LOG_WARNING, __func__, "ending the copy: %s",
                          virGetLastErrorMessage());
        }
        virDomainFree(dom);
    } else if (!g_error_matches(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN)) {
        d->must_end = TRUE;
        colo_log_full(&log, LOG_WARNING, __func__, "ending the copy: %s", error->message);
    }
    g_clear_error(&error);
    disks = colo_domain_step_disks(d, &n);
    for (size_t i = 0; i < n; i++) {
        if (!colo_steps_overlays_remove(&disks[i], &error)) {
            colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
            g_clear_error(&error);
        }
    }
    for (guint i = 0; i < d->nics->len; i++)
        colo_bridge_delete(((ColoProtectedNic *)g_ptr_array_index(d->nics, i))->quarantine, NULL);
    if (!d->must_end)
        colo_remap_forget(d);
    colo_domain_detach(d);
}

/*
 * The primary ended this protection and could not say so (its virtcolod was killed, the link was
 * cut): its copy here would keep twice the guest's memory until the next one. Without any stream
 * for a while the primary is asked. As sole owner that protects nothing it has no use for it.
 */
void colo_secondary_tick(ColoDomain *d, uint64_t now)
{
    g_autoptr(JsonObject) peer = NULL;
    const char *state;

    if (g_hash_table_size(d->streams_up) > 0 || d->record->role != COLO_ROLE_SECONDARY) {
        d->no_stream_ns = 0;
        return;
    }
    if (d->no_stream_ns == 0)
        d->no_stream_ns = now;
    if (now - d->no_stream_ns < FORGOTTEN_MS * COLO_NS_PER_MS || d->control_silent ||
        !colo_domain_control_is_up(d))
        return;
    d->no_stream_ns = now;
    peer = colo_domain_ask_peer(d, "domain-state", NULL, COLO_TELL_TIMEOUT_MS, NULL);
    state = colo_json_peek_string(peer, "state", "");
    if (!colo_json_peek_bool(peer, "owner", FALSE) ||
        colo_json_peek_uint(peer, "generation", 0) < d->record->generation ||
        (strcmp(state, "alone") != 0 && strcmp(state, "unprotected") != 0))
        return;
    colo_secondary_teardown(d);
    colo_domain_set_state(d, COLO_STATE_FENCED, "the primary ended this protection");
}

JsonObject *colo_secondary_relinquish(ColoDomain *d, ColoMail *mail, GError **error)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    gboolean candidate = d->record->loaded; /* before consent() takes it away */
    gboolean forget = colo_json_peek_bool(mail->body, "forget", FALSE);
    uint64_t generation;

    if (!colo_json_get_uint(mail->body, "generation", &generation, error))
        return NULL;
    /* An owner's earlier consent is no word for today: the asker would go on beside it (rule 8). */
    if (!d->record->owner && generation <= d->record->relinquished)
        return colo_json_build("relinquished", "u", generation, NULL); /* asked twice */
    if (d->record->owner || d->record->generation > generation) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': this host (%s) is past generation %" G_GUINT64_FORMAT
                    ": it owns or has seen %" G_GUINT64_FORMAT,
                    d->record->name, d->host->config->host_name, generation, d->record->generation);
        return NULL;
    }
    d->record->generation = generation; /* seen now, if not before */
    /* Gates first: no confirmation may follow the consent. */
    if (candidate && colo_comparator_is_up(d->host->comparator))
        colo_domain_gate(d, "closed", NULL);
    if (!colo_ownership_consent(&ctx, d->record, error))
        return NULL;
    /* A host that holds no copy of ours has nothing to take away: what runs here under this UUID is
     * the operator's. */
    if (d->record->role != COLO_ROLE_SECONDARY) {
        colo_domain_set_state(d, COLO_STATE_UNPROTECTED, NULL);
        return colo_json_build("relinquished", "u", generation, NULL);
    }
    /* The primary's output waits for this word, and libvirt gives a QEMU that does not end 10 s.
     * Who ends the protection wants to hear that the copy is gone. */
    if (!forget)
        colo_mail_answer(mail, colo_json_build("relinquished", "u", generation, NULL), NULL);
    colo_secondary_teardown(d);
    colo_domain_set_state(d, forget && !d->must_end ? COLO_STATE_UNPROTECTED : COLO_STATE_FENCED,
                          "given up at the primary's request");
    return colo_json_build("relinquished", "u", generation, NULL);
}

/*
 * The primary sees our streams end and asks for the consent that is stored already. Its guest's
 * output is held until it hears it, and an actor that waits for an answer of its own cannot give
 * any: so this is answered first. TRUE when it has asked. Other mail is put back.
 */
static gboolean answer_relinquish(ColoDomain *d, unsigned ms)
{
    uint64_t end = colo_clock_ns() + ms * COLO_NS_PER_MS, now;
    g_autoptr(GPtrArray) others = g_ptr_array_new();
    gboolean asked = FALSE;

    while (!asked && (now = colo_clock_ns()) < end) {
        ColoMail *mail =
            colo_mailbox_take(d->mailbox, (unsigned)((end - now) / COLO_NS_PER_MS) + 1);

        if (!mail)
            break;
        asked = mail->kind == COLO_MAIL_PEER && strcmp(mail->name, "domain-relinquish") == 0 &&
                colo_json_peek_uint(mail->body, "generation", 0) == d->record->relinquished;
        if (!asked) {
            g_ptr_array_add(others, mail);
            if (mail->kind == COLO_MAIL_QUIT)
                break;
            continue;
        }
        colo_mail_answer(mail, colo_json_build("relinquished", "u", d->record->relinquished, NULL),
                         NULL);
        colo_mail_free(mail);
    }
    for (guint i = 0; i < others->len; i++)
        colo_mailbox_post(d->mailbox, g_ptr_array_index(others, i));
    return asked;
}

void colo_secondary_failed(ColoDomain *d, const char *reason)
{
    g_autoptr(JsonObject) told = NULL;
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    uint64_t n = d->record->generation;

    /* This copy can never take over again: say so durably, then to the primary. */
    colo_domain_gate(d, "closed", NULL);
    if (!colo_ownership_consent(&ctx, d->record, &error)) {
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
        return;
    }
    colo_domain_set_state(d, COLO_STATE_FENCED, reason);
    if (answer_relinquish(d, ASKED_SOON_MS)) {
        colo_secondary_teardown(d);
        return;
    }
    told = colo_domain_ask_peer(d, "domain-failed",
                                colo_json_build("generation", "u", n, "reason", "s", reason, NULL),
                                COLO_TELL_TIMEOUT_MS, &error);
    if (!told)
        colo_log_full(&log, LOG_WARNING, __func__, "telling the primary: %s", error->message);
    /* The primary asks for the consent that was just stored: its output waits for the answer, the
     * teardown does not matter to anyone. */
    colo_domain_pump(d, ANSWER_FIRST_MS, NULL);
    colo_secondary_teardown(d);
}
