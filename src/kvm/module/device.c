// SPDX-License-Identifier: GPL-2.0
/* /dev/kvm_hvfeat: checks requests, finds the VM of a descriptor. */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include "private.h"

/* A descriptor that was handed in, and its VM */
struct vm {
	struct file *file;
	struct kvm *kvm;
};

/* The VM is pinned until vm_put(): by its file, for which file_is_kvm() vouches. */
static int vm_get(s32 fd, struct vm *vm)
{
	bool (*is_kvm)(struct file *file);
	int r = 0;

	vm->file = fget(fd);
	if (!vm->file)
		return -EBADF;
	is_kvm = __symbol_get("file_is_kvm");
	if (!is_kvm) {
		fput(vm->file);
		return -ENODEV;
	}
	if (is_kvm(vm->file))
		vm->kvm = vm->file->private_data;
	else
		r = -EBADF;
	__symbol_put("file_is_kvm");
	if (r)
		fput(vm->file);
	return r;
}

static void vm_put(struct vm *vm)
{
	fput(vm->file);
}

static int check_target(const struct kvm_hvfeat_target *target)
{
	if (target->abi != KVM_HVFEAT_ABI)
		return -EPROTO;
	return target->feature >= KVM_HVFEAT_NR_FEATURES || target->flags ? -EINVAL : 0;
}

static int get_version(void __user *user)
{
	const struct kvm_hvf_ops *ops = hvfeat_ops_get();
	struct kvm_hvfeat_version version = {
		.abi = KVM_HVFEAT_ABI,
		.abi_min = KVM_HVFEAT_ABI,
		.nr_features = KVM_HVFEAT_NR_FEATURES,
		.module_version = HVFEAT_VERSION,
	};

	if (hvfeat_kvm_loaded())
		version.flags |= KVM_HVFEAT_VERSION_KVM_LOADED;
	if (ops) {
		version.patch_abi = ops->abi;
		if (ops->abi == KVM_HVF_ABI)
			version.flags |= KVM_HVFEAT_VERSION_KVM_PATCHED;
	}
	hvfeat_ops_put(ops);
	strscpy(version.kernel, init_utsname()->release, sizeof(version.kernel));
	return copy_to_user(user, &version, sizeof(version)) ? -EFAULT : 0;
}

