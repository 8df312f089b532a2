/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands of design section 6: each from validated arguments to its result. */
#include "domain/commands.h"

#include "domain/features.h"
#include "domain/pool-map.h"
#include "rpc/command-table.h"
#include "util/error.h"
#include "util/log.h"

#include <string.h>

/* A command that an actor answers: a takeover by hand or the end of a protection. */
#define COMMAND_TIMEOUT_MS 120000u
#define PAIR_TIMEOUT_MS 5000u

static JsonObject *pair_define(ColoManager *m, JsonObject *args, GError **error)
{
    const char *name = colo_json_peek_string(args, "name", NULL);
    const char *peer = colo_json_peek_string(args, "peer", NULL);
    const char *text = colo_json_peek_string(args, "pool-map", NULL);
    uint64_t port = colo_json_peek_uint(args, "port", COLO_CHANNEL_PORT);
    g_autoptr(JsonObject) answer = NULL;
    g_autoptr(JsonObject) map = NULL;
    g_autofree char *theirs = NULL; /* the same map as the peer sees it */
    g_autoptr(ColoChannelRef) channel = NULL;
    gboolean known;

    if (!name)
        name = colo_json_peek_string(args, "pair", NULL);
    if (!name || !peer) {
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                            "colo-pair-define needs a name and --peer");
        return NULL;
    }
    known = colo_pairs_has(m->host.pairs, name, NULL);
    map = colo_pool_map_parse(text, error);
    if (!map || !colo_pairs_define(m->host.pairs, name, peer, (uint16_t)port, text, error))
        return NULL;
    theirs = colo_pool_map_to_text(map, TRUE);
    /* A pair that cannot be connected is not kept: nothing changed. */
    if (!colo_pairs_wait_up(m->host.pairs, name, PAIR_TIMEOUT_MS, error))
        goto undo;
    channel = colo_pairs_channel(m->host.pairs, name, error);
    answer = channel ? colo_channel_call(channel, "pair-define",
                                         colo_json_build("name", "s", name, "port", "u",
                                                         (uint64_t)m->host.config->control_port,
                                                         "pool-map", "s", theirs, NULL),
                                         PAIR_TIMEOUT_MS, error)
                     : NULL;
    if (!answer)
        goto undo;
    return colo_json_build("name", "s", name, NULL);
undo:
    if (!known)
        colo_pairs_undefine(m->host.pairs, name, NULL);
    return NULL;
}

static JsonObject *pair_undefine(ColoManager *m, const char *name, GError **error)
{
    g_autoptr(ColoChannelRef) channel = colo_pairs_channel(m->host.pairs, name, error);
    g_autofree char *user = NULL;
    g_autoptr(JsonObject) answer = NULL;
    g_autoptr(GError) peer_error = NULL;

    if (!channel)
        return NULL;
    if (colo_manager_pair_in_use(m, name, &user)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "pair '%s' is in use by domain '%s': use 'virsh-colo colo-unprotect %s' first",
                    name, user, user);
        return NULL;
    }
    answer = colo_channel_call(channel, "pair-undefine", colo_json_build("name", "s", name, NULL),
                               PAIR_TIMEOUT_MS, &peer_error);
    if (!answer && !g_error_matches(peer_error, COLO_ERROR, COLO_ERROR_PEER) &&
        !g_error_matches(peer_error, COLO_ERROR, COLO_ERROR_NO_PAIR)) {
        g_propagate_error(error, g_steal_pointer(&peer_error));
        return NULL;
    }
    if (!answer)
        colo_warn("pair '%s' is undefined here only: %s", name, peer_error->message);
    return colo_pairs_undefine(m->host.pairs, name, error)
               ? colo_json_build("name", "s", name, NULL)
               : NULL;
}

