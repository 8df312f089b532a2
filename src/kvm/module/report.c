// SPDX-License-Identifier: GPL-2.0
/* What this host has: the CPU's words for it, the firmware's, kvm's. */
#include <linux/cpufeature.h>
#include <linux/kernel.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/string.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/svm.h>
#include <asm/vmx.h>
#include "private.h"

#define VMX BIT(0)
#define SVM BIT(1)
#define APICV (BIT(KVM_HVFEAT_APIC_REGISTER_VIRT) | BIT(KVM_HVFEAT_VIRT_INTR_DELIVERY) | \
	       BIT(KVM_HVFEAT_POSTED_INTERRUPTS))

/* How much we say of a feature before we look */
static const struct {
	const char *name;
	u32 vendors;
	u32 flags;
	u32 group;
	enum kvm_hvf_feature kvm;	/* its number in a patched kvm */
} catalogue[KVM_HVFEAT_NR_FEATURES] = {
	[KVM_HVFEAT_DESC_TABLE] = {
		"descriptor-table-exiting", VMX | SVM, KVM_HVFEAT_GUEST_VISIBLE,
		BIT(KVM_HVFEAT_DESC_TABLE), KVM_HVF_DESC,
	},
	[KVM_HVFEAT_QUANTUM] = {
		"preemption-quantum", VMX | SVM, 0, BIT(KVM_HVFEAT_QUANTUM), KVM_HVF_QUANTUM,
	},
	[KVM_HVFEAT_EPTP_SWITCHING] = {
		"eptp-switching", VMX, KVM_HVFEAT_GUEST_VISIBLE,
		BIT(KVM_HVFEAT_EPTP_SWITCHING), KVM_HVF_EPTP,
	},
	[KVM_HVFEAT_APIC_REGISTER_VIRT] = {
		"apic-register-virtualization", VMX, 0, APICV, KVM_HVF_APICV,
	},
	[KVM_HVFEAT_VIRT_INTR_DELIVERY] = {
		"virtual-interrupt-delivery", VMX, 0, APICV, KVM_HVF_APICV,
	},
	[KVM_HVFEAT_POSTED_INTERRUPTS] = {
		"posted-interrupts", VMX, 0, APICV, KVM_HVF_APICV,
	},
	[KVM_HVFEAT_AVIC] = {
		"avic", SVM, 0, BIT(KVM_HVFEAT_AVIC), KVM_HVF_APICV,
	},
};

const char *hvfeat_name(unsigned int feature)
{
	return catalogue[feature].name;
}

u32 hvfeat_group(unsigned int feature)
{
	return catalogue[feature].group;
}

int hvfeat_kvm_feature(unsigned int feature)
{
	return catalogue[feature].kvm;
}

bool hvfeat_is_apicv(unsigned int feature)
{
	return catalogue[feature].kvm == KVM_HVF_APICV;
}

/* Views do not travel: what they are for is the guest's and its agent's knowledge. */
bool hvfeat_has_state(unsigned int feature)
{
	return feature != KVM_HVFEAT_EPTP_SWITCHING;
}

static u32 cpu_vendor(void)
{
	switch (boot_cpu_data.x86_vendor) {
	case X86_VENDOR_AMD:
	case X86_VENDOR_HYGON:
		return SVM;
	case X86_VENDOR_INTEL:
	case X86_VENDOR_CENTAUR:
	case X86_VENDOR_ZHAOXIN:
		return VMX;
	default:
		return 0;
	}
}

static u64 msr(u32 index)
{
	u64 value;

	return rdmsrl_safe(index, &value) ? 0 : value;
}

/* SDM vol. 3, A.3: the high half says which controls may be 1. */
static bool may_be_1(u32 index, u32 control)
{
	return msr(index) >> 32 & control;
}

static bool vmx_secondary(u32 control)
{
	return may_be_1(MSR_IA32_VMX_PROCBASED_CTLS, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) &&
	       may_be_1(MSR_IA32_VMX_PROCBASED_CTLS2, control);
}

