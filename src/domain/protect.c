/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The job that protects a running domain, on the primary.
 *
 * Protecting, step by step; its undo is protect-undo.c:
 *   features negotiated -> ownership {n, me, alone} -> session at the helper -> the peer prepares
 * its copy -> data streams
 *   -> disks copied -> NIC filters -> migration into COLO, first LOADED -> gate "paired" here and
 *   there -> CAS alone -> paired -> first commit.
 * Until the last two steps the guest's output leaves as if unprotected (I1 (c)).
 */
#include "domain/actor.h"

#include "comparator/protocol.h"
#include "domain/dial.h"
#include "domain/eligibility.h"
#include "domain/host-facts.h"
#include "domain/pool-map.h"
#include "domain/qmp.h"
#include "domain/room.h"
#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#include <sys/random.h>
#include <unistd.h>

#define POLL_MS 50u
/* Stop of the guest while entering COLO: begins small, doubles each time that it has not been
 * entered, up to what QEMU's users know as a long downtime. */
#define DOWNTIME_FIRST_MS UINT64_C(20)
#define DOWNTIME_MAX_MS UINT64_C(2000)
#define DOWNTIME_RAISE_NS (5 * COLO_NS_PER_SEC)
/* From "output needs both" to the first commit: output is held all the time, so a peer that does
 * not complete a checkpoint is given up. */
#define PAIRING_MS 30000u
/* QEMU's own limit on the migration stream is lifted: the link is ours (bytes/s). */
#define STREAM_BANDWIDTH (UINT64_C(1) << 34)

/* ---- pre-flight ---- */

static gboolean check_eligible(ColoDomain *d, GError **error)
{
    ColoEligibilityPolicy policy = {.allow_emulation = d->host->config->allow_emulation};
    g_autoptr(GPtrArray) findings = NULL;
    char *xml = virDomainGetXMLDesc(d->dom, VIR_DOMAIN_XML_SECURE);

    if (!xml) {
        colo_virconn_set_error(error, "reading the domain's XML");
        return FALSE;
    }
    findings = colo_eligibility_check(xml, &policy, error);
    free(xml);
    return findings && colo_eligibility_require(findings, d->record->name, error);
}

static char *make_psk(void)
{
    unsigned char key[COLO_CMP_PSK_BYTES];
    GString *hex = g_string_new(NULL);

    if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        g_error("getrandom: %s", g_strerror(errno));
    for (size_t i = 0; i < sizeof(key); i++)
        g_string_append_printf(hex, "%02x", key[i]);
    return g_string_free(hex, FALSE);
}

static JsonObject *alias_array(GPtrArray *devices, gboolean disks)
{
    JsonObject *array = json_object_new_array();

    for (guint i = 0; i < devices->len; i++) {
        const char *alias = disks ? ((ColoProtectedDisk *)g_ptr_array_index(devices, i))->alias
                                  : ((ColoProtectedNic *)g_ptr_array_index(devices, i))->alias;

        json_object_array_add(array, json_object_new_string(alias));
    }
    return array;
}

/* The arguments of "session-create" that both hosts give alike. */
static JsonObject *session_arguments(ColoDomain *d, const char *role, const char *psk)
{
    const ColoHeartbeat *beat = &d->host->config->heartbeat;
    gboolean vnet_hdr =
        d->nics->len > 0 && ((ColoProtectedNic *)g_ptr_array_index(d->nics, 0))->vnet_hdr;

    return colo_json_build(
        "generation", "u", d->record->generation, "role", "s", role, "psk", "s", psk, "vnet-hdr",
        "b", vnet_hdr, "heartbeat-ms", "u", (uint64_t)beat->interval_ms, "heartbeat-missed", "u",
        (uint64_t)beat->missed, "nics", "o", alias_array(d->nics, FALSE), "disks", "o",
        alias_array(d->disks, TRUE), "tuning", "o", colo_domain_tuning(d), "rewrite", "b",
        colo_domain_session_rewrites(d), "carry", "b", colo_features_are_carried(d), NULL);
}

static gboolean check_vnet_uniform(ColoDomain *d, GError **error)
{
    for (guint i = 1; i < d->nics->len; i++) {
        const ColoProtectedNic *first = g_ptr_array_index(d->nics, 0);
        const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);

        if (nic->vnet_hdr != first->vnet_hdr) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                        "domain '%s': NICs %s and %s are of different kinds (virtio and emulated): "
                        "give all the same <model type>",
                        d->record->name, first->alias, nic->alias);
            return FALSE;
        }
    }
    return TRUE;
}

/* ---- the steps ---- */