static int get_info(void __user *user)
{
	struct kvm_hvfeat_info info = {};
	struct hvfeat_report report;
	struct vm vm;
	int r;

	if (copy_from_user(&info.target, user, sizeof(info.target)))
		return -EFAULT;
	r = check_target(&info.target);
	if (r)
		return r;
	if (info.target.vm_fd != -1) {
		r = vm_get(info.target.vm_fd, &vm);
		if (r)
			return r;
	}
	hvfeat_get_report(info.target.feature, &report);
	info.flags = report.flags;
	info.reason = report.reason;
	info.group = hvfeat_group(info.target.feature);
	info.param_min = report.param_min;
	info.param_max = report.param_max;
	if (info.flags & KVM_HVFEAT_STATE)
		info.state_version = HVFEAT_STATE_VERSION;
	strscpy(info.name, hvfeat_name(info.target.feature), sizeof(info.name));
	hvfeat_reason_text(info.target.feature, report.reason, info.reason_text,
			   sizeof(info.reason_text));
	if (info.target.vm_fd != -1) {
		r = hvfeat_vm_info(vm.kvm, &info);
		vm_put(&vm);
	}
	if (r)
		return r;
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

/* Counts and tells what came of a request to change something. */
static void changed(const struct kvm *kvm, unsigned int feature, bool on, int r)
{
	if (r) {
		hvfeat_count(feature, HVFEAT_REFUSED, 1);
		return;
	}
	hvfeat_count(feature, on ? HVFEAT_ENABLED : HVFEAT_DISABLED, 1);
	hvfeat_event_vm(on ? KVM_HVFEAT_EVENT_ENABLED : KVM_HVFEAT_EVENT_DISABLED, feature,
			kvm->userspace_pid);
}

static int control(void __user *user, bool enable)
{
	struct kvm_hvfeat_control control;
	struct vm vm;
	int r;

	if (copy_from_user(&control, user, sizeof(control)))
		return -EFAULT;
	r = check_target(&control.target);
	if (r)
		return r;
	r = vm_get(control.target.vm_fd, &vm);
	if (r)
		return r;
	if (!enable && memchr_inv(control.param, 0, sizeof(control.param)))
		r = -EINVAL;
	else
		r = hvfeat_vm_set(vm.kvm, control.target.feature, enable ? control.param : NULL);
	changed(vm.kvm, control.target.feature, enable, r);
	vm_put(&vm);
	return r;
}

static int get_state(void __user *user)
{
	struct kvm_hvfeat_state state;
	struct vm vm;
	void *data;
	int r;

	if (copy_from_user(&state, user, sizeof(state)))
		return -EFAULT;
	r = check_target(&state.target);
	if (r)
		return r;
	r = vm_get(state.target.vm_fd, &vm);
	if (r)
		return r;
	data = kzalloc(KVM_HVFEAT_STATE_MAX, GFP_KERNEL);
	state.size = min_t(u32, state.size, KVM_HVFEAT_STATE_MAX);
	r = data ? hvfeat_vm_get_state(vm.kvm, state.target.feature, data, &state.size) : -ENOMEM;
	vm_put(&vm);
	state.version = HVFEAT_STATE_VERSION;
	if (!r && copy_to_user(u64_to_user_ptr(state.data), data, state.size))
		r = -EFAULT;
	if ((!r || r == -ENOSPC) && copy_to_user(user, &state, sizeof(state)))
		r = -EFAULT;
	kfree(data);
	return r;
}

static int set_state(void __user *user)
{
	struct kvm_hvfeat_info info = {};
	struct kvm_hvfeat_state state;
	struct vm vm;
	void *data;
	int r;

	if (copy_from_user(&state, user, sizeof(state)))
		return -EFAULT;
	r = check_target(&state.target);
	if (r)
		return r;
	if (state.version != HVFEAT_STATE_VERSION)
		return -EPROTO;
	if (!state.size || state.size > KVM_HVFEAT_STATE_MAX)
		return -EINVAL;
	r = vm_get(state.target.vm_fd, &vm);
	if (r)
		return r;
	data = memdup_user(u64_to_user_ptr(state.data), state.size);
	if (IS_ERR(data)) {
		vm_put(&vm);
		return PTR_ERR(data);
	}
	r = hvfeat_vm_set_state(vm.kvm, state.target.feature, data, state.size);
	info.target = state.target;
	info.flags = KVM_HVFEAT_PER_VM;
	if (!r)
		r = hvfeat_vm_info(vm.kvm, &info);
	changed(vm.kvm, state.target.feature, info.flags & KVM_HVFEAT_VM_WANTED, r);
	kfree(data);
	vm_put(&vm);
	return r;
}

static int get_stats(void __user *user)
{
	struct kvm_hvfeat_stats *stats;
	struct vm vm;
	int r;

	stats = kzalloc(sizeof(*stats), GFP_KERNEL);
	if (!stats)
		return -ENOMEM;
	r = copy_from_user(&stats->target, user, sizeof(stats->target)) ? -EFAULT :
	    check_target(&stats->target);
	if (!r)
		r = vm_get(stats->target.vm_fd, &vm);
	if (!r) {
		r = hvfeat_vm_stats(vm.kvm, stats);
		vm_put(&vm);
	}
	if (!r && copy_to_user(user, stats, sizeof(*stats)))
		r = -EFAULT;
	kfree(stats);
	return r;
}

static int view(void __user *user, unsigned int request)
{
	struct kvm_hvfeat_view view;
	struct vm vm;
	int r;

	if (copy_from_user(&view, user, sizeof(view)))
		return -EFAULT;
	r = check_target(&view.target);
	if (r)
		return r;
	r = vm_get(view.target.vm_fd, &vm);
	if (r)
		return r;
	r = hvfeat_vm_view(vm.kvm, request, &view);
	vm_put(&vm);
	if (r)
		hvfeat_count(view.target.feature, HVFEAT_REFUSED, 1);
	else if (request == KVM_HVFEAT_VIEW_GET && copy_to_user(user, &view, sizeof(view)))
		r = -EFAULT;
	return r;
}

static long device_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	if (request == KVM_HVFEAT_GET_VERSION)
		return get_version(user);
	if (_IOC_TYPE(request) != _IOC_TYPE(KVM_HVFEAT_GET_VERSION))
		return -ENOTTY;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (request) {
	case KVM_HVFEAT_GET_INFO:
		return get_info(user);
	case KVM_HVFEAT_ENABLE:
		return control(user, true);
	case KVM_HVFEAT_DISABLE:
		return control(user, false);
	case KVM_HVFEAT_GET_STATE:
		return get_state(user);
	case KVM_HVFEAT_SET_STATE:
		return set_state(user);
	case KVM_HVFEAT_GET_STATS:
		return get_stats(user);
	case KVM_HVFEAT_VIEW_CREATE:
	case KVM_HVFEAT_VIEW_DESTROY:
	case KVM_HVFEAT_VIEW_SET_ACCESS:
	case KVM_HVFEAT_VIEW_GET:
		return view(user, request);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kvm_hvfeat",
	.fops = &device_fops,
	.mode = 0600,
};

static int __init hvfeat_init(void)
{
	int r = hvfeat_events_init();

	if (r)
		return r;
	hvfeat_sysfs_init();
	device.groups = hvfeat_groups;
	r = misc_register(&device);
	if (r)
		hvfeat_events_exit();
	return r;
}

static void __exit hvfeat_exit(void)
{
	misc_deregister(&device);
	hvfeat_events_exit();
}

module_init(hvfeat_init);
module_exit(hvfeat_exit);

MODULE_DESCRIPTION("Report and per-VM control of x86 virtualization features");
MODULE_LICENSE("GPL");
MODULE_VERSION(HVFEAT_VERSION);