static bool hw_vmx(unsigned int feature)
{
	if (!(cpuid_ecx(1) & BIT(5)))
		return false;
	switch (feature) {
	case KVM_HVFEAT_DESC_TABLE:
		return vmx_secondary(SECONDARY_EXEC_DESC);
	case KVM_HVFEAT_QUANTUM: /* the VMX-preemption timer, or a timer of the kernel */
		return true;
	case KVM_HVFEAT_EPTP_SWITCHING:
		return vmx_secondary(SECONDARY_EXEC_ENABLE_VMFUNC) &&
		       (msr(MSR_IA32_VMX_VMFUNC) & VMX_VMFUNC_EPTP_SWITCHING);
	case KVM_HVFEAT_APIC_REGISTER_VIRT:
		return vmx_secondary(SECONDARY_EXEC_APIC_REGISTER_VIRT);
	case KVM_HVFEAT_VIRT_INTR_DELIVERY:
		return vmx_secondary(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
	case KVM_HVFEAT_POSTED_INTERRUPTS:
		return may_be_1(MSR_IA32_VMX_PINBASED_CTLS, PIN_BASED_POSTED_INTR);
	default:
		return false;
	}
}

/* APM vol. 2, 15.4: the intercepts are part of SVM; AVIC is CPUID 8000000A EDX[13]. */
static bool hw_svm(unsigned int feature)
{
	if (!(cpuid_ecx(0x80000001) & BIT(2)))
		return false;
	return feature != KVM_HVFEAT_AVIC || (cpuid_edx(0x8000000a) & BIT(13));
}

static bool firmware(u32 vendor)
{
	if (vendor == SVM)
		return !(msr(MSR_VM_CR) & BIT(SVM_VM_CR_SVM_DISABLE));
	return (msr(MSR_IA32_FEAT_CTL) & (FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX)) ==
	       (FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX);
}

/* kvm_intel and kvm_amd export nothing by which to know them. */
static bool vendor_module_loaded(u32 vendor)
{
	struct path path;

	if (kern_path(vendor == SVM ? "/sys/module/kvm_amd" : "/sys/module/kvm_intel", 0, &path))
		return false;
	path_put(&path);
	return true;
}

/* KVM_HVFEAT_KERNEL and what follows from it, or the reason why not */
static void report_kvm(unsigned int feature, u32 vendor, struct hvfeat_report *r, u32 *reason)
{
	const u32 works = KVM_HVFEAT_KERNEL | KVM_HVFEAT_PER_VM |
			  (hvfeat_has_state(feature) ? KVM_HVFEAT_STATE : 0);
	const struct kvm_hvf_ops *ops;

	if (!hvfeat_kvm_loaded() || !vendor_module_loaded(vendor)) {
		*reason = KVM_HVFEAT_REASON_NO_KVM;
		return;
	}
	if (hvfeat_is_apicv(feature)) {
		if (hvfeat_apicv_enabled())
			r->flags |= works;
		else
			*reason = KVM_HVFEAT_REASON_PARAMETER;
		return;
	}
	ops = hvfeat_ops_get();
	if (!ops)
		*reason = KVM_HVFEAT_REASON_UNPATCHED;
	else if (ops->abi != KVM_HVF_ABI)
		*reason = KVM_HVFEAT_REASON_PATCH_ABI;
	else if (ops->range(hvfeat_kvm_feature(feature), &r->param_min, &r->param_max))
		*reason = KVM_HVFEAT_REASON_UNPATCHED; /* not for this feature */
	else if (!(ops->features() & BIT(hvfeat_kvm_feature(feature))))
		*reason = KVM_HVFEAT_REASON_PARAMETER;
	else
		r->flags |= works;
	hvfeat_ops_put(ops);
}

void hvfeat_get_report(unsigned int feature, struct hvfeat_report *r)
{
	const u32 vendor = cpu_vendor();
	u32 reason = KVM_HVFEAT_REASON_NONE;

	memset(r, 0, sizeof(*r));
	r->flags = catalogue[feature].flags;
	if (vendor && !(catalogue[feature].vendors & vendor)) {
		r->reason = KVM_HVFEAT_REASON_OTHER_VENDOR;
		return;
	}
	if (vendor == VMX ? hw_vmx(feature) : vendor == SVM && hw_svm(feature))
		r->flags |= KVM_HVFEAT_HW;
	if (firmware(vendor))
		r->flags |= KVM_HVFEAT_FIRMWARE;
	report_kvm(feature, vendor, r, &reason);

	/* kvm may go on without the CPU's word (kvm_amd.force_avic). */
	if (r->flags & KVM_HVFEAT_PER_VM)
		r->reason = KVM_HVFEAT_REASON_NONE;
	else if (!(r->flags & KVM_HVFEAT_HW))
		r->reason = KVM_HVFEAT_REASON_NO_HW;
	else if (!(r->flags & KVM_HVFEAT_FIRMWARE))
		r->reason = KVM_HVFEAT_REASON_FIRMWARE;
	else
		r->reason = reason;
}

static const char *parameter(unsigned int feature)
{
	switch (feature) {
	case KVM_HVFEAT_AVIC:
		return "avic=1";
	case KVM_HVFEAT_EPTP_SWITCHING:
		return "ept=1";
	default:
		return hvfeat_is_apicv(feature) ? "enable_apicv=1" : "its defaults";
	}
}

/* For people: what is missing and what helps */
void hvfeat_reason_text(unsigned int feature, u32 reason, char *text, size_t size)
{
	const char *module = cpu_vendor() == SVM ? "kvm_amd" : "kvm_intel";

	switch (reason) {
	case KVM_HVFEAT_REASON_NONE:
		*text = 0;
		break;
	case KVM_HVFEAT_REASON_OTHER_VENDOR:
		snprintf(text, size, "this CPU is of another vendor than those that have it");
		break;
	case KVM_HVFEAT_REASON_NO_HW:
		snprintf(text, size, "this CPU does not have it");
		break;
	case KVM_HVFEAT_REASON_FIRMWARE:
		snprintf(text, size, "the firmware keeps virtualization off: enable it in the setup");
		break;
	case KVM_HVFEAT_REASON_NO_KVM:
		snprintf(text, size, "%s is not loaded: modprobe %s", module, module);
		break;
	case KVM_HVFEAT_REASON_PARAMETER:
		snprintf(text, size, "%s has it off: load it with %s, if the CPU has what that needs",
			 module, parameter(feature));
		break;
	case KVM_HVFEAT_REASON_UNPATCHED:
		snprintf(text, size, "the loaded kvm cannot: install libvirt-colo's kvm modules, reload %s",
			 module);
		break;
	case KVM_HVFEAT_REASON_PATCH_ABI:
		snprintf(text, size, "kvm and kvm_hvfeat are of different versions: install both of one");
		break;
	}
}
