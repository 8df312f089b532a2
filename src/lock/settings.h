/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qemu-colo.conf, which libvirt names to the plugin: lines KEY = "VALUE", and comments.
 *   chain      another lock manager that is asked too: "lockd", "sanlock"; by default none
 *   socket     virtcolod's
 *   state_dir  virtcolod's
 * A file that is not there leaves the defaults.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define COLO_LOCK_PATH_MAX 1024

typedef struct {
    char chain[64]; /* "": none */
    char socket[COLO_LOCK_PATH_MAX];
    char state_dir[COLO_LOCK_PATH_MAX];
} ColoLockSettings;

/* False with the reason in @error, which names the line. */
bool colo_lock_settings_read(const char *path, ColoLockSettings *settings, char *error,
                             size_t size);
