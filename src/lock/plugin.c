/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo.so: the lock manager that keeps this host from running a domain that its peer owns, whoever
 * asks libvirt for it (design section 1). It asks virtcolod; without an answer every domain that
 * virtcolod's store names is refused. Domains that COLO has nothing to do with are untouched. A
 * second lock manager may be chained behind it; a lease of that one stays while checkpoints stop
 * and start the guest.
 */
#include "lock/ask.h"
#include "lock/lock-abi.h"
#include "lock/names.h"
#include "lock/settings.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* virErrorDomain, virErrorNumber of libvirt/virterror.h: stable ABI. */
#define FROM_LOCKING 42
#define ERR_OPERATION_INVALID 55
#define ERR_CONF_SYNTAX 19

typedef struct {
    char uuid[37];
    char *name;
    LockManager chained; /* of the lock manager behind us */
} Domain;

static ColoLockSettings settings;
static LockDriver *chain; /* NULL: none */
static void *chain_handle;

LockDriver virLockDriverImpl;

/* By name, not linked: the version of libvirt's private symbols changes with each release. */
static void report(int code, const char *text)
{
    typedef void (*Report)(int domain, int code, const char *file, const char *function,
                           size_t line, const char *format, ...);
    void *symbol = dlsym(RTLD_DEFAULT, "virReportErrorHelper");
    Report func;

    memcpy(&func, &symbol, sizeof(func)); /* POSIX: a symbol may be a function */
    if (func)
        func(FROM_LOCKING, code, __FILE__, __func__, __LINE__, "%s", text);
    else
        fprintf(stderr, "colo.so: %s\n", text);
}

/* ---- life ---- */

/* Loads the lock manager @name from where this one lies. */
static int load_chain(const char *config_file)
{
    char path[COLO_LOCK_PATH_MAX + 128], conf[COLO_LOCK_PATH_MAX], error[2048];
    const char *slash;
    Dl_info self;

    if (!dladdr(&virLockDriverImpl, &self) || !(slash = strrchr(self.dli_fname, '/')))
        return -1;
    snprintf(path, sizeof(path), "%.*s/%s.so", (int)(slash - self.dli_fname), self.dli_fname,
             settings.chain);
    chain_handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    chain = chain_handle ? dlsym(chain_handle, "virLockDriverImpl") : NULL;
    if (!chain) {
        snprintf(error, sizeof(error), "%s: lock manager '%s' to chain: %s", config_file,
                 settings.chain, dlerror());
        report(ERR_CONF_SYNTAX, error);
        return -1;
    }
    /* .../qemu-colo.conf of ours is .../qemu-NAME.conf of that one. */
    slash = strrchr(config_file, '/');
    snprintf(conf, sizeof(conf), "%.*s/qemu-%s.conf", slash ? (int)(slash - config_file) : 1,
             slash ? config_file : ".", settings.chain);
    return chain->init(LOCK_ABI_VERSION(LOCK_ABI_MAJOR), conf, 0);
}

static int plugin_deinit(void)
{
    int rc = chain ? chain->deinit() : 0;

    if (chain_handle)
        dlclose(chain_handle);
    chain = NULL;
    chain_handle = NULL;
    virLockDriverImpl.flags = 0;
    return rc;
}

static int plugin_init(unsigned int version, const char *config_file, unsigned int flags)
{
    char error[2048];

    (void)flags;
    if (version / LOCK_ABI_VERSION(1) != LOCK_ABI_MAJOR) {
        snprintf(error, sizeof(error), "colo.so: libvirt has lock manager interface %u, expected 1",
                 version / LOCK_ABI_VERSION(1));
        report(ERR_CONF_SYNTAX, error);
        return -1;
    }
    if (!colo_lock_settings_read(config_file, &settings, error, sizeof(error))) {
        report(ERR_CONF_SYNTAX, error);
        return -1;
    }
    if (!settings.chain[0])
        return 0;
    if (load_chain(config_file) < 0) {
        chain = NULL;
        (void)plugin_deinit();
        return -1;
    }
    virLockDriverImpl.flags = chain->flags;
    return 0;
}

/* ---- one domain, one operation ---- */

static void print_uuid(char *text, const unsigned char *uuid)
{
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *text++ = '-';
        text += sprintf(text, "%02x", uuid[i]);
    }
}

