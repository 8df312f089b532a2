/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * bqlfix: LD_PRELOAD shim that lets QEMU 7.2 be a COLO primary under TCG.  Test lab only.
 *
 * At a COLO checkpoint QEMU calls run_on_cpu() without holding the big QEMU lock (BQL):
 * colo_do_checkpoint_transaction -> qemu_savevm_live_state -> ram_save_complete ->
 * migration_bitmap_sync -> tcg_log_global_after_sync -> run_on_cpu.  do_run_on_cpu() then waits
 * on a condition variable with a mutex its thread does not own, and owns it afterwards: the
 * next qemu_mutex_lock_iothread() of that thread blocks for ever.  KVM never takes that path.
 *
 * The shim gives such a wait what POSIX asks for: it takes the mutex first and gives it back
 * afterwards.  The caller tested its condition without the lock, so a wake-up may already be
 * gone: the wait is bounded by RETRY_NS, a spurious wake-up that the caller's loop absorbs.
 *
 * The kick of the vCPU (queue_work_on_cpu) may be gone as well: given without the lock, it can fall
 * between the vCPU's look at its work and its sleep (qemu_wait_io_event).  Then the work would
 * wait for ever, the checkpoint with it, and the secondary, which holds its own BQL while it loads:
 * so the shim kicks all vCPUs again, with the lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RETRY_NS 1000000L /* 1 ms: far below a checkpoint's length, far above a wake-up */
#define SECOND_NS 1000000000L

static int (*real_wait)(pthread_cond_t *, pthread_mutex_t *);
/* QEMU's own, which it exports for its modules. */
static void *(*get_cpu)(int index);
static void (*cpu_kick)(void *cpu);

/* Finds glibc's own function; without it QEMU cannot run at all, so stop here. */
__attribute__((constructor)) static void bqlfix_init(void)
{
    real_wait = (int (*)(pthread_cond_t *, pthread_mutex_t *))dlvsym(RTLD_NEXT, "pthread_cond_wait",
                                                                     "GLIBC_2.3.2");
    if (!real_wait)
        abort();
    get_cpu = (void *(*)(int))dlsym(RTLD_DEFAULT, "qemu_get_cpu");
    cpu_kick = (void (*)(void *))dlsym(RTLD_DEFAULT, "qemu_cpu_kick");
    if (!get_cpu || !cpu_kick)
        fputs("bqlfix: this QEMU exports no qemu_cpu_kick: its COLO may hang\n", stderr);
}

static void kick_all(void)
{
    void *cpu;

    for (int i = 0; get_cpu && cpu_kick && (cpu = get_cpu(i)); i++)
        cpu_kick(cpu);
}

/* Is the calling thread the mutex's owner?  Reads glibc's owner field, as gdb does. */
static int owns(const pthread_mutex_t *mutex)
{
    static __thread int tid;

    if (!tid)
        tid = (int)syscall(SYS_gettid);
    return mutex->__data.__owner == tid;
}

int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    struct timespec until;

    if (owns(mutex))
        return real_wait(cond, mutex);

    pthread_mutex_lock(mutex);
    kick_all();
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += RETRY_NS;
    if (until.tv_nsec >= SECOND_NS) {
        until.tv_nsec -= SECOND_NS;
        until.tv_sec++;
    }
    pthread_cond_timedwait(cond, mutex, &until);
    pthread_mutex_unlock(mutex);
    return 0;
}
