/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host without its daemons' threads: manager, store, arbiter "manual", pairs, libvirt's own test
 * driver (storage pool "default-pool" at /default-pool, kept in memory), and no comparator. Its
 * files are in a folder of the test, which main() makes and removes.
 */
#pragma once

#include "domain/commands.h"
#include "test-channel-common.h"

#define MIB (1024 * 1024)

extern char *folder;
void folder_create(void);
void folder_remove(void);
char *in_folder(const char *name);

typedef struct {
    ColoManager m;
    ColoConfig config;
    ColoPeerInfo self;
} Host;

void host_up(Host *h);
void host_down(Host *h);

/* The host's libvirtd is at @uri from now on. */
void host_libvirt(Host *h, const char *uri);
