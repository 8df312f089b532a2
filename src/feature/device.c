/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/device.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What /proc/PID/fd says of a descriptor of KVM_CREATE_VM (Linux virt/kvm/kvm_main.c). */
#define VM_LINK "anon_inode:kvm-vm"

static int open_device(void *opaque)
{
    (void)opaque;
    return open(KVM_HVFEAT_DEVICE, O_RDWR | O_CLOEXEC);
}

static int request(int device, unsigned long number, void *argument, void *opaque)
{
    (void)opaque;
    return ioctl(device, number, argument);
}

/* The number of @qemu's VM descriptor; -1 with errno. */
static int find_vm(pid_t qemu)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)qemu);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (!dir) {
        errno = ESRCH;
        return -1;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename(path, name, NULL);
        char target[sizeof(VM_LINK)];
        ssize_t len = readlink(link, target, sizeof(target));

        if (len == (ssize_t)strlen(VM_LINK) && memcmp(target, VM_LINK, (size_t)len) == 0)
            return atoi(name);
    }
    errno = ENOENT;
    return -1;
}

/* The process is pinned before its descriptors are looked at: another one of the same number would
 * be ESRCH. The descriptor can be closed meanwhile: the module refuses what is no VM. */
static int open_vm(pid_t qemu, void *opaque)
{
    int pidfd = (int)syscall(SYS_pidfd_open, qemu, 0), number, fd, saved;

    (void)opaque;
    if (pidfd < 0)
        return -1;
    number = find_vm(qemu);
    fd = number < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    saved = errno;
    close(pidfd);
    errno = saved;
    return fd;
}

const ColoHvfeatOps colo_hvfeat_kernel = {
    .open_device = open_device, .request = request, .open_vm = open_vm};

/* What the documented errors of the header mean for who runs this host. */
static const struct {
    int errnum;
    ColoErrorCode code;
    const char *text;
} meanings[] = {
    {EPERM, COLO_ERROR_SYSTEM, "virtcolod needs CAP_SYS_ADMIN: run it as root"},
    {ENOTTY, COLO_ERROR_UNSUPPORTED,
     "the loaded kvm_hvfeat is older than this virtcolod: install the same version of both, then "
     "'rmmod kvm_hvfeat; modprobe kvm_hvfeat'"},
    {EPROTO, COLO_ERROR_UNSUPPORTED,
     "kvm_hvfeat and this virtcolod are of different versions: install the same version of both, "
     "on "
     "both hosts, then 'rmmod kvm_hvfeat; modprobe kvm_hvfeat'"},
    {EINVAL, COLO_ERROR_UNSUPPORTED, "kvm_hvfeat does not know this feature or parameter"},
    {EBADF, COLO_ERROR_OPERATION_FAILED, "the descriptor is no KVM virtual machine"},
    {ERANGE, COLO_ERROR_INVALID_ARG,
     "the parameter is out of the bounds that 'virsh-colo colo-features --json' shows"},
    {ENODEV, COLO_ERROR_UNSUPPORTED, "KVM is not loaded: modprobe kvm_intel or kvm_amd"},
    {ENXIO, COLO_ERROR_UNSUPPORTED,
     "processor, firmware or KVM's parameters do not offer it: see 'virsh-colo colo-features'"},
    {EOPNOTSUPP, COLO_ERROR_UNSUPPORTED,
     "the loaded kvm has no patch for it: install the package of patched modules for this kernel, "
     "then load kvm again"},
    {ENODATA, COLO_ERROR_UNSUPPORTED, "its state cannot be taken to the other host"},
    {ENOSPC, COLO_ERROR_INTERNAL, "its state is larger than what this virtcolod takes along"},
};

void colo_hvfeat_set_error(GError **error, int errnum, const char *what)
{
    for (size_t i = 0; i < G_N_ELEMENTS(meanings); i++) {
        if (meanings[i].errnum == errnum) {
            g_set_error(error, COLO_ERROR, meanings[i].code, "%s: %s", what, meanings[i].text);
            return;
        }
    }
    colo_error_set_errno(error, errnum, "%s", what);
}

int colo_hvfeat_open(const ColoHvfeatOps *ops, struct kvm_hvfeat_version *version, GError **error)
{
    struct kvm_hvfeat_version said = {0};
    int fd = ops->open_device(ops->opaque);

    if (fd < 0) {
        if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
            g_set_error_literal(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                                "module kvm_hvfeat is not loaded: install it (libvirt-colo's DKMS "
                                "package), then 'modprobe kvm_hvfeat'");
        else
            colo_error_set_errno(error, errno, "opening " KVM_HVFEAT_DEVICE);
        return -1;
    }
    if (ops->request(fd, KVM_HVFEAT_GET_VERSION, &said, ops->opaque) < 0) {
        colo_hvfeat_set_error(error, errno, KVM_HVFEAT_DEVICE);
        close(fd);
        return -1;
    }
    said.module_version[sizeof(said.module_version) - 1] = '\0';
    said.kernel[sizeof(said.kernel) - 1] = '\0';
    if (version)
        *version = said;
    if (said.abi_min <= KVM_HVFEAT_ABI && KVM_HVFEAT_ABI <= said.abi)
        return fd;
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                "module kvm_hvfeat %s speaks ABI %u to %u, this virtcolod %u: install the same "
                "version of both, then 'rmmod kvm_hvfeat; modprobe kvm_hvfeat'",
                said.module_version, said.abi_min, said.abi, KVM_HVFEAT_ABI);
    close(fd);
    return -1;
}
