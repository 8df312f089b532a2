/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of sessions, and which worker does what. */
#include "comparator/daemon.h"

#include "util/error.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

ColoMember *colo_daemon_find(ColoDaemon *self, const char *uuid, uint64_t generation)
{
    ColoMember *found = NULL;

    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        ColoMember *member = self->members[i];

        if (!member || member->going || strcmp(member->config.uuid, uuid) != 0 ||
            (generation && member->config.generation != generation))
            continue;
        if (!found || member->config.generation > found->config.generation)
            found = member;
    }
    return found;
}

static void remove_member(ColoDaemon *self, ColoMember *member)
{
    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        if (self->members[i] == member)
            self->members[i] = NULL;
    }
    g_clear_pointer(&member->config.base, g_bytes_unref);
    /* The key must not outlive its session in freed memory. */
    explicit_bzero(member, sizeof(*member));
    g_free(member);
}

/* The worker with the fewest sessions. */
static ColoWorker *choose_worker(const ColoDaemon *self)
{
    ColoWorker *best = NULL;
    int least = 0;

    for (unsigned w = 0; w < self->n_workers; w++) {
        int load = 0;

        for (int i = 0; i < COLO_SESSION_MAX; i++)
            load += self->members[i] && self->members[i]->worker == self->workers[w];
        if (!best || load < least) {
            best = self->workers[w];
            least = load;
        }
    }
    return best;
}

static gboolean create(ColoDaemon *self, const ColoRequest *request, uint64_t token, GError **error)
{
    const ColoSessionConfig *config = &request->config;
    ColoMember *member;
    int slot = 0;

    if (colo_daemon_find(self, config->uuid, config->generation)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "session %s exists already, generation %" G_GUINT64_FORMAT ": destroy it first",
                    config->uuid, config->generation);
        return FALSE;
    }
    while (slot < COLO_SESSION_MAX && self->members[slot])
        slot++;
    if (slot == COLO_SESSION_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_RESOURCE, "there are %d sessions already",
                    COLO_SESSION_MAX);
        return FALSE;
    }
    member = g_new0(ColoMember, 1);
    member->config = *config;
    if (config->base)
        g_bytes_ref(config->base);
    member->worker = choose_worker(self);
    self->members[slot] = member;
    if (colo_worker_request(member, request, -1, token, error))
        return TRUE;
    remove_member(self, member);
    return FALSE;
}

static gboolean hello(const ColoRequest *request, JsonObject **result, GError **error)
{
    if (request->version != COLO_CMP_VERSION) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "this colo-comparator speaks version %d of the control protocol, asked for "
                    "%" G_GUINT64_FORMAT,
                    COLO_CMP_VERSION, request->version);
        return FALSE;
    }
    *result = colo_json_build("version", "u", (uint64_t)COLO_CMP_VERSION, "pid", "u",
                              (uint64_t)getpid(), NULL);
    return TRUE;
}

/* What the control thread must know of a request that is on its way. */
static void note(ColoMember *member, const ColoRequest *request)
{
    if (request->kind == COLO_REQUEST_SESSION_DESTROY)
        member->going = true;
    if (request->kind == COLO_REQUEST_GATE && request->gate == COLO_GATE_CLOSED)
        member->shut = true;
}

gboolean colo_daemon_execute(ColoDaemon *self, const ColoRequest *request, int fd, uint64_t token,
                             JsonObject **result, GError **error)
{
    ColoMember *member;

    *result = NULL;
    if (colo_request_wants_fd(request->kind) && fd < 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "the request came without its file descriptor");
        return FALSE;
    }
    switch (request->kind) {
    case COLO_REQUEST_HELLO:
        return hello(request, result, error);
    case COLO_REQUEST_INVENTORY:
        return colo_worker_inventory(self->workers, self->n_workers, token, error);
    case COLO_REQUEST_SESSION_CREATE:
        return create(self, request, token, error);
    default:
        break;
    }
    member = colo_daemon_find(self, request->uuid, request->generation);
    if (!member) {
        if (fd >= 0)
            close(fd);
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_DOMAIN,
                    request->generation ? "there is no session %s of generation %" G_GUINT64_FORMAT
                                        : "there is no session %s",
                    request->uuid, request->generation);
        return FALSE;
    }
    if (!colo_worker_request(member, request, fd, token, error))
        return FALSE;
    note(member, request);
    return TRUE;
}

void colo_daemon_done(ColoDaemon *self, ColoMember *member, ColoRequestKind kind, bool failed)
{
    /* Nothing is sent about a session once it is going: this was the last letter. */
    if (kind == COLO_REQUEST_SESSION_DESTROY)
        remove_member(self, member);
    if (kind == COLO_REQUEST_SESSION_CREATE && failed && !member->going) {
        member->going = true;
        colo_worker_discard(member);
    }
}

void colo_daemon_answer(ColoDaemon *self, uint64_t token, JsonObject *result, GError *error)
{
    colo_control_answer(self->control, token, result, error);
}

void colo_daemon_event(ColoDaemon *self, JsonObject *event)
{
    colo_control_event(self->control, event);
}

ColoInbox *colo_daemon_inbox(ColoDaemon *self)
{
    return self->inbox;
}

typedef struct {
    ColoLetter letter;
    ColoDaemon *daemon;
} Lost;

static void deliver_lost(ColoLetter *letter)
{
    Lost *lost = (Lost *)letter;

    atomic_store(&lost->daemon->lost, false);
    colo_control_close(lost->daemon->control, "events came faster than they could be sent");
    g_free(lost);
}

void colo_daemon_lost(ColoDaemon *self)
{
    Lost *lost;

    if (atomic_exchange(&self->lost, true))
        return;
    lost = g_new0(Lost, 1);
    *lost = (Lost){.letter.deliver = deliver_lost, .daemon = self};
    colo_inbox_answer(self->inbox, &lost->letter);
}

/* CPUs that the process may use; 1 when the kernel does not say. */
static unsigned usable_cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

gboolean colo_daemon_start(ColoDaemon *self, unsigned threads, GError **error)
{
    self->inbox = colo_inbox_new(self->loop);
    if (!self->inbox) {
        colo_error_set_errno(error, errno, "the inbox of the control thread");
        return FALSE;
    }
    if (threads == 0)
        threads = usable_cpus();
    while (self->n_workers < MIN(threads, (unsigned)COLO_WORKERS_MAX)) {
        ColoWorker *worker = colo_worker_new(self, error);

        if (!worker)
            return FALSE;
        self->workers[self->n_workers++] = worker;
    }
    return TRUE;
}

void colo_daemon_stop(ColoDaemon *self)
{
    for (unsigned i = 0; i < self->n_workers; i++)
        colo_worker_free(self->workers[i]);
    if (self->inbox)
        colo_inbox_deliver(self->inbox);
    for (int i = 0; i < COLO_SESSION_MAX; i++) {
        if (self->members[i])
            remove_member(self, self->members[i]);
    }
    colo_inbox_free(self->inbox);
    self->inbox = NULL;
    self->n_workers = 0;
}
