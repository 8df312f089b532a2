/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /dev/kvm_hvfeat and the VM of a QEMU (libvirt-colo/kvm_hvfeat.h): all system calls of this
 * folder, behind three functions that a test replaces by its own kernel. Any thread.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "libvirt-colo/kvm_hvfeat.h"

typedef struct {
    /* The control device; -1 with errno. */
    int (*open_device)(void *opaque);
    /* As ioctl(): 0, or -1 with errno. */
    int (*request)(int device, unsigned long request, void *argument, void *opaque);
    /* The VM of the process @qemu, as a descriptor of this process; -1 with errno: ENOENT when it
     * has none (it runs without KVM), ESRCH when there is no such process. */
    int (*open_vm)(pid_t qemu, void *opaque);
    void *opaque;
} ColoHvfeatOps;

/* The kernel's. */
extern const ColoHvfeatOps colo_hvfeat_kernel;

/* Sets @error for @errnum of a request, after "@what: ", with what has to be installed or done. */
void colo_hvfeat_set_error(GError **error, int errnum, const char *what);

/* Opens the device and asks for its version. -1 with @error when it is not there or does not speak
 * this program's ABI; @version (may be NULL) is filled with what it said, if anything. */
int colo_hvfeat_open(const ColoHvfeatOps *ops, struct kvm_hvfeat_version *version, GError **error);
