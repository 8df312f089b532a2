/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes a thread of a running process do a system call of our choice, as somebody who has taken it
 * over would (ptrace(2)). Needs root, or CAP_SYS_PTRACE: the process may be not dumpable.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* True when this architecture's registers are known here. */
bool inject_is_possible(void);

/* Makes one thread stand, the others of its process go on. False when we may not. */
bool inject_stop(pid_t thread);
void inject_go_on(pid_t thread);

/* What the call @number returned, a negative errno on failure. When the process died of it: true
 * in *killed and the signal is returned. The process then goes on with what it did. */
long inject_syscall(pid_t pid, long number, const unsigned long arguments[6], bool *killed);
