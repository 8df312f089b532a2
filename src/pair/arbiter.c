/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of the register, the same for every back-end: who may swap what into what, and what an
 * answer means. tests/model/ states them as [1] to [14].
 */
#include "pair/arbiter-private.h"

#include "util/clock.h"
#include "util/error.h"

#include <string.h>

struct ColoArbiter {
    ColoArbiterKind kind;
    unsigned timeout_ms;
    const ColoArbiterBackend *backend; /* NULL: manual */
    void *state;
};

void colo_register_free(ColoRegister *reg)
{
    if (!reg)
        return;
    g_free(reg->uuid);
    g_free(reg->primary);
    g_free(reg->secondary);
    g_free(reg->owner);
    g_free(reg->attempt);
    g_free(reg->raw);
    g_free(reg);
}

const char *colo_register_mode_name(ColoRegisterMode mode)
{
    return mode == COLO_REGISTER_PAIRED ? "paired" : "alone";
}

char *colo_register_describe(const ColoRegister *reg)
{
    return g_strdup_printf("generation %" G_GUINT64_FORMAT " %s, owner %s%s%s", reg->generation,
                           colo_register_mode_name(reg->mode), reg->owner,
                           reg->secondary ? ", secondary " : "",
                           reg->secondary ? reg->secondary : "");
}

const char *colo_arbiter_kind_name(ColoArbiterKind kind)
{
    return kind == COLO_ARBITER_ETCD ? "etcd" : "manual";
}

void colo_arbiter_config_clear(ColoArbiterConfig *config)
{
    g_clear_pointer(&config->endpoints, g_strfreev);
    g_clear_pointer(&config->ca_file, g_free);
    g_clear_pointer(&config->cert_file, g_free);
    g_clear_pointer(&config->key_file, g_free);
}

ColoArbiter *colo_arbiter_new(const ColoArbiterConfig *config, GError **error)
{
    g_autoptr(ColoArbiter) arbiter = g_new0(ColoArbiter, 1);

    arbiter->kind = config->kind;
    arbiter->timeout_ms = config->timeout_ms ? config->timeout_ms : COLO_ARBITER_TIMEOUT_MS;
    if (config->kind == COLO_ARBITER_ETCD) {
        arbiter->backend = &colo_arbiter_etcd;
        arbiter->state = colo_arbiter_etcd_new(config, error);
        if (!arbiter->state)
            return NULL;
    }
    return g_steal_pointer(&arbiter);
}

void colo_arbiter_free(ColoArbiter *arbiter)
{
    if (!arbiter)
        return;
    if (arbiter->state)
        arbiter->backend->free(arbiter->state);
    g_free(arbiter);
}

ColoArbiterKind colo_arbiter_kind(const ColoArbiter *arbiter)
{
    return arbiter->kind;
}

void colo_arbiter_keep_warm(ColoArbiter *arbiter)
{
    if (arbiter->backend)
        arbiter->backend->keep_warm(arbiter->state);
}

static uint64_t deadline(const ColoArbiter *arbiter)
{
    return colo_clock_ns() + arbiter->timeout_ms * COLO_NS_PER_MS;
}

gboolean colo_arbiter_probe(ColoArbiter *arbiter, GError **error)
{
    g_autoptr(ColoRegister) reg = NULL;

    /* A key that no domain has: the answer is "absent" if etcd has a quorum and admits us. */
    return colo_arbiter_read(arbiter, "00000000-0000-0000-0000-000000000000", &reg, error) !=
           COLO_ARBITER_UNKNOWN;
}

ColoArbiterRead colo_arbiter_read(ColoArbiter *arbiter, const char *uuid, ColoRegister **reg,
                                  GError **error)
{
    *reg = NULL;
    if (!arbiter->backend)
        return COLO_ARBITER_ABSENT;
    return arbiter->backend->read(arbiter->state, uuid, deadline(arbiter), reg, error);
}

typedef ColoCas Cas;

/* Sets @current (when asked for) to what @reg was. */
static void give(ColoRegister **current, ColoRegister **reg)
{
    if (current)
        *current = g_steal_pointer(reg);
}

static bool is(const char *a, const char *b)
{
    return g_strcmp0(a, b) == 0;
}

/* Why there is nothing that the register could decide. */
static ColoTake manual_only(const Cas *cas, const ColoRegister *reg, GError **error)
{
    if (!reg)
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain %s has no register at the arbiter, generation %" G_GUINT64_FORMAT
                    " was expected; only the peer or the operator can decide: colo-failover "
                    "--i-am-sure",
                    cas->uuid, cas->n);
    else
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "the register of domain %s is at generation %" G_GUINT64_FORMAT
                    ", lower than %" G_GUINT64_FORMAT ", which this host has seen: it was reset or "
                    "restored; only the peer or the operator can decide: colo-failover --i-am-sure",
                    cas->uuid, reg->generation, cas->n);
    return COLO_TAKE_MANUAL;
}

