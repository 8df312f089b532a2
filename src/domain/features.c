/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/features.h"

#include "domain/cpu-model.h"
#include "feature/probe.h"

#define CONN_TIMEOUT_MS 2000u

ColoHostFeatures *colo_features_of_host(ColoHost *host)
{
    ColoHostFeatures *report = colo_feature_probe(host->sysroot ? host->sysroot : "",
                                                  host->hvfeat ? host->hvfeat : &colo_hvfeat_kernel,
                                                  host->config->host_name);
    virConnectPtr conn = colo_virconn_get(host->virconn, CONN_TIMEOUT_MS, NULL);

    if (conn) {
        report->cpu = colo_cpu_model_of_host(conn);
        virConnectClose(conn);
    }
    return report;
}
