/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pair/channel-io.h"

#include "util/clock.h"

static GMainContext *context;
static GThread *io_thread;

static gpointer io_main(gpointer data)
{
    GMainLoop *loop = g_main_loop_new(context, FALSE);

    (void)data;
    g_main_context_push_thread_default(context);
    g_main_loop_run(loop);
    return NULL;
}

static gpointer start(gpointer data)
{
    (void)data;
    context = g_main_context_new();
    io_thread = g_thread_new("colo-channel", io_main, NULL);
    return context;
}

GMainContext *colo_io_context(void)
{
    static GOnce once = G_ONCE_INIT;

    return g_once(&once, start, NULL);
}

/* TRUE when the caller runs in the I/O thread. */
static bool is_current(void)
{
    colo_io_context();
    return g_thread_self() == io_thread;
}

typedef struct {
    ColoIoFunc func;
    void *opaque;
    bool waited; /* the poster waits and owns the structure */
    bool done;
    GMutex lock;
    GCond cond;
} Job;

static gboolean run_job(gpointer data)
{
    Job *job = data;

    job->func(job->opaque);
    if (!job->waited) {
        g_free(job);
        return G_SOURCE_REMOVE;
    }
    g_mutex_lock(&job->lock);
    job->done = true;
    g_cond_signal(&job->cond);
    g_mutex_unlock(&job->lock);
    return G_SOURCE_REMOVE;
}

static void attach_job(Job *job)
{
    GSource *source = g_idle_source_new();

    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, run_job, job, NULL);
    g_source_attach(source, colo_io_context());
    g_source_unref(source);
}

void colo_io_post(ColoIoFunc func, void *opaque)
{
    Job *job = g_new0(Job, 1);

    job->func = func;
    job->opaque = opaque;
    attach_job(job);
}

void colo_io_run(ColoIoFunc func, void *opaque)
{
    Job job = {.func = func, .opaque = opaque, .waited = true};

    if (is_current()) {
        func(opaque);
        return;
    }
    g_mutex_init(&job.lock);
    g_cond_init(&job.cond);
    attach_job(&job);
    g_mutex_lock(&job.lock);
    while (!job.done)
        g_cond_wait(&job.cond, &job.lock);
    g_mutex_unlock(&job.lock);
    g_mutex_clear(&job.lock);
    g_cond_clear(&job.cond);
}

struct ColoIoTimer {
    GSource source;
    ColoIoFunc func;
    void *opaque;
};

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    ColoIoTimer *timer = (ColoIoTimer *)source;

    (void)callback;
    (void)data;
    g_source_set_ready_time(source, -1);
    timer->func(timer->opaque);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs timer_funcs = {.dispatch = timer_dispatch};

ColoIoTimer *colo_io_timer_new(ColoIoFunc func, void *opaque)
{
    GSource *source = g_source_new(&timer_funcs, sizeof(ColoIoTimer));
    ColoIoTimer *timer = (ColoIoTimer *)source;

    timer->func = func;
    timer->opaque = opaque;
    g_source_attach(source, colo_io_context());
    return timer;
}

/* GLib's monotonic time is CLOCK_MONOTONIC in microseconds (g_get_monotonic_time(), Linux). */
void colo_io_timer_arm(ColoIoTimer *timer, uint64_t due_ns)
{
    g_source_set_ready_time(&timer->source, (gint64)((due_ns + 999) / 1000));
}

void colo_io_timer_free(ColoIoTimer *timer)
{
    if (!timer)
        return;
    g_source_destroy(&timer->source);
    g_source_unref(&timer->source);
}

struct ColoIoWatch {
    GSource source;
    gpointer tag;
    bool more;
    ColoIoFunc func;
    void *opaque;
};

static gboolean watch_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return ((ColoIoWatch *)source)->more;
}

static gboolean watch_check(GSource *source)
{
    ColoIoWatch *watch = (ColoIoWatch *)source;

    return watch->more || g_source_query_unix_fd(source, watch->tag) != 0;
}

static gboolean watch_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    ColoIoWatch *watch = (ColoIoWatch *)source;

    (void)callback;
    (void)data;
    watch->func(watch->opaque);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs watch_funcs = {
    .prepare = watch_prepare,
    .check = watch_check,
    .dispatch = watch_dispatch,
};

ColoIoWatch *colo_io_watch_new(int fd, GIOCondition condition, ColoIoFunc func, void *opaque)
{
    GSource *source = g_source_new(&watch_funcs, sizeof(ColoIoWatch));
    ColoIoWatch *watch = (ColoIoWatch *)source;

    watch->func = func;
    watch->opaque = opaque;
    watch->tag = g_source_add_unix_fd(source, fd, condition);
    g_source_attach(source, colo_io_context());
    return watch;
}

void colo_io_watch_set(ColoIoWatch *watch, GIOCondition condition)
{
    g_source_modify_unix_fd(&watch->source, watch->tag, condition);
}

void colo_io_watch_set_more(ColoIoWatch *watch, bool more)
{
    watch->more = more;
}

void colo_io_watch_free(ColoIoWatch *watch)
{
    if (!watch)
        return;
    g_source_destroy(&watch->source);
    g_source_unref(&watch->source);
}
