/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * colo-comparator: the data plane helper (design section 4). It opens no socket and no file of its
 * own: two listeners are inherited, the rest comes as descriptors over the control socket.
 */
#include "comparator/daemon.h"
#include "comparator/tls.h"
#include "util/activation.h"
#include "util/error.h"

#include <errno.h>
#include <glib.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

typedef struct {
    char *user;
    gint64 allow_uid;
    gboolean verbose;
} Options;

static gboolean parse_options(int *argc, char ***argv, Options *options)
{
    const GOptionEntry entries[] = {
        {"user", 'u', 0, G_OPTION_ARG_STRING, &options->user, "Give up root and run as this user",
         "NAME"},
        {"allow-uid", 0, 0, G_OPTION_ARG_INT64, &options->allow_uid,
         "Let this user control too, beside root (tests)", "UID"},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &options->verbose, "Log debug messages", NULL},
        {NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- the data plane of libvirt-colo");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (g_option_context_parse(context, argc, argv, &error))
        return TRUE;
    fprintf(stderr, "colo-comparator: %s\n", error->message);
    return FALSE;
}

/* Becomes @user for good. FALSE and @error when that does not succeed wholly. */
static gboolean drop_root(const char *user, GError **error)
{
    struct passwd *entry = getpwnam(user);

    if (!entry) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "there is no user '%s'", user);
        return FALSE;
    }
    if (setgroups(0, NULL) < 0 || setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
        setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0) {
        colo_error_set_errno(error, errno, "becoming user '%s'", user);
        return FALSE;
    }
    if (entry->pw_uid != 0 && setuid(0) == 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL, "root could not be given up");
        return FALSE;
    }
    return TRUE;
}

static void send_event(void *opaque, JsonObject *event)
{
    colo_control_event(((ColoDaemon *)opaque)->control, event);
}

static void send_answer(void *opaque, uint64_t token, JsonObject *result, GError *error)
{
    colo_control_answer(((ColoDaemon *)opaque)->control, token, result, error);
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

    self->host = (ColoSessionHost){
        .loop = self->loop, .event = send_event, .answer = send_answer, .opaque = self};
    self->control = colo_control_new(self, control_fd);
    self->accept = colo_accept_new(self, data_fd);
    colo_loop_add(self->loop, &signals, signal_fd, EPOLLIN);
    sd_notify(0, "READY=1");
    colo_loop_run(self->loop);

    sd_notify(0, "STOPPING=1");
    for (int i = 0; i < COLO_SESSION_MAX; i++)
        colo_session_free(self->sessions[i]);
    colo_accept_free(self->accept);
    colo_control_free(self->control);
    colo_loop_remove(self->loop, &signals);
}

int main(int argc, char **argv)
{
    Options options = {.allow_uid = 0};
    g_autoptr(GError) error = NULL;
    ColoDaemon self = {0};
    int control_fd, data_fd, signal_fd;

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
    /* Keys and guest data must not land in a core file or be read by a tracer. */
#ifndef __SANITIZE_ADDRESS__ /* its leak check traces the process itself */
    (void)prctl(PR_SET_DUMPABLE, 0);
#endif
    if (options.user && geteuid() == 0 && !drop_root(options.user, &error)) {
        colo_err("%s", error->message);
        return 1;
    }
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    self.uid = (uid_t)options.allow_uid;
    self.loop = colo_loop_new();
    signal_fd = block_signals();
    if (!self.loop || signal_fd < 0 || !colo_tls_init(colo_accept_key, &error)) {
        colo_err("cannot start: %s", error ? error->message : strerror(errno));
        return 1;
    }
    serve(&self, control_fd, data_fd, signal_fd);
    colo_tls_deinit();
    colo_loop_free(self.loop);
    g_free(options.user);
    return 0;
}
