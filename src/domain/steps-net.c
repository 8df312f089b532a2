/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/steps-net.h"

#include "domain/qmp.h"
#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"

#include <string.h>
#include <unistd.h>

/* Every object and chardev of ours in QEMU begins so. */
#define OURS "colo-"

/* QEMU leaves COLO within a millisecond. */
#define POLL_OFF_US 1000u

/* One filter of a NIC; its name is "colo-" KIND "-" ALIAS "." GENERATION, its chardev's too. */
typedef struct {
    const char *kind;
    const char *type;    /* QOM type */
    const char *queue;   /* tx: towards the guest, rx: from the guest (QEMU's view of the netdev) */
    const char *chardev; /* property that takes the chardev */
    size_t fd;           /* offset in ColoNicFds */
} FilterSpec;

/* The order of creation matters; see the header. */
static const FilterSpec primary_filters[] = {
    {"mirror", "filter-mirror", "tx", "outdev", offsetof(ColoNicFds, mirror)},
    {"release", "filter-redirector", "rx", "indev", offsetof(ColoNicFds, release)},
    {"out", "filter-redirector", "rx", "outdev", offsetof(ColoNicFds, out)},
};
#define REWRITING 2 /* the first ones of these are for a session that rewrites */
static const FilterSpec secondary_filters[] = {
    {"release", "filter-redirector", "rx", "indev", offsetof(ColoNicFds, release)},
    {"take", "filter-redirector", "tx", "outdev", offsetof(ColoNicFds, take)},
    {"in", "filter-redirector", "tx", "indev", offsetof(ColoNicFds, in)},
    {"out", "filter-redirector", "rx", "outdev", offsetof(ColoNicFds, out)},
};

static const FilterSpec *filters_of(const ColoStepNic *nic, ColoStepsRole role, size_t *n)
{
    size_t skipped = nic->rewrite ? 0 : REWRITING;

    if (role == COLO_STEPS_PRIMARY) {
        *n = G_N_ELEMENTS(primary_filters);
        return primary_filters;
    }
    *n = G_N_ELEMENTS(secondary_filters) - skipped;
    return secondary_filters + skipped;
}

static char *name_of(const FilterSpec *spec, const ColoStepNic *nic)
{
    return g_strdup_printf(OURS "%s-%s.%" G_GUINT64_FORMAT, spec->kind, nic->alias,
                           nic->generation);
}

/* Whether @id is a name of a set of @generation. libvirt's aliases have no dot. */
static gboolean is_of(const char *id, uint64_t generation)
{
    const char *dot = strrchr(id, '.');

    return dot && g_ascii_strtoull(dot + 1, NULL, 10) == generation;
}

static void fds_init(ColoNicFds *fds)
{
    *fds = (ColoNicFds){.mirror = -1, .release = -1, .take = -1, .in = -1, .out = -1};
}

static int *fd_at(ColoNicFds *fds, const FilterSpec *spec)
{
    return (int *)((char *)fds + spec->fd);
}

void colo_nic_fds_clear(ColoNicFds *fds)
{
    int *all[] = {&fds->mirror, &fds->release, &fds->take, &fds->in, &fds->out};

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (*all[i] >= 0)
            close(*all[i]);
        *all[i] = -1;
    }
}

static gboolean remove_object(virDomainPtr dom, const char *id, GError **error)
{
    return colo_qmp_run(dom, "object-del", colo_json_build("id", "s", id, NULL), error);
}

static gboolean remove_chardev(virDomainPtr dom, const char *id, GError **error)
{
    return colo_qmp_run(dom, "chardev-remove", colo_json_build("id", "s", id, NULL), error);
}

/* Passes a socket and adds the chardev @name on it; our end, or -1 with nothing left. */
static int add_chardev(virDomainPtr dom, const char *name, GError **error)
{
    int fd = colo_qmp_pass_socket(dom, name, error);
    JsonObject *addr, *data;

    if (fd < 0)
        return -1;
    /* qapi/char.json, ChardevSocket; by FD it cannot be a server nor reconnect. */
    addr = colo_json_build("type", "s", "fd", "data", "o", colo_json_build("str", "s", name, NULL),
                           NULL);
    data = colo_json_build("addr", "o", addr, "server", "b", FALSE, NULL);
    if (!colo_qmp_run(
            dom, "chardev-add",
            colo_json_build("id", "s", name, "backend", "o",
                            colo_json_build("type", "s", "socket", "data", "o", data, NULL), NULL),
            error)) {
        colo_qmp_drop_fd(dom, name);
        close(fd);
        return -1;
    }
    return fd;
}

