/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The helper's figures of the domains (its "stats"), for all who ask at the same time: of each
 * domain one question is under way, whose answer they share. A helper that stands still holds the
 * two threads that ask it, and nobody else for longer than he wants to wait: he gets the last
 * figures then, with their age. Any thread.
 */
#pragma once

#include "util/json.h"

/* How long those wait who ask for many domains, or by whom many wait; and those who want to know
 * it of one. */
#define COLO_FIGURES_SHORT_MS 500u
#define COLO_FIGURES_LONG_MS 5000u

typedef struct ColoFigures ColoFigures;

/* Asks the helper; blocks. NULL with @error: COLO_ERROR_TIMEOUT says nothing about the domain,
 * anything else that it has no figures. */
typedef JsonObject *(*ColoFiguresAsk)(const char *uuid, void *opaque, GError **error);

ColoFigures *colo_figures_new(ColoFiguresAsk ask, void *opaque);
/* Waits for the questions under way. NULL is allowed. */
void colo_figures_free(ColoFigures *figures);

/* The figures of a domain, the caller's; NULL: it has none, or none have come yet. After @wait_ms
 * these are the last ones, with "age-ms". Once that has happened, nobody waits as short as
 * COLO_FIGURES_SHORT_MS before the helper has answered again. */
JsonObject *colo_figures_get(ColoFigures *figures, const char *uuid, unsigned wait_ms);
