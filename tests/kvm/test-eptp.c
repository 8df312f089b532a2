// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * EPTP switching: what a view allows, and that VMFUNC costs no exits. Needs VMX with VMFUNC;
 * elsewhere requests are refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "eptp.h"

PAYLOAD(eptp_switch);
PAYLOAD(smi_honest);

/* Where no CPU of this vendor has it: each request says so, and a bad one what is bad. */
void test_eptp_refused(void)
{
    struct kvm_hvfeat_info i;
    struct kvm_hvfeat_view v;
    Vm vm;

    vm_make(&vm, 1, false);
    is(enable(vm.fd, EPTP, 1), ENXIO, "eptp-switching: ENABLE is refused");
    is(view_create(&vm, 1, R), ENXIO, "VIEW_CREATE is refused");
    is(view_set(&vm, 1, R, DATA, 1), ENXIO, "VIEW_SET_ACCESS is refused");
    is(view_destroy(&vm, 1), ENXIO, "VIEW_DESTROY is refused");
    v = (struct kvm_hvfeat_view){{KVM_HVFEAT_ABI, EPTP, vm.fd, 0}, 1, 0, 0, 0, 0, 0};
    is(request(KVM_HVFEAT_VIEW_GET, &v), ENXIO, "VIEW_GET is refused");
    v.target.feature = KVM_HVFEAT_DESC_TABLE;
    is(request(KVM_HVFEAT_VIEW_GET, &v), EINVAL, "a view of another feature");
    v.target.abi++;
    is(request(KVM_HVFEAT_VIEW_GET, &v), EPROTO, "a view with another ABI");
    is(view_request(KVM_HVFEAT_VIEW_CREATE, -1, 1, R, 0, 0), EBADF, "a view of no VM");
    is(view_request(KVM_HVFEAT_VIEW_CREATE, vm.fd, 1, R, 1, 0), EINVAL, "CREATE with a page");
    is(view_request(KVM_HVFEAT_VIEW_DESTROY, vm.fd, 1, R, 0, 0), EINVAL, "DESTROY with access");
    is(request(KVM_HVFEAT_VIEW_GET, NULL), EFAULT, "VIEW_GET at a bad pointer");
    info(vm.fd, EPTP, &i);
    ok(i.reason == KVM_HVFEAT_REASON_OTHER_VENDOR && !(i.flags & KVM_HVFEAT_PER_VM),
       "and the report says that it is the other vendor's");
    is(ioctl(vm.fd, KVM_CHECK_EXTENSION, 0x48560003), 0, "KVM_CHECK_EXTENSION: not here");
    vm_free(&vm);
}

static void errors(void)
{
    struct kvm_hvfeat_info i;
    struct kvm_hvfeat_view v;
    char data[KVM_HVFEAT_STATE_MAX];
    uint32_t size = sizeof(data);
    int r = 0;
    Vm vm;

    vm_make(&vm, 1, false);
    info(vm.fd, EPTP, &i);
    is((long long)i.param_max, 511, "views may be up to 511");
    ok(!(i.flags & (KVM_HVFEAT_VM_ON | KVM_HVFEAT_STATE)) && (i.flags & KVM_HVFEAT_PER_VM),
       "eptp-switching is off in a new VM; its state does not travel");
    is(view_create(&vm, 1, R), ENOENT, "no view while it is off");
    is(enable(vm.fd, EPTP, 0), ERANGE, "no views");
    is(enable(vm.fd, EPTP, 512), ERANGE, "too many views");
    is(enable(vm.fd, EPTP, 4), 0, "four views");
    is(view_create(&vm, 0, R), ERANGE, "view 0 is not made");
    is(view_create(&vm, 5, R), ERANGE, "nor one beyond the greatest index");
    is(view_create(&vm, 512, R), ERANGE, "nor view 512");
    is(view_create(&vm, 1, W), EINVAL, "no view that may write and not read");
    is(view_create(&vm, 1, W | X), EINVAL, "nor write and execute");
    is(view_create(&vm, 1, 8), EINVAL, "an unknown access");
    is(view_create(&vm, 4, R | W | X), 0, "view 4");
    is(view_create(&vm, 4, R), EEXIST, "view 4 again");
    is(view_destroy(&vm, 3), ENOENT, "view 3 is not there");
    is(enable(vm.fd, EPTP, 3), EBUSY, "three views, while there is view 4");
    is(enable(vm.fd, EPTP, 8), 0, "eight views");
    is(view_set(&vm, 3, R, DATA, 1), ENOENT, "access in a view that is not there");
    is(view_set(&vm, 4, R, DATA, 0), ERANGE, "access to no page");
    is(view_set(&vm, 4, W, DATA, 1), EINVAL, "access to write and not to read");
    is(view_set(&vm, 4, R, (1ULL << 48) - PAGE, 2), ERANGE, "access beyond 2^48 bytes");
    is(view_set(&vm, 4, R, 0, ~0ULL), ERANGE, "access to more pages than there are");
    is(get_state(vm.fd, EPTP, data, &size), ENODATA, "its state cannot be taken");
    is(set_state(vm.fd, EPTP, data, 168, 1), ENODATA, "nor set");

    is(view_set(&vm, 4, R, 0, 1ULL << 36), 0, "access to all pages");
    is(view_set(&vm, 4, R | X, 10 * PAGE, 10), 0, "to ten in their midst");
    is(view_set(&vm, 4, 0, 15 * PAGE, 1), 0, "to one in theirs");
    v = view_get(&vm, 4, 15 * PAGE);
    ok(v.access == (R | W | X) && v.gfn_access == 0 && v.ranges == 5, "are 5 ranges");
    ok(view_get(&vm, 4, 9 * PAGE).gfn_access == R &&
           view_get(&vm, 4, 10 * PAGE).gfn_access == (R | X) &&
           view_get(&vm, 4, 16 * PAGE).gfn_access == (R | X) &&
           view_get(&vm, 4, 20 * PAGE).gfn_access == R,
       "each page has the access of its range");
    is(view_set(&vm, 4, R, 5 * PAGE, 20), 0, "what is set again");
    is(view_get(&vm, 4, 0).ranges, 1, "becomes one range with its neighbours");
    view_set(&vm, 4, R | W | X, 0, 1ULL << 36);
    is(view_get(&vm, 4, 0).ranges, 0, "what is as the view's own is none");
    for (unsigned n = 0; n < 1024 && !r; n++)
        r = view_set(&vm, 4, R, n * 2ULL * PAGE, 1);
    is(r, 0, "a view may have 1024 ranges");
    is(view_set(&vm, 4, R, 5000 * PAGE, 1), ENOSPC, "and not more");
    is(view_get(&vm, 4, 0).ranges, 1024, "which changes nothing");
    is(view_destroy(&vm, 4), 0, "view 4 is destroyed");
    is(view_destroy(&vm, 4), ENOENT, "once");
    is(disable(vm.fd, EPTP), 0, "off");
    is(disable(vm.fd, EPTP), 0, "off again");
    vm_free(&vm);
}

