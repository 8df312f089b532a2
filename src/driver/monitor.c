/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/monitor.h"

#include "rpc/command-table.h"
#include "rpc/remote-calls.h"
#include "util/error.h"

#include <libvirt/libvirt-qemu.h>
#include <string.h>

/* A command with its arguments; colo_rpc_command_args has the same. */
#define COMMAND_MAX (1u << 20)

typedef struct {
    char *domain, *text;
    char uuid[37];
    gboolean hmp;
} Request;

static void request_clear(Request *request)
{
    g_clear_pointer(&request->domain, g_free);
    g_clear_pointer(&request->text, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Request, request_clear)

/* remote_nonnull_domain dom; remote_nonnull_string cmd; unsigned int flags */
static gboolean read_request(const ColoRpcFrame *frame, Request *request)
{
    size_t at = colo_remote_body_at(frame);
    ColoRemoteDomain domain;
    uint32_t flags;

    memset(request, 0, sizeof(*request));
    if (!colo_remote_get_domain(frame, &at, &domain))
        return FALSE;
    request->domain = domain.name;
    memcpy(request->uuid, domain.uuid, sizeof(request->uuid));
    request->text = colo_remote_get_text(frame, &at, COMMAND_MAX);
    if (!request->text || !colo_remote_get_word(frame, &at, &flags))
        return FALSE;
    request->hmp = flags & VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;
    g_strstrip(request->text);
    return TRUE;
}

/* The object of a QMP command, or NULL. */
static JsonObject *parse_qmp(const Request *request)
{
    JsonObject *qmp = colo_json_parse(request->text, strlen(request->text), NULL);

    if (qmp && json_object_is_type(qmp, json_type_object))
        return qmp;
    json_object_put(qmp);
    return NULL;
}

gboolean colo_monitor_is_ours(const ColoRpcFrame *frame)
{
    g_auto(Request) request = {0};
    g_autoptr(JsonObject) qmp = NULL;

    if (!read_request(frame, &request))
        return FALSE;
    if (request.hmp)
        return g_str_has_prefix(request.text, "colo-");
    if (!strstr(request.text, "colo-")) /* most are none: not parsed here, QEMU does */
        return FALSE;
    qmp = parse_qmp(&request);
    return g_str_has_prefix(colo_json_peek_string(qmp, "execute", ""), "colo-");
}

/* The name of the command, for the caller to free. */
static char *command_name(const Request *request)
{
    g_autoptr(JsonObject) qmp = request->hmp ? NULL : parse_qmp(request);

    return request->hmp ? g_strndup(request->text, strcspn(request->text, " \t"))
                        : g_strdup(colo_json_peek_string(qmp, "execute", ""));
}

GByteArray *colo_monitor_question(const ColoRpcFrame *frame)
{
    g_auto(Request) request = {0};
    g_autofree char *name = NULL;
    const ColoCommand *command;

    (void)read_request(frame, &request); /* it could be read before */
    name = command_name(&request);
    command = colo_command_find(name);
    return command && !colo_command_find_arg(command, "domain")
               ? colo_remote_ask_connect_write()
               : colo_remote_ask_domain_write(request.domain, request.uuid);
}

/* ---- HMP ---- */

/* "name", "name=value" words into @args, typed as the command declares them. */
static gboolean parse_words(const ColoCommand *command, char *const *words, JsonObject *args,
                            GError **error)
{
    for (; *words; words++) {
        g_auto(GStrv) pair = g_strsplit(*words, "=", 2);
        const ColoArg *arg;

        if (!**words)
            continue;
        arg = colo_command_find_arg(command, pair[0]);
        if (!arg || (arg->type != COLO_ARG_BOOL && !pair[1])) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "%s: '%s' is %s: write NAME=VALUE, or NAME for a switch", command->name,
                        *words, arg ? "no argument with a value" : "no argument of this command");
            return FALSE;
        }
        if (arg->type == COLO_ARG_BOOL) {
            colo_json_add(args, arg->name, "b", !pair[1] || strcmp(pair[1], "true") == 0, NULL);
        } else if (arg->type == COLO_ARG_UINT) {
            uint64_t value;

            if (!g_ascii_string_to_unsigned(pair[1], 10, 0, G_MAXINT64, &value, error)) {
                g_prefix_error(error, "%s: argument '%s': ", command->name, arg->name);
                return FALSE;
            }
            colo_json_add(args, arg->name, "u", value, NULL);
        } else {
            colo_json_add(args, arg->name, "s", pair[1], NULL);
        }
    }
    return TRUE;
}

