/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/carry.h"

#include "util/log.h"

#include <string.h>

/* The helper answers at once, or is of no use for this checkpoint. */
#define ANSWER_MS 1000u
/* Letters that wait: two a domain are usual. More means that the thread hangs in the module. */
#define WAITING_MAX 1024

typedef enum { LETTER_WATCH, LETTER_UNWATCH, LETTER_TAKE, LETTER_SET, LETTER_END } LetterKind;

typedef struct {
    LetterKind kind;
    char *uuid;
    uint64_t generation, epoch;
    pid_t qemu;
    ColoFeaturePlan plan;
    char *state;
} Letter;

/* The thread's own. */
typedef struct {
    char *uuid;
    uint64_t generation;
    pid_t qemu;
    ColoFeaturePlan plan;
    ColoFeatureVm vm;
    gboolean open, failed; /* failed: said already */
    Letter *early;         /* the last one about a generation that is not watched yet */
} Watched;

struct ColoCarrier {
    ColoComparatorClient *const *comparator;
    const ColoHvfeatOps *ops;
    GAsyncQueue *queue;
    GThread *thread;
};

static void letter_free(gpointer data)
{
    Letter *letter = data;

    g_free(letter->uuid);
    g_free(letter->state);
    g_free(letter);
}

static void watched_close(Watched *w)
{
    if (w->open)
        colo_feature_vm_close(&w->vm);
    w->open = FALSE;
}

static void watched_free(gpointer data)
{
    Watched *w = data;

    watched_close(w);
    if (w->early)
        letter_free(w->early);
    g_free(w->uuid);
    g_free(w);
}

/* The entry of @uuid, made when there is none: of generation 0, which watches nothing. */
static Watched *watched(GHashTable *table, const char *uuid)
{
    Watched *w = g_hash_table_lookup(table, uuid);

    if (!w) {
        w = g_new0(Watched, 1);
        w->uuid = g_strdup(uuid);
        g_hash_table_insert(table, w->uuid, w);
    }
    return w;
}

static gboolean open_vm(const ColoCarrier *carrier, Watched *w, GError **error)
{
    if (!w->open) {
        w->open = colo_feature_vm_open(&w->vm, carrier->ops, w->qemu, error);
        if (!w->open)
            colo_feature_vm_close(&w->vm);
    }
    return w->open;
}

static void watch(const ColoCarrier *carrier, Watched *w, const Letter *letter)
{
    if (w->qemu != letter->qemu)
        watched_close(w);
    w->qemu = letter->qemu;
    w->generation = letter->generation;
    w->plan = letter->plan;
    (void)open_vm(carrier, w, NULL); /* not while a guest stands; said when it is needed */
}

/* Once until it works again: there are many checkpoints. */
static void say(Watched *w, const GError *error)
{
    const ColoLogContext log = {NULL, w->uuid, w->generation};

    if (!error && w->failed)
        colo_log_full(&log, LOG_NOTICE, __func__, "hardware features go along again");
    if (error && !w->failed)
        colo_log_full(&log, LOG_WARNING, __func__,
                      "hardware features do not go along with checkpoints: %s", error->message);
    w->failed = error != NULL;
}

/* One request to the helper about @w's checkpoint @epoch. */
static gboolean answer(const ColoCarrier *carrier, const Watched *w, const char *request,
                       uint64_t epoch, const char *state, GError **error)
{
    JsonObject *arguments = colo_json_build("uuid", "s", w->uuid, "generation", "u", w->generation,
                                            "epoch", "u", epoch, NULL);
    g_autoptr(JsonObject) done = NULL;

    if (state)
        colo_json_add(arguments, "state", "s", state, NULL);
    done = colo_comparator_call(*carrier->comparator, request, arguments, -1, ANSWER_MS, error);
    return done != NULL;
}

static gboolean take(const ColoCarrier *carrier, Watched *w, const Letter *letter, GError **error)
{
    g_autoptr(JsonObject) states = NULL;
    g_autofree char *text = NULL;

    if (!open_vm(carrier, w, error))
        return FALSE;
    states = colo_feature_vm_get_states(&w->vm, &w->plan, FALSE, error);
    if (!states)
        return FALSE;
    text = colo_json_to_string(states);
    return answer(carrier, w, "state", letter->epoch, text, error);
}

static gboolean set(const ColoCarrier *carrier, Watched *w, const Letter *letter, GError **error)
{
    g_autoptr(JsonObject) states = colo_json_parse(letter->state, strlen(letter->state), error);

    return states && open_vm(carrier, w, error) &&
           colo_feature_vm_set_states(&w->vm, &w->plan, states, error) &&
           answer(carrier, w, "state-set", letter->epoch, NULL, error);
}

