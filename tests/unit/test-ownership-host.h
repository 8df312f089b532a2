/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two hosts as ownership sees them: a store each, one etcd between them. */
#pragma once

#include "domain/ownership.h"
#include "test-arbiter-etcd.h"

typedef struct {
    const char *name, *peer;
    char *dir;
    ColoStore *store;
    ColoArbiter *arbiter;
    ColoDomainRecord *record;
    ColoOwnershipContext ctx; /* of what is above */
} Host;

/* A host with an empty store and a record of domain @uuid that was never protected. @arbiter is
 * taken over; NULL: etcd. */
void host_new(Host *host, const char *name, const char *peer, const char *uuid,
              ColoArbiter *arbiter);
void host_clear(Host *host);

/* virtcolod is killed and started: what it knows is what the store has. */
void host_restart(Host *host);

/* Another way to etcd; @arbiter is taken over. */
void host_use(Host *host, ColoArbiter *arbiter);

/* What the store has now, for colo_domain_record_free(). */
ColoDomainRecord *host_stored(const Host *host);

/* A verb of ownership.h, said by @host. */
#define OWN(verb, host, ...) colo_ownership_##verb(&(host)->ctx, (host)->record, __VA_ARGS__)

/* alpha and beta, where the domain never was protected, or, paired: alpha (primary) and beta
 * (secondary that has LOADED) in generation 1, paired. */
typedef struct {
    char *uuid;
    Host a, b;
} Pair;
void hosts_new(Pair *pair);
void pair_new(Pair *pair);
void pair_clear(Pair *pair);

/* @test with a pair that @begin (one of the two above) made; skipped when etcd is not installed. */
void add_test(const char *path, void (*begin)(Pair *pair), void (*test)(Pair *pair));

/* @secondary follows @primary into its generation, as rule 3 and a first LOADED do. */
void join_as_secondary(Host *primary, Host *secondary);

/* The register of @uuid is {generation, owner, mode}. */
void assert_register(const char *uuid, uint64_t generation, const char *owner,
                     ColoRegisterMode mode);
void assert_no_register(const char *uuid);

/* Memory and store of @host agree: {generation, owner}, with an attempt or without. */
void assert_host(const Host *host, uint64_t generation, gboolean owner, gboolean attempt);

/* From now on every write of @host's store fails, until it is mended. */
void store_break(const Host *host);
void store_mend(const Host *host);

/* Asks again until it is decided, at most 10 s. */
ColoOwnership resolve(Host *host);

/* test-ownership-unknown.c */
void add_unknown_tests(void);
