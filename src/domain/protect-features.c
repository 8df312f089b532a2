/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hardware features of a domain that is protected (design section 7).
 *
 * The primary asks the peer for its report, negotiates, and sends report and outcome along with
 * "domain-prepare"; the peer negotiates by itself and must come to the same. The copy's VM is made
 * so before it runs, with the state that the features have in the primary's VM; then the primary's.
 * From then on the state of what is carried goes along with each checkpoint (carry.h). Each
 * protection negotiates anew.
 *
 * record->details has "features" (the policy; the same on both hosts) and "features-plan" (what is
 * done on this host).
 */
#include "domain/actor.h"

#include "domain/features.h"
#include "feature/vm.h"
#include "util/clock.h"
#include "util/error.h"

#include <string.h>

/* Between looks at what the VM's features do. */
#define LOOK_MS 1000u
#define TUNE_TIMEOUT_MS 5000u
/* For two checkpoints that are asked for. */
#define SETTLE_MS 5000u
#define POLL_MS 20u

static const ColoHvfeatOps *ops_of(const ColoDomain *d)
{
    return d->host->hvfeat ? d->host->hvfeat : &colo_hvfeat_kernel;
}

static gboolean policy_of(const ColoDomain *d, ColoFeaturePolicy *policy, GError **error)
{
    return colo_feature_policy_parse(colo_json_peek(d->record->details, "features"), policy, error);
}

static ColoFeaturePlan plan_of(const ColoDomain *d)
{
    ColoFeaturePlan plan;

    colo_feature_plan_parse(colo_json_peek(d->record->details, "features-plan"), &plan);
    return plan;
}

static void keep_policy(ColoDomain *d, const ColoFeaturePolicy *policy)
{
    if (colo_feature_policy_is_default(policy))
        json_object_object_del(d->record->details, "features");
    else
        colo_json_add(d->record->details, "features", "o", colo_feature_policy_to_json(policy),
                      NULL);
}

static void keep_plan(ColoDomain *d, const ColoFeaturePlan *plan)
{
    colo_json_add(d->record->details, "features-plan", "o", colo_feature_plan_to_json(plan), NULL);
}

static gboolean named(ColoDomain *d, GError **error)
{
    g_prefix_error(error, "domain '%s': ", d->record->name);
    return FALSE;
}

/* ---- the VM ---- */

/* FALSE with @error when it cannot be opened; *@needed: whether it had to be. A guest without KVM
 * has nothing that could be on. */
static gboolean open_vm(ColoDomain *d, const ColoFeaturePlan *plan, ColoFeatureVm *vm,
                        gboolean *needed, GError **error)
{
    gboolean any = FALSE;

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++)
        any = any || plan->setting[i] != COLO_SETTING_UNTOUCHED;
    *needed = any;
    if (!any)
        return TRUE;
    if (colo_feature_vm_open(vm, ops_of(d), d->qemu_pid, error))
        return TRUE;
    if (colo_feature_plan_has_on(plan))
        return FALSE;
    *needed = FALSE;
    g_clear_error(error);
    return TRUE;
}

/* From now on the state of what is carried goes along with checkpoints of this host's VM. */
static void carry(ColoDomain *d, const ColoFeaturePlan *plan)
{
    if (colo_feature_plan_has_carried(plan))
        colo_carrier_watch(d->host->carrier, d->record->uuid, colo_domain_session(d), d->qemu_pid,
                           plan);
    else
        colo_carrier_unwatch(d->host->carrier, d->record->uuid);
}

/* The same at the helper, whose session runs. A helper that goes on waiting for what does not come
 * any more stops that by itself. */
static gboolean change_carry(ColoDomain *d, const ColoFeaturePlan *from, const ColoFeaturePlan *to,
                             GError **error)
{
    gboolean on = colo_feature_plan_has_carried(to);
    g_autoptr(JsonObject) done = NULL;

    if (on == colo_feature_plan_has_carried(from))
        return TRUE;
    done = colo_domain_comparator(d, "carry", colo_json_build("on", "b", on, NULL), -1,
                                  COLO_COMPARATOR_TIMEOUT_MS, on ? error : NULL);
    return done != NULL || !on;
}

