/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The binary interface between libvirt's QEMU driver and a lock manager plugin, version 1.0.0: the
 * shapes and numbers of libvirt's src/locking/lock_driver.h, which is not installed. The same from
 * libvirt 1.0 to 11.3 at least. libvirt loads $(libdir)/libvirt/lock-driver/NAME.so for
 * lock_manager = "NAME" and looks up virLockDriverImpl.
 *
 * libvirt makes a manager for each single operation: New, AddResource for each disk, then Acquire
 * (before vCPUs start, so at start and at resume), Release (they have stopped: also at each
 * checkpoint of COLO, which is a STOP event of QEMU) or Inquire, then Free. On threads of its own.
 */
#pragma once

#include <stddef.h>

#define LOCK_ABI_VERSION(major) ((major)*1000000)
#define LOCK_ABI_MAJOR 1

/* LockDriver.flags */
#define LOCK_USES_STATE 1u /* a state goes from Release to Acquire, also with a migration */

/* Acquire's flags */
#define LOCK_REGISTER_ONLY 1u /* QEMU starts with stopped vCPUs: nothing is to be had yet */

/* LockParam.type */
enum { LOCK_PARAM_STRING, LOCK_PARAM_CSTRING, LOCK_PARAM_UUID = 7 };

typedef struct {
    int type;
    const char *key; /* "uuid", "name", "id", "pid", "uri" */
    union {
        int iv;
        long long l;
        unsigned int ui;
        unsigned long long ul;
        double d;
        char *str;
        const char *cstr;
        unsigned char uuid[16];
    } value;
} LockParam;

typedef struct LockDriver LockDriver;

typedef struct {
    LockDriver *driver;
    void *private_data;
} LockManager;

/* 0, or -1 with an error reported. *state: malloc()ed, or NULL. *fd: to be leaked into QEMU, or -1.
 */
struct LockDriver {
    unsigned int version, flags;
    int (*init)(unsigned int version, const char *config_file, unsigned int flags);
    int (*deinit)(void);
    int (*new)(LockManager *manager, unsigned int type, size_t n_params, LockParam *params,
               unsigned int flags);
    void (*free)(LockManager *manager);
    int (*add_resource)(LockManager *manager, unsigned int type, const char *name, size_t n_params,
                        LockParam *params, unsigned int flags);
    int (*acquire)(LockManager *manager, const char *state, unsigned int flags, int action,
                   int *fd);
    int (*release)(LockManager *manager, char **state, unsigned int flags);
    int (*inquire)(LockManager *manager, char **state, unsigned int flags);
};
