/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hardware features of one running VM: looked at, switched, and their state taken and set,
 * through module kvm_hvfeat. Opened for a moment: the descriptor keeps KVM's part of the VM alive
 * after its QEMU. Any thread.
 */
#pragma once

#include "feature/device.h"
#include "feature/negotiate.h"

typedef struct {
    const ColoHvfeatOps *ops;
    int device, vm;
} ColoFeatureVm;

/* The VM of the process @qemu. FALSE with @error when there is no module, no KVM under it, or no
 * such process. Close it with colo_feature_vm_close(), also when this failed. */
gboolean colo_feature_vm_open(ColoFeatureVm *vm, const ColoHvfeatOps *ops, pid_t qemu,
                              GError **error);
void colo_feature_vm_close(ColoFeatureVm *vm);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoFeatureVm, colo_feature_vm_close)

/* Whether the feature is on in the VM (APICv, AVIC: not switched off by us), and with what. */
gboolean colo_feature_vm_look(const ColoFeatureVm *vm, unsigned feature, gboolean *on,
                              uint64_t *param, GError **error);

/* {"on", "param", and the module's counters} of the feature in the VM; the caller owns it. */
JsonObject *colo_feature_vm_get_stats(const ColoFeatureVm *vm, unsigned feature, GError **error);

/*
 * Makes the VM as @plan says. @states: {NAME: state} of the other VM, set first; or NULL.
 * @keep_modes: what is on already keeps the modes that it has (a lock made meanwhile). All or
 * nothing: after a failure the VM is as before, as far as the module lets it.
 */
gboolean colo_feature_vm_apply(const ColoFeatureVm *vm, const ColoFeaturePlan *plan,
                               JsonObject *states, gboolean keep_modes, GError **error);

/* {NAME: {"version", "data"}} of what @plan carries; the caller owns it. @only_on: without what is
 * off in the VM. */
JsonObject *colo_feature_vm_get_states(const ColoFeatureVm *vm, const ColoFeaturePlan *plan,
                                       gboolean only_on, GError **error);

/* Sets those of @states that @plan carries, and passes others over. FALSE with @error:
 * COLO_ERROR_INVALID_ARG for what is no state. */
gboolean colo_feature_vm_set_states(const ColoFeatureVm *vm, const ColoFeaturePlan *plan,
                                    JsonObject *states, GError **error);
