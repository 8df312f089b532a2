/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rpc/command-table.h"

#include "util/error.h"
#include "util/tuning.h"

#include <string.h>

#define N_(text) text

/* clang-format off */
#define ARGS(...) (const ColoArg[]){__VA_ARGS__ {.name = NULL}}
#define RESULTS(...) (const ColoResultField[]){__VA_ARGS__ {.name = NULL}}

#define DOMAIN_ARG \
    {.name = "domain", .type = COLO_ARG_STRING, .required = 1, .positional = 1, \
     .help = N_("domain name, id or uuid")}
#define DOMAIN_OPTIONAL \
    {.name = "domain", .type = COLO_ARG_STRING, .positional = 1, \
     .help = N_("domain name, id or uuid")}
#define PAIR_ARG \
    {.name = "name", .type = COLO_ARG_STRING, .required = 1, .positional = 1, \
     .help = N_("name of the pair")}
#define FEATURES_ARG \
    {.name = "features", .type = COLO_ARG_STRING, \
     .help = N_("hardware features: NAME=require[:PARAM]|prefer[:PARAM]|off|default[,...]")}
#define JSON_ARG \
    {.name = "json", .type = COLO_ARG_BOOL, .local = 1, \
     .help = N_("print the result as one JSON object")}

#define PAIR_RESULTS(prefix) \
    {prefix "name", "string", "name of the pair"}, \
    {prefix "peer", "string", "host name of the peer, as in its certificate"}, \
    {prefix "port", "uint", "TCP port of the peer's control channel"}, \
    {prefix "state", "string", "up, silent or down"}, \
    {prefix "local-host", "string", "name of this host in the pair"}

