/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store: what a host must remember over a crash is there afterwards, and never goes back. */
#include "domain/store.h"

#include "util/error.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UUID "6f1c2e64-6a3f-4b06-9f0e-000000000001"

static char *state_dir;

static char *db_path(void)
{
    return g_build_filename(state_dir, "state.db", NULL);
}

static ColoStore *open_store(void)
{
    g_autoptr(GError) error = NULL;
    ColoStore *store = colo_store_open(state_dir, &error);

    g_assert_no_error(error);
    return store;
}

/* The only record of @store. */
static ColoDomainRecord *only_record(ColoStore *store)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) records = colo_store_domains(store, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(records->len, ==, 1);
    return colo_domain_record_copy(g_ptr_array_index(records, 0));
}

static void must_save(ColoStore *store, const ColoDomainRecord *record)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(colo_store_save_domain(store, record, &error));
    g_assert_no_error(error);
}

static void setup(void)
{
    state_dir = g_dir_make_tmp("colo-store-XXXXXX", NULL);
    g_assert_nonnull(state_dir);
}

/* The database and what SQLite keeps beside it while a process has it open, or was killed. */
static void remove_files(void)
{
    g_autoptr(GDir) folder = g_dir_open(state_dir, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(folder))) {
        g_autofree char *path = g_build_filename(state_dir, name, NULL);

        g_unlink(path);
    }
}

static void teardown(void)
{
    remove_files();
    g_assert_cmpint(g_rmdir(state_dir), ==, 0);
    g_clear_pointer(&state_dir, g_free);
}

static ColoDomainRecord *full_record(void)
{
    ColoDomainRecord *r = colo_domain_record_new(UUID, "web server's \"name\"");

    r->pair = g_strdup("east");
    r->role = COLO_ROLE_SECONDARY;
    r->state = COLO_STATE_FAILING_OVER;
    r->generation = UINT64_C(1) << 40;
    r->relinquished = (UINT64_C(1) << 40) - 1;
    r->owner = TRUE;
    r->loaded = TRUE;
    r->attempt = g_strdup("b2b0a3ba-0000-4000-8000-000000000002");
    r->attempt_pair = TRUE;
    r->boot_id = g_strdup("8d0a4d2c-0000-4000-8000-000000000003");
    json_object_put(r->details);
    r->details = colo_json_build("chain", "s", "taken", "unclean", "b", TRUE, "disks", "o",
                                 json_object_new_array(), NULL);
    return r;
}

static void assert_same(const ColoDomainRecord *a, const ColoDomainRecord *b)
{
    g_autofree char *details_a = colo_json_to_string(a->details);
    g_autofree char *details_b = colo_json_to_string(b->details);

    g_assert_cmpstr(a->uuid, ==, b->uuid);
    g_assert_cmpstr(a->name, ==, b->name);
    g_assert_cmpstr(a->pair, ==, b->pair);
    g_assert_cmpint(a->role, ==, b->role);
    g_assert_cmpint(a->state, ==, b->state);
    g_assert_cmpuint(a->generation, ==, b->generation);
    g_assert_cmpuint(a->relinquished, ==, b->relinquished);
    g_assert_cmpint(a->owner, ==, b->owner);
    g_assert_cmpint(a->loaded, ==, b->loaded);
    g_assert_cmpstr(a->attempt, ==, b->attempt);
    g_assert_cmpint(a->attempt_pair, ==, b->attempt_pair);
    g_assert_cmpstr(a->boot_id, ==, b->boot_id);
    g_assert_cmpstr(details_a, ==, details_b);
}

static void test_a_record_comes_back_whole(void)
{
    g_autoptr(ColoDomainRecord) record = full_record();

    setup();
    {
        g_autoptr(ColoStore) store = open_store();

        must_save(store, record);
    }
    {
        g_autoptr(ColoStore) store = open_store();
        g_autoptr(ColoDomainRecord) found = only_record(store);

        assert_same(record, found);
        /* Members that may be NULL come back as NULL. */
        g_clear_pointer(&record->attempt, g_free);
        g_clear_pointer(&record->pair, g_free);
        g_clear_pointer(&record->boot_id, g_free);
        must_save(store, record);
    }
    {
        g_autoptr(ColoStore) store = open_store();
        g_autoptr(ColoDomainRecord) found = only_record(store);

        assert_same(record, found);
    }
    teardown();
}

