/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stop-at-reply PID TID: stops process PID (SIGSTOP) when its thread TID has sent a COLO message
 * CHECKPOINT_REPLY (QEMU 7.2, migration/colo.c: a be32 of its own in the return path), and says
 * "stopped". Between that word and VMSTATE_SEND there are some ms, which no signal sent from
 * outside meets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define CHECKPOINT_REPLY 2u /* COLO_MESSAGE_CHECKPOINT_REPLY */

static bool read_from(pid_t tid, uint64_t at, void *to, size_t len)
{
    struct iovec here = {to, len}, there = {(void *)at, len};

    return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)len;
}

/* The message that sendmsg(fd, @at, flags) gives is REPLY. */
static bool is_reply(pid_t tid, uint64_t at)
{
    struct msghdr message;
    struct iovec part;
    uint32_t word;

    return read_from(tid, at, &message, sizeof(message)) && message.msg_iovlen == 1 &&
           read_from(tid, (uint64_t)message.msg_iov, &part, sizeof(part)) &&
           part.iov_len == sizeof(word) &&
           read_from(tid, (uint64_t)part.iov_base, &word, sizeof(word)) &&
           ntohl(word) == CHECKPOINT_REPLY;
}

int main(int argc, char **argv)
{
    pid_t pid = argc == 3 ? atoi(argv[1]) : 0, tid = argc == 3 ? atoi(argv[2]) : 0;
    bool replies = false;
    int status;

    if (pid <= 0 || tid <= 0) {
        fprintf(stderr, "usage: stop-at-reply PID TID\n");
        return 2;
    }
    if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0 ||
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0) {
        fprintf(stderr, "stop-at-reply: thread %d: %s\n", tid, strerror(errno));
        return 1;
    }
    while (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status)) {
        struct __ptrace_syscall_info info = {0};
        int pass = 0;

        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info);
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
                replies = info.entry.nr == SYS_sendmsg && is_reply(tid, info.entry.args[1]);
            else if (info.op == PTRACE_SYSCALL_INFO_EXIT && replies && !info.exit.is_error) {
                kill(pid, SIGSTOP);
                ptrace(PTRACE_DETACH, tid, NULL, NULL);
                printf("stopped\n");
                return 0;
            }
        } else if (status >> 16 == 0) {
            pass = WSTOPSIG(status); /* a signal of its own */
        }
        ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(intptr_t)pass);
    }
    fprintf(stderr, "stop-at-reply: thread %d has ended\n", tid);
    return 1;
}
