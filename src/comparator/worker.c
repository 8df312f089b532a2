/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/worker.h"

#include "comparator/daemon.h"
#include "util/error.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ColoWorker {
    ColoDaemon *daemon;
    pthread_t thread;
    sem_t started;
    ColoLoop *loop; /* NULL: the thread could not start */
    ColoInbox *inbox;
    ColoSessionHost host;
    ColoSession *sessions[COLO_SESSION_MAX];
};

/* To a worker: a request about a session. */
typedef struct {
    ColoLetter letter;
    ColoMember *member;
    ColoRequest request;
    int fd;
    uint64_t token;
} Order;

/* From worker to worker, and back to the control thread. */
typedef struct {
    ColoLetter letter;
    ColoDaemon *daemon;
    ColoWorker *const *workers;
    unsigned n, at;
    uint64_t token;
    JsonObject *sessions;
} Inventory;

/* To a worker: a stream. */
typedef struct {
    ColoLetter letter;
    ColoMember *member;
    ColoStream *stream;
} Arrival;

/* To a worker: the end. */
typedef struct {
    ColoLetter letter;
    ColoWorker *worker;
} Stop;

/* To the control thread: an answer, or an event. */
typedef struct {
    ColoLetter letter;
    ColoDaemon *daemon;
    uint64_t token;
    JsonObject *result;
    GError *error;
    ColoMember *member; /* or NULL */
    ColoRequestKind kind;
} Reply;

typedef struct {
    ColoLetter letter;
    ColoDaemon *daemon;
    JsonObject *event;
} Event;

static void deliver_reply(ColoLetter *letter)
{
    Reply *reply = (Reply *)letter;

    if (reply->member)
        colo_daemon_done(reply->daemon, reply->member, reply->kind, reply->error != NULL);
    colo_daemon_answer(reply->daemon, reply->token, reply->result, reply->error);
    g_free(reply);
}

static void send_reply(ColoDaemon *daemon, uint64_t token, JsonObject *result, GError *error,
                       ColoMember *member, ColoRequestKind kind)
{
    Reply *reply = g_new0(Reply, 1);

    *reply = (Reply){.letter.deliver = deliver_reply,
                     .daemon = daemon,
                     .token = token,
                     .result = result,
                     .error = error,
                     .member = member,
                     .kind = kind};
    colo_inbox_answer(colo_daemon_inbox(daemon), &reply->letter);
}

static void session_answer(void *opaque, uint64_t token, JsonObject *result, GError *error)
{
    send_reply(((ColoWorker *)opaque)->daemon, token, result, error, NULL, COLO_REQUEST_HELLO);
}

static void deliver_event(ColoLetter *letter)
{
    Event *event = (Event *)letter;

    colo_daemon_event(event->daemon, event->event);
    g_free(event);
}

static void session_event(void *opaque, JsonObject *object)
{
    ColoWorker *worker = opaque;
    Event *event = g_new0(Event, 1);

    event->letter.deliver = deliver_event;
    event->daemon = worker->daemon;
    event->event = object;
    if (colo_inbox_post(colo_daemon_inbox(worker->daemon), &event->letter))
        return;
    json_object_put(object);
    g_free(event);
    colo_daemon_lost(worker->daemon);
}

static gboolean create(ColoWorker *worker, ColoMember *member, GError **error)
{
    int slot = 0;

    member->session = colo_session_new(&worker->host, &member->config, error);
    if (!member->session)
        return FALSE;
    while (worker->sessions[slot])
        slot++;
    worker->sessions[slot] = member->session;
    colo_session_log(member->session, LOG_INFO, "session created as %s",
                     member->config.primary ? "primary" : "secondary");
    return TRUE;
}

static void destroy(ColoWorker *worker, ColoMember *member)
{
    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        if (worker->sessions[i] == member->session)
            worker->sessions[i] = NULL;
    }
    colo_session_log(member->session, LOG_INFO, "session destroyed");
    colo_session_free(member->session);
    member->session = NULL;
}

