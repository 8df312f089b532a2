/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The catalogue, and what is found out about a host: from made-up /proc and /sys, and from a
 * made-up module.
 */
#include "feature/probe.h"
#include "test-hvfeat-fake.h"
#include "util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char *root; /* of the test that runs */

static void write_file(const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(root, name, NULL);
    g_autofree char *dir = g_path_get_dirname(path);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    g_remove(path);
}

/* Lines as Linux prints them (arch/x86/kernel/cpu/proc.c), for two processors. */
#define CPU(vendor, flags, vmx)                                     \
    "processor\t: 0\nvendor_id\t: " vendor "\nmodel name\t: Any\n"  \
    "flags\t\t: fpu vme " flags "\n" vmx "bugs\t\t: spectre_v1\n\n" \
    "processor\t: 1\nvendor_id\t: Other\nflags\t\t: fpu\n"
#define VMX_FLAGS(flags) "vmx flags\t: vnmi " flags "\n"

static void host(const char *cpuinfo)
{
    root = g_dir_make_tmp("colo-feature-XXXXXX", NULL);
    write_file("proc/cpuinfo", cpuinfo);
}

static void done(void)
{
    remove_tree(root);
    g_clear_pointer(&root, g_free);
}

static ColoHostFeatures *probe_visible(void)
{
    FakeHvfeat fake;

    fake_hvfeat_init(&fake, "intel");
    fake.absent = TRUE;
    return colo_feature_probe(root, &fake.ops, "alpha");
}

#define assert_feature(report, feature, hw_, firmware_, kernel_, words)                           \
    do {                                                                                          \
        const ColoFeatureReport *r_ = &(report)->features[feature];                               \
        g_assert_cmpint(r_->hw, ==, COLO_TRI_##hw_);                                              \
        g_assert_cmpint(r_->firmware, ==, COLO_TRI_##firmware_);                                  \
        g_assert_cmpint(r_->kernel, ==, COLO_TRI_##kernel_);                                      \
        g_assert_false(r_->per_vm);                                                               \
        if (!r_->reason || !strstr(r_->reason, words))                                            \
            g_test_message("%s: %s", colo_feature(feature)->name, r_->reason ? r_->reason : "-"); \
        g_assert_true(r_->reason &&strstr(r_->reason, words));                                    \
    } while (0)

/* ---- without the module ---- */

static void intel_without_the_module(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;

    host(CPU("GenuineIntel", "vmx",
             VMX_FLAGS("preemption_timer posted_intr eptp_switching vapic_reg vid")));
    write_file("sys/module/kvm_intel/parameters/enable_apicv", "Y\n");
    r = probe_visible();
    g_assert_cmpstr(r->host, ==, "alpha");
    g_assert_cmpstr(r->vendor, ==, "GenuineIntel");
    g_assert_null(r->module);
    /* Linux names descriptor-table exiting nowhere. */
    assert_feature(r, KVM_HVFEAT_DESC_TABLE, UNKNOWN, YES, UNKNOWN, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_QUANTUM, YES, YES, UNKNOWN, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_EPTP_SWITCHING, YES, YES, UNKNOWN, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_APIC_REGISTER_VIRT, YES, YES, YES, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_VIRT_INTR_DELIVERY, YES, YES, YES, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_POSTED_INTERRUPTS, YES, YES, YES, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_AVIC, NO, YES, NO, "AMD's processors");
    done();
}

static void intel_that_has_little(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;

    host(CPU("GenuineIntel", "vmx", VMX_FLAGS("ept vpid")));
    write_file("sys/module/kvm_intel/parameters/enable_apicv", "N\n");
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_QUANTUM, NO, YES, UNKNOWN, "does not have it");
    assert_feature(r, KVM_HVFEAT_EPTP_SWITCHING, NO, YES, UNKNOWN, "does not have it");
    assert_feature(r, KVM_HVFEAT_APIC_REGISTER_VIRT, NO, YES, NO, "does not have it");
    done();
}

static void a_parameter_that_is_off(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;

    host(CPU("GenuineIntel", "vmx", VMX_FLAGS("vapic_reg vid posted_intr")));
    write_file("sys/module/kvm_intel/parameters/enable_apicv", "N\n");
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_POSTED_INTERRUPTS, YES, YES, NO,
                   "parameter enable_apicv of kvm_intel");
    done();
    g_clear_pointer(&r, colo_host_features_free);
    host(CPU("AuthenticAMD", "svm avic", ""));
    write_file("sys/module/kvm_amd/parameters/avic", "0\n");
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_AVIC, YES, YES, NO, "parameter avic of kvm_amd");
    done();
    g_clear_pointer(&r, colo_host_features_free);
    host(CPU("AuthenticAMD", "svm avic", ""));
    write_file("sys/module/kvm_amd/parameters/avic", "garbage");
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_AVIC, YES, YES, UNKNOWN, "modprobe kvm_hvfeat");
    done();
}

