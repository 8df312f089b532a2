/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "feature/catalogue.h"

#include "util/error.h"

#include <string.h>

#define BIT(feature) (1u << (feature))

/* KVM has one switch for the three (Linux arch/x86/kvm/vmx/vmx.c, enable_apicv). */
#define APICV                                                                  \
    (BIT(KVM_HVFEAT_APIC_REGISTER_VIRT) | BIT(KVM_HVFEAT_VIRT_INTR_DELIVERY) | \
     BIT(KVM_HVFEAT_POSTED_INTERRUPTS))

/* clang-format off */
static const ColoFeature features[KVM_HVFEAT_NR_FEATURES] = {
    [KVM_HVFEAT_DESC_TABLE] = {
        .name = "descriptor-table-exiting", .intel = 1, .amd = 1, .needs_state = 1,
        .param = COLO_FEATURE_PARAM_MODES, .visible_param = KVM_HVFEAT_DESC_LOCK,
        .group = BIT(KVM_HVFEAT_DESC_TABLE),
    },
    [KVM_HVFEAT_QUANTUM] = {
        .name = "preemption-quantum", .intel = 1, .amd = 1, .needs_state = 1,
        .param = COLO_FEATURE_PARAM_MICROSECONDS, .vmx_flag = "preemption_timer",
        .group = BIT(KVM_HVFEAT_QUANTUM),
    },
    [KVM_HVFEAT_EPTP_SWITCHING] = {
        .name = "eptp-switching", .intel = 1, .needs_state = 1, .guest_visible = 1,
        .vmx_flag = "eptp_switching", .group = BIT(KVM_HVFEAT_EPTP_SWITCHING),
    },
    [KVM_HVFEAT_APIC_REGISTER_VIRT] = {
        .name = "apic-register-virtualization", .intel = 1, .by_default = 1, .group = APICV,
        .vmx_flag = "vapic_reg", .switched_by = "kvm_intel/enable_apicv",
    },
    [KVM_HVFEAT_VIRT_INTR_DELIVERY] = {
        .name = "virtual-interrupt-delivery", .intel = 1, .by_default = 1, .group = APICV,
        .vmx_flag = "vid", .switched_by = "kvm_intel/enable_apicv",
    },
    [KVM_HVFEAT_POSTED_INTERRUPTS] = {
        .name = "posted-interrupts", .intel = 1, .by_default = 1, .group = APICV,
        .vmx_flag = "posted_intr", .switched_by = "kvm_intel/enable_apicv",
    },
    [KVM_HVFEAT_AVIC] = {
        .name = "avic", .amd = 1, .by_default = 1, .group = BIT(KVM_HVFEAT_AVIC),
        .cpu_flag = "avic", .switched_by = "kvm_amd/avic",
    },
};
/* clang-format on */

static const struct {
    const char *word;
    uint64_t bit;
} modes[] = {
    {"count", KVM_HVFEAT_DESC_COUNT},
    {"trace", KVM_HVFEAT_DESC_TRACE},
    {"lock", KVM_HVFEAT_DESC_LOCK},
};

const ColoFeature *colo_feature(unsigned feature)
{
    g_assert(feature < COLO_FEATURE_COUNT);
    return &features[feature];
}

int colo_feature_find(const char *name)
{
    for (unsigned i = 0; i < COLO_FEATURE_COUNT; i++) {
        if (g_strcmp0(features[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

gboolean colo_feature_is_visible(unsigned feature, uint64_t param)
{
    const ColoFeature *f = colo_feature(feature);

    return f->guest_visible || (param & f->visible_param) != 0;
}

static gboolean bad_param(const ColoFeature *f, const char *text, const char *possible,
                          GError **error)
{
    g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                "feature '%s' %s, found '%.64s': write for example %s=require%s", f->name, possible,
                text, f->name,
                f->param == COLO_FEATURE_PARAM_MODES          ? ":count+lock"
                : f->param == COLO_FEATURE_PARAM_MICROSECONDS ? ":10000"
                                                              : "");
    return FALSE;
}

static gboolean parse_modes(const ColoFeature *f, const char *text, uint64_t *param, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, "+", -1);

    *param = 0;
    for (char **word = words; *word; word++) {
        uint64_t bit = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
            if (strcmp(*word, modes[i].word) == 0)
                bit = modes[i].bit;
        }
        if (!bit)
            return bad_param(f, text, "takes 'count', 'trace' and 'lock', joined by '+'", error);
        *param |= bit;
    }
    return *param != 0 ||
           bad_param(f, text, "needs one of 'count', 'trace' and 'lock', joined by '+'", error);
}

gboolean colo_feature_parse_param(unsigned feature, const char *text, uint64_t *param,
                                  GError **error)
{
    const ColoFeature *f = colo_feature(feature);

    if (!text)
        text = "";
    switch (f->param) {
    case COLO_FEATURE_PARAM_MODES:
        return parse_modes(f, text, param, error);
    case COLO_FEATURE_PARAM_MICROSECONDS:
        /* The bounds are the hosts': the module says them. */
        return g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT64, param, NULL) ||
               bad_param(f, text, "needs a number of microseconds", error);
    default:
        *param = 0;
        return !*text || bad_param(f, text, "takes no parameter", error);
    }
}

char *colo_feature_format_param(unsigned feature, uint64_t param)
{
    GString *text = g_string_new(NULL);

    if (colo_feature(feature)->param == COLO_FEATURE_PARAM_MICROSECONDS)
        g_string_append_printf(text, "%" G_GUINT64_FORMAT, param);
    if (colo_feature(feature)->param != COLO_FEATURE_PARAM_MODES)
        return g_string_free(text, FALSE);
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (param & modes[i].bit)
            g_string_append_printf(text, "%s%s", text->len ? "+" : "", modes[i].word);
    }
    return g_string_free(text, FALSE);
}
