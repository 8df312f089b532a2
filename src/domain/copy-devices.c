/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether a copy could serve with all its devices: a checkpoint that was loaded does not show it
 * (steps-virtio.h tells why). A copy with a broken device is given up, and another one made.
 */
#include "domain/actor.h"

#include "domain/steps-virtio.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

#define INTERVAL_NS COLO_NS_PER_SEC
/* For QEMU to say it to one who waits. */
#define ASK_MS 500u

#define BROKEN "a virtio device of the copy is broken: see the log of virtcolod and QEMU's"

static gboolean is_broken(virDomainPtr dom)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *alias = NULL;
    gboolean broken;

    if (colo_steps_virtio_broken(dom, &broken, &alias, &error) && broken)
        colo_warn(
            "domain '%s': QEMU has given its virtio device '%s' up: only a reset makes it work "
            "again",
            virDomainGetName(dom), alias);
    return broken; /* an old QEMU that does not know, one that ends: it is not known to be */
}

void colo_copy_tick(ColoDomain *d, uint64_t now)
{
    gboolean broken;

    if (d->record->role != COLO_ROLE_SECONDARY || !d->dom || now < d->next_devices_ns)
        return;
    if (!colo_aside_poll(&d->devices_asked, d->dom, is_broken, &broken))
        return;
    d->next_devices_ns = now + INTERVAL_NS;
    if (broken)
        colo_secondary_failed(d, BROKEN);
}

/* Waits for QEMU to say it. FALSE: it did not. */
static gboolean ask_now(ColoDomain *d, gboolean *broken)
{
    ColoAside *asked = NULL;
    gboolean answered = colo_aside_ask(&asked, d->dom, is_broken, ASK_MS, broken);

    colo_aside_drop(&asked);
    return answered;
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
    if (!ask_now(d, &broken)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                    "domain '%s': QEMU of its copy on %s did not answer within %u ms",
                    d->record->name, d->host->config->host_name, ASK_MS);
        return NULL;
    }
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
    if (d->dom)
        (void)ask_now(d, &broken);
}
