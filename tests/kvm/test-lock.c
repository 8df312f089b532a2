// SPDX-License-Identifier: LGPL-2.1-or-later
/* Descriptor-table exiting: after the lock the guest cannot write the registers, by no way. */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "hvfeat.h"

PAYLOAD(desc_all);
PAYLOAD(desc_locked);
PAYLOAD(desc_emulated);
PAYLOAD(desc_flip);
PAYLOAD(task_jump);
PAYLOAD(task_call);
PAYLOAD(task_int);
PAYLOAD(task_arrived);
PAYLOAD(svm_load);
PAYLOAD(svm_run);

#define DESC KVM_HVFEAT_DESC_TABLE

static bool as_started(Vm *vm)
{
    struct kvm_sregs s = vm_sregs(vm, 0);

    return s.idt.base == IDT && s.idt.limit == 0x7ff && s.gdt.base == GDT && s.gdt.limit == 0x3f &&
           !s.ldt.selector && s.tr.selector == SEL_TSS && s.tr.base == TSS;
}

static void instructions(uint64_t mode)
{
    struct kvm_sregs s;
    Vm vm;

    vm_make(&vm, 1, false);
    vm_code(&vm, CODE, desc_locked);
    vm_start(&vm, 0, 0, false);
    is(vm_run(&vm, 0), 0, "without the lock");
    is(vm_read(&vm, SUCCEEDED), 4, "the guest writes all four registers");
    s = vm_sregs(&vm, 0);
    ok(s.idt.limit == 0x7fe && s.gdt.limit == 0x3e && s.ldt.selector == SEL_LDT &&
           s.tr.selector == SEL_TSS2,
       "and has what it wrote");
    vm_free(&vm);

    vm_make(&vm, 1, false);
    is(enable(vm.fd, DESC, mode), 0, "lock with mode %llu", (unsigned long long)mode);
    vm_code(&vm, CODE, desc_locked);
    vm_start(&vm, 0, 0, false);
    is(vm_run(&vm, 0), 0, "the guest runs to its end");
    is(vm_read(&vm, FAULTS), 4, "each of four writes gets #GP");
    is(vm_read(&vm, FAULT_CODE), 0, "with the error code 0");
    is(vm_read(&vm, SUCCEEDED) + vm_read(&vm, FAULTS_OTHER), 0, "none succeeds, or faults else");
    ok(as_started(&vm), "all registers are as before");
    is((vm_read(&vm, SAVED_IDT) & 0xffff) << 16 | (vm_read(&vm, SAVED_GDT) & 0xffff), 0x07ff003f,
       "the guest can read them");
    is(vm_read(&vm, SAVED_TR) & 0xffff, SEL_TSS, "TR too");
    is(counter(vm.fd, DESC, "denied"), 4, "four denials are counted");
    is(counter(vm.fd, DESC, "lgdt"), mode & KVM_HVFEAT_DESC_COUNT ? 1 : 0, "count has its say");

    /* The host is not the guest. */
    s = vm_sregs(&vm, 0);
    s.idt.limit = 0x7ee;
    s.gdt.limit = 0x3e;
    s.ldt = (struct kvm_segment){
        .base = LDT, .limit = 0xff, .selector = SEL_LDT, .type = 2, .present = 1};
    is(ioctl(vm.vcpu[0], KVM_SET_SREGS, &s), 0, "the host may set them");
    s = vm_sregs(&vm, 0);
    ok(s.idt.limit == 0x7ee && s.gdt.limit == 0x3e && s.ldt.selector == SEL_LDT,
       "and they are as it set them");
    disable(vm.fd, DESC);
    vm_code(&vm, CODE, desc_locked);
    vm_start(&vm, 0, 0, false);
    vm_run(&vm, 0);
    is(vm_read(&vm, SUCCEEDED), 4, "unlocked by the host, the guest writes again");
    vm_free(&vm);
}

