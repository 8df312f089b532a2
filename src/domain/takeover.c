/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From "the peer is lost" or "the peer consents" to a guest that runs here alone on its own plain
 * disks. Two halves: colo_takeover_run() makes the guest serve (FAILING_OVER), as fast as can be;
 * colo_takeover_finish() merges the disks and defines the domain (COMMITTING). Both can be
 * repeated from any point by a virtcolod that was killed in the middle.
 */
#include "domain/actor.h"

#include "domain/qmp.h"
#include "domain/secondary-xml.h"
#include "domain/steps-bridge.h"
#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <libvirt/virterror.h>

/* QEMU leaves COLO within a millisecond, when its main loop is free. */
#define COLO_LEAVE_TIMEOUT_MS 5000u

/* A restarted virtcolod finds a living helper within this time. */
#define HELPER_BACK_MS 300u

/* ---- deciding ---- */

/* A pairing that was unknown is done (rule 4): output needs the peer's confirmation again. If the
 * peer is lost, that is found out as always. */
static void settle_paired(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;

    colo_domain_set_state(d, COLO_STATE_PROTECTED, NULL);
    if (!d->dom) { /* of a virtcolod that was started meanwhile: the session is to be adopted */
        colo_recover(d);
    } else if (colo_domain_gate(d, "paired", &error)) {
        colo_domain_watch(d, NULL);
    } else { /* output would be held for good */
        colo_primary_peer_failed(d, error->message);
        return;
    }
    colo_primary_resume_output(d);
    if (d->record->state == COLO_STATE_PROTECTED)
        colo_primary_tell_paired(d);
}

/* A secondary owns (ownership.c has stored it). */
static void take_over(ColoDomain *d, const char *reason)
{
    colo_domain_announce(d, reason);
    colo_takeover_run(d);
}

static void settle(ColoDomain *d, ColoOwnership outcome, const GError *error)
{
    gboolean primary = d->record->role == COLO_ROLE_PRIMARY;

    switch (outcome) {
    case COLO_OWNERSHIP_WON:
        if (primary)
            colo_primary_go_alone(d, "the peer is lost, the arbiter gave this host the domain");
        else
            take_over(d, "the peer is lost, the arbiter gave this host the domain");
        break;
    case COLO_OWNERSHIP_PAIRED:
        settle_paired(d);
        break;
    case COLO_OWNERSHIP_LOST:
        if (primary) {
            colo_primary_quiesce(d, "the peer owns the domain");
        } else {
            colo_secondary_teardown(d);
            colo_domain_set_state(d, COLO_STATE_FENCED, "the peer owns the domain");
        }
        break;
    case COLO_OWNERSHIP_UNKNOWN:
    case COLO_OWNERSHIP_MANUAL:
        d->next_attempt_ns =
            colo_clock_ns() + (outcome == COLO_OWNERSHIP_MANUAL ? COLO_MANUAL_INTERVAL_MS
                                                                : COLO_RESOLVE_INTERVAL_MS) *
                                  COLO_NS_PER_MS;
        colo_domain_set_state(d, COLO_STATE_DEGRADED,
                              error ? error->message : "waiting for the peer or the operator");
        break;
    }
}

/* TRUE once no output leaves (primary), no confirmation goes (secondary). A helper that died lets
 * nothing through; one that is only not connected yet gets time to come. */
static gboolean close_gate(ColoDomain *d, GError **error)
{
    g_autoptr(GError) own = NULL;

    if (!colo_comparator_wait_up(d->host->comparator, HELPER_BACK_MS) ||
        colo_domain_gate(d, d->record->role == COLO_ROLE_PRIMARY ? "hold" : "closed", &own) ||
        g_error_matches(own, COLO_ERROR, COLO_ERROR_NO_DOMAIN)) /* restarted: it has no session */
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&own));
    return FALSE;
}

/* This host's own copy died: it is no candidate (rule 6). */
static void copy_is_gone(ColoDomain *d)
{
    if (d->record->role == COLO_ROLE_PRIMARY)
        colo_primary_guest_gone(d, FALSE);
    else
        colo_secondary_failed(d, "the copy's QEMU is gone");
}

