/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A kernel module kvm_hvfeat of a test, with one VM: answers as libvirt-colo/kvm_hvfeat.h says it
 * must, keeps what it was told. One thread at a time.
 */
#pragma once

#include "feature/catalogue.h"
#include "feature/device.h"

typedef struct {
    gboolean absent;                   /* no device */
    uint32_t abi, abi_min;             /* as GET_VERSION says */
    uint32_t abi_checked;              /* requests of another are EPROTO */
    pid_t qemu;                        /* the process that has the VM; another is ESRCH */
    gboolean without_vm;               /* it runs without KVM */
    int fails[KVM_HVFEAT_NR_FEATURES]; /* ENABLE, DISABLE and SET_STATE: this errno */
    struct {
        uint32_t flags, group, state_version;
        uint64_t param_min, param_max;
        const char *reason;
    } feature[KVM_HVFEAT_NR_FEATURES];
    /* of the VM */
    gboolean on[KVM_HVFEAT_NR_FEATURES];
    uint64_t param[KVM_HVFEAT_NR_FEATURES], counter[KVM_HVFEAT_NR_FEATURES];
    unsigned changes; /* ENABLE, DISABLE, SET_STATE that succeeded */
    ColoHvfeatOps ops;
} FakeHvfeat;

/* A patched host on which everything of @vendor ("intel", "amd") works. */
void fake_hvfeat_init(FakeHvfeat *fake, const char *vendor);

/* From now on @feature is as on an unpatched kernel, with that reason. */
void fake_hvfeat_take(FakeHvfeat *fake, unsigned feature, const char *reason);