static const ColoCommand commands[] = {
    {
        .name = "colo-pair-define", .group = "pair", .changes = TRUE,
        .summary = N_("define a pair of this host and a peer"),
        .args = ARGS(
            PAIR_ARG,
            {.name = "peer", .type = COLO_ARG_STRING, .required = 1,
             .help = N_("host name of the peer, as in its certificate")},
            {.name = "port", .type = COLO_ARG_UINT, .min = 1, .max = 65535,
             .help = N_("TCP port of the peer's virtcolod")},
            {.name = "pool-map", .type = COLO_ARG_STRING,
             .help = N_("storage pools here and there: POOL=PEER-POOL[,POOL=PEER-POOL...]")},
            JSON_ARG,),
        .results = RESULTS({"name", "string", "name of the pair"},),
    }, {
        .name = "colo-pair-undefine", .group = "pair", .changes = TRUE,
        .summary = N_("forget a pair that protects no domain"),
        .args = ARGS(PAIR_ARG, JSON_ARG,),
        .results = RESULTS({"name", "string", "name of the pair"},),
    }, {
        .name = "colo-pair-list", .group = "pair",
        .summary = N_("list the pairs of this host"),
        .args = ARGS(JSON_ARG,),
        .results = RESULTS({"pairs", "array", "one object a pair"}, PAIR_RESULTS("pairs[]."),),
    }, {
        .name = "colo-pair-info", .group = "pair",
        .summary = N_("show one pair and its control channel"),
        .args = ARGS(PAIR_ARG, JSON_ARG,),
        .results = RESULTS(
            PAIR_RESULTS(""),
            {"peer-version", "string", "version of the peer's virtcolod"},
            {"last-error", "string", "why the control channel was lost last"},
            {"silent-ms", "uint", "milliseconds since the peer was heard"},
            {"pool-map", "object", "storage pool here and the peer's for the copies of its disks"},
            {"certificate-expiry", "string", "end of validity of the peer's certificate"},),
    }, {
        .name = "colo-pair-features", .group = "pair",
        .summary = N_("show the hardware features of both hosts and what they agree about"),
        .args = ARGS(
            PAIR_ARG,
            {.name = "domain", .type = COLO_ARG_STRING,
             .help = N_("by what is kept for this domain; else: all that is possible")},
            JSON_ARG,),
        .results = RESULTS(
            {"pair", "string", "name of the pair"},
            {"domain", "string", "name of the domain, when one was given"},
            {"hosts", "array", "names of this host and the peer"},
            {"agreed", "bool", "false: the domain would be refused"},
            {"cpu", "string", "XML of the CPU that guests can have on both hosts"},
            {"cpu-model", "string", "its model"},
            {"features", "array", "one object a feature"},
            {"features[].name", "string", "name of the feature"},
            {"features[].policy", "string", "require, prefer, off or default"},
            {"features[].param", "string", "its parameter, as colo-tune takes it"},
            {"features[].usable", "object", "for each host, whether it can switch it for one VM"},
            {"features[].outcome", "object", "for each host: on, off, untouched or refused"},
            {"features[].reason", "string", "why it is refused, or not on"},),
    }, {
        .name = "colo-prepare", .group = "protection", .changes = TRUE,
        .summary = N_("create the peer's disk copies and fix what stands against protection"),
        .args = ARGS(
            DOMAIN_ARG,
            {.name = "pair", .type = COLO_ARG_STRING, .required = 1,
             .help = N_("pair whose peer gets the copies")},
            {.name = "fix", .type = COLO_ARG_BOOL,
             .help = N_("change the persistent XML where it stands against protection")},
            JSON_ARG,),
        .results = RESULTS(
            {"actions", "array", "what was done or is to be done"},
            {"actions[].host", "string", "host it concerns"},
            {"actions[].object", "string", "disk, interface or device"},
            {"actions[].action", "string", "what it is"},
            {"actions[].done", "bool", "false: needs --fix, or the operator"},),
    }, {
        .name = "colo-protect", .group = "protection", .changes = TRUE,
        .summary = N_("protect a running domain on the two hosts of a pair"),
        .args = ARGS(
            DOMAIN_ARG,
            {.name = "pair", .type = COLO_ARG_STRING, .required = 1,
             .help = N_("pair that shall protect it")},
            FEATURES_ARG,
            {.name = "wait", .type = COLO_ARG_BOOL, .local = 1,
             .help = N_("wait until it is protected and show the progress")},
            {.name = "timeout", .type = COLO_ARG_UINT, .local = 1, .min = 1, .max = 86400,
             .help = N_("give up waiting after so many seconds (protection goes on)")},
            JSON_ARG,),
        .results = RESULTS({"job", "string", "started"},),
    }, {
        .name = "colo-unprotect", .group = "protection", .changes = TRUE,
        .summary = N_("end the protection of a domain; it goes on running here"),
        .args = ARGS(DOMAIN_ARG, JSON_ARG,),
        .results = RESULTS({"name", "string", "name of the domain"},),
    }, {
        .name = "colo-checkpoint", .group = "protection", .changes = TRUE,
        .summary = N_("bring the secondary to the primary's state now"),
        .args = ARGS(DOMAIN_ARG, JSON_ARG,),
        .results = RESULTS(
            {"name", "string", "name of the domain"},
            {"checkpoints", "uint", "checkpoints since protection began"},),
    }, {
        .name = "colo-failover", .group = "protection", .changes = TRUE,
        .summary = N_("make this host the only owner of a domain whose peer is gone"),
        .args = ARGS(
            DOMAIN_ARG,
            {.name = "i-am-sure", .type = COLO_ARG_BOOL,
             .help = N_("the other host does not run the domain: I have made sure myself")},
            {.name = "discard", .type = COLO_ARG_BOOL,
             .help = N_("start from this host's disks and lose what only the other host has")},
            JSON_ARG,),
        .results = RESULTS(
            {"name", "string", "name of the domain"},
            {"state", "string", "state it is in now"},
            {"generation", "uint", "generation that this host owns now"},
            {"lost", "string", "what --discard gave up"},),
    }, {
        .name = "colo-switchover", .group = "protection", .changes = TRUE,
        .summary = N_("swap the roles of the two hosts of a protected domain"),
        .args = ARGS(DOMAIN_ARG, JSON_ARG,),
        .results = RESULTS(
            {"name", "string", "name of the domain"},
            {"generation", "uint", "generation of the new owner"},),
    }, {
        .name = "colo-tune", .group = "protection", .changes = TRUE,
        .summary = N_("show or change when checkpoints are forced, and hardware features"),
        .args = ARGS(
            DOMAIN_ARG,
            {.name = "mode", .type = COLO_ARG_STRING,
             .help = N_("auto, compare (at once when output differs) or periodic")},
            {.name = "unanswered-min-ms", .type = COLO_ARG_UINT,
             .min = COLO_TUNING_UNANSWERED_LEAST_MS, .max = COLO_TUNING_UNANSWERED_MOST_MS,
             .help = N_("a packet waits at least so long for the other copy's")},
            {.name = "unanswered-max-ms", .type = COLO_ARG_UINT,
             .min = COLO_TUNING_UNANSWERED_LEAST_MS, .max = COLO_TUNING_UNANSWERED_MOST_MS,
             .help = N_("and at most so long, before it forces a checkpoint")},
            {.name = "period-min-ms", .type = COLO_ARG_UINT,
             .min = COLO_TUNING_PERIOD_LEAST_MS, .max = COLO_TUNING_PERIOD_MOST_MS,
             .help = N_("shortest period of periodic checkpoints")},
            {.name = "period-max-ms", .type = COLO_ARG_UINT,
             .min = COLO_TUNING_PERIOD_LEAST_MS, .max = COLO_TUNING_PERIOD_MOST_MS,
             .help = N_("longest period of periodic checkpoints")},
            {.name = "pause-share", .type = COLO_ARG_UINT,
             .min = COLO_TUNING_SHARE_LEAST, .max = COLO_TUNING_SHARE_MOST,
             .help = N_("percent of the time that the pauses of forced checkpoints may take")},
            FEATURES_ARG,
            JSON_ARG,),
        .results = RESULTS(
            {"name", "string", "name of the domain"},
            {"tuning", "object", "the values in force: a member for each option"},
            {"defaults", "object", "the values that are in force without a change"},
            {"features", "string", "what was said of hardware features, as the option takes it"},
            {"live", "bool", "whether they were told to a session that runs"},),
    }, {
        .name = "colo-list", .group = "monitor",
        .summary = N_("list the domains under protection that this host knows"),
        .args = ARGS(JSON_ARG,),
        .results = RESULTS(
            {"domains", "array", "one object a domain"},
            {"domains[].name", "string", "name of the domain"},
            {"domains[].uuid", "string", "its UUID"},
            {"domains[].pair", "string", "name of the pair"},
            {"domains[].role", "string", "primary or secondary"},
            {"domains[].state", "string", "see colo-status"},
            {"domains[].generation", "uint", "generation of its ownership"},),
    }, {
        .name = "colo-status", .group = "monitor",
        .summary = N_("show the protection of a domain"),
        .args = ARGS(
            DOMAIN_ARG,
            {.name = "watch", .type = COLO_ARG_BOOL, .local = 1,
             .help = N_("show it again every second until interrupted")},
            JSON_ARG,),
        .results = RESULTS(
            {"name", "string", "name of the domain"},
            {"uuid", "string", "its UUID"},
            {"pair", "string", "name of the pair"},
            {"peer", "string", "host name of the peer"},
            {"role", "string", "primary or secondary"},
            {"state", "string", "unprotected, preparing, syncing, protected, degraded, "
                                "failing-over, committing, alone, fenced or manual"},
            {"reason", "string", "why it is in this state"},
            {"generation", "uint", "generation of its ownership"},
            {"owner", "string", "host that owns this generation"},
            {"control", "string", "up or control-lost"},
            {"checkpoints", "uint", "checkpoints since protection began"},
            {"last-checkpoint-ms", "uint", "milliseconds since the last checkpoint"},
            {"pause-ms", "object", "pauses of the guest by checkpoints: median, p95, max"},
            {"held-frames", "uint", "frames that wait for their confirmation"},
            {"held-bytes", "uint", "their bytes"},
            {"divergences", "uint", "checkpoints that differing output forced"},
            {"checkpoint-mode", "string", "compare or periodic: see colo-tune"},
            {"checkpoint-mode-reason", "string", "why it is in this mode"},
            {"disks", "array", "alias, target, size and copied (bytes), state of each disk"},
            {"memory", "object", "total and remaining bytes of the copy of memory"},
            {"progress-percent", "uint", "of the job under way, 0 to 100"},
            {"features", "object", "hardware features switched in this host's VM: setting, param"},
            {"feature-policy", "object", "what was said of hardware features: policy, param"},
            {"error", "string", "what ended the last job"},),
    }, {
        .name = "colo-stats", .group = "monitor",
        .summary = N_("show the counters of a domain's protection"),
        .args = ARGS(DOMAIN_ARG, JSON_ARG,),
        .results = RESULTS(
            {"name", "string", "name of the domain"},
            {"stats", "object", "counter name and value; nested objects join with a dot"},),
    }, {
        .name = "colo-events", .group = "monitor", .local = TRUE,
        .summary = N_("print events of protection as they happen"),
        .args = ARGS(
            DOMAIN_OPTIONAL,
            {.name = "loop", .type = COLO_ARG_BOOL, .local = 1,
             .help = N_("go on after the first event")},
            {.name = "timeout", .type = COLO_ARG_UINT, .local = 1, .min = 1, .max = 86400,
             .help = N_("stop after so many seconds")},
            JSON_ARG,),
        .results = RESULTS(
            {"event", "string", "kind of event: state, policy, feature, ..."},
            {"domain", "string", "name of the domain, when it is about one"},
            {"pair", "string", "name of the pair"},
            {"state", "string", "the new state; of a feature: lost"},
            {"host", "string", "host on which a feature was lost"},
            {"feature", "string", "its name"},
            {"mode", "string", "the new mode of checkpoints"},
            {"reason", "string", "why"},),
    }, {
        .name = "colo-features", .group = "monitor",
        .summary = N_("show the hardware virtualization features of this host"),
        .args = ARGS(JSON_ARG,),
        .results = RESULTS(
            {"host", "string", "name of the host"},
            {"vendor", "string", "vendor of its processor"},
            {"kernel", "string", "version of its kernel"},
            {"module", "string", "version of kvm_hvfeat; null: it is not loaded"},
            {"cpu", "string", "XML of the CPU that guests with host-model get"},
            {"features", "array", "one object a feature"},
            {"features[].name", "string", "name of the feature"},
            {"features[].hardware", "bool", "the processor has it; null: not known"},
            {"features[].firmware", "bool", "the firmware lets it be used"},
            {"features[].in-kernel", "bool", "the loaded KVM implements it and has it on"},
            {"features[].per-vm", "bool", "it can be switched for one VM"},
            {"features[].has-state", "bool", "its state can be taken to the other host"},
            {"features[].guest-visible", "bool", "a guest can tell whether it is on"},
            {"features[].group", "uint", "bits of the features that KVM switches together"},
            {"features[].state-version", "uint", "version of its state, the same on both hosts"},
            {"features[].param-min", "uint", "least parameter"},
            {"features[].param-max", "uint", "greatest parameter"},
            {"features[].usable", "bool", "all of this: it can be required for a domain"},
            {"features[].reason", "string", "what stands against it, and the remedy"},),
    }, {
        .name = "colo-doctor", .group = "monitor", .host = TRUE,
        .summary = N_("check both hosts of the pairs and say how to fix what is wrong"),
        .args = ARGS(
            {.name = "pair", .type = COLO_ARG_STRING, .positional = 1,
             .help = N_("check this pair only")},
            JSON_ARG,),
        .results = RESULTS(
            {"findings", "array", "one object a check"},
            {"findings[].host", "string", "host it concerns"},
            {"findings[].severity", "string", "ok, warning or error"},
            {"findings[].check", "string", "what was checked"},
            {"findings[].found", "string", "what was found"},
            {"findings[].fix", "string", "how to fix it"},),
    },
};
/* clang-format on */