void colo_takeover_by_arbiter(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);
    ColoOwnership outcome;

    colo_log_full(&log, LOG_WARNING, __func__, "the peer %s is suspected: asking the arbiter",
                  d->peer_host);
    /* Before the CAS begins nothing more may leave, and no confirmation may be sent (I3). Without
     * the helper nothing leaves anyhow. */
    if (colo_domain_is_gone(d)) {
        copy_is_gone(d);
        return;
    }
    if (!close_gate(d, &error)) {
        settle(d, COLO_OWNERSHIP_UNKNOWN, error);
        return;
    }
    /* Shown at once: the arbiter may take its time to answer. Stored with the attempt. */
    d->record->state = COLO_STATE_DEGRADED;
    g_free(d->reason);
    d->reason = g_strdup("the peer is suspected: asking the arbiter");
    colo_domain_publish(d);
    outcome = colo_ownership_lost_peer(&ctx, d->record, &error);
    settle(d, outcome, error);
}

/* Rule 8: the peer's own word that it is past our generation is as good as the register's. */
static gboolean peer_owns(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(JsonObject) peer =
        colo_domain_ask_peer(d, "domain-state", NULL, COLO_RELINQUISH_TIMEOUT_MS, NULL);
    uint64_t generation = colo_json_peek_uint(peer, "generation", 0);

    if (!colo_json_peek_bool(peer, "owner", FALSE) || generation <= d->record->generation ||
        !colo_ownership_quiesce(&ctx, d->record, generation, NULL))
        return FALSE;
    settle(d, COLO_OWNERSHIP_LOST, NULL);
    return TRUE;
}

void colo_takeover_resolve(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    ColoOwnership outcome;

    /* The peer is back and speaks: then the primary decides, with its consent. */
    if (!d->control_silent && colo_domain_control_is_up(d)) {
        if (d->record->role == COLO_ROLE_PRIMARY) {
            g_autoptr(JsonObject) answer = colo_domain_ask_peer(
                d, "domain-relinquish",
                colo_json_build("generation", "u", d->record->generation, NULL),
                COLO_RELINQUISH_TIMEOUT_MS, &error);

            if (answer && !colo_domain_is_gone(d) &&
                colo_ownership_accept_consent(&ctx, d->record, d->record->generation, &error)) {
                d->next_register_ns = colo_clock_ns();
                colo_primary_go_alone(d, "the peer gave the domain up");
                return;
            }
            g_clear_error(&error);
            if (!answer && peer_owns(d))
                return;
        }
    }
    if (!d->record->attempt) {
        colo_takeover_by_arbiter(d);
        return;
    }
    if (!close_gate(d, NULL))
        outcome = COLO_OWNERSHIP_UNKNOWN;
    else if (d->qemu_died || colo_domain_is_gone(d)) /* reads only: a dead copy takes nothing */
        outcome = colo_ownership_restart(&ctx, d->record, &error);
    else
        outcome = colo_ownership_resolve_unknown(&ctx, d->record, &error);
    if (outcome == COLO_OWNERSHIP_MANUAL)
        d->next_attempt_ns = colo_clock_ns() + COLO_MANUAL_INTERVAL_MS * COLO_NS_PER_MS;
    else if (outcome == COLO_OWNERSHIP_UNKNOWN)
        d->next_attempt_ns = colo_clock_ns() + COLO_RESOLVE_INTERVAL_MS * COLO_NS_PER_MS;
    else
        settle(d, outcome, error);
}

JsonObject *colo_takeover_by_consent(ColoDomain *d, uint64_t n, GError **error)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);

    if (d->record->owner && d->record->generation == n + 1)
        return json_object_new_object(); /* said twice */
    if (d->record->role != COLO_ROLE_SECONDARY || !d->record->loaded || colo_domain_is_gone(d)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': %s holds no copy that could take over", d->record->name,
                    d->host->config->host_name);
        return NULL;
    }
    if (!colo_ownership_accept_consent(&ctx, d->record, n, error))
        return NULL;
    colo_domain_announce(d, "the primary gave the domain up");
    d->next_register_ns = colo_clock_ns();
    return json_object_new_object();
}

