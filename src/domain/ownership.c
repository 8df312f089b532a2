/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/ownership.h"

#include "util/error.h"
#include "util/log.h"

static ColoLogContext about(const ColoDomainRecord *record)
{
    return (ColoLogContext){record->name, record->uuid, record->generation};
}

static ColoOwnership from_take(ColoTake take)
{
    switch (take) {
    case COLO_TAKE_WON:
        return COLO_OWNERSHIP_WON;
    case COLO_TAKE_LOST:
        return COLO_OWNERSHIP_LOST;
    case COLO_TAKE_MANUAL:
        return COLO_OWNERSHIP_MANUAL;
    case COLO_TAKE_UNKNOWN:
        break;
    }
    return COLO_OWNERSHIP_UNKNOWN;
}

/* What is not on disk must not be in memory either: the next step would stand on it. */
typedef struct {
    uint64_t generation;
    uint64_t relinquished;
    gboolean owner;
    gboolean loaded;
    gboolean behind;
    ColoState state;
    char *attempt;
    gboolean attempt_pair;
} Before;

/* TRUE while the register does not say yet what a consent made of this host (rule 11). */
static gboolean register_is_behind(const ColoDomainRecord *record)
{
    return colo_json_peek_bool(record->details, "register-behind", FALSE);
}

static Before remember(const ColoDomainRecord *record)
{
    return (Before){.generation = record->generation,
                    .relinquished = record->relinquished,
                    .owner = record->owner,
                    .loaded = record->loaded,
                    .behind = register_is_behind(record),
                    .state = record->state,
                    .attempt = g_strdup(record->attempt),
                    .attempt_pair = record->attempt_pair};
}

/* Stores @record, or puts it back to what it was @before (cleared here). */
static gboolean save(const ColoOwnershipContext *ctx, ColoDomainRecord *record, Before *before,
                     GError **error)
{
    if (colo_store_save_domain(ctx->store, record, error)) {
        g_free(before->attempt);
        return TRUE;
    }
    record->generation = before->generation;
    record->relinquished = before->relinquished;
    record->owner = before->owner;
    record->loaded = before->loaded;
    colo_json_add(record->details, "register-behind", "b", before->behind, NULL);
    record->state = before->state;
    g_free(record->attempt);
    record->attempt = before->attempt;
    record->attempt_pair = before->attempt_pair;
    return FALSE;
}

/* A fresh attempt, on disk before the CAS that carries it. From a pairing's on this host is not the
 * owner any more: the request may be applied. */
static gboolean store_attempt(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                              gboolean pair, GError **error)
{
    Before before = remember(record);

    g_free(record->attempt);
    record->attempt = g_uuid_string_random();
    record->attempt_pair = pair;
    if (pair)
        record->owner = FALSE;
    return save(ctx, record, &before, error);
}

static gboolean drop_attempt(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                             GError **error)
{
    Before before = remember(record);

    g_clear_pointer(&record->attempt, g_free);
    return save(ctx, record, &before, error);
}

/* @behind: by a consent that the register does not show yet. */
static gboolean store_owner(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                            uint64_t generation, gboolean behind, GError **error)
{
    Before before = remember(record);

    record->generation = generation;
    record->owner = TRUE;
    g_clear_pointer(&record->attempt, g_free);
    /* In one write: a secondary that owns and was not told to go on would give itself up after a
     * reboot, and nobody would own the domain. */
    if (record->role == COLO_ROLE_SECONDARY)
        record->state = COLO_STATE_FAILING_OVER;
    colo_json_add(record->details, "register-behind", "b", behind, NULL);
    return save(ctx, record, &before, error);
}

/* CAS (reg.generation, me, alone) -> (+1, me, alone): kills whatever request of this host may still
 * be under way (rules 11 and 12). */
