/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the guests execute: flat 32-bit code at CODE. Memory is laid out in vm.h; EBP is where the
 * fault handler goes on, ECX the number of rounds.
 */
#include "vm.h"

    .section .rodata
    .code32

.macro payload name
    .globl \name, \name\()_end
\name:
.endm
.macro payload_end name
\name\()_end:
.endm

/* Executes an instruction; counts at SUCCEEDED that it went well, at FAULTS (handler) that not. */
.macro try from insn:vararg
    movl $(CODE + 9f - \from), %ebp
    \insn
    incl SUCCEEDED
9:
.endm

/* The same by KVM's emulator: UD2, "kvm", with kvm.force_emulation_prefix=1. */
.macro try_emulated from insn:vararg
    movl $(CODE + 9f - \from), %ebp
    .byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d
    \insn
    incl SUCCEEDED
9:
.endm

/* #GP and the others with an error code: counted, remembered, gone on at EBP. */
payload fault_with_code
    incl FAULTS
    popl FAULT_CODE
    movl %ebp, (%esp)
    iret
payload_end fault_with_code

payload fault_without_code
    incl FAULTS_OTHER
    movl %ebp, (%esp)
    iret
payload_end fault_without_code

/* All eight instructions, ECX times. */
payload desc_all
1:  sidt SAVED_IDT
    sgdt SAVED_GDT
    lidt SAVED_IDT
    lgdt SAVED_GDT
    sldt %ebx
    str %ebx
    movw $SEL_LDT, %ax
    lldt %ax
    andb $0xfd, GDT + SEL_TSS + 5 /* not busy, or LTR faults */
    movw $SEL_TSS, %ax
    ltr %ax
    decl %ecx
    jnz 1b
    hlt
payload_end desc_all

/* The four that write, then the four that read, once. */
payload desc_locked
    movw $SEL_LDT, %ax
    try desc_locked lidt OTHER_IDT
    try desc_locked lgdt OTHER_GDT
    try desc_locked lldt %ax
    movw $SEL_TSS2, %ax
    try desc_locked ltr %ax
    sidt SAVED_IDT
    sgdt SAVED_GDT
    sldt SAVED_LDT
    str SAVED_TR
    hlt
payload_end desc_locked

/* The four that write, by the emulator alone. */
payload desc_emulated
    movw $SEL_LDT, %ax
    try_emulated desc_emulated lidt OTHER_IDT
    try_emulated desc_emulated lgdt OTHER_GDT
    try_emulated desc_emulated lldt %ax
    movw $SEL_TSS2, %ax
    try_emulated desc_emulated ltr %ax
    hlt
payload_end desc_emulated

/* IDTR between two values for ever. */
payload desc_flip
    movl $(CODE + 2f - desc_flip), %ebp
1:  lidt OTHER_IDT
    incl SUCCEEDED
2:  movl $(CODE + 3f - desc_flip), %ebp
    lidt SAVED_IDT
    incl SUCCEEDED
3:  movl $(CODE + 2b - desc_flip), %ebp
    jmp 1b
payload_end desc_flip

/* A jump, a call, an interrupt through a task gate. */
payload task_jump
    try task_jump ljmp $SEL_TSS2, $0
    hlt
payload_end task_jump

payload task_call
    try task_call lcall $SEL_TSS2, $0
    hlt
payload_end task_call

payload task_int
    try task_int int $VECTOR_TASK
    hlt
payload_end task_int

/* Where the second task begins, at TASK. */
payload task_arrived
    incl ARRIVED
    hlt
payload_end task_arrived

/* SVM instructions with RAX -> VMCB; needs EFER.SVME. */
payload svm_load
    movl $VMCB, %eax
    try svm_load vmsave
    try svm_load vmload
    hlt
payload_end svm_load

payload svm_run
    movl $VMCB, %eax
    try svm_run vmrun
    hlt
payload_end svm_run

/* What an SMI comes into. */
payload wait_smi
1:  incl ROUNDS
    pause
    cmpl $0, ARRIVED
    je 1b
    hlt
payload_end wait_smi

payload spin
1:  incl ROUNDS
    jmp 1b
payload_end spin