/* ---- serving ---- */

/* The taps leave quarantine. The bridge is moved first by netlink, libvirt's XML follows later. */
static void plug_in(ColoDomain *d)
{
    ColoLogContext log = colo_domain_log(d);

    for (guint i = 0; i < d->nics->len; i++) {
        const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
        g_autoptr(GError) error = NULL;
        g_autofree char *tap = colo_steps_net_tap(d->dom, nic->alias, &error);

        if (nic->bridge && tap && colo_bridge_set_master(tap, nic->bridge, &error))
            continue;
        if (error || !nic->network)
            colo_log_full(&log, LOG_ERR, __func__, "NIC %s: %s", nic->alias,
                          error ? error->message : "no tap");
    }
}

/* The guest's packets go to its tap and come from there; nothing of the peer reaches it any more.
 */
static gboolean cut_filters(ColoDomain *d, GError **error)
{
    for (guint i = 0; i < d->nics->len; i++) {
        ColoStepNic step = colo_domain_step_nic(d, g_ptr_array_index(d->nics, i));

        if (!colo_steps_net_cut(d->dom, &step, error))
            return FALSE;
    }
    return TRUE;
}

/* The last complete checkpoint is LOADED. FALSE with @error when the helper does not say so: told
 * x-colo-lost-heartbeat then, QEMU would resume a state that nobody knows, older than what has left
 * (I1). A helper that is gone, or has no session, feeds it nothing: what QEMU has loaded counts.
 * The helper refuses while its gate is open, which it is not after a suspicion: then one request is
 * enough. *@rewritten: connections whose sequence numbers it maps from now on. */
static gboolean ready_helper(ColoDomain *d, uint64_t *rewritten, GError **error)
{
    *rewritten = 0;
    for (gboolean closed = FALSE;; closed = TRUE) {
        g_autoptr(GError) own = NULL;
        g_autoptr(JsonObject) prepared = colo_domain_comparator(
            d, "takeover-prepare", NULL, -1, COLO_TAKEOVER_PREPARE_TIMEOUT_MS, &own);

        if (prepared || g_error_matches(own, COLO_ERROR, COLO_ERROR_NO_DOMAIN) ||
            g_error_matches(own, COLO_ERROR, COLO_ERROR_SYSTEM)) {
            *rewritten = colo_json_peek_uint(prepared, "rewritten", 0);
            colo_features_catch_up(d, colo_json_peek_string(prepared, "state", NULL));
            return TRUE;
        }
        if (closed || !g_error_matches(own, COLO_ERROR, COLO_ERROR_OPERATION_INVALID)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&own),
                                       "domain '%s' does not go on here yet: ", d->record->name);
            return FALSE;
        }
        colo_domain_gate(d, "closed", NULL);
    }
}

static gboolean turn_filters_on(ColoDomain *d, GError **error)
{
    for (guint i = 0; i < d->nics->len; i++) {
        ColoStepNic step = colo_domain_step_nic(d, g_ptr_array_index(d->nics, i));

        if (!colo_steps_net_turn_on(d->dom, &step, COLO_LEAVE_TIMEOUT_MS, error))
            return FALSE;
    }
    return TRUE;
}

/* The guest's packets go freely: through the helper while it maps sequence numbers, else past it.
 */
static gboolean open_path(ColoDomain *d, GError **error)
{
    g_autoptr(GError) own = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (colo_remap_generation(d) == 0)
        return cut_filters(d, error);
    if (colo_domain_gate(d, "alone", &own))
        return TRUE;
    colo_log_full(&log, LOG_WARNING, __func__, "connections opened just before break: %s",
                  own->message);
    colo_remap_forget(d);
    return cut_filters(d, error);
}

