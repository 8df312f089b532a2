/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sandbox. The program parses what a guest sends and what comes over the network, for all
 * protected domains of the host; whoever takes it over shall find nothing to go on with. It is
 * built in stages, each when the program needs what it takes away no more:
 *
 *  1. descriptors: those inherited beside the listeners are closed
 *  2. namespaces: mounts, network, System V IPC and host name of its own; the root becomes an empty
 *     tmpfs that is mounted read-only; sockets that exist keep the network they were made in
 *  3. limits: descriptors as many as all sessions can hold, no core file, no growing file
 *  4. identity: user and group, no supplementary groups, every capability set empty (bounding and
 *     ambient too), no_new_privs; not dumpable: keys and guest data must not land in a core file
 *     or be read by a tracer of the same user
 *  5. seal: no more processes or threads, and the seccomp filter, on all threads
 *
 * Stage 2 needs CAP_SYS_ADMIN, so the unit starts the program as root; it reads nothing from
 * outside before stage 5. Started as another user it says in the log that it has its host's file
 * system and goes on: stage 5 still refuses to open anything. (A user namespace would give the
 * capability, but in it SO_PEERCRED shows every user but our own as the overflow user: root, the
 * only one who may command us, could not be told from anybody.)
 *
 * The filter is a list of what is allowed, made when the program is built: each source says in
 * comments which system calls its code makes, and seccomp.sh collects them. Anything else fails
 * with ENOSYS and is shown by the audit log: a C library that tries a newer call then goes on with
 * the older one that is allowed, where killing would end the protection of every domain. Calls
 * that only an attacker makes kill the process. (The tests run the program in a strict mode, in
 * which every call that is not in the list kills it: so the list is complete.) libseccomp builds
 * the program, not a table of BPF by hand: it knows the numbers and calling conventions of each
 * architecture, and sorts the calls into a tree, so that a hot call with a condition costs few
 * steps; the kernel keeps those without a condition in a bitmap and does not run the filter for
 * them at all (Linux 5.11).
 *
 * There is no limit of address space: the named limits of all possible sessions add up to more
 * than any host has, so it would bound nothing that they do not; the bounds are theirs (I8).
 *
 * A build with sanitizers or for coverage has stages 1 and 4 only. Their runtimes open files, clone
 * and trace to report what they found: a filter that allows that is none.
 */
#include "comparator/sandbox.h"

#include "comparator/daemon.h"
#include "comparator/sandbox-syscalls.h"
#include "util/error.h"
#include "util/fdpass.h"
#include "util/log.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(COLO_COVERAGE)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Descriptors of one session: its streams, three channels a NIC, migration, one a disk. */
#define SESSION_FDS (COLO_SESSION_STREAMS + 3 * COLO_CMP_MAX_NICS + 1 + COLO_CMP_MAX_DISKS)
/* Standard streams, listeners, log and the like; loop and inbox of each thread. */
#define OWN_FDS (16 + 2 * (COLO_WORKERS_MAX + 1))
#define FDS_MAX                                                                                  \
    (COLO_SESSION_MAX * SESSION_FDS + COLO_ACCEPT_MAX + COLO_CONTROL_FDS_MAX + COLO_FDPASS_MAX + \
     OWN_FDS)

void colo_sandbox_close_inherited(void)
{
    int listeners = sd_listen_fds(0);

    (void)close_range((unsigned)(SD_LISTEN_FDS_START + MAX(listeners, 0)), ~0u, 0);
}

/* Stage 2. */
static gboolean enter_namespaces(GError **error)
{
    static const char stand[] = "/tmp"; /* any folder that each host has (FHS 3.0, 3.18) */

    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) {
        colo_error_set_errno(error, errno, "leaving the host's namespaces");
        return FALSE;
    }
    /* pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one, and goes. */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", stand, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=0555,nr_inodes=2,size=4k") < 0 ||
        chdir(stand) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0) {
        colo_error_set_errno(error, errno, "putting an empty file system in the root's place");
        return FALSE;
    }
    return TRUE;
}

/* Lowers a limit, or raises it as far as it goes. */
static void limit(int resource, rlim_t wanted, const char *name)
{
    struct rlimit value = {.rlim_cur = wanted, .rlim_max = wanted};

    if (setrlimit(resource, &value) == 0)
        return;
    if (getrlimit(resource, &value) == 0 && value.rlim_max < wanted) {
        value.rlim_cur = value.rlim_max;
        if (setrlimit(resource, &value) == 0)
            colo_warn("%s is limited to %llu, all sessions together may need %llu", name,
                      (unsigned long long)value.rlim_max, (unsigned long long)wanted);
    }
}