/* Where KVM emulates an instruction for another reason than an exit for it. */
static void emulator(void)
{
    Vm vm;

    if (access("/sys/module/kvm/parameters/force_emulation_prefix", R_OK)) {
        skip("the emulator's setters", "kvm has no force_emulation_prefix");
        return;
    }
    vm_make(&vm, 1, false);
    vm_code(&vm, CODE, desc_emulated);
    vm_start(&vm, 0, 0, false);
    is(vm_run(&vm, 0), 0, "emulated instructions without the lock");
    is(vm_read(&vm, SUCCEEDED), 4, "write all four registers");
    enable(vm.fd, DESC, KVM_HVFEAT_DESC_LOCK);
    *(uint32_t *)(vm.memory + SUCCEEDED) = 0;
    vm_code(&vm, CODE, desc_emulated);
    vm_start(&vm, 0, 0, false);
    vm.memory[GDT + SEL_TSS2 + 5] = 0x89;
    is(vm_run(&vm, 0), 0, "emulated instructions with the lock");
    is(vm_read(&vm, FAULTS), 4, "get #GP");
    is(vm_read(&vm, SUCCEEDED), 0, "none succeeds");
    is(vm_sregs(&vm, 0).tr.selector, SEL_TSS, "TR is as before");
    is(counter(vm.fd, DESC, "denied"), 4, "four denials are counted");
    vm_free(&vm);
}

#define EVENT "/sys/kernel/tracing/events/kvm/kvm_exit/"

/* Not all emulators intercept task switches: does KVM see this one? */
static bool seen(Vm *vm)
{
    bool amd = access("/sys/module/kvm_amd", F_OK) == 0, found = false;
    char line[256];
    FILE *f;

    write_file(EVENT "filter", amd ? "exit_reason == 0x7d" : "exit_reason == 9");
    write_file("/sys/kernel/tracing/trace", "\n");
    write_file(EVENT "enable", "1");
    vm_run(vm, 0);
    write_file(EVENT "enable", "0");
    f = fopen("/sys/kernel/tracing/trace", "r");
    while (f && fgets(line, sizeof(line), f))
        found = found || strstr(line, "kvm_exit:");
    if (f)
        fclose(f);
    return found;
}

static void task_switch(const char *how, const uint8_t *code, const uint8_t *end)
{
    struct kvm_sregs s;
    bool exits = false;
    Vm vm;

    for (int locked = 0; locked < 2; locked++) {
        vm_make(&vm, 1, false);
        if (locked)
            enable(vm.fd, DESC, KVM_HVFEAT_DESC_LOCK);
        vm_copy(&vm, CODE, code, (size_t)(end - code));
        vm_code(&vm, TASK, task_arrived);
        vm_start(&vm, 0, 0, false);
        if (locked)
            is(vm_run(&vm, 0), 0, "a task switch by %s with the lock", how);
        else
            exits = seen(&vm);
        s = vm_sregs(&vm, 0);
        if (!locked) {
            ok(vm_read(&vm, ARRIVED) == 1 && s.tr.selector == SEL_TSS2,
               "a task switch by %s without the lock arrives in the new task", how);
            if (!exits) {
                skip("task switches with the lock", "hardware: this CPU does not intercept them");
                vm_free(&vm);
                return;
            }
        } else {
            ok(vm_read(&vm, ARRIVED) == 0 && s.tr.selector == SEL_TSS && s.tr.base == TSS,
               "stays in the old task");
            ok(vm_read(&vm, FAULTS) == 1 && vm_read(&vm, FAULT_CODE) == 0, "gets #GP(0)");
            is(counter(vm.fd, DESC, "denied"), 1, "is counted as denied");
            ok(as_started(&vm), "all registers are as before");
        }
        vm_free(&vm);
    }
}

static void *flip(void *data)
{
    Vm *vm = data;

    vm_interrupt_after(vm, 0, 400);
    while (vm_run(vm, 0) >= 0)
        ;
    return NULL;
}

