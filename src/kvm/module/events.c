// SPDX-License-Identifier: GPL-2.0
/* Generic netlink events, and what they are made of: a patched kvm's reports, modules that come and go. */
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <net/genetlink.h>
#include "private.h"

enum { GROUP_EVENTS };

static const struct genl_multicast_group groups[] = {
	[GROUP_EVENTS] = { .name = KVM_HVFEAT_GENL_GROUP, .flags = GENL_UNS_ADMIN_PERM },
};

static struct genl_family family __ro_after_init = {
	.name = KVM_HVFEAT_GENL_NAME,
	.version = KVM_HVFEAT_GENL_VERSION,
	.maxattr = KVM_HVFEAT_ATTR_MAX,
	.module = THIS_MODULE,
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
};

/* Of the kvm that we listen to; it is told to forget us before it goes, or before we do. */
static const struct kvm_hvf_ops *listening;
static DEFINE_MUTEX(listen_lock);

/* Features that are there, a bit each: what a vendor module that goes takes along */
static u32 present;

static struct sk_buff *event_new(unsigned int event, unsigned int feature, void **header)
{
	struct sk_buff *skb;

	if (!genl_has_listeners(&family, &init_net, GROUP_EVENTS))
		return NULL;
	skb = genlmsg_new(NLMSG_GOODSIZE, GFP_ATOMIC);
	if (!skb)
		return NULL;
	*header = genlmsg_put(skb, 0, 0, &family, 0, event);
	if (!*header || nla_put_u32(skb, KVM_HVFEAT_ATTR_FEATURE, feature)) {
		nlmsg_free(skb);
		return NULL;
	}
	return skb;
}

static void event_send(struct sk_buff *skb, void *header)
{
	genlmsg_end(skb, header);
	genlmsg_multicast(&family, skb, 0, GROUP_EVENTS, GFP_ATOMIC);
}

/* @pid 0: of the host, no VM */
void hvfeat_event_vm(unsigned int event, unsigned int feature, pid_t pid)
{
	void *header;
	struct sk_buff *skb = event_new(event, feature, &header);

	if (!skb)
		return;
	if (pid && nla_put_u32(skb, KVM_HVFEAT_ATTR_VM_PID, pid))
		nlmsg_free(skb);
	else
		event_send(skb, header);
}

static bool put_register(struct sk_buff *skb, const struct kvm_hvf_denied *d)
{
	static const char * const registers[] = {
		[KVM_HVF_LIDT] = "idtr", [KVM_HVF_LGDT] = "gdtr",
		[KVM_HVF_LLDT] = "ldtr", [KVM_HVF_LTR] = "tr",
	};
	const char *name = d->insn < ARRAY_SIZE(registers) ? registers[d->insn] : NULL;

	return !name || !nla_put_string(skb, KVM_HVFEAT_ATTR_REGISTER, name);
}

static bool put_view(struct sk_buff *skb, const struct kvm_hvf_denied *d)
{
	return !nla_put_u32(skb, KVM_HVFEAT_ATTR_VIEW, d->view) &&
	       !nla_put_u64_64bit(skb, KVM_HVFEAT_ATTR_GFN, d->gfn, KVM_HVFEAT_ATTR_PAD) &&
	       !nla_put_u32(skb, KVM_HVFEAT_ATTR_ACCESS, d->access);
}

static void denied(const struct kvm_hvf_denied *d)
{
	const bool view = d->feature == KVM_HVF_EPTP;
	const unsigned int feature = view ? KVM_HVFEAT_EPTP_SWITCHING : KVM_HVFEAT_DESC_TABLE;
	struct sk_buff *skb;
	void *header;

	hvfeat_count(feature, HVFEAT_DENIED, d->count);
	skb = event_new(KVM_HVFEAT_EVENT_DENIED, feature, &header);
	if (!skb)
		return;
	if (nla_put_u32(skb, KVM_HVFEAT_ATTR_VM_PID, d->pid) ||
	    nla_put_u64_64bit(skb, KVM_HVFEAT_ATTR_COUNT, d->count, KVM_HVFEAT_ATTR_PAD) ||
	    nla_put_u32(skb, KVM_HVFEAT_ATTR_VCPU, d->vcpu_id) ||
	    nla_put_u64_64bit(skb, KVM_HVFEAT_ATTR_RIP, d->rip, KVM_HVFEAT_ATTR_PAD) ||
	    !(view ? put_view(skb, d) : put_register(skb, d)))
		nlmsg_free(skb);
	else
		event_send(skb, header);
}

static void listen(void)
{
	const struct kvm_hvf_ops *ops;

	mutex_lock(&listen_lock);
	ops = listening ? NULL : hvfeat_ops_get();
	if (ops && ops->abi == KVM_HVF_ABI && !ops->listen(denied))
		listening = ops;
	hvfeat_ops_put(ops);
	mutex_unlock(&listen_lock);
}

/* kvm is still there, or going. */
static void unlisten(void)
{
	mutex_lock(&listen_lock);
	if (listening)
		listening->listen(NULL);
	listening = NULL;
	mutex_unlock(&listen_lock);
}

static u32 look(void)
{
	struct hvfeat_report report;
	u32 found = 0;
	int i;

	for (i = 0; i < KVM_HVFEAT_NR_FEATURES; i++) {
		hvfeat_get_report(i, &report);
		if (report.flags & KVM_HVFEAT_PER_VM)
			found |= BIT(i);
	}
	return found;
}

static void tell(unsigned int event, u32 features)
{
	int i;

	for (i = 0; i < KVM_HVFEAT_NR_FEATURES; i++)
		if (features & BIT(i))
			hvfeat_event_vm(event, i, 0);
}

static int module_event(struct notifier_block *nb, unsigned long state, void *data)
{
	const struct module *module = data;
	const bool vendor = !strcmp(module->name, "kvm_intel") || !strcmp(module->name, "kvm_amd");

	if (!vendor && strcmp(module->name, "kvm"))
		return NOTIFY_DONE;
	if (state == MODULE_STATE_LIVE) {
		listen();
		if (vendor) {
			present = look();
			tell(KVM_HVFEAT_EVENT_FOUND, present);
		}
	} else if (state == MODULE_STATE_GOING) {
		if (vendor) {
			tell(KVM_HVFEAT_EVENT_LOST, present);
			present = 0;
		} else {
			unlisten();
		}
	}
	return NOTIFY_OK;
}

static struct notifier_block module_notifier = { .notifier_call = module_event };

int hvfeat_events_init(void)
{
	int r = genl_register_family(&family);

	if (r)
		return r;
	r = register_module_notifier(&module_notifier);
	if (r) {
		genl_unregister_family(&family);
		return r;
	}
	present = look();
	listen();
	return 0;
}

void hvfeat_events_exit(void)
{
	unregister_module_notifier(&module_notifier);
	unlisten();
	genl_unregister_family(&family);
}