static gboolean start_session(ColoDomain *d, const char *psk, GError **error)
{
    g_autoptr(JsonObject) done = NULL;

    colo_domain_end_session(d); /* a session of an earlier attempt; none is fine */
    /* What is mapped already must stay so at the next survivor. */
    colo_domain_set_session(d, d->record->generation,
                            d->host->config->tcp_rewrite || colo_remap_generation(d) != 0);
    if (!colo_store_save_domain(d->host->store, d->record, error))
        return FALSE;
    g_hash_table_remove_all(d->streams_up);
    g_hash_table_remove_all(d->channels_down);
    done = colo_domain_comparator(d, "session-create", session_arguments(d, "primary", psk), -1,
                                  COLO_COMPARATOR_TIMEOUT_MS, error);
    return done != NULL;
}

/* Says where the copies lie on the peer, where that is not the same path. */
static void add_places(ColoDomain *d)
{
    g_autoptr(JsonObject) map = colo_pairs_pool_map(d->host->pairs, d->record->pair);
    JsonObject *disks = colo_json_peek(d->record->details, "disks");

    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);

        colo_pool_map_add_place(virDomainGetConnect(d->dom), map, disk->copy,
                                json_object_array_get_idx(disks, i));
    }
}

/* {target: bytes}: what the content of each disk takes here, and its copy will take on the peer. */
static JsonObject *allocated_bytes(ColoDomain *d)
{
    JsonObject *bytes = json_object_new_object();

    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);

        colo_json_add(bytes, disk->target, "u", colo_room_allocated(disk->copy), NULL);
    }
    return bytes;
}

/* What the peer needs to make its copy (secondary.c). Returns its answer. */
static JsonObject *prepare_peer(ColoDomain *d, const char *psk, JsonObject *features,
                                GError **error)
{
    JsonObject *params, *base = colo_remap_table(d, error);
    char *live, *inactive;

    if (!base)
        return NULL;
    params = session_arguments(d, "secondary", psk);
    live = virDomainGetXMLDesc(d->dom, VIR_DOMAIN_XML_SECURE);
    inactive = virDomainGetXMLDesc(d->dom, VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE);
    colo_domain_store_devices(d);
    add_places(d);
    colo_json_add(params, "name", "s", d->record->name, "pair", "s", d->record->pair, "live-xml",
                  "s", live, "inactive-xml", "s", inactive, "devices", "o",
                  json_object_get(d->record->details), "host", "s", d->host->config->host_name,
                  "autostart", "b", colo_json_peek_bool(d->record->details, "autostart", FALSE),
                  "allocated", "o", allocated_bytes(d), "features", "o", json_object_get(features),
                  NULL);
    if (json_object_array_length(base) > 0)
        colo_json_add(params, "base", "o", json_object_get(base), NULL);
    json_object_put(base);
    colo_host_facts_add(d->host, params);
    free(live);
    free(inactive);
    return colo_domain_call_peer(d, "domain-prepare", params, COLO_PEER_TIMEOUT_MS, error);
}

static gboolean attach_stream(ColoDomain *d, const char *stream, uint16_t port, GError **error)
{
    g_autofree char *address = colo_pairs_peer_address(d->host->pairs, d->record->pair);
    g_autoptr(JsonObject) done = NULL;
    int fd = colo_dial_tcp(address, port, COLO_STREAM_UP_TIMEOUT_MS, error);

    if (fd < 0)
        return FALSE;
    done = colo_domain_comparator(d, "peer-attach", colo_json_build("stream", "s", stream, NULL),
                                  fd, COLO_COMPARATOR_TIMEOUT_MS, error);
    close(fd);
    return done != NULL;
}

static gboolean wait_streams(ColoDomain *d, guint wanted, GError **error)
{
    for (unsigned waited = 0; waited < COLO_STREAM_UP_TIMEOUT_MS; waited += POLL_MS) {
        if (g_hash_table_size(d->streams_up) >= wanted)
            return TRUE;
        if (!colo_domain_pump(d, POLL_MS, error))
            return FALSE;
    }
    g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                "domain '%s': only %u of %u data streams to the peer came up within %u ms: is the "
                "data port open? (virsh-colo colo-doctor)",
                d->record->name, g_hash_table_size(d->streams_up), wanted,
                COLO_STREAM_UP_TIMEOUT_MS);
    return FALSE;
}