static void test_every_state_and_role_has_a_name_of_its_own(void)
{
    for (int i = 0; i < COLO_STATE_LAST; i++)
        g_assert_cmpint(colo_state_from_name(colo_state_name((ColoState)i)), ==, i);
    for (int i = COLO_ROLE_NONE; i <= COLO_ROLE_SECONDARY; i++)
        g_assert_cmpint(colo_role_from_name(colo_role_name((ColoRole)i)), ==, i);
    g_assert_cmpint(colo_state_from_name("from the future"), ==, COLO_STATE_UNPROTECTED);
}

static void refused(ColoStore *store, const ColoDomainRecord *record)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(colo_store_save_domain(store, record, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INTERNAL);
    g_assert_nonnull(strstr(error->message, record->name));
}

static void test_generation_and_relinquished_never_go_back(void)
{
    g_autoptr(ColoDomainRecord) record = colo_domain_record_new(UUID, "vm");
    g_autoptr(ColoDomainRecord) kept = NULL;

    setup();
    g_autoptr(ColoStore) store = open_store();
    record->generation = 7;
    record->relinquished = 6;
    must_save(store, record);

    record->generation = 6;
    record->owner = TRUE;
    refused(store, record);
    record->generation = 8;
    record->relinquished = 5;
    refused(store, record);
    kept = only_record(store);
    g_assert_cmpuint(kept->generation, ==, 7);
    g_assert_cmpuint(kept->relinquished, ==, 6);
    g_assert_false(kept->owner);

    record->generation = 7;
    record->relinquished = 7;
    must_save(store, record);
    teardown();
}