static ColoOwnership renew(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                           const ColoRegister *reg, GError **error)
{
    g_autofree char *attempt = g_uuid_string_random();
    uint64_t n = reg->generation;
    ColoTake take;

    take = colo_arbiter_update(ctx->arbiter, record->uuid, ctx->me, n, attempt, NULL, error);
    if (take == COLO_TAKE_UNKNOWN) {
        g_clear_error(error);
        take = colo_arbiter_resolve(ctx->arbiter, COLO_ARBITER_OP_UPDATE, record->uuid, n, attempt,
                                    NULL, error);
    }
    if (take != COLO_TAKE_WON)
        return from_take(take);
    return store_owner(ctx, record, n + 1, FALSE, error) ? COLO_OWNERSHIP_WON
                                                         : COLO_OWNERSHIP_UNKNOWN;
}

/* Rule 1. Nothing is stored before: a creation that is applied after all is ours alone, and the
 * next begin finds and renews it. */
static gboolean create_register(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                GError **error)
{
    gboolean manual = colo_arbiter_kind(ctx->arbiter) == COLO_ARBITER_MANUAL;
    g_autofree char *attempt = g_uuid_string_random();
    uint64_t n =
        record->owner ? record->generation : MAX(record->generation, record->relinquished) + 1;
    ColoTake take;

    if (!manual && record->generation > 0 && (!record->owner || register_is_behind(record))) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': the arbiter has no register, but this host has seen generation "
                    "%" G_GUINT64_FORMAT
                    ": settle it with 'virsh-colo colo-failover %s --i-am-sure'",
                    record->name, record->generation, record->name);
        return FALSE;
    }
    take = colo_arbiter_create(ctx->arbiter, record->uuid, ctx->me, n, attempt, NULL, error);
    if (take == COLO_TAKE_UNKNOWN) {
        g_clear_error(error);
        take = colo_arbiter_resolve(ctx->arbiter, COLO_ARBITER_OP_CREATE, record->uuid, n, attempt,
                                    NULL, error);
    }
    return take == COLO_TAKE_WON && store_owner(ctx, record, n, FALSE, error);
}

gboolean colo_ownership_begin(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                              GError **error)
{
    g_autoptr(ColoRegister) reg = NULL;
    g_autofree char *text = NULL;

    if (record->attempt) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': an earlier request to the arbiter is not resolved yet",
                    record->name);
        return FALSE;
    }
    switch (colo_arbiter_read(ctx->arbiter, record->uuid, &reg, error)) {
    case COLO_ARBITER_UNKNOWN:
        return FALSE;
    case COLO_ARBITER_ABSENT:
        return create_register(ctx, record, error);
    case COLO_ARBITER_FOUND:
        break;
    }
    /* The register follows a consent at leisure; now is the time. */
    if (record->owner && record->generation == reg->generation + 1)
        return colo_ownership_update_register(ctx, record, error) == COLO_OWNERSHIP_WON;
    if (reg->mode == COLO_REGISTER_ALONE && g_strcmp0(reg->owner, ctx->me) == 0 &&
        reg->generation >= record->generation) {
        if (record->owner && reg->generation == record->generation)
            return TRUE;
        return renew(ctx, record, reg, error) == COLO_OWNERSHIP_WON;
    }
    text = colo_register_describe(reg);
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                "domain '%s': the arbiter's register does not say that this host (%s) owns it "
                "alone: %s; protect it there, or settle it with 'virsh-colo colo-failover %s "
                "--i-am-sure'",
                record->name, ctx->me, text, record->name);
    return FALSE;
}

/* After a CAS alone -> paired that ended in @take. */
static ColoOwnership settle_pair(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                 ColoTake take, const ColoRegister *current, GError **error)
{
    switch (take) {
    case COLO_TAKE_WON:
        return drop_attempt(ctx, record, error) ? COLO_OWNERSHIP_PAIRED : COLO_OWNERSHIP_UNKNOWN;
    case COLO_TAKE_LOST:
        if (!colo_ownership_quiesce(ctx, record, current ? current->generation : 0, NULL))
            return COLO_OWNERSHIP_UNKNOWN;
        return COLO_OWNERSHIP_LOST;
    case COLO_TAKE_MANUAL:
        return COLO_OWNERSHIP_MANUAL;
    case COLO_TAKE_UNKNOWN:
        break;
    }
    return COLO_OWNERSHIP_UNKNOWN;
}

