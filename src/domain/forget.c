/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `virsh undefine`: the domain is not to be any more, on either host. The one that owns it hears so
 * from libvirt, forgets that it was to be protected, and tells its peer, where a definition of an
 * earlier takeover may be left, fenced. Disks stay, as with libvirt.
 * `virsh migrate` to a host that is not its peer: nothing of the protection that was interrupted
 * for it is left behind, or the domain could not be protected where it is now.
 */
#include "domain/actor.h"

#include "util/clock.h"
#include "util/error.h"

#include <libvirt/virterror.h>

/* Nothing waits for it; a peer that is not there keeps its definition, fenced. */
#define TELL_TIMEOUT_MS 5000u
/* Between attempts at an arbiter that does not answer. */
#define LEAVE_INTERVAL_MS 5000u

/* TRUE when libvirt knows no such domain, be it running or not. */
static gboolean is_unknown(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    virDomainPtr dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, &error);

    if (dom)
        virDomainFree(dom);
    return !dom && g_error_matches(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN);
}

static void forget(ColoDomain *d, const char *reason)
{
    json_object_object_del(d->record->details, "tuning");
    json_object_object_del(d->record->details, "features");
    colo_json_add(d->record->details, "wanted", "b", FALSE, "autostart", "b", FALSE, NULL);
    d->declared = FALSE;
    colo_domain_set_state(d, COLO_STATE_UNPROTECTED, reason);
}

void colo_domain_undefined(ColoDomain *d)
{
    g_autoptr(JsonObject) told = NULL;
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (d->busy ||
        (d->record->state != COLO_STATE_ALONE && d->record->state != COLO_STATE_UNPROTECTED) ||
        d->record->role != COLO_ROLE_PRIMARY || !is_unknown(d))
        return;
    if (d->record->pair && colo_domain_control_is_up(d))
        told = colo_domain_ask_peer(d, "domain-forget", NULL, TELL_TIMEOUT_MS, &error);
    if (!told && d->record->pair)
        colo_log_full(&log, LOG_WARNING, __func__,
                      "undefined; a definition that its peer %s may have of it is left: %s",
                      d->peer_host ? d->peer_host : "?",
                      error ? error->message : "the control channel is down");
    forget(d, "undefined");
}

JsonObject *colo_domain_forget(ColoDomain *d, GError **error)
{
    gboolean copy = d->record->state == COLO_STATE_FENCED ||
                    (d->record->state == COLO_STATE_UNPROTECTED && !d->record->owner);
    ColoLogContext log = colo_domain_log(d);
    virDomainPtr dom;

    if (!copy || d->record->owner || colo_domain_is_running(d)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is %s on %s: it is not forgotten there", d->record->name,
                    colo_state_name(d->record->state), d->host->config->host_name);
        return NULL;
    }
    dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, NULL);
    if (dom && virDomainUndefineFlags(dom, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
                                               VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                               VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA |
                                               VIR_DOMAIN_UNDEFINE_KEEP_NVRAM) < 0)
        colo_log_full(&log, LOG_WARNING, __func__, "undefining it as at its peer: %s",
                      virGetLastErrorMessage());
    if (dom)
        virDomainFree(dom);
    forget(d, "undefined at the peer");
    return json_object_new_object();
}

void colo_domain_leave_register(ColoDomain *d)
{
    ColoOwnershipContext ctx = colo_domain_ownership(d);
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    if (colo_ownership_leave(&ctx, d->record, &error) == COLO_OWNERSHIP_UNKNOWN) {
        d->next_attempt_ns = colo_clock_ns() + LEAVE_INTERVAL_MS * COLO_NS_PER_MS;
        return;
    }
    if (error)
        colo_log_full(&log, LOG_WARNING, __func__, "its register: %s", error->message);
    colo_json_add(d->record->details, "register-left", "b", FALSE, NULL);
    g_clear_error(&error);
    if (!colo_store_save_domain(d->host->store, d->record, &error))
        colo_log_full(&log, LOG_WARNING, __func__, "%s", error->message);
}

void colo_domain_migrated(ColoDomain *d)
{
    if (d->busy ||
        (d->record->state != COLO_STATE_ALONE && d->record->state != COLO_STATE_UNPROTECTED) ||
        d->record->role != COLO_ROLE_PRIMARY || !d->record->owner || !colo_domain_is_gone(d))
        return;
    forget(d, "migrated to a host outside its pair");
    colo_json_add(d->record->details, "register-left", "b", TRUE, NULL);
    colo_domain_leave_register(d);
}