static void amd_without_the_module(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;

    host(CPU("AuthenticAMD", "svm npt", ""));
    write_file("sys/module/kvm_amd/parameters/avic", "N\n");
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_DESC_TABLE, YES, YES, UNKNOWN, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_QUANTUM, YES, YES, UNKNOWN, "modprobe kvm_hvfeat");
    assert_feature(r, KVM_HVFEAT_EPTP_SWITCHING, NO, YES, NO, "Intel's processors");
    assert_feature(r, KVM_HVFEAT_AVIC, NO, YES, NO, "does not have it");
    done();
}

static void no_virtualization_or_no_kvm(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;

    host(CPU("GenuineIntel", "sse", ""));
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_QUANTUM, UNKNOWN, UNKNOWN, UNKNOWN, "firmware");
    done();
    g_clear_pointer(&r, colo_host_features_free);
    host(CPU("AuthenticAMD", "svm", ""));
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_DESC_TABLE, YES, UNKNOWN, UNKNOWN, "modprobe kvm_amd");
    done();
    g_clear_pointer(&r, colo_host_features_free);
    host(CPU("CentaurHauls", "vmx", VMX_FLAGS("preemption_timer"))); /* VMX of another maker */
    r = probe_visible();
    assert_feature(r, KVM_HVFEAT_QUANTUM, YES, YES, UNKNOWN, "modprobe kvm_intel");
    done();
}

static void files_that_are_absent_or_garbage(void)
{
    static const char *const texts[] = {"", "flags", "flags:", ":\n:::\nvmx flags\t:", "\1\2\377"};

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(ColoHostFeatures) r = NULL;

        host(texts[i]);
        r = probe_visible();
        for (unsigned f = 0; f < COLO_FEATURE_COUNT; f++) {
            g_assert_false(colo_feature_is_usable(&r->features[f]));
            g_assert_nonnull(r->features[f].reason);
        }
        done();
    }
    host("");
    {
        g_autofree char *path = g_build_filename(root, "proc/cpuinfo", NULL);
        g_autoptr(ColoHostFeatures) r = NULL;

        g_assert_cmpint(g_remove(path), ==, 0);
        r = probe_visible();
        g_assert_cmpint(r->features[KVM_HVFEAT_AVIC].hw, ==, COLO_TRI_UNKNOWN);
    }
    done();
}

/* ---- with the module ---- */