ColoOwnership colo_ownership_pair(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                  GError **error)
{
    g_autoptr(ColoRegister) current = NULL;
    ColoTake take;

    if (!store_attempt(ctx, record, TRUE, error))
        return COLO_OWNERSHIP_UNKNOWN;
    take = colo_arbiter_pair(ctx->arbiter, record->uuid, ctx->me, ctx->peer, record->generation,
                             record->attempt, &current, error);
    return settle_pair(ctx, record, take, current, error);
}

gboolean colo_ownership_consent(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                GError **error)
{
    ColoLogContext log = about(record);
    Before before;

    if (record->attempt) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': %s cannot give up generation %" G_GUINT64_FORMAT
                    " while its own request to the arbiter is not resolved",
                    record->name, ctx->me, record->generation);
        return FALSE;
    }
    before = remember(record);
    record->relinquished = MAX(record->relinquished, record->generation);
    record->owner = FALSE;
    record->loaded = FALSE;
    record->state = COLO_STATE_FENCED;
    if (!save(ctx, record, &before, error))
        return FALSE;
    colo_log_full(&log, LOG_NOTICE, __func__, "relinquished generation %" G_GUINT64_FORMAT,
                  record->relinquished);
    return TRUE;
}

gboolean colo_ownership_accept_consent(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                       uint64_t n, GError **error)
{
    if (record->owner && record->generation == n + 1)
        return TRUE; /* said twice */
    if (n != record->generation || n <= record->relinquished) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': consent to give up generation %" G_GUINT64_FORMAT
                    " is stale here (seen %" G_GUINT64_FORMAT ", relinquished %" G_GUINT64_FORMAT
                    ")",
                    record->name, n, record->generation, record->relinquished);
        return FALSE;
    }
    return store_owner(ctx, record, n + 1, colo_arbiter_kind(ctx->arbiter) != COLO_ARBITER_MANUAL,
                       error);
}

/* The register has what a consent made of this host. */
static ColoOwnership register_is_there(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                       GError **error)
{
    Before before;

    if (!register_is_behind(record))
        return COLO_OWNERSHIP_WON;
    before = remember(record);
    colo_json_add(record->details, "register-behind", "b", FALSE, NULL);
    return save(ctx, record, &before, error) ? COLO_OWNERSHIP_WON : COLO_OWNERSHIP_UNKNOWN;
}

ColoOwnership colo_ownership_update_register(const ColoOwnershipContext *ctx,
                                             ColoDomainRecord *record, GError **error)
{
    g_autofree char *attempt = g_uuid_string_random();
    g_autoptr(ColoRegister) reg = NULL;
    g_autoptr(ColoRegister) current = NULL;
    ColoTake take;

    if (colo_arbiter_read(ctx->arbiter, record->uuid, &reg, error) == COLO_ARBITER_UNKNOWN)
        return COLO_OWNERSHIP_UNKNOWN;
    if (!reg) {
        g_set_error(
            error, COLO_ERROR, COLO_ERROR_ARBITER,
            "domain '%s': the arbiter has no register to bring to generation %" G_GUINT64_FORMAT
            ": settle it with 'virsh-colo colo-failover %s --i-am-sure'",
            record->name, record->generation, record->name);
        return COLO_OWNERSHIP_MANUAL;
    }
    if (reg->generation >= record->generation) {
        g_autofree char *text = NULL;

        if (reg->mode == COLO_REGISTER_ALONE && g_strcmp0(reg->owner, ctx->me) == 0)
            return register_is_there(ctx, record, error);
        text = colo_register_describe(reg);
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': the arbiter's register went on without this host (%s): %s",
                    record->name, ctx->me, text);
        return COLO_OWNERSHIP_LOST;
    }
    take = colo_arbiter_update(ctx->arbiter, record->uuid, ctx->me, record->generation - 1, attempt,
                               &current, error);
    if (take == COLO_TAKE_WON)
        return register_is_there(ctx, record, error);
    /* A late request of a host that gave up moved it between the read and the CAS: once more. */
    if (take == COLO_TAKE_LOST && current && current->generation < record->generation)
        return COLO_OWNERSHIP_UNKNOWN;
    return from_take(take);
}

