/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/qmp.h"

#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Our code for a libvirt error number. */
static ColoErrorCode code_of_libvirt(int number)
{
    switch (number) {
    case VIR_ERR_NO_DOMAIN:
        return COLO_ERROR_NO_DOMAIN;
    case VIR_ERR_OPERATION_INVALID:
        return COLO_ERROR_OPERATION_INVALID;
    case VIR_ERR_OPERATION_TIMEOUT:
        return COLO_ERROR_TIMEOUT;
    case VIR_ERR_RESOURCE_BUSY:
        return COLO_ERROR_RESOURCE;
    case VIR_ERR_CONFIG_UNSUPPORTED:
        return COLO_ERROR_UNSUPPORTED;
    default:
        return COLO_ERROR_OPERATION_FAILED;
    }
}

void colo_qmp_set_libvirt_error(virDomainPtr dom, const char *what, GError **error)
{
    virErrorPtr last = virGetLastError();
    int number = last ? last->code : VIR_ERR_INTERNAL_ERROR;
    /* Copied first: every call of libvirt, virDomainGetName() too, resets the last error. */
    g_autofree char *text = g_strdup(last && last->message ? last->message : "no reason given");

    g_set_error(error, COLO_ERROR, code_of_libvirt(number), "domain '%s': %s failed: [libvirt] %s",
                virDomainGetName(dom), what, text);
}

/* The "return" of QEMU's answer @text, or NULL with @error made from its "error". */
static JsonObject *take_return(virDomainPtr dom, const char *command, const char *text,
                               GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonObject) answer = colo_json_parse(text, strlen(text), &local);
    JsonObject *failure, *value = NULL;

    if (!answer) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL,
                    "domain '%s': '%s': unreadable answer: %s", virDomainGetName(dom), command,
                    local->message);
        return NULL;
    }
    failure = colo_json_peek(answer, "error");
    if (failure) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                    "domain '%s': '%s' failed: [%s] %s", virDomainGetName(dom), command,
                    colo_json_peek_string(failure, "class", "GenericError"),
                    colo_json_peek_string(failure, "desc", "no reason given"));
        return NULL;
    }
    if (!json_object_object_get_ex(answer, "return", &value) || !value) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INTERNAL,
                    "domain '%s': '%s': the answer has neither 'return' nor 'error'",
                    virDomainGetName(dom), command);
        return NULL;
    }
    return json_object_get(value);
}

JsonObject *colo_qmp(virDomainPtr dom, const char *command, JsonObject *args, int fd,
                     GError **error)
{
    g_autoptr(JsonObject) request = colo_json_build("execute", "s", command, NULL);
    g_autofree char *text = NULL;
    char *result = NULL;
    JsonObject *value;
    int rc;

    if (args)
        json_object_object_add(request, "arguments", args);
    text = colo_json_to_string(request);
    virResetLastError();
    if (fd >= 0)
        rc = virDomainQemuMonitorCommandWithFiles(dom, text, 1, &fd, NULL, NULL, &result, 0);
    else
        rc = virDomainQemuMonitorCommand(dom, text, &result, 0);
    if (rc < 0 || !result) {
        g_autofree char *what = g_strdup_printf("'%s'", command);

        colo_qmp_set_libvirt_error(dom, what, error);
        free(result);
        return NULL;
    }
    value = take_return(dom, command, result, error);
    free(result);
    return value;
}

gboolean colo_qmp_run(virDomainPtr dom, const char *command, JsonObject *args, GError **error)
{
    g_autoptr(JsonObject) value = colo_qmp(dom, command, args, -1, error);

    return value != NULL;
}

/* The text after "failed: " of an error of colo_qmp(), or NULL. */
static const char *after_failed(const GError *error)
{
    const char *mark;

    if (!error || error->domain != COLO_ERROR)
        return NULL;
    mark = strstr(error->message, " failed: [");
    return mark ? mark + strlen(" failed: ") : NULL;
}

gboolean colo_qmp_is_error_class(const GError *error, const char *class)
{
    const char *text = after_failed(error);
    size_t len = strlen(class);

    return text && strncmp(text + 1, class, len) == 0 && text[1 + len] == ']';
}

gboolean colo_qmp_error_has(const GError *error, const char *text)
{
    const char *mine = after_failed(error);

    return mine && !colo_qmp_is_error_class(error, "libvirt") && strstr(mine, text) != NULL;
}

gboolean colo_qmp_send_fd(virDomainPtr dom, int fd, const char *name, GError **error)
{
    g_autoptr(JsonObject) value =
        colo_qmp(dom, "getfd", colo_json_build("fdname", "s", name, NULL), fd, error);

    return value != NULL;
}

void colo_qmp_drop_fd(virDomainPtr dom, const char *name)
{
    g_autoptr(GError) ignored = NULL; /* "File descriptor named ... not found": was consumed */

    colo_qmp_run(dom, "closefd", colo_json_build("fdname", "s", name, NULL), &ignored);
}

int colo_qmp_pass_socket(virDomainPtr dom, const char *name, GError **error)
{
    int pair[2];
    gboolean sent;

    /* The blocking mode belongs to the open file, so each end has its own: QEMU sets its own. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        colo_error_set_errno(error, errno, "domain '%s': cannot make the socket pair '%s'",
                             virDomainGetName(dom), name);
        return -1;
    }
    sent = colo_qmp_send_fd(dom, pair[1], name, error);
    close(pair[1]);
    if (sent && fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
        colo_error_set_errno(error, errno, "domain '%s': socket '%s'", virDomainGetName(dom), name);
        colo_qmp_drop_fd(dom, name);
        sent = FALSE;
    }
    if (!sent) {
        close(pair[0]);
        return -1;
    }
    return pair[0];
}
