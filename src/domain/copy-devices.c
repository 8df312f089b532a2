/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a copy could serve with all its devices: a checkpoint that was loaded does not show it
 * (steps-virtio.h tells why). A copy with a broken device is given up, and another one made; unless
 * the primary has one too: then it is the guest that broke it, and any copy would be as this one.
 */
#include "domain/actor.h"

#include "domain/steps-virtio.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define INTERVAL_NS COLO_NS_PER_SEC
/* For QEMU to say it to one who waits. */
#define ASK_MS 500u

/* A guest that broke one itself is asked about again and again. */
#define LINES 5u
#define LINES_S 60u

#define BROKEN "a virtio device of the copy is broken: see the log of virtcolod and QEMU's"

static void say(virDomainPtr dom, const char *alias)
{
    static ColoLogLimit limit = {.lines = LINES, .seconds = LINES_S};
    static GMutex lock;
    unsigned left_out;
    gboolean may;

    g_mutex_lock(&lock);
    may = colo_log_limit(&limit, colo_clock_ns(), &left_out);
    g_mutex_unlock(&lock);
    if (may)
        colo_warn("domain '%s': QEMU has given its virtio device '%s' up: only a reset makes it "
                  "work again",
                  virDomainGetName(dom), alias);
}

static gboolean is_broken(virDomainPtr dom)
{
    g_autofree char *alias = NULL;
    gboolean broken;

    if (colo_steps_virtio_broken(dom, &broken, &alias, NULL) && broken)
        say(dom, alias);
    return broken; /* an old QEMU that does not know, one that ends: it is not known to be */
}

/* Waits for QEMU to say it. FALSE with @error: it did not. */
static gboolean ask_now(ColoDomain *d, gboolean *broken, GError **error)
{
    ColoAside *asked = NULL;
    gboolean answered = d->dom && colo_aside_ask(&asked, d->dom, is_broken, ASK_MS, broken);

    colo_aside_drop(&asked);
    if (!answered)
        g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                    "domain '%s': its QEMU on %s did not answer within %u ms", d->record->name,
                    d->host->config->host_name, ASK_MS);
    return answered;
}

/* ---- primary ---- */

JsonObject *colo_copy_compared(ColoDomain *d, GError **error)
{
    gboolean broken;

    return ask_now(d, &broken, error) ? colo_json_build("broken", "b", broken, NULL) : NULL;
}

gboolean colo_copy_may_serve(ColoDomain *d, GError **error)
{
    g_autoptr(GError) own = NULL;
    g_autoptr(JsonObject) may = NULL;
    gboolean broken;

    if (ask_now(d, &broken, NULL) && broken)
        return TRUE;
    may = colo_domain_ask_peer(d, "domain-check", NULL, COLO_RELINQUISH_TIMEOUT_MS, &own);
    if (may || g_error_matches(own, COLO_ERROR, COLO_ERROR_INVALID_ARG))
        return TRUE; /* a peer of an older version does not know */
    g_propagate_error(error, g_steal_pointer(&own));
    return FALSE;
}

/* ---- secondary ---- */

/* The guest itself did it, or nobody can say now. */
static gboolean is_the_guests(ColoDomain *d)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) answer =
        colo_domain_ask_peer(d, "domain-devices", NULL, COLO_RELINQUISH_TIMEOUT_MS, &error);

    if (answer)
        return colo_json_peek_bool(answer, "broken", FALSE);
    return !g_error_matches(error, COLO_ERROR, COLO_ERROR_INVALID_ARG); /* of an older version */
}

void colo_copy_tick(ColoDomain *d, uint64_t now)
{
    gboolean broken;

    if (d->record->role != COLO_ROLE_SECONDARY || !d->dom || now < d->next_devices_ns)
        return;
    if (!colo_aside_poll(&d->devices_asked, d->dom, is_broken, &broken))
        return;
    d->next_devices_ns = now + INTERVAL_NS;
    if (broken && !is_the_guests(d))
        colo_secondary_failed(d, BROKEN);
}

JsonObject *colo_copy_check(ColoDomain *d, GError **error)
{
    gboolean broken;

    if (d->record->state != COLO_STATE_PROTECTED || d->record->role != COLO_ROLE_SECONDARY) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' has no copy on %s that could serve: it is %s", d->record->name,
                    d->host->config->host_name, colo_state_name(d->record->state));
        return NULL;
    }
    if (!ask_now(d, &broken, error))
        return NULL;
    if (!broken)
        return json_object_new_object();
    d->next_devices_ns = 0; /* given up by the next tick: the answer comes first */
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                "domain '%s': %s; another copy is made: ask again when it is protected",
                d->record->name, BROKEN);
    return NULL;
}

void colo_copy_served(ColoDomain *d)
{
    gboolean broken;

    colo_aside_drop(&d->devices_asked);
    (void)ask_now(d, &broken, NULL);
}