/* Stage 3. */
static void set_limits(void)
{
    struct stat log;

    limit(RLIMIT_NOFILE, FDS_MAX, "the number of descriptors");
    limit(RLIMIT_CORE, 0, "the size of a core file");
    limit(RLIMIT_MEMLOCK, 0, "locked memory");
    limit(RLIMIT_MSGQUEUE, 0, "message queues");
    /* Beyond this limit comes SIGXFSZ, also for a log that is a file. */
    if (fstat(STDERR_FILENO, &log) == 0 && !S_ISREG(log.st_mode))
        limit(RLIMIT_FSIZE, 0, "the size of files");
}

/* Stage 4. @entry: whom to become, or NULL. */
static gboolean drop_identity(const struct passwd *entry, GError **error)
{
    int death = 0, code;

    (void)prctl(PR_GET_PDEATHSIG, &death);
    capng_clear(CAPNG_SELECT_ALL);
    if (entry)
        code = capng_change_id((int)entry->pw_uid, (int)entry->pw_gid,
                               CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
    else
        code = capng_apply(geteuid() == 0 ? CAPNG_SELECT_ALL
                                          : CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT);
    if (code < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_SYSTEM,
                    "giving up identity and capabilities failed (libcap-ng: %d)", code);
        return FALSE;
    }
    if (entry && entry->pw_uid != 0 && setuid(0) == 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL, "root could not be given up");
        return FALSE;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        colo_error_set_errno(error, errno, "no_new_privs");
        return FALSE;
    }
    /* The kernel forgets it with a new identity (prctl(2), PR_SET_PDEATHSIG). */
    if (death)
        (void)prctl(PR_SET_PDEATHSIG, death);
    if (!SANITIZED)
        (void)prctl(PR_SET_DUMPABLE, 0);
    return TRUE;
}

gboolean colo_sandbox_enter(const char *user, GError **error)
{
    const struct passwd *entry = NULL;

    if (user && geteuid() == 0) {
        entry = getpwnam(user);
        if (!entry) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "there is no user '%s'", user);
            return FALSE;
        }
    }
    capng_get_caps_process();
    if (SANITIZED)
        colo_warn("this build is instrumented: it runs without namespaces, limits and filter");
    else if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN))
        colo_warn("not started as root: the host's file system and network stay in sight, though "
                  "no file or socket can be opened");
    else if (!enter_namespaces(error))
        return FALSE;
    if (!SANITIZED)
        set_limits();
    return drop_identity(entry, error);
}

/*
 * What lies under all of the code: memory (none that can be executed), locks, the end of a thread
 * and of the program, and abort(), which signals itself.
 * #syscalls mmap[2&PROT_EXEC==0] mprotect[2&PROT_EXEC==0] munmap mremap madvise brk
 * #syscalls futex restart_syscall close exit exit_group
 * #syscalls rt_sigprocmask getpid gettid tgkill[0==getpid()]
 * Clocks are read in user space, but with a clock source that only the kernel can read.
 * #syscalls clock_gettime gettimeofday time
 *
 * An attacker's.
 * #syscalls-kill execve execveat fork vfork ptrace process_vm_readv process_vm_writev
 * #syscalls-kill pidfd_open pidfd_getfd kcmp kill tkill
 * #syscalls-kill mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsmount
 * #syscalls-kill name_to_handle_at open_by_handle_at
 * #syscalls-kill setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
 * #syscalls-kill capset personality keyctl add_key request_key
 * #syscalls-kill bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
 * #syscalls-kill init_module finit_module delete_module kexec_load kexec_file_load reboot
 * #syscalls-kill iopl ioperm modify_ldt seccomp
 */
typedef struct {
    int number;
    unsigned n;
    struct scmp_arg_cmp conditions[2];
} Allowed;

/* Fills @filter. 0, or a negative errno. */
static int add_rules(scmp_filter_ctx filter, gboolean strict)
{
    const Allowed allowed[] = {COLO_SANDBOX_ALLOWED};
    static const int killing[] = {COLO_SANDBOX_KILLING};
    int code = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (code >= 0)
        code = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (code >= 0)
        code = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    /* A kernel or a policy without it still filters. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(allowed) && code >= 0; i++)
        code = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, allowed[i].number, allowed[i].n,
                                      allowed[i].conditions);
    /* libseccomp refuses a rule that says what the default says (EACCES). */
    for (size_t i = 0; i < G_N_ELEMENTS(killing) && code >= 0 && !strict; i++)
        code = seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, killing[i], 0, NULL);
    return code;
}

/* Stage 5. */
gboolean colo_sandbox_seal(gboolean strict, GError **error)
{
    scmp_filter_ctx filter;
    int code = -ENOMEM;

    if (SANITIZED)
        return TRUE;
    limit(RLIMIT_NPROC, 0, "the number of processes");
    filter = seccomp_init(strict ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(ENOSYS));
    if (filter) {
        code = add_rules(filter, strict);
        if (code >= 0)
            code = seccomp_load(filter);
        seccomp_release(filter);
    }
    if (code < 0)
        colo_error_set_errno(error, -code, "putting the system call filter in force");
    return code >= 0;
}
