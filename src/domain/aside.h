/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A question to libvirt or QEMU that may stay unanswered, asked aside: on a thread of its own, so
 * that an actor does not hang with a QEMU that does (libvirt has no limit for a monitor command).
 * One is under way at a time. The actor's thread.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct ColoAside ColoAside;

/* Blocks. On the thread aside; may outlive whoever asked. */
typedef gboolean (*ColoAsideAsk)(virDomainPtr dom);

/* TRUE with *@answer: it came within @wait_ms. FALSE: not yet; *@aside keeps it, and until it has
 * come nothing else is asked. An answer that came late is not used: it is asked anew. *@aside is
 * NULL at first. @dom: a reference is kept. */
gboolean colo_aside_ask(ColoAside **aside, virDomainPtr dom, ColoAsideAsk ask, unsigned wait_ms,
                        gboolean *answer);
/* For what is asked again and again, without waiting: TRUE with *@answer when the one asked before
 * has come; asks when nothing is under way. */
gboolean colo_aside_poll(ColoAside **aside, virDomainPtr dom, ColoAsideAsk ask, gboolean *answer);
/* Nobody wants it any more. */
void colo_aside_drop(ColoAside **aside);
