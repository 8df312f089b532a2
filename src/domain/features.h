/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hardware virtualization features as commands and between the hosts of a pair (design section 7).
 * The judgements are src/feature's; here they are asked for and sent. Any thread.
 */
#pragma once

#include "domain/manager-private.h"
#include "feature/negotiate.h"

/* What this host can do, its CPU included; asks libvirt, if it is there. */
ColoHostFeatures *colo_features_of_host(ColoHost *host);

/* The same of the peer of @pair, over the control channel. NULL with @error when it cannot be
 * reached, or says nonsense. */
ColoHostFeatures *colo_features_of_peer(ColoHost *host, const char *pair, GError **error);

/*
 * TRUE if the CPU of the guest @xml (live) is there on this host as well as on @other's. @copy:
 * this is the host of the copy; the guest's own host runs it already, and only a CPU that is passed
 * through is compared there too, so that neither has what the other lacks. FALSE with
 * COLO_ERROR_UNSUPPORTED, the host and libvirt's reason.
 */
gboolean colo_features_check_cpu(ColoHost *host, const char *xml, const ColoHostFeatures *other,
                                 gboolean copy, GError **error);

/* What colo-protect with @pair would be refused for by what is kept for @domain; g_free(). NULL:
 * the hosts agree, or the peer does not answer (then that is told elsewhere). */
char *colo_features_refusal(ColoManager *manager, const char *domain, const char *pair);

/* Results of colo-features and colo-pair-features (rpc/command-table.c names the members). */
JsonObject *colo_features_command(ColoHost *host);
JsonObject *colo_pair_features_command(ColoManager *manager, JsonObject *args, GError **error);
