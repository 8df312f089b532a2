/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Features of a VM switched, and their state carried from one made-up module to another. */
#include "feature/vm.h"
#include "test-hvfeat-fake.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>

#define DESC KVM_HVFEAT_DESC_TABLE
#define QUANTUM KVM_HVFEAT_QUANTUM

/* Desc with @modes and a quantum on and carried, AVIC off. */
static ColoFeaturePlan usual_plan(uint64_t modes)
{
    ColoFeaturePlan plan = {0};

    plan.setting[DESC] = plan.setting[QUANTUM] = COLO_SETTING_ON;
    plan.carried[DESC] = plan.carried[QUANTUM] = TRUE;
    plan.param[DESC] = modes;
    plan.param[QUANTUM] = 10000;
    plan.setting[KVM_HVFEAT_AVIC] = COLO_SETTING_OFF;
    return plan;
}

static void open_vm(ColoFeatureVm *vm, FakeHvfeat *fake)
{
    g_autoptr(GError) error = NULL;

    colo_feature_vm_open(vm, &fake->ops, fake->qemu, &error);
    g_assert_no_error(error);
}

static void a_plan_is_made_true(void)
{
    ColoFeaturePlan plan = usual_plan(KVM_HVFEAT_DESC_COUNT);
    g_auto(ColoFeatureVm) vm = {0};
    g_autoptr(GError) error = NULL;
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "amd");
    open_vm(&vm, &fake);
    g_assert_true(fake.on[KVM_HVFEAT_AVIC]);
    g_assert_true(colo_feature_vm_apply(&vm, &plan, NULL, TRUE, &error));
    g_assert_no_error(error);
    g_assert_true(fake.on[DESC] && fake.on[QUANTUM] && !fake.on[KVM_HVFEAT_AVIC]);
    g_assert_cmpuint(fake.param[DESC], ==, KVM_HVFEAT_DESC_COUNT);
    g_assert_cmpuint(fake.param[QUANTUM], ==, 10000);
    /* Again: nothing is to be done. */
    g_assert_cmpuint(fake.changes, ==, 3);
    g_assert_true(colo_feature_vm_apply(&vm, &plan, NULL, TRUE, &error));
    g_assert_cmpuint(fake.changes, ==, 3);
}

static void a_lock_made_meanwhile_stays(void)
{
    ColoFeaturePlan plan = usual_plan(KVM_HVFEAT_DESC_COUNT);
    g_auto(ColoFeatureVm) vm = {0};
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "amd");
    open_vm(&vm, &fake);
    fake.on[DESC] = TRUE;
    fake.param[DESC] = KVM_HVFEAT_DESC_LOCK;
    g_assert_true(colo_feature_vm_apply(&vm, &plan, NULL, TRUE, NULL));
    g_assert_cmpuint(fake.param[DESC], ==, KVM_HVFEAT_DESC_LOCK | KVM_HVFEAT_DESC_COUNT);
    /* The operator's own change is the whole truth. */
    g_assert_true(colo_feature_vm_apply(&vm, &plan, NULL, FALSE, NULL));
    g_assert_cmpuint(fake.param[DESC], ==, KVM_HVFEAT_DESC_COUNT);
}

