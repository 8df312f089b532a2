// SPDX-License-Identifier: LGPL-2.1-or-later
/* Descriptor-table exiting: count and trace. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "hvfeat.h"

PAYLOAD(desc_all);

static const char *const insns[] = {"sidt", "sgdt", "sldt", "str", "lidt", "lgdt", "lldt", "ltr"};
#define DESC KVM_HVFEAT_DESC_TABLE

static bool run_all(Vm *vm, uint32_t rounds)
{
    struct kvm_sregs s;

    vm_code(vm, CODE, desc_all);
    vm_start(vm, 0, rounds, false);
    if (vm_run(vm, 0))
        return false;
    s = vm_sregs(vm, 0);
    return s.idt.base == IDT && s.idt.limit == 0x7ff && s.gdt.base == GDT && s.gdt.limit == 0x3f &&
           s.ldt.selector == SEL_LDT && s.ldt.base == LDT && s.tr.selector == SEL_TSS &&
           s.tr.base == TSS && !vm_read(vm, FAULTS);
}

/* All counters, if they are equal; else -1 and a line for each. */
static long long all_counters(Vm *vm)
{
    long long first = counter(vm->fd, DESC, insns[0]);

    for (int i = 1; i < 8; i++)
        if (counter(vm->fd, DESC, insns[i]) != first) {
            for (i = 0; i < 8; i++)
                printf("# %s %lld\n", insns[i], counter(vm->fd, DESC, insns[i]));
            return -1;
        }
    return first;
}

static void count(void)
{
    static const uint32_t rounds[] = {1, 100, 1000};
    long long sum = 0;
    Vm vm;

    vm_make(&vm, 1, false);
    ok(run_all(&vm, 10), "off: the guest uses all eight instructions");
    is(all_counters(&vm), 0, "off: none is counted");
    is(enable(vm.fd, DESC, KVM_HVFEAT_DESC_COUNT), 0, "count is on");
    for (int i = 0; i < 3; i++) {
        ok(run_all(&vm, rounds[i]), "count: %u rounds have their effects", rounds[i]);
        sum += rounds[i];
        is(all_counters(&vm), sum, "count: each of eight counters is exact after them");
    }
    is(counter(vm.fd, DESC, "denied"), 0, "count: nothing is denied");
    disable(vm.fd, DESC);
    ok(run_all(&vm, 10), "off again: the guest uses them");
    is(all_counters(&vm), sum, "off again: none is counted");
    vm_free(&vm);
}

/* A VM has its own setting; one made after the other's end begins with none. */
static void isolation(void)
{
    Vm a, b;

    vm_make(&a, 1, false);
    vm_make(&b, 1, false);
    enable(a.fd, DESC, KVM_HVFEAT_DESC_COUNT);
    run_all(&a, 3);
    run_all(&b, 5);
    is(all_counters(&a), 3, "one VM counts its own");
    is(all_counters(&b), 0, "another VM does not count");
    vm_free(&a);
    vm_free(&b);
    vm_make(&a, 1, false);
    is(all_counters(&a), 0, "a new VM begins at 0");
    vm_free(&a);
    /* As a VMM itself would ask */
    vm_make(&a, 1, false);
    is(ioctl(a.fd, KVM_CHECK_EXTENSION, 0x48560000), 7, "KVM_CHECK_EXTENSION knows it");
    is(ioctl(a.fd, KVM_ENABLE_CAP, &(struct kvm_enable_cap){.cap = 0x48560000, .args = {1}}), 0,
       "KVM_ENABLE_CAP by the VMM");
    run_all(&a, 2);
    is(all_counters(&a), 2, "counts the same");
    is(ioctl(a.fd, KVM_ENABLE_CAP, &(struct kvm_enable_cap){.cap = 0x48560000, .args = {8}}), -1,
       "KVM_ENABLE_CAP of an unknown mode fails");
    vm_free(&a);
}

#define TRACING "/sys/kernel/tracing/"

static void trace(void)
{
    int lines[8] = {0}, all = 0;
    char line[256];
    FILE *f;
    Vm vm;

    if (access(TRACING "events/kvm_hvf/kvm_desc_table/enable", W_OK)) {
        ok(false, "the tracepoint kvm_hvf:kvm_desc_table is there");
        return;
    }
    vm_make(&vm, 1, false);
    write_file(TRACING "events/kvm_hvf/kvm_desc_table/enable", "1");
    write_file(TRACING "trace", "\n");
    enable(vm.fd, DESC, KVM_HVFEAT_DESC_COUNT);
    run_all(&vm, 5);
    enable(vm.fd, DESC, KVM_HVFEAT_DESC_TRACE);
    ok(run_all(&vm, 5), "trace: the guest uses all eight instructions");
    write_file(TRACING "events/kvm_hvf/kvm_desc_table/enable", "0");
    is(all_counters(&vm), 5, "trace alone does not count");
    f = fopen(TRACING "trace", "r");
    while (f && fgets(line, sizeof(line), f))
        for (int i = 0; i < 8; i++) {
            char word[16];

            snprintf(word, sizeof(word), " %s\n", insns[i]);
            if (strstr(line, "kvm_desc_table: vcpu 0 rip 0x100") && strstr(line, word)) {
                lines[i]++;
                all++;
            }
        }
    if (f)
        fclose(f);
    is(all, 40, "trace: 5 rounds of 8 make 40 lines, count makes none");
    for (int i = 0; i < 8; i++)
        if (lines[i] != 5)
            ok(false, "trace: %d lines of %s instead of 5", lines[i], insns[i]);
    vm_free(&vm);
}

void test_desc(void)
{
    count();
    isolation();
    trace();
}
