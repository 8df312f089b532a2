/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/features.h"

#include "domain/cpu-model.h"
#include "feature/probe.h"
#include "util/error.h"

#include <string.h>

#define CONN_TIMEOUT_MS 5000u
/* libvirt's first word about its CPU takes seconds. */
#define PEER_REPORT_TIMEOUT_MS 15000u
#define CHANNEL_UP_TIMEOUT_MS 2000u

ColoHostFeatures *colo_features_of_host(ColoHost *host)
{
    ColoHostFeatures *report = colo_feature_probe(host->sysroot ? host->sysroot : "",
                                                  host->hvfeat ? host->hvfeat : &colo_hvfeat_kernel,
                                                  host->config->host_name);
    virConnectPtr conn = colo_virconn_get(host->virconn, CONN_TIMEOUT_MS, NULL);

    if (conn) {
        report->cpu = colo_cpu_model_of_host(conn, "kvm");
        virConnectClose(conn);
    }
    return report;
}

ColoHostFeatures *colo_features_of_peer(ColoHost *host, const char *pair, GError **error)
{
    g_autoptr(ColoChannelRef) channel = colo_pairs_channel(host->pairs, pair, error);
    g_autoptr(JsonObject) answer = NULL;
    ColoHostFeatures *report;

    if (!channel)
        return NULL;
    answer = colo_channel_call(channel, "host-command",
                               colo_json_build("command", "s", "colo-features", "arguments", "o",
                                               json_object_new_object(), NULL),
                               PEER_REPORT_TIMEOUT_MS, error);
    report = answer ? colo_host_features_parse(answer, error) : NULL;
    if (!report)
        g_prefix_error(error, "features of the peer %s: ", colo_channel_host(channel));
    return report;
}

gboolean colo_features_check_cpu(ColoHost *host, const char *xml, const ColoHostFeatures *other,
                                 gboolean copy, GError **error)
{
    g_autofree char *cpu = NULL;
    ColoCpuKind kind = colo_cpu_model_of_domain(xml, &cpu);
    g_autoptr(ColoDomainInfo) info = colo_domain_info_parse(xml, error);
    gboolean raw = info && kind == COLO_CPU_RAW && strcmp(info->virt_type, "kvm") == 0;
    g_autofree char *what = NULL;
    virConnectPtr conn;
    gboolean ok;

    if (!info)
        return FALSE;
    if (!(raw && other->cpu) && !(copy && kind == COLO_CPU_MODEL))
        return TRUE;
    conn = colo_virconn_get(host->virconn, CONN_TIMEOUT_MS, error);
    if (!conn)
        return FALSE;
    what = raw ? g_strdup_printf("CPU of host %s, which is passed through", other->host)
               : g_strdup("CPU model");
    ok = colo_cpu_model_check(conn, host->config->host_name, what, info->emulator, info->arch,
                              info->machine, info->virt_type, raw ? other->cpu : cpu, error);
    virConnectClose(conn);
    return ok;
}

JsonObject *colo_features_command(ColoHost *host)
{
    g_autoptr(ColoHostFeatures) report = colo_features_of_host(host);

    return colo_host_features_to_json(report);
}

/* ---- the pair ---- */

/* What the pair could do: everything, if possible, with the mildest parameter that both take. */
static ColoFeaturePolicy prefer_all(const ColoHostFeatures *here, const ColoHostFeatures *there)
{
    ColoFeaturePolicy policy = {0};

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        policy.word[i] = COLO_POLICY_PREFER;
        if (colo_feature(i)->param == COLO_FEATURE_PARAM_MODES)
            policy.param[i] = KVM_HVFEAT_DESC_COUNT;
        else if (colo_feature(i)->param == COLO_FEATURE_PARAM_MICROSECONDS)
            policy.param[i] = MAX(here->features[i].param_min, there->features[i].param_min);
    }
    return policy;
}

/* The policy that is kept with @domain. */
static gboolean policy_of_domain(ColoManager *m, const char *domain, ColoFeaturePolicy *policy,
                                 GError **error)
{
    ColoDomain *found = colo_manager_ensure(m, domain, error);
    g_autoptr(JsonObject) view = found ? colo_domain_view(found) : NULL;

    return found &&
           colo_feature_policy_parse(colo_json_peek(view, "feature-policy"), policy, error);
}

