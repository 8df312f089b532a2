/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-inject.h"

#include <elf.h>
#include <glib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)
bool inject_is_possible(void)
{
    return true;
}

/* True when a SYSCALL instruction (two bytes) lies right before where the thread stands. */
static bool is_behind_call(pid_t thread, const struct user_regs_struct *regs)
{
    return (ptrace(PTRACE_PEEKTEXT, thread, (void *)(regs->rip - 2), NULL) & 0xffff) == 0x050f;
}

/* The thread is stepped over that instruction once more, with other registers. orig_rax -1: the
 * kernel must not take what stands in rax for the result of the interrupted call and repeat that.
 */
static void aim(struct user_regs_struct *regs, long number, const unsigned long a[6])
{
    regs->rip -= 2;
    regs->orig_rax = (unsigned long)-1;
    regs->rax = (unsigned long)number;
    regs->rdi = a[0];
    regs->rsi = a[1];
    regs->rdx = a[2];
    regs->r10 = a[3];
    regs->r8 = a[4];
    regs->r9 = a[5];
}

static long result_of(const struct user_regs_struct *regs)
{
    return (long)regs->rax;
}
#else
bool inject_is_possible(void)
{
    return false;
}

static void aim(struct user_regs_struct *regs, long number, const unsigned long a[6])
{
    (void)regs;
    (void)number;
    (void)a;
}

static bool is_behind_call(pid_t thread, const struct user_regs_struct *regs)
{
    (void)thread;
    (void)regs;
    return false;
}

static long result_of(const struct user_regs_struct *regs)
{
    (void)regs;
    return 0;
}
#endif

static void registers(enum __ptrace_request request, pid_t pid, struct user_regs_struct *regs)
{
    struct iovec iov = {.iov_base = regs, .iov_len = sizeof(*regs)};

    g_assert_cmpint(ptrace(request, pid, (void *)NT_PRSTATUS, &iov), ==, 0);
}

bool inject_stop(pid_t thread)
{
    int status;

    return ptrace(PTRACE_SEIZE, thread, NULL, NULL) == 0 &&
           ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == 0 &&
           waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status);
}

void inject_go_on(pid_t thread)
{
    g_assert_cmpint(ptrace(PTRACE_DETACH, thread, NULL, NULL), ==, 0);
}

long inject_syscall(pid_t pid, long number, const unsigned long arguments[6], bool *killed)
{
    struct user_regs_struct before, regs;
    int status;

    *killed = false;
    g_assert_true(inject_stop(pid));
    registers(PTRACE_GETREGSET, pid, &before);
    /* It mostly waits in epoll_wait(), but now and then it has something to do. */
    while (!is_behind_call(pid, &before)) {
        inject_go_on(pid);
        g_usleep(1000);
        g_assert_true(inject_stop(pid));
        registers(PTRACE_GETREGSET, pid, &before);
    }
    regs = before;
    aim(&regs, number, arguments);
    registers(PTRACE_SETREGSET, pid, &regs);
    g_assert_cmpint(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), ==, 0);
    g_assert_cmpint(waitpid(pid, &status, __WALL), ==, pid);
    if (WIFSIGNALED(status)) {
        *killed = true;
        return WTERMSIG(status);
    }
    g_assert_true(WIFSTOPPED(status));
    g_assert_cmpint(WSTOPSIG(status), ==, SIGTRAP);
    registers(PTRACE_GETREGSET, pid, &regs);
    registers(PTRACE_SETREGSET, pid, &before);
    inject_go_on(pid);
    return result_of(&regs);
}
