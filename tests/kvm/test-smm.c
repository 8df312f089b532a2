// SPDX-License-Identifier: LGPL-2.1-or-later
/* System management mode ends with the descriptor-table registers with which it began. */
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include "hvfeat.h"

PAYLOAD(wait_smi);
PAYLOAD(smi_honest);
PAYLOAD(smi_forging);
PAYLOAD(smi_loading);

#define DESC KVM_HVFEAT_DESC_TABLE

/* What KVM_RUN returns after an SMI with this handler. */
static int smi(Vm *vm, bool locked, const uint8_t *handler, const uint8_t *end)
{
    vm_make(vm, 1, false);
    if (locked)
        enable(vm->fd, DESC, KVM_HVFEAT_DESC_LOCK);
    vm_code(vm, CODE, wait_smi);
    vm_copy(vm, SMBASE + 0x8000, handler, (size_t)(end - handler));
    vm_start(vm, 0, 0, false);
    if (ioctl(vm->vcpu[0], KVM_SMI))
        die("KVM_SMI");
    return vm_run(vm, 0);
}

static bool as_started(Vm *vm)
{
    struct kvm_sregs s = vm_sregs(vm, 0);

    return s.idt.base == IDT && s.idt.limit == 0x7ff && s.gdt.base == GDT && s.gdt.limit == 0x3f &&
           s.tr.selector == SEL_TSS && s.tr.base == TSS;
}

void test_smm(void)
{
    int r;
    Vm vm;

    is(smi(&vm, true, smi_honest, smi_honest_end), 0, "an SMI with the lock on");
    ok(vm_read(&vm, ARRIVED) == 1 && as_started(&vm), "comes and goes");
    is(counter(vm.fd, DESC, "denied"), 0, "nothing is denied");
    vm_free(&vm);

    is(smi(&vm, true, smi_loading, smi_loading_end), 0, "an SMI handler loads tables of its own");
    ok(vm_read(&vm, ARRIVED) == 1 && as_started(&vm), "and RSM puts the guest's back");
    vm_free(&vm);

    r = smi(&vm, false, smi_forging, smi_forging_end);
    ok(r == 0 && vm_sregs(&vm, 0).gdt.base == 0x12345000,
       "without the lock, a forged save area gives the guest another GDT");
    vm_free(&vm);

    is(smi(&vm, true, smi_forging, smi_forging_end), KVM_EXIT_SHUTDOWN,
       "with it, RSM of a forged save area shuts the guest down");
    ok(vm_sregs(&vm, 0).gdt.base != 0x12345000, "before it has another GDT");
    is(counter(vm.fd, DESC, "denied"), 1, "that is counted");
    vm_free(&vm);
}