/* "a.b: value" lines for each leaf. */
static void print_leaves(GString *out, const char *path, JsonObject *value)
{
    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, key, member)
        {
            g_autofree char *name = *path ? g_strconcat(path, ".", key, NULL) : g_strdup(key);

            print_leaves(out, name, member);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            g_autofree char *name = g_strdup_printf("%s[%zu]", path, i);

            print_leaves(out, name, json_object_array_get_idx(value, i));
        }
    } else {
        const char *text = value ? json_object_get_string(value) : "-";

        g_string_append_printf(out, "%s: %s\r\n", path, text);
    }
}

/* ---- both ---- */

/* Checks and runs it: on the domain of the UUID, for which libvirt said that the client may. The
 * name beside it is what the client wrote. */
static JsonObject *run(const Request *request, const ColoCommand *command, JsonObject *args,
                       JsonObject *(*func)(const char *command, JsonObject *args, void *opaque,
                                           GError **error),
                       void *opaque, GError **error)
{
    const char *domain = colo_json_peek_string(args, "domain", NULL);

    if (domain && strcmp(domain, request->domain) != 0 && strcmp(domain, request->uuid) != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s is asked of domain '%s' about domain '%s': ask that one", command->name,
                    request->domain, domain);
        return NULL;
    }
    if (colo_command_find_arg(command, "domain"))
        colo_json_add(args, "domain", "s", request->uuid, NULL);
    if (command->local) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s is not a command of the daemon: subscribe to events instead",
                    command->name);
        return NULL;
    }
    if (!colo_command_validate(command->name, args, error))
        return NULL;
    return func(command->name, args, opaque, error);
}

static const ColoCommand *find(const char *name, GError **error)
{
    const ColoCommand *command = colo_command_find(name);

    if (!command)
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "there is no command '%s': 'virsh-colo help' lists them", name);
    return command;
}

static char *answer_hmp(const Request *request,
                        JsonObject *(*func)(const char *command, JsonObject *args, void *opaque,
                                            GError **error),
                        void *opaque)
{
    g_auto(GStrv) words = g_strsplit_set(request->text, " \t", -1);
    g_autoptr(JsonObject) args = json_object_new_object(), result = NULL;
    g_autoptr(GError) error = NULL;
    const ColoCommand *command = find(words[0], &error);
    GString *out = g_string_new(NULL);

    if (command && parse_words(command, words + 1, args, &error))
        result = run(request, command, args, func, opaque, &error);
    if (result)
        print_leaves(out, "", result);
    else
        g_string_append_printf(out, "Error: %s\r\n", error ? error->message : "no reason");
    return g_string_free(out, FALSE);
}

static char *answer_qmp(const Request *request,
                        JsonObject *(*func)(const char *command, JsonObject *args, void *opaque,
                                            GError **error),
                        void *opaque)
{
    g_autoptr(JsonObject) qmp = parse_qmp(request), args = NULL, result = NULL;
    g_autoptr(JsonObject) answer = json_object_new_object();
    g_autoptr(GError) error = NULL;
    const ColoCommand *command = find(colo_json_peek_string(qmp, "execute", ""), &error);
    JsonObject *given = colo_json_peek(qmp, "arguments"), *id = colo_json_peek(qmp, "id");

    if (given && !json_object_is_type(given, json_type_object)) {
        command = NULL;
        g_clear_error(&error);
        g_set_error_literal(&error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "\"arguments\" is no object");
    }
    args = given ? json_object_get(given) : json_object_new_object();
    if (command)
        result = run(request, command, args, func, opaque, &error);
    if (result)
        json_object_object_add(answer, "return", json_object_get(result));
    else
        json_object_object_add(answer, "error",
                               colo_json_build("class", "s", "GenericError", "desc", "s",
                                               error ? error->message : "no reason", NULL));
    if (id)
        json_object_object_add(answer, "id", json_object_get(id));
    return colo_json_to_string(answer);
}

GByteArray *colo_monitor_answer(const ColoRpcFrame *frame,
                                JsonObject *(*command)(const char *command, JsonObject *args,
                                                       void *opaque, GError **error),
                                void *opaque)
{
    g_auto(Request) request = {0};
    g_autofree char *text = NULL;

    (void)read_request(frame, &request); /* it could be read before */
    text =
        request.hmp ? answer_hmp(&request, command, opaque) : answer_qmp(&request, command, opaque);
    return colo_remote_string(&frame->header, text);
}
