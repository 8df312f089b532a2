/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR LGPL-2.1-or-later */
/*
 * /dev/kvm_hvfeat: x86 virtualization features of this host, reported and controlled per VM.
 *
 * The kernel module kvm_hvfeat offers it (src/kvm/module). Every request names a feature and, unless it asks
 * about the host only, a VM by its file descriptor: the one that KVM_CREATE_VM returned, in whatever process
 * (pidfd_getfd() of QEMU's will do). The descriptor pins the VM only during the call.
 *
 * With the stock kvm module the report works, and so do apic-register-virtualization,
 * virtual-interrupt-delivery, posted-interrupts and avic; the other features need the kvm module with the
 * patches of src/kvm/patches. All of them are off in a new VM, or as KVM has them without us (APICv, AVIC).
 *
 * Calls may come from any thread and process with CAP_SYS_ADMIN in the initial user namespace; a VM may run
 * meanwhile. When a call that changes something returns, no vCPU runs with the old setting.
 *
 * Errors, the same for all requests (errno, what it means, what to do):
 *   EPERM       the caller has no CAP_SYS_ADMIN
 *   EFAULT      a pointer of the request is bad
 *   ENOTTY      the module is older than this request: install the module of this version
 *   EPROTO      target.abi is not one that the module speaks (GET_VERSION says which), or a state blob of
 *               another version: install the same version of module and program, on both hosts
 *   EINVAL      unknown feature, flag, mode bit, access; reserved bytes or a parameter that must be 0; malformed
 *               blob
 *   EBADF       vm_fd is not open, or is not a KVM VM
 *   ERANGE      a parameter beyond info.param_min .. info.param_max, a view beyond the greatest index, pages
 *               beyond 2^48 bytes; nothing is clamped
 *   ENODEV      module kvm is not loaded: modprobe kvm_intel or kvm_amd
 *   ENXIO       hardware, firmware or KVM's module parameters do not offer the feature: info.reason says which
 *   EOPNOTSUPP  the loaded kvm module has no (or another version of the) patch for the feature: install the
 *               package of patched modules for this very kernel, reload kvm. Or the feature does not go with
 *               this VM: eptp-switching needs kvm.tdp_mmu=1, its default, when the VM is made
 *   ENODATA     GET_STATE or SET_STATE of a feature whose state cannot be taken along
 *   ENOSPC      the buffer for the state is too small; size is what it must be. Or a view has too many ranges:
 *               1024
 *   ENOENT      no such view, or eptp-switching is off in this VM
 *   EEXIST      there is such a view
 *   EBUSY       ENABLE of fewer views than there are: destroy those
 *   ENOMEM      no memory
 * A request that fails has changed nothing.
 */
#ifndef LIBVIRT_COLO_KVM_HVFEAT_H
#define LIBVIRT_COLO_KVM_HVFEAT_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KVM_HVFEAT_DEVICE "/dev/kvm_hvfeat"

/* Of this header. The module speaks all from its abi_min up to its abi. */
#define KVM_HVFEAT_ABI 1

/* Numbers are for ever; names are those of the pair's negotiation. */
enum kvm_hvfeat_feature {
	KVM_HVFEAT_DESC_TABLE,		/* descriptor-table-exiting: VMX, SVM */
	KVM_HVFEAT_QUANTUM,		/* preemption-quantum: VMX, SVM */
	KVM_HVFEAT_EPTP_SWITCHING,	/* eptp-switching: VMX */
	KVM_HVFEAT_APIC_REGISTER_VIRT,	/* apic-register-virtualization: VMX */
	KVM_HVFEAT_VIRT_INTR_DELIVERY,	/* virtual-interrupt-delivery: VMX */
	KVM_HVFEAT_POSTED_INTERRUPTS,	/* posted-interrupts: VMX */
	KVM_HVFEAT_AVIC,		/* avic: SVM */
	KVM_HVFEAT_NR_FEATURES
};

/* Begins each request about a feature. */
struct kvm_hvfeat_target {
	__u32 abi;	/* KVM_HVFEAT_ABI of the caller's header */
	__u32 feature;	/* enum kvm_hvfeat_feature */
	__s32 vm_fd;	/* a VM; -1 (GET_INFO only): the host alone */
	__u32 flags;	/* 0 */
};

