/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A lock manager to chain behind colo.so: one lease for everybody, which it counts. */
#include "lock/lock-abi.h"

#include <stdlib.h>
#include <string.h>

int counting_acquired, counting_released, counting_resources, counting_live;
extern LockDriver virLockDriverImpl;

static int init(unsigned int version, const char *config_file, unsigned int flags)
{
    (void)flags;
    return version == LOCK_ABI_VERSION(1) && strstr(config_file, "/qemu-counting.conf") ? 0 : -1;
}

static int deinit(void)
{
    return 0;
}

static int new (LockManager *manager, unsigned int type, size_t n_params, LockParam *params,
                unsigned int flags)
{
    (void)type;
    (void)n_params;
    (void)params;
    (void)flags;
    counting_live++;
    manager->private_data = &counting_live;
    return 0;
}

static void release_manager(LockManager *manager)
{
    counting_live -= manager->private_data == &counting_live;
}

static int add_resource(LockManager *manager, unsigned int type, const char *name, size_t n_params,
                        LockParam *params, unsigned int flags)
{
    (void)manager;
    (void)type;
    (void)name;
    (void)n_params;
    (void)params;
    (void)flags;
    counting_resources++;
    return 0;
}

static int acquire(LockManager *manager, const char *state, unsigned int flags, int action, int *fd)
{
    (void)manager;
    (void)flags;
    (void)action;
    (void)fd;
    counting_acquired++;
    return state && strcmp(state, "bad") == 0 ? -1 : 0;
}

static int release(LockManager *manager, char **state, unsigned int flags)
{
    (void)manager;
    (void)flags;
    counting_released++;
    if (state)
        *state = strdup("lease");
    return 0;
}

static int inquire(LockManager *manager, char **state, unsigned int flags)
{
    (void)manager;
    (void)flags;
    if (state)
        *state = strdup("lease");
    return 0;
}

LockDriver virLockDriverImpl = {
    .version = LOCK_ABI_VERSION(1),
    .flags = LOCK_USES_STATE,
    .init = init,
    .deinit = deinit,
    .new = new,
    .free = release_manager,
    .add_resource = add_resource,
    .acquire = acquire,
    .release = release,
    .inquire = inquire,
};
