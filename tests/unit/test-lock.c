/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* colo.so as libvirt loads it: whom it lets run, and what it does without an answer. */
#include "lock/ask.h"
#include "lock/lock-abi.h"
#include "rpc/server.h"
#include "util/clock.h"

#include <dlfcn.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UUID "c0100000-0000-4000-8000-0000000000f7"
static const unsigned char uuid_bytes[16] = {0xc0, 0x10, 0, 0, 0, 0, 0x40, 0,
                                             0x80, 0,    0, 0, 0, 0, 0,    0xf7};

static char reported[16384]; /* what libvirt would say */

/* libvirt's own, which the plugin finds by name. */
void virReportErrorHelper(int domain, int code, const char *file, const char *function, size_t line,
                          const char *format, ...);
void virReportErrorHelper(int domain G_GNUC_UNUSED, int code G_GNUC_UNUSED,
                          const char *file G_GNUC_UNUSED, const char *function G_GNUC_UNUSED,
                          size_t line G_GNUC_UNUSED, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_vsnprintf(reported, sizeof(reported), format, args);
    va_end(args);
}

typedef struct {
    char *dir, *socket, *conf;
    LockDriver *driver;
    void *handle;
    ColoRpcServer *server;
    const char *refusal; /* of UUID; NULL: it may run */
    gboolean replicated;
} Fixture;

static JsonObject *no_command(const ColoRpcCaller *caller G_GNUC_UNUSED,
                              const char *command G_GNUC_UNUSED, JsonObject *args G_GNUC_UNUSED,
                              void *opaque G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return json_object_new_object();
}

static char *may_run(const char *uuid, gboolean *replicated, void *opaque)
{
    const Fixture *f = opaque;

    if (strcmp(uuid, UUID) != 0)
        return NULL;
    *replicated = f->replicated;
    return g_strdup(f->refusal);
}

static void write_conf(Fixture *f, const char *more)
{
    g_autofree char *text =
        g_strdup_printf("# of a test\n\nsocket = \"%s\"\nstate_dir = \"%s\"\n%s", f->socket, f->dir,
                        more ? more : "");

    g_assert_true(g_file_set_contents(f->conf, text, -1, NULL));
}

static char *built(const char *name)
{
    return g_build_filename(g_getenv("abs_top_builddir"), ".libs", name, NULL);
}

static void setup(Fixture *f, gconstpointer chain)
{
    g_autofree char *path = built("colo.so");

    memset(f, 0, sizeof(*f));
    f->dir = g_dir_make_tmp("lock-XXXXXX", NULL);
    f->socket = g_build_filename(f->dir, "sock", NULL);
    f->conf = g_build_filename(f->dir, "qemu-colo.conf", NULL);
    write_conf(f, chain);
    f->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!f->handle)
        g_error("%s", dlerror());
    f->driver = dlsym(f->handle, "virLockDriverImpl");
    g_assert_nonnull(f->driver);
    g_assert_cmpint(f->driver->init(1000000, f->conf, 0), ==, 0);
    reported[0] = '\0';
}

static void serve(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    int fd = colo_rpc_listen(f->socket, NULL, &error);

    g_assert_no_error(error);
    f->server = colo_rpc_server_new(fd, no_command, NULL, &error);
    g_assert_no_error(error);
    colo_rpc_server_set_may_run(f->server, may_run, f);
}

static void teardown(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *db = g_build_filename(f->dir, "state.db", NULL);
    g_autofree char *wal = g_strconcat(db, "-wal", NULL), *shm = g_strconcat(db, "-shm", NULL);

    colo_rpc_server_free(f->server);
    g_assert_cmpint(f->driver->deinit(), ==, 0);
    dlclose(f->handle);
    g_unlink(f->socket);
    g_unlink(f->conf);
    g_unlink(db);
    g_unlink(wal);
    g_unlink(shm);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dir);
    g_free(f->socket);
    g_free(f->conf);
}

/* One operation of libvirt's on a domain, with a manager of its own as libvirt has it. */
static void manager_new(Fixture *f, LockManager *manager, gboolean ours)
{
    LockParam params[] = {{.type = LOCK_PARAM_UUID, .key = "uuid"},
                          {.type = LOCK_PARAM_CSTRING, .key = "name", .value.cstr = "ft"},
                          {.type = 4, .key = "pid", .value.ui = 1}};

    memcpy(params[0].value.uuid, uuid_bytes, sizeof(uuid_bytes));
    if (!ours)
        params[0].value.uuid[0] = 1;
    *manager = (LockManager){.driver = f->driver};
    g_assert_cmpint(f->driver->new (manager, 0, G_N_ELEMENTS(params), params, 0), ==, 0);
    g_assert_cmpint(f->driver->add_resource(manager, 0, "/x.raw", 0, NULL, 0), ==, 0);
}