static JsonObject *protect(ColoManager *m, JsonObject *args, GError **error)
{
    const char *name = colo_json_peek_string(args, "domain", "");
    const char *pair = colo_json_peek_string(args, "pair", "");
    ColoDomain *domain = colo_manager_ensure(m, name, error);
    g_autoptr(JsonObject) view = NULL;
    const char *state;
    virDomainPtr dom;
    gboolean active;

    if (!domain)
        return NULL;
    view = colo_domain_view(domain);
    state = colo_json_peek_string(view, "state", "");
    if (!strcmp(state, "protected") || !strcmp(state, "preparing") || !strcmp(state, "syncing")) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is already %s", name, state);
        return NULL;
    }
    if (strcmp(state, "unprotected") != 0 && strcmp(state, "alone") != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is %s on this host: see 'virsh-colo colo-status %s'", name, state,
                    name);
        return NULL;
    }
    dom = colo_virconn_lookup(m->host.virconn, name, error);
    if (!dom)
        return NULL;
    active = virDomainIsActive(dom) == 1;
    virDomainFree(dom);
    if (!active) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is not running", name);
        return NULL;
    }
    if (!colo_pairs_has(m->host.pairs, pair, error) ||
        !colo_pairs_wait_up(m->host.pairs, pair, 2000, error) ||
        !colo_comparator_wait_up(m->host.comparator, 2000)) {
        if (error && !*error)
            g_set_error_literal(error, COLO_ERROR, COLO_ERROR_SYSTEM,
                                "colo-comparator is not running on this host: start "
                                "colo-comparator.service");
        return NULL;
    }
    return colo_mailbox_ask(domain->mailbox, COLO_MAIL_COMMAND, "colo-protect", args,
                            COMMAND_TIMEOUT_MS, error);
}

static JsonObject *list(ColoManager *m)
{
    static const char *const keys[] = {"name", "uuid", "pair", "role", "state", "generation"};
    g_autoptr(GPtrArray) domains = colo_manager_domains(m);
    JsonObject *array = json_object_new_array();

    for (guint i = 0; i < domains->len; i++) {
        g_autoptr(JsonObject) view = colo_domain_view(g_ptr_array_index(domains, i));
        JsonObject *row;

        if (g_strcmp0(colo_json_peek_string(view, "state", ""), "unprotected") == 0)
            continue;
        row = json_object_new_object();
        for (size_t k = 0; k < G_N_ELEMENTS(keys); k++)
            json_object_object_add(row, keys[k], json_object_get(colo_json_peek(view, keys[k])));
        json_object_array_add(array, row);
    }
    return colo_json_build("domains", "o", array, NULL);
}

JsonObject *colo_commands_ask_figures(const char *uuid, void *manager, GError **error)
{
    ColoManager *m = manager;

    return colo_comparator_call(m->host.comparator, "stats",
                                colo_json_build("uuid", "s", uuid, NULL), -1,
                                COLO_COMPARATOR_TIMEOUT_MS, error);
}

/* Its figures of a domain, of the helper and of this daemon. */
static JsonObject *stats_of(ColoManager *m, JsonObject *view, unsigned wait_ms)
{
    JsonObject *stats =
        colo_figures_get(m->figures, colo_json_peek_string(view, "uuid", ""), wait_ms);
    JsonObject *features = colo_json_peek(view, "feature-stats");

    if (!stats)
        stats = json_object_new_object();
    if (features)
        colo_json_add(stats, "features", "o", json_object_get(features), NULL);
    return stats;
}

JsonObject *colo_manager_figures(ColoManager *m, const char *uuid)
{
    g_autoptr(JsonObject) view = colo_manager_view(m, uuid);

    return view ? stats_of(m, view, COLO_FIGURES_SHORT_MS) : NULL;
}

static JsonObject *in_ms(JsonObject *pause)
{
    static const char *const keys[] = {"min", "median", "p95", "max"};
    JsonObject *ms = json_object_new_object();

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        json_object_object_add(
            ms, keys[i],
            json_object_new_double((double)colo_json_peek_uint(pause, keys[i], 0) / 1e6));
    return ms;
}