static ColoTake lost(const Cas *cas, const ColoRegister *reg, GError **error)
{
    g_autofree char *found = reg ? colo_register_describe(reg) : g_strdup("nothing");

    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_FAILED,
                "the register of domain %s went on without host %s: found %s", cas->uuid, cas->me,
                found);
    return COLO_TAKE_LOST;
}

/* True when @reg is the state that @cas starts from (@reg NULL: absent). */
static bool may_start(const Cas *cas, const ColoRegister *reg)
{
    if (cas->op == COLO_ARBITER_OP_CREATE)
        return !reg;
    if (cas->op == COLO_ARBITER_OP_FORCE)
        return !reg || reg->generation <= cas->n;
    if (!reg || reg->generation != cas->n)
        return false;

    bool paired = reg->mode == COLO_REGISTER_PAIRED;
    bool named = is(reg->primary, cas->me) || is(reg->secondary, cas->me);

    switch (cas->op) {
    case COLO_ARBITER_OP_PAIR:
        return !paired && is(reg->owner, cas->me);
    case COLO_ARBITER_OP_TAKE:
        return paired && named;
    case COLO_ARBITER_OP_UPDATE:
        return paired ? named : is(reg->owner, cas->me);
    default:
        return false;
    }
}

/* The outcome of a CAS that is not going to be sent (again) while the register is @reg. */
static ColoTake verdict(const Cas *cas, const ColoRegister *reg, GError **error)
{
    if (reg && is(reg->attempt, cas->attempt))
        return COLO_TAKE_WON;
    if (cas->op != COLO_ARBITER_OP_CREATE && cas->op != COLO_ARBITER_OP_FORCE &&
        (!reg || reg->generation < cas->n))
        return manual_only(cas, reg, error);
    return lost(cas, reg, error);
}

ColoRegister *colo_cas_wanted(const ColoCas *cas)
{
    bool same = cas->op == COLO_ARBITER_OP_CREATE || cas->op == COLO_ARBITER_OP_PAIR;
    ColoRegister *wanted = g_new0(ColoRegister, 1);

    wanted->uuid = g_strdup(cas->uuid);
    wanted->generation = same ? cas->n : cas->n + 1;
    wanted->primary = g_strdup(cas->me);
    wanted->secondary = g_strdup(cas->secondary);
    wanted->owner = g_strdup(cas->me);
    wanted->mode = cas->secondary ? COLO_REGISTER_PAIRED : COLO_REGISTER_ALONE;
    wanted->attempt = g_strdup(cas->attempt);
    return wanted;
}

/* One CAS: read, judge, swap. The swap is bound to the very value that was judged, so that a copy
 * of it that arrives late, or a second time, cannot succeed. */
