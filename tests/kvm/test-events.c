// SPDX-License-Identifier: LGPL-2.1-or-later
/* Generic netlink tells what happens to features. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "hvfeat.h"

PAYLOAD(desc_locked);

#define DESC KVM_HVFEAT_DESC_TABLE

void test_events(void)
{
    int s = events_open(), denied = 0, events = 0;
    uint64_t count = 0;
    struct event e, first = {0};
    unsigned lost = 0, found = 0;
    Vm vm;

    ok(s >= 0, "generic netlink has the family and its group");
    if (s < 0)
        return;
    vm_make(&vm, 1, false);
    enable(vm.fd, DESC, KVM_HVFEAT_DESC_LOCK);
    e = events_next(s, 1000);
    ok(e.event == KVM_HVFEAT_EVENT_ENABLED && e.feature == DESC && e.pid == (uint32_t)getpid(),
       "ENABLED with the feature and the process of the VM");
    for (int i = 0; i < 25; i++) {
        vm_code(&vm, CODE, desc_locked);
        vm_start(&vm, 0, 0, false);
        vm_run(&vm, 0);
        denied += 4;
    }
    while ((e = events_next(s, 200)).event) {
        if (e.event != KVM_HVFEAT_EVENT_DENIED)
            continue;
        if (!events++)
            first = e;
        count += e.count;
    }
    ok(first.feature == DESC && first.pid == (uint32_t)getpid() && first.vcpu == 0 &&
           !strcmp(first.reg, "idtr") && first.rip >= CODE && first.rip < CODE + 0x100,
       "DENIED with process, vCPU, register (%s) and address (0x%llx)", first.reg,
       (unsigned long long)first.rip);
    ok(events >= 1 && events <= 20 && count <= (uint64_t)denied,
       "%d denials in a burst are %d events, of %llu denials", denied, events,
       (unsigned long long)count);
    sleep(1);
    vm_code(&vm, CODE, desc_locked);
    vm_start(&vm, 0, 0, false);
    vm_run(&vm, 0);
    e = events_next(s, 1000);
    is((long long)(count + e.count), denied + 1, "the next one after a second tells the rest");
    disable(vm.fd, DESC);
    while (e.event && e.event != KVM_HVFEAT_EVENT_DISABLED)
        e = events_next(s, 1000);
    ok(e.event == KVM_HVFEAT_EVENT_DISABLED && e.pid == (uint32_t)getpid(), "DISABLED");
    vm_free(&vm);

    if (access("/sys/module/kvm_amd", F_OK) == 0) {
        if (system("rmmod kvm_amd"))
            ok(false, "kvm_amd is unloaded while kvm_hvfeat stays");
        while ((e = events_next(s, 1000)).event)
            if (e.event == KVM_HVFEAT_EVENT_LOST && !e.pid)
                lost |= 1u << e.feature;
        ok(lost & 1u << DESC, "LOST when kvm_amd is unloaded");
        struct kvm_hvfeat_info i;
        info(-1, DESC, &i);
        is(i.reason, KVM_HVFEAT_REASON_NO_KVM, "and the report says so");
        if (system("insmod /lib/modules/kvm-amd.ko"))
            ok(false, "kvm_amd is loaded again");
        while ((e = events_next(s, 1000)).event)
            if (e.event == KVM_HVFEAT_EVENT_FOUND)
                found |= 1u << e.feature;
        is(found, lost, "FOUND when it is loaded again");
    }
    close(s);
}