gboolean colo_steps_net_channels(virDomainPtr dom, const ColoStepNic *nic, ColoStepsRole role,
                                 ColoNicFds *fds, GError **error)
{
    size_t n;
    const FilterSpec *specs = filters_of(nic, role, &n);

    fds_init(fds);
    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = name_of(&specs[i], nic);

        *fd_at(fds, &specs[i]) = add_chardev(dom, name, error);
        if (*fd_at(fds, &specs[i]) >= 0)
            continue;
        while (i-- > 0) {
            g_autofree char *added = name_of(&specs[i], nic);

            remove_chardev(dom, added, NULL);
        }
        colo_nic_fds_clear(fds);
        return FALSE;
    }
    return TRUE;
}

/* A new GPtrArray of the "name" (or @key) members of the array @list that begin with @prefix. */
static GPtrArray *names_in(JsonObject *list, const char *key, const char *prefix)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    if (!json_object_is_type(list, json_type_array))
        return names;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *name = colo_json_peek_string(json_object_array_get_idx(list, i), key, "");

        if (g_str_has_prefix(name, prefix))
            g_ptr_array_add(names, g_strdup(name));
    }
    return names;
}

/* Names of our filter objects in the order of QOM's list, or NULL. */
static GPtrArray *list_filters(virDomainPtr dom, GError **error)
{
    g_autoptr(JsonObject) list =
        colo_qmp(dom, "qom-list", colo_json_build("path", "s", "/objects", NULL), -1, error);

    return list ? names_in(list, "name", OURS) : NULL;
}

gboolean colo_steps_net_filters(virDomainPtr dom, const ColoStepNic *nic, ColoStepsRole role,
                                GError **error)
{
    size_t n;
    const FilterSpec *specs = filters_of(nic, role, &n);
    g_autofree char *netdev =
        nic->netdev ? g_strdup(nic->netdev) : g_strdup_printf("host%s", nic->alias);
    g_autoptr(GError) local = NULL;

    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = name_of(&specs[i], nic);
        JsonObject *args =
            colo_json_build("qom-type", "s", specs[i].type, "id", "s", name, "netdev", "s", netdev,
                            "queue", "s", specs[i].queue, specs[i].chardev, "s", name, NULL);

        if (nic->vnet_hdr)
            colo_json_add(args, "vnet_hdr_support", "b", TRUE, NULL);
        if (colo_qmp_run(dom, "object-add", args, &local))
            continue;
        while (i-- > 0) {
            g_autofree char *added = name_of(&specs[i], nic);

            remove_object(dom, added, NULL);
        }
        if (colo_qmp_error_has(local, "host"))
            g_prefix_error(&local,
                           "NIC '%s' is on vhost, set <driver name='qemu'/> on it: ", nic->alias);
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    return TRUE;
}

/* Removes what is of @generation (@only), or what is not (0: everything). */
static gboolean remove_set(virDomainPtr dom, uint64_t generation, gboolean only, GError **error)
{
    g_autoptr(ColoNetInventory) found = colo_steps_net_inventory(dom, error);
    g_autoptr(GError) first = NULL;

    if (!found)
        return FALSE;
    /* The filters that steal packets (colo-out, colo-take) go first, so that none is lost between
     * the removals: without them packets go directly. */
    for (int pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < found->filters->len; i++) {
            const char *id = found->filters->pdata[i];
            gboolean steals =
                g_str_has_prefix(id, OURS "out-") || g_str_has_prefix(id, OURS "take-");

            if (steals == (pass == 0) && is_of(id, generation) == only)
                remove_object(dom, id, first ? NULL : &first);
        }
    }
    for (guint i = 0; i < found->chardevs->len; i++) {
        const char *id = found->chardevs->pdata[i];

        if (is_of(id, generation) == only)
            remove_chardev(dom, id, first ? NULL : &first);
    }
    if (first) {
        g_propagate_error(error, g_steal_pointer(&first));
        return FALSE;
    }
    return TRUE;
}

