/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt can do to a guest, and COLO cannot bear while two copies of it run: suspend, save,
 * dump, migrate elsewhere, and with auto-reprotect='yes' changes too. The copy at the peer is given
 * up, the call is done to the one that is left, and it is protected again by itself as soon as
 * nothing stands against that (actor.c: ALONE, wanted). And the declaration in the domain's
 * metadata, by which it is protected whenever it runs.
 */
#include "domain/actor.h"

#include "domain/declaration.h"
#include "domain/qmp.h"
#include "util/clock.h"
#include "util/error.h"

#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

/* A client that does two things one after the other does them in one interruption. */
#define SETTLE_MS 2000u
/* For QEMU to say what jobs it has; it is asked again later. */
#define JOBS_MS 500u

JsonObject *colo_primary_hold(ColoDomain *d, const char *call, GError **error)
{
    g_autofree char *reason =
        g_strdup_printf("interrupted for %s: protected again when the guest runs", call);

    switch (d->record->state) {
    case COLO_STATE_PROTECTED:
        if (d->record->role == COLO_ROLE_PRIMARY) {
            if (!colo_primary_give_copy_up(d, reason, error))
                return NULL;
            break;
        }
        /* fall through */
    default:
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is %s on %s: ask again when "
                    "'virsh-colo colo-status %s' says protected or alone",
                    d->record->name, colo_state_name(d->record->state), d->host->config->host_name,
                    d->record->name);
        return NULL;
    case COLO_STATE_UNPROTECTED:
    case COLO_STATE_ALONE:
        break;
    }
    if (colo_json_peek_bool(d->record->details, "unclean", FALSE)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: the protection of domain '%s' is not taken "
                    "away yet: ask again, and see the log of virtcolod",
                    d->record->name);
        return NULL;
    }
    d->holds++;
    return json_object_new_object();
}

void colo_primary_release(ColoDomain *d)
{
    if (d->holds > 0)
        d->holds--;
    d->reprotect_ms = COLO_REPROTECT_MIN_MS;
    d->next_attempt_ns = colo_clock_ns() + SETTLE_MS * COLO_NS_PER_MS;
}

/* libvirt's and QEMU's jobs: migration, dump, block copy ... A QEMU that hangs does not answer. */
static gboolean has_jobs(virDomainPtr dom)
{
    g_autoptr(JsonObject) jobs = NULL;
    virDomainJobInfo job;

    if (virDomainGetJobInfo(dom, &job) == 0 && job.type != VIR_DOMAIN_JOB_NONE)
        return TRUE;
    jobs = colo_qmp(dom, "query-block-jobs", NULL, -1, NULL);
    return !jobs || !json_object_is_type(jobs, json_type_array) ||
           json_object_array_length(jobs) > 0;
}

gboolean colo_primary_may_protect(ColoDomain *d)
{
    virDomainPtr dom;
    gboolean may, jobs = TRUE;
    int state;

    if (d->holds > 0 || !colo_domain_control_is_up(d) ||
        !colo_comparator_is_up(d->host->comparator))
        return FALSE;
    dom = colo_virconn_lookup(d->host->virconn, d->record->uuid, NULL);
    may = dom && virDomainGetState(dom, &state, NULL, 0) == 0 && state == VIR_DOMAIN_RUNNING &&
          colo_aside_ask(&d->jobs_asked, dom, has_jobs, JOBS_MS, &jobs) && !jobs;
    if (dom)
        virDomainFree(dom);
    return may;
}

/* ---- the declaration ---- */

/* Of the running domain; NULL with or without @error. Does not wait for libvirtd. */
static ColoDeclaration *read_declaration(ColoDomain *d, GError **error)
{
    virConnectPtr conn = colo_virconn_get(d->host->virconn, 0, NULL);
    virDomainPtr dom = conn ? virDomainLookupByUUIDString(conn, d->record->uuid) : NULL;
    ColoDeclaration *declaration = NULL;
    char *xml = dom && virDomainIsActive(dom) == 1 ? virDomainGetXMLDesc(dom, 0) : NULL;

    if (conn)
        virConnectClose(conn);
    if (xml)
        declaration = colo_declaration_of_domain(xml, error);
    free(xml);
    if (dom)
        virDomainFree(dom);
    return declaration;
}

void colo_domain_look_at_declaration(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoDeclaration) declaration = read_declaration(d, &error);
    ColoLogContext log = colo_domain_log(d);

    if (error) {
        colo_log_full(&log, LOG_WARNING, __func__, "its metadata: %s", error->message);
        g_free(d->error);
        d->error = g_strdup(error->message);
    }
    d->auto_reprotect = declaration && declaration->auto_reprotect;
    colo_domain_publish(d);
}

void colo_domain_take_declaration(ColoDomain *d)
{
    g_autoptr(ColoDeclaration) declaration = NULL;
    g_autoptr(JsonObject) features = json_object_new_object();
    g_autoptr(GError) error = NULL;
    ColoLogContext log = colo_domain_log(d);

    colo_domain_look_at_declaration(d);
    if (d->record->state != COLO_STATE_UNPROTECTED ||
        colo_json_peek_bool(d->record->details, "declined", FALSE))
        return;
    declaration = read_declaration(d, NULL);
    if (!declaration || !declaration->declared)
        return;
    if (declaration->features)
        colo_json_add(features, "features", "s", declaration->features, NULL);
    if (!colo_pairs_has(d->host->pairs, declaration->pair, &error) ||
        !colo_features_set_policy(d, features, &error) ||
        (declaration->tuning && !colo_domain_take_tuning(d, declaration->tuning, &error))) {
        colo_log_full(&log, LOG_WARNING, __func__, "not protected: its metadata: %s",
                      error->message);
        g_free(d->error);
        d->error = g_strdup(error->message);
        colo_domain_publish(d);
        return;
    }
    g_free(d->record->pair);
    d->record->pair = g_strdup(declaration->pair);
    d->declared = TRUE;
    d->reprotect_ms = COLO_REPROTECT_MIN_MS;
    d->next_attempt_ns = colo_clock_ns();
    colo_domain_publish(d);
}