/* After a CAS for generation n -> n + 1 that ended in @take. */
static ColoOwnership settle_take(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                 ColoTake take, const ColoRegister *current, GError **error)
{
    ColoLogContext log = about(record);

    switch (take) {
    case COLO_TAKE_WON:
        if (!store_owner(ctx, record, record->generation + 1, FALSE, error))
            return COLO_OWNERSHIP_UNKNOWN;
        colo_log_full(&log, LOG_NOTICE, __func__, "won generation %" G_GUINT64_FORMAT,
                      record->generation);
        return COLO_OWNERSHIP_WON;
    case COLO_TAKE_LOST:
        colo_log_full(&log, LOG_NOTICE, __func__, "lost generation %" G_GUINT64_FORMAT " to %s",
                      record->generation + 1,
                      current && current->owner ? current->owner : "the peer");
        if (!colo_ownership_quiesce(ctx, record, current ? current->generation : 0, NULL))
            return COLO_OWNERSHIP_UNKNOWN;
        return COLO_OWNERSHIP_LOST;
    case COLO_TAKE_MANUAL:
        drop_attempt(ctx, record, NULL); /* it was not applied */
        return COLO_OWNERSHIP_MANUAL;
    case COLO_TAKE_UNKNOWN:
        break;
    }
    return COLO_OWNERSHIP_UNKNOWN;
}

/* Rule 6, as far as the store knows; that the copy lives is the caller's to see. */
static gboolean is_candidate(const ColoDomainRecord *record, GError **error)
{
    const char *why = record->generation == 0                      ? "it never was protected"
                      : record->relinquished >= record->generation ? "it gave the domain up"
                      : record->role == COLO_ROLE_SECONDARY && !record->loaded
                          ? "it never loaded a checkpoint of it"
                          : NULL;

    if (!why)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                "domain '%s': this host is no candidate for generation %" G_GUINT64_FORMAT
                " (%s): it is the peer's; 'virsh-colo colo-status %s' tells its state",
                record->name, record->generation + 1, why, record->name);
    return FALSE;
}

ColoOwnership colo_ownership_lost_peer(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                       GError **error)
{
    g_autoptr(ColoRegister) current = NULL;
    ColoTake take;

    if (record->owner)
        return COLO_OWNERSHIP_WON; /* alone already: nobody else may release */
    if (record->attempt)
        return colo_ownership_resolve_unknown(ctx, record, error);
    if (!is_candidate(record, error))
        return record->relinquished > 0 || record->role == COLO_ROLE_SECONDARY
                   ? COLO_OWNERSHIP_LOST
                   : COLO_OWNERSHIP_MANUAL;
    /* Without a register suspicion changes nothing, and nothing need be stored to find that. */
    if (colo_arbiter_kind(ctx->arbiter) == COLO_ARBITER_MANUAL)
        return from_take(colo_arbiter_take(ctx->arbiter, record->uuid, ctx->me, record->generation,
                                           "", NULL, error));
    if (!store_attempt(ctx, record, FALSE, error))
        return COLO_OWNERSHIP_UNKNOWN;
    take = colo_arbiter_take(ctx->arbiter, record->uuid, ctx->me, record->generation,
                             record->attempt, &current, error);
    return settle_take(ctx, record, take, current, error);
}

static ColoTake repeat_attempt(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                               ColoRegister **current, GError **error)
{
    if (record->attempt_pair)
        return colo_arbiter_pair(ctx->arbiter, record->uuid, ctx->me, ctx->peer, record->generation,
                                 record->attempt, current, error);
    return colo_arbiter_take(ctx->arbiter, record->uuid, ctx->me, record->generation,
                             record->attempt, current, error);
}

