// SPDX-License-Identifier: LGPL-2.1-or-later
/* The preemption quantum: as often as it should be, and fair. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include "hvfeat.h"

PAYLOAD(spin);
PAYLOAD(cpuid_loop);
PAYLOAD(out_loop);

#define QUANTUM KVM_HVFEAT_QUANTUM

static void errors(void)
{
    struct kvm_hvfeat_info i;
    Vm vm;

    vm_make(&vm, 1, false);
    is(info(vm.fd, QUANTUM, &i), 0, "quantum: report");
    ok(i.param_min == 100 && i.param_max == 1000000, "the range is 100 us to 1 s");
    is(enable(vm.fd, QUANTUM, 0), ERANGE, "a quantum of 0");
    is(enable(vm.fd, QUANTUM, 99), ERANGE, "of 99 us");
    is(enable(vm.fd, QUANTUM, 1000001), ERANGE, "of more than a second");
    is(enable(vm.fd, QUANTUM, ~0ULL), ERANGE, "of 2^64 - 1 us");
    is(enable(vm.fd, QUANTUM, 1ULL << 32 | 1000), ERANGE, "that fits in its low half only");
    info(vm.fd, QUANTUM, &i);
    ok(!i.param[0], "none of them has been clamped and set");
    is(enable(vm.fd, QUANTUM, 100), 0, "of 100 us");
    is(enable(vm.fd, QUANTUM, 1000000), 0, "of 1 s");
    info(vm.fd, QUANTUM, &i);
    is((long long)i.param[0], 1000000, "is set");
    vm_free(&vm);
}

static double thread_time(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Runs vCPU 0 for so many ms, OUTs and HLTs included; returns the CPU time it got. */
static double run_for(Vm *vm, int ms)
{
    double start = thread_time();
    int r;

    vm_interrupt_after(vm, 0, ms);
    while ((r = vm_run(vm, 0)) == KVM_EXIT_IO)
        ;
    if (r != -1)
        printf("# the guest ended with %d\n", r);
    return thread_time() - start;
}

static void rate(const char *what, const uint8_t *code, const uint8_t *end, bool irqchip,
                 uint64_t us, int ms)
{
    double nominal;
    long long found;
    Vm vm;

    vm_make(&vm, 1, irqchip);
    vm_copy(&vm, CODE, code, (size_t)(end - code));
    vm_start(&vm, 0, ~0u, true);
    enable(vm.fd, QUANTUM, us);
    nominal = run_for(&vm, ms) * 1e6 / (double)us;
    found = counter(vm.fd, QUANTUM, "expired");
    ok((double)found > 0.9 * nominal && (double)found < 1.1 * nominal,
       "%s, %llu us: expired %lld times, nominal %.1f", what, (unsigned long long)us, found,
       nominal);
    disable(vm.fd, QUANTUM);
    run_for(&vm, 50);
    is(counter(vm.fd, QUANTUM, "expired"), found, "off again: no more");
    vm_free(&vm);
}

/* Time in userspace does not count; the rest of a quantum is not lost there. */
static void to_userspace(void)
{
    double nominal;
    long long found;
    Vm vm;

    vm_make(&vm, 1, false);
    vm_code(&vm, CODE, out_loop);
    vm_start(&vm, 0, 0, true);
    enable(vm.fd, QUANTUM, 1000);
    nominal = run_for(&vm, 200) * 1e3;
    found = counter(vm.fd, QUANTUM, "expired");
    ok((double)found > 0.25 * nominal && (double)found < nominal,
       "a guest that goes to userspace each few us: expired %lld times, at most %.1f", found,
       nominal);
    vm_free(&vm);
}

typedef struct {
    uint64_t us;
    int ms;
    pthread_barrier_t *barrier;
    double got;
    long switches, expired;
} Runner;

static void *run(void *data)
{
    struct rusage before, after;
    Runner *r = data;
    cpu_set_t cpu;
    Vm vm;

    CPU_ZERO(&cpu);
    CPU_SET(0, &cpu);
    sched_setaffinity(0, sizeof(cpu), &cpu);
    vm_make(&vm, 1, false);
    vm_code(&vm, CODE, spin);
    vm_start(&vm, 0, 0, true);
    if (r->us)
        enable(vm.fd, QUANTUM, r->us);
    pthread_barrier_wait(r->barrier);
    getrusage(RUSAGE_THREAD, &before);
    r->got = run_for(&vm, r->ms);
    getrusage(RUSAGE_THREAD, &after);
    r->switches = after.ru_nivcsw - before.ru_nivcsw;
    r->expired = (long)counter(vm.fd, QUANTUM, "expired");
    vm_free(&vm);
    return NULL;
}

/* Two busy vCPUs of two VMs on one CPU. */
static void fairness(uint64_t us, int ms)
{
    pthread_barrier_t barrier;
    pthread_t thread[2];
    Runner r[2] = {{us, ms, &barrier, 0, 0, 0}, {us, ms, &barrier, 0, 0, 0}};
    double whole, share;

    pthread_barrier_init(&barrier, NULL, 2);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, run, &r[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    whole = r[0].got + r[1].got;
    share = r[0].got / whole;
    printf("# %llu us: CPU time %.3f and %.3f s, %ld and %ld switches, %ld and %ld expired\n",
           (unsigned long long)us, r[0].got, r[1].got, r[0].switches, r[1].switches, r[0].expired,
           r[1].expired);
    ok(share > 0.475 && share < 0.525, "%llu us: two busy vCPUs share a CPU %.1f : %.1f",
       (unsigned long long)us, 100 * share, 100 - 100 * share);
    if (us)
        ok((double)(r[0].switches + r[1].switches) > 0.8 * whole * 1e6 / (double)us,
           "%llu us: and take turns about as often as the quantum says", (unsigned long long)us);
}

static void state(void)
{
    char data[KVM_HVFEAT_STATE_MAX];
    uint32_t size = sizeof(data);
    struct kvm_hvfeat_info i;
    long long before;
    Vm from, to;

    vm_make(&from, 1, false);
    enable(from.fd, QUANTUM, 1000);
    vm_code(&from, CODE, spin);
    vm_start(&from, 0, 0, true);
    run_for(&from, 50);
    before = counter(from.fd, QUANTUM, "expired");
    is(get_state(from.fd, QUANTUM, data, &size), 0, "quantum: the state is taken");
    vm_make(&to, 1, false);
    is(set_state(to.fd, QUANTUM, data, size, 1), 0, "and set in another VM");
    info(to.fd, QUANTUM, &i);
    ok(i.param[0] == 1000 && (i.flags & KVM_HVFEAT_VM_ON), "where it is on now");
    is(counter(to.fd, QUANTUM, "expired"), before, "with the counter");
    vm_free(&to);
    vm_free(&from);
}

void test_quantum(void)
{
    errors();
    rate("a busy guest", spin, spin_end, false, 1000, 200);
    rate("a busy guest", spin, spin_end, false, 10000, 500);
    rate("a busy guest with a LAPIC", spin, spin_end, true, 1000, 200);
    rate("a guest with many exits", cpuid_loop, cpuid_loop_end, false, 1000, 200);
    to_userspace();
    fairness(0, 500);
    fairness(1000, 1000);
    fairness(10000, 2000);
    state();
}
