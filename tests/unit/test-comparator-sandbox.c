/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a colo-comparator that serves can still do: looked up in /proc, and tried by calls made
 * inside it. */
#include "test-comparator-lab.h"
#include "test-inject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(COLO_COVERAGE)
#define SANITIZED TRUE
#else
#define SANITIZED FALSE
#endif

/* A file of the helper in /proc. */
static char *proc(const LabHelper *helper, const char *name)
{
    return g_strdup_printf("/proc/%d/%s", (int)helper->pid, name);
}

static char *proc_text(const LabHelper *helper, const char *name)
{
    g_autofree char *path = proc(helper, name);
    char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

/* What stands behind @key in @text, up to the end of its line. */
static char *field(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    g_assert_nonnull(at);
    at += strlen(key);
    return g_strstrip(g_strndup(at, strcspn(at, "\n")));
}

static void assert_field(const char *text, const char *key, const char *value)
{
    g_autofree char *found = field(text, key);

    g_test_message("%s %s", key, found);
    g_assert_cmpstr(found, ==, value);
}

static gboolean need_root(void)
{
    if (SANITIZED)
        g_test_skip("a build with sanitizers has no filter and no namespaces");
    else if (getuid() != 0)
        g_test_skip("root alone can take namespaces away, and look into them");
    else
        return TRUE;
    return FALSE;
}

/* Identity, capabilities and filter are of a thread: each of them. */
static void assert_status(const char *status)
{
    static const char *const sets[] = {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"};

    assert_field(status, "NoNewPrivs:", "1");
    assert_field(status, "Seccomp:", "2");
    for (size_t i = 0; i < G_N_ELEMENTS(sets); i++)
        assert_field(status, sets[i], "0000000000000000");
    assert_field(status, "Uid:", "65534\t65534\t65534\t65534");
    assert_field(status, "Gid:", "65534\t65534\t65534\t65534");
    assert_field(status, "Groups:", "");
}

static void test_status(void)
{
    Lab lab;
    g_autoptr(GDir) tasks = NULL;
    g_autofree char *path = NULL;
    const char *task;
    unsigned n = 0;

    if (!need_root())
        return;
    lab_threads = 2;
    lab_up(&lab);
    lab_threads = 0;
    path = proc(&lab.p, "task");
    tasks = g_dir_open(path, 0, NULL);
    while ((task = g_dir_read_name(tasks))) {
        g_autofree char *name = g_build_filename("task", task, "status", NULL);
        g_autofree char *status = proc_text(&lab.p, name);

        assert_status(status);
        n++;
    }
    g_assert_cmpuint(n, ==, 3);
    lab_down(&lab);
}

/* The only mount is the root; it is empty and read-only. */
static void test_no_file_system(void)
{
    Lab lab;
    g_autofree char *mounts = NULL, *root = NULL, *probe = NULL;
    g_autoptr(GDir) folder = NULL;

    if (!need_root())
        return;
    lab_up(&lab);
    mounts = proc_text(&lab.p, "mountinfo");
    g_test_message("%s", mounts);
    g_assert_nonnull(strstr(mounts, " / / ro,nosuid,nodev,noexec"));
    g_assert_nonnull(strchr(mounts, '\n'));
    g_assert_cmpuint(strlen(strchr(mounts, '\n')), ==, 1);
    root = proc(&lab.p, "root/");
    folder = g_dir_open(root, 0, NULL);
    g_assert_nonnull(folder);
    g_assert_null(g_dir_read_name(folder));
    probe = proc(&lab.p, "root/probe");
    g_assert_cmpint(open(probe, O_CREAT | O_WRONLY, 0600), <, 0);
    g_assert_cmpint(errno, ==, EROFS);
    lab_down(&lab);
}

static void test_namespaces(void)
{
    static const char *const names[] = {"mnt", "net", "ipc", "uts"};
    Lab lab;

    if (!need_root())
        return;
    lab_up(&lab);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *name = g_build_filename("ns", names[i], NULL);
        g_autofree char *path = proc(&lab.p, name), *own = g_strdup_printf("/proc/self/%s", name);
        g_autofree char *theirs = g_file_read_link(path, NULL), *ours = g_file_read_link(own, NULL);

        g_assert_nonnull(theirs);
        g_assert_cmpstr(theirs, !=, ours);
    }
    lab_down(&lab);
}

static void test_limits(void)
{
    Lab lab;
    g_autofree char *limits = NULL;

    if (!need_root())
        return;
    lab_up(&lab);
    limits = proc_text(&lab.p, "limits");
    assert_field(limits, "Max processes", "0                    0                    processes");
    assert_field(limits, "Max core file size", "0                    0                    bytes");
    lab_down(&lab);
}

/* A descriptor that the starter leaves open by mistake is not kept. */
static void test_inherited_descriptors(void)
{
    LabHelper helper;
    int stray, kept;
    g_autofree char *path = NULL, *listener = NULL;

    if (!need_root())
        return;
    stray = open("/", O_PATH | O_CLOEXEC);
    kept = fcntl(stray, F_DUPFD, 200); /* not close-on-exec */
    lab_helper_start(&helper);
    path = g_strdup_printf("/proc/%d/fd/%d", (int)helper.pid, kept);
    listener = proc(&helper, "fd/3");
    g_assert_cmpint(faccessat(AT_FDCWD, listener, F_OK, AT_SYMLINK_NOFOLLOW), ==, 0);
    g_assert_cmpint(faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW), <, 0);
    close(stray);
    close(kept);
    lab_helper_stop(&helper);
}

