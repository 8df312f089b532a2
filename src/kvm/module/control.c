// SPDX-License-Identifier: GPL-2.0
/* Acts on a VM, through a patched kvm or what the stock one exports. */
#include <linux/errno.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/string.h>
#include "private.h"

/* The state of a feature as it travels; all fields little endian */
struct hvfeat_blob {
	__le32 feature;
	__le32 reserved;
	__le64 param[KVM_HVF_NR_PARAM];	/* APICv and AVIC: param[0] 1: off */
	__le64 stat[KVM_HVF_NR_STAT];
};

static_assert(sizeof(struct hvfeat_blob) <= KVM_HVFEAT_STATE_MAX);
static_assert(KVM_HVF_NR_STAT == KVM_HVFEAT_STATS_MAX);

/* NULL: kvm is not loaded, or not patched */
const struct kvm_hvf_ops *hvfeat_ops_get(void)
{
	typeof(kvm_hvf_get_ops) *get = __symbol_get("kvm_hvf_get_ops");

	return get ? get() : NULL;
}

void hvfeat_ops_put(const struct kvm_hvf_ops *ops)
{
	if (ops)
		__symbol_put("kvm_hvf_get_ops");
}

bool hvfeat_kvm_loaded(void)
{
	if (!__symbol_get("file_is_kvm"))
		return false;
	__symbol_put("file_is_kvm");
	return true;
}

bool hvfeat_apicv_enabled(void)
{
	const bool *enabled = __symbol_get("enable_apicv");
	bool yes;

	if (!enabled)
		return false;
	yes = READ_ONCE(*enabled);
	__symbol_put("enable_apicv");
	return yes;
}

static int reason_errno(u32 reason)
{
	switch (reason) {
	case KVM_HVFEAT_REASON_NONE:
		return 0;
	case KVM_HVFEAT_REASON_NO_KVM:
		return -ENODEV;
	case KVM_HVFEAT_REASON_UNPATCHED:
	case KVM_HVFEAT_REASON_PATCH_ABI:
		return -EOPNOTSUPP;
	default:
		return -ENXIO;
	}
}

static int check_works(unsigned int feature)
{
	struct hvfeat_report report;

	hvfeat_get_report(feature, &report);
	return reason_errno(report.reason);
}

/*
 * The stock kvm gives this reason only to VMs of a module that has APICv off,
 * which we do not touch (check_works()): here it is ours.
 */
static int apicv_stock_inhibit(struct kvm *kvm, bool off)
{
	void (*inhibit)(struct kvm *kvm, enum kvm_apicv_inhibit reason, bool set) =
		__symbol_get("kvm_set_or_clear_apicv_inhibit");

	if (!inhibit)
		return -EOPNOTSUPP;
	inhibit(kvm, APICV_INHIBIT_REASON_DISABLE, off);
	__symbol_put("kvm_set_or_clear_apicv_inhibit");
	return 0;
}

static bool patched_has(const struct kvm_hvf_ops *ops, unsigned int feature)
{
	return ops && ops->abi == KVM_HVF_ABI &&
	       (ops->features() & BIT(hvfeat_kvm_feature(feature)));
}

static int vm_set(struct kvm *kvm, unsigned int feature, const struct kvm_hvf_setting *setting,
		  bool stats)
{
	const struct kvm_hvf_ops *ops = hvfeat_ops_get();
	int r;

	if (patched_has(ops, feature))
		r = ops->set(kvm, hvfeat_kvm_feature(feature), setting, stats);
	else if (hvfeat_is_apicv(feature))
		r = apicv_stock_inhibit(kvm, setting->param[0]);
	else
		r = -EOPNOTSUPP;
	hvfeat_ops_put(ops);
	return r;
}

static int vm_get(struct kvm *kvm, unsigned int feature, struct kvm_hvf_setting *setting)
{
	const struct kvm_hvf_ops *ops = hvfeat_ops_get();
	int r = 0;

	memset(setting, 0, sizeof(*setting));
	if (patched_has(ops, feature))
		r = ops->get(kvm, hvfeat_kvm_feature(feature), setting);
	else if (hvfeat_is_apicv(feature))
		setting->param[0] = !!(READ_ONCE(kvm->arch.apicv_inhibit_reasons) &
				       BIT(APICV_INHIBIT_REASON_DISABLE));
	else
		r = -EOPNOTSUPP;
	hvfeat_ops_put(ops);
	return r;
}

/* Adds what is to be said of a VM to a report; none of it is an error. */
int hvfeat_vm_info(struct kvm *kvm, struct kvm_hvfeat_info *info)
{
	const unsigned int feature = info->target.feature;
	struct kvm_hvf_setting setting;

	if (!(info->flags & KVM_HVFEAT_PER_VM) || vm_get(kvm, feature, &setting))
		return 0;
	if (hvfeat_is_apicv(feature)) {
		info->vm_inhibits = READ_ONCE(kvm->arch.apicv_inhibit_reasons);
		if (!info->vm_inhibits)
			info->flags |= KVM_HVFEAT_VM_ON;
		if (!setting.param[0])
			info->flags |= KVM_HVFEAT_VM_WANTED;
		return 0;
	}
	memcpy(info->param, setting.param, sizeof(info->param));
	if (setting.param[0])
		info->flags |= KVM_HVFEAT_VM_ON | KVM_HVFEAT_VM_WANTED;
	return 0;
}