static gboolean attach_streams(ColoDomain *d, uint16_t port, GError **error)
{
    if (!attach_stream(d, "packets", port, error) || !attach_stream(d, "checkpoint", port, error))
        return FALSE;
    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);
        g_autofree char *stream = g_strconcat("disk:", disk->alias, NULL);

        if (!attach_stream(d, stream, port, error))
            return FALSE;
    }
    return wait_streams(d, 2 + d->disks->len, error) && colo_remap_tell(d, error);
}

/* Our end of a socket to QEMU, as its creator returned it (-1: @error is set), goes to the helper.
 */
static gboolean give_local(ColoDomain *d, const char *kind, const char *alias, int fd,
                           GError **error)
{
    gboolean ok;

    if (fd < 0)
        return FALSE;
    ok = colo_domain_attach_local(d, kind, alias, fd, error);
    close(fd);
    return ok;
}

static void show_disk_progress(ColoDomain *d, const ColoMirrorState *states)
{
    JsonObject *list = json_object_new_array();
    uint64_t done = 0, total = 0;

    for (guint i = 0; i < d->disks->len; i++) {
        const ColoProtectedDisk *disk = g_ptr_array_index(d->disks, i);

        done += states[i].offset;
        total += states[i].length;
        json_object_array_add(list, colo_json_build("alias", "s", disk->alias, "target", "s",
                                                    disk->target, "size", "u", disk->size, "copied",
                                                    "u", states[i].offset, "state", "s",
                                                    states[i].ready ? "ready" : "copying", NULL));
    }
    json_object_put(d->disk_progress);
    d->disk_progress = list;
    d->progress = total ? (unsigned)(done * 100 / total) : 100;
    colo_domain_publish(d);
}