static gboolean apply(ColoDomain *d, JsonObject *states, gboolean keep_modes, GError **error)
{
    ColoFeaturePlan plan = plan_of(d);
    g_auto(ColoFeatureVm) vm = {0};
    g_autoptr(GError) own = NULL;
    gboolean needed;

    d->features_lost = 0;
    if (open_vm(d, &plan, &vm, &needed, &own) &&
        (!needed || colo_feature_vm_apply(&vm, &plan, states, keep_modes, &own))) {
        carry(d, &plan);
        return TRUE;
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&own),
                               "host %s: ", d->host->config->host_name);
    return FALSE;
}

gboolean colo_features_are_carried(const ColoDomain *d)
{
    ColoFeaturePlan plan = plan_of(d);

    return colo_feature_plan_has_carried(&plan);
}

gboolean colo_features_apply(ColoDomain *d, JsonObject *states, GError **error)
{
    return apply(d, states, TRUE, error) || named(d, error);
}

/* The state of what is carried and on in this host's VM, before the copy is made. */
static JsonObject *states_now(ColoDomain *d, const ColoFeaturePlan *plan, GError **error)
{
    g_auto(ColoFeatureVm) vm = {0};

    if (!colo_feature_plan_has_carried(plan))
        return json_object_new_object();
    if (!colo_feature_vm_open(&vm, ops_of(d), d->qemu_pid, error))
        return NULL;
    return colo_feature_vm_get_states(&vm, plan, TRUE, error);
}

/* ---- negotiation ---- */

/* What the primary of @policy tells the peer; its own plan in @plan. NULL with @error: refused. */
static JsonObject *offer(ColoDomain *d, const ColoFeaturePolicy *policy, ColoHostFeatures **peer,
                         ColoFeaturePlan *plan, GError **error)
{
    g_autoptr(ColoHostFeatures) here = NULL, there = NULL;
    g_autoptr(ColoFeatureOutcome) outcome = NULL;

    there = colo_features_of_peer(d->host, d->record->pair, error);
    if (!there)
        return NULL;
    here = colo_features_of_host(d->host);
    outcome = colo_feature_negotiate(here, there, policy);
    if (!colo_feature_outcome_require(outcome, error))
        return NULL;
    colo_feature_outcome_plan(outcome, 0, plan);
    if (peer)
        *peer = g_steal_pointer(&there);
    return colo_json_build("report", "o", colo_host_features_to_json(here), "outcome", "o",
                           colo_feature_outcome_to_json(outcome), NULL);
}

JsonObject *colo_features_offer(ColoDomain *d, GError **error)
{
    g_autoptr(ColoHostFeatures) there = NULL;
    g_autoptr(JsonObject) told = NULL;
    ColoFeaturePolicy policy;
    ColoFeaturePlan plan;
    JsonObject *states;
    gboolean ok;
    char *xml;

    if (!policy_of(d, &policy, error) || !(told = offer(d, &policy, &there, &plan, error))) {
        named(d, error);
        return NULL;
    }
    xml = virDomainGetXMLDesc(d->dom, 0);
    if (!xml) {
        colo_virconn_set_error(error, "reading the domain's XML");
        return NULL;
    }
    ok = colo_features_check_cpu(d->host, xml, there, FALSE, error);
    free(xml);
    states = ok ? states_now(d, &plan, error) : NULL;
    if (!states) {
        named(d, error);
        return NULL;
    }
    keep_plan(d, &plan);
    colo_json_add(told, "states", "o", states, NULL);
    return g_steal_pointer(&told);
}

