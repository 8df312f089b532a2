// SPDX-License-Identifier: GPL-2.0
/* /sys/class/misc/kvm_hvfeat/FEATURE/{hw,firmware,kernel,per_vm,reason,stats} */
#include <linux/atomic.h>
#include <linux/device.h>
#include <linux/sysfs.h>
#include "private.h"

enum { HW, FIRMWARE, KERNEL, PER_VM, REASON, STATS, NR_FILES };

static const struct {
	const char *name;
	u32 flag;
} files[NR_FILES] = {
	[HW] = { "hw", KVM_HVFEAT_HW },
	[FIRMWARE] = { "firmware", KVM_HVFEAT_FIRMWARE },
	[KERNEL] = { "kernel", KVM_HVFEAT_KERNEL },
	[PER_VM] = { "per_vm", KVM_HVFEAT_PER_VM },
	[REASON] = { "reason" },
	[STATS] = { "stats" },
};

static struct file_attribute {
	struct device_attribute attr;
	unsigned int feature, file;
} attributes[KVM_HVFEAT_NR_FEATURES][NR_FILES];
static struct attribute *attribute_lists[KVM_HVFEAT_NR_FEATURES][NR_FILES + 1];
static struct attribute_group groups[KVM_HVFEAT_NR_FEATURES];
static const struct attribute_group *group_list[KVM_HVFEAT_NR_FEATURES + 1];
const struct attribute_group **hvfeat_groups = group_list;

static atomic64_t counts[KVM_HVFEAT_NR_FEATURES][HVFEAT_NR_COUNT];

void hvfeat_count(unsigned int feature, enum hvfeat_count what, u64 n)
{
	atomic64_add(n, &counts[feature][what]);
}

static ssize_t show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct file_attribute *file = container_of(attr, struct file_attribute, attr);
	const atomic64_t *count = counts[file->feature];
	struct hvfeat_report report;
	char text[128];

	if (file->file == STATS)
		return sysfs_emit(buf, "enabled %lld\ndisabled %lld\nrefused %lld\ndenied %lld\n",
				  atomic64_read(&count[HVFEAT_ENABLED]),
				  atomic64_read(&count[HVFEAT_DISABLED]),
				  atomic64_read(&count[HVFEAT_REFUSED]),
				  atomic64_read(&count[HVFEAT_DENIED]));
	hvfeat_get_report(file->feature, &report);
	if (file->file != REASON)
		return sysfs_emit(buf, "%d\n", !!(report.flags & files[file->file].flag));
	hvfeat_reason_text(file->feature, report.reason, text, sizeof(text));
	return sysfs_emit(buf, "%s\n", text);
}

void hvfeat_sysfs_init(void)
{
	unsigned int feature, file;

	for (feature = 0; feature < KVM_HVFEAT_NR_FEATURES; feature++) {
		for (file = 0; file < NR_FILES; file++) {
			struct file_attribute *a = &attributes[feature][file];

			a->attr.attr.name = files[file].name;
			a->attr.attr.mode = 0444;
			a->attr.show = show;
			a->feature = feature;
			a->file = file;
			attribute_lists[feature][file] = &a->attr.attr;
		}
		groups[feature].name = hvfeat_name(feature);
		groups[feature].attrs = attribute_lists[feature];
		group_list[feature] = &groups[feature];
	}
}