/* ---- What module and kernel are there. Needs no capability. ---- */

#define KVM_HVFEAT_VERSION_KVM_LOADED	(1u << 0)
#define KVM_HVFEAT_VERSION_KVM_PATCHED	(1u << 1)	/* with a patch series this module can use */

struct kvm_hvfeat_version {
	__u32 abi, abi_min;
	__u32 nr_features;
	__u32 flags;		/* KVM_HVFEAT_VERSION_... */
	__u32 patch_abi;	/* of the loaded kvm module; 0: stock */
	__u32 reserved[3];
	char module_version[32];
	char kernel[64];	/* uname -r */
};
#define KVM_HVFEAT_GET_VERSION _IOR(0xd7, 0x00, struct kvm_hvfeat_version)

/* ---- Report ---- */

/* kvm_hvfeat_info.flags */
#define KVM_HVFEAT_HW		(1u << 0)	/* the CPU has it (or it can be made from what it has: quantum on SVM) */
#define KVM_HVFEAT_FIRMWARE	(1u << 1)	/* and the firmware lets it be used */
#define KVM_HVFEAT_KERNEL	(1u << 2)	/* and the loaded kvm modules implement it and have it on */
#define KVM_HVFEAT_PER_VM	(1u << 3)	/* ENABLE and DISABLE work */
#define KVM_HVFEAT_STATE	(1u << 4)	/* GET_STATE and SET_STATE work */
#define KVM_HVFEAT_GUEST_VISIBLE (1u << 5)	/* a guest can tell: on both hosts or on neither */
#define KVM_HVFEAT_VM_ON	(1u << 6)	/* with a vm_fd: on, and in effect, in this VM */
#define KVM_HVFEAT_VM_WANTED	(1u << 7)	/* with a vm_fd: not switched off by us; VM_ON may be missing (vm_inhibits) */

/* The first thing that keeps the feature from being controlled. */
enum kvm_hvfeat_reason {
	KVM_HVFEAT_REASON_NONE,
	KVM_HVFEAT_REASON_OTHER_VENDOR,	/* a feature of the other CPU vendor */
	KVM_HVFEAT_REASON_NO_HW,	/* this CPU has it not */
	KVM_HVFEAT_REASON_FIRMWARE,	/* virtualization is switched off by firmware */
	KVM_HVFEAT_REASON_NO_KVM,	/* kvm_intel or kvm_amd is not loaded */
	KVM_HVFEAT_REASON_PARAMETER,	/* off by a parameter of kvm_intel or kvm_amd */
	KVM_HVFEAT_REASON_UNPATCHED,	/* the loaded kvm has no patch for it */
	KVM_HVFEAT_REASON_PATCH_ABI,	/* the loaded kvm has a patch of another version */
};

struct kvm_hvfeat_info {
	struct kvm_hvfeat_target target;
	__u32 flags;		/* KVM_HVFEAT_... */
	__u32 reason;		/* enum kvm_hvfeat_reason */
	__u32 group;		/* 1 << feature of all that KVM can only switch together with this one */
	__u32 state_version;	/* of the state blob; 0: none */
	__u64 param_min, param_max;	/* of ENABLE's param[0] */
	__u64 param[4];		/* with a vm_fd: as given to ENABLE; all 0: off */
	__u64 vm_inhibits;	/* with a vm_fd, APICv and AVIC: KVM's inhibit reasons, a bit each */
	char name[32];
	char reason_text[128];	/* for people, with the remedy; "" for REASON_NONE */
};
#define KVM_HVFEAT_GET_INFO _IOWR(0xd7, 0x01, struct kvm_hvfeat_info)

/* ---- Control of one VM ---- */

