/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/skew.h"

void colo_skew_set_bounds(ColoSkewDomain *domain, uint64_t min_ns, uint64_t max_ns)
{
    for (unsigned i = 0; i < COLO_SKEW_CLASSES; i++) {
        uint64_t limit = i + 1 < COLO_SKEW_CLASSES && min_ns << i < max_ns ? min_ns << i : max_ns;

        domain->limits_ns[i] = limit;
        domain->bounds[i] = (uint32_t)(limit >> COLO_SKEW_SHIFT);
    }
    /* Not measured: nothing says that it is not as slow as can be. */
    domain->rank =
        domain->skew.mean ? colo_skew_class(domain, &domain->skew) : COLO_SKEW_CLASSES - 1;
}
