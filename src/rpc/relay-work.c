/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/relay-work.h"

#include "rpc/remote-calls.h"
#include "util/bytes.h"

struct ColoRelayWorkers {
    GMainContext *context;
    const ColoRelayDriver *driver;
    void (*settle)(void *pair);
    GThreadPool *pool;
    GHashTable *clients; /* serial -> ColoRelayWork */
    guint64 last_serial;
};

struct ColoRelayWork {
    ColoRelayWorkers *workers;
    ColoRelaySide *client, *libvirt;
    void *pair;
    guint64 serial; /* among all clients there ever were */
    unsigned pending;
    uint32_t questions;
    GQueue asked;   /* Job: libvirt has not said yet whether the client may */
    GQueue passed;  /* Job: libvirt has the call */
    GQueue watched; /* ColoRpcFrame: calls that libvirt has, whose replies are to be revised */
};

/* One call. Its client may be gone when it is done. */
typedef struct {
    ColoRelayWorkers *workers;
    guint64 serial;    /* of the client */
    uint32_t question; /* serial of the call by which libvirt is asked whether the client may ... */
    GByteArray *questions; /* ... and those that it is asked by after that; or NULL */
    ColoRpcFrame *call;
    gboolean follows; /* libvirt has had it: what is left is after() */
    GByteArray *answer;
} Job;

static void job_free(gpointer data)
{
    Job *job = data;

    colo_rpc_frame_free(job->call);
    g_clear_pointer(&job->questions, g_byte_array_unref);
    g_clear_pointer(&job->answer, g_byte_array_unref);
    g_free(job);
}

static ColoRpcFrame *copy_frame(const ColoRpcFrame *frame)
{
    return g_memdup2(frame, sizeof(*frame) + frame->len);
}

/* Fails only when no thread can be made at all; then it stays queued. */
static void push(Job *job)
{
    g_thread_pool_push(job->workers->pool, job, NULL);
}

static void follow(Job *job)
{
    job->follows = TRUE;
    push(job);
}

/* The worker has prepared it: libvirt's turn. */
static void pass_on(ColoRelayWork *client, const Job *prepared)
{
    Job *job = g_new0(Job, 1);

    job->workers = prepared->workers;
    job->call = copy_frame(prepared->call);
    if (!client) { /* nobody waits for it any more */
        follow(job);
        return;
    }
    colo_relay_side_put_frame(client->libvirt, copy_frame(job->call));
    g_queue_push_tail(&client->passed, job);
    client->workers->settle(client->pair);
}

static gboolean work_done(gpointer data)
{
    Job *job = data;
    ColoRelayWork *client = g_hash_table_lookup(job->workers->clients, &job->serial);

    if (!job->answer) {
        pass_on(client, job);
    } else if (client) {
        client->pending--;
        colo_relay_side_put(client->client, g_steal_pointer(&job->answer), -1);
        client->workers->settle(client->pair);
    }
    return G_SOURCE_REMOVE;
}

static void run(gpointer data, gpointer opaque)
{
    ColoRelayWorkers *workers = opaque;
    const ColoRelayDriver *driver = workers->driver;
    g_autoptr(GSource) source = NULL;
    Job *job = data;

    if (job->follows) {
        driver->after(job->call, driver->opaque);
        job_free(job);
        return;
    }
    job->answer = driver->work(job->call, driver->opaque);
    source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, work_done, job, job_free);
    g_source_attach(source, workers->context);
}

ColoRelayWorkers *colo_relay_workers_new(GMainContext *context, const ColoRelayDriver *driver,
                                         void (*settle)(void *pair))
{
    ColoRelayWorkers *workers = g_new0(ColoRelayWorkers, 1);

    workers->context = context;
    workers->driver = driver;
    workers->settle = settle;
    workers->clients = g_hash_table_new(g_int64_hash, g_int64_equal);
    workers->pool = g_thread_pool_new(run, workers, COLO_RELAY_WORKERS, FALSE, NULL);
    return workers;
}

void colo_relay_workers_free(ColoRelayWorkers *workers)
{
    if (!workers)
        return;
    g_thread_pool_free(workers->pool, FALSE, TRUE);
    g_hash_table_unref(workers->clients);
    g_free(workers);
}

ColoRelayWork *colo_relay_work_new(ColoRelayWorkers *workers, ColoRelaySide *client,
                                   ColoRelaySide *libvirt, void *pair)
{
    ColoRelayWork *work = g_new0(ColoRelayWork, 1);

    work->workers = workers;
    work->client = client;
    work->libvirt = libvirt;
    work->pair = pair;
    work->serial = ++workers->last_serial;
    g_queue_init(&work->asked);
    g_queue_init(&work->passed);
    g_queue_init(&work->watched);
    g_hash_table_insert(workers->clients, &work->serial, work);
    return work;
}