/* KVM_HVFEAT_DESC_TABLE, param[0]: any of these, not none */
#define KVM_HVFEAT_DESC_COUNT	(1u << 0)	/* count each instruction */
#define KVM_HVFEAT_DESC_TRACE	(1u << 1)	/* tracepoint kvm_hvf:kvm_desc_table for each */
#define KVM_HVFEAT_DESC_LOCK	(1u << 2)	/* from now on the guest's writes to GDTR, IDTR, LDTR, TR get #GP(0) */
/*
 * KVM_HVFEAT_QUANTUM, param[0]: microseconds of guest execution after which the vCPU must give the CPU to
 *	another thread that wants it.
 * KVM_HVFEAT_EPTP_SWITCHING, param[0]: greatest index that a view may have. From then on the guest may execute
 *	VMFUNC with EAX 0 and ECX the index of a view; see below. DISABLE destroys all views.
 * KVM_HVFEAT_APIC_REGISTER_VIRT, _VIRT_INTR_DELIVERY, _POSTED_INTERRUPTS, _AVIC: no parameters. DISABLE keeps
 *	KVM from using it for this VM, ENABLE takes that back. KVM uses the first three together or none of them:
 *	a request for one is a request for all of info.group.
 * All other param are 0. ENABLE of a feature that is on changes its parameters; counters go on.
 */
struct kvm_hvfeat_control {
	struct kvm_hvfeat_target target;
	__u64 param[4];
};
#define KVM_HVFEAT_ENABLE _IOW(0xd7, 0x02, struct kvm_hvfeat_control)
#define KVM_HVFEAT_DISABLE _IOW(0xd7, 0x03, struct kvm_hvfeat_control)	/* all param 0 */

/*
 * The state of a feature in a VM: parameters (also: off), lock, counters; opaque, little endian, for a module
 * of the same state_version on another host. SET_STATE replaces what is there, and is as good as ENABLE or
 * DISABLE. To be taken while the vCPUs stand still; set before they run.
 */
#define KVM_HVFEAT_STATE_MAX 4096

struct kvm_hvfeat_state {
	struct kvm_hvfeat_target target;
	__u32 version;	/* out for GET_STATE, in for SET_STATE */
	__u32 size;	/* bytes; GET_STATE: in the room at data, out what is used, also with ENOSPC */
	__u64 data;	/* address of the bytes */
};
#define KVM_HVFEAT_GET_STATE _IOWR(0xd7, 0x04, struct kvm_hvfeat_state)
#define KVM_HVFEAT_SET_STATE _IOW(0xd7, 0x05, struct kvm_hvfeat_state)

/* Counters since the feature was first enabled in the VM; SET_STATE continues the other host's. */
#define KVM_HVFEAT_STATS_MAX 16

struct kvm_hvfeat_stats {
	struct kvm_hvfeat_target target;
	__u32 count;	/* out: entries used */
	__u32 reserved;
	struct {
		/*
		 * desc: sidt sgdt sldt str lidt lgdt lldt ltr denied; quantum: expired;
		 * eptp: denied (accesses), bad_index (VMFUNC), mapped and zapped (pages), resets (of
		 * all pages of a view or of all views)
		 */
		char name[24];
		__u64 value;
	} stat[KVM_HVFEAT_STATS_MAX];
};
#define KVM_HVFEAT_GET_STATS _IOWR(0xd7, 0x06, struct kvm_hvfeat_stats)

/* ---- Views: KVM_HVFEAT_EPTP_SWITCHING ---- */

/*
 * A view is the VM's memory with permissions of its own. View 0 is always there and has no restrictions; a vCPU
 * begins in it, and INIT puts it back there. VMFUNC (SDM vol. 3, 26.5.6) takes a vCPU to another view, at any
 * privilege level and without an exit: what a view protects from code, that code must not be able to leave.
 *
 * An access that the view does not allow, by an instruction that the CPU or KVM's emulator executes, gets #GP(0),
 * in that view; it is counted, and told of as KVM_HVFEAT_EVENT_DENIED. So the guest's handler, its stack and tables
 * must be accessible in each view; else the VM is shut down, as by any triple fault. Page tables of the guest are
 * read, and written if Accessed or Dirty bits are to be set, with the permissions of the view. VMFUNC with an index
 * of no view gets #GP(0), with EAX not 0 #UD, as does each VMFUNC while the feature is off.
 *
 * SMM is in no view, and RSM returns to the one before. In a view but 0, VMLAUNCH and VMRESUME get #GP(0); L2's
 * VMFUNC is L1's affair. What KVM writes by itself (paravirtual clocks, steal time) is not restricted.
 *
 * Views last until DISABLE or DESTROY; vCPUs that are in them go on in view 0. They outlive a reset of the VM by
 * its VMM. They follow changes of the VM's memory, which costs an exit a page and view when it is next used.
 */
