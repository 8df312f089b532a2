// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * APICv and AVIC per VM. No emulator of Debian 12 has them. kvm_amd.force_avic=1 makes KVM use AVIC
 * on a CPU without: then the guest's writes to its APIC go to memory and nothing comes of them,
 * unless AVIC is switched off for the VM. That shows that the switch works, not that AVIC does.
 */
#include <errno.h>
#include <unistd.h>
#include "hvfeat.h"

PAYLOAD(apic_timer);
PAYLOAD(apic_tick);

static unsigned ours(void)
{
    return access("/sys/module/kvm_amd", F_OK) == 0 ? KVM_HVFEAT_AVIC
                                                    : KVM_HVFEAT_POSTED_INTERRUPTS;
}

void test_apicv_off(void)
{
    struct kvm_hvfeat_info i;
    Vm vm;

    vm_make(&vm, 1, true);
    info(vm.fd, ours(), &i);
    ok(!(i.flags & KVM_HVFEAT_PER_VM) && i.reason_text[0], "%s: %s", i.name, i.reason_text);
    is(disable(vm.fd, ours()), ENXIO, "DISABLE of what is off for all");
    is(enable(vm.fd, ours(), 0), ENXIO, "ENABLE too");
    vm_free(&vm);
}

/* Ticks of the guest's APIC timer. */
static uint32_t ticks(Vm *vm)
{
    uint32_t before = vm_read(vm, ARRIVED);

    vm_code(vm, CODE, apic_timer);
    vm_code(vm, TASK, apic_tick);
    vm_start(vm, 0, 0, false);
    vm_interrupt_after(vm, 0, 100);
    vm_run(vm, 0);
    return vm_read(vm, ARRIVED) - before;
}

void test_apicv_forced(bool patched)
{
    const uint64_t bit = patched ? 1ULL << 30 : 1;
    char data[KVM_HVFEAT_STATE_MAX];
    uint32_t size = sizeof(data);
    struct kvm_hvfeat_info i;
    Vm vm, other;

    is(info(-1, ours(), &i), 0, "AVIC by force: report");
    is(i.flags & 0x1f, 0x1e, "all is there but the hardware");
    vm_make(&vm, 1, true);
    vm_make(&other, 1, true);
    vm_cpuid(&vm, 0); /* or the timer has no periodic mode */
    info(vm.fd, ours(), &i);
    ok((i.flags & KVM_HVFEAT_VM_ON) && (i.flags & KVM_HVFEAT_VM_WANTED) && !i.vm_inhibits,
       "on in a new VM");
    is(enable(vm.fd, ours(), 1), EINVAL, "ENABLE with a parameter");
    is(disable(vm.fd, ours()), 0, "DISABLE");
    info(vm.fd, ours(), &i);
    ok(!(i.flags & (KVM_HVFEAT_VM_ON | KVM_HVFEAT_VM_WANTED)), "off in the report");
    is((long long)i.vm_inhibits, (long long)bit, "with the inhibit reason %s",
       patched ? "of its own" : "that the stock kvm has");
    ok(ticks(&vm) > 5, "the APIC timer ticks: KVM emulates the APIC");
    info(other.fd, ours(), &i);
    ok(i.flags & KVM_HVFEAT_VM_ON, "another VM is not touched");
    is(get_state(vm.fd, ours(), data, &size), 0, "the state is taken");
    is(set_state(other.fd, ours(), data, size, 1), 0, "set in the other VM");
    info(other.fd, ours(), &i);
    ok(!(i.flags & KVM_HVFEAT_VM_ON), "switches it off there");
    is(enable(vm.fd, ours(), 0), 0, "ENABLE");
    info(vm.fd, ours(), &i);
    ok((i.flags & KVM_HVFEAT_VM_ON) && !i.vm_inhibits, "on again");
    is(ticks(&vm), 0, "and this CPU, which has no AVIC, does not tick");
    is(disable(vm.fd, ours()), 0, "DISABLE in a VM that has run");
    ok(ticks(&vm) > 5, "the timer ticks");
    vm_free(&vm);
    vm_free(&other);
}
