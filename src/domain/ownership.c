/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/ownership.h"

#include "util/error.h"
#include "util/log.h"

static ColoLogContext about(const ColoDomainRecord *record)
{
    return (ColoLogContext){record->name, record->uuid, record->generation};
}

const char *colo_ownership_name(ColoOwnership outcome)
{
    static const char *const names[] = {"won", "paired", "lost", "unknown", "manual"};

    return names[outcome];
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

/* A fresh attempt, on disk before the CAS that carries it. */
static gboolean store_attempt(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                              gboolean pair, GError **error)
{
    g_free(record->attempt);
    record->attempt = g_uuid_string_random();
    record->attempt_pair = pair;
    return colo_store_save_domain(ctx->store, record, error);
}

static gboolean drop_attempt(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                             GError **error)
{
    g_clear_pointer(&record->attempt, g_free);
    return colo_store_save_domain(ctx->store, record, error);
}

static gboolean store_owner(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                            uint64_t generation, GError **error)
{
    record->generation = generation;
    record->owner = TRUE;
    g_clear_pointer(&record->attempt, g_free);
    return colo_store_save_domain(ctx->store, record, error);
}

/* CAS (reg.generation, me, alone) -> (+1, me, alone): kills whatever request of this host may still be
 * under way (rules 11 and 12). */
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
    return store_owner(ctx, record, n + 1, error) ? COLO_OWNERSHIP_WON : COLO_OWNERSHIP_UNKNOWN;
}

static gboolean create_register(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                GError **error)
{
    uint64_t n = record->owner ? record->generation : 1;
    ColoTake take;

    if (record->generation > 0 && !record->owner &&
        colo_arbiter_kind(ctx->arbiter) != COLO_ARBITER_MANUAL) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': the arbiter has no register, but this host has seen generation %"
                    G_GUINT64_FORMAT ": settle it with 'virsh-colo colo-failover %s --i-am-sure'",
                    record->name, record->generation, record->name);
        return FALSE;
    }
    if (!record->owner)
        n = MAX(record->generation, record->relinquished) + 1;
    /* The generation is remembered before anybody else can see it. */
    record->generation = n;
    if (!store_attempt(ctx, record, FALSE, error))
        return FALSE;
    take = colo_arbiter_create(ctx->arbiter, record->uuid, ctx->me, n, record->attempt, NULL,
                               error);
    if (take == COLO_TAKE_UNKNOWN) {
        g_clear_error(error);
        take = colo_arbiter_resolve(ctx->arbiter, COLO_ARBITER_OP_CREATE, record->uuid, n,
                                    record->attempt, NULL, error);
    }
    if (take == COLO_TAKE_WON)
        return store_owner(ctx, record, n, error);
    /* A register that this creation makes yet is ours alone: the next begin finds it. */
    drop_attempt(ctx, record, NULL);
    return FALSE;
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
        if (!colo_ownership_quiesce(ctx, record, current ? current->generation : 0, error))
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

    /* Not the owner any more from the moment that the request may be applied. */
    record->owner = FALSE;
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

    if (record->attempt) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_ARBITER,
                    "domain '%s': %s cannot give up generation %" G_GUINT64_FORMAT
                    " while its own request to the arbiter is not resolved",
                    record->name, ctx->me, record->generation);
        return FALSE;
    }
    record->relinquished = MAX(record->relinquished, record->generation);
    record->owner = FALSE;
    record->loaded = FALSE;
    record->state = COLO_STATE_FENCED;
    if (!colo_store_save_domain(ctx->store, record, error))
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
    return store_owner(ctx, record, n + 1, error);
}

ColoOwnership colo_ownership_update_register(const ColoOwnershipContext *ctx,
                                             ColoDomainRecord *record, GError **error)
{
    g_autofree char *attempt = g_uuid_string_random();
    g_autoptr(ColoRegister) reg = NULL;

    if (colo_arbiter_read(ctx->arbiter, record->uuid, &reg, error) == COLO_ARBITER_UNKNOWN)
        return COLO_OWNERSHIP_UNKNOWN;
    if (!reg)
        return COLO_OWNERSHIP_MANUAL;
    if (reg->generation >= record->generation)
        return g_strcmp0(reg->owner, ctx->me) == 0 ? COLO_OWNERSHIP_WON : COLO_OWNERSHIP_LOST;
    return from_take(colo_arbiter_update(ctx->arbiter, record->uuid, ctx->me,
                                         record->generation - 1, attempt, NULL, error));
}

/* After a CAS for generation n -> n + 1 that ended in @take. */
static ColoOwnership settle_take(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                 ColoTake take, const ColoRegister *current, GError **error)
{
    ColoLogContext log = about(record);

    switch (take) {
    case COLO_TAKE_WON:
        if (!store_owner(ctx, record, record->generation + 1, error))
            return COLO_OWNERSHIP_UNKNOWN;
        colo_log_full(&log, LOG_NOTICE, __func__, "won generation %" G_GUINT64_FORMAT,
                      record->generation);
        return COLO_OWNERSHIP_WON;
    case COLO_TAKE_LOST:
        colo_log_full(&log, LOG_NOTICE, __func__, "lost generation %" G_GUINT64_FORMAT " to %s",
                      record->generation + 1,
                      current && current->owner ? current->owner : "the peer");
        if (!colo_ownership_quiesce(ctx, record, current ? current->generation : 0, error))
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

ColoOwnership colo_ownership_lost_peer(const ColoOwnershipContext *ctx, ColoDomainRecord *record,
                                       GError **error)
{
    g_autoptr(ColoRegister) current = NULL;
    ColoTake take;

    if (record->owner)
        return COLO_OWNERSHIP_WON; /* alone already: nobody else may release */
    if (record->attempt)
        return colo_ownership_resolve_unknown(ctx, record, error);
    if (record->relinquished >= record->generation ||
        (record->role == COLO_ROLE_SECONDARY && !record->loaded)) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "domain '%s': this host is no candidate for generation %" G_GUINT64_FORMAT
                    " (%s)",
                    record->name, record->generation + 1,
                    record->relinquished >= record->generation
                        ? "it gave the domain up"
                        : "it never loaded a checkpoint of it");
        return COLO_OWNERSHIP_LOST;
    }
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
        return colo_arbiter_pair(ctx->arbiter, record->uuid, ctx->me, ctx->peer,
                                 record->generation, record->attempt, current, error);
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
    record->generation = MAX(record->generation, seen_generation);
    record->owner = FALSE;
    record->loaded = FALSE;
    record->state = COLO_STATE_FENCED;
    g_clear_pointer(&record->attempt, g_free);
    return colo_store_save_domain(ctx->store, record, error);
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
    return store_owner(ctx, record, n + 1, error) ? COLO_OWNERSHIP_WON : COLO_OWNERSHIP_UNKNOWN;
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