static gboolean acquire(Fixture *f, gboolean ours, unsigned flags)
{
    LockManager manager;
    int fd = 99, rc;

    reported[0] = '\0';
    manager_new(f, &manager, ours);
    rc = f->driver->acquire(&manager, NULL, flags, 0, &fd);
    f->driver->free(&manager);
    g_assert_cmpint(fd, ==, -1);
    g_assert_true(rc == 0 || *reported);
    return rc == 0;
}

static char *release(Fixture *f)
{
    LockManager manager;
    char *state = (char *)"unset";

    manager_new(f, &manager, TRUE);
    g_assert_cmpint(f->driver->release(&manager, &state, 0), ==, 0);
    f->driver->free(&manager);
    return state;
}

static void store(Fixture *f, const char *state)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);
    g_autofree char *sql = g_strdup_printf(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE IF NOT EXISTS domains (uuid TEXT PRIMARY KEY, name TEXT, state TEXT);"
        "INSERT OR REPLACE INTO domains VALUES ('" UUID "', 'ft', '%s');",
        state);
    sqlite3 *db;

    g_assert_cmpint(sqlite3_open(path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

/* ---- with an answer ---- */

static void test_virtcolod_decides(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    serve(f);
    store(f, "protected"); /* it is not asked */
    g_assert_true(acquire(f, TRUE, 0));
    f->refusal = "domain 'ft' is fenced: do this";
    g_assert_false(acquire(f, TRUE, 0));
    g_assert_cmpstr(reported, ==, "domain 'ft' is fenced: do this");
    /* QEMU may be made with stopped vCPUs: the copy is, by virtcolod. */
    g_assert_true(acquire(f, TRUE, LOCK_REGISTER_ONLY));
    g_assert_true(acquire(f, FALSE, 0));
}

/* What a domain pays that COLO has nothing to do with. No limit is asserted: figures only. */
static void test_cost(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    enum { ROUNDS = 300 };

    for (int served = 0; served < 2; served++) {
        uint64_t begin;

        if (served)
            serve(f);
        else
            store(f, "protected");
        begin = colo_clock_ns();
        for (int i = 0; i < ROUNDS; i++)
            g_assert_true(acquire(f, FALSE, 0));
        g_test_message("an unprotected domain's start %s virtcolod: %.0f us",
                       served ? "with" : "without",
                       (double)(colo_clock_ns() - begin) / ROUNDS / 1000);
    }
}

/* ---- without one ---- */

static void assert_store_decides(Fixture *f)
{
    store(f, "protected");
    g_assert_false(acquire(f, TRUE, 0));
    g_assert_nonnull(strstr(reported, "domain 'ft' is under COLO (protected)"));
    g_assert_nonnull(strstr(reported, "start virtcolod.service"));
    g_assert_true(acquire(f, FALSE, 0));
}

static void test_no_virtcolod(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_assert_true(acquire(f, TRUE, 0)); /* nothing was ever protected here */
    assert_store_decides(f);
    store(f, "fenced");
    g_assert_false(acquire(f, TRUE, 0));
    store(f, "unprotected");
    g_assert_true(acquire(f, TRUE, 0));
}

static void test_damaged_store(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *path = g_build_filename(f->dir, "state.db", NULL);

    g_assert_true(
        g_file_set_contents(path, "no database at all, and long enough to be one", -1, NULL));
    g_assert_false(acquire(f, FALSE, 0));
    g_assert_nonnull(strstr(reported, "cannot be read"));
    g_assert_nonnull(strstr(reported, "virtcolod.service"));
}

/* It listens, and stands still. */
static void test_silent_virtcolod(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    int listener = colo_rpc_listen(f->socket, NULL, &error);
    uint64_t begin = colo_clock_ns();

    g_assert_no_error(error);
    store(f, "protected");
    g_assert_false(acquire(f, TRUE, 0));
    g_assert_nonnull(strstr(reported, "no answer within a second"));
    g_assert_cmpuint(colo_clock_ns() - begin, >=, COLO_LOCK_ASK_MS * COLO_NS_PER_MS);
    close(listener);
}

typedef struct {
    int listener;
    const char *bytes;
    size_t len;
} Mouth;

static gpointer say_bytes(gpointer data)
{
    const Mouth *mouth = data;
    char call[256];
    int fd = accept(mouth->listener, NULL, NULL);

    g_assert_cmpint(recv(fd, call, sizeof(call), 0), >, 0);
    if (mouth->len)
        g_assert_cmpint(send(fd, mouth->bytes, mouth->len, MSG_NOSIGNAL), ==, mouth->len);
    close(fd);
    return NULL;
}

#define HEAD "COLO\0\0\0\1\0\0\0\5\0\0\0\1\0\0\0\1"

static void test_garbage(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *bytes;
        size_t len;
    } garbage[] = {
        {"", 0},
        {"\0\0\0\4", 4},
        {"\xff\xff\xff\xff", 4},
        {"\0\0\0\50" HEAD, 24},                                    /* cut off */
        {"\0\0\0\50" HEAD "\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0", 40}, /* an error */
        {"\0\0\0\50" HEAD "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\7", 40}, /* a text that is not there */
        {"\0\0\0\50" HEAD "\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\0", 40}, /* no boolean */
        {"\0\0\0\50"
         "OLOC\0\0\0\1\0\0\0\5\0\0\0\1\0\0\0\1"
         "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0",
         40},
    };
    g_autoptr(GError) error = NULL;
    int listener = colo_rpc_listen(f->socket, NULL, &error);

    g_assert_no_error(error);
    g_assert_cmpint(g_unix_set_fd_nonblocking(listener, FALSE, NULL), ==, TRUE);
    store(f, "protected");
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        Mouth mouth = {listener, garbage[i].bytes, garbage[i].len};
        GThread *thread = g_thread_new("mouth", say_bytes, &mouth);

        g_assert_false(acquire(f, TRUE, 0));
        g_assert_nonnull(strstr(reported, "does not answer"));
        g_thread_join(thread);
    }
    close(listener);
}

