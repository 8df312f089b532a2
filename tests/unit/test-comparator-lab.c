/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-comparator-lab.h"

#include "util/clock.h"
#include "util/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

gboolean lab_vnet, lab_rewrite;
int lab_missed = 5;
const char *lab_uuid = LAB_UUID;
int lab_threads;
gboolean lab_unprivileged, lab_lenient;

static int unix_listener(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 16), ==, 0);
    return fd;
}

static int tcp_listener(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(fd, 64), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &len), ==, 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void become_nobody(void)
{
    struct passwd *nobody = getpwnam("nobody");

    if (!nobody || setgroups(0, NULL) < 0 || setgid(nobody->pw_gid) < 0 ||
        setuid(nobody->pw_uid) < 0)
        _exit(127);
}

/* In the child: the listeners become descriptors 3 and 4, as systemd hands them over. */
static void become_helper(const char *program, int control, int data, int log)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    g_autofree char *uid = g_strdup_printf("--allow-uid=%u", (unsigned)getuid());
    int high_control = fcntl(control, F_DUPFD, 10), high_data = fcntl(data, F_DUPFD, 10);
    char **environment = g_get_environ();
    g_autofree char *threads = g_strdup_printf("--threads=%d", lab_threads);
    char *arguments[] = {
        (char *)program, uid, threads, "--user=nobody", lab_lenient ? NULL : "--strict", NULL};
    int file = open(program, O_PATH | O_CLOEXEC); /* its folder may be root's alone */

    if (lab_unprivileged && getuid() == 0)
        become_nobody();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log, STDERR_FILENO);
    dup2(high_control, 3);
    dup2(high_data, 4);
    close(high_control);
    close(high_data);
    environment = g_environ_setenv(environment, "LISTEN_PID", pid, TRUE);
    environment = g_environ_setenv(environment, "LISTEN_FDS", "2", TRUE);
    environment = g_environ_setenv(environment, "LISTEN_FDNAMES",
                                   COLO_CMP_FD_CONTROL ":" COLO_CMP_FD_DATA, TRUE);
    fexecve(file, arguments, environment);
    _exit(127);
}

void lab_helper_start(LabHelper *helper)
{
    const char *build = g_getenv("abs_top_builddir");
    g_autofree char *program = g_build_filename(build ? build : ".", "colo-comparator", NULL);
    int control, data, log;

    memset(helper, 0, sizeof(*helper));
    g_queue_init(&helper->events);
    helper->dir = g_dir_make_tmp("colo-comparator-XXXXXX", NULL);
    helper->socket = g_build_filename(helper->dir, "sock", NULL);
    helper->log = g_build_filename(helper->dir, "log", NULL);
    control = unix_listener(helper->socket);
    data = tcp_listener(&helper->port);
    log = open(helper->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    helper->pid = fork();
    g_assert_cmpint(helper->pid, >=, 0);
    if (helper->pid == 0)
        become_helper(program, control, data, log);
    close(control);
    close(data);
    close(log);
    helper->control = -1;
    lab_helper_connect(helper);
}

void lab_helper_connect(LabHelper *helper)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autoptr(JsonObject) hello = NULL;

    if (helper->control >= 0)
        close(helper->control);
    g_clear_pointer(&helper->reader, colo_frame_reader_free);
    helper->reader = colo_frame_reader_new();
    helper->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, helper->socket, sizeof(address.sun_path));
    g_assert_cmpint(connect(helper->control, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    hello =
        lab_request(helper, "hello", colo_json_build("version", "i", COLO_CMP_VERSION, NULL), -1);
    g_assert_cmpuint(colo_json_peek_uint(hello, "pid", 0), ==, (uint64_t)helper->pid);
}

void lab_helper_pause(LabHelper *helper)
{
    int status;

    /* kill() returns when the signal is on its way; the last thread's stop is told. */
    kill(helper->pid, SIGSTOP);
    g_assert_cmpint(waitpid(helper->pid, &status, WUNTRACED), ==, helper->pid);
    g_assert_true(WIFSTOPPED(status));
}

pid_t lab_helper_worker(const LabHelper *helper)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)helper->pid);
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    pid_t worker = helper->pid;

    /* The control thread is the process's first. */
    g_assert_nonnull(folder);
    while (worker == helper->pid) {
        const char *name = g_dir_read_name(folder);

        g_assert_nonnull(name);
        worker = (pid_t)g_ascii_strtoll(name, NULL, 10);
    }
    return worker;
}

bool lab_helper_alive(LabHelper *helper)
{
    return waitpid(helper->pid, NULL, WNOHANG) == 0;
}

void lab_helper_forget(LabHelper *helper)
{
    close(helper->control);
    colo_frame_reader_free(helper->reader);
    g_queue_clear_full(&helper->events, (GDestroyNotify)colo_json_put);
    g_unlink(helper->log);
    g_unlink(helper->socket);
    g_rmdir(helper->dir);
    g_free(helper->log);
    g_free(helper->socket);
    g_free(helper->dir);
}