static void the_module_is_believed(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;
    FakeHvfeat fake;

    host(CPU("AuthenticAMD", "svm", ""));
    fake_hvfeat_init(&fake, "amd");
    fake_hvfeat_take(&fake, KVM_HVFEAT_QUANTUM, "the loaded kvm has no patch");
    r = colo_feature_probe(root, &fake.ops, "alpha");
    g_assert_cmpstr(r->module, ==, "1.2");
    g_assert_cmpstr(r->kernel, ==, "6.1.0-fake");
    g_assert_true(colo_feature_is_usable(&r->features[KVM_HVFEAT_DESC_TABLE]));
    g_assert_null(r->features[KVM_HVFEAT_DESC_TABLE].reason);
    g_assert_true(r->features[KVM_HVFEAT_DESC_TABLE].state);
    g_assert_cmpuint(r->features[KVM_HVFEAT_DESC_TABLE].param_max, ==, 7);
    assert_feature(r, KVM_HVFEAT_QUANTUM, YES, YES, NO, "no patch");
    assert_feature(r, KVM_HVFEAT_EPTP_SWITCHING, NO, NO, NO, "other vendor");
    done();
}

static void a_module_of_another_version_is_not_used(void)
{
    static const struct {
        uint32_t abi, abi_min;
        gboolean good;
    } rows[] = {{KVM_HVFEAT_ABI, KVM_HVFEAT_ABI, TRUE},
                {KVM_HVFEAT_ABI + 3, KVM_HVFEAT_ABI, TRUE}, /* newer, still speaks ours */
                {KVM_HVFEAT_ABI + 3, KVM_HVFEAT_ABI + 1, FALSE},
                {KVM_HVFEAT_ABI - 1, KVM_HVFEAT_ABI - 1, FALSE}};

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(ColoHostFeatures) r = NULL;
        FakeHvfeat fake;

        host(CPU("AuthenticAMD", "svm", ""));
        write_file("sys/module/kvm_amd/parameters/avic", "N\n");
        fake_hvfeat_init(&fake, "amd");
        fake.abi = rows[i].abi;
        fake.abi_min = rows[i].abi_min;
        r = colo_feature_probe(root, &fake.ops, "alpha");
        g_assert_cmpint(colo_feature_is_usable(&r->features[KVM_HVFEAT_DESC_TABLE]), ==,
                        rows[i].good);
        if (!rows[i].good)
            assert_feature(r, KVM_HVFEAT_DESC_TABLE, YES, YES, UNKNOWN,
                           "install the same version of both");
        done();
    }
}

static void a_request_that_the_module_refuses(void)
{
    g_autoptr(ColoHostFeatures) r = NULL;
    FakeHvfeat fake;

    host(CPU("AuthenticAMD", "svm", ""));
    write_file("sys/module/kvm_amd/parameters/avic", "N\n");
    fake_hvfeat_init(&fake, "amd");
    fake.abi_checked = KVM_HVFEAT_ABI + 1;
    r = colo_feature_probe(root, &fake.ops, "alpha");
    assert_feature(r, KVM_HVFEAT_DESC_TABLE, YES, YES, UNKNOWN, "different versions");
    done();
}

static int refused(void *opaque)
{
    errno = *(int *)opaque;
    return -1;
}

static void every_errno_has_its_words(void)
{
    static const struct {
        int errnum;
        const char *words;
    } rows[] = {
        {EPERM, "root"},           {ENOTTY, "older"},         {EPROTO, "different versions"},
        {EINVAL, "does not know"}, {EBADF, "no KVM virtual"}, {ERANGE, "bounds"},
        {ENODEV, "modprobe"},      {ENXIO, "parameters"},     {EOPNOTSUPP, "patched modules"},
        {ENODATA, "state"},        {ENOSPC, "larger"},        {ENOMEM, "Cannot allocate memory"},
    };
    int errnum = EACCES;
    ColoHvfeatOps ops = {.open_device = refused, .opaque = &errnum};
    g_autoptr(GError) denied = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        colo_hvfeat_set_error(&error, rows[i].errnum, "avic");
        g_assert_nonnull(error);
        g_assert_true(g_str_has_prefix(error->message, "avic: "));
        g_assert_nonnull(strstr(error->message, rows[i].words));
    }
    g_assert_cmpint(colo_hvfeat_open(&ops, NULL, &denied), ==, -1);
    g_assert_nonnull(strstr(denied->message, "Permission denied"));
}

/* ---- the VM of a process ---- */

