// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * EPTP switching: what a view allows, that it follows the VM's memory, and that VMFUNC costs no
 * exits. Needs VMX with VMFUNC; elsewhere requests are refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "hvfeat.h"

PAYLOAD(eptp_switch);
PAYLOAD(eptp_loop);
PAYLOAD(eptp_read);
PAYLOAD(eptp_pages);
PAYLOAD(eptp_vmfunc);
PAYLOAD(eptp_count);
PAYLOAD(smi_honest);

#define EPTP KVM_HVFEAT_EPTP_SWITCHING
#define R KVM_HVFEAT_VIEW_READ
#define W KVM_HVFEAT_VIEW_WRITE
#define X KVM_HVFEAT_VIEW_EXEC
/* What eptp_loop tells besides: an access by KVM's emulator went well */
#define ER 8
#define EW 16
#define ALL (R | W | X | ER | EW)

#define PAGE 4096
#define DATA 0x200000 /* a page that views restrict */
#define EXTRA 0x800000
#define EXTRA_SLOT 2
#define EXTRA_PAGES 16

static int view_request(unsigned long number, int fd, uint32_t view, uint32_t access, uint64_t gfn,
                        uint64_t pages)
{
    struct kvm_hvfeat_view v = {{KVM_HVFEAT_ABI, EPTP, fd, 0}, view, access, gfn, pages, 0, 0};

    return request(number, &v);
}

static int view_create(const Vm *vm, uint32_t view, uint32_t access)
{
    return view_request(KVM_HVFEAT_VIEW_CREATE, vm->fd, view, access, 0, 0);
}

static int view_destroy(const Vm *vm, uint32_t view)
{
    return view_request(KVM_HVFEAT_VIEW_DESTROY, vm->fd, view, 0, 0, 0);
}

/* Of the pages from an address on */
static int view_set(const Vm *vm, uint32_t view, uint32_t access, uint64_t address, uint64_t pages)
{
    return view_request(KVM_HVFEAT_VIEW_SET_ACCESS, vm->fd, view, access, address / PAGE, pages);
}

static struct kvm_hvfeat_view view_get(const Vm *vm, uint32_t view, uint64_t address)
{
    struct kvm_hvfeat_view v = {
        {KVM_HVFEAT_ABI, EPTP, vm->fd, 0}, view, 0, address / PAGE, 0, 0, 0};

    if (request(KVM_HVFEAT_VIEW_GET, &v))
        v.ranges = ~0u;
    return v;
}

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

static void start(Vm *vm, int n, uint32_t eax, uint32_t ecx, uint32_t ebx, uint32_t esi)
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

static uint32_t edx(Vm *vm, int n)
{
    struct kvm_regs regs;

    if (ioctl(vm->vcpu[n], KVM_GET_REGS, &regs))
        die("KVM_GET_REGS");
    return (uint32_t)regs.rdx;
}

/* One round of eptp_loop on a vCPU that is in it: what it may do. */
static int round_of(Vm *vm, int n)
{
    if (vm_run(vm, n) != KVM_EXIT_IO)
        return -1;
    return (int)edx(vm, n);
}