static JsonObject *status(ColoDomain *domain, ColoManager *m)
{
    JsonObject *view = colo_domain_view(domain);
    g_autoptr(JsonObject) stats =
        colo_figures_get(m->figures, colo_json_peek_string(view, "uuid", ""), COLO_FIGURES_LONG_MS);
    JsonObject *counters = colo_json_peek(stats, "counters");
    JsonObject *policy = colo_json_peek(stats, "policy");
    uint64_t diverged = 0;

    json_object_object_del(view, "feature-stats"); /* of colo-stats */
    if (!stats)
        return view;
    if (policy)
        colo_json_add(view, "checkpoint-mode", "s", colo_json_peek_string(policy, "mode", NULL),
                      "checkpoint-mode-reason", "s", colo_json_peek_string(policy, "reason", NULL),
                      NULL);
    if (counters && json_object_is_type(counters, json_type_object)) {
        json_object_object_foreach(counters, name, value)
        {
            if (g_str_has_prefix(name, "diverged"))
                diverged += json_object_get_uint64(value);
        }
    }
    colo_json_add(view, "pause-ms", "o", in_ms(colo_json_peek(stats, "pause-ns")), "held-frames",
                  "u", colo_json_peek_uint(stats, "held-frames", 0), "held-bytes", "u",
                  colo_json_peek_uint(stats, "held-bytes", 0), "divergences", "u", diverged, NULL);
    return view;
}

static JsonObject *checkpoint(ColoManager *m, ColoDomain *domain, GError **error)
{
    g_autoptr(JsonObject) before = colo_domain_view(domain);
    uint64_t was = colo_json_peek_uint(before, "checkpoints", 0);
    const char *name = colo_json_peek_string(before, "name", "");

    if (g_strcmp0(colo_json_peek_string(before, "state", ""), "protected") != 0 ||
        g_strcmp0(colo_json_peek_string(before, "role", ""), "primary") != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "Requested operation is not valid: domain '%s' is not protected from this host",
                    name);
        return NULL;
    }
    for (unsigned i = 0; i < 500; i++) {
        g_autoptr(JsonObject) view = NULL;

        /* A kick during a running checkpoint is swallowed by QEMU: ask again. */
        if (i % 10 == 0)
            colo_kicker_kick(m->host.kicker, colo_json_peek_string(before, "uuid", ""));
        g_usleep(10 * G_TIME_SPAN_MILLISECOND);
        view = colo_domain_view(domain);
        if (colo_json_peek_uint(view, "checkpoints", 0) > was)
            return colo_json_build("name", "s", name, "checkpoints", "u",
                                   colo_json_peek_uint(view, "checkpoints", 0), NULL);
    }
    g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                "domain '%s': no checkpoint was completed within 5 s", name);
    return NULL;
}

static JsonObject *failover(ColoDomain *domain, const char *name, JsonObject *args, GError **error)
{
    if (!colo_json_peek_bool(args, "i-am-sure", FALSE)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': make sure that the other host does not run it (power it off), "
                    "then say --i-am-sure: two running copies would corrupt its disk",
                    name);
        return NULL;
    }
    return colo_mailbox_ask(domain->mailbox, COLO_MAIL_COMMAND, "colo-failover", args,
                            COMMAND_TIMEOUT_MS, error);
}

static JsonObject *doctor(ColoManager *m, const char *pair, GError **error)
{
    g_autoptr(JsonObject) pairs = colo_pairs_list(m->host.pairs);
    JsonObject *list_of_pairs = colo_json_peek(pairs, "pairs");
    JsonObject *result = colo_doctor_local(m);
    JsonObject *findings = colo_json_peek(result, "findings");

    if (pair && !colo_pairs_has(m->host.pairs, pair, error)) {
        json_object_put(result);
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(list_of_pairs); i++) {
        const char *name =
            colo_json_peek_string(json_object_array_get_idx(list_of_pairs, i), "name", "");
        g_autoptr(GError) peer_error = NULL;
        g_autoptr(JsonObject) answer = NULL;
        g_autoptr(ColoChannelRef) channel = NULL;
        JsonObject *theirs;

        if (pair && strcmp(pair, name) != 0)
            continue;
        channel = colo_pairs_channel(m->host.pairs, name, NULL);
        if (!channel)
            continue; /* undefined meanwhile */
        answer = colo_channel_call(channel, "host-command",
                                   colo_json_build("command", "s", "colo-doctor", "arguments", "o",
                                                   json_object_new_object(), NULL),
                                   PAIR_TIMEOUT_MS, &peer_error);
        theirs = colo_json_peek(answer, "findings");
        for (size_t k = 0; theirs && k < json_object_array_length(theirs); k++)
            json_object_array_add(findings, json_object_get(json_object_array_get_idx(theirs, k)));
        if (!answer)
            json_object_array_add(
                findings,
                colo_json_build("host", "s", name, "severity", "s", "error", "check", "s",
                                "control channel", "found", "s", peer_error->message, "fix", "s",
                                "start virtcolod there; open its control port", NULL));
    }
    return result;
}