/* On the secondary: this host comes to what the primary says that both do. Its plan in @plan. */
static gboolean agree(ColoDomain *d, JsonObject *told, const ColoFeaturePolicy *policy,
                      ColoHostFeatures **primary, ColoFeaturePlan *plan, GError **error)
{
    g_autoptr(ColoHostFeatures) here = NULL, there = NULL;
    g_autoptr(ColoFeatureOutcome) outcome = NULL;
    g_autoptr(JsonObject) ours = NULL;
    JsonObject *report, *theirs;

    if (!colo_json_get_object(told, "report", &report, error) ||
        !colo_json_get_object(told, "outcome", &theirs, error) ||
        !(there = colo_host_features_parse(report, error)))
        return FALSE;
    here = colo_features_of_host(d->host);
    outcome = colo_feature_negotiate(there, here, policy);
    if (!colo_feature_outcome_require(outcome, error))
        return FALSE;
    ours = colo_feature_outcome_to_json(outcome);
    if (!json_object_equal(ours, theirs)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                    "host %s comes to another outcome about features than host %s: install the "
                    "same version of libvirt-colo on both, see 'virsh-colo colo-pair-features'",
                    here->host, there->host);
        return FALSE;
    }
    colo_feature_outcome_plan(outcome, 1, plan);
    *primary = g_steal_pointer(&there);
    return TRUE;
}

gboolean colo_features_accept(ColoDomain *d, JsonObject *params, JsonObject *policy_json,
                              GError **error)
{
    g_autoptr(ColoHostFeatures) primary = NULL;
    ColoFeaturePolicy policy;
    ColoFeaturePlan plan;
    JsonObject *told;
    const char *xml;

    if (!colo_json_get_object(params, "features", &told, error) ||
        !colo_json_get_string(params, "live-xml", &xml, error) ||
        !colo_feature_policy_parse(policy_json, &policy, error) ||
        !agree(d, told, &policy, &primary, &plan, error) ||
        !colo_features_check_cpu(d->host, xml, primary, TRUE, error))
        return named(d, error);
    keep_policy(d, &policy);
    keep_plan(d, &plan);
    return TRUE;
}

/* ---- while it is protected ---- */

/* An event and a line in the log, once for each feature that is on no more. */
static void tell_lost(ColoDomain *d, unsigned feature, const char *reason)
{
    ColoLogContext log = colo_domain_log(d);
    const char *name = colo_feature(feature)->name;

    if (d->features_lost & (1u << feature))
        return;
    d->features_lost |= 1u << feature;
    colo_log_full(&log, LOG_WARNING, __func__, "feature '%s' is lost: %s", name, reason);
    d->host->emit(colo_json_build("event", "s", "feature", "domain", "s", d->record->name, "uuid",
                                  "s", d->record->uuid, "pair", "s", d->record->pair, "host", "s",
                                  d->host->config->host_name, "feature", "s", name, "state", "s",
                                  "lost", "reason", "s", reason, NULL),
                  d->host->emit_opaque);
}

void colo_features_catch_up(ColoDomain *d, const char *text)
{
    ColoLogContext log = colo_domain_log(d);
    ColoFeaturePlan plan = plan_of(d);
    g_auto(ColoFeatureVm) vm = {0};
    g_autoptr(JsonObject) states = NULL;
    g_autoptr(GError) error = NULL;

    if (!text)
        return;
    states = colo_json_parse(text, strlen(text), &error);
    if (states && colo_feature_vm_open(&vm, ops_of(d), d->qemu_pid, &error) &&
        colo_feature_vm_set_states(&vm, &plan, states, &error)) {
        colo_log_full(&log, LOG_NOTICE, __func__,
                      "hardware features have the state of the last checkpoint now");
        return;
    }
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan.carried[i] && plan.setting[i] == COLO_SETTING_ON)
            tell_lost(d, i, error->message);
    }
}

/* For colo-stats. */
static void read_stats(ColoDomain *d, const ColoFeatureVm *vm, const ColoFeaturePlan *plan)
{
    JsonObject *stats = json_object_new_object();

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        JsonObject *one =
            plan->setting[i] == COLO_SETTING_ON ? colo_feature_vm_get_stats(vm, i, NULL) : NULL;

        if (one)
            json_object_object_add(stats, colo_feature(i)->name, one);
    }
    json_object_put(d->feature_stats);
    d->feature_stats = stats;
    colo_domain_publish(d);
}