/* TRUE with *result NULL: the session answers later. */
static gboolean execute(ColoWorker *worker, Order *order, JsonObject **result, GError **error)
{
    ColoMember *member = order->member;
    const ColoRequest *request = &order->request;

    switch (request->kind) {
    case COLO_REQUEST_SESSION_CREATE:
        if (!create(worker, member, error))
            return FALSE;
        break;
    case COLO_REQUEST_SESSION_DESTROY:
        destroy(worker, member);
        break;
    case COLO_REQUEST_PEER_ATTACH:
        if (!colo_session_attach_peer(member->session, request->name, order->fd, error))
            return FALSE;
        break;
    case COLO_REQUEST_LOCAL_ATTACH:
        if (!colo_session_attach_local(member->session, request->name, order->fd, error))
            return FALSE;
        break;
    case COLO_REQUEST_GATE:
        return colo_gate_set(member->session, request->gate, order->token, result, error);
    case COLO_REQUEST_REWRITE_TABLE:
        *result = colo_session_rewrite_table(member->session);
        return TRUE;
    case COLO_REQUEST_REWRITE_KEEP:
        if (!colo_session_rewrite_keep(member->session, &request->config, error))
            return FALSE;
        break;
    case COLO_REQUEST_TAKEOVER_PREPARE:
        return colo_takeover_prepare(member->session, order->token, result, error);
    case COLO_REQUEST_KICK_DONE:
        colo_wanted_kicked(member->session);
        break;
    case COLO_REQUEST_CARRY:
        colo_carry_set_on(member->session, request->on);
        break;
    case COLO_REQUEST_STATE:
        if (!colo_carry_send(member->session, request->epoch, request->state, error))
            return FALSE;
        break;
    case COLO_REQUEST_STATE_SET:
        if (!colo_carry_done(member->session, request->epoch, error))
            return FALSE;
        break;
    case COLO_REQUEST_TUNE:
        colo_wanted_tune(member->session, &request->tuning);
        break;
    default:
        *result = colo_session_stats(member->session);
        return TRUE;
    }
    *result = json_object_new_object();
    return TRUE;
}

static void free_order(Order *order)
{
    g_clear_pointer(&order->request.config.base, g_bytes_unref);
    g_clear_pointer(&order->request.state, g_bytes_unref);
    g_free(order);
}

static void deliver_order(ColoLetter *letter)
{
    Order *order = (Order *)letter;
    ColoWorker *worker = order->member->worker;
    JsonObject *result = NULL;
    GError *error = NULL;

    /* A request that was sent before the controller learnt that its session could not be made. */
    if (order->request.kind != COLO_REQUEST_SESSION_CREATE && !order->member->session) {
        if (order->fd >= 0)
            close(order->fd);
        g_set_error(&error, COLO_ERROR, COLO_ERROR_NO_DOMAIN, "there is no session %s",
                    order->member->config.uuid);
    } else if (execute(worker, order, &result, &error) && !result) {
        free_order(order);
        return;
    }
    send_reply(worker->daemon, order->token, result, error, order->member, order->request.kind);
    free_order(order);
}

gboolean colo_worker_request(ColoMember *member, const ColoRequest *request, int fd, uint64_t token,
                             GError **error)
{
    Order *order = g_new0(Order, 1);

    *order = (Order){.letter.deliver = deliver_order, .member = member, .fd = fd, .token = token};
    order->request = *request;
    if (request->config.base)
        g_bytes_ref(request->config.base);
    if (request->state)
        g_bytes_ref(request->state);
    /* The member has it; a second copy of the key would have to be wiped out. */
    explicit_bzero(order->request.config.psk, sizeof(order->request.config.psk));
    if (colo_inbox_post(member->worker->inbox, &order->letter))
        return TRUE;
    if (fd >= 0)
        close(fd);
    free_order(order);
    g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                "%u requests and streams wait already for the thread of session %s", COLO_INBOX_MAX,
                member->config.uuid);
    return FALSE;
}

void colo_worker_discard(ColoMember *member)
{
    Order *order = g_new0(Order, 1);

    *order = (Order){.letter.deliver = deliver_order, .member = member, .fd = -1};
    order->request.kind = COLO_REQUEST_SESSION_DESTROY;
    colo_inbox_answer(member->worker->inbox, &order->letter);
}

static void finish_inventory(ColoLetter *letter)
{
    Inventory *inventory = (Inventory *)letter;

    colo_daemon_answer(inventory->daemon, inventory->token,
                       colo_json_build("sessions", "o", inventory->sessions, NULL), NULL);
    g_free(inventory);
}

static void deliver_inventory(ColoLetter *letter)
{
    Inventory *inventory = (Inventory *)letter;
    ColoWorker *worker = inventory->workers[inventory->at++];

    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        if (worker->sessions[i])
            json_object_array_add(inventory->sessions, colo_session_stats(worker->sessions[i]));
    }
    if (inventory->at < inventory->n) {
        colo_inbox_answer(inventory->workers[inventory->at]->inbox, letter);
    } else {
        letter->deliver = finish_inventory;
        colo_inbox_answer(colo_daemon_inbox(inventory->daemon), letter);
    }
}

