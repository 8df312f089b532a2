/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arbiter back-end manual: no register. What needs nobody else's agreement succeeds: create and
 * pair (there is nothing to write), update (the owner has consented, colo_ownership stored it) and
 * force (the operator's word). A take never does: without a register nothing tells a dead peer from
 * a cut link, and two owners would be worse than none. Reads say ABSENT.
 */
#include "pair/arbiter-private.h"

#include "util/error.h"

ColoTake colo_arbiter_manual_cas(const ColoCas *cas, ColoRegister **current, GError **error)
{
    if (current)
        *current = NULL;
    if (cas->op != COLO_ARBITER_OP_TAKE) {
        if (current)
            *current = colo_cas_wanted(cas);
        return COLO_TAKE_WON;
    }
    g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                "no arbiter is configured, so this host cannot take domain %s over by itself; make "
                "sure that the peer is off, then: colo-failover --i-am-sure",
                cas->uuid);
    return COLO_TAKE_MANUAL;
}
