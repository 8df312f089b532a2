/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads: one worker a watched domain, which sleeps until a kick is wanted or its interval is
 * over, and one watchdog, which sleeps until the earliest limit of an outstanding command. Locks:
 * kicker->lock for all fields of kicker and domains; kicker->conn_lock for the connection;
 * kicker->notify_lock around the callback, so that none comes after unwatch or free. A thread
 * inside libvirt holds none of them.
 */
#include "domain/kick.h"

#include "domain/qmp.h"
#include "domain/steps-disk.h"
#include "domain/steps-migrate.h"
#include "util/clock.h"
#include "util/error.h"

#define FREE_WAIT_US G_USEC_PER_SEC
#define WATCHDOG_IDLE_US G_USEC_PER_SEC

typedef struct {
    ColoKicker *kicker; /* a reference */
    char *uuid;
    ColoKickWatch watch;
    gint64 probe_due;       /* us */
    gboolean wanted;        /* a kick */
    gboolean stop;          /* also under notify_lock */
    gint64 busy_since;      /* us; 0: no command outstanding */
    ColoKickEvent reported; /* COLO_KICK_ALIVE, or the trouble that was told last */
    GCond wake;
    gint refs;
} Watched;

struct ColoKicker {
    char *uri;
    ColoKickNotify notify;
    void *data;
    GMutex lock;
    GHashTable *domains; /* uuid -> Watched */
    GThread *watchdog;
    GCond watchdog_wake, worker_gone;
    gint64 watchdog_next; /* us: when it wakes by itself */
    unsigned workers;
    gboolean closed;
    GMutex notify_lock;
    GMutex conn_lock;
    virConnectPtr conn;
    gint refs;
};

static void kicker_unref(ColoKicker *kicker)
{
    if (!g_atomic_int_dec_and_test(&kicker->refs))
        return;
    if (kicker->conn)
        virConnectClose(kicker->conn);
    g_hash_table_unref(kicker->domains);
    g_mutex_clear(&kicker->lock);
    g_mutex_clear(&kicker->notify_lock);
    g_mutex_clear(&kicker->conn_lock);
    g_cond_clear(&kicker->watchdog_wake);
    g_cond_clear(&kicker->worker_gone);
    g_free(kicker->uri);
    g_free(kicker);
}

static void watched_unref(void *data)
{
    Watched *domain = data;

    if (!g_atomic_int_dec_and_test(&domain->refs))
        return;
    g_cond_clear(&domain->wake);
    g_free(domain->uuid);
    g_free(domain);
}

/* Calls back unless the domain is not watched any more, or a suspicion was answered meanwhile. No
 * lock held. */
static void tell(Watched *domain, ColoKickEvent event, gint64 waited_us)
{
    ColoKicker *kicker = domain->kicker;
    gboolean still;

    g_mutex_lock(&kicker->notify_lock);
    g_mutex_lock(&kicker->lock);
    still = !domain->stop && (event != COLO_KICK_SUSPECT || domain->reported == event);
    g_mutex_unlock(&kicker->lock);
    if (still && kicker->notify)
        kicker->notify(domain->uuid, event, (uint64_t)MAX(waited_us, 0) / 1000, kicker->data);
    g_mutex_unlock(&kicker->notify_lock);
}

/* The process-wide connection with a reference for the caller, opened again when it died; or NULL.
 */
static virConnectPtr get_connection(ColoKicker *kicker)
{
    virConnectPtr conn;

    g_mutex_lock(&kicker->conn_lock);
    if (kicker->conn && virConnectIsAlive(kicker->conn) != 1) {
        virConnectClose(kicker->conn);
        kicker->conn = NULL;
    }
    if (!kicker->conn)
        kicker->conn = virConnectOpen(kicker->uri);
    conn = kicker->conn;
    if (conn)
        virConnectRef(conn);
    g_mutex_unlock(&kicker->conn_lock);
    return conn;
}

#define NOT_COUNTED UINT_MAX

/* A kick, a probe, or both: COLO_KICK_ALIVE when QEMU answered, GONE, NO_LIBVIRT, or SUSPECT when
 * libvirt gave up waiting for QEMU. @done: a kick that QEMU accepted. @mirrors: those that the
 * probe saw copying, or NOT_COUNTED. */