static void indices(void)
{
    static const uint32_t absent[] = {2, 3, 4, 511, 512, 513, 65536, 0xffffffff};
    int wrong = 0;
    Vm vm;

    vm_make(&vm, 1, false);
    is(eptp_try_vmfunc(&vm, 0, 0), 6, "off: VMFUNC is #UD");
    enable(vm.fd, EPTP, 3);
    is(eptp_try_vmfunc(&vm, 0, 0), 0, "on: view 0 is there");
    is(eptp_try_vmfunc(&vm, 0, 1), 13, "view 1 is not: #GP");
    is(view_create(&vm, 1, R | W | X), 0, "view 1 is made");
    is(eptp_try_vmfunc(&vm, 0, 1), 0, "and is there");
    for (unsigned i = 0; i < sizeof(absent) / sizeof(*absent); i++)
        wrong += eptp_try_vmfunc(&vm, 0, absent[i]) != 13;
    is(wrong, 0, "each index without a view is #GP");
    is(counter(vm.fd, EPTP, "bad_index"), 9, "and is counted");
    is(eptp_try_vmfunc(&vm, 1, 0), 6, "another function is #UD");
    is(eptp_try_vmfunc(&vm, 63, 0), 6, "function 63");
    is(eptp_try_vmfunc(&vm, 64, 0), 6, "function 64");
    is(eptp_try_vmfunc(&vm, 0xffffffff, 0), 6, "function 4294967295");
    is(counter(vm.fd, EPTP, "denied"), 0, "no access was denied");
    disable(vm.fd, EPTP);
    is(eptp_try_vmfunc(&vm, 0, 0), 6, "off again: VMFUNC is #UD");
    vm_free(&vm);
}

static long long switches(Vm *vm, uint32_t pairs)
{
    long long before;

    vm_code(vm, CODE, eptp_switch);
    eptp_start(vm, 0, 0, pairs, 0, 0);
    before = eptp_exits(vm, 0);
    return vm_run(vm, 0) ? -1 : eptp_exits(vm, 0) - before;
}

static void cost(void)
{
    long long two, many;
    Vm vm;

    eptp_make(&vm, 1, 1);
    is(view_create(&vm, 1, R | W | X), 0, "view 1");
    ok(switches(&vm, 1) > 0, "the first two switches");
    two = switches(&vm, 1);
    many = switches(&vm, 1000);
    printf("# exits: %lld for 2 switches, %lld for 2000\n", two, many);
    ok(two > 0 && two == many, "2 and 2000 switches cost the same number of exits");
    vm_free(&vm);
}