gboolean colo_steps_net_remove(virDomainPtr dom, uint64_t except, GError **error)
{
    return remove_set(dom, except, FALSE, error);
}

gboolean colo_steps_net_remove_of(virDomainPtr dom, uint64_t generation, GError **error)
{
    return remove_set(dom, generation, TRUE, error);
}

gboolean colo_steps_net_cut(virDomainPtr dom, const ColoStepNic *nic, GError **error)
{
    size_t n;
    const FilterSpec *specs = filters_of(nic, COLO_STEPS_SECONDARY, &n);

    /* Newest first: the guest's output goes free before its input. */
    for (size_t i = n; i-- > 0;) {
        const FilterSpec *spec = &specs[i];
        g_autofree char *id = name_of(spec, nic);
        g_autoptr(GError) local = NULL;

        if (spec->fd == offsetof(ColoNicFds, release))
            continue; /* it takes nothing */
        /* qom/object_interfaces.c, user_creatable_del(): "object '...' not found". */
        if (!remove_object(dom, id, &local) && !colo_qmp_error_has(local, "not found")) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean is_on(virDomainPtr dom, const char *path, gboolean *on, GError **error)
{
    g_autoptr(JsonObject) status =
        colo_qmp(dom, "qom-get",
                 colo_json_build("path", "s", path, "property", "s", "status", NULL), -1, error);

    *on = status && g_strcmp0(json_object_get_string(status), "on") == 0;
    return status != NULL;
}

gboolean colo_steps_net_turn_on(virDomainPtr dom, const ColoStepNic *nic, unsigned timeout_ms,
                                GError **error)
{
    uint64_t end = colo_clock_ns() + timeout_ms * COLO_NS_PER_MS;
    size_t n;
    const FilterSpec *specs = filters_of(nic, COLO_STEPS_SECONDARY, &n);

    for (size_t i = 0; i < n; i++) {
        g_autofree char *name = name_of(&specs[i], nic);
        g_autofree char *path = g_strconcat("/objects/", name, NULL);
        ColoMigrateState state;
        gboolean on;

        for (;;) {
            /* In this order: once it has left, the status does not change by itself any more. */
            if (!colo_steps_migrate_state(dom, &state, error) || !is_on(dom, path, &on, error))
                return FALSE;
            if (!on || state.status != COLO_MIGRATE_COLO)
                break;
            if (colo_clock_ns() > end) {
                g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                            "domain '%s': still in COLO %u ms after failover",
                            virDomainGetName(dom), timeout_ms);
                return FALSE;
            }
            g_usleep(POLL_OFF_US);
        }
        if (!on && !colo_qmp_run(dom, "qom-set",
                                 colo_json_build("path", "s", path, "property", "s", "status",
                                                 "value", "s", "on", NULL),
                                 error))
            return FALSE;
    }
    return TRUE;
}

gboolean colo_steps_announce_self(virDomainPtr dom, GError **error)
{
    /* qapi/net.json, AnnounceParameters, ms: 10, 20, ... up to 100 between rounds; 24 rounds are
     * 0.45 s of ramp and 1.4 s at the end. */
    return colo_qmp_run(dom, "announce-self",
                        colo_json_build("initial", "u", (uint64_t)10, "max", "u", (uint64_t)100,
                                        "rounds", "u", (uint64_t)24, "step", "u", (uint64_t)10,
                                        NULL),
                        error);
}

ColoNetInventory *colo_steps_net_inventory(virDomainPtr dom, GError **error)
{
    g_autoptr(ColoNetInventory) found = g_new0(ColoNetInventory, 1);
    g_autoptr(JsonObject) chardevs = NULL;

    found->filters = list_filters(dom, error);
    if (!found->filters || !(chardevs = colo_qmp(dom, "query-chardev", NULL, -1, error)))
        return NULL;
    found->chardevs = names_in(chardevs, "label", OURS);
    return g_steal_pointer(&found);
}

void colo_net_inventory_free(ColoNetInventory *inventory)
{
    g_clear_pointer(&inventory->filters, g_ptr_array_unref);
    g_clear_pointer(&inventory->chardevs, g_ptr_array_unref);
    g_free(inventory);
}