static JsonObject *describe_row(const ColoHostFeatures *const host[2],
                                const ColoFeaturePolicy *policy, const ColoFeatureOutcome *outcome,
                                unsigned i)
{
    JsonObject *usable = json_object_new_object(), *verdict = json_object_new_object();
    g_autofree char *param = colo_feature_format_param(i, policy->param[i]);
    gboolean with_param =
        policy->word[i] == COLO_POLICY_REQUIRE || policy->word[i] == COLO_POLICY_PREFER;

    for (unsigned side = 0; side < 2; side++) {
        json_object_object_add(
            usable, host[side]->host,
            json_object_new_boolean(colo_feature_is_usable(&host[side]->features[i])));
        json_object_object_add(verdict, host[side]->host,
                               json_object_new_string(colo_feature_outcome_word(outcome, i, side)));
    }
    return colo_json_build("name", "s", colo_feature(i)->name, "policy", "s",
                           colo_policy_word_name(policy->word[i]), "param", "s",
                           with_param ? param : "", "usable", "o", usable, "outcome", "o", verdict,
                           "reason", "s", outcome->feature[i].reason, NULL);
}

/* The most that both hosts' guests can have, as libvirt says; members "cpu" and "cpu-model". */
static void add_common_cpu(ColoHost *host, const ColoHostFeatures *here,
                           const ColoHostFeatures *there, JsonObject *result)
{
    virConnectPtr conn =
        here->cpu && there->cpu ? colo_virconn_get(host->virconn, CONN_TIMEOUT_MS, NULL) : NULL;
    g_autofree char *cpu =
        conn ? colo_cpu_model_baseline(conn, "kvm", here->cpu, there->cpu, NULL) : NULL;
    g_autofree char *name = cpu ? colo_cpu_model_name(cpu) : NULL;

    colo_json_add(result, "cpu", "s", cpu, "cpu-model", "s", name, NULL);
    if (conn)
        virConnectClose(conn);
}

static JsonObject *describe(const ColoHostFeatures *here, const ColoHostFeatures *there,
                            const ColoFeaturePolicy *policy)
{
    const ColoHostFeatures *const host[2] = {here, there};
    g_autoptr(ColoFeatureOutcome) outcome = colo_feature_negotiate(here, there, policy);
    JsonObject *rows = json_object_new_array(), *hosts = json_object_new_array();

    for (unsigned side = 0; side < 2; side++)
        json_object_array_add(hosts, json_object_new_string(host[side]->host));
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        json_object_array_add(rows, describe_row(host, policy, outcome, i));
    return colo_json_build("hosts", "o", hosts, "agreed", "b",
                           colo_feature_outcome_require(outcome, NULL), "features", "o", rows,
                           NULL);
}

char *colo_features_refusal(ColoManager *m, const char *domain, const char *pair)
{
    g_autoptr(ColoHostFeatures) here = NULL, there = NULL;
    g_autoptr(ColoFeatureOutcome) outcome = NULL;
    g_autoptr(GError) error = NULL;
    ColoFeaturePolicy policy = {0};

    if (!policy_of_domain(m, domain, &policy, NULL) || colo_feature_policy_is_default(&policy))
        return NULL;
    there = colo_features_of_peer(&m->host, pair, NULL);
    if (!there)
        return NULL;
    here = colo_features_of_host(&m->host);
    outcome = colo_feature_negotiate(here, there, &policy);
    return colo_feature_outcome_require(outcome, &error) ? NULL : g_strdup(error->message);
}

JsonObject *colo_pair_features_command(ColoManager *m, JsonObject *args, GError **error)
{
    const char *pair = colo_json_peek_string(args, "name", "");
    const char *domain = colo_json_peek_string(args, "domain", NULL);
    g_autoptr(ColoHostFeatures) here = NULL, there = NULL;
    ColoFeaturePolicy policy = {0};
    JsonObject *result;

    if (!colo_pairs_has(m->host.pairs, pair, error) ||
        (domain && !policy_of_domain(m, domain, &policy, error)) ||
        !colo_pairs_wait_up(m->host.pairs, pair, CHANNEL_UP_TIMEOUT_MS, error))
        return NULL;
    there = colo_features_of_peer(&m->host, pair, error);
    if (!there)
        return NULL;
    here = colo_features_of_host(&m->host);
    if (!domain)
        policy = prefer_all(here, there);
    result = describe(here, there, &policy);
    colo_json_add(result, "pair", "s", pair, "domain", "s", domain, NULL);
    add_common_cpu(&m->host, here, there, result);
    return result;
}