/* Calls inside the helper that must fail, with arguments that would do no harm. */
static const struct {
    const char *name;
    long number;
    unsigned long a[6];
} refused[] = {
    {"openat", SYS_openat, {(unsigned long)AT_FDCWD, 0, O_RDONLY, 0, 0, 0}},
    {"openat2", SYS_openat2, {(unsigned long)AT_FDCWD, 0, 0, 0, 0, 0}},
#ifdef SYS_open
    {"open", SYS_open, {0, O_RDONLY, 0, 0, 0, 0}},
    {"creat", SYS_creat, {0}},
    {"unlink", SYS_unlink, {0}},
    {"rename", SYS_rename, {0}},
    {"mkdir", SYS_mkdir, {0}},
    {"symlink", SYS_symlink, {0}},
    {"dup2", SYS_dup2, {0, 100, 0, 0, 0, 0}},
#endif
    {"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0, 0, 0, 0}},
    {"socket unix", SYS_socket, {AF_UNIX, SOCK_DGRAM, 0, 0, 0, 0}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0, 0, 0}},
    {"connect", SYS_connect, {0}},
    {"bind", SYS_bind, {3, 0, 0, 0, 0, 0}},
    {"listen", SYS_listen, {3, 1, 0, 0, 0, 0}},
    {"clone", SYS_clone, {CLONE_VM, 0, 0, 0, 0, 0}},
    {"clone3", SYS_clone3, {0}},
    {"memfd_create", SYS_memfd_create, {0}},
    {"mmap for execution",
     SYS_mmap,
     {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, (unsigned long)-1, 0}},
    {"mprotect for execution", SYS_mprotect, {0, 4096, PROT_EXEC, 0, 0, 0}},
    {"ioctl", SYS_ioctl, {3, SIOCGIFCONF, 0, 0, 0, 0}},
    {"fcntl dup", SYS_fcntl, {0, F_DUPFD, 100, 0, 0, 0}},
    {"fcntl owner", SYS_fcntl, {3, F_SETOWN, 1, 0, 0, 0}},
    {"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0, 0}},
    {"setsockopt", SYS_setsockopt, {3, SOL_SOCKET, SO_MARK, 0, 0, 0}},
    {"getsockopt", SYS_getsockopt, {3, SOL_SOCKET, SO_PEERSEC, 0, 0, 0}},
    {"setrlimit", SYS_prlimit64, {0, 0, 0, 0, 0, 0}},
    {"tgkill of another", SYS_tgkill, {1, 1, 0, 0, 0, 0}},
    {"rt_sigqueueinfo", SYS_rt_sigqueueinfo, {1, 0, 0, 0, 0, 0}},
    {"getdents64", SYS_getdents64, {0}},
    {"newfstatat", SYS_newfstatat, {(unsigned long)AT_FDCWD, 0, 0, 0, 0, 0}},
    {"sched_setscheduler", SYS_sched_setscheduler, {0}},
    {"syslog", SYS_syslog, {10, 0, 0, 0, 0, 0}},
    {"read", SYS_read, {0}},
    {"a number that no kernel knows", 4000, {0}},
};

static gboolean need_injection(void)
{
    if (!need_root())
        return FALSE;
    if (!inject_is_possible())
        g_test_skip("the test does not know the registers of this architecture");
    return inject_is_possible();
}

/* In the mode of all other tests the first such call is the last. */
static void test_strict(void)
{
    LabHelper helper;
    bool killed;

    if (!need_injection())
        return;
    lab_helper_start(&helper);
    g_assert_cmpint(inject_syscall(helper.pid, refused[0].number, refused[0].a, &killed), ==,
                    SIGSYS);
    g_assert_true(killed);
    lab_helper_forget(&helper);
}

/* And those after which there is no helper. */
static const struct {
    const char *name;
    long number;
    unsigned long a[6];
} fatal[] = {
    {"execve", SYS_execve, {0}},
    {"execveat", SYS_execveat, {0}},
    {"ptrace", SYS_ptrace, {0}},
    {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}},
    {"kill", SYS_kill, {1, 0, 0, 0, 0, 0}},
    {"mount", SYS_mount, {0}},
    {"unshare", SYS_unshare, {CLONE_NEWUSER, 0, 0, 0, 0, 0}},
    {"setns", SYS_setns, {0}},
    {"chroot", SYS_chroot, {0}},
    {"setuid", SYS_setuid, {0}},
    {"setresuid", SYS_setresuid, {0}},
    {"capset", SYS_capset, {0}},
    {"bpf", SYS_bpf, {0}},
    {"userfaultfd", SYS_userfaultfd, {0}},
    {"io_uring_setup", SYS_io_uring_setup, {1, 0, 0, 0, 0, 0}},
    {"perf_event_open", SYS_perf_event_open, {0}},
    {"init_module", SYS_init_module, {0}},
    {"keyctl", SYS_keyctl, {0}},
    {"seccomp", SYS_seccomp, {0}},
};