static void a_state_goes_to_the_other_vm(void)
{
    ColoFeaturePlan plan = usual_plan(KVM_HVFEAT_DESC_COUNT);
    g_auto(ColoFeatureVm) a = {0}, b = {0};
    g_autoptr(JsonObject) states = NULL;
    g_autoptr(GError) error = NULL;
    FakeHvfeat alpha, beta;

    fake_hvfeat_init(&alpha, "amd");
    fake_hvfeat_init(&beta, "amd");
    open_vm(&a, &alpha);
    open_vm(&b, &beta);
    alpha.on[DESC] = TRUE; /* locked in the life of the guest so far; no quantum yet */
    alpha.param[DESC] = KVM_HVFEAT_DESC_LOCK | KVM_HVFEAT_DESC_COUNT;
    alpha.counter[DESC] = 7000;
    states = colo_feature_vm_get_states(&a, &plan, TRUE, &error);
    g_assert_no_error(error);
    g_assert_cmpint(json_object_object_length(states), ==, 1);
    g_assert_true(colo_feature_vm_apply(&b, &plan, states, TRUE, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(beta.param[DESC], ==, KVM_HVFEAT_DESC_LOCK | KVM_HVFEAT_DESC_COUNT);
    g_assert_cmpuint(beta.counter[DESC], ==, 7000);
    g_assert_true(beta.on[QUANTUM]);
    /* And later, both on. */
    alpha.counter[DESC] = 8000;
    alpha.on[QUANTUM] = TRUE;
    alpha.param[QUANTUM] = 500;
    json_object_put(states);
    states = colo_feature_vm_get_states(&a, &plan, FALSE, &error);
    g_assert_cmpint(json_object_object_length(states), ==, 2);
    g_assert_true(colo_feature_vm_set_states(&b, &plan, states, &error));
    g_assert_cmpuint(beta.counter[DESC], ==, 8000);
    g_assert_cmpuint(beta.param[QUANTUM], ==, 500);
}

/* A state that the plan does not carry is the peer's affair. */
static void a_state_that_was_not_agreed_is_passed_over(void)
{
    const char *text = "{\"avic\":{\"version\":1,\"data\":\"AAAA\"},\"warp\":1}";
    g_autoptr(JsonObject) states = colo_json_parse(text, strlen(text), NULL);
    ColoFeaturePlan plan = usual_plan(1);
    g_auto(ColoFeatureVm) vm = {0};
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "amd");
    open_vm(&vm, &fake);
    g_assert_true(colo_feature_vm_set_states(&vm, &plan, states, NULL));
    g_assert_cmpuint(fake.changes, ==, 0);
}

static void a_state_that_is_nonsense_is_refused(void)
{
    static const struct {
        const char *json, *words;
    } rows[] = {
        {"7", "version"},
        {"{}", "version"},
        {"{\"version\":1}", "data"},
        {"{\"version\":1,\"data\":\"\"}", "is no state"},
        {"{\"version\":4294967296,\"data\":\"AAAA\"}", "is no state"},
        {"{\"version\":2,\"data\":\"AAAA\"}", "different versions"},
        {"{\"version\":1,\"data\":\"AAAA\"}", "does not know"},
    };
    ColoFeaturePlan plan = usual_plan(1);
    g_autofree char *large = g_strnfill(8192, 'A');
    g_autofree char *text =
        g_strdup_printf("{\"preemption-quantum\":{\"version\":1,\"data\":\"%s\"}}", large);
    g_autoptr(JsonObject) too_large = colo_json_parse(text, strlen(text), NULL);
    g_auto(ColoFeatureVm) vm = {0};
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "amd");
    open_vm(&vm, &fake);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *whole = g_strdup_printf("{\"preemption-quantum\":%s}", rows[i].json);
        g_autoptr(JsonObject) states = colo_json_parse(whole, strlen(whole), NULL);
        g_autoptr(GError) error = NULL;

        g_assert_nonnull(states);
        g_assert_false(colo_feature_vm_set_states(&vm, &plan, states, &error));
        if (!strstr(error->message, rows[i].words))
            g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, rows[i].words));
        g_assert_nonnull(strstr(error->message, "preemption-quantum"));
    }
    g_assert_false(colo_feature_vm_set_states(&vm, &plan, too_large, NULL));
    g_assert_cmpuint(fake.changes, ==, 0);
}

static void what_fails_leaves_the_vm_as_it_was(void)
{
    static const int errnums[] = {ENXIO, EOPNOTSUPP, ERANGE, EBADF, ENODEV, EPERM};

    for (size_t i = 0; i < G_N_ELEMENTS(errnums); i++) {
        ColoFeaturePlan plan = usual_plan(KVM_HVFEAT_DESC_COUNT);
        g_auto(ColoFeatureVm) vm = {0};
        g_autoptr(GError) error = NULL;
        FakeHvfeat fake;

        fake_hvfeat_init(&fake, "amd");
        open_vm(&vm, &fake);
        fake.fails[KVM_HVFEAT_AVIC] = errnums[i]; /* the last of the three */
        g_assert_false(colo_feature_vm_apply(&vm, &plan, NULL, TRUE, &error));
        g_assert_nonnull(strstr(error->message, "feature 'avic': "));
        g_assert_true(!fake.on[DESC] && !fake.on[QUANTUM] && fake.on[KVM_HVFEAT_AVIC]);
    }
}

