/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/vm.h"

#include "util/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* What was there before, to go back to. */
typedef struct {
    gboolean known[KVM_HVFEAT_NR_FEATURES];
    gboolean on[KVM_HVFEAT_NR_FEATURES];
    uint64_t param[KVM_HVFEAT_NR_FEATURES];
} Before;

gboolean colo_feature_vm_open(ColoFeatureVm *vm, const ColoHvfeatOps *ops, pid_t qemu,
                              GError **error)
{
    *vm = (ColoFeatureVm){.ops = ops, .device = -1, .vm = -1};
    vm->device = colo_hvfeat_open(ops, NULL, error);
    if (vm->device < 0)
        return FALSE;
    errno = ESRCH; /* libvirt did not say which process it is */
    vm->vm = qemu > 0 ? ops->open_vm(qemu, ops->opaque) : -1;
    if (vm->vm >= 0)
        return TRUE;
    if (errno == ENOENT)
        g_set_error_literal(error, COLO_ERROR, COLO_ERROR_UNSUPPORTED,
                            "it runs without KVM: hardware features need <domain type='kvm'>");
    else
        colo_error_set_errno(error, errno, "finding the VM of process %d", (int)qemu);
    return FALSE;
}

void colo_feature_vm_close(ColoFeatureVm *vm)
{
    if (!vm->ops) /* never opened */
        return;
    if (vm->device >= 0)
        close(vm->device);
    if (vm->vm >= 0)
        close(vm->vm);
    vm->ops = NULL;
}

static struct kvm_hvfeat_target target(const ColoFeatureVm *vm, unsigned feature)
{
    return (struct kvm_hvfeat_target){.abi = KVM_HVFEAT_ABI, .feature = feature, .vm_fd = vm->vm};
}

static gboolean request(const ColoFeatureVm *vm, unsigned feature, unsigned long number,
                        void *argument, GError **error)
{
    g_autofree char *what = NULL;

    if (vm->ops->request(vm->device, number, argument, vm->ops->opaque) == 0)
        return TRUE;
    what = g_strdup_printf("feature '%s'", colo_feature(feature)->name);
    colo_hvfeat_set_error(error, errno, what);
    return FALSE;
}

gboolean colo_feature_vm_look(const ColoFeatureVm *vm, unsigned feature, gboolean *on,
                              uint64_t *param, GError **error)
{
    struct kvm_hvfeat_info info = {.target = target(vm, feature)};
    uint32_t bit = colo_feature(feature)->by_default ? KVM_HVFEAT_VM_WANTED : KVM_HVFEAT_VM_ON;

    if (!request(vm, feature, KVM_HVFEAT_GET_INFO, &info, error))
        return FALSE;
    *on = (info.flags & bit) != 0;
    *param = info.param[0];
    return TRUE;
}

JsonObject *colo_feature_vm_get_stats(const ColoFeatureVm *vm, unsigned feature, GError **error)
{
    struct kvm_hvfeat_stats stats = {.target = target(vm, feature)};
    JsonObject *json;
    gboolean on;
    uint64_t param;

    if (!colo_feature_vm_look(vm, feature, &on, &param, error) ||
        !request(vm, feature, KVM_HVFEAT_GET_STATS, &stats, error))
        return NULL;
    json = colo_json_build("on", "b", on, "param", "u", param, NULL);
    for (uint32_t i = 0; i < MIN(stats.count, KVM_HVFEAT_STATS_MAX); i++) {
        stats.stat[i].name[sizeof(stats.stat[i].name) - 1] = '\0';
        colo_json_add(json, stats.stat[i].name, "u", (uint64_t)stats.stat[i].value, NULL);
    }
    return json;
}

static gboolean put(const ColoFeatureVm *vm, unsigned feature, gboolean on, uint64_t param,
                    GError **error)
{
    struct kvm_hvfeat_control control = {.target = target(vm, feature), .param = {on ? param : 0}};

    return request(vm, feature, on ? KVM_HVFEAT_ENABLE : KVM_HVFEAT_DISABLE, &control, error);
}

/* ---- states ---- */

