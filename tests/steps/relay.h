/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stands in for the comparators in the test of the QMP steps: one thread that carries bytes between
 * QEMU's ends. It compares nothing: what the primary sends leaves at once, what the secondary sends
 * is dropped. Of the checkpoint stream it counts the words VMSTATE_RECEIVED and VMSTATE_LOADED.
 */
#pragma once

#include <glib.h>

typedef struct Relay Relay;

typedef enum { RELAY_NET, RELAY_MIGRATION, RELAY_NBD } RelayKind;

Relay *relay_new(void);
void relay_free(Relay *relay);

/* Carries both ways between @a and @b, which it owns from now on; -1 for @b: drop what @a sends.
 * @kind migration: @b is the secondary's end, whose words are counted. */
void relay_pair(Relay *relay, RelayKind kind, int a, int b);

/* Closes all connections of @kind. */
void relay_close(Relay *relay, RelayKind kind);

unsigned relay_received(Relay *relay); /* checkpoints RECEIVED */
unsigned relay_loaded(Relay *relay);   /* checkpoints LOADED */
