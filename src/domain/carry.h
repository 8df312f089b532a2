/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The state of hardware features at each checkpoint: taken from the primary's VM while its vCPUs
 * stand, set in the secondary's before it has the whole checkpoint (comparator/protocol.h,
 * "carry"). A guest stands meanwhile, so this is no work for its actor: one thread for all domains,
 * which waits for nothing but the module and the helper.
 *
 * All functions only post; any thread.
 */
#pragma once

#include "domain/comparator-client.h"
#include "feature/vm.h"

typedef struct ColoCarrier ColoCarrier;

/* @comparator: where the helper's client will be; it may be NULL until the first event. */
ColoCarrier *colo_carrier_new(ColoComparatorClient *const *comparator, const ColoHvfeatOps *ops);
/* Ends the thread, which uses the client. Events may come until that is gone; then free it. */
void colo_carrier_stop(ColoCarrier *carrier);
void colo_carrier_free(ColoCarrier *carrier);

/* What @plan carries of the VM of process @qemu, in the session @generation of the domain. Said
 * again it changes nothing. The VM's descriptor is kept open. */
void colo_carrier_watch(ColoCarrier *carrier, const char *uuid, uint64_t generation, pid_t qemu,
                        const ColoFeaturePlan *plan);
void colo_carrier_unwatch(ColoCarrier *carrier, const char *uuid);

/* The helper's event "state-wanted" or "state"; borrowed. */
void colo_carrier_event(ColoCarrier *carrier, const char *name, const char *uuid,
                        JsonObject *event);
