/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table behind eligibility.h, as data. An element is accepted only if a row that supports or
 * handles it matches and no row that refuses it does: a value that nobody thought of is refused.
 */
#pragma once

#include <glib.h>

typedef enum {
    COLO_ROW_SUPPORTED, /* the copy has it too and checkpoints carry its state */
    COLO_ROW_HANDLED,   /* works because we do something about it */
    COLO_ROW_NOTE,      /* tell the operator; does not accept by itself */
    COLO_ROW_REFUSED,
} ColoRowVerdict;

typedef struct {
    const char *section; /* parent element: "devices", "features", "domain"; "" for <domain> */
    const char *element; /* "disk"; "qemu:commandline" for libvirt's QEMU namespace */
    const char *when; /* XPath condition on the element, NULL: always; $emulation is the policy */
    ColoRowVerdict verdict;
    const char *found;  /* what is said; "{}" stands for the value of @show */
    const char *show;   /* XPath of a string, or NULL */
    const char *remedy; /* never NULL for a refusal */
    gboolean fixable;
} ColoEligibilityRow;

extern const ColoEligibilityRow colo_eligibility_table[];
extern const gsize colo_eligibility_table_len;