static gboolean serve(ColoDomain *d, GError **error)
{
    uint64_t rewritten = 0;
    size_t n;
    g_autofree ColoStepDisk *disks = NULL;
    g_autoptr(GError) ignored = NULL;
    gboolean tails = FALSE;

    if (!colo_domain_renew(d, error))
        return FALSE;
    /* attach() read this host's XML: the bridges are the quarantine's there, the real ones are in
     * the store. */
    colo_domain_load_devices(d);
    disks = colo_domain_step_disks(d, &n);
    /* Unless an earlier virtcolod came as far as below: then the gate may be open already. */
    if (colo_remap_generation(d) == 0 && colo_comparator_is_up(d->host->comparator) &&
        !ready_helper(d, &rewritten, error))
        return FALSE;
    if (n > 0 && !colo_steps_disk_takeover(d->dom, disks, n, TRUE, &tails, error))
        return FALSE;
    /* On disk before QEMU may write: from now on the overlays hold what no other host has. */
    colo_json_add(d->record->details, "chain", "s", "taken", NULL);
    if (rewritten > 0)
        colo_remap_keep(d);
    if (!colo_store_save_domain(d->host->store, d->record, error) || !open_path(d, error))
        return FALSE;
    if (colo_remap_generation(d) == 0)
        plug_in(d);
    if (!colo_steps_lost_heartbeat(d->dom, error))
        return FALSE;
    if (colo_remap_generation(d)) {
        /* No packet may go past the mapping. */
        if (!turn_filters_on(d, error))
            return FALSE;
        plug_in(d);
    }
    colo_steps_announce_self(d->dom, NULL);
    if (!colo_steps_overlays_sync(disks, n, &ignored)) {
        ColoLogContext log = colo_domain_log(d);

        colo_log_full(&log, LOG_WARNING, __func__, "%s", ignored->message);
    }
    return TRUE;
}

void colo_takeover_run(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    uint64_t start = colo_clock_ns();
    ColoLogContext log;

    d->busy = TRUE;
    colo_domain_unwatch(d);
    g_clear_pointer(&d->abort_reason, g_free);
    if (d->record->state != COLO_STATE_FAILING_OVER)
        colo_domain_set_state(d, COLO_STATE_FAILING_OVER, d->reason);
    if (!serve(d, &error)) {
        log = colo_domain_log(d);
        colo_log_full(&log, LOG_ERR, __func__, "takeover: %s", error->message);
        g_free(d->error);
        d->error = g_strdup(error->message);
        d->busy = FALSE;
        d->next_attempt_ns = colo_clock_ns() + COLO_NS_PER_SEC / 5;
        colo_domain_publish(d);
        return;
    }
    log = colo_domain_log(d);
    colo_log_full(&log, LOG_NOTICE, __func__, "the guest serves here after %.1f ms",
                  (double)(colo_clock_ns() - start) / COLO_NS_PER_MS);
    d->record->role = COLO_ROLE_PRIMARY;
    colo_json_add(d->record->details, "wanted", "b", TRUE, NULL);
    colo_domain_set_state(d, COLO_STATE_COMMITTING, "merging the disks");
    colo_domain_end_session(d);
    g_hash_table_remove_all(d->streams_up);
    colo_takeover_finish(d);
    colo_copy_served(d);
    d->busy = FALSE;
    g_clear_pointer(&d->abort_reason, g_free);
}

/* ---- merging ---- */

static gboolean mark_dead(ColoOverlays which, void *data, GError **error)
{
    ColoDomain *d = data;
    uint64_t dead = colo_json_peek_uint(d->record->details, "dead-overlays", 0) | which;

    colo_json_add(d->record->details, "dead-overlays", "u", dead, NULL);
    return colo_store_save_domain(d->host->store, d->record, error);
}