static void a_process_has_no_vm_or_is_not_there(void)
{
    pid_t child;
    int status;

    g_assert_cmpint(colo_hvfeat_kernel.open_vm(getpid(), NULL), ==, -1);
    g_assert_cmpint(errno, ==, ENOENT);
    child = fork();
    if (child == 0)
        _exit(0);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(colo_hvfeat_kernel.open_vm(child, NULL), ==, -1);
    g_assert_cmpint(errno, ==, ESRCH);
}

/* ---- catalogue ---- */

static void names_and_parameters(void)
{
    static const struct {
        unsigned feature;
        const char *text;
        gboolean good;
        uint64_t param;
        const char *again; /* NULL: the same text */
    } rows[] = {
        {KVM_HVFEAT_DESC_TABLE, "count", TRUE, KVM_HVFEAT_DESC_COUNT, NULL},
        {KVM_HVFEAT_DESC_TABLE, "lock+count", TRUE, KVM_HVFEAT_DESC_COUNT | KVM_HVFEAT_DESC_LOCK,
         "count+lock"},
        {KVM_HVFEAT_DESC_TABLE, "count+trace+lock", TRUE, 7, NULL},
        {KVM_HVFEAT_DESC_TABLE, "", FALSE, 0, NULL},
        {KVM_HVFEAT_DESC_TABLE, "count+", FALSE, 0, NULL},
        {KVM_HVFEAT_DESC_TABLE, "Lock", FALSE, 0, NULL},
        {KVM_HVFEAT_QUANTUM, "10000", TRUE, 10000, NULL},
        {KVM_HVFEAT_QUANTUM, "0", FALSE, 0, NULL},
        {KVM_HVFEAT_QUANTUM, "-1", FALSE, 0, NULL},
        {KVM_HVFEAT_QUANTUM, "1ms", FALSE, 0, NULL},
        {KVM_HVFEAT_QUANTUM, "", FALSE, 0, NULL},
        {KVM_HVFEAT_QUANTUM, "99999999999999999999", FALSE, 0, NULL},
        {KVM_HVFEAT_AVIC, "", TRUE, 0, NULL},
        {KVM_HVFEAT_AVIC, "1", FALSE, 0, NULL},
    };

    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        g_assert_cmpint(colo_feature_find(colo_feature(i)->name), ==, (int)i);
        g_assert_true(colo_feature(i)->group & (1u << i));
        g_assert_true(colo_feature(i)->intel || colo_feature(i)->amd);
    }
    g_assert_cmpint(colo_feature_find("lock"), ==, -1);
    g_assert_cmpint(colo_feature_find(NULL), ==, -1);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = NULL;
        uint64_t param = 0;

        g_assert_cmpint(colo_feature_parse_param(rows[i].feature, rows[i].text, &param, &error), ==,
                        rows[i].good);
        if (!rows[i].good) {
            g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
            g_assert_nonnull(strstr(error->message, colo_feature(rows[i].feature)->name));
            continue;
        }
        g_assert_cmpuint(param, ==, rows[i].param);
        text = colo_feature_format_param(rows[i].feature, param);
        g_assert_cmpstr(text, ==, rows[i].again ? rows[i].again : rows[i].text);
    }
}

/* ---- reports of a peer ---- */

static void a_report_comes_back_as_it_was(void)
{
    g_autoptr(ColoHostFeatures) r = NULL, again = NULL;
    g_autoptr(JsonObject) json = NULL, json_again = NULL;
    g_autoptr(GError) error = NULL;
    FakeHvfeat fake;

    host(CPU("GenuineIntel", "vmx", VMX_FLAGS("vapic_reg")));
    fake_hvfeat_init(&fake, "intel");
    fake_hvfeat_take(&fake, KVM_HVFEAT_EPTP_SWITCHING, "no patch");
    r = colo_feature_probe(root, &fake.ops, "alpha");
    r->features[KVM_HVFEAT_AVIC].hw = COLO_TRI_UNKNOWN;
    json = colo_host_features_to_json(r);
    again = colo_host_features_parse(json, &error);
    g_assert_no_error(error);
    json_again = colo_host_features_to_json(again);
    g_assert_true(json_object_equal(json, json_again));
    done();
}

