// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * EPTP switching: a guest of two vCPUs that switches views at random, by good and bad indices,
 * while the host changes its memory, permissions and views.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "eptp.h"

static uint8_t *put(uint8_t *p, uint32_t value)
{
    memcpy(p, &value, 4);
    return p + 4;
}

/* A switch with any index, or an access to any page, by the CPU or by the emulator. */
static uint8_t *hostile_instruction(uint8_t *p)
{
    static const uint8_t emulated[] = {0x0f, 0x0b, 0x6b, 0x76, 0x6d};
    /* Bochs 2.7 logs addresses for PML, where KVM expects pages. */
    uint32_t address = some(8)   ? (some(2) ? EXTRA : DATA) + some(EXTRA_PAGES) * PAGE
                       : some(2) ? some(MEMORY)
                                 : ~some(0x1000);

    if (some(3)) {
        *p++ = 0xb8; /* mov $, %eax */
        p = put(p, some(8) ? 0 : some(2) ? 1 + some(100) : ~some(100));
        *p++ = 0xb9; /* mov $, %ecx */
        p = put(p, some(8) ? some(5) : some(2) ? some(600) : ~some(100));
        memcpy(p, "\x0f\x01\xd4", 3);
        return p + 3;
    }
    if (some(4) == 0) {
        memcpy(p, emulated, sizeof(emulated));
        p += sizeof(emulated);
    }
    switch (some(8)) {
    case 0: /* call */
        *p++ = 0xb8;
        p = put(p, address);
        *p++ = 0xff;
        *p++ = 0xd0;
        return p;
    case 1: /* lock cmpxchg */
        memcpy(p, "\xf0\x0f\xb1\x0d", 4);
        return put(p + 4, address);
    case 2: /* incl */
        memcpy(p, "\xff\x05", 2);
        return put(p + 2, address);
    case 3: /* a privileged one of VMX, with or without memory */
        memcpy(p, some(2) ? "\x0f\xc7\x35" : "\x0f\x78\x05", 3);
        return put(p + 3, address);
    case 4: /* out */
        memcpy(p, "\xe6\x80", 2);
        return p + 2;
    default:
        *p++ = some(2) ? 0xa1 : 0xa3; /* mov %eax */
        return put(p, address);
    }
}

static volatile bool stop;

static struct hostile {
    Vm vm;
    unsigned runs[2], ends[64];
} hostile;

static void *hostile_vcpu(void *data)
{
    const int n = (int)(intptr_t)data;

    while (!stop) {
        struct kvm_regs regs = {.rip = CODE + some(0x800),
                                .rflags = 0x202,
                                .rsp = STACK - 0x400u * (uint32_t)n,
                                .rbp = CODE + some(0x800)};
        int r = 0;

        vm_start(&hostile.vm, n, 0, true);
        ioctl(hostile.vm.vcpu[n], KVM_SET_REGS, &regs);
        if (some(8) == 0)
            ioctl(hostile.vm.vcpu[n], KVM_SMI);
        vm_interrupt_after(&hostile.vm, n, 2);
        for (int i = 0; i < 20 && !stop && (r = vm_run(&hostile.vm, n)) > 0; i++)
            hostile.ends[r < 64 ? r : 63]++;
        hostile.runs[n]++;
    }
    vm_interrupt_after(&hostile.vm, n, 0);
    return NULL;
}

/* What the host does to the VM's memory and views meanwhile */
static void hostile_host(uint8_t *memory)
{
    static const uint32_t accesses[] = {0, R, R | W, R | X, R | W | X};
    const Vm *vm = &hostile.vm;

    switch (some(10)) {
    case 0:
        eptp_slot(&hostile.vm, EXTRA, memory, 0, 0);
        eptp_slot(&hostile.vm, EXTRA, memory, EXTRA_PAGES, some(2) ? KVM_MEM_LOG_DIRTY_PAGES : 0);
        break;
    case 1:
        madvise(memory + some(EXTRA_PAGES) * PAGE, PAGE, MADV_DONTNEED);
        break;
    case 2:
        if (mmap(memory, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != memory)
            die("mmap");
        break;
    case 3: {
        uint64_t bitmap[1];
        struct kvm_dirty_log log = {.slot = EXTRA_SLOT, .dirty_bitmap = bitmap};

        ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
        break;
    }
    case 4:
        view_destroy(vm, 1 + some(4));
        break;
    case 5:
        if (some(4) == 0)
            disable(vm->fd, EPTP);
        enable(vm->fd, EPTP, 4);
        break;
    case 6:
        view_create(vm, 1 + some(4), some(4) ? R | W | X : accesses[some(5)]);
        break;
    default:
        view_set(vm, 1 + some(4), accesses[some(5)], some(2) ? EXTRA : DATA, 1 + some(EXTRA_PAGES));
    }
}

void test_eptp_hostile(int seconds)
{
    double end = now() + seconds;
    unsigned changes = 0, vms = 0;

    memset(&hostile, 0, sizeof(hostile));
    while (now() < end) {
        uint8_t *memory = eptp_pages_new(0xc3), *p;
        double until = now() + 0.5 < end ? now() + 0.5 : end;
        pthread_t threads[2];

        vm_make(&hostile.vm, 2, false);
        vm_cpuid(&hostile.vm, 0);
        eptp_slot(&hostile.vm, EXTRA, memory, EXTRA_PAGES, 0);
        enable(hostile.vm.fd, EPTP, 4);
        p = hostile.vm.memory + CODE;
        while (p < hostile.vm.memory + CODE + 0xf00)
            p = hostile_instruction(p);
        *p = 0xf4;
        stop = false;
        for (intptr_t n = 0; n < 2; n++)
            pthread_create(&threads[n], NULL, hostile_vcpu, (void *)n);
        while (now() < until) {
            hostile_host(memory);
            changes++;
            usleep(some(500));
        }
        stop = true;
        for (int n = 0; n < 2; n++)
            pthread_join(threads[n], NULL);
        vm_free(&hostile.vm);
        munmap(memory, EXTRA_PAGES * PAGE);
        vms++;
    }
    printf("# %u and %u runs of two vCPUs in %u VMs, %u changes by the host; exits by reason:",
           hostile.runs[0], hostile.runs[1], vms, changes);
    for (int i = 0; i < 64; i++)
        if (hostile.ends[i])
            printf(" %d:%u", i, hostile.ends[i]);
    printf("\n");
    ok(hostile.runs[0] && hostile.runs[1] && changes >= 20 * (unsigned)seconds,
       "the host outlives %d s of a guest that switches views while they change", seconds);
}
