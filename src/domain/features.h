/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hardware virtualization features as commands and between the hosts of a pair (design section 7).
 * The judgements are src/feature's; here they are asked for, sent and applied.
 */
#pragma once

#include "domain/actor.h"
#include "feature/report.h"

/* What this host can do, its CPU included. Any thread; asks libvirt, if it is there. */
ColoHostFeatures *colo_features_of_host(ColoHost *host);
