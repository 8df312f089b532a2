/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/probe.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What a host shows without the module. */
typedef struct {
    const char *root;
    gboolean intel, amd;
    gboolean virtualization; /* vmx or svm among the flags */
    gboolean kvm;            /* the vendor's module is loaded */
    char **flags;            /* of /proc/cpuinfo */
    char **vmx_flags;        /* never NULL */
} Visible;

static const char *vendor_module(const Visible *v)
{
    return v->intel ? "kvm_intel" : "kvm_amd";
}

/* ---- /proc/cpuinfo ---- */

/* The value of line "@key : value" of @line; NULL if it is another line. */
static const char *value_of(const char *line, const char *key)
{
    size_t len = strlen(key);

    if (strncmp(line, key, len) != 0)
        return NULL;
    line += len;
    while (*line == ' ' || *line == '\t')
        line++;
    return *line == ':' ? line + 1 + (line[1] == ' ') : NULL;
}

/* The first processor's; KVM refuses to load where they differ. */
static void read_cpuinfo(Visible *v, char **vendor)
{
    g_autofree char *path = g_build_filename(*v->root ? v->root : "/", "proc/cpuinfo", NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        text = g_strdup("");
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        const char *value;

        if ((value = value_of(*line, "vendor_id")) && !*vendor)
            *vendor = g_strdup(value);
        else if ((value = value_of(*line, "flags")) && !v->flags)
            v->flags = g_strsplit(value, " ", -1);
        else if ((value = value_of(*line, "vmx flags")) && !v->vmx_flags)
            v->vmx_flags = g_strsplit(value, " ", -1);
    }
    if (!v->flags)
        v->flags = g_new0(char *, 1);
    if (!v->vmx_flags)
        v->vmx_flags = g_new0(char *, 1);
}

static gboolean has(char **flags, const char *flag)
{
    return g_strv_contains((const char *const *)flags, flag);
}

static void visible_read(Visible *v, const char *root, char **vendor)
{
    g_autofree char *module = NULL;

    memset(v, 0, sizeof(*v));
    v->root = root;
    read_cpuinfo(v, vendor);
    /* By what it has, not by its name: others build processors of both kinds. */
    v->intel = has(v->flags, "vmx") || g_strcmp0(*vendor, "GenuineIntel") == 0;
    v->amd = !v->intel && (has(v->flags, "svm") || g_strcmp0(*vendor, "AuthenticAMD") == 0 ||
                           g_strcmp0(*vendor, "HygonGenuine") == 0);
    v->virtualization = has(v->flags, "vmx") || has(v->flags, "svm");
    module = g_build_filename(*root ? root : "/", "sys/module", vendor_module(v), NULL);
    v->kvm = g_file_test(module, G_FILE_TEST_IS_DIR);
}

static void visible_clear(Visible *v)
{
    g_strfreev(v->flags);
    g_strfreev(v->vmx_flags);
}

/* ---- without the module ---- */

