/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HVFEAT_PRIVATE_H
#define HVFEAT_PRIVATE_H
/*
 * The parts of the module: device (requests), report (what there is), control
 * (what acts on a VM), events, sysfs.
 *
 * Nothing of kvm is linked to: its symbols are looked up for each call, so that
 * the module loads without kvm, and kvm can be unloaded and replaced.
 */
#include <linux/types.h>
#include <libvirt-colo/kvm_hvfeat.h>
#include "hvf_ops.h"

#define HVFEAT_VERSION	"2"
#define HVFEAT_STATE_VERSION 1

struct kvm;

/* What this host has of a feature; flags without those of a VM */
struct hvfeat_report {
	u32 flags;
	u32 reason;
	u64 param_min, param_max;
};

/* report.c */
const char *hvfeat_name(unsigned int feature);
u32 hvfeat_group(unsigned int feature);
int hvfeat_kvm_feature(unsigned int feature);
bool hvfeat_is_apicv(unsigned int feature);
bool hvfeat_has_state(unsigned int feature);
void hvfeat_get_report(unsigned int feature, struct hvfeat_report *report);
void hvfeat_reason_text(unsigned int feature, u32 reason, char *text, size_t size);

/* control.c; the caller puts what it got */
const struct kvm_hvf_ops *hvfeat_ops_get(void);
void hvfeat_ops_put(const struct kvm_hvf_ops *ops);
bool hvfeat_kvm_loaded(void);
bool hvfeat_apicv_enabled(void);

int hvfeat_vm_info(struct kvm *kvm, struct kvm_hvfeat_info *info);
int hvfeat_vm_set(struct kvm *kvm, unsigned int feature, const u64 *param);
int hvfeat_vm_get_state(struct kvm *kvm, unsigned int feature, void *state, u32 *size);
int hvfeat_vm_set_state(struct kvm *kvm, unsigned int feature, const void *state, u32 size);
int hvfeat_vm_stats(struct kvm *kvm, struct kvm_hvfeat_stats *stats);
int hvfeat_vm_view(struct kvm *kvm, unsigned int request, struct kvm_hvfeat_view *view);

/* events.c */
int hvfeat_events_init(void);
void hvfeat_events_exit(void);
void hvfeat_event_vm(unsigned int event, unsigned int feature, pid_t pid);

/* sysfs.c */
enum hvfeat_count { HVFEAT_ENABLED, HVFEAT_DISABLED, HVFEAT_REFUSED, HVFEAT_DENIED, HVFEAT_NR_COUNT };
void hvfeat_count(unsigned int feature, enum hvfeat_count what, u64 n);
extern const struct attribute_group **hvfeat_groups;
void hvfeat_sysfs_init(void);

#endif
