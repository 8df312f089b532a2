/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-comparator: the data plane helper (design section 4). It opens no socket and no file of its
 * own: two listeners are inherited, the rest comes as descriptors over the control socket. What it
 * needs beside them is made ready before it goes into its sandbox.
 */
#include "comparator/daemon.h"
#include "comparator/sandbox.h"
#include "comparator/tls.h"
#include "util/activation.h"
#include "util/error.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

typedef struct {
    char *user;
    gint64 allow_uid;
    int threads;
    gboolean verbose, strict;
} Options;

static gboolean parse_options(int *argc, char ***argv, Options *options)
{
    const GOptionEntry entries[] = {
        {"user", 'u', 0, G_OPTION_ARG_STRING, &options->user, "Give up root and run as this user",
         "NAME"},
        {"allow-uid", 0, 0, G_OPTION_ARG_INT64, &options->allow_uid,
         "Let this user control too, beside root (tests)", "UID"},
        {"threads", 't', 0, G_OPTION_ARG_INT, &options->threads,
         "Serve the domains by so many threads (one for each CPU)", "NUMBER"},
        {"strict", 0, 0, G_OPTION_ARG_NONE, &options->strict,
         "Be killed by a system call that the sandbox does not allow (tests)", NULL},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &options->verbose, "Log debug messages", NULL},
        {NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- the data plane of libvirt-colo");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (g_option_context_parse(context, argc, argv, &error) && options->threads < 0)
        g_set_error(&error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "%d is no number of threads",
                    options->threads);
    if (!error)
        return TRUE;
    fprintf(stderr, "colo-comparator: %s\n", error->message);
    return FALSE;
}

static void stop(void *opaque, uint32_t events)
{
    (void)events;
    colo_loop_quit(opaque);
}

/* SIGTERM and SIGINT as a source of the loop; SIGPIPE is of no use. */
static int block_signals(void)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void serve(ColoDaemon *self, int control_fd, int data_fd, int signal_fd)
{
    ColoSource signals = {.ready = stop, .opaque = self->loop};

    self->control = colo_control_new(self, control_fd);
    self->accept = colo_accept_new(self, data_fd);
    colo_loop_add(self->loop, &signals, signal_fd, EPOLLIN);
    colo_activation_notify("READY=1");
    colo_loop_run(self->loop);

    colo_activation_notify("STOPPING=1");
    colo_daemon_stop(self);
    colo_accept_free(self->accept);
    colo_control_free(self->control);
    colo_loop_remove(self->loop, &signals);
}

/* What needs files, names or new sockets. The descriptor of the signals, or -1 and @error. */
static int prepare(ColoDaemon *self, GError **error)
{
    int signal_fd = block_signals();

    self->loop = colo_loop_new();
    if (!self->loop || signal_fd < 0) {
        colo_error_set_errno(error, errno, "the loop");
        return -1;
    }
    colo_log_connect();
    colo_activation_open_notify();
    return colo_tls_init(colo_accept_key, error) ? signal_fd : -1;
}

int main(int argc, char **argv)
{
    Options options = {.allow_uid = 0};
    g_autoptr(GError) error = NULL;
    ColoDaemon self = {0};
    int control_fd, data_fd, signal_fd;

    colo_sandbox_close_inherited();
    if (!parse_options(&argc, &argv, &options))
        return 2;
    colo_log_init("colo-comparator", options.verbose ? LOG_DEBUG : LOG_INFO);
    control_fd = colo_activation_take(COLO_CMP_FD_CONTROL);
    data_fd = colo_activation_take(COLO_CMP_FD_DATA);
    if (control_fd < 0 || data_fd < 0) {
        colo_err("the sockets '%s' and '%s' must be inherited (systemd.socket(5), "
                 "FileDescriptorName=): start it by its unit",
                 COLO_CMP_FD_CONTROL, COLO_CMP_FD_DATA);
        return 2;
    }
    self.uid = (uid_t)options.allow_uid;
    signal_fd = prepare(&self, &error);
    if (signal_fd < 0 || !colo_sandbox_enter(options.user, &error) ||
        !colo_daemon_start(&self, (unsigned)options.threads, &error) ||
        !colo_sandbox_seal(options.strict, &error)) {
        colo_err("cannot start: %s", error->message);
        return 1;
    }
    serve(&self, control_fd, data_fd, signal_fd);
    colo_tls_deinit();
    colo_loop_free(self.loop);
    g_free(options.user);
    return 0;
}
