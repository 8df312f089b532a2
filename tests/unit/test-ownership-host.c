/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-ownership-host.h"

#include <glib/gstdio.h>
#include <sqlite3.h>

static void set_context(Host *host)
{
    host->ctx = (ColoOwnershipContext){host->store, host->arbiter, host->name, host->peer};
}

void host_new(Host *host, const char *name, const char *peer, const char *uuid,
              ColoArbiter *arbiter)
{
    g_autoptr(GError) error = NULL;

    *host = (Host){.name = name, .peer = peer};
    host->dir = g_dir_make_tmp("colo-host-XXXXXX", NULL);
    host->store = colo_store_open(host->dir, &error);
    g_assert_no_error(error);
    host->arbiter = arbiter ? arbiter : direct();
    host->record = colo_domain_record_new(uuid, "vm");
    host->record->role = COLO_ROLE_PRIMARY;
    g_assert_true(colo_store_save_domain(host->store, host->record, NULL));
    set_context(host);
}

void host_clear(Host *host)
{
    g_autofree char *db = g_build_filename(host->dir, "state.db", NULL);

    colo_domain_record_free(host->record);
    colo_arbiter_free(host->arbiter);
    colo_store_close(host->store);
    g_unlink(db);
    g_rmdir(host->dir);
    g_free(host->dir);
}

ColoDomainRecord *host_stored(const Host *host)
{
    g_autoptr(GPtrArray) records = colo_store_domains(host->store, NULL);

    g_assert_nonnull(records);
    g_assert_cmpuint(records->len, ==, 1);
    return colo_domain_record_copy(g_ptr_array_index(records, 0));
}

void host_restart(Host *host)
{
    g_autoptr(GError) error = NULL;

    colo_store_close(host->store);
    host->store = colo_store_open(host->dir, &error);
    g_assert_no_error(error);
    colo_domain_record_free(host->record);
    host->record = host_stored(host);
    set_context(host);
}

void host_use(Host *host, ColoArbiter *arbiter)
{
    colo_arbiter_free(host->arbiter);
    host->arbiter = arbiter;
    set_context(host);
}

void join_as_secondary(Host *primary, Host *secondary)
{
    ColoDomainRecord *r = secondary->record;

    r->role = COLO_ROLE_SECONDARY;
    r->state = COLO_STATE_SYNCING;
    r->generation = primary->record->generation;
    r->owner = FALSE;
    r->loaded = TRUE;
    g_assert_true(colo_store_save_domain(secondary->store, r, NULL));
    primary->record->role = COLO_ROLE_PRIMARY;
    primary->record->state = COLO_STATE_SYNCING;
    g_assert_true(colo_store_save_domain(primary->store, primary->record, NULL));
}

void hosts_new(Pair *pair)
{
    pair->uuid = g_uuid_string_random();
    host_new(&pair->a, "alpha", "beta", pair->uuid, NULL);
    host_new(&pair->b, "beta", "alpha", pair->uuid, NULL);
}

void pair_new(Pair *pair)
{
    g_autoptr(GError) error = NULL;

    hosts_new(pair);
    g_assert_true(OWN(begin, &pair->a, &error));
    g_assert_no_error(error);
    join_as_secondary(&pair->a, &pair->b);
    g_assert_cmpint(OWN(pair, &pair->a, &error), ==, COLO_OWNERSHIP_PAIRED);
    g_assert_no_error(error);
}

void pair_clear(Pair *pair)
{
    host_clear(&pair->a);
    host_clear(&pair->b);
    g_free(pair->uuid);
}

typedef struct {
    void (*begin)(Pair *pair);
    void (*test)(Pair *pair);
} PairTest;

static void run_test(gconstpointer data)
{
    const PairTest *t = data;
    Pair pair;

    if (!have_etcd())
        return;
    t->begin(&pair);
    t->test(&pair);
    pair_clear(&pair);
}

void add_test(const char *path, void (*begin)(Pair *pair), void (*test)(Pair *pair))
{
    PairTest *t = g_new(PairTest, 1);

    *t = (PairTest){begin, test};
    g_test_add_data_func_full(path, t, run_test, g_free);
}

void assert_register(const char *uuid, uint64_t generation, const char *owner,
                     ColoRegisterMode mode)
{
    g_autoptr(ColoArbiter) arbiter = direct();
    g_autoptr(ColoRegister) reg = must_read(arbiter, uuid);

    g_assert_cmpuint(reg->generation, ==, generation);
    g_assert_cmpstr(reg->owner, ==, owner);
    g_assert_cmpint(reg->mode, ==, mode);
}

void assert_no_register(const char *uuid)
{
    g_autoptr(ColoArbiter) arbiter = direct();
    ColoRegister *reg = NULL;

    g_assert_cmpint(colo_arbiter_read(arbiter, uuid, &reg, NULL), ==, COLO_ARBITER_ABSENT);
}

void assert_host(const Host *host, uint64_t generation, gboolean owner, gboolean attempt)
{
    g_autoptr(ColoDomainRecord) stored = host_stored(host);

    g_assert_cmpuint(host->record->generation, ==, generation);
    g_assert_cmpint(host->record->owner, ==, owner);
    g_assert_cmpint(host->record->attempt != NULL, ==, attempt);
    g_assert_cmpuint(stored->generation, ==, generation);
    g_assert_cmpint(stored->owner, ==, owner);
    g_assert_cmpstr(stored->attempt, ==, host->record->attempt);
    g_assert_cmpuint(stored->relinquished, ==, host->record->relinquished);
    if (attempt)
        g_assert_cmpint(stored->attempt_pair, ==, host->record->attempt_pair);
}

static void run_sql(const Host *host, const char *sql)
{
    g_autofree char *file = g_build_filename(host->dir, "state.db", NULL);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

void store_break(const Host *host)
{
    run_sql(host, "CREATE TRIGGER broken BEFORE UPDATE ON domains BEGIN"
                  " SELECT RAISE (ABORT, 'no space left'); END");
}

void store_mend(const Host *host)
{
    run_sql(host, "DROP TRIGGER broken");
}

ColoOwnership resolve(Host *host)
{
    ColoOwnership outcome = COLO_OWNERSHIP_UNKNOWN;

    for (unsigned i = 0; outcome == COLO_OWNERSHIP_UNKNOWN && i < 200; i++) {
        outcome = OWN(resolve_unknown, host, NULL);
        if (outcome == COLO_OWNERSHIP_UNKNOWN)
            g_usleep(50 * 1000);
    }
    return outcome;
}
