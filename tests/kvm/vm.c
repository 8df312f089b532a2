// SPDX-License-Identifier: LGPL-2.1-or-later
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "vm.h"

PAYLOAD(fault_with_code);
PAYLOAD(fault_without_code);

void die(const char *what)
{
    printf("Bail out! %s: %s\n", what, strerror(errno));
    exit(1);
}

double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void vm_copy(Vm *vm, uint32_t address, const void *data, size_t size)
{
    if (address + size > MEMORY)
        die("payload too big");
    memcpy(vm->memory + address, data, size);
}

uint32_t vm_read(Vm *vm, uint32_t address)
{
    return *(volatile uint32_t *)(vm->memory + address);
}

static void write64(Vm *vm, uint32_t address, uint64_t value)
{
    vm_copy(vm, address, &value, sizeof(value));
}

/* A descriptor of 32-bit form: SDM vol. 3, 3.4.5. */
static uint64_t descriptor(uint32_t base, uint32_t limit, uint64_t flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (flags & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)(base >> 24) << 56;
}

static void gate(Vm *vm, int vector, uint16_t selector, uint32_t offset, uint64_t type)
{
    write64(vm, IDT + 8 * (uint32_t)vector,
            (offset & 0xffff) | (uint64_t)selector << 16 | type << 40 |
                (uint64_t)(offset >> 16) << 48);
}

/* Of {limit, base}, as LGDT reads it. */
static void table(Vm *vm, uint32_t address, uint16_t limit, uint32_t base)
{
    vm_copy(vm, address, &limit, 2);
    vm_copy(vm, address + 2, &base, 4);
}

static void tables(Vm *vm)
{
    uint32_t task[26] = {
        [8] = TASK,      [9] = 2,         [14] = STACK - 0x800, [18] = SEL_DATA, [19] = SEL_CODE,
        [20] = SEL_DATA, [21] = SEL_DATA, [22] = SEL_DATA,      [23] = SEL_DATA};

    write64(vm, GDT + SEL_CODE, descriptor(0, 0xfffff, 0xc09b));
    write64(vm, GDT + SEL_DATA, descriptor(0, 0xfffff, 0xc093));
    write64(vm, GDT + SEL_TSS, descriptor(TSS, 0x67, 0x89));
    write64(vm, GDT + SEL_LDT, descriptor(LDT, 0xff, 0x82));
    write64(vm, GDT + SEL_TSS2, descriptor(TSS2, 0x67, 0x89));
    for (int vector = 0; vector < 32; vector++) {
        bool code = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;

        gate(vm, vector, SEL_CODE, code ? HANDLER_CODE : HANDLER, 0x8e);
    }
    gate(vm, VECTOR_TIMER, SEL_CODE, TASK, 0x8e);
    gate(vm, VECTOR_TASK, SEL_TSS2, 0, 0x85);
    vm_copy(vm, TSS2, task, sizeof(task));
    vm_code(vm, HANDLER_CODE, fault_with_code);
    vm_code(vm, HANDLER, fault_without_code);
    table(vm, SAVED_IDT, 0x7ff, IDT);
    table(vm, SAVED_GDT, 0x3f, GDT);
    /* Longer by a byte, at the same place: what is loaded works, and is told from the other. */
    table(vm, OTHER_IDT, 0x7fe, IDT);
    table(vm, OTHER_GDT, 0x3e, GDT);
}

void vm_make(Vm *vm, int vcpus, bool irqchip)
{
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY};
    uint64_t identity = 0xfffbc000;
    int size;

    memset(vm, 0, sizeof(*vm));
    vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm < 0)
        die("/dev/kvm");
    vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
    if (vm->fd < 0)
        die("KVM_CREATE_VM");
    ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000UL);
    ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (irqchip && ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
        die("KVM_CREATE_IRQCHIP");
    vm->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    region.userspace_addr = (uint64_t)(uintptr_t)vm->memory;
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
        die("KVM_SET_USER_MEMORY_REGION");
    region.slot = 1 << 16; /* what SMM sees */
    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
        die("KVM_SET_USER_MEMORY_REGION");
    tables(vm);
    size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    for (int n = 0; n < vcpus; n++) {
        vm->vcpu[n] = ioctl(vm->fd, KVM_CREATE_VCPU, n);
        if (vm->vcpu[n] < 0)
            die("KVM_CREATE_VCPU");
        vm->run[n] = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu[n], 0);
    }
}

