/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small VM for tests of KVM: 4 MiB, flat 32-bit protected mode, payloads of payload.S at CODE.
 * One thread per vCPU; a VM is made and freed by one thread. What cannot fail ends the program.
 */
#ifndef TEST_KVM_VM_H
#define TEST_KVM_VM_H

#define MEMORY 0x400000
#define GDT 0x1000
#define IDT 0x2000
#define TSS 0x3000
#define TSS2 0x3800
#define LDT 0x4000
#define SAVED_IDT 0x5000
#define SAVED_GDT 0x5010
#define OTHER_IDT 0x5020
#define OTHER_GDT 0x5030
#define SAVED_LDT 0x5040
#define SAVED_TR 0x5044
#define FAULTS 0x6000
#define SUCCEEDED 0x6004
#define FAULT_CODE 0x6008
#define FAULTS_OTHER 0x600c
#define ARRIVED 0x6010
#define ROUNDS 0x6014
#define VMCB 0x7000
#define HANDLER_CODE 0x8000
#define HANDLER 0x8100
#define STACK 0xa000
#define CODE 0x10000
#define TASK 0x18000
#define SMBASE 0x30000

#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_TSS 0x18
#define SEL_LDT 0x20
#define SEL_TSS2 0x28
#define SEL_GATE 0x30
#define VECTOR_TASK 0x40
#define VECTOR_TIMER 0x50

#ifndef __ASSEMBLER__
#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int kvm, fd, vcpu[4];
    struct kvm_run *run[4];
    uint8_t *memory;
} Vm;

#define PAYLOAD(name) extern const uint8_t name[], name##_end[]
#define vm_code(vm, address, name) vm_copy(vm, address, name, (size_t)(name##_end - (name)))

/* irqchip: with an in-kernel one, where HLT does not return. */
void vm_make(Vm *vm, int vcpus, bool irqchip);
void vm_free(Vm *vm);
void vm_copy(Vm *vm, uint32_t address, const void *data, size_t size);

/*
 * Puts vCPU n before the code at CODE with ECX, interrupts on if wanted: in Bochs, a guest that has
 * them off is not interrupted by its host either.
 */
void vm_start(Vm *vm, int n, uint32_t ecx, bool interrupts);
/* Gives vCPU n the host's CPUID, as KVM supports it. */
void vm_cpuid(Vm *vm, int n);

/* Until HLT (0) or else KVM's exit reason; -1 when a signal came (vm_interrupt_after). */
int vm_run(Vm *vm, int n);
/* Ends vm_run of vCPU n, of this thread, after so many ms of real time. */
void vm_interrupt_after(Vm *vm, int n, int ms);

struct kvm_sregs vm_sregs(Vm *vm, int n);
uint32_t vm_read(Vm *vm, uint32_t address);
double now(void);
void die(const char *what) __attribute__((noreturn));
#endif
#endif