static void look_for_lost(ColoDomain *d, const ColoFeatureVm *vm, const ColoFeaturePlan *plan)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        g_autoptr(GError) error = NULL;
        gboolean on = FALSE;
        uint64_t param;

        if (plan->setting[i] != COLO_SETTING_ON)
            continue;
        if (!colo_feature_vm_look(vm, i, &on, &param, &error))
            tell_lost(d, i, error->message);
        else if (!on)
            tell_lost(d, i, "it is off in the VM: somebody else has switched it off");
        else
            d->features_lost &= ~(1u << i);
    }
}

static void tell_all_lost(ColoDomain *d, const ColoFeaturePlan *plan, const char *reason)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan->setting[i] == COLO_SETTING_ON)
            tell_lost(d, i, reason);
    }
}

void colo_features_tick(ColoDomain *d, uint64_t now)
{
    ColoFeaturePlan plan;
    g_auto(ColoFeatureVm) vm = {0};
    g_autoptr(GError) error = NULL;
    pid_t qemu;

    if (now < d->next_features_ns)
        return;
    d->next_features_ns = now + LOOK_MS * COLO_NS_PER_MS;
    plan = plan_of(d);
    if (!colo_feature_plan_has_on(&plan) || (qemu = colo_domain_qemu_pid(d)) == 0)
        return;
    if (!colo_feature_vm_open(&vm, ops_of(d), qemu, &error)) {
        g_autofree char *process = g_strdup_printf("/proc/%d", (int)qemu);

        if (g_file_test(process, G_FILE_TEST_EXISTS))
            tell_all_lost(d, &plan, error->message);
        return;
    }
    look_for_lost(d, &vm, &plan);
    read_stats(d, &vm, &plan);
    if (d->record->state == COLO_STATE_PROTECTED)
        carry(d, &plan); /* a restarted virtcolod does not know it yet */
}

/* ---- colo-protect and colo-tune ---- */

gboolean colo_features_set_policy(ColoDomain *d, JsonObject *args, GError **error)
{
    const char *text = colo_json_peek_string(args, "features", NULL);
    ColoFeaturePolicy policy;

    if (!text)
        return TRUE;
    if (!policy_of(d, &policy, NULL)) /* edited by hand: what is said now counts */
        memset(&policy, 0, sizeof(policy));
    if (!colo_feature_policy_update(&policy, text, error))
        return named(d, error);
    keep_policy(d, &policy);
    return colo_store_save_domain(d->host->store, d->record, error);
}

/* Both VMs are changed: the copy's first, so that what the command reports done is done on both. */
static gboolean change_both(ColoDomain *d, const ColoFeaturePolicy *before,
                            const ColoFeaturePolicy *policy, GError **error)
{
    g_autoptr(JsonObject) told = NULL, answer = NULL, undo = NULL, undone = NULL;
    ColoFeaturePlan plan, old = plan_of(d);

    told = offer(d, policy, NULL, &plan, error);
    if (!told)
        return FALSE;
    colo_json_add(told, "policy", "o", colo_feature_policy_to_json(policy), NULL);
    /* The primary's first: what comes is of no harm to a helper that does not wait for it. */
    if (colo_feature_plan_has_carried(&plan) && !change_carry(d, &old, &plan, error))
        return FALSE;
    answer =
        colo_domain_call_peer(d, "domain-features", json_object_get(told), TUNE_TIMEOUT_MS, error);
    if (!answer)
        return FALSE;
    keep_plan(d, &plan);
    if (apply(d, NULL, FALSE, error)) {
        d->next_features_ns = 0;
        return colo_feature_plan_has_carried(&plan) || change_carry(d, &old, &plan, error);
    }
    keep_plan(d, &old);
    undo = offer(d, before, NULL, &old, NULL);
    if (undo) {
        colo_json_add(undo, "policy", "o", colo_feature_policy_to_json(before), NULL);
        undone = colo_domain_call_peer(d, "domain-features", json_object_get(undo), TUNE_TIMEOUT_MS,
                                       NULL);
    }
    return FALSE;
}