/* The clean persistent definition at the survivor (design section 5). */
static gboolean define_survivor(ColoDomain *d, GError **error)
{
    const char *inactive = colo_json_peek_string(d->record->details, "inactive-xml", NULL);
    g_autoptr(GHashTable) disks = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GHashTable) nics = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    ColoSurvivorMap map = {.disks = disks, .nics = nics};
    g_autofree char *xml = NULL;
    virConnectPtr conn;
    virDomainPtr dom;

    if (!inactive)
        return TRUE;
    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);

        g_hash_table_insert(disks, disk->target, disk->copy);
    }
    for (guint i = 0; i < d->nics->len; i++) {
        const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
        ColoNicSource *source = g_new0(ColoNicSource, 1);

        source->bridge = nic->bridge;
        source->network = nic->network;
        g_hash_table_insert(nics, nic->mac, source);
    }
    xml = colo_survivor_xml(inactive, &map, error);
    conn = xml ? colo_virconn_get(d->host->virconn, 5000, error) : NULL;
    if (!conn)
        return FALSE;
    dom = virDomainDefineXML(conn, xml);
    if (!dom)
        colo_virconn_set_error(error, "defining the survivor's domain");
    virConnectClose(conn);
    if (!dom)
        return FALSE;
    virDomainFree(dom);
    return TRUE;
}

/* QEMU is gone: the disk's truth is put together from its files. */
static gboolean repair_offline(ColoDomain *d, const ColoStepDisk *disks, size_t n, GError **error)
{
    uint64_t dead = colo_json_peek_uint(d->record->details, "dead-overlays", 0);

    if (g_strcmp0(colo_json_peek_string(d->record->details, "chain", NULL), "taken") != 0)
        return TRUE;
    for (size_t i = 0; i < n; i++) {
        if (!colo_steps_repair(&disks[i], (ColoOverlays)dead, error))
            return FALSE;
    }
    return n == 0 || mark_dead(COLO_OVERLAY_CHAIN | COLO_OVERLAY_TAIL, d, error);
}

static gboolean merge(ColoDomain *d, GError **error)
{
    size_t n;
    g_autofree ColoStepDisk *disks = NULL;
    ColoLogContext log = colo_domain_log(d);

    /* Not "not running": a libvirtd that does not answer tells nothing, and the files of a QEMU
     * that lives must not be touched. */
    if (colo_domain_is_gone(d)) {
        colo_domain_load_devices(d);
        disks = colo_domain_step_disks(d, &n);
        if (!repair_offline(d, disks, n, error))
            return FALSE;
    } else {
        ColoReturnOptions options = {.mark_dead = mark_dead, .data = d};
        ColoReturnReport report = {0};

        if (!colo_domain_renew(d, error))
            return FALSE;
        colo_domain_load_devices(d);
        disks = colo_domain_step_disks(d, &n);
        if (!colo_steps_wait_colo_left(d->dom, 30000, error))
            return FALSE;
        /* What is left of the filters that serve() cut. */
        colo_steps_net_remove(d->dom, colo_remap_generation(d), NULL);
        if (n > 0 && !colo_steps_disk_return(d->dom, disks, n, &options, &report, error))
            return FALSE;
        colo_log_full(
            &log, LOG_NOTICE, __func__, "disks merged: %.1f ms, tail %.1f ms, guest paused %.1f ms",
            (double)report.merge_ns / COLO_NS_PER_MS, (double)report.tail_ns / COLO_NS_PER_MS,
            (double)report.pause_ns / COLO_NS_PER_MS);
        for (guint i = 0; i < d->nics->len; i++) {
            const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
            g_autoptr(GError) nic_error = NULL;

            if (!colo_steps_net_set_source(d->dom, nic->alias, nic->network ? NULL : nic->bridge,
                                           nic->network, NULL, &nic_error))
                colo_log_full(&log, LOG_WARNING, __func__, "%s", nic_error->message);
        }
    }
    for (size_t i = 0; i < n; i++)
        colo_steps_overlays_remove(&disks[i], NULL);
    return TRUE;
}