static ColoKickEvent ask(ColoKicker *kicker, const char *uuid, gboolean kick, gboolean probe,
                         uint64_t delay_ms, gboolean *done, unsigned *mirrors)
{
    virConnectPtr conn = get_connection(kicker);
    g_autoptr(virDomain) dom = conn ? virDomainLookupByUUIDString(conn, uuid) : NULL;
    g_autoptr(GError) error = NULL;
    ColoKickEvent result = COLO_KICK_ALIVE;

    *done = FALSE;
    *mirrors = NOT_COUNTED;
    if (dom && kick)
        *done = colo_steps_kick(dom, delay_ms, &error);
    if (dom && probe && !error && !colo_steps_mirrors_copying(dom, mirrors, &error))
        *mirrors = NOT_COUNTED;
    if (!conn || virConnectIsAlive(conn) != 1)
        result = COLO_KICK_NO_LIBVIRT;
    else if (!dom || (colo_qmp_is_error_class(error, "libvirt") &&
                      (g_error_matches(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN) ||
                       g_error_matches(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID))))
        result = COLO_KICK_GONE;
    else if (colo_qmp_is_error_class(error, "libvirt"))
        result = COLO_KICK_SUSPECT;
    if (conn)
        virConnectClose(conn);
    return result;
}

/* Notes the start of a command; wakes the watchdog when this limit ends before it would look. */
static void begin(Watched *domain)
{
    ColoKicker *kicker = domain->kicker;

    domain->busy_since = g_get_monotonic_time();
    if (domain->busy_since + (gint64)domain->watch.limit_ms * 1000 < kicker->watchdog_next)
        g_cond_signal(&kicker->watchdog_wake);
}

static void *worker(void *data)
{
    Watched *domain = data;
    ColoKicker *kicker = domain->kicker;

    g_mutex_lock(&kicker->lock);
    while (!domain->stop) {
        uint64_t delay_ms;
        gboolean kick, probe, done, news, mirror_lost;
        ColoKickEvent event;
        unsigned mirrors;
        gint64 waited;

        while (!domain->wanted && !domain->stop) {
            if (!g_cond_wait_until(&domain->wake, &kicker->lock, domain->probe_due))
                break;
        }
        if (domain->stop)
            break;
        kick = domain->wanted;
        domain->wanted = FALSE;
        delay_ms = domain->watch.delay_ms;
        begin(domain);
        probe = domain->busy_since >= domain->probe_due;
        if (probe)
            domain->probe_due = domain->busy_since + (gint64)domain->watch.interval_ms * 1000;
        g_mutex_unlock(&kicker->lock);

        event = ask(kicker, domain->uuid, kick, probe, delay_ms, &done, &mirrors);

        g_mutex_lock(&kicker->lock);
        waited = g_get_monotonic_time() - domain->busy_since;
        domain->busy_since = 0;
        news = event != domain->reported;
        domain->reported = event;
        mirror_lost = mirrors != NOT_COUNTED && mirrors < domain->watch.mirrors;
        g_mutex_unlock(&kicker->lock);
        if (news)
            tell(domain, event, waited);
        if (mirror_lost)
            tell(domain, COLO_KICK_MIRROR_LOST, waited);
        if (done)
            tell(domain, COLO_KICK_DONE, waited);
        g_mutex_lock(&kicker->lock);
    }
    kicker->workers--;
    g_cond_broadcast(&kicker->worker_gone);
    g_mutex_unlock(&kicker->lock);
    watched_unref(domain);
    kicker_unref(kicker);
    return NULL;
}

/* A domain whose command is over its limit and was not told yet, with a reference; else NULL and
 * watchdog_next set. Lock held. */
static Watched *find_overdue(ColoKicker *kicker, gint64 now)
{
    GHashTableIter iter;
    void *value;

    kicker->watchdog_next = now + WATCHDOG_IDLE_US;
    g_hash_table_iter_init(&iter, kicker->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Watched *domain = value;
        gint64 end = domain->busy_since + (gint64)domain->watch.limit_ms * 1000;

        if (domain->busy_since == 0 || domain->reported != COLO_KICK_ALIVE)
            continue;
        if (end <= now) {
            domain->reported = COLO_KICK_SUSPECT;
            g_atomic_int_inc(&domain->refs);
            return domain;
        }
        kicker->watchdog_next = MIN(kicker->watchdog_next, end);
    }
    return NULL;
}