/* vCPU n begins eptp_loop in a view; what it may do with the page. */
static int begin_in(Vm *vm, int n, uint32_t view, uint32_t page)
{
    vm_code(vm, CODE, eptp_loop);
    vm->memory[page] = 0xc3;
    start(vm, n, 0, view, page, 0x1234);
    return round_of(vm, n);
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

/* But for interrupts of the host, which come when they come */
static long long exits(Vm *vm, int n)
{
    return kvm_stat(vm, n, "exits") - kvm_stat(vm, n, "irq_exits");
}

static void make(Vm *vm, int vcpus, uint32_t views)
{
    vm_make(vm, vcpus, false);
    is(enable(vm->fd, EPTP, views), 0, "eptp-switching is on, with views up to %u", views);
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

/* VMFUNC with EAX and ECX: 0 it went well, else the vector of what it raised. */
static int vmfunc(Vm *vm, uint32_t eax, uint32_t ecx)
{
    memset(vm->memory + FAULTS, 0, 16);
    vm_code(vm, CODE, eptp_vmfunc);
    start(vm, 0, eax, ecx, 0, 0);
    if (vm_run(vm, 0))
        return -1;
    if (vm_read(vm, SUCCEEDED))
        return 0;
    return vm_read(vm, FAULTS) ? 13 : vm_read(vm, FAULTS_OTHER) ? 6 : -1;
}

static void indices(void)
{
    static const uint32_t absent[] = {2, 3, 4, 511, 512, 513, 65536, 0xffffffff};
    int wrong = 0;
    Vm vm;

    vm_make(&vm, 1, false);
    is(vmfunc(&vm, 0, 0), 6, "off: VMFUNC is #UD");
    enable(vm.fd, EPTP, 3);
    is(vmfunc(&vm, 0, 0), 0, "on: view 0 is there");
    is(vmfunc(&vm, 0, 1), 13, "view 1 is not: #GP");
    is(view_create(&vm, 1, R | W | X), 0, "view 1 is made");
    is(vmfunc(&vm, 0, 1), 0, "and is there");
    for (unsigned i = 0; i < sizeof(absent) / sizeof(*absent); i++)
        wrong += vmfunc(&vm, 0, absent[i]) != 13;
    is(wrong, 0, "each index without a view is #GP");
    is(counter(vm.fd, EPTP, "bad_index"), 9, "and is counted");
    is(vmfunc(&vm, 1, 0), 6, "another function is #UD");
    is(vmfunc(&vm, 63, 0), 6, "function 63");
    is(vmfunc(&vm, 64, 0), 6, "function 64");
    is(vmfunc(&vm, 0xffffffff, 0), 6, "function 4294967295");
    is(counter(vm.fd, EPTP, "denied"), 0, "no access was denied");
    disable(vm.fd, EPTP);
    is(vmfunc(&vm, 0, 0), 6, "off again: VMFUNC is #UD");
    vm_free(&vm);
}

static long long switches(Vm *vm, uint32_t pairs)
{
    long long before;

    vm_code(vm, CODE, eptp_switch);
    start(vm, 0, 0, pairs, 0, 0);
    before = exits(vm, 0);
    return vm_run(vm, 0) ? -1 : exits(vm, 0) - before;
}

static void cost(void)
{
    long long two, many;
    Vm vm;

    make(&vm, 1, 1);
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

    make(&vm, 1, 2);
    view_create(&vm, 1, R | W | X);
    is(begin_in(&vm, 0, 0, DATA), ALL, "in view 0 the guest may do all");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        int r = view_set(&vm, 1, rows[i].access, DATA, 1);

        if (r == EINVAL && rows[i].access == X) {
            skip("execute alone", "this CPU's EPT cannot");
            continue;
        }
        is(r, 0, "view 1 allows %s of a page", rows[i].name);
        denied = counter(vm.fd, EPTP, "denied");
        is(begin_in(&vm, 0, 1, DATA), rows[i].allowed, "the guest can %s", rows[i].name);
        is(counter(vm.fd, EPTP, "denied") - denied,
           __builtin_popcount((unsigned)(ALL & ~rows[i].allowed)), "each other access is counted");
        is(begin_in(&vm, 0, 1, DATA + PAGE), ALL, "its neighbour is not touched");
        is(begin_in(&vm, 0, 0, DATA), ALL, "in view 0 all is allowed");
    }
    is(vm_read(&vm, FAULT_CODE), 0, "the error code of #GP is 0");
    /* The other way about: a view that has nothing but what it needs */
    is(view_create(&vm, 2, 0), 0, "a view of nothing");
    view_set(&vm, 2, R | W, 0, 16);
    view_set(&vm, 2, R | W | X, HANDLER_CODE, 1);
    view_set(&vm, 2, R | X, CODE, 1);
    is(begin_in(&vm, 0, 2, DATA), 0, "but the guest's tables, stack and code: no access elsewhere");
    view_set(&vm, 2, 0, IDT, 1);
    begin_in(&vm, 0, 0, DATA);
    start(&vm, 0, 0, 2, DATA, 0);
    is(vm_run(&vm, 0), KVM_EXIT_SHUTDOWN, "without the IDT a denied access shuts the VM down");
    vm_free(&vm);
}

/* Permissions change while a vCPU is in the view. */
static void changes(void)
{
    Vm vm;

    make(&vm, 1, 1);
    view_create(&vm, 1, R | W | X);
    is(begin_in(&vm, 0, 1, DATA), ALL, "the guest may do all");
    view_set(&vm, 1, R, DATA, 1);
    is(round_of(&vm, 0), R | ER, "set to read: it only reads");
    view_set(&vm, 1, 0, 0x180000, 0x100);
    is(round_of(&vm, 0), 0, "a range around the page set to nothing: it does nothing");
    view_set(&vm, 1, R | W | X, 0x180000, 0x100);
    is(round_of(&vm, 0), ALL, "set to all: it does all");
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
    make(&vm, 2, 7);
    view_create(&vm, 7, R | W | X);
    view_set(&vm, 7, R | X, DATA, 1);
    e = events_next(s, 1000);
    ok(e.event == KVM_HVFEAT_EVENT_ENABLED && e.feature == EPTP && e.pid == (uint32_t)getpid(),
       "ENABLED is told");
    begin_in(&vm, 1, 7, DATA);
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

static void slot(Vm *vm, uint32_t address, void *memory, uint32_t pages, uint32_t flags)
{
    struct kvm_userspace_memory_region region = {.slot = EXTRA_SLOT,
                                                 .flags = flags,
                                                 .guest_phys_addr = address,
                                                 .memory_size = pages * PAGE,
                                                 .userspace_addr = (uintptr_t)memory};

    if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
        die("KVM_SET_USER_MEMORY_REGION");
}

static uint8_t *pages_new(uint8_t fill)
{
    uint8_t *p =
        mmap(NULL, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(p, fill, EXTRA_PAGES * PAGE);
    return p;
}

/* What a guest in eptp_read reads next; -exit reason if it is not memory. */
static long long next_read(Vm *vm, int n)
{
    int r = vm_run(vm, n);

    /* MMIO is completed by the next run. */
    return r == KVM_EXIT_IO ? (long long)edx(vm, n) : -r;
}

static void memslots(uint32_t view)
{
    uint8_t *one = pages_new(0x11), *two = pages_new(0x22);
    Vm vm;

    make(&vm, 1, 3);
    view_create(&vm, 1, R | W | X);
    view_create(&vm, 3, R | X);
    view_set(&vm, 3, R | W, 0, 16);
    slot(&vm, EXTRA, one, EXTRA_PAGES, 0);
    vm_code(&vm, CODE, eptp_read);
    start(&vm, 0, 0, view, EXTRA, 0);
    is(next_read(&vm, 0), 0x11111111, "view %u: a slot's memory", view);
    memset(one, 0x12, PAGE);
    is(next_read(&vm, 0), 0x12121212, "view %u: what the host writes is seen", view);
    slot(&vm, EXTRA, one, 0, 0);
    is(next_read(&vm, 0), -KVM_EXIT_MMIO, "view %u: deleted, it is no memory", view);
    slot(&vm, EXTRA, two, EXTRA_PAGES, 0);
    vm_run(&vm, 0);
    is(next_read(&vm, 0), 0x22222222, "view %u: other memory is added there", view);
    slot(&vm, EXTRA + 0x100000, two, EXTRA_PAGES, 0);
    is(next_read(&vm, 0), -KVM_EXIT_MMIO, "view %u: moved away, it is no memory", view);
    vm_run(&vm, 0);
    start(&vm, 0, 0, view, EXTRA + 0x100000, 0);
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
    start(vm, 0, 0, view, EXTRA, mask);
    return vm_run(vm, 0) == 0;
}

static void dirty_log(void)
{
    static const struct {
        uint32_t view, mask;
    } rounds[] = {{1, 0x0001}, {1, 0x8421}, {0, 0x00f0}, {1, 0x0000}, {2, 0x00f0}, {1, 0x00ff},
                  {1, 0x00ff}, {2, 0xffff}, {0, 0x0001}, {1, 0x0001}, {2, 0x0000}};
    uint8_t *memory = pages_new(0);
    Vm vm;

    make(&vm, 1, 2);
    view_create(&vm, 1, R | W | X);
    view_create(&vm, 2, R | W | X);
    slot(&vm, EXTRA, memory, EXTRA_PAGES, 0);
    ok(touch(&vm, 0, 0xffff) && touch(&vm, 1, 0xffff) && touch(&vm, 2, 0xffff),
       "all pages are written in all views");
    slot(&vm, EXTRA, memory, EXTRA_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
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
    slot(&vm, EXTRA, memory, EXTRA_PAGES, 0);
    ok(touch(&vm, 1, 0xffff), "the log is off, all are written");
    slot(&vm, EXTRA, memory, EXTRA_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
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

    make(&vm, 3, 2);
    view_create(&vm, 1, R | W | X);
    view_create(&vm, 2, R | W | X);
    view_set(&vm, 1, R, DATA, 1);
    view_set(&vm, 2, R | X, DATA, 1);
    is(begin_in(&vm, 0, 1, DATA), R | ER, "vCPU 0 is in view 1");
    is(begin_in(&vm, 1, 2, DATA), R | X | ER, "vCPU 1 is in view 2");
    is(begin_in(&vm, 2, 0, DATA), ALL, "vCPU 2 is in view 0");
    is(round_of(&vm, 0), R | ER, "vCPU 0 still is in view 1");
    is(round_of(&vm, 2), ALL, "vCPU 2 still is in view 0");
    is(round_of(&vm, 1), R | X | ER, "vCPU 1 still is in view 2");
    view_set(&vm, 1, R | W, DATA, 1);
    is(round_of(&vm, 1), R | X | ER, "a change of view 1 is not one of view 2");
    is(round_of(&vm, 0), R | W | ER | EW, "but of view 1");

    memset(vm.memory + FAULTS, 0, 16);
    /* One runs in a view while the view is destroyed: it goes on in view 0. */
    vm_code(&vm, CODE, eptp_count);
    start(&vm, 0, 0, 1, 0, 0);
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

    make(&vm, 1, 2);
    view_create(&vm, 1, R | W | X);
    view_set(&vm, 1, R, DATA, 1);
    is(begin_in(&vm, 0, 1, DATA), R | ER, "in view 1");
    view_destroy(&vm, 1);
    is(round_of(&vm, 0), ALL, "view 1 is destroyed: the guest is in view 0");
    view_create(&vm, 1, R | W | X);
    view_set(&vm, 1, R | X, DATA, 1);
    is(round_of(&vm, 0), ALL, "made again: it stays there");
    is(begin_in(&vm, 0, 1, DATA), R | X | ER, "and gets there by VMFUNC");
    view_destroy(&vm, 1);
    view_create(&vm, 1, 0);
    is(round_of(&vm, 0), ALL, "destroyed and made again between two runs: it is in view 0");
    view_set(&vm, 1, R | W | X, 0, 0x1000);
    view_set(&vm, 1, R, DATA, 1);
    is(begin_in(&vm, 0, 1, DATA), R | ER, "in view 1 again");
    disable(vm.fd, EPTP);
    is(round_of(&vm, 0), ALL, "off: view 0");
    is(vmfunc(&vm, 0, 0), 6, "and VMFUNC is #UD");
    is(enable(vm.fd, EPTP, 511), 0, "on with 511");
    is(view_create(&vm, 511, R | W | X), 0, "view 511");
    view_set(&vm, 511, R, DATA, 1);
    is(begin_in(&vm, 0, 511, DATA), R | ER, "in view 511");
    vm_free(&vm);
    ok(true, "a VM with views ends while it is in one");
}

/* SMM is in no view; RSM returns to the one before. */
static void smm(void)
{
    Vm vm;

    make(&vm, 1, 1);
    view_create(&vm, 1, R | W | X);
    view_set(&vm, 1, R, DATA, 1);
    view_set(&vm, 1, 0, SMBASE, 16);
    vm_code(&vm, SMBASE + 0x8000, smi_honest);
    is(begin_in(&vm, 0, 1, DATA), R | ER, "in view 1");
    *(uint32_t *)(vm.memory + ARRIVED) = 0;
    if (ioctl(vm.vcpu[0], KVM_SMI))
        skip("SMM in a view", "KVM_SMI is not there");
    else {
        is(round_of(&vm, 0), R | ER, "after an SMI it is in view 1");
        is(vm_read(&vm, ARRIVED), 1, "SMM ran, where view 1 has nothing");
        is(round_of(&vm, 0), R | ER, "and stays in view 1");
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
    for (uint32_t view = 0; view < 4; view++)
        if (view != 2)
            memslots(view);
    dirty_log();
    vcpus();
    teardown();
    smm();
}

/* ---- A hostile guest ---- */

static unsigned seed = 1;

static unsigned some(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % n;
}

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
        slot(&hostile.vm, EXTRA, memory, 0, 0);
        slot(&hostile.vm, EXTRA, memory, EXTRA_PAGES, some(2) ? KVM_MEM_LOG_DIRTY_PAGES : 0);
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
        uint8_t *memory = pages_new(0xc3), *p;
        double until = now() + 0.5 < end ? now() + 0.5 : end;
        pthread_t threads[2];

        vm_make(&hostile.vm, 2, false);
        vm_cpuid(&hostile.vm, 0);
        slot(&hostile.vm, EXTRA, memory, EXTRA_PAGES, 0);
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