/* Copies all disks and leaves them mirrored synchronously. */
static gboolean sync_disks(ColoDomain *d, GError **error)
{
    size_t n;
    g_autofree ColoStepDisk *disks = colo_domain_step_disks(d, &n);
    g_autofree ColoMirrorState *states = g_new0(ColoMirrorState, n + 1);
    gboolean ready = n == 0;

    for (size_t i = 0; i < n; i++) {
        int fd = colo_steps_mirror_prepare(d->dom, &disks[i], error);

        if (!give_local(d, "nbd", disks[i].alias, fd, error) ||
            !colo_steps_mirror_start(d->dom, &disks[i], error))
            return FALSE;
    }
    while (!ready) {
        ready = TRUE;
        for (size_t i = 0; i < n; i++) {
            if (!colo_steps_mirror_state(d->dom, &disks[i], &states[i], error))
                return FALSE;
            if (!states[i].present || states[i].failed) {
                g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                            "domain '%s': copying disk %s to %s failed: see whether there is space "
                            "left, and /var/log/libvirt/qemu/%s.log on both hosts",
                            d->record->name,
                            ((ColoProtectedDisk *)g_ptr_array_index(d->disks, i))->target,
                            d->peer_host, d->record->name);
                return FALSE;
            }
            ready = ready && states[i].ready;
        }
        show_disk_progress(d, states);
        if (!ready && !colo_domain_pump(d, POLL_MS, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean add_filters(ColoDomain *d, GError **error)
{
    for (guint i = 0; i < d->nics->len; i++) {
        const ColoProtectedNic *nic = g_ptr_array_index(d->nics, i);
        ColoStepNic step = colo_domain_step_nic(d, nic);
        ColoNicFds fds;
        gboolean ok;

        if (!colo_steps_net_channels(d->dom, &step, COLO_STEPS_PRIMARY, &fds, error))
            return FALSE;
        ok = colo_domain_attach_local(d, "mirror", nic->alias, fds.mirror, error) &&
             colo_domain_attach_local(d, "release", nic->alias, fds.release, error) &&
             colo_domain_attach_local(d, "out", nic->alias, fds.out, error) &&
             colo_steps_net_filters(d->dom, &step, COLO_STEPS_PRIMARY, error);
        colo_nic_fds_clear(&fds);
        if (!ok)
            return FALSE;
    }
    return TRUE;
}

/* The first checkpoint would come only after a whole period. QEMU says "colo" before it can take a
 * kick, which would end it: migrate_start_colo_process() makes the event with its lock released. It
 * can once it lets the guest run again (colo_process_checkpoint()). */
static void kick_first(ColoDomain *d)
{
    gboolean running;

    if (colo_steps_is_running(d->dom, &running, NULL) && running)
        colo_steps_kick(d->dom, d->host->config->checkpoint_period_ms, NULL);
}

/* Migrates into COLO and waits for the secondary's first LOADED. */
static gboolean enter_colo(ColoDomain *d, GError **error)
{
    g_autoptr(JsonObject) incoming = NULL;
    ColoMigrateState state;
    uint64_t end = colo_clock_ns() + COLO_ENTER_COLO_TIMEOUT_MS * COLO_NS_PER_MS;
    uint64_t downtime = DOWNTIME_FIRST_MS;
    uint64_t raise_ns = colo_clock_ns() + DOWNTIME_RAISE_NS;
    int fd;

    if (!colo_steps_set_xcolo(d->dom, TRUE, error) ||
        !colo_steps_set_parameters(d->dom, d->host->config->checkpoint_period_ms, STREAM_BANDWIDTH,
                                   error))
        return FALSE;
    incoming = colo_domain_call_peer(d, "domain-incoming", NULL, COLO_PEER_TIMEOUT_MS, error);
    if (!incoming)
        return FALSE;
    d->ready = FALSE;
    d->loaded = d->committed = 0;
    fd = colo_steps_migrate_start(d->dom, error);
    if (!give_local(d, "migration", NULL, fd, error))
        return FALSE;
    while (d->loaded == 0) {
        if (!colo_steps_migrate_state(d->dom, &state, error))
            return FALSE;
        d->memory_total = state.ram_total;
        d->memory_remaining = state.ram_remaining;
        d->progress =
            state.ram_total
                ? (unsigned)((state.ram_total - state.ram_remaining) * 100 / state.ram_total)
                : 0;
        colo_domain_publish(d);
        /* A guest that dirties faster than the link carries: let it be stopped for longer. */
        if (state.status == COLO_MIGRATE_RUNNING && colo_clock_ns() > raise_ns) {
            downtime = MIN(downtime * 2, DOWNTIME_MAX_MS);
            raise_ns = colo_clock_ns() + DOWNTIME_RAISE_NS;
            colo_steps_set_downtime(d->dom, downtime, NULL);
        }
        if (state.status == COLO_MIGRATE_COLO)
            kick_first(d);
        if (state.status == COLO_MIGRATE_FAILED || state.status == COLO_MIGRATE_CANCELLED ||
            colo_clock_ns() > end) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                        "domain '%s': copying memory to the peer ended in state '%s': %s",
                        d->record->name, state.status_text,
                        *state.error ? state.error : "see the QEMU log of both hosts");
            return FALSE;
        }
        if (!colo_domain_pump(d, POLL_MS, error))
            return FALSE;
    }
    d->memory_remaining = 0;
    return TRUE;
}

/* Epoch that the helper has committed, asked now: events may still be in the mailbox. */
static gboolean committed_epoch(ColoDomain *d, uint64_t *epoch, GError **error)
{
    g_autoptr(JsonObject) stats =
        colo_domain_comparator(d, "stats", NULL, -1, COLO_COMPARATOR_TIMEOUT_MS, error);

    if (!stats)
        return FALSE;
    *epoch = colo_json_peek_uint(stats, "committed", 0);
    return TRUE;
}

/* From here on the kicker looks after the mirrors; one may have failed since its disk was copied.
 */
static gboolean all_disks_copied(ColoDomain *d, GError **error)
{
    unsigned copying;

    if (d->disks->len == 0)
        return TRUE;
    if (!colo_steps_mirrors_copying(d->dom, &copying, error))
        return FALSE;
    if (copying >= d->disks->len)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                "domain '%s': only %u of %u disks are copied to the peer still: see the QEMU log "
                "of both hosts, and the space on the peer",
                d->record->name, copying, d->disks->len);
    return FALSE;
}

/*
 * From "both copies run" to "output needs both" (tests/model/README.md rules 3 and 4). Under gate
 * "paired" nothing leaves by sole ownership any more; once a checkpoint that was cut after that is
 * committed, no output is missing from the secondary's state, and the register may say paired.
 */
static gboolean begin_pairing(ColoDomain *d, GError **error)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    uint64_t before, now, end;

    if (!colo_domain_watch(d, error) || !colo_domain_gate(d, "paired", error) ||
        !committed_epoch(d, &before, error))
        return FALSE;
    end = colo_clock_ns() + PAIRING_MS * COLO_NS_PER_MS;
    for (now = before; now <= before;) {
        if (colo_clock_ns() > end) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                        "domain '%s': the peer %s completed no checkpoint within %u ms of the "
                        "first: see the QEMU log of both hosts",
                        d->record->name, d->peer_host, PAIRING_MS);
            return FALSE;
        }
        colo_kicker_kick(d->host->kicker, d->record->uuid);
        if (!colo_domain_pump(d, POLL_MS / 5, error) || !committed_epoch(d, &now, error))
            return FALSE;
    }
    if (!all_disks_copied(d, error))
        return FALSE;
    if (colo_ownership_pair(&ctx, d->record, error) != COLO_OWNERSHIP_PAIRED)
        return FALSE;
    /* The register says so: it is protected, whether the secondary has heard of it yet or not. */
    colo_domain_set_state(d, COLO_STATE_PROTECTED, NULL);
    colo_primary_tell_paired(d);
    if (d->record->state == COLO_STATE_PROTECTED)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                "domain '%s': the peer gave its copy up as soon as it was paired", d->record->name);
    return FALSE;
}

