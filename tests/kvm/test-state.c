// SPDX-License-Identifier: LGPL-2.1-or-later
/* The state of a feature goes from one VM to another, as to the other host of a pair. */
#include <string.h>
#include "hvfeat.h"

PAYLOAD(desc_all);
PAYLOAD(desc_locked);

#define DESC KVM_HVFEAT_DESC_TABLE

void test_state(void)
{
    char data[KVM_HVFEAT_STATE_MAX];
    uint32_t size = sizeof(data);
    struct kvm_hvfeat_info i;
    Vm from, to;

    vm_make(&from, 1, false);
    enable(from.fd, DESC, KVM_HVFEAT_DESC_COUNT);
    vm_code(&from, CODE, desc_all);
    vm_start(&from, 0, 7, false);
    vm_run(&from, 0);
    enable(from.fd, DESC, KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK);
    is(get_state(from.fd, DESC, data, &size), 0, "the state of a locked VM is taken");

    vm_make(&to, 1, false);
    is(set_state(to.fd, DESC, data, size, 1), 0, "and set in another");
    vm_code(&to, CODE, desc_locked);
    vm_start(&to, 0, 0, false);
    vm_run(&to, 0);
    is(vm_read(&to, FAULTS), 4, "the other is locked too");
    is(counter(to.fd, DESC, "ltr"), 8, "its counters go on where the first one's were");
    is(counter(to.fd, DESC, "sldt"), 8, "all of them");
    is(counter(to.fd, DESC, "denied"), 4, "also of the denied");
    vm_free(&to);

    disable(from.fd, DESC);
    size = sizeof(data);
    is(get_state(from.fd, DESC, data, &size), 0, "the state of a VM where it is off again");
    vm_make(&to, 1, false);
    enable(to.fd, DESC, KVM_HVFEAT_DESC_LOCK);
    is(set_state(to.fd, DESC, data, size, 1), 0, "set in one where it is on");
    info(to.fd, DESC, &i);
    ok(!i.param[0] && !(i.flags & KVM_HVFEAT_VM_ON), "switches it off there");
    is(counter(to.fd, DESC, "lidt"), 7, "with the counters");
    vm_free(&to);
    vm_free(&from);
}