/* @param of ENABLE, NULL: DISABLE */
int hvfeat_vm_set(struct kvm *kvm, unsigned int feature, const u64 *param)
{
	struct kvm_hvf_setting setting = {};
	int r = check_works(feature);

	if (r)
		return r;
	if (hvfeat_is_apicv(feature)) {
		if (param && memchr_inv(param, 0, sizeof(setting.param)))
			return -EINVAL;
		setting.param[0] = !param;
	} else if (param) {
		if (!param[0])
			return feature == KVM_HVFEAT_DESC_TABLE ? -EINVAL : -ERANGE;
		memcpy(setting.param, param, sizeof(setting.param));
	}
	return vm_set(kvm, feature, &setting, false);
}

/* @size: bytes at @state, then of the state, also with -ENOSPC */
int hvfeat_vm_get_state(struct kvm *kvm, unsigned int feature, void *state, u32 *size)
{
	struct kvm_hvf_setting setting;
	struct hvfeat_blob blob = {};
	const u32 room = *size;
	int i, r = check_works(feature);

	if (r)
		return r;
	if (!hvfeat_has_state(feature))
		return -ENODATA;
	*size = sizeof(blob);
	if (room < sizeof(blob))
		return -ENOSPC;
	r = vm_get(kvm, feature, &setting);
	if (r)
		return r;
	blob.feature = cpu_to_le32(feature);
	for (i = 0; i < KVM_HVF_NR_PARAM; i++)
		blob.param[i] = cpu_to_le64(setting.param[i]);
	for (i = 0; i < KVM_HVF_NR_STAT; i++)
		blob.stat[i] = cpu_to_le64(setting.stat[i]);
	memcpy(state, &blob, sizeof(blob));
	return 0;
}

int hvfeat_vm_set_state(struct kvm *kvm, unsigned int feature, const void *state, u32 size)
{
	struct kvm_hvf_setting setting;
	struct hvfeat_blob blob;
	int i, r = check_works(feature);

	if (r)
		return r;
	if (!hvfeat_has_state(feature))
		return -ENODATA;
	if (size != sizeof(blob))
		return -EINVAL;
	memcpy(&blob, state, sizeof(blob));
	if (le32_to_cpu(blob.feature) != feature || blob.reserved)
		return -EINVAL;
	for (i = 0; i < KVM_HVF_NR_PARAM; i++)
		setting.param[i] = le64_to_cpu(blob.param[i]);
	for (i = 0; i < KVM_HVF_NR_STAT; i++)
		setting.stat[i] = le64_to_cpu(blob.stat[i]);
	if (hvfeat_is_apicv(feature) &&
	    (setting.param[0] > 1 || memchr_inv(setting.param + 1, 0, sizeof(setting.param) - 8)))
		return -EINVAL;
	return vm_set(kvm, feature, &setting, true);
}

int hvfeat_vm_stats(struct kvm *kvm, struct kvm_hvfeat_stats *stats)
{
	const unsigned int feature = stats->target.feature;
	const struct kvm_hvf_ops *ops;
	const char * const *name;
	struct kvm_hvf_setting setting;
	int i, r = check_works(feature);

	if (r)
		return r;
	r = vm_get(kvm, feature, &setting);
	if (r)
		return r;
	ops = hvfeat_ops_get();
	if (patched_has(ops, feature)) {
		name = ops->stat_names(hvfeat_kvm_feature(feature));
		for (i = 0; i < KVM_HVF_NR_STAT && name[i]; i++) {
			strscpy(stats->stat[i].name, name[i], sizeof(stats->stat[i].name));
			stats->stat[i].value = setting.stat[i];
		}
		stats->count = i;
	}
	hvfeat_ops_put(ops);
	return 0;
}

static int check_view(unsigned int request, const struct kvm_hvfeat_view *view)
{
	if (view->target.feature != KVM_HVFEAT_EPTP_SWITCHING || view->gfn_access || view->ranges)
		return -EINVAL;
	switch (request) {
	case KVM_HVFEAT_VIEW_CREATE:
		return view->gfn || view->pages ? -EINVAL : 0;
	case KVM_HVFEAT_VIEW_DESTROY:
		return view->access || view->gfn || view->pages ? -EINVAL : 0;
	case KVM_HVFEAT_VIEW_SET_ACCESS:
		return 0;
	default:
		return view->access || view->pages ? -EINVAL : 0;
	}
}

static int view_get(const struct kvm_hvf_ops *ops, struct kvm *kvm, struct kvm_hvfeat_view *view)
{
	struct kvm_hvf_view_info info;
	int r = ops->view_get(kvm, view->view, view->gfn, &info);

	if (r)
		return r;
	view->access = info.access;
	view->gfn_access = info.gfn_access;
	view->ranges = info.ranges;
	return 0;
}

/* @request: KVM_HVFEAT_VIEW_...; only GET changes @view */
int hvfeat_vm_view(struct kvm *kvm, unsigned int request, struct kvm_hvfeat_view *view)
{
	const struct kvm_hvf_ops *ops;
	int r = check_view(request, view);

	if (!r)
		r = check_works(view->target.feature);
	if (r)
		return r;
	ops = hvfeat_ops_get();
	if (!patched_has(ops, view->target.feature))
		r = -EOPNOTSUPP;
	else if (request == KVM_HVFEAT_VIEW_CREATE)
		r = ops->view_create(kvm, view->view, view->access);
	else if (request == KVM_HVFEAT_VIEW_DESTROY)
		r = ops->view_destroy(kvm, view->view);
	else if (request == KVM_HVFEAT_VIEW_SET_ACCESS)
		r = ops->view_set_access(kvm, view->view, view->access, view->gfn, view->pages);
	else
		r = view_get(ops, kvm, view);
	hvfeat_ops_put(ops);
	return r;
}