static void access_matrix(void)
{
    static const struct {
        uint32_t access;
        int allowed;
        const char *name;
    } rows[] = {
        {0, 0, "nothing"},
        {R, R | ER, "read"},
        {R | W, R | W | ER | EW, "read and write"},
        {R | X, R | X | ER, "read and execute"},
        {R | W | X, ALL, "all"},
        {X, X, "execute"},
    };
    long long denied;
    Vm vm;

    eptp_make(&vm, 1, 2);
    view_create(&vm, 1, R | W | X);
    is(eptp_begin(&vm, 0, 0, DATA), ALL, "in view 0 the guest may do all");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        int r = view_set(&vm, 1, rows[i].access, DATA, 1);

        if (r == EINVAL && rows[i].access == X) {
            skip("execute alone", "this CPU's EPT cannot");
            continue;
        }
        is(r, 0, "view 1 allows %s of a page", rows[i].name);
        denied = counter(vm.fd, EPTP, "denied");
        is(eptp_begin(&vm, 0, 1, DATA), rows[i].allowed, "the guest can %s", rows[i].name);
        is(counter(vm.fd, EPTP, "denied") - denied,
           __builtin_popcount((unsigned)(ALL & ~rows[i].allowed)), "each other access is counted");
        is(eptp_begin(&vm, 0, 1, DATA + PAGE), ALL, "its neighbour is not touched");
        is(eptp_begin(&vm, 0, 0, DATA), ALL, "in view 0 all is allowed");
    }
    is(vm_read(&vm, FAULT_CODE), 0, "the error code of #GP is 0");
    /* The other way about: a view that has nothing but what it needs */
    is(view_create(&vm, 2, 0), 0, "a view of nothing");
    view_set(&vm, 2, R | W, 0, 16);
    view_set(&vm, 2, R | W | X, HANDLER_CODE, 1);
    view_set(&vm, 2, R | X, CODE, 1);
    is(eptp_begin(&vm, 0, 2, DATA), 0,
       "but the guest's tables, stack and code: no access elsewhere");
    view_set(&vm, 2, 0, IDT, 1);
    eptp_begin(&vm, 0, 0, DATA);
    eptp_start(&vm, 0, 0, 2, DATA, 0);
    is(vm_run(&vm, 0), KVM_EXIT_SHUTDOWN, "without the IDT a denied access shuts the VM down");
    vm_free(&vm);
}

/* Permissions change while a vCPU is in the view. */
static void changes(void)
{
    Vm vm;

    eptp_make(&vm, 1, 1);
    view_create(&vm, 1, R | W | X);
    is(eptp_begin(&vm, 0, 1, DATA), ALL, "the guest may do all");
    view_set(&vm, 1, R, DATA, 1);
    is(eptp_round(&vm, 0), R | ER, "set to read: it only reads");
    view_set(&vm, 1, 0, 0x180000, 0x100);
    is(eptp_round(&vm, 0), 0, "a range around the page set to nothing: it does nothing");
    view_set(&vm, 1, R | W | X, 0x180000, 0x100);
    is(eptp_round(&vm, 0), ALL, "set to all: it does all");
    is(counter(vm.fd, EPTP, "denied"), 3 + 5, "denied accesses are counted");
    vm_free(&vm);
}

static void events(void)
{
    int s = events_open();
    struct event e;
    Vm vm;

    if (s < 0)
        die("generic netlink");
    eptp_make(&vm, 2, 7);
    view_create(&vm, 7, R | W | X);
    view_set(&vm, 7, R | X, DATA, 1);
    e = events_next(s, 1000);
    ok(e.event == KVM_HVFEAT_EVENT_ENABLED && e.feature == EPTP && e.pid == (uint32_t)getpid(),
       "ENABLED is told");
    eptp_begin(&vm, 1, 7, DATA);
    e = events_next(s, 1000);
    ok(e.event == KVM_HVFEAT_EVENT_DENIED && e.feature == EPTP && e.pid == (uint32_t)getpid() &&
           e.vcpu == 1 && e.count == 1 && e.view == 7 && e.gfn == DATA / PAGE &&
           (e.access & ~(uint32_t)R) == W && e.rip >= CODE && e.rip < CODE + PAGE,
       "DENIED with vCPU %u, view %u, page 0x%llx, access %u, at 0x%llx", e.vcpu, e.view,
       (unsigned long long)e.gfn, e.access, (unsigned long long)e.rip);
    e = events_next(s, 1000);
    ok(e.event == KVM_HVFEAT_EVENT_DENIED && e.access == W, "and one for the emulator's access");
    vm_free(&vm);
    close(s);
}

/* SMM is in no view; RSM returns to the one before. */
static void smm(void)
{
    Vm vm;

    eptp_make(&vm, 1, 1);
    view_create(&vm, 1, R | W | X);
    view_set(&vm, 1, R, DATA, 1);
    view_set(&vm, 1, 0, SMBASE, 16);
    vm_code(&vm, SMBASE + 0x8000, smi_honest);
    is(eptp_begin(&vm, 0, 1, DATA), R | ER, "in view 1");
    *(uint32_t *)(vm.memory + ARRIVED) = 0;
    if (ioctl(vm.vcpu[0], KVM_SMI))
        skip("SMM in a view", "KVM_SMI is not there");
    else {
        is(eptp_round(&vm, 0), R | ER, "after an SMI it is in view 1");
        is(vm_read(&vm, ARRIVED), 1, "SMM ran, where view 1 has nothing");
        is(eptp_round(&vm, 0), R | ER, "and stays in view 1");
    }
    vm_free(&vm);
}

void test_eptp(void)
{
    errors();
    indices();
    cost();
    access_matrix();
    changes();
    events();
    test_eptp_memory();
    smm();
}