static void carry(const ColoCarrier *carrier, Watched *w, const Letter *letter)
{
    g_autoptr(GError) error = NULL;
    gboolean ok;

    if (!*carrier->comparator || w->generation != letter->generation)
        return;
    ok = letter->kind == LETTER_TAKE ? take(carrier, w, letter, &error)
                                     : set(carrier, w, letter, &error);
    if (!ok)
        watched_close(w); /* the module may have been loaded anew */
    say(w, error);
}

/* The first checkpoint of a session may come before its domain has said what is to be carried. A
 * session of an older generation has its own owner. TRUE: @letter is kept. */
static gboolean keep_early(Watched *w, Letter *letter)
{
    if (letter->generation <= w->generation)
        return FALSE;
    if (w->early)
        letter_free(w->early);
    w->early = letter;
    return TRUE;
}

static void carry_early(const ColoCarrier *carrier, Watched *w)
{
    Letter *early = g_steal_pointer(&w->early);

    if (!early)
        return;
    carry(carrier, w, early);
    letter_free(early);
}

static gpointer carrier_main(gpointer data)
{
    const ColoCarrier *carrier = data;
    g_autoptr(GHashTable) table =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, watched_free);

    for (gboolean end = FALSE; !end;) {
        Letter *letter = g_async_queue_pop(carrier->queue);

        switch (letter->kind) {
        case LETTER_WATCH:
            watch(carrier, watched(table, letter->uuid), letter);
            carry_early(carrier, watched(table, letter->uuid));
            break;
        case LETTER_UNWATCH:
            g_hash_table_remove(table, letter->uuid);
            break;
        case LETTER_END:
            end = TRUE;
            break;
        default:
            if (keep_early(watched(table, letter->uuid), letter))
                continue;
            carry(carrier, watched(table, letter->uuid), letter);
            break;
        }
        letter_free(letter);
    }
    return NULL;
}

static Letter *letter_new(LetterKind kind, const char *uuid)
{
    Letter *letter = g_new0(Letter, 1);

    letter->kind = kind;
    letter->uuid = g_strdup(uuid);
    return letter;
}

ColoCarrier *colo_carrier_new(ColoComparatorClient *const *comparator, const ColoHvfeatOps *ops)
{
    ColoCarrier *carrier = g_new0(ColoCarrier, 1);

    carrier->comparator = comparator;
    carrier->ops = ops;
    carrier->queue = g_async_queue_new_full(letter_free);
    carrier->thread = g_thread_new("colo-carry", carrier_main, carrier);
    return carrier;
}

void colo_carrier_stop(ColoCarrier *carrier)
{
    if (!carrier || !carrier->thread)
        return;
    g_async_queue_push_front(carrier->queue, letter_new(LETTER_END, NULL));
    g_thread_join(g_steal_pointer(&carrier->thread));
}

void colo_carrier_free(ColoCarrier *carrier)
{
    if (!carrier)
        return;
    colo_carrier_stop(carrier);
    g_async_queue_unref(carrier->queue);
    g_free(carrier);
}

void colo_carrier_watch(ColoCarrier *carrier, const char *uuid, uint64_t generation, pid_t qemu,
                        const ColoFeaturePlan *plan)
{
    Letter *letter;

    if (!carrier)
        return;
    letter = letter_new(LETTER_WATCH, uuid);
    letter->generation = generation;
    letter->qemu = qemu;
    letter->plan = *plan;
    g_async_queue_push(carrier->queue, letter);
}

void colo_carrier_unwatch(ColoCarrier *carrier, const char *uuid)
{
    if (carrier)
        g_async_queue_push(carrier->queue, letter_new(LETTER_UNWATCH, uuid));
}

void colo_carrier_event(ColoCarrier *carrier, const char *name, const char *uuid, JsonObject *event)
{
    Letter *letter;

    if (!carrier || g_async_queue_length(carrier->queue) > WAITING_MAX)
        return; /* the checkpoint goes on without */
    letter = letter_new(strcmp(name, "state") == 0 ? LETTER_SET : LETTER_TAKE, uuid);
    letter->generation = colo_json_peek_uint(event, "generation", 0);
    letter->epoch = colo_json_peek_uint(event, "epoch", 0);
    letter->state = g_strdup(colo_json_peek_string(event, "state", ""));
    g_async_queue_push(carrier->queue, letter);
}