/* ---- the job ---- */

static gboolean check_paths(ColoDomain *d, GError **error)
{
    if (!colo_domain_attach(d, error))
        return FALSE;
    if (virDomainIsActive(d->dom) != 1) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is not running",
                    d->record->name);
        return FALSE;
    }
    return check_eligible(d, error) && check_vnet_uniform(d, error) &&
           colo_pairs_wait_up(d->host->pairs, d->record->pair, 5000, error);
}

static gboolean protect(ColoDomain *d, GError **error)
{
    g_autofree char *psk = make_psk();
    g_autoptr(JsonObject) prepared = NULL, features = NULL;
    ColoOwnershipContext ctx;
    int autostart = 0;
    uint64_t port;

    if (colo_json_peek_bool(d->record->details, "unclean", FALSE))
        colo_primary_remove_protection(d);
    if (!check_paths(d, error))
        return FALSE;
    colo_json_add(d->record->details, "unclean", "b", FALSE, NULL);
    g_free(d->peer_host);
    d->peer_host = colo_pairs_peer_host(d->host->pairs, d->record->pair, error);
    if (!d->peer_host)
        return FALSE;
    colo_json_add(d->record->details, "peer-host", "s", d->peer_host, NULL);
    features = colo_features_offer(d, error);
    if (!features)
        return FALSE;
    ctx = colo_domain_ownership(d);
    if (!colo_ownership_begin(&ctx, d->record, error))
        return FALSE;
    colo_json_add(d->record->details, "begun", "b", TRUE, NULL);
    if (!colo_store_save_domain(d->host->store, d->record, error))
        return FALSE;
    /* The host must not start a protected domain by itself (design section 5). */
    if (virDomainGetAutostart(d->dom, &autostart) == 0 && autostart &&
        virDomainSetAutostart(d->dom, 0) == 0)
        colo_json_add(d->record->details, "autostart", "b", TRUE, NULL);

    if (!start_session(d, psk, error))
        return FALSE;
    prepared = prepare_peer(d, psk, features, error);
    if (!prepared || !colo_json_get_uint(prepared, "data-port", &port, error) ||
        !colo_features_apply(d, NULL, error))
        return FALSE;
    colo_domain_set_state(d, COLO_STATE_SYNCING, "copying disks");
    if (!attach_streams(d, (uint16_t)port, error) || !sync_disks(d, error) ||
        !add_filters(d, error))
        return FALSE;
    colo_domain_set_state(d, COLO_STATE_SYNCING, "copying memory");
    return enter_colo(d, error) && begin_pairing(d, error);
}

void colo_primary_begin(ColoDomain *d, const char *pair)
{
    char *name = g_strdup(pair);

    d->busy = TRUE;
    d->qemu_died = d->ended = FALSE;
    d->shutdown_ns = 0;
    d->qemu_closed_ns = 0;
    d->packets_silent = FALSE;
    d->checkpoints = 0;
    d->last_commit_ns = d->overflow_ns = 0;
    d->progress = 0;
    g_clear_pointer(&d->abort_reason, g_free);
    g_clear_pointer(&d->error, g_free);
    g_free(d->record->pair);
    d->record->pair = name;
    json_object_object_del(d->record->details, "register-left"); /* it is wanted again */
    d->record->role = COLO_ROLE_PRIMARY;
    g_free(d->record->boot_id);
    d->record->boot_id = g_strdup(d->host->boot_id);
    colo_json_add(d->record->details, "begun", "b", FALSE, NULL);
    colo_domain_set_state(d, COLO_STATE_PREPARING, NULL);
}

void colo_primary_protect(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;

    if (protect(d, &error)) {
        d->progress = 100;
        d->reprotect_ms = COLO_REPROTECT_MIN_MS;
        colo_json_add(d->record->details, "wanted", "b", TRUE, NULL);
        colo_domain_set_state(d, COLO_STATE_PROTECTED, NULL);
    } else {
        colo_primary_undo(d, error);
    }
    d->busy = FALSE;
    g_clear_pointer(&d->abort_reason, g_free);
}