/* When ENABLE returns, the lock is in force on a vCPU that runs meanwhile. */
static void while_running(void)
{
    uint32_t before, after;
    pthread_t thread;
    long long denied;
    Vm vm;

    vm_make(&vm, 1, false);
    vm_code(&vm, CODE, desc_flip);
    vm_start(&vm, 0, 0, true);
    pthread_create(&thread, NULL, flip, &vm);
    while (vm_read(&vm, SUCCEEDED) < 1000)
        usleep(1000);
    enable(vm.fd, DESC, KVM_HVFEAT_DESC_LOCK);
    before = vm_read(&vm, SUCCEEDED);
    pthread_join(thread, NULL);
    after = vm_read(&vm, SUCCEEDED);
    /* One more may have been executed and not yet counted by the guest. */
    ok(after - before <= 1, "no write succeeds after ENABLE has returned (%u before, %u after)",
       before, after - before);
    ok(vm_read(&vm, FAULTS) > 100, "the guest has tried on and got #GP (%u)", vm_read(&vm, FAULTS));
    /* The last #GP may not have been delivered. */
    denied = counter(vm.fd, DESC, "denied") - vm_read(&vm, FAULTS);
    ok(denied == 0 || denied == 1, "as often as was denied (%lld more)", denied);
    vm_free(&vm);
}

/* EFER.SVME and paging, without which KVM has no SVM for a guest */
static void svme(Vm *vm)
{
    struct kvm_sregs s = vm_sregs(vm, 0);

    *(uint32_t *)(vm->memory + 0x20000) = 0x83; /* 4 MiB, present, writable */
    s.cr3 = 0x20000;
    s.cr4 |= 0x10;
    s.cr0 |= 1u << 31;
    s.efer |= 1 << 12;
    if (ioctl(vm->vcpu[0], KVM_SET_SREGS, &s))
        die("EFER.SVME");
}

/* VMLOAD writes LDTR and TR; VMRUN could run the guest with any registers. */
static void nested_svm(void)
{
    Vm vm;

    if (access("/sys/module/kvm_amd", F_OK)) {
        skip("VMLOAD and VMRUN", "hardware: not SVM");
        return;
    }
    for (int locked = 0; locked < 2; locked++) {
        vm_make(&vm, 1, false);
        vm_cpuid(&vm, 0);
        if (locked)
            enable(vm.fd, DESC, KVM_HVFEAT_DESC_LOCK);
        vm_code(&vm, CODE, svm_load);
        vm_start(&vm, 0, 0, false);
        svme(&vm);
        is(vm_run(&vm, 0), 0, "VMSAVE and VMLOAD, %s the lock", locked ? "with" : "without");
        is(vm_read(&vm, SUCCEEDED), locked ? 1 : 2, "%s",
           locked ? "only VMSAVE succeeds" : "both succeed");
        is(vm_read(&vm, FAULTS), locked, "#GP as the lock says");
        vm_free(&vm);
    }
    vm_make(&vm, 1, false);
    vm_cpuid(&vm, 0);
    enable(vm.fd, DESC, KVM_HVFEAT_DESC_LOCK);
    vm_code(&vm, CODE, svm_run);
    vm_start(&vm, 0, 0, false);
    svme(&vm);
    ioctl(vm.vcpu[0], KVM_SET_MSRS, &(struct {
              struct kvm_msrs h;
              struct kvm_msr_entry e;
          }){{.nmsrs = 1}, {.index = 0xc0010117, .data = 0x9000}});
    is(vm_run(&vm, 0), 0, "VMRUN with the lock");
    ok(vm_read(&vm, FAULTS) == 1 && vm_read(&vm, SUCCEEDED) == 0, "gets #GP");
    vm_free(&vm);
}

void test_lock(void)
{
    instructions(KVM_HVFEAT_DESC_LOCK);
    instructions(KVM_HVFEAT_DESC_LOCK | KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_TRACE);
    emulator();
    task_switch("JMP", task_jump, task_jump_end);
    task_switch("CALL", task_call, task_call_end);
    task_switch("INT through a task gate", task_int, task_int_end);
    while_running();
    nested_svm();
}