static void *watchdog(void *data)
{
    ColoKicker *kicker = data;

    g_mutex_lock(&kicker->lock);
    while (!kicker->closed) {
        gint64 now = g_get_monotonic_time();
        Watched *overdue = find_overdue(kicker, now);

        if (!overdue) {
            g_cond_wait_until(&kicker->watchdog_wake, &kicker->lock, kicker->watchdog_next);
            continue;
        }
        now -= overdue->busy_since;
        g_mutex_unlock(&kicker->lock);
        tell(overdue, COLO_KICK_SUSPECT, now);
        watched_unref(overdue);
        g_mutex_lock(&kicker->lock);
    }
    g_mutex_unlock(&kicker->lock);
    kicker_unref(kicker);
    return NULL;
}

ColoKicker *colo_kicker_new(const char *uri, ColoKickNotify notify, void *data)
{
    ColoKicker *kicker = g_new0(ColoKicker, 1);

    kicker->uri = g_strdup(uri);
    kicker->notify = notify;
    kicker->data = data;
    kicker->domains = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, watched_unref);
    g_mutex_init(&kicker->lock);
    g_mutex_init(&kicker->notify_lock);
    g_mutex_init(&kicker->conn_lock);
    g_cond_init(&kicker->watchdog_wake);
    g_cond_init(&kicker->worker_gone);
    kicker->refs = 2;
    kicker->watchdog = g_thread_new("colo-watchdog", watchdog, kicker);
    return kicker;
}

/* Ends a domain's thread as soon as it is not inside a call. Both locks held. */
static void stop_domain(Watched *domain)
{
    domain->stop = TRUE;
    g_cond_signal(&domain->wake);
}

void colo_kicker_free(ColoKicker *kicker)
{
    gint64 until = g_get_monotonic_time() + FREE_WAIT_US;
    GHashTableIter iter;
    void *value;

    if (!kicker)
        return;
    g_mutex_lock(&kicker->notify_lock);
    g_mutex_lock(&kicker->lock);
    kicker->closed = TRUE;
    g_hash_table_iter_init(&iter, kicker->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        stop_domain(value);
    g_hash_table_remove_all(kicker->domains);
    g_cond_signal(&kicker->watchdog_wake);
    g_mutex_unlock(&kicker->notify_lock);
    while (kicker->workers > 0) {
        if (!g_cond_wait_until(&kicker->worker_gone, &kicker->lock, until))
            break;
    }
    g_mutex_unlock(&kicker->lock);
    g_thread_join(kicker->watchdog);
    kicker_unref(kicker);
}

gboolean colo_kicker_watch(ColoKicker *kicker, const char *uuid, const ColoKickWatch *watch,
                           GError **error)
{
    Watched *domain;
    gboolean ok = TRUE;

    g_mutex_lock(&kicker->lock);
    domain = g_hash_table_lookup(kicker->domains, uuid);
    if (domain) {
        domain->watch = *watch;
        g_cond_signal(&domain->wake);
    } else if (g_hash_table_size(kicker->domains) >= COLO_KICK_MAX_DOMAINS) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                    "domain '%s': at most %d domains are watched at once", uuid,
                    COLO_KICK_MAX_DOMAINS);
        ok = FALSE;
    } else {
        domain = g_new0(Watched, 1);
        domain->kicker = kicker;
        domain->uuid = g_strdup(uuid);
        domain->watch = *watch;
        domain->probe_due = g_get_monotonic_time() + (gint64)watch->interval_ms * 1000;
        domain->reported = COLO_KICK_ALIVE;
        g_cond_init(&domain->wake);
        domain->refs = 2;
        g_atomic_int_inc(&kicker->refs);
        kicker->workers++;
        g_hash_table_insert(kicker->domains, domain->uuid, domain);
        g_thread_unref(g_thread_new("colo-kick", worker, domain));
    }
    g_mutex_unlock(&kicker->lock);
    return ok;
}

void colo_kicker_unwatch(ColoKicker *kicker, const char *uuid)
{
    Watched *domain;

    g_mutex_lock(&kicker->notify_lock);
    g_mutex_lock(&kicker->lock);
    domain = g_hash_table_lookup(kicker->domains, uuid);
    if (domain) {
        stop_domain(domain);
        g_hash_table_remove(kicker->domains, uuid);
    }
    g_mutex_unlock(&kicker->lock);
    g_mutex_unlock(&kicker->notify_lock);
}

gboolean colo_kicker_kick(ColoKicker *kicker, const char *uuid)
{
    Watched *domain;

    g_mutex_lock(&kicker->lock);
    domain = g_hash_table_lookup(kicker->domains, uuid);
    if (domain) {
        domain->wanted = TRUE;
        g_cond_signal(&domain->wake);
    }
    g_mutex_unlock(&kicker->lock);
    return domain != NULL;
}