static void plugin_free(LockManager *manager)
{
    Domain *domain = manager->private_data;

    if (!domain)
        return;
    if (chain)
        chain->free(&domain->chained);
    free(domain->name);
    free(domain);
    manager->private_data = NULL;
}

static int plugin_new(LockManager *manager, unsigned int type, size_t n_params, LockParam *params,
                      unsigned int flags)
{
    Domain *domain = calloc(1, sizeof(*domain));

    if (!domain)
        return -1;
    for (size_t i = 0; i < n_params; i++) {
        if (params[i].type == LOCK_PARAM_UUID && strcmp(params[i].key, "uuid") == 0)
            print_uuid(domain->uuid, params[i].value.uuid);
        else if (strcmp(params[i].key, "name") == 0 && params[i].value.cstr)
            domain->name = strdup(params[i].value.cstr);
    }
    domain->chained.driver = chain;
    if (chain && chain->new (&domain->chained, type, n_params, params, flags) < 0) {
        free(domain->name);
        free(domain);
        return -1;
    }
    manager->private_data = domain;
    return 0;
}

static int plugin_add_resource(LockManager *manager, unsigned int type, const char *name,
                               size_t n_params, LockParam *params, unsigned int flags)
{
    Domain *domain = manager->private_data;

    return chain ? chain->add_resource(&domain->chained, type, name, n_params, params, flags) : 0;
}

/* 0, or -1 with an error reported: this host may not run the domain. */
static int may_run(const Domain *domain)
{
    const char *name = domain->name ? domain->name : domain->uuid;
    char state[1024], text[2 * COLO_LOCK_REASON_MAX];
    ColoLockAnswer answer;

    if (colo_lock_ask(settings.socket, domain->uuid, &answer)) {
        if (answer.may)
            return 0;
        report(ERR_OPERATION_INVALID, answer.reason);
        return -1;
    }
    switch (colo_lock_named(settings.state_dir, domain->uuid, state, sizeof(state))) {
    case COLO_LOCK_NOT_NAMED:
        return 0;
    case COLO_LOCK_NAMED:
        snprintf(text, sizeof(text),
                 "domain '%s' is under COLO (%s), and virtcolod, which knows the host that may run "
                 "it, does not answer (%s): start virtcolod.service",
                 name, state, answer.reason);
        break;
    case COLO_LOCK_UNREADABLE:
        snprintf(text, sizeof(text),
                 "domain '%s': whether it is under COLO is not known: virtcolod does not answer "
                 "(%s), and its store in %s cannot be read (%s): start virtcolod.service, or take "
                 "lock_manager out of /etc/libvirt/qemu.conf if this host protects no domain",
                 name, answer.reason, settings.state_dir, state);
        break;
    }
    report(ERR_OPERATION_INVALID, text);
    return -1;
}

static int plugin_acquire(LockManager *manager, const char *state, unsigned int flags, int action,
                          int *fd)
{
    Domain *domain = manager->private_data;

    if (fd)
        *fd = -1;
    if (!(flags & LOCK_REGISTER_ONLY) && may_run(domain) < 0)
        return -1;
    return chain ? chain->acquire(&domain->chained, state, flags, action, fd) : 0;
}

/* libvirt releases at each stop of the vCPUs, and does not acquire again when QEMU itself lets them
 * run after a checkpoint: a lease would be gone after the first. */
static int plugin_release(LockManager *manager, char **state, unsigned int flags)
{
    Domain *domain = manager->private_data;
    ColoLockAnswer answer;
    char text[1024];

    if (state)
        *state = NULL;
    if (!chain)
        return 0;
    if (colo_lock_ask(settings.socket, domain->uuid, &answer)
            ? answer.replicated
            : colo_lock_named(settings.state_dir, domain->uuid, text, sizeof(text)) !=
                  COLO_LOCK_NOT_NAMED)
        return 0;
    return chain->release(&domain->chained, state, flags);
}

static int plugin_inquire(LockManager *manager, char **state, unsigned int flags)
{
    Domain *domain = manager->private_data;

    if (state)
        *state = NULL;
    return chain ? chain->inquire(&domain->chained, state, flags) : 0;
}

LockDriver virLockDriverImpl = {
    .version = LOCK_ABI_VERSION(LOCK_ABI_MAJOR),
    .init = plugin_init,
    .deinit = plugin_deinit,
    .new = plugin_new,
    .free = plugin_free,
    .add_resource = plugin_add_resource,
    .acquire = plugin_acquire,
    .release = plugin_release,
    .inquire = plugin_inquire,
};
