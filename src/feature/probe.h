/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this host can do: from module kvm_hvfeat when it is there, else from what Linux shows to
 * everybody (/proc/cpuinfo, /sys/module), no model-specific register being read. Any thread; takes
 * milliseconds at most.
 */
#pragma once

#include "feature/device.h"
#include "feature/report.h"

/*
 * @root: folder that stands for "/" ("" for this host's own). @host: the name to report. Never
 * fails: what cannot be found out is reported as unknown. The caller owns the result; its member
 * cpu is NULL.
 */
ColoHostFeatures *colo_feature_probe(const char *root, const ColoHvfeatOps *ops, const char *host);
