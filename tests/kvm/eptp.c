// SPDX-License-Identifier: LGPL-2.1-or-later
#define _GNU_SOURCE
#include "eptp.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

PAYLOAD(eptp_loop);
PAYLOAD(eptp_vmfunc);

int view_request(unsigned long number, int fd, uint32_t view, uint32_t access, uint64_t gfn,
                 uint64_t pages)
{
    struct kvm_hvfeat_view v = {{KVM_HVFEAT_ABI, EPTP, fd, 0}, view, access, gfn, pages, 0, 0};

    return request(number, &v);
}

int view_create(const Vm *vm, uint32_t view, uint32_t access)
{
    return view_request(KVM_HVFEAT_VIEW_CREATE, vm->fd, view, access, 0, 0);
}

int view_destroy(const Vm *vm, uint32_t view)
{
    return view_request(KVM_HVFEAT_VIEW_DESTROY, vm->fd, view, 0, 0, 0);
}

int view_set(const Vm *vm, uint32_t view, uint32_t access, uint64_t address, uint64_t pages)
{
    return view_request(KVM_HVFEAT_VIEW_SET_ACCESS, vm->fd, view, access, address / PAGE, pages);
}

struct kvm_hvfeat_view view_get(const Vm *vm, uint32_t view, uint64_t address)
{
    struct kvm_hvfeat_view v = {
        {KVM_HVFEAT_ABI, EPTP, vm->fd, 0}, view, 0, address / PAGE, 0, 0, 0};

    if (request(KVM_HVFEAT_VIEW_GET, &v))
        v.ranges = ~0u;
    return v;
}

void eptp_start(Vm *vm, int n, uint32_t eax, uint32_t ecx, uint32_t ebx, uint32_t esi)
{
    struct kvm_regs regs;

    vm_start(vm, n, ecx, true);
    if (ioctl(vm->vcpu[n], KVM_GET_REGS, &regs))
        die("KVM_GET_REGS");
    regs.rax = eax;
    regs.rbx = ebx;
    regs.rsi = esi;
    if (ioctl(vm->vcpu[n], KVM_SET_REGS, &regs))
        die("KVM_SET_REGS");
}

uint32_t eptp_edx(Vm *vm, int n)
{
    struct kvm_regs regs;

    if (ioctl(vm->vcpu[n], KVM_GET_REGS, &regs))
        die("KVM_GET_REGS");
    return (uint32_t)regs.rdx;
}

int eptp_round(Vm *vm, int n)
{
    if (vm_run(vm, n) != KVM_EXIT_IO)
        return -1;
    return (int)eptp_edx(vm, n);
}

int eptp_begin(Vm *vm, int n, uint32_t view, uint32_t page)
{
    vm_code(vm, CODE, eptp_loop);
    vm->memory[page] = 0xc3;
    eptp_start(vm, n, 0, view, page, 0x1234);
    return eptp_round(vm, n);
}

/* A counter of KVM's, of a vCPU (KVM_GET_STATS_FD) */
static long long kvm_stat(Vm *vm, int n, const char *name)
{
    int fd = ioctl(vm->vcpu[n], KVM_GET_STATS_FD, 0);
    struct kvm_stats_header h;
    char *desc;
    long long value = -1;

    if (fd < 0 || pread(fd, &h, sizeof(h), 0) != sizeof(h))
        die("KVM_GET_STATS_FD");
    desc = malloc(sizeof(struct kvm_stats_desc) + h.name_size);
    for (uint32_t i = 0; i < h.num_desc; i++) {
        size_t size = sizeof(struct kvm_stats_desc) + h.name_size;
        struct kvm_stats_desc *d = (void *)desc;

        if (pread(fd, desc, size, (off_t)(h.desc_offset + i * size)) != (ssize_t)size)
            die("stats");
        if (!strcmp(desc + sizeof(*d), name) &&
            pread(fd, &value, 8, (off_t)(h.data_offset + d->offset)) != 8)
            die("stats");
    }
    free(desc);
    close(fd);
    return value;
}

long long eptp_exits(Vm *vm, int n)
{
    return kvm_stat(vm, n, "exits") - kvm_stat(vm, n, "irq_exits");
}

void eptp_make(Vm *vm, int vcpus, uint32_t views)
{
    vm_make(vm, vcpus, false);
    is(enable(vm->fd, EPTP, views), 0, "eptp-switching is on, with views up to %u", views);
}

void eptp_slot(Vm *vm, uint32_t address, void *memory, uint32_t pages, uint32_t flags)
{
    struct kvm_userspace_memory_region region = {.slot = EXTRA_SLOT,
                                                 .flags = flags,
                                                 .guest_phys_addr = address,
                                                 .memory_size = pages * PAGE,
                                                 .userspace_addr = (uintptr_t)memory};

    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
        die("KVM_SET_USER_MEMORY_REGION");
}

uint8_t *eptp_pages_new(uint8_t fill)
{
    uint8_t *p =
        mmap(NULL, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(p, fill, EXTRA_PAGES * PAGE);
    return p;
}

/* VMFUNC with EAX and ECX: 0 it went well, else the vector of what it raised. */
int eptp_try_vmfunc(Vm *vm, uint32_t eax, uint32_t ecx)
{
    memset(vm->memory + FAULTS, 0, 16);
    vm_code(vm, CODE, eptp_vmfunc);
    eptp_start(vm, 0, eax, ecx, 0, 0);
    if (vm_run(vm, 0))
        return -1;
    if (vm_read(vm, SUCCEEDED))
        return 0;
    return vm_read(vm, FAULTS) ? 13 : vm_read(vm, FAULTS_OTHER) ? 6 : -1;
}