static void out_of_bounds_is_not_clamped(void)
{
    ColoFeaturePlan plan = usual_plan(KVM_HVFEAT_DESC_COUNT);
    g_auto(ColoFeatureVm) vm = {0};
    g_autoptr(GError) error = NULL;
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "amd");
    open_vm(&vm, &fake);
    plan.param[QUANTUM] = 1;
    g_assert_false(colo_feature_vm_apply(&vm, &plan, NULL, TRUE, &error));
    g_assert_nonnull(strstr(error->message, "bounds"));
    g_assert_false(fake.on[QUANTUM]);
}

static void no_module_no_kvm_no_process(void)
{
    g_autoptr(GError) no_module = NULL, no_kvm = NULL, no_process = NULL, old = NULL;
    ColoFeatureVm vm;
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "amd");
    fake.absent = TRUE;
    g_assert_false(colo_feature_vm_open(&vm, &fake.ops, fake.qemu, &no_module));
    colo_feature_vm_close(&vm);
    g_assert_nonnull(strstr(no_module->message, "modprobe kvm_hvfeat"));
    fake.absent = FALSE;
    fake.without_vm = TRUE;
    g_assert_false(colo_feature_vm_open(&vm, &fake.ops, fake.qemu, &no_kvm));
    colo_feature_vm_close(&vm);
    g_assert_nonnull(strstr(no_kvm->message, "<domain type='kvm'>"));
    g_assert_false(colo_feature_vm_open(&vm, &fake.ops, fake.qemu + 1, &no_process));
    colo_feature_vm_close(&vm);
    g_assert_nonnull(strstr(no_process->message, "No such process"));
    fake.abi = fake.abi_min = KVM_HVFEAT_ABI + 1;
    g_assert_false(colo_feature_vm_open(&vm, &fake.ops, fake.qemu, &old));
    colo_feature_vm_close(&vm);
    g_assert_nonnull(strstr(old->message, "install the same version of both"));
}

static void a_plan_comes_back_from_the_store(void)
{
    ColoFeaturePlan plan = usual_plan(5), again;
    g_autoptr(JsonObject) json = colo_feature_plan_to_json(&plan), json_again = NULL;
    const char *bad = "{\"avic\":7,\"preemption-quantum\":{\"setting\":\"maybe\",\"param\":1}}";
    g_autoptr(JsonObject) garbage = colo_json_parse(bad, strlen(bad), NULL);

    colo_feature_plan_parse(json, &again);
    json_again = colo_feature_plan_to_json(&again);
    g_assert_cmpint(json_object_object_length(json), ==, 3);
    g_assert_true(json_object_equal(json, json_again));
    g_assert_true(colo_feature_plan_has_on(&again) && colo_feature_plan_has_carried(&again));
    colo_feature_plan_parse(garbage, &again);
    g_assert_false(colo_feature_plan_has_on(&again));
    colo_feature_plan_parse(NULL, &again);
    g_assert_false(colo_feature_plan_has_carried(&again));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/feature-vm/a-plan-is-made-true", a_plan_is_made_true);
    g_test_add_func("/feature-vm/a-lock-made-meanwhile-stays", a_lock_made_meanwhile_stays);
    g_test_add_func("/feature-vm/a-state-goes-to-the-other-vm", a_state_goes_to_the_other_vm);
    g_test_add_func("/feature-vm/a-state-not-agreed-is-passed-over",
                    a_state_that_was_not_agreed_is_passed_over);
    g_test_add_func("/feature-vm/a-state-that-is-nonsense-is-refused",
                    a_state_that_is_nonsense_is_refused);
    g_test_add_func("/feature-vm/what-fails-leaves-the-vm-as-it-was",
                    what_fails_leaves_the_vm_as_it_was);
    g_test_add_func("/feature-vm/out-of-bounds-is-not-clamped", out_of_bounds_is_not_clamped);
    g_test_add_func("/feature-vm/no-module-no-kvm-no-process", no_module_no_kvm_no_process);
    g_test_add_func("/feature-vm/a-plan-comes-back-from-the-store",
                    a_plan_comes_back_from_the_store);
    return g_test_run();
}