const ColoCommand *colo_command_table(size_t *n)
{
    *n = G_N_ELEMENTS(commands);
    return commands;
}

const ColoCommand *colo_command_find(const char *name)
{
    for (size_t i = 0; name && i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

const ColoArg *colo_command_find_arg(const ColoCommand *command, const char *name)
{
    for (const ColoArg *arg = command->args; arg->name; arg++) {
        if (strcmp(arg->name, name) == 0)
            return arg;
    }
    return NULL;
}

/* A string argument: not empty, bounded, no control characters (names go into logs and XML). */
static gboolean check_string(const ColoCommand *command, const ColoArg *arg, JsonObject *args,
                             GError **error)
{
    const char *value;

    if (!colo_json_get_string(args, arg->name, &value, error)) {
        g_prefix_error(error, "%s: ", command->name);
        return FALSE;
    }
    if (!*value || strlen(value) > COLO_COMMAND_STRING_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s: argument '%s' must have 1 to %d bytes, found %zu", command->name,
                    arg->name, COLO_COMMAND_STRING_MAX, strlen(value));
        return FALSE;
    }
    for (const char *p = value; *p; p++) {
        if (g_ascii_iscntrl(*p)) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                        "%s: argument '%s' holds a control character", command->name, arg->name);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean check_uint(const ColoCommand *command, const ColoArg *arg, JsonObject *args,
                           GError **error)
{
    uint64_t max = arg->max ? arg->max : INT64_MAX;
    uint64_t value;

    if (!colo_json_get_uint(args, arg->name, &value, error)) {
        g_prefix_error(error, "%s: ", command->name);
        return FALSE;
    }
    if (value < arg->min || value > max) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s: argument '%s' must be %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    ", found %" G_GUINT64_FORMAT,
                    command->name, arg->name, arg->min, max, value);
        return FALSE;
    }
    return TRUE;
}