/* A boolean parameter "MODULE/NAME" of a loaded module. */
static ColoTri read_parameter(const Visible *v, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(name, "/", 2);
    g_autofree char *path = g_build_filename(*v->root ? v->root : "/", "sys/module", parts[0],
                                             "parameters", parts[1], NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return COLO_TRI_UNKNOWN;
    switch (*text) {
    case 'Y':
    case '1':
        return COLO_TRI_YES;
    case 'N':
    case '0':
        return COLO_TRI_NO;
    default:
        return COLO_TRI_UNKNOWN;
    }
}

static ColoTri visible_hardware(const Visible *v, const ColoFeature *f)
{
    if (!(v->intel && f->intel) && !(v->amd && f->amd))
        return v->intel || v->amd ? COLO_TRI_NO : COLO_TRI_UNKNOWN;
    /* Linux hides vmx where the firmware has locked it off (feat_ctl.c): then nothing is known. */
    if (!v->virtualization)
        return COLO_TRI_UNKNOWN;
    if (f->cpu_flag)
        return has(v->flags, f->cpu_flag) ? COLO_TRI_YES : COLO_TRI_NO;
    if (v->amd) /* intercepts and timers that every SVM has */
        return COLO_TRI_YES;
    if (!f->vmx_flag || !*v->vmx_flags)
        return COLO_TRI_UNKNOWN;
    return has(v->vmx_flags, f->vmx_flag) ? COLO_TRI_YES : COLO_TRI_NO;
}

/* The first thing that stands against it; the caller owns it. */
static char *visible_reason(const Visible *v, const ColoFeature *f, const ColoFeatureReport *r,
                            const char *no_module)
{
    if (v->intel && !f->intel)
        return g_strdup("a feature of AMD's processors");
    if (v->amd && !f->amd)
        return g_strdup("a feature of Intel's processors");
    if (!v->virtualization)
        return g_strdup("the processor shows no virtualization: switch VT-x or SVM on in the "
                        "firmware (or nested virtualization on its host)");
    if (r->hw == COLO_TRI_NO)
        return g_strdup("this processor does not have it");
    if (!v->kvm)
        return g_strdup_printf("KVM is not loaded: modprobe %s", vendor_module(v));
    if (r->kernel == COLO_TRI_NO) {
        g_auto(GStrv) parts = g_strsplit(f->switched_by, "/", 2);

        return g_strdup_printf("off by the parameter %s of %s: load it with %s=1", parts[1],
                               parts[0], parts[1]);
    }
    return g_strdup(no_module);
}

static void judge_visible(const Visible *v, unsigned feature, ColoFeatureReport *r,
                          const char *no_module)
{
    const ColoFeature *f = colo_feature(feature);
    gboolean mine = (v->intel && f->intel) || (v->amd && f->amd);

    r->hw = visible_hardware(v, f);
    /* kvm_intel and kvm_amd do not load where the firmware forbids it. */
    r->firmware = v->intel && v->virtualization ? COLO_TRI_YES
                  : v->virtualization && v->kvm ? COLO_TRI_YES
                                                : COLO_TRI_UNKNOWN;
    if (mine && f->switched_by && v->kvm)
        r->kernel = read_parameter(v, f->switched_by);
    if ((v->intel || v->amd) && !mine)
        r->kernel = COLO_TRI_NO;
    r->reason = visible_reason(v, f, r, no_module);
}

/* ---- with it ---- */

static ColoTri tri(uint32_t flags, uint32_t bit)
{
    return flags & bit ? COLO_TRI_YES : COLO_TRI_NO;
}

/* FALSE with errno: the module does not know the feature. */
static gboolean ask_module(const ColoHvfeatOps *ops, int device, unsigned feature,
                           ColoFeatureReport *r)
{
    struct kvm_hvfeat_info info = {
        .target = {.abi = KVM_HVFEAT_ABI, .feature = feature, .vm_fd = -1}};

    if (ops->request(device, KVM_HVFEAT_GET_INFO, &info, ops->opaque) < 0)
        return FALSE;
    info.reason_text[sizeof(info.reason_text) - 1] = '\0';
    r->hw = tri(info.flags, KVM_HVFEAT_HW);
    r->firmware = tri(info.flags, KVM_HVFEAT_FIRMWARE);
    r->kernel = tri(info.flags, KVM_HVFEAT_KERNEL);
    r->per_vm = (info.flags & KVM_HVFEAT_PER_VM) != 0;
    r->state = (info.flags & KVM_HVFEAT_STATE) != 0;
    r->guest_visible = r->guest_visible || (info.flags & KVM_HVFEAT_GUEST_VISIBLE) != 0;
    r->group = info.group ? info.group : r->group;
    r->state_version = info.state_version;
    r->param_min = info.param_min;
    r->param_max = info.param_max;
    if (*info.reason_text)
        r->reason = g_strdup(info.reason_text);
    else if (!colo_feature_is_usable(r))
        r->reason = g_strdup_printf("kvm_hvfeat cannot switch it (reason %u)", info.reason);
    return TRUE;
}

ColoHostFeatures *colo_feature_probe(const char *root, const ColoHvfeatOps *ops, const char *host)
{
    ColoHostFeatures *report = colo_host_features_new(host);
    struct kvm_hvfeat_version version = {0};
    g_autoptr(GError) error = NULL;
    int device = colo_hvfeat_open(ops, &version, &error);
    struct utsname system;
    Visible visible;

    visible_read(&visible, root, &report->vendor);
    if (device >= 0)
        report->module = g_strdup(version.module_version);
    if (device >= 0 && *version.kernel)
        report->kernel = g_strdup(version.kernel);
    else if (uname(&system) == 0)
        report->kernel = g_strdup(system.release);
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        ColoFeatureReport *r = &report->features[i];

        if (device < 0) {
            judge_visible(&visible, i, r, error->message);
        } else if (!ask_module(ops, device, i, r)) {
            g_autoptr(GError) own = NULL;

            colo_hvfeat_set_error(&own, errno, "kvm_hvfeat");
            judge_visible(&visible, i, r, own->message);
        }
    }
    if (device >= 0)
        close(device);
    visible_clear(&visible);
    return report;
}