static void set_user_version(int version)
{
    g_autofree char *path = db_path();
    g_autofree char *sql = g_strdup_printf("PRAGMA user_version = %d", version);
    sqlite3 *db;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

static void test_a_newer_store_is_refused_and_left_alone(void)
{
    g_autoptr(ColoDomainRecord) record = full_record();
    g_autoptr(GError) error = NULL;

    setup();
    {
        g_autoptr(ColoStore) store = open_store();

        must_save(store, record);
    }
    set_user_version(2);
    g_assert_null(colo_store_open(state_dir, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID);
    g_assert_nonnull(strstr(error->message, "newer"));
    set_user_version(1);
    {
        g_autoptr(ColoStore) store = open_store();
        g_autoptr(ColoDomainRecord) found = only_record(store);

        assert_same(record, found);
    }
    teardown();
}

static void test_others_cannot_read_it(void)
{
    g_autofree char *path = NULL;
    struct stat st;

    setup();
    path = db_path();
    g_autoptr(ColoStore) store = open_store();
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    teardown();
}

/* Saves ever higher generations, telling each one through @fd once the call has returned. */
static void save_for_ever(int fd)
{
    ColoStore *store = colo_store_open(state_dir, NULL);
    ColoDomainRecord *record = colo_domain_record_new(UUID, "vm");

    for (;;) {
        record->generation++;
        if (!colo_store_save_domain(store, record, NULL) ||
            write(fd, &record->generation, sizeof(record->generation)) < 0)
            _exit(1);
    }
}

static void test_what_a_call_saved_survives_kill_9(void)
{
    setup();
    for (unsigned round = 0; round < 5; round++) {
        uint64_t told = 0, value;
        int fds[2];
        pid_t pid;

        remove_files();
        g_assert_cmpint(pipe(fds), ==, 0);
        pid = fork();
        if (pid == 0) {
            close(fds[0]);
            save_for_ever(fds[1]);
        }
        close(fds[1]);
        /* Killed somewhere in the middle of a write. */
        while (told < 3 + round && read(fds[0], &value, sizeof(value)) == sizeof(value))
            told = value;
        g_usleep(round * 700);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(fds[0], &value, sizeof(value)) == sizeof(value))
            told = value;
        close(fds[0]);
        g_assert_cmpuint(told, >=, 3 + round);
        {
            g_autoptr(ColoStore) store = open_store();
            g_autoptr(ColoDomainRecord) found = only_record(store);

            g_assert_cmpuint(found->generation, >=, told);
            g_assert_cmpuint(found->generation, <=, told + 1);
        }
    }
    teardown();
}

/* Half a list would forget who owns what. */
static void test_a_damaged_store_is_an_error_not_a_short_list(void)
{
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    g_autoptr(GPtrArray) records = NULL;
    g_autoptr(GError) error = NULL;
    gsize len = 0;

    setup();
    path = db_path();
    {
        g_autoptr(ColoStore) store = open_store();
        g_autofree char *long_text = g_strnfill(3000, 'x');

        for (unsigned i = 0; i < 40; i++) {
            g_autofree char *uuid = g_uuid_string_random();
            g_autofree char *name = g_strdup_printf("vm%02u", i);
            g_autoptr(ColoDomainRecord) r = colo_domain_record_new(uuid, name);

            colo_json_add(r->details, "inactive-xml", "s", long_text, NULL);
            must_save(store, r);
        }
    }
    g_assert_true(g_file_get_contents(path, &text, &len, NULL));
    memset(text + len / 2, 0xa5, len / 2);
    g_assert_true(g_file_set_contents(path, text, (gssize)len, NULL));
    {
        g_autoptr(ColoStore) store = colo_store_open(state_dir, &error);

        if (store)
            records = colo_store_domains(store, &error);
        g_assert_null(records);
        g_assert_error(error, COLO_ERROR, COLO_ERROR_SYSTEM);
        g_assert_nonnull(strstr(error->message, path));
    }
    teardown();
}

static void test_pairs_come_back(void)
{
    setup();
    {
        g_autoptr(ColoStore) store = open_store();
        g_autoptr(ColoPairRecord) pair = colo_pair_record_new("east", "hostb", 16516);

        colo_json_add(pair->pool_map, "default", "s", "images", NULL);
        g_assert_true(colo_store_save_pair(store, pair, NULL));
        pair->port = 17000;
        g_assert_true(colo_store_save_pair(store, pair, NULL));
    }
    {
        g_autoptr(ColoStore) store = open_store();
        g_autoptr(GPtrArray) pairs = colo_store_pairs(store, NULL);
        const ColoPairRecord *pair = g_ptr_array_index(pairs, 0);

        g_assert_cmpuint(pairs->len, ==, 1);
        g_assert_cmpstr(pair->name, ==, "east");
        g_assert_cmpstr(pair->peer, ==, "hostb");
        g_assert_cmpuint(pair->port, ==, 17000);
        g_assert_cmpstr(colo_json_peek_string(pair->pool_map, "default", NULL), ==, "images");
        g_assert_true(colo_store_delete_pair(store, "east", NULL));
    }
    {
        g_autoptr(ColoStore) store = open_store();
        g_autoptr(GPtrArray) pairs = colo_store_pairs(store, NULL);

        g_assert_cmpuint(pairs->len, ==, 0);
    }
    teardown();
}

static void test_a_folder_that_cannot_be_made_is_named(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(colo_store_open("/proc/libvirt-colo", &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_SYSTEM);
    g_assert_nonnull(strstr(error->message, "/proc/libvirt-colo"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/store/round-trip", test_a_record_comes_back_whole);
    g_test_add_func("/domain/store/names", test_every_state_and_role_has_a_name_of_its_own);
    g_test_add_func("/domain/store/never-back", test_generation_and_relinquished_never_go_back);
    g_test_add_func("/domain/store/newer-version", test_a_newer_store_is_refused_and_left_alone);
    g_test_add_func("/domain/store/mode", test_others_cannot_read_it);
    g_test_add_func("/domain/store/kill-9", test_what_a_call_saved_survives_kill_9);
    g_test_add_func("/domain/store/damaged", test_a_damaged_store_is_an_error_not_a_short_list);
    g_test_add_func("/domain/store/pairs", test_pairs_come_back);
    g_test_add_func("/domain/store/no-folder", test_a_folder_that_cannot_be_made_is_named);
    return g_test_run();
}