static void assert_refused(pid_t thread)
{
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        bool killed;
        long result = inject_syscall(thread, refused[i].number, refused[i].a, &killed);

        g_test_message("%s: %ld", refused[i].name, result);
        g_assert_false(killed);
        g_assert_cmpint(result, ==, -ENOSYS);
    }
}

static void test_calls_refused(void)
{
    Lab lab;

    if (!need_injection())
        return;
    lab_lenient = TRUE;
    lab_up(&lab);
    lab_lenient = FALSE;
    assert_refused(lab.p.pid);
    assert_refused(lab_helper_worker(&lab.p));
    /* It did not notice. */
    lab_say(lab.p_out, "goes on");
    lab_hear(lab.p_release, "goes on");
    lab_down(&lab);
}

/* The injection itself works: a call that is allowed comes back with its result. */
static void test_injection(void)
{
    const unsigned long none[6] = {0};
    Lab lab;
    bool killed;

    if (!need_injection())
        return;
    lab_up(&lab);
    g_assert_cmpint(inject_syscall(lab.p.pid, SYS_getpid, none, &killed), ==, lab.p.pid);
    lab_down(&lab);
}

static void test_calls_kill(void)
{
    if (!need_injection())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(fatal); i++) {
        LabHelper helper;
        bool killed;
        long result;

        lab_lenient = TRUE;
        lab_helper_start(&helper);
        lab_lenient = FALSE;
        result = inject_syscall(helper.pid, fatal[i].number, fatal[i].a, &killed);
        g_test_message("%s: %s %ld", fatal[i].name, killed ? "signal" : "result", result);
        g_assert_true(killed);
        g_assert_cmpint(result, ==, SIGSYS);
        lab_helper_forget(&helper);
    }
}

/* Without root there are no namespaces, which is said; the filter is there all the same. */
static void test_without_root(void)
{
    Lab lab;
    g_autofree char *status = NULL;

    if (SANITIZED) {
        g_test_skip("a build with sanitizers has no filter and no namespaces");
        return;
    }
    lab_unprivileged = TRUE;
    lab_up(&lab);
    lab_unprivileged = FALSE;
    g_assert_true(lab_helper_logged(&lab.p, "not started as root"));
    status = proc_text(&lab.p, "status");
    assert_field(status, "NoNewPrivs:", "1");
    assert_field(status, "Seccomp:", "2");
    assert_field(status, "CapEff:", "0000000000000000");
    lab_say(lab.p_out, "goes on");
    lab_hear(lab.p_release, "goes on");
    lab_down(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sandbox/identity", test_status);
    g_test_add_func("/sandbox/no-file-system", test_no_file_system);
    g_test_add_func("/sandbox/namespaces", test_namespaces);
    g_test_add_func("/sandbox/limits", test_limits);
    g_test_add_func("/sandbox/inherited-descriptors", test_inherited_descriptors);
    g_test_add_func("/sandbox/injection", test_injection);
    g_test_add_func("/sandbox/calls-refused", test_calls_refused);
    g_test_add_func("/sandbox/calls-kill", test_calls_kill);
    g_test_add_func("/sandbox/strict", test_strict);
    g_test_add_func("/sandbox/without-root", test_without_root);
    return g_test_run();
}