/* {"version", "data"}: as the module gave it, in base64. */
static JsonObject *get_state(const ColoFeatureVm *vm, unsigned feature, GError **error)
{
    unsigned char bytes[KVM_HVFEAT_STATE_MAX];
    struct kvm_hvfeat_state state = {
        .target = target(vm, feature), .size = sizeof(bytes), .data = (uint64_t)(uintptr_t)bytes};
    g_autofree char *text = NULL;

    if (!request(vm, feature, KVM_HVFEAT_GET_STATE, &state, error))
        return NULL;
    text = g_base64_encode(bytes, MIN(state.size, sizeof(bytes)));
    return colo_json_build("version", "u", (uint64_t)state.version, "data", "s", text, NULL);
}

static gboolean set_state(const ColoFeatureVm *vm, unsigned feature, JsonObject *json,
                          GError **error)
{
    struct kvm_hvfeat_state state = {.target = target(vm, feature)};
    g_autofree guchar *bytes = NULL;
    const char *text;
    uint64_t version;
    gsize size = 0;

    if (!colo_json_get_uint(json, "version", &version, error) ||
        !colo_json_get_string(json, "data", &text, error)) {
        g_prefix_error(error, "state of feature '%s': ", colo_feature(feature)->name);
        return FALSE;
    }
    bytes = g_base64_decode(text, &size);
    if (version > UINT32_MAX || size == 0 || size > KVM_HVFEAT_STATE_MAX) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "state of feature '%s': version %" G_GUINT64_FORMAT
                    " with %zu bytes is no state (1 to %u bytes)",
                    colo_feature(feature)->name, version, size, KVM_HVFEAT_STATE_MAX);
        return FALSE;
    }
    state.version = (uint32_t)version;
    state.size = (uint32_t)size;
    state.data = (uint64_t)(uintptr_t)bytes;
    return request(vm, feature, KVM_HVFEAT_SET_STATE, &state, error);
}

JsonObject *colo_feature_vm_get_states(const ColoFeatureVm *vm, const ColoFeaturePlan *plan,
                                       gboolean only_on, GError **error)
{
    g_autoptr(JsonObject) states = json_object_new_object();

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        gboolean on = TRUE;
        uint64_t param;
        JsonObject *state;

        if (!plan->carried[i])
            continue;
        if (only_on && !colo_feature_vm_look(vm, i, &on, &param, error))
            return NULL;
        if (!on)
            continue;
        state = get_state(vm, i, error);
        if (!state)
            return NULL;
        json_object_object_add(states, colo_feature(i)->name, state);
    }
    return g_steal_pointer(&states);
}

gboolean colo_feature_vm_set_states(const ColoFeatureVm *vm, const ColoFeaturePlan *plan,
                                    JsonObject *states, GError **error)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        JsonObject *state = plan->carried[i] ? colo_json_peek(states, colo_feature(i)->name) : NULL;

        if (state && !set_state(vm, i, state, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- plans ---- */

static void go_back(const ColoFeatureVm *vm, const Before *before)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (before->known[i]) /* best effort: the failure itself is reported */
            (void)put(vm, i, before->on[i], before->param[i], NULL);
    }
}

static gboolean apply_one(const ColoFeatureVm *vm, unsigned feature, const ColoFeaturePlan *plan,
                          gboolean keep_modes, GError **error)
{
    uint64_t wanted = plan->param[feature], param;
    gboolean on;

    if (!colo_feature_vm_look(vm, feature, &on, &param, error))
        return FALSE;
    if (plan->setting[feature] == COLO_SETTING_OFF)
        return !on || put(vm, feature, FALSE, 0, error);
    if (on && keep_modes && colo_feature(feature)->param == COLO_FEATURE_PARAM_MODES)
        wanted |= param;
    return (on && param == wanted) || put(vm, feature, TRUE, wanted, error);
}

gboolean colo_feature_vm_apply(const ColoFeatureVm *vm, const ColoFeaturePlan *plan,
                               JsonObject *states, gboolean keep_modes, GError **error)
{
    Before before = {0};

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan->setting[i] == COLO_SETTING_UNTOUCHED)
            continue;
        if (!colo_feature_vm_look(vm, i, &before.on[i], &before.param[i], error))
            return FALSE;
        before.known[i] = TRUE;
    }
    if (!colo_feature_vm_set_states(vm, plan, states, error)) {
        go_back(vm, &before);
        return FALSE;
    }
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (plan->setting[i] == COLO_SETTING_UNTOUCHED)
            continue;
        if (!apply_one(vm, i, plan, keep_modes, error)) {
            go_back(vm, &before);
            return FALSE;
        }
    }
    return TRUE;
}