void lab_helper_stop(LabHelper *helper)
{
    int status = -1;

    kill(helper->pid, SIGTERM);
    g_assert_cmpint(waitpid(helper->pid, &status, 0), ==, helper->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        g_autofree char *text = NULL;

        g_file_get_contents(helper->log, &text, NULL, NULL);
        g_test_message("%sended with wait status %#x", text, (unsigned)status);
    }
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    lab_helper_forget(helper);
}

bool lab_helper_logged(LabHelper *helper, const char *text)
{
    for (int i = 0; i < LAB_WAIT_MS / 20; i++) {
        g_autofree char *log = NULL;

        if (g_file_get_contents(helper->log, &log, NULL, NULL) && strstr(log, text))
            return true;
        g_usleep(20000);
    }
    return false;
}

/* The next message of the control connection, or NULL when none comes before @end_ns, nor is there
 * already. */
static JsonObject *next_message(LabHelper *helper, uint64_t end_ns)
{
    for (;;) {
        size_t len;
        char buffer[8192];
        uint64_t now = colo_clock_ns();
        struct pollfd wait = {.fd = helper->control, .events = POLLIN};
        g_autofree char *text = colo_frame_reader_next(helper->reader, &len, NULL);
        ssize_t n;
        int left;

        if (text)
            return colo_json_parse(text, len, NULL);
        left = now < end_ns ? (int)((end_ns - now + COLO_NS_PER_MS - 1) / COLO_NS_PER_MS) : 0;
        if (poll(&wait, 1, left) <= 0)
            return NULL;
        n = recv(helper->control, buffer, sizeof(buffer), 0);
        if (n <= 0)
            return NULL;
        colo_frame_reader_feed(helper->reader, buffer, (size_t)n);
    }
}

uint64_t lab_send(LabHelper *helper, const char *name, JsonObject *arguments, int fd)
{
    uint64_t id = ++helper->next_id;
    g_autoptr(JsonObject) request =
        colo_json_build("id", "u", id, "execute", "s", name, "arguments", "o", arguments, NULL);
    g_autofree char *text = colo_json_to_string(request);

    g_assert_true(colo_fdpass_send(helper->control, text, strlen(text), &fd, fd >= 0, NULL));
    if (fd >= 0)
        close(fd);
    return id;
}

JsonObject *lab_answer(LabHelper *helper, uint64_t id)
{
    uint64_t end = colo_clock_ns() + LAB_WAIT_MS * COLO_NS_PER_MS;

    for (;;) {
        JsonObject *message = next_message(helper, end);

        g_assert_nonnull(message);
        if (!colo_json_peek(message, "event")) {
            g_assert_cmpuint(colo_json_peek_uint(message, "id", 0), ==, id);
            return message;
        }
        g_queue_push_tail(&helper->events, message);
    }
}

void lab_no_answer(LabHelper *helper)
{
    uint64_t end = colo_clock_ns() + LAB_QUIET_MS * COLO_NS_PER_MS;
    JsonObject *message;

    while ((message = next_message(helper, end))) {
        g_assert_nonnull(colo_json_peek(message, "event"));
        g_queue_push_tail(&helper->events, message);
    }
}

JsonObject *lab_request(LabHelper *helper, const char *name, JsonObject *arguments, int fd)
{
    g_autoptr(JsonObject) answer = lab_answer(helper, lab_send(helper, name, arguments, fd));
    JsonObject *result = colo_json_peek(answer, "return");

    if (!result)
        g_test_message("%s: %s", name, json_object_to_json_string(answer));
    g_assert_nonnull(result);
    return json_object_get(result);
}

char *lab_refused(LabHelper *helper, const char *name, JsonObject *arguments, int fd)
{
    g_autoptr(JsonObject) answer = lab_answer(helper, lab_send(helper, name, arguments, fd));
    JsonObject *error = colo_json_peek(answer, "error");

    g_assert_nonnull(error);
    g_assert_cmpuint(strlen(colo_json_peek_string(error, "message", "")), >, 10);
    return g_strdup(colo_json_peek_string(error, "code", ""));
}

uint64_t lab_stat(LabHelper *helper, const char *key)
{
    g_autoptr(JsonObject) stats = lab_request(helper, "stats", lab_about(), -1);

    g_assert_nonnull(colo_json_peek(stats, key));
    return colo_json_peek_uint(stats, key, 0);
}

uint64_t lab_counter(LabHelper *helper, const char *key)
{
    g_autoptr(JsonObject) stats = lab_request(helper, "stats", lab_about(), -1);
    JsonObject *counters = colo_json_peek(stats, "counters");

    g_assert_nonnull(colo_json_peek(counters, key));
    return colo_json_peek_uint(counters, key, 0);
}