void colo_relay_work_free(ColoRelayWork *work)
{
    Job *job;

    if (!work)
        return;
    g_hash_table_remove(work->workers->clients, &work->serial);
    g_queue_clear_full(&work->asked, job_free);
    g_queue_clear_full(&work->watched, (GDestroyNotify)colo_rpc_frame_free);
    while ((job = g_queue_pop_head(&work->passed)))
        follow(job);
    g_free(work);
}

/* Asks libvirt the next of the job's questions. */
static void ask(ColoRelayWork *work, Job *job)
{
    guint len = colo_get32(job->questions->data);
    GByteArray *question = g_byte_array_sized_new(len);

    g_byte_array_append(question, job->questions->data, len);
    g_byte_array_remove_range(job->questions, 0, len);
    job->question = COLO_REMOTE_OWN_SERIAL + 1 + work->questions++ % (COLO_REMOTE_OWN_SERIALS - 1);
    colo_put32(question->data + COLO_RPC_SERIAL_AT, job->question);
    g_queue_push_tail(&work->asked, job);
    colo_relay_side_put(work->libvirt, question, -1);
}

void colo_relay_work_begin(ColoRelayWork *work, const ColoRpcFrame *call, GByteArray *questions,
                           GByteArray *answer)
{
    Job *job = g_new0(Job, 1);

    job->workers = work->workers;
    job->serial = work->serial;
    job->call = copy_frame(call);
    job->questions = questions;
    job->answer = answer;
    if (call->header.type == COLO_RPC_CALL_WITH_FDS)
        colo_put32(job->call->body, 0); /* they do not come along, and libvirt must not wait */
    work->pending++;
    if (questions)
        ask(work, job);
    else
        push(job);
}

/* libvirt lets the client, as far as it was asked. */
static void permitted(ColoRelayWork *work, Job *job)
{
    if (job->questions->len > 0) {
        ask(work, job);
    } else if (job->answer) {
        colo_relay_side_put(work->client, g_steal_pointer(&job->answer), -1);
        work->pending--;
        job_free(job);
    } else {
        push(job);
    }
}

static gboolean take_permission(ColoRelayWork *work, const ColoRpcFrame *reply)
{
    for (GList *i = work->asked.head; i; i = i->next) {
        Job *job = i->data;
        ColoRpcHeader header;

        if (job->question != reply->header.serial)
            continue;
        g_queue_delete_link(&work->asked, i);
        if (!colo_remote_is_denial(reply)) {
            permitted(work, job);
            return TRUE;
        }
        header = job->call->header;
        header.type = COLO_RPC_REPLY;
        header.status = COLO_RPC_ERROR;
        colo_relay_side_put(work->client, colo_remote_encode(&header, reply->body, reply->len), -1);
        work->pending--;
        job_free(job);
        return TRUE;
    }
    return FALSE;
}

void colo_relay_work_watch(ColoRelayWork *work, const ColoRpcFrame *call)
{
    if (work->watched.length < COLO_RELAY_REVISE_MAX)
        g_queue_push_tail(&work->watched, copy_frame(call));
}

static gboolean is_reply_to(const ColoRpcFrame *call, const ColoRpcFrame *reply)
{
    return call->header.serial == reply->header.serial &&
           call->header.program == reply->header.program &&
           call->header.procedure == reply->header.procedure;
}

static void revise(ColoRelayWork *work, const ColoRpcFrame *reply, GByteArray **changed)
{
    const ColoRelayDriver *driver = work->workers->driver;

    for (GList *i = work->watched.head; i; i = i->next) {
        g_autoptr(ColoRpcFrame) call = NULL;
        g_autoptr(GByteArray) answer = NULL;

        if (!is_reply_to(i->data, reply))
            continue;
        call = i->data;
        g_queue_delete_link(&work->watched, i);
        if (driver->revise(call, reply, &answer, driver->opaque) == COLO_RELAY_ANSWER)
            *changed = g_steal_pointer(&answer);
        return;
    }
}

gboolean colo_relay_work_hears(ColoRelayWork *work, const ColoRpcFrame *reply, GByteArray **changed)
{
    if (reply->header.program == COLO_REMOTE_PROGRAM &&
        colo_remote_is_own_serial(reply->header.serial))
        return take_permission(work, reply);
    revise(work, reply, changed);
    for (GList *i = work->passed.head; i; i = i->next) {
        Job *job = i->data;

        if (!is_reply_to(job->call, reply))
            continue;
        g_queue_delete_link(&work->passed, i);
        work->pending--;
        follow(job);
        break;
    }
    return FALSE;
}

gboolean colo_relay_work_is_full(const ColoRelayWork *work)
{
    return work->pending >= COLO_RELAY_PENDING_MAX;
}