static ColoTake run_cas(ColoArbiter *arbiter, const Cas *cas, ColoRegister **current,
                        GError **error)
{
    uint64_t until = deadline(arbiter);
    g_autoptr(ColoRegister) before = NULL;
    g_autoptr(ColoRegister) wanted = colo_cas_wanted(cas);
    g_autoptr(ColoRegister) now = NULL;
    g_autoptr(GError) why = NULL;
    ColoTake take;

    if (current)
        *current = NULL;
    /* Of an UNKNOWN read nothing was sent that could change anything, but an earlier try of the
     * same attempt may have been: the caller cannot tell, so UNKNOWN stands. */
    if (arbiter->backend->read(arbiter->state, cas->uuid, until, &before, error) ==
        COLO_ARBITER_UNKNOWN)
        return COLO_TAKE_UNKNOWN;
    if ((before && is(before->attempt, cas->attempt)) || !may_start(cas, before)) {
        take = verdict(cas, before, error);
        give(current, &before);
        return take;
    }
    switch (arbiter->backend->swap(arbiter->state, cas->uuid, before, wanted, until, &now, &why)) {
    case COLO_SWAP_DONE:
        give(current, &wanted);
        return COLO_TAKE_WON;
    case COLO_SWAP_MISMATCH:
        take = verdict(cas, now, error);
        give(current, &now);
        return take;
    case COLO_SWAP_UNKNOWN:
        break;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return COLO_TAKE_UNKNOWN;
}

static ColoTake cas_any(ColoArbiter *arbiter, const Cas *cas, ColoRegister **current,
                        GError **error)
{
    return arbiter->backend ? run_cas(arbiter, cas, current, error)
                            : colo_arbiter_manual_cas(cas, current, error);
}

ColoTake colo_arbiter_create(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                             const char *attempt, ColoRegister **current, GError **error)
{
    Cas cas = {COLO_ARBITER_OP_CREATE, uuid, me, NULL, n, attempt};

    return cas_any(arbiter, &cas, current, error);
}

ColoTake colo_arbiter_pair(ColoArbiter *arbiter, const char *uuid, const char *me,
                           const char *secondary, uint64_t n, const char *attempt,
                           ColoRegister **current, GError **error)
{
    Cas cas = {COLO_ARBITER_OP_PAIR, uuid, me, secondary, n, attempt};

    return cas_any(arbiter, &cas, current, error);
}

ColoTake colo_arbiter_take(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                           const char *attempt, ColoRegister **current, GError **error)
{
    Cas cas = {COLO_ARBITER_OP_TAKE, uuid, me, NULL, n, attempt};

    return cas_any(arbiter, &cas, current, error);
}

ColoTake colo_arbiter_update(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                             const char *attempt, ColoRegister **current, GError **error)
{
    Cas cas = {COLO_ARBITER_OP_UPDATE, uuid, me, NULL, n, attempt};

    return cas_any(arbiter, &cas, current, error);
}

ColoTake colo_arbiter_force(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                            const char *attempt, ColoRegister **current, GError **error)
{
    Cas cas = {COLO_ARBITER_OP_FORCE, uuid, me, NULL, n, attempt};

    return cas_any(arbiter, &cas, current, error);
}

ColoTake colo_arbiter_remove(ColoArbiter *arbiter, const char *uuid, const char *me, uint64_t n,
                             GError **error)
{
    Cas cas = {COLO_ARBITER_OP_FORCE, uuid, me, NULL, n, NULL};
    uint64_t until = deadline(arbiter);
    g_autoptr(ColoRegister) before = NULL;
    g_autoptr(ColoRegister) now = NULL;
    g_autoptr(GError) why = NULL;

    if (!arbiter->backend)
        return COLO_TAKE_WON;
    switch (arbiter->backend->read(arbiter->state, uuid, until, &before, error)) {
    case COLO_ARBITER_UNKNOWN:
        return COLO_TAKE_UNKNOWN;
    case COLO_ARBITER_ABSENT:
        return COLO_TAKE_WON;
    case COLO_ARBITER_FOUND:
        break;
    }
    if (before->generation != n || !is(before->owner, me))
        return lost(&cas, before, error);
    switch (arbiter->backend->swap(arbiter->state, uuid, before, NULL, until, &now, &why)) {
    case COLO_SWAP_DONE:
        return COLO_TAKE_WON;
    case COLO_SWAP_MISMATCH:
        return now ? lost(&cas, now, error) : COLO_TAKE_WON;
    case COLO_SWAP_UNKNOWN:
        break;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return COLO_TAKE_UNKNOWN;
}

/* True while a CAS in flight may still find in @reg the state that it expects. */
static bool may_still_win(ColoArbiterOp op, uint64_t n, const ColoRegister *reg)
{
    switch (op) {
    case COLO_ARBITER_OP_CREATE:
        return !reg;
    case COLO_ARBITER_OP_FORCE:
        return !reg || reg->generation <= n;
    case COLO_ARBITER_OP_PAIR:
        return reg && reg->generation == n && reg->mode == COLO_REGISTER_ALONE;
    case COLO_ARBITER_OP_TAKE:
        return reg && reg->generation == n && reg->mode == COLO_REGISTER_PAIRED;
    case COLO_ARBITER_OP_UPDATE:
        return reg && reg->generation == n;
    }
    return true;
}

ColoTake colo_arbiter_resolve(ColoArbiter *arbiter, ColoArbiterOp op, const char *uuid, uint64_t n,
                              const char *attempt, ColoRegister **current, GError **error)
{
    Cas cas = {op, uuid, "(this)", NULL, n, attempt};
    g_autoptr(ColoRegister) reg = NULL;
    ColoTake take;

    if (current)
        *current = NULL;
    if (!arbiter->backend)
        return colo_arbiter_manual_cas(&cas, current, error);
    if (colo_arbiter_read(arbiter, uuid, &reg, error) == COLO_ARBITER_UNKNOWN)
        return COLO_TAKE_UNKNOWN;
    if ((!reg || !is(reg->attempt, attempt)) && may_still_win(op, n, reg)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "the register of domain %s shows no outcome of the attempt %s yet", uuid,
                    attempt);
        take = COLO_TAKE_UNKNOWN;
    } else {
        take = verdict(&cas, reg, error);
    }
    give(current, &reg);
    return take;
}