gboolean colo_features_tune(ColoDomain *d, JsonObject *args, gboolean *live, GError **error)
{
    const char *text = colo_json_peek_string(args, "features", "");
    gboolean is_protected = d->record->state == COLO_STATE_PROTECTED;
    ColoFeaturePolicy before = {0}, policy;

    if (d->busy) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is %s: change its features when that has ended", d->record->name,
                    colo_state_name(d->record->state));
        return FALSE;
    }
    if (d->record->role == COLO_ROLE_SECONDARY &&
        (is_protected || d->record->state == COLO_STATE_SYNCING)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is protected from host '%s': change its features there",
                    d->record->name, d->peer_host);
        return FALSE;
    }
    if (!is_protected)
        return colo_features_set_policy(d, args, error);
    if (!policy_of(d, &before, NULL))
        memset(&before, 0, sizeof(before));
    policy = before;
    if (!colo_feature_policy_update(&policy, text, error) ||
        !change_both(d, &before, &policy, error))
        return named(d, error);
    keep_policy(d, &policy);
    *live = TRUE;
    return colo_store_save_domain(d->host->store, d->record, error);
}

JsonObject *colo_features_told(ColoDomain *d, JsonObject *params, GError **error)
{
    g_autoptr(ColoHostFeatures) primary = NULL;
    ColoFeaturePlan plan, old = plan_of(d);
    ColoFeaturePolicy policy;

    if (d->record->role != COLO_ROLE_SECONDARY || d->record->state != COLO_STATE_PROTECTED) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s' is not protected as secondary on %s", d->record->name,
                    d->host->config->host_name);
        return NULL;
    }
    if (!colo_feature_policy_parse(colo_json_peek(params, "policy"), &policy, error) ||
        !agree(d, params, &policy, &primary, &plan, error)) {
        named(d, error);
        return NULL;
    }
    keep_plan(d, &plan);
    if (!apply(d, NULL, FALSE, error) || !change_carry(d, &old, &plan, error)) {
        keep_plan(d, &old);
        named(d, error);
        return NULL;
    }
    keep_policy(d, &policy);
    return colo_store_save_domain(d->host->store, d->record, error) ? json_object_new_object()
                                                                    : NULL;
}

/* A checkpoint that was running may have taken the state before the change: it is the one after it
 * that counts. */
gboolean colo_features_settle(ColoDomain *d, GError **error)
{
    uint64_t end = colo_clock_ns() + SETTLE_MS * COLO_NS_PER_MS, before = d->committed;

    d->busy = TRUE;
    while (d->committed < before + 2 && d->record->state == COLO_STATE_PROTECTED &&
           colo_clock_ns() < end) {
        colo_kicker_kick(d->host->kicker, d->record->uuid);
        if (!colo_domain_pump(d, POLL_MS, NULL))
            break;
    }
    d->busy = FALSE;
    if (d->abort_reason)
        colo_evidence_after_job(d);
    g_clear_pointer(&d->abort_reason, g_free);
    if (d->committed >= before + 2)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_TIMEOUT,
                "domain '%s': its features are changed in both VMs, but no checkpoint has come "
                "since: see 'virsh-colo colo-status %s'",
                d->record->name, d->record->name);
    return FALSE;
}

/* ---- for people ---- */

JsonObject *colo_features_in_force(const ColoDomain *d)
{
    ColoFeaturePlan plan = plan_of(d);

    return d->record->state == COLO_STATE_UNPROTECTED ? NULL : colo_feature_plan_to_json(&plan);
}

char *colo_features_policy_text(const ColoDomain *d)
{
    ColoFeaturePolicy policy;

    return policy_of(d, &policy, NULL) ? colo_feature_policy_format(&policy) : g_strdup("");
}