/* ---- a lock manager behind it ---- */

static int *counter(const char *name)
{
    g_autofree char *path = built("counting.so");
    static void *handle;

    if (!handle)
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    g_assert_nonnull(handle);
    return dlsym(handle, name);
}

static void test_chain(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    int *acquired = counter("counting_acquired"), *released = counter("counting_released");
    g_autofree char *state = NULL;

    *acquired = *released = 0;
    g_assert_cmpuint(f->driver->flags, ==, LOCK_USES_STATE);
    serve(f);
    g_assert_true(acquire(f, TRUE, 0));
    g_assert_cmpint(*acquired, ==, 1);
    /* 1,000 checkpoints: the lease stays. */
    f->replicated = TRUE;
    for (int i = 0; i < 1000; i++)
        g_assert_null(release(f));
    g_assert_cmpint(*released, ==, 0);
    g_assert_cmpint(*acquired, ==, 1);
    f->replicated = FALSE;
    state = release(f);
    g_assert_cmpstr(state, ==, "lease");
    g_assert_cmpint(*released, ==, 1);
    /* A veto of ours takes no lease. */
    f->refusal = "no";
    g_assert_false(acquire(f, TRUE, 0));
    g_assert_cmpint(*acquired, ==, 1);
    g_assert_cmpint(*counter("counting_live"), ==, 0);
    g_assert_cmpint(*counter("counting_resources"), >, 1000);
}

/* virtcolod is restarted while checkpoints go on: the store keeps the lease. */
static void test_chain_without_virtcolod(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    int *released = counter("counting_released");
    g_autofree char *state = NULL;

    *released = 0;
    store(f, "protected");
    g_assert_null(release(f));
    g_assert_cmpint(*released, ==, 0);
    store(f, "unprotected");
    state = release(f);
    g_assert_cmpint(*released, ==, 1);
}

/* ---- its configuration ---- */

static void test_bad_configuration(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *line, *says;
    } bad[] = {{"colour = \"red\"\n", "line 5: unknown key"},
               {"chain = lockd\n", "line 5: not KEY"},
               {"nonsense\n", "line 5: not KEY"},
               {"chain = \"../x\"\n", "line 5: chain is the name"},
               {"chain = \"colo\"\n", "line 5: chain is the name"},
               {"chain = \"nosuch\"\n", "lock manager 'nosuch'"}};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        write_conf(f, bad[i].line);
        reported[0] = '\0';
        g_assert_cmpint(f->driver->init(1000000, f->conf, 0), ==, -1);
        g_assert_nonnull(strstr(reported, bad[i].says));
        g_assert_nonnull(strstr(reported, "qemu-colo.conf"));
    }
    g_assert_cmpint(f->driver->init(2000000, f->conf, 0), ==, -1);
    g_assert_nonnull(strstr(reported, "interface 2"));
    g_unlink(f->conf); /* none is needed */
    g_assert_cmpint(f->driver->init(1000000, f->conf, 0), ==, 0);
}

int main(int argc, char **argv)
{
    static const char chain[] = "chain = \"counting\"\n";

    g_test_init(&argc, &argv, NULL);
#define ADD(name, function, conf) \
    g_test_add("/lock/" name, Fixture, conf, setup, function, teardown)
    ADD("virtcolod-decides", test_virtcolod_decides, NULL);
    ADD("cost", test_cost, NULL);
    ADD("no-virtcolod", test_no_virtcolod, NULL);
    ADD("damaged-store", test_damaged_store, NULL);
    ADD("silent-virtcolod", test_silent_virtcolod, NULL);
    ADD("garbage", test_garbage, NULL);
    ADD("chain/lease-survives", test_chain, chain);
    ADD("chain/without-virtcolod", test_chain_without_virtcolod, chain);
    ADD("bad-configuration", test_bad_configuration, NULL);
    return g_test_run();
}
