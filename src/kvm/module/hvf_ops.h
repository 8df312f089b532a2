/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_HVF_OPS_H
#define __KVM_X86_HVF_OPS_H
/*
 * What kvm offers to a module that controls hardware features of VMs: look up
 * kvm_hvf_get_ops with symbol_get(), compare abi, and put it after the calls.
 * Each struct kvm passed in must be pinned by its file for the call.
 */
#include <linux/kvm_host.h>

#define KVM_HVF_ABI		2

enum kvm_hvf_feature {
	KVM_HVF_DESC,
	KVM_HVF_QUANTUM,
	KVM_HVF_EPTP,
	KVM_HVF_APICV,
	KVM_HVF_NR
};

/* KVM_HVF_DESC, param[0] */
#define KVM_HVF_DESC_COUNT	BIT(0)
#define KVM_HVF_DESC_TRACE	BIT(1)
#define KVM_HVF_DESC_LOCK	BIT(2)
#define KVM_HVF_DESC_VALID	GENMASK(2, 0)

/*
 * KVM_HVF_APICV, param[0] 1: neither APICv nor AVIC.  Then this bit is among
 * kvm->arch.apicv_inhibit_reasons.  It's not in enum kvm_apicv_inhibit, which
 * is part of the exports' CRCs.
 */
#define KVM_HVF_APICV_INHIBIT	30

/*
 * KVM_HVF_EPTP, param[0]: greatest index of a view, below KVM_HVF_NR_VIEWS.
 * View 0 is always there and has no restrictions.
 */
#define KVM_HVF_NR_VIEWS	512

/* What a view allows of a page: the bits of EPT */
#define KVM_HVF_VIEW_READ	BIT(0)
#define KVM_HVF_VIEW_WRITE	BIT(1)	/* not without READ */
#define KVM_HVF_VIEW_EXEC	BIT(2)	/* without READ where the CPU can */
#define KVM_HVF_VIEW_VALID	GENMASK(2, 0)

/* In the order of SVM's exit codes 0x66 to 0x6d. */
enum kvm_hvf_desc {
	KVM_HVF_SIDT, KVM_HVF_SGDT, KVM_HVF_SLDT, KVM_HVF_STR,
	KVM_HVF_LIDT, KVM_HVF_LGDT, KVM_HVF_LLDT, KVM_HVF_LTR,
	KVM_HVF_NR_DESC
};

#define KVM_HVF_NR_PARAM	4
#define KVM_HVF_NR_STAT		16

struct kvm_hvf_setting {
	u64 param[KVM_HVF_NR_PARAM];	/* all 0: off */
	u64 stat[KVM_HVF_NR_STAT];
};

struct kvm_hvf_view_info {
	u32 access;		/* of pages in no range */
	u32 gfn_access;		/* of the page asked about */
	u32 ranges;
};

/* A guest's write to a descriptor-table register, or an access in a view, was refused. */
struct kvm_hvf_denied {
	enum kvm_hvf_feature feature;
	pid_t pid;		/* of the process that created the VM */
	u32 vcpu_id;
	u64 rip;
	u64 count;		/* refusals since the last one reported */
	enum kvm_hvf_desc insn;
	u32 view;
	u32 access;		/* what was wanted */
	u64 gfn;
};

struct kvm_hvf_ops {
	u32 abi;
	/* BIT(enum kvm_hvf_feature) of all that the loaded vendor module has here */
	u32 (*features)(void);
	/* Range of param[0] */
	int (*range)(unsigned int feature, u64 *min, u64 *max);
	/* Sets param; with @stats also the counters.  Sleeps; see hvf.c for errors. */
	int (*set)(struct kvm *kvm, unsigned int feature,
		   const struct kvm_hvf_setting *setting, bool stats);
	int (*get)(struct kvm *kvm, unsigned int feature,
		   struct kvm_hvf_setting *setting);
	/* Names of stat[] up to the first NULL */
	const char * const *(*stat_names)(unsigned int feature);
	/* At most one listener, NULL: none.  Called in atomic context. */
	int (*listen)(void (*denied)(const struct kvm_hvf_denied *denied));
	/* Views of KVM_HVF_EPTP; see hvf_views.c for errors */
	int (*view_create)(struct kvm *kvm, u32 index, u32 access);
	int (*view_destroy)(struct kvm *kvm, u32 index);
	int (*view_set_access)(struct kvm *kvm, u32 index, u32 access, u64 gfn, u64 npages);
	int (*view_get)(struct kvm *kvm, u32 index, u64 gfn, struct kvm_hvf_view_info *info);
};

const struct kvm_hvf_ops *kvm_hvf_get_ops(void);

#endif
