/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asks polkit whether a local client may do what libvirt's own actions name, as libvirt's daemons
 * ask it (libvirt 9.0, src/util/virpolkit.c: virPolkitCheckAuth()): the process by pid, start time
 * and uid; its user may be asked for a password.
 */
#pragma once

#include "rpc/server.h"

#include <gio/gio.h>

#define COLO_POLKIT_MANAGE "org.libvirt.unix.manage"
#define COLO_POLKIT_MONITOR "org.libvirt.unix.monitor"

/* @code: 0, it may; else a virErrorNumber with @message, in libvirt's words. */
typedef void (*ColoPolkitFunc)(int code, const char *message, void *opaque);

/* Calls @func once, later, on the thread-default context of the caller, also after @cancellable
 * was cancelled. It may take as long as a user takes. */
void colo_polkit_check(const ColoRpcCaller *caller, const char *action, GCancellable *cancellable,
                       ColoPolkitFunc func, void *opaque);