void vm_cpuid(Vm *vm, int n)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[128];
    } *all = calloc(1, sizeof(*all));

    all->head.nent = 128;
    if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, all) || ioctl(vm->vcpu[n], KVM_SET_CPUID2, all))
        die("KVM_SET_CPUID2");
    free(all);
}

void vm_start(Vm *vm, int n, uint32_t ecx, bool interrupts)
{
    struct kvm_segment code = {.limit = 0xffffffff,
                               .selector = SEL_CODE,
                               .type = 11,
                               .present = 1,
                               .s = 1,
                               .db = 1,
                               .g = 1};
    struct kvm_segment data = code;
    struct kvm_segment task = {
        .base = TSS, .limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1};
    struct kvm_regs regs = {.rip = CODE,
                            .rflags = interrupts ? 0x202 : 2,
                            .rsp = STACK - 0x1000 * (uint32_t)n / 4,
                            .rcx = ecx};
    struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
    struct kvm_sregs s = vm_sregs(vm, n);

    data.selector = SEL_DATA;
    data.type = 3;
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.tr = task;
    s.gdt.base = GDT;
    s.gdt.limit = 0x3f;
    s.idt.base = IDT;
    s.idt.limit = 0x7ff;
    s.cr0 |= 1;
    if (ioctl(vm->vcpu[n], KVM_SET_SREGS, &s))
        die("KVM_SET_SREGS");
    if (ioctl(vm->vcpu[n], KVM_SET_REGS, &regs))
        die("KVM_SET_REGS");
    ioctl(vm->vcpu[n], KVM_SET_MP_STATE, &runnable);
    /* The task that runs is busy. */
    vm->memory[GDT + SEL_TSS + 5] = 0x8b;
}

struct kvm_sregs vm_sregs(Vm *vm, int n)
{
    struct kvm_sregs s;

    if (ioctl(vm->vcpu[n], KVM_GET_SREGS, &s))
        die("KVM_GET_SREGS");
    return s;
}

int vm_run(Vm *vm, int n)
{
    if (ioctl(vm->vcpu[n], KVM_RUN, 0)) {
        if (errno == EINTR)
            return -1;
        die("KVM_RUN");
    }
    return vm->run[n]->exit_reason == KVM_EXIT_HLT ? 0 : (int)vm->run[n]->exit_reason;
}

static _Thread_local struct kvm_run *interrupted;
static _Thread_local timer_t timer;
static _Thread_local bool has_timer;

static void interrupt(int signal)
{
    (void)signal;
    if (interrupted)
        interrupted->immediate_exit = 1;
}

void vm_interrupt_after(Vm *vm, int n, int ms)
{
    struct sigaction action = {.sa_handler = interrupt};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    struct itimerspec when = {.it_value = {ms / 1000, ms % 1000 * 1000000L}};

    interrupted = vm->run[n];
    interrupted->immediate_exit = 0;
    sigaction(SIGALRM, &action, NULL);
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    if (!has_timer && timer_create(CLOCK_MONOTONIC, &event, &timer))
        die("timer_create");
    has_timer = true;
    if (timer_settime(timer, 0, &when, NULL))
        die("timer_settime");
}

void vm_free(Vm *vm)
{
    int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

    for (int n = 0; n < 4 && vm->run[n]; n++) {
        if (interrupted == vm->run[n])
            interrupted = NULL;
        munmap(vm->run[n], (size_t)size);
        close(vm->vcpu[n]);
    }
    close(vm->fd);
    close(vm->kvm);
    munmap(vm->memory, MEMORY);
}
