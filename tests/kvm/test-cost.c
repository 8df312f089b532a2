// SPDX-License-Identifier: LGPL-2.1-or-later
/* Instructions of an exit for CPUID, host and guest: the machine's clock counts instructions. */
#include <stdio.h>
#include "hvfeat.h"

PAYLOAD(cpuid_loop);

#define ROUNDS_OF_EXITS 1000

/* The least of 20 runs: others were interrupted. */
static double cost(Vm *vm, unsigned ns)
{
    double least = 1e9;

    for (int run = 0; run < 20; run++) {
        double start, each;

        vm_code(vm, CODE, cpuid_loop);
        vm_start(vm, 0, ROUNDS_OF_EXITS, false);
        start = now();
        vm_run(vm, 0);
        each = (now() - start) * 1e9 / ns / ROUNDS_OF_EXITS;
        if (each < least)
            least = each;
    }
    return least;
}

void test_cost(bool patched, unsigned ns)
{
    Vm vm, other;

    vm_make(&vm, 1, false);
    vm_cpuid(&vm, 0);
    printf("# cost of an exit, all off: %.1f instructions\n", cost(&vm, ns));
    if (patched) {
        vm_make(&other, 1, false);
        enable(other.fd, KVM_HVFEAT_DESC_TABLE, KVM_HVFEAT_DESC_COUNT);
        printf("# cost of an exit, another VM counts: %.1f instructions\n", cost(&vm, ns));
        enable(vm.fd, KVM_HVFEAT_QUANTUM, 10000);
        printf("# cost of an exit, with a quantum: %.1f instructions\n", cost(&vm, ns));
        vm_free(&other);
    }
    vm_free(&vm);
    ok(true, "the cost of an exit was measured");
}
