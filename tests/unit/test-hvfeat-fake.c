/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-hvfeat-fake.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A state blob. */
typedef struct {
    uint32_t on;
    uint64_t param, counter;
} Blob;

static int fail(int errnum)
{
    errno = errnum;
    return -1;
}

static int open_device(void *opaque)
{
    FakeHvfeat *fake = opaque;

    return fake->absent ? fail(ENOENT) : open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int open_vm(pid_t qemu, void *opaque)
{
    FakeHvfeat *fake = opaque;

    if (qemu != fake->qemu)
        return fail(ESRCH);
    return fake->without_vm ? fail(ENOENT) : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* 0, or the errno that the module has for it. */
static int check_target(const FakeHvfeat *fake, const struct kvm_hvfeat_target *target, gboolean vm)
{
    if (target->abi != fake->abi_checked)
        return EPROTO;
    if (target->feature >= KVM_HVFEAT_NR_FEATURES || target->flags)
        return EINVAL;
    if ((vm || target->vm_fd != -1) && fcntl(target->vm_fd, F_GETFD) < 0)
        return EBADF;
    return 0;
}

static int get_version(FakeHvfeat *fake, struct kvm_hvfeat_version *version)
{
    memset(version, 0, sizeof(*version));
    version->abi = fake->abi;
    version->abi_min = fake->abi_min;
    version->nr_features = KVM_HVFEAT_NR_FEATURES;
    g_strlcpy(version->module_version, "1.2", sizeof(version->module_version));
    g_strlcpy(version->kernel, "6.1.0-fake", sizeof(version->kernel));
    return 0;
}

static int get_info(FakeHvfeat *fake, struct kvm_hvfeat_info *info)
{
    unsigned f = info->target.feature;
    int error = check_target(fake, &info->target, FALSE);

    if (error)
        return fail(error);
    info->flags = fake->feature[f].flags;
    info->group = fake->feature[f].group;
    info->state_version = fake->feature[f].state_version;
    info->param_min = fake->feature[f].param_min;
    info->param_max = fake->feature[f].param_max;
    memset(info->param, 0, sizeof(info->param));
    if (info->target.vm_fd != -1 && fake->on[f]) {
        info->flags |= KVM_HVFEAT_VM_ON | KVM_HVFEAT_VM_WANTED;
        info->param[0] = fake->param[f];
    }
    g_strlcpy(info->name, colo_feature(f)->name, sizeof(info->name));
    g_strlcpy(info->reason_text, fake->feature[f].reason ? fake->feature[f].reason : "",
              sizeof(info->reason_text));
    return 0;
}

/* What keeps a change of the VM from being made, or 0. */
static int check_change(const FakeHvfeat *fake, const struct kvm_hvfeat_target *target)
{
    int error = check_target(fake, target, TRUE);
    uint32_t flags = error ? 0 : fake->feature[target->feature].flags;

    if (error)
        return error;
    if (!(flags & KVM_HVFEAT_HW) || !(flags & KVM_HVFEAT_FIRMWARE))
        return ENXIO;
    if (!(flags & KVM_HVFEAT_PER_VM))
        return EOPNOTSUPP;
    return fake->fails[target->feature];
}

static int control(FakeHvfeat *fake, const struct kvm_hvfeat_control *c, gboolean on)
{
    unsigned f = c->target.feature;
    int error = check_change(fake, &c->target);
    uint64_t param = c->param[0];

    if (!error && (c->param[1] || c->param[2] || c->param[3] || (!on && param)))
        error = EINVAL;
    if (!error && on && (param < fake->feature[f].param_min || param > fake->feature[f].param_max))
        error = ERANGE;
    if (error)
        return fail(error);
    fake->on[f] = on;
    fake->param[f] = param;
    fake->changes++;
    return 0;
}

static int get_state(FakeHvfeat *fake, struct kvm_hvfeat_state *state)
{
    unsigned f = state->target.feature;
    int error = check_target(fake, &state->target, TRUE);
    uint32_t room = state->size;

    if (!error && !(fake->feature[f].flags & KVM_HVFEAT_STATE))
        error = ENODATA;
    if (error)
        return fail(error);
    state->version = fake->feature[f].state_version;
    state->size = sizeof(Blob);
    if (room < sizeof(Blob))
        return fail(ENOSPC);
    *(Blob *)(uintptr_t)state->data =
        (Blob){.on = fake->on[f] ? 1 : 0, .param = fake->param[f], .counter = fake->counter[f]};
    return 0;
}

static int set_state(FakeHvfeat *fake, const struct kvm_hvfeat_state *state)
{
    unsigned f = state->target.feature;
    int error = check_change(fake, &state->target);
    Blob blob;

    if (!error && !(fake->feature[f].flags & KVM_HVFEAT_STATE))
        error = ENODATA;
    if (!error && state->version != fake->feature[f].state_version)
        error = EPROTO;
    if (!error && state->size != sizeof(Blob))
        error = EINVAL;
    if (error)
        return fail(error);
    memcpy(&blob, (const void *)(uintptr_t)state->data, sizeof(blob));
    fake->on[f] = blob.on != 0;
    fake->param[f] = blob.param;
    fake->counter[f] = blob.counter;
    fake->changes++;
    return 0;
}

static int get_stats(FakeHvfeat *fake, struct kvm_hvfeat_stats *stats)
{
    int error = check_target(fake, &stats->target, TRUE);

    if (error)
        return fail(error);
    stats->count = 1;
    g_strlcpy(stats->stat[0].name, "counter", sizeof(stats->stat[0].name));
    stats->stat[0].value = fake->counter[stats->target.feature];
    return 0;
}

static int request(int device, unsigned long number, void *argument, void *opaque)
{
    FakeHvfeat *fake = opaque;

    if (fcntl(device, F_GETFD) < 0)
        return -1;
    switch (number) {
    case KVM_HVFEAT_GET_VERSION:
        return get_version(fake, argument);
    case KVM_HVFEAT_GET_INFO:
        return get_info(fake, argument);
    case KVM_HVFEAT_ENABLE:
        return control(fake, argument, TRUE);
    case KVM_HVFEAT_DISABLE:
        return control(fake, argument, FALSE);
    case KVM_HVFEAT_GET_STATE:
        return get_state(fake, argument);
    case KVM_HVFEAT_SET_STATE:
        return set_state(fake, argument);
    case KVM_HVFEAT_GET_STATS:
        return get_stats(fake, argument);
    default:
        return fail(ENOTTY);
    }
}

void fake_hvfeat_take(FakeHvfeat *fake, unsigned feature, const char *reason)
{
    fake->feature[feature].flags &= ~(KVM_HVFEAT_KERNEL | KVM_HVFEAT_PER_VM | KVM_HVFEAT_STATE);
    fake->feature[feature].reason = reason;
}

void fake_hvfeat_init(FakeHvfeat *fake, const char *vendor)
{
    const uint32_t all =
        KVM_HVFEAT_HW | KVM_HVFEAT_FIRMWARE | KVM_HVFEAT_KERNEL | KVM_HVFEAT_PER_VM;
    gboolean intel = strcmp(vendor, "intel") == 0;

    memset(fake, 0, sizeof(*fake));
    fake->abi = fake->abi_min = fake->abi_checked = KVM_HVFEAT_ABI;
    fake->qemu = 4711;
    for (unsigned f = 0; f < COLO_FEATURE_COUNT; f++) {
        const ColoFeature *known = colo_feature(f);

        fake->feature[f].group = known->group;
        fake->feature[f].reason = "a feature of the other vendor's processors";
        if (intel ? !known->intel : !known->amd)
            continue;
        fake->feature[f].reason = NULL;
        fake->feature[f].flags = all | (known->guest_visible ? KVM_HVFEAT_GUEST_VISIBLE : 0);
        fake->on[f] = known->by_default;
    }
    fake->feature[KVM_HVFEAT_DESC_TABLE].flags |= KVM_HVFEAT_STATE;
    fake->feature[KVM_HVFEAT_DESC_TABLE].state_version = 1;
    fake->feature[KVM_HVFEAT_DESC_TABLE].param_min = 1;
    fake->feature[KVM_HVFEAT_DESC_TABLE].param_max = 7;
    fake->feature[KVM_HVFEAT_QUANTUM].flags |= KVM_HVFEAT_STATE;
    fake->feature[KVM_HVFEAT_QUANTUM].state_version = 1;
    fake->feature[KVM_HVFEAT_QUANTUM].param_min = 100;
    fake->feature[KVM_HVFEAT_QUANTUM].param_max = 1000000;
    fake->ops = (ColoHvfeatOps){
        .open_device = open_device, .request = request, .open_vm = open_vm, .opaque = fake};
}