void colo_takeover_finish(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (!merge(d, &error) || !define_survivor(d, &error)) {
        colo_log_full(&log, LOG_ERR, __func__, "%s", error->message);
        g_free(d->error);
        d->error = g_strdup(error->message);
        d->next_attempt_ns = colo_clock_ns() + 2 * COLO_NS_PER_SEC;
        colo_domain_publish(d);
        return;
    }
    colo_json_add(d->record->details, "chain", "s", NULL, "dead-overlays", "u", (uint64_t)0, NULL);
    if (d->dom)
        colo_steps_set_xcolo(d->dom, FALSE, NULL);
    for (guint i = 0; i < d->nics->len; i++)
        colo_bridge_delete(((ColoProtectedNic *)g_ptr_array_index(d->nics, i))->quarantine, NULL);
    colo_domain_detach(d);
    g_clear_pointer(&d->error, g_free);
    d->next_attempt_ns = colo_clock_ns() + d->reprotect_ms * COLO_NS_PER_MS;
    colo_domain_set_state(d, COLO_STATE_ALONE, "taken over");
}

/* ---- the operator ---- */

/* The operator decides only what nothing else will: not while the copies run together, or while the
 * peer answers that it owns the domain. */
static gboolean may_force(ColoDomain *d, GError **error)
{
    g_autoptr(JsonObject) peer = NULL;

    switch (d->record->state) {
    case COLO_STATE_DEGRADED:
    case COLO_STATE_MANUAL:
    case COLO_STATE_FENCED:
        break;
    default:
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is %s on this host: there is "
                    "nothing to decide",
                    d->record->name, colo_state_name(d->record->state));
        return FALSE;
    }
    if (d->control_silent || !colo_domain_control_is_up(d))
        return TRUE;
    peer = colo_domain_ask_peer(d, "domain-state", NULL, COLO_RELINQUISH_TIMEOUT_MS, NULL);
    if (!colo_json_peek_bool(peer, "owner", FALSE))
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                "domain '%s': %s answers and owns generation %" G_GUINT64_FORMAT
                " (%s): use it there",
                d->record->name, d->peer_host, colo_json_peek_uint(peer, "generation", 0),
                colo_json_peek_string(peer, "state", "?"));
    return FALSE;
}

JsonObject *colo_takeover_force(ColoDomain *d, gboolean discard, GError **error)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    gboolean running = colo_domain_is_running(d);
    gboolean copy = d->record->state == COLO_STATE_DEGRADED && running;

    if (d->record->owner && d->record->state != COLO_STATE_MANUAL) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': this host owns it already (generation %" G_GUINT64_FORMAT ")",
                    d->record->name, d->record->generation);
        return NULL;
    }
    if (!may_force(d, error))
        return NULL;
    if (!copy && !discard) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': this host holds no running copy; its disks end where the "
                    "domain last ran here (generation %" G_GUINT64_FORMAT "). Add --discard to "
                    "start from them and lose everything newer at %s",
                    d->record->name, d->record->generation,
                    d->peer_host ? d->peer_host : "the peer");
        return NULL;
    }
    if (colo_ownership_force(&ctx, d->record, error) != COLO_OWNERSHIP_WON)
        return NULL;
    if (copy && d->record->role == COLO_ROLE_SECONDARY) {
        take_over(d, "the operator decided");
    } else if (copy) {
        colo_primary_go_alone(d, "the operator decided");
    } else if (d->record->role == COLO_ROLE_SECONDARY && colo_domain_is_gone(d)) {
        /* It ran here as a copy only: what libvirt needs to start it is defined. */
        d->record->role = COLO_ROLE_PRIMARY;
        colo_domain_set_state(d, COLO_STATE_COMMITTING, "the operator decided, from these disks");
        colo_takeover_finish(d);
    } else {
        d->record->role = COLO_ROLE_PRIMARY;
        colo_domain_set_state(d, COLO_STATE_ALONE, "the operator decided, from this host's disks");
    }
    return colo_json_build(
        "name", "s", d->record->name, "state", "s", colo_state_name(d->record->state), "generation",
        "u", d->record->generation, "lost", "s",
        copy ? NULL : "what the other host wrote after its copy left this one", NULL);
}
