/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host behind a driver that is the test: what virtcolod knows of its domains, and what the
 * driver has it do. Also of fuzz-driver. */
#pragma once

#include "driver/driver.h"

#define DRIVER_UUID "c0100000-0000-4000-8000-0000000000f7"

typedef struct {
    const char *state, *role; /* of domain "ft"; NULL: nothing is known of it */
    gboolean any;             /* of whatever domain is asked about */
    gboolean auto_reprotect, autostart, hold_fails;
    char *command; /* that ran last, with its arguments */
    char *held;    /* for which call; NULL: nothing */
} DriverHost;

/* @host outlives the driver. */
ColoDriver *driver_host_new_driver(DriverHost *host);
void driver_host_clear(DriverHost *host);
