/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * May this domain be protected? One table (eligibility-table of eligibility.c) over every device
 * element of libvirt and every other part of a domain that matters: supported, handled by us, or
 * refused with the remedy. What is not in the table is refused, so that a device of a newer
 * libvirt is never protected by accident.
 *
 * Input is the XML of the RUNNING domain (virDomainGetXMLDesc, flags VIR_DOMAIN_XML_SECURE or 0);
 * an inactive one is judged too, for colo-prepare and colo-doctor. Pure functions, any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
    gboolean allow_emulation; /* accept type='qemu' (TCG): for laboratories only */
} ColoEligibilityPolicy;

typedef enum {
    COLO_FINDING_NOTE,    /* worth telling the operator; protection goes on */
    COLO_FINDING_REFUSED, /* protection is refused until the remedy is applied */
} ColoFindingSeverity;

typedef struct {
    ColoFindingSeverity severity;
    char *device; /* "interface net0 (52:54:00:12:34:56)", "disk vda", "cpu": names the object */
    char *found;  /* what was found and why it matters */
    char *remedy; /* what to do, "" if nothing is to be done */
    gboolean fixable; /* colo-prepare --fix can do it (colo_fix_vhost_xml) */
} ColoFinding;

void colo_finding_free(ColoFinding *finding);

/*
 * All findings of @xml, ColoFinding *, refusals first, else in the order of the document; empty if
 * nothing is to be said. @policy NULL is all zero. NULL and COLO_ERROR_INVALID_ARG only for text
 * that is not a domain. The caller unrefs the array.
 */
GPtrArray *colo_eligibility_check(const char *xml, const ColoEligibilityPolicy *policy,
                                  GError **error);

/* TRUE if no finding refuses; else FALSE and COLO_ERROR_UNSUPPORTED with one message that names
 * @domain and every refusal with its remedy. */
gboolean colo_eligibility_require(const GPtrArray *findings, const char *domain, GError **error);

/* TRUE if the table has a row for <@element> below <@section>: "devices", "domain", "features".
 * For the test that compares the table with libvirt's schema. */
gboolean colo_eligibility_lists(const char *section, const char *element);
