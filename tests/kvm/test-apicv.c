// SPDX-License-Identifier: LGPL-2.1-or-later
/* APICv and AVIC, where no emulator has them: the answers. */
#include <errno.h>
#include <unistd.h>
#include "hvfeat.h"

void test_apicv(void)
{
    const unsigned ours =
        access("/sys/module/kvm_amd", F_OK) == 0 ? KVM_HVFEAT_AVIC : KVM_HVFEAT_POSTED_INTERRUPTS;
    struct kvm_hvfeat_info i;
    Vm vm;

    vm_make(&vm, 1, true);
    info(vm.fd, ours, &i);
    ok(!(i.flags & KVM_HVFEAT_PER_VM) && i.reason_text[0], "%s: %s", i.name, i.reason_text);
    is(disable(vm.fd, ours), ENXIO, "DISABLE of what is off for all");
    is(enable(vm.fd, ours, 0), ENXIO, "ENABLE too");
    vm_free(&vm);
}
