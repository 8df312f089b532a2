/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Virtio devices that QEMU has given up. virtio_error() (QEMU 7.2, hw/virtio/virtio.c) sets a
 * device's `broken` for what it takes to be the driver's fault; from then on it does nothing, and
 * neither a checkpoint nor anything but a reset of it makes it work again.
 *
 * In a secondary that need not be the driver's fault: virtio_load() expects a device that has been
 * reset, and COLO loads over one that runs. Of a queue that the driver has not set up at the
 * checkpoint it loads no `shadow_avail_idx`; the one of before stays, and when the copy's driver
 * sets the queue up, the device takes requests from it that are not there ("zero sized buffers are
 * not allowed"). So a checkpoint while a guest boots, or loads a driver anew, may leave a copy
 * whose NIC or disk is dead.
 */
#pragma once

#include "util/json.h"

#include <glib.h>
#include <libvirt/libvirt.h>

/* *@broken: a virtio device of the domain is, *@alias (the caller's): the first one's. Blocks. Any
 * thread. Fails with class "CommandNotFound" at QEMU below 7.2. */
gboolean colo_steps_virtio_broken(virDomainPtr dom, gboolean *broken, char **alias, GError **error);
