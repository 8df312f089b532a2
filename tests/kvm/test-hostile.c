// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A guest that executes random sequences of what is trapped, with random operands, while the host
 * switches features at random. Whatever comes of the guest: the host must not mind (init looks at
 * its log).
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "hvfeat.h"

/* One instruction at p: one of those with an operand in memory or a register, or anything. */
static uint8_t *instruction(uint8_t *p)
{
    static const uint8_t emulated[] = {0x0f, 0x0b, 0x6b, 0x76, 0x6d};
    uint32_t address = some(4)   ? 0x5000 + some(64)
                       : some(2) ? some(MEMORY)
                                 : 0xffffff00 + some(256);

    if (some(4) == 0) {
        memcpy(p, emulated, sizeof(emulated));
        p += sizeof(emulated);
    }
    if (some(16) == 0)
        *p++ = 0x66;
    switch (some(12)) {
    case 0: /* anything */
        for (unsigned n = 1 + some(6); n; n--)
            *p++ = (uint8_t)some(256);
        return p;
    case 1: /* mov eax, selector or garbage */
        *p++ = 0xb8;
        address = some(2) ? some(8) * 8 : some(65536);
        memcpy(p, &address, 4);
        return p + 4;
    case 2: /* jmp or call to a task */
        *p++ = some(2) ? 0xea : 0x9a;
        memset(p, 0, 4);
        p[4] = (uint8_t)(8 * some(8));
        p[5] = 0;
        return p + 6;
    case 3: /* int, int3, iret */
        switch (some(3)) {
        case 0:
            *p++ = 0xcd;
            *p++ = (uint8_t)(some(2) ? VECTOR_TASK : some(256));
            return p;
        case 1:
            *p++ = 0xcc;
            return p;
        default:
            *p++ = 0xcf;
            return p;
        }
    case 4: /* SVM's and VMX's, RSM */
        *p++ = 0x0f;
        if (some(8) == 0) {
            *p++ = 0xaa;
        } else {
            *p++ = 0x01;
            *p++ = (uint8_t)(some(2) ? 0xd8 + some(8) : 0xc1 + some(20));
        }
        return p;
    default: /* group 6 or 7 */
        *p++ = 0x0f;
        *p++ = (uint8_t)some(2);
        if (some(3)) {
            *p++ = (uint8_t)(0x05 | some(8) << 3);
            memcpy(p, &address, 4);
            return p + 4;
        }
        *p++ = (uint8_t)(0xc0 | some(64));
        return p;
    }
}

static volatile bool stop;

static void *switcher(void *data)
{
    const Vm *vm = data;
    unsigned n = 0;

    while (!stop) {
        n = n * 1103515245 + 12345;
        if (n >> 16 & 1)
            enable(vm->fd, KVM_HVFEAT_DESC_TABLE, (n >> 20) % 7 + 1);
        else
            disable(vm->fd, KVM_HVFEAT_DESC_TABLE);
        if (n >> 17 & 1)
            enable(vm->fd, KVM_HVFEAT_QUANTUM, 100 + (n >> 18) % 2000);
        else
            disable(vm->fd, KVM_HVFEAT_QUANTUM);
        usleep(500);
    }
    return NULL;
}

void test_hostile(int seconds)
{
    double end = now() + seconds;
    int runs = 0, vms = 0, exits[64] = {0};

    while (now() < end) {
        pthread_t thread;
        Vm vm;

        vm_make(&vm, 1, false);
        vm_cpuid(&vm, 0);
        stop = false;
        pthread_create(&thread, NULL, switcher, &vm);
        for (int i = 0; i < 200 && now() < end; i++, runs++) {
            uint8_t *p = vm.memory + CODE;
            int r;

            while (p < vm.memory + CODE + 0x800)
                p = instruction(p);
            *p = 0xf4;
            vm_start(&vm, 0, 0, true);
            *(uint32_t *)(vm.memory + FAULTS) = 0;
            if (some(4) == 0)
                ioctl(vm.vcpu[0], KVM_SMI);
            vm_interrupt_after(&vm, 0, 2);
            /* A handler goes on at EBP: somewhere in the code. */
            ioctl(vm.vcpu[0], KVM_SET_REGS,
                  &(struct kvm_regs){.rip = CODE,
                                     .rflags = 0x202,
                                     .rsp = STACK,
                                     .rbp = CODE + some(0x800),
                                     .rax = VMCB});
            for (int n = 0; n < 20 && (r = vm_run(&vm, 0)) > 0; n++)
                exits[r < 64 ? r : 63]++;
        }
        stop = true;
        pthread_join(thread, NULL);
        vm_free(&vm);
        vms++;
    }
    printf("# %d random guests in %d VMs; exits to userspace by reason:", runs, vms);
    for (int i = 0; i < 64; i++)
        if (exits[i])
            printf(" %d:%d", i, exits[i]);
    printf("\n");
    ok(runs >= 50 * seconds, "the host outlives %d s of hostile guests", seconds);
}