JsonObject *colo_commands_for_peer(ColoManager *m, const char *command, JsonObject *args,
                                   GError **error)
{
    if (strcmp(command, "colo-doctor") == 0)
        return colo_doctor_local(m);
    if (strcmp(command, "colo-features") == 0)
        return colo_features_command(&m->host);
    if (strcmp(command, "prepare-copy") == 0)
        return colo_prepare_copy(m, args, error);
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "'%s' is not for the peer", command);
    return NULL;
}

JsonObject *colo_manager_command(ColoManager *m, const char *command, JsonObject *args,
                                 GError **error)
{
    const char *name = colo_json_peek_string(args, "domain", NULL);
    const char *pair = colo_json_peek_string(args, "pair", NULL);
    ColoDomain *domain;

    if (!colo_command_validate(command, args, error))
        return NULL;
    if (!pair)
        pair = colo_json_peek_string(args, "name", NULL);
    if (strcmp(command, "colo-pair-define") == 0)
        return pair_define(m, args, error);
    if (strcmp(command, "colo-pair-undefine") == 0)
        return pair_undefine(m, pair, error);
    if (strcmp(command, "colo-pair-list") == 0)
        return colo_pairs_list(m->host.pairs);
    if (strcmp(command, "colo-pair-info") == 0)
        return colo_pairs_info(m->host.pairs, pair, error);
    if (strcmp(command, "colo-pair-features") == 0)
        return colo_pair_features_command(m, args, error);
    if (strcmp(command, "colo-list") == 0)
        return list(m);
    if (strcmp(command, "colo-doctor") == 0)
        return doctor(m, pair, error);
    if (strcmp(command, "colo-features") == 0)
        return colo_features_command(&m->host);
    if (strcmp(command, "colo-protect") == 0)
        return protect(m, args, error);
    if (strcmp(command, "colo-prepare") == 0)
        return colo_prepare(m, name, pair, colo_json_peek_bool(args, "fix", FALSE), error);
    if (strcmp(command, "colo-tune") == 0) { /* also before the first protection */
        domain = colo_manager_ensure(m, name ? name : "", error);
        return domain ? colo_mailbox_ask(domain->mailbox, COLO_MAIL_COMMAND, command, args,
                                         COMMAND_TIMEOUT_MS, error)
                      : NULL;
    }

    domain = colo_manager_find(m, name ? name : "", error);
    if (!domain)
        return NULL;
    if (strcmp(command, "colo-status") == 0)
        return status(domain, m);
    if (strcmp(command, "colo-stats") == 0) {
        g_autoptr(JsonObject) view = colo_domain_view(domain);

        return colo_json_build("name", "s", colo_json_peek_string(view, "name", ""), "stats", "o",
                               stats_of(m, view, COLO_FIGURES_LONG_MS), NULL);
    }
    if (strcmp(command, "colo-checkpoint") == 0)
        return checkpoint(m, domain, error);
    if (strcmp(command, "colo-failover") == 0)
        return failover(domain, name, args, error);
    if (strcmp(command, "colo-unprotect") == 0 || strcmp(command, "colo-switchover") == 0)
        return colo_mailbox_ask(domain->mailbox, COLO_MAIL_COMMAND, command, args,
                                COMMAND_TIMEOUT_MS, error);
    g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED, "'%s' is not implemented yet", command);
    return NULL;
}
