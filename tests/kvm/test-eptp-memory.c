// SPDX-License-Identifier: LGPL-2.1-or-later
/* EPTP switching: views follow the VM's memory, its dirty log and its vCPUs, and go with it. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "eptp.h"

PAYLOAD(eptp_read);
PAYLOAD(eptp_pages);
PAYLOAD(eptp_count);

/* What a guest in eptp_read reads next; -exit reason if it is not memory. */
static long long next_read(Vm *vm, int n)
{
    int r = vm_run(vm, n);

    /* MMIO is completed by the next run. */
    return r == KVM_EXIT_IO ? (long long)eptp_edx(vm, n) : -r;
}

static void memslots(uint32_t view)
{
    uint8_t *one = eptp_pages_new(0x11), *two = eptp_pages_new(0x22);
    Vm vm;

    eptp_make(&vm, 1, 3);
    view_create(&vm, 1, R | W | X);
    view_create(&vm, 3, R | X);
    view_set(&vm, 3, R | W, 0, 16);
    eptp_slot(&vm, EXTRA, one, EXTRA_PAGES, 0);
    vm_code(&vm, CODE, eptp_read);
    eptp_start(&vm, 0, 0, view, EXTRA, 0);
    is(next_read(&vm, 0), 0x11111111, "view %u: a slot's memory", view);
    memset(one, 0x12, PAGE);
    is(next_read(&vm, 0), 0x12121212, "view %u: what the host writes is seen", view);
    eptp_slot(&vm, EXTRA, one, 0, 0);
    is(next_read(&vm, 0), -KVM_EXIT_MMIO, "view %u: deleted, it is no memory", view);
    eptp_slot(&vm, EXTRA, two, EXTRA_PAGES, 0);
    vm_run(&vm, 0);
    is(next_read(&vm, 0), 0x22222222, "view %u: other memory is added there", view);
    eptp_slot(&vm, EXTRA + 0x100000, two, EXTRA_PAGES, 0);
    is(next_read(&vm, 0), -KVM_EXIT_MMIO, "view %u: moved away, it is no memory", view);
    vm_run(&vm, 0);
    eptp_start(&vm, 0, 0, view, EXTRA + 0x100000, 0);
    is(next_read(&vm, 0), 0x22222222, "view %u: but where it was moved to", view);
    /* The host's pages change below the slot: MMU notifiers. */
    if (mmap(two, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != two)
        die("mmap");
    is(next_read(&vm, 0), 0, "view %u: new pages below the slot are seen", view);
    memset(two, 0x33, PAGE);
    is(next_read(&vm, 0), 0x33333333, "view %u: and written by the host", view);
    madvise(two, PAGE, MADV_DONTNEED);
    is(next_read(&vm, 0), 0, "view %u: dropped pages are gone", view);
    vm_free(&vm);
    munmap(one, EXTRA_PAGES * PAGE);
    munmap(two, EXTRA_PAGES * PAGE);
}

static uint64_t dirty(Vm *vm)
{
    uint64_t bitmap[1] = {0};
    struct kvm_dirty_log log = {.slot = EXTRA_SLOT, .dirty_bitmap = bitmap};

    if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
        die("KVM_GET_DIRTY_LOG");
    return bitmap[0];
}

/* The guest writes, in a view, the pages whose bit is set and reads the others. */
static bool touch(Vm *vm, uint32_t view, uint32_t mask)
{
    vm_code(vm, CODE, eptp_pages);
    eptp_start(vm, 0, 0, view, EXTRA, mask);
    return vm_run(vm, 0) == 0;
}

static void dirty_log(void)
{
    static const struct {
        uint32_t view, mask;
    } rounds[] = {{1, 0x0001}, {1, 0x8421}, {0, 0x00f0}, {1, 0x0000}, {2, 0x00f0}, {1, 0x00ff},
                  {1, 0x00ff}, {2, 0xffff}, {0, 0x0001}, {1, 0x0001}, {2, 0x0000}};
    uint8_t *memory = eptp_pages_new(0);
    Vm vm;

    eptp_make(&vm, 1, 2);
    view_create(&vm, 1, R | W | X);
    view_create(&vm, 2, R | W | X);
    eptp_slot(&vm, EXTRA, memory, EXTRA_PAGES, 0);
    ok(touch(&vm, 0, 0xffff) && touch(&vm, 1, 0xffff) && touch(&vm, 2, 0xffff),
       "all pages are written in all views");
    eptp_slot(&vm, EXTRA, memory, EXTRA_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
    /* What is in the log before: stock KVM counts a page whose first touch is a read. */
    ok(touch(&vm, 0, 0) && touch(&vm, 1, 0) && touch(&vm, 2, 0), "the log is on, all are read");
    dirty(&vm);
    for (unsigned i = 0; i < sizeof(rounds) / sizeof(*rounds); i++) {
        bool ran = touch(&vm, rounds[i].view, rounds[i].mask);
        uint64_t found = dirty(&vm);

        ok(ran && found == rounds[i].mask, "round %u: 0x%x written in view %u, the log says 0x%llx",
           i, rounds[i].mask, rounds[i].view, (unsigned long long)found);
    }
    ok(touch(&vm, 1, 0x0003) && touch(&vm, 2, 0x000c) && touch(&vm, 0, 0x0030),
       "three views write between two looks");
    is((long long)dirty(&vm), 0x3f, "the log has the pages of all");
    eptp_slot(&vm, EXTRA, memory, EXTRA_PAGES, 0);
    ok(touch(&vm, 1, 0xffff), "the log is off, all are written");
    eptp_slot(&vm, EXTRA, memory, EXTRA_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
    ok(touch(&vm, 1, 0x0010), "on again");
    ok(dirty(&vm) & 0x0010, "and it has what is written");
    vm_free(&vm);
    munmap(memory, EXTRA_PAGES * PAGE);
}

static void *spin(void *data)
{
    Vm *vm = data;

    vm_interrupt_after(vm, 0, 60000);
    vm_run(vm, 0);
    vm_interrupt_after(vm, 0, 0);
    return NULL;
}

static void vcpus(void)
{
    pthread_t thread;
    uint32_t counted;
    Vm vm;

    eptp_make(&vm, 3, 2);
    view_create(&vm, 1, R | W | X);
    view_create(&vm, 2, R | W | X);
    view_set(&vm, 1, R, DATA, 1);
    view_set(&vm, 2, R | X, DATA, 1);
    is(eptp_begin(&vm, 0, 1, DATA), R | ER, "vCPU 0 is in view 1");
    is(eptp_begin(&vm, 1, 2, DATA), R | X | ER, "vCPU 1 is in view 2");
    is(eptp_begin(&vm, 2, 0, DATA), ALL, "vCPU 2 is in view 0");
    is(eptp_round(&vm, 0), R | ER, "vCPU 0 still is in view 1");
    is(eptp_round(&vm, 2), ALL, "vCPU 2 still is in view 0");
    is(eptp_round(&vm, 1), R | X | ER, "vCPU 1 still is in view 2");
    view_set(&vm, 1, R | W, DATA, 1);
    is(eptp_round(&vm, 1), R | X | ER, "a change of view 1 is not one of view 2");
    is(eptp_round(&vm, 0), R | W | ER | EW, "but of view 1");

    memset(vm.memory + FAULTS, 0, 16);
    /* One runs in a view while the view is destroyed: it goes on in view 0. */
    vm_code(&vm, CODE, eptp_count);
    eptp_start(&vm, 0, 0, 1, 0, 0);
    pthread_create(&thread, NULL, spin, &vm);
    while (vm_read(&vm, ROUNDS) < 1000)
        usleep(1000);
    is(view_destroy(&vm, 1), 0, "view 1 is destroyed while vCPU 0 runs in it");
    counted = vm_read(&vm, ROUNDS);
    while (vm_read(&vm, ROUNDS) - counted < 1000)
        usleep(1000);
    ok(true, "vCPU 0 goes on");
    is(view_create(&vm, 1, R), 0, "another view 1 is made, where its code is not to be executed");
    counted = vm_read(&vm, ROUNDS);
    while (vm_read(&vm, ROUNDS) - counted < 1000)
        usleep(1000);
    ok(!vm_read(&vm, FAULTS), "and vCPU 0 is not in it");
    is(disable(vm.fd, EPTP), 0, "off while it runs");
    *(volatile uint32_t *)(vm.memory + ARRIVED) = 1;
    pthread_join(thread, NULL);
    is(vm.run[0]->exit_reason, KVM_EXIT_HLT, "and it ends as it should");
    vm_free(&vm);
}

static void teardown(void)
{
    Vm vm;

    eptp_make(&vm, 1, 2);
    view_create(&vm, 1, R | W | X);
    view_set(&vm, 1, R, DATA, 1);
    is(eptp_begin(&vm, 0, 1, DATA), R | ER, "in view 1");
    view_destroy(&vm, 1);
    is(eptp_round(&vm, 0), ALL, "view 1 is destroyed: the guest is in view 0");
    view_create(&vm, 1, R | W | X);
    view_set(&vm, 1, R | X, DATA, 1);
    is(eptp_round(&vm, 0), ALL, "made again: it stays there");
    is(eptp_begin(&vm, 0, 1, DATA), R | X | ER, "and gets there by VMFUNC");
    view_destroy(&vm, 1);
    view_create(&vm, 1, 0);
    is(eptp_round(&vm, 0), ALL, "destroyed and made again between two runs: it is in view 0");
    view_set(&vm, 1, R | W | X, 0, 0x1000);
    view_set(&vm, 1, R, DATA, 1);
    is(eptp_begin(&vm, 0, 1, DATA), R | ER, "in view 1 again");
    disable(vm.fd, EPTP);
    is(eptp_round(&vm, 0), ALL, "off: view 0");
    is(eptp_try_vmfunc(&vm, 0, 0), 6, "and VMFUNC is #UD");
    is(enable(vm.fd, EPTP, 511), 0, "on with 511");
    is(view_create(&vm, 511, R | W | X), 0, "view 511");
    view_set(&vm, 511, R, DATA, 1);
    is(eptp_begin(&vm, 0, 511, DATA), R | ER, "in view 511");
    vm_free(&vm);
    ok(true, "a VM with views ends while it is in one");
}

void test_eptp_memory(void)
{
    for (uint32_t view = 0; view < 4; view++)
        if (view != 2)
            memslots(view);
    dirty_log();
    vcpus();
    teardown();
}