static JsonObject *take_queued(LabHelper *helper, const char *name)
{
    for (GList *at = helper->events.head; at; at = at->next) {
        JsonObject *event = at->data;

        if (!name || g_str_equal(colo_json_peek_string(event, "event", ""), name)) {
            g_queue_delete_link(&helper->events, at);
            return event;
        }
    }
    return NULL;
}

JsonObject *lab_event_within(LabHelper *helper, const char *name, int ms)
{
    uint64_t end = colo_clock_ns() + (uint64_t)ms * COLO_NS_PER_MS;

    for (;;) {
        JsonObject *event = take_queued(helper, name);
        JsonObject *message;

        if (event)
            return event;
        message = next_message(helper, end);
        if (!message)
            return NULL;
        g_queue_push_tail(&helper->events, message);
    }
}

JsonObject *lab_event(LabHelper *helper, const char *name)
{
    JsonObject *event = lab_event_within(helper, name, LAB_WAIT_MS);

    if (!event)
        g_test_message("event '%s' did not come", name);
    g_assert_nonnull(event);
    return event;
}

void lab_forget(LabHelper *helper, const char *name)
{
    JsonObject *event;

    while ((event = lab_event_within(helper, name, 0)))
        json_object_put(event);
}

JsonObject *lab_about(void)
{
    return colo_json_build("uuid", "s", lab_uuid, NULL);
}

JsonObject *lab_gate(LabHelper *helper, const char *mode)
{
    return lab_request(helper, "gate",
                       colo_json_build("uuid", "s", lab_uuid, "mode", "s", mode, NULL), -1);
}

void lab_create(LabHelper *helper, const char *role, const char *psk)
{
    lab_create_generation(helper, role, psk, 7);
}

void lab_create_generation(LabHelper *helper, const char *role, const char *psk,
                           uint64_t generation)
{
    JsonObject *nics = json_object_new_array(), *disks = json_object_new_array();

    json_object_array_add(nics, json_object_new_string("net0"));
    json_object_array_add(disks, json_object_new_string("vda"));
    json_object_put(lab_request(
        helper, "session-create",
        colo_json_build("uuid", "s", lab_uuid, "generation", "u", generation, "role", "s", role,
                        "psk", "s", psk, "vnet-hdr", "b", lab_vnet, "heartbeat-ms", "i", 20,
                        "heartbeat-missed", "i", lab_missed, "nics", "o", nics, "disks", "o", disks,
                        "rewrite", "b", lab_rewrite, NULL),
        -1));
}

int lab_attach(LabHelper *helper, const char *channel)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    json_object_put(lab_request(
        helper, "local-attach",
        colo_json_build("uuid", "s", lab_uuid, "channel", "s", channel, NULL), pair[1]));
    return pair[0];
}

void lab_connect_peer(Lab *lab, const char *stream)
{
    int port = lab->via_port ? lab->via_port : lab->s.port;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    json_object_put(lab_request(&lab->p, "peer-attach",
                                colo_json_build("uuid", "s", lab_uuid, "stream", "s", stream, NULL),
                                fd));
}

void lab_start(Lab *lab)
{
    memset(lab, 0, sizeof(*lab));
    lab_helper_start(&lab->p);
    lab_helper_start(&lab->s);
}

void lab_open(Lab *lab)
{
    static const char *const streams[] = {"packets", "checkpoint", "disk:vda"};

    lab_create(&lab->p, "primary", LAB_PSK);
    lab_create(&lab->s, "secondary", LAB_PSK);
    for (size_t i = 0; i < G_N_ELEMENTS(streams); i++) {
        lab_connect_peer(lab, streams[i]);
        json_object_put(lab_event(&lab->p, "stream-up"));
        json_object_put(lab_event(&lab->s, "stream-up"));
    }
    lab->p_mirror = lab_attach(&lab->p, "mirror:net0");
    lab->p_out = lab_attach(&lab->p, "out:net0");
    lab->p_release = lab_attach(&lab->p, "release:net0");
    lab->p_migration = lab_attach(&lab->p, "migration");
    lab->p_nbd = lab_attach(&lab->p, "nbd:vda");
    lab->s_in = lab_attach(&lab->s, "in:net0");
    lab->s_out = lab_attach(&lab->s, "out:net0");
    lab->s_migration = lab_attach(&lab->s, "migration");
    lab->s_nbd = lab_attach(&lab->s, "nbd:vda");
    lab_nbd_open(lab);
}

void lab_up(Lab *lab)
{
    lab_start(lab);
    lab_open(lab);
}

void lab_close(Lab *lab)
{
    const int fds[] = {lab->p_mirror, lab->p_out, lab->p_release,   lab->p_migration, lab->p_nbd,
                       lab->s_in,     lab->s_out, lab->s_migration, lab->s_nbd};

    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] > 0)
            close(fds[i]);
    }
}

void lab_down(Lab *lab)
{
    lab_helper_stop(&lab->p);
    lab_helper_stop(&lab->s);
    lab_close(lab);
}