static void a_report_of_another_version_is_unknown(void)
{
    const char *text = "{\"host\":\"beta\",\"features\":[{\"name\":\"warp-drive\",\"hardware\":7},"
                       "{\"name\":\"avic\",\"hardware\":true,\"reason\":\"a\\u001b[2Jb\"}]}";
    g_autoptr(JsonObject) json = colo_json_parse(text, strlen(text), NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(ColoHostFeatures) r = colo_host_features_parse(json, &error);

    g_assert_no_error(error);
    g_assert_cmpint(r->features[KVM_HVFEAT_AVIC].hw, ==, COLO_TRI_YES);
    g_assert_cmpint(r->features[KVM_HVFEAT_AVIC].kernel, ==, COLO_TRI_UNKNOWN);
    g_assert_cmpstr(r->features[KVM_HVFEAT_AVIC].reason, ==, "a [2Jb");
    g_assert_nonnull(strstr(r->features[KVM_HVFEAT_QUANTUM].reason, "not reported"));
    g_assert_false(colo_feature_is_usable(&r->features[KVM_HVFEAT_QUANTUM]));
}

static void a_report_that_is_nonsense_is_refused(void)
{
    static const char *const texts[] = {
        "{}",
        "{\"features\":{}}",
        "{\"features\":[1]}",
        "{\"features\":[{}]}",
        "{\"features\":[],\"host\":1}",
        "{\"features\":[],\"cpu\":[]}",
        "{\"features\":[{\"name\":\"avic\",\"hardware\":\"yes\"}]}",
        "{\"features\":[{\"name\":\"avic\",\"per-vm\":1}]}",
        "{\"features\":[{\"name\":\"avic\",\"group\":4294967296}]}",
        "{\"features\":[{\"name\":\"avic\",\"state-version\":-1}]}",
        "{\"features\":[{\"name\":\"avic\",\"reason\":{}}]}",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(JsonObject) json = colo_json_parse(texts[i], strlen(texts[i]), NULL);
        g_autoptr(GError) error = NULL;

        g_assert_nonnull(json);
        g_assert_null(colo_host_features_parse(json, &error));
        g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/feature/names-and-parameters", names_and_parameters);
    g_test_add_func("/feature/intel-without-the-module", intel_without_the_module);
    g_test_add_func("/feature/intel-that-has-little", intel_that_has_little);
    g_test_add_func("/feature/a-parameter-that-is-off", a_parameter_that_is_off);
    g_test_add_func("/feature/amd-without-the-module", amd_without_the_module);
    g_test_add_func("/feature/no-virtualization-or-no-kvm", no_virtualization_or_no_kvm);
    g_test_add_func("/feature/files-that-are-absent-or-garbage", files_that_are_absent_or_garbage);
    g_test_add_func("/feature/the-module-is-believed", the_module_is_believed);
    g_test_add_func("/feature/a-module-of-another-version-is-not-used",
                    a_module_of_another_version_is_not_used);
    g_test_add_func("/feature/a-request-that-the-module-refuses",
                    a_request_that_the_module_refuses);
    g_test_add_func("/feature/every-errno-has-its-words", every_errno_has_its_words);
    g_test_add_func("/feature/a-process-has-no-vm-or-is-not-there",
                    a_process_has_no_vm_or_is_not_there);
    g_test_add_func("/feature/a-report-comes-back-as-it-was", a_report_comes_back_as_it_was);
    g_test_add_func("/feature/a-report-of-another-version-is-unknown",
                    a_report_of_another_version_is_unknown);
    g_test_add_func("/feature/a-report-that-is-nonsense-is-refused",
                    a_report_that_is_nonsense_is_refused);
    return g_test_run();
}