#define KVM_HVFEAT_VIEW_READ	(1u << 0)
#define KVM_HVFEAT_VIEW_WRITE	(1u << 1)	/* not without READ */
#define KVM_HVFEAT_VIEW_EXEC	(1u << 2)	/* without READ where the CPU can */

struct kvm_hvfeat_view {
	struct kvm_hvfeat_target target;
	__u32 view;		/* 1 .. param[0] of ENABLE */
	__u32 access;		/* CREATE: to all pages; SET_ACCESS: to those; GET: out, to those never set */
	__u64 gfn;		/* SET_ACCESS: the first page; GET: a page to be told of */
	__u64 pages;		/* SET_ACCESS: their number, not 0 */
	__u32 gfn_access;	/* GET: out */
	__u32 ranges;		/* GET: out, ranges of pages with another access than the view's */
};
/* What a request does not use is 0. When it returns, the new access is in force on all vCPUs. */
#define KVM_HVFEAT_VIEW_CREATE _IOW(0xd7, 0x07, struct kvm_hvfeat_view)
#define KVM_HVFEAT_VIEW_DESTROY _IOW(0xd7, 0x08, struct kvm_hvfeat_view)
#define KVM_HVFEAT_VIEW_SET_ACCESS _IOW(0xd7, 0x09, struct kvm_hvfeat_view)
#define KVM_HVFEAT_VIEW_GET _IOWR(0xd7, 0x0a, struct kvm_hvfeat_view)

/* ---- Events: generic netlink ---- */

#define KVM_HVFEAT_GENL_NAME "kvm_hvfeat"
#define KVM_HVFEAT_GENL_VERSION 1
#define KVM_HVFEAT_GENL_GROUP "events"

enum kvm_hvfeat_genl_cmd {
	KVM_HVFEAT_EVENT_UNSPEC,
	KVM_HVFEAT_EVENT_ENABLED,	/* by ENABLE or SET_STATE */
	KVM_HVFEAT_EVENT_DISABLED,
	/*
	 * A write refused by the lock (REGISTER), or an access refused by a view (VIEW, GFN, ACCESS); at most 10 of
	 * each a second and VM, COUNT since the last
	 */
	KVM_HVFEAT_EVENT_DENIED,
	KVM_HVFEAT_EVENT_LOST,		/* a feature of this host is gone (module kvm unloaded); VM_PID absent */
	KVM_HVFEAT_EVENT_FOUND,		/* and there again */
};

enum kvm_hvfeat_genl_attr {
	KVM_HVFEAT_ATTR_UNSPEC,
	KVM_HVFEAT_ATTR_FEATURE,	/* u32 */
	KVM_HVFEAT_ATTR_VM_PID,		/* u32: process that made the VM, in the initial pid namespace */
	KVM_HVFEAT_ATTR_COUNT,		/* u64 */
	KVM_HVFEAT_ATTR_VCPU,		/* u32 */
	KVM_HVFEAT_ATTR_RIP,		/* u64: of the guest */
	KVM_HVFEAT_ATTR_REGISTER,	/* string: gdtr idtr ldtr tr */
	KVM_HVFEAT_ATTR_PAD,
	KVM_HVFEAT_ATTR_VIEW,		/* u32 */
	KVM_HVFEAT_ATTR_GFN,		/* u64 */
	KVM_HVFEAT_ATTR_ACCESS,		/* u32: KVM_HVFEAT_VIEW_..., what was wanted */
	KVM_HVFEAT_ATTR_END
};
#define KVM_HVFEAT_ATTR_MAX (KVM_HVFEAT_ATTR_END - 1)

#endif
