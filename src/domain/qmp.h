/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QMP through libvirt: one command of QEMU's monitor protocol on a domain that libvirt owns, with
 * at most one file descriptor (virDomainQemuMonitorCommandWithFiles, libvirt 8.2; QEMU's `getfd`).
 *
 * Calls block until QEMU answers, for as long as QEMU takes: a hung QEMU hangs the caller. The
 * actor that must stay responsive therefore looks at guest liveness through kick.h. Any thread; a
 * virConnectPtr may be shared by threads.
 *
 * Errors: COLO_ERROR, message "domain 'NAME': 'COMMAND' failed: [CLASS] QEMU's own text". CLASS is
 * QEMU's error class (qapi/error.json: GenericError, DeviceNotFound, CommandNotFound, ...), or
 * "libvirt" when the command did not reach QEMU.
 */
#pragma once

#include "util/json.h"

#include <glib.h>
#include <libvirt/libvirt.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

/*
 * Runs @command with @args (taken over; NULL: none) and passes @fd (-1: none; stays the caller's).
 * Returns the value of "return", which the caller owns: an object, an array or a scalar, never
 * NULL. NULL with @error otherwise.
 */
JsonObject *colo_qmp(virDomainPtr dom, const char *command, JsonObject *args, int fd,
                     GError **error);

/* The same for a command whose value does not matter. */
gboolean colo_qmp_run(virDomainPtr dom, const char *command, JsonObject *args, GError **error);

/* TRUE when @error comes from colo_qmp() and QEMU's class is @class ("DeviceNotFound"). */
gboolean colo_qmp_is_error_class(const GError *error, const char *class);

/* TRUE when QEMU's own text in @error holds @text. For errors QEMU reports as GenericError only. */
gboolean colo_qmp_error_has(const GError *error, const char *text);

/* Gives QEMU a duplicate of @fd under @name (`getfd`); an older one of that name is closed by QEMU.
 * It lies there until a command consumes it or colo_qmp_drop_fd(). @fd stays the caller's. */
gboolean colo_qmp_send_fd(virDomainPtr dom, int fd, const char *name, GError **error);

/* `closefd`: undoes colo_qmp_send_fd() when no command has consumed it; nothing if it is gone. */
void colo_qmp_drop_fd(virDomainPtr dom, const char *name);

/*
 * Makes a unix stream socket pair, gives one end to QEMU as @name and returns the other, which is
 * non-blocking and close-on-exec: the end that goes to the comparator. -1 with @error.
 */
int colo_qmp_pass_socket(virDomainPtr dom, const char *name, GError **error);

/* Sets @error from libvirt's last error of this thread: "domain 'NAME': WHAT: text". */
void colo_qmp_set_libvirt_error(virDomainPtr dom, const char *what, GError **error);