ColoOwnership colo_ownership_resolve_unknown(const ColoOwnershipContext *ctx,
                                             ColoDomainRecord *record, GError **error)
{
    g_autoptr(ColoRegister) current = NULL;
    ColoTake take;

    if (!record->attempt)
        return colo_ownership_lost_peer(ctx, record, error);
    take = colo_arbiter_resolve(ctx->arbiter,
                                record->attempt_pair ? COLO_ARBITER_OP_PAIR : COLO_ARBITER_OP_TAKE,
                                record->uuid, record->generation, record->attempt, &current, error);
    if (take == COLO_TAKE_UNKNOWN) {
        g_clear_error(error);
        g_clear_pointer(&current, colo_register_free);
        take = repeat_attempt(ctx, record, &current, error);
    }
    return record->attempt_pair ? settle_pair(ctx, record, take, current, error)
                                : settle_take(ctx, record, take, current, error);
}

gboolean colo_ownership_quiesce(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                uint64_t seen_generation, GError **error)
{
    Before before = remember(record);

    record->generation = MAX(record->generation, seen_generation);
    record->owner = FALSE;
    record->loaded = FALSE;
    record->state = COLO_STATE_FENCED;
    g_clear_pointer(&record->attempt, g_free);
    return save(ctx, record, &before, error);
}

ColoOwnership colo_ownership_force(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                   GError **error)
{
    g_autofree char *attempt = g_uuid_string_random();
    g_autoptr(ColoRegister) reg = NULL;
    uint64_t n = record->generation;
    ColoTake take;

    if (colo_arbiter_read(ctx->arbiter, record->uuid, &reg, error) == COLO_ARBITER_UNKNOWN)
        return COLO_OWNERSHIP_UNKNOWN;
    if (reg)
        n = MAX(n, reg->generation);
    /* One above a consent that the dead host may have accepted and not yet written. */
    n += 1;
    take = colo_arbiter_force(ctx->arbiter, record->uuid, ctx->me, n, attempt, NULL, error);
    if (take != COLO_TAKE_WON)
        return from_take(take);
    return store_owner(ctx, record, n + 1, FALSE, error) ? COLO_OWNERSHIP_WON
                                                         : COLO_OWNERSHIP_UNKNOWN;
}

ColoOwnership colo_ownership_restart(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                     GError **error)
{
    g_autoptr(ColoRegister) reg = NULL;
    gboolean mine;

    switch (colo_arbiter_read(ctx->arbiter, record->uuid, &reg, error)) {
    case COLO_ARBITER_UNKNOWN:
        return COLO_OWNERSHIP_UNKNOWN;
    case COLO_ARBITER_ABSENT:
        return COLO_OWNERSHIP_MANUAL;
    case COLO_ARBITER_FOUND:
        break;
    }
    mine = reg->mode == COLO_REGISTER_ALONE && g_strcmp0(reg->owner, ctx->me) == 0;
    if (record->owner && record->generation == reg->generation + 1)
        return colo_ownership_update_register(ctx, record, error);
    if (reg->generation < record->generation)
        return COLO_OWNERSHIP_MANUAL;
    if (!mine && reg->generation > record->generation) {
        if (!colo_ownership_quiesce(ctx, record, reg->generation, error))
            return COLO_OWNERSHIP_UNKNOWN;
        return COLO_OWNERSHIP_LOST;
    }
    if (mine && (reg->generation > record->generation || record->owner ||
                 (record->attempt && record->attempt_pair)))
        return renew(ctx, record, reg, error);
    if (reg->mode == COLO_REGISTER_PAIRED && reg->generation == record->generation)
        return COLO_OWNERSHIP_PAIRED;
    return COLO_OWNERSHIP_MANUAL;
}

ColoOwnership colo_ownership_leave(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                   GError **error)
{
    if (!record->owner || record->attempt) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': this host does not own it alone, its register stays",
                    record->name);
        return COLO_OWNERSHIP_LOST;
    }
    if (register_is_behind(record) &&
        colo_ownership_update_register(ctx, record, error) == COLO_OWNERSHIP_UNKNOWN)
        return COLO_OWNERSHIP_UNKNOWN;
    if (error)
        g_clear_error(error);
    return from_take(
        colo_arbiter_remove(ctx->arbiter, record->uuid, ctx->me, record->generation, error));
}