static gboolean check_arg(const ColoCommand *command, const ColoArg *arg, JsonObject *args,
                          GError **error)
{
    gboolean value;

    switch (arg->type) {
    case COLO_ARG_STRING:
        return check_string(command, arg, args, error);
    case COLO_ARG_UINT:
        return check_uint(command, arg, args, error);
    case COLO_ARG_BOOL:
        if (colo_json_get_bool(args, arg->name, &value, error))
            return TRUE;
        g_prefix_error(error, "%s: ", command->name);
        return FALSE;
    }
    return FALSE;
}

gboolean colo_command_validate(const char *name, JsonObject *args, GError **error)
{
    const ColoCommand *command = colo_command_find(name);
    const ColoArg *arg;

    if (!command) {
        g_autofree char *shown = g_strescape(name ? name : "", NULL);

        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "unknown command '%s'", shown);
        return FALSE;
    }
    if (args && !json_object_is_type(args, json_type_object)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%s: arguments must be a JSON object, found %s", name,
                    json_type_to_name(json_object_get_type(args)));
        return FALSE;
    }
    for (arg = command->args; arg->name; arg++) {
        if (arg->required && !colo_json_peek(args, arg->name)) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "%s: argument '%s' is missing",
                        name, arg->name);
            return FALSE;
        }
    }
    if (!args)
        return TRUE;
    json_object_object_foreach(args, key, value)
    {
        (void)value;
        arg = colo_command_find_arg(command, key);
        if (!arg || arg->local) {
            g_autofree char *shown = g_strescape(key, NULL);

            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "%s: unknown argument '%s'",
                        name, shown);
            return FALSE;
        }
        if (!check_arg(command, arg, args, error))
            return FALSE;
    }
    return TRUE;
}