gboolean colo_worker_inventory(ColoWorker *const *workers, unsigned n, uint64_t token,
                               GError **error)
{
    Inventory *inventory = g_new0(Inventory, 1);

    *inventory = (Inventory){.letter.deliver = deliver_inventory,
                             .daemon = workers[0]->daemon,
                             .workers = workers,
                             .n = n,
                             .token = token,
                             .sessions = json_object_new_array()};
    if (colo_inbox_post(workers[0]->inbox, &inventory->letter))
        return TRUE;
    json_object_put(inventory->sessions);
    g_free(inventory);
    g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE,
                "%u requests and streams wait already for the first thread", COLO_INBOX_MAX);
    return FALSE;
}

static void deliver_arrival(ColoLetter *letter)
{
    Arrival *arrival = (Arrival *)letter;
    ColoMember *member = arrival->member;

    colo_stream_attach(arrival->stream, member->worker->loop);
    /* It may have been destroyed between handshake and preface. */
    if (member->session)
        colo_session_adopt(member->session, arrival->stream);
    else
        colo_stream_free(arrival->stream);
    g_free(arrival);
}

bool colo_worker_adopt(ColoMember *member, ColoStream *stream)
{
    Arrival *arrival = g_new0(Arrival, 1);

    *arrival = (Arrival){.letter.deliver = deliver_arrival, .member = member, .stream = stream};
    if (colo_inbox_post(member->worker->inbox, &arrival->letter))
        return true;
    g_free(arrival);
    return false;
}

static void deliver_stop(ColoLetter *letter)
{
    Stop *stop = (Stop *)letter;

    colo_loop_quit(stop->worker->loop);
    g_free(stop);
}

/*
 * Before glibc gives back the first memory of a thread's heap it looks once into
 * /proc/sys/vm/overcommit_memory (malloc, check_may_shrink_heap()): made to do so while it can.
 * Were it refused it would go on, but the strict mode of the tests must see none but our own
 * mistakes.
 */
static void warm_heap(void)
{
    void *volatile blocks[4]; /* volatile: they must not be optimized away */

    for (size_t i = 0; i < G_N_ELEMENTS(blocks); i++)
        blocks[i] =
            malloc((size_t)100 << 10); /* together over M_TRIM_THRESHOLD, singly no mmap() */
    for (size_t i = 0; i < G_N_ELEMENTS(blocks); i++)
        free(blocks[i]);
}

/* #syscalls madvise rt_sigprocmask exit */
static void *run(void *opaque)
{
    ColoWorker *worker = opaque;

    warm_heap();
    worker->loop = colo_loop_new();
    worker->inbox = worker->loop ? colo_inbox_new(worker->loop) : NULL;
    worker->host = (ColoSessionHost){
        .loop = worker->loop, .event = session_event, .answer = session_answer, .opaque = worker};
    sem_post(&worker->started);
    if (!worker->inbox)
        return NULL;
    colo_loop_run(worker->loop);
    colo_inbox_deliver(worker->inbox);
    for (int i = 0; i < COLO_SESSION_MAX; i++)
        colo_session_free(worker->sessions[i]);
    return NULL;
}

static void release(ColoWorker *worker)
{
    pthread_join(worker->thread, NULL);
    colo_inbox_free(worker->inbox);
    colo_loop_free(worker->loop);
    sem_destroy(&worker->started);
    g_free(worker);
}

ColoWorker *colo_worker_new(ColoDaemon *daemon, GError **error)
{
    ColoWorker *worker = g_new0(ColoWorker, 1);
    int code;

    worker->daemon = daemon;
    sem_init(&worker->started, 0, 0);
    code = pthread_create(&worker->thread, NULL, run, worker);
    if (code != 0) {
        colo_error_set_errno(error, code, "starting a thread");
        sem_destroy(&worker->started);
        g_free(worker);
        return NULL;
    }
    while (sem_wait(&worker->started) < 0)
        ;
    if (!worker->inbox) {
        colo_error_set_errno(error, ENOMEM, "the loop of a thread");
        release(worker);
        return NULL;
    }
    return worker;
}

void colo_worker_free(ColoWorker *worker)
{
    Stop *stop;

    if (!worker)
        return;
    stop = g_new0(Stop, 1);
    *stop = (Stop){.letter.deliver = deliver_stop, .worker = worker};
    colo_inbox_answer(worker->inbox, &stop->letter);
    release(worker);
}