/* To userspace all the time. */
payload out_loop
1:  outb %al, $0x80
    jmp 1b
payload_end out_loop

/* The APIC's timer, periodic, to VECTOR_TIMER. */
payload apic_timer
    movl $0x1ff, 0xfee000f0
    movl $0xb, 0xfee003e0
    movl $(0x20000 + VECTOR_TIMER), 0xfee00320
    movl $1000000, 0xfee00380
    sti
1:  incl ROUNDS
    jmp 1b
payload_end apic_timer

/* Its interrupt, at TASK. */
payload apic_tick
    incl ARRIVED
    movl $0, 0xfee000b0
    iret
payload_end apic_tick

/* CPUID ECX times. */
payload cpuid_loop
    movl %ecx, %esi
1:  xorl %eax, %eax
    cpuid
    decl %esi
    jnz 1b
    hlt
payload_end cpuid_loop

/* Notes in EDX that an instruction, of the CPU or of the emulator, went well. */
.macro allow from bit insn:vararg
    movl $(CODE + 9f - \from), %ebp
    \insn
    orl $\bit, %edx
9:
.endm

.macro allow_emulated from bit insn:vararg
    movl $(CODE + 9f - \from), %ebp
    .byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d
    \insn
    orl $\bit, %edx
9:
.endm

/* ECX times to view 1 and back. */
payload eptp_switch
    movl %ecx, %esi
    xorl %eax, %eax
1:  movl $1, %ecx
    vmfunc
    xorl %ecx, %ecx
    vmfunc
    decl %esi
    jnz 1b
    hlt
payload_end eptp_switch

/* VMFUNC with EAX and ECX as they are. */
payload eptp_vmfunc
    try eptp_vmfunc vmfunc
    hlt
payload_end eptp_vmfunc

/* To view ECX; what may be done with the page at EBX, which begins with RET, again and again. */
payload eptp_loop
    xorl %eax, %eax
    movl %esp, %edi
    vmfunc
1:  xorl %edx, %edx
    allow eptp_loop 1 movl 4(%ebx), %eax
    allow eptp_loop 2 movl %esi, 4(%ebx)
    allow eptp_loop 4 call *%ebx
    movl %edi, %esp
    allow_emulated eptp_loop 8 movl 4(%ebx), %eax
    allow_emulated eptp_loop 16 movl %esi, 4(%ebx)
    outb %al, $0x80
    jmp 1b
payload_end eptp_loop

/* To view ECX; reads at EBX again and again. */
payload eptp_read
    xorl %eax, %eax
    vmfunc
1:  movl (%ebx), %edx
    outb %al, $0x80
    jmp 1b
payload_end eptp_read

/*
 * To view ECX; of 16 pages at EBX writes those whose bit is set in ESI, reads the others. At their
 * beginning: Bochs 2.7 logs addresses for PML, where KVM expects pages.
 */
payload eptp_pages
    xorl %eax, %eax
    vmfunc
    movl $16, %edi
1:  movl (%ebx), %eax
    testl $1, %esi
    jz 2f
    movl %edi, (%ebx)
2:  addl $4096, %ebx
    shrl %esi
    decl %edi
    jnz 1b
    hlt
payload_end eptp_pages

/* To view ECX; counts until it is told to end. */
payload eptp_count
    xorl %eax, %eax
    vmfunc
1:  incl ROUNDS
    cmpl $0, ARRIVED
    je 1b
    hlt
payload_end eptp_count

/* In SMM, real-mode addresses up to 4 GiB: tells, optionally writes the saved GDTR base. */
    .code16
payload smi_honest
    addr32 incl ARRIVED
    rsm
payload_end smi_honest

payload smi_forging
    addr32 incl ARRIVED
    addr32 movl $0x12345000, SMBASE + 0x8000 + 0x7f74
    rsm
payload_end smi_forging

/* Tables of its own inside SMM, put back by RSM. */
payload smi_loading
    addr32 lidtl OTHER_IDT
    addr32 lgdtl OTHER_GDT
    addr32 incl ARRIVED
    rsm
payload_end smi_loading
    .section .note.GNU-stack, "", @progbits
